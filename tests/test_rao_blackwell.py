"""Exact conditional moments against integrals, sampling, refined grids and each other.

The plain form at the top of this file uses the one-dimensional means at the probabilities themselves,
with no expansion and a loop over nothing but the definition (9.10); on a refined grid it is the oracle
of the tolerance. Statistical assertions take the largest of a stated number of standard errors; all
seeds are fixed.
"""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import at_night, boolean_moment, logistic_moment, slow
from scipy.integrate import dblquad

from rbst import (
    conditional_covariance,
    conditional_mean,
    conditional_moments,
    gumbel_rao,
    log_softmax,
    sample_gumbel_softmax,
    zgr,
)
from rbst.boolean import build_boolean_table
from rbst.categorical import one_hot, softmax, softmax_vjp
from rbst.quadrature import build_table, nodes_of_s, nodes_of_t, race_means
from rbst.rao_blackwell import jacobian_moments

THETA = np.array([0.3, -0.7, 1.1])
G = np.array([1.0, 2.0, 4.0])
TAUS = (1e-3, 1e-2, 0.1, 0.5, 1, 2, 10)


def plain_mean(logits, D, g, tau, digits=32.0):
    """(9.10) as it stands, for one variable: every category at every node, on a grid of its own."""
    others = D == 0
    n = len(logits)
    scale = 1 + (n - 1) * n ** (-1 / tau)
    log_t, weight_t = nodes_of_t(tau, digits, scale)
    s, weight_s = nodes_of_s(digits, scale)
    log_pi, d = log_softmax(logits)[others], (g - (g * D).sum())[others]
    one_minus_phi, psi = race_means(log_pi, log_t, s, tau, digits, order=1)
    weight = np.outer(weight_t, weight_s) * np.exp(np.log1p(-one_minus_phi).sum(axis=0))
    mean_w = psi / (1 - one_minus_phi)
    sum_l, sum_l_d = 1 + mean_w.sum(axis=0), np.einsum("j,jts->ts", d, mean_w)
    mean = np.zeros(n)
    integrand = weight * mean_w * (d[:, None, None] * sum_l - sum_l_d)
    mean[others] = integrand.sum(axis=(1, 2)) / tau
    mean[D == 1] = -(weight * sum_l_d).sum() / tau
    return mean


def relative_error(mean, exact, g):
    """Relative to the largest entry, or to 1e-12 of the largest of g where the mean is nothing."""
    return np.abs(mean - exact).max() / max(np.abs(exact).max(), 1e-12 * np.abs(g).max())


def problem(n, scale, likely, seed=0, dtype=np.float64):
    """Logits at a scale, D the most or the least likely outcome, a gradient."""
    rng = np.random.default_rng([seed, n, scale])
    logits, g = scale * rng.standard_normal(n), rng.standard_normal(n)
    D = one_hot(np.array(logits.argmax() if likely else logits.argmin()), n)
    return logits.astype(dtype), D.astype(dtype), g.astype(dtype)


