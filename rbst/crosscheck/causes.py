r"""The likeliest cause of a failure: which of the well-known wrong answers an implementation gives.

A wrong answer is described once, by what it computes and what it is called. It is compared with what the
implementation returned, number by number where the noise is shared, else in the mean over many draws given
each D. A cause is named only if its answer fits everything that was seen, what passed included; if several
fit, all are named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.categorical import _softmax, softmax, softmax_vjp
from rbst.crosscheck.laws import Law, alike, checkable, get_law
from rbst.crosscheck.moments import Sums, chi_square_p_value, quadratic_form, variance_ratio
from rbst.estimators.reinmax_rao import halfway_logits
from rbst.gumbel import conditional_gumbels

NO_MISTAKE = "matches none of the known mistakes"
VARIANCE = "the variance is"
SINGLE = "the error is that of float32: something inside is float32"
SEVERAL = "; or it "


@dataclass(frozen=True)
class Call:
    """The arguments of one call, under exponentials E ``(K, ..., n)``; without them no mistake reads E."""

    law: Law
    logits: Array
    D: Array
    g: Array
    tau: float
    E: Any = None

    def right(self, **changes: Array | float) -> Array:
        """The right answer, of other arguments if any are given."""
        a = replace(self, **changes)  # type: ignore[arg-type]
        return a.law.gradient(a.logits, a.D, a.g, a.tau, a.E)

    @property
    def located(self) -> Array:
        """The Gumbels x of Eq. 9."""
        return conditional_gumbels(self.logits, self.D, self.E)

    def relaxed(self, x: Array, tau: float | None = None) -> Array:
        """S, the tempered softmax of x."""
        return _softmax(x, tau or self.tau)  # x may hold what a check would refuse

    def pull_back(self, x: Array, tau: float | None = None) -> Array:
        """Mean over the samples of J(S)' g / tau."""
        tau = tau or self.tau
        return (softmax_vjp(self.relaxed(x, tau), self.g) / tau).mean(axis=0)


Mistakes = dict[str, Callable[[Call], Array]]

# --- The mistakes, the particular before the general ---------------------------------------------------


def _through_eq_9(a: Call) -> Array:
    r""":math:`\partial x_j / \partial \theta_m = \rho_j \delta_{jm} + (1 - \rho_j) \pi_m` as well.

    Here :math:`\rho_j` is the share of :math:`E_j / \pi_j` in :math:`E_j / \pi_j + E_i`, and 0 for the
    selected category.
    """
    pi = softmax(a.logits)
    E_selected = (a.E * a.D).sum(axis=-1, keepdims=True)
    share = np.where(a.D == 1, 0, a.E / (a.E + pi * E_selected))
    v = softmax_vjp(a.relaxed(a.located), a.g) / a.tau
    return (v * share + pi * (v * (1 - share)).sum(axis=-1, keepdims=True)).mean(axis=0)


def _blended(a: Call, soft_D: Array, weights: Array) -> Array:
    """Eq. 9 with a point inside the simplex where D should be one-hot, or with another Z."""
    E_selected = (a.E * soft_D).sum(axis=-1, keepdims=True)
    others = np.log(a.E / weights + E_selected)
    return a.pull_back(-soft_D * np.log(E_selected) - (1 - soft_D) * others)


def _noise_of_D(a: Call) -> Array:
    """Eq. 9 whose first sample has the exponentials that have drawn D."""
    drew_D = np.exp(a.logits - a.located[:1])
    return a.right(E=np.concatenate([np.maximum(drew_D, 1e-300), a.E[1:]]))


def _surrogate(a: Call) -> Array:
    """g_k (D - S): the derivative of log S_k times a value."""
    return ((a.g * a.D).sum(axis=-1, keepdims=True) * (a.D - a.relaxed(a.located))).mean(axis=0)


def _control(a: Call, other: Array) -> Array:
    """ReinMax with a control variate that is another sample than the one whose mean is subtracted."""
    halfway = replace(a, logits=halfway_logits(a.logits, a.D))
    return a.right() + a.pull_back(halfway.located) - a.pull_back(other)


