"""Bad input: what was wanted, what was given, and a cure, before any work is done.

Each row of the table is a call and the three parts of its message. The functions that share a check share
its rows.
"""

import math
import re
from fractions import Fraction
from functools import partial

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from oracles import quadratic

import rbst
from rbst import Estimator, RunningMean, get_estimator
from rbst._checks import LARGEST_EXPONENTIAL, NotFinite
from rbst.categorical import positive, softmax_vjp
from rbst.estimators import contract
from rbst.estimators.relaxed import sample_contraction

RNG = np.random.default_rng(0)
THETA, D, G = np.zeros(3), np.eye(3)[0], np.ones(3)
THETA_2, D_2, G_2 = np.zeros(2), np.eye(2)[0], np.ones(2)
INF = np.inf


def gumbel_rao(logits=THETA, D=D, g=G, **changes):
    return rbst.gumbel_rao(logits, D, g, **({"tau": 0.5, "num_samples": 2, "rng": RNG} | changes))


# Functions of logits, and of the arguments that go with them.
OF_LOGITS = {
    "softmax": rbst.softmax,
    "log_softmax": rbst.log_softmax,
    "sample_categorical": lambda logits: rbst.sample_categorical(logits, RNG),
    "sample_gumbels": lambda logits: rbst.sample_gumbels(logits, RNG),
    "sample_gumbel_softmax": lambda logits: rbst.sample_gumbel_softmax(logits, tau=1, rng=RNG),
    "conditional_gumbels": lambda logits: rbst.conditional_gumbels(logits, D, np.ones((1, 3))),
    "rejection_gumbels": lambda logits: rbst.rejection_gumbels(logits, D, num_samples=1, rng=RNG),
    "log_probability": lambda logits: rbst.log_probability(logits, D),
    "straight_through": lambda logits: rbst.straight_through(logits, D, G),
    "st_gumbel_softmax": lambda logits: rbst.st_gumbel_softmax(logits, D, G, tau=1, rng=RNG),
    "gumbel_rao": gumbel_rao,
    "gumbel_softmax": lambda logits: rbst.gumbel_softmax(logits, np.full(3, 1 / 3), G, tau=1),
    "foust": lambda logits: rbst.foust(logits, D, G),
    "score_function": lambda logits: rbst.score_function(logits, D, 1.0),
    "exact_expectation": lambda logits: rbst.exact_expectation(quadratic, logits),
    "exact_gradient": lambda logits: rbst.exact_gradient(quadratic, logits),
    "stochastic_node": lambda logits: rbst.stochastic_node(logits, get_estimator("st"), RNG),
    "estimate_gradient": lambda logits: rbst.estimate_gradient(
        get_estimator("st"), quadratic, logits, RNG
    ),
}
OF_D = {
    "conditional_gumbels": lambda D: rbst.conditional_gumbels(THETA, D, np.ones((1, 3))),
    "rejection_gumbels": lambda D: rbst.rejection_gumbels(THETA, D, num_samples=1, rng=RNG),
    "log_probability": lambda D: rbst.log_probability(THETA, D),
    "straight_through": lambda D: rbst.straight_through(THETA, D, G),
    "st_gumbel_softmax": lambda D: rbst.st_gumbel_softmax(THETA, D, G, tau=1, rng=RNG),
    "gumbel_rao": lambda D: gumbel_rao(D=D),
    "score_function": lambda D: rbst.score_function(THETA, D, 1.0),
}
OF_GRADIENT = {
    "straight_through": lambda g: rbst.straight_through(THETA, D, g),
    "st_gumbel_softmax": lambda g: rbst.st_gumbel_softmax(THETA, D, g, tau=1, rng=RNG),
    "gumbel_rao": lambda g: gumbel_rao(g=g),
    "gumbel_softmax": lambda g: rbst.gumbel_softmax(THETA, np.full(3, 1 / 3), g, tau=1),
    "foust": lambda g: rbst.foust(THETA_2, D_2, g),
}
OF_TAU = {
    "softmax": lambda tau: rbst.softmax(THETA, tau),
    "straight_through": lambda tau: rbst.straight_through(THETA, D, G, tau=tau),
    "reinmax": lambda tau: rbst.reinmax(THETA, D, G, tau=tau),
    "st_gumbel_softmax": lambda tau: rbst.st_gumbel_softmax(THETA, D, G, tau=tau, rng=RNG),
    "gumbel_rao": lambda tau: gumbel_rao(tau=tau),
    "sample_gumbel_softmax": lambda tau: rbst.sample_gumbel_softmax(THETA, tau=tau, rng=RNG),
    "gumbel_softmax": lambda tau: rbst.gumbel_softmax(THETA, np.full(3, 1 / 3), G, tau=tau),
    "get_estimator": lambda tau: get_estimator("reinforce", tau=tau),
}
OF_RNG = {
    "sample_categorical": lambda rng: rbst.sample_categorical(THETA, rng),
    "sample_gumbels": lambda rng: rbst.sample_gumbels(THETA, rng),
    "sample_gumbel_softmax": lambda rng: rbst.sample_gumbel_softmax(THETA, tau=1, rng=rng),
    "rejection_gumbels": lambda rng: rbst.rejection_gumbels(THETA, D, num_samples=1, rng=rng),
    "st_gumbel_softmax": lambda rng: rbst.st_gumbel_softmax(THETA, D, G, tau=1, rng=rng),
    "gumbel_rao": lambda rng: gumbel_rao(rng=rng),
    "stochastic_node": lambda rng: rbst.stochastic_node(THETA, get_estimator("st"), rng),
    "estimate_gradient": lambda rng: rbst.estimate_gradient(
        get_estimator("st"), quadratic, THETA[None], rng
    ),
}


