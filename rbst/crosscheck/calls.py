"""One call of the implementation, and whether what comes back can be compared at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import Observation
from rbst.crosscheck.clock import Clock
from rbst.crosscheck.laws import Law
from rbst.crosscheck.subject import Answer, Profile, Question, Subject, Unusable, signal

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
    row: int = 0
    calls: int = 0
    observations: list[Observation] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """How the subject wants to be called."""
        return self.subject.profile

    def signal(self, D: Array, case: Case) -> Array:
        """The gradient of f at D, or its cost."""
        return signal(D, case.slopes, self.law)

    def next_seed(self) -> tuple[int, int, int]:
        """A seed for each call of a row."""
        self.calls += 1
        return self.seed, self.row, self.calls

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
    num_samples: int | None = None,
    **others: Any,
) -> Answer:
    """D and the gradient of one call, of the right shape and finite; raises :class:`Unusable` if not.

    ``others`` are further fields of a :class:`Question`.
    """
    K = num_samples or context.law.num_samples
    seed = others.pop("seed", None) or context.next_seed()
    question = Question(logits, D, case.slopes, case.tau, seed, K, **others)
    answer = context.subject.ask(question, context.clock.left())
    if context.profile.draws_D:
        _check_drawn(answer.D, logits)
    _check_finite(answer.gradient, logits, question.exponentials)
    return replace(answer, D=answer.D.astype(logits.dtype))


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
