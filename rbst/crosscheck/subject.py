"""The implementation under examination: how it wants to be called, and what comes back.

A :class:`Question` and an :class:`Answer` are arrays and numbers and nothing else, so that the code under
examination can run in a process of its own (:mod:`rbst.crosscheck.command`), where it cannot take the
verdict with it.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from autograd import elementwise_grad

from rbst._array import Array
from rbst.crosscheck.laws import PROBLEMS, Law
from rbst.estimators.registry import Estimator

KEYWORDS = ("tau", "num_samples", "rng", "exponentials")
OTHERS = ("log_density", "tau_gradient")


@dataclass(frozen=True)
class Question:
    """One call: what an implementation is asked, and where its noise comes from."""

    logits: Array  # (..., n), in the dtype that is asked
    D: Array
    slopes: Array  # (n, n): row k is the gradient of f at D = e_k
    tau: float
    seed: tuple[int, ...]
    num_samples: int | None = None
    exponentials: Array | None = None
    with_zeros: bool = False  # whether the generator returns 0 now and then
    costs: Array | None = None  # (...), instead of those of the slopes
    problem: str = ""  # the name of a function f whose gradient is asked for
    repeats: int = 1  # and how often


@dataclass(frozen=True)
class Answer:
    """What the implementation returned."""

    D: Array
    gradient: Array
    changed: tuple[str, ...] = ()  # the names of the arguments that are no longer what they were
    others: dict[str, Array] = field(default_factory=dict)  # of OTHERS those given beside, (...)


@dataclass(frozen=True)
class Profile:
    """What a subject is called, and how it wants to be called."""

    name: str
    draws_D: bool
    accepts: tuple[str, ...]  # of KEYWORDS
    shares_noise: bool

    @property
    def needs_exponentials(self) -> bool:
        """Whether its noise must be handed to it."""
        return self.shares_noise and "rng" not in self.accepts


class Fault(Exception):
    """What was given, what was wanted, and why."""

    def __init__(self, found: str, expected: str, cause: str) -> None:
        super().__init__(found)
        self.found, self.expected, self.cause = found, expected, cause

    def at(self, place: str) -> Fault:
        """The same, saying where."""
        self.found = f"{place}: {self.found}"[:72]
        return self


class Unusable(Fault):
    """An answer that cannot be compared at all."""


class Gone(Fault):
    """There will be no more answers."""


class BudgetSpent(Exception):
    """There is no time left for another call."""


class Subject:
    """A callable, asked in this process."""

    def __init__(
        self,
        implementation: Callable[..., Any],
        law: Law,
        draws_D: bool | None = None,
        f: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(implementation):
            cure = "pass a function (logits, D, df_dD, *, tau, num_samples, rng) -> gradient"
            if isinstance(implementation, Estimator):
                cure = "diagnose it: rbst compare --estimator MODULE:NAME"
            raise TypeError(
                f"implementation must be callable, got {type(implementation).__name__}; {cure}"
            )
        self.implementation, self.law, self.f = implementation, law, f
        self.parameters = _parameters(implementation)
        named = self.parameters.values()
        if law.whole and f is None and len(named) == 2:
            raise ValueError(
                "a loss (logits, rng) must be given with its f and logits, got neither; add --function and "
                "--logits, in Python check(..., f=, logits=)"
            )
        if draws_D is None:  # df_dD or f, which are called with D, instead of D itself
            positional = [p.name for p in named if p.kind in _POSITIONAL]
            second = positional[1] if len(positional) > 1 else ""
            draws_D = second == "f" or second.startswith("df_d")
        anything = not named or any(p.kind == p.VAR_KEYWORD for p in named)
        accepts = tuple(name for name in KEYWORDS if anything or name in self.parameters)
        takes_noise = "exponentials" in self.parameters and law.with_noise is not None
        self.profile = Profile(
            _name_of(implementation), draws_D, accepts, takes_noise and not draws_D
        )

    def ask(self, question: Question, seconds: float = math.inf) -> Answer:
        """Call the implementation. Whatever it raises becomes :class:`Unusable`.

        What it prints goes to standard error, where it does not mix with a report. In this process no
        time limit can be enforced; an interrupt is the user's.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"):
                return self._whole(question) if self.law.whole else self._answer(question)
        except KeyboardInterrupt:
            raise
        except Unusable as error:
            raise Unusable(error.found, error.expected, error.cause + self._wrapping()) from None
        except BaseException as error:
            raise Unusable(describe(error), "a gradient", self._place_of(error)) from None

    def _answer(self, q: Question) -> Answer:
        arguments = {"logits": q.logits.copy(), "D": q.D.copy(), "df_dD": self._signal(q, q.D)}
        before = {name: array.copy() for name, array in arguments.items()}
        D: Any = q.D
        if self.profile.draws_D:
            D, h, others = self._draw(q, arguments["logits"])
        else:
            h, others = self.implementation(*arguments.values(), **self._keywords(q)), {}
        changed = tuple(k for k in arguments if not np.array_equal(arguments[k], before[k]))
        return answer_from({"D": D, "gradient": h} | others, q, changed)

    def _draw(self, q: Question, logits: Array) -> tuple[Any, Any, dict[str, Any]]:
        """D, its gradient and what else is given, where the implementation draws D."""
        answer = self.implementation(logits, lambda D: self._signal(q, D), **self._keywords(q))
        if isinstance(answer, tuple) and len(answer) == 2:
            return *answer, {}
        if isinstance(answer, tuple) and len(answer) == 3 and isinstance(answer[2], dict):
            return answer
        cause = "an implementation that draws D must return (D, gradient)"
        raise Unusable(type(answer).__name__, "a tuple of two", cause)

    def _keywords(self, q: Question) -> dict[str, Any]:
        """Of tau, num_samples, rng and exponentials those that are accepted and known."""
        rng, E = _generator(q), q.exponentials
        if E is None and self.profile.needs_exponentials:
            E = rng.standard_exponential((q.num_samples or 1, *q.logits.shape))
        known: dict[str, Any] = {"tau": q.tau, "num_samples": q.num_samples, "rng": rng}
        if E is not None:
            known = {"tau": q.tau, "exponentials": E.astype(q.logits.dtype)}
        accepts = self.profile.accepts
        return {k: value for k, value in known.items() if k in accepts and value is not None}

    def _signal(self, q: Question, D: Any) -> Array:
        D = np.asarray(D)
        return signal(D, q.slopes, self.law) if q.costs is None else q.costs.astype(D.dtype)

    def _whole(self, q: Question) -> Answer:
        """Many gradients of E f(D), from code that does as it likes: ``(logits, f, rng) -> gradient``."""
        f = self.f or next(problem.f for problem in PROBLEMS if problem.name == q.problem)
        rng = _generator(q)
        h = np.stack([self._gradient_of(f, q.logits.copy(), rng) for _ in range(q.repeats)])
        return answer_from({"D": q.D, "gradient": h}, q)

    def _gradient_of(self, f: Any, logits: Array, rng: Any) -> Array:
        """One gradient; a loss, which has no axis of categories, is differentiated with autograd."""
        names, known = list(self.parameters), {"rng": rng, "tau": 0.5, "df_dD": elementwise_grad(f)}
        keywords = {
            p.name: known[p.name]
            for p in self.parameters.values()
            if p.kind == p.KEYWORD_ONLY and p.default is p.empty and p.name in known
        }
        others = [] if "rng" in keywords else [rng]

        def call(logits: Any) -> Any:
            if names[0] == "f":
                return self.implementation(f, logits, *others, **keywords)
            first = [logits] if len(names) == 2 else [logits, f]
            return self.implementation(*first, *others, **keywords)

        state = rng.bit_generator.state
        answer = call(logits)
        if np.ndim(answer) < logits.ndim:
            rng.bit_generator.state = state
            answer = elementwise_grad(call)(logits)
        return numbers("gradient", answer, "f", logits.shape)

    def _wrapping(self) -> str:
        """What to do with code of PyTorch, which is given arrays of NumPy here."""
        torch, code = sys.modules.get("torch"), self.implementation
        own = getattr(code, "__globals__", {})
        classes = (*type(code).__mro__, *getattr(code, "__mro__", ()))
        if torch is None or own.get("__name__") == "rbst.crosscheck.torch":
            return ""
        modules = (kind.__module__.split(".")[0] for kind in classes)
        if not any(value is torch for value in own.values()) and "torch" not in modules:
            return ""
        return (
            "; PyTorch code must be wrapped first: mine = from_function(yours), or from_autograd_function or "
            "from_module, of rbst.crosscheck.torch"
        )

    def _place_of(self, error: BaseException) -> str:
        """The line of the implementation's file that raised, or else the last line of all."""
        frames = traceback.extract_tb(error.__traceback__)
        file = _file_of(self.implementation)
        own = [frame for frame in frames if frame.filename == file]
        if not own and frames[-1].filename == __file__:
            text = "it cannot be called by these names"
            return (
                f"{text} ({error}); see rbst.crosscheck.check for the signatures{self._wrapping()}"
            )
        frame = (own or frames)[-1]
        return f"raised in {frame.name}, line {frame.lineno} of {frame.filename}"