def assert_rejects(call, argument, error, wanted, came, cure):
    with pytest.raises(error) as caught:
        call(argument)
    message = str(caught.value)
    for part in (wanted, came, cure):
        assert part in message
    # One sentence of what was wanted and what came, a semicolon, and a cure.
    assert re.search(r"got .*;", message, flags=re.DOTALL)


@pytest.mark.parametrize("call", OF_LOGITS.values(), ids=OF_LOGITS)
@pytest.mark.parametrize(
    ("logits", "error", "wanted", "came", "cure"),
    [
        (np.arange(3), TypeError, "float32 or float64", "int64", "astype"),
        ([1, 2, 3], TypeError, "float32 or float64", "int64", "astype"),
        (np.zeros(3, np.float16), TypeError, "float32 or float64", "float16", "astype"),
        (np.zeros(3, complex), TypeError, "float32 or float64", "complex128", "astype"),
        (np.array([0.0, np.nan, 1.0]), ValueError, "finite or -inf", "NaN", "diverged"),
        (np.array([0.0, INF, 1.0]), ValueError, "finite or -inf", "+inf", "-inf and the others"),
        (np.full(3, -INF), ValueError, "finite entry", "nothing but -inf", "leave at least one"),
        (
            np.array([[0.0, 1.0], [-INF, -INF]]),
            ValueError,
            "each row",
            "-inf",
            "leave at least one",
        ),
        (np.float64(1.0), ValueError, "(..., n)", "()", "one variable has shape (n,)"),
        (np.zeros((2, 0)), ValueError, "n >= 1", "(2, 0)", "one variable has shape (n,)"),
    ],
)
def test_logits(call, logits, error, wanted, came, cure):
    assert_rejects(call, logits, error, wanted, came, cure)


@pytest.mark.parametrize("call", OF_D.values(), ids=OF_D)
@pytest.mark.parametrize(
    ("D", "wanted", "came", "cure"),
    [
        (np.array([0.5, 0.5, 0.0]), "one-hot", "not a single 1", "sample_categorical"),
        (np.array([1.0, 1.0, 0.0]), "one-hot", "not a single 1", "sample_categorical"),
        (np.array([1.0, 1.0, -1.0]), "one-hot", "not a single 1", "sample_categorical"),
        (np.array([2.0, 0.0, 0.0]), "one-hot", "not a single 1", "sample_categorical"),
        (np.zeros(3), "one-hot", "not a single 1", "sample_categorical"),
        (np.array([np.nan, 1.0, 0.0]), "one-hot", "not a single 1", "sample_categorical"),
        (np.eye(2)[0], "shape of logits, (3,)", "(2,)", "broadcast"),
        (np.eye(3)[:1], "shape of logits, (3,)", "(1, 3)", "broadcast"),
        (np.int64(0), "shape of logits, (3,)", "()", "broadcast"),
    ],
)
def test_D(call, D, wanted, came, cure):
    assert_rejects(call, D, ValueError, wanted, came, cure)


def test_D_on_an_impossible_category():
    logits = np.array([0.0, -INF, 1.0])
    D = np.eye(3)[1]
    for call in (
        lambda D: rbst.straight_through(logits, D, G),
        lambda D: gumbel_rao(logits, D),
        lambda D: rbst.score_function(logits, D, 1.0),
        lambda D: rbst.log_probability(logits, D),
        lambda D: rbst.conditional_gumbels(logits, D, np.ones((1, 3))),
    ):
        assert_rejects(call, D, ValueError, "positive probability", "logit is -inf", "same logits")


@pytest.mark.parametrize("call", OF_GRADIENT.values(), ids=OF_GRADIENT)
@pytest.mark.parametrize("shape", [(), (4,), (1, 3), (3, 1)])
def test_gradient(call, shape):
    assert_rejects(
        call, np.ones(shape), ValueError, "df_dD must have the shape", str(shape), "broadcast"
    )


@pytest.mark.parametrize("call", OF_GRADIENT.values(), ids=OF_GRADIENT)
@pytest.mark.parametrize(("value", "came"), [(np.nan, "NaN"), (INF, "an inf"), (-INF, "an inf")])
def test_gradient_that_is_not_finite(call, value, came):
    for entry in range(2):
        g = np.ones(2 if call is OF_GRADIENT["foust"] else 3)
        g[entry] = value
        assert_rejects(call, g, NotFinite, "df_dD must be finite", came, "look for")


class _Torch:
    """Something that NumPy would copy in silence."""

    def __array__(self, *arguments, **options):
        return np.eye(3)[0]


_Torch.__module__ = "torch"

