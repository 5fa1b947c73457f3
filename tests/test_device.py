"""Arrays of a device: in and out of every function, without a copy to the host, in the precision they came.

Every test of results runs on the stand-in of ``device_array.py`` and, where there is a GPU, on CuPy. Random
functions are handed NumPy's draws on the device, so that results can be checked against NumPy's to rounding.
"""

import copy
import inspect
import re
import sys
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import autograd.numpy as anp
import device_array
import numpy as np
import pytest
from autograd import grad, value_and_grad
from autograd.core import VJPNode, make_vjp
from autograd.numpy.numpy_boxes import ArrayBox
from device_array import DeviceArray, watch
from oracles import NAMES, assert_mean
from scipy.stats import norm

import rbst
from rbst import _array, categorical, cli, estimators, get_estimator, rao_blackwell
from rbst._array import is_array, namespace, new_generator, row_argmax, row_max, row_sum, to_host
from rbst.autodiff import objective
from rbst.enumeration import enumerate_outcomes
from rbst.estimators.relaxed import sample_contraction
from rbst.experiments import listops, sweep, training, vae
from rbst.experiments.run import training_step
from rbst.experiments.settings import digest
from rbst.models.tree_lstm import Sequences, TreeLSTM, follow, left_branching
from rbst.models.vae import VAE
from rbst.problems import PROBLEMS, get_problem, programme_direct

ONCE = [name for name in NAMES if get_estimator(name).evaluates != "several"]
"""What a node of a graph takes: estimators that evaluate f once."""

NUMPY = SimpleNamespace(xp=np, generator=np.random.default_rng, watch=nullcontext)


def stand_in():
    def generator(seed):
        return device_array.Generator(device_array.Philox4x3210(seed))

    namespace(device_array.zeros(1))  # autograd learns a class when it is first met
    return SimpleNamespace(xp=device_array, generator=generator, watch=watch)


def installed_cupy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a CUDA that is not found
        return pytest.importorskip("cupy", reason="CuPy is not installed (the extra rbst[gpu])")


def real_cupy():
    cupy = installed_cupy()
    if not cupy.cuda.is_available():
        pytest.skip("CuPy is installed, but there is no GPU")

    class NumpyDraws(device_array.Generator):
        place = staticmethod(cupy.asarray)

    def generator(seed):
        return NumpyDraws(device_array.Philox4x3210(seed))

    namespace(cupy.zeros(1))
    return SimpleNamespace(xp=cupy, generator=generator, watch=nullcontext)


@pytest.fixture(params=[stand_in, real_cupy], ids=["stand-in", "cupy"])
def device(request):
    return request.param()


def put(x, xp):
    """Arrays as arrays of ``xp``; anything else as it is."""
    return xp.asarray(x) if isinstance(x, np.ndarray) else x


