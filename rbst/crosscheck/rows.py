r"""What each row of the battery asks, and how it judges the answer.

Every function takes the :class:`Context`, the name of its row and the case, and returns one row or a
few. An answer that cannot be compared at all raises :class:`Unusable`, which the battery turns into a
row; so does any exception of the implementation itself.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot, softmax
from rbst.crosscheck import cases
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import Observation, explain_covariance, explain_value
from rbst.crosscheck.laws import Law
from rbst.crosscheck.moments import (
    Sums,
    chi_square_p_value,
    covariance_test,
    detectable_covariance_error,
    detectable_mean_error,
    independence_test,
    mean_test,
    often_enough,
    projected_mean_test,
)
from rbst.crosscheck.report import Row
from rbst.crosscheck.subject import BudgetSpent, Clock, Question, Subject

FEWEST_DRAWS = 500  # given each D, for the central limit theorem to hold
FIRST_CALL, GROWTH = 2**6, 4  # rows; each call has so many times the rows of the one before
LARGEST_CALL = 2**20  # in numbers drawn: n K for each row
ROWS_PER_VALUE = 24  # where answers are compared number by number
PROJECTIONS = 10
SOUGHT = "?"  # a cause to be sought when all rows are known


@dataclass
class Context:
    """What every row needs to know."""

    subject: Subject
    law: Law
    dtypes: tuple[str, ...]
    samples: int | None
    seed: int
    clock: Clock
    level: float = 0.0
    rng: Any = None
    observations: list[Observation] = field(default_factory=list)

    @property
    def random(self) -> bool:
        """Whether noise is left once D is given."""
        return self.law.covariance is not None

    def draws(self, share: float = 1.0) -> int:
        """Gradients for a row: about 2**20 relaxed samples, since the variance falls as 1 / K."""
        default = min(max(2**20 // (self.law.num_samples or 1), 2**16), 2**19)
        return int(share * (self.samples or default))


class Unusable(Exception):
    """An answer that cannot be compared at all."""

    def __init__(self, found: str, expected: str, cause: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.cause = found, expected, cause


# --- Calls -------------------------------------------------------------------------------------------


def _ask(
    context: Context,
    logits: Array,
    D: Array,
    case: Case,
    *,
    rng: Any = None,
    num_samples: int | None = None,
    exponentials: Array | None = None,
) -> tuple[Array, Array]:
    """One call, and an answer of the right shape: D and the gradient as arrays."""
    question = Question(
        logits,
        D,
        case.slopes,
        case.tau,
        context.rng if rng is None else rng,
        num_samples or context.law.num_samples,
        exponentials,
    )
    shape = logits.shape
    with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"):
        came, h = (np.asarray(answer) for answer in context.subject.ask(question))
    for name, array in (("D", came), ("gradient", h)):
        if array.dtype.kind not in "fiub":
            raise Unusable(
                f"{name} of dtype {array.dtype}", "float", f"the {name} is not an array of numbers"
            )
        if array.shape != shape:
            raise Unusable(
                f"{name} of shape {array.shape}",
                f"{shape}",
                "leading axes are not treated as a batch of independent variables",
            )
    if context.subject.draws_D:
        _check_drawn(came, logits)
    return came, h


def _check_drawn(D: Array, logits: Array) -> None:
    if not (((D == 0) | (D == 1)).all() and (D.sum(axis=-1) == 1).all()):
        raise Unusable("D is not one-hot", "a 1 among zeros", "a relaxed sample is returned as D")
    if (D.astype(bool) & np.isneginf(logits)).any():
        raise Unusable(
            "D on a logit of -inf",
            "never",
            "the mask comes after the softmax: where the rest underflows, ties fall to index 0",
        )


def _rows_of(case: Case, shape: tuple[int, ...], dtype: str, shift: int = 0) -> tuple[Array, Array]:
    """Logits and D of shape ``(*shape, n)``, the outcomes of the case in turn."""
    logits = np.broadcast_to(case.logits + shift, (*shape, case.n)).astype(dtype)
    index = np.resize(np.array(case.outcomes), math.prod(shape)).reshape(shape)
    return logits, one_hot(index, case.n, dtype)


# --- The contract ------------------------------------------------------------------------------------


def shape(context: Context, name: str) -> list[Row]:
    """Any leading axes are a batch of independent variables."""
    for leading in ((), (5,), (2, 4)):
        _ask(context, *_rows_of(cases.MAIN, leading, context.dtypes[0]), cases.MAIN)
    return [Row(name, "pass", "(3,), (5, 3), (2, 4, 3)", "the same")]


def dtype(context: Context, name: str, wanted: str) -> list[Row]:
    """The gradient has the dtype of the logits."""
    _, h = _ask(context, *_rows_of(cases.MAIN, (6,), wanted), cases.MAIN)
    if str(h.dtype) == wanted:
        return [Row(name, "pass", wanted, wanted)]
    return [
        Row(
            name,
            "fail",
            str(h.dtype),
            wanted,
            cause=f"something inside is {h.dtype} whatever comes in",
        )
    ]


def input_left_alone(context: Context, name: str) -> list[Row]:
    """The arrays of the caller are what they were."""
    logits, D = _rows_of(cases.MAIN, (6,), context.dtypes[0])
    before = logits.copy(), D.copy()
    _ask(context, logits, D, cases.MAIN)
    pairs = [("logits", logits, before[0]), ("D", D, before[1])]
    if (handed := context.subject.handed) is not None:
        came, signal = handed
        pairs.append(("df_dD", signal, context.subject.signal(came, cases.MAIN.slopes)))
    changed = [label for label, now, then in pairs if not np.array_equal(now, then)]
    if not changed:
        return [Row(name, "pass", "unchanged", "unchanged")]
    cause = "an operation in place on the arrays of the caller; copy them first"
    return [Row(name, "fail", f"changed: {', '.join(changed)}", "unchanged", cause=cause)]


def _gradients_from(context: Context, seeds: tuple[int, int]) -> tuple[Array, Array]:
    logits, D = _rows_of(cases.MAIN, (6,), context.dtypes[0])
    first, second = (
        _ask(context, logits.copy(), D.copy(), cases.MAIN, rng=np.random.default_rng(seed))[1]
        for seed in seeds
    )
    return first, second


def same_seed(context: Context, name: str) -> list[Row]:
    """Nothing is drawn but from the generator."""
    first, second = _gradients_from(context, (1, 1))
    if np.array_equal(first, second, equal_nan=True):
        return [Row(name, "pass", "equal", "equal")]
    cause = (
        "something is drawn from elsewhere, such as a global generator"
        if "rng" in context.subject.accepts
        else "it takes no rng, and draws from elsewhere"
    )
    if context.law.takes_cost:
        return [Row(name, "pass", "a state of its own", "equal, or a baseline that moves")]
    return [Row(name, "fail", f"differ by {abs(first - second).max():.3g}", "equal", cause=cause)]


def other_seed(context: Context, name: str) -> list[Row]:
    """The generator is used."""
    first, second = _gradients_from(context, (1, 2))
    if not np.array_equal(first, second, equal_nan=True):
        return [Row(name, "pass", "different", "different")]
    cause = "the generator is ignored: the noise is fixed, or there is none given D"
    return [Row(name, "fail", "equal", "different", cause=cause)]


def baseline(context: Context, name: str) -> list[Row]:
    r"""Does the baseline know a cost before it is compared with it?

    Two calls with costs of 0 show a baseline that decays from :math:`b_0` to :math:`b_1`; the next one, with a
    cost of 1 in its first row only, must subtract :math:`b_1^2 / b_0` from that 1 and no more.
    """
    case = cases.MAIN
    logits, D = _rows_of(case, (3,), context.dtypes[0])
    direction = (D - softmax(logits))[0]
    coefficients = []
    for cost in (0.0, 0.0, 1.0):
        question = Case(case.logits, 1.0, case.outcomes, np.diag([cost, 0, 0]))
        h = _ask(context, logits.copy(), D.copy(), question)[1][0]
        coefficients.append(float((h @ direction) / (direction @ direction)))
    b_0, b_1 = -coefficients[0], -coefficients[1]
    factor = coefficients[2] + (b_1**2 / b_0 if b_0 else 0.0)
    found, expected = f"{factor:.5g} (D - pi)", "1 (D - pi)"
    if abs(factor - 1) < 1e-4:
        return [Row(name, "pass", found, expected)]
    cause = "a cost enters the running mean before it is compared with it: gradients shrink"
    return [Row(name, "fail", found, expected, cause=cause)]


def zero_sum(context: Context, name: str) -> list[Row]:
    """The entries of a gradient for logits sum to zero."""
    dtype = context.dtypes[0]
    _, h = _ask(context, *_rows_of(cases.MAIN, (30,), dtype), cases.MAIN)
    excess = float(abs(h.sum(axis=-1)).max() / max(abs(h).max(), 1e-300))
    fine = excess < (1e-4 if dtype == "float32" else 1e-9)
    cause = "" if fine else SOUGHT
    return [Row(name, "pass" if fine else "fail", f"{excess:.1g} of the largest", "0", cause=cause)]


# --- Number by number --------------------------------------------------------------------------------


def _tolerance(dtype: str, usual: float) -> float:
    return 3e-3 if dtype == "float32" else usual


def shared_noise(
    context: Context, name: str, case: Case, shift: int, zero: bool, dtype: str
) -> list[Row]:
    """The implementation is handed the exponentials; float64 is the judge of float32."""
    logits, D = _rows_of(case, (ROWS_PER_VALUE,), dtype, shift)
    E = context.rng.standard_exponential((context.law.num_samples, *logits.shape)).astype(dtype)
    if zero:
        rows = np.arange(ROWS_PER_VALUE)
        E[0, rows, rows % case.n] = 0
    _, h = _ask(context, logits.copy(), D.copy(), case, exponentials=E.copy())
    g = context.subject.signal(D, case.slopes)
    exact = context.law.with_noise(
        *(a.astype("float64") for a in (logits - shift, D, g)), case.tau, E
    )
    return [
        _compared(context, name, h, exact, _tolerance(dtype, 1e-7), (logits, D, g, case.tau, E))
    ]


def value(context: Context, name: str, case: Case, dtype: str, shift: int = 0) -> list[Row]:
    """A gradient that D determines; float64 is the judge of float32."""
    logits, D = _rows_of(case, (ROWS_PER_VALUE,), dtype, shift)
    D, h = _ask(context, logits.copy(), D.copy(), case)
    signal = context.subject.signal(D, case.slopes)
    exact = context.law.mean(*(a.astype("float64") for a in (logits - shift, D, signal)), case.tau)
    if context.law.takes_cost:
        h = _without_baseline(h, logits, D, signal)
    usual = 1e-5 if context.law.estimator == "gr" else 1e-9
    arguments = (logits, D, signal, case.tau, None)
    return [_compared(context, name, h, exact, _tolerance(dtype, usual), arguments)]


def _without_baseline(h: Array, logits: Array, D: Array, cost: Array) -> Array:
    r"""Add :math:`b (D - \pi)` to :math:`(f - b)(D - \pi)`, with the one b that fits a call best."""
    direction = D - softmax(logits)
    weight = (direction**2).sum(axis=-1)
    if not weight.any():
        return h
    b = ((cost * weight).sum() - (h * direction).sum()) / weight.sum()
    return h + b * direction


def _compared(
    context: Context, name: str, h: Array, exact: Array, tolerance: float, arguments: tuple
) -> Row:
    if not np.isfinite(h).all():
        broken = int((~np.isfinite(h).all(axis=-1)).sum())
        return Row(
            name,
            "fail",
            f"{broken} of {len(h)} not finite",
            "finite",
            cause=_overflow_of(arguments),
        )
    logits, _, signal, tau, _ = arguments
    rounding = 32 * np.finfo(logits.dtype).eps * abs(signal).max() / min(1.0, tau)
    allowed = tolerance * abs(exact).max() + rounding
    error = abs(h - exact).max()
    found, expected = f"off by {error:.1g}", f"below {allowed:.1g}"
    if error <= allowed:
        return Row(name, "pass", found, expected)
    return Row(name, "fail", found, expected, cause=explain_value(context.law, *arguments, h))


def _overflow_of(arguments: tuple) -> str:
    logits, _, _, _, E = arguments
    if E is not None and (E == 0).any():
        return "the logarithm of a draw of exactly 0, or 0 / 0"
    if abs(logits[np.isfinite(logits)]).max() > 100:
        return "exp(logits) overflows or vanishes: stay in log space"
    if np.isneginf(logits).any():
        return "the -inf of an impossible category meets another"
    return "NaN: 0 / 0, log 0 or overflow"


# --- Mean and covariance given D ---------------------------------------------------------------------


def law(
    context: Context,
    name: str,
    case: Case,
    dtype: str,
    share: float = 1.0,
    num_samples: int | None = None,
    independent: bool = False,
) -> list[Row]:
    """Mean and covariance; with ``independent`` also whether rows of one call share noise."""
    sums = _collect(context, case, dtype, context.draws(share), num_samples=num_samples)
    mean = _mean_row(context, f"mean, {name}", sums)
    if mean.verdict == "fail":
        _remember(context, case, sums, num_samples)
    rows = [mean, _covariance_row(context, f"covariance, {name}", sums, mean, num_samples)]
    return [*rows, _independence_row(context, sums)] if independent else rows


def mean_only(
    context: Context, name: str, case: Case, dtype: str, share: float, raised: int = 0
) -> list[Row]:
    """The mean without the covariance, with ``raised`` added to every slope."""
    if not context.random:
        return value(context, name, case.raised(raised), dtype)
    sums = _collect(context, case.raised(raised), dtype, context.draws(share))
    row = _mean_row(context, name, sums)
    if row.verdict == "fail":
        _remember(context, case.raised(raised), sums, None)
    return [row]


def large_n(context: Context, name: str, case: Case, dtype: str) -> list[Row]:
    """Too many categories for a covariance: Hotelling's test along a few directions."""
    sums = _collect(context, case, dtype, context.draws(1 / 8), covariance=False)
    directions = np.linalg.qr(np.random.default_rng(case.n).normal(size=(case.n, PROJECTIONS)))[0]
    p_values = [projected_mean_test(s, directions)[2] for s in sums]
    p_value = min(1.0, len(p_values) * min(p_values))
    largest = max(sums, key=lambda s: abs(s.total).max() / s.count)
    k = int(abs(largest.total).argmax())
    found, exact = f"{largest.sample_mean()[k]:.4g}", f"{largest.mean[k]:.4g}"
    count = sum(s.count for s in sums)
    if p_value >= context.level:
        return [Row(name, "pass", found, exact, p_value, draws=count)]
    return [Row(name, "fail", found, exact, p_value, draws=count, cause=SOUGHT)]


