"""One name, ``xp``, for NumPy, CuPy and autograd arrays.

Every function of the package asks :func:`namespace` which module its arrays belong to and calls that
module by the name ``xp``. Nothing else in the package asks where an array lives.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, TypeAlias

import autograd.numpy as autograd_numpy
import numpy as np
from autograd.extend import Box
from autograd.tracer import getval, isbox

Array: TypeAlias = Any
"""An array of NumPy, CuPy or autograd (no type describes the three of them)."""

__all__ = [
    "Array",
    "block_size",
    "getval",
    "is_array",
    "namespace",
    "row_argmax",
    "row_max",
    "row_sum",
    "spawn_generator",
]


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of a module that :func:`namespace` knows."""
    return isbox(x) or hasattr(x, "__array_namespace__")


def namespace(*arrays: Any) -> Any:
    """The module whose functions take these arrays: NumPy, CuPy, or autograd's NumPy if one is traced."""
    if any(isinstance(array, Box) for array in arrays):
        return autograd_numpy
    for array in arrays:
        if hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray | np.generic):
            return array.__array_namespace__()
    return np


SHORT_ROW = 16
"""NumPy reduces a last axis row by row; up to this length whole slices are many times faster."""


def row_max(x: Array) -> Array:
    """Maximum along the last axis, which is kept with length 1."""
    xp = namespace(x)
    if xp is not np or x.shape[-1] > SHORT_ROW:
        return xp.max(x, axis=-1, keepdims=True)
    return reduce(np.maximum, _slices(x))[..., None]


def row_sum(x: Array) -> Array:
    """Sum along the last axis, which is kept with length 1."""
    xp = namespace(x)
    if xp is not np or x.shape[-1] > SHORT_ROW:
        return xp.sum(x, axis=-1, keepdims=True)
    return reduce(np.add, _slices(x))[..., None]


def row_argmax(x: Array) -> Array:
    """Index of the first maximum along the last axis, which is dropped; there are no NaN."""
    xp = namespace(x)
    if xp is not np or x.shape[-1] > SHORT_ROW:
        return xp.argmax(x, axis=-1)
    best, index = x[..., 0], np.zeros(x.shape[:-1], dtype=np.intp)
    for category in range(1, x.shape[-1]):
        candidate = x[..., category]
        index = np.where(candidate > best, category, index)
        best = np.maximum(best, candidate)
    return index


def _slices(x: Array) -> list[Array]:
    return [x[..., category] for category in range(x.shape[-1])]


def block_size(xp: Any) -> int:
    """Elements in one working block: two blocks fit the cache of a CPU core, or fill a GPU."""
    return 2**16 if xp is np else 2**24


def spawn_generator(rng: Any, seed: int) -> Any:
    """A generator of the same kind as ``rng``, started from ``seed``."""
    return type(rng)(type(rng.bit_generator)(seed))
