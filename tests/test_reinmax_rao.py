"""ReinMax-Rao and ReinMax-CV: their formulas, their limits, and what the control variate really is."""

import numpy as np
import pytest
from oracles import assert_mean, exact_mean
from scipy.integrate import quad

from rbst import conditional_moments, exact_gradient, get_estimator, reinmax, zgr
from rbst.categorical import one_hot, softmax, softmax_vjp
from rbst.estimators.reinmax_rao import (
    exact_reinmax_rao,
    halfway_logits,
    reinmax_cv,
    reinmax_rao,
)

LOGITS, G = np.log([0.2, 0.3, 0.5]), np.array([1.0, 2.0, 4.0])


def test_the_halfway_point_is_the_mean_of_pi_and_the_sample():
    logits = np.random.default_rng(0).normal(scale=5, size=(20, 6))
    D = one_hot(np.arange(20) % 6, 6)
    np.testing.assert_allclose(
        np.exp(halfway_logits(logits, D)), (softmax(logits) + D) / 2, rtol=1e-12
    )
    rare = halfway_logits(np.array([0.0, -2000.0, -np.inf]), np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(rare, [0.0, -2000 - np.log(2), -np.inf])


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_many_samples_of_reinmax_rao_have_the_mean_of_the_exact_one(tau, k):
    D, K = np.eye(3)[k], 100
    rng = np.random.default_rng(1)
    many = [np.broadcast_to(a, (20_000, 3)) for a in (LOGITS, D, G)]
    samples = reinmax_rao(*many, tau=tau, num_samples=K, rng=rng)
    assert_mean(samples, exact_reinmax_rao(LOGITS, D, G, tau=tau, rtol=1e-9))
    # One sample varies by four times the exact variance given D at the halfway point, K by a Kth of it.
    mean, square = conditional_moments(halfway_logits(LOGITS, D), D, G, tau=tau)
    variance = 4 * (square - (mean**2).sum()) / K
    assert samples.var(axis=0).sum() == pytest.approx(variance, rel=0.2)


def test_the_cold_limit_of_reinmax_rao_is_twice_zgr_at_the_halfway_point():
    pi = softmax(LOGITS)
    for k in range(3):
        D = np.eye(3)[k]
        limit = 2 * zgr(halfway_logits(LOGITS, D), D, G) - softmax_vjp(pi, G) / 2
        cold = exact_reinmax_rao(LOGITS, D, G, tau=1e-4, rtol=1e-9)
        np.testing.assert_allclose(cold, limit, rtol=1e-3)


def test_reinmax_rao_is_biased_for_linear_f_and_reinmax_is_not():
    """By enumeration and quadrature: the mean over D of what each answers."""

    def linear(D):
        return (D @ G)[..., 0]

    exact = exact_gradient(linear, LOGITS[None])
    for name, biased in (("reinmax", False), ("reinmax-rao", True)):
        mean = exact_mean(get_estimator(name, tau=1.0), linear, lambda D: 0 * D + G, LOGITS[None])
        assert (np.linalg.norm(mean - exact) > 0.05) == biased, name


# The control variate. For two categories r of Eq. 9 has the law P(r < x) = x / (x + pi_j (1 - x)), so that the mean of any
# function of one relaxed sample is one integral.


def mean_given_D(pi_k, tau, shift):
    """E[p (1 - p)] / tau for D = e_k, with the winner's located Gumbel raised by ``shift``."""
    pi_j = 1 - pi_k

    def integrand(u):
        r = pi_j * u / (1 - u + pi_j * u)  # the quantile of r at u
        w = (r * np.exp(-shift)) ** (1 / tau)
        return w / (1 + w) ** 2 / tau

    return quad(integrand, 0, 1, epsabs=1e-12, epsrel=1e-12, limit=200)[0]


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_the_control_variate_of_reinmax_cv_moves_the_mean(tau):
    """Its two relaxations stand at the same logits; the single one has the noise that drew D at other logits."""
    logits, g, eta = np.log([0.3, 0.7]), np.array([1.0, 3.0]), 0.7
    rng = np.random.default_rng(2)
    for k in range(2):
        D = np.eye(2)[k]
        pi_k = softmax(logits)[k]
        halfway = (1 + pi_k) / 2
        sign = np.array([1.0, -1.0]) * (g[0] - g[1])
        single = mean_given_D(pi_k, tau, np.log1p(1 / pi_k)) * sign
        many = mean_given_D(halfway, tau, 0.0) * sign
        expected = reinmax(logits, D, g) + eta * (many - single)

        given = [np.broadcast_to(a, (100_000, 2)) for a in (logits, D, g)]
        samples = reinmax_cv(*given, tau=tau, weight=eta, num_samples=5, rng=rng)
        assert_mean(samples, expected)
        assert np.abs(many - single).max() > 0.01 * np.abs(reinmax(logits, D, g)).max()
        # Given D, ReinMax has no variance that a control variate could remove.
        assert samples.var(axis=0).sum() > 0


def test_drawn_given_D_at_its_own_logits_it_is_unbiased_and_only_adds_variance():
    """The form that one would expect: both relaxations given D at the halfway point."""
    eta, K = 0.5, 5
    rng = np.random.default_rng(3)
    for k in range(3):
        D = np.eye(3)[k]
        mean, square = conditional_moments(halfway_logits(LOGITS, D), D, G, tau=0.5)
        added = eta**2 * (1 + 1 / K) * (square - (mean**2).sum())  # exactly
        given = [np.broadcast_to(a, (100_000, 3)) for a in (LOGITS, D, G)]
        # Half the difference of two of ReinMax-Rao is one relaxation less the other.
        one = reinmax_rao(*given, tau=0.5, num_samples=1, rng=rng)
        many = reinmax_rao(*given, tau=0.5, num_samples=K, rng=rng)
        samples = reinmax(LOGITS, D, G) + eta * (many - one) / 2
        assert_mean(samples, reinmax(LOGITS, D, G))
        assert samples.var(axis=0).sum() == pytest.approx(added, rel=0.05)
        assert added > 0
