r"""Someone else's implementation, checked against the exact answers.

Given D, a straight-through Gumbel-Softmax estimator is random, and yet its conditional mean and
covariance are known to many digits (:mod:`rbst.rao_blackwell`). So any implementation can be examined
from outside, in whatever framework it is written: :func:`check` calls it on a fixed, seeded battery of
cases, compares number by number where it takes the exponentials it is to use, and otherwise tests mean
and covariance given each D. A report comes back, a row for each property, with the likeliest cause of
each failure, found by computing the well-known wrong answers as well (:mod:`rbst.crosscheck.causes`).

Rows come in the order of what rests on what; where a gate fails, nothing else is asked. The level of a
statistical test is ``FALSE_ALARM_RATE`` over their number: by Bonferroni's inequality a right
implementation fails any of them no more often than that.
"""

from __future__ import annotations

import json
import math
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from rbst._array import Array
from rbst.crosscheck import laws, rows
from rbst.crosscheck.causes import NO_MISTAKE, VARIANCE, explain_mean, explain_values
from rbst.crosscheck.laws import Case, Law, Problem, get_law, own_law
from rbst.crosscheck.rows import SOUGHT, Context, Options, Row, judge
from rbst.crosscheck.subject import (
    KEYWORDS,
    OTHERS,
    BudgetSpent,
    Fault,
    Gone,
    Profile,
    Subject,
)

__all__ = ["Report", "Row", "check", "list_battery"]

FALSE_ALARM_RATE = 1e-6


def check(
    implementation: Callable[..., Any],
    estimator: str = "gr-mc10",
    *,
    draws_D: bool | None = None,
    mean: Callable[..., Array] | None = None,
    covariance: Callable[..., Array] | None = None,
    f: Callable[[Array], Array] | None = None,
    logits: Array | None = None,
    progress: bool = False,
    **options: Any,
) -> Report:
    r"""Hold an implementation of a gradient estimator against the exact answers.

    Parameters
    ----------
    implementation
        Called on batched NumPy arrays of shape ``(..., n)``, of the keywords that it has:
        ``(logits, D, df_dD, *, tau, num_samples, rng) -> gradient``; the same with ``exponentials`` of shape
        ``(K, ..., n)`` among its keywords, i.i.d. Exp(1), for a comparison number by number; or, if it
        draws D itself, ``(logits, df_dD_function, *, tau, num_samples, rng) -> (D, gradient)``.
    estimator
        What it is meant to compute: a name that ``rbst estimators`` prints, such as ``"gr-mc10"``; also
        ``"reinmax-rao-mcK"`` and ``"reinmax-cv-mcK"``. For ``"reinforce"`` the third argument is the cost,
        of shape ``(...)``, or the second one f; a baseline of its own is allowed. ``"unbiased"`` asks of a
        function ``(logits, f, rng) -> gradient`` or ``(logits, f, rng) -> loss`` nothing but its mean.
    draws_D
        Whether it draws D itself. By default it does if its second parameter has a name that starts with
        ``df_d``, or is ``f``.
    mean, covariance
        Exact moments given D of an estimator of your own, instead of a name: ``(logits, D, df_dD, tau)`` to
        ``(..., n)`` and ``(..., n, n)``. Without a covariance D must determine the gradient.
    f, logits
        For ``"unbiased"``: a function of your own from ``(..., L, n)`` to ``(...)``, and logits ``(L, n)``.
    progress
        Whether to show a bar on standard error, if that is a terminal.
    **options
        ``dtype``: ask in one precision only, ``"float16"`` included. ``tau``, ``categories``: the only
        temperature and number of categories that it is for. ``dimensions=2``: it takes ``(b, n)`` and no
        other leading axes. ``mean_only``: its variance may differ (antithetic or stratified noise).
        ``samples``: gradients drawn for a row that tests mean and covariance, at least 1000. ``budget``:
        seconds after which the remaining rows are skipped. ``seed``: of the noise that is handed to it.

    Returns
    -------
    Report
        A row for each property. A right implementation fails any of them with probability at most
        ``FALSE_ALARM_RATE``; one that raises, returns NaN or the wrong shape fails the rows concerned. It runs
        in this process and can end it; ``rbst check`` runs it in one of its own.

    Raises
    ------
    ValueError, TypeError
        For arguments that are not as above, and for nothing that the implementation does.

    Examples
    --------
    >>> from rbst import straight_through
    >>> from rbst.crosscheck import check
    >>> check(straight_through, "st").passed
    True
    >>> def forgetful(logits, D, df_dD, tau):
    ...     return tau * straight_through(logits, D, df_dD, tau=tau)
    >>> print(check(forgetful, "st").failures[0].cause)
    1/tau is missing: the Jacobian of softmax(x / tau) is J(S) / tau
    """
    if mean is None and covariance is not None:
        raise ValueError(
            "covariance needs mean, got it alone; pass both, or neither for a known law"
        )
    if f is None and logits is not None:
        raise ValueError("logits are those of f, got them alone; pass f as well, or leave them out")
    law = get_law(estimator) if mean is None else own_law(mean, covariance)
    problem = None if f is None else own_problem(f, logits, law)
    subject = Subject(implementation, law, draws_D, f)
    return examine(subject, law, Options(**options), problem=problem, progress=progress)


