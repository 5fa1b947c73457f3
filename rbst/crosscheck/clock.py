"""The time that is left, shared by the rows of a battery."""

from __future__ import annotations

import math
import time

from rbst.crosscheck.subject import BudgetSpent


class Clock:
    """Seconds since the start, and how many are left of a budget."""

    def __init__(self, budget: float | None) -> None:
        self.start, self.budget = time.monotonic(), budget or math.inf

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds until the budget is spent; raises :class:`BudgetSpent` if it is."""
        left = self.budget - self.elapsed()
        if left <= 0:
            raise BudgetSpent("not asked: the budget is spent")
        return left
