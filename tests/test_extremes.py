"""Logits up to +-1000, impossible categories, temperatures from 1e-3 to 1e3, draws of exactly 0.

Warnings are errors in this suite, so an overflow or a 0/0 anywhere fails even where it is hidden later.
"""

import numpy as np
import pytest
from autograd import elementwise_grad
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import ANY_ARITY, BOOLEAN, NAMES, QUADRATURE, exact_mean, linear, quadratic

from rbst import (
    conditional_gumbels,
    estimate_gradient,
    exact_expectation,
    exact_gradient,
    exact_gumbel_rao,
    get_estimator,
    gumbel_rao,
    gumbel_softmax,
    reinmax,
    sample_categorical,
    softmax,
    straight_through,
    zgr,
)
from rbst.categorical import softmax_vjp

TAUS = st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


SINGLE = np.float32


@pytest.mark.parametrize("c", [0, 64, 1e4, 1e6])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_what_all_entries_of_df_dD_have_in_common_changes_nothing(c, tau):
    """(1, 2, 4) + c is exact in float32 up to c = 2**20: the gradients are those of (1, 2, 4)."""
    logits, D = np.array([0.3, -0.7, 1.1], SINGLE), np.array([0, 0, 1], SINGLE)
    E, S = np.ones((1, 3), SINGLE), np.array([0.2, 0.3, 0.5], SINGLE)

    def gradients(g):
        return {
            "st": straight_through(logits, D, g, tau=tau),
            "reinmax": reinmax(logits, D, g, tau=tau),
            "zgr": zgr(logits, D, g),
            "gs": gumbel_softmax(logits, S, g, tau=tau),
            "gr-mc1": gumbel_rao(logits, D, g, tau=tau, exponentials=E),
            "gr": exact_gumbel_rao(logits, D, g, tau=tau),
        }

    expected = gradients(np.array([1, 2, 4], SINGLE))
    for name, gradient in gradients(np.array([1, 2, 4], SINGLE) + SINGLE(c)).items():
        np.testing.assert_allclose(gradient, expected[name], atol=5e-7, err_msg=name)
        assert abs(gradient.sum(dtype=np.float64)) < 5e-7, name


@pytest.mark.parametrize("outlier", [1e6, -1e6])
def test_a_steep_slope_at_an_unlikely_category_hides_no_other(outlier):
    """ST weighs it with its probability, here e**-40, in whichever place it stands."""
    logits = np.array([0.0, -40.0, 0.0], SINGLE)
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1]):
        theta, g = logits[order], np.array([1.0, outlier, 3.0], SINGLE)[order]
        D = np.array([0, 1, 0], SINGLE)[order]
        expected = np.array([-0.5, 0.0, 0.5])[order]
        np.testing.assert_allclose(straight_through(theta, D, g), expected, atol=1e-6)


@st.composite
def extreme_logits(draw, min_n=1, max_n=5, dtype=np.float32):
    """Multiples of 1/64 in [-1000, 1000], exact in float32 under the same shifts, some of them -inf."""
    L, n = draw(st.integers(1, 2)), draw(st.integers(min_n, max_n))
    logits = draw(hnp.arrays(np.int32, (L, n), elements=st.integers(-64_000, 64_000))) / 64
    impossible = draw(hnp.arrays(bool, (L, n)))
    impossible[np.arange(L), draw(hnp.arrays(np.int8, L, elements=st.integers(0, n - 1)))] = False
    return np.where(impossible, -np.inf, logits).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data(), tau=TAUS, shift=st.integers(-64_000, 64_000), seed=st.integers(0, 2**32))
def test_estimates_are_finite_and_shifts_change_nothing(name, data, tau, shift, seed):
    logits = data.draw(extreme_logits(*((2, 2) if name in BOOLEAN else (1, 5))))
    estimator = get_estimator(name, tau=tau)
    copies = np.broadcast_to(logits, (2 if name in QUADRATURE else 20, *logits.shape))

    def estimate(logits):
        return estimate_gradient(
            estimator,
            quadratic,
            logits,
            np.random.default_rng(seed),
            df_dD=elementwise_grad(quadratic),
        )

    gradient = estimate(copies)
    assert gradient.dtype == np.float32
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, logits == -np.inf], 0)
    np.testing.assert_array_equal(estimate(copies + np.float32(shift / 64)), gradient)


@settings(max_examples=60)
@given(logits=extreme_logits())
def test_reinforce_is_right_at_the_extremes(logits):
    """Where float32 is all there is, enumeration in float64 tells what is right."""
    estimator = get_estimator("reinforce", baseline=1.0)
    exact = exact_gradient(quadratic, logits.astype(np.float64))
    assert np.isfinite(exact).all()
    np.testing.assert_allclose(exact_mean(estimator, quadratic, None, logits), exact, atol=1e-5)
    np.testing.assert_allclose(exact_gradient(quadratic, logits), exact, atol=1e-5)


@settings(max_examples=60)
@given(logits=extreme_logits())
def test_straight_through_is_right_at_the_extremes(logits):
    mean = exact_mean(get_estimator("st"), linear, elementwise_grad(linear), logits)
    exact = exact_gradient(linear, logits.astype(np.float64))
    np.testing.assert_allclose(mean, exact, atol=1e-5)