def own_problem(f: Callable[[Array], Array], logits: Array | None, law: Law) -> Problem:
    """A function of the user's, where its gradient is wanted."""
    if not law.whole or logits is None or np.ndim(logits) != 2:
        raise ValueError(
            "f needs estimator 'unbiased' and logits of shape (L, n), got "
            f"{law.estimator!r} and logits of shape {np.asarray(logits).shape}; pass both"
        )
    return Problem("f", tuple(map(tuple, np.asarray(logits, dtype=float).tolist())), f)


def examine(
    subject: Any,
    law: Law,
    options: Options,
    *,
    problem: Problem | None = None,
    progress: bool = False,
) -> Report:
    """The same for a :class:`Subject`, or for something that answers like one from another process."""
    start, (context, notes) = time.monotonic(), _context(subject, law, options)
    context.deadline = start + (options.budget or math.inf)
    items = items_of(context, problem)
    context.level = FALSE_ALARM_RATE / max(1, sum(item.tests for item in items))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _explained(_ask_all(items, context, progress), context)
    name, seconds, rate = subject.profile.name, time.monotonic() - start, FALSE_ALARM_RATE
    return Report(name, law.estimator, found, rate, context.level, seconds, notes)


def list_battery(estimator: str = "gr-mc10") -> list[tuple[str, str]]:
    """The rows of the battery for an estimator: each name, and what is asked.

    Examples
    --------
    >>> list_battery("st")[0]
    ('shape', 'Any leading axes are a batch of independent variables')
    """
    law = get_law(estimator)
    anything = Profile("", False, KEYWORDS, law.with_noise is not None)  # no row is left out
    context, _ = _context(SimpleNamespace(profile=anything), law, Options())
    return [(item.name, item.question) for item in items_of(context, None)]


def _context(subject: Any, law: Law, options: Options) -> tuple[Context, tuple[str, ...]]:
    """What the rows need to know, and what the report says of it."""
    tau, notes = options.tau, []
    if law.has_tau and tau is None and "tau" not in subject.profile.accepts:
        tau = 1.0
        notes.append("takes no tau: asked at tau = 1; declare another with --tau")
    elif tau is not None:
        notes.append(f"asked at tau = {tau:g} only")
    categories = law.categories or options.categories
    if categories:
        notes.append(f"asked with {categories} categories only")
    if options.mean_only:
        notes.append("the variance is not judged")
    return Context(subject, law, options, tau if law.has_tau else 1.0, categories), tuple(notes)


# --- The table of rows ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A part of the battery: one row or a few, of which ``tests`` are statistical. The others rest on a ``gate``."""

    name: str
    ask: Callable[..., Row | list[Row]]
    arguments: tuple = ()
    tests: int = 0
    gate: bool = False
    dtype: str = ""  # the first of those that are asked
    num_samples: int | None = None  # that of the law

    @property
    def question(self) -> str:
        """What is asked, in the words of the function that asks."""
        return (self.ask.__doc__ or "").splitlines()[0].rstrip(".")


