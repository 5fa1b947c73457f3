"""Adapters for JAX: code that draws a sample from a key becomes an implementation to be checked.

.. code-block:: python

    from rbst.crosscheck import check
    from rbst.crosscheck.jax import from_function

    print(check(from_function(my_gumbel_softmax), "st-gs"))

JAX compiles a program for each shape, so calls are cut into blocks of two numbers of rows. JAX is imported
here and nowhere else in the package; float64 is switched on.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbst._array import Array

jax.config.update("jax_enable_x64", True)
FEW, MANY = 2**10, 2**14  # rows of a block


def from_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """An implementation from ``function(key, logits, tau) -> sample``, differentiable by JAX.

    ``logits`` have shape ``(b, n)``. The third argument may be missing.
    """
    takes_tau = len(inspect.signature(function).parameters) > 2

    @jax.jit
    def both(key: Any, logits: Any, tau: Any, signal: Any) -> Any:
        """D and the gradient for this signal: one program for two calls, of which the first gives D."""
        arguments = (tau,) if takes_tau else ()
        D, pull_back = jax.vjp(lambda x: function(key, x, *arguments), logits)
        return D, pull_back(signal)[0]

    def with_tau(logits: Array, df_dD: Callable[[Array], Array], *, tau: Any, rng: Any) -> Any:
        rows, tau = math.prod(logits.shape[:-1]), np.asarray(tau, logits.dtype)
        blocks = [(b, jax.random.key(int(rng.integers(2**31)))) for b in _blocks(logits)]
        D = [np.asarray(both(key, b, tau, np.zeros_like(b))[0]) for b, key in blocks]
        drawn = np.concatenate(D)[:rows].reshape(logits.shape)
        signal = _blocks(df_dD(drawn))
        h = [both(key, b, tau, g)[1] for (b, key), g in zip(blocks, signal, strict=True)]
        return drawn, np.concatenate(h)[:rows].reshape(logits.shape)

    def without_tau(logits: Array, df_dD: Any, *, rng: Any) -> Any:
        return with_tau(logits, df_dD, tau=1.0, rng=rng)

    return with_tau if takes_tau else without_tau


def from_distribution(make: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An implementation from ``make(logits, tau)``, a distribution with ``rsample(key)`` or ``sample(seed=key)``."""

    def function(key: Any, logits: Any, tau: Any) -> Any:
        distribution = make(logits, tau)
        if hasattr(distribution, "rsample"):
            return distribution.rsample(key)
        return distribution.sample(seed=key)

    return from_function(function)


def from_loss(loss: Callable[..., Any]) -> Callable[..., Any]:
    """An implementation of ``"unbiased"`` from ``loss(key, logits, f) -> array``, whose sum is differentiated."""
    compiled: dict[Any, Any] = {}

    def implementation(logits: Array, f: Any, rng: Any) -> Array:
        if f not in compiled:
            gradient = jax.grad(lambda x, key: jnp.sum(loss(key, x, f)))
            compiled[f] = jax.jit(gradient)
        return np.asarray(compiled[f](logits, jax.random.key(int(rng.integers(2**31)))))

    return implementation


def _blocks(array: Array) -> list[Array]:
    """An array as blocks ``(b, n)`` of MANY rows, and of FEW for the rest, its last row repeated to fill them."""
    flat = array.reshape(-1, array.shape[-1])
    many, rest = divmod(len(flat), MANY)
    sizes = [MANY] * many + [FEW] * -(-rest // FEW)
    missing = np.broadcast_to(flat[-1], (sum(sizes) - len(flat), flat.shape[-1]))
    return np.split(np.concatenate([flat, missing]), np.cumsum(sizes)[:-1])
