r"""What an estimator and a function say of themselves, checked against a few numbers before they are believed.

An exact diagnosis trusts two sentences: that an estimator has a certain law given D, and that autograd sees all of f. A
mistake in either would be diagnosed to sixteen digits. So draws of the estimator are compared with as many draws of
what it names, pair by pair. If both have one law, the sign of each difference :math:`x_i` is a fair coin, and whatever
that law is, heavy tails and all (Efron, 1969),

.. math:: P\left( \Big| \sum_i x_i \Big| > t \, \Big( \sum_i x_i^2 \Big)^{1/2} \right) \le 2 e^{-t^2 / 2}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from rbst._array import Array, namespace, new_generator
from rbst._checks import NotFinite, check_finite
from rbst._derivative import check_derivative_seen, derivative, variables_seen
from rbst.autodiff import check_estimate
from rbst.categorical import sample_categorical, softmax
from rbst.enumeration import check_costs, enumerate_outcomes
from rbst.estimators.registry import Estimator, get_estimator, has_own_law

NOISE = 2**19
"""Random numbers of a comparison.

For K = 1 and 10 they see a temperature a tenth too high from tau = 0.2 up; at K = 100, or colder, not always.
"""

LEAST_DRAWS = 100

FALSE_ALARM = 1e-6
"""The probability, at most, that a call refuses an estimator that is what it says."""


def check_claim(estimator: Estimator, logits: Array, seed: int = 0) -> None:
    """Check an estimator of one's own against the law given D that it names, at these logits and at flat ones."""
    if estimator.given_D == "random" or has_own_law(estimator):
        return
    xp = namespace(logits)
    K = estimator.num_samples or 1
    draws = max(LEAST_DRAWS, int(NOISE / (logits.size * K)))
    draws_nothing = estimator.given_D == "fixed" or math.isinf(K)
    for theta in (logits, xp.zeros(logits.shape)):
        rng = new_generator(xp, seed)
        many = xp.broadcast_to(theta, (draws, *theta.shape))
        D = _check_sample(estimator, many, rng)
        shape = many.shape[:-1] if estimator.evaluates == "cost-only" else many.shape
        signal = xp.broadcast_to(rng.standard_normal(shape[1:]), shape)
        few = many[:LEAST_DRAWS], D[:LEAST_DRAWS], signal[:LEAST_DRAWS]
        _check_rows(estimator, *few, rng)
        if draws_nothing:
            _check_digits(estimator, *few, rng)
        else:
            _check_moments(estimator, many, D, signal, rng)


def _check_sample(estimator: Estimator, logits: Array, rng: Any) -> Array:
    """D, to which an exact diagnosis gives the probabilities of the softmax, and at which it evaluates f."""
    point, D = estimator.sample(logits, rng)
    if not bool((point == D).all()):
        _refuse(estimator, "a point other than D at which f is evaluated")
    _compare_draws(estimator, "samples D", D, sample_categorical(logits, rng))
    return D


def _check_rows(estimator: Estimator, logits: Array, D: Array, signal: Array, rng: Any) -> None:
    """With the noise held still, a row of a batch does not see what f is in the others."""
    elsewhere, seed = signal.copy(), _seed(rng)
    elsewhere[1::2] *= -2
    first, second = (_pull_back(estimator, logits, D, g, seed)[::2] for g in (signal, elsewhere))
    least = _rounding(estimator, signal)
    _compare_digits(estimator, "where f differs in other rows of the batch", first, second, least)


def _check_digits(estimator: Estimator, logits: Array, D: Array, signal: Array, rng: Any) -> None:
    """What draws nothing: the same again with other noise and half the batch, or the integral."""
    given, least = (
        _pull_back(estimator, logits, D, signal, _seed(rng)),
        _rounding(estimator, signal),
    )
    if estimator.given_D == "fixed":
        again = _pull_back(estimator, logits[::2], D[::2], signal[::2], _seed(rng))
        _compare_digits(
            estimator, "when it is called again with half the batch", given[::2], again, least
        )
    else:
        wanted = _named(estimator, math.inf).pull_back(logits, D, signal, None)
        _compare_digits(estimator, f"over {len(D)} draws", given, wanted, least)


def _check_moments(estimator: Estimator, logits: Array, D: Array, signal: Array, rng: Any) -> None:
    """What draws: the mean, and the mean square about the exact mean given D; at few draws first, for gross mistakes."""
    named = _named(estimator, estimator.num_samples or 1)
    centre = _mean_given_D(_named(estimator, math.inf), logits, D, signal)
    least = _rounding(estimator, signal)
    for draws in sorted({min(draws, len(D)) for draws in (LEAST_DRAWS, 3000, len(D))}):
        few = logits[:draws], D[:draws], signal[:draws]
        given, wanted = _pull_back(estimator, *few, _seed(rng)), named.pull_back(*few, rng)
        _compare_draws(estimator, "gradients", given, wanted, least)
        given, wanted = (((h - centre[:draws]) ** 2).sum(axis=-1) for h in (given, wanted))
        least_square = least * (least + float(wanted.max()) ** 0.5)
        _compare_draws(estimator, "gradients with squared deviations", given, wanted, least_square)