def items_of(context: Context, problem: Problem | None) -> list[Item]:
    """What a battery asks, in the order in which it is asked."""
    if context.law.whole:
        n = context.categories
        known = [p for p in laws.PROBLEMS if n in (None, len(p.logits[0]))]
        return list(_unbiased(context, known if problem is None else [problem]))
    if context.law.random:
        numbers = [*_laws(context), *_shared_noise(context), *_extremes(context)]
    else:
        numbers = list(_values(context))
    return [*_gates(context), *_sample(context), *numbers, *_contract(context)]


def _unbiased(context: Context, asked: list[Problem]) -> Iterator[Item]:
    if context.options.dimensions == 2:
        yield from (Item(p.name, rows.unbiased, (p, 0, 2**13), 1) for p in asked)
        return
    first = asked[0]
    yield Item(f"{first.name}, batches of 4", rows.unbiased, (first, 4, 2**11), 1)
    yield from (Item(p.name, rows.unbiased, (p, 2**8, 2**8), 1) for p in asked)


def _each_once(context: Context, *asked: Case) -> list[Case]:
    """Cases at the temperature and with the categories that there are, more than one of them possible."""
    found: dict[tuple, Case] = {}
    for case in map(context.adapt, asked):
        if np.isfinite(case.logits).sum(axis=-1).min() > 1:
            found.setdefault((case.logits.tobytes(), case.tau), case)
    return list(found.values())


def _gates(context: Context) -> Iterator[Item]:
    yield Item("shape", rows.shape, gate=True)
    every = _each_once(context, *laws.USUAL, laws.COLD, laws.LARGE)
    for name, option, values in (
        ("temperatures", "tau", [case.tau for case in every]),
        ("numbers of categories", "categories", [case.n for case in every]),
    ):
        if len(set(values)) > 1:
            arguments = (tuple(dict.fromkeys(values)), option)
            yield Item(name, rows.range_of, arguments, gate=True)
    yield from (Item(f"{d} in, {d} out", rows.dtype, dtype=d) for d in context.dtypes)
    yield Item("rows not averaged", rows.not_averaged, gate=True)


def _sample(context: Context) -> Iterator[Item]:
    if not context.draws_D:
        return
    yield Item("D ~ softmax(logits)", rows.law_of_D, (context.main,), 1)
    if context.law.point != "corner":
        for case in _each_once(context, *laws.USUAL):
            if case.tau >= 0.5:  # a float of S forgets what its logarithm is needed for
                yield Item(f"law of the point, {case.name}", rows.law_of_point, (case,), 1)
    if not context.law.random and not context.options.mean_only:
        yield Item("D independent", rows.batch, (), 3)


def _laws(context: Context) -> Iterator[Item]:
    usual, mean_only = _each_once(context, *laws.USUAL), context.options.mean_only
    main, draws = usual[0], context.draws(1, 2**15)
    name, tests = ("mean", 1) if mean_only else ("mean and covariance", 2)

    def both(label: str, case: Case, draws: int = draws, **others: Any) -> Item:
        return Item(f"{name}, {label}", rows.law, (label, case, draws), tests, **others)

    yield both(main.name, main, context.draws(2, 2**17))
    yield from (both(case.name, case) for case in usual[1:])
    yield from (both(f"{main.name}, {d}", main, dtype=d) for d in context.dtypes[1:])
    takes_K = "num_samples" in context.subject.profile.accepts
    if takes_K and (context.law.num_samples or 1) > 1 and not mean_only:
        yield both(f"{main.name}, K = 1", main, num_samples=1)
    singles = [laws.COLD, laws.LARGE, laws.MASKED]
    singles += [] if context.draws_D else [laws.UNLIKELY]  # such a D does not come by itself
    for case in _each_once(context, *laws.USUAL, *singles)[len(usual) :]:
        draws = context.draws(1.0 if case.tau < 0.1 else 1 / 8)
        yield Item(f"mean, {case.name}", rows.mean, (case, draws), 1)
    yield Item("mean, batch of shape (b, 2, 3)", rows.batch, (), 1 if mean_only else 4)


