"""Rows that test mean and covariance given each D, over many calls that grow in size by a fixed rule."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot, softmax
from rbst.crosscheck import cases
from rbst.crosscheck.calls import Context, ask, rows_of
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import Observation, explain_covariance
from rbst.crosscheck.exact import targets
from rbst.crosscheck.moments import (
    Sums,
    chi_square_p_value,
    covariance_test,
    detectable_covariance_error,
    detectable_mean_error,
    independence_test,
    mean_test,
    often_enough,
)
from rbst.crosscheck.report import SOUGHT, Row, judge
from rbst.crosscheck.subject import Unusable
from rbst.crosscheck.values import value

FEWEST_DRAWS = 500  # given each D, for the central limit theorem to hold
FIRST_CALL, GROWTH = 2**6, 4  # rows; each call has so many times the rows of the one before
LARGEST_CALL = 2**20  # in numbers drawn: n K for each row
INDEPENDENT = "rows of a batch independent"
WRONG_D = "D is not drawn from softmax(logits): logits divided by tau, or Gumbels of the wrong law?"
RAREST = 1e-4  # the smallest probability of a D that is waited for


def law(
    context: Context,
    name: str,
    label: str,
    case: Case,
    dtype: str,
    num_samples: int | None = None,
    thorough: bool = False,
) -> list[Row]:
    """Mean and covariance; a ``thorough`` row has more gradients and asks whether rows of a call share noise."""
    draws = context.draws(2, 2**17) if thorough else context.draws(1, 2**15)
    sums = collect(context, case, dtype, draws, num_samples=num_samples, covariance_tested=True)
    mean = mean_row(context, f"mean, {label}", case, sums, num_samples)
    rows = [mean, _covariance_row(context, f"covariance, {label}", sums, mean, num_samples)]
    return [*rows, _independence_row(context, sums)] if thorough else rows


def mean_only(
    context: Context, name: str, case: Case, dtype: str, share: float, shift: int = 0
) -> list[Row]:
    """The mean without the covariance, with ``shift`` added to the logits."""
    if not context.law.random:
        return value(context, name, case, dtype, shift)
    sums = collect(context, case, dtype, context.draws(share), shift=shift)
    return [mean_row(context, name, case, sums)]


def batch(context: Context, name: str, dtype: str) -> list[Row]:
    """Logits of shape (b, 2, 3, n), six variables a row: do they keep to themselves?"""
    by_variable = [_empty_sums(context, case) for case in cases.BATCH_CASES]
    first, n = np.arange(len(by_variable)), cases.MAIN.n
    draws, drawn = max(context.draws(1 / 2) // len(by_variable), n * FEWEST_DRAWS), 0
    for size in _calls(context, cases.BATCH.size, draws):
        shape = (size, *cases.BATCH.shape)
        index = (np.arange(size)[:, None] + first) % n
        D = one_hot(index, n, dtype).reshape(shape)
        logits = np.broadcast_to(cases.BATCH, shape).astype(dtype)
        answer = ask(context, logits, D, cases.MAIN)
        index = answer.D.argmax(axis=-1).reshape(size, -1)
        h = answer.gradient.reshape(size, -1, n)
        for variable, all_sums in enumerate(by_variable):
            _add(all_sums, h[:, variable], index[:, variable])
        drawn += size
    sums = _usable([s for all_sums in by_variable for s in all_sums], drawn)
    row = _mean_row(context, name, sums)
    if row.verdict == "fail":
        for case, all_sums in zip(cases.BATCH_CASES, by_variable, strict=True):
            _remember(context, case, [s for s in all_sums if s in sums])
    return [row]


def law_of_D(context: Context, name: str, case: Case, dtype: str) -> list[Row]:
    r"""The frequencies of D, by the likelihood ratio :math:`2 \sum c \log(c / \bar c) \sim \chi^2_{n-1}`.

    Its tail holds for rare categories too, where that of Pearson's chi-square is too heavy.
    """
    counts = np.zeros(case.n)
    for size in _calls(context, case.n, context.draws(1 / 4)):
        counts += ask(context, *rows_of(case, (size,), dtype), case).D.sum(axis=0)
    total = int(counts.sum())
    expected = total * softmax(case.logits)
    ratio = 2 * (counts * np.log(np.maximum(counts, 1) / expected)).sum()
    p_value = chi_square_p_value(float(ratio), case.n - 1)
    worst = int((abs(counts - expected) / np.sqrt(expected)).argmax())
    figures = [f"{c[worst] / total:.4f}" for c in (counts, expected)]
    return [judge(name, p_value >= context.level, *figures, WRONG_D, p_value, draws=total)]


# --- Gradients, summed up for each D -----------------------------------------------------------------


def collect(
    context: Context,
    case: Case,
    dtype: str,
    draws: int,
    *,
    shift: int = 0,
    num_samples: int | None = None,
    covariance_tested: bool = False,
) -> list[Sums]:
    """Gradients of a case, summed up for each D."""
    all_sums = _empty_sums(context, case, num_samples, covariance_tested)
    fewest = max(FEWEST_DRAWS, covariance_tested * max(s.needed for s in all_sums))
    draws, drawn = max(draws, len(all_sums) * fewest), 0
    for size in _calls(context, case.n, draws):
        rows = rows_of(case, (size,), dtype, shift)
        answer = ask(context, *rows, case, num_samples=num_samples)
        D, h = answer.D, answer.gradient
        if h[:, np.isneginf(case.logits)].any():
            cause = "impossible categories are not left out"
            raise Unusable("a gradient on a logit of -inf", "0", cause)
        _add(all_sums, h, D.argmax(axis=-1))
        drawn += size
    return _usable(all_sums, drawn)


def _calls(context: Context, entries: int, draws: int) -> Iterator[int]:
    """The rows of each call: a rule that depends on nothing but the case."""
    largest = max(FIRST_CALL, LARGEST_CALL // (entries * max(context.law.num_samples or 1, 8)))
    drawn, size = 0, FIRST_CALL
    while drawn < draws:
        yield size
        drawn, size = drawn + size, min(GROWTH * size, largest)


def _empty_sums(
    context: Context,
    case: Case,
    num_samples: int | None = None,
    covariance_tested: bool = False,
) -> list[Sums]:
    """One for each D that is asked for, or that will come often enough by itself."""
    outcomes = case.outcomes
    if context.profile.draws_D:
        outcomes = tuple(np.flatnonzero(softmax(case.logits) > RAREST))
    exact = targets(context.law, case, outcomes, num_samples, covariance_tested=covariance_tested)
    return [Sums(target) for target in exact]


def _add(all_sums: list[Sums], h: Array, index: Array) -> None:
    for sums in all_sums:
        sums.add(h[index == sums.target.outcome])


def _usable(all_sums: list[Sums], drawn: int) -> list[Sums]:
    """Those D that came often enough."""
    usable = [s for s in all_sums if s.count >= FEWEST_DRAWS]
    if not usable:
        raise Unusable(f"no D often enough in {drawn} draws", "softmax(logits)", WRONG_D)
    return usable


# --- Rows --------------------------------------------------------------------------------------------


def mean_row(
    context: Context, name: str, case: Case, sums: list[Sums], num_samples: int | None = None
) -> Row:
    """The joint test of the mean; where it fails, the case is remembered for its cause."""
    row = _mean_row(context, name, sums)
    if row.verdict == "fail":
        _remember(context, case, sums, num_samples)
    return row


def _remember(
    context: Context, case: Case, sums: list[Sums], num_samples: int | None = None
) -> None:
    K = num_samples or context.law.num_samples
    context.observations.append(Observation(case, K, sums))


def _mean_row(context: Context, name: str, sums: list[Sums]) -> Row:
    """The joint test; what is shown is the coordinate that is off by the most standard errors."""
    p_value = mean_test(sums)
    return judge(
        name,
        p_value >= context.level,
        *_worst_coordinate(sums),
        SOUGHT,
        p_value,
        detectable_mean_error(sums, context.level),
        sum(s.count for s in sums),
    )


def _worst_coordinate(sums: list[Sums]) -> tuple[str, str]:
    found = []
    for s in sums:
        variance = np.diagonal(s.target.covariance)
        errors = np.sqrt(np.where(variance > 0, variance, math.inf) / s.count)
        k = int((abs(s.deviation) / errors).argmax())
        found.append((abs(s.deviation[k]) / errors[k], s, k, errors[k]))
    _, s, k, error = max(found, key=lambda entry: entry[0])
    mean = f"{s.sample_mean[k]:.4g} ± {error:.1g} (D = e{s.target.outcome}, entry {k})"
    return mean, f"{s.target.mean[k]:.4g}"


def _covariance_row(
    context: Context, name: str, sums: list[Sums], mean: Row, num_samples: int | None
) -> Row:
    """The joint test; what is shown is the total variance that is off by the most standard errors."""
    sums = often_enough(sums)
    if not sums:
        return Row(name, "fail", "no D often enough", "softmax(logits)", cause=WRONG_D)
    p_value = covariance_test(sums)
    found, error, exact = max((s.variance() for s in sums), key=lambda v: abs(v[0] - v[2]) / v[1])
    figures, fine = (
        (f"variance {found:.4g} ± {error:.1g}", f"{exact:.4g}"),
        p_value >= context.level,
    )
    detects = detectable_covariance_error(sums, context.level) if fine else None
    cause = SOUGHT
    if not fine and mean.verdict == "pass":
        cause = explain_covariance(sums, num_samples or context.law.num_samples)
    return judge(name, fine, *figures, cause, p_value, detects, sum(s.count for s in sums))


def _independence_row(context: Context, sums: list[Sums]) -> Row:
    correlation, p_value = independence_test(sums)
    cause = "rows of a batch share noise: draw it with the shape (K, ..., n)"
    found = f"correlation {correlation:.2g}"
    return judge(INDEPENDENT, p_value >= context.level, found, "0", cause, p_value)
