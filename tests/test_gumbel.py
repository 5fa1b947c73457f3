"""Gumbels given their argmax: Eq. 9, its ratio form, and the rejection sampler that judges both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import ALARM, THETA
from scipy.stats import gumbel_r, ks_2samp, kstest

from rbst import (
    conditional_gumbels,
    log_softmax,
    rejection_gumbels,
    sample_categorical,
    sample_gumbels,
)
from rbst.gumbel import relaxed_weights

CORNERS = np.eye(3)


def test_located_gumbels_have_the_gumbel_law(rng):
    x = sample_gumbels(np.broadcast_to(THETA, (20_000, 3)), rng)
    for j, location in enumerate(THETA):
        assert kstest(x[:, j], gumbel_r(location).cdf).pvalue > ALARM / 3


@pytest.mark.parametrize("D", CORNERS)
def test_eq_9_agrees_with_rejection(D, rng):
    draws = 20_000
    x = conditional_gumbels(THETA, D, rng.standard_exponential((draws, 3)))
    oracle = rejection_gumbels(THETA, D, num_samples=draws, rng=rng)
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0], [0, 1, -1], [1, 1, 1]])
    for direction in directions:
        pvalue = ks_2samp(x @ direction, oracle @ direction, method="asymp").pvalue
        assert pvalue > ALARM / len(directions), direction


def test_the_comparison_with_rejection_sees_theta_counted_twice(rng):
    D = CORNERS[1]
    x = THETA + conditional_gumbels(THETA, D, rng.standard_exponential((20_000, 3)))
    oracle = rejection_gumbels(THETA, D, num_samples=20_000, rng=rng)
    assert ks_2samp(x[:, 0] - x[:, 1], oracle[:, 0] - oracle[:, 1], method="asymp").pvalue < ALARM


def test_conditional_gumbels_of_a_sample_are_gumbels(rng):
    logits = np.broadcast_to(THETA, (20_000, 3))
    D = sample_categorical(logits, rng)
    x = conditional_gumbels(logits, D, rng.standard_exponential((1, 20_000, 3)))[0]
    for j, location in enumerate(THETA):
        assert kstest(x[:, j], gumbel_r(location).cdf).pvalue > ALARM / 3


@pytest.mark.parametrize("D", CORNERS)
def test_eq_9_as_it_is_printed(D, rng):
    E = rng.standard_exponential((50, 3))
    i = D.argmax()
    Z = np.exp(THETA).sum()
    expected = -np.log(E / np.exp(THETA) + E[:, [i]] / Z)
    expected[:, i] = -np.log(E[:, i]) + np.log(Z)
    np.testing.assert_allclose(conditional_gumbels(THETA, D, E), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(seed=st.integers(0, 2**32), scale=st.floats(0, 300), n=st.integers(1, 8))
def test_the_selected_category_wins(dtype, seed, scale, n):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(4, n))).astype(dtype)
    D = np.eye(n, dtype=dtype)[rng.integers(n, size=4)]
    E = rng.standard_exponential((3, 4, n), dtype=dtype)
    E[0] = 0
    x = conditional_gumbels(logits, D, E)
    assert x.shape == E.shape
    assert x.dtype == dtype
    assert np.isfinite(x).all()
    np.testing.assert_array_equal((x * D).sum(axis=-1), x.max(axis=-1))


def test_a_shift_moves_the_located_gumbels_by_as_much(rng):
    E = rng.standard_exponential((5, 3), dtype=np.float32)
    logits, D = np.float32([0.25, -0.75, 1.125]), CORNERS[0]
    x = conditional_gumbels(logits, D, E)
    for shift in np.float32([1000, -1000]):
        shifted = conditional_gumbels(logits + shift, D, E)
        np.testing.assert_allclose(shifted - shift, x, atol=1.3e-4)  # two units in the last place


def test_an_impossible_category_stays_impossible(rng):
    logits = np.array([0.0, -np.inf, 1.0])
    x = conditional_gumbels(logits, CORNERS[0], rng.standard_exponential((5, 3)))
    assert (x[:, 1] == -np.inf).all()
    assert np.isfinite(x[:, [0, 2]]).all()
    assert (sample_gumbels(np.broadcast_to(logits, (5, 3)), rng)[:, 1] == -np.inf).all()


@pytest.mark.parametrize("tau", [1e-3, 0.1, 1 / 3, 0.5, 0.7, 1.0, 2.0, 1e3])
@pytest.mark.parametrize(("n", "scale"), [(2, 1), (3, 30), (10, 300), (1000, 8)])
def test_ratio_form_is_eq_9(tau, n, scale, rng):
    logits = scale * rng.normal(size=n)
    i = int(rng.integers(n))
    D = np.eye(n)[i]
    E = rng.standard_exponential((20, n))
    x = conditional_gumbels(logits, D, E)
    expected = np.where(D == 1, 0, np.exp((x - x[:, [i]]) / tau))
    others = np.where(D == 1, -np.inf, log_softmax(logits))
    weights = relaxed_weights(others, E.copy(), E[:, [i]], tau)
    # x carries an absolute error of about eps |x|, which the exponential multiplies by 1 / tau.
    error = 4 * np.finfo(float).eps * (1 + np.abs(x).max()) / tau
    np.testing.assert_allclose(weights, expected, rtol=error + 1e-13, atol=1e-290)


@pytest.mark.parametrize("tau", [1e-3, 1.0, 1e3])
def test_ratio_form_meets_draws_of_zero(tau):
    log_pi = np.float32([-np.inf, np.log(0.5), -2000, -np.inf])
    floor = np.float32(2.0**-28)
    E = np.full((1, 4), floor)
    weights = relaxed_weights(log_pi, E, np.full((1, 1), floor), tau)
    assert np.isfinite(weights).all()
    assert ((weights >= 0) & (weights <= 1)).all()
    assert weights[0, 0] == weights[0, 3] == 0


def test_rejection_gives_up_on_a_hopeless_category(rng):
    with pytest.raises(
        ValueError, match=r"rejection found 0 of 5 samples in \d+ draws; .* max_draws"
    ):
        rejection_gumbels(
            np.array([0.0, -50.0]), np.array([0.0, 1.0]), num_samples=5, rng=rng, max_draws=20_000
        )


def test_rejection_takes_one_variable(rng):
    with pytest.raises(ValueError, match=r"one variable of shape \(n,\), got \(2, 3\)"):
        rejection_gumbels(np.zeros((2, 3)), np.eye(2, 3), num_samples=5, rng=rng)