NOT_REAL = {
    "complex": (np.eye(3)[0] * 1j, "real numbers, got complex128", "numpy.real"),
    "text": (np.array(["1", "0", "0"]), "real numbers, got <U1", "astype(float)"),
    "objects": (np.array([1, None, 0]), "real numbers, got object", "astype(float)"),
    "masked": (np.ma.masked_array(np.eye(3)[0], [0, 1, 0]), "numpy.ma", ".filled(value)"),
    "matrix": (np.asmatrix(np.eye(3)[0]), "matrix", "numpy.asarray"),
    "another library": (_Torch(), "got a torch._Torch", "numpy.asarray"),
    "ragged": ([[1.0], [1.0, 0.0]], "one that is none", "one length"),
}
OF_ARRAYS = (
    {f"D of {name}": call for name, call in OF_D.items()}
    | {f"gradient of {name}": call for name, call in OF_GRADIENT.items()}
    | {
        "S of gumbel_softmax": lambda S: rbst.gumbel_softmax(THETA, S, G, tau=1),
        "exponentials of gumbel_rao": lambda E: with_exponentials(E),
        "exponentials of conditional_gumbels": lambda E: rbst.conditional_gumbels(THETA, D, E),
        "cost of score_function": lambda cost: rbst.score_function(THETA, D, cost),
        "baseline of score_function": lambda b: rbst.score_function(THETA, D, 1.0, baseline=b),
        "costs of RunningMean": lambda costs: RunningMean().update(costs),
    }
)


@pytest.mark.parametrize("call", OF_ARRAYS.values(), ids=OF_ARRAYS)
@pytest.mark.parametrize(("given", "came", "cure"), NOT_REAL.values(), ids=NOT_REAL)
def test_what_is_no_array_of_real_numbers(call, given, came, cure):
    """An imaginary part, a mask or an axis would be dropped in silence."""
    error = ValueError if came == "one that is none" else TypeError
    assert_rejects(call, given, error, "must", came, cure)


@pytest.mark.parametrize("call", OF_LOGITS.values(), ids=OF_LOGITS)
@pytest.mark.parametrize("kind", ["masked", "matrix", "another library", "ragged"])
def test_logits_that_are_no_array(call, kind):
    given, came, cure = NOT_REAL[kind]
    assert_rejects(call, given, (TypeError, ValueError), "logits must be", came, cure)


def test_lists_are_arrays_everywhere():
    D, g = [0.0, 0.0, 1.0], [1.0, 2.0, 4.0]
    logits, arrays = [0.5, 0.25, 0.0], (np.array([0.5, 0.25, 0.0]), np.array(D), np.array(g))
    for name in ("straight_through", "zgr", "reinmax"):
        estimate = getattr(rbst, name)
        np.testing.assert_array_equal(estimate(logits, D, g), estimate(*arrays))
    E = [[1.0, 2.0, 0.5]]
    one, other = (
        gumbel_rao(logits, D, g, exponentials=E, num_samples=None, rng=None),
        gumbel_rao(*arrays, exponentials=np.array(E), num_samples=None, rng=None),
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        rbst.score_function([logits] * 2, [D] * 2, [1, 2], baseline=[0.5, 1]),
        rbst.score_function(*(np.array([x] * 2) for x in (logits, D)), np.array([0.5, 1])),
    )
    mean = RunningMean()
    mean.update([1.0, 2.0])
    assert mean.value == 1.5


IMPOSSIBLE = np.array([0.3, -INF])  # Boolean, so that foust can be asked too


