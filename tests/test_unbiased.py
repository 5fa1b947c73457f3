"""The unbiased estimators: enumeration where their choices can be enumerated, draws elsewhere, and who they are."""

import itertools

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad, grad
from oracles import assert_mean, at_night

from rbst import diagnose, estimate_gradient, exact_gradient, get_estimator, sample_categorical
from rbst.categorical import one_hot, softmax
from rbst.estimators import antithetic, control_variates, without_replacement
from rbst.estimators.control_variates import conditional_gumbels_vjp, rebar, relax
from rbst.estimators.leave_one_out import double_control_variate, leave_one_out
from rbst.estimators.registry import ESTIMATORS
from rbst.gumbel import conditional_gumbels

NAMES = [entry.name for entry in ESTIMATORS if entry.bias == "none"]
BOOLEAN = {entry.name for entry in ESTIMATORS if entry.categories == 2}

# A false alarm at 5 standard errors has probability 6e-7 for one entry; the slow test compares about 3,000.
STANDARD_ERRORS = 5


def weights(L, n):
    return np.linspace(-1, 1.7, L * n).reshape(L, n) ** 2 + 0.3


def linear(D):
    return anp.sum(D * weights(*D.shape[-2:]), axis=(-1, -2))


COSTS = {
    "linear": linear,
    "quadratic": lambda D: (linear(D) - 1.0) ** 2 + D[..., 0, 0] * D[..., -1, -1],
    "quartic": lambda D: (linear(D) - 1.0) ** 4,
    "kinked": lambda D: anp.abs(linear(D) - 1.3),
}


def mean_and_error(name, f, logits, draws, seed, at_once=20_000):
    rng = np.random.default_rng(seed)
    many = np.broadcast_to(logits, (at_once, *logits.shape))
    total = square = 0
    for _ in range(draws // at_once):
        samples = estimate_gradient(get_estimator(name, tau=0.5), f, many, rng)
        total, square = total + samples.sum(axis=0), square + (samples**2).sum(axis=0)
    mean = total / draws
    # Some leave no noise of a linear cost: a variance of rounding, of either sign.
    return mean, np.sqrt(np.maximum(square / draws - mean**2, 0) / draws)


PROBLEMS = [
    (name, n, L)
    for name, n, L in itertools.product(NAMES, (2, 3, 8), (1, 3))
    if n == 2 or name not in BOOLEAN
]


def check_unbiased(name, n, L, cost, draws):
    logits = np.random.default_rng(n + L).normal(size=(L, n))
    mean, error = mean_and_error(name, COSTS[cost], logits, draws, seed=n)
    distance = np.abs(mean - exact_gradient(COSTS[cost], logits))
    assert (distance <= STANDARD_ERRORS * error + 1e-10).all()


@pytest.mark.parametrize(("name", "n", "L"), [p for p in PROBLEMS if p[1] == 3 or p[0] in BOOLEAN])
def test_the_mean_is_the_exact_gradient(name, n, L):
    check_unbiased(name, n, L, "quartic", draws=40_000)


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("name", "n", "L"), PROBLEMS)
def test_the_mean_of_many_draws_is_the_exact_gradient(name, n, L, cost):
    check_unbiased(name, n, L, cost, draws=at_night(1_000_000, otherwise=20_000))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BOOLEAN])
def test_an_impossible_category_is_never_evaluated_and_has_no_gradient(name):
    logits = np.array([[0.3, -np.inf, 1.1], [-0.4, 0.2, -np.inf]])

    def f(D):
        inside = ((D > 0) & (D < 1)).any()  # a relaxed sample touches every possible category
        assert inside or not (D * (logits == -np.inf)).any()
        return COSTS["quadratic"](D)

    def df_dD(D):
        return elementwise_grad(COSTS["quadratic"])(D)

    rng = np.random.default_rng(0)
    many = np.broadcast_to(logits, (20_000, 2, 3))
    samples = estimate_gradient(get_estimator(name, tau=0.5), f, many, rng, df_dD=df_dD)
    assert (samples[:, logits == -np.inf] == 0).all()
    assert_mean(samples, exact_gradient(COSTS["quadratic"], logits))


# Without replacement: every choice enumerated, so no draw and no error bar.

LOGITS = np.log([0.1, 0.2, 0.3, 0.4])
COST = np.array([1.0, 5.0, -2.0, 3.0])
EXACT = softmax(LOGITS) * (COST - softmax(LOGITS) @ COST)


def replaced_draws(monkeypatch, module, *draws):
    """Have ``sample_categorical`` of a module return these categories, one after the other."""
    queue = [one_hot(np.array([k]), 4) for k in draws]
    monkeypatch.setattr(module, "sample_categorical", lambda logits, rng: queue.pop(0))


def f_of_one(D):
    return (D @ COST)[..., 0]


