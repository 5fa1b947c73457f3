r"""The well-known wrong answers, and which of them an implementation gives.

Each wrong answer is computed here like a right one, from the same inputs, and compared with what the
implementation returned: number by number where the noise is shared, else in the mean over many draws
given each D. A cause is named only if its answer fits. The functions of :data:`GUMBEL_MISTAKES` map
``(logits, D, df_dD, tau, E)``, E of shape ``(K, ..., n)``, to one gradient; x denotes the located
Gumbels of Eq. 9 (Paulus et al. (2021)), S their tempered softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rbst._array import Array
from rbst.categorical import softmax, softmax_vjp
from rbst.crosscheck.cases import Case
from rbst.crosscheck.laws import Law, checkable, get_law
from rbst.crosscheck.moments import Sums, chi_square_p_value
from rbst.gumbel import conditional_gumbels
from rbst.rao_blackwell import conditional_mean

DRAWS = 2**15  # of each wrong answer, given each D
FITS = 1e-6  # the p-value above which a wrong answer fits


def _pull_back(x: Array, df_dD: Array, tau: float) -> Array:
    """Mean over the samples of J(softmax_tau(x))' g / tau."""
    S = _softmax(x / tau)
    return (softmax_vjp(S, df_dD) / tau).mean(axis=0)


