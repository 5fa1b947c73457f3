"""Every estimator against enumeration, and the wrong versions of some against the same checks.

Properties that all estimators share are parametrised over the registry, so that a new name is held to
them without being mentioned here.
"""

import pickle
import sys
import tracemalloc

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad
from oracles import (
    ALARM,
    ANY_ARITY,
    BOOLEAN,
    NAMES,
    THETA,
    UNBIASED,
    G,
    affordable,
    assert_mean,
    assert_same_covariance,
    assert_same_mean,
    assert_variance,
    coupled_st_gs,
    estimates,
    exact_mean,
    linear,
    logistic_moment,
    quadratic,
    quartic,
)
from scipy.stats import ks_2samp, kstest
from suspects import SUSPECTS, through_eq_9, updated_before_read

from rbst import (
    Estimator,
    RunningMean,
    conditional_gumbels,
    exact_gradient,
    foust,
    get_estimator,
    gumbel_rao,
    gumbel_softmax,
    log_probability,
    rejection_gumbels,
    sample_categorical,
    sample_gumbel_softmax,
    score_function,
    softmax,
    st_gumbel_softmax,
    straight_through,
)
from rbst.categorical import softmax_vjp
from rbst.estimators import ESTIMATORS
from rbst.estimators.relaxed import sample_contraction

SHAPES = [(2,), (3,), (2, 3, 10), (2, 100), (1, 1000)]
DTYPES = ["float32", "float64"]
LOGITS_2 = np.array([[0.4, -0.3], [1.0, 0.2]])
LOGITS_3 = np.array([[0.3, -0.7, 1.1], [0.0, 0.5, -1.0]])


def tolerance(dtype):
    return 1e-4 if dtype == "float32" else 1e-10


