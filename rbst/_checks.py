"""What the arguments must be, said once.

Each function returns its argument ready for use or raises a ``TypeError`` or ``ValueError`` that says
what was wanted, what was given, and a cure. A leaf: anyone may import it.
"""

from __future__ import annotations

import math
import numbers
from types import ModuleType
from typing import Any

import numpy as np
from autograd.tracer import isbox

from rbst._array import Array, getval, is_array, namespace, new_generator, row_max, row_sum

FLOATS = "fd"  # the characters of float32 and float64: their names take longer to find

OTHER_LIBRARIES = ("jax", "jaxlib", "tensorflow", "torch")
"""Whose arrays are refused: they would be copied to NumPy in silence, or fail far from here."""

LARGEST_EXPONENTIAL = 1e20
"""No draw of Exp(1) comes near it, and float32 keeps its digits up to it: from 1e29 on, a ratio to the least draw that
is taken, 4e-9, is subnormal."""

LARGEST_NUM_SAMPLES = 10**12


class NotFinite(ValueError):
    """NaN or an infinity where a number was wanted: what a training that diverges runs into."""


def check_array(name: str, values: Any, like: Array | None = None) -> Array:
    """Real numbers as an array of NumPy, CuPy or autograd; a list becomes one that lies where ``like`` does."""
    values = _to_array(name, values, like)
    if values.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers, got {values.dtype}; convert it, for example with "
            "numpy.real for complex numbers or .astype(float) for text"
        )
    return values


def _to_array(name: str, values: Any, like: Array | None = None) -> Array:
    if type(values) is np.ndarray:
        return values
    kind = f"{type(values).__module__}.{type(values).__qualname__}"
    cure = None
    if kind.partition(".")[0] in OTHER_LIBRARIES:
        cure = "convert it first with numpy.asarray"
    elif isinstance(values, np.ma.MaskedArray):
        cure = "its mask would be lost, so fill it first with .filled(value)"
    elif isinstance(values, np.matrix):
        cure = "it multiplies as a matrix, so pass numpy.asarray of it"
    if cure is not None:
        raise TypeError(f"{name} must be an array of NumPy or CuPy, got a {kind}; {cure}")
    if is_array(values):
        return values
    try:
        return (namespace() if like is None else namespace(getval(like))).asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array or a list of one shape, got one that is none ({error}); give its "
            "rows one length"
        ) from error


def as_float(values: Array) -> Array:
    """Real numbers as floats: floats stay as they are, integers and booleans become float64."""
    return values if values.dtype.kind == "f" else values.astype("float64")


def as_precise(values: Array, like: Array) -> Array:
    """Real numbers as floats in the precision of ``like``, or in their own if that is higher."""
    values = as_float(values)
    return values.astype(like.dtype) if values.dtype.itemsize < like.dtype.itemsize else values


def check_finite(name: str, values: Array, cure: str) -> None:
    """Neither NaN nor an infinity anywhere; an array that may be traced."""
    values = getval(values)
    xp = namespace(values)
    if not bool(xp.isfinite(values).all()):
        fault = "NaN" if bool(xp.isnan(values).any()) else "an infinity"
        raise NotFinite(f"{name} must be finite, got {fault}; {cure}")


def in_precision(what: str, difference: Array, logits: Array) -> Array:
    """A difference of costs, taken in their own precision, in that of ``logits``."""
    with np.errstate(over="ignore"):  # beyond float32 it is found out below
        cast = difference.astype(logits.dtype, copy=False)
    check_finite(f"{what} in {logits.dtype}", cast, "scale the costs down")
    return cast


def check_cost_shape(costs: Any, shape: tuple[int, ...], function: str = "f") -> None:
    """One cost for each array ``(L, n)``."""
    if np.shape(costs) != shape:
        raise ValueError(
            f"{function} must map arrays of shape ({', '.join(map(str, shape))}, L, n) to costs of shape {shape}, "
            f"got {np.shape(costs)}; sum over the last two axes only"
        )


def check_logits(logits: Array, name: str = "logits") -> Array:
    """Float logits ``(..., n)``, each row with a finite entry and neither NaN nor +inf."""
    logits = _to_array(name, logits)
    if logits.dtype.char not in FLOATS:
        raise TypeError(
            f"{name} must be float32 or float64, got {logits.dtype}; convert them, for example with "
            f"{name}.astype(numpy.float64)"
        )
    if not logits.dtype.isnative:  # the bytes of another machine
        logits = logits.astype(logits.dtype.newbyteorder("="))
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"{name} must have shape (..., n) with n >= 1 categories last, got {logits.shape}; "
            "one variable has shape (n,)"
        )
    values = getval(logits)
    xp = namespace(values)
    if xp is np and np.isfinite(values).all():  # nearly always, and quicker
        return logits
    largest = row_max(values)  # NaN and +inf survive a maximum; -inf only if it is all there is
    if not bool(xp.isfinite(largest).all()):
        if bool(xp.isnan(largest).any()):
            fault = "NaN; an earlier step diverged or divided 0 by 0"
        elif bool((largest == math.inf).any()):
            fault = "+inf; give an impossible category -inf and the others finite logits"
        else:
            fault = "a row of nothing but -inf; leave at least one category possible"
        raise NotFinite(
            f"{name} must be finite or -inf with a finite entry in each row, got {fault}"
        )
    return logits


