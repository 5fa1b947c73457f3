r"""The battery: the rows of a report as a table, and :func:`check`, which asks them.

Rows come in the order of what rests on what: whether the code can be called at all, the law of D and the
mean, the covariance, extremes and invariances. Where a row on which the others rest fails, nothing else is
asked. Every row has a seed of its own, and calls grow in size by a fixed rule, so that a report can be
repeated. The level of a statistical test is ``FALSE_ALARM_RATE`` over their number: by Bonferroni's
inequality a right implementation fails any of them no more often than that.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.crosscheck import cases, rows
from rbst.crosscheck.cases import Case, Problem
from rbst.crosscheck.causes import NO_MISTAKE, VARIANCE, explain_mean, explain_values
from rbst.crosscheck.laws import Law, get_law, own_law
from rbst.crosscheck.report import SOUGHT, Report, Row
from rbst.crosscheck.rows import Context, Options
from rbst.crosscheck.subject import OTHERS, BudgetSpent, Gone, Profile, Subject, Unusable

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
        ``samples``: gradients drawn for a row that tests mean and covariance, at least 1000; by default as
        many as have about a million relaxed samples, no fewer than 2**15. ``budget``: seconds after which
        the remaining rows are skipped; a report with a skipped row has not passed. ``seed``: of the noise
        handed to the implementation; the cases are fixed.

    Returns
    -------
    Report
        A row for each property.

    Notes
    -----
    A right implementation fails any row with probability at most
    ``FALSE_ALARM_RATE``; what each test would have caught stands in its row. An implementation that
    raises, returns NaN or the wrong shape fails the rows concerned. It runs in this process and can end it;
    ``rbst check`` runs it in one of its own. Raises ``ValueError`` or ``TypeError`` only for arguments that
    are not as above.

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
    law = get_law(estimator) if mean is None else own_law(mean, covariance)
    problem = None if f is None else own_problem(f, logits, law)
    subject = Subject(implementation, law, draws_D, problem)
    return examine(subject, law, Options(**options), problem=problem, progress=progress)


def own_problem(f: Callable[[Array], Array], logits: Array | None, law: Law) -> Problem:
    """A function of the user's, where its gradient is wanted."""
    if not law.whole or logits is None or np.ndim(logits) != 2:
        raise ValueError(
            "f needs estimator 'unbiased' and logits of shape (L, n), got "
            f"{law.estimator!r} and logits of shape {np.asarray(logits).shape}; pass both"
        )

    class Own(Problem):
        """The user's f with logits of its own."""

        def __call__(self, D: Any) -> Any:
            return f(D)

    return Own("f", tuple(map(tuple, np.asarray(logits, dtype=float).tolist())), ())


def examine(
    subject: Any,
    law: Law,
    options: Options,
    *,
    problem: Problem | None = None,
    progress: bool = False,
) -> Report:
    """The same for a :class:`Subject`, or for something that answers like one from another process."""
    context, notes = _context(subject, law, options)
    items = items_of(context, problem)
    context.level = FALSE_ALARM_RATE / max(1, sum(item.tests for item in items))
    with _bar(len(items), progress) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _explained(_ask_all(items, context, bar), context)
    name, seconds = subject.profile.name, context.seconds()
    return Report(name, law.estimator, found, FALSE_ALARM_RATE, context.level, seconds, notes)


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


def list_battery(estimator: str = "gr-mc10") -> list[tuple[str, str]]:
    """The rows of the battery for an estimator: each name, and what is asked.

    Examples
    --------
    >>> list_battery("st")[0]
    ('shape', 'Any leading axes are a batch of independent variables')
    """

    class Anything:
        """Accepts everything, so that no row is left out."""

        profile = Profile("", False, ("tau", "num_samples", "rng", "exponentials"), True)

    law = get_law(estimator)
    Anything.profile = replace(Anything.profile, shares_noise=law.with_noise is not None)
    return [(i.name, i.question) for i in items_of(_context(Anything(), law, Options())[0], None)]


# --- The table of rows ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A part of the battery: one row or a few, of which ``tests`` are statistical. The others rest on a ``gate``."""

    name: str
    ask: Callable[..., list[Row]]
    arguments: tuple = ()
    tests: int = 0
    gate: bool = False

    @property
    def question(self) -> str:
        """What is asked, in the words of the function that asks."""
        return (self.ask.__doc__ or "").splitlines()[0].rstrip(".")