def _shared_noise(context: Context) -> Iterator[Item]:
    if not context.subject.profile.shares_noise:
        return
    usual = _each_once(context, *laws.USUAL, laws.LARGE, laws.UNLIKELY, laws.MASKED)
    for d in context.dtypes:
        asked = [*usual, *(laws.shifted(context.main, s) for s in _shifts(d))]
        yield Item(f"shared noise, {d}", rows.value, (asked, True), dtype=d)
        zeros = ([context.main], True, True)
        yield Item(f"shared noise, zeros, {d}", rows.value, zeros, dtype=d)


def _values(context: Context) -> Iterator[Item]:
    odd = [*laws.EXTREMES, laws.MASKED, *([] if context.draws_D else [laws.UNLIKELY])]
    asked = _each_once(context, *laws.USUAL, laws.COLD, laws.LARGE, *odd)
    asked.append(context.adapt(laws.BATCH))
    yield from (Item(f"value, {d}", rows.value, (asked,), dtype=d) for d in context.dtypes)
    if context.law.point == "relaxed" and context.draws_D:
        yield from (Item(k, rows.given_beside, (k,)) for k in OTHERS)


def _extremes(context: Context) -> Iterator[Item]:
    asked = _each_once(context, *laws.USUAL[:1], *laws.EXTREMES)
    for d in context.dtypes:
        yield Item(f"extremes, {d}", rows.extremes, (asked,), dtype=d)
        if not context.subject.profile.needs_exponentials:
            zeros = ([context.main], True)
            yield Item(f"draws of exactly 0, {d}", rows.extremes, zeros, dtype=d)


def _contract(context: Context) -> Iterator[Item]:
    yield Item("input left alone", rows.input_left_alone)
    yield Item("noise from rng", rows.noise_from_rng)
    if context.law.takes_cost:
        yield Item("baseline without its own cost", rows.baseline)
    else:
        yield Item("linear in df_dD", rows.linear)
    d, tests = context.dtypes[-1], int(context.law.random)
    for s in _shifts(d):
        yield Item(f"logits {s:+d}, {d}", rows.shift, (context.main, s), tests, dtype=d)


def _shifts(dtype: str) -> tuple[int, int]:
    return (100, -100) if dtype == "float16" else (1000, -1000)


# --- Asking --------------------------------------------------------------------------------------------


def _ask_all(items: list[Item], context: Context, progress: bool) -> list[Row]:
    """The rows of every item; where one of them ends it all, those that remain are not asked."""
    from tqdm import tqdm

    found: list[Row] = []
    reason = ""
    disable = None if progress else True  # None: not unless standard error is a terminal
    with tqdm(items, disable=disable, delay=1, leave=False) as bar:
        for context.row, item in enumerate(bar):
            bar.set_description(item.name)
            answers = [Row("", "skip", reason)]
            if not reason:
                answers, reason = _ask(item, context)
            found += [replace(row, property=row.property or item.name) for row in answers]
    return found


def _ask(item: Item, context: Context) -> tuple[list[Row], str]:
    """The rows of an item, and why nothing else is asked, if that is so."""
    context.calls, context.num_samples = 0, item.num_samples
    context.dtype = item.dtype or context.dtypes[0]
    gone = False
    try:
        answers = item.ask(context, *item.arguments)
    except BudgetSpent:
        reason = "not asked: the budget is spent"
        return [Row("", "skip", reason)], reason
    except Fault as fault:
        answers = judge(False, fault.found, fault.expected, fault.cause)
        gone = isinstance(fault, Gone)
    answers = answers if isinstance(answers, list) else [answers]
    ends = gone or (item.gate and answers[0].verdict == "fail")
    return answers, "not asked" if ends else ""


def _explained(found: list[Row], context: Context) -> tuple[Row, ...]:
    """The rows with the cause of wrong means and numbers, which is sought once, over all that was seen.

    Noise that is shared makes the means and covariances of a right law scatter; then it is their cause.
    """
    shared = [row.cause for row in found if row.property.endswith("independent") and row.cause]
    if shared:
        found = [replace(r, cause=SOUGHT) if r.cause.startswith(VARIANCE) else r for r in found]
    if not any(row.cause == SOUGHT for row in found):
        return tuple(found)
    causes = list(shared)
    for dtype in dict.fromkeys(dtype for dtype, *_ in context.values):
        seen = [(call, h) for of, call, h in context.values if of == dtype]
        if any(row.cause == SOUGHT and row.property.endswith(dtype) for row in found):
            causes.append(explain_values(seen, dtype))
    if context.means and not shared:
        rng = np.random.default_rng([context.options.seed, 2**20])
        causes.append(explain_mean(context.law, context.means, rng))
    cause = next((cause for cause in causes if not cause.startswith(NO_MISTAKE)), None)
    cause = cause or (causes[-1] if causes else NO_MISTAKE)
    return tuple(replace(row, cause=cause) if row.cause == SOUGHT else row for row in found)


