r"""The battery at work: what :func:`check` does with the rows of :mod:`rbst.crosscheck.table`.

Every row has a seed of its own, and calls grow in size by a fixed rule, so that a report can be
repeated. The level of a statistical test is ``FALSE_ALARM_RATE`` over their number: by Bonferroni's
inequality a right implementation fails any of them no more often than that.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rbst.crosscheck import contract, sampling
from rbst.crosscheck.calls import Context
from rbst.crosscheck.causes import AVERAGED, NO_MISTAKE, explain_mean
from rbst.crosscheck.clock import Clock
from rbst.crosscheck.laws import get_law
from rbst.crosscheck.report import SOUGHT, Report, Row
from rbst.crosscheck.subject import BudgetSpent, Gone, Subject, Unusable
from rbst.crosscheck.table import DTYPES, Item, items_of

FALSE_ALARM_RATE = 1e-6


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
        Gradients drawn for a row that tests mean and covariance, at least 1000. By default as many as have
        about a million relaxed samples, no fewer than 2**15.
    budget
        Seconds. Rows come in the order of their importance; those that are not reached in time are skipped,
        and a report with a skipped row has not passed.
    seed
        Of the noise handed to the implementation; the cases are fixed.
    progress
        Whether to show a bar on standard error, if that is a terminal.

    Returns a :class:`Report`. A right implementation fails any row with probability at most
    ``FALSE_ALARM_RATE``; what each test would have caught stands in its row. An implementation that
    raises, returns NaN or the wrong shape fails the rows concerned. It runs in this process and can end it;
    ``rbst check`` runs it in one of its own. Raises ``ValueError`` or ``TypeError``
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
    settings = {"dtype": dtype, "samples": samples, "budget": budget, "seed": seed}
    return examine(
        Subject(implementation, get_law(estimator), draws_D),
        estimator,
        **settings,
        progress=progress,
    )


def examine(
    subject: Any,
    estimator: str,
    *,
    dtype: str | None,
    samples: int | None,
    budget: float | None,
    seed: int,
    progress: bool,
) -> Report:
    """The same for a :class:`Subject`, or for something that answers like one from another process."""
    dtypes, samples, clock = _dtypes(dtype), _samples(samples), Clock(_budget(budget))
    context = Context(subject, get_law(estimator), dtypes, samples, seed, clock)
    items = items_of(context)
    context.level = FALSE_ALARM_RATE / max(1, sum(item.tests for item in items))
    with _bar(len(items), progress) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _ask_all(items, context, bar)
        rows = _explained(found, context)
    seconds, name = clock.elapsed(), subject.profile.name
    return Report(name, estimator, rows, FALSE_ALARM_RATE, context.level, seconds)


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
    return [(item.name, item.question) for item in items_of(context)]


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


# --- One row -----------------------------------------------------------------------------------------


def _ask_all(items: list[Item], context: Context, bar: Any) -> list[Row]:
    """The rows of every item; where there are no more answers, those that remain are not asked."""
    found: list[Row] = []
    reason = ""
    for number, item in enumerate(items):
        bar.set_description(item.name)
        context.row, context.calls = number, 0
        try:
            found += [Row(item.name, "skip", reason)] if reason else _run(item, context)
        except BudgetSpent as spent:
            reason = str(spent)
            found.append(Row(item.name, "skip", reason))
        except Gone as gone:
            reason = "not asked"
            found.append(Row(item.name, "fail", gone.found, gone.expected, cause=gone.cause))
        bar.update()
    return found


def _run(item: Item, context: Context) -> list[Row]:
    """The rows of an item; an answer that cannot be compared is a row too."""
    try:
        return item.ask(context, item.name, *item.arguments)
    except Unusable as error:
        return [Row(item.name, "fail", error.found, error.expected, cause=error.cause)]


def _explained(found: list[Row], context: Context) -> tuple[Row, ...]:
    """The rows with the cause of a wrong mean, which is sought once, over the cases that failed."""
    if not any(row.cause == SOUGHT for row in found):
        return tuple(found)
    rng = np.random.default_rng([context.seed, 2**20])
    cause = explain_mean(context.law, context.observations, rng)
    if cause == NO_MISTAKE:
        cause = _explained_by_the_batch(found, context)
    return tuple(replace(row, cause=cause) if row.cause == SOUGHT else row for row in found)


def _explained_by_the_batch(found: list[Row], context: Context) -> str:
    """The cause of a wrong mean where the rows of a call are not treated each by itself."""
    for row in found:
        if row.property == sampling.INDEPENDENT and row.cause:
            return row.cause
    try:
        return AVERAGED if contract.shrinks_with_the_batch(context) else NO_MISTAKE
    except (Unusable, Gone, BudgetSpent):
        return NO_MISTAKE
