"""The implementation under examination, called in whichever of the three ways it wants to be called."""

from __future__ import annotations

import inspect
import traceback
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


class Unusable(Exception):
    """An answer that cannot be compared at all: what came, what was wanted, and why."""

    def __init__(self, found: str, expected: str, cause: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.cause = found, expected, cause


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
        self.handed: Array | None = None  # the signal of the last call
        parameters = _parameters(implementation)
        self.draws_D = _second_is_df_dD(parameters) if draws_D is None else draws_D
        if self.draws_D and law.takes_cost:
            raise ValueError(
                f"an implementation of {law.estimator!r} must be given D, got one that draws it; wrap it as "
                "(logits, D, cost) -> gradient"
            )
        anything = not parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        self.accepts = {name for name in KEYWORDS if anything or name in parameters}
        self.shares_noise = (
            "exponentials" in parameters and law.with_noise is not None and not self.draws_D
        )
        self.needs_exponentials = self.shares_noise and "rng" not in self.accepts

    @property
    def name(self) -> str:
        """What the implementation calls itself."""
        function = self.implementation
        return getattr(function, "__qualname__", None) or type(function).__name__

    def ask(self, question: Question) -> tuple[Any, Any]:
        """Call the implementation; returns D and its gradient, both as they came.

        Whatever it raises becomes :class:`Unusable`, an attempt to leave the program included.
        """
        try:
            if not self.draws_D:
                return question.D.copy(), self._gradient(question)
            answer = self._draw(question)
        except (Exception, SystemExit) as error:
            found = f"{type(error).__name__}: {first_line(error)}"[:72]
            raise Unusable(found, "a gradient", self._place_of(error)) from error
        if isinstance(answer, tuple) and len(answer) == 2:
            return answer
        cause = "an implementation that draws D must return (D, gradient)"
        raise Unusable(type(answer).__name__, "a tuple of two", cause)

    def _gradient(self, q: Question) -> Any:
        """What comes back where D is given."""
        self.handed = self.signal(q.D, q.slopes)
        return self.implementation(q.logits, q.D, self.handed, **self._keywords(q))

    def _draw(self, q: Question) -> Any:
        """What comes back where the implementation draws D."""

        def df_dD(D: Any) -> Array:
            return self.signal(D, q.slopes)

        return self.implementation(q.logits, df_dD, **self._keywords(q))

    def _keywords(self, q: Question) -> dict[str, Any]:
        """Of tau, num_samples, rng and exponentials those that are accepted and known."""
        E = q.exponentials
        if E is None and self.needs_exponentials:
            E = q.rng.standard_exponential((q.num_samples, *q.logits.shape)).astype(q.logits.dtype)
        if E is not None:
            keywords = {"tau": q.tau, "exponentials": E}
        else:
            keywords = {"tau": q.tau, "num_samples": q.num_samples, "rng": q.rng}
        return {
            name: value
            for name, value in keywords.items()
            if name in self.accepts and value is not None
        }

    def signal(self, D: Any, slopes: Array) -> Array:
        """The gradient of f at D, row k of the slopes for ``D = e_k``; for a cost, its diagonal."""
        D = np.asarray(D)
        table = np.diagonal(slopes) if self.law.takes_cost else slopes
        return D @ table.astype(D.dtype)

    def _place_of(self, error: BaseException) -> str:
        """The line of the implementation's file that raised, or else the last line of all."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == _file_of(self.implementation)]
        if not own and frames[-1].filename == __file__:
            return (
                "it cannot be called by these names; see rbst.crosscheck.check for the signatures"
            )
        frame = (own or frames)[-1]
        return f"raised in {frame.name}, line {frame.lineno} of {frame.filename}"


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).strip() or "no message").splitlines()[0]


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a builtin that does not say
        return {}


def _second_is_df_dD(parameters: dict[str, inspect.Parameter]) -> bool:
    positional = [
        p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(positional) > 1 and positional[1].name.startswith("df_dD")


def _file_of(function: Any) -> str:
    """The file in which a function, or an object that is called like one, is written."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code.co_filename if code else ""