@pytest.mark.parametrize("value", [INF, -INF, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_derivative_that_does_not_exist_where_no_sample_lands_is_no_fault(value, dtype):
    """An infinite df/dD at a category of logit -inf, as of f = log D, leaves its row alone."""
    logits, D = np.stack([IMPOSSIBLE, [0.2, 0.1]]).astype(dtype), np.eye(2, dtype=dtype)[[0, 1]]
    g = np.array([[2.0, value], [1.0, 3.0]], dtype)
    instead = np.where(np.isfinite(g), g, 0)
    S = np.array([[1.0, 0.0], [0.5, 0.5]], dtype)
    for estimate in (
        rbst.straight_through,
        rbst.zgr,
        rbst.reinmax,
        rbst.foust,
        lambda *arrays: rbst.exact_gumbel_rao(*arrays, tau=0.5),
        lambda *arrays: gumbel_rao(*arrays, rng=np.random.default_rng(0)),
        lambda logits, D, g: rbst.gumbel_softmax(logits, S, g, tau=0.5),
    ):
        gradient = estimate(logits, D, g)
        np.testing.assert_array_equal(gradient, estimate(logits, D, instead))
        np.testing.assert_array_equal(gradient[0], 0)
        assert abs(gradient[1]).min() > 0


@pytest.mark.parametrize("call", OF_TAU.values(), ids=OF_TAU)
@pytest.mark.parametrize(
    ("tau", "error", "wanted", "came", "cure"),
    [
        (0, ValueError, "positive", "got 0.0", "zgr"),
        (0.0, ValueError, "positive", "got 0.0", "zgr"),
        (-1.0, ValueError, "positive", "got -1.0", "0.5"),
        (np.nan, ValueError, "positive", "got nan", "0.5"),
        (INF, ValueError, "finite", "got inf", "0.5"),
        (1e-40, ValueError, "between 1e-30 and 1e30", "got 1e-40", "0.5"),
        pytest.param(10**400, ValueError, "between", "integer beyond 1e308", "0.5", id="10**400"),
        pytest.param(-(10**400), ValueError, "positive", "integer beyond", "0.5", id="-10**400"),
        ("1", TypeError, "a positive number", "got str", "float"),
        (None, TypeError, "a positive number", "got NoneType", "float"),
        (True, TypeError, "a positive number", "got bool", "float"),
        (np.ones(3), TypeError, "a positive number", "got ndarray", "float"),
    ],
)
def test_tau(call, tau, error, wanted, came, cure):
    assert_rejects(call, tau, error, wanted, came, cure)


WRONG = (None, np.random, np.random.RandomState(0), np.random.default_rng, True)


@pytest.mark.parametrize("name", OF_RNG)
def test_rng(name):
    for rng in WRONG if name == "estimate_gradient" else (*WRONG, 0):  # which takes a seed
        came = f"got {type(rng).__name__}"
        wanted, cure = "numpy.random.Generator", "default_rng(seed)"
        assert_rejects(OF_RNG[name], rng, TypeError, wanted, came, cure)


@pytest.mark.parametrize(
    "call",
    [
        lambda K: gumbel_rao(num_samples=K),
        lambda K: rbst.rejection_gumbels(THETA, D, num_samples=K, rng=RNG),
    ],
    ids=["gumbel_rao", "rejection_gumbels"],
)
@pytest.mark.parametrize(
    ("K", "error", "cure"),
    [
        (0, ValueError, "K = 1 is"),
        (-3, ValueError, "K = 1 is"),
        (10**13, ValueError, "exact_gumbel_rao"),
        pytest.param(10**1000, ValueError, "exact_gumbel_rao", id="10**1000"),
        (2.0, TypeError, "as an int"),
        (True, TypeError, "as an int"),
        ("10", TypeError, "as an int"),
    ],
)
def test_num_samples(call, K, error, cure):
    large = error is ValueError and K > 1
    came = "" if large else f"got {K!r}"
    assert_rejects(call, K, error, "at most 1e+12" if large else ">= 1", came, cure)


def with_exponentials(E):
    return gumbel_rao(exponentials=E, num_samples=None, rng=None)


@pytest.mark.parametrize(
    "call",
    [with_exponentials, lambda E: rbst.conditional_gumbels(THETA, D, E)],
    ids=["gumbel_rao", "conditional_gumbels"],
)
@pytest.mark.parametrize(
    ("E", "wanted", "came", "cure"),
    [
        (np.ones(3), "(K, 3)", "(3,)", "leading axis"),
        (np.ones((3, 2)), "(K, 3)", "(3, 2)", "leading axis"),
        (np.ones((2, 1, 3)), "(K, 3)", "(2, 1, 3)", "leading axis"),
        (np.ones((0, 3)), "at least one sample", "K = 0", "draw K >= 1"),
        (np.array([[1.0, -1.0, 1.0]]), "finite and >= 0", "negative", "standard_exponential"),
        (np.array([[1.0, np.nan, 1.0]]), "finite and >= 0", "NaN", "standard_exponential"),
        (np.array([[1.0, INF, 1.0]]), "finite and >= 0", "infinite", "standard_exponential"),
        (np.array([[1.0, 1e37, 1.0]]), "finite and >= 0", "above 1e+20", "standard_exponential"),
    ],
)
def test_exponentials(call, E, wanted, came, cure):
    assert_rejects(call, E, ValueError, wanted, came, cure)


def test_one_source_of_noise():
    E = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"num_samples and rng, or exponentials .*, got both"):
        gumbel_rao(exponentials=E)
    with pytest.raises(ValueError, match=r"num_samples and rng, or exponentials .*, got neither"):
        rbst.gumbel_rao(THETA, D, G, tau=0.5)
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator"):
        rbst.gumbel_rao(THETA, D, G, tau=0.5, num_samples=2)


@pytest.mark.parametrize(
    "S", [np.array([0.5, 0.6, 0.0]), np.array([1.5, -0.5, 0.0]), np.full(3, np.nan)]
)
def test_relaxed_sample_off_the_simplex(S):
    assert_rejects(
        lambda S: rbst.gumbel_softmax(THETA, S, G, tau=1),
        S,
        ValueError,
        "on the simplex",
        "got rows",
        "sample_gumbel_softmax",
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda D: rbst.foust(THETA, D, G),
        lambda D: sample_contraction(D, RNG),
        lambda D: rbst.stochastic_node(THETA, get_estimator("foust"), RNG),
    ],
    ids=["foust", "sample_contraction", "stochastic_node"],
)
def test_foust_takes_two_categories(call):
    assert_rejects(
        call, D, ValueError, "Boolean variables of shape (..., 2)", "(..., 3)", "gr or zgr"
    )


def test_contract_stays_on_the_simplex():
    point = contract(np.eye(2), np.array([0.25, 1.0]))
    np.testing.assert_allclose(point, [[0.625, 0.375], [0, 1]])