# --- Properties of every estimator in the registry ----------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_rows_that_sum_to_zero(name, dtype, rng):
    logits = rng.normal(size=(4, 5, 3, 2)).astype(dtype)
    before = logits.copy()
    gradient = estimates(get_estimator(name, tau=0.7), quadratic, logits, draws=2)
    assert gradient.shape == (2, *logits.shape)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=tolerance(dtype))
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_draws(name):
    estimator = get_estimator(name, tau=0.7)
    first, again, other = (
        estimates(estimator, quadratic, LOGITS_2, 50, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", ANY_ARITY)
def test_relabelling_the_categories_relabels_the_law(name):
    order = [2, 0, 1]
    draws = affordable(name, 20_000)
    estimator = get_estimator(name, tau=0.7)
    inverse = np.argsort(order)
    original = estimates(estimator, quadratic, LOGITS_3, draws, seed=1)[..., order]
    relabelled = estimates(
        estimator, lambda D: quadratic(D[..., inverse]), LOGITS_3[:, order], draws, seed=2
    )
    assert_same_mean(original, relabelled)
    assert_same_mean(original**2, relabelled**2)


@pytest.mark.parametrize("name", ANY_ARITY)
def test_one_category_has_no_gradient(name):
    gradient = estimates(get_estimator(name), quadratic, np.zeros((2, 1)), draws=3)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", sorted(BOOLEAN & set(NAMES)))
def test_boolean_estimators_refuse_three_categories(name):
    with pytest.raises(ValueError, match=r"Boolean .* got .*; for more categories"):
        estimates(get_estimator(name), quadratic, LOGITS_3, draws=3)


@pytest.mark.parametrize("name", NAMES)
def test_the_variables_of_independent_problems_do_not_mix(name):
    """Changing one problem of a batch changes no other, when both see the same noise."""
    estimator = get_estimator(name, tau=0.7)
    changed = np.stack([LOGITS_2, LOGITS_2[::-1] - LOGITS_2[0]])
    same = np.stack([LOGITS_2, LOGITS_2])
    np.testing.assert_array_equal(
        estimates(estimator, quadratic, changed, 20)[:, 0],
        estimates(estimator, quadratic, same, 20)[:, 0],
    )


# --- Means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("f", [linear, quadratic, quartic])
def test_unbiased_estimators_hit_the_exact_gradient(name, f):
    estimator = get_estimator(name, tau=0.7)
    for logits in [LOGITS_2] if name in BOOLEAN else [LOGITS_2, LOGITS_3]:
        assert_mean(estimates(estimator, f, logits, 10**5), exact_gradient(f, logits))


@pytest.mark.parametrize("name", ["st", "st-gs", "gr-mc10", "gs"])
@pytest.mark.parametrize("f", [quadratic, quartic])
def test_the_check_of_the_mean_sees_the_bias_of_the_others(name, f):
    samples = estimates(get_estimator(name, tau=0.5), f, LOGITS_3, 10**5)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(samples, exact_gradient(f, LOGITS_3))


@pytest.mark.parametrize("baseline", [0.0, 3.7])
@pytest.mark.parametrize("f", [linear, quadratic, quartic])
def test_reinforce_is_exact_in_the_mean_for_every_baseline(f, baseline):
    estimator = get_estimator("reinforce", baseline=baseline)
    mean = exact_mean(estimator, f, None, LOGITS_3)
    np.testing.assert_allclose(mean, exact_gradient(f, LOGITS_3), atol=1e-12)


def in_each(polynomial):
    """The product over three variables of a polynomial in each, so that every pair of them interacts."""

    def f(D):
        levels = anp.array([0.3, -1.0, 2.0, 0.7])[: D.shape[-1]]
        factors = polynomial(anp.sum(D * levels, axis=-1))
        return factors[..., 0] * factors[..., 1] * factors[..., 2]

    return f


@pytest.mark.parametrize(("name", "degree"), [("st", 1), ("zgr", 2), ("reinmax", 2)])
def test_the_degree_in_each_variable_up_to_which_an_estimator_is_exact(name, degree):
    """For any number of independent variables; one degree more and there is a bias."""
    polynomials = [None, lambda s: s + 1, lambda s: s**2 - s + 1, lambda s: s**3 + 1]
    logits = np.random.default_rng(0).normal(size=(3, 4))
    biases = []
    for polynomial in polynomials[degree : degree + 2]:
        f = in_each(polynomial)
        exact = exact_gradient(f, logits)
        bias = exact_mean(get_estimator(name), f, elementwise_grad(f), logits) - exact
        biases.append((bias**2).sum() / (exact**2).sum())
    assert biases[0] < 1e-27
    assert biases[1] > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_named_estimator_survives_a_pickle(name):
    """So that it can be handed to another process."""
    estimator = get_estimator(name, tau=0.7, baseline=0.3)
    sent = pickle.loads(pickle.dumps(estimator))
    assert (sent.name, sent.given_D, sent.tau) == (name, estimator.given_D, estimator.tau)
    one, other = (estimates(e, quadratic, LOGITS_2, 5) for e in (estimator, sent))
    np.testing.assert_array_equal(one, other)


def test_straight_through_has_the_bias_of_its_formula():
    """For f = (v'D)^2 / 2, one variable: g = v v'D, hence a mean of J(pi) v v'pi."""
    v, logits = np.array([1.0, 2.0, 4.0]), THETA[None]
    pi = softmax(THETA)
    mean = exact_mean(get_estimator("st"), None, lambda D: v * (D @ v)[..., None], logits)[0]
    np.testing.assert_allclose(mean, softmax_vjp(pi, v) * (v @ pi), atol=1e-12)
    exact = exact_gradient(lambda D: (D @ v)[..., 0] ** 2 / 2, logits)[0]
    np.testing.assert_allclose(exact, softmax_vjp(pi, v**2 / 2), atol=1e-12)
    assert np.abs(mean - exact).max() > 0.1


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", ["st-gs", "gr-mc1", "gr-mc10", "gr-mc100"])
def test_gumbel_rao_has_the_mean_of_coupled_samples(name, tau, rng):
    """The same mean as the definition of ST-GS, one set of Gumbels for both D and S."""
    f_gradient = elementwise_grad(quadratic)
    oracle = coupled_st_gs(lambda D: f_gradient(D[:, None, :])[:, 0], THETA, tau, 2 * 10**5, rng)
    draws = 30_000 if name == "gr-mc100" else 10**5
    samples = estimates(get_estimator(name, tau=tau), quadratic, THETA[None], draws)[:, 0]
    assert_same_mean(samples, oracle)


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", ["st-gs", "gr-mc1", "gr-mc10"])
def test_gumbel_rao_has_the_mean_of_an_integral(name, tau):
    """For n = 2 the mean given D is (g_1 - g_2) times an integral over one logistic variable."""
    delta = 0.7
    logits = np.array([[delta, 0.0]])
    g = elementwise_grad(quadratic)(np.eye(2)[:, None, :])[:, 0]
    contrast = g[:, 0] - g[:, 1]
    slope = contrast[0] * logistic_moment(1, delta, tau, lower=0)
    slope += contrast[1] * logistic_moment(1, delta, tau, upper=0)
    samples = estimates(get_estimator(name, tau=tau), quadratic, logits, 10**5)
    assert_mean(samples, np.array([[slope, -slope]]))


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_gumbel_softmax_has_the_gradient_of_its_own_expectation(tau):
    """For linear f and n = 2, d E[f(S)] / d delta is the mean slope of S times the contrast of f."""
    delta = 0.7
    contrast = linear(np.array([[1.0, 0.0]])) - linear(np.array([[0.0, 1.0]]))
    slope = contrast * logistic_moment(1, delta, tau)
    samples = estimates(get_estimator("gs", tau=tau), linear, np.array([[delta, 0.0]]), 10**5)
    assert_mean(samples, np.array([[slope, -slope]]))
    exact = exact_gradient(linear, np.array([[delta, 0.0]]))[0, 0]
    assert abs(slope - exact) > 1e-3 * abs(exact)  # not the gradient of E[f(D)]


# --- FouST ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.73, 0.02, 0.5])
def test_foust_is_unbiased_for_one_boolean_variable(p):
    logits = np.log([[p, 1 - p]])
    samples = estimates(get_estimator("foust"), quartic, logits, 10**5)
    assert_mean(samples, exact_gradient(quartic, logits))


@pytest.mark.parametrize("p", [0.73, 0.02])
def test_foust_integral_telescopes(p):
    """Its mean without sampling: Gauss-Legendre is exact for the quartic's cubic derivative."""
    logits = np.log(np.array([[p, 1 - p]]))
    nodes, weights = np.polynomial.legendre.leggauss(4)
    df = elementwise_grad(quartic)
    mean = np.zeros((1, 2))
    for D, probability in zip(np.eye(2)[:, None], (p, 1 - p), strict=True):
        for u, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            g = df(u * D + (1 - u) / 2)
            mean += probability * weight * foust(logits, D, g)
    np.testing.assert_allclose(mean, exact_gradient(quartic, logits), atol=1e-12)


def test_foust_of_several_variables_is_biased():
    """For f = x_1 x_2, x = D_1 - D_2, the other variable is contracted by u of mean 1/2: half the gradient."""

    def product_of_signs(D):
        return anp.prod(D[..., 0] - D[..., 1], axis=-1)

    exact = exact_gradient(product_of_signs, LOGITS_2)
    samples = estimates(get_estimator("foust"), product_of_signs, LOGITS_2, 10**5)
    assert_mean(samples, exact / 2)
    with pytest.raises(AssertionError):
        assert_mean(samples, exact)


def test_foust_contracts_each_variable_by_a_uniform_factor_of_its_own(rng):
    point = sample_contraction(sample_categorical(np.zeros((10**5, 2, 2)), rng), rng)
    np.testing.assert_allclose(point.sum(axis=-1), 1)
    u = np.abs(point[..., 0] - point[..., 1])
    for variable in range(2):
        assert kstest(u[:, variable], "uniform").pvalue > ALARM / 2
    assert_mean(u.prod(axis=-1), 1 / 4)


def test_foust_without_importance_weights_is_biased_and_varies_less():
    logits = np.log([[0.95, 0.05]])
    exact = exact_gradient(quartic, logits)
    weighted, plain = (
        estimates(get_estimator("foust", importance_weights=flag), quartic, logits, 10**5)
        for flag in (True, False)
    )
    with pytest.raises(AssertionError):
        assert_mean(plain, exact)
    assert plain[:, 0, 0].var() < weighted[:, 0, 0].var()
    # At p = 1/2 the weight is 2 and nothing is lost.
    half = estimates(
        get_estimator("foust", importance_weights=False), quartic, np.zeros((1, 2)), 10**5
    )
    assert_mean(half, exact_gradient(quartic, np.zeros((1, 2))))


# --- Laws, covariances and Proposition 3 --------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.3, 1.0])
@pytest.mark.parametrize("name", ["st-gs", "gr-mc1"])
def test_one_sample_has_the_law_of_coupled_st_gs(name, tau, rng):
    f_gradient = elementwise_grad(quadratic)
    oracle = coupled_st_gs(lambda D: f_gradient(D[:, None, :])[:, 0], THETA, tau, 10**5, rng)
    samples = estimates(get_estimator(name, tau=tau), quadratic, THETA[None], 10**5)[:, 0]
    assert_same_covariance(samples, oracle)
    for direction in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 2]):
        # At tau = .3 most values crowd at 0 on either side; the law is compared all the same.
        pvalue = ks_2samp(samples @ direction, oracle @ direction, method="asymp").pvalue
        assert pvalue > ALARM / 4


