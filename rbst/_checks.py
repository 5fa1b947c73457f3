"""What the arguments must be, said once.

Each function returns its argument ready for use or raises a ``TypeError`` or ``ValueError`` that says
what was wanted, what came, and a cure. A leaf: anyone may import it.
"""

from __future__ import annotations

import math
import numbers
from types import ModuleType
from typing import Any

from rbst._array import Array, getval, is_array, namespace, row_max, row_sum

FLOATS = ("float32", "float64")


def check_logits(logits: Array) -> Array:
    """Float logits ``(..., n)``, each row with a finite entry and neither NaN nor +inf."""
    if not is_array(logits):
        logits = namespace().asarray(logits)
    if str(logits.dtype) not in FLOATS:
        raise TypeError(
            f"logits must be float32 or float64, got {logits.dtype}; convert them, for example with "
            "logits.astype(numpy.float64)"
        )
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"logits must have shape (..., n) with n >= 1 categories last, got {logits.shape}; "
            "one variable has shape (n,)"
        )
    values = getval(logits)
    xp = namespace(values)
    largest = row_max(values)  # NaN and +inf survive a maximum; -inf only if it is all there is
    if not bool(xp.isfinite(largest).all()):
        if bool(xp.isnan(largest).any()):
            fault = "NaN; an earlier step diverged or divided 0 by 0"
        elif bool((largest == math.inf).any()):
            fault = "+inf; give an impossible category -inf and the others finite logits"
        else:
            fault = "a row of nothing but -inf; leave at least one category possible"
        raise ValueError(
            f"logits must be finite or -inf with a finite entry in each row, got {fault}"
        )
    return logits


def check_one_hot(D: Array, logits: Array) -> Array:
    """One-hot ``D`` of the shape and dtype of ``logits``, never on a category of logit -inf."""
    D = _check_companion("D", D, logits)
    if not bool(((D == 0) | (D == 1)).all() and (row_sum(D) == 1).all()):
        raise ValueError(
            "D must be one-hot along its last axis, got rows that are not a single 1 among zeros; "
            "draw it with sample_categorical(logits, rng)"
        )
    if bool(((D != 0) & (logits == -math.inf)).any()):
        raise ValueError(
            "D must sit on a category of positive probability, got a row on a category whose logit "
            "is -inf; draw D from the same logits"
        )
    return D


def check_pull_back(logits: Array, D: Array, df_dD: Array) -> tuple[Array, Array, Array]:
    """The arguments that every straight-through estimator takes, in one shape and dtype."""
    logits = check_logits(logits)
    return logits, check_one_hot(D, logits), check_gradient(df_dD, logits)


def check_gradient(df_dD: Array, logits: Array) -> Array:
    """A gradient with respect to the sample, of the shape and dtype of ``logits``."""
    return _check_companion("df_dD", df_dD, logits)


def check_simplex(S: Array, logits: Array) -> Array:
    """A relaxed sample of the shape and dtype of ``logits``, non-negative with rows that sum to one."""
    S = _check_companion("S", S, logits)
    xp = namespace(S)
    if not bool((S >= 0).all() and (xp.abs(row_sum(S) - 1) < 1e-3).all()):
        raise ValueError(
            "S must lie on the simplex along its last axis, got rows that are negative or do not sum "
            "to 1; draw it with sample_gumbel_softmax(logits, tau=..., rng=...)"
        )
    return S


def _check_companion(name: str, array: Array, logits: Array) -> Array:
    xp = namespace(logits)
    if not is_array(array):
        array = xp.asarray(array)
    if array.shape != logits.shape:
        raise ValueError(
            f"{name} must have the shape of logits, {logits.shape}, got {array.shape}; "
            "broadcast it first, for example with numpy.broadcast_to"
        )
    return array.astype(logits.dtype, copy=False)


def check_tau(tau: float) -> float:
    """A positive temperature between 1e-30 and 1e30, where float32 can still divide by it."""
    if not isinstance(tau, numbers.Real) or isinstance(tau, bool):
        raise TypeError(f"tau must be a positive number, got {type(tau).__name__}; pass a float")
    if not 1e-30 <= tau <= 1e30:
        wanted = "between 1e-30 and 1e30" if 0 < tau < math.inf else "positive and finite"
        cure = "for the zero-temperature limit use zgr" if tau == 0 else "0.5 is a common choice"
        raise ValueError(f"tau must be {wanted}, got {float(tau)}; {cure}")
    return float(tau)


def check_num_samples(num_samples: int) -> int:
    """A number of samples K, at least one."""
    if not isinstance(num_samples, numbers.Integral) or isinstance(num_samples, bool):
        raise TypeError(
            f"num_samples must be an integer >= 1, got {num_samples!r}; pass K as an int"
        )
    if num_samples < 1:
        raise ValueError(
            f"num_samples must be >= 1, got {num_samples}; K = 1 is st_gumbel_softmax, and "
            "exact_gumbel_rao is the limit of many"
        )
    return int(num_samples)


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


def check_exponentials(exponentials: Array, logits: Array) -> Array:
    """Draws of Exp(1) of shape ``(K, ..., n)``, one set of noise for each of K samples."""
    xp = namespace(logits)
    if not is_array(exponentials):
        exponentials = xp.asarray(exponentials)
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
    # A draw of Exp(1) above 745 has a probability below the smallest float64.
    if not bool(((exponentials >= 0) & (exponentials < 1e20)).all()):
        raise ValueError(
            "exponentials must be >= 0 and below 1e20, got an entry that is negative, larger or NaN; draw "
            "them with rng.standard_exponential((K, *logits.shape))"
        )
    return exponentials
