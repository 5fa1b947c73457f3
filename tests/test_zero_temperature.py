"""ZGR and ReinMax: each other, the limit they come from, and what they are unbiased for."""

import numpy as np
import pytest
from autograd import elementwise_grad
from hypothesis import given
from hypothesis import strategies as st
from oracles import THETA, exact_mean, quadratic, quartic

from rbst import exact_gradient, exact_gumbel_rao, get_estimator, reinmax, straight_through, zgr
from rbst.categorical import one_hot, softmax


def random_problem(seed, n):
    rng = np.random.default_rng(seed)
    logits, g = rng.normal(scale=3, size=(5, n)), rng.normal(size=(5, n))
    return logits, one_hot(rng.integers(n, size=5), n), g


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
    for tau in (1e-2, 1e-3, 1e-4):
        cold = exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-9)
        assert cold == pytest.approx(zgr(logits, D, g), abs=20 * tau)


def test_zgr_is_unbiased_for_a_quadratic_and_biased_for_a_quartic():
    bias = {}
    for f in (quadratic, quartic):
        mean = exact_mean(get_estimator("zgr"), f, elementwise_grad(f), THETA[None])
        bias[f] = np.abs(mean - exact_gradient(f, THETA[None])).max()
    assert bias[quadratic] < 1e-14
    assert bias[quartic] > 0.1


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gr_by_name_is_the_exact_estimator(tau):
    logits, D, g = random_problem(4, 3)
    estimator = get_estimator("gr", tau=tau, rtol=1e-9)
    expected = exact_gumbel_rao(logits, D, g, tau=tau, rtol=1e-9)
    assert np.array_equal(estimator.pull_back(logits, D, g, None), expected)
    with pytest.raises(ValueError, match="rtol"):
        get_estimator("gr", rtol=1e-13)