def check_joint_logits(logits: Array) -> Array:
    """Logits ``(..., L, n)`` of L variables that share one cost."""
    logits = check_logits(logits)
    if logits.ndim < 2:
        raise ValueError(
            f"logits must have shape (..., L, n), L variables of n categories with one cost, got {logits.shape}; "
            "give one variable as logits[None, :]"
        )
    return logits


def check_one_hot(D: Array, logits: Array, name: str = "D") -> Array:
    """One-hot ``D`` of the shape and dtype of ``logits``, never on a category of logit -inf."""
    D = check_companion(name, D, logits)
    ones = D == 1
    if not bool((ones | (D == 0)).all() and (row_sum(D) == 1).all()):
        raise ValueError(
            f"{name} must be one-hot along its last axis, got rows that are not a single 1 among zeros; "
            "draw it with sample_categorical(logits, rng)"
        )
    values = getval(logits)
    if bool((values.min() if values.size else 0) == -math.inf) and bool(
        (ones & (values == -math.inf)).any()
    ):
        raise ValueError(
            f"{name} must sit on a category of positive probability, got a row on a category whose logit "
            "is -inf; draw D from the same logits"
        )
    return D


def check_untraced(*arrays: Any) -> None:
    """Arguments of a function that draws or integrates, which autograd cannot follow: refused whatever their size."""
    if any(map(isbox, arrays)):
        raise TypeError(
            "the arguments must not be traced by autograd, got them inside a function that is differentiated; gradients and "
            "their moments come out here, and what such a function takes is a node: stochastic_node"
        )


def check_pull_back(logits: Array, D: Array, df_dD: Array) -> tuple[Array, Array, Array]:
    """The arguments that every straight-through estimator takes, in one shape and dtype."""
    logits = check_logits(logits)
    return logits, check_one_hot(D, logits), check_gradient(df_dD, logits)


def check_gradient(df_dD: Array, logits: Array, name: str = "df_dD") -> Array:
    """A finite gradient with respect to the sample, of the shape and dtype of ``logits``."""
    cure = "look for a division by 0 or a logarithm of 0 in f, or for an earlier step that diverged"
    return _check_where_possible(name, df_dD, logits, cure)


def check_log_sample(Y: Array, logits: Array) -> Array:
    """Logarithms of a relaxed sample, finite, of the shape and dtype of ``logits``."""
    cure = "S underflows where its logarithm does not, so take Y from sample_log_concrete"
    return _check_where_possible("Y = log(S)", Y, logits, cure)


def _check_where_possible(name: str, array: Array, logits: Array, cure: str) -> Array:
    """An array of the shape and dtype of ``logits``, finite wherever a category is possible.

    No sample lands on a category of logit -inf, so an entry that does not exist there is no fault: it is
    replaced by 0, which no one sees.
    """
    array = check_companion(name, array, logits)
    values = getval(array)
    xp = namespace(values)
    finite = xp.isfinite(values)
    if not bool(finite.all()):
        possible = getval(logits) > -math.inf
        check_finite(name, xp.where(possible, values, 0), cure)
        array = namespace(array).where(finite, array, 0)
    return array


def check_simplex(S: Array, logits: Array) -> Array:
    """A relaxed sample of the shape and dtype of ``logits``, non-negative with rows that sum to one."""
    S = check_companion("S", S, logits)
    xp = namespace(S)
    sums = S @ xp.ones(S.shape[-1], dtype=S.dtype)  # faster than a sum over short rows
    if not bool((S >= 0).all() and (xp.abs(sums - 1) < 1e-3).all()):
        raise ValueError(
            "S must lie on the simplex along its last axis, got rows that are negative or do not sum "
            "to 1; draw it with sample_gumbel_softmax(logits, tau=..., rng=...)"
        )
    return S


def check_companion(name: str, array: Array, logits: Array) -> Array:
    """An array that goes with ``logits``: of their shape, and cast to their dtype."""
    array = check_array(name, array, logits)
    if array.shape != logits.shape:
        cure = "broadcast it first, for example with numpy.broadcast_to"
        if name == "D" and array.ndim and array.shape == logits.shape[:-1]:
            cure = f"if these are indices, rbst.one_hot(D, {logits.shape[-1]}) makes them one-hot"
        raise ValueError(
            f"{name} must have the shape of logits, {logits.shape}, got {array.shape}; {cure}"
        )
    return array.astype(logits.dtype, copy=False)


