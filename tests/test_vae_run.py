"""One run: annealing, settings by data set, the resumable test bound, and what divergence leaves."""

import json
import tracemalloc
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest

from rbst.cli import main
from rbst.data import load_digits
from rbst.experiments import run as run_module
from rbst.experiments.run import train_run
from rbst.experiments.settings import digest, read_config
from rbst.experiments.training import Diverged
from rbst.experiments.vae import DEFAULTS, Config, VAERun, make_config
from rbst.models.vae import VAE

pytestmark = pytest.mark.usefixtures("unrendered")

TINY = {"bits": 4, "arity": 2, "hidden": [6], "iterations": 40, "bound_samples": 5}


@pytest.fixture
def run(tmp_path):
    return VAERun(make_config(TINY), "st-gs", 0, load_digits(), tmp_path / "run")


def test_the_temperature_falls_geometrically_from_tau_to_tau_final(run):
    falling = replace(run, config=Config(tau=1.0, tau_final=0.25, iterations=101))
    taus = [falling.estimator(iteration).tau for iteration in range(101)]
    assert (taus[0], taus[50], taus[100]) == pytest.approx((1.0, 0.5, 0.25))
    np.testing.assert_allclose(np.diff(np.log(taus)), np.log(0.25) / 100)
    assert replace(run, config=Config(tau=0.3)).estimator(4000).tau == 0.3


def test_the_learning_rate_falls_geometrically_to_its_final_value():
    config = Config(learning_rate=0.1, learning_rate_final=0.001, iterations=101)
    rates = [config.learning_rate_at(iteration) for iteration in range(101)]
    assert (rates[0], rates[50], rates[100]) == pytest.approx((0.1, 0.01, 0.001))
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(0.01) / 100)
    assert Config(learning_rate=0.3).learning_rate_at(4000) == 0.3
    assert digest(Config()) != digest(Config(learning_rate_final=0.001))


def test_the_learning_rate_falls_linearly_to_zero():
    options = {"learning_rate": 0.1, "learning_rate_final": 0.0, "schedule": "linear"}
    config = Config(**options, iterations=101)
    rates = [config.learning_rate_at(iteration) for iteration in range(101)]
    np.testing.assert_allclose(rates, np.linspace(0.1, 0, 101), atol=1e-15)
    with pytest.raises(ValueError, match=r"positive for a geometric --schedule, got 0\.0"):
        Config(**options | {"schedule": "geometric"})


