r"""Estimators by name, so that a model, an experiment or a diagnosis swaps them by changing one word.

An :class:`Estimator` says where f is needed and how its gradient is pulled back to the logits. The table
:data:`ESTIMATORS` describes each name; :func:`get_estimator` builds one. An estimator of your own is an
``Estimator(...)`` like any other and never needs to touch the table.
"""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from typing import Any, Literal, cast, get_args

from rbst._array import Array
from rbst._checks import (
    check_array,
    check_count,
    check_finite,
    check_num_samples,
    check_number,
    check_tau,
)
from rbst.categorical import sample_categorical
from rbst.estimators.antithetic import arm, arsm, disarm
from rbst.estimators.control_variates import muprop, rebar, relax
from rbst.estimators.gapped import (
    decoupled_gumbel_softmax,
    gapped_straight_through,
    sample_decoupled,
)
from rbst.estimators.gumbel_rao import exact_gumbel_rao, gumbel_rao
from rbst.estimators.leave_one_out import double_cv, rloo
from rbst.estimators.minimum_variance import minimum_variance
from rbst.estimators.reinmax_rao import exact_reinmax_rao, reinmax_cv, reinmax_rao
from rbst.estimators.relaxed import foust, gumbel_softmax, sample_contraction, sample_gumbel_softmax
from rbst.estimators.score_function import score_function
from rbst.estimators.straight_through import st_gumbel_softmax, straight_through
from rbst.estimators.without_replacement import sum_and_sample, unordered_set
from rbst.estimators.zero_temperature import reinmax, zgr
from rbst.rao_blackwell import check_rtol