def test_ten_samples_have_another_covariance(rng):
    f_gradient = elementwise_grad(quadratic)
    oracle = coupled_st_gs(lambda D: f_gradient(D[:, None, :])[:, 0], THETA, 0.5, 10**5, rng)
    samples = estimates(get_estimator("gr-mc10", tau=0.5), quadratic, THETA[None], 10**5)[:, 0]
    with pytest.raises(AssertionError):
        assert_same_covariance(samples, oracle)


@pytest.mark.parametrize("tau", [0.3, 1.0])
@pytest.mark.parametrize(("B", "K"), [(1, 1), (1, 4), (1, 20), (3, 2), (5, 1), (2, 10)])
def test_proposition_3(B, K, tau):
    """var[mean of B GR-MCK] = E var[ST-GS given D] / (B K) + var[GR] / B, both terms by quadrature."""
    delta = 0.7
    logits = np.array([[delta, 0.0]])
    g = elementwise_grad(quadratic)(np.eye(2)[:, None, :])[:, 0]
    contrast = g[:, 0] - g[:, 1]
    half_lines = ({"lower": 0}, {"upper": 0})
    pi = softmax(logits[0])
    first, second = (
        np.array([logistic_moment(power, delta, tau, **half) for half in half_lines]) / pi
        for power in (1, 2)
    )
    # Both entries of the gradient are the same number up to sign: a trace is twice its variance.
    within = 2 * (pi * contrast**2 * (second - first**2)).sum()
    between = 2 * ((pi * (contrast * first) ** 2).sum() - (pi * contrast * first).sum() ** 2)
    repeats = 30_000
    samples = estimates(get_estimator(f"gr-mc{K}", tau=tau), quadratic, logits, repeats * B)
    means = samples.reshape(repeats, B, 2).mean(axis=1)
    assert_variance(means, within / (B * K) + between / B)
    if K > 1:
        with pytest.raises(AssertionError):
            assert_variance(means, (within + between) / B)


