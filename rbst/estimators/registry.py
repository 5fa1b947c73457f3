r"""Estimators by name, so that a model, an experiment or a diagnosis swaps them by changing one word.

An :class:`Estimator` says where f is needed and how its gradient is pulled back to the logits. The table
:data:`ESTIMATORS` describes each name; :func:`get_estimator` builds one. An estimator of your own is an
``Estimator(...)`` like any other and never needs to touch the table.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rbst._array import Array
from rbst._checks import check_num_samples, check_tau
from rbst.categorical import sample_categorical
from rbst.estimators.gumbel_rao import exact_gumbel_rao, gumbel_rao
from rbst.estimators.relaxed import foust, gumbel_softmax, sample_contraction, sample_gumbel_softmax
from rbst.estimators.score_function import score_function
from rbst.estimators.straight_through import st_gumbel_softmax, straight_through
from rbst.estimators.zero_temperature import reinmax, zgr
from rbst.rao_blackwell import check_rtol


def _sample_corner(logits: Array, rng: Any) -> tuple[Array, Array]:
    D = sample_categorical(logits, rng)
    return D, D


@dataclass(frozen=True)
class Estimator:
    r"""A gradient estimator for categorical variables.

    Attributes
    ----------
    name
        What tables and figures call it.
    evaluates
        Where f is needed: ``"corner"`` (f and its gradient at the one-hot D), ``"inside"`` (at a point
        inside the simplex), ``"cost-only"`` (the value of f at D, no derivative) or ``"several"`` (f at
        several points of the estimator's own choice).
    pull_back
        ``(logits, sample, signal, rng) -> gradient``, all of shape ``(..., n)``. The signal is the gradient of
        f at the point; for ``"cost-only"`` it is the cost, which broadcasts to ``logits.shape[:-1]``.
    sample
        ``(logits, rng) -> (point, sample)``: the point at which f is evaluated, and the sample that
        ``pull_back`` is given. By default both are D.
    estimate
        ``(f, logits, rng) -> gradient`` for ``"several"``: the estimator evaluates f itself.
    given_D
        What the gradient still depends on once D is given, for :func:`rbst.diagnose`: ``"fixed"`` (on
        nothing, ``pull_back`` draws no random number), ``"gumbel-rao"`` (it is the mean of ``num_samples``
        draws of ST-GS at ``tau`` given D; infinitely many for ``gr``) or ``"random"`` (on anything else).
        The first two are diagnosed exactly.
    tau, num_samples, baseline
        The temperature, the number of samples K and the baseline, of an estimator that has them.

    Examples
    --------
    An estimator of one's own, half of straight-through:

    >>> half = Estimator("half", "corner", lambda logits, D, g, rng: straight_through(logits, D, g) / 2)
    >>> half.evaluates
    'corner'
    """

    name: str
    evaluates: Literal["corner", "inside", "cost-only", "several"]
    pull_back: Callable[[Array, Array, Array, Any], Array] | None = None
    sample: Callable[[Array, Any], tuple[Array, Array]] = _sample_corner
    estimate: Callable[[Callable[[Array], Array], Array, Any], Array] | None = None
    given_D: Literal["fixed", "gumbel-rao", "random"] = "random"
    tau: float | None = None
    num_samples: float | None = None
    baseline: float | Array | None = None

    def __post_init__(self) -> None:
        kinds = ("corner", "inside", "cost-only", "several")
        if self.evaluates not in kinds:
            raise ValueError(
                f"evaluates must be one of {', '.join(kinds)}, got {self.evaluates!r}; choose by where "
                "the estimator needs f"
            )
        needed = "estimate" if self.evaluates == "several" else "pull_back"
        if getattr(self, needed) is None:
            raise ValueError(
                f"an estimator that evaluates {self.evaluates!r} needs {needed}, got None; pass a function"
            )
        laws = ("fixed", "gumbel-rao", "random")
        if self.given_D not in laws:
            raise ValueError(
                f"given_D must be one of {', '.join(laws)}, got {self.given_D!r}; leave it out if unsure"
            )
        if self.given_D == "gumbel-rao" and (self.tau is None or self.num_samples is None):
            raise ValueError(
                "an estimator that is 'gumbel-rao' given D needs tau and num_samples, got "
                f"{self.tau} and {self.num_samples}; pass both, num_samples=math.inf for the limit"
            )


@dataclass(frozen=True)
class Settings:
    """Parameters of :func:`get_estimator`; each estimator reads the ones it has."""

    tau: float
    baseline: float | Array
    importance_weights: bool
    rtol: float


@dataclass(frozen=True)
class Entry:
    """A row of the table of estimators: its name, how to build it, and what to know before choosing it."""

    name: str
    build: Callable[[str, Settings], Estimator]
    equation: str
    bias: str
    evaluations: str
    source: str


def _straight_through(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return straight_through(logits, D, df_dD, tau=settings.tau)

    return Estimator(name, "corner", pull_back, given_D="fixed", tau=settings.tau)


def _st_gumbel_softmax(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return st_gumbel_softmax(logits, D, df_dD, tau=settings.tau, rng=rng)

    return Estimator(
        name, "corner", pull_back, given_D="gumbel-rao", tau=settings.tau, num_samples=1
    )


def _gumbel_rao(name: str, settings: Settings) -> Estimator:
    num_samples = check_num_samples(int(name.removeprefix("gr-mc")))

    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return gumbel_rao(logits, D, df_dD, tau=settings.tau, num_samples=num_samples, rng=rng)

    return Estimator(
        name, "corner", pull_back, given_D="gumbel-rao", tau=settings.tau, num_samples=num_samples
    )


def _exact_gumbel_rao(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return exact_gumbel_rao(logits, D, df_dD, tau=settings.tau, rtol=settings.rtol)

    return Estimator(
        name, "corner", pull_back, given_D="gumbel-rao", tau=settings.tau, num_samples=math.inf
    )


def _zgr(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return zgr(logits, D, df_dD)

    return Estimator(name, "corner", pull_back, given_D="fixed")


def _reinmax(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return reinmax(logits, D, df_dD, tau=settings.tau)

    return Estimator(name, "corner", pull_back, given_D="fixed", tau=settings.tau)


def _gumbel_softmax(name: str, settings: Settings) -> Estimator:
    def sample(logits: Array, rng: Any) -> tuple[Array, Array]:
        S = sample_gumbel_softmax(logits, tau=settings.tau, rng=rng)
        return S, S

    def pull_back(logits: Array, S: Array, df_dS: Array, rng: Any) -> Array:
        return gumbel_softmax(logits, S, df_dS, tau=settings.tau)

    return Estimator(name, "inside", pull_back, sample, tau=settings.tau)


def _foust(name: str, settings: Settings) -> Estimator:
    def sample(logits: Array, rng: Any) -> tuple[Array, Array]:
        D = sample_categorical(logits, rng)
        return sample_contraction(D, rng), D

    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        return foust(logits, D, df_dD, importance_weights=settings.importance_weights)

    return Estimator(name, "inside", pull_back, sample)


def _score_function(name: str, settings: Settings) -> Estimator:
    def pull_back(logits: Array, D: Array, cost: Array, rng: Any) -> Array:
        return score_function(logits, D, cost, baseline=settings.baseline)

    return Estimator(name, "cost-only", pull_back, given_D="fixed", baseline=settings.baseline)


ESTIMATORS = (
    Entry(
        "st",
        _straight_through,
        "J(softmax_tau(theta))' g / tau",
        "none for linear f at tau = 1; biased otherwise",
        "f and df/dD once, at D",
        "Bengio et al. 2013; Paulus et al. 2021, Eq. 5",
    ),
    Entry(
        "st-gs",
        _st_gumbel_softmax,
        "J(S)' g / tau, S = softmax_tau(theta + G) coupled with D",
        "biased",
        "f and df/dD once, at D",
        "Jang et al. 2017; Paulus et al. 2021, Eq. 6",
    ),
    Entry(
        "gr-mcK",
        _gumbel_rao,
        "mean over k of J(S^k)' g / tau, S^k given D",
        "that of st-gs, for every K",
        "f and df/dD once, at D",
        "Paulus et al. 2021, Eq. 10",
    ),
    Entry(
        "gr",
        _exact_gumbel_rao,
        "E[J(S)' g / tau given D], by quadrature",
        "that of st-gs",
        "f and df/dD once, at D",
        "Paulus et al. 2021, Eq. 7",
    ),
    Entry(
        "zgr",
        _zgr,
        "[pi * (g - g_k) + (g_k - pi' g) D] / 2, the limit of gr as tau falls to 0",
        "none for quadratic f of one variable; biased otherwise",
        "f and df/dD once, at D",
        "Shekhovtsov 2023",
    ),
    Entry(
        "reinmax",
        _reinmax,
        "2 J((softmax_tau(theta) + D) / 2) g - J(pi) g / 2; at tau = 1 that of zgr",
        "none for quadratic f of one variable at tau = 1; biased otherwise",
        "f and df/dD once, at D",
        "Liu et al. 2023",
    ),
    Entry(
        "gs",
        _gumbel_softmax,
        "J(S)' df/dS / tau, S = softmax_tau(theta + G)",
        "none for E f(S); biased for E f(D)",
        "f and df/dS once, at S inside the simplex",
        "Maddison et al. 2017; Jang et al. 2017; Paulus et al. 2021, Eq. 4",
    ),
    Entry(
        "foust",
        _foust,
        "(1 - pi_k) (g_1 - g_2) / 2 (1, -1), g at u D + (1 - u) (1/2, 1/2)",
        "none for one Boolean variable; biased for several",
        "f and df/dD once, at a contracted point",
        "Pervez et al. 2020 (reconstructed)",
    ),
    Entry(
        "reinforce",
        _score_function,
        "(f(D) - b) (D - pi)",
        "none",
        "f once, at D; no derivative",
        "Williams 1992; Paulus et al. 2021, Eq. 2",
    ),
)
"""Every estimator that :func:`get_estimator` knows."""


def get_estimator(
    name: str,
    *,
    tau: float = 1.0,
    baseline: float | Array = 0.0,
    importance_weights: bool = True,
    rtol: float = 1e-6,
) -> Estimator:
    """The estimator of this name.

    Parameters
    ----------
    name
        A name of the table that ``rbst estimators`` prints; ``gr-mcK`` with a number for K: ``gr-mc100``.
    tau
        Temperature.
    baseline
        Baseline of ``reinforce``.
    importance_weights
        For ``foust``: False trades the importance weight 1/p for a 2.
    rtol
        Relative tolerance of ``gr``, at least 1e-11.

    Parameters that an estimator does not have are ignored, so that names can be swapped. Raises
    ``ValueError`` for an unknown name, with the nearest known one.

    Examples
    --------
    >>> get_estimator("gr-mc100", tau=0.5).name
    'gr-mc100'
    >>> get_estimator("gr-mc")
    Traceback (most recent call last):
    ValueError: unknown estimator 'gr-mc', did you mean 'gr-mcK' with a number K >= 1, such as 'gr-mc10'? Known: st, st-gs, gr-mcK, gr, zgr, reinmax, gs, foust, reinforce
    """
    settings = Settings(check_tau(tau), baseline, importance_weights, check_rtol(rtol))
    pattern = re.sub(r"^gr-mc\d+$", "gr-mcK", name) if isinstance(name, str) else name
    for entry in ESTIMATORS:
        if entry.name == pattern and name != "gr-mcK":
            return entry.build(name, settings)
    raise ValueError(_unknown(name))


def _unknown(name: object) -> str:
    known = [entry.name for entry in ESTIMATORS]
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f", did you mean '{nearest[0]}'" if nearest else ""
    if nearest == ["gr-mcK"]:
        hint += " with a number K >= 1, such as 'gr-mc10'"
    return f"unknown estimator {name!r}{hint}{'?' if hint else '.'} Known: {', '.join(known)}"
