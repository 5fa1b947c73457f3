r"""What an implementation is asked, and the right answers.

A :class:`Case` is one variable at one temperature. A :class:`Law` says what the gradient is once D is
given: its conditional mean and, where noise is left, its conditional covariance; both are exact.
Gumbel-Rao with K samples has the mean of ST-GS and 1/K of its covariance (Paulus et al. (2021),
Proposition 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from rbst._array import Array
from rbst._checks import check_num_samples
from rbst.categorical import one_hot, softmax, softmax_vjp
from rbst.estimators import ESTIMATORS, get_estimator, gumbel_rao
from rbst.estimators.reinmax_rao import halfway_logits, reinmax_rao
from rbst.estimators.zero_temperature import reinmax
from rbst.rao_blackwell import conditional_covariance, conditional_mean

UNBIASED = "unbiased"


@dataclass(frozen=True)
class Law:
    """How an estimator's gradient h is distributed given D."""

    estimator: str
    mean: Callable[..., Array]  # (logits, D, signal, tau) -> E[h | D]; for gs, D is the relaxed S
    num_samples: int | None = None  # K
    covariance: Callable[..., Array] | None = None  # Cov[h | D] for K = 1; None without noise
    with_noise: Callable[..., Array] | None = None  # h; exponentials (K, ..., n) come last
    family: str = "determined"  # laws of one family have the same moments for K = 1
    takes_cost: bool = False  # whether the signal is f(D), of shape (...), instead of df_dD
    has_tau: bool = True
    point: str = "corner"  # where f is evaluated; or "relaxed", or "contracted" to the centre
    categories: int | None = None  # the only n that there is, if there is only one
    whole: bool = False  # only its mean over D and all noise is known: the exact gradient

    @property
    def random(self) -> bool:
        """Whether noise is left once D is given."""
        return self.covariance is not None

    def of_one_sample(self) -> Law:
        """The same with K = 1: laws of one family that differ in K share it."""
        return replace(self, estimator=self.family, num_samples=1)

    def gradient(self, logits: Array, D: Array, signal: Array, tau: float, E: Any = None) -> Array:
        """The gradient under exponentials E, or its mean where there are none."""
        if E is None or self.with_noise is None:
            return self.mean(logits, D, signal, tau)
        return self.with_noise(logits, D, signal, tau, E)


def get_law(estimator: str) -> Law:
    """The law of an estimator given D, by name.

    Examples
    --------
    >>> import numpy as np
    >>> law = get_law("gr-mc10")
    >>> D, g = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    >>> law.num_samples, law.covariance(np.zeros(2), D, g, 0.5).round(4).tolist()
    (10, [[0.0316, -0.0316], [-0.0316, 0.0316]])
    """
    if estimator == UNBIASED:
        return Law(UNBIASED, _no_mean, has_tau=False, whole=True)
    if match := re.fullmatch(r"(reinmax-rao|reinmax-cv)-mc(\d+)", str(estimator)):
        return _random_law(estimator, match[1], check_num_samples(int(match[2])))
    built = get_estimator(estimator)
    if built.evaluates == "several":  # all of these are unbiased
        return Law(estimator, _no_mean, has_tau=False, whole=True, categories=built.categories)
    if estimator == "decoupled-st-gs":
        return _random_law(estimator, "gumbel-rao", 1)
    if built.given_D == "gumbel-rao" and built.num_samples != math.inf:
        return _random_law(estimator, "gumbel-rao", cast("int", built.num_samples))
    if built.given_D == "gumbel-rao":
        return Law(estimator, _mean)
    if built.given_D == "random" and built.evaluates == "corner":
        raise ValueError(
            f"estimator must have a known law given D, got {estimator!r}; give its moments in Python, "
            "check(..., mean=..., covariance=...)"
        )

    def mean(logits: Array, D: Array, signal: Array, tau: float) -> Array:
        return get_estimator(estimator, tau=tau).pull_back(logits, D, signal, None)

    points = {"gs": "relaxed", "foust": "contracted"}
    return Law(
        estimator,
        mean,
        takes_cost=built.evaluates == "cost-only",
        has_tau=built.tau is not None,
        point=points.get(estimator, "corner"),
        categories=built.categories,
    )


def own_law(mean: Callable[..., Array], covariance: Callable[..., Array] | None) -> Law:
    """The law of an estimator that has no name here, from its exact moments given D."""
    return Law("a law of one's own", mean, covariance=covariance, family="own")