# --- The wrong versions -------------------------------------------------------------------------------


def check_mean(implementation):
    """The mean given D is that of ST-GS, which rejection sampling gives without Eq. 9."""
    rng = np.random.default_rng(7)
    draws = 20_000
    for tau in (0.5, 0.2):
        for D in np.eye(3):
            x = rejection_gumbels(THETA, D, num_samples=draws, rng=rng)
            oracle = softmax_vjp(softmax(x, tau), np.broadcast_to(G, x.shape)) / tau
            arguments = (np.broadcast_to(array, (draws, 3)).copy() for array in (THETA, D, G))
            samples = implementation(*arguments, tau=tau, num_samples=4, rng=rng)
            assert_same_mean(samples, oracle)


def check_shift(implementation):
    """A constant added to float32 logits changes nothing."""
    logits, g = np.float32([0.25, -0.75, 1.125]), np.float32(G)
    original, *shifted = (
        implementation(
            logits + np.float32(shift),
            np.eye(3, dtype=np.float32)[0],
            g,
            tau=0.5,
            num_samples=4,
            rng=np.random.default_rng(0),
        )
        for shift in (0, 1000, -1000, 64, -64)
    )
    for gradient in shifted:
        np.testing.assert_allclose(gradient, original, rtol=1e-5, atol=1e-5)


