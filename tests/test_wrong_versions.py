"""The newer estimators and the mistakes that are made in them: the checks pass the one and reject the other.

Each function below is an estimator written once more, in the shortest form. With ``mistake`` it is what people
write instead; nothing else changes, so that a rejection is a rejection of the mistake. A right version fails
with probability ``rbst.crosscheck.FALSE_ALARM_RATE`` at most, and seeds are fixed.
"""

from functools import partial

import numpy as np
import pytest
from autograd import elementwise_grad
from oracles import linear

from rbst import conditional_gumbels, sample_categorical, sample_gumbels, softmax
from rbst.categorical import one_hot, softmax_vjp
from rbst.crosscheck import check
from rbst.estimators import minimum_variance
from rbst.estimators.control_variates import conditional_gumbels_vjp

TAU = 0.5


def joint(cost):
    """A cost that all variables share, beside arrays (..., L, n)."""
    return np.asarray(cost)[..., None, None]


def f(D):
    """Quartic, so that no estimator is unbiased for its degree alone."""
    return (linear(D) - 1.0) ** 4


def df(D):
    return 4 * joint(linear(D) - 1.0) ** 3 * elementwise_grad(linear)(np.zeros(D.shape[-2:]))


def score(logits, D):
    return D - softmax(logits)


# Whole estimators, (logits, f, rng) -> gradient: nothing is asked but the mean.


def rloo(logits, f, rng, mistake):
    """The mean cost of the others, or of all: the own cost in the baseline."""
    D = [sample_categorical(logits, rng) for _ in range(3)]
    costs = [f(x) for x in D]
    others = [(sum(costs) - cost) / 2 for cost in costs]
    baselines = [sum(costs) / 3] * 3 if mistake else others
    return (
        sum(joint(c - b) * score(logits, x) for c, b, x in zip(costs, baselines, D, strict=True))
        / 3
    )


def double_cv(logits, f, rng, mistake):
    """The expansion around the gradient of the other sample, or of both."""
    D = [sample_categorical(logits, rng) for _ in range(2)]
    g = [df(x) for x in D]
    mean = (g[0] + g[1]) / 2
    of_others = [mean, mean] if mistake else g[::-1]
    residual = [
        f(x) - (h * score(logits, x)).sum(axis=(-2, -1)) for x, h in zip(D, of_others, strict=True)
    ]
    return joint(residual[0] - residual[1]) * (D[0] - D[1]) / 2 + softmax_vjp(softmax(logits), mean)


def sum_and_sample(logits, f, rng, mistake):
    """Of the first variable: its likeliest category, and one of the rest by what is left, or by all."""
    pi, D = softmax(logits), sample_categorical(logits, rng)
    first = one_hot(pi[..., :1, :].argmax(axis=-1), logits.shape[-1])
    other = sample_categorical(np.where(first == 1, -np.inf, logits[..., :1, :]), rng)
    p = (pi[..., :1, :] * first).sum(axis=-1, keepdims=True)

    def term(x):
        return joint(f(np.concatenate([x, D[..., 1:, :]], axis=-2))) * (x - pi[..., :1, :])

    of_first = p * term(first) + (1.0 if mistake else 1 - p) * term(other)
    return np.concatenate([of_first, joint(f(D)) * score(logits, D)[..., 1:, :]], axis=-2)


def unordered_set(logits, f, rng, mistake):
    """Two categories of the first variable without replacement: by their ratio, or as if they were independent."""
    pi, D = softmax(logits), sample_categorical(logits, rng)
    a, rest = D[..., :1, :], np.where(D == 1, -np.inf, logits)[..., :1, :]
    b = sample_categorical(rest, rng)
    f_a, f_b = joint(f(D)), joint(f(np.concatenate([b, D[..., 1:, :]], axis=-2)))
    not_a, not_b = ((pi[..., :1, :] * (1 - x)).sum(axis=-1, keepdims=True) for x in (a, b))
    ratio = 0.5 if mistake else not_a * not_b / (not_a + not_b)
    of_first = ratio * (f_a - f_b) * (a - b)
    return np.concatenate([of_first, f_a * score(logits, D)[..., 1:, :]], axis=-2)


