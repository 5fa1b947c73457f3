r"""The battery: what :func:`check` asks of an implementation, row by row.

Contract first (shapes, dtypes, generator, input left alone), then numbers under shared noise where the
implementation takes it, then mean and covariance given each D, then invariances and extremes. Every row
has a seed of its own, and calls grow in size by a fixed rule, so that a report can be repeated. The
level of a statistical test is ``FALSE_ALARM_RATE`` over their number: by Bonferroni's inequality a
right implementation fails any of them no more often than that.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rbst.crosscheck import cases, rows
from rbst.crosscheck.causes import explain_mean
from rbst.crosscheck.laws import get_law
from rbst.crosscheck.report import Report, Row
from rbst.crosscheck.rows import Context, Unusable
from rbst.crosscheck.subject import BudgetSpent, Clock, Subject

FALSE_ALARM_RATE = 1e-6
DTYPES = ("float64", "float32")
SHARE_OF_BUDGET = 1 / 6


def check(
    implementation: Callable[..., Any],
    estimator: str = "gr-mc10",
    *,
    draws_D: bool | None = None,
    dtype: str | None = None,
    samples: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    r"""Hold an implementation of a gradient estimator against the exact answers.

    Parameters
    ----------
    implementation
        Called on batched NumPy arrays of shape ``(..., n)`` in one of three ways, of which the keywords that
        it does not have are left out:
        ``(logits, D, df_dD, *, tau, num_samples, rng) -> gradient``; the same with ``exponentials`` of shape
        ``(K, ..., n)`` among its keywords, i.i.d. Exp(1), for a comparison number by number; or, if it
        draws D itself, ``(logits, df_dD_function, *, tau, num_samples, rng) -> (D, gradient)``.
    estimator
        What it is meant to compute: a name such as ``"gr-mc10"``, ``"st-gs"``, ``"st"``; also
        ``"reinmax-rao-mcK"`` and ``"reinmax-cv-mcK"``. For ``"reinforce"`` the third argument is the cost,
        of shape ``(...)``; a running baseline of its own is allowed.
    draws_D
        Whether it draws D itself. By default it does if its second parameter has a name that starts with
        ``df_dD``.
    dtype
        ``"float32"`` or ``"float64"``, to ask in one precision only.
    samples
        Gradients drawn for a row that tests mean and covariance, at least 1000. By default about a million
        relaxed samples, no fewer than 2**16 gradients.
    budget
        Seconds. Rows come in the order of their importance, a statistical one may take a sixth of what is
        left, and those that remain are skipped.
    seed
        Of the noise handed to the implementation; the cases are fixed.
    progress
        Whether to show a bar on standard error, if that is a terminal.

    Returns a :class:`Report`. A right implementation fails any row with probability at most
    ``FALSE_ALARM_RATE``; what each test would have caught stands in its row. An implementation that
    raises, returns NaN or the wrong shape fails the rows concerned. Raises ``ValueError`` or ``TypeError``
    only for arguments that are not as above.

    Examples
    --------
    >>> from rbst import straight_through
    >>> from rbst.crosscheck import check
    >>> check(straight_through, "st").passed
    True
    >>> def forgetful(logits, D, df_dD, tau):
    ...     return tau * straight_through(logits, D, df_dD, tau=tau)
    >>> print(check(forgetful, "st").failures[0].cause)
    off by 1/tau: the factor of the Jacobian is missing
    """
    law = get_law(estimator)
    subject = Subject(implementation, law, draws_D)
    dtypes, samples, clock = _dtypes(dtype), _samples(samples), Clock(_budget(budget))
    context = Context(subject, law, dtypes, samples, seed, clock)
    items = _items(context)
    context.level = FALSE_ALARM_RATE / max(1, sum(item.tests for item in items))
    found: list[Row] = []
    with _bar(len(items), progress) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, item in enumerate(items):
            bar.set_description(item.name)
            context.rng = np.random.default_rng([seed, number])
            found += _run(item, context)
            bar.update()
    return Report(
        subject.name, estimator, _explained(found, context), FALSE_ALARM_RATE, clock.elapsed()
    )


def list_battery(estimator: str = "gr-mc10") -> list[tuple[str, str]]:
    """The rows of the battery for an estimator: each name, and what is asked.

    Examples
    --------
    >>> list_battery("st")[0]
    ('shape', 'the gradient has the shape of the logits, for (n,), (b, n) and (a, b, n)')
    """
    law = get_law(estimator)

    def implementation(logits, D, df_dD, *, tau, num_samples, rng, exponentials):
        """Accepts everything, so that no row is left out."""

    subject = Subject(implementation, law)
    context = Context(subject, law, DTYPES, None, 0, Clock(None))
    return [(item.name, item.question) for item in _items(context)]


def _dtypes(dtype: str | None) -> tuple[str, ...]:
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}; leave it out for both")
    return DTYPES if dtype is None else (dtype,)


def _samples(samples: int | None) -> int | None:
    if samples is not None and samples < 1000:
        raise ValueError(
            f"samples must be at least 1000 for the central limit theorem to hold, got {samples}; "
            "to save time give a budget"
        )
    return samples


def _budget(budget: float | None) -> float | None:
    if budget is not None and not budget > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {budget}; try 20")
    return budget


@contextlib.contextmanager
def _bar(total: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    disable = None if progress else True  # None: not unless standard error is a terminal
    with tqdm(total=total, disable=disable, delay=1, leave=False) as bar:
        yield bar


# --- The table of rows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A part of the battery, which yields one row or a few."""

    name: str
    question: str
    ask: Callable[..., list[Row]]
    arguments: tuple = ()
    tests: int = 0  # how many of its rows are statistical


