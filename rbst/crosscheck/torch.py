"""Adapters for PyTorch: code that draws a sample of tensors becomes an implementation to be checked.

.. code-block:: python

    from rbst.crosscheck import check
    from rbst.crosscheck.torch import from_function

    print(check(from_function(torch.nn.functional.gumbel_softmax, hard=True), "st-gs"))

Everything runs on the CPU. PyTorch is imported here and nowhere else in the package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rbst._array import Array


def from_function(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """An implementation from ``function(logits, tau=..., **options) -> sample``, differentiable by PyTorch.

    The gradient of f at the sample goes into ``sample.backward``. ``tau`` is left out where the function has
    no argument of that name.
    """
    return _adapter(function, "tau" in inspect.signature(function).parameters, **options)


def from_autograd_function(function: Any) -> Callable[..., Any]:
    """An implementation from a ``torch.autograd.Function`` whose arguments are ``(logits)`` or ``(logits, tau)``."""
    takes_tau = len(inspect.signature(function.forward).parameters) > 2  # ctx, logits, tau

    def sample(logits: Any, tau: float = 1.0) -> Any:
        return function.apply(logits, tau) if takes_tau else function.apply(logits)

    return _adapter(sample, takes_tau)


def from_module(module: Any) -> Callable[..., Any]:
    """An implementation from a ``torch.nn.Module`` called with ``(logits)`` or ``(logits, tau=...)``.

    The module is used in the mode, training or evaluation, that it is in.
    """
    return _adapter(module, "tau" in inspect.signature(module.forward).parameters)


def from_distribution(
    make: Callable[[Any, float], Any], *, log_density: bool = False
) -> Callable[..., Any]:
    """An implementation from ``make(logits, tau)``, a distribution with ``rsample``.

    For example ``lambda logits, tau: RelaxedOneHotCategorical(tau, logits=logits)``, to be checked as ``gs``; with
    ``log_density`` its ``log_prob`` is checked too (with ``validate_args=False``: cold samples in float32 are rounded to
    the edge of the simplex, which PyTorch refuses).
    """

    def sample(logits: Any, tau: float) -> Any:
        law = make(logits, tau)
        S = law.rsample()
        return S, {"log_density": law.log_prob(S).detach().numpy()} if log_density else {}

    return _adapter(sample, True)


def _adapter(sample: Callable[..., Any], takes_tau: bool, /, **options: Any) -> Any:
    def draw(logits: Array, df_dD: Callable[[Array], Array], rng: Any, **tau: float) -> Any:
        torch.manual_seed(int(rng.integers(2**31)))
        theta = torch.tensor(logits, requires_grad=True)
        found = sample(theta, **tau, **options)
        D, others = found if isinstance(found, tuple) else (found, {})
        signal = torch.from_numpy(np.ascontiguousarray(df_dD(D.detach().numpy())))
        (gradient,) = torch.autograd.grad(D, theta, signal)
        return D.detach().numpy(), gradient.numpy(), others

    def with_tau(logits: Array, df_dD: Any, *, tau: float, rng: Any) -> Any:
        return draw(logits, df_dD, rng, tau=tau)

    def without_tau(logits: Array, df_dD: Any, *, rng: Any) -> Any:
        return draw(logits, df_dD, rng)

    implementation: Any = with_tau if takes_tau else without_tau
    implementation.__qualname__ = getattr(sample, "__qualname__", type(sample).__name__)
    return implementation


def from_loss(loss: Callable[..., Any]) -> Callable[..., Any]:
    """An implementation of ``"unbiased"`` from ``loss(logits, f) -> tensor``, whose sum is differentiated.

    f takes tensors ``(..., L, n)`` and can be differentiated by PyTorch, twice if need be.
    """

    def implementation(logits: Array, f: Any, rng: Any) -> Array:
        torch.manual_seed(int(rng.integers(2**31)))
        theta = torch.tensor(logits, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(theta, f).sum(), theta)
        return gradient.numpy()

    return implementation