def signal(D: Array, slopes: Array, law: Law) -> Array:
    """The gradient of f at D, row k of the slopes for ``D = e_k``; for a cost, its diagonal."""
    table = np.diagonal(slopes) if law.takes_cost else slopes
    return D @ table.astype(D.dtype)


def answer_from(arrays: dict[str, Any], q: Question, changed: Iterable[str] = ()) -> Answer:
    """What was given, if it is of the kinds and shapes that were wanted."""
    shape, repeats = q.logits.shape, (q.repeats,) if q.problem else ()
    D = numbers("D", arrays.get("D"), "fiub", shape)
    h = numbers("gradient", arrays.get("gradient"), "f", (*repeats, *shape))
    others = {k: numbers(k, arrays[k], "f", shape[:-1]) for k in OTHERS if k in arrays}
    return Answer(D, h, tuple(changed), others)


def numbers(name: str, answer: Any, kinds: str, shape: tuple[int, ...]) -> Array:
    """An answer as an array of one of these kinds of numbers and of this shape.

    It is copied: the next call may well return the same memory.
    """
    try:
        array = np.array(answer)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        cause = f"the {name} cannot be read as an array"
        raise Unusable(describe(error), "an array", cause) from None
    if array.dtype.kind not in kinds:
        cause = f"the {name} is not an array of floats"
        raise Unusable(f"{name} of dtype {array.dtype}", "float", cause)
    if array.shape != shape:
        cause = "leading axes are not treated as a batch of independent variables"
        raise Unusable(f"{name} of shape {array.shape}", f"{shape}", cause)
    return array


