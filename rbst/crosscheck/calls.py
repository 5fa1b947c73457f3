"""One call of the implementation, and whether what comes back can be compared at all."""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import Observation
from rbst.crosscheck.clock import Clock
from rbst.crosscheck.laws import Law
from rbst.crosscheck.subject import Question, Subject, Unusable, first_line

INFINITE = 1e60  # whatever is larger counts as infinite


@dataclass
class Context:
    """What every row of a battery needs to know, and the wrong means that rows have seen."""

    subject: Subject
    law: Law
    dtypes: tuple[str, ...]
    samples: int | None
    seed: int
    clock: Clock
    level: float = 0.0
    rng: Any = None
    observations: list[Observation] = field(default_factory=list)

    def draws(self, share: float, fewest: int = 0) -> int:
        """Gradients for a row: about 2**20 relaxed samples, since the variance of a mean falls as 1 / K."""
        if self.samples is not None:
            return int(share * self.samples)
        return max(int(share * min(2**20 // (self.law.num_samples or 1), 2**19)), fewest)


def rows_of(case: Case, shape: tuple[int, ...], dtype: str, shift: int = 0) -> tuple[Array, Array]:
    """Logits and D of shape ``(*shape, n)``, the outcomes of the case in turn."""
    logits = np.broadcast_to(case.logits + shift, (*shape, case.n)).astype(dtype)
    index = np.resize(np.array(case.outcomes), math.prod(shape)).reshape(shape)
    return logits, one_hot(index, case.n, dtype)


def ask(
    context: Context,
    logits: Array,
    D: Array,
    case: Case,
    *,
    rng: Any = None,
    num_samples: int | None = None,
    exponentials: Array | None = None,
) -> tuple[Array, Array]:
    """D and the gradient of one call, of the right shape and finite; raises :class:`Unusable` if not.

    What the implementation prints goes to standard error, where it does not mix with a report.
    """
    question = Question(
        logits,
        D,
        case.slopes,
        case.tau,
        context.rng if rng is None else rng,
        num_samples or context.law.num_samples,
        exponentials,
    )
    shape, asked = logits.shape, logits.copy()
    with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"):
        answer = context.subject.ask(question)
    came, h = _numbers("D", answer[0], "fiub", shape), _numbers("gradient", answer[1], "f", shape)
    if context.subject.draws_D:
        _check_drawn(came, asked)
    _check_finite(h, asked, exponentials)
    return came.astype(asked.dtype), h


def _numbers(name: str, answer: Any, kinds: str, shape: tuple[int, ...]) -> Array:
    """An answer as an array of one of these kinds of numbers and of this shape.

    It is copied: the next call may well return the same memory.
    """
    try:
        array = np.array(answer)
    except Exception as error:
        cause = f"the {name} cannot be read as an array"
        raise Unusable(first_line(error)[:72], "an array", cause) from error
    if array.dtype.kind not in kinds:
        raise Unusable(
            f"{name} of dtype {array.dtype}", "float", f"the {name} is not an array of floats"
        )
    if array.shape != shape:
        cause = "leading axes are not treated as a batch of independent variables"
        raise Unusable(f"{name} of shape {array.shape}", f"{shape}", cause)
    return array


def _check_drawn(D: Array, logits: Array) -> None:
    if not (((D == 0) | (D == 1)).all() and (D.sum(axis=-1) == 1).all()):
        raise Unusable("D is not one-hot", "a 1 among zeros", "a relaxed sample is returned as D")
    if (D.astype(bool) & np.isneginf(logits)).any():
        raise Unusable(
            "D on a logit of -inf",
            "never",
            "the mask comes after the softmax: where the rest underflows, ties fall to index 0",
        )


def _check_finite(h: Array, logits: Array, E: Array | None) -> None:
    """Numbers, and so small that moments can be computed."""
    fine = (abs(h.astype(np.float64)) < INFINITE).all(axis=-1)
    if not fine.all():
        broken = int(np.size(fine) - np.sum(fine))
        cause = _why_not_finite(not fine.any(), logits, E)
        raise Unusable(f"{broken} of {np.size(fine)} not finite", "finite", cause)


def _why_not_finite(always: bool, logits: Array, E: Array | None) -> str:
    if E is not None and (E == 0).any():
        return "the logarithm of a draw of exactly 0, or 0 / 0"
    if abs(logits[np.isfinite(logits)]).max() > 100:
        return "exp(logits) overflows or vanishes: stay in log space"
    if np.isneginf(logits).any():
        return "the -inf of an impossible category meets another"
    return "NaN for any noise" if always else "NaN now and then: 0 / 0, log 0 or overflow"