def assert_same(got, wanted, xp, tolerance=None):
    """Device arrays of the shape, dtype and, to rounding, the numbers of NumPy's result."""
    if isinstance(wanted, tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other, xp, tolerance)
        return
    if not isinstance(wanted, np.ndarray | np.generic):
        assert got == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted)
        return
    assert namespace(got) is xp
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    if tolerance is None:
        tolerance = 2e-5 if wanted.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(to_host(got), wanted, rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------- the stand-in is strict


def test_the_stand_in_does_not_become_a_numpy_array():
    x = device_array.asarray(np.arange(3.0))
    for convert in (np.asarray, np.array, np.median, lambda x: np.add.at(x, 0, 1), range, list):
        with pytest.raises(TypeError):
            convert(x if convert is not list else x[0])
    for still_there in (np.exp(x), np.sum(x), x[0], x.max()):
        assert isinstance(still_there, DeviceArray)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: np.maximum(x, host),
        lambda x, host: device_array.where(x > 0, x, host),
        lambda x, host: x[host.astype(int)],
        lambda x, host: x[[0, 1]],
        lambda x, host: x.__setitem__(slice(None), host),
        lambda x, host: x.__iadd__(host),
        lambda x, host: x.reshape(3, order=None),
        lambda x, host: x.sum(where=x > 0),
        lambda x, host: device_array.sum(x, initial=1),
        lambda x, host: device_array.median(x),
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses_and_hidden_copies(compute):
    with pytest.raises((TypeError, AttributeError)):
        compute(device_array.asarray(np.arange(3.0)), np.arange(3.0))


def test_the_stand_in_counts_copies_and_reads():
    with watch() as traffic:
        x = device_array.asarray(np.arange(3.0, dtype=np.float32))
        x[x > 1] = 0
        assert float(x.sum()) == bool(x.any()) == 1
        device_array.nonzero(x)
        to_host(x)
        x.tolist()
    assert (traffic.uploads, traffic.downloads, traffic.reads) == (1, 2, 4)
    assert set(traffic.dtypes) == {"float32", "bool", "int64"}


def test_without_a_size_the_generator_fills_a_buffer_with_one_number():
    """As CuPy does; a draw into a buffer has to name the size."""
    rng = stand_in().generator(0)
    buffer = device_array.empty(4)
    assert len(set(rng.standard_exponential(out=buffer).tolist())) == 1
    assert len(set(rng.standard_exponential(size=4, out=buffer).tolist())) == 4


def arguments(text):
    """Names and defaults of a list of parameters."""
    signature = inspect.signature(eval(f"lambda {text}: None"))
    return [
        (p.name, p.default) for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD
    ]


def test_the_stand_in_has_nothing_that_cupy_lacks():
    """Needs CuPy and no GPU: its functions are looked at, and not called."""
    cupy = installed_cupy()
    for name in device_array.PUBLIC:
        assert hasattr(cupy, name), name
    for name in device_array.UFUNCS:
        assert isinstance(getattr(cupy, name), cupy.ufunc), name
    for name, text in (device_array.FUNCTIONS | device_array.CREATION).items():
        theirs = inspect.signature(getattr(cupy, name)).parameters.values()
        theirs = [(p.name, p.default) for p in theirs if p.kind is not p.VAR_KEYWORD]
        assert arguments(text) == theirs, name
    for name, text in device_array.METHODS.items():
        theirs = re.search(r"\(self(?:, )?(.*?)\)", getattr(cupy.ndarray, name).__doc__).group(1)
        assert arguments(text) == arguments(theirs.replace("Py_ssize_t ", "")), name
    for name in ("random", "standard_exponential", "integers"):
        ours = inspect.signature(getattr(device_array.Generator, name))
        assert ours == inspect.signature(getattr(cupy.random.Generator, name)), name
    for name in vars(DeviceArray):
        if name.startswith("__") and name not in ("__module__", "__doc__", "__slots__"):
            assert hasattr(cupy.ndarray, name), name
    for name in ("get", "item", "tolist", "astype", "itemsize", "device", "T"):
        assert hasattr(cupy.ndarray, name), name
    assert hasattr(cupy.add, "at")
    assert hasattr(cupy.random, "Philox4x3210")
    # By its class the package finds the module of an array. When CuPy has these two, take them up here.
    assert cupy.ndarray.__module__ == "cupy"
    assert not hasattr(cupy.ndarray, "__array_namespace__")
    assert not hasattr(cupy.ndarray, "__index__")


def test_arrays_of_cupy_are_recognised():
    """Needs CuPy and no GPU: an array of memory that is never looked at."""
    cupy = installed_cupy()
    memory = cupy.cuda.UnownedMemory(4096, 4096, None, device_id=0)
    x = cupy.ndarray((3, 4), "float32", cupy.cuda.MemoryPointer(memory, 0))
    assert is_array(x)
    assert namespace(x) is cupy
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError):
        x.reshape(4, 3, order=None)  # what autograd's own rule of reshape asks for
    with pytest.raises(TypeError):
        range(x)

    def f(x):
        assert isinstance(x, ArrayBox)
        assert (x.shape, x.dtype, x.size, len(x)) == ((3, 4), np.float32, 12, 3)
        return x.reshape(4, 3).T[:, 1]

    _, value = make_vjp(f, x)
    assert isinstance(value, cupy.ndarray)
    assert value.shape == (3,)


# ----------------------------------------------------------------------------- pure functions

THETA = np.random.default_rng(1).normal(size=(5, 3, 4))
THETA[0, 0, 1] = -np.inf
D = categorical.sample_categorical(THETA, np.random.default_rng(2))
G = np.random.default_rng(3).normal(size=THETA.shape)
E = np.random.default_rng(4).standard_exponential((6, *THETA.shape))
E[0, 0, 0, 0] = 0
S = categorical.softmax(THETA + G)
LEVELS = np.array([1.0, 2.0, 4.0, -1.0])


def arrays_of(xp, dtype):
    """The arguments, on a device: a batch of variables, one of it, and Boolean ones."""
    batch = {"logits": THETA, "D": D, "g": G, "S": S, "E": E, "cost": G[..., 0], "levels": LEVELS}
    one = {"theta": THETA[1, 0], "d": D[1, 0]}
    boolean = {
        "logits2": THETA[:, 1:, :2],
        "D2": np.eye(2)[D[:, 1:, 0].astype(int)],
        "g2": G[:, 1:, :2],
    }
    index = {"index": D.argmax(axis=-1)}
    arrays = {k: v.astype(dtype) for k, v in (batch | one | boolean).items()} | index
    return SimpleNamespace(**{k: xp.asarray(v) for k, v in arrays.items()})


def corner_cost(a):
    return lambda D: (D @ a.levels).sum(axis=-1) ** 2