@pytest.mark.parametrize("cost", [np.ones(4), np.ones((2, 1)), np.ones((5, 2))])
def test_cost_of_the_wrong_shape(cost):
    logits = np.zeros((2, 3))
    assert_rejects(
        lambda cost: rbst.score_function(logits, np.eye(2, 3), cost),
        cost,
        ValueError,
        "broadcast to logits.shape[:-1] = (2,)",
        str(cost.shape),
        "cost[..., None]",
    )


@pytest.mark.parametrize("value", [np.nan, INF, -INF])
def test_costs_and_baselines_are_finite(value):
    for name, call in (
        ("cost", lambda x: rbst.score_function(THETA, D, x)),
        ("baseline", lambda x: rbst.score_function(THETA, D, 1.0, baseline=x)),
        ("costs", RunningMean().update),
    ):
        for given in (value, np.array(value), [value][:1] if name == "costs" else value):
            with pytest.raises(NotFinite, match=rf"^{name} must .* got .*;"):
                call(given)


@pytest.mark.parametrize("tau", [1e-3, 0.01, 0.1, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 100.0, 1e4])
@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_exponentials_up_to_the_largest_keep_the_digits_of_float32(tau, scale):
    rng, shape = np.random.default_rng(1), (500, 3)
    logits, g = (
        np.float32(scale * rng.standard_normal(shape)),
        np.float32(rng.standard_normal(shape)),
    )
    D = np.eye(3, dtype=np.float32)[rng.integers(0, 3, len(logits))]
    sizes = np.float32(
        [0.0, 1e-40, 1e-8, 1.0, 20.0, 1e10, 1e-2 * LARGEST_EXPONENTIAL, LARGEST_EXPONENTIAL]
    )
    E = rng.choice(sizes, (1, *shape))
    # The oracle: Eq. 9 in logarithms, in float64, with the float32 stand-in for a draw of 0.
    E_64 = np.minimum(positive(E).astype(float), LARGEST_EXPONENTIAL)
    located = rbst.conditional_gumbels(logits.astype(float), D, E_64)[0]
    expected = softmax_vjp(rbst.softmax(located, tau), g.astype(float)) / tau
    result = gumbel_rao(logits, D, g, tau=tau, exponentials=E, num_samples=None, rng=None)
    scale_of_row = np.maximum(abs(expected).max(axis=-1, keepdims=True), 1e-6 / tau)
    assert (abs(result - expected) / scale_of_row).max() < 2e-4


def test_a_running_mean_of_nothing():
    assert_rejects(RunningMean().update, [], ValueError, "at least one cost", "none", "leave")
    assert_rejects(RunningMean, "0.9", TypeError, "a number in [0, 1)", "str", "float")


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2, np.nan])
def test_decay(decay):
    assert_rejects(RunningMean, decay, ValueError, "[0, 1)", f"got {decay}", "0.99 is the default")


# --- The registry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("st-gz", "did you mean 'st-gs'?"),
        ("gumbel_rao", "did you mean 'gr'?"),
        ("gumbel-softmax", "did you mean 'gs'?"),
        ("straight-through", "did you mean 'st'?"),
        ("STGS", "did you mean 'st-gs'?"),
        ("REINFORCE", "did you mean 'reinforce'?"),
        ("gr10", "did you mean 'gr-mc10'?"),
        ("reinforced", "did you mean 'reinforce'?"),
        ("foost", "did you mean 'foust'?"),
        ("gr-mc", "did you mean 'gr-mcK' with a number K >= 1, such as 'gr-mc10'?"),
        ("gr-mcK", "'gr-mcK' with a number K >= 1"),
        ("gr-mc-5", "'gr-mcK' with a number K >= 1"),
        ("gr-mc1.5", "'gr-mcK' with a number K >= 1"),
        ("gr-mc02", "'gr-mcK' with a number K >= 1"),
        ("gr-mc٢", "'gr-mcK' with a number K >= 1"),
        ("gr-mc2\n", "'gr-mcK' with a number K >= 1"),
        ("gr-mc" + "9" * 200, "Known:"),
        (["st"], "Known:"),
        ("", "Known:"),
        ("something else entirely", "Known:"),
        (None, "Known:"),
        (3, "Known:"),
    ],
)
def test_an_unknown_name_lists_the_known_and_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match="unknown estimator") as caught:
        get_estimator(name)
    message = str(caught.value)
    assert repr(name[:80] if isinstance(name, str) else name) in message
    assert nearest in message
    known = message.split("Known: ")[1].split(", ")
    assert {"st", "foust", "st-gs", "gs", "reinforce", "gr-mcK"} <= set(known)


@pytest.mark.parametrize("name", ["gr-mc" + "9" * 20, "gr-mc" + "9" * 100])
def test_more_samples_than_can_be_drawn(name):
    with pytest.raises(
        ValueError, match=r"num_samples must be at most 1e.12, got 1e.*; take the limit"
    ):
        get_estimator(name)


def test_gr_mc0():
    with pytest.raises(ValueError, match=r">= 1, got 0; K = 1 is st_gumbel_softmax"):
        get_estimator("gr-mc0")


