"""The oracle itself, against explicit loops, closed forms and finite differences."""

from itertools import product

import numpy as np
import pytest
from oracles import linear, quadratic, quartic

from rbst import exact_expectation, exact_gradient, softmax
from rbst.categorical import softmax_vjp
from rbst.enumeration import count_outcomes, enumerate_outcomes


@pytest.mark.parametrize(("L", "n"), [(1, 1), (1, 4), (2, 3), (3, 2)])
def test_outcomes_are_all_there_with_their_probabilities(L, n, rng):
    logits = rng.normal(size=(L, n))
    pi = softmax(logits)
    seen = [
        (tuple(outcome.argmax(axis=-1)), probability)
        for D, p in enumerate_outcomes(logits)
        for outcome, probability in zip(D, p, strict=True)
    ]
    assert [index for index, _ in seen] == list(product(range(n), repeat=L))
    for index, probability in seen:
        assert probability == pytest.approx(np.prod([pi[v, k] for v, k in enumerate(index)]))
    assert sum(probability for _, probability in seen) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("f", [linear, quadratic, quartic])
@pytest.mark.parametrize(("L", "n"), [(1, 2), (1, 4), (2, 3), (3, 2)])
def test_gradient_is_the_derivative_of_the_expectation(f, L, n, rng):
    logits, direction = rng.normal(size=(2, L, n))
    step = 1e-5 * direction
    difference = (exact_expectation(f, logits + step) - exact_expectation(f, logits - step)) / 2e-5
    gradient = exact_gradient(f, logits)
    assert (gradient * direction).sum() == pytest.approx(difference, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize(("L", "n"), [(1, 4), (4, 3), (15, 2)])  # 2**15 outcomes are two blocks
def test_linear_closed_form(L, n, rng):
    logits, slopes = rng.normal(size=(2, L, n))

    def f(D):
        return (D * slopes).sum(axis=(-2, -1))

    pi = softmax(logits)
    assert exact_expectation(f, logits) == pytest.approx((pi * slopes).sum())
    np.testing.assert_allclose(exact_gradient(f, logits), softmax_vjp(pi, slopes), atol=1e-12)


def test_a_large_constant_in_f_costs_no_digits(rng):
    logits = rng.normal(size=(2, 3))
    shifted = exact_gradient(lambda D: linear(D) + 1e6, logits)
    np.testing.assert_allclose(shifted, exact_gradient(linear, logits), atol=1e-9)


def test_float32_logits_get_float64_probabilities_and_a_float32_gradient(rng):
    logits = (64 * rng.normal(size=(2, 3))).astype(np.float32)
    D, probability = next(enumerate_outcomes(logits))
    assert (D.dtype, probability.dtype) == (np.float32, np.float64)
    assert probability.sum() == pytest.approx(1, abs=1e-14)
    assert exact_gradient(linear, logits).dtype == np.float32
    np.testing.assert_allclose(
        exact_gradient(linear, logits), exact_gradient(linear, logits.astype(np.float64)), rtol=1e-6
    )


@pytest.mark.parametrize("shift", [-1000, 0, 1000])
def test_impossible_categories_and_shifts(shift):
    logits = np.array([[0.0, -np.inf, 1.0], [2.0, 0.0, -np.inf]]) + shift
    pi = softmax(np.array([[0.0, -np.inf, 1.0], [2.0, 0.0, -np.inf]]))
    slopes = np.outer([1, 2], [1, 2, 4])
    np.testing.assert_allclose(exact_gradient(linear, logits), softmax_vjp(pi, slopes), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "size"), [((24, 2), "16,777,216"), ((8, 10), "100,000,000"), ((3000, 2), "10..903")]
)
def test_too_many_outcomes_are_counted_and_refused(shape, size):
    with pytest.raises(ValueError, match=rf"{size} joint outcomes, .* fewer variables, or sample"):
        exact_gradient(linear, np.zeros(shape))