def antithetic(logits, f, rng, mistake, weight):
    pi, u = softmax(logits), rng.random(logits.shape[:-1])
    b, b_tilde = (one_hot(x.astype(int), 2) for x in (u > pi[..., 0], u < pi[..., 1]))
    h = (f(b) - f(b_tilde))[..., None] * weight(pi, u, b[..., 1], b_tilde[..., 1], mistake)
    return np.stack([-h, h], axis=-1)


def arm(pi, u, b, b_tilde, mistake):
    """u - 1/2, or twice that."""
    return (2 if mistake else 1) * (u - 0.5)


def disarm(pi, u, b, b_tilde, mistake):
    """With sigma(|phi|), or without."""
    return (b - b_tilde) / 2 * (1 if mistake else pi.max(axis=-1))


def disarm_sign(pi, u, b, b_tilde, mistake):
    """(-1)^b~ where the two differ, or (-1)^b."""
    return np.where(mistake, b_tilde - b, b - b_tilde) * pi.max(axis=-1) / 2


def muprop(logits, f, rng, mistake):
    """The expansion of f at pi leaves its mean behind, which is added again, or forgotten."""
    D, pi = sample_categorical(logits, rng), softmax(logits)
    g = df(pi)
    rest = f(D) - f(pi) - (g * (D - pi)).sum(axis=(-2, -1))
    return joint(rest) * (D - pi) + (0 if mistake else softmax_vjp(pi, g))


def relax(logits, f, rng, mistake):
    """f at a relaxed sample as the control variate, and four mistakes, each by its name."""
    z = sample_gumbels(logits, rng)
    D = one_hot(z.argmax(axis=-1), logits.shape[-1])
    E = rng.standard_exponential(logits.shape)
    z_tilde = conditional_gumbels(logits, D, E[None])[0]
    if mistake == "z~ is not drawn given D":
        z_tilde = sample_gumbels(logits, rng)
    if mistake == "z instead of z~":
        z_tilde = z

    def slope(x):
        S = softmax(x, TAU)
        return softmax_vjp(S, df(S)) / (1 if mistake == "1/tau" else TAU)

    paths = {"z~ as if it moved like z": slope(z_tilde), "z~ held still": 0 * z}
    through = paths.get(mistake, conditional_gumbels_vjp(logits, D, E, slope(z_tilde)))
    return joint(f(D) - f(softmax(z_tilde, TAU))) * score(logits, D) + slope(z) - through


WHOLE = [
    (rloo, "unbiased", True),
    (double_cv, "unbiased", True),
    (sum_and_sample, "unbiased", True),
    (unordered_set, "unbiased", True),
    (muprop, "unbiased", True),
    *[
        (partial(antithetic, weight=weight), name, True)
        for weight, name in ((arm, "arm"), (disarm, "disarm"), (disarm_sign, "disarm"))
    ],
    *[
        (relax, "unbiased", mistake)
        for mistake in ("z~ is not drawn given D", "z instead of z~", "1/tau", "z~ as if it moved like z", "z~ held still")
    ],
]  # fmt: skip


# Functions of D, (logits, D, df_dD, *, tau) -> gradient, and of noise given D: the mean given D is known.


def reinmax(logits, D, g, tau, rng, mistake):
    """2 J((pi_tau + D) / 2) g - J(pi) g / 2, and three mistakes."""
    pi, hot = softmax(logits), softmax(logits, tau)
    last = {"tau in the last term too": hot}.get(mistake, pi)
    first = 1 if mistake == "the factor 2" else 2
    second = 0 if mistake == "no second term" else 0.5
    return first * softmax_vjp((hot + D) / 2, g) - second * softmax_vjp(last, g)


def zgr(logits, D, g, tau, rng, mistake):
    """[pi (g - g_k) + (g_k - pi'g) D] / 2; without the term of D it is no gradient of logits."""
    pi, g_k = softmax(logits), (g * D).sum(axis=-1, keepdims=True)
    at_D = (g_k - (pi * g).sum(axis=-1, keepdims=True)) * D
    return (pi * (g - g_k) + (0 if mistake else at_D)) / 2