Evaluates = Literal["corner", "inside", "cost-only", "several"]
GivenD = Literal["fixed", "gumbel-rao", "random"]


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
        ``(f, logits, rng) -> gradient`` for ``"several"``: the estimator evaluates f itself. One with a
        parameter ``df_dD`` is given the derivative of f.
    given_D
        What the gradient still depends on once D is given, for :func:`rbst.diagnose`: ``"fixed"`` (on
        nothing, ``pull_back`` draws no random number), ``"gumbel-rao"`` (it is the mean of ``num_samples``
        draws of ST-GS at ``tau`` given D; infinitely many for ``gr``) or ``"random"`` (on anything else).
        The first two are diagnosed exactly.
    tau, num_samples, baseline
        The temperature, the number of samples K and the baseline, of an estimator that has them.
    categories
        The number of categories that it is made for: 2 for a Boolean one, None for any.

    Examples
    --------
    An estimator of one's own, half of straight-through, which draws nothing once D is given; so it says, and
    :func:`rbst.diagnose` needs no sampling:

    >>> pull_back = lambda logits, D, g, rng: straight_through(logits, D, g) / 2
    >>> half = Estimator("half", "corner", pull_back, given_D="fixed")
    >>> import numpy as np
    >>> from rbst import diagnose
    >>> from rbst.problems import LINEAR
    >>> diagnosis = diagnose(half, LINEAR.f, np.log([[0.2, 0.3, 0.5]]))
    >>> diagnosis.method, round(float(diagnosis.relative_bias), 6)
    ('exact', 0.5)
    """

    name: str
    evaluates: Evaluates
    # None only where the estimator has the other one: to a type checker both are functions.
    pull_back: Callable[[Array, Array, Array, Any], Array] = None  # type: ignore[assignment]
    sample: Callable[[Array, Any], tuple[Array, Array]] = _sample_corner
    estimate: Callable[..., Array] = None  # type: ignore[assignment]
    given_D: GivenD = "random"
    tau: float | None = None
    num_samples: float | None = None
    baseline: float | Array | None = None
    categories: int | None = None

    def __post_init__(self) -> None:
        kinds = get_args(Evaluates)
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
        laws = {"fixed": ("corner", "cost-only"), "gumbel-rao": ("corner",), "random": kinds}
        if self.given_D not in laws:
            raise ValueError(
                f"given_D must be one of {', '.join(laws)}, got {self.given_D!r}; leave it out if unsure"
            )
        if self.evaluates not in laws[self.given_D]:
            raise ValueError(
                f"an estimator that is {self.given_D!r} given D evaluates {' or '.join(map(repr, laws[self.given_D]))}, "
                f"got {self.evaluates!r}; leave given_D out"
            )
        if self.tau is not None:
            check_tau(self.tau)
        if self.num_samples is not None and self.num_samples != math.inf:
            check_num_samples(cast("int", self.num_samples))
        if self.baseline is not None:
            if isinstance(self.baseline, numbers.Rational):
                object.__setattr__(self, "baseline", check_number("baseline", self.baseline))
            check_finite("baseline", check_array("baseline", self.baseline), "0.0 is the default")
        if self.given_D == "gumbel-rao" and (self.tau is None or self.num_samples is None):
            raise ValueError(
                "an estimator that is 'gumbel-rao' given D needs tau and num_samples, got "
                f"{self.tau} and {self.num_samples}; pass both, num_samples=math.inf for the limit"
            )


# Where f is evaluated, and what the pull-back is told of it: pairs (point, sample).


def _sample_relaxed(logits: Array, rng: Any, *, tau: float) -> tuple[Array, Array]:
    S = sample_gumbel_softmax(logits, tau=tau, rng=rng)
    return S, S


def _sample_contracted(logits: Array, rng: Any) -> tuple[Array, Array]:
    D = sample_categorical(logits, rng)
    return sample_contraction(D, rng), D


# The table.


@dataclass(frozen=True)
class Entry:
    """A row of the table of estimators: its function, and what to know before choosing it.

    Attributes
    ----------
    name
        What :func:`get_estimator` calls it; a K at its end stands for a number of samples.
    function
        ``(logits, sample, signal, ...) -> gradient``, or ``(f, logits, ...)`` for one that evaluates f itself.
        Parameters after these are given by name: those of :func:`get_estimator`, the
        ``num_samples`` of a name with a K, and ``rng`` for a function that draws.
    equation, bias, source
        For the table that ``rbst estimators`` prints; the bias is ``"none"`` for an unbiased estimator.
    evaluates, sample, given_D, num_samples, categories
        As in :class:`Estimator`. A function of f ``evaluates`` at ``"several"`` points, a function of a cost is
        ``"cost-only"``; without ``given_D`` a function of D that does not draw is ``"fixed"`` and any other ``"random"``.
    evaluations
        How often f and its derivative are evaluated; to be given where ``evaluates`` does not say it.
    """

    name: str
    function: Callable[..., Array]
    equation: str
    bias: str
    source: str
    evaluates: Evaluates = "corner"
    sample: Callable[..., tuple[Array, Array]] = _sample_corner
    given_D: GivenD | None = None
    num_samples: float | None = None
    categories: int | None = None
    evaluations: str = ""

    def __post_init__(self) -> None:
        takes = parameters(self.function)
        evaluates = (
            "several" if "f" in takes else "cost-only" if "cost" in takes else self.evaluates
        )
        fixed = evaluates in ("corner", "cost-only") and "rng" not in takes
        derived = {
            "evaluates": evaluates,
            "given_D": self.given_D or ("fixed" if fixed else "random"),
            "evaluations": self.evaluations or EVALUATIONS[evaluates],
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def with_samples(self, num_samples: int) -> str:
        """The name, with a number for its K if it has one: ``gr-mc10``."""
        return f"{self.name[:-1]}{num_samples}" if self.name.endswith("K") else self.name


EVALUATIONS = {
    "corner": "f and df/dD once, at D",
    "inside": "f and df/dS once, at S inside the simplex",
    "cost-only": "f once, at D; no derivative",
    "several": "f at several points",
}


@cache
def parameters(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters of a function.

    Examples
    --------
    >>> sorted(parameters(st_gumbel_softmax) - {"logits", "D", "df_dD"})
    ['rng', 'tau']
    """
    return frozenset(signature(function).parameters)


