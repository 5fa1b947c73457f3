"""What the tests of the estimators share: problems, exact answers, and statistics in standard errors.

The oracles use nothing of what they judge: Gumbel-Softmax samples are drawn as they are defined, by an
argmax; their moments for two categories are integrals over one logistic variable. Each statistical
assertion rejects a correct implementation with probability ``ALARM`` at most (a normal approximation
with Bonferroni's correction over the entries), and all seeds are fixed.
"""

import os

import autograd.numpy as anp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rbst import estimate_gradient, softmax
from rbst.categorical import softmax_vjp
from rbst.enumeration import enumerate_outcomes
from rbst.estimators import ESTIMATORS
from rbst.estimators.registry import parameters

ALARM = 1e-6
THOROUGH = int(os.environ.get("RBST_THOROUGH", "1"))
"""How many times as many seeds or draws slow tests take: 1 by default, 25 at night."""


def at_night(thorough, *, otherwise):
    """The first where there are hours for the slow tests, the second where there are minutes."""
    return thorough if THOROUGH > 1 else otherwise


def slow(*values):
    """Values of a parameter with which a test is left to ``pytest -m slow``."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


THETA = np.array([0.3, -0.7, 1.1])
G = np.array([1.0, 2.0, 4.0])

# Names of the registry, with a number wherever a name leaves one open.
NAMES = [entry.with_samples(10) for entry in ESTIMATORS] + ["gr-mc1"]
BOOLEAN = {entry.with_samples(10) for entry in ESTIMATORS if entry.categories == 2}
QUADRATURE = {e.with_samples(10) for e in ESTIMATORS if "rtol" in parameters(e.function)}
ANY_ARITY = [name for name in NAMES if name not in BOOLEAN]
UNBIASED = [entry.with_samples(10) for entry in ESTIMATORS if entry.bias == "none"]


def linear(D):
    """A linear cost of variables ``(..., L, n)`` with n <= 5; every variable has slopes of its own."""
    L, n = D.shape[-2:]
    slopes = np.outer(np.arange(1, L + 1), np.array([1.0, 2.0, 4.0, -1.0, 0.5])[:n])
    return anp.sum(D * slopes, axis=(-2, -1))


def quadratic(D):
    """A quadratic cost, with an interaction between the variables."""
    return 0.1 * (linear(D) - 2.5) ** 2 + 0.7 * anp.prod(D[..., 0] - 0.217, axis=-1)


def quartic(D):
    """A quartic cost."""
    return 0.05 * (linear(D) - 1.3) ** 4


def affordable(name, draws):
    """This many draws, or fewer where each costs an integral: the same check with a larger error."""
    return min(draws, 5000) if name in QUADRATURE else draws


def estimates(estimator, f, logits, draws, seed=0):
    """Independent estimates of the gradient, in one call: ``(draws, L, n)``."""
    copies = np.broadcast_to(logits, (draws, *logits.shape))
    return estimate_gradient(estimator, f, copies, np.random.default_rng(seed))


def exact_mean(estimator, f, df_dD, logits):
    """Mean of an estimator that draws nothing once D is given, by summing over D."""
    mean = np.zeros(logits.shape)
    for D, probability in enumerate_outcomes(logits):
        possible = ~((D == 1) & (logits == -np.inf)).any(axis=(-2, -1))
        D, probability = D[possible], probability[possible]
        signal = f(D)[..., None] if estimator.evaluates == "cost-only" else df_dD(D)
        copies = np.broadcast_to(logits, D.shape)
        gradients = estimator.pull_back(copies, D, signal.astype(logits.dtype), None)
        mean += (probability[:, None, None] * gradients).sum(axis=0)
    return mean


def coupled_st_gs(g, logits, tau, draws, rng):
    """ST-GS as it is defined: D and S from the same Gumbels, J(S)'g(D) / tau. Shape ``(draws, n)``."""
    x = logits + rng.gumbel(size=(draws, logits.shape[-1]))
    D = (x == x.max(axis=-1, keepdims=True)).astype(float)
    return softmax_vjp(softmax(x, tau), g(D)) / tau


