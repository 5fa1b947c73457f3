"""Estimators that are not what they say, and functions that autograd cannot see, are refused before a diagnosis.

What is right must be believed: whatever its law, with a false alarm in 1e6 calls at most.
"""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from oracles import NAMES, QUADRATURE, THOROUGH

from rbst import Estimator, best_temperature, claims, diagnose, get_estimator, reinmax
from rbst.categorical import softmax
from rbst.claims import check_claim
from rbst.problems import QUARTIC


def random_logits(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def wrapped(name, tau=0.5, /, **changes):
    """An estimator of the table as one of one's own."""
    inner = get_estimator(name, tau=tau)
    own = {"name": "mine", "pull_back": lambda *arguments: inner.pull_back(*arguments)}
    return dataclasses.replace(inner, **own | changes)


def fixed(pull_back, **changes):
    return Estimator("mine", "corner", pull_back, **{"given_D": "fixed"} | changes)


def sample_at_twice_the_temperature(logits, rng):
    return wrapped("st").sample(logits / 2, rng)


def sample_inside(logits, rng):
    D = wrapped("st").sample(logits, rng)[1]
    return (D + 1) / 4, D


@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (1, 5)])
@pytest.mark.parametrize(
    ("estimator", "law", "figure"),
    [
        (wrapped("zgr", given_D="gumbel-rao", tau=0.5, num_samples=1), "gr-mc1 at tau = 0.5", "over"),
        (wrapped("zgr", given_D="gumbel-rao", tau=0.5, num_samples=math.inf), "gr at tau = 0.5", "over"),
        (wrapped("st-gs", num_samples=100), "gr-mc100 at tau = 0.5", "over"),
        (wrapped("gr-mc10", num_samples=1), "gr-mc1 at tau = 0.5", "over"),
        (wrapped("st-gs", num_samples=math.inf), "gr at tau = 0.5", "over"),
        (wrapped("gr", num_samples=1), "gr-mc1 at tau = 0.5", "over"),
        (wrapped("st-gs", 0.55, tau=0.5), "gr-mc1 at tau = 0.5", "over"),
        (wrapped("gr-mc10", 0.55, tau=0.5), "gr-mc10 at tau = 0.5", "over"),
        (wrapped("st-gs", 0.45, tau=0.5), "gr-mc1 at tau = 0.5", "over"),
        (wrapped("st-gs", given_D="fixed"), "is fixed given D", "half the batch"),
        (wrapped("zgr", sample=sample_at_twice_the_temperature), "is fixed given D", "from|over"),
        (wrapped("st-gs", sample=sample_at_twice_the_temperature), "gr-mc1", "over"),
        (wrapped("zgr", sample=sample_inside), "is fixed given D", "other than D"),
        (wrapped("st-gs", pull_back=lambda theta, D, g, rng: mixed(theta, D, g, rng)), "gr-mc1", "other rows"),
        (fixed(lambda theta, D, g, rng: reinmax(theta, D, g - g.mean(axis=0))), "is fixed", "other rows"),
        (fixed(lambda theta, D, g, rng: reinmax(theta, D, g) / len(g)), "is fixed", "half the batch"),
        (fixed(lambda theta, D, g, rng: g * (D - D.mean(axis=0))), "is fixed", "half the batch"),
    ],
)  # fmt: skip
def test_an_estimator_that_is_not_what_it_says_is_refused_with_the_figure(
    estimator, law, figure, shape
):
    """Believed, it would get exact figures of something else."""
    message = rf"'mine' says that it .*{law}.*, got (gradients|samples|a point).* ({figure})"
    with pytest.raises(ValueError, match=message):
        diagnose(estimator, QUARTIC.f, random_logits(shape))


def mixed(theta, D, g, rng):
    """The mean of two rows of the batch keeps the mean, and little else."""
    gradient = get_estimator("st-gs", tau=0.5).pull_back(theta, D, g, rng)
    return (gradient + gradient[::-1]) / 2


@pytest.mark.parametrize("tau", [1e-3, 0.05, 0.5, 5.0, 100.0])
@pytest.mark.parametrize(
    "name", [name for name in NAMES if get_estimator(name).given_D != "random"]
)
def test_an_estimator_that_is_what_it_says_is_believed(name, tau, monkeypatch):
    """The bound on false alarms holds for few draws as for many, and for the heavy tails of low temperatures."""
    monkeypatch.setattr(claims, "NOISE", 2**12)
    for seed in range(2 if name in QUADRATURE else 8):
        for shape in ((1, 2), (2, 4)):
            check_claim(wrapped(name, tau), 3 * random_logits(shape, seed), seed)
    check_claim(wrapped(name, tau), np.array([[-np.inf, 0.0, 30.0]]))


