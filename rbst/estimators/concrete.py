r"""The law of a relaxed sample: its density, a divergence, and how it moves with the temperature.

A Gumbel-Softmax sample :math:`S = \mathrm{softmax}_\tau(\theta + G)` has a density on the simplex, the Concrete
distribution. At low temperatures S reaches 0 and 1 in floating point and its density is lost; its logarithm :math:`Y
= \log S` keeps both, so every function here takes Y. A model that relaxes *all of* its objective needs these (Maddison et
al., 2017); one that only estimates the gradient of a discrete objective needs none of them. Contract: logits and Y of shape
``(..., n)``; -inf marks an impossible category in both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rbst._array import Array, getval, namespace, row_max, row_sum
from rbst._checks import (
    check_gradient,
    check_log_sample,
    check_logits,
    check_num_samples,
    check_simplex,
    check_tau,
)
from rbst.categorical import _log_softmax, softmax_vjp
from rbst.gumbel import sample_gumbels


def sample_log_concrete(logits: Array, *, tau: float, rng: Any) -> Array:
    r"""Logarithms of Gumbel-Softmax samples, :math:`Y = \log \mathrm{softmax}_\tau(\theta + G)`.

    :math:`\theta` is ``logits``, shape ``(..., n)``, :math:`\tau` is ``tau``; returns the same shape and dtype. The sample is
    ``exp(Y)``; what underflows there is still a number here.

    Examples
    --------
    >>> import numpy as np
    >>> sample_log_concrete(np.zeros(3), tau=0.005, rng=np.random.default_rng(1)).round(1)
    array([-249.3,    0. , -571.6])
    """
    logits, tau = check_logits(logits), check_tau(tau)
    return _log_softmax(sample_gumbels(logits - row_max(logits), rng) / tau)


def log_concrete_density(logits: Array, Y: Array, *, tau: float) -> Array:
    r"""Log-density of :math:`Y = \log S` for a Gumbel-Softmax sample S.

    .. math:: \log (n - 1)! + (n - 1) \log \tau + \sum_k (\theta_k - \tau y_k) - n \log \sum_k e^{\theta_k - \tau y_k}

    where :math:`\theta` is ``logits``, shape ``(..., n)``, :math:`y` is ``Y`` of the same shape, whose exponentials sum to
    one, and :math:`\tau` is ``tau``; n counts the possible categories. This is the density of S times :math:`\prod_k S_k`,
    a density with respect to :math:`dy_1 \dots dy_{n-1} / S_n`, which is the same whichever category is left out.
    Differences of it, as in a divergence, need no more. Returns shape ``(...)``.

    Maddison, Mnih and Teh (2017), appendix C.2 (ExpConcrete); Jang, Gu and Poole (2017), appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.log([0.5, 0.5])
    >>> float(log_concrete_density(np.zeros(2), Y, tau=1.0).round(4))  # S is uniform: 1 times 1/2 times 1/2
    -1.3863
    """
    logits, tau = check_logits(logits), check_tau(tau)
    Y = check_log_sample(Y, logits)
    xp = namespace(logits, Y)
    possible = logits > -math.inf
    n = row_sum(possible.astype(logits.dtype))[..., 0]
    theta = logits - row_max(logits)
    # Categories without probability have no coordinate: theta - tau y is taken as -inf, and counts as 0 in the sum.
    z = xp.where(possible, theta, 0) - tau * xp.where(possible, Y, 0)
    largest = xp.where(possible, z, -math.inf).max(axis=-1)
    weights = xp.where(possible, xp.exp(xp.minimum(z - largest[..., None], 0)), 0)
    log_sum = largest + xp.log(weights.sum(axis=-1))
    log_factorial = _log_factorial(n - 1)
    return (
        log_factorial
        + (n - 1) * math.log(tau)
        + xp.where(possible, z, 0).sum(axis=-1)
        - n * log_sum
    )


def _log_factorial(m: Array) -> Array:
    """Logarithm of m! for an array of whole numbers."""
    xp = namespace(m)
    table = [0.0]
    for k in range(1, (int(m.max()) if m.size else 0) + 1):
        table.append(table[-1] + math.log(k))
    return xp.asarray(table, dtype=m.dtype)[m.astype(int)]


def concrete_density(logits: Array, S: Array, *, tau: float) -> Array:
    r"""Log-density of a Gumbel-Softmax sample S on the simplex (the Concrete distribution).

    .. math:: \log (n - 1)! + (n - 1) \log \tau + \sum_k (\theta_k - (\tau + 1) \log S_k) - n \log \sum_k e^{\theta_k} S_k^{-\tau}

    with respect to Lebesgue measure of the first n - 1 entries. The arguments are those of :func:`log_concrete_density`, with ``S``
    instead of its logarithm. An entry of 0, to which S underflows at low temperatures, has no density and is refused, unless
    its category is impossible: use that function there. Maddison, Mnih and Teh (2017), Eq. 10.

    Examples
    --------
    >>> import numpy as np
    >>> float(concrete_density(np.zeros(2), np.array([0.3, 0.7]), tau=1.0).round(12))  # uniform on the segment
    0.0
    """
    logits = check_logits(logits)
    S = check_simplex(S, logits)
    xp = namespace(logits, S)
    with np.errstate(divide="ignore"):
        Y = xp.log(S)
    possible = logits > -math.inf
    return log_concrete_density(logits, Y, tau=tau) - xp.where(possible, Y, 0).sum(axis=-1)


def categorical_kl(logits: Array, prior_logits: Array) -> Array:
    r"""Divergence of two categorical variables in closed form, :math:`\sum_k \pi_k (\log \pi_k - \log \rho_k)`.

    ``logits`` of :math:`\pi` and ``prior_logits`` of :math:`\rho` have shape ``(..., n)``; returns ``(...)``, in nats. What an
    objective on *discrete* codes contains, whatever estimates its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> float(categorical_kl(np.log([0.2, 0.8]), np.zeros(2)).round(4))
    0.1927
    """
    logits = check_logits(logits)
    log_pi, log_rho = _log_softmax(logits), _log_softmax(_check_prior(prior_logits, logits))
    xp = namespace(log_pi, log_rho)
    possible = getval(log_pi) > -math.inf  # 0 log 0 = 0, whatever the prior
    difference = xp.where(possible, log_pi, 0) - xp.where(possible, log_rho, 0)
    # A probability that has underflowed to 0 is none where the prior has none: the divergence is infinite there.
    infinite = getval(difference) == math.inf
    return xp.sum(
        xp.where(infinite, math.inf, xp.exp(log_pi) * xp.where(infinite, 0, difference)), axis=-1
    )


def _check_prior(prior_logits: Array, logits: Array) -> Array:
    """Logits of the categories of ``logits``, for each variable or for all of them."""
    prior_logits = check_logits(prior_logits, "prior_logits")
    if prior_logits.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"prior_logits must have the categories of logits, {logits.shape[-1]}, got {prior_logits.shape[-1]}; "
            "give the prior of a variable its own n logits"
        )
    return prior_logits


def concrete_kl(
    logits: Array,
    prior_logits: Array,
    *,
    tau: float,
    prior_tau: float,
    num_samples: int,
    rng: Any,
) -> tuple[Array, Array]:
    r"""Divergence of two Concrete distributions by sampling, and its standard error.

    .. math:: \mathbb E_q[\log q(Y) - \log p(Y)], \qquad Y \sim q

    with q of ``logits``, shape ``(..., n)``, and ``tau``, p of ``prior_logits``, which broadcast to it, and ``prior_tau``;
    both have the same impossible categories, since the divergence is infinite otherwise. It has no closed form in general,
    and it is not the categorical one: with one temperature for both it does not depend on it, and so does not tend to the
    categorical one as they fall together. Returns two arrays of shape ``(...)``; the standard error is NaN for
    ``num_samples = 1``.
    """
    logits = check_logits(logits)
    prior, size = (
        _check_prior(prior_logits, logits),
        (check_num_samples(num_samples), *logits.shape),
    )
    wide = prior.ndim > logits.ndim
    ends = zip(prior.shape[::-1], logits.shape[::-1], strict=False)
    if wide or any(k not in (1, m) for k, m in ends):
        raise ValueError(
            f"prior_logits must broadcast to the shape of logits, {logits.shape}, got {prior.shape}; give "
            "the prior of a variable its own n logits"
        )
    # A sum: autograd's broadcast_to adds no axes.
    many, prior = (x + namespace(logits).zeros(size, dtype=logits.dtype) for x in (logits, prior))
    if bool(((getval(prior) == -math.inf) != (getval(many) == -math.inf)).any()):
        raise ValueError(
            "prior_logits must be -inf where logits are and nowhere else, got a category that only one of the two "
            "allows; the divergence of such laws is infinite"
        )
    Y = sample_log_concrete(many, tau=tau, rng=rng)
    ratio = log_concrete_density(many, Y, tau=tau) - log_concrete_density(prior, Y, tau=prior_tau)
    if num_samples == 1:
        return ratio[0], namespace(ratio).full_like(ratio[0], math.nan)
    return ratio.mean(axis=0), ratio.std(axis=0, ddof=1) / math.sqrt(num_samples)


def temperature_gradient(Y: Array, df_dS: Array, *, tau: float) -> Array:
    r"""Gradient of :math:`f(S)` with respect to the temperature, with the noise held.

    .. math:: \frac{\partial f(S)}{\partial \tau} = -\frac1\tau \, Y^\top J(S) \frac{\partial f(S)}{\partial S}, \qquad S = e^Y,
              \quad J(q) = \mathrm{diag}(q) - q q^\top

    where ``Y`` is from :func:`sample_log_concrete` at ``tau`` and ``df_dS`` is the gradient of f at S, both of shape ``(..., n)``;
    returns shape ``(...)``. It is the derivative of the *relaxed* objective :math:`\mathbb E f(S)`; with f's gradient taken
    at the corner D it is that of the surrogate of ST-GS. The discrete objective :math:`\mathbb E f(D)` does not
    depend on the temperature: a temperature that is learned by this is not learned for it.

    Examples
    --------
    >>> import numpy as np
    >>> float(temperature_gradient(np.log([0.2, 0.8]), np.array([1.0, 0.0]), tau=0.5).round(4))
    0.4436
    """
    Y, tau = check_logits(Y, "Y"), check_tau(tau)
    df_dS, xp = check_gradient(df_dS, Y, "df_dS"), namespace(Y)
    pull = softmax_vjp(xp.exp(Y), df_dS)
    return -(xp.where(-math.inf < Y, Y, 0) * pull).sum(axis=-1) / tau