def _softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def through_eq_9(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    r"""The derivative of Eq. 9 as well: :math:`\partial x_j / \partial \theta_m = \rho_j \delta_{jm} + (1 - \rho_j) \pi_m`.

    Here :math:`\rho_j` is the share of :math:`E_j / \pi_j` in :math:`E_j / \pi_j + E_i`, and 0 for the
    selected category.
    """
    pi = softmax(logits)
    E_selected = (E * D).sum(axis=-1, keepdims=True)
    share = np.where(D == 1, 0, E / (E + pi * E_selected))
    S = _softmax(conditional_gumbels(logits, D, E) / tau)
    v = softmax_vjp(S, df_dD) / tau
    return (v * share + pi * (v * (1 - share)).sum(axis=-1, keepdims=True)).mean(axis=0)


def theta_twice(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The logits added to located Gumbels, which contain them already."""
    return _pull_back(conditional_gumbels(logits, D, E) + logits, df_dD, tau)


def no_factor(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The factor 1/tau of the derivative forgotten."""
    return tau * _pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def factor_twice(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The factor 1/tau of the derivative taken twice."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, tau) / tau


def no_temperature(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """tau left out of the softmax and of its derivative."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, 1.0)


def no_temperature_in_softmax(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """tau left out of the softmax, not of its derivative."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, 1.0) / tau


def times_tau(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The located Gumbels multiplied by tau in the place of divided by it."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, 1 / tau)


def tempered_location(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The logits divided by tau before the Gumbels are located."""
    return _pull_back(conditional_gumbels(logits / tau, D, E), df_dD, tau)


def summed(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The sum over the K samples in the place of their mean."""
    return len(E) * _pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def divided_twice(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The mean over the K samples divided by K once more."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, tau) / len(E)


def jacobian_at_mean(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The Jacobian at the mean of the K relaxed samples, not the mean of the Jacobians."""
    S = _softmax(conditional_gumbels(logits, D, E) / tau).mean(axis=0)
    return softmax_vjp(S, df_dD) / tau


def softmax_at_mean(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The softmax at the mean of the K located Gumbels."""
    return _pull_back(conditional_gumbels(logits, D, E).mean(axis=0, keepdims=True), df_dD, tau)


def unconditional(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Gumbels that are not given D."""
    return _pull_back(logits - np.log(E), df_dD, tau)


def wrong_sign_of_gumbels(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Gumbels of the wrong sign, and not given D."""
    return _pull_back(logits + np.log(E), df_dD, tau)


def only_the_winner_located(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The maximum has its law given D, and the others are free to exceed it."""
    free = logits - np.log(E)
    return _pull_back(np.where(D == 1, conditional_gumbels(logits, D, E), free), df_dD, tau)


def logits_forgotten(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Eq. 9 for logits that are all 0."""
    return _pull_back(conditional_gumbels(np.zeros_like(logits), D, E), df_dD, tau)


def unnormalised(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Eq. 9 with Z = 1, as if the logits were log-probabilities."""
    E_selected = (E * D).sum(axis=-1, keepdims=True)
    others = -np.log(E / np.exp(logits) + E_selected)
    return _pull_back(np.where(D == 1, -np.log(E_selected), others), df_dD, tau)


def soft_selection(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Eq. 9 blended by the tempered softmax of the logits, which stands where D should."""
    soft = softmax(logits, tau)
    pi = softmax(logits)
    E_selected = (E * soft).sum(axis=-1, keepdims=True)
    x = -soft * np.log(E_selected) - (1 - soft) * np.log(E / pi + E_selected)
    return _pull_back(x, df_dD, tau)


def soft_selection_of_sample(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Eq. 9 blended by a relaxed sample given D in the place of D."""
    soft = _softmax(conditional_gumbels(logits, D, E) / tau)
    pi = softmax(logits)
    E_selected = (E * soft).sum(axis=-1, keepdims=True)
    x = -soft * np.log(E_selected) - (1 - soft) * np.log(E / pi + E_selected)
    return _pull_back(x, df_dD, tau)


def probabilities_as_logits(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return _pull_back(conditional_gumbels(softmax(logits), D, E), df_dD, tau)


def rectified(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return _pull_back(conditional_gumbels(np.where(logits > 0, logits, 0.0), D, E), df_dD, tau)


def diagonal_only(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    S = _softmax(conditional_gumbels(logits, D, E) / tau)
    return (S * df_dD / tau).mean(axis=0)


def for_probabilities(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, tau) / softmax(logits)


def negated(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return -_pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def untouched(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return df_dD


def zero(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    return np.zeros_like(df_dD)


GUMBEL_MISTAKES = {
    through_eq_9: "matches the derivative through Eq. 9: D stays put, so differentiate at x only",
    theta_twice: "matches theta counted twice: x of Eq. 9 contains it already",
    no_factor: "off by 1/tau: the factor of the Jacobian of a tempered softmax is missing",
    factor_twice: "off by 1/tau: the factor of the Jacobian is there twice",
    no_temperature: "matches tau = 1: the temperature is ignored",
    no_temperature_in_softmax: "matches S at tau = 1: the temperature enters the factor 1/tau only",
    times_tau: "matches the temperature 1/tau: x is multiplied by tau in the place of a division",
    tempered_location: "matches Gumbels located at theta / tau: the temperature comes after the noise",
    summed: "matches the sum over the K samples: divide by K",
    divided_twice: "off by 1/K: the mean over the samples is taken twice",
    jacobian_at_mean: "matches one Jacobian at the mean of the K samples: average Jacobians instead",
    softmax_at_mean: "matches one softmax at the mean of the K Gumbels: average Jacobians instead",
    unconditional: "matches fresh Gumbels that are not drawn given D",
    wrong_sign_of_gumbels: "matches Gumbels of the wrong sign: G = -log E",
    only_the_winner_located: "matches Gumbels of the others that may exceed that of D",
    logits_forgotten: "matches logits of 0: theta is left out of Eq. 9",
    unnormalised: "matches Eq. 9 with Z = 1: the logits are taken for log-probabilities",
    soft_selection: "matches a softmax of the logits in the place of the one-hot D",
    soft_selection_of_sample: "matches a relaxed sample in the place of the one-hot D",
    probabilities_as_logits: "matches probabilities passed where logits are wanted",
    rectified: "matches logits passed through a ReLU: negative ones count as 0",
    diagonal_only: "matches diag(S) g / tau: the term -S S' g of the Jacobian is missing",
    for_probabilities: "matches a gradient for the probabilities: multiply by their Jacobian",
    negated: "matches the right answer with the sign reversed",
    untouched: "matches df/dD: nothing is pulled back to the logits",
    zero: "is zero: no gradient reaches the logits",
}
"""Wrong versions of Gumbel-Rao, each with what to say of it; the particular before the general."""


def control_variate_not_given_D(
    logits: Array, D: Array, df_dD: Array, tau: float, E: Array
) -> Array:
    theta_D = np.log((softmax(logits) + D) / 2)
    reinmax = get_law("reinmax-cv").mean(logits, D, df_dD, tau)
    return reinmax + _exact(theta_D, D, df_dD, tau) - _pull_back(theta_D - np.log(E), df_dD, tau)


def control_variate_at_logits(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    theta_D = np.log((softmax(logits) + D) / 2)
    reinmax = get_law("reinmax-cv").mean(logits, D, df_dD, tau)
    h = _pull_back(conditional_gumbels(logits, D, E), df_dD, tau)
    return reinmax + _exact(theta_D, D, df_dD, tau) - h


def _exact(logits: Array, D: Array, df_dD: Array, tau: float) -> Array:
    """The conditional mean for rows that are all alike: one quadrature."""
    one = (array[..., :1, :] for array in (logits, D, df_dD))
    return conditional_mean(*one, tau=tau)


CONTROL_VARIATE_MISTAKES = {
    control_variate_not_given_D: "matches a control variate whose sample is not drawn given D",
    control_variate_at_logits: "matches a control variate whose sample is located at theta, not theta_D",
    untouched: GUMBEL_MISTAKES[untouched],
    zero: GUMBEL_MISTAKES[zero],
}


def mistakes_of(law: Law) -> Iterator[tuple[Callable[..., Array], str]]:
    """The wrong answers that somebody who implements this law may give."""
    if law.with_noise is not None:
        yield from GUMBEL_MISTAKES.items()
    elif law.covariance is not None:
        yield from CONTROL_VARIATE_MISTAKES.items()
    else:
        yield from _scaled_answers(law)
    yield from _other_estimators(law)


def _scaled_answers(law: Law) -> Iterator[tuple[Callable[..., Array], str]]:
    factors = (
        (lambda tau: tau, "off by 1/tau: the factor of the Jacobian is missing"),
        (lambda tau: 1 / tau, "off by 1/tau: the factor is there once too often"),
        (lambda tau: -1.0, "matches the right answer with the sign reversed"),
        (lambda tau: 2.0, "is twice the right answer"),
        (lambda tau: 0.5, "is half the right answer"),
    )
    for factor, text in factors:
        yield lambda *a, factor=factor: factor(a[3]) * law.mean(*a[:4]), text
    yield lambda *a: law.mean(*a[:3], 1.0), "matches tau = 1: the temperature is ignored"
    yield lambda *a: law.mean(*a[:3], 1 / a[3]), "matches the temperature 1/tau"
    if not law.takes_cost:
        yield untouched, GUMBEL_MISTAKES[untouched]
    yield lambda *a: np.zeros_like(a[0]), GUMBEL_MISTAKES[zero]


def _other_estimators(law: Law) -> Iterator[tuple[Callable[..., Array], str]]:
    for name in checkable():
        same_mean = law.covariance is not None and name in ("st-gs", "gr")
        if "K" not in name and name != law.estimator and not same_mean:
            other = get_law(name)
            if other.takes_cost == law.takes_cost and other.covariance is None:
                yield lambda *a, other=other: other.mean(*a[:4]), f"matches the estimator {name!r}"


@dataclass(frozen=True)
class Observation:
    """What an implementation gave on one case: sums over its gradients, for each D."""

    case: Case
    num_samples: int
    sums: list[Sums]


def explain_mean(law: Law, observations: list[Observation], rng: np.random.Generator) -> str:
    """The cause of a wrong conditional mean: the mistake that fits best, or the factor by which it is off."""
    if not observations:
        return "not the gradient of a softmax"
    best, cause = FITS, ""
    for mistake, text in mistakes_of(law):
        p_value = _agreement(mistake, observations, rng)
        if p_value > best:
            best, cause = p_value, text
    return cause or _common_factor(observations)


def _agreement(
    mistake: Callable[..., Array], observations: list[Observation], rng: np.random.Generator
) -> float:
    """p-value of the hypothesis that the implementation and a mistake have the same means given D."""
    statistic, degrees = 0.0, 0
    for o in observations:
        for sums in o.sums:
            h = _draw(mistake, o, sums.outcome, rng)
            difference = h.mean(axis=0) - sums.sample_mean()
            covariance = np.cov(h.T) / len(h) + sums.sample_covariance() / sums.count
            scale = max(abs(h.mean(axis=0)).max(), abs(sums.sample_mean()).max(), 1e-300)
            rounding = (1e-6 * scale) ** 2 * np.eye(o.case.n)
            statistic += difference @ np.linalg.solve(covariance + rounding, difference)
            degrees += o.case.n
        if chi_square_p_value(statistic, degrees) < FITS:
            return 0.0
    return chi_square_p_value(statistic, degrees)


def _draw(
    mistake: Callable[..., Array], o: Observation, outcome: int, rng: np.random.Generator
) -> Array:
    shape = (max(2**12, DRAWS // o.num_samples), o.case.n)
    E = rng.standard_exponential((o.num_samples, *shape))
    rows = (o.case.logits, np.eye(o.case.n)[outcome], o.case.slopes[outcome])
    with np.errstate(all="ignore"):
        h = mistake(*(np.broadcast_to(row, shape) for row in rows), o.case.tau, E)
    return np.broadcast_to(h, shape)


def _common_factor(observations: list[Observation]) -> str:
    """The factor c of a mean that is c times the exact one, if there is such a c."""
    top = bottom = 0.0
    all_sums = [s for o in observations for s in o.sums]
    for s in all_sums:
        exact, found = s.mean @ s.whitening, s.sample_mean() @ s.whitening
        top, bottom = top + s.count * (exact @ found), bottom + s.count * (exact @ exact)
    factor, statistic = top / bottom, 0.0
    for s in all_sums:
        rest = (s.sample_mean() - factor * s.mean) @ s.whitening
        statistic += s.count * (rest @ rest) / max(factor**2, 1e-12)
    degrees = sum(s.rank for s in all_sums) - 1
    if chi_square_p_value(statistic, degrees) < FITS:
        return "matches none of the known mistakes"
    return f"matches none of the known mistakes; the mean is {factor:.4g} times the exact one"


def explain_covariance(sums: list[Sums], num_samples: int) -> str:
    """The cause of a wrong covariance under a right mean, read from the variance."""
    found, exact = (sum(s.variance()[i] for s in sums) for i in (0, 2))
    ratio = found / exact
    if ratio < 1e-6:
        return "there is no noise given D: matches the limit of K to infinity"
    samples = num_samples / ratio
    if num_samples > 1 and 0.9 < samples < 1.1:
        return "the variance is that of K = 1: the K samples share one noise, or K is ignored"
    return f"the variance is {ratio:.3g} times the exact one, that of K = {samples:.3g} samples"


def explain_value(
    law: Law, logits: Array, D: Array, df_dD: Array, tau: float, E: Array | None, found: Array
) -> str:
    """The cause of a wrong answer that leaves nothing to chance: the mistake that gives the same numbers."""
    tolerance = 1e-3 if str(logits.dtype) == "float32" else 1e-6
    logits, D, df_dD, E = (
        array if array is None else array.astype(np.float64) for array in (logits, D, df_dD, E)
    )
    for mistake, text in mistakes_of(law):
        with np.errstate(all="ignore"):
            wrong = np.asarray(mistake(logits, D, df_dD, tau, E))
        if np.allclose(wrong, found, rtol=0, atol=tolerance * abs(wrong).max() + 1e-300):
            return text
    if E is not None and _permuted(law, logits, D, df_dD, tau, E, found, tolerance):
        return "matches the exponentials read in another order: they are (K, ..., n)"
    return "matches none of the known mistakes"


def _permuted(
    law: Law,
    logits: Array,
    D: Array,
    df_dD: Array,
    tau: float,
    E: Array,
    found: Array,
    tolerance: float,
) -> bool:
    """Whether the noise was taken category last and sample second, or the categories in reverse."""
    for order in (E[..., ::-1], np.moveaxis(E, 0, -1).reshape(E.shape)):
        right = law.with_noise(logits, D, df_dD, tau, order)
        if np.allclose(right, found, rtol=0, atol=tolerance * abs(right).max()):
            return True
    return False