def batch(context: Context, name: str, dtype: str) -> list[Row]:
    """Logits of shape (b, 2, 3, n), six variables a row: do they keep to themselves?"""
    by_variable = [_empty_sums(context, case, None) for case in cases.batch_cases()]
    first = np.arange(len(by_variable))
    draws, drawn = max(context.draws(1 / 2) // len(by_variable), 3 * FEWEST_DRAWS), 0
    for size in _calls(context, cases.BATCH.size, draws):
        shape = (size, *cases.BATCH.shape)
        index = (np.arange(size)[:, None] + first) % 3
        D = one_hot(index, 3, dtype).reshape(shape)
        D, h = _ask(context, np.broadcast_to(cases.BATCH, shape).astype(dtype), D, cases.MAIN)
        index, h = D.argmax(axis=-1).reshape(size, -1), h.reshape(size, -1, 3)
        for variable, all_sums in enumerate(by_variable):
            _add(all_sums, h[:, variable], index[:, variable])
        drawn += size
    sums = [s for all_sums in by_variable for s in all_sums]
    return [_mean_row(context, name, _usable(context, sums, drawn, draws))]


def law_of_D(context: Context, name: str, case: Case, dtype: str) -> list[Row]:
    """The frequencies of D, by the chi-square test of Pearson."""
    counts = np.zeros(case.n)
    for size in _calls(context, case.n, context.draws(1 / 4)):
        D, _ = _ask(context, *_rows_of(case, (size,), dtype), case)
        counts += D.sum(axis=0)
    expected = counts.sum() * softmax(case.logits)
    p_value = chi_square_p_value(float(((counts - expected) ** 2 / expected).sum()), case.n - 1)
    worst = int((abs(counts - expected) / np.sqrt(expected)).argmax())
    found, exact = (f"{c[worst] / counts.sum():.4f}" for c in (counts, expected))
    if p_value >= context.level:
        return [Row(name, "pass", found, exact, p_value, draws=int(counts.sum()))]
    cause = (
        "D is not drawn from softmax(logits): logits divided by tau, or Gumbels of the wrong law?"
    )
    return [Row(name, "fail", found, exact, p_value, draws=int(counts.sum()), cause=cause)]


def _collect(
    context: Context,
    case: Case,
    dtype: str,
    draws: int,
    *,
    shift: int = 0,
    num_samples: int | None = None,
    covariance: bool = True,
) -> list[Sums]:
    """Gradients of a case, summed up for each D."""
    all_sums = _empty_sums(context, case, num_samples, covariance)
    draws, drawn = max(draws, len(all_sums) * FEWEST_DRAWS), 0
    for size in _calls(context, case.n, draws):
        D, h = _ask(context, *_rows_of(case, (size,), dtype, shift), case, num_samples=num_samples)
        if h[:, np.isneginf(case.logits)].any():
            raise Unusable(
                "a gradient on a logit of -inf", "0", "impossible categories are not left out"
            )
        _add(all_sums, h, D.argmax(axis=-1))
        drawn += size
    return _usable(context, all_sums, drawn, draws)


def _calls(context: Context, entries: int, draws: int) -> Iterator[int]:
    """The rows of each call: a rule that depends on nothing but the case, cut short by the clock."""
    largest = max(FIRST_CALL, LARGEST_CALL // (entries * max(context.law.num_samples or 1, 8)))
    drawn, size, seconds = 0, FIRST_CALL, 0.0
    while drawn < draws and not (drawn and context.clock.row_is_over(seconds)):
        begun = context.clock.elapsed()
        yield size
        larger = min(GROWTH * size, largest)
        seconds = (context.clock.elapsed() - begun) * larger / size
        drawn, size = drawn + size, larger


def _empty_sums(
    context: Context, case: Case, num_samples: int | None, covariance: bool = True
) -> list[Sums]:
    """Exact mean and covariance for each D of the case."""
    outcomes = case.outcomes
    if context.subject.draws_D:
        outcomes = tuple(np.flatnonzero(softmax(case.logits) > 1e-4))
    D = np.eye(case.n)[list(outcomes)]
    arguments = np.broadcast_to(case.logits, D.shape), D, case.slopes[list(outcomes)], case.tau
    means = context.law.mean(*arguments)
    covariances = [None] * len(means)
    if covariance:
        K = num_samples or context.law.num_samples
        covariances = context.law.covariance(*arguments) / K
    return [Sums(*moments) for moments in zip(outcomes, means, covariances, strict=True)]


def _add(all_sums: list[Sums], h: Array, index: Array) -> None:
    broken = int((~np.isfinite(h).all(axis=-1)).sum())
    if broken:
        cause = (
            "NaN for any input"
            if broken == len(h)
            else "NaN now and then: 0 / 0, log 0 or overflow"
        )
        raise Unusable(f"{broken} of {len(h)} not finite", "finite", cause)
    for sums in all_sums:
        sums.add(h[index == sums.outcome])


def _usable(context: Context, all_sums: list[Sums], drawn: int, draws: int) -> list[Sums]:
    """Those D that came often enough; a case without any is out of budget."""
    usable = [s for s in all_sums if s.count >= FEWEST_DRAWS]
    if not usable or (
        drawn < draws and len(usable) < len(all_sums) and not context.subject.draws_D
    ):
        raise BudgetSpent(f"{drawn} draws within the budget are too few")
    return usable


def _remember(context: Context, case: Case, sums: list[Sums], num_samples: int | None) -> None:
    context.observations.append(Observation(case, num_samples or context.law.num_samples, sums))


def _mean_row(context: Context, name: str, sums: list[Sums]) -> Row:
    """The joint test; what is shown is the coordinate that is off by the most standard errors."""
    _, _, p_value = mean_test(sums)
    detects = detectable_mean_error(sums, context.level)
    found, exact = _worst_coordinate(sums)
    count = sum(s.count for s in sums)
    verdict = "pass" if p_value >= context.level else "fail"
    cause = SOUGHT if verdict == "fail" else ""
    return Row(name, verdict, found, exact, p_value, detects, count, cause)


def _worst_coordinate(sums: list[Sums]) -> tuple[str, str]:
    z = []
    for s in sums:
        variance = np.diagonal(s.covariance)
        errors = np.sqrt(np.where(variance > 0, variance, math.inf) / s.count)
        shift = s.total / s.count
        k = int((abs(shift) / errors).argmax())
        z.append((abs(shift[k]) / errors[k], s, k, errors[k]))
    _, s, k, error = max(z, key=lambda entry: entry[0])
    return (
        f"{s.sample_mean()[k]:.4g} ± {error:.1g} (D = e{s.outcome}, entry {k})",
        f"{s.mean[k]:.4g}",
    )


def _covariance_row(
    context: Context, name: str, sums: list[Sums], mean: Row, num_samples: int | None
) -> Row:
    """The joint test; what is shown is the total variance that is off by the most standard errors."""
    sums = often_enough(sums)
    if not sums:
        return Row(name, "skip", "too few draws for a covariance")
    _, _, p_value = covariance_test(sums)
    detects = detectable_covariance_error(sums, context.level)
    found, error, exact = max(
        (s.variance() for s in sums), key=lambda v: abs(v[0] - v[2]) / max(v[1], 1e-300)
    )
    verdict, cause = "pass", ""
    if p_value < context.level:
        verdict, detects = "fail", None
        K = num_samples or context.law.num_samples
        cause = SOUGHT if mean.verdict == "fail" else explain_covariance(sums, K)
    figures = f"variance {found:.4g} ± {error:.1g}", f"{exact:.4g}"
    return Row(name, verdict, *figures, p_value, detects, sum(s.count for s in sums), cause)


def _independence_row(context: Context, sums: list[Sums]) -> Row:
    name = "rows of a batch independent"
    correlation, p_value = independence_test(sums)
    figures = f"correlation {correlation:.2g}", "0"
    if p_value >= context.level:
        return Row(name, "pass", *figures, p_value)
    cause = "rows of a batch share noise: draw it with the shape (K, ..., n)"
    return Row(name, "fail", *figures, p_value, cause=cause)


# --- Invariances and extremes ------------------------------------------------------------------------


def shifted(context: Context, name: str, case: Case, shift: int, dtype: str) -> list[Row]:
    """A constant added to the logits; if it changes anything, from which constant on?"""
    if not context.random:
        row = value(context, name, case, dtype, shift)[0]
        fine = row.verdict == "pass"
    else:
        try:
            row = _mean_row(
                context, name, _collect(context, case, dtype, context.draws(1 / 8), shift=shift)
            )
        except Unusable as error:
            row = Row(name, "fail", error.found, error.expected)
        fine = row.verdict == "pass"
    if fine:
        return [row]
    return [Row(**{**vars(row), "cause": _cause_of_shift(context, case, shift, dtype)})]


def _cause_of_shift(context: Context, case: Case, shift: int, dtype: str) -> str:
    """Bisection for the smallest shift of this sign that goes wrong, and in which way."""
    if _fault_at(context, case, 0, dtype):
        return SOUGHT
    good, bad = 0, shift
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _fault_at(context, case, middle, dtype) else (middle, bad)
    fault = _fault_at(context, case, shift, dtype)
    if fault == "zero":
        what = "hidden by an epsilon or by NaN turned into 0: the gradient is 0"
    elif fault == "not finite":
        what = "the answer is not finite"
    else:
        what = "or is outweighed by an epsilon"
    if shift > 0:
        return f"overflows above a shift of {good}: exp(logits) exceeds {dtype}, {what}; stay in log space"
    return f"underflows below a shift of {good}: exp(logits) vanishes in {dtype}, {what}; stay in log space"


def _fault_at(context: Context, case: Case, shift: int, dtype: str) -> str:
    """What goes wrong at a shift, judged by a few thousand draws: nothing is the empty string."""
    try:
        if not context.random:
            row = value(context, "", case, dtype, shift)[0]
            return "" if row.verdict == "pass" else row.found
        sums = _collect(context, case, dtype, 3 * 2**11, shift=shift)
    except Unusable:
        return "not finite"
    except BudgetSpent:
        return ""
    if not any(abs(s.sample_mean()).max() > 1e-9 * abs(s.mean).max() for s in sums):
        return "zero"
    return "" if mean_test(sums)[2] >= 1e-9 else "wrong"


def extreme(context: Context, name: str, case: Case, dtype: str) -> list[Row]:
    r"""Finite, of zero sum, and where J is that of a tempered softmax, below (max g - min g) / 4 tau."""
    if not context.random:
        return value(context, name, case, dtype)
    logits, D = _rows_of(case, (64,), dtype)
    D, h = _ask(context, logits.copy(), D.copy(), case)
    broken = int((~np.isfinite(h).all(axis=-1)).sum())
    if broken:
        return [
            Row(
                name,
                "fail",
                f"{broken} of {len(h)} not finite",
                "finite",
                cause=_overflow_of((logits, D, 0, 0, None)),
            )
        ]
    g = context.subject.signal(D, case.slopes)
    bound = float(np.ptp(g, axis=-1).max()) / (4 * case.tau)
    largest, excess = float(abs(h).max()), float(abs(h.sum(axis=-1)).max())
    figures = f"at most {largest:.3g}", f"at most {bound:.3g}"
    if excess > 1e-3 * max(bound, largest):
        return [Row(name, "fail", f"sums up to {excess:.2g}", "0", cause=SOUGHT)]
    if context.law.with_noise is not None and largest > bound * 1.001:
        return [Row(name, "fail", *figures, cause=SOUGHT)]
    return [Row(name, "pass", *figures)]


class ZerosNowAndThen(np.random.Generator):
    """A generator every seventh of whose exponentials and uniforms is exactly 0, as some are."""

    def standard_exponential(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().standard_exponential(*args, **kwargs))

    def exponential(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().exponential(*args, **kwargs))

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return _planted(super().random(*args, **kwargs))


def _planted(draws: Any) -> Any:
    if isinstance(draws, np.ndarray):
        draws.reshape(-1)[::7] = 0
    return draws


def zeros(context: Context, name: str, dtype: str) -> list[Row]:
    """Generators return exactly 0 about once in 2**24 draws of float32."""
    rng = ZerosNowAndThen(np.random.PCG64(context.seed))
    _, h = _ask(context, *_rows_of(cases.MAIN, (64,), dtype), cases.MAIN, rng=rng)
    broken = int((~np.isfinite(h).all(axis=-1)).sum())
    if not broken:
        return [Row(name, "pass", "finite", "finite")]
    cause = "the logarithm of a draw of exactly 0: give it a floor below the smallest draw"
    return [Row(name, "fail", f"{broken} of {len(h)} not finite", "finite", cause=cause)]
