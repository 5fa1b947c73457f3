r"""Exact expectations and gradients, by summing over every outcome.

L independent variables of n categories have :math:`n^L` joint outcomes. For small problems all of them
can be visited, which leaves nothing to chance: this is the oracle that every estimator is checked against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from autograd.tracer import isbox

from rbst._array import Array, namespace
from rbst._checks import (
    as_precise,
    check_array,
    check_cost_shape,
    check_finite,
    check_gradient,
    check_logits,
)
from rbst.categorical import _one_hot, log_softmax

MAX_OUTCOMES = 10**7
OUTCOMES_PER_BLOCK = 2**14
COST_CURE = "f is evaluated only where D has a positive probability, and must have a value there"


def count_outcomes(logits: Array) -> int:
    """Number of joint outcomes of logits ``(L, n)`` that are possible; an error where it is beyond enumeration.

    That is :math:`n^L` where no logit is -inf, and the product of the numbers of possible categories elsewhere.
    """
    return math.prod(_bases(check_logits(logits)))


def _bases(logits: Array) -> list[int]:
    """The number of possible categories of each variable of logits ``(L, n)`` that can be enumerated."""
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(
            f"logits must have shape (L, n), L >= 1 variables of n categories, got {logits.shape}; "
            "give one variable as logits[None, :]"
        )
    L, n = logits.shape
    bases = [n] * L
    if bool(logits.min() == -math.inf):
        bases = (logits > -math.inf).sum(axis=-1).tolist()
    total = math.prod(bases)
    if total > MAX_OUTCOMES:
        size = f"{total:,}" if total < 10**15 else f"about 10**{sum(map(math.log10, bases)):.0f}"
        product = f"{n}**{L} = " if min(bases) == n else ""
        raise ValueError(
            f"{L} variables of {n} categories have {product}{size} joint outcomes, more than the "
            f"{MAX_OUTCOMES:,} that are enumerated; use fewer variables, or sample with "
            "estimate_gradient"
        )
    return bases


def enumerate_outcomes(logits: Array) -> Iterator[tuple[Array, Array]]:
    r"""Every joint outcome that is possible with its probability, in blocks.

    Yields ``(D, probability)`` of shapes ``(b, L, n)`` and ``(b,)``, in the order of a number of L digits
    to the base n (the last variable moves fastest). An outcome of probability 0 is left out: no sample lands
    there, and f need not be defined. ``logits`` has shape ``(L, n)``; D has its dtype, the probabilities are
    float64.

    Examples
    --------
    >>> import numpy as np
    >>> for D, p in enumerate_outcomes(np.log([[0.25, 0.75], [0.5, 0.5]])):
    ...     print(D.argmax(axis=-1).tolist(), p)
    [[0, 0], [0, 1], [1, 0], [1, 1]] [0.125 0.125 0.375 0.375]
    """
    logits = check_logits(logits)
    for _, D, probability in _numbered_outcomes(logits, _bases(logits)):
        yield D, probability


def _numbered_outcomes(
    logits: Array, bases: list[int]
) -> Iterator[tuple[slice | Array, Array, Array]]:
    """The outcomes after their numbers, whose digits count the possible categories of each variable."""
    total = math.prod(bases)
    xp = namespace(logits)
    L, n = logits.shape
    variables = xp.arange(L)
    log_pi = log_softmax(logits.astype("float64"))
    places = [math.prod(bases[variable + 1 :]) for variable in range(L)]
    place_values, base = xp.asarray([places, bases])
    possible_first = None  # each variable's possible categories before the others, if there are any
    if min(bases) < n:
        possible_first = xp.argsort(logits == -math.inf, axis=-1, kind="stable")
    for first in range(0, total, OUTCOMES_PER_BLOCK):
        number = xp.arange(first, min(first + OUTCOMES_PER_BLOCK, total))
        digits = number[:, None] // place_values % base
        index = digits if possible_first is None else possible_first[variables, digits]
        probability = xp.exp(log_pi[variables, index].sum(axis=-1))
        if bool(probability.min() > 0):
            yield slice(first, first + len(number)), _one_hot(index, n, logits.dtype), probability
        elif bool((seen := probability > 0).any()):  # a finite logit may be too low for a float
            yield number[seen], _one_hot(index[seen], n, logits.dtype), probability[seen]


def exact_expectation(f: Callable[[Array], Array], logits: Array) -> float:
    r"""Expectation over all outcomes, :math:`\sum_D p_\theta(D) f(D)`.

    where

    - :math:`\theta` is ``logits``, shape ``(L, n)``: L independent variables, enumerated jointly;
    - ``f`` maps one-hot arrays ``(..., L, n)`` to costs ``(...)``.

    Raises ``ValueError`` above 10**7 outcomes, with their number.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([1.0, 2.0, 4.0])
    >>> exact_expectation(lambda D: (D @ values)[..., 0], np.log([[0.2, 0.3, 0.5]]))
    2.8
    """
    costs, probabilities = _costs(f, check_logits(logits))
    return float((probabilities * costs).sum())


def exact_gradient(f: Callable[[Array], Array], logits: Array) -> Array:
    r"""Gradient of the expectation with respect to the logits, by summing over all outcomes.

    .. math::

        \frac{\partial}{\partial \theta_{lk}} \mathbb E[f(D)]
        = \sum_D p_\theta(D) \, f(D) \, (D_{lk} - \pi_{lk})
        = \sum_{D : D_{lk} = 1} p_\theta(D) \, (f(D) - \mathbb E[f])

    where :math:`\theta` is ``logits``, shape ``(L, n)``, and ``f`` maps one-hot arrays ``(..., L, n)`` to
    costs ``(...)``. The second form is what is computed: it subtracts no large numbers. The likeliest category of each
    variable is given minus the sum of the others, as a row sums to zero. ``f`` needs no derivative. Returns shape ``(L, n)``; raises ``ValueError`` above 10**7 outcomes.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([1.0, 2.0, 4.0])
    >>> exact_gradient(lambda D: (D @ values)[..., 0], np.log([[0.2, 0.3, 0.5]]))
    array([[-0.36, -0.24,  0.6 ]])
    """
    logits = check_logits(logits)
    costs, probabilities = _costs(f, logits)
    contributions = probabilities * (costs - (probabilities * costs).sum())
    gradient = namespace(logits).zeros(logits.shape)
    before, possible = 1, logits > -math.inf
    for variable, base in enumerate(_bases(logits)):
        digits = contributions.reshape(before, base, -1)
        row = digits.sum(axis=(0, 2))
        # What is nearly certain costs nearly the mean, and their difference would be rounding.
        likeliest = int(logits[variable, possible[variable]].argmax())
        row[likeliest] = 0
        row[likeliest] = -row.sum()
        gradient[variable, possible[variable]] = row
        before *= base
    return gradient.astype(logits.dtype)


def _costs(f: Callable[[Array], Array], logits: Array) -> tuple[Array, Array]:
    """The cost and the probability of every outcome by its number, in float64; both 0 where it is impossible."""
    if isbox(logits):
        raise TypeError(
            "logits must not be traced by autograd, got an expectation inside a function that is differentiated; "
            "its gradient is exact_gradient(f, logits)"
        )
    bases = _bases(logits)
    total = math.prod(bases)
    xp = namespace(logits)
    costs, probabilities = xp.zeros(total), xp.zeros(total)
    for number, D, probability in _numbered_outcomes(logits, bases):
        costs[number] = check_costs(f(D), D.shape[:-2])
        probabilities[number] = probability
    return costs, probabilities


def check_costs(costs: Any, shape: tuple[int, ...], function: str = "f") -> Array:
    """Finite costs of shape ``(...)`` for arrays ``(..., L, n)``."""
    costs = check_array(f"the value of {function}", costs)
    check_cost_shape(costs, shape, function)
    check_finite(f"the value of {function}", costs, COST_CURE)
    return costs


def evaluate(f: Callable[[Array], Array], points: Array) -> Array:
    """Costs ``(...)`` of f at arrays ``(..., L, n)``, checked, in the precision of f or of the points, if that is higher.

    f is given a copy, since it may write into its argument. Differences are taken before :func:`in_precision`.
    """
    return as_precise(check_costs(f(points.copy()), points.shape[:-2]), points)


def evaluate_gradient(df_dD: Callable[[Array], Array], points: Array, logits: Array) -> Array:
    """The derivative of f at arrays ``(..., L, n)``, checked; 0 at a category whose logit is -inf."""
    return check_gradient(df_dD(points.copy()), logits)
