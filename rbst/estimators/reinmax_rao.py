r"""ReinMax with a Rao-Blackwellized relaxation, and with one as a control variate.

ReinMax (:func:`rbst.reinmax`) takes the Jacobian of the softmax halfway between :math:`\pi` and the sample,

.. math:: 2 J\left( \frac{\pi + D}{2} \right) g - \frac12 J(\pi) g, \qquad J(q) = \mathrm{diag}(q) - q q^\top .

The midpoint is a softmax, of the logits :math:`\theta_D = \log((\pi + D) / 2)`, and a softmax can be relaxed:
:func:`reinmax_rao` replaces the first Jacobian by Gumbel-Rao at :math:`\theta_D`, :func:`reinmax_cv` keeps it and
adds the difference of two relaxations. ReinMax itself is a function of D alone. Nothing that is drawn *given D*
can lower its variance, so what these two change, they change through their means.

Wang and Bui, "Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables", 2026
(arXiv 2603.08257). Contract: ``(logits, D, df_dD)`` of one shape ``(..., n)`` in, the same shape out.
"""

from __future__ import annotations

from typing import Any

from rbst._array import Array, is_array, namespace
from rbst._checks import (
    check_num_samples,
    check_number,
    check_pull_back,
    check_rng,
    check_tau,
    check_untraced,
)
from rbst.categorical import _log_softmax, _softmax, draw_exponentials, softmax_vjp
from rbst.estimators.gumbel_rao import exact_gumbel_rao, gumbel_rao
from rbst.estimators.zero_temperature import reinmax
from rbst.gumbel import conditional_gumbels


def halfway_logits(logits: Array, D: Array) -> Array:
    r"""Logits :math:`\theta_D = \log((\pi + D) / 2)` of the point halfway between :math:`\pi` and the sample.

    ``logits`` and ``D`` have shape ``(..., n)``. Computed from :math:`\log \pi`, so that a category too rare for
    :math:`\pi` to represent keeps its logit.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(halfway_logits(np.log([0.2, 0.3, 0.5]), np.array([0.0, 0.0, 1.0])))
    array([0.1 , 0.15, 0.75])
    """
    xp = namespace(logits)
    log_pi = _log_softmax(logits)
    return xp.where(D == 1, xp.log1p(xp.exp(log_pi)), log_pi) - xp.log(xp.asarray(2, logits.dtype))


def reinmax_rao(
    logits: Array,
    D: Array,
    df_dD: Array,
    *,
    tau: float,
    num_samples: int | None = None,
    rng: Any = None,
    exponentials: Array | None = None,
) -> Array:
    r"""ReinMax-Rao by K samples: Gumbel-Rao at the halfway point.

    .. math:: 2 \, \frac1K \sum_k \frac1\tau J(S^k) g - \frac12 J(\pi) g, \qquad S^k = \mathrm{softmax}_\tau(\theta_D + G^k),
              \quad \theta_D = \log \frac{\pi + D}2

    with :math:`G^k` drawn given that D wins at the logits :math:`\theta_D`, where

    - :math:`\theta` is ``logits``, D is ``D``, :math:`g` is ``df_dD``, all of shape ``(..., n)``;
    - :math:`\tau` is ``tau`` and K is ``num_samples``; the noise comes from ``rng`` or is given as ``exponentials``,
      as in :func:`rbst.gumbel_rao`.

    Biased, for linear f too: as :math:`\tau \to 0` the first term tends to twice :func:`rbst.zgr` at
    :math:`\theta_D`. Returns an array of the shape and dtype of ``logits``. Wang and Bui (2026), ReinMax-Rao.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> rng = np.random.default_rng(0)
    >>> reinmax_rao(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5, num_samples=10**5, rng=rng).round(2)
    array([-0.24, -0.25,  0.49])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    noise = {"num_samples": num_samples, "rng": rng, "exponentials": exponentials}
    midpoint = gumbel_rao(halfway_logits(logits, D), D, df_dD, tau=tau, **noise)
    return 2 * midpoint - softmax_vjp(_softmax(logits), df_dD) / 2


def exact_reinmax_rao(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float = 1e-6
) -> Array:
    r"""ReinMax-Rao without Monte Carlo, the limit of :func:`reinmax_rao` for many samples.

    .. math:: 2 \, \mathbb E\left[ \tfrac1\tau J(S) \mid D \right] g - \frac12 J(\pi) g, \qquad S = \mathrm{softmax}_\tau(\theta_D + G)

    The arguments are those of :func:`reinmax_rao`; ``rtol`` is that of :func:`rbst.exact_gumbel_rao`, for the first term.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> exact_reinmax_rao(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5).round(4)
    array([-0.2436, -0.2454,  0.489 ])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    midpoint = exact_gumbel_rao(halfway_logits(logits, D), D, df_dD, tau=tau, rtol=rtol)
    return 2 * midpoint - softmax_vjp(_softmax(logits), df_dD) / 2


def reinmax_cv(
    logits: Array,
    D: Array,
    df_dD: Array,
    *,
    tau: float = 1.0,
    weight: float = 0.5,
    num_samples: int = 100,
    rng: Any = None,
    exponentials: Array | None = None,
) -> Array:
    r"""ReinMax-CV as its authors' code computes it: ReinMax plus the mean of one relaxation minus a draw of another.

    .. math:: \text{ReinMax} + \eta \left( \frac1K \sum_k \frac1\tau J(S^k) g - \frac1\tau J(S) g \right), \qquad
              S = \mathrm{softmax}_\tau(\theta_D + G)

    where :math:`S^k` are those of :func:`reinmax_rao`, G is the noise that *drew* D, at the logits :math:`\theta`, and
    :math:`\eta` is ``weight``, K ``num_samples``; the other arguments are those of :func:`reinmax_rao`, the first of
    the ``exponentials``, if they are given, being the noise that drew D.

    The two relaxations stand at the same logits :math:`\theta_D`, but G is drawn given that D wins at
    :math:`\theta` and not at :math:`\theta_D`: their means given D differ. So the difference is not a control
    variate. It moves the mean of ReinMax, and, given D, it only adds variance. The authors' code divides by
    :math:`\tau` outside the softmax only, which is the same at the temperature of 1 that it was written for.

    Returns an array of the shape and dtype of ``logits``. Wang and Bui (2026), ReinMax-CV.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> reinmax_cv(np.log([0.2, 0.3, 0.5]), D, g, rng=np.random.default_rng(0)).round(2)
    array([-0.4 , -0.38,  0.78])
    """
    check_untraced(logits, D, df_dD, exponentials)
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    tau, theta_D = check_tau(tau), halfway_logits(logits, D)
    weight = weight if is_array(weight) else check_number("weight", weight)
    xp = namespace(logits)
    if exponentials is None:
        size = (1 + check_num_samples(num_samples), *logits.shape)
        exponentials = draw_exponentials(xp.broadcast_to(logits, size), check_rng(rng, logits))
    theta = _log_softmax(logits)  # a shift of the logits cancels here, where it costs no digit
    x = conditional_gumbels(theta, D, exponentials[:1])[0]  # theta + G given D
    possible = xp.where(xp.isfinite(theta), theta, 0)
    S = _softmax(x + (theta_D - possible), tau)  # theta_D + G; an impossible category stays at -inf
    single = softmax_vjp(S, df_dD) / tau
    many = gumbel_rao(theta_D, D, df_dD, tau=tau, exponentials=exponentials[1:])
    return reinmax(logits, D, df_dD) + weight * (many - single)