def _items(context: Context) -> list[_Item]:
    items = _contract(context)
    if context.subject.shares_noise:
        items += _shared_noise(context)
    items += _extremes(context)
    items += _laws(context) if context.random else _values(context)
    items += _invariances(context)
    if context.subject.draws_D:
        arguments = (cases.MAIN, context.dtypes[0])
        items.append(
            _Item("D ~ softmax(logits)", "the frequencies of D", rows.law_of_D, arguments, 1)
        )
    if context.random:
        return items
    return [item if item.ask is rows.law_of_D else replace(item, tests=0) for item in items]


def _contract(context: Context) -> list[_Item]:
    shapes = "the gradient has the shape of the logits, for (n,), (b, n) and (a, b, n)"
    items = [_Item("shape", shapes, rows.shape)]
    for dtype in context.dtypes:
        items.append(
            _Item(
                f"{dtype} in, {dtype} out",
                "the gradient has the dtype of the logits",
                rows.dtype,
                (dtype,),
            )
        )
    items += [
        _Item("input left alone", "logits, D and df_dD are what they were", rows.input_left_alone),
        _Item("same seed, same gradient", "nothing is drawn but from rng", rows.same_seed),
    ]
    if context.random:
        items.append(_Item("other seed, other gradient", "rng is used", rows.other_seed))
    if context.law.takes_cost:
        question = "a running mean is compared with a cost before it is updated with it"
        items.append(_Item("baseline read before its cost enters", question, rows.baseline))
    constant = "a constant added to the logits changes nothing"
    return [*items, _Item("entries sum to zero", constant, rows.zero_sum)]


def _shared_noise(context: Context) -> list[_Item]:
    asked = [(label, case, 0, False) for label, case in (*cases.LAWS, cases.LARGE_N)]
    asked += [
        ("logits + 1000", cases.MAIN, 1000, False),
        ("logits - 1000", cases.MAIN, -1000, False),
    ]
    asked += [(*cases.UNLIKELY, 0, False), (*cases.MASKED, 0, False)]
    asked += [("some exponentials 0", cases.MAIN, 0, True)]
    question = "the gradient under given exponentials, number by number"
    return [
        _Item(f"shared noise, {label}, {dtype}", question, rows.shared_noise, (*arguments, dtype))
        for dtype in context.dtypes
        for label, *arguments in asked
    ]


def _values(context: Context) -> list[_Item]:
    question = "the gradient, number by number"
    return [
        _Item(f"value, {label}, {dtype}", question, rows.value, (case, dtype))
        for dtype in context.dtypes
        for label, case in (*cases.LAWS, cases.SMALL_TAU, cases.LARGE_N)
    ]