def _mean_given_D(exact: Estimator, logits: Array, D: Array, signal: Array) -> Array:
    """The integral, once for each variable and category that was drawn."""
    xp, (L, n) = namespace(logits), logits.shape[-2:]
    drawn = (D.argmax(axis=-1) + n * xp.arange(L)).ravel()
    _, first, which = xp.unique(drawn, return_index=True, return_inverse=True)
    theta, one_hot, g = (x.reshape(-1, n)[first] for x in (logits, D, signal))
    return exact.pull_back(theta, one_hot, g, None)[which].reshape(D.shape)


def _named(estimator: Estimator, K: float) -> Estimator:
    assert estimator.tau is not None  # an Estimator has seen to it
    return get_estimator("gr" if math.inf == K else f"gr-mc{K}", tau=estimator.tau)


def _seed(rng: Any) -> int:
    return int(rng.integers(2**63))


def _pull_back(estimator: Estimator, logits: Array, D: Array, signal: Array, seed: int) -> Array:
    rng = new_generator(namespace(logits), seed)
    gradient = check_estimate(estimator, estimator.pull_back(logits, D, signal, rng), logits)
    check_finite(f"the gradient of {estimator.name!r}", gradient, "look at its pull_back")
    return gradient


def _rounding(estimator: Estimator, signal: Array) -> float:
    """What J'g may lose to rounding where J is all but zero: a few units in the last place of g / tau.

    Never more than hides an error of a thousandth: at very low temperatures that of g / tau is as large as g.
    """
    units = 16 * float(namespace(signal).finfo(signal.dtype).eps) / (estimator.tau or 1)
    return min(units, 1e-4) * float(abs(signal).max())


def _compare_digits(
    estimator: Estimator, where: str, given: Array, wanted: Array, least: float
) -> None:
    apart = float(abs(given - wanted).max())
    if apart > 1e-5 * float(abs(wanted).max()) + least:
        _refuse(estimator, f"gradients that are {apart:.3g} apart {where}")


def _compare_draws(
    estimator: Estimator, what: str, given: Array, wanted: Array, least: float = 0
) -> None:
    """Efron's ratio for each column, with room for rounding; a call makes at most 14 such comparisons."""
    given, wanted = (x.reshape(len(x), -1) for x in (given, wanted))
    scale = max(float(abs(x).max()) for x in (given, wanted)) or 1.0
    x = (given - wanted) / scale
    error = (x**2).sum(axis=0) ** 0.5 + (1e-6 + least / scale) * len(x)
    apart = float((abs(x.sum(axis=0)) / error).max())
    if apart > math.sqrt(2 * math.log(2 * 14 * x.shape[-1] / FALSE_ALARM)):
        _refuse(estimator, f"{what} that are {apart:.3g} standard errors apart over {len(x)} draws")


def _refuse(estimator: Estimator, got: str) -> NoReturn:
    law = "is fixed given D"
    if estimator.given_D == "gumbel-rao":
        named = _named(estimator, estimator.num_samples or 1)
        law = f"has the law of {named.name} at tau = {named.tau:g}"
    raise ValueError(
        f"estimator {estimator.name!r} says that it {law}, got {got}; leave given_D out, and it is "
        "diagnosed by sampling"
    )


def check_differentiable(f: Callable[[Array], Array], logits: Array, evaluates: str) -> None:
    """Whether autograd sees f where an estimator evaluates it, and whether there is anything to see."""
    gradient = _check_slopes(f, logits, inside=evaluates == "inside")
    looked_there = evaluates in ("corner", "inside")
    if gradient is not None and looked_there and bool(variables_seen(gradient, logits).all()):
        return
    outcomes = (D for D, _ in enumerate_outcomes(logits))
    check_derivative_seen(f, outcomes, logits, inside=evaluates != "corner", each=True)


def _check_slopes(f: Callable[[Array], Array], logits: Array, *, inside: bool) -> Array | None:
    """Autograd's derivative of f at eight corners or at the mean, checked against differences on both sides.

    Where f bends, at a corner or close to it, the derivative may be any slope between the two.
    """
    xp = namespace(logits)
    if inside:
        points = softmax(logits)[None]
    else:
        corners = next(enumerate_outcomes(logits))[0]
        points = corners[:: max(1, len(corners) // 8)][:8]
    direction = xp.cos(xp.arange(float(logits.size))).reshape(logits.shape)
    direction = xp.where(xp.isfinite(logits), direction, 0)
    step = 1e-5 * direction
    try:
        with np.errstate(all="ignore"):
            around = xp.stack([points - step, points, points + step])
            below, here, above = check_costs(f(around), (3, len(points)))
    except NotFinite:  # f ends at the simplex
        return None
    slopes = xp.stack([here - below, above - here]) / 1e-5
    gradient = xp.where(direction == 0, 0, derivative(f)(points))
    seen = (gradient * direction).sum(axis=(-2, -1))
    outside = xp.maximum(slopes.min(axis=0) - seen, seen - slopes.max(axis=0))
    outside = outside - 1e-3 * (abs(slopes).max(axis=0) + abs(seen)) - 2e-8 * (1 + abs(here))
    outside = xp.where(xp.isnan(outside), -1, outside)  # a NaN is for others to find
    worst = int(outside.argmax())
    if bool(outside[worst] > 0):
        raise ValueError(
            f"autograd must see all of f, got a slope of {float(seen[worst]):.4g} where f has "
            f"{float(slopes[:, worst].mean()):.4g}; write f with autograd.numpy throughout, or pass its derivative "
            "as df_dD"
        )
    return gradient
