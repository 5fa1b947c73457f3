r"""The score-function estimator (REINFORCE) and the running mean it needs.

It asks of f its value only: :math:`\mathbb E[(f - b) \, \partial \log p_\theta(D) / \partial \theta]` is
the gradient for any baseline b that does not depend on D (Paulus et al., Eq. 2; Williams, 1992).
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from rbst._array import Array, getval, namespace
from rbst._checks import (
    NotFinite,
    as_number,
    as_precise,
    check_array,
    check_finite,
    check_logits,
    check_one_hot,
    in_precision,
)
from rbst.categorical import softmax


def score_function(logits: Array, D: Array, cost: Array, *, baseline: float | Array = 0.0) -> Array:
    r"""REINFORCE: the cost times the score (Eq. 2).

    .. math:: (f(D) - b) \, \frac{\partial \log p_\theta(D)}{\partial \theta} = (f(D) - b) (D - \pi)

    where

    - :math:`\theta` is ``logits``, D is the one-hot ``D``, both of shape ``(..., n)``;
    - :math:`f(D)` is ``cost`` and :math:`b` is ``baseline``, both of a shape that broadcasts to
      ``logits.shape[:-1]``: one cost a variable. A cost that several variables share is passed as
      ``cost[..., None]``.

    Unbiased as long as b does not depend on this D. The direct term :math:`\partial f / \partial \theta`
    of an f that contains :math:`\theta` is the caller's. Returns an array of the shape and dtype of ``logits``.
    Paulus et al. (2021), Eq. 2.

    Examples
    --------
    >>> import numpy as np
    >>> D = np.array([0.0, 0.0, 1.0])
    >>> score_function(np.log([0.2, 0.3, 0.5]), D, np.float64(4.0), baseline=2.8)
    array([-0.24, -0.36,  0.6 ])
    """
    logits = check_logits(logits)
    D = check_one_hot(D, logits)
    difference = check_cost("cost", cost, logits) - check_baseline(baseline, logits)
    advantage = in_precision("the cost less the baseline", difference, logits)
    return advantage[..., None] * (D - softmax(logits))


def check_baseline(baseline: float | Array, logits: Array) -> float | Array:
    """A finite baseline: a number, or an array that broadcasts as the cost does."""
    if isinstance(baseline, numbers.Real):
        baseline = baseline if isinstance(baseline, float) else as_number(baseline)
        if math.isfinite(baseline):
            return baseline
    return check_cost("baseline", baseline, logits)


def check_cost(name: str, values: Any, logits: Array) -> Array:
    """Finite costs that broadcast to ``logits.shape[:-1]``, as floats: unsigned integers would wrap around, float16 ends at 65504."""
    values = as_precise(check_array(name, values, logits), logits)
    check_finite(name, values, "look at f where it is evaluated, or for a step that diverged")
    try:
        return namespace(logits).broadcast_to(values, logits.shape[:-1])
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to logits.shape[:-1] = {logits.shape[:-1]}, got {values.shape}; pass "
            f"one that all variables share as {name}[..., None]"
        ) from None


@dataclass
class RunningMean:
    r"""Exponential running mean of past costs, the baseline of REINFORCE.

    .. math:: b \leftarrow \lambda b + (1 - \lambda) \bar f

    where :math:`\lambda` is ``decay`` and :math:`\bar f` the mean of the costs of one step. The first
    update sets it to the first mean. Read ``value`` *before* the update with the current costs:
    otherwise b depends on D, a part :math:`(1 - \lambda) / B` of the cost of each of the B examples of the
    step cancels against itself, and the gradient shrinks. Before the first update there is no past, and ``value`` is 0.

    Examples
    --------
    >>> baseline = RunningMean(decay=0.9)
    >>> for cost in (2.0, 3.0):
    ...     print(baseline.value)  # used for this step's gradient, and only then
    ...     baseline.update(cost)
    0.0
    2.0
    >>> baseline.value
    2.1
    """

    decay: float = 0.99
    value: float = 0.0
    updates: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.decay, numbers.Real):
            raise TypeError(
                f"decay must be a number in [0, 1), got {type(self.decay).__name__}; pass a float"
            )
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}; 0.99 is the default")

    def update(self, costs: Any) -> None:
        """Move towards the mean of ``costs``, a number, a list or an array; refuse one that is not finite."""
        costs = check_array("costs", getval(costs))  # inside a traced loss they are boxes
        if costs.size == 0:
            raise ValueError("costs must hold at least one cost, got none; leave the update out")
        mean = float(costs.mean())
        if not math.isfinite(mean):
            raise NotFinite(f"costs must have a finite mean, got {mean}; an earlier step diverged")
        self.value = (
            mean if self.updates == 0 else self.decay * self.value + (1 - self.decay) * mean
        )
        self.updates += 1
