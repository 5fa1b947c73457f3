"""What a check found: a row for each property, as text or as JSON; the verdict stands last."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

SOUGHT = "?"  # a cause to be sought when all rows are known
COLOURS = {"pass": "\033[32m", "fail": "\033[1;31m", "skip": "\033[33m"}


@dataclass(frozen=True)
class Row:
    """One property of an implementation.

    Attributes
    ----------
    property
        What was asked.
    verdict
        ``"pass"``, ``"fail"``, or ``"skip"`` for what was not asked, which is never a success.
    found, expected
        The figure and the exact value.
    p_value
        Of a statistical test: how often a right implementation would look at least as bad.
    detects
        The relative error that this row would have caught 999 times in 1000 (None where it compares
        number by number).
    draws
        How many gradients were drawn.
    cause
        The likeliest cause of a failure.
    """

    property: str
    verdict: Literal["pass", "fail", "skip"]
    found: str = ""
    expected: str = ""
    p_value: float | None = None
    detects: float | None = None
    draws: int | None = None
    cause: str = ""


def judge(
    name: str,
    fine: bool,
    found: str,
    expected: str,
    cause: str,
    p_value: float | None = None,
    detects: float | None = None,
    draws: int | None = None,
) -> Row:
    """A row that passes, or one that fails and has a cause.

    Examples
    --------
    >>> judge("dtype", False, "float64", "float32", "something inside is float64").verdict
    'fail'
    """
    verdict: Literal["pass", "fail"] = "pass" if fine else "fail"
    return Row(name, verdict, found, expected, p_value, detects, draws, "" if fine else cause)


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`rbst.crosscheck.check`.

    Attributes
    ----------
    implementation, estimator
        What was examined, and as which estimator.
    rows
        A :class:`Row` for each property.
    false_alarm_rate
        A bound on the probability that a right implementation fails any row.
    level
        That rate over the number of statistical tests: a row fails if its p-value is below.
    seconds
        How long it took.
    notes
        What was declared, or found out, and was therefore not asked.
    """

    implementation: str
    estimator: str
    rows: tuple[Row, ...]
    false_alarm_rate: float
    level: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["passed", "failed", "incomplete"]:
        """``"passed"`` if every row was asked and passed; ``"incomplete"`` if some were not asked."""
        if self.failures:
            return "failed"
        asked = self.rows and all(row.verdict == "pass" for row in self.rows)
        return "passed" if asked else "incomplete"

    @property
    def passed(self) -> bool:
        """Whether every row was asked and passed."""
        return self.verdict == "passed"

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.verdict == "fail")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {"schema": "rbst-check/1", "passed": self.passed, "verdict": self.verdict} | asdict(
            self
        )

    def to_json(self) -> str:
        """The report as JSON with sorted keys; figures that are not finite are null."""
        return json.dumps(_finite(self.to_dict()), indent=2, sort_keys=True, allow_nan=False)

    def to_text(self, *, verbose: bool = False, colour: bool = False) -> str:
        """What was asked, each failure with its figures, and the verdict with each cause once.

        ``verbose`` adds the exact values, the p-values, what would have been caught, and the cause to every row.
        """
        heading = [f"{self.implementation} as {self.estimator}", *self.notes]
        rows = self.rows if verbose else _joined(self.rows)
        table = [line for row in rows for line in _lines(row, verbose, colour)]
        return "\n".join([*heading, "", *table, "", *self._causes(), self._summary()])

    def _causes(self) -> list[str]:
        """Each cause once, with the number of its rows, those of most rows first."""
        lines = []
        for cause, count in Counter(row.cause for row in self.failures).most_common():
            text = f"{cause or 'no cause is known'} ({count} row{'s' if count > 1 else ''})"
            lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ")
        return lines

    def _summary(self) -> str:
        counts = {kind: sum(r.verdict == kind for r in self.rows) for kind in COLOURS}
        text = f"{counts['pass']} passed, {counts['fail']} failed"
        if counts["skip"]:
            text += f", {counts['skip']} not asked"
        first = f"{self.verdict.upper()}: {text} in {self.seconds:.1f} s"
        if self.verdict != "passed":
            return first
        rate = f"{self.false_alarm_rate:.0e}"
        promise = f"a right implementation fails any row with probability at most {rate}"
        return textwrap.fill(f"{first}; {promise}", WIDTH)

    def __str__(self) -> str:
        return self.to_text()


WIDTH, PROPERTY = 80, 37


def _joined(rows: Sequence[Row]) -> list[Row]:
    """The rows, with more than three neighbours that were not asked for one reason as one."""
    joined: list[Row] = []
    for reason, group in groupby(rows, key=lambda row: row.verdict == "skip" and row.found):
        alike = list(group)
        if reason is not False and len(alike) > 3:
            alike = [Row(f"{len(alike)} rows", "skip", str(reason))]
        joined += alike
    return joined


def _word(row: Row) -> str:
    return row.verdict.upper() if row.verdict == "fail" else row.verdict


def _lines(row: Row, verbose: bool, colour: bool) -> list[str]:
    """A row in one line, and if asked for below it all that is known, in lines of the same width."""
    figures = "" if row.verdict == "pass" and not row.found.endswith("law's") else row.found
    if row.verdict == "fail" and row.p_value is not None:
        figures = f"{row.found.split(' (')[0]}, not {row.expected}"
    line = f"{_word(row)}  {row.property:<{PROPERTY}.{PROPERTY}}  {figures}".rstrip()
    line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
    if colour:
        line = f"{COLOURS[row.verdict]}{line[:4]}\033[0m{line[4:]}"
    if not verbose:
        return [line]
    known = [
        f"found {row.found}" if row.found else "",
        f"exact {row.expected}" if row.expected else "",
    ]
    known.append("" if row.p_value is None else f"p = {row.p_value:.2g}")
    if row.detects and math.isfinite(row.detects):
        known.append(f"would catch {100 * row.detects:.2g} %")
    texts = ["; ".join(filter(None, known)), f"cause: {row.cause}" if row.cause else ""]
    indent = " " * 6
    wrapped = (
        textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
        for text in texts
    )
    return [line, *(part for parts in wrapped for part in parts)]


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