@pytest.mark.parametrize("num_summed", [1, 2, 3])
def test_sum_and_sample_by_enumeration(monkeypatch, num_summed):
    pi, total = softmax(LOGITS), 0
    outside = range(4 - num_summed)  # the likeliest are the last
    for j in outside:
        replaced_draws(monkeypatch, without_replacement, 0, j)
        estimate = without_replacement.sum_and_sample(
            f_of_one, LOGITS[None], num_summed=num_summed, rng=None
        )
        total = total + pi[j] / pi[list(outside)].sum() * estimate[0]
    np.testing.assert_allclose(total, EXACT, atol=1e-14)


def test_unordered_set_by_enumeration_and_by_its_definition(monkeypatch):
    pi, total = softmax(LOGITS), 0
    J = np.diag(pi) - np.outer(pi, pi)
    for a, b in itertools.permutations(range(4), 2):
        replaced_draws(monkeypatch, without_replacement, a, b)
        estimate = without_replacement.unordered_set(f_of_one, LOGITS[None], rng=None)[0]
        total = total + pi[a] * pi[b] / (1 - pi[a]) * estimate

        P = pi[a] * pi[b] / (1 - pi[a]) + pi[a] * pi[b] / (1 - pi[b])
        definition = 0
        for s, other in ((a, b), (b, a)):
            R = pi[other] / (1 - pi[s]) / P
            built_in = pi[s] * COST[s] + pi[other] * (1 - pi[s]) / pi[other] * COST[other]
            definition = definition + J[s] * R * (COST[s] - built_in)
        np.testing.assert_allclose(estimate, definition, atol=1e-14)
    np.testing.assert_allclose(total, EXACT, atol=1e-14)


def test_rloo_by_enumeration():
    total = 0
    pi = softmax(LOGITS)
    for pair in itertools.product(range(4), repeat=2):
        D = one_hot(np.array(pair), 4)
        total = total + np.prod(pi[list(pair)]) * leave_one_out(LOGITS, D, D @ COST)
    np.testing.assert_allclose(total, EXACT, atol=1e-14)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_double_control_variate_by_enumeration(weight):
    """Two variables that interact, all pairs of joint samples."""
    logits = np.array([[0.3, -0.5], [1.0, 0.2]])
    f = COSTS["quartic"]
    corners = np.array([np.eye(2)[list(k)] for k in itertools.product(range(2), repeat=2)])
    p = softmax(logits)[None] ** corners
    p = p.prod(axis=(-1, -2))
    total = 0
    for i, j in itertools.product(range(4), repeat=2):
        D = corners[[i, j]]
        estimate = double_control_variate(logits, D, f(D), elementwise_grad(f)(D), weight=weight)
        total = total + p[i] * p[j] * estimate
    np.testing.assert_allclose(total, exact_gradient(f, logits), atol=1e-12)


def test_double_control_variate_leaves_no_noise_of_a_linear_cost():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4))
    D = sample_categorical(np.broadcast_to(logits, (5, 3, 4)), rng)
    result = double_control_variate(logits, D, linear(D), elementwise_grad(linear)(D))
    np.testing.assert_allclose(result, exact_gradient(linear, logits), atol=1e-13)


# Antithetic samples.


def test_disarm_is_the_mean_of_arm_given_its_two_samples():
    """u given (b, b~) is uniform on an interval for one variable: the mean of ARM there, by hand."""
    for phi in (-1.3, 0.0, 0.8):
        p = 1 / (1 + np.exp(-phi))
        # b = [u > 1 - p], b~ = [u < p]: the intervals between 0, min, max and 1.
        low, high = min(p, 1 - p), max(p, 1 - p)
        for left, right in ((0, low), (low, high), (high, 1)):
            if left == right:
                continue
            u = (left + right) / 2
            b, b_tilde = float(u > 1 - p), float(u < p)
            arm_mean = (b - b_tilde) * (u - 0.5)  # f = b, and u - 1/2 is linear in u
            disarm = 0.5 * (b - b_tilde) * (-1) ** b_tilde * (b != b_tilde) * max(p, 1 - p)
            assert arm_mean == pytest.approx(disarm if b != b_tilde else 0.0, abs=1e-15)


@pytest.mark.parametrize("name", ["arm", "disarm"])
def test_boolean_estimators_are_their_formulas(name):
    class Given:
        bit_generator = None

        def random(self, size, dtype):
            return np.broadcast_to(np.array([0.2, 0.9, 0.55]), size).astype(dtype)

    logits = np.array([[0.0, 0.7], [0.0, -0.4], [0.0, 1.5]])
    phi, u = logits[:, 1], np.array([0.2, 0.9, 0.55])
    sigma = 1 / (1 + np.exp(-phi))
    b, b_tilde = (u > 1 - sigma).astype(int), (u < sigma).astype(int)
    f = COSTS["quartic"]
    difference = f(one_hot(b, 2)) - f(one_hot(b_tilde, 2))
    if name == "arm":
        h = difference * (u - 0.5)
    else:
        h = 0.5 * difference * (-1.0) ** b_tilde * (b != b_tilde) / (1 + np.exp(-np.abs(phi)))
    result = getattr(antithetic, name)(f, logits, rng=Given())
    np.testing.assert_allclose(result, np.stack([-h, h], axis=-1), rtol=1e-12)


