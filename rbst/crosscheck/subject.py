"""The implementation under examination, called in whichever of the three ways it wants to be called."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.crosscheck.laws import Law

KEYWORDS = ("tau", "num_samples", "rng", "exponentials")


@dataclass(frozen=True)
class Question:
    """One call: float arrays ``(..., n)``, the table of slopes ``(n, n)``, and what the noise comes from."""

    logits: Array
    D: Array
    slopes: Array
    tau: float
    rng: np.random.Generator
    num_samples: int | None = None
    exponentials: Array | None = None


class Subject:
    """A callable, what it accepts, and whether it draws D itself."""

    def __init__(
        self, implementation: Callable[..., Any], law: Law, draws_D: bool | None = None
    ) -> None:
        if not callable(implementation):
            raise TypeError(
                f"implementation must be callable, got {type(implementation).__name__}; pass a function "
                "(logits, D, df_dD, *, tau, num_samples, rng) -> gradient"
            )
        self.implementation, self.law = implementation, law
        self.handed: tuple[Array, Array] | None = None  # D and the signal of the last call
        try:
            parameters = inspect.signature(implementation).parameters
        except (TypeError, ValueError):  # a builtin that does not say
            parameters = {}
        positional = [
            p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if draws_D is None:
            second = positional[1].name if len(positional) > 1 else ""
            draws_D = second.startswith("df_dD")
        if draws_D and law.takes_cost:
            raise ValueError(
                f"an implementation of {law.estimator!r} must be given D, got one that draws it; wrap it as "
                "(logits, D, cost) -> gradient"
            )
        self.draws_D = draws_D
        anything = not parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        self.accepts = {name for name in KEYWORDS if anything or name in parameters}
        self.shares_noise = (
            "exponentials" in parameters and law.with_noise is not None and not draws_D
        )
        self.needs_exponentials = self.shares_noise and "rng" not in self.accepts

    @property
    def name(self) -> str:
        """What the implementation calls itself."""
        function = self.implementation
        return getattr(function, "__qualname__", None) or type(function).__name__

    def ask(self, question: Question) -> tuple[Array, Any]:
        """Call the implementation; returns D and its gradient, both as they came."""
        q = question
        keywords = {"tau": q.tau, "num_samples": q.num_samples, "rng": q.rng}
        if q.num_samples is None:
            del keywords["num_samples"]
        E = q.exponentials
        if E is None and self.needs_exponentials:
            E = q.rng.standard_exponential((q.num_samples, *q.logits.shape)).astype(q.logits.dtype)
        if E is not None:
            keywords = {"tau": q.tau, "exponentials": E}
        keywords = {name: value for name, value in keywords.items() if name in self.accepts}
        self.handed = None
        if not self.draws_D:
            signal = self.signal(q.D, q.slopes)
            self.handed = q.D.copy(), signal
            return q.D, self.implementation(q.logits, q.D, signal, **keywords)
        answer = self.implementation(q.logits, lambda D: self.signal(D, q.slopes), **keywords)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(
                f"an implementation that draws D must return (D, gradient), got {type(answer).__name__}"
            )
        return answer

    def signal(self, D: Array, slopes: Array) -> Array:
        """The gradient of f at D, row k of the slopes for ``D = e_k``; for a cost, its diagonal."""
        D = np.asarray(D)
        table = np.diagonal(slopes) if self.law.takes_cost else slopes
        return D @ table.astype(D.dtype)


class BudgetSpent(Exception):
    """There is no time left for another call."""


class Clock:
    """The time that is left, shared by the rows of a battery."""

    def __init__(self, budget: float | None) -> None:
        self.start = time.monotonic()
        self.end = None if budget is None else self.start + budget
        self.row_end: float | None = None

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def begin_row(self, share: float) -> None:
        """Give a row this share of the time that is left."""
        if self.end is not None:
            now = time.monotonic()
            if now >= self.end:
                raise BudgetSpent
            self.row_end = now + share * (self.end - now)

    def row_is_over(self, seconds: float) -> bool:
        """Whether a call that takes so long would end after the time of the row."""
        return self.row_end is not None and time.monotonic() + seconds >= self.row_end