def test_each_part_of_the_model_has_its_rate(tmp_path):
    """One step from rest moves a part by its factor times what it moves with even rates."""
    moved = {}
    for encoder, output in ((1.0, 1.0), (2.5, 10.0)):
        config = make_config(
            TINY
            | {"rate_encoder": encoder, "rate_output": output, "iterations": 1, "dtype": "float64"}
        )
        run = VAERun(config, "st-gs", 0, load_digits(), tmp_path / f"{output}")
        train_run(run, checkpoint_every=100, progress=False)
        step = run.trained().parameters - run.start().parameters
        moved[output] = run.model.layout.views(step)
    for name, even in moved[1.0].items():
        last = name in (f"decoder.W{len(config.hidden)}", f"decoder.b{len(config.hidden)}")
        factor = 2.5 if name.startswith("encoder") else 10.0 if last else 1.0
        assert np.abs(even).max() > 0
        np.testing.assert_allclose(moved[10.0][name], factor * even, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("final", [{"tau_final": 0.1}, {"learning_rate_final": 1e-4}])
def test_annealing_changes_the_training(tmp_path, final):
    bounds = []
    for options in ({}, final):
        config = make_config(TINY | {"tau": 1.0} | options)
        run = VAERun(config, "st-gs", 0, load_digits(), tmp_path / str(len(bounds)))
        bounds.append(train_run(run, checkpoint_every=100, progress=False)["valid_bound"])
    assert bounds[0] != bounds[1]


def test_defaults_of_mnist_are_the_architecture_of_the_paper():
    config = make_config({"data": "mnist", "arity": 16})
    assert (config.bits, config.num_variables, config.hidden) == (240, 60, (240, 240))
    assert (config.iterations, config.bound_samples) == (50_000, 5000)
    model = VAE(np.full(784, 0.5), config.num_variables, config.arity, config.hidden, config.code)
    assert model.layout.shapes["decoder.W0"] == (240, 240)  # at every arity
    assert make_config({}) == Config() == DEFAULTS["digits"]
    lengths = {n: make_config({"data": "mnist", "arity": n}).num_variables for n in (2, 4, 8, 16)}
    assert lengths == {2: 240, 4: 120, 8: 80, 16: 60}


def test_a_configuration_survives_its_file(tmp_path):
    config = make_config({"data": "mnist", "tau_final": 0.1, "estimators": ["gs", "st"]})
    (tmp_path / "config.json").write_text(json.dumps(vars(config) | {"version": "0"}))
    assert read_config(tmp_path / "config.json", make_config) == config
    came_later = {
        f.name: f.metadata["before"] for f in fields(config) if f.metadata["before"] is not MISSING
    }
    older = {k: v for k, v in vars(config).items() if k not in came_later}
    (tmp_path / "older.json").write_text(json.dumps(older))
    # What a record does not say is what was done before it could be said, not today's default.
    was = replace(config, **came_later)
    assert was != config
    assert read_config(tmp_path / "older.json", make_config) == was


def test_a_test_that_was_killed_ends_as_if_it_had_not_been(run, monkeypatch):
    train_run(run, checkpoint_every=100, progress=False)
    whole = run.test(progress=False)
    for path in (*run.folder.glob("test*"),):
        path.unlink()

    calls, bounds = [], VAE.bounds

    def bounds_or_die(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return bounds(*arguments)

    monkeypatch.setattr(VAE, "bounds", bounds_or_die)
    with pytest.raises(KeyboardInterrupt):
        run.test(progress=False)
    assert not (run.folder / "test.json").exists()
    assert run.test(progress=False) == whole
    assert len(calls) == 4  # two blocks of three, one that died, and that one again
    monkeypatch.setattr(VAE, "bounds", None)
    assert run.test(progress=False) == whole  # read, not made again


def test_memory_of_a_bound_does_not_grow_with_its_samples():
    rng = np.random.default_rng(0)
    model = VAE(rng.uniform(0.2, 0.8, 64), num_variables=12, arity=4, hidden=(32,))
    parameters = model.initial_parameters(rng, np.float32)
    x = (rng.random((100, 64)) < 0.5).astype(np.float32)
    peaks = []
    for M in (50, 1000):
        tracemalloc.start()
        model.bounds(parameters, x, M, rng)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 10e6


def test_a_diverging_run_is_a_result_without_bounds(run, monkeypatch):
    def diverge(state, *_, **__):
        state.iteration = 17
        raise Diverged("iteration 17")

    monkeypatch.setattr(run_module, "train", diverge)
    result = train_run(run, checkpoint_every=100, progress=False)
    assert result["diverged_at"] == 17
    assert "valid_bound" not in result
    assert train_run(run, checkpoint_every=100, progress=False) == json.loads(json.dumps(result))


def test_validation_images_are_shuffled_and_the_same_for_every_run(run):
    images = run.validation_images
    assert images.shape == (300, 64)
    other = VAERun(make_config(TINY), "gs", 5, load_digits(), run.folder)
    np.testing.assert_array_equal(images, other.validation_images)
    assert not np.array_equal(images, run.images.valid)


def test_an_estimator_of_ones_own_trains_by_its_address(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_too.py").write_text(
        "from rbst import Estimator, get_estimator\n"
        "st_gs = lambda tau: Estimator('mine', 'corner', get_estimator('st-gs', tau=tau).pull_back)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    small = ["--bits", "4", "--arity", "2", "--hidden", "6", "--iterations", "30"]
    runs = {}
    for name in ("mine_too:st_gs", "st-gs"):
        out = tmp_path / name.replace(":", "-")
        assert main(["vae", *small, "--estimator", name, "--out", str(out)]) == 0
        (runs[name],) = json.loads((out / "results.json").read_text())["runs"]
    assert runs["mine_too:st_gs"]["test_bound"] == runs["st-gs"]["test_bound"]
    assert main(["report", str(tmp_path / "mine_too-st_gs")]) == 0
    assert "mine_too" in capsys.readouterr().out
    assert main(["vae", "--estimator", "mine_too:nope", "--out", str(tmp_path / "x")]) == 2
    assert "no 'nope'" in capsys.readouterr().err
