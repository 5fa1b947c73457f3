"""The law of a relaxed sample: that its density is one, that samples have it, and what the temperature's gradient is."""

import numpy as np
import pytest
from autograd.test_util import check_grads
from scipy.integrate import quad

from rbst import log_softmax, sample_gumbel_softmax, softmax
from rbst.estimators.concrete import (
    categorical_kl,
    concrete_density,
    concrete_kl,
    log_concrete_density,
    sample_log_concrete,
    temperature_gradient,
)

STANDARD_ERRORS = 5  # a false alarm in one comparison of 1.7 million


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_density_of_two_categories_integrates_to_one(tau):
    logits = np.array([0.3, -0.7])
    total = quad(lambda s: np.exp(concrete_density(logits, np.array([s, 1 - s]), tau=tau)), 0, 1)[0]
    assert total == pytest.approx(1, abs=1e-7)


def test_the_density_of_three_categories_integrates_to_one():
    """Stick by stick, in logits, where the trapezoidal rule converges geometrically."""
    logits, step = np.array([0.3, -0.7, 1.1]), 0.2
    x, y = np.meshgrid(*2 * [np.arange(-30, 30, step)])
    a, b = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y))
    S = np.stack([a, (1 - a) * b, (1 - a) / (1 + np.exp(y))], axis=-1)
    area = a * (1 - a) ** 2 * b * (1 - b) * step**2
    density = np.exp(concrete_density(np.broadcast_to(logits, S.shape), S, tau=1.3))
    assert (density * area).sum() == pytest.approx(1, abs=1e-8)


def test_samples_have_the_density():
    """Probabilities of intervals of S_1, by integration and by counting."""
    logits, tau, N = np.array([0.3, -0.7]), 0.6, 200_000
    rng = np.random.default_rng(0)
    S = np.exp(sample_log_concrete(np.broadcast_to(logits, (N, 2)), tau=tau, rng=rng))[:, 0]
    for low, high in ((0.05, 0.2), (0.2, 0.6), (0.6, 0.95)):
        p = quad(
            lambda s: np.exp(concrete_density(logits, np.array([s, 1 - s]), tau=tau)), low, high
        )[0]
        assert abs(((low < S) & (high > S)).mean() - p) < STANDARD_ERRORS * np.sqrt(p * (1 - p) / N)


