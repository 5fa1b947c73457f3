"""The time that is left, shared by the rows of a battery."""

from __future__ import annotations

import time


class BudgetSpent(Exception):
    """There is no time left for another call."""


class Clock:
    """Seconds since the start, and where a budget ends."""

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
                raise BudgetSpent("the budget is spent")
            self.row_end = now + share * (self.end - now)

    def row_is_over(self, seconds: float) -> bool:
        """Whether a call that takes so long would end after the time of the row."""
        return self.row_end is not None and time.monotonic() + seconds >= self.row_end