# Control variates.


def test_the_derivative_through_equation_9():
    rng = np.random.default_rng(1)
    logits, v = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    D, E = np.eye(4)[[1, 3]], rng.standard_exponential((2, 4))

    def value(theta):
        return (conditional_gumbels(theta, D, E[None])[0] * v).sum()

    step, numeric = 1e-6, np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        e = np.zeros_like(logits)
        e[index] = step
        numeric[index] = (value(logits + e) - value(logits - e)) / (2 * step)
    np.testing.assert_allclose(conditional_gumbels_vjp(logits, D, E, v), numeric, atol=1e-8)


def test_rebar_without_its_control_variate_is_reinforce():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(50, 3, 4))
    f = COSTS["quartic"]
    seen = []

    def remembered(D):
        seen.append(D)
        return f(D)

    result = rebar(remembered, logits, df_dD=elementwise_grad(f), tau=0.5, weight=0.0, rng=rng)
    D = next(D for D in seen if ((D == 0) | (D == 1)).all())
    expected = f(D)[:, None, None] * (D - softmax(logits))
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_dropping_the_path_through_the_conditional_gumbels_is_seen(monkeypatch):
    """The usual mistake in REBAR: the located Gumbels given D treated as if they moved with the logits like z."""
    monkeypatch.setattr(control_variates, "conditional_gumbels_vjp", lambda logits, D, E, v: v)
    with pytest.raises(AssertionError):
        check_unbiased("rebar", 3, 3, "quartic", draws=40_000)


def test_a_learned_control_variate_lowers_the_variance_and_not_the_mean():
    """RELAX: gradient descent on the variance of single estimates, as its authors train the network."""
    logits = np.array([[0.3, -0.7, 1.1]])
    f = COSTS["quadratic"]

    def c(rho, z):
        hidden = anp.tanh(z @ rho["W"] + rho["b"])
        return anp.sum(hidden @ rho["v"], axis=(-1, -2))

    def estimates(rho, size, seed):
        control = (lambda z: c(rho, z), lambda z: elementwise_grad(c, 1)(rho, z))
        many = np.broadcast_to(logits, (size, 1, 3))
        return relax(f, many, control=control, rng=np.random.default_rng(seed))

    def variance(rho, seed):
        return anp.sum(estimates(rho, 200, seed) ** 2) / 200  # plus what no control variate changes

    rng = np.random.default_rng(3)
    rho = {"W": rng.normal(size=(3, 8)), "b": np.zeros(8), "v": np.zeros((8, 1))}
    before = estimates(rho, 20_000, seed=0)
    for step in range(300):
        slope = grad(variance)(rho, step + 1)
        rho = {name: value - 0.1 * slope[name] for name, value in rho.items()}
    after = estimates(rho, 20_000, seed=0)
    assert after.var(axis=0).sum() < 0.5 * before.var(axis=0).sum()
    assert_mean(after, exact_gradient(f, logits))


@pytest.mark.parametrize(
    "name", ["rloo", "double-cv", "muprop", "rebar", "arm", "disarm", "arsm", "unordered-set"]
)
def test_a_constant_of_the_cost_drops_out_whatever_the_precision_of_the_logits(name):
    """Differences are taken in the precision of f, which may be higher than that of the logits."""
    logits = np.broadcast_to(np.float32([[0.3, -0.5], [0.1, 0.8]]), (20, 2, 2))
    weights = np.array([1.0, 3.0])

    def estimate(constant):
        return estimate_gradient(
            get_estimator(name, **({"tau": 0.5} if name == "rebar" else {})),
            lambda D: (D.astype("float64") @ weights).sum(axis=-1) ** 2 + constant,
            logits,
            np.random.default_rng(4),
            df_dD=lambda D: 2 * (D @ weights).sum(axis=-1)[..., None, None] * weights + 0 * D,
        )

    plain, moved = estimate(0.0), estimate(1e8)
    assert moved.dtype == np.float32
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(moved, plain, rtol=1e-5)


