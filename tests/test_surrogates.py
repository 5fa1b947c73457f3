"""Gapped and decoupled straight-through, and the table of least variance: formulas, limits, identities."""

from fractions import Fraction

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_mean, assert_same_mean

from rbst import exact_gradient, get_estimator, gumbel_softmax, straight_through, zgr
from rbst.categorical import one_hot, softmax
from rbst.estimators.gapped import (
    decoupled_gumbel_softmax,
    gapped_straight_through,
    sample_decoupled,
)
from rbst.estimators.minimum_variance import minimum_variance
from rbst.gumbel import conditional_gumbels, sample_gumbels

LOGITS, G = np.log([0.2, 0.3, 0.5]), np.array([1.0, 2.0, 4.0])
STANDARD_ERRORS = 5  # a false alarm in one comparison of 1.7 million


@pytest.mark.parametrize("gap", [1.0, 0.3, None])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_gst_is_the_derivative_of_its_surrogate_with_the_moves_held(gap, k):
    D, tau = np.eye(3)[k], 0.7
    width = gap if gap is not None else -np.log(1 - softmax(LOGITS)[k]) / softmax(LOGITS)[k]
    m1 = (LOGITS.max() - LOGITS[k]) * D
    m2 = (1 - D) * np.maximum(0, LOGITS - LOGITS.max() + width)
    assert np.delete(LOGITS + m1 - m2, k).max() <= (LOGITS + m1 - m2)[k] - width + 1e-12

    def surrogate(theta):
        return softmax((theta + m1 - m2) / tau) @ G

    step = 1e-6
    numeric = [
        (surrogate(LOGITS + step * e) - surrogate(LOGITS - step * e)) / (2 * step)
        for e in np.eye(3)
    ]
    result = gapped_straight_through(LOGITS, D, G, tau=tau, gap=gap)
    np.testing.assert_allclose(result, numeric, atol=1e-9)


def test_the_second_gap_is_the_mean_lead_of_the_winner_of_a_race():
    """Given that category k wins, its located Gumbel leads by -log(1 - pi_k) / pi_k on average."""
    rng = np.random.default_rng(0)
    for k, pi_k in enumerate(softmax(LOGITS)):
        E = rng.standard_exponential((200_000, 3))
        x = conditional_gumbels(LOGITS, np.eye(3)[k], E)
        lead = x[:, k] - np.delete(x, k, axis=1).max(axis=1)
        assert_mean(lead, -np.log(1 - pi_k) / pi_k)


def test_the_second_gap_survives_a_certain_category():
    for dtype in (np.float32, np.float64):
        logits = np.array([0.0, -800.0, -np.inf], dtype)
        D, g = np.eye(3, dtype=dtype)[0], np.array([1.0, 2.0, 3.0], dtype)
        result = gapped_straight_through(logits, D, g, tau=0.5, gap=None)
        assert result.dtype == dtype
        assert np.isfinite(result).all()
        assert result.sum() == 0


def test_a_hard_forward_pass_makes_decoupled_st_gs_into_st_gs():
    """Its law given D: mean and covariance of 200,000 draws of each."""
    rng = np.random.default_rng(1)
    logits = np.broadcast_to(LOGITS, (200_000, 3))
    D, x = sample_decoupled(logits, rng)
    assert (one_hot(x.argmax(axis=-1), 3) == D).all()
    ours = decoupled_gumbel_softmax(logits, x, np.broadcast_to(G, x.shape), tau=0.5)
    theirs = get_estimator("st-gs", tau=0.5).pull_back(logits, D, np.broadcast_to(G, x.shape), rng)
    for k in range(3):
        a, b = ours[D[:, k] == 1], theirs[D[:, k] == 1]
        assert_same_mean(a, b)
        # The variance of a variance of these draws is below 60 times its square over their number.
        spread = a.var(axis=0).sum() / b.var(axis=0).sum()
        assert abs(np.log(spread)) < STANDARD_ERRORS * np.sqrt(120 / len(a))


def test_equal_temperatures_make_decoupled_st_gs_into_gs():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(50, 4))
    x = sample_gumbels(logits, rng)
    S, df_dS = softmax(x, 0.5), rng.normal(size=(50, 4))
    ours = decoupled_gumbel_softmax(logits, x, df_dS, tau=0.5)
    np.testing.assert_allclose(ours, gumbel_softmax(logits, S, df_dS, tau=0.5), rtol=1e-12)


# The table of least variance.


def solved(A, B):
    """A v = B in fractions."""
    rows = [[*a, *b] for a, b in zip(A, B, strict=True)]
    for c in range(len(A)):
        rows[c:] = sorted(rows[c:], key=lambda row: -abs(row[c]))
        for r in range(len(A)):
            if r != c:
                q = rows[r][c] / rows[c][c]
                rows[r] = [x - q * y for x, y in zip(rows[r], rows[c], strict=True)]
    return [[x / rows[c][c] for x in rows[c][len(A) :]] for c in range(len(A))]


