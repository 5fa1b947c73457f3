"""ZGR and ReinMax: each other, the limit they come from, and what they are unbiased for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import exact_mean

from rbst import exact_gradient, exact_gumbel_rao, get_estimator, reinmax, straight_through, zgr
from rbst.categorical import one_hot, softmax


def random_problem(seed, n, dtype=np.float64):
    rng = np.random.default_rng(seed)
    logits, g = rng.normal(scale=3, size=(5, n)), rng.normal(size=(5, n))
    return logits.astype(dtype), one_hot(rng.integers(n, size=5), n, dtype), g.astype(dtype)


@given(st.integers(0, 999), st.integers(1, 12))
def test_reinmax_at_temperature_one_is_zgr_for_each_sample(seed, n):
    logits, D, g = random_problem(seed, n)
    assert reinmax(logits, D, g) == pytest.approx(zgr(logits, D, g), abs=1e-13)


def test_reinmax_at_other_temperatures_is_its_formula():
    logits, D, g = random_problem(0, 4)
    q = (softmax(logits, 0.7) + D) / 2
    J = np.einsum("va,ab->vab", q, np.eye(4)) - np.einsum("va,vb->vab", q, q)
    expected = 2 * np.einsum("vab,vb->va", J, g) - straight_through(logits, D, g) / 2
    assert reinmax(logits, D, g, tau=0.7) == pytest.approx(expected, abs=1e-14)
    assert np.abs(reinmax(logits, D, g, tau=0.7) - zgr(logits, D, g)).max() > 1e-3


def test_zgr_is_half_of_straight_through_and_darn():
    """DARN: REINFORCE on f(D) - f(pi), to first order."""
    logits, D, g = random_problem(2, 6)
    pi = softmax(logits)
    darn = (D - pi) * ((D - pi) * g).sum(axis=-1, keepdims=True)
    expected = (straight_through(logits, D, g) + darn) / 2
    assert zgr(logits, D, g) == pytest.approx(expected, abs=1e-14)


def test_zgr_is_the_limit_of_gumbel_rao():
    logits, D, g = random_problem(3, 5)
    distance = [
        np.abs(exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-9) - zgr(logits, D, g)).max()
        for tau in (1e-1, 1e-2, 1e-3)
    ]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-2


QUADRATIC = np.array([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.3], [0.5, 0.3, -1.5]])
LOGITS = np.array([[0.3, -0.7, 1.1]])


def quadratic(D):
    return np.einsum("...la,ab,...lb->...", D, QUADRATIC, D) + 3 * D[..., 0, 0]


def quadratic_gradient(D):
    return 2 * D @ QUADRATIC + np.array([3.0, 0.0, 0.0])


def quartic(D):
    return quadratic(D) ** 2


def quartic_gradient(D):
    return 2 * quadratic(D)[..., None, None] * quadratic_gradient(D)


def test_zgr_is_unbiased_for_a_quadratic_and_biased_for_a_quartic():
    zgr_by_name = get_estimator("zgr")
    mean = exact_mean(zgr_by_name, quadratic, quadratic_gradient, LOGITS)
    assert mean == pytest.approx(exact_gradient(quadratic, LOGITS), abs=1e-14)
    mean = exact_mean(zgr_by_name, quartic, quartic_gradient, LOGITS)
    assert np.abs(mean - exact_gradient(quartic, LOGITS)).max() > 0.1


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gr_by_name_is_the_exact_estimator(tau):
    logits, D, g = random_problem(4, 3)
    estimator = get_estimator("gr", tau=tau, rtol=1e-9)
    expected = exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-9)
    assert np.array_equal(estimator.pull_back(logits, D, g, None), expected)
    with pytest.raises(ValueError, match="rtol"):
        get_estimator("gr", rtol=1e-13)


def test_single_precision_stays_single():
    logits, D, g = random_problem(5, 4, np.float32)
    for estimate in (zgr(logits, D, g), reinmax(logits, D, g, tau=0.5)):
        assert estimate.dtype == np.float32
        assert np.abs(estimate.sum(axis=-1)).max() < 1e-5


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_reinmax_wants_a_positive_temperature(tau):
    logits, D, g = random_problem(6, 3)
    with pytest.raises(ValueError, match="tau"):
        reinmax(logits, D, g, tau=tau)
