r"""The well-known wrong answers, each computed like a right one from the same inputs.

The functions of :data:`GUMBEL_MISTAKES` map ``(logits, D, df_dD, tau, E)``, E of shape ``(K, ..., n)``, to
one gradient; x denotes the located Gumbels of Eq. 9 (Paulus et al. (2021)), S their tempered softmax.
Beside each stands what to say of an implementation that gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rbst._array import Array
from rbst.categorical import softmax, softmax_vjp
from rbst.crosscheck.laws import Law, checkable, get_law, smoothed
from rbst.gumbel import conditional_gumbels

Mistake = Callable[[Array, Array, Array, float, "Array | None"], Array]


def mistakes_of(law: Law) -> Iterator[tuple[Mistake, str]]:
    """The wrong answers that somebody who implements this law may give."""
    if law.family == "gumbel-rao":
        yield from GUMBEL_MISTAKES.items()
    else:
        yield from _scaled_answers(law)
        yield from SCORE_MISTAKES.items() if law.takes_cost else STOPPED.items()
    if law.family == "reinmax-cv":
        yield from CONTROL_VARIATE_MISTAKES.items()
    yield from _other_estimators(law)


def _pull_back(x: Array, df_dD: Array, tau: float) -> Array:
    """Mean over the samples of J(softmax_tau(x))' g / tau."""
    S = _softmax(x / tau)
    return (softmax_vjp(S, df_dD) / tau).mean(axis=0)


def _softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


# --- Gumbel-Rao --------------------------------------------------------------------------------------


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
    x = conditional_gumbels(logits, D, E)
    return _pull_back(x.mean(axis=0, keepdims=True), df_dD, tau)


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
    return _pull_back(_blended_eq_9(logits, softmax(logits, tau), E), df_dD, tau)


def soft_selection_of_sample(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Eq. 9 blended by a relaxed sample given D in the place of D."""
    soft = _softmax(conditional_gumbels(logits, D, E) / tau)
    return _pull_back(_blended_eq_9(logits, soft, E), df_dD, tau)


def _blended_eq_9(logits: Array, soft_D: Array, E: Array) -> Array:
    """Eq. 9 with a point inside the simplex where D should be one-hot."""
    E_selected = (E * soft_D).sum(axis=-1, keepdims=True)
    others = np.log(E / softmax(logits) + E_selected)
    return -soft_D * np.log(E_selected) - (1 - soft_D) * others


def probabilities_as_logits(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The probabilities in the place of the logits of Eq. 9."""
    return _pull_back(conditional_gumbels(softmax(logits), D, E), df_dD, tau)


def rectified(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """Logits that have passed through a ReLU."""
    return _pull_back(conditional_gumbels(np.where(logits > 0, logits, 0.0), D, E), df_dD, tau)


def diagonal_only(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The diagonal of the Jacobian alone, without the outer product S S'."""
    S = _softmax(conditional_gumbels(logits, D, E) / tau)
    return (S * df_dD / tau).mean(axis=0)


def for_probabilities(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The gradient for the probabilities, not for the logits: divided by pi."""
    return _pull_back(conditional_gumbels(logits, D, E), df_dD, tau) / softmax(logits)


def negated(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The right answer with the sign reversed."""
    return -_pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


def untouched(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """The gradient of f at D, not pulled back to the logits."""
    return df_dD


def zero(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """No gradient at all."""
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


# --- ReinMax with Gumbel-Rao in it -------------------------------------------------------------------


def control_variate_not_given_D(
    logits: Array, D: Array, df_dD: Array, tau: float, E: Array
) -> Array:
    """A control variate whose sample is not drawn given D, so that its mean is not subtracted."""
    theta_D = smoothed(logits, D)
    right = get_law("reinmax-cv").with_noise(logits, D, df_dD, tau, E)
    given_D = _pull_back(conditional_gumbels(theta_D, D, E), df_dD, tau)
    return right + given_D - _pull_back(theta_D - np.log(E), df_dD, tau)


def control_variate_at_logits(logits: Array, D: Array, df_dD: Array, tau: float, E: Array) -> Array:
    """A control variate located at theta, whose mean is taken at theta_D."""
    right = get_law("reinmax-cv").with_noise(logits, D, df_dD, tau, E)
    at_theta_D = _pull_back(conditional_gumbels(smoothed(logits, D), D, E), df_dD, tau)
    return right + at_theta_D - _pull_back(conditional_gumbels(logits, D, E), df_dD, tau)


STOPPED = {untouched: GUMBEL_MISTAKES[untouched], zero: GUMBEL_MISTAKES[zero]}
"""No gradient that has come back to the logits."""

CONTROL_VARIATE_MISTAKES = {
    control_variate_not_given_D: "matches a control variate whose sample is not drawn given D",
    control_variate_at_logits: "matches a control variate whose sample is located at theta, not theta_D",
}


# --- Estimators that D determines --------------------------------------------------------------------


def cost_times_D(logits: Array, D: Array, cost: Array, tau: float, E: Array | None) -> Array:
    """REINFORCE without the probabilities in the score D - pi."""
    return cost[..., None] * D


def zero_score(logits: Array, D: Array, cost: Array, tau: float, E: Array | None) -> Array:
    """No gradient at all."""
    return np.zeros_like(D)


SCORE_MISTAKES = {
    cost_times_D: "matches the cost times D: the score of a softmax is D - pi",
    zero_score: GUMBEL_MISTAKES[zero],
}


def _scaled_answers(law: Law) -> Iterator[tuple[Mistake, str]]:
    """The right mean times a factor, and that at another temperature."""

    def times(factor: Callable[[float], float]) -> Mistake:
        return lambda logits, D, signal, tau, E: factor(tau) * law.mean(logits, D, signal, tau)

    def at(temperature: Callable[[float], float]) -> Mistake:
        return lambda logits, D, signal, tau, E: law.mean(logits, D, signal, temperature(tau))

    yield times(lambda tau: tau), "off by 1/tau: the factor of the Jacobian is missing"
    yield times(lambda tau: 1 / tau), "off by 1/tau: the factor is there once too often"
    yield times(lambda tau: -1.0), GUMBEL_MISTAKES[negated]
    yield times(lambda tau: 2.0), "is twice the right answer"
    yield times(lambda tau: 0.5), "is half the right answer"
    yield at(lambda tau: 1.0), "matches tau = 1: the temperature is ignored"
    yield at(lambda tau: 1 / tau), "matches the temperature 1/tau"


def _other_estimators(law: Law) -> Iterator[tuple[Mistake, str]]:
    """Estimators that D determines, where they differ from this law in more than their noise."""

    def mean_of(other: Law) -> Mistake:
        return lambda logits, D, signal, tau, E: other.mean(logits, D, signal, tau)

    for name in checkable():
        same_mean = law.family == "gumbel-rao" and name == "gr"
        if "K" in name or name in (law.estimator, "st-gs") or same_mean:
            continue
        other = get_law(name)
        if other.takes_cost == law.takes_cost:
            yield mean_of(other), f"matches the estimator {name!r}"