def table(pi, lam):
    """S_k of the definition, entry by entry, in fractions: without rounding."""
    n, lam = range(len(pi)), Fraction(lam)
    pi = [Fraction(float(p)) for p in pi]
    pi = [p / sum(pi) for p in pi]
    J = [[pi[i] * ((i == j) - pi[j]) for j in n] for i in n]
    scale = [[1 + lam * (pi[i] + pi[j]) for j in n] for i in n]
    A = [[-lam * pi[i] * pi[j] / scale[i][j] for j in n] for i in n]
    for i in n:
        A[i][i] += (1 + lam * pi[i]) * sum(pi[j] / scale[i][j] for j in n)
    v = solved(A, [[(1 + lam * pi[i]) / scale[i][i] * J[i][j] for j in n] for i in n])
    return [
        [
            [
                (v[i][j] + lam * (pi[i] * (v[i][j] - v[k][j]) + (i == k) * J[k][j])) / scale[i][k]
                for j in n
            ]
            for i in n
        ]
        for k in n
    ]


@given(st.integers(0, 999), st.integers(2, 7), st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_mve_is_its_definition(seed, n, regularization):
    rng = np.random.default_rng(seed)
    logits, g = rng.normal(scale=2, size=n), rng.normal(size=n)
    S = np.array(table(softmax(logits), regularization), float)
    for k in range(n):
        result = minimum_variance(logits, np.eye(n)[k], g, regularization=regularization)
        np.testing.assert_allclose(result, S[k].T @ g, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regularization", [0.0, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e18, 1e36, 1e300])
def test_mve_keeps_its_digits_at_any_regularization(regularization, dtype):
    """Its equations are nearly singular where the regularization is large."""
    rng = np.random.default_rng(0)
    for spread in (1.0, 5.0, 20.0):
        logits = (spread * rng.normal(size=4)).astype(dtype)
        g = rng.normal(size=4).astype(dtype)
        S = table(np.exp(np.float64(logits) - logits.max()), regularization)
        for k in range(4):
            exact = [
                float(sum(S[k][i][j] * Fraction(float(g[i])) for i in range(4))) for j in range(4)
            ]
            D = np.eye(4, dtype=dtype)[k]
            result = minimum_variance(logits, D, g, regularization=regularization)
            tolerance = 100 * np.finfo(dtype).eps * np.abs(exact).max()
            np.testing.assert_allclose(result, exact, rtol=0, atol=tolerance)


def test_mve_of_one_category_is_zero_at_any_regularization():
    for dtype in ("float32", "float64"):
        one = np.ones(1, dtype)
        assert minimum_variance(0 * one, one, one, regularization=1.7e308) == 0


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3)])
def test_mve_is_differentiated_in_the_logits(shape):
    rng = np.random.default_rng(0)
    logits, g, v = rng.normal(size=(3, *shape))
    D = one_hot(rng.integers(3, size=shape[:-1]), 3)

    def square(x):
        return anp.sum(minimum_variance(x, D, g) ** 2)

    h = 1e-6 * v
    slope = (square(logits + h) - square(logits - h)) / 2e-6
    assert (grad(square)(logits) * v).sum() == pytest.approx(slope, rel=1e-6)


def test_without_regularization_mve_is_straight_through():
    for D in np.eye(3):
        result = minimum_variance(LOGITS, D, G, regularization=0.0)
        np.testing.assert_allclose(result, straight_through(LOGITS, D, G), atol=1e-15)


def test_much_regularization_makes_mve_zgr_for_two_categories():
    logits = np.array([0.3, -0.9])
    for D in np.eye(2):
        result = minimum_variance(logits, D, G[:2], regularization=1e9)
        np.testing.assert_allclose(result, zgr(logits, D, G[:2]), rtol=1e-7)


def test_regularization_trades_bias_for_quadratic_f_against_variance():
    rng = np.random.default_rng(3)
    Q = rng.normal(size=(3, 3))
    Q += Q.T

    def quadratic(D):
        return np.einsum("...la,ab,...lb->...", D, Q, D) / 2

    pi, exact = softmax(LOGITS), exact_gradient(quadratic, LOGITS[None])[0]
    bias, spread = [], []
    for regularization in (0.0, 1.0, 10.0, 1e3, 1e8):
        S = np.array(table(pi, regularization), float)
        mean = sum(pi[k] * S[k].T @ Q[k] for k in range(3))
        bias.append(np.linalg.norm(mean - exact))
        # The mean square of the estimate for g of independent entries of variance one.
        spread.append(sum(pi[k] * (S[k] ** 2).sum() for k in range(3)))
    assert (np.diff(bias) < 0).all()
    assert bias[-1] < 1e-7
    assert (np.diff(spread) > 0).all()
    zgr_rows = [np.array([zgr(LOGITS, D, e) for e in np.eye(3)]) for D in np.eye(3)]
    zgr_spread = sum(p * (rows**2).sum() for p, rows in zip(pi, zgr_rows, strict=True))
    assert spread[-1] < zgr_spread  # the least variance among those unbiased for quadratic f


def test_mve_refuses_a_negative_regularization():
    with pytest.raises(ValueError, match=r"regularization must be finite and at least 0, got -1"):
        minimum_variance(LOGITS, np.eye(3)[0], G, regularization=-1)


@pytest.mark.parametrize(("dtype", "ahead"), [("float32", 15.0), ("float64", 39.0)])
def test_mve_of_a_rare_sample_keeps_its_digits(dtype, ahead):
    """Rows sum to zero, as 1 - pi is computed without a difference."""
    logits = np.array([ahead, 0.0], dtype)
    g = np.array([1.0, 3.0], dtype)
    found = minimum_variance(logits, np.eye(2, dtype=dtype)[1], g, regularization=1e6)
    assert abs(found.sum()) < 1e-5 * abs(found).max()