def describe(error: BaseException) -> str:
    """An exception in one short line, even one that cannot be read."""
    try:
        message = (str(error).strip() or "no message").splitlines()[0]
    except BaseException:
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message}"[:72]


# --- The generator -----------------------------------------------------------------------------------


def _generator(q: Question) -> np.random.Generator:
    if q.with_zeros:
        return ZerosNowAndThen(np.random.PCG64(q.seed))
    return np.random.default_rng(q.seed)


class ZerosNowAndThen(np.random.Generator):
    """A generator every seventh of whose exponentials and uniforms is as small as they can be: 0."""

    def standard_exponential(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().standard_exponential(*args, **kwargs))

    def exponential(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().exponential(*args, **kwargs))

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().random(*args, **kwargs))

    def uniform(self, low: Any = 0.0, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().uniform(low, *args, **kwargs), low)


def _planted(draws: Any, smallest: Any = 0.0) -> Any:
    if isinstance(draws, np.ndarray) and np.ndim(smallest) == 0:
        draws.reshape(-1)[::7] = smallest
    return draws


# --- What a callable says of itself: it may refuse, or lie ---------------------------------------------

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a builtin that does not say, or an object that misbehaves
        return {}


def _name_of(function: Any) -> str:
    try:
        return str(function.__qualname__)
    except BaseException:
        return type(function).__name__


def _file_of(function: Any) -> str:
    """The file in which a function, or an object that is called like one, is written."""
    for place in (inspect.unwrap, lambda same: same, lambda odd: type(odd).__call__):
        try:
            return str(place(function).__code__.co_filename)
        except BaseException:
            continue
    return ""