class Zeros:
    """A generator that draws nothing but 0."""

    bit_generator = None

    def standard_exponential(self, size=None, dtype=np.float64, out=None):
        if out is None:
            return np.zeros(size, dtype)
        out[...] = 0
        return out


def check_zeros(implementation):
    """Draws of exactly 0 yield finite gradients."""
    gradient = implementation(
        THETA, np.array([1.0, 0.0, 0.0]), G, tau=0.5, num_samples=4, rng=Zeros()
    )
    assert np.isfinite(gradient).all()


CHECKS = {"mean": check_mean, "shift": check_shift, "zeros": check_zeros}


@pytest.mark.parametrize("check", CHECKS.values())
def test_the_checks_accept_gumbel_rao(check):
    check(gumbel_rao)


@pytest.mark.parametrize(("suspect", "kind"), SUSPECTS)
def test_the_checks_reject_every_suspect(suspect, kind):
    with pytest.raises(AssertionError):
        CHECKS[kind](suspect)


def test_differentiating_through_eq_9_vanishes_as_tau_falls(rng):
    """Given D the mean tends to a limit (Shekhovtsov 2023); differentiated through Eq. 9, to zero."""
    draws, D = 20_000, np.eye(3)[0]
    arguments = [np.broadcast_to(array, (draws, 3)).copy() for array in (THETA, D, G)]

    def mean(implementation, tau):
        return implementation(*arguments, tau=tau, num_samples=4, rng=rng).mean(axis=0)

    limit = (softmax(THETA) * (G - G[0]) + D * (G[0] - softmax(THETA) @ G)) / 2
    np.testing.assert_allclose(mean(gumbel_rao, 0.01), limit, rtol=0.15)
    wrong = [np.abs(mean(through_eq_9, tau)).sum() for tau in (0.5, 0.1, 0.02)]
    assert wrong[0] > wrong[1] > wrong[2]
    assert wrong[2] < 0.1 * np.abs(limit).sum()


def read_before_update(mean, cost):
    baseline = mean.value
    mean.update(cost)
    return baseline


def mean_of_reinforce(step, decay):
    """Exact mean of REINFORCE whose running mean stands at 2 and meets one more cost."""
    logits, values = THETA, np.array([1.0, 2.0, 4.0])
    mean = 0
    for D, probability, cost in zip(np.eye(3), softmax(logits), values, strict=True):
        baseline = step(RunningMean(decay, value=2.0, updates=1), cost)
        mean += probability * score_function(logits, D, cost, baseline=baseline)
    return mean


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_a_running_mean_read_after_its_update_shrinks_the_gradient(decay):
    exact = exact_gradient(lambda D: (D @ np.array([1.0, 2.0, 4.0]))[..., 0], THETA[None])[0]
    np.testing.assert_allclose(mean_of_reinforce(read_before_update, decay), exact, atol=1e-12)
    np.testing.assert_allclose(
        mean_of_reinforce(updated_before_read, decay), decay * exact, atol=1e-12
    )


def test_running_mean():
    mean = RunningMean()
    assert (mean.decay, mean.value) == (0.99, 0.0)
    mean.update(np.array([2.0, 4.0]))
    assert mean.value == 3.0  # the first value is the first mean cost
    mean.update(np.float32(5.0))
    assert mean.value == pytest.approx(0.99 * 3 + 0.01 * 5)


# --- Hand-derived pullbacks ----------------------------------------------------------------------------


