"""What an implementation is asked: logits, outcomes and gradients, fixed once and for all, and the exact answers.

Every number is a multiple of 1/8, so that it is exact in float32 even after an integer has been added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.categorical import one_hot
from rbst.crosscheck.laws import Law
from rbst.crosscheck.moments import Target, products, whiten


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
        return self.logits.shape[-1]


def _case(logits: list[float] | Array, tau: float, outcomes: tuple[int, ...] | None = None) -> Case:
    logits = np.asarray(logits, dtype=np.float64)
    n = len(logits)
    slopes = np.random.default_rng(n).integers(-16, 17, size=(n, n)) / 8
    return Case(logits, tau, outcomes or tuple(range(n)), slopes)


def _spread(n: int, width: float) -> Array:
    return np.random.default_rng(n).integers(int(-4 * width), int(4 * width) + 1, size=n) / 8


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
    ("n = 3, tau = 0.1", _case(THREE, 0.1)),
    ("n = 2, tau = 1", _case(BOOLEAN, 1.0)),
    ("n = 10, tau = 2", _case(TEN, 2.0, (0, 7))),
)
"""Mean and covariance are tested."""

COLD = ("n = 3, tau = 0.01", _case(THREE, 0.01))
LARGE = (
    "n = 100, tau = 0.5",
    replace(_case(HUNDRED, 0.5, (50,)), directions=_orthonormal(100, DIRECTIONS)),
)

UNLIKELY = ("D 30 nats below the others", _case([0.25, -30.0, 1.0], 0.5, (1,)))
MASKED = (
    "-inf among logits near -1000",
    _case([-np.inf, -1000.75, -999.0, -np.inf, -999.75], 0.5, (1, 2, 4)),
)
EXTREMES = (
    ("D 30 nats above the others", _case([30.0, 0.25, -1.0], 0.5, (0,))),
    ("logits from -1000 to 1000", _case([-1000.0, 0.25, 1000.0], 0.5, (2,))),
    ("tau = 0.001", _case(THREE, 0.001)),
    ("tau = 100", _case(THREE, 100.0)),
)
"""Finite and of zero sum is all that is asked of an estimator with noise."""

BATCH = replace(MAIN, logits=np.stack([np.roll(THREE, k) for k in range(6)]).reshape(2, 3, 3))
"""Six variables (2, 3, n), each with logits of its own."""


@lru_cache(maxsize=16)
def variables(batch: Case) -> tuple[Case, ...]:
    """Each variable of a batch by itself."""
    return tuple(replace(batch, logits=logits) for logits in batch.logits.reshape(-1, batch.n))


@lru_cache(maxsize=256)
def shifted(case: Case, constant: int) -> Case:
    """The same with a constant added to the logits."""
    return replace(case, logits=case.logits + constant)


@lru_cache(maxsize=256)
def adapted(case: Case, tau: float | None, categories: int | None) -> Case:
    """A case at the only temperature, and with the only number of categories, that there is."""
    case = case if tau is None else replace(case, tau=tau)
    n = categories or case.n
    if n == case.n:
        return case
    logits = case.logits[..., np.arange(n) % case.n]
    outcomes = tuple(k for k in case.outcomes if k < n) or (n - 1,)
    slopes = np.random.default_rng([n, 1]).integers(-16, 17, size=(n, n)) / 8
    return Case(logits, case.tau, outcomes, slopes, _orthonormal(n, DIRECTIONS) if n > 50 else None)


def rows_of(case: Case, shape: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """Logits and D of shape ``(*shape, n)``, contiguous, the outcomes of the case in turn."""
    logits = np.broadcast_to(case.logits, (*shape, case.n)).astype(dtype, order="C")
    index = np.resize(np.array(case.outcomes), math.prod(shape)).reshape(shape)
    return logits, one_hot(index, case.n, dtype)


# --- What gradients of a case are to be like -----------------------------------------------------------

REFERENCE_DRAWS, REFERENCE_BLOCK = 2**16, 2**14


def targets(
    law: Law,
    case: Case,
    outcomes: tuple[int, ...],
    num_samples: int | None = None,
    *,
    covariance_tested: bool = False,
) -> list[Target]:
    r"""Exact moments for each D of a case and K samples.

    A mean of K samples has 1/K of their covariance :math:`\Sigma`. The test of a covariance also weighs the
    entries q of :math:`y y^\top` by their own covariance: 1 for a product and 2 for a square if y is normal,
    and its distance from that falls as 1/K. For K = 1 there is no quadrature for it: it is estimated from
    draws of the reference implementation. An error there makes the test a little less or more strict; what
    it tests is the exact covariance all the same.
    """
    K, law = num_samples or law.num_samples or 1, law.of_one_sample()
    found = []
    for outcome in outcomes:
        mean, covariance, eigenvalues, whitening = _moments(law, case, outcome)
        q_covariance = None
        if covariance_tested:
            normal = _normal_q_covariance(len(eigenvalues))
            of_one = _q_covariance(law, case, outcome) if law.with_noise else normal
            q_covariance = normal + (of_one - normal) / K
        moments = (covariance / K, eigenvalues / K, whitening * np.sqrt(K))
        found.append(Target(outcome, mean, *moments, q_covariance))
    return found


def alike(case: Case, outcome: int, count: int) -> tuple[Array, Array, Array]:
    """The same logits, D and gradient of f, ``count`` times."""
    D, g, shape = np.eye(case.n)[outcome], case.slopes[outcome], (count, case.n)
    return np.broadcast_to(case.logits, shape), np.broadcast_to(D, shape), np.broadcast_to(g, shape)


@lru_cache(maxsize=512)
def _moments(law: Law, case: Case, outcome: int) -> tuple[Array, Array, Array, Array]:
    """Mean and covariance of one sample given D, eigenvalues and whitening of the covariance."""
    arguments = (*alike(case, outcome, 1), case.tau)
    assert law.covariance is not None  # a law that is tested for it has one
    covariance = law.covariance(*arguments)[0]
    return law.mean(*arguments)[0], covariance, *whiten(covariance, case.directions)


def _normal_q_covariance(m: int) -> Array:
    rows, columns = np.triu_indices(m)
    return np.diag(np.where(rows == columns, 2.0, 1.0))


@lru_cache(maxsize=512)
def _q_covariance(law: Law, case: Case, outcome: int) -> Array:
    """Covariance of q for one sample, estimated from draws of the reference implementation."""
    mean, _, _, whitening = _moments(law, case, outcome)
    assert law.with_noise is not None  # a law that is tested for its covariance is drawn from
    rng = np.random.default_rng(outcome)
    total: Any = 0.0
    for _ in range(REFERENCE_DRAWS // REFERENCE_BLOCK):
        E = rng.standard_exponential((1, REFERENCE_BLOCK, case.n))
        h = law.with_noise(*alike(case, outcome, REFERENCE_BLOCK), case.tau, E)
        q = products((h - mean) @ whitening)
        total = total + q.T @ q
    return total / REFERENCE_DRAWS


# --- Functions of several variables, for estimators that are to be unbiased ----------------------------


@dataclass(frozen=True)
class Problem:
    """A function f of one-hot D, and the logits (L, n) at which its gradient is wanted.

    f is written with nothing but ``D[..., l, j]``, ``+``, ``*`` and ``abs``, so that it takes the arrays of
    any framework and can be differentiated twice in each.
    """

    name: str
    logits: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    def __call__(self, D: Any) -> Any:
        """f at D, from ``(..., L, n)`` to ``(...)``."""
        values = [
            sum(w * D[..., variable, j] for j, w in enumerate(row))
            for variable, row in enumerate(self.weights)
        ]
        if self.name.startswith("product"):
            return math.prod(values[1:], start=values[0])
        total = sum(values[1:], start=values[0])
        if self.name.startswith("linear"):
            return total
        return (total - 1.0) * (total - 1.0) if self.name.startswith("square") else abs(total - 1.0)


PROBLEMS = (
    Problem("linear, L = 1", ((0.25, -0.75, 1.0),), ((1.0, -2.0, 0.5),)),
    Problem(
        "square, L = 2", ((0.25, -0.75, 1.0), (0.5, 0.0, -0.5)), ((1.0, -1.5, 0.5), (2.0, 0.5, 0.0))
    ),
    Problem(
        "product, L = 3",
        ((0.5, -0.25), (0.0, 0.75), (-0.5, 0.25)),
        ((1.0, -1.0), (2.0, 0.5), (-1.0, 1.5)),
    ),
    Problem(
        "absolute value, L = 2",
        ((0.0, 0.5, 0.25), (-0.25, 0.5, 0.0)),
        ((2.0, -1.0, 0.5), (0.5, 1.5, 0.0)),
    ),
)