def checkable() -> list[str]:
    """The names that something can be checked as."""
    names = [entry.name for entry in ESTIMATORS if entry.name != "reinmax-cv"]
    return [*names, "reinmax-cv-mcK", UNBIASED]


def _no_mean(logits: Array, D: Array, signal: Array, tau: float) -> Array:
    raise NotImplementedError("nothing is known given D")


# --- Families, which differ in K only: mean, covariance of one sample, gradient under given noise ------


def _random_law(estimator: str, family: str, num_samples: int) -> Law:
    mean, covariance, with_noise = _FAMILIES[family]
    return Law(estimator, mean, num_samples, covariance, with_noise, family)


def _mean(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
    """One quadrature where all rows are alike, as they are in a case."""
    n = logits.shape[-1]
    rows = [array.reshape(-1, n) for array in (logits, D, df_dD)]
    if all((array == array[0]).all() for array in rows):
        rows = [array[:1] for array in rows]
    mean = conditional_mean(*rows, tau=tau)
    return np.broadcast_to(mean, (logits.size // n, n)).reshape(logits.shape)


def _halfway_mean(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
    return _mean(halfway_logits(logits, D), D, df_dD, tau)


def _reinmax_cv(logits: Array, D: Array, df_dD: Array, tau: float, exponentials: Array) -> Array:
    r"""ReinMax with a control variate: :math:`\text{reinmax} + \mathbb E[h_D \mid D] - h_D`.

    h_D is the Gumbel-Rao gradient at :math:`\theta_D`. Given D the mean is that of ReinMax.
    """
    h = gumbel_rao(halfway_logits(logits, D), D, df_dD, tau=tau, exponentials=exponentials)
    return reinmax(logits, D, df_dD, tau=tau) + _halfway_mean(logits, D, df_dD, tau) - h


_FAMILIES: dict[str, tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array]]] = {
    "gumbel-rao": (
        _mean,
        lambda logits, D, g, tau: conditional_covariance(logits, D, g, tau=tau),
        lambda logits, D, g, tau, E: gumbel_rao(logits, D, g, tau=tau, exponentials=E),
    ),
    "reinmax-rao": (
        lambda logits, D, g, tau: (
            2 * _halfway_mean(logits, D, g, tau) - softmax_vjp(softmax(logits), g) / 2
        ),
        lambda logits, D, g, tau: (
            4 * conditional_covariance(halfway_logits(logits, D), D, g, tau=tau)
        ),
        lambda logits, D, g, tau, E: reinmax_rao(logits, D, g, tau=tau, exponentials=E),
    ),
    "reinmax-cv": (
        lambda logits, D, g, tau: reinmax(logits, D, g, tau=tau),
        lambda logits, D, g, tau: conditional_covariance(halfway_logits(logits, D), D, g, tau=tau),
        _reinmax_cv,
    ),
}


# --- Cases: every number is a multiple of 1/8, so that it is exact in float32 even after a shift --------


@dataclass(frozen=True, eq=False)  # compared by identity, so that exact answers can be kept by case
class Case:
    """One variable at one temperature, with a gradient of f for each outcome."""

    logits: Array  # (n,)
    tau: float
    outcomes: tuple[int, ...]  # the categories that D takes in turn, where D is given
    slopes: Array  # (n, n): row k is the gradient of f at D = e_k
    directions: Array | None = None  # (n, d): those along which the mean is tested; None for all
    label: str = ""

    @property
    def n(self) -> int:
        """Number of categories."""
        return self.logits.shape[-1]

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.label or f"n = {self.n}, tau = {self.tau:g}"


def _case(
    logits: list[float] | Array, tau: float, outcomes: tuple[int, ...] = (), label: str = ""
) -> Case:
    logits = np.asarray(logits, dtype=np.float64)
    n = len(logits)
    slopes = np.random.default_rng(n).integers(-16, 17, size=(n, n)) / 8
    return Case(logits, tau, outcomes or tuple(range(n)), slopes, _directions(n), label)


def _spread(n: int, width: float) -> Array:
    return np.random.default_rng(n).integers(int(-4 * width), int(4 * width) + 1, size=n) / 8


MANY, DIRECTIONS = 50, 10


def _directions(n: int) -> Array | None:
    """Of more than ``MANY`` categories, the ``DIRECTIONS`` along which the mean is tested; None for all."""
    if n <= MANY:
        return None
    return np.linalg.qr(np.random.default_rng(n).normal(size=(n, DIRECTIONS)))[0]


THREE = [0.25, -0.75, 1.0]
MAIN = _case(THREE, 0.5)
USUAL = (  # mean and covariance are tested
    *(MAIN, _case(THREE, 0.1), _case([0.5, -0.25], 1.0)),
    _case(_spread(10, 2.0), 2.0, (0, 7)),
)
COLD = _case(THREE, 0.01)
LARGE = _case(_spread(100, 4.0), 0.5, (50,))
UNLIKELY = _case([0.25, -30.0, 1.0], 0.5, (1,), "D 30 nats below the others")
NEAR_1000 = [-np.inf, -1000.75, -999.0, -np.inf, -999.75]
MASKED = _case(NEAR_1000, 0.5, (1, 2, 4), "-inf among logits near -1000")
EXTREMES = (  # finite and of zero sum is all that is asked of an estimator with noise
    _case([30.0, 0.25, -1.0], 0.5, (0,), "D 30 nats above the others"),
    _case([-1000.0, 0.25, 1000.0], 0.5, (2,), "logits from -1000 to 1000"),
    *(_case(THREE, 0.001), _case(THREE, 100.0)),
)
VARIABLES = np.stack([np.roll(THREE, k) for k in range(6)]).reshape(2, 3, 3)
BATCH = replace(MAIN, logits=VARIABLES, label="batch of shape (b, 2, 3)")  # each has its own logits


@lru_cache(maxsize=16)
def variables(batch: Case) -> tuple[Case, ...]:
    """Each variable of a batch by itself."""
    return tuple(replace(batch, logits=logits) for logits in batch.logits.reshape(-1, batch.n))


@lru_cache(maxsize=256)
def shifted(case: Case, constant: int) -> Case:
    """The same with a constant added to the logits."""
    label = case.label or f"logits {constant:+d}"
    return replace(case, logits=case.logits + constant, label=label)


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
    return Case(logits, case.tau, outcomes, slopes, _directions(n), case.label)


def rows_of(case: Case, axes: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """Logits and D in a batch of these axes, contiguous; D takes the outcomes of the case in turn."""
    shape = (*axes, *case.logits.shape[:-1])
    logits = np.broadcast_to(case.logits, (*shape, case.n)).astype(dtype, order="C")
    first, *others = shape or (1,)
    turn = np.add.outer(np.arange(first), np.arange(math.prod(others))).reshape(shape)
    return logits, one_hot(np.array(case.outcomes)[turn % len(case.outcomes)], case.n, dtype)


def alike(case: Case, outcome: int, count: int) -> tuple[Array, Array, Array]:
    """The same logits, D and gradient of f, ``count`` times."""
    rows = (case.logits, np.eye(case.n)[outcome], case.slopes[outcome])
    logits, D, g = (np.broadcast_to(row, (count, case.n)) for row in rows)
    return logits, D, g


# --- Functions of several variables, for estimators that are to be unbiased ----------------------------


@dataclass(frozen=True)
class Problem:
    """A function f of one-hot D, from ``(..., L, n)`` to ``(...)``, and the logits (L, n) of its gradient."""

    name: str
    logits: tuple[tuple[float, ...], ...]
    f: Callable[[Any], Any]


def _weighted(D: Any, variable: int, *weights: float) -> Any:
    """Written so that it takes the arrays of any framework, which differentiates it twice."""
    return sum(w * D[..., variable, j] for j, w in enumerate(weights))


PROBLEMS = (
    Problem("linear, L = 1", ((0.25, -0.75, 1.0),), lambda D: _weighted(D, 0, 1.0, -2.0, 0.5)),
    Problem(
        "square, L = 2",
        ((0.25, -0.75, 1.0), (0.5, 0.0, -0.5)),
        lambda D: (_weighted(D, 0, 1.0, -1.5, 0.5) + _weighted(D, 1, 2.0, 0.5) - 1.0) ** 2,
    ),
    Problem(
        "product, L = 3",
        ((0.5, -0.25), (0.0, 0.75), (-0.5, 0.25)),
        lambda D: (
            _weighted(D, 0, 1.0, -1.0) * _weighted(D, 1, 2.0, 0.5) * _weighted(D, 2, -1.0, 1.5)
        ),
    ),
    Problem(
        "absolute value, L = 2",
        ((0.0, 0.5, 0.25), (-0.25, 0.5, 0.0)),
        lambda D: abs(_weighted(D, 0, 2.0, -1.0, 0.5) + _weighted(D, 1, 0.5, 1.5) - 1.0),
    ),
)
