"""What an implementation is asked: logits, outcomes and gradients, fixed once and for all.

Every number is a multiple of 1/8, so that it is exact in float32 even after an integer has been added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rbst._array import Array


@dataclass(frozen=True, eq=False)  # compared by identity, so that exact answers can be kept by case
class Case:
    """One variable at one temperature, with a gradient of f for each outcome.

    Attributes
    ----------
    logits
        Shape ``(n,)``.
    tau
        The temperature.
    outcomes
        The categories that D takes in turn, for implementations that are given D.
    slopes
        Shape ``(n, n)``: the gradient of f at ``D = e_k`` is row k.
    directions
        Shape ``(n, d)``: the directions along which the mean is tested; None for all.
    """

    logits: Array
    tau: float
    outcomes: tuple[int, ...]
    slopes: Array
    directions: Array | None = None

    @property
    def n(self) -> int:
        """Number of categories."""
        return len(self.logits)


def _case(logits: list[float] | Array, tau: float, outcomes: tuple[int, ...] | None = None) -> Case:
    logits = np.asarray(logits, dtype=np.float64)
    n = len(logits)
    slopes = np.random.default_rng(n).integers(-16, 17, size=(n, n)) / 8
    return Case(logits, tau, outcomes or tuple(range(n)), slopes)


def _spread(n: int, width: float) -> Array:
    return np.random.default_rng(n).integers(-4 * width, 4 * width + 1, size=n) / 8


def _orthonormal(n: int, d: int) -> Array:
    """Some d directions of n dimensions."""
    return np.linalg.qr(np.random.default_rng(n).normal(size=(n, d)))[0]


BOOLEAN = [0.5, -0.25]
THREE = [0.25, -0.75, 1.0]
TEN = _spread(10, 2.0)
HUNDRED = _spread(100, 4.0)
DIRECTIONS = 10

MAIN = _case(THREE, 0.5)
LAWS = (
    ("n = 3, tau = 0.5", MAIN),
    ("n = 3, tau = 1", _case(THREE, 1.0)),
    ("n = 3, tau = 2", _case(THREE, 2.0)),
    ("n = 3, tau = 0.1", _case(THREE, 0.1)),
    ("n = 2, tau = 0.5", _case(BOOLEAN, 0.5)),
    ("n = 10, tau = 0.5", _case(TEN, 0.5, (0, 4, 7))),
)
"""Mean and covariance are tested."""

SMALL_TAU = ("n = 3, tau = 0.01", _case(THREE, 0.01))
LARGE_N = (
    "n = 100, tau = 0.5",
    replace(_case(HUNDRED, 0.5, (3, 50)), directions=_orthonormal(100, DIRECTIONS)),
)
STEEP = ("df_dD + 64", replace(MAIN, slopes=MAIN.slopes + 64))

UNLIKELY = ("D 30 nats below the others", _case([0.25, -30.0, 1.0], 0.5, (1,)))
MASKED = ("two logits of -inf", _case([-np.inf, -0.75, 1.0, -np.inf, 0.25], 0.5, (1, 2, 4)))
MASKED_LOW = (
    "logits of -inf, the others near -1000",
    _case([-np.inf, -1000.75, -999.0, -np.inf, -999.75], 0.5, (1, 2, 4)),
)

BATCH = np.stack([np.roll(THREE, k) for k in range(6)]).reshape(2, 3, 3)
"""Logits of six variables (2, 3, n), each with its own."""

BATCH_CASES = tuple(replace(MAIN, logits=logits) for logits in BATCH.reshape(-1, 3))
"""Each of these variables by itself."""

EXTREMES = (
    ("D 30 nats above the others", _case([30.0, 0.25, -1.0], 0.5, (0,))),
    ("logits from -1000 to 1000", _case([-1000.0, 0.25, 1000.0], 0.5, (2,))),
    ("tau = 0.001", _case(THREE, 0.001)),
    ("tau = 100", _case(THREE, 100.0)),
)
"""Finite, within bounds and of zero sum is all that is asked."""

SHIFTS = (1000, -1000)
