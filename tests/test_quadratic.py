"""``rbst quadratic`` and ``rbst compare``: the traces of Figure 1, the minimisation, and the commands."""

import itertools
import json
import math

import numpy as np
import pytest

from rbst import diagnose, get_estimator, softmax
from rbst.cli import main
from rbst.experiments.quadratic import (
    Config,
    SimplexMesh,
    compare_traces,
    exact_traces,
    log_ratio,
    minimise,
    sampled_traces,
    summarise_traces,
)
from rbst.problems import programme, programme_gradient, programme_value


class NoProgress:
    def update(self):
        pass


# The mesh.


@pytest.mark.parametrize("resolution", [6, 18, 48])
def test_mesh_covers_the_simplex_and_respects_the_singularities(resolution):
    mesh = SimplexMesh(resolution)
    assert mesh.centres.shape == (resolution**2, 3)
    np.testing.assert_allclose(mesh.centres.sum(axis=-1), 1)
    corners = mesh.vertices[mesh.triangles]
    areas = abs(np.linalg.det(corners))
    np.testing.assert_allclose(areas, areas[0])
    assert areas.sum() == pytest.approx(1)  # the determinant of the three corners of the simplex
    # No cell straddles a line p_k = 2/3, and no centre is on one or at the centroid.
    above = corners >= 2 / 3 - 1e-9
    below = corners <= 2 / 3 + 1e-9
    assert (above.all(axis=1) | below.all(axis=1)).all()
    assert abs(mesh.centres - 2 / 3).min() > 0.3 / resolution
    assert abs(mesh.centres - 1 / 3).max(axis=-1).min() > 0.3 / resolution


# The traces.


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_traces_are_those_of_the_diagnosis(tau):
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=5)
    traces = exact_traces(p, tau)
    for k in range(5):
        toy = programme(p[k : k + 1])
        for name, values in traces.items():
            d = diagnose(get_estimator(name, tau=tau), toy.f, np.log(p[k : k + 1]), df_dD=toy.df_dD)
            assert values[k] == pytest.approx(d.variance, rel=1e-6)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_traces_match_sampled_ones(tau):
    """4 standard errors at 9 points for two estimators: a false alarm has probability 1e-3."""
    p = SimplexMesh(3).centres
    exact = exact_traces(p, tau)
    sampled = sampled_traces(p, tau, 1000, np.random.default_rng(1), NoProgress())
    for name, (trace, error) in sampled.items():
        assert (abs(trace - exact[name]) < 4 * error).all(), name
    summary = compare_traces(sampled, exact)
    assert summary["points"] == 9
    assert summary["most standard errors away"] < 4


def test_rao_blackwellizing_helps_everywhere_and_more_when_colder():
    """What Figure 1 of the paper claims."""
    p = SimplexMesh(12).centres
    differences = [log_ratio(exact_traces(p, tau), "gr-mc1000") for tau in (0.1, 0.5, 1.0)]
    assert min(difference.min() for difference in differences) > 0  # Proposition 2
    for colder, warmer in itertools.pairwise(differences):
        assert (colder > warmer).all()


def test_difference_is_larger_near_corners_and_edges():
    summary = summarise_traces(SimplexMesh(24).centres, exact_traces(SimplexMesh(24).centres, 1.0))
    corners, edges, middle = summary["gr-mc1000"]["median by region"].values()
    assert corners > edges > middle


def test_difference_stays_finite_at_the_singular_lines():
    distances = np.array([1e-2, 1e-4, 1e-6, 1e-8])
    p = np.stack([2 / 3 - distances, np.full(4, 0.2), 2 / 15 + distances], axis=-1)
    traces = exact_traces(p, 0.5)
    assert traces["st-gs"][-1] > 1e10 * traces["st-gs"][0]
    difference = log_ratio(traces, "gr")
    assert abs(difference[-1] - difference[-2]) < 1e-4
    assert difference.max() < 1


# The minimisation.


def test_exact_descent_reaches_the_optimum():
    (run,) = minimise("exact", 0.5, Config())
    assert run["distance"][0] == pytest.approx(np.linalg.norm(np.array([0.05, 0.35, 0.6]) - 1 / 3))
    assert run["distance"][-1] < 1e-3
    assert (np.diff(run["distance"]) < 0).all()