def check_tau(tau: float) -> float:
    """A positive temperature between 1e-30 and 1e30, where float32 can still divide by it."""
    if not isinstance(tau, numbers.Real) or isinstance(tau, bool):
        raise TypeError(f"tau must be a positive number, got {type(tau).__name__}; pass a float")
    number = as_number(tau)
    if not 1e-30 <= number <= 1e30:
        wanted = "between 1e-30 and 1e30" if 0 < tau < math.inf else "positive and finite"
        cure = "for the zero-temperature limit use zgr" if number == 0 else "0.5 is a common choice"
        raise ValueError(f"tau must be {wanted}, got {shown(tau)}; {cure}")
    return number


def check_number(name: str, value: Any, *, at_least: float = -math.inf) -> float:
    """A finite number, as Python's float, which takes the precision of the arrays that it meets."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}; pass a float")
    number = as_number(value)
    if not (math.isfinite(number) and number >= at_least):
        wanted = "finite" if at_least == -math.inf else f"finite and at least {at_least:g}"
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}; 1 is a common choice")
    return number


def as_number(value: Any) -> float:
    """A real number as Python's float; an integer beyond 1e308 is an infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def shown(number: Any) -> str:
    """A number as a message shows it, however large."""
    try:
        return str(float(number))
    except OverflowError:
        return "an integer beyond 1e308"


def check_count(
    name: str, value: int, kind: str = "pass an int", cure: str = "1 is the default"
) -> int:
    """A whole number, at least one."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer >= 1, got {value!r}; {kind}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}; {cure}")
    return int(value)


def check_num_samples(num_samples: int) -> int:
    """A number of samples K, at least one."""
    cure = "K = 1 is st_gumbel_softmax, and exact_gumbel_rao is the limit of many"
    K = check_count("num_samples", num_samples, "pass K as an int", cure)
    if K > LARGEST_NUM_SAMPLES:
        raise ValueError(
            f"num_samples must be at most {LARGEST_NUM_SAMPLES:.0e}, got {shown(num_samples)}; take the "
            "limit of many, exact_gumbel_rao or the name gr"
        )
    return K


def check_rng(rng: Any, like: Array) -> Any:
    """An explicit random generator of NumPy or CuPy, which draws where the array ``like`` is."""
    # The module numpy.random has an attribute of this name too, and is what people pass by mistake.
    if isinstance(rng, ModuleType) or not hasattr(rng, "bit_generator"):
        raise TypeError(
            f"rng must be a numpy.random.Generator (or CuPy's), got {type(rng).__name__}; "
            "make one with numpy.random.default_rng(seed)"
        )
    xp = namespace(getval(like))
    if xp is not namespace() and type(rng).__module__.startswith("numpy."):
        raise TypeError(
            f"rng must draw on the device of the arrays, got NumPy's for arrays of {xp.__name__}; make one "
            f"with {xp.__name__}.random.default_rng(seed)"
        )
    return rng


def check_seed(rng: Any, like: Array) -> Any:
    """A generator, or one made from a seed (SPEC 7): for a function that makes all its draws in one call.

    Elsewhere a seed would give D and the noise given D the same numbers, which must be independent.
    """
    if isinstance(rng, numbers.Integral) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"a seed must be an integer >= 0, got {rng}; pass 0 or a generator")
        return new_generator(namespace(getval(like)), int(rng))
    return check_rng(rng, like)


def check_exponentials(exponentials: Array, logits: Array) -> Array:
    """Draws of Exp(1) of shape ``(K, ..., n)``, one set of noise for each of K samples."""
    exponentials = check_array("exponentials", exponentials, logits)
    if exponentials.ndim != logits.ndim + 1 or exponentials.shape[1:] != logits.shape:
        raise ValueError(
            f"exponentials must have shape (K, {', '.join(map(str, logits.shape))}), samples before "
            f"the axes of logits, got {exponentials.shape}; for one sample add a leading axis of "
            "length 1"
        )
    if exponentials.shape[0] < 1:
        raise ValueError(
            "exponentials must hold at least one sample, got K = 0; draw K >= 1 of them"
        )
    exponentials = exponentials.astype(logits.dtype, copy=False)
    if not bool(((exponentials >= 0) & (exponentials <= LARGEST_EXPONENTIAL)).all()):
        raise ValueError(
            "exponentials must be finite and >= 0, got a negative, infinite, NaN or huge entry (above "
            f"{LARGEST_EXPONENTIAL:g}); draw them with rng.standard_exponential((K, *logits.shape))"
        )
    return exponentials
