"""Rows on what must change nothing and what must break nothing: shifts, extremes, draws of exactly 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rbst.crosscheck import cases
from rbst.crosscheck.calls import Context, ask, rows_of
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import Sample, same_means
from rbst.crosscheck.report import SOUGHT, Row, judge
from rbst.crosscheck.sampling import collect, mean_only
from rbst.crosscheck.subject import Unusable
from rbst.crosscheck.values import value

ROWS_OF_A_CALL = 64
DRAWS_OF_A_SHIFT = 5000
SMALL_SHIFT = 5  # exp neither overflows nor vanishes below, in whatever dtype
DIFFERS = 1e-9  # the p-value below which a shift has changed the mean
ROUNDING = {"float64": 1e-6, "float32": 1e-3}  # of a gradient that D determines, when it is shifted

# --- A constant added to the logits ------------------------------------------------------------------


def shifted(context: Context, name: str, case: Case, shift: int, dtype: str) -> list[Row]:
    """A constant added to the logits; if it changes anything, from which constant on?"""
    try:
        row = mean_only(context, name, case, dtype, 1 / 8, shift)[0]
    except Unusable as error:
        row = Row(name, "fail", error.found, error.expected, cause=error.cause)
    if row.verdict == "pass":
        return [row]
    return [replace(row, cause=_cause_of_shift(context, case, shift, dtype) or row.cause)]


def _cause_of_shift(context: Context, case: Case, shift: int, dtype: str) -> str:
    """Bisection for the smallest shift of this sign that goes wrong; empty if no exp overflows there."""
    try:
        unshifted = _answer_at(context, case, 0, dtype)
    except Unusable as error:
        return error.cause

    def fault_at(constant: int) -> str:
        try:
            return _fault(unshifted, _answer_at(context, case, constant, dtype))
        except Unusable:
            return "the answer is not finite"

    fault = fault_at(shift)
    if not fault:
        return ""
    good, bad = 0, shift
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fault_at(middle) else (middle, bad)
    if abs(good) < SMALL_SHIFT:
        return ""
    what = f"exp(logits) exceeds {dtype}" if shift > 0 else f"exp(logits) vanishes in {dtype}"
    way = "overflows above" if shift > 0 else "underflows below"
    return f"{way} a shift of {good}: {what}, {fault}; stay in log space"


def _answer_at(context: Context, case: Case, shift: int, dtype: str) -> dict[int, Sample]:
    """The mean for each D, of a few thousand draws if there is noise."""
    if context.law.random:
        sums = collect(context, case, dtype, DRAWS_OF_A_SHIFT, shift=shift)
        return {s.target.outcome: Sample.of(s) for s in sums}
    answer = ask(context, *rows_of(case, (ROWS_OF_A_CALL,), dtype, shift), case)
    D, h = answer.D, answer.gradient
    rounding, none = ROUNDING[dtype] * float(abs(h).max()), np.zeros((case.n, case.n))
    return {int(k): Sample(row, none, rounding) for k, row in zip(D.argmax(-1), h, strict=True)}


def _fault(unshifted: dict[int, Sample], shifted: dict[int, Sample]) -> str:
    """What a shift has done to the means; nothing is the empty string."""
    pairs = [(unshifted[k], shifted[k]) for k in unshifted.keys() & shifted.keys()]
    if pairs and same_means(pairs) >= DIFFERS:
        return ""
    sizes = [max(abs(s.mean).max() for s in found.values()) for found in (unshifted, shifted)]
    if sizes[1] < 1e-9 * sizes[0]:
        return "hidden by an epsilon or by NaN turned into 0: the gradient is 0"
    return "or is outweighed by an epsilon"


# --- Extremes ----------------------------------------------------------------------------------------


def extreme(context: Context, name: str, case: Case, dtype: str) -> list[Row]:
    r"""Finite, of zero sum, and for Gumbel-Rao no larger than :math:`(\max g - \min g) / 4 \tau`."""
    if not context.law.random:
        return value(context, name, case, dtype)
    logits, D = rows_of(case, (ROWS_OF_A_CALL,), dtype)
    answer = ask(context, logits, D, case)
    h, df_dD = answer.gradient, context.signal(answer.D, case)
    bound = float(np.ptp(df_dD, axis=-1).max()) / (4 * case.tau)
    largest, excess = float(abs(h).max()), float(abs(h.sum(axis=-1)).max())
    if excess > 1e-3 * max(bound, largest):
        return [Row(name, "fail", f"sums up to {excess:.2g}", "0", cause=SOUGHT)]
    if context.law.family != "gumbel-rao":
        return [Row(name, "pass", f"at most {largest:.3g}", "finite")]
    figures = f"at most {largest:.3g}", f"at most {bound:.3g}"
    return [judge(name, largest <= 1.001 * bound, *figures, SOUGHT)]


def zeros(context: Context, name: str, dtype: str) -> list[Row]:
    """Generators return exactly 0 about once in 2**24 draws of float32."""
    logits, D = rows_of(cases.MAIN, (ROWS_OF_A_CALL,), dtype)
    try:
        ask(context, logits, D, cases.MAIN, with_zeros=True)
    except Unusable as error:
        cause = error.cause
        if error.expected == "finite":
            cause = "the logarithm of a draw of exactly 0: give it a floor below the smallest draw"
        return [Row(name, "fail", error.found, error.expected, cause=cause)]
    return [Row(name, "pass", "finite", "finite")]