PURE = {
    "softmax": lambda a, rng: rbst.softmax(a.logits, 0.5),
    "softmax_vjp": lambda a, rng: categorical.softmax_vjp(a.S, a.g),
    "log_softmax": lambda a, rng: rbst.log_softmax(a.logits),
    "log_probability": lambda a, rng: rbst.log_probability(a.logits, a.D),
    "log_probability_vjp": lambda a, rng: categorical.log_probability_vjp(a.logits, a.D, a.cost),
    "one_hot": lambda a, rng: categorical.one_hot(a.index, 4, a.g.dtype),
    "sample_categorical": lambda a, rng: rbst.sample_categorical(a.logits, rng),
    "sample_gumbels": lambda a, rng: rbst.sample_gumbels(a.logits, rng),
    "conditional_gumbels": lambda a, rng: rbst.conditional_gumbels(a.logits, a.D, a.E),
    "rejection_gumbels": lambda a, rng: rbst.rejection_gumbels(
        a.theta, a.d, num_samples=9, rng=rng
    ),
    "enumerate_outcomes": lambda a, rng: next(iter(enumerate_outcomes(a.logits[1]))),
    "exact_expectation": lambda a, rng: rbst.exact_expectation(corner_cost(a), a.logits[1]),
    "exact_gradient": lambda a, rng: rbst.exact_gradient(corner_cost(a), a.logits[1]),
    "straight_through": lambda a, rng: rbst.straight_through(a.logits, a.D, a.g, tau=0.7),
    "st_gumbel_softmax": lambda a, rng: rbst.st_gumbel_softmax(
        a.logits, a.D, a.g, tau=0.7, rng=rng
    ),
    "gumbel_rao": lambda a, rng: rbst.gumbel_rao(
        a.logits, a.D, a.g, tau=0.7, num_samples=5, rng=rng
    ),
    "gumbel_rao hot": lambda a, rng: rbst.gumbel_rao(a.logits, a.D, a.g, tau=2.0, exponentials=a.E),
    "exact_gumbel_rao": lambda a, rng: rbst.exact_gumbel_rao(a.logits, a.D, a.g, tau=0.7),
    "gumbel_softmax": lambda a, rng: rbst.gumbel_softmax(a.logits, a.S, a.g, tau=0.7),
    "sample_gumbel_softmax": lambda a, rng: rbst.sample_gumbel_softmax(a.logits, tau=0.7, rng=rng),
    "sample_contraction": lambda a, rng: sample_contraction(a.D2, rng),
    "foust": lambda a, rng: rbst.foust(a.logits2, a.D2, a.g2),
    "foust unweighted": lambda a, rng: rbst.foust(a.logits2, a.D2, a.g2, importance_weights=False),
    "zgr": lambda a, rng: rbst.zgr(a.logits, a.D, a.g),
    "reinmax": lambda a, rng: rbst.reinmax(a.logits, a.D, a.g, tau=0.7),
    "score_function": lambda a, rng: rbst.score_function(a.logits, a.D, a.cost, baseline=0.3),
    "conditional_mean": lambda a, rng: rbst.conditional_mean(
        a.logits, a.D, a.g, tau=0.7, rtol=1e-3
    ),
    "conditional_moments": lambda a, rng: rbst.conditional_moments(a.logits, a.D, a.g, tau=0.7),
    "exact_gumbel_rao Boolean": lambda a, rng: rbst.exact_gumbel_rao(
        a.logits2, a.D2, a.g2, tau=2.0
    ),
    "conditional_moments Boolean": lambda a, rng: rbst.conditional_moments(
        a.logits2, a.D2, a.g2, tau=0.7
    ),
    "conditional_covariance": lambda a, rng: rbst.conditional_covariance(
        a.logits, a.D, a.g, tau=0.7
    ),
    "jacobian_moments": lambda a, rng: rao_blackwell.jacobian_moments(a.logits, a.D, tau=0.7),
    "concrete_density": lambda a, rng: estimators.concrete_density(a.logits, a.S, tau=0.7),
    "categorical_kl": lambda a, rng: estimators.categorical_kl(a.logits, 0 * a.g),
    "sample_log_concrete": lambda a, rng: estimators.sample_log_concrete(
        a.logits, tau=0.7, rng=rng
    ),
    "temperature_gradient": lambda a, rng: estimators.temperature_gradient(a.logits, a.g, tau=0.7),
    "leave_one_out": lambda a, rng: estimators.leave_one_out(a.logits[1], a.D[1:], a.cost[1:]),
    "double_control_variate": lambda a, rng: estimators.double_control_variate(
        a.logits[1], a.D[1:], a.cost[1:, 0], a.g[1:]
    ),
    "gapped_straight_through": lambda a, rng: estimators.gapped_straight_through(
        a.logits, a.D, a.g, tau=0.7
    ),
    "decoupled_gumbel_softmax": lambda a, rng: estimators.decoupled_gumbel_softmax(
        a.logits, a.g, a.g, tau=0.7
    ),
    "minimum_variance": lambda a, rng: estimators.minimum_variance(a.logits, a.D, a.g),
}
SMALL_UPLOADS = {"exact_expectation", "exact_gradient", "enumerate_outcomes"}  # the place values
SMALL_UPLOADS |= {"concrete_density"}  # logarithms of factorials


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PURE)
def test_pure_functions_return_device_arrays_equal_to_those_of_numpy(name, dtype, device):
    wanted = PURE[name](arrays_of(np, dtype), np.random.default_rng(5))
    arrays = arrays_of(device.xp, dtype)
    PURE[name](arrays, device.generator(5))  # the tables of a quadrature are copied once
    with device.watch() as traffic:
        got = PURE[name](arrays, device.generator(5))
    assert_same(got, wanted, device.xp)
    if traffic is not None:
        assert traffic.downloads == 0
        assert traffic.uploads <= (name in SMALL_UPLOADS)