GUMBEL: Mistakes = {
    "matches the derivative through Eq. 9: D stays put, so differentiate at x only": _through_eq_9,
    "theta is counted twice: x of Eq. 9 contains it already": (
        lambda a: a.pull_back(a.located + a.logits)
    ),
    "tau enters the factor 1/tau only: S = softmax(x / tau)": (
        lambda a: a.pull_back(a.located, 1.0) / a.tau
    ),
    "matches one Jacobian at the mean of the K samples: average J(S)' g instead": (
        lambda a: softmax_vjp(a.relaxed(a.located).mean(axis=0), a.g) / a.tau
    ),
    "matches one softmax at the mean of the K Gumbels: average J(S)' g instead": (
        lambda a: a.pull_back(a.located.mean(axis=0, keepdims=True))
    ),
    "matches fresh Gumbels, or another D: they are not drawn given the D that f saw": (
        lambda a: a.pull_back(a.logits - np.log(a.E))
    ),
    "matches Gumbels of the wrong sign: G = -log E": (
        lambda a: a.pull_back(a.logits + np.log(a.E))
    ),
    "matches Gumbels of the others that may exceed that of D: Eq. 9 bounds them": (
        lambda a: a.pull_back(np.where(a.D == 1, a.located, a.logits - np.log(a.E)))
    ),
    "matches Eq. 9 with the noise that drew D: it takes exponentials of its own": _noise_of_D,
    "matches Eq. 9 with Z = 1: the logits are taken for log-probabilities": (
        lambda a: _blended(a, a.D, np.exp(a.logits))
    ),
    "matches a softmax of the logits in Eq. 9, where the one-hot D belongs": (
        lambda a: _blended(a, softmax(a.logits, a.tau), softmax(a.logits))
    ),
    "matches a relaxed sample in Eq. 9, where the one-hot D belongs": (
        lambda a: _blended(a, a.relaxed(a.located), softmax(a.logits))
    ),
    "matches diag(S) g / tau: the term -S S' g of the Jacobian is missing": (
        lambda a: (a.relaxed(a.located) * a.g / a.tau).mean(axis=0)
    ),
    "matches g_k (D - S): a value is replaced, not D; the gradient is J(S)' g / tau": _surrogate,
    "matches g_k (D - S) / tau: a value is replaced, not D; the gradient is J(S)' g / tau": (
        lambda a: _surrogate(a) / a.tau
    ),
}

CONTROL_VARIATE: Mistakes = {
    "matches a control variate whose sample is not drawn given D": (
        lambda a: _control(a, halfway_logits(a.logits, a.D) - np.log(a.E))
    ),
    "matches a control variate whose sample is located at theta, not theta_D": (
        lambda a: _control(a, a.located)
    ),
}

TEMPERATURE: Mistakes = {
    "1/tau is missing: the Jacobian of softmax(x / tau) is J(S) / tau": lambda a: a.tau * a.right(),
    "1/tau is there twice: the Jacobian of softmax(x / tau) is J(S) / tau": (
        lambda a: a.right() / a.tau
    ),
    "matches tau = 1: the temperature is ignored": lambda a: a.right(tau=1.0),
    "matches the temperature 1/tau: divide x by tau": lambda a: a.right(tau=1 / a.tau),
}

ANY: Mistakes = {
    "the sign is reversed: this is the derivative of -f": lambda a: -a.right(),
    "matches twice the right answer": lambda a: 2 * a.right(),
    "matches half the right answer": lambda a: a.right() / 2,
}

SAMPLES: Mistakes = {
    "matches the sum over the K samples: divide by K": lambda a: len(a.E) * a.right(),
    "1/K is there twice: the mean over the samples is taken once": lambda a: a.right() / len(a.E),
}

ZERO: Mistakes = {"is zero: no gradient reaches the logits": lambda a: np.zeros_like(a.logits)}

GRADIENT: Mistakes = {
    "matches logits / tau from the start: tau comes after the noise": (
        lambda a: a.right(logits=a.logits / a.tau)
    ),
    "matches logits of 0: theta is left out": lambda a: a.right(logits=np.zeros_like(a.logits)),
    "matches probabilities passed where logits are wanted": (
        lambda a: a.right(logits=softmax(a.logits))
    ),
    "matches logits passed through a ReLU: negative ones are taken for 0": (
        lambda a: a.right(logits=np.where(a.logits > 0, a.logits, 0.0))
    ),
    "matches a gradient for the probabilities: multiply by their Jacobian": (
        lambda a: a.right() / softmax(a.logits)
    ),
    "matches df/dD: nothing is pulled back to the logits": lambda a: a.g,
    **ZERO,
}
SCORE: Mistakes = {
    "matches the cost times D: the score of a softmax is D - pi": lambda a: a.g[..., None] * a.D,
    **ZERO,
}

