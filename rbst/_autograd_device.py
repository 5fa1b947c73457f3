"""autograd on arrays that live on a device, such as CuPy's.

autograd traces NumPy's functions. A CuPy array that is given to one of them answers with the function of
CuPy that has the same name, so most of autograd's derivative rules hold on a device as they stand.
:func:`support` supplies the rest for one class of arrays:

- a Box, what autograd wraps around a traced array, and a VSpace, which knows its zeros and ones;
- the rules of the few functions whose own rule makes an array on the host (``numpy.zeros``), adds in place
  through ``numpy.add.at``, or passes an argument that CuPy does not take.

What can be differentiated on a device, once, in reverse mode: arithmetic with numbers and arrays,
comparisons; ``x ** number``; ``exp``, ``log``, ``log1p``, ``expm1``, ``sqrt``, ``square``, ``abs``, ``sin``,
``cos``, ``tanh``, ``maximum``, ``minimum``, ``logaddexp``; ``sum``, ``mean``, ``max``, ``min``, ``where``;
``@``, ``reshape``, ``ravel``, ``transpose``, ``swapaxes``, ``expand_dims``, ``squeeze``, ``astype``; indexing.
Not ``dot``, ``einsum``, ``prod``, ``var``, ``std``, ``concatenate`` and ``stack``: these raise ``TypeError``.

The rules below keep the dtype of what is differentiated. They hold for device arrays alone: NumPy arrays go
through autograd's rules as before, and nothing here is imported until the first device array is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import primitive_vjps
from autograd.extend import SparseObject, VSpace, defvjp, defvjp_argnums, primitive, vspace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vjps import unbroadcast_f
from autograd.tracer import getval
from autograd.util import func

_modules: dict[type, Any] = {}
"""The module that works on the arrays of each supported class."""


def support(array_class: type, xp: Any) -> None:
    """Let autograd differentiate with respect to arrays of this class, which the module ``xp`` works on."""
    _modules[array_class] = xp
    DeviceBox.register(array_class)
    VSpace.register(array_class, DeviceVSpace)


class DeviceBox(ArrayBox):
    """A traced device array; its operators and methods are those of autograd's own box."""

    __slots__ = ()
    __array_ufunc__ = (
        None  # an array on the left leaves the operation to the box, with any autograd
    )

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """The array in another precision."""
        return _astype(self, dtype)


class DeviceVSpace(VSpace):
    """The arrays of one class, shape and dtype."""

    def __init__(self, array: Any) -> None:
        self.xp = _modules[type(array)]
        self.shape, self.dtype = array.shape, array.dtype

    size = property(lambda self: math.prod(self.shape))
    ndim = property(lambda self: len(self.shape))

    def zeros(self) -> Any:
        """The zero of the space."""
        return self.xp.zeros(self.shape, dtype=self.dtype)

    def ones(self) -> Any:
        """The array of ones."""
        return self.xp.ones(self.shape, dtype=self.dtype)


# ----------------------------------------------------------------------------- derivative rules


def _traced(numpy_function: Callable) -> Callable:
    """What autograd uses instead of a function of NumPy."""
    return next(p for p in primitive_vjps if getattr(p, "fun", None) is numpy_function)


def _on_device(function: Callable, *rules: Callable | None) -> None:
    """Give a traced function rules for device arrays; NumPy's arrays keep those of autograd."""
    on_host = primitive_vjps[function]
    defvjp(function, *rules)
    on_device = primitive_vjps[function]

    def choose(argnums: tuple, ans: Any, args: tuple, kwargs: dict) -> Callable:
        rule = on_device if type(getval(ans)) in _modules else on_host
        return rule(argnums, ans, args, kwargs)

    defvjp_argnums(function, choose)


def _kept(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape with 1 at the axes that a reduction goes over.

    Examples
    --------
    >>> _kept((2, 3, 4), -1), _kept((2, 3, 4), (0, 1)), _kept((2, 3), None)
    ((2, 3, 1), (1, 1, 4), (1, 1))
    """
    if axis is None:
        return (1,) * len(shape)
    axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(1 if a in axes else length for a, length in enumerate(shape))


def _spread(g: Any, x: Any, axis: int | tuple[int, ...] | None) -> Any:
    """The gradient of a reduction at every entry of ``x`` that it went over, as an array of its own."""
    return anp.reshape(g, _kept(x.shape, axis)) + anp.zeros_like(x)


def _sum_vjp(ans: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    return lambda g: _spread(g, x, axis)


def _mean_vjp(ans: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    return lambda g: _spread(g / max(1, x.size // max(1, ans.size)), x, axis)


def _extremum_vjp(ans: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    """The entries that attain the extremum share its gradient."""
    kept = _kept(x.shape, axis)
    attained = (x == anp.reshape(ans, kept)).astype(x.dtype)
    share = attained / anp.sum(attained, axis=axis, keepdims=True)
    return lambda g: anp.reshape(g, kept) * share


def _power_vjp(ans: Any, x: Any, exponent: float) -> Callable:
    return lambda g: g * (exponent * x ** (exponent - 1 if exponent else 1))


def _getitem_vjp(ans: Any, x: Any, index: Any) -> Callable:
    def pull_back(g: Any) -> SparseObject:
        def add_to(total: Any) -> Any:
            _modules[type(total)].add.at(total, index, g)  # an entry may occur more than once
            return total

        return SparseObject(vspace(x), add_to)

    return pull_back


def _reshape_vjp(ans: Any, x: Any, shape: Any = None) -> Callable:
    return lambda g: anp.reshape(g, x.shape)


@primitive
def _astype(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


defvjp(_astype, lambda ans, x, dtype: lambda g: g.astype(x.dtype), None)

_on_device(_traced(np.sum), _sum_vjp)
_on_device(_traced(np.mean), _mean_vjp)
for _extremum in (np.max, np.min, np.amax, np.amin):
    _on_device(_traced(_extremum), _extremum_vjp)
_on_device(
    _traced(np.where),
    None,
    lambda ans, c, x, y: unbroadcast_f(x, lambda g: anp.where(c, g, 0)),
    lambda ans, c, x, y: unbroadcast_f(y, lambda g: anp.where(c, 0, g)),
)
_on_device(_traced(np.power), _power_vjp)
_on_device(_traced(np.reshape), _reshape_vjp)
_on_device(_traced(np.ravel), _reshape_vjp)
_on_device(func(ArrayBox.__getitem__), _getitem_vjp)
