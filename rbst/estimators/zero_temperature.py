r"""Estimators without a relaxation: the limit of Gumbel-Rao at zero temperature, and ReinMax.

As the temperature falls, the conditional mean of ST-GS (:func:`rbst.exact_gumbel_rao`) tends to an
estimator in closed form, :func:`zgr`: the trapezoidal rule for the rise of f along each edge of the
simplex, exact for quadratic f. :func:`reinmax` was derived as a second-order rule and is the same
estimator at temperature one; docs/derivation.md, (11.3) and (11.4). Contract: ``(logits, D, df_dD)`` of one
shape ``(..., n)`` in, the same shape out. Both are functions of D alone and draw nothing.
"""

from __future__ import annotations

from rbst._array import Array, row_dot, row_sum
from rbst._checks import check_pull_back, check_tau
from rbst.categorical import _softmax


def zgr(logits: Array, D: Array, df_dD: Array) -> Array:
    r"""ZGR: Gumbel-Rao in the limit of zero temperature.

    .. math:: \lim_{\tau \to 0} \mathbb E\left[ \frac1\tau J(S)^\top g \,\middle|\, D \right]
              = \frac12 \left[ \pi \odot (g - g_k \mathbf 1) + (g_k - \pi^\top g) D \right], \qquad D_k = 1

    where :math:`\theta` is ``logits``, :math:`\pi = \mathrm{softmax}(\theta)`, D is the one-hot ``D`` and :math:`g =
    \partial f(D) / \partial D` is ``df_dD``, all of shape ``(..., n)``.

    Unbiased for an f that is quadratic in each of any number of independent variables, biased in general.
    Returns an array of the shape and dtype of ``logits``.
    Shekhovtsov, "Cold analysis of Rao-Blackwellized straight-through Gumbel-Softmax gradient estimator",
    ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> zgr(np.log([0.2, 0.3, 0.5]), D, g)
    array([-0.3, -0.3,  0.6])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    pull = _softmax(logits) * (df_dD - row_sum(df_dD * D))  # pi * (g - g_k)
    return (pull - D * row_sum(pull)) / 2


def reinmax(logits: Array, D: Array, df_dD: Array, *, tau: float = 1.0) -> Array:
    r"""ReinMax: straight-through with second-order accuracy.

    .. math:: 2 J\left( \frac{\pi_\tau + D}{2} \right) g - \frac12 J(\pi) g, \qquad J(q) = \mathrm{diag}(q) - q q^\top

    where :math:`\pi_\tau = \mathrm{softmax}(\theta / \tau)`, :math:`\theta` is ``logits``, D is ``D``, :math:`g` is ``df_dD``,
    all of shape ``(..., n)``, and ``tau`` is the temperature of the first term alone. At ``tau = 1`` this is
    :func:`zgr` for each sample. Returns an array of the shape and dtype of ``logits``.

    Liu, Dong, Liu, Yu and Gao, "Bridging discrete and backpropagation: straight-through and beyond",
    NeurIPS 2023; docs/derivation.md, (11.8), shows that at ``tau = 1`` it is :func:`zgr`.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> reinmax(np.log([0.2, 0.3, 0.5]), D, g)
    array([-0.3, -0.3,  0.6])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    pi, halfway = _softmax(logits), (_softmax(logits, check_tau(tau)) + D) / 2
    d = df_dD - row_dot(pi, df_dD)  # what g has in common is gone, so each product needs one mean
    return 2 * halfway * (d - row_dot(halfway, d)) - pi * (d - row_dot(pi, d)) / 2
