r"""The right answers: what an estimator's gradient is, or how it is distributed, once D is given.

A :class:`Law` has the conditional mean of the gradient and, where noise is left, its conditional
covariance; both are exact. Gumbel-Rao with K samples has the mean of ST-GS and 1/K of its covariance
(Paulus et al. (2021), Proposition 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from rbst._array import Array
from rbst._checks import check_num_samples
from rbst.categorical import softmax, softmax_vjp
from rbst.estimators import ESTIMATORS, get_estimator, gumbel_rao
from rbst.estimators.reinmax_rao import halfway_logits, reinmax_rao
from rbst.estimators.zero_temperature import reinmax
from rbst.rao_blackwell import conditional_covariance, conditional_mean

UNBIASED = "unbiased"


Point = Literal["corner", "relaxed", "contracted"]
"""Where f is evaluated."""


@dataclass(frozen=True)
class Law:
    """How an estimator's gradient is distributed given D.

    Attributes
    ----------
    estimator
        Its name.
    mean
        ``(logits, D, signal, tau) -> E[h | D]``, shape ``(..., n)``. The signal is ``df_dD``, or the cost
        for ``reinforce``. For ``gs``, whose gradient is determined by the relaxed S, D is S.
    num_samples
        K, where the estimator has one.
    covariance
        ``(logits, D, df_dD, tau) -> Cov[h | D]`` for K = 1, shape ``(..., n, n)``; None where there is no
        noise.
    with_noise
        ``(logits, D, df_dD, tau, exponentials) -> h``, the gradient under given noise ``(K, ..., n)``.
    family
        Laws of one family have the same moments for K = 1.
    takes_cost, has_tau
        Whether the signal is a cost ``(...)`` instead of a gradient, and whether there is a temperature.
    point
        Where f is evaluated: at the ``"corner"`` D, at a ``"relaxed"`` S, or ``"contracted"``, between a
        Boolean D and the centre.
    categories
        The only n that there is, if there is only one.
    whole
        Whether nothing is asked but that the mean over D and all noise is the exact gradient.
    """

    estimator: str
    mean: Callable[..., Array]
    num_samples: int | None = None
    covariance: Callable[..., Array] | None = None
    with_noise: Callable[..., Array] | None = None
    family: str = "determined"
    takes_cost: bool = False
    has_tau: bool = True
    point: Point = "corner"
    categories: int | None = None
    whole: bool = False

    @property
    def random(self) -> bool:
        """Whether noise is left once D is given."""
        return self.covariance is not None

    def of_one_sample(self) -> Law:
        """The same with K = 1: laws of one family that differ in K share it."""
        return replace(self, estimator=self.family, num_samples=1)


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

    points: dict[str, Point] = {"gs": "relaxed", "foust": "contracted"}
    point = points.get(estimator, "corner")
    return Law(
        estimator,
        mean,
        takes_cost=built.evaluates == "cost-only",
        has_tau=built.tau is not None,
        point=point,
        categories=built.categories,
    )


def own_law(mean: Callable[..., Array], covariance: Callable[..., Array] | None) -> Law:
    """The law of an estimator that has no name here, from its exact moments given D."""
    return Law("a law of one's own", mean, covariance=covariance, family="own")


def checkable() -> list[str]:
    """The names that something can be checked as."""
    names = [entry.name for entry in ESTIMATORS if entry.name != "reinmax-cv"]
    return [*dict.fromkeys([*names, "reinmax-rao-mcK", "reinmax-cv-mcK", UNBIASED])]


def _no_mean(logits: Array, D: Array, signal: Array, tau: float) -> Array:
    raise NotImplementedError("nothing is known given D")


def _random_law(estimator: str, family: str, num_samples: int) -> Law:
    return Law(estimator, _FAMILIES[family][0], num_samples, *_FAMILIES[family][1:], family)


# --- Families, which differ in K only: mean, covariance of one sample, gradient under given noise ------


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
