"""The named test functions: derivatives against autograd, the programme against enumeration."""

import autograd
import numpy as np
import pytest

from rbst import exact_expectation, exact_gradient, sample_categorical, softmax
from rbst.problems import (
    PROBLEMS,
    get_problem,
    programme,
    programme_direct,
    programme_gradient,
    programme_matrix,
    programme_value,
)

SHAPES = [(1, 3), (3, 2), (2, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("where", ["corner", "inside"])
def test_derivative_matches_autograd(name, shape, where):
    rng = np.random.default_rng(1)
    logits = 0.3 * rng.normal(size=shape)
    problem = get_problem(name, logits)
    for _ in range(3):
        D = (
            sample_categorical(logits, rng)
            if where == "corner"
            else softmax(rng.normal(size=shape))
        )
        expected = autograd.grad(problem.f)(D)
        np.testing.assert_allclose(problem.df_dD(D), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PROBLEMS)
def test_batches_dtypes_and_order_of_axes(name):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(2, 3))
    problem = get_problem(name, logits.astype(np.float32))
    D = sample_categorical(np.broadcast_to(logits, (4, 5, 2, 3)).astype(np.float32), rng)
    cost, gradient = problem.f(D), problem.df_dD(D)
    assert cost.shape == (4, 5)
    assert gradient.shape == D.shape
    assert cost.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(cost[1, 2], problem.f(D[1, 2]), rtol=1e-5)
    np.testing.assert_allclose(gradient[1, 2], problem.df_dD(D[1, 2]), rtol=1e-5)


def test_quadratic_and_quartic_have_their_degree():
    """Along a line, the second (fourth) derivative is constant and the third (fifth) is nothing."""
    rng = np.random.default_rng(3)
    D, direction = softmax(rng.normal(size=(2, 4))), rng.normal(size=(2, 4))
    steps = np.arange(6.0)[:, None, None]
    for name, degree in [("linear", 1), ("quadratic", 2), ("quartic", 4)]:
        values = get_problem(name, D).f(D + steps * direction)
        assert abs(np.diff(values, degree)).min() > 1e-3
        np.testing.assert_allclose(np.diff(values, degree + 1), 0, atol=1e-9)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="choose one of linear, quadratic, quartic, programme"):
        get_problem("cubic", np.zeros((1, 3)))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_programme_is_the_expectation_of_its_reframing(n):
    logits = 0.7 * np.random.default_rng(4).normal(size=(1, n))
    p = softmax(logits)
    expectation = exact_expectation(programme(p).f, logits)
    np.testing.assert_allclose(expectation, programme_value(p)[0], rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_score_part_and_direct_term_add_up_to_the_gradient_of_the_programme(n):
    """d/dtheta E[f(D, theta)] = (gradient at fixed A) + E[direct term] = gradient of the programme."""
    logits = 0.7 * np.random.default_rng(5).normal(size=(1, n))
    p = softmax(logits)
    fixed_A = exact_gradient(programme(p).f, logits)[0]
    direct = p[0] @ programme_direct(np.broadcast_to(p, (n, n)), np.eye(n))
    np.testing.assert_allclose(fixed_A + direct, programme_gradient(p)[0], atol=1e-13)
    through_logits = autograd.grad(lambda theta: programme_value(softmax(theta))[0])(logits)
    np.testing.assert_allclose(programme_gradient(p), through_logits, atol=1e-14)


@pytest.mark.parametrize("inside", [False, True])
def test_direct_term_matches_autograd(inside):
    rng = np.random.default_rng(6)
    logits = 0.5 * rng.normal(size=(1, 3))
    D = softmax(rng.normal(size=(1, 3))) if inside else np.array([[0.0, 1.0, 0.0]])
    expected = autograd.grad(lambda theta: programme(softmax(theta)).f(D))(logits)
    np.testing.assert_allclose(programme_direct(softmax(logits), D), expected, rtol=1e-11)


def test_optimum_is_the_centroid():
    c = np.full((1, 3), 1 / 3)
    assert programme_value(c)[0] == 0
    np.testing.assert_array_equal(programme_matrix(c), 0)
    rng = np.random.default_rng(7)
    assert (programme_value(rng.dirichlet(np.ones(3), size=1000)) > 0).all()


def test_matrix_is_singular_on_the_lines_p_k_is_two_thirds():
    def largest(distance):
        return abs(programme_matrix(np.array([2 / 3 - distance, 0.2, 2 / 15 + distance]))).max()

    assert largest(1e-3) / largest(1e-2) == pytest.approx(10, rel=0.1)
    with pytest.raises(ValueError, match="singular where two probabilities sum to 1/n"):
        programme_matrix(np.array([1 / 8, 1 / 8, 1 / 4, 1 / 2]))