def problem(shape, dtype, rng):
    logits, g = rng.normal(size=(2, *shape)).astype(dtype)
    return logits, sample_categorical(logits, rng), g


@pytest.mark.parametrize("tau", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_straight_through_is_the_derivative_of_its_surrogate(shape, dtype, tau, rng):
    logits, D, g = problem(shape, dtype, rng)
    expected = autograd.grad(lambda theta: anp.sum(softmax(theta, tau) * g))(logits)
    result = straight_through(logits, D, g, tau=tau)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype) / tau)


@pytest.mark.parametrize("tau", [0.3, 0.5, 1.0, 4.0])  # each way of taking the power
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gumbel_rao_is_the_derivative_at_held_noise(shape, dtype, tau, rng):
    """Surrogate: softmax_tau(theta + G^k), G^k held at its value given D."""
    logits, D, g = problem(shape, dtype, rng)
    E = rng.standard_exponential((5, *shape), dtype=dtype)
    located = conditional_gumbels(logits.astype(np.float64), D, E)

    def surrogate(theta):
        return anp.sum(softmax(located + (theta - logits), tau) * g) / len(E)

    result = gumbel_rao(logits, D, g, tau=tau, exponentials=E)
    assert result.dtype == dtype
    expected = autograd.grad(surrogate)(logits.astype(np.float64))
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype) / tau)


def test_gumbel_rao_agrees_with_finite_differences(rng):
    logits, D, g = problem((4, 6), "float64", rng)
    E = rng.standard_exponential((3, 4, 6))
    located, direction = conditional_gumbels(logits, D, E), rng.normal(size=(4, 6))

    def surrogate(step):
        return (softmax(located + step * direction, 0.4) * g).sum() / len(E)

    difference = (surrogate(1e-6) - surrogate(-1e-6)) / 2e-6
    result = gumbel_rao(logits, D, g, tau=0.4, exponentials=E)
    assert (result * direction).sum() == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gumbel_softmax_is_the_derivative_at_held_noise(shape, dtype, rng):
    logits, _, g = problem(shape, dtype, rng)
    tau = 0.7
    S = sample_gumbel_softmax(logits, tau=tau, rng=rng)
    located = tau * np.log(S.astype(np.float64))  # up to a constant, which the softmax ignores

    def surrogate(theta):
        return anp.sum(softmax(located + (theta - logits), tau) * g)

    result = gumbel_softmax(logits, S, g, tau=tau)
    assert result.dtype == dtype
    expected = autograd.grad(surrogate)(logits.astype(np.float64))
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype) / tau)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_score_function_is_the_derivative_of_its_surrogate(shape, dtype, rng):
    logits, D, _ = problem(shape, dtype, rng)
    cost = rng.normal(size=shape[:-1])
    one_hot = D.astype(np.float64)

    def surrogate(theta):
        below = theta - anp.max(theta, axis=-1, keepdims=True)
        log_p = below - anp.log(anp.sum(anp.exp(below), axis=-1, keepdims=True))
        return anp.sum((cost - 0.3) * anp.sum(log_p * one_hot, axis=-1))

    result = score_function(logits, D, cost, baseline=0.3)
    assert result.dtype == dtype
    expected = autograd.grad(surrogate)(logits.astype(np.float64))
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype))


@pytest.mark.parametrize("importance_weights", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_foust_is_the_derivative_of_its_surrogate(dtype, importance_weights, rng):
    """Surrogate: p(theta) times the weight and the derivative along x = 2 p - 1, both held."""
    logits, D, g = problem((4, 3, 2), dtype, rng)
    weight = 1 / np.exp(log_probability(logits, D)) if importance_weights else 2
    slope = weight * (g[..., 0] - g[..., 1]) / 2

    expected = autograd.grad(lambda theta: anp.sum(softmax(theta)[..., 0] * slope))(logits)
    result = foust(logits, D, g, importance_weights=importance_weights)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=tolerance(dtype))