@settings(max_examples=60)
@given(logits=extreme_logits())
def test_expectation_is_right_at_the_extremes(logits):
    probabilities = softmax(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-14)
    assert (probabilities[logits == -np.inf] == 0).all()
    assert exact_expectation(lambda D: np.ones(len(D)), logits) == pytest.approx(1, abs=1e-14)


@settings(max_examples=150)
@given(logits=extreme_logits(), tau=TAUS, seed=st.integers(0, 2**32))
def test_gumbel_rao_in_float32_is_eq_9_in_float64(logits, tau, seed):
    """Including draws far too small for float32 to see beside the others."""
    rng = np.random.default_rng(seed)
    D = sample_categorical(logits, rng)
    E = rng.standard_exponential((7, *logits.shape), dtype=np.float32)
    E[0] *= np.float32(1e-6)
    g = rng.normal(size=logits.shape).astype(np.float32)
    wide = logits.astype(np.float64)
    S = softmax(conditional_gumbels(wide, D, E), tau)
    expected = softmax_vjp(S, g.astype(np.float64)).mean(axis=0) / tau
    result = gumbel_rao(logits, D, g, tau=tau, exponentials=E)
    # A power 1 / tau multiplies the relative error of a float32 by 1 / tau, where weights are not tiny.
    error = 1e-6 * (1 + min(1 / tau, 100)) * np.abs(g).max() / tau
    np.testing.assert_allclose(result, expected, atol=error, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=60)
@given(data=st.data(), tau=TAUS)
def test_draws_of_exactly_zero_are_finite(dtype, data, tau):
    logits = data.draw(extreme_logits(dtype=dtype))
    D = sample_categorical(logits, np.random.default_rng(0))
    zero = data.draw(hnp.arrays(bool, (3, *logits.shape)))
    E = np.where(zero, 0, np.random.default_rng(1).standard_exponential(zero.shape)).astype(dtype)
    gradient = gumbel_rao(logits, D, np.ones_like(D) - 2 * D, tau=tau, exponentials=E)
    assert gradient.dtype == dtype
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient) <= 1 / tau).all()


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_of_zero_have_their_limits(dtype, tau):
    logits = np.zeros(2, dtype)
    D, g = np.array([1.0, 0.0], dtype), np.array([3.0, 1.0], dtype)

    def estimate(*E):
        return gumbel_rao(logits, D, g, tau=tau, exponentials=np.array([E], dtype))

    # E_j = 0 beside E_i = 1: category j comes level, S = (1/2, 1/2).
    np.testing.assert_allclose(estimate(1, 0), np.array([0.5, -0.5]) / tau, rtol=1e-5)
    # E_i = 0 beside E_j = 1: category i wins by far, S = D.
    small = 1e-5 if tau == 1 else 1e-8
    np.testing.assert_allclose(estimate(0, 1), 0, atol=1 if tau > 1 else small)


@pytest.mark.parametrize("name", ANY_ARITY)
@pytest.mark.parametrize("tau", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n", [2, 1000])
def test_many_categories_on_a_steep_slope(name, tau, n):
    if name == "arsm" and n > 100:
        pytest.skip("arsm evaluates f for every pair of categories")
    logits = np.linspace(-1000, 1000, n, dtype=np.float32)[None]
    copies = np.broadcast_to(logits, (3, 1, n))

    def f(D):
        return (D * D).sum(axis=(-2, -1))

    gradient = estimate_gradient(
        get_estimator(name, tau=tau), f, copies, np.random.default_rng(0), df_dD=lambda D: 2 * D
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ANY_ARITY)
def test_one_possible_category_has_no_gradient(name):
    logits = np.array([[-np.inf, 2.0, -np.inf]])
    copies = np.broadcast_to(logits, (5, 1, 3))
    gradient = estimate_gradient(get_estimator(name), quadratic, copies, np.random.default_rng(0))
    np.testing.assert_allclose(gradient, 0, atol=1e-15)


@pytest.mark.parametrize("tau", [1e3, 1e-3])
def test_hot_and_cold_limits(tau, rng):
    """Hot: tau times the estimate tends to J(uniform) g. Cold: E over copies tends to ZGR."""
    logits, D, g = np.array([0.3, -0.7, 1.1]), np.array([0.0, 1.0, 0.0]), np.array([1.0, 2.0, 4.0])
    pi = softmax(logits)
    if tau > 1:
        result = tau * gumbel_rao(logits, D, g, tau=tau, num_samples=1000, rng=rng)
        np.testing.assert_allclose(result, softmax_vjp(np.full(3, 1 / 3), g), atol=5e-3)
        return
    copies = [np.broadcast_to(array, (10**6, 3)) for array in (logits, D, g)]
    samples = gumbel_rao(*copies, tau=tau, num_samples=1, rng=rng)
    limit = (pi * (g - g[1]) + D * (g[1] - pi @ g)) / 2
    standard_error = samples.std(axis=0) / 1000
    assert (np.abs(samples.mean(axis=0) - limit) < 6 * standard_error).all()
    assert (standard_error < 0.1).all()
