r"""The likeliest cause of a failure: which of the well-known wrong answers an implementation gives.

A wrong answer (:mod:`rbst.crosscheck.mistakes`) is compared with what the implementation returned, number
by number where the noise is shared, else in the mean over many draws given each D. A cause is named only
if its answer fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rbst._array import Array
from rbst.crosscheck.cases import Case
from rbst.crosscheck.laws import Law
from rbst.crosscheck.mistakes import Mistake, mistakes_of
from rbst.crosscheck.moments import Sums, chi_square_p_value, quadratic_form

DRAWS = 2**15  # relaxed samples of each wrong answer, given each D
FEWEST_DRAWS = 2**12  # gradients
FITS = 1e-6  # the p-value above which a wrong answer fits
ROUNDING = 1e-6  # the part of a mean that is nothing
MOST_OBSERVATIONS = 3  # cases that a wrong answer is compared on
AVERAGED = "is divided by the size of the batch: sum the loss over the batch, do not average"
NO_MISTAKE = "matches none of the known mistakes"


@dataclass(frozen=True)
class Observation:
    """What an implementation gave on one case: sums over its gradients, for each D."""

    case: Case
    num_samples: int
    sums: list[Sums]


@dataclass(frozen=True)
class Sample:
    """The mean of gradients ``(n,)``, the covariance of that mean ``(n, n)``, and what is rounding in it."""

    mean: Array
    covariance: Array
    rounding: float

    @classmethod
    def of(cls, sums: Sums) -> Sample:
        """What an implementation gave for one D."""
        size = max(abs(sums.target.mean).max(), abs(sums.sample_mean).max())
        return cls(sums.sample_mean, sums.sample_covariance / sums.count, ROUNDING * float(size))


def same_means(pairs: list[tuple[Sample, Sample]]) -> float:
    """p-value of the hypothesis that the two samples of every pair have the same mean."""
    statistic = sum(_distance(*pair) for pair in pairs)
    return chi_square_p_value(statistic, sum(len(first.mean) for first, _ in pairs))


def _distance(first: Sample, second: Sample) -> float:
    """Chi-square of the difference of two means."""
    difference = first.mean - second.mean
    rounding = max(first.rounding, second.rounding, 1e-150)
    covariance = first.covariance + second.covariance + rounding**2 * np.eye(len(difference))
    return quadratic_form(covariance, difference)


def explain_mean(law: Law, observations: list[Observation], rng: np.random.Generator) -> str:
    """The cause of a wrong mean given D: the mistake that fits best, or the factor by which it is off.

    A mean can also fail because its noise is larger than it should be; then the variance is to blame.
    """
    observations = observations[:MOST_OBSERVATIONS]
    if not observations:
        return NO_MISTAKE
    if _mean_is_right(observations):
        first = observations[0]
        return explain_covariance(first.sums, first.num_samples)
    best, cause = FITS, ""
    for mistake, text in mistakes_of(law):
        p_value = _agreement(mistake, observations, rng)
        if p_value > best:
            best, cause = p_value, text
    return cause or _common_factor(observations)


def _mean_is_right(observations: list[Observation]) -> bool:
    """Whether the exact mean lies within the noise that the sample itself shows."""
    pairs = []
    for o in observations:
        for sums in o.sums:
            exact = Sample(sums.target.mean, np.zeros_like(sums.target.covariance), 0.0)
            pairs.append((Sample.of(sums), exact))
    return same_means(pairs) >= FITS


def _agreement(
    mistake: Mistake, observations: list[Observation], rng: np.random.Generator
) -> float:
    """p-value of the hypothesis that the implementation and a mistake have the same means given D."""
    pairs: list[tuple[Sample, Sample]] = []
    for observation, sums in ((o, sums) for o in observations for sums in o.sums):
        h = _draw(mistake, observation, sums.target.outcome, rng)
        if not np.isfinite(h).all():
            return 0.0
        mean = h.mean(axis=0)
        drawn = Sample(mean, np.cov(h.T) / len(h), ROUNDING * float(abs(mean).max()))
        pairs.append((Sample.of(sums), drawn))
        if same_means(pairs) < FITS:
            return 0.0
    return same_means(pairs)


def _draw(mistake: Mistake, o: Observation, outcome: int, rng: np.random.Generator) -> Array:
    """Many of the gradients that a mistake yields given ``D = e_outcome``."""
    shape = (max(FEWEST_DRAWS, DRAWS // o.num_samples), o.case.n)
    E = rng.standard_exponential((o.num_samples, *shape))
    rows = (o.case.logits, np.eye(o.case.n)[outcome], o.case.slopes[outcome])
    with np.errstate(all="ignore"):
        h = mistake(*(np.broadcast_to(row, shape) for row in rows), o.case.tau, E)
    return np.broadcast_to(h, shape)


def _common_factor(observations: list[Observation]) -> str:
    """The factor c of a mean that is c times the exact one, if there is such a c."""
    top = bottom = statistic = 0.0
    whitened = [(s, s.target.mean @ s.target.whitening) for o in observations for s in o.sums]
    for s, exact in whitened:
        top += s.count * (exact @ (exact + s.y_mean))
        bottom += s.count * (exact @ exact)
    factor = top / bottom
    for s, exact in whitened:
        rest = exact + s.y_mean - factor * exact
        statistic += s.count * (rest @ rest) / max(factor**2, 1e-12)
    degrees = sum(s.target.rank for s, _ in whitened) - 1
    if chi_square_p_value(statistic, degrees) >= FITS:
        return f"{NO_MISTAKE}; the mean is {factor:.4g} times the exact one"
    return NO_MISTAKE


def explain_covariance(sums: list[Sums], num_samples: int) -> str:
    """The cause of a wrong covariance under a right mean, read from the variance."""
    found = sum(np.trace(s.sample_covariance) for s in sums)
    ratio = found / sum(np.trace(s.target.covariance) for s in sums)
    if ratio < 1e-6:
        return "there is no noise given D: matches the limit of K to infinity"
    samples = num_samples / ratio
    if num_samples > 1 and 0.9 < samples < 1.1:
        return "the variance is that of K = 1: the K samples share one noise, or K is ignored"
    return f"the variance is {ratio:.3g} times the exact one, that of K = {samples:.3g} samples"


def explain_value(
    law: Law, logits: Array, D: Array, df_dD: Array, tau: float, E: Array | None, found: Array
) -> str:
    """The cause of a wrong answer that leaves nothing to chance: the mistake with the same numbers."""
    tolerance = 1e-3 if str(logits.dtype) == "float32" else 1e-6
    inputs = [array.astype(np.float64) for array in (logits, D, df_dD)]
    E = None if E is None else E.astype(np.float64)

    def fits(answer: Array) -> bool:
        size = np.nanmax(abs(answer), initial=0.0)
        return np.allclose(answer, found, rtol=0, atol=tolerance * size + 1e-300)

    with np.errstate(all="ignore"):
        for mistake, text in mistakes_of(law):
            if fits(np.asarray(mistake(*inputs, tau, E))):
                return text
        right = law.mean(*inputs, tau) if E is None else law.with_noise(*inputs, tau, E)
        if fits(right * D.shape[-1] / D.size):
            return AVERAGED
        for other_order in () if E is None else _orders(E):
            if fits(law.with_noise(*inputs, tau, other_order)):
                return "matches the exponentials read in another order: they are (K, ..., n)"
    return NO_MISTAKE


def _orders(E: Array) -> tuple[Array, Array]:
    """The noise with its categories in reverse, and read as ``(..., n, K)``."""
    return E[..., ::-1], np.moveaxis(E, 0, -1).reshape(E.shape)