@pytest.mark.parametrize("name", ["rloo", "arm", "disarm", "arsm", "unordered-set", "muprop"])
@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e7), ("float16", 5e4)])
def test_a_cost_less_precise_than_the_logits_is_compared_in_the_precision_of_the_logits(
    name, dtype, large
):
    """The mean of float32 costs would be rounded, and the difference of two float16 costs is beyond 65504."""
    rng = np.random.default_rng(0)
    logits = np.broadcast_to(rng.normal(size=(2, 2)), (100, 2, 2))

    def coarse(D):
        sign = np.where(D[..., 0, 0] > 0.5, 1.0, -1.0)
        return (large * sign + D[..., 1, 0]).astype(dtype)

    def fine(D):
        return coarse(D).astype("float64")

    estimator, no_slope = get_estimator(name), np.zeros_like
    given, wanted = (
        estimate_gradient(estimator, f, logits, np.random.default_rng(1), df_dD=no_slope)
        for f in (coarse, fine)
    )
    np.testing.assert_array_equal(given, wanted)


def test_muprop_leaves_no_noise_of_a_linear_cost():
    logits = np.random.default_rng(4).normal(size=(3, 4))
    rng = np.random.default_rng(5)
    result = estimate_gradient(get_estimator("muprop"), linear, logits, rng)
    np.testing.assert_allclose(result, exact_gradient(linear, logits), atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_an_f_that_writes_into_its_argument_changes_nothing(name):
    n = 2 if name in BOOLEAN else 3

    def vandal(function):
        def write(D):
            value = np.array(function(D))
            D[...] = 7.0
            return value

        return write

    logits = np.broadcast_to(np.linspace(-0.5, 0.5, n), (5, 2, n))
    f, df = COSTS["quadratic"], elementwise_grad(COSTS["quadratic"])
    plain, written = (
        estimate_gradient(
            get_estimator(name, tau=0.5), *functions, logits, np.random.default_rng(0), df_dD=d
        )
        for functions, d in (((f,), df), ((vandal(f),), vandal(df)))
    )
    np.testing.assert_array_equal(plain, written)


@pytest.mark.parametrize("name", ["double-cv", "muprop", "rebar", "relax"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1j, "1"])
def test_a_derivative_that_is_no_number_is_refused(name, wrong):
    with pytest.raises((TypeError, ValueError), match=r"df_dD must .*, got .*; "):
        estimate_gradient(
            get_estimator(name),
            linear,
            np.zeros((1, 3)),
            np.random.default_rng(0),
            df_dD=lambda D: np.full(D.shape, wrong),
        )


@pytest.mark.parametrize("name", ["double-cv", "muprop", "rebar", "relax"])
def test_a_derivative_is_not_looked_at_where_no_sample_lands(name):
    logits, weight = np.array([[-np.inf, 0.0, 1.0]]), np.array([0.0, 1.0, 4.0])
    plain, infinite = (
        estimate_gradient(
            get_estimator(name),
            lambda D: (D @ weight)[..., 0],
            logits,
            np.random.default_rng(0),
            df_dD=lambda D, first=first: np.broadcast_to([first, 1.0, 4.0], D.shape),
        )
        for first in (0.0, np.inf)
    )
    np.testing.assert_array_equal(plain, infinite)
    assert np.isfinite(plain).all()


def test_an_f_that_autograd_cannot_see_is_refused_where_its_derivative_is_used():
    def hidden(D):
        return linear(D) + linear(np.array(getattr(D, "_value", D))) ** 2

    logits = np.zeros((1, 3))
    for name in ("double-cv", "muprop", "rebar", "relax"):
        with pytest.raises(ValueError, match="autograd must see all of f"):
            diagnose(name, hidden, logits, rng=np.random.default_rng(0))
    for name in ("rloo", "arsm", "unordered-set"):
        assert diagnose(name, hidden, logits, rng=np.random.default_rng(0), num_samples=10)


def test_a_tie_of_two_gumbels_is_one_sample():
    """Two float32 Gumbels of the same number: the first wins, where both once did."""

    class Tied:
        """Draws that are all the same."""

        def __init__(self):
            self.bit_generator = np.random.default_rng(0).bit_generator

        def standard_exponential(self, size, dtype):
            return np.full(size, 0.5, dtype)

    values = np.array([1.0, 2.0, 4.0], np.float32)
    gradient = relax(
        lambda D: (D @ values)[..., 0],
        np.zeros((1, 3), np.float32),
        df_dD=lambda D: 0 * D + values,
        tau=0.5,
        rng=Tied(),
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("num_summed", [1, 2, 3, 10**400])
def test_sum_and_sample_never_asks_f_for_an_impossible_category(num_summed):
    def f(D):
        assert not D[..., 0].any()
        return (D @ np.array([0.0, 1.0, 2.0]))[..., 0]

    logits = np.array([[-np.inf, 0.0, 0.0]])
    found = without_replacement.sum_and_sample(
        f, logits, num_summed=num_summed, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(found, [[0, -0.25, 0.25]])