def items_of(context: Context, problem: Problem | None) -> list[Item]:
    """What a battery asks, in the order in which it is asked."""
    if context.law.whole:
        n = context.categories
        known = tuple(p for p in cases.PROBLEMS if n in (None, len(p.logits[0])))
        return list(_unbiased(context, known if problem is None else (problem,)))
    if context.law.random:
        numbers = [*_laws(context), *_shared_noise(context), *_extremes(context)]
    else:
        numbers = list(_values(context))
    return [*_gates(context), *_sample(context), *numbers, *_contract(context)]


def _unbiased(context: Context, asked: tuple[Problem, ...]) -> Iterator[Item]:
    if context.options.dimensions == 2:
        yield from (Item(p.name, rows.unbiased, (p, 0, 2**13), 1) for p in asked)
        return
    first = asked[0]
    yield Item(f"{first.name}, batches of 4", rows.unbiased, (first, 4, 2**11), 1)
    yield from (Item(p.name, rows.unbiased, (p, 2**8, 2**8), 1) for p in asked)


def _labelled(context: Context, asked: tuple[tuple[str, Case], ...]) -> list[tuple[str, Case]]:
    """Cases at the temperature and with the categories that there are, each once."""
    found: dict[tuple, tuple[str, Case]] = {}
    for label, original in asked:
        case = context.adapt(original)
        if np.isfinite(case.logits).sum(axis=-1).min() < 2:
            continue  # one category only is possible
        if label.startswith(("n =", "tau =")) and case is not original:
            label = f"n = {case.n}, tau = {case.tau:g}"
        found.setdefault((case.logits.tobytes(), case.tau), (label, case))
    return list(found.values())


def _gates(context: Context) -> Iterator[Item]:
    yield Item("shape", rows.shape, gate=True)
    every = [case for _, case in _labelled(context, (*cases.LAWS, cases.COLD, cases.LARGE))]
    for name, option in (("temperatures", "tau"), ("numbers of categories", "categories")):
        values = (*dict.fromkeys(case.tau if option == "tau" else case.n for case in every),)
        if len(values) > 1:
            yield Item(name, rows.range_of, (values, option), gate=True)
    yield from (Item(f"{d} in, {d} out", rows.dtype, (d,)) for d in context.dtypes)
    yield Item("rows not averaged", rows.not_averaged, gate=True)


def _sample(context: Context) -> Iterator[Item]:
    if not context.draws_D:
        return
    dtype = context.dtypes[0]
    yield Item("D ~ softmax(logits)", rows.law_of_D, (context.main, dtype), 1)
    if context.law.point != "corner":
        for label, case in _labelled(context, cases.LAWS):
            if case.tau >= 0.5:  # a float of S forgets what its logarithm is needed for
                yield Item(f"law of the point, {label}", rows.law_of_point, (case, dtype), 1)
    if not context.law.random and not context.options.mean_only:
        yield Item("D independent", rows.batch, (dtype,), 3)


def _laws(context: Context) -> Iterator[Item]:
    mean_only, (dtype, *other_dtypes) = context.options.mean_only, context.dtypes
    (first, main), *others = _labelled(context, cases.LAWS)
    asked: list[tuple] = [(first, main, dtype, None, True)]
    asked += [(label, case, dtype) for label, case in others]
    asked += [(f"{first}, {other}", main, other) for other in other_dtypes]
    takes_K = "num_samples" in context.subject.profile.accepts
    if takes_K and (context.law.num_samples or 1) > 1 and not mean_only:
        asked.append((f"{first}, K = 1", main, dtype, 1))
    name = "mean" if mean_only else "mean and covariance"
    for arguments in asked:
        yield Item(f"{name}, {arguments[0]}", rows.law, arguments, 1 if mean_only else 2)
    singles = [cases.COLD, cases.LARGE, cases.MASKED]
    singles += [] if context.draws_D else [cases.UNLIKELY]  # such a D does not come by itself
    for label, case in _labelled(context, (*cases.LAWS, *singles))[1 + len(others) :]:
        share = 1.0 if case.tau < 0.1 else 1 / 8
        yield Item(f"mean, {label}", rows.mean, (_low(case, dtype), dtype, share), 1)
    yield Item("mean, batch of shape (b, 2, 3)", rows.batch, (dtype,), 1 if mean_only else 4)


def _low(case: Case, dtype: str) -> Case:
    """The same where float16 still tells the logits apart."""
    far = abs(case.logits[np.isfinite(case.logits)]).max() > 200
    return cases.shifted(case, 900) if dtype == "float16" and far else case


