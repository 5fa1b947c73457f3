r"""Multilayer perceptrons on one flat vector of parameters.

All parameters of a model lie in one vector, so that an optimiser step is one line and a checkpoint one
array. A :class:`Layout` says where each named array lies in it. autograd differentiates the models; what
would be many small nodes (a dense layer, a likelihood, a divergence) is one node with its derivative
written directly below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autograd.extend import SparseObject, defvjp, defvjp_argnums, primitive, vspace

from rbst._array import Array, namespace


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the arrays in a flat vector, in order.

    Examples
    --------
    >>> import numpy as np
    >>> layout = Layout({"W": (2, 3), "b": (3,)})
    >>> layout.size
    9
    >>> layout.views(np.arange(9.0))["b"]
    array([6., 7., 8.])
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def views(self, flat: Array) -> dict[str, Array]:
        """The named arrays as views of ``flat``, a plain or a traced vector."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            views[name] = _view(flat, start, shape)
            start += math.prod(shape)
        return views


@primitive
def _view(flat: Array, start: int, shape: tuple[int, ...]) -> Array:
    return flat[start : start + math.prod(shape)].reshape(shape)


def _view_vjp(view: Array, flat: Array, start: int, shape: tuple[int, ...]) -> Any:
    def pull_back(gradient: Array) -> SparseObject:
        def add_to(total: Array) -> Array:
            total[start : start + view.size] += gradient.reshape(-1)
            return total

        # A sparse gradient is added in place: no vector of zeros for each of the views.
        return SparseObject(vspace(flat), add_to)

    return pull_back


defvjp(_view, _view_vjp, None, None)


@primitive
def affine(x: Array, W: Array, b: Array) -> Array:
    r"""Affine map :math:`x W + b`, ``(B, i)`` times ``(i, o)``."""
    y = x @ W
    y += b
    return y


def _affine_vjps(argnums: Sequence[int], y: Array, arguments: tuple, options: dict) -> Any:
    x, W, _ = arguments
    pull_backs = (lambda g: g @ W.T, lambda g: x.T @ g, lambda g: g.sum(axis=0))
    return lambda g: tuple(pull_backs[argnum](g) for argnum in argnums)


defvjp_argnums(affine, _affine_vjps)


@primitive
def tanh_layer(x: Array, W: Array, b: Array) -> Array:
    r"""Dense layer :math:`\tanh(x W + b)`, ``(B, i)`` times ``(i, o)``."""
    y = affine(x, W, b)
    return namespace(y).tanh(y, out=y)


def _tanh_layer_vjps(argnums: Sequence[int], y: Array, arguments: tuple, options: dict) -> Any:
    def pull_back(g: Array) -> tuple[Array, ...]:
        # d tanh / dx = 1 - tanh^2
        slope = y * y
        slope -= 1
        slope *= g
        return _affine_vjps(argnums, y, arguments, options)(-slope)

    return pull_back


defvjp_argnums(tanh_layer, _tanh_layer_vjps)


def mlp_shapes(name: str, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the layers of an MLP with these layer sizes, for a :class:`Layout`.

    Examples
    --------
    >>> mlp_shapes("encoder", [64, 20, 12])
    {'encoder.W0': (64, 20), 'encoder.b0': (20,), 'encoder.W1': (20, 12), 'encoder.b1': (12,)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"{name}.W{layer}"] = (inputs, outputs)
        shapes[f"{name}.b{layer}"] = (outputs,)
    return shapes


def mlp(parameters: Mapping[str, Array], name: str, x: Array) -> Array:
    """Apply the MLP ``name`` to ``x`` of shape ``(B, inputs)``: tanh layers, then an affine map."""
    last = sum(key.startswith(f"{name}.W") for key in parameters) - 1
    for layer in range(last):
        x = tanh_layer(x, parameters[f"{name}.W{layer}"], parameters[f"{name}.b{layer}"])
    return affine(x, parameters[f"{name}.W{last}"], parameters[f"{name}.b{last}"])


def glorot(layout: Layout, rng: Any, dtype: Any) -> Array:
    r"""Initial parameters: matrices :math:`U(-a, a)`, :math:`a = \sqrt{6 / (\text{fan-in} + \text{fan-out})}`, the rest 0.

    Glorot and Bengio (2010). Drawn in float64 and rounded, so that both dtypes start alike; ``rng`` and the
    result are NumPy's.

    Examples
    --------
    >>> import numpy as np
    >>> layout = Layout({"W": (2, 1), "b": (1,)})
    >>> glorot(layout, np.random.default_rng(0), np.float64).round(3)
    array([ 0.387, -0.651,  0.   ])
    """
    xp = namespace()
    flat = xp.zeros(layout.size, dtype=dtype)
    for view in layout.views(flat).values():
        if view.ndim == 2:
            bound = math.sqrt(6 / sum(view.shape))
            view[...] = rng.uniform(-bound, bound, size=view.shape)
    return flat