# --- K samples in blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.5, 0.7, 3.0])
@pytest.mark.parametrize("shape", [(3,), (1, 7), (2, 5, 4)])
def test_blocks_do_not_change_the_mean_over_given_noise(shape, tau, rng, monkeypatch):
    logits, D, g = problem(shape, "float64", rng)
    E = rng.standard_exponential((23, *shape))
    handed_in = E.copy()
    expected = np.mean(
        [gumbel_rao(logits, D, g, tau=tau, exponentials=sample[None]) for sample in E], axis=0
    )
    for size in (1, 64, 2**16):
        for module in ("rbst._blocks", "rbst.estimators.gumbel_rao"):
            monkeypatch.setattr(sys.modules[module], "block_size", lambda xp, size=size: size)
        result = gumbel_rao(logits, D, g, tau=tau, exponentials=E)
        np.testing.assert_allclose(result, expected, atol=1e-13)
    np.testing.assert_array_equal(E, handed_in)


@pytest.mark.parametrize(("shape", "K"), [((400, 4), 300), ((3, 10), 20_000), ((30_000, 3), 2)])
def test_drawn_noise_fills_several_blocks(shape, K):
    """Every variable and every sample gets draws of its own: the mean and the spread over copies say so."""
    v, n = shape
    logits, D, g = np.zeros(shape), np.broadcast_to(np.eye(n)[0], shape), np.arange(float(n))
    g = np.broadcast_to(g, shape)
    rng = np.random.default_rng(3)
    single = gumbel_rao(
        np.zeros((20_000, n)),
        np.broadcast_to(np.eye(n)[0], (20_000, n)),
        np.broadcast_to(np.arange(float(n)), (20_000, n)),
        tau=0.5,
        num_samples=1,
        rng=rng,
    )
    result = gumbel_rao(logits, D, g, tau=0.5, num_samples=K, rng=rng)
    assert len(np.unique(result[:, 1])) == v
    standard_error = single.std(axis=0) * np.sqrt(1 / 20_000 + 1 / (K * v))
    assert (np.abs(result.mean(axis=0) - single.mean(axis=0)) < 6 * standard_error).all()
    if v >= 400:
        np.testing.assert_allclose(result.std(axis=0) * np.sqrt(K), single.std(axis=0), rtol=0.25)


def test_memory_does_not_grow_with_the_number_of_samples(rng):
    logits, D, g = problem((50, 10), "float32", rng)

    def peak(num_samples):
        tracemalloc.start()
        gumbel_rao(logits, D, g, tau=0.7, num_samples=num_samples, rng=rng)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak(10)  # caches fill
    few, many = peak(500), peak(8000)
    assert many < 1.1 * few
    assert many < 8000 * logits.nbytes / 10


# --- The registry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ESTIMATORS, ids=lambda entry: entry.name)
def test_the_table_says_everything(entry):
    for text in (entry.equation, entry.bias, entry.evaluations, entry.source):
        assert text.strip()
    estimator = get_estimator(entry.name.replace("K", "10"))
    assert isinstance(estimator, Estimator)
    assert estimator.name == entry.name.replace("K", "10")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_an_estimator_lacks_are_ignored(name):
    estimator = get_estimator(name, tau=0.3, baseline=1.0, importance_weights=False)
    assert np.isfinite(estimates(estimator, quadratic, LOGITS_2, 3)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if get_estimator(name).given_D == "fixed"])
def test_fixed_given_D_draws_nothing(name, rng):
    """``pull_back`` works without a generator, and twice the same."""
    estimator = get_estimator(name, tau=0.7)
    D = sample_categorical(LOGITS_3, rng)
    signal = np.ones(1) if estimator.evaluates == "cost-only" else elementwise_grad(quadratic)(D)
    first, second = (estimator.pull_back(LOGITS_3, D, signal, None) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_st_gumbel_softmax_is_gumbel_rao_with_one_sample(rng):
    logits, D, g = problem((5, 3), "float64", rng)
    one = gumbel_rao(logits, D, g, tau=0.5, num_samples=1, rng=np.random.default_rng(4))
    two = st_gumbel_softmax(logits, D, g, tau=0.5, rng=np.random.default_rng(4))
    np.testing.assert_array_equal(one, two)
