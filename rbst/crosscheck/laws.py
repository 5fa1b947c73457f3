r"""The right answers: what an estimator's gradient is, or how it is distributed, once D is given.

A :class:`Law` has the conditional mean of the gradient and, where noise is left, its conditional
covariance; both are exact. Gumbel-Rao with K samples has the mean of ST-GS and 1/K of its covariance
(Paulus et al. (2021), Proposition 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rbst._array import Array
from rbst._checks import check_num_samples
from rbst.categorical import softmax, softmax_vjp
from rbst.estimators import ESTIMATORS, get_estimator, gumbel_rao
from rbst.rao_blackwell import conditional_covariance, conditional_mean


@dataclass(frozen=True)
class Law:
    """How an estimator's gradient is distributed given D.

    Attributes
    ----------
    estimator
        Its name.
    num_samples
        K, where the estimator has one.
    mean
        ``(logits, D, signal, tau) -> E[h | D]``, shape ``(..., n)``. The signal is ``df_dD``, or the cost
        for ``reinforce``.
    covariance
        ``(logits, D, df_dD, tau) -> Cov[h | D]`` for K = 1, shape ``(..., n, n)``; None where h is a
        function of D and the signal.
    with_noise
        ``(logits, D, df_dD, tau, exponentials) -> h``, where others can be handed the same noise.
    takes_cost
        Whether the signal is a cost (..., ) in the place of a gradient.
    """

    estimator: str
    num_samples: int | None
    mean: Callable[..., Array]
    covariance: Callable[..., Array] | None = None
    with_noise: Callable[..., Array] | None = None
    takes_cost: bool = False


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
    if match := re.fullmatch(r"(reinmax-rao|reinmax-cv)(?:-mc(\d+))?", str(estimator)):
        return _reinmax_law(estimator, match[1], check_num_samples(int(match[2] or 1)))
    built = get_estimator(estimator)
    if built.given_D == "gumbel-rao" and built.num_samples != math.inf:
        return Law(
            estimator,
            built.num_samples,
            _gumbel_rao_mean,
            _gumbel_rao_covariance,
            _gumbel_rao_with_noise,
        )
    if built.given_D == "gumbel-rao":
        return Law(estimator, None, _gumbel_rao_mean)
    if built.given_D == "fixed" and built.evaluates in ("corner", "cost-only"):

        def mean(logits: Array, D: Array, signal: Array, tau: float) -> Array:
            return get_estimator(estimator, tau=tau).pull_back(logits, D, signal, None)

        return Law(estimator, None, mean, takes_cost=built.evaluates == "cost-only")
    raise ValueError(
        f"estimator must have a known law given D to be checked against, got {estimator!r}; choose one "
        f"of {', '.join(checkable())}"
    )


def checkable() -> list[str]:
    """The names of the estimators whose law given D is known."""
    names = []
    for entry in ESTIMATORS:
        built = get_estimator(entry.name.replace("K", "10"))
        if built.given_D != "random" and built.evaluates in ("corner", "cost-only"):
            names.append(entry.name)
    return [*names, "reinmax-rao-mcK", "reinmax-cv-mcK"]


def _gumbel_rao_mean(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
    return conditional_mean(logits, D, df_dD, tau=tau)


def _gumbel_rao_covariance(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
    return conditional_covariance(logits, D, df_dD, tau=tau)


def _gumbel_rao_with_noise(
    logits: Array, D: Array, df_dD: Array, tau: float, exponentials: Array
) -> Array:
    return gumbel_rao(logits, D, df_dD, tau=tau, exponentials=exponentials)


def _reinmax_law(name: str, kind: str, num_samples: int) -> Law:
    r"""ReinMax with Gumbel-Rao at :math:`\theta_D = \log((\pi + D) / 2)`, or with it as a control variate.

    .. math:: \text{reinmax-rao} = 2 h_D - \tfrac12 J(\pi) g, \qquad
              \text{reinmax-cv} = \text{reinmax} + \mathbb E[h_D \mid D] - h_D,

    :math:`h_D` the Gumbel-Rao gradient at the logits :math:`\theta_D`, with K samples given D. The control
    variate has mean zero given D, so what is left of it is its variance. Wang & Bui (2026).
    """

    def smoothed(logits: Array, D: Array) -> Array:
        return np.log((softmax(logits) + D) / 2)

    def mean(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
        if kind == "reinmax-rao":
            first = 2 * conditional_mean(smoothed(logits, D), D, df_dD, tau=tau)
        else:
            first = 2 * softmax_vjp((softmax(logits, tau) + D) / 2, df_dD)
        return first - softmax_vjp(softmax(logits), df_dD) / 2

    def covariance(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
        scale = 4 if kind == "reinmax-rao" else 1
        return scale * conditional_covariance(smoothed(logits, D), D, df_dD, tau=tau)

    return Law(name, num_samples, mean, covariance)