def gst(logits, D, g, tau, rng, mistake):
    """Others within the gap are moved below it; ungated, all of them are moved by it."""
    below = logits - logits.max(axis=-1, keepdims=True)
    moves = np.full_like(below, 1.0) if mistake else np.maximum(0, below + 1)
    return softmax_vjp(softmax(np.where(D == 1, 0, below - moves), tau), g) / tau


def gst_gap_to_D(logits, D, g, tau, rng, mistake):
    """The gap is to the largest logit, to which D is lifted; or to that of D before."""
    top = logits.max(axis=-1, keepdims=True)
    lead = (logits * D).sum(axis=-1, keepdims=True) if mistake else top
    moves = np.maximum(0, logits - lead + 1)
    return softmax_vjp(softmax(np.where(D == 1, top, logits - moves), tau), g) / tau


def mve(logits, D, g, tau, rng, mistake):
    """S_k' g, or S_k g."""
    rows = [minimum_variance(logits, D, np.broadcast_to(e, g.shape)) for e in np.eye(g.shape[-1])]
    return np.einsum("i...j,...i->...j" if not mistake else "i...j,...j->...i", np.array(rows), g)


def reinmax_rao(logits, D, g, tau, rng, mistake):
    """Four relaxed samples around log((pi + D) / 2) given D, and two mistakes."""
    pi = softmax(logits)
    centre = logits if mistake == "around theta" else np.log((pi + D) / 2)
    E = rng.standard_exponential((4, *logits.shape))
    S = softmax(conditional_gumbels(centre, D, E), tau)
    J = softmax_vjp(S, g).mean(axis=0)
    if mistake == "one Jacobian at the mean sample":
        J = softmax_vjp(S.mean(axis=0), g)
    return 2 * J / tau - softmax_vjp(pi, g) / 2


GIVEN_D = [
    *[(reinmax, "reinmax", m) for m in ("tau in the last term too", "the factor 2", "no second term")],
    (zgr, "zgr", True),
    (gst, "gst", True),
    (gst_gap_to_D, "gst", True),
    (mve, "mve", True),
    *[(reinmax_rao, "reinmax-rao-mc4", m) for m in ("around theta", "one Jacobian at the mean sample")],
]  # fmt: skip


def decoupled(logits, df_dD, tau, rng, mistake):
    """The Jacobian at the noise that drew D and the backward temperature, or at fresh noise."""
    x = sample_gumbels(logits, rng)
    D = one_hot(x.argmax(axis=-1), logits.shape[-1], logits.dtype)
    again = sample_gumbels(logits, rng) if mistake else x
    return D, softmax_vjp(softmax(again, tau), df_dD(D)) / tau


def verdict(function, estimator, mistake):
    """Of the cross-check, in one precision: at one function of two variables, or at one temperature."""
    if (function, estimator) in {row[:2] for row in WHOLE}:
        n = 2 if estimator in ("arm", "disarm") else 3
        logits = np.linspace(-0.6, 0.9, 2 * n).reshape(2, n)
        whole = lambda logits, f, rng: function(logits, f, rng, mistake=mistake)  # noqa: E731
        return check(whole, estimator, f=f, logits=logits, dtype="float64")
    if function is decoupled:
        draws = lambda logits, df_dD, tau, rng: function(logits, df_dD, tau, rng, mistake)  # noqa: E731
        return check(draws, estimator, tau=TAU, dtype="float64", categories=3, samples=2**12)
    given = lambda logits, D, df_dD, tau, rng: function(logits, D, df_dD, tau, rng, mistake)  # noqa: E731
    return check(given, estimator, tau=TAU, dtype="float64", categories=3, samples=2**12)


ROWS = [*WHOLE, *GIVEN_D, (decoupled, "decoupled-st-gs", True)]


@pytest.mark.parametrize(("function", "estimator"), dict.fromkeys(row[:2] for row in ROWS))
def test_the_right_version_passes(function, estimator):
    report = verdict(function, estimator, mistake=False)
    assert report.passed, report


SLOW = ("z instead of z~", "1/tau", "z~ held still", "z~ is not drawn given D")


@pytest.mark.parametrize(
    ("function", "estimator", "mistake"),
    [pytest.param(*row, marks=[pytest.mark.slow] if row[2] in SLOW else []) for row in ROWS],
)
def test_the_wrong_version_is_rejected(function, estimator, mistake):
    assert verdict(function, estimator, mistake).failures