# --- What is reported ----------------------------------------------------------------------------------

WIDTH, PROPERTY = 80, 37
COLOURS = {"pass": "\033[32m", "fail": "\033[1;31m", "skip": "\033[33m"}


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
        head = {"schema": "rbst-check/1", "passed": self.passed, "verdict": self.verdict}
        return head | asdict(self)

    def to_json(self) -> str:
        """The report as JSON with sorted keys; figures that are not finite are null."""
        finite = json.loads(json.dumps(self.to_dict()), parse_constant=lambda _: None)
        return json.dumps(finite, indent=2, sort_keys=True)

    def to_text(self, *, verbose: bool = False, colour: bool = False) -> str:
        """What was asked, each failure with its figures, and the verdict with each cause once.

        ``verbose`` adds the exact values, the p-values, what would have been caught, and the cause to every row.
        """
        lines = [f"{self.implementation} as {self.estimator}", *self.notes, ""]
        for row in self.rows if verbose else _joined(self.rows):
            lines += [_line(row, colour), *(_known(row) if verbose else [])]
        lines.append("")
        for cause, count in Counter(row.cause for row in self.failures).most_common():
            text = f"{cause or 'no cause is known'} ({count} row{'s' if count > 1 else ''})"
            lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ")
        passed, failed, skipped = (sum(r.verdict == kind for r in self.rows) for kind in COLOURS)
        counts = f"{passed} passed, {failed} failed"
        counts += f", {skipped} not asked" if skipped else ""
        last = f"{self.verdict.upper()}: {counts} in {self.seconds:.1f} s"
        if self.passed:
            rate = f"with probability at most {self.false_alarm_rate:.0e}"
            last += f"; a right implementation fails any row {rate}"
        return "\n".join([*lines, *textwrap.wrap(last, WIDTH)])

    def __str__(self) -> str:
        return self.to_text()


def _joined(rows: Sequence[Row]) -> list[Row]:
    """The rows, with more than three neighbours that were not asked for one reason as one."""
    joined: list[Row] = []
    for reason, group in groupby(rows, key=lambda row: row.verdict == "skip" and row.found):
        alike = list(group)
        if reason is not False and len(alike) > 3:
            alike = [Row(f"{len(alike)} rows", "skip", str(reason))]
        joined += alike
    return joined


def _line(row: Row, colour: bool) -> str:
    """A row in one line: a failure with its figures, and a variance that is not judged."""
    figures = "" if row.verdict == "pass" and not row.found.endswith("law's") else row.found
    if row.verdict == "fail" and row.p_value is not None:
        figures = f"{row.found.split(' (')[0]}, not {row.expected}"
    word = "FAIL" if row.verdict == "fail" else row.verdict
    line = f"{word}  {row.property:<{PROPERTY}.{PROPERTY}}  {figures}".rstrip()
    line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
    return f"{COLOURS[row.verdict]}{line[:4]}\033[0m{line[4:]}" if colour else line


def _known(row: Row) -> list[str]:
    """All that is known of a row, in lines of the same width."""
    figures = (("found", row.found), ("exact", row.expected))
    known = [f"{word} {figure}" for word, figure in figures if figure]
    if row.p_value is not None:
        known.append(f"p = {row.p_value:.2g}")
    if row.detects and math.isfinite(row.detects):
        known.append(f"would catch {100 * row.detects:.2g} %")
    texts = ["; ".join(known), f"cause: {row.cause}" if row.cause else ""]
    lines = [line for text in texts for line in textwrap.wrap(text, WIDTH - 6)]
    return [" " * 6 + line for line in lines]