MINE = {
    "evaluates": "corner",
    "pull_back": lambda logits, D, g, rng: g,
    "given_D": "gumbel-rao",
    "tau": 0.5,
    "num_samples": 1,
}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            {"evaluates": "everywhere"},
            ["evaluates must be one of corner, inside", "'everywhere'", "where"],
        ),
        ({"evaluates": "corner"}, ["'corner' needs pull_back", "got None", "pass a function"]),
        ({"evaluates": "several"}, ["'several' needs estimate", "got None", "pass a function"]),
        (MINE | {"num_samples": -2}, ["num_samples must be >= 1", "got -2", "exact_gumbel_rao"]),
        (MINE | {"num_samples": 0}, ["num_samples must be >= 1", "got 0", "exact_gumbel_rao"]),
        (MINE | {"tau": -1.0}, ["tau must be positive", "got -1.0", "0.5"]),
        (MINE | {"tau": math.nan}, ["tau must be positive", "got nan", "0.5"]),
        (MINE | {"baseline": math.nan}, ["baseline must be finite", "got NaN", "0.0"]),
        (
            MINE | {"evaluates": "inside"},
            ["evaluates 'corner'", "got 'inside'", "leave given_D out"],
        ),
    ],
)
def test_an_estimator_that_cannot_work_is_refused_when_it_is_made(arguments, parts):
    with pytest.raises(ValueError, match="got") as caught:
        Estimator("mine", **arguments)
    for part in parts:
        assert part in str(caught.value)


def test_nothing_is_computed_before_the_input_is_checked():
    def never(D):
        raise AssertionError

    state = RNG.bit_generator.state
    estimator = get_estimator("st")
    for logits, rng in ((np.zeros((1, 2), int), RNG), (np.zeros((1, 2)), None), (np.zeros(2), RNG)):
        with pytest.raises((TypeError, ValueError)):
            rbst.estimate_gradient(estimator, never, logits, rng)
    with pytest.raises(ValueError, match="tau"):
        rbst.sample_gumbel_softmax(THETA, tau=0, rng=RNG)
    with pytest.raises(ValueError, match="outcomes"):
        rbst.exact_expectation(never, np.zeros((30, 2)))
    with pytest.raises(ValueError, match="one-hot"):
        gumbel_rao(D=np.zeros(3))
    assert RNG.bit_generator.state == state


ONE = np.log([[0.2, 0.3, 0.5]])
EST = rbst.estimators


def sum_left_out(D):
    """One cost for each variable, where one for all is wanted."""
    return (D @ np.array([1.0, 2.0, 4.0])) ** 2


TWO_DRAWS = [(np.zeros((2, 3)), np.eye(3)[[0, 1]])]