def _shared_noise(context: Context) -> Iterator[Item]:
    if not context.subject.profile.shares_noise:
        return
    usual = _labelled(context, (*cases.LAWS, cases.LARGE))
    for dtype in context.dtypes:
        far = _labelled(context, (cases.UNLIKELY, cases.MASKED))
        far = [(label, _low(case, dtype)) for label, case in far]
        far += [(f"logits {s:+d}", cases.shifted(context.main, s)) for s in _shifts(dtype)]
        zeros = [("zeros", context.main)]
        for name, asked in (("", usual), (" far logits,", far), (" zeros,", zeros)):
            arguments = (asked, dtype, asked is zeros)
            yield Item(f"shared noise,{name} {dtype}", rows.shared_noise, arguments)


def _values(context: Context) -> Iterator[Item]:
    usual = _labelled(context, (*cases.LAWS, cases.COLD, cases.LARGE))
    usual.append(("batch of shape (b, 2, 3)", context.adapt(cases.BATCH)))
    odd = _labelled(context, (*cases.EXTREMES, cases.MASKED))
    if not context.draws_D:
        odd += _labelled(context, (cases.UNLIKELY,))
    for dtype in context.dtypes:
        low = [(label, _low(case, dtype)) for label, case in odd]
        yield Item(f"value, {dtype}", rows.value, (usual, dtype))
        yield Item(f"value, extremes, {dtype}", rows.value, (low, dtype))
    if context.law.point == "relaxed" and context.draws_D:
        yield from (Item(k, rows.given_beside, (k, context.dtypes[0])) for k in OTHERS)


def _extremes(context: Context) -> Iterator[Item]:
    for dtype in context.dtypes:
        asked = _labelled(context, cases.EXTREMES)
        yield Item(f"extremes, {dtype}", rows.extremes, (asked, dtype))
        if not context.subject.profile.needs_exponentials:
            yield Item(f"draws of exactly 0, {dtype}", rows.zeros, (dtype,))


def _contract(context: Context) -> Iterator[Item]:
    yield Item("input left alone", rows.input_left_alone)
    yield Item("noise from rng", rows.noise_from_rng)
    yield Item("entries sum to zero", rows.zero_sum)
    if context.law.takes_cost:
        yield Item("baseline without its own cost", rows.baseline)
    else:
        yield Item("linear in df_dD", rows.linear)
    dtype, tests = context.dtypes[-1], int(context.law.random)
    for s in _shifts(dtype):
        yield Item(f"logits {s:+d}, {dtype}", rows.shift, (context.main, s, dtype), tests)


def _shifts(dtype: str) -> tuple[int, int]:
    return (100, -100) if dtype == "float16" else (1000, -1000)


# --- Asking --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _bar(total: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    disable = None if progress else True  # None: not unless standard error is a terminal
    with tqdm(total=total, disable=disable, delay=1, leave=False) as bar:
        yield bar


def _ask_all(items: list[Item], context: Context, bar: Any) -> list[Row]:
    """The rows of every item; where one of them ends it all, those that remain are not asked."""
    found: list[Row] = []
    reason = ""
    for number, item in enumerate(items):
        bar.set_description(item.name)
        context.row, context.calls = number, 0
        if reason:
            found.append(Row(item.name, "skip", reason))
            continue
        try:
            answers = item.ask(context, item.name, *item.arguments)
        except Unusable as error:
            answers = [Row(item.name, "fail", error.found, error.expected, cause=error.cause)]
        except Gone as gone:
            reason = "not asked"
            answers = [Row(item.name, "fail", gone.found, gone.expected, cause=gone.cause)]
        except BudgetSpent as spent:
            reason = str(spent)
            answers = [Row(item.name, "skip", reason)]
        if item.gate and answers[0].verdict == "fail":
            reason = "not asked"
        found += answers
        bar.update()
    return found


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
        seen = [(asked, h) for of, asked, h in context.values if of == dtype]
        if any(row.cause == SOUGHT and row.property.endswith(dtype) for row in found):
            causes.append(explain_values(seen, dtype))
    if context.means and not shared:
        rng = np.random.default_rng([context.options.seed, 2**20])
        causes.append(explain_mean(context.law, context.means, rng))
    cause = next((cause for cause in causes if not cause.startswith(NO_MISTAKE)), None)
    cause = cause or (causes[-1] if causes else NO_MISTAKE)
    return tuple(replace(row, cause=cause) if row.cause == SOUGHT else row for row in found)