def test_every_public_function_is_tried_on_a_device():
    tried = {name.split()[0] for name in PURE}
    below = {"Estimator", "RunningMean", "get_estimator", "estimate_gradient", "stochastic_node"}
    below |= {"objective", "diagnose", "Diagnosis", "Figure", "best_temperature", "BestTemperature"}
    assert set(rbst.__all__) <= tried | below


def test_tables_of_the_quadrature_are_copied_to_the_device_once():
    device = stand_in()
    a = arrays_of(device.xp, "float64")
    _array._copy_table.cache_clear()
    with watch() as first:
        rbst.exact_gumbel_rao(a.logits, a.D, a.g, tau=0.77)
    with watch() as second:
        rbst.exact_gumbel_rao(a.logits, a.D, a.g, tau=0.77)
    assert first.uploads == 4  # weights, their ratio, log phi and the mean
    assert second.uploads == 0


def test_results_belong_to_the_device_of_the_logits():
    a = arrays_of(device_array, "float64")
    with pytest.raises(TypeError, match=r"device_array\.random\.default_rng"):
        rbst.sample_categorical(a.logits, np.random.default_rng(0))
    with pytest.raises(TypeError):
        rbst.zgr(a.logits, D, G)


def test_a_generator_of_the_device_draws_from_the_right_law(device):
    """On a GPU the draws are CuPy's own. One test in 10**6 would fail by chance."""
    N, pi = 20_000, np.array([0.1, 0.2, 0.7])
    rng = new_generator(device.xp, [0, 1])
    logits = device.xp.asarray(np.tile(np.log(pi), (N, 1)))
    drawn = to_host(rbst.sample_categorical(logits, rng).mean(axis=0))
    z = norm.isf(1e-6 / 2 / 6)
    assert (abs(drawn - pi) < z * np.sqrt(pi * (1 - pi) / N)).all()
    d = device.xp.asarray(np.tile([0.0, 0.0, 1.0], (N, 1)))
    g = device.xp.asarray(np.tile([1.0, 2.0, 4.0], (N, 1)))
    one_draw_each = to_host(rbst.gumbel_rao(logits, d, g, tau=0.5, num_samples=1, rng=rng))
    exact = rbst.exact_gumbel_rao(np.log(pi), np.array([0.0, 0, 1]), np.array([1.0, 2, 4]), tau=0.5)
    assert_mean(one_draw_each, exact)


# ----------------------------------------------------------------------------- autograd