def logistic_moment(power, delta, tau, lower=-np.inf, upper=np.inf):
    r"""For n = 2, :math:`\int (s(1-s)/\tau)^{power} p(y) dy`, s = sigmoid(y / tau), y = delta + a logistic."""

    def sigmoid(y):
        return 0.5 * (1 + np.tanh(y / 2))

    def integrand(y):
        s, q = sigmoid(y / tau), sigmoid(y - delta)
        return (s * (1 - s) / tau) ** power * q * (1 - q)

    # Beyond the cut the integrand is below 1e-17; breaks where the factors change.
    lower, upper = max(lower, -40.0), min(upper, 40.0)
    breaks = [y for y in (-3 * tau, 0.0, 3 * tau, delta) if lower < y < upper]
    return quad(integrand, lower, upper, points=breaks, epsabs=1e-12, limit=400)[0]


def boolean_moment(power, delta, tau):
    r"""E[(S_1 S_2 / tau)^power | D = e_1] for logits (delta, 0), in digits of any delta and tau.

    (11.7), :math:`\tau^{1-power} \int_0^\infty \sigma'(\zeta)^{power} \sigma'(\tau \zeta - \delta) d\zeta / \sigma(\delta)`,
    by Gauss-Legendre on short panels, shortest where the second factor has its bend. What lies beyond
    zeta = 80 is left out: it is below e^-80.
    """

    offsets = np.arange(-80, 80.5, 0.5)
    edges = np.concatenate([offsets, max(delta, 0) / tau + offsets / tau])
    edges = np.unique(np.append(edges[(edges > 0) & (edges < 80)], [0, 80]))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    width = np.diff(edges)[:, None] / 2
    zeta = edges[:-1, None] + width * (1 + nodes)
    # sigma'(x) = e^-|x| / (1 + e^-|x|)^2; the e^delta that two factors share for delta < 0 is left out of both.
    distance = np.abs(tau * zeta - delta)
    exponent = -power * zeta - distance - min(delta, 0)
    denominator = (1 + np.exp(-zeta)) ** (2 * power) * (1 + np.exp(-distance)) ** 2
    integrand = np.exp(exponent) * (1 + np.exp(-abs(delta))) / denominator
    return float((integrand * weights * width).sum()) * tau ** (1 - power)


def assert_mean(samples, expected, alarm=ALARM):
    """The mean of independent samples (first axis) is the expected one: largest |z| over the entries."""
    samples = np.asarray(samples, dtype=np.float64)
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    _assert_within(samples.mean(axis=0), expected, standard_error, alarm)


def assert_same_mean(samples, others, alarm=ALARM):
    """Two independent sets of samples have one mean."""
    samples, others = (np.asarray(x, dtype=np.float64) for x in (samples, others))
    variance = samples.var(axis=0, ddof=1) / len(samples) + others.var(axis=0, ddof=1) / len(others)
    _assert_within(samples.mean(axis=0), others.mean(axis=0), np.sqrt(variance), alarm)


def assert_same_covariance(samples, others, alarm=ALARM):
    """Two independent sets of samples ``(draws, n)`` have one covariance."""
    products = [
        np.einsum("ra,rb->rab", centred, centred)
        for centred in (x - x.mean(axis=0) for x in (samples, others))
    ]
    assert_same_mean(*products, alarm=alarm)


def assert_variance(samples, expected, alarm=ALARM):
    """The trace of the covariance of samples ``(draws, n)`` is the expected one."""
    squares = ((samples - samples.mean(axis=0)) ** 2).sum(axis=-1)
    assert_mean(squares, expected, alarm)


def _assert_within(mean, expected, standard_error, alarm):
    mean = np.asarray(mean)
    limit = norm.isf(alarm / (2 * mean.size))
    rounding = 1e-6 * np.abs(expected).max()
    excess = np.abs(mean - expected) - limit * standard_error - rounding
    assert np.all(excess <= 0), (
        f"mean {mean} is not {expected}: more than {limit:.1f} standard errors {standard_error} away"
    )