NOISE: Mistakes = {
    "matches the exponentials read in another order: n in reverse": (
        lambda a: a.right(E=a.E[..., ::-1])
    ),
    "matches the exponentials read in another order: as (..., n, K), they are (K, ..., n)": (
        lambda a: a.right(E=np.moveaxis(a.E, 0, -1).reshape(a.E.shape))
    ),
}


def mistakes_of(law: Law) -> Mistakes:
    """The wrong answers that somebody who implements this law may give."""
    families = {"gumbel-rao": GUMBEL, "reinmax-cv": CONTROL_VARIATE}
    found = families.get(law.family, {}) | (TEMPERATURE if law.has_tau else {}) | ANY
    found |= SAMPLES if law.random and law.with_noise else {}
    return found | (SCORE if law.takes_cost else GRADIENT) | _other_estimators(law)


def _other_estimators(law: Law) -> Mistakes:
    """Estimators that D determines, where they differ from this law in more than their noise."""

    def mean_of(other: Law) -> Callable[[Call], Array]:
        return lambda a: other.mean(a.logits, a.D, a.g, a.tau)

    found = {}
    for name in checkable():
        if "K" in name or name == law.estimator:
            continue
        other = get_law(name)
        wanted = (law.takes_cost, law.point, False, None)
        same = (other.takes_cost, other.point, other.whole, other.categories) == wanted
        if same and other.mean is not law.mean:
            found[f"matches the estimator {name!r}"] = mean_of(other)
    return found


# --- A wrong mean given D ------------------------------------------------------------------------------

DRAWS = 2**17  # relaxed samples of a wrong answer, given each D
FEWEST_DRAWS = 2**9  # gradients
FITS = 1e-6  # the p-value above which a wrong answer fits
ROUNDING = 1e-6  # the part of a mean that does not count
LARGEST_N = 10  # categories of the cases that a wrong answer is compared on
COLDEST = 0.05  # and their temperature: colder tails are heavy
EXTREME = 20  # and their logits


def explain_mean(law: Law, seen: list[Sums], rng: np.random.Generator) -> str:
    """The cause of a wrong mean given D: the mistakes that fit all of it, or the factor by which it is off.

    A mean can also fail because its noise is larger than it should be; then the variance is to blame.
    """
    seen = [s for s in seen if abs(s.target.case.logits).max() < EXTREME]
    usual = [s for s in seen if s.target.case.n <= LARGEST_N and s.target.case.tau > COLDEST]
    seen = usual or seen
    if not seen:
        return NO_MISTAKE
    exact = [(s, s.target.mean, np.zeros_like(s.target.covariance)) for s in seen]
    if _fit(exact):  # within the noise that the sample itself shows
        first = [s for s in seen if s.target.case is seen[0].target.case]
        return NO_MISTAKE if abs(variance_ratio(first) - 1) < 0.1 else explain_covariance(first)
    known = mistakes_of(law).items()
    found = [text for text, mistake in known if _agrees(law, mistake, seen, rng)]
    return SEVERAL.join(found) or _common_factor(seen)


def _fit(compared: Sequence[tuple[Sums, Array, Array]]) -> bool:
    """Whether sample means differ from other means by no more than both their covariances allow."""
    chi_square, degrees = 0.0, 0
    for s, mean, covariance in compared:
        found = s.target.mean + s.deviation
        size = max(abs(array).max() for array in (s.target.mean, found, mean))
        rounding = max(ROUNDING * float(size), 1e-150) ** 2 * np.eye(len(mean))
        noise = s.covariance / s.count + covariance + rounding
        chi_square += quadratic_form(noise, found - mean)
        degrees += len(mean)
    return chi_square_p_value(chi_square, degrees) >= FITS


