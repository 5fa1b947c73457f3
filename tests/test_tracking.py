"""Variance and error of gradients along a training, against enumeration on a small model."""

import numpy as np
import pytest
from oracles import assert_mean, slow

from rbst import exact_gradient, get_estimator
from rbst._array import to_host
from rbst.data import load_digits
from rbst.experiments.run import train_run
from rbst.experiments.tracking import (
    draws_of_D,
    gradient_draws,
    mean_squared_error,
    split_table,
    split_variance,
    track_run,
)
from rbst.experiments.vae import VAERun, make_config
from rbst.models.vae import VAE, bernoulli_log_likelihood


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    model = VAE(rng.uniform(0.2, 0.8, 6), num_variables=2, arity=3, hidden=(5,))
    parameters = 2 * model.initial_parameters(rng, np.float64)
    return model, parameters, (rng.random((3, 6)) < 0.5).astype(np.float64)


def exact(model, parameters, x):
    """The gradient of the mean cost with respect to the encoder logits, code by code."""
    views = model.layout.views(parameters)
    logits = model.encode(views, x)

    def cost(image):
        return lambda D: -bernoulli_log_likelihood(model.decode(views, D), image)

    rows = [exact_gradient(cost(image), row) for image, row in zip(x, logits, strict=True)]
    return np.stack(rows) / len(x)


def test_draws_of_reinforce_have_the_exact_gradient_as_their_mean(problem):
    draws = gradient_draws(
        *(problem[0], get_estimator("reinforce"), problem[1], problem[2]),
        num_draws=20_000,
        rng=np.random.default_rng(1),
        baseline=np.array([3.0, 4.0, 5.0]),
    )
    assert_mean(draws, exact(*problem))


@pytest.mark.slow
def test_copies_drawn_at_once_are_independent_draws(problem, monkeypatch):
    arguments = (problem[0], get_estimator("st-gs", tau=0.5), problem[1], problem[2], 6000)
    together = gradient_draws(*arguments, np.random.default_rng(2))
    monkeypatch.setattr("rbst.experiments.tracking.IMAGES_AT_ONCE", 1)
    one_by_one = gradient_draws(*arguments, np.random.default_rng(3))
    assert together.shape == one_by_one.shape == (6000, 3, 2, 3)
    traces = [draws.var(axis=0, ddof=1).sum() for draws in (together, one_by_one)]
    spread = [((d - d.mean(axis=0)) ** 2).sum(axis=(1, 2, 3)).std() / np.sqrt(6000) for d in
              (together, one_by_one)]  # fmt: skip
    assert abs(traces[0] - traces[1]) < 5 * np.hypot(*spread)


@pytest.mark.parametrize("name", ["st", "st-gs", "gr-mc100"])
def test_mse_against_a_noisy_reference_is_that_against_the_truth(problem, name):
    model, parameters, x = problem
    rng = np.random.default_rng(4)
    draws = gradient_draws(model, get_estimator(name, tau=0.3), parameters, x, 10_000, rng)
    reinforce = gradient_draws(model, get_estimator("reinforce"), parameters, x, 1000, rng)
    reference = reinforce.reshape(20, 50, *reinforce.shape[1:]).mean(axis=1)
    mse, error = mean_squared_error(draws, reference)
    truth = ((draws - exact(*problem)) ** 2).sum(axis=(1, 2, 3))
    assert abs(mse - truth.mean()) < 5 * np.hypot(error, truth.std() / 100)
    # Left as it is, the noise of the reference would be counted: the correction is not idle.
    naive = ((draws.mean(axis=0) - reference) ** 2).sum(axis=(1, 2, 3)).mean() + draws.var(
        axis=0, ddof=1
    ).sum()
    assert naive > truth.mean() + 5 * error


@pytest.mark.parametrize("tau", [0.5, *slow(0.1, 1.0)])
def test_the_two_parts_of_the_variance_are_those_of_proposition_3(problem, tau):
    """Against the sampled traces of ST-GS and GR, and with the same mean; 5 standard errors each."""
    model, parameters, x = problem
    rng = np.random.default_rng(5)
    D, df_dD = draws_of_D(model, parameters, x, 10_000, rng)
    assert set(np.unique(D)) == {0, 1}
    logits = to_host(model.encode(model.layout.views(parameters), x))
    mean, split = split_variance(logits, D, df_dD, tau)
    parts = {"st-gs": ("choice", "noise"), "gr": ("choice",)}
    for name, keys in parts.items():
        draws = gradient_draws(model, get_estimator(name, tau=tau), parameters, x, 10_000, rng)
        squares = ((draws - draws.mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
        error = np.hypot(squares.std() / 100, sum(split[f"{key}_error"] for key in keys))
        assert abs(squares.mean() - sum(split[key] for key in keys)) < 5 * error
        spread = np.hypot(draws.std(axis=0), mean.std(axis=0)) / 100
        assert (abs(draws.mean(axis=0) - mean.mean(axis=0)) < 5 * spread).all()
    assert split["noise"] > 5 * split["noise_error"]


def test_a_tracked_run_keeps_snapshots_and_resumes(tmp_path, monkeypatch):
    for name, value in (("REFERENCE_DRAWS", 40), ("VARIANCE_DRAWS", 40), ("TAUS", (0.5,))):
        monkeypatch.setattr(f"rbst.experiments.tracking.{name}", value)
    options = {"bits": 4, "arity": 2, "hidden": [6], "iterations": 100, "track": True}
    run = VAERun(make_config(options), "st-gs", 0, load_digits(), tmp_path)
    train_run(run, checkpoint_every=50, progress=False)
    first = track_run(run)
    assert [point["iteration"] for point in first["points"]] == list(range(10, 101, 10))
    assert ["mse" in point for point in first["points"]].count(True) == 3
    variance, (split,) = first["points"][0]["variance"], first["points"][0]["split"]
    assert split["tau"] == 0.5
    assert variance["gr"] == split["choice"]
    assert variance["st-gs"] == split["choice"] + split["noise"]
    assert variance["gr-mc100"] == split["choice"] + split["noise"] / 100
    assert split_table(first["points"]).count("%") == 3
    (tmp_path / "snapshots" / "0000050.json").unlink()
    assert track_run(run) == first
