"""Rows on the contract: shapes, dtypes, the generator, the input, and what every gradient must satisfy.

Every function that answers for a row of the battery takes the :class:`~rbst.crosscheck.calls.Context`, the
name of the row and what else it needs, and returns one row or a few.
"""

from __future__ import annotations

import numpy as np

from rbst._array import Array
from rbst.categorical import softmax
from rbst.crosscheck import cases
from rbst.crosscheck.calls import Context, ask, rows_of
from rbst.crosscheck.cases import Case
from rbst.crosscheck.report import SOUGHT, Row, judge
from rbst.crosscheck.subject import Unusable


def shape(context: Context, name: str) -> list[Row]:
    """Any leading axes are a batch of independent variables."""
    for leading in ((), (5,), (2, 4)):
        ask(context, *rows_of(cases.MAIN, leading, context.dtypes[0]), cases.MAIN)
    return [Row(name, "pass", "(3,), (5, 3), (2, 4, 3)", "the same")]


def dtype(context: Context, name: str, wanted: str) -> list[Row]:
    """The gradient has the dtype of the logits."""
    h = ask(context, *rows_of(cases.MAIN, (6,), wanted), cases.MAIN).gradient
    found = str(h.dtype)
    cause = f"something inside is {found} whatever comes in"
    return [judge(name, found == wanted, found, wanted, cause)]


def input_left_alone(context: Context, name: str) -> list[Row]:
    """The arrays of the caller are what they were."""
    answer = ask(context, *rows_of(cases.MAIN, (6,), context.dtypes[0]), cases.MAIN)
    changed = ", ".join(answer.changed)
    found = f"changed: {changed}" if changed else "unchanged"
    cause = "an operation in place on the arrays of the caller; copy them first"
    return [judge(name, not changed, found, "unchanged", cause)]


def _gradients_from(context: Context, seeds: tuple[int, int]) -> list[Array]:
    rows = rows_of(cases.MAIN, (6,), context.dtypes[0])
    return [ask(context, *rows, cases.MAIN, seed=(context.seed, s)).gradient for s in seeds]


def same_seed(context: Context, name: str) -> list[Row]:
    """Nothing is drawn but from the generator; a running baseline may move."""
    first, second = _gradients_from(context, (1, 1))
    if context.law.takes_cost:
        return [Row(name, "pass", "a state of its own", "equal, or a baseline that moves")]
    cause = "something is drawn from elsewhere, such as a global generator"
    if "rng" not in context.profile.accepts:
        cause = "it takes no rng, and draws from elsewhere"
    difference = float(abs(first - second).max())
    found = f"differ by {difference:.3g}" if difference else "equal"
    return [judge(name, not difference, found, "equal", cause)]


def other_seed(context: Context, name: str) -> list[Row]:
    """The generator is used."""
    first, second = _gradients_from(context, (1, 2))
    different = not np.array_equal(first, second)
    cause = "the generator is ignored: the noise is fixed, or there is none given D"
    return [judge(name, different, "different" if different else "equal", "different", cause)]


def baseline(context: Context, name: str) -> list[Row]:
    r"""Does the baseline know a cost before it is compared with it?

    Two calls with costs of 0 show a baseline that decays from :math:`b_0` to :math:`b_1`; the next one, with a
    cost of 1 in its first row only, must subtract :math:`b_1^2 / b_0` from that 1 and no more.
    """
    first, second, third = (_score_factor(context, cost) for cost in (0.0, 0.0, 1.0))
    factor = third + (second**2 / -first if first else 0.0)
    cause = "the cost should be the factor of D - pi, up to a baseline"
    if 0 < factor < 1:
        cause = "a cost enters the running mean before it is compared with it: gradients shrink"
    return [judge(name, abs(factor - 1) < 1e-4, f"{factor:.5g} (D - pi)", "1 (D - pi)", cause)]


def _score_factor(context: Context, cost: float) -> float:
    r"""The c of a gradient :math:`c (D - \pi)`, for a cost of the first of three rows."""
    case = Case(cases.MAIN.logits, 1.0, cases.MAIN.outcomes, np.diag([cost, 0, 0]))
    logits, D = rows_of(case, (3,), context.dtypes[0])
    h = ask(context, logits, D, case).gradient[0]
    score = (D - softmax(logits))[0]
    factor = float((h @ score) / (score @ score))
    if abs(h - factor * score).max() > 1e-4 * abs(h).max():
        cause = "the gradient of a score-function estimator is a multiple of D - pi"
        raise Unusable("not along D - pi", "(cost - baseline) (D - pi)", cause)
    return factor


def zero_sum(context: Context, name: str) -> list[Row]:
    """The entries of a gradient for logits sum to zero."""
    dtype = context.dtypes[0]
    h = ask(context, *rows_of(cases.MAIN, (30,), dtype), cases.MAIN).gradient
    excess = float(abs(h.sum(axis=-1)).max() / max(abs(h).max(), 1e-300))
    fine = excess < (1e-4 if dtype == "float32" else 1e-9)
    return [judge(name, fine, f"{excess:.1g} of the largest", "0", SOUGHT)]


def shrinks_with_the_batch(context: Context) -> bool:
    """Whether gradients are divided by the number of rows, for a mean that no known mistake explains."""
    few, many = 2**6, 2**10
    sizes = []
    for rows in (few, many):
        h = ask(context, *rows_of(cases.MAIN, (rows,), context.dtypes[0]), cases.MAIN).gradient
        sizes.append(float(np.sqrt((h**2).mean())))
    return few / many / 2 < sizes[1] / max(sizes[0], 1e-300) < few / many * 2