TRACED = {
    "arithmetic": lambda x, c: anp.sum((x * c - c / (x * x + 1) + (2 - x)) / 3 - x),
    "power": lambda x, c: anp.sum(x**3 + x**0 + (x * x + 1) ** -0.5),
    "sum": lambda x, c: anp.sum(anp.sum(x * c, axis=(0, 2)) ** 2) + x.sum(),
    "mean": lambda x, c: anp.sum(anp.mean(x, axis=-1, keepdims=True) * x) + x.mean(),
    "max": lambda x, c: anp.sum(anp.max(x, axis=1) ** 2) + anp.max(x),
    "min": lambda x, c: anp.sum(anp.min(x, axis=-1, keepdims=True) * x),
    "ties": lambda x, c: anp.sum(anp.max(x[..., :1] + 0 * c, axis=-1) ** 2),
    "where": lambda x, c: anp.sum(anp.where(x > 0, x * c, 2.0) + anp.where(c > 0, 0.5, x)),
    "elementwise": lambda x, c: anp.sum(
        anp.exp(x) + anp.log(anp.abs(x) + 1) + anp.log1p(x * x) + anp.expm1(x) + anp.tanh(x)
        + anp.sqrt(anp.square(x) + 1) + anp.sin(x) * anp.cos(x)
    ),
    "of two": lambda x, c: anp.sum(anp.logaddexp(x, c) + anp.maximum(x, c) * anp.minimum(x, 0.1)),
    "compare": lambda x, c: anp.sum(x * (x > 0)),
    "reshape": lambda x, c: anp.sum(x.reshape(3, 10)[1] * anp.reshape(x, (10, 3))[:, 2]),
    "ravel": lambda x, c: anp.sum(anp.ravel(x)[3:] ** 2),
    "transpose": lambda x, c: anp.sum(x.T[0] * anp.swapaxes(x, 0, 2)[1] * anp.transpose(x)[2]),
    "expand": lambda x, c: anp.sum(anp.expand_dims(x, 1) * anp.squeeze(x[:, None])),
    "matmul": lambda x, c: anp.sum((x @ x.T[:, :, 0]) @ c[0, 0]),
    "index": lambda x, c: anp.sum(x[:, 1] * x[..., 0][:, :1]) + x[1, 2, 0],
    "astype": lambda x, c: anp.sum(x.astype("float64") ** 2),
    "broadcast": lambda x, c: anp.sum(x[0] * c + x[:, :1] * x),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACED)
def test_gradients_on_a_device_are_those_of_numpy(name, device):
    f, rng = TRACED[name], np.random.default_rng(0)
    x, c = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    if name in ("transpose", "matmul"):
        x, c = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 3, 3))
    with device.watch() as traffic:
        got = grad(f)(device.xp.asarray(x), device.xp.asarray(c))
    assert_same(got, grad(f)(x, c), device.xp)
    assert traffic is None or (traffic.uploads, traffic.downloads) == (2, 0)


@pytest.mark.parametrize("name", sorted(set(TRACED) - {"astype", "of two"}))
def test_gradients_on_a_device_keep_the_precision(name, device):
    x = np.random.default_rng(0).normal(
        size=(3, 3, 3) if name in ("transpose", "matmul") else (2, 3, 5)
    )
    x = device.xp.asarray(x.astype(np.float32))
    with device.watch() as traffic:
        assert grad(TRACED[name])(x, x).dtype == "float32"
    assert traffic is None or "float64" not in traffic.dtypes


def test_an_index_may_name_an_entry_twice(device):
    index = device.xp.asarray(np.array([0, 0, 2]))
    gradient = grad(lambda x: anp.sum(x[index] ** 2))(device.xp.asarray(np.array([1.0, 2.0, 3.0])))
    assert_same(gradient, np.array([4.0, 0.0, 6.0]), device.xp)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of CuPy's arrays
@pytest.mark.parametrize(
    "f",
    [
        lambda x: anp.sum(anp.dot(x, x)),
        lambda x: anp.sum(anp.einsum("ij,jk->ik", x, x)),
        lambda x: anp.prod(x),
        lambda x: anp.var(x),
        lambda x: anp.sum(anp.stack([x, x])),
        lambda x: anp.sum(x * np.ones((2, 2))),
    ],
)
def test_what_is_not_supported_is_an_error(f, device):
    with pytest.raises((TypeError, AttributeError)):
        grad(f)(device.xp.asarray(np.ones((2, 2))))


def test_numpy_arrays_keep_the_rules_of_autograd():
    """Known by an argument that autograd's rule of a sum takes and that of a device does not."""

    def f(x):
        return anp.sum(x, dtype=float)

    x = device_array.ones(3)
    assert namespace(x) is device_array  # the class has been met
    np.testing.assert_array_equal(grad(f)(np.ones(3)), np.ones(3))
    with pytest.raises(TypeError, match="dtype"):
        grad(f)(x)


# ----------------------------------------------------------------------------- f, autodiff, diagnostics


def problem_on(xp, name, dtype="float64"):
    logits = np.random.default_rng(6).normal(size=(2, 2)).astype(dtype)
    logits = xp.asarray(logits)
    return get_problem(name, logits), logits


@pytest.mark.parametrize("name", PROBLEMS)
def test_test_functions_and_their_derivatives(name, device):
    D = np.eye(2)[np.random.default_rng(7).integers(2, size=(9, 2))]
    wanted, _ = problem_on(np, name)
    problem, logits = problem_on(device.xp, name)
    there = device.xp.asarray(D)
    assert_same(problem.f(there), wanted.f(D), device.xp)
    assert_same(problem.df_dD(there), wanted.df_dD(D), device.xp)
    assert_same(grad(lambda D: problem.f(D).sum())(there), wanted.df_dD(D), device.xp)
    p = rbst.softmax(logits)
    assert_same(programme_direct(p, there[0]), programme_direct(to_host(p), D[0]), device.xp)


