r"""Multilayer perceptrons on one flat vector of parameters.

All parameters of a model lie in one vector, so that an optimiser step is one line and a checkpoint one
array. A :class:`Layout` says where each named array lies in it. autograd differentiates the models; what
would be many small nodes (a dense layer, a likelihood, a divergence) is one node with its derivative
written directly below it. The gradient is one vector too, and each layer adds its part in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from autograd.extend import SparseObject, defvjp, defvjp_argnums, primitive, vspace

from rbst._array import Array, add_product, namespace


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

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each array lies."""
        ends = accumulate(math.prod(shape) for shape in self.shapes.values())
        return {
            name: slice(end - math.prod(shape), end)
            for (name, shape), end in zip(self.shapes.items(), ends, strict=True)
        }

    @cached_property
    def layers(self) -> dict[str, list[Layer]]:
        """The layers of each MLP by its name, tanh layers but for the last."""
        names = [key.removesuffix(".W0") for key in self.shapes if key.endswith(".W0")]
        return {name: self._layers_of(name) for name in names}

    def _layers_of(self, name: str) -> list[Layer]:
        last = sum(key.startswith(f"{name}.W") for key in self.shapes) - 1
        return [
            Layer(
                self.places[f"{name}.W{i}"],
                self.shapes[f"{name}.W{i}"],
                self.places[f"{name}.b{i}"],
                squash=i < last,
            )
            for i in range(last + 1)
        ]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def views(self, flat: Array) -> Views:
        """The named arrays as views of ``flat``, a plain or a traced vector."""
        return Views(self, flat)


class Views(Mapping[str, Array]):
    """The arrays of a layout as views of a flat vector, each made when it is asked for by name."""

    def __init__(self, layout: Layout, flat: Array) -> None:
        self.layout, self.flat = layout, flat

    def __getitem__(self, name: str) -> Array:
        return _view(self.flat, self.layout.places[name], self.layout.shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.shapes)

    def __len__(self) -> int:
        return len(self.layout.shapes)


@primitive
def _view(flat: Array, place: slice, shape: tuple[int, ...]) -> Array:
    return flat[place].reshape(shape)


def _view_vjp(view: Array, flat: Array, place: slice, shape: tuple[int, ...]) -> Any:
    def pull_back(gradient: Array) -> SparseObject:
        def add_to(total: Array) -> Array:
            total[place] += gradient.reshape(-1)
            return total

        # A sparse gradient is added in place: no vector of zeros for each of the views.
        return SparseObject(vspace(flat), add_to)

    return pull_back


defvjp(_view, _view_vjp, None, None)


@dataclass(frozen=True)
class Layer:
    """Where W, of shape ``shape``, and b of a layer of an MLP lie; whether its output is squashed by a tanh."""

    W: slice
    shape: tuple[int, ...]
    b: slice
    squash: bool

    def cut(self, flat: Array) -> tuple[Array, Array]:
        """W and b as views of a plain vector."""
        return flat[self.W].reshape(self.shape), flat[self.b]


@primitive
def dense(x: Array, flat: Array, layer: Layer) -> Array:
    r"""Layer of an MLP: :math:`x W + b`, or its tanh; ``(B, i)`` becomes ``(B, o)``."""
    W, b = layer.cut(flat)
    y = x @ W
    y += b
    return namespace(y).tanh(y, out=y) if layer.squash else y


def _dense_vjps(argnums: Sequence[int], y: Array, arguments: tuple, options: dict) -> Any:
    x, flat, layer = arguments

    def pull_back(g: Array) -> tuple:
        if layer.squash:
            # d tanh / dx = 1 - tanh^2
            slope = y * y
            slope -= 1
            slope *= g
            g = -slope

        def add_to(total: Array) -> Array:
            d_W, d_b = layer.cut(total)
            add_product(d_W, x.T, g)
            d_b += g.sum(axis=0)
            return total

        # g W^T as (W g^T)^T: BLAS then rearranges the small g, and not W.
        pull_backs = (
            lambda: (layer.cut(flat)[0] @ g.T).T,
            lambda: SparseObject(vspace(flat), add_to),
        )
        return tuple(pull_backs[argnum]() for argnum in argnums)

    return pull_back


defvjp_argnums(dense, _dense_vjps)


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


def mlp(parameters: Views, name: str, x: Array) -> Array:
    """Apply the MLP ``name`` to ``x`` of shape ``(B, inputs)``: tanh layers, then an affine map."""
    if x.ndim != 2:
        raise ValueError(f"x must have shape (B, inputs), got {x.shape}; reshape it to rows")
    for layer in parameters.layout.layers[name]:
        x = dense(x, parameters.flat, layer)
    return x


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