def test_one_step_follows_the_gradient_in_the_mean():
    """For an unbiased estimate the mean of the first step is the exact one; 4 standard errors."""
    config = Config(seeds=20_000, steps=1, learning_rate=1e-3)
    runs = minimise("reinforce", 0.5, config)
    change = np.array([run["distance"][1] - run["distance"][0] for run in runs])
    (exact,) = minimise("exact", 0.5, config)
    expected = exact["distance"][1] - exact["distance"][0]
    # A second-order term of the softmax, of relative size 1e-3, is below the noise.
    assert abs(change.mean() - expected) < 4 * change.std() / math.sqrt(20_000)
    assert abs(expected) > 10 * change.std() / math.sqrt(20_000)


@pytest.mark.parametrize("name", ["st", "st-gs", "gr-mc10", "gr", "zgr", "gs", "reinforce"])
def test_every_estimator_approaches_the_optimum_at_high_temperature(name):
    runs = minimise(name, 1.0, Config(seeds=5, steps=60))
    distances = np.array([run["distance"] for run in runs])
    assert distances.shape == (5, 61)
    assert distances[:, -1].mean() < 0.3 * distances[:, 0].mean()


def test_seeds_repeat():
    config = Config(seeds=3, steps=5)
    assert minimise("st-gs", 0.5, config) == minimise("st-gs", 0.5, config)
    other = Config(seeds=3, steps=5, seed=1)
    assert minimise("st-gs", 0.5, config) != minimise("st-gs", 0.5, other)


def test_programme_falls_along_its_gradient():
    logits = np.log([[0.2, 0.3, 0.5]])
    step = logits - 1e-3 * programme_gradient(softmax(logits))
    assert programme_value(softmax(step)) < programme_value(softmax(logits))


# The commands.


@pytest.mark.slow
def test_quadratic_writes_results_and_figures(tmp_path, capsys):
    out = tmp_path / "toy"
    arguments = ["quadratic", "--quick", "--samples", "4", "--tau", "0.5", "--out", str(out)]
    assert main(arguments) == 0
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "results.json",
        "figure1.svg",
        "minimisation.svg",
    }
    stored = json.loads((out / "results.json").read_text())
    assert stored["config"]["taus"] == [0.5]
    assert set(stored) == {"config", "version", "finished", "seconds", "results"}
    assert set(stored["results"]) == {"figure_1", "monte_carlo", "minimisation"}
    assert stored["results"]["monte_carlo"]["0.5"]["points"] == 36
    assert "Mean distance to the optimum" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "exists already and is never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "0.7", "0.2", "0.1"], "each below 2/3"),
        (["--start", "0.5", "0.2", "0.1"], "sum to 1"),
        (["--resolution", "10"], "a multiple of 3"),
        (["--samples", "1"], "0 or at least 2"),
        (["--estimator", "foust"], "Boolean"),
        (["--estimator", "gr-mc"], "unknown estimator"),
        (["--tau", "0"], "tau must be positive"),
        (["--tau", "0.1", "--tau", "0.10000001"], "differ in its first six digits"),
    ],
)
def test_quadratic_refuses_bad_options_before_it_writes(tmp_path, capsys, options, message):
    out = tmp_path / "toy"
    assert main(["quadratic", "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    "problem",
    [
        "linear",
        pytest.param("quadratic", marks=[pytest.mark.renders, pytest.mark.slow]),
        pytest.param("programme", marks=pytest.mark.slow),
    ],
)
def test_compare_writes_table_results_and_figures(tmp_path, capsys, problem):
    out = tmp_path / "table"
    options = ["--problem", problem, "--n", "3", "--variables", "2", "--tau", "0.5", "--tau", "1"]
    assert main(["compare", "--quick", *options, "--num-samples", "7", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "results.json",
        "table.md",
        "against-tau.svg",
        "against-samples.svg",
    }
    results = json.loads((out / "results.json").read_text())["results"]
    names = {(d["estimator"], d["tau"]) for d in results["diagnoses"]}
    assert {
        ("gr-mc7", 0.5),
        ("gr-mc7", 1.0),
        ("gr", 0.5),
        ("zgr", None),
        ("reinforce", None),
    } <= names
    assert "Boolean" in results["left_out"]["foust"]
    methods = {d["estimator"]: d["method"] for d in results["diagnoses"]}
    random = {name for name in methods if get_estimator(name).given_D == "random"}
    assert {name for name in methods if methods[name] == "sampled"} == random
    assert "returning zero" in capsys.readouterr().out
    assert all(f"| {name} " in (out / "table.md").read_text() for name in methods)


def test_compare_refuses_too_many_outcomes(tmp_path, capsys):
    assert main(["compare", "--variables", "40", "--out", str(tmp_path / "x")]) == 2
    assert "joint outcomes" in capsys.readouterr().err
