r"""Estimators that evaluate f inside the simplex instead of at a corner.

:func:`gumbel_softmax` differentiates f at the relaxed sample S (Paulus et al., Eq. 4); :func:`foust`
at a point between a Boolean sample and the centre, drawn so that its mean telescopes to the difference of two
costs. Both need an f that means something there.
"""

from __future__ import annotations

from typing import Any

from rbst._array import Array, namespace, row_max
from rbst._checks import (
    check_array,
    check_gradient,
    check_logits,
    check_pull_back,
    check_rng,
    check_simplex,
    check_tau,
)
from rbst.categorical import _softmax, softmax_vjp
from rbst.gumbel import _sample_gumbels


def sample_gumbel_softmax(logits: Array, *, tau: float, rng: Any) -> Array:
    r"""Gumbel-Softmax (Concrete) samples, :math:`S = \mathrm{softmax}_\tau(\theta + G)`.

    :math:`\theta` is ``logits``, shape ``(..., n)``; returns S of the same shape and dtype, inside the
    simplex. As ``tau`` falls to 0, S tends to a one-hot sample. Maddison et al. (2017), Jang et al.
    (2017).

    Examples
    --------
    >>> import numpy as np
    >>> sample_gumbel_softmax(np.zeros(3), tau=0.5, rng=np.random.default_rng(1)).round(4)
    array([0.0761, 0.9209, 0.003 ])
    """
    logits, tau = check_logits(logits), check_tau(tau)
    # Below the maximum a shift of all logits has already cancelled, so it cannot cost a digit.
    return _softmax(_sample_gumbels(logits - row_max(logits), check_rng(rng, logits)), tau)


def gumbel_softmax(logits: Array, S: Array, df_dS: Array, *, tau: float) -> Array:
    r"""GS: the reparameterization gradient of the relaxed problem (Eq. 4).

    .. math:: \frac1\tau J(S)^\top \frac{\partial f(S)}{\partial S}, \qquad J(q) = \mathrm{diag}(q) - q q^\top

    where ``logits``, ``S`` (from :func:`sample_gumbel_softmax` at the same ``tau``) and the gradient
    ``df_dS`` of f *at S* have shape ``(..., n)``.

    Unbiased for :math:`\mathbb E[f(S)]`, hence biased for :math:`\mathbb E[f(D)]`. Returns the shape and
    dtype of ``logits``. Paulus et al. (2021), Eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> S = np.array([0.2, 0.3, 0.5])
    >>> gumbel_softmax(np.zeros(3), S, np.array([1.0, 2.0, 4.0]), tau=0.5)
    array([-0.72, -0.48,  1.2 ])
    """
    logits, tau = check_logits(logits), check_tau(tau)
    S, df_dS = check_simplex(S, logits), check_gradient(df_dS, logits)
    return softmax_vjp(S, df_dS) / tau


def contract(D: Array, u: Array) -> Array:
    r"""The point of FouST between a Boolean sample and the centre, :math:`u D + (1 - u) (\frac12, \frac12)`.

    ``D`` has shape ``(..., 2)``, ``u`` in [0, 1] shape ``(...)``, one for each variable.

    Examples
    --------
    >>> import numpy as np
    >>> contract(np.array([[0.0, 1.0]]), np.array([0.5]))
    array([[0.25, 0.75]])
    """
    u = check_array("u", u, D)[..., None]
    return u * D + (1 - u) / 2


def sample_contraction(D: Array, rng: Any) -> Array:
    """The contracted point of each Boolean variable with its own u ~ U(0, 1), see :func:`contract`."""
    _check_boolean(D)
    u = check_rng(rng, D).random(size=D.shape[:-1], dtype=namespace(D).dtype(D.dtype))
    return contract(D, u)


def foust(logits: Array, D: Array, df_dD: Array, *, importance_weights: bool = True) -> Array:
    r"""FouST for Boolean variables (n = 2): f differentiated at a contracted point.

    .. math::

        \frac12 (1 - \pi_k) (g_1 - g_2) \, (1, -1), \qquad
        g = \frac{\partial f}{\partial D} \text{ at } u D + (1 - u) (\tfrac12, \tfrac12), \quad D = e_k, \; u \sim U(0, 1)

    where :math:`\pi` are the probabilities of ``logits``, shape ``(..., 2)``, D is the one-hot ``D`` and
    :math:`g` is ``df_dD``, taken at the point of ``sample_contraction``, not at D.

    For one variable it is exactly unbiased: with x = 1 or -1 for the two outcomes and :math:`\tilde f(x)`
    the cost at :math:`((1 + x)/2, (1 - x)/2)`, :math:`\int_0^1 \tilde f'(u x) \, du` telescopes, so that
    :math:`\frac{d}{dp} \mathbb E f = \mathbb E[\tilde f'(u x) / p(x)]`. With several variables all are
    contracted at once, which is biased. ``importance_weights=False`` puts 2 instead of
    :math:`1 / p(x)`, which bounds the weights: usually a lower variance, and a bias even for one variable unless
    its odds are even, or f in the middle is the mean of both ends.

    Reconstructed from this identity, not from the authors' text: Pervez, Cohen and Gavves, "Low bias low
    variance gradient estimates for Boolean stochastic networks", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> logits, D = np.log([0.73, 0.27]), np.array([1.0, 0.0])
    >>> foust(logits, D, np.array([2.0, -1.0]))
    array([ 0.405, -0.405])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    _check_boolean(logits)
    pi = _softmax(logits)
    xp = namespace(logits, df_dD)
    if importance_weights:
        slope = (pi * (1 - D)).sum(axis=-1) * (df_dD[..., 0] - df_dD[..., 1]) / 2
    else:
        slope = pi.prod(axis=-1) * (df_dD[..., 0] - df_dD[..., 1])
    return xp.stack([slope, -slope], axis=-1)


def _check_boolean(array: Array) -> None:
    if array.shape[-1] != 2:
        raise ValueError(
            f"foust is for Boolean variables of shape (..., 2), got (..., {array.shape[-1]}); "
            "for more categories use gr or zgr"
        )