def standard_errors(samples, expected):
    """The largest distance of the mean over the first axis from ``expected``, in standard errors."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    rounding = 1e-9 * np.abs(expected).max()
    return (np.abs(samples.mean(axis=0) - expected) / (error + rounding)).max()


def st_gs_given_D(logits, D, g, tau, draws, seed=0):
    """Independent draws of ST-GS given D: ``(draws, n)``."""
    rows = (np.broadcast_to(x, (draws, len(logits))) for x in (logits, D, g))
    return gumbel_rao(*rows, tau=tau, num_samples=1, rng=np.random.default_rng(seed))


# Independent integrals.


@pytest.mark.parametrize("tau", [0.01, 0.2, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("delta", [-4.0, 0.7, 6.0])
def test_two_categories_are_a_one_dimensional_integral(tau, delta):
    logits, D, g = np.array([delta, 0.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    # Given that the first wins, x_1 - x_2 is delta plus a logistic variable, restricted to be positive.
    probability = 1 / (1 + np.exp(-delta))
    c = logistic_moment(1, delta, tau, lower=0.0) / probability
    mean, square = conditional_moments(logits, D, g, tau=tau, rtol=1e-11)
    assert mean == pytest.approx([-c, c], rel=1e-10)
    assert conditional_mean(logits, D, g, tau=tau, rtol=1e-11) == pytest.approx([-c, c], rel=1e-10)
    c2 = logistic_moment(2, delta, tau, lower=0.0) / probability
    assert square == pytest.approx(2 * c2, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.2, 0.5, 1.0])
def test_three_categories_are_a_two_dimensional_integral(tau):
    # With D_i = 1 and ratios q_j = E_j / (pi_j E_i), w_j = (1 + q_j)^(-1/tau), and the joint density of the
    # q_j is 2 pi_1 pi_2 / (1 + pi_1 q_1 + pi_2 q_2)^3; both axes in logarithms.
    pi = softmax(THETA)
    D = np.array([0.0, 0.0, 1.0])

    def pull_back(y, x, entry):
        q = np.exp([x, y])
        density = 2 * pi[0] * pi[1] * q.prod() / (1 + pi[0] * q[0] + pi[1] * q[1]) ** 3
        w = np.append((1 + q) ** (-1 / tau), 1.0)
        return density * softmax_vjp(w / w.sum(), G)[entry] / tau

    for entry in (0, 1):
        exact = dblquad(pull_back, -28, 20, -28, 20, args=(entry,), epsabs=0, epsrel=1e-11)[0]
        mean = conditional_mean(THETA, D, G, tau=tau, rtol=1e-11)
        assert mean[entry] == pytest.approx(exact, rel=1e-10)


# Sampling.


@pytest.mark.parametrize("n", [5, 16, 100])
@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_monte_carlo_agrees(n, tau):
    # |z| <= 4 for each entry of a vector of length n: false alarms below 100 * 6e-5 for all n.
    rng = np.random.default_rng(n)
    logits, g = rng.standard_normal(n), rng.standard_normal(n)
    D = one_hot(np.array(1), n)
    blocks = np.stack(
        [gumbel_rao(logits, D, g, tau=tau, num_samples=1000, rng=rng) for _ in range(100)]
    )
    assert standard_errors(blocks, conditional_mean(logits, D, g, tau=tau)) < 4


@pytest.mark.parametrize("n", [2, 4, 10])
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_second_moments_match_sampled_ones(n, tau):
    rng = np.random.default_rng(n)
    logits, g = rng.standard_normal(n), rng.standard_normal(n)
    D = one_hot(np.array(0), n)
    samples = st_gs_given_D(logits, D, g, tau, 100_000, seed=n)
    mean, square = conditional_moments(logits, D, g, tau=tau)
    covariance = conditional_covariance(logits, D, g, tau=tau)
    second = covariance + np.outer(mean, mean)
    assert standard_errors((samples**2).sum(axis=1, keepdims=True), square) < 4
    assert standard_errors(np.einsum("ra,rb->rab", samples, samples), second) < 4.5


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_mean_jacobian_of_gumbel_softmax(tau, rng):
    """The mean over D of E[J | D] is the mean Jacobian of Gumbel-Softmax, positive semi-definite."""
    outcomes = np.eye(3)
    M, _ = jacobian_moments(np.broadcast_to(THETA, (3, 3)), outcomes, tau=tau)
    mean = np.einsum("i,iab->ab", softmax(THETA), M)
    S = sample_gumbel_softmax(np.broadcast_to(THETA, (200_000, 3)), tau=tau, rng=rng)
    J = (np.einsum("ra,ab->rab", S, np.eye(3)) - np.einsum("ra,rb->rab", S, S)) / tau
    assert standard_errors(J, mean) < 4
    assert mean == pytest.approx(mean.T, abs=1e-12)
    assert np.linalg.eigvalsh(mean).min() > -1e-12


def test_monte_carlo_misses_a_rare_event_and_quadrature_does_not():
    """At tau = 0.01 the mean rests on draws that 1e5 samples hardly ever see."""
    logits, D, g = problem(8, scale=8, likely=True, seed=3)
    exact = conditional_mean(logits, D, g, tau=1e-2, rtol=1e-9)
    assert relative_error(exact, plain_mean(logits, D, g, 1e-2), g) < 1e-9
    samples = st_gs_given_D(logits, D, g, 1e-2, 100_000)
    assert standard_errors(samples, exact) > 20


# The tolerance.


def check_tolerance(n, tau, scale, likely, rtols):
    single = problem(n, scale, likely, dtype=np.float32)
    logits, D, g = (x.astype(np.float64) for x in single)
    exact = plain_mean(logits, D, g, tau)
    for rtol in rtols:
        mean = conditional_mean(logits, D, g, tau=tau, rtol=rtol)
        assert relative_error(mean, exact, g) <= rtol
        mean = conditional_mean(*single, tau=tau, rtol=rtol)
        assert mean.dtype == np.float32
        assert relative_error(mean, exact, g) <= max(rtol, 2e-5)


@pytest.mark.parametrize("likely", [True, False])
@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("tau", [*TAUS, 0.9, 1.1, 46, 150, 300, 880, 5000, 1e7])
def test_the_tolerance_is_honest(tau, scale, likely):
    check_tolerance(5, tau, scale, likely, (1e-3, 1e-6, 1e-9))


def test_the_tolerance_is_honest_for_many_categories():
    """At tau = 2 the sum of weights ranges from 1 to hundreds, and the grid has to reach both ends."""
    logits, D, g = problem(1000, 1, likely=False)
    exact = plain_mean(logits, D, g, 2, digits=24)
    for rtol in (1e-6, 1e-9):
        mean = conditional_mean(logits, D, g, tau=2, rtol=rtol)
        assert relative_error(mean, exact, g) <= rtol


@pytest.mark.parametrize("tau", [10, 46, 150, 300, 880, 5000])
def test_the_tolerance_is_honest_for_equal_categories(tau):
    """Near pi = 1 the functions of pi change by 1 / tau over a distance of 1 in log pi."""
    logits, D = np.zeros(3), np.array([0.0, 0.0, 1.0])
    exact = plain_mean(logits, D, G, tau)
    for rtol in (1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-11):
        mean = conditional_mean(logits, D, G, tau=tau, rtol=rtol)
        assert relative_error(mean, exact, G) <= rtol


@pytest.mark.parametrize("tau", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("n", [5000, 20_000])
def test_single_precision_adds_up_many_categories(n, tau):
    """Equal numbers round in one direction, and the entry of the selected category sums all others."""
    rng = np.random.default_rng(0)
    several, g = rng.choice([0, 0.25, 0.5, 1], size=n), rng.standard_normal(n)
    for logits in (several, np.zeros(n)):
        single = [x.astype(np.float32) for x in (logits, one_hot(np.array(3), n), g)]
        exact = conditional_mean(*(x.astype(np.float64) for x in single), tau=tau, rtol=1e-7)
        mean = conditional_mean(*single, tau=tau, rtol=1e-4)
        assert relative_error(mean, exact, g) <= 1e-4


def every_kind_of_logits(n, seed):
    """Five variables: flat, at scales 1, 8 and 30, with one impossible category; D likely or unlikely."""
    rng = np.random.default_rng([seed, n])
    logits = np.array([[0.0], [1.0], [8.0], [30.0], [1.0]]) * rng.standard_normal((5, n))
    logits[4, 1:2] = -np.inf
    rank = rng.choice([0, -1], size=5)
    selected = logits.argsort(axis=-1)[np.arange(5), rank]
    selected[4] = logits[4].argmax()
    arrays = logits, one_hot(selected, n), rng.standard_normal((5, n))
    return [x.astype(np.float32) for x in arrays]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1000, 20_000])
def test_the_tolerance_on_a_fine_grid_of_temperatures(n):
    """The worst ratio of error to rtol is printed; the docstring of conditional_mean quotes it."""
    worst = 0.0
    for seed, tau in enumerate(np.geomspace(1e-3, 1e4, at_night(40, otherwise=10))):
        single = every_kind_of_logits(n, seed)
        double = [x.astype(np.float64) for x in single]
        exact = conditional_mean(*double, tau=tau, rtol=1e-11)
        size = np.maximum(abs(exact).max(axis=1), 1e-12 * abs(double[2]).max(axis=1))
        for arguments, floor in ((single, 2e-5), (double, 0)):
            for rtol in (1e-2, 1e-3, 1e-4, 1e-6) + (1e-9,) * (floor == 0):
                mean = conditional_mean(*arguments, tau=tau, rtol=rtol)
                error = (abs(mean - exact).max(axis=1) / size).max()
                worst = max(worst, error / max(rtol, floor))
    print(f"n = {n}: the worst error was {worst:.2f} of rtol")
    assert worst <= 1


@pytest.mark.slow
@pytest.mark.parametrize("likely", [True, False])
@pytest.mark.parametrize("scale", at_night([1, 8, 30], otherwise=[1, 30]))
@pytest.mark.parametrize("tau", [*TAUS, 0.9, 1.1])
@pytest.mark.parametrize("n", at_night([2, 5, 16, 100, 1000], otherwise=[2, 16, 100]))
def test_the_tolerance_is_honest_everywhere(n, tau, scale, likely):
    check_tolerance(n, tau, scale, likely, (1e-3, 1e-4, 1e-6, 1e-9))


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("tau", [1e-3, 0.5, 1, 10])
def test_the_oracle_no_longer_moves(n, tau):
    logits, D, g = problem(n, 8, True)
    coarser, finer = (plain_mean(logits, D, g, tau, digits) for digits in (29, 32))
    assert relative_error(coarser, finer, g) < 1e-11


@pytest.mark.parametrize("tau", [0.05, 0.5, 2, 30, *slow(1, 1.5, 3, 10)])
@pytest.mark.parametrize("scale", [1, 8])
def test_the_tolerance_of_a_variance(tau, scale):
    logits, D, g = problem(4, scale, True)
    variance = []
    for rtol in (1e-3, 1e-6, 1e-10):
        mean, square = conditional_moments(logits, D, g, tau=tau, rtol=rtol)
        variance.append(square - (mean**2).sum())
        covariance = conditional_covariance(logits, D, g, tau=tau, rtol=rtol)
        assert np.trace(covariance) == pytest.approx(variance[-1], rel=rtol)
    assert variance[0] == pytest.approx(variance[2], rel=1e-3)
    assert variance[1] == pytest.approx(variance[2], rel=1e-6)


@pytest.mark.parametrize("tau", [0.1, 1.0, 2.0, 10.0, 100.0, 1000.0])
def test_what_float64_keeps_of_a_mean_square(tau):
    for delta in (-30.0, -1.0, 0.0, 8.0, 30.0):
        logits, D, g = np.array([delta, 0.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
        c2 = boolean_moment(2, delta, tau)
        _, square = conditional_moments(logits, D, g, tau=tau, rtol=1e-11)
        assert square == pytest.approx(2 * c2, rel=5e-12)
        covariance = conditional_covariance(logits, D, g, tau=tau, rtol=1e-11)
        variance = 2 * c2 - 2 * boolean_moment(1, delta, tau) ** 2
        assert np.trace(covariance) == pytest.approx(variance, rel=2e-11, abs=1e-11 * c2)


@pytest.mark.parametrize("tau", [1e12, 1e20, 1e30])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_the_hot_limit_is_kept_to_every_tolerance(n, tau):
    logits, D, g = problem(n, 1, likely=False)
    limit = softmax_vjp(np.full(n, 1 / n), g) / tau
    for rtol in (1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-11):
        mean = conditional_mean(logits, D, g, tau=tau, rtol=rtol)
        assert abs(mean - limit).max() <= (rtol + 20 / tau) * abs(limit).max()


@pytest.mark.parametrize("tau", [1e-30, 1e-8, 30.0, 1e4, 1e30])
def test_extreme_temperatures(tau):
    D = np.array([0.0, 0.0, 1.0])
    mean = conditional_mean(THETA, D, G, tau=tau)
    limit = zgr(THETA, D, G) if tau < 1 else softmax_vjp(np.full(3, 1 / 3), G) / tau
    assert mean == pytest.approx(limit, rel=5 / tau + 1e-6 if tau > 1 else 1e-6)
    mean, square = conditional_moments(THETA, D, G, tau=tau, rtol=1e-3)
    assert np.isfinite(square)
    assert square >= (mean**2).sum() * (1 - 1e-6)


# Structure.


def random_problem(seed, n, dtype=np.float64):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(scale=3, size=(4, n)) * 64) / 64  # so that a shift is exact
    D = one_hot(rng.integers(n, size=4), n)
    return logits.astype(dtype), D.astype(dtype), rng.normal(size=(4, n)).astype(dtype)


@given(st.integers(0, 999), st.integers(2, 8), st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_rows_sum_to_zero_and_shifts_and_names_do_not_matter(seed, n, tau):
    logits, D, g = random_problem(seed, n)
    mean = conditional_mean(logits, D, g, tau=tau)
    size = np.abs(mean).max() + 1e-15
    assert np.abs(mean.sum(axis=-1)).max() <= 1e-13 * size * n
    for shift in (1000.0, -1000.0):
        assert np.array_equal(conditional_mean(logits + shift, D, g, tau=tau), mean)
    assert conditional_mean(logits, D, g + 10, tau=tau) == pytest.approx(mean, abs=1e-13)
    order = np.random.default_rng(seed).permutation(n)
    relabelled = conditional_mean(logits[:, order], D[:, order], g[:, order], tau=tau)
    assert relabelled == pytest.approx(mean[:, order], abs=1e-12 * size)


@given(st.integers(0, 99))
def test_shifts_do_not_matter_in_single_precision(seed):
    logits, D, g = random_problem(seed, 4, np.float32)
    mean = conditional_mean(logits, D, g, tau=0.5, rtol=1e-3)
    shifted = conditional_mean(logits + np.float32(1000), D, g, tau=0.5, rtol=1e-3)
    assert np.array_equal(mean, shifted)


def test_moments_of_the_jacobian_contract_to_those_of_the_gradient(rng):
    logits = rng.normal(size=(3, 5))
    D = one_hot(np.array([0, 4, 2]), 5)
    M, Q = jacobian_moments(logits, D, tau=0.7)
    assert M.shape == (3, 5, 5)
    assert Q.shape == (3, 5, 5, 5)
    for _ in range(3):
        g = rng.normal(size=(3, 5))
        mean, square = conditional_moments(logits, D, g, tau=0.7)
        covariance = conditional_covariance(logits, D, g, tau=0.7)
        assert np.einsum("vab,vb->va", M, g) == pytest.approx(mean, abs=1e-9)
        squares = np.einsum("vabc,vb,vc->va", Q, g, g)
        assert squares.sum(axis=-1) == pytest.approx(square, rel=1e-9)
        variances = np.diagonal(covariance, axis1=-2, axis2=-1)
        assert squares - mean**2 == pytest.approx(variances, abs=1e-9)
    assert np.abs(M.sum(axis=-1)).max() < 1e-12
    assert np.abs(Q.sum(axis=-1)).max() < 1e-12
    assert np.abs(covariance.sum(axis=-1)).max() < 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 5, 3), (0, 3)])
def test_shapes_and_dtypes(shape, dtype):
    logits = np.zeros(shape, dtype)
    D, g = one_hot(np.zeros(shape[:-1], int), 3).astype(dtype), np.ones(shape, dtype)
    mean, square = conditional_moments(logits, D, g, tau=0.5)
    assert (mean.shape, square.shape) == (shape, shape[:-1])
    assert mean.dtype == square.dtype == dtype
    covariance = conditional_covariance(logits, D, g, tau=0.5)
    assert (covariance.shape, covariance.dtype) == ((*shape, 3), dtype)
    assert conditional_mean(logits, D, g, tau=0.5).dtype == dtype


def test_blocks_do_not_show(rng):
    logits, g = rng.normal(size=(3000, 4)), rng.normal(size=(3000, 4))
    D = one_hot(rng.integers(4, size=3000), 4)
    mean = conditional_mean(logits, D, g, tau=0.5, rtol=1e-3)
    for row in (0, 777, 2999):
        alone = conditional_mean(logits[row], D[row], g[row], tau=0.5, rtol=1e-3)
        assert alone == pytest.approx(mean[row], rel=1e-12)


def test_impossible_categories_and_certain_ones():
    logits = np.array([0.2, -np.inf, 1.0, -np.inf])
    D, g = np.array([0.0, 0.0, 1.0, 0.0]), np.array([1.0, 5.0, -2.0, 3.0])
    possible = np.isfinite(logits)
    mean = conditional_mean(logits, D, g, tau=0.5, rtol=1e-9)
    without = conditional_mean(logits[possible], D[possible], g[possible], tau=0.5, rtol=1e-9)
    assert mean[possible] == pytest.approx(without, rel=2e-9)
    assert np.array_equal(mean[~possible], [0.0, 0.0])
    certain = np.array([-np.inf, 0.3, -np.inf, -np.inf])
    selected = np.array([0.0, 1.0, 0.0, 0.0])
    assert np.array_equal(conditional_mean(certain, selected, g, tau=0.5), np.zeros(4))
    mean, square = conditional_moments(certain, selected, g, tau=0.5)
    assert np.array_equal(mean, np.zeros(4))
    assert square == 0
    assert np.array_equal(conditional_covariance(certain, selected, g, tau=0.5), np.zeros((4, 4)))
    assert conditional_mean(np.zeros(1), np.ones(1), np.ones(1), tau=0.5) == 0


def test_a_tolerance_that_cannot_be_kept_is_refused():
    D = np.array([0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="float64"):
        conditional_mean(THETA, D, G, tau=0.5, rtol=1e-12)
    with pytest.raises(ValueError, match="rtol"):
        conditional_moments(THETA, D, G, tau=0.5, rtol=1.0)
    with pytest.raises(TypeError, match="rtol"):
        conditional_covariance(THETA, D, G, tau=0.5, rtol="tight")
    with pytest.raises(ValueError, match="zgr"):
        conditional_mean(THETA, D, G, tau=0.0)


def test_one_category_needs_no_table():
    build_table.cache_clear()
    logits, D = np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32)
    mean, square = conditional_moments(logits, D, D, tau=0.5)
    assert np.array_equal(conditional_mean(logits, D, D, tau=0.5), mean)
    assert (mean.dtype, square.dtype, square.shape) == (np.float32, np.float32, (3,))
    assert not mean.any()
    assert not square.any()
    assert build_table.cache_info().misses == 0


def test_tables_are_kept_and_bounded():
    build_table.cache_clear()
    D = np.array([0.0, 0.0, 1.0])
    for _ in range(3):
        conditional_mean(THETA, D, G, tau=0.5, rtol=1e-3)
    assert build_table.cache_info().misses == 1
    for tau in np.linspace(0.1, 2, 40):
        conditional_mean(THETA, D, G, tau=float(tau), rtol=1e-3)
    assert build_table.cache_info().currsize <= build_table.cache_info().maxsize <= 32


def peak_beyond_result(variables, n, dtype):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((variables, n)).astype(dtype)
    D = one_hot(rng.integers(n, size=variables), n, dtype)
    conditional_mean(logits[:10], D[:10], logits[:10], tau=0.5)
    tracemalloc.start()
    result = conditional_mean(logits, D, logits, tau=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - result.nbytes


def test_memory_does_not_grow_with_the_grid():
    assert peak_beyond_result(20_000, 8, np.float64) < 50e6
    assert peak_beyond_result(20, 1000, np.float64) < 50e6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_for_many_variables(dtype):
    assert peak_beyond_result(at_night(1_000_000, otherwise=200_000), 8, dtype) < 200e6


# Two categories: piecewise polynomials.


def boolean_problem(dtype):
    """Leads from -700 to 700, dense where the moments bend, with both outcomes selected, in both places."""
    lead = np.concatenate([np.linspace(-700, 700, 15), np.linspace(-39, 69, 97)])
    lead = np.round(lead * 64) / 64  # exact in float32, as a difference of logits
    place = np.arange(len(lead)) % 2
    rows = np.arange(len(lead))
    logits, D = np.zeros((len(lead), 2)), np.zeros((len(lead), 2))
    logits[rows, place], D[rows, place] = lead, 1
    g = np.tile([3.0, -1.0], (len(lead), 1))
    return lead, [x.astype(dtype) for x in (logits, D, g)]


def check_boolean(tau, rtol, dtype):
    lead, arguments = boolean_problem(dtype)
    c1, c2 = (np.array([boolean_moment(m, x, tau) for x in lead]) for m in (1, 2))
    mean = conditional_mean(*arguments, tau=tau, rtol=rtol)
    floor = 2e-5 if dtype == np.float32 else 0
    assert mean.dtype == dtype
    assert np.array_equal(mean[:, 0], -mean[:, 1])
    error = abs(mean[:, 0] - 4 * c1) / np.maximum(4 * c1, 3e-12)
    assert error.max() <= max(rtol, floor)
    same, square = conditional_moments(*arguments, tau=tau, rtol=rtol)
    assert abs(same[:, 0] - mean[:, 0]).max() <= 2 * max(rtol, floor) * 4 * c1.max()
    if dtype == np.float64:
        kept = rtol * 32 * (c2 - c1**2) + 5e-12 * 32 * c2 + 1e-23
        assert (abs(square - 32 * c2) <= kept).all()
        assert (abs(square - (same**2).sum(axis=1) - 32 * (c2 - c1**2)) <= 2 * kept).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tau", [1e-3, 0.5, 1.3, 1e3, *slow(0.1, 1.0, 2.0, 10.0)])
def test_boolean_variables_against_an_integral(tau, dtype):
    for rtol in (1e-3, 1e-6, 1e-11):
        check_boolean(tau, rtol, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("tau", np.geomspace(1e-3, 1e3, at_night(40, otherwise=10)))
def test_boolean_variables_against_an_integral_everywhere(tau):
    for rtol in (1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-11):
        check_boolean(tau, rtol, np.float64)


@pytest.mark.parametrize("tau", [1e-3, 0.5, 1.0, 3.0, 1e3])
def test_boolean_variables_against_the_general_quadrature(tau):
    """A third category that is impossible changes nothing but the way that is taken."""
    lead, arguments = boolean_problem(np.float64)
    third = (np.full((len(lead), 1), x) for x in (-np.inf, 0.0, 0.0))
    three = [np.concatenate([x, y], axis=1) for x, y in zip(arguments, third, strict=True)]
    for rtol in (1e-3, 1e-9):
        mean, square = conditional_moments(*arguments, tau=tau, rtol=rtol)
        other, other_square = conditional_moments(*three, tau=tau, rtol=rtol)
        allowed = 2 * rtol * abs(other[:, :1]) + 2e-11
        assert (abs(mean - other[:, :2]) <= allowed).all()
        assert abs(square - other_square) == pytest.approx(0, abs=2 * rtol * other_square.max())


@pytest.mark.parametrize(
    ("order", "tau", "most"), [(1, 1e-3, 500), (1, 150.0, 500), (2, 2.35, 1000)]
)
def test_no_temperature_takes_a_large_table(order, tau, most):
    """The largest of each order, as docs/derivation.md says at the end of section 12."""
    assert most / 4 < build_boolean_table(tau, 1e-11, order).cells <= most


def test_boolean_variables_that_are_certain():
    logits, D = np.array([[0.0, -np.inf], [-np.inf, 5.0]]), np.eye(2)
    mean, square = conditional_moments(logits, D, np.array([[1.0, 2.0], [3.0, 5.0]]), tau=0.5)
    assert np.array_equal(mean, np.zeros((2, 2)))
    assert np.array_equal(square, np.zeros(2))


@pytest.mark.parametrize("rtol", [0.53, 0.9, 0.999])
@pytest.mark.parametrize(("logits", "tau"), [((0.0, 3.0, 0.0), 0.95), ((0.0, 20.0, 60.0), 1.19)])
def test_a_coarse_tolerance_holds_too(logits, tau, rtol):
    arguments = np.array(logits), np.eye(3)[0], np.array([1.0, 2.0, 4.0])
    right = conditional_mean(*arguments, tau=tau, rtol=1e-9)
    coarse = conditional_mean(*arguments, tau=tau, rtol=rtol)
    assert abs(coarse - right).max() <= rtol * abs(right).max()


@pytest.mark.parametrize("tau", [0.3, 0.9, 1.0, 1.1, 2.0, 5.0])
def test_the_variance_is_not_below_its_share_of_the_mean_square(tau):
    """What the tolerance of second moments rests on: at least 0.1 / max(1, tau)**4 of the mean square."""
    rng = np.random.default_rng(0)
    logits = rng.choice([0.1, 1.0, 30.0], size=(2000, 1)) * rng.normal(size=(2000, 3))
    logits[::2, 2] = -40.0  # two categories, by the quadrature
    D, g = np.eye(3)[logits[:, :2].argmin(axis=-1)], rng.normal(size=(2000, 3))  # where it is least
    mean, square = conditional_moments(logits, D, g, tau=tau, rtol=1e-8)
    share = 1 - (mean**2).sum(axis=-1) / square
    assert share.min() > 0.1 / max(1, tau) ** 4