def test_the_largest_problem_that_is_taken():
    assert count_outcomes(np.zeros((7, 10))) == 10**7


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_logits_are_variables_times_categories(shape):
    with pytest.raises(ValueError, match=r"must have shape \(L, n\)"):
        exact_expectation(linear, np.zeros(shape))


@pytest.mark.parametrize("f", [lambda D: 1.0, lambda D: D.sum(axis=-1), lambda D: D.sum()])
def test_costs_have_one_entry_an_outcome(f):
    with pytest.raises(ValueError, match=r"f must map arrays .* got .*; sum over the last two"):
        exact_gradient(f, np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_cost_without_a_value_where_no_sample_lands_is_no_fault(value, rng):
    """Logits (-inf, 0, 1): f may be anything where the first category is selected."""
    logits = np.array([[-np.inf, 0.0, 1.0], [0.5, -np.inf, -np.inf]])

    def f(D):
        return np.where((D[..., 0, 0] == 1) | (D[..., 1, 0] == 0), value, linear(D))

    assert count_outcomes(logits) == 2
    assert exact_expectation(f, logits) == exact_expectation(linear, logits)
    np.testing.assert_array_equal(exact_gradient(f, logits), exact_gradient(linear, logits))
    for D, probability in enumerate_outcomes(logits):
        assert (probability > 0).all()
        assert not D[:, 0, 0].any()


def test_an_outcome_too_rare_for_a_float_is_left_out():
    logits = np.array([[0.0, -800.0, 1.0]])
    assert exact_expectation(lambda D: np.where(D[..., 0, 1], np.inf, 2.0), logits) == 2.0
    np.testing.assert_array_equal(exact_gradient(lambda D: 1 / (1 - D[..., 0, 1]), logits), 0)


def test_impossible_categories_count_for_nothing_in_the_size_of_a_problem():
    logits = np.zeros((30, 3))
    logits[:, 1:] = -np.inf
    logits[:3, 1] = 0
    assert count_outcomes(logits) == 8
    logits[:, 1] = 0
    with pytest.raises(ValueError, match="30 variables of 3 categories have 1,073,741,824 joint"):
        count_outcomes(logits)


@pytest.mark.parametrize(
    ("value", "error", "came"),
    [
        (np.nan, ValueError, "finite, got NaN"),
        (np.inf, ValueError, "finite, got an infinity"),
        (1j, TypeError, "real numbers, got complex128"),
        ("a", TypeError, "real numbers, got <U1"),
    ],
)
def test_costs_are_finite_real_numbers(value, error, came):
    for exact in (exact_expectation, exact_gradient):
        with pytest.raises(error, match=f"the value of f must .*{came}.*;"):
            exact(lambda D: np.full(D.shape[:-2], value), np.zeros((1, 3)))
        with pytest.raises(TypeError, match="mask"):
            exact(lambda D: np.ma.masked_less(D[..., 0, 0], 1), np.zeros((1, 3)))


def test_lists_of_logits_are_taken():
    logits = [[0.5, 0.0], [0.25, 1.0]]
    assert exact_expectation(linear, logits) == exact_expectation(linear, np.array(logits))
    np.testing.assert_array_equal(
        exact_gradient(linear, logits), exact_gradient(linear, np.array(logits))
    )


def test_no_variables_are_no_problem_to_enumerate():
    with pytest.raises(ValueError, match=r"L >= 1 variables .* got \(0, 3\); give"):
        exact_gradient(linear, np.zeros((0, 3)))


@pytest.mark.parametrize("gap", [20.0, 30.0, 38.0, 300.0])
@pytest.mark.parametrize("constant", [0.0, 1.0, -7.0])
def test_the_gradient_of_what_is_nearly_certain_has_no_rounding_of_the_cost(gap, constant):
    gradient = exact_gradient(lambda D: constant + D[..., 0, 1], np.array([[gap, 0.0]]))
    right = np.exp(-gap) / (1 + np.exp(-gap)) ** 2
    np.testing.assert_allclose(gradient, [[-right, right]], rtol=1e-12)