@pytest.mark.parametrize("traced", [True, False], ids=["autograd", "df_dD"])
@pytest.mark.parametrize("name", NAMES)
def test_estimate_gradient(name, traced, device):
    def estimate(backend):
        problem, logits = problem_on(backend.xp, "quartic")
        many = backend.xp.tile(logits, (7, 1, 1))
        df_dD = None if traced else problem.df_dD
        estimator = get_estimator(name, tau=0.6)
        return rbst.estimate_gradient(estimator, problem.f, many, backend.generator(0), df_dD=df_dD)

    assert_same(estimate(device), estimate(NUMPY), device.xp)


@pytest.mark.parametrize("name", ONCE)
def test_a_stochastic_node_and_its_objective(name, device):
    def gradient(backend, watched):
        estimator, rng = get_estimator(name, tau=0.6), backend.generator(0)
        weights = backend.xp.asarray(np.array([[1.0, -2.0], [0.5, 3.0]]))

        def loss(logits):
            point = rbst.stochastic_node(logits, estimator, rng)
            cost = anp.sum(point * weights, axis=(-2, -1)) ** 2
            return objective(
                estimator, cost, anp.sum(logits, axis=(-2, -1)), [(logits, point)], 0.3
            )

        logits = backend.xp.asarray(np.random.default_rng(1).normal(size=(6, 2, 2)))
        grad(loss)(logits)
        with watched() as traffic:
            return grad(loss)(logits), traffic

    got, traffic = gradient(device, device.watch)
    assert_same(got, gradient(NUMPY, nullcontext)[0], device.xp)
    assert traffic is None or (traffic.uploads, traffic.downloads) == (0, 0)


