"""One name, ``xp``, for NumPy, CuPy and autograd arrays.

Every function of the package asks :func:`namespace` which module its arrays belong to and calls that
module by the name ``xp``. Nothing else in the package asks where an array lives. The last functions of the
file choose a device, and bring arrays back from it; docs/gpu.md says what works there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, reduce
from typing import Any, TypeAlias

import autograd.numpy as autograd_numpy
import numpy as np
from autograd.tracer import getval, isbox
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating]
"""An array of floats: NumPy's to a type checker; CuPy's and autograd's as well when it runs."""

Indices: TypeAlias = NDArray[np.integer]
"""An array of indices, in the same sense."""

__all__ = [
    "DEVICES",
    "Array",
    "Indices",
    "add_product",
    "device_namespace",
    "getval",
    "is_array",
    "namespace",
    "new_generator",
    "refill",
    "row_argmax",
    "row_dot",
    "row_max",
    "row_sum",
    "spawn_generator",
    "table_beside",
    "to_host",
]


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of a module that :func:`namespace` knows."""
    # NumPy's scalars have only the first of the two, CuPy's arrays only the second.
    return (
        isinstance(x, np.ndarray)
        or isbox(x)
        or hasattr(x, "__array_namespace__")
        or hasattr(x, "__array_function__")
    )


def namespace(*arrays: Any) -> Any:
    """The module whose functions take these arrays: NumPy, CuPy, or autograd's NumPy if one is traced."""
    for array in arrays:
        if type(array) is not np.ndarray:  # nearly every array is one, and every function asks
            return _namespace(arrays)
    return np


def _namespace(arrays: tuple[Any, ...]) -> Any:
    if any(map(isbox, arrays)):
        return autograd_numpy
    for array in arrays:
        if type(array) in _device_modules:
            return _device_modules[type(array)]
        if is_array(array) and not isinstance(array, np.ndarray | np.generic):
            return _learn(type(array), _module_of(array))
    return np


_device_modules: dict[type, Any] = {}
"""The module of every class of arrays that was met and is not NumPy's."""


def _module_of(array: Array) -> Any:
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    # CuPy has no such method as yet; its arrays are of a class of the module itself.
    return sys.modules[type(array).__module__.partition(".")[0]]


def _learn(array_class: type, xp: Any) -> Any:
    """Remember the module of a class of arrays that is new, and let autograd differentiate them."""
    from rbst._autograd_device import support

    support(array_class, xp)
    _device_modules[array_class] = xp
    return xp


SHORT_ROW = 16
"""NumPy reduces a last axis row by row; of many rows up to this length whole slices are many times faster."""


def _reduce_rows(x: Array, name: str, ufunc: np.ufunc) -> Array:
    """Reduce the last axis, which is kept with length 1: short rows slice by slice, each of which costs as much as 20 rows."""
    if type(x) is not np.ndarray:
        return getattr(namespace(x), name)(x, axis=-1, keepdims=True)
    n = x.shape[-1]
    if n > SHORT_ROW or x.size < 20 * n * n:
        return ufunc.reduce(x, axis=-1, keepdims=True)
    return reduce(ufunc, (x[..., k] for k in range(n)))[..., None]


def row_max(x: Array) -> Array:
    """Maximum along the last axis, which is kept with length 1."""
    return _reduce_rows(x, "max", np.maximum)


def row_sum(x: Array) -> Array:
    """Sum along the last axis, which is kept with length 1."""
    return _reduce_rows(x, "sum", np.add)


def row_dot(x: Array, y: Array) -> Array:
    """Sum of the products along the last axis, which is kept with length 1."""
    if type(x) is type(y) is np.ndarray and x.shape[-1] > 4:  # no array for the products
        return np.vecdot(x, y)[..., None]
    return row_sum(x * y)


def row_argmax(x: Array) -> Indices:
    """Index of the first maximum along the last axis, which is dropped; there are no NaN."""
    if type(x) is np.ndarray and x.shape[-1] == 2:  # NumPy's own goes row by row
        return (x[..., 1] > x[..., 0]).astype(np.intp)
    return namespace(x).argmax(x, axis=-1)


def add_product(total: Array, a: Array, b: Array) -> None:
    """``total += a @ b`` for matrices, without an array for the product where BLAS can add it.

    Examples
    --------
    >>> total = np.ones((1, 1))
    >>> add_product(total, np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    >>> total
    array([[12.]])
    """
    from scipy.linalg import blas

    gemm = {"f": blas.sgemm, "d": blas.dgemm}.get(total.dtype.char)
    if namespace(total) is np and total.flags.c_contiguous and gemm:
        # BLAS stores columns: what it takes for c is the transpose, which it overwrites.
        gemm(1.0, b.T, a.T, beta=1.0, c=total.T, overwrite_c=True)
    else:
        total += a @ b


def spawn_generator(rng: Any, seed: int) -> Any:
    """A generator of the same kind as ``rng``, started from ``seed``."""
    return type(rng)(type(rng.bit_generator)(seed))


# ----------------------------------------------------------------------------- devices

DEVICES = ("cpu", "gpu")


def device_namespace(device: str) -> Any:
    """NumPy for ``"cpu"``, CuPy for ``"gpu"``; an error that names the remedy where there is none.

    Examples
    --------
    >>> device_namespace("cpu").__name__
    'numpy'
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}; use cpu")
    if device == "cpu":
        return np
    try:
        import cupy
    except ImportError as error:
        raise ValueError(
            "device gpu needs CuPy, which is not installed; pip install 'rbst[gpu]', or use cpu"
        ) from error
    if not cupy.cuda.is_available():
        raise ValueError(
            "device gpu needs an NVIDIA GPU with its driver, and CuPy (the extra rbst[gpu] is for CUDA 12) "
            "sees none; use cpu"
        )
    return _learn(cupy.ndarray, cupy)


def new_generator(xp: Any, seed: Any) -> Any:
    """A generator of this module; ``seed`` is a number or a list of numbers."""
    if xp is np:
        return np.random.default_rng(seed)
    # A training starts several in each step. Philox starts from a counter; XORWOW, which is CuPy's default,
    # first skips ahead for every thread.
    return xp.random.Generator(xp.random.Philox4x3210(seed))


def table_beside(like: Array, build: Callable[..., Any], *key: Any) -> Any:
    """``build(*key)``, a dataclass of NumPy arrays, where the array ``like`` is; copied to a device once."""
    xp = namespace(like)
    return build(*key) if xp is np else _copy_table(xp, str(like.device), build, *key)


@lru_cache(maxsize=16)
def _copy_table(xp: Any, device: str, build: Callable[..., Any], *key: Any) -> Any:
    table = build(*key)
    arrays: dict[str, Any] = {
        k: xp.asarray(x) for k, x in vars(table).items() if isinstance(x, np.ndarray)
    }
    return replace(table, **arrays)


def refill(buffer: Array, rng: Any) -> None:
    """Overwrite a buffer with draws of Exp(1)."""
    # Without the size CuPy draws one number and fills the buffer with it.
    rng.standard_exponential(size=buffer.shape, out=buffer, dtype=buffer.dtype)


def to_host(x: Array) -> Array:
    """The same array in NumPy; one that is NumPy's is returned as it is."""
    xp = namespace(x)
    return x if xp is np else xp.asnumpy(x)