def objective(cost=(1.0, 2.0), draws=TWO_DRAWS, direct=0.0, baseline=0.0):
    return rbst.objective("reinforce", np.array(cost), direct, draws, baseline)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rbst.one_hot(np.array([5, -1]), 3), r"index must be in 0\.\.2, got -1\.\.5"),
        (lambda: rbst.one_hot(np.array([0.5]), 3), "index must hold integers, got float64"),
        (lambda: rbst.score_function(np.zeros(3, "f4"), D, 1e39), "in float32 must be finite"),
        (
            lambda: objective(baseline=np.zeros((2, 1))),
            "baseline must be a number or have the shape",
        ),
        (lambda: objective(direct=np.zeros(3)), "direct must be a number or have the shape"),
        (lambda: objective(cost=(), draws=()), "one entry for each of B >= 1 examples"),
        (lambda: objective(cost=(1.0, 2.0, 3.0)), "one entry for each example of the draws"),
        (
            lambda: rbst.estimate_gradient("st", sum_left_out, np.zeros((2, 3)), 0),
            "sum over the last two axes only",
        ),
        (
            lambda: rbst.estimate_gradient("st", quadratic, ONE, -1),
            "a seed must be an integer >= 0",
        ),
        (
            lambda: EST.decoupled_gumbel_softmax(np.zeros((5, 3)), np.zeros((5, 1, 3)), G, tau=1),
            "x must have the shape of logits",
        ),
        (
            lambda: EST.decoupled_gumbel_softmax(THETA, np.array([np.nan, 0, 0]), G, tau=1),
            "x must be finite or -inf",
        ),
        (lambda: EST.leave_one_out(THETA, np.eye(3), np.ones(2)), "costs must"),
        (
            lambda: EST.double_control_variate(
                ONE, np.stack([np.eye(3)[:1]] * 2), np.array([1, np.nan]), np.zeros((2, 1, 3))
            ),
            "costs must be finite",
        ),
        (
            lambda: EST.leave_one_out(np.zeros(3, "f4"), np.eye(3)[:2], [0, 1e39]),
            "the cost less those of the others in float32 must be finite",
        ),
        (
            lambda: EST.arsm(lambda D: 1e39 * quadratic(D), ONE.astype("f4"), rng=RNG),
            "in float32 must be finite, got an infinity; scale the costs down",
        ),
        (
            lambda: EST.reinmax_cv(THETA, D, G, weight="1", rng=RNG),
            "weight must be a number, got str",
        ),
        (
            lambda: EST.relax(quadratic, ONE, control=(np.ones_like, np.ones_like), rng=RNG),
            "control must map arrays",
        ),
        (
            lambda: EST.relax(quadratic, ONE, control=(quadratic, quadratic), rng=RNG),
            "the derivative of control must have the shape of logits",
        ),
        (
            lambda: rbst.gumbel.rejection_gumbels(THETA, D, num_samples=1, rng=RNG, max_draws=0),
            "max_draws must be finite and at least 1",
        ),
        (
            lambda: EST.concrete_kl(
                ONE, np.zeros((2, 3)), tau=1, prior_tau=1, num_samples=9, rng=RNG
            ),
            r"prior_logits must broadcast to the shape of logits, \(1, 3\), got \(2, 3\)",
        ),
        (
            lambda: EST.concrete_kl(
                np.zeros((2, 3)), np.zeros((3, 3)), tau=1, prior_tau=1, num_samples=9, rng=RNG
            ),
            r"prior_logits must broadcast to the shape of logits, \(2, 3\), got \(3, 3\)",
        ),
        (
            lambda: EST.double_control_variate(
                ONE, np.stack([np.eye(3)[:1]] * 2), np.zeros((2, 1)), np.zeros((2, 1, 3))
            ),
            r"costs must have one entry for each sample, shape \(2,\), got \(2, 1\)",
        ),
        (
            lambda: rbst.diagnose("gr", quadratic, ONE).relative_mse("1"),
            "batch_size must be >= 1, got '1'",
        ),
        (
            lambda: EST.concrete_kl(
                ONE, [[0.0, 0.0, -INF]], tau=1, prior_tau=1, num_samples=9, rng=RNG
            ),
            "a category that only one of the two allows",
        ),
        (lambda: rbst.conditional_mean(THETA, D, G, tau=1, rtol=10**400), "beyond 1e308"),
        (
            lambda: rbst.best_temperature("gr", quadratic, ONE, batch_size="1"),
            "batch_size must be a number, got str",
        ),
        (lambda: EST.leave_one_out(THETA, np.ones((2, 3)), np.ones(2)), "samples must be one-hot"),
        (
            lambda: EST.categorical_kl(np.zeros((4, 3)), np.zeros(1)),
            "categories of logits, 3, got 1",
        ),
        (lambda: get_estimator("gst", gap=np.nan), "gap must be finite and at least 0, got nan"),
        (lambda: get_estimator("gst", gap="1"), "gap must be a number, got str"),
        (lambda: get_estimator("rebar", weight=INF), "weight must be finite, got inf"),
        (lambda: get_estimator("sum-and-sample", num_summed=-5), "num_summed must be >= 1, got -5"),
        (lambda: EST.rloo(quadratic, ONE, num_samples=-5, rng=RNG), "num_samples must be >= 1"),
        (
            lambda: EST.relax(quadratic, ONE, control=quadratic, rng=RNG),
            "control must be a pair of functions",
        ),
        (lambda: rbst.diagnose(rbst.zgr, quadratic, ONE), "a name or an Estimator, got function"),
        (lambda: rbst.diagnose(rbst.zgr, quadratic, ONE, tau=0.5), "a name or an Estimator, got "),
        (lambda: get_estimator("gst", gap=10**400), "gap must be finite .* beyond 1e308"),
        (lambda: rbst.stochastic_node(ONE, rbst.zgr, RNG), "a name or an Estimator"),
        (
            lambda: rbst.best_temperature(get_estimator("gr"), quadratic, ONE),
            "a function from tau to an Estimator",
        ),
        (
            lambda: rbst.best_temperature("gr", quadratic, ONE, tau_range=0.1),
            "tau_range must be a pair",
        ),
        (
            lambda: rbst.diagnose("gr", quadratic, ONE).relative_mse(0),
            "batch_size must be >= 1, got 0",
        ),
        (
            lambda: grad(lambda logits: rbst.exact_expectation(quadratic, logits))(ONE),
            "logits must not be traced",
        ),
    ],
)
def test_what_used_to_pass_or_to_fail_elsewhere(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


JOINT = {
    "rloo": EST.rloo,
    "double_cv": partial(EST.double_cv, df_dD=np.zeros_like),
    "muprop": partial(EST.muprop, df_dD=np.zeros_like),
    "rebar": partial(EST.rebar, df_dD=np.zeros_like, tau=0.5),
    "relax": partial(EST.relax, df_dD=np.zeros_like),
    "arm": EST.arm,
    "disarm": EST.disarm,
    "arsm": EST.arsm,
    "sum_and_sample": EST.sum_and_sample,
    "unordered_set": EST.unordered_set,
}


@pytest.mark.parametrize("call", JOINT.values(), ids=JOINT)
def test_a_joint_cost_is_that_of_several_variables(call):
    with pytest.raises(
        ValueError, match=r"logits must have shape \(..., L, n\).*, got \(2,\); give"
    ):
        call(lambda D: D[..., 0], np.zeros(2), rng=RNG)


def test_a_fraction_is_a_number():
    f4 = THETA.astype("f4"), D.astype("f4"), G.astype("f4")
    half = Fraction(1, 2)
    for given, wanted in (
        (EST.gapped_straight_through(*f4, tau=half, gap=half), (0.5, 0.5)),
        (EST.gapped_straight_through(*f4, tau=np.float16(0.5), gap=np.float64(0.5)), (0.5, 0.5)),
    ):
        tau, gap = wanted
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given, EST.gapped_straight_through(*f4, tau=tau, gap=gap))
    given = rbst.score_function(f4[0], f4[1], 1.0, baseline=half)
    np.testing.assert_array_equal(given, rbst.score_function(f4[0], f4[1], 1.0, baseline=0.5))
    assert get_estimator("reinforce", baseline=half).baseline == 0.5
    given = EST.minimum_variance(*f4, regularization=half)
    np.testing.assert_array_equal(given, EST.minimum_variance(*f4, regularization=0.5))