@pytest.mark.parametrize("per_coordinate", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_diagnosis(name, per_coordinate, device):
    options = {"num_samples": 50, "per_coordinate": per_coordinate}
    wanted = diagnosis(NUMPY, name, **options)
    got = diagnosis(device, name, **options)
    for field, value in vars(wanted).items():
        assert_same(getattr(got, field), value, device.xp, tolerance=1e-9)
    assert rbst.diagnostics.diagnosis_table([got]) == rbst.diagnostics.diagnosis_table([wanted])


def diagnosis(backend, name, **options):
    problem, logits = problem_on(backend.xp, "quadratic")
    rng = backend.generator(0)
    return rbst.diagnose(get_estimator(name, tau=0.6), problem.f, logits, rng=rng, **options)


def test_the_best_temperature(device):
    def best(backend):
        problem, logits = problem_on(backend.xp, "linear")
        return rbst.best_temperature("gr", problem.f, logits, tau_range=(0.2, 2.0))

    assert best(device).tau == pytest.approx(best(NUMPY).tau)


# ----------------------------------------------------------------------------- models


def vae_loss(backend, name, dtype):
    rng = np.random.default_rng(0)
    x = backend.xp.asarray((rng.random((6, 12)) < 0.5).astype(dtype))
    mean_pixels = backend.xp.asarray(rng.uniform(0.2, 0.8, 12).astype(dtype))
    model = VAE(mean_pixels, num_variables=3, arity=2, hidden=(5,))
    estimator = get_estimator(name, tau=0.6, rtol=1e-3)
    rng = backend.generator(3)

    def loss(flat):
        cost, direct, draws = model.training_terms(flat, x, estimator, rng)
        return objective(estimator, cost, direct, draws, 0.7)

    return loss, model.initial_parameters(np.random.default_rng(1), dtype)


def some_sequences(xp):
    rng = np.random.default_rng(0)
    lengths = np.array([6, 1, 2, 5, 3, 6])
    tokens, merges = rng.integers(0, 9, (6, 6)), rng.integers(0, 5, (6, 5))
    merges = np.minimum(merges, np.maximum(lengths[:, None] - 2 - np.arange(5), 0))
    return Sequences(tokens, lengths, rng.integers(0, 4, 6), merges).move(xp)


def parser_loss(backend, name, dtype):
    model = TreeLSTM(num_tokens=9, num_classes=4, hidden=5, forget_bias=1.0)
    sequences, rng = some_sequences(backend.xp), backend.generator(3)
    estimator = get_estimator(name, tau=0.6, rtol=1e-3)

    def loss(flat):
        cost, direct, draws = model.training_terms(flat, sequences, estimator, rng)
        return objective(estimator, cost, direct, draws, 0.7)

    parameters = model.initial_parameters(np.random.default_rng(1), dtype)
    return loss, backend.xp.asarray(parameters)


STEPS = [(vae_loss, name) for name in ONCE]
STEPS += [(parser_loss, name) for name in ONCE if get_estimator(name).evaluates != "inside"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("model_loss", "name"), STEPS)
def test_a_training_step_of_a_model(model_loss, name, dtype, device):
    """Equal to NumPy's; nothing but scalars crosses, and float32 is never left."""
    loss, parameters = model_loss(NUMPY, name, dtype)
    value_and_grad(loss)(parameters)
    wanted = value_and_grad(loss)(parameters)
    loss, parameters = model_loss(device, name, dtype)
    value_and_grad(loss)(parameters)  # copies the table of gr to the device
    with device.watch() as traffic:
        got = value_and_grad(loss)(parameters)
    assert_same(got[0], wanted[0], device.xp)
    assert_same(got[1], wanted[1], device.xp)
    if traffic is not None:
        assert (traffic.uploads, traffic.downloads) == (0, 0)
        assert set(traffic.dtypes) == {dtype, "int64", "bool"}


@pytest.mark.parametrize(("model_loss", "name"), STEPS)
def test_on_numpy_float32_stays_float32_forward_and_backward(model_loss, name, monkeypatch):
    """At every node of the graph: its value, and the gradient that comes to it."""
    dtypes, initialise = set(), VJPNode.__init__

    def watched(node, value, *rest):
        initialise(node, value, *rest)
        pull_back = node.vjp

        def watched_pull_back(g):
            dtypes.add(("backward", np.result_type(g).name))
            return pull_back(g)

        dtypes.add(("forward", np.result_type(value).name))
        node.vjp = watched_pull_back

    monkeypatch.setattr(VJPNode, "__init__", watched)
    loss, parameters = model_loss(NUMPY, name, "float32")
    assert value_and_grad(loss)(parameters)[1].dtype == np.float32
    assert dtypes == {("forward", "float32"), ("backward", "float32")}


def test_trees_that_are_given_or_greedy(device):
    def everything(backend):
        model = TreeLSTM(num_tokens=9, num_classes=4, hidden=5)
        flat = model.initial_parameters(np.random.default_rng(1), "float64")
        flat, sequences = backend.xp.asarray(flat), some_sequences(backend.xp)
        choices = None, left_branching, follow(sequences.merges)
        return tuple(model.predict(flat, sequences, choose) for choose in choices)

    assert_same(everything(device), everything(NUMPY), device.xp)


def test_bounds_of_a_vae(device):
    def bounds(backend):
        rng = np.random.default_rng(0)
        model = VAE(backend.xp.asarray(rng.uniform(0.2, 0.8, 12)), 3, 4, (5,))
        flat = model.initial_parameters(np.random.default_rng(1), "float64")
        x = backend.xp.asarray((rng.random((6, 12)) < 0.5).astype(float))
        return model.bounds(flat, x, 20, backend.generator(0))

    assert_same(bounds(device), bounds(NUMPY), device.xp)


# ----------------------------------------------------------------------------- experiments

TRACK_OPTIONS = "vae --track --estimator gr-mc10 --hidden 5 --bits 4"
TRACK_OPTIONS += " --arity 2 --iterations 20 --bound-samples 3 --checkpoint-every 7"
VAE_OPTIONS = TRACK_OPTIONS.replace("--track", "--estimator st-gs --estimator reinforce")
LISTOPS_OPTIONS = "listops --estimator gr-mc10 --estimator gold --hidden 4 --iterations 6"
LISTOPS_OPTIONS += " --measure-every 3 --num-expressions 400 --optimizer adam --checkpoint-every 2"


@pytest.fixture
def gpu(monkeypatch):
    """``--device gpu`` means the stand-in."""

    def device_namespace(device):
        return {"cpu": np, "gpu": device_array}[device]

    for name, module in list(sys.modules.items()):
        if name.startswith("rbst.experiments.") and hasattr(module, "device_namespace"):
            monkeypatch.setattr(module, "device_namespace", device_namespace)


def command(text, out, *more):
    return cli.main([*text.split(), "--device", "gpu", "--out", str(out), *more])


def stored(folder):
    """Everything that a run left, but the clock: arrays as bytes, results as they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {k: a.tobytes() for k, a in arrays.items() if k != "rest"}
        elif path.name in ("result.json", "test.json"):
            text = path.read_text()
            found[name] = re.sub(r'"milliseconds_per_iteration": [^,]*', "", text)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("options", "module"),
    [(VAE_OPTIONS, vae), (TRACK_OPTIONS, vae), (LISTOPS_OPTIONS, listops)],
    ids=["vae", "vae --track", "listops"],
)
def test_a_training_on_a_device_resumes_bit_for_bit(
    options, module, gpu, tmp_path, monkeypatch, capsys
):
    if "--track" in options:
        for name, value in {"VARIANCE_DRAWS": 40, "REFERENCE_DRAWS": 40, "TAUS": (0.5,)}.items():
            monkeypatch.setattr(f"rbst.experiments.tracking.{name}", value)
    assert command(options, tmp_path / "whole") == 0
    assert "nan" not in capsys.readouterr().out

    momentum_or_adam = "adam_step" if module is listops else "momentum_step"
    step, calls = getattr(module, momentum_or_adam), []

    def step_or_die(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        step(*arguments, **options)

    monkeypatch.setattr(module, momentum_or_adam, step_or_die)
    assert command(options, tmp_path / "killed") == 130
    assert command(options, tmp_path / "killed", "--resume") == 0
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    assert len(stored(tmp_path / "whole")) >= 8


def small_run(experiment, folder, **options):
    """A run with ``gr-mc10`` of an experiment in small."""
    if experiment == "vae":
        config = vae.make_config({"bits": 4, "arity": 2, "hidden": [5], **options})
        return vae.VAERun(config, "gr-mc10", 0, vae.load_images(config), folder)
    config = listops.Config(num_expressions=400, hidden=4, **options)
    return listops.ParserRun(config, "gr-mc10", 0, listops.load_data(config), folder)


@pytest.mark.parametrize("experiment", ["vae", "listops"])
def test_no_array_crosses_in_a_training_step(experiment, gpu, tmp_path):
    run = small_run(experiment, tmp_path, device="gpu")
    step, state = training_step(run), run.start()
    assert isinstance(state.parameters, DeviceArray)
    run.minibatch(0)  # the examples are copied once, when they are first asked for
    training._shuffled.cache_clear()
    with watch() as first:
        step(state)
    for state.iteration in range(1, 4):
        with watch() as traffic:
            step(state)
        assert (traffic.uploads, traffic.downloads) == (0, 0)
        assert set(traffic.dtypes) == {"float32", "int64", "bool"}
        assert 0 < traffic.reads <= {"vae": 11, "listops": 133}[experiment]  # docs/gpu.md
    assert (first.uploads, first.downloads) == (1, 0)  # the order of the examples, once an epoch


def test_every_step_draws_anew_and_a_copy_of_the_state_draws_the_same(gpu, tmp_path):
    state = small_run("vae", tmp_path, device="gpu").start()
    again = copy.deepcopy(state.rng)
    draws = [state.generator().random(3).tolist() for _ in range(2)]
    assert draws[0] != draws[1]
    state.rng = again
    assert [state.generator().random(3).tolist() for _ in range(2)] == draws


@pytest.mark.parametrize("experiment", ["vae", "listops"])
def test_training_starts_alike_on_every_device(experiment, gpu, tmp_path):
    host, device = (small_run(experiment, tmp_path, device=d).start() for d in ("cpu", "gpu"))
    np.testing.assert_array_equal(to_host(device.parameters), host.parameters)


def test_a_job_of_a_sweep_on_a_device(gpu, tmp_path):
    options = {"bits": 4, "arity": 2, "hidden": [5], "iterations": 5, "device": "gpu"}
    config = vae.make_config(options | {"estimators": ["st-gs"], "bound_samples": 2})
    job = sweep.Job("vae", config, tmp_path / "job", None, 100)
    sweep.train_job(job)
    sweep.test_job(job)
    assert (tmp_path / "job" / "test.json").is_file()


def test_the_usual_device_does_not_change_the_names_of_folders():
    """The digests were made before there was a choice: ``job_key(Config(estimators=("st-gs",)))``."""
    config = vae.Config(estimators=("st-gs",))
    assert sweep.job_key(vae.EXPERIMENT, config) == "st-gs-n8-b20-774bdb8db1"
    elsewhere = vae.Config(estimators=("st-gs",), device="gpu")
    assert digest(elsewhere) != digest(config)


COMMANDS = ("vae", "sweep", "sweep listops", "listops")


@pytest.mark.parametrize("words", COMMANDS)
def test_without_cupy_one_line_names_the_extra_and_nothing_is_written(
    words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert command(words, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'rbst[gpu]'" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_gpu_one_line_says_so_and_nothing_is_written(
    words, tmp_path, monkeypatch, capsys
):
    blind = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "cupy", blind)
    assert command(words, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "NVIDIA GPU" in error
    assert "rbst[gpu]" in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_device_is_refused():
    for config in (vae.Config, listops.Config):
        with pytest.raises(ValueError, match="--device must be cpu or gpu"):
            config(device="tpu")


# ----------------------------------------------------------------------------- the array API


def test_reductions_of_rows_keep_to_the_array_api():
    """array-api-strict has no methods of arrays, no ``out`` and dtypes of its own, which the package uses.

    It serves for the functions that use none of these: ``namespace`` and the reductions of rows.
    """
    strict = pytest.importorskip("array_api_strict")
    host = np.random.default_rng(0).normal(size=(3, 5))
    x = strict.asarray(host)
    assert namespace(x) is strict
    for reduce in (row_max, row_sum, row_argmax):
        np.testing.assert_allclose(np.from_dlpack(reduce(x)), reduce(host))