def _laws(context: Context) -> list[_Item]:
    both = "mean and covariance given each D, all coordinates jointly"
    alone = "the mean given each D, all coordinates jointly"
    dtype, *other_dtypes = context.dtypes
    (label, main), *others = cases.LAWS
    independent = both + "; independence of the rows of a batch"
    items = [_Item(label, independent, rows.law, (main, dtype, 2.0, None, True), 3)]
    items += [_Item(label, both, rows.law, (case, dtype), 2) for label, case in others]
    items += [
        _Item(f"{label}, {other}", both, rows.law, (main, other), 2) for other in other_dtypes
    ]
    if (context.law.num_samples or 1) > 1 and "num_samples" in context.subject.accepts:
        items.append(_Item(f"{label}, K = 1", both, rows.law, (main, dtype, 1.0, 1), 2))
    label, small = cases.SMALL_TAU
    items.append(_Item(f"mean, {label}", alone, rows.mean_only, (small, dtype, 1.0), 1))
    label, large = cases.LARGE_N
    along = f"the mean given each D, along {rows.PROJECTIONS} directions"
    items.append(_Item(f"mean, {label}", along, rows.large_n, (large, dtype), 1))
    question = "variables with logits of their own keep to themselves"
    items.append(_Item("mean, batch of shape (b, 2, 3)", question, rows.batch, (dtype,), 1))
    return items


def _invariances(context: Context) -> list[_Item]:
    constant = "a constant added to {} changes nothing"
    items = []
    for dtype in context.dtypes:
        for shift in cases.SHIFTS:
            name = f"logits {'+' if shift > 0 else '-'} {abs(shift)}, {dtype}"
            arguments = (cases.MAIN, shift, dtype)
            items.append(_Item(name, constant.format("the logits"), rows.shifted, arguments, 1))
    if not context.law.takes_cost:
        arguments = (cases.MAIN, context.dtypes[0], 1 / 8, 64)
        items.append(_Item("df_dD + 64", constant.format("df_dD"), rows.mean_only, arguments, 1))
    for label, case in (cases.UNLIKELY, cases.MASKED, cases.MASKED_LOW):
        if context.subject.draws_D and case is cases.UNLIKELY[1]:
            continue  # such a D never comes
        question = "the mean given each D; impossible categories get 0"
        arguments = (case, context.dtypes[0], 1 / 8)
        items.append(_Item(f"mean, {label}", question, rows.mean_only, arguments, 1))
    return items


def _extremes(context: Context) -> list[_Item]:
    items = []
    for dtype in context.dtypes:
        for label, case in cases.EXTREMES:
            question = "finite, within bounds, of zero sum"
            items.append(_Item(f"{label}, {dtype}", question, rows.extreme, (case, dtype)))
    if context.random and not context.subject.needs_exponentials:
        for dtype in context.dtypes:
            question = "the gradient is finite where the generator returns 0"
            items.append(_Item(f"draws of exactly 0, {dtype}", question, rows.zeros, (dtype,)))
    return items


# --- One row -----------------------------------------------------------------------------------------


def _run(item: _Item, context: Context) -> list[Row]:
    """The rows of an item; whatever goes wrong in the implementation is a row."""
    try:
        context.clock.begin_row(SHARE_OF_BUDGET if item.tests else 1.0)
        return item.ask(context, item.name, *item.arguments)
    except BudgetSpent as reason:
        return [Row(item.name, "skip", str(reason) or "the budget is spent")]
    except Unusable as error:
        return [Row(item.name, "fail", error.found, error.expected, cause=error.cause)]
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        found = f"{type(error).__name__}: {first_line}"[:72]
        return [Row(item.name, "fail", found, "a gradient", cause=_place_of(error))]


def _place_of(error: Exception) -> str:
    """Where an exception was raised."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"raised in {code.co_name}, line {trace.tb_lineno} of {code.co_filename}"
        trace = trace.tb_next
    return place


def _explained(found: list[Row], context: Context) -> tuple[Row, ...]:
    """The rows with the cause of a wrong mean, which is sought once, over the cases that failed."""
    if not any(row.cause == rows.SOUGHT for row in found):
        return tuple(found)
    rng = np.random.default_rng([context.seed, 2**20])
    cause = explain_mean(context.law, context.observations[:3], rng)
    return tuple(replace(row, cause=cause) if row.cause == rows.SOUGHT else row for row in found)
