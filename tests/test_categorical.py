"""Probabilities, their derivatives, and one-hot samples."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import ALARM, THETA
from scipy import special
from scipy.stats import chi2

from rbst import log_probability, log_softmax, sample_categorical, softmax
from rbst.categorical import log_probability_vjp, one_hot, positive, softmax_vjp

SHAPES = [(2,), (3,), (2, 3, 10), (2, 100), (1, 1000)]
DTYPES = ["float32", "float64"]

logits_of_any_shape = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(-1000, 1000),
)


def tolerance(dtype):
    return 2e-5 if dtype == "float32" else 1e-12


@given(logits_of_any_shape, st.floats(1e-3, 1e3))
def test_softmax_is_that_of_scipy(logits, tau):
    np.testing.assert_allclose(
        softmax(logits, tau), special.softmax(logits / tau, axis=-1), rtol=1e-9, atol=1e-12
    )


@given(logits_of_any_shape)
def test_log_softmax_is_that_of_scipy(logits):
    np.testing.assert_allclose(
        log_softmax(logits), special.log_softmax(logits, axis=-1), rtol=1e-13, atol=1e-12
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_vjp_is_the_derivative_of_softmax(shape, dtype, rng):
    logits, g = rng.normal(size=(2, *shape)).astype(dtype)
    expected = autograd.grad(lambda theta: anp.sum(softmax(theta) * g))(logits)
    result = softmax_vjp(softmax(logits), g)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype))


@pytest.mark.parametrize("tau", [0.2, 1.0, 5.0])
def test_softmax_vjp_agrees_with_finite_differences(tau, rng):
    logits, g, direction = rng.normal(size=(3, 4, 6))
    step = 1e-6 * direction
    difference = (softmax(logits + step, tau) - softmax(logits - step, tau)) / 2e-6
    derivative = softmax_vjp(softmax(logits, tau), g) / tau
    np.testing.assert_allclose((derivative * direction).sum(), (difference * g).sum(), rtol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_log_probability_vjp_is_its_derivative(shape, dtype, rng):
    logits = rng.normal(size=shape).astype(dtype)
    D = sample_categorical(logits, rng)
    g = rng.normal(size=shape[:-1])  # float64, and must not widen the result
    expected = autograd.grad(lambda theta: anp.sum(g * anp.sum(log_softmax(theta) * D, axis=-1)))(
        logits
    )
    result = log_probability_vjp(logits, D, g)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype))


def test_log_probability_beside_an_impossible_category():
    logits = np.array([0.0, -np.inf, np.log(3.0)])
    D = np.array([0.0, 0.0, 1.0])
    assert log_probability(logits, D) == pytest.approx(np.log(0.75))
    np.testing.assert_allclose(log_probability_vjp(logits, D, np.float64(1)), [-0.25, 0, 0.25])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [0, 1000, -1000])
def test_samples_have_the_probabilities(dtype, shift, rng):
    logits = (np.array([0.25, -0.75, 1.125, -4.0, -np.inf]) + shift).astype(dtype)
    draws = 10**5
    D = sample_categorical(np.broadcast_to(logits, (draws, 5)), rng)
    assert D.dtype == dtype
    assert set(np.unique(D)) == {0, 1}
    np.testing.assert_array_equal(D.sum(axis=-1), 1)
    counts, expected = D.sum(axis=0), draws * softmax(logits.astype(np.float64))
    assert counts[4] == 0
    statistic = ((counts - expected)[:4] ** 2 / expected[:4]).sum()
    assert statistic < chi2.isf(ALARM, df=3)


def test_a_shift_of_float32_logits_changes_no_sample():
    logits = np.broadcast_to(np.float32([0.25, -0.75, 1.125]), (2 * 10**5, 3))
    samples = [
        sample_categorical(logits + np.float32(shift), np.random.default_rng(0))
        for shift in (0, 1000, -1000)
    ]
    np.testing.assert_array_equal(samples[0], samples[1])
    np.testing.assert_array_equal(samples[0], samples[2])


class FixedDraws:
    """A generator whose exponentials are given."""

    bit_generator = None

    def __init__(self, exponentials):
        self.exponentials = exponentials

    def standard_exponential(self, size, dtype):
        return np.broadcast_to(np.asarray(self.exponentials, dtype), size).copy()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_draw_of_zero_does_not_elect_a_hopeless_category(dtype):
    logits = np.array([0.0, -60.0], dtype)
    np.testing.assert_array_equal(sample_categorical(logits, FixedDraws([1.0, 0.0])), [1, 0])
    # A floor at the smallest normal number, a Gumbel of 87, would elect it.
    assert -60 - np.log(np.finfo(np.float32).tiny) > 0


def test_the_floor_is_below_the_smallest_positive_draw():
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        draws = rng.standard_exponential(2**22, dtype=dtype)
        np.testing.assert_array_equal(positive(draws)[draws > 0], draws[draws > 0])
        # First layer of the ziggurat: .0638 of a grid of 23 bits in float32 and of 53 in float64.
        smallest = 0.0638 * 2.0 ** (-23 if dtype == "float32" else -53)
        assert 0 < positive(np.zeros(1, dtype))[0] < smallest


def test_all_draws_zero_leave_the_most_probable():
    np.testing.assert_array_equal(sample_categorical(THETA, FixedDraws([0.0])), [0, 0, 1])


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_one_hot(shape, rng):
    index = rng.integers(5, size=shape)
    D = one_hot(index, 5, "float32")
    assert D.shape == (*shape, 5)
    assert D.dtype == "float32"
    np.testing.assert_array_equal(D.argmax(axis=-1), index)
    np.testing.assert_array_equal(D.sum(axis=-1), 1)


def test_an_empty_batch_and_a_single_category():
    assert sample_categorical(np.zeros((0, 3)), np.random.default_rng(0)).shape == (0, 3)
    assert softmax(np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_array_equal(softmax(np.array([-7.0])), [1])
    np.testing.assert_array_equal(log_softmax(np.array([-7.0])), [0])