def test_whole_numbers_without_a_sign_are_costs_as_any_other():
    def lookup(D):
        return D[..., 0, :].argmax(axis=-1)

    def unsigned(D):
        return lookup(D).astype(np.uint8)

    estimator = get_estimator("reinforce", baseline=2)
    for few, many in zip(
        (rbst.estimate_gradient(estimator, f, ONE, 0) for f in (lookup, unsigned)),
        (rbst.diagnose(estimator, f, ONE).bias_squared for f in (lookup, unsigned)),
        strict=True,
    ):
        assert many < 1e-20
        assert abs(few).max() < 3
    pair = np.array([1, 2], np.uint8)

    def loss(logits, cost):
        return rbst.objective("reinforce", cost, 0.0, [(logits, TWO_DRAWS[0][1])], baseline=3)

    np.testing.assert_array_equal(
        grad(loss)(TWO_DRAWS[0][0], pair), grad(loss)(TWO_DRAWS[0][0], pair.astype(float))
    )


def test_bytes_in_the_order_of_another_machine():
    logits = ONE.astype(">f8")
    np.testing.assert_array_equal(
        rbst.sample_categorical(logits, np.random.default_rng(0)),
        rbst.sample_categorical(ONE, np.random.default_rng(0)),
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda D: -anp.log(D[..., 0, 0] + 1e-4),
        lambda D: -anp.log(anp.clip(D[..., 0, 0], 1e-6, 2)),
        lambda D: anp.where(D[..., 0, 0] > 0.5, D[..., 0, 0] - 0.5, 0),
    ],
    ids=["steep", "clipped", "where"],
)
def test_an_f_that_bends_at_a_corner_is_diagnosed(f):
    assert np.isfinite(rbst.diagnose("st", f, ONE).mse)


@pytest.mark.parametrize(
    "gradient",
    [
        lambda logits, D, g: rbst.gumbel_rao(logits, D, g, tau=0.5, num_samples=2, rng=RNG),
        lambda logits, D, g: rbst.exact_gumbel_rao(logits, D, g, tau=0.5),
        lambda logits, D, g: rbst.conditional_mean(logits, D, g, tau=0.5),
        lambda logits, D, g: rbst.conditional_moments(logits, D, g, tau=0.5)[1],
        lambda logits, D, g: rbst.conditional_covariance(logits, D, g, tau=0.5),
        lambda logits, D, g: rbst.gumbel_rao(g, D, g, tau=0.5, exponentials=logits[None]),
        lambda logits, D, g: rbst.diagnose("gr", lambda D: (D * D).sum(axis=(-1, -2)), logits),
        lambda logits, D, g: rbst.best_temperature("gr", lambda D: D[..., 0, 0], logits),
        lambda logits, D, g: EST.reinmax_cv(logits, D, g, rng=RNG),
        lambda logits, D, g: rbst.rejection_gumbels(logits[0], D[0], num_samples=2, rng=RNG),
        lambda logits, D, g: EST.rloo(quadratic, logits, rng=RNG),
        lambda logits, D, g: EST.double_cv(quadratic, logits, df_dD=lambda D: 2 * D, rng=RNG),
        lambda logits, D, g: EST.muprop(quadratic, logits, df_dD=lambda D: 2 * D, rng=RNG),
        lambda logits, D, g: EST.rebar(quadratic, logits, df_dD=lambda D: 2 * D, tau=1, rng=RNG),
        lambda logits, D, g: EST.relax(quadratic, logits, df_dD=lambda D: 2 * D, rng=RNG),
        lambda logits, D, g: EST.arm(quadratic, logits, rng=RNG),
        lambda logits, D, g: EST.disarm(quadratic, logits, rng=RNG),
        lambda logits, D, g: EST.arsm(quadratic, logits, rng=RNG),
        lambda logits, D, g: EST.sum_and_sample(quadratic, logits, rng=RNG),
        lambda logits, D, g: EST.unordered_set(quadratic, logits, rng=RNG),
    ],
)
@pytest.mark.parametrize("n", [2, 3])
def test_what_draws_or_integrates_says_that_it_cannot_be_traced(gradient, n):
    D, g = np.eye(n)[:1], np.ones((1, n))
    with pytest.raises(TypeError, match=r"must not be traced by autograd, .* stochastic_node"):
        grad(lambda logits: gradient(logits, D, g).sum())(np.zeros((1, n)))
