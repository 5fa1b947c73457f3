r"""The linear estimator of least variance for a given weight on the bias (MVE).

Every straight-through estimator that is a function of D alone is a table of n matrices :math:`S_k`: given
:math:`D_k = 1` it answers :math:`S_k^\top g`. Among the tables that are unbiased for linear f, MVE minimises the
variance (for g of independent entries) plus :math:`\lambda` times a squared bias for quadratic f.
:math:`\lambda = 0` is straight-through; as :math:`\lambda` grows the estimator becomes unbiased for quadratic f, and for
two categories it becomes :func:`rbst.zgr`.
"""

from __future__ import annotations

from rbst._array import Array, getval, namespace, row_argmax, row_max, row_sum
from rbst._checks import check_number, check_pull_back
from rbst.categorical import _one_hot, _softmax


def minimum_variance(
    logits: Array, D: Array, df_dD: Array, *, regularization: float = 1.0
) -> Array:
    r"""MVE: the estimate :math:`S_k^\top g` of least variance, for a weight on the bias.

    The rows :math:`S_{k, i}` of :math:`S_k`, with :math:`D_k = 1`, are

    .. math:: S_{k, i} = \frac{(1 + \lambda \pi_i) v_i - \lambda \pi_i v_k + \lambda [i = k] J_k}{1 + \lambda (\pi_i + \pi_k)},
              \qquad J = \mathrm{diag}(\pi) - \pi \pi^\top,

    where the multipliers :math:`v`, ``(n, n)``, solve :math:`A v = B` with

    .. math::

        A_{ij} &= - \frac{\lambda \pi_i \pi_j}{1 + \lambda (\pi_i + \pi_j)} \quad (i \ne j), \qquad
        B_i = \frac{1 + \lambda \pi_i}{1 + 2 \lambda \pi_i} J_i, \\
        A_{ii} &= (1 + \lambda \pi_i) \sum_j \frac{\pi_j}{1 + \lambda (\pi_i + \pi_j)} - \frac{\lambda \pi_i^2}{1 + 2 \lambda \pi_i},

    and :math:`\pi` are the probabilities of ``logits``, D is ``D``, :math:`g` is ``df_dD``, all of shape ``(..., n)``,
    and :math:`\lambda \ge 0` is ``regularization``. A solve of n equations for each variable: meant for a few dozen
    categories.

    Unbiased for linear f. Returns an array of the shape and dtype of ``logits``. Hooper and Shekhovtsov, "Generalized and
    optimal straight-through estimators", AISTATS 2026.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> minimum_variance(np.log([0.2, 0.3, 0.5]), D, g).round(5)
    array([-0.3396 , -0.26368,  0.60328])
    >>> minimum_variance(np.log([0.2, 0.3, 0.5]), D, g, regularization=0.0)  # straight-through
    array([-0.36, -0.24,  0.6 ])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    xp, pi = namespace(logits), _softmax(logits)
    # Beyond it there would be infinities; the limit is reached long before.
    most = float(xp.finfo(logits.dtype).max) / 16
    regularization = min(check_number("regularization", regularization, at_least=0), most)
    eye = xp.eye(logits.shape[-1], dtype=logits.dtype)
    others = row_sum(pi[..., None, :] * (1 - eye))  # 1 - pi without cancellation, (..., n, 1)
    J = pi[..., None] * (eye * others - (1 - eye) * pi[..., None, :])
    scale = 1 + regularization * (pi[..., None] + pi[..., None, :])
    own = regularization * pi
    off = (1 - eye) * regularization * pi[..., None] * pi[..., None, :] / scale
    sums = (pi[..., None, :] / scale).sum(axis=-1)
    # The rows of A add up to these, so that nothing is subtracted on its diagonal; those of J add up to 0.
    A = eye * (sums + off.sum(axis=-1))[..., None] - off
    B = ((1 + own) / (1 + 2 * own))[..., None] * J
    # As lambda grows the sums fall to 0: that of all equations, scaled, takes the place of the likeliest one.
    total = (J / (2 + 4 * own)[..., None]).sum(axis=-2)
    likeliest = _one_hot(row_argmax(getval(pi)), pi.shape[-1], pi.dtype)[..., None]
    A = (1 - likeliest) * A + likeliest * (sums / row_max(sums))[..., None, :]
    B = (1 - likeliest) * B + likeliest * (total / row_max(sums))[..., None, :]
    v = xp.linalg.solve(A, B)
    selected = D[..., None]  # rows i; of v and J the row k
    v_k, J_k = ((selected * rows).sum(axis=-2, keepdims=True) for rows in (v, J))
    scale_k = (D[..., None, :] * scale).sum(axis=-1)
    S = v + regularization * (selected * J_k + pi[..., None] * (v - v_k))
    d = df_dD - (df_dD * D).sum(axis=-1, keepdims=True)
    return ((d / scale_k)[..., None] * S).sum(axis=-2)