def test_logarithms_are_those_of_the_samples_with_the_same_seed():
    logits = np.random.default_rng(1).normal(size=(5, 4))
    Y = sample_log_concrete(logits, tau=0.7, rng=np.random.default_rng(2))
    S = sample_gumbel_softmax(logits, tau=0.7, rng=np.random.default_rng(2))
    np.testing.assert_allclose(np.exp(Y), S, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cold_sample_keeps_its_density(dtype):
    """At tau = 0.005 most samples are a corner in floating point; their logarithms are not."""
    logits = np.broadcast_to(np.array([0.3, -0.7, 1.1], dtype), (1000, 3))
    Y = sample_log_concrete(logits, tau=0.005, rng=np.random.default_rng(3))
    assert (np.exp(Y).max(axis=-1) == 1).mean() > 0.8
    density = log_concrete_density(logits, Y, tau=0.005)
    assert density.dtype == dtype
    assert np.isfinite(density).all()
    shifted = log_concrete_density(logits + dtype(512), Y, tau=0.005)
    np.testing.assert_allclose(shifted, density, rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_an_impossible_category_is_no_coordinate():
    two, three = np.array([0.3, -0.7]), np.array([0.3, -np.inf, -0.7])
    S = np.array([0.2, 0.8])
    expected = concrete_density(two, S, tau=0.6)
    assert concrete_density(three, np.array([0.2, 0.0, 0.8]), tau=0.6) == pytest.approx(expected)
    Y = sample_log_concrete(three, tau=0.6, rng=np.random.default_rng(0))
    assert Y[1] == -np.inf


@pytest.mark.parametrize(
    ("S", "fault"),
    [
        ([0.0, 1.0], r"log\(S\) must be finite.*sample_log_concrete"),
        ([0.3, 0.3], "S must lie on the simplex"),
        ([0.3, 0.3, 0.4], "S must have the shape of logits"),
    ],
)
def test_a_point_without_a_density_is_refused_by_its_name(S, fault):
    with pytest.raises(ValueError, match=fault):
        concrete_density(np.zeros(2), np.array(S), tau=0.5)
    with pytest.raises(ValueError, match="df_dS must be finite"):
        temperature_gradient(np.log([0.3, 0.7]), np.array([0.0, np.nan]), tau=0.5)


def test_the_categorical_divergence():
    rng = np.random.default_rng(4)
    logits, prior = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    pi, rho = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (logits, prior))
    np.testing.assert_allclose(categorical_kl(logits, prior), (pi * np.log(pi / rho)).sum(-1))
    assert categorical_kl(np.array([0.0, -np.inf]), np.zeros(2)) == pytest.approx(np.log(2))


def test_the_relaxed_divergence_is_an_integral_and_not_the_categorical_one():
    logits, prior, tau = np.log([0.2, 0.8]), np.zeros(2), 0.5

    def integrand(s):
        S = np.array([s, 1 - s])
        log_q, log_p = concrete_density(logits, S, tau=tau), concrete_density(prior, S, tau=0.7)
        return np.exp(log_q) * (log_q - log_p)

    exact = quad(integrand, 0, 1, limit=200)[0]
    mean, error = concrete_kl(
        logits, prior, tau=tau, prior_tau=0.7, num_samples=200_000, rng=np.random.default_rng(5)
    )
    assert abs(mean - exact) < STANDARD_ERRORS * error
    assert abs(exact - categorical_kl(logits, prior)) > 0.05


def test_a_divergence_at_one_temperature_does_not_depend_on_it():
    """With e^(theta_k - tau y_k) in proportion to E_k, both densities are functions of E alone."""
    logits, prior, delta = np.array([0.3, -1.2]), np.array([0.5, 0.1]), 1.5 - 0.4
    found = {
        tau: concrete_kl(
            logits,
            prior,
            tau=tau,
            prior_tau=tau,
            num_samples=100_000,
            rng=np.random.default_rng(7),
        )
        for tau in (0.2, 1.0, 3.0)
    }
    for mean, _ in found.values():
        assert mean == pytest.approx(found[1.0][0], rel=1e-8)
    mean, error = found[1.0]
    assert abs(mean - (delta / np.tanh(delta / 2) - 2)) < STANDARD_ERRORS * error


def test_the_gradient_of_the_temperature_with_the_noise_held():
    rng = np.random.default_rng(6)
    logits, weights = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def f(tau):
        S = np.exp(sample_log_concrete(logits, tau=tau, rng=np.random.default_rng(7)))
        return (weights * S**2).sum(axis=-1)

    Y = sample_log_concrete(logits, tau=0.6, rng=np.random.default_rng(7))
    numeric = (f(0.6 + 1e-6) - f(0.6 - 1e-6)) / 2e-6
    result = temperature_gradient(Y, 2 * weights * np.exp(Y), tau=0.6)
    np.testing.assert_allclose(result, numeric, atol=1e-7)


def test_a_category_that_both_laws_exclude_counts_for_nothing():
    both, prior = np.array([0.0, -np.inf, 1.0]), np.array([0.0, -np.inf, 0.0])
    without = categorical_kl(both[[0, 2]], prior[[0, 2]])
    assert categorical_kl(both, prior) == pytest.approx(without, rel=1e-15)
    assert categorical_kl(prior[[0, 2]], np.array([0.0, -np.inf])) == np.inf


def test_the_divergence_is_differentiated_in_either_law():
    rng = np.random.default_rng(8)
    logits, prior = rng.normal(size=(2, 4, 3))
    check_grads(lambda x: categorical_kl(x, prior), modes=["rev"], order=1)(logits)
    check_grads(lambda x: categorical_kl(logits, x), modes=["rev"], order=1)(prior)


def test_the_error_of_a_divergence_is_that_of_a_sample():
    logits, laws = np.log([0.2, 0.3, 0.5]), {"tau": 0.5, "prior_tau": 1.0}
    means = [
        concrete_kl(logits, np.zeros(3), **laws, num_samples=2, rng=np.random.default_rng(seed))
        for seed in range(2000)
    ]
    means, errors = np.array(means).T
    # The mean square of the standard errors is the variance of the means, within its own standard error; divided by K
    # instead of K - 1 it is 14 of them off.
    squares = errors**2 - (means - means.mean()) ** 2
    assert abs(squares.mean()) < STANDARD_ERRORS * squares.std() / len(squares) ** 0.5
    rng = np.random.default_rng(0)
    assert np.isnan(concrete_kl(logits, np.zeros(3), **laws, num_samples=1, rng=rng)[1])


def test_the_laws_of_relaxed_samples_are_differentiated_in_each_argument():
    rng = np.random.default_rng(9)
    logits, other = rng.normal(size=(2, 4, 3))

    def divergence(logits, prior_logits):
        laws = {"tau": 0.7, "prior_tau": 0.5, "num_samples": 4, "rng": np.random.default_rng(10)}
        return concrete_kl(logits, prior_logits, **laws)[0]

    for function in (
        lambda x: log_concrete_density(logits, log_softmax(x), tau=0.7),  # a fixed prior
        lambda x: concrete_density(logits, softmax(x), tau=0.7),
        lambda x: log_concrete_density(x, log_softmax(logits), tau=0.7),
        lambda x: divergence(logits, x),
        lambda x: divergence(x, logits),
    ):
        check_grads(function, modes=["rev"], order=1)(other)


def test_no_rows_are_no_fault():
    Y = np.zeros((0, 3))
    assert log_concrete_density(np.zeros((0, 3)), Y, tau=0.5).shape == (0,)


def test_the_divergence_from_a_prior_that_excludes_a_category_is_infinite_however_rare_it_is():
    logits = np.array([[0.0, -1.0], [0.0, -800.0], [0.0, -np.inf]])
    np.testing.assert_array_equal(
        categorical_kl(logits, np.array([0.0, -np.inf])), [np.inf, np.inf, 0]
    )
