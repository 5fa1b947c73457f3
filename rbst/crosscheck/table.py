"""The battery as a table: the name of each row, what is asked, and the function that asks.

Contract first (shapes, dtypes, generator, input left alone), then numbers under shared noise where the
implementation takes it, extremes, then mean and covariance given each D, then invariances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rbst.crosscheck import cases, contract, edges, sampling, values
from rbst.crosscheck.calls import Context
from rbst.crosscheck.report import Row

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Item:
    """A part of the battery, which yields one row or a few."""

    name: str
    question: str
    ask: Callable[..., list[Row]]
    arguments: tuple = ()
    tests: int = 0  # how many of its rows are statistical


def items_of(context: Context) -> list[Item]:
    """What a battery asks, in the order of importance: where time runs out, the last rows are skipped."""
    items = _contract(context)
    if context.profile.shares_noise:
        items += _shared_noise(context)
    items += _extremes(context)
    items += _laws(context) if context.law.random else _values(context)
    items += _invariances(context)
    if context.profile.draws_D:
        arguments = (cases.MAIN, context.dtypes[0])
        items.append(
            Item("D ~ softmax(logits)", "the frequencies of D", sampling.law_of_D, arguments, 1)
        )
    if context.law.random:
        return items
    return [item if item.ask is sampling.law_of_D else replace(item, tests=0) for item in items]


def _contract(context: Context) -> list[Item]:
    shapes = "the gradient has the shape of the logits, for (n,), (b, n) and (a, b, n)"
    items = [Item("shape", shapes, contract.shape)]
    for dtype in context.dtypes:
        items.append(
            Item(
                f"{dtype} in, {dtype} out",
                "the gradient has the dtype of the logits",
                contract.dtype,
                (dtype,),
            )
        )
    items += [
        Item(
            "input left alone", "logits, D and df_dD are what they were", contract.input_left_alone
        ),
        Item("same seed, same gradient", "nothing is drawn but from rng", contract.same_seed),
    ]
    if context.law.random:
        constant = "a constant added to the logits changes nothing"
        items.append(Item("other seed, other gradient", "rng is used", contract.other_seed))
        items.append(Item("entries sum to zero", constant, contract.zero_sum))
    if context.law.takes_cost:
        question = "a running mean is compared with a cost before it is updated with it"
        items.append(Item("baseline read before its cost enters", question, contract.baseline))
    return items


def _shared_noise(context: Context) -> list[Item]:
    asked = [(label, case, 0, False) for label, case in (*cases.LAWS, cases.LARGE_N)]
    asked += [
        ("logits + 1000", cases.MAIN, 1000, False),
        ("logits - 1000", cases.MAIN, -1000, False),
    ]
    asked += [(*cases.UNLIKELY, 0, False), (*cases.MASKED, 0, False)]
    asked += [("some exponentials 0", cases.MAIN, 0, True)]
    question = "the gradient under given exponentials, number by number"
    return [
        Item(f"shared noise, {label}, {dtype}", question, values.shared_noise, (*arguments, dtype))
        for dtype in context.dtypes
        for label, *arguments in asked
    ]


def _values(context: Context) -> list[Item]:
    question = "the gradient, number by number"
    return [
        Item(f"value, {label}, {dtype}", question, values.value, (case, dtype))
        for dtype in context.dtypes
        for label, case in (*cases.LAWS, cases.SMALL_TAU, cases.LARGE_N)
    ]


def _laws(context: Context) -> list[Item]:
    both = "mean and covariance given each D, all coordinates jointly"
    alone = "the mean given each D, all coordinates jointly"
    dtype, *other_dtypes = context.dtypes
    (label, main), *others = cases.LAWS
    independent = both + "; independence of the rows of a batch"
    asked = [(label, (main, dtype, None, True), independent, 3)]
    asked += [(label, (case, dtype), both, 2) for label, case in others]
    asked += [(f"{label}, {other}", (main, other), both, 2) for other in other_dtypes]
    if (context.law.num_samples or 1) > 1 and "num_samples" in context.profile.accepts:
        asked.append((f"{label}, K = 1", (main, dtype, 1), both, 2))
    items = [
        Item(f"mean and covariance, {label}", question, sampling.law, (label, *arguments), tests)
        for label, arguments, question, tests in asked
    ]
    label, small = cases.SMALL_TAU
    items.append(Item(f"mean, {label}", alone, sampling.mean_only, (small, dtype, 1.0), 1))
    label, large = cases.LARGE_N
    along = f"the mean given each D, along {cases.DIRECTIONS} directions"
    items.append(Item(f"mean, {label}", along, sampling.mean_only, (large, dtype, 1 / 8), 1))
    question = "variables with logits of their own keep to themselves"
    items.append(Item("mean, batch of shape (b, 2, 3)", question, sampling.batch, (dtype,), 1))
    return items


def _invariances(context: Context) -> list[Item]:
    constant = "a constant added to {} changes nothing"
    items = []
    for dtype in context.dtypes:
        for shift in cases.SHIFTS:
            name = f"logits {'+' if shift > 0 else '-'} {abs(shift)}, {dtype}"
            arguments = (cases.MAIN, shift, dtype)
            items.append(Item(name, constant.format("the logits"), edges.shifted, arguments, 1))
    if not context.law.takes_cost:
        label, steep = cases.STEEP
        arguments = (steep, context.dtypes[0], 1 / 8)
        items.append(Item(label, constant.format("df_dD"), sampling.mean_only, arguments, 1))
    for label, case in (cases.UNLIKELY, cases.MASKED, cases.MASKED_LOW):
        if context.profile.draws_D and case is cases.UNLIKELY[1]:
            continue  # such a D never comes
        question = "the mean given each D; impossible categories get 0"
        arguments = (case, context.dtypes[0], 1 / 8)
        items.append(Item(f"mean, {label}", question, sampling.mean_only, arguments, 1))
    return items


def _extremes(context: Context) -> list[Item]:
    items = []
    for dtype in context.dtypes:
        for label, case in cases.EXTREMES:
            question = "finite, within bounds, of zero sum"
            items.append(Item(f"{label}, {dtype}", question, edges.extreme, (case, dtype)))
    if context.law.random and not context.profile.needs_exponentials:
        for dtype in context.dtypes:
            question = "the gradient is finite where the generator returns 0"
            items.append(Item(f"draws of exactly 0, {dtype}", question, edges.zeros, (dtype,)))
    return items
