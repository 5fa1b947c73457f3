r"""Exact expectations and gradients, by summing over every outcome.

L independent variables of n categories have :math:`n^L` joint outcomes. For small problems all of them
can be visited, which leaves nothing to chance: this is the oracle that every estimator is held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from rbst._array import Array, namespace
from rbst._checks import check_logits
from rbst.categorical import log_softmax, one_hot

MAX_OUTCOMES = 10**7
OUTCOMES_PER_BLOCK = 2**14


def count_outcomes(logits: Array) -> int:
    """Number of joint outcomes :math:`n^L` of logits ``(L, n)``; an error where it is beyond enumeration."""
    logits = check_logits(logits)
    if logits.ndim != 2:
        raise ValueError(
            f"logits must have shape (L, n), L variables of n categories, got {logits.shape}; "
            "give one variable as logits[None, :]"
        )
    L, n = logits.shape
    total = n**L
    if total > MAX_OUTCOMES:
        size = f"{total:,}" if total < 10**15 else f"about 10**{L * math.log10(n):.0f}"
        raise ValueError(
            f"{L} variables of {n} categories have {n}**{L} = {size} joint outcomes, more than the "
            f"{MAX_OUTCOMES:,} that are enumerated; use fewer variables, or estimate by sampling"
        )
    return total


def enumerate_outcomes(logits: Array) -> Iterator[tuple[Array, Array]]:
    r"""Every joint outcome with its probability, in blocks.

    Yields ``(D, probability)`` of shapes ``(b, L, n)`` and ``(b,)``, in the order of a number of L digits
    to the base n (the last variable moves fastest). ``logits`` has shape ``(L, n)``; D has its dtype, the
    probabilities are float64.

    Examples
    --------
    >>> import numpy as np
    >>> for D, p in enumerate_outcomes(np.log([[0.25, 0.75], [0.5, 0.5]])):
    ...     print(D.argmax(axis=-1).tolist(), p)
    [[0, 0], [0, 1], [1, 0], [1, 1]] [0.125 0.125 0.375 0.375]
    """
    total = count_outcomes(logits)
    xp = namespace(logits)
    L, n = logits.shape
    log_pi = log_softmax(logits.astype("float64"))
    place_values = xp.asarray([n ** (L - 1 - variable) for variable in range(L)])
    for first in range(0, total, OUTCOMES_PER_BLOCK):
        number = xp.arange(first, min(first + OUTCOMES_PER_BLOCK, total))
        digits = number[:, None] // place_values % n
        log_probability = log_pi[xp.arange(L), digits].sum(axis=-1)
        yield one_hot(digits, n, logits.dtype), xp.exp(log_probability)


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
    costs, probabilities = _costs(f, logits)
    return float((probabilities * costs).sum())


def exact_gradient(f: Callable[[Array], Array], logits: Array) -> Array:
    r"""Gradient of the expectation with respect to the logits, by summing over all outcomes.

    .. math::

        \frac{\partial}{\partial \theta_{lk}} \mathbb E[f(D)]
        = \sum_D p_\theta(D) \, f(D) \, (D_{lk} - \pi_{lk})
        = \sum_{D : D_{lk} = 1} p_\theta(D) \, (f(D) - \mathbb E[f])

    where :math:`\theta` is ``logits``, shape ``(L, n)``, and ``f`` maps one-hot arrays ``(..., L, n)`` to
    costs ``(...)``. The second form is what is computed: it subtracts no large numbers. ``f`` needs no
    derivative. Returns shape ``(L, n)``; raises ``ValueError`` above 10**7 outcomes.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([1.0, 2.0, 4.0])
    >>> exact_gradient(lambda D: (D @ values)[..., 0], np.log([[0.2, 0.3, 0.5]]))
    array([[-0.36, -0.24,  0.6 ]])
    """
    costs, probabilities = _costs(f, logits)
    xp = namespace(logits)
    contributions = probabilities * (costs - (probabilities * costs).sum())
    L, n = logits.shape
    gradient = [contributions.reshape(n**variable, n, -1).sum(axis=(0, 2)) for variable in range(L)]
    return xp.stack(gradient).astype(logits.dtype)


def _costs(f: Callable[[Array], Array], logits: Array) -> tuple[Array, Array]:
    """The cost and the probability of every outcome, in float64."""
    total = count_outcomes(logits)
    xp = namespace(logits)
    costs, probabilities = xp.empty(total), xp.empty(total)
    first = 0
    for D, probability in enumerate_outcomes(logits):
        last = first + len(D)
        costs[first:last] = check_costs(f(D), D.shape[:-2])
        probabilities[first:last] = probability
        first = last
    return costs, probabilities


def check_costs(costs: Any, shape: tuple[int, ...]) -> Array:
    """Costs of shape ``(...)`` for one-hot arrays ``(..., L, n)``."""
    if getattr(costs, "shape", None) != shape:
        raise ValueError(
            f"f must map one-hot arrays of shape {(*shape, 'L', 'n')} to costs of shape {shape}, "
            f"got {getattr(costs, 'shape', type(costs).__name__)}; sum over the last two axes only"
        )
    return costs