def _agrees(law: Law, mistake: Callable[[Call], Array], seen: list[Sums], rng: Any) -> bool:
    """Whether the implementation and a mistake have the same means given every D that was seen.

    Few gradients of the mistake tell most that differ, and save the many.
    """
    for most in (0, DRAWS):
        compared = []
        for s in seen:
            many = max(FEWEST_DRAWS, min(s.count, most // s.target.num_samples))
            h = _draw(law, mistake, s, many if law.with_noise else 1, rng)
            if not np.isfinite(h).all():
                return False
            covariance = np.cov(h.T, ddof=0) / len(h)  # 0 where nothing is left to chance
            compared.append((s, h.mean(axis=0), covariance))
            if not _fit(compared):
                return False
    return True


def _draw(law: Law, mistake: Callable[[Call], Array], s: Sums, many: int, rng: Any) -> Array:
    """Some of the gradients that a mistake yields for the D of these sums."""
    case, K = s.target.case, s.target.num_samples
    E = rng.standard_exponential((K, many, case.n)) if law.with_noise else None
    with np.errstate(all="ignore"):
        h = mistake(Call(law, *alike(case, s.target.outcome, many), case.tau, E))
    return np.broadcast_to(h, (many, case.n))


def _common_factor(seen: list[Sums]) -> str:
    """The factor c of a mean that is c times the exact one, if there is such a c."""
    parts = [s.y_part()[:3] for s in seen]
    top = sum(B * (exact @ (exact + y)) for B, y, exact in parts)
    factor = float(top / sum(B * (exact @ exact) for B, _, exact in parts))
    rests = [(B, exact + y - factor * exact) for B, y, exact in parts]
    chi_square = float(sum(B * (rest @ rest) for B, rest in rests)) / max(factor**2, 1e-12)
    if chi_square_p_value(chi_square, sum(len(rest) for _, rest in rests) - 1) >= FITS:
        return f"{NO_MISTAKE}; the mean is {factor:.4g} times the exact one"
    return NO_MISTAKE


def explain_covariance(sums: list[Sums]) -> str:
    """The cause of a wrong covariance under a right mean, read from the variance."""
    ratio, num_samples = variance_ratio(sums), sums[0].target.num_samples
    if ratio < 1e-6:
        return "there is no noise given D: matches the limit of K to infinity"
    samples = num_samples / ratio
    if num_samples > 1 and 0.9 < samples < 1.1:
        return f"{VARIANCE} that of K = 1: the K samples share one noise, or K is ignored"
    if abs(ratio - 1) < 0.03:
        return f"{VARIANCE} right in sum, {ratio:.3g} times the exact one, but not in its parts"
    return f"{VARIANCE} {ratio:.3g} times the exact one, that of K = {samples:.3g} samples"


# --- A wrong number ------------------------------------------------------------------------------------


def explain_values(seen: list[tuple[Call, Array]], dtype: str) -> str:
    """The cause of wrong answers that leave nothing to chance: the mistakes with the same numbers in all."""
    law, tolerance = seen[0][0].law, 1e-3 if dtype == "float32" else 1e-6

    def fits(answer: Callable[[Call], Array], tolerance: float = tolerance) -> bool:
        return all(_close(np.asarray(answer(a)), found, tolerance) for a, found in seen)

    with np.errstate(all="ignore"):
        if dtype == "float64" and fits(Call.right, 3e-6) and not fits(Call.right, 1e-8):
            return SINGLE
        if fits(Call.right):
            return NO_MISTAKE
        known = mistakes_of(law) | (NOISE if seen[0][0].E is not None else {})
        texts = [text for text, mistake in known.items() if fits(mistake)]
        by_D = not law.takes_cost and law.point == "corner"
        if not texts and by_D and all(_is_of_another_D(a, h, tolerance) for a, h in seen):
            texts = ["matches the answer for another D: it is drawn again, and f saw the first"]
    return SEVERAL.join(texts) or NO_MISTAKE


def _close(answer: Array, found: Array, tolerance: float) -> bool:
    size = np.nanmax(abs(answer), initial=0.0)
    return np.allclose(answer, found, rtol=0, atol=tolerance * size + 1e-300)


def _is_of_another_D(a: Call, found: Array, tolerance: float) -> bool:
    answers = [a.right(D=np.broadcast_to(e, a.D.shape)) for e in np.eye(a.D.shape[-1])]
    distances = [abs(answer - found).max(axis=-1) for answer in answers]
    size = max(float(abs(answer).max()) for answer in answers)
    return bool((np.min(distances, axis=0) <= tolerance * size).all())