@pytest.mark.slow
@pytest.mark.parametrize("tau", [1e-3, 0.05, 0.5, 5.0, 100.0])
@pytest.mark.parametrize("name", ["st-gs", "gr-mc10", "gr", "zgr", "reinforce"])
def test_an_estimator_that_is_what_it_says_is_believed_at_every_seed(name, tau):
    for seed in range(4 * THOROUGH):
        check_claim(wrapped(name, tau), random_logits((2, 4), seed), seed)


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("gap", [30.0, 60.0, 100.0])
def test_rounding_is_no_other_law(gap, n):
    """Where every variable is all but certain, the last digits of an estimate of one's own are all of it."""

    def by_a_product(theta, D, g, rng):
        pi = softmax(theta)
        return pi * (g - (pi * g) @ np.ones((n, 1)))

    def with_rounding(theta, D, g, rng):
        return get_estimator("gr", tau=0.5).pull_back(theta, D, g, rng) + 1e-17

    logits = np.zeros((3, n))
    logits[:, 0] = gap
    for name, pull_back in (("st", by_a_product), ("gr", with_rounding)):
        named = get_estimator(name, **({"tau": 0.5} if name == "gr" else {}))
        check_claim(replace(named, name="mine", pull_back=pull_back), logits)


@pytest.mark.parametrize("tau", [1e-4, 1e-14])
def test_rounding_hides_no_other_law(tau):
    gr = get_estimator("gr", tau=tau)
    for wrong in (
        lambda theta, D, g, rng: 0 * g,
        lambda theta, D, g, rng: 1.02 * gr.pull_back(theta, D, g, rng),
        lambda theta, D, g, rng: get_estimator("st").pull_back(theta, D, g, rng),
    ):
        with pytest.raises(ValueError, match="has the law of gr"):
            check_claim(replace(gr, name="mine", pull_back=wrong), random_logits((2, 3)))


def test_a_law_that_does_not_fit_where_f_is_evaluated_is_refused():
    for evaluates, law in (("inside", "fixed"), ("several", "fixed"), ("cost-only", "gumbel-rao")):
        with pytest.raises(
            ValueError, match=f"'{law}' given D evaluates 'corner'.*, got '{evaluates}'"
        ):
            Estimator(
                "mine",
                evaluates,
                lambda *a: a[2],
                estimate=lambda *a: a[1],
                given_D=law,
                tau=1.0,
                num_samples=1,
            )


def test_a_fixed_estimator_of_ones_own_may_take_costs():
    inner, own = get_estimator("reinforce"), wrapped("reinforce")
    logits = random_logits((2, 3))
    assert diagnose(own, QUARTIC.f, logits).variance == diagnose(inner, QUARTIC.f, logits).variance


@pytest.mark.parametrize("given_D", ["fixed", "gumbel-rao", "random"])
def test_a_gradient_of_another_shape_or_none_at_all_is_refused(given_D):
    """Broadcast, a gradient of shape (..., 1) would be an estimator without variance."""
    options = {"rng": np.random.default_rng(0), "num_samples": 10}
    law = {"given_D": given_D, "tau": 0.5, "num_samples": 1}
    logits = random_logits((2, 3))
    own = Estimator("mine", "corner", lambda logits, D, g, rng: g[..., :1], **law)
    with pytest.raises(ValueError, match="'mine' must return a gradient of the shape of logits"):
        diagnose(own, QUARTIC.f, logits, **options)
    wrong = {
        ValueError: lambda g, D: g * np.nan,
        TypeError: lambda g, D: g + 1j,
        (TypeError, ValueError): lambda g, D: np.ma.masked_array(g, D == 1),
    }
    for error, change in wrong.items():
        own = Estimator(
            "mine", "corner", lambda logits, D, g, rng, change=change: change(g, D), **law
        )
        with pytest.raises(error, match=r"'mine' must .*, got .*; "):
            diagnose(own, QUARTIC.f, logits, **options)


@pytest.mark.parametrize("name", ["st", "gs", "gr"])
def test_an_f_that_autograd_cannot_see_is_refused(name):
    def f(D):
        hidden = np.asarray(getattr(D, "_value", D))
        return QUARTIC.f(D) + (hidden[..., 0] ** 2).sum(axis=-1)

    options = {"rng": np.random.default_rng(0), "num_samples": 10}
    logits = random_logits((2, 3))
    with pytest.raises(
        ValueError, match=r"autograd must see all of f, got a slope of .*; write f with"
    ):
        diagnose(get_estimator(name), f, logits, **options)
    diagnose(get_estimator(name), f, logits, df_dD=QUARTIC.df_dD, **options)
    diagnose(get_estimator("reinforce"), f, logits)
    if name != "gs":
        with pytest.raises(ValueError, match="autograd must see all of f"):
            best_temperature(name if name == "gr" else "st-gs", f, logits)