ESTIMATORS = (
    Entry(
        "st",
        straight_through,
        "J(softmax_tau(theta))' g / tau",
        "none for f linear in each of any number of variables at tau = 1; biased in general",
        "Bengio et al. 2013; slope-annealed: Chung et al. 2017; Paulus et al. 2021, Eq. 5",
    ),
    Entry(
        "st-gs",
        st_gumbel_softmax,
        "J(S)' g / tau, S = softmax_tau(theta + G) coupled with D",
        "biased",
        "Jang et al. 2017; Paulus et al. 2021, Eq. 6",
        given_D="gumbel-rao",
        num_samples=1,
    ),
    Entry(
        "gr-mcK",
        gumbel_rao,
        "mean over k of J(S^k)' g / tau, S^k given D",
        "that of st-gs, for every K",
        "Paulus et al. 2021, Eq. 10",
        given_D="gumbel-rao",
    ),
    Entry(
        "gr",
        exact_gumbel_rao,
        "E[J(S)' g / tau given D], by quadrature",
        "that of st-gs",
        "Paulus et al. 2021, Eq. 7",
        given_D="gumbel-rao",
        num_samples=math.inf,
    ),
    Entry(
        "zgr",
        zgr,
        "[pi * (g - g_k) + (g_k - pi' g) D] / 2, the limit of gr as tau falls to 0",
        "none for f quadratic in each of any number of variables; biased in general",
        "Shekhovtsov 2023",
    ),
    Entry(
        "reinmax",
        reinmax,
        "2 J((softmax_tau(theta) + D) / 2) g - J(pi) g / 2; at tau = 1 that of zgr",
        "none for f quadratic in each of any number of variables at tau = 1; biased in general",
        "Liu et al. 2023",
    ),
    Entry(
        "gs",
        gumbel_softmax,
        "J(S)' df/dS / tau, S = softmax_tau(theta + G)",
        "none for E f(S); biased for E f(D)",
        "Maddison et al. 2017; Jang et al. 2017; Paulus et al. 2021, Eq. 4",
        evaluates="inside",
        sample=_sample_relaxed,
    ),
    Entry(
        "foust",
        foust,
        "(1 - pi_k) (g_1 - g_2) / 2 (1, -1), g at u D + (1 - u) (1/2, 1/2)",
        "none for one Boolean variable; biased for several",
        "Pervez et al. 2020 (reconstructed)",
        evaluates="inside",
        sample=_sample_contracted,
        categories=2,
        evaluations="f and df/dD once, at a contracted point",
    ),
    Entry(
        "reinforce",
        score_function,
        "(f(D) - b) (D - pi)",
        "none",
        "Williams 1992; Paulus et al. 2021, Eq. 2",
    ),
    Entry(
        "reinmax-rao",
        exact_reinmax_rao,
        "2 E[J(S) / tau given D] g - J(pi) g / 2, S = softmax_tau(log((pi + D) / 2) + G), by quadrature",
        "biased, for linear f too",
        "Wang and Bui 2026",
    ),
    Entry(
        "reinmax-rao-mcK",
        reinmax_rao,
        "reinmax-rao with the mean of K samples for its expectation",
        "that of reinmax-rao, for every K",
        "Wang and Bui 2026",
    ),
    Entry(
        "reinmax-cv",
        reinmax_cv,
        "reinmax + eta (mean of K J(S^k)' g / tau given D - J(S)' g / tau), S from the noise that drew D, all at log((pi + D) / 2)",
        "biased: its two relaxations have different means given D",
        "Wang and Bui 2026, after the authors' code",
    ),
    Entry(
        "gst",
        gapped_straight_through,
        "J(q)' g / tau, q = softmax_tau(theta moved until D leads by a gap)",
        "biased",
        "Fan et al. 2022",
    ),
    Entry(
        "gst-p",
        partial(gapped_straight_through, gap=None),
        "gst with the gap -log(1 - pi_k) / pi_k",
        "biased",
        "Fan et al. 2022",
    ),
    Entry(
        "decoupled-st-gs",
        decoupled_gumbel_softmax,
        "J(softmax_tau(x))' g / tau, x = theta + G, f at the argmax of x: st-gs, whatever the forward temperature",
        "that of st-gs",
        "Shah et al. 2024",
        sample=sample_decoupled,
        given_D="random",
    ),
    Entry(
        "mve",
        minimum_variance,
        "S_k' g, S_k from the table of matrices of least variance for a weight lambda on the bias",
        "none for f linear in each of any number of variables; biased in general",
        "Hooper and Shekhovtsov 2026",
    ),
    Entry(
        "rloo",
        rloo,
        "mean over K of (f_k - mean of the other f) (D_k - pi)",
        "none",
        "Kool et al. 2019",
        evaluations="f K times, at samples",
    ),
    Entry(
        "double-cv",
        double_cv,
        "rloo of what the mean gradient of the others leaves, and J(pi) of the mean gradient",
        "none",
        "Titsias and Shi 2022",
        evaluations="f and df/dD K times, at samples",
    ),
    Entry(
        "sum-and-sample",
        sum_and_sample,
        "sum over the likeliest of f_i pi_i (e_i - pi), and one sample for the rest",
        "none",
        "Liu et al. 2019",
        evaluations="f twice for each variable",
    ),
    Entry(
        "unordered-set",
        unordered_set,
        "(1 - pi_a) (1 - pi_b) / (2 - pi_a - pi_b) (f_a - f_b) (e_a - e_b), a and b without replacement",
        "none",
        "Kool et al. 2020",
        evaluations="f once, and once for each variable",
    ),
    Entry(
        "arm",
        arm,
        "(f(b) - f(b~)) (u - 1/2), b and b~ from u and 1 - u",
        "none",
        "Yin and Zhou 2019",
        categories=2,
        evaluations="f twice, at samples",
    ),
    Entry(
        "disarm",
        disarm,
        "(f(b) - f(b~)) (b - b~) sigma(|phi|) / 2, the mean of arm given b and b~",
        "none",
        "Dong et al. 2020; Yin et al. 2020",
        categories=2,
        evaluations="f twice, at samples",
    ),
    Entry(
        "arsm",
        arsm,
        "sum over j of (F_cj - mean over m of F_mj) (1/n - varpi_j), F_cj with entries c and j of varpi swapped",
        "none",
        "Yin et al. 2019",
        evaluations="f n (n - 1) / 2 + 1 times, at samples",
    ),
    Entry(
        "muprop",
        muprop,
        "(f(D) - f(pi) - df(pi)' (D - pi)) (D - pi) + J(pi) df(pi)",
        "none",
        "Gu et al. 2016",
        evaluations="f at D and at pi, df/dD at pi",
    ),
    Entry(
        "rebar",
        rebar,
        "relax with c(z) = eta f(softmax_tau(z))",
        "none",
        "Tucker et al. 2017",
        evaluations="f at D and at a relaxed sample, df/dS at two",
    ),
    Entry(
        "relax",
        relax,
        "(f(D) - c(z~)) (D - pi) + dc(z)/dtheta - dc(z~)/dtheta, z~ given D; c is any smooth function",
        "none",
        "Grathwohl et al. 2018",
        evaluations="f once, at D; c once, its derivative twice",
    ),
)
"""Every estimator that :func:`get_estimator` knows."""


def as_estimator(estimator: Estimator | str) -> Estimator:
    """An estimator as it is, or the one of a name, at a temperature of 1."""
    if isinstance(estimator, str):
        return get_estimator(estimator)
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"estimator must be a name or an Estimator, got {type(estimator).__name__}; get_estimator makes one "
            "of a name, and Estimator one of a function of your own"
        )
    return estimator


def get_estimator(
    name: str,
    *,
    tau: float = 1.0,
    baseline: float | Array = 0.0,
    importance_weights: bool = True,
    rtol: float = 1e-6,
    num_samples: int | None = None,
    weight: float | None = None,
    gap: float | None = None,
    regularization: float | None = None,
    num_summed: int | None = None,
    control: tuple[Callable[[Array], Array], Callable[[Array], Array]] | None = None,
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
        Relative tolerance of ``gr`` and ``reinmax-rao``, at least 1e-11.
    num_samples
        K, where the name has none: of ``rloo`` and ``double-cv`` (by default 2), of ``reinmax-cv`` (100).
    weight
        Of the control variate: of ``rebar`` and ``double-cv`` (by default 1), of ``reinmax-cv`` (by default 0.5).
    gap
        Of ``gst``, by default 1.
    regularization
        The weight on the bias of ``mve``, by default 1.
    num_summed
        Categories that ``sum-and-sample`` sums over, by default 1.
    control
        The control variate of ``relax``, a function of the located Gumbels and its derivative; by default that of
        ``rebar``.

    Notes
    -----
    Parameters that an estimator does not have are ignored, so that names can be swapped. Raises
    ``ValueError`` for an unknown name, with the nearest known one.

    Examples
    --------
    >>> get_estimator("gr-mc100", tau=0.5).name
    'gr-mc100'
    >>> get_estimator("gr-mc")
    Traceback (most recent call last):
    ValueError: unknown estimator 'gr-mc', did you mean 'gr-mcK' with a number K >= 1, such as 'gr-mc10'? Known: st, st-gs, gr-mcK, ...
    """
    entry, samples_in_name = find_entry(name)
    given = {
        "tau": check_tau(tau),
        "baseline": baseline,
        "importance_weights": importance_weights,
        "rtol": check_rtol(rtol),
        "num_samples": samples_in_name or num_samples,
        "weight": weight,
        "gap": gap,
        "regularization": regularization,
        "num_summed": num_summed,
        "control": control,
    }
    given = {key: value for key, value in given.items() if value is not None}
    _check_given(given)
    taken, sampled = _taken(entry.function, given), _taken(entry.sample, given)
    several = entry.evaluates == "several"
    call = partial(_estimate if several else _pull_back, entry.function, taken)
    functions: dict[str, Any] = {"estimate" if several else "pull_back": call}
    return Estimator(
        name,
        entry.evaluates,
        sample=partial(entry.sample, **sampled) if sampled else entry.sample,
        given_D=entry.given_D or "random",
        tau=taken.get("tau"),
        num_samples=taken.get("num_samples", entry.num_samples),
        baseline=taken.get("baseline"),
        categories=entry.categories,
        **functions,
    )


def _check_given(given: dict[str, Any]) -> None:
    """What is given by name must make sense, whether this estimator takes it or not."""
    for name in ("weight", "gap", "regularization"):
        if name in given:
            lowest = -math.inf if name == "weight" else 0
            given[name] = check_number(name, given[name], at_least=lowest)
    if "num_summed" in given:
        check_count("num_summed", given["num_summed"])


def _taken(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a function takes of what is given by name."""
    return {key: value for key, value in given.items() if key in parameters(function)}


def _pull_back(
    function: Callable[..., Array],
    taken: dict[str, Any],
    logits: Array,
    sample: Array,
    signal: Array,
    rng: Any,
) -> Array:
    return function(logits, sample, signal, **taken, **_taken(function, {"rng": rng}))


def _estimate(
    function: Callable[..., Array],
    taken: dict[str, Any],
    f: Callable[[Array], Array],
    logits: Array,
    rng: Any,
    df_dD: Callable[[Array], Array] | None = None,
) -> Array:
    return function(f, logits, **taken, **_taken(function, {"rng": rng, "df_dD": df_dD}))


def find_entry(name: str) -> tuple[Entry, int | None]:
    """The row of this name, and the number that stands for its K."""
    for entry in ESTIMATORS if isinstance(name, str) else ():
        if not entry.name.endswith("K"):
            if entry.name == name:
                return entry, None
        # One spelling for each K, so that no estimator has two names; int() takes no more digits than this.
        elif match := re.fullmatch(re.escape(entry.name[:-1]) + "(0|[1-9][0-9]{0,99})", name):
            return entry, check_num_samples(int(match[1]))
    raise ValueError(_unknown(name))


def has_own_law(estimator: Estimator) -> bool:
    """Whether an estimator says of its law what the table says of it: as it was built, not as it was changed."""
    call = estimator.pull_back
    if not (isinstance(call, partial) and call.func is _pull_back):
        return False
    function, taken = call.args
    entry = next(entry for entry in ESTIMATORS if entry.function is function)
    table = entry.given_D, taken.get("num_samples", entry.num_samples), taken.get("tau")
    return table == (estimator.given_D, estimator.num_samples, estimator.tau)


def differentiates(estimator: Estimator) -> bool:
    """Whether an estimator is given the derivative of f."""
    call = estimator.estimate
    if estimator.evaluates != "several" or call is None:
        return estimator.evaluates != "cost-only"
    if isinstance(call, partial) and call.func is _estimate:
        function, taken = call.args
        return "df_dD" in parameters(function) and "control" not in taken
    return "df_dD" in parameters(call)


EVERYDAY = {
    "gumbelrao": "gr",
    "raoblackwell": "gr",
    "gumbelsoftmax": "gs",
    "concrete": "gs",
    "straightthrough": "st",
    "ste": "st",
    "gumbelsoftmaxhard": "st-gs",
    "stgumbelsoftmax": "st-gs",
    "straightthroughgumbelsoftmax": "st-gs",
    "scorefunction": "reinforce",
}
"""What some estimators are called elsewhere, in small letters and nothing else."""


def _unknown(name: object) -> str:
    known = [entry.name for entry in ESTIMATORS]
    shown = str(name)[:80]
    nearest = _nearest(shown, known)
    hint = f", did you mean '{nearest}'" if nearest else ""
    if nearest.endswith("K"):
        hint += f" with a number K >= 1, such as '{nearest[:-1]}10'"
    shown = repr(shown if isinstance(name, str) else name)
    return f"unknown estimator {shown}{hint}{'?' if hint else '.'} Known: {', '.join(known)}"


def _nearest(name: str, known: list[str]) -> str:
    """The name that is meant, or the nearest one if it is near."""
    if with_number := re.fullmatch(
        r"(gr|gumbel[-_ ]?rao)[-_ ]?(mc)?[_ ]?([1-9][0-9]{0,9})", name.lower()
    ):
        return f"gr-mc{with_number[3]}"
    plain = re.sub("[^a-z0-9]", "", name.lower())
    usual = EVERYDAY | {entry.replace("-", "").lower(): entry for entry in known}
    return usual.get(plain) or next(iter(difflib.get_close_matches(name, known, n=1)), "")
