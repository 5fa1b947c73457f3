"""``rbst listops``: what it writes, that it resumes bit for bit, when it stops, and what it refuses."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rbst._files import read_json, read_npz
from rbst.cli import main
from rbst.data.listops import FILE, gold_merges, parse
from rbst.experiments import listops as experiment
from rbst.experiments.listops import (
    EXPERIMENT,
    Config,
    ParserRun,
    describe,
    draw_table,
    format_table,
    load_data,
    unlabelled_f1,
)
from rbst.experiments.report import best_runs
from rbst.experiments.run import train_run
from rbst.experiments.training import TrainingState, adam_step, load_state
from rbst.plotting import new_figure, plot_curves

REAL_DATA_DIR = os.environ.get("RBST_DATA_DIR")

pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = [
    *("--num-expressions", "400", "--hidden", "6", "--iterations", "12", "--measure-every", "3"),
    *("--batch-size", "5", "--checkpoint-every", "2"),
]


@pytest.fixture(autouse=True)
def _no_published_files(tmp_path, monkeypatch):
    """Nothing is found on this machine, and nothing is fetched."""
    monkeypatch.delenv("RBST_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def listops(*arguments):
    return main(["listops", *SMALL, *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small experiment."""
    out = tmp_path_factory.mktemp("listops") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RBST_DATA_DIR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(out.parent))
        names = ("st-gs", "reinforce", "gold", "left")
        assert listops("--out", out, *(w for name in names for w in ("--estimator", name))) == 0
    return out


def test_everything_is_written(finished):
    assert {path.name for path in finished.iterdir()} == {
        "config.json",
        "results.json",
        "curves.svg",
        "trees.svg",
        *(f"{name}-seed0" for name in ("st-gs", "reinforce", "gold", "left")),
    }
    runs = {run["estimator"]: run for run in read_json(finished / "results.json")["runs"]}
    for run in runs.values():
        assert run["curves"]["iteration"] == [3, 6, 9, 12]
        assert set(run["accuracy"]) == {"train", "valid", "test"}
        assert all(0 <= accuracy <= 1 for accuracy in run["accuracy"].values())
    assert set(runs["gold"]["f1"].values()) == {1.0}
    assert runs["left"]["f1"]["test"] < 1


def test_the_table_shows_a_collapse():
    """A run is tested with its best parameters, and its accuracy at the end stands beside that."""
    best = {key: {"train": 0.51, "valid": 0.5, "test": 0.52} for key in ("accuracy", "f1")}
    ends = {"curves": {"valid_accuracy": [0.3, 0.5, 0.17]}, "diverged_at": None}
    run = {"estimator": "st-gs", "milliseconds_per_iteration": 1.0, "iterations": 3} | best | ends
    row = format_table(Config(estimators=("st-gs",)), [run]).splitlines()[2]
    assert row.split() == ["st-gs", "51.0", "50.0", "52.0", "52.0", "17.0", "1.0", "3"]


def test_accuracy_and_f1_are_those_of_the_best_parameters(finished):
    config = Config(num_expressions=400, hidden=6, batch_size=5, iterations=12, measure_every=3)
    run = ParserRun(config, "left", 0, load_data(config), finished / "left-seed0")
    result = read_json(finished / "results.json")["runs"][3]
    flat = run.best()
    correct, scores = 0, []
    for example in run.data.test:
        labels, _ = run.predict(flat, experiment.pad([example]))
        correct += int(labels[0]) == example.label
        if len(example.tokens) > 2:
            scores.append(unlabelled_f1((0,) * len(example.merges), example.merges))
    assert result["accuracy"]["test"] == correct / len(run.data.test)
    assert result["f1"]["test"] == pytest.approx(np.mean(scores))
    curves = result["curves"]["valid_accuracy"]
    assert result["accuracy"]["valid"] == max(
        curves
    )  # the validation set is smaller than its limit


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, monkeypatch, optimizer):
    options = ("--estimator", "gr-mc10", "--optimizer", optimizer, "--momentum", 0.5)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert listops(*options, "--out", whole) == 0

    steps = []
    minibatch = experiment.minibatch

    def dies(*arguments):
        steps.append(arguments)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return minibatch(*arguments)

    monkeypatch.setattr(experiment, "minibatch", dies)
    assert listops(*options, "--out", killed) == 130
    assert read_npz(killed / "gr-mc10-seed0" / "checkpoint.npz")
    assert main(["listops", "--resume", "--out", str(killed), "--checkpoint-every", "2"]) == 0
    for name in ("best.npz", "checkpoint.npz"):
        a = read_npz(whole / "gr-mc10-seed0" / name)
        b = read_npz(killed / "gr-mc10-seed0" / name)
        np.testing.assert_array_equal(a["parameters"], b["parameters"])
    a, b = (read_json(out / "results.json")["runs"][0] for out in (whole, killed))
    assert [a[key] for key in ("curves", "accuracy", "f1", "iterations")] == [
        b[key] for key in ("curves", "accuracy", "f1", "iterations")
    ]


def test_a_run_stops_when_its_patience_ends(tmp_path):
    config = Config(
        ("gold",),
        num_expressions=400,
        hidden=4,
        iterations=100,
        measure_every=2,
        patience=3,
        learning_rate=1e-9,
    )
    run = ParserRun(config, "gold", 0, load_data(config), tmp_path)
    result = train_run(run, checkpoint_every=10, progress=False)
    assert result["iterations"] == 8  # the first validation, and three that are no better
    assert read_npz(tmp_path / "best.npz")


def test_a_training_that_diverges_ends_and_says_so(tmp_path, capsys):
    options = ("--estimator", "st-gs", "--learning-rate", 1e45, "--out", tmp_path / "out")
    with np.errstate(all="ignore"):
        assert listops(*options) == 0
    assert read_json(tmp_path / "out" / "results.json")["runs"][0]["diverged_at"] <= 12
    assert "diverged at iteration" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimator", "gs"], "a relaxed merge is not a tree"),
        (["--estimator", "gumbel"], "unknown estimator"),
        (["--patience", "0"], "--patience must be at least 1, got 0"),
        (["--clip", "0"], "--clip must be positive and finite, got 0.0"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--batch-size", "100000"], "--batch-size must be at most"),
        (["--resume"], "--resume needs --out"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    assert listops(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_resume_refuses_another_setting(finished, capsys):
    assert main(["listops", "--resume", "--out", str(finished), "--tau", "0.7"]) == 2
    assert "was started with tau = 0.01, got 0.7" in capsys.readouterr().err


def test_curves_are_the_mean_and_the_range_of_the_seeds_that_go_on():
    _, ((axes,),) = new_figure(1, 1, width=2, height=2)
    runs = {"iteration": [5, 10], "y": [1, 2]}, {"iteration": [5], "y": [3]}
    plot_curves(axes, {"st": runs}, "y", scale=10)
    (line,), (band,) = axes.lines, axes.collections
    np.testing.assert_array_equal(line.get_xydata(), [[5, 20], [10, 20]])
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners == {(5, 10), (5, 30), (10, 20)}


def test_report_makes_the_table_of_the_paper(finished, tmp_path, capsys):
    words = ["report", str(finished), "--out", str(tmp_path), "--format", "markdown"]
    assert main(words) == 0
    heading, _, *rows, _, note = capsys.readouterr().out.strip().splitlines()
    assert "tokens" not in heading
    assert note.startswith("All: tokens ≤ 10. ")
    names, _, test, paper = zip(*(row.strip("| ").split(" | ")[:4] for row in rows), strict=True)
    assert names == ("gold", "left", "reinforce", "st-gs")
    assert paper[3] == "38.8"  # at tau = 0.01
    result = read_json(finished / "results.json")["runs"][0]
    assert float(test[3]) == pytest.approx(100 * result["accuracy"]["test"], abs=0.051)


def a_run(rate, seed, valid, test, name="st-gs", max_length=10, tau=0.01):
    return {
        "config": {"max_length": max_length, "tau": tau, "learning_rate": rate},
        "estimator": name,
        "seed": seed,
        "iterations": 5,
        "accuracy": {"valid": valid, "test": test},
        "f1": {"test": 0.5},
    }


def test_report_chooses_the_learning_rate_by_validation():
    runs = [
        a_run(0.1, 0, 0.6, 0.1),
        a_run(0.1, 1, 0.5, 0.3),
        a_run(0.2, 0, 0.54, 0.9),
    ]
    best = best_runs(runs, EXPERIMENT.report)
    (cell,) = best
    line = EXPERIMENT.report.line(cell, best, runs)
    assert (line["test"], line["paper"]) == ("20.0 ± 10.0", "38.8")


def test_report_draws_the_table_with_the_paper_beside_it():
    runs = [
        a_run(0.1, 0, 0.6, 0.1),
        a_run(0.1, 1, 0.5, 0.3),
        a_run(0.2, 0, 0.54, 0.9),
    ]
    runs += [a_run(0.1, 0, 0.6, 0.66, tau=1.0), a_run(0.1, 0, 0.7, 0.7, "left", tau=1.0)]
    runs += [a_run(0.1, 0, 0.6, 0.55, "gr", 50)]
    ten, fifty = draw_table(runs).axes
    left, st_gs, theirs = (line.get_xydata().tolist() for line in ten.lines)
    assert [y for _, y in left] == pytest.approx([70, 70, 70])
    assert st_gs == [[0.01, pytest.approx(20)], [1, pytest.approx(66)]]
    assert theirs == [[0.01, 38.8], [1, 65.8]]
    gr, gr_mc1000 = (line.get_xydata().tolist() for line in fifty.lines)
    assert (gr, gr_mc1000) == ([[0.01, pytest.approx(55)]], [[0.01, 60.0]])
    assert draw_table(runs[:3]) is None  # one temperature and length
    for run in runs:
        del run["accuracy"]
    assert draw_table(runs) is None  # none is tested


def test_f1_of_the_published_trees():
    tokens, merges = parse("[SM 6 [MIN 3 4 ] ]")
    assert unlabelled_f1(gold_merges(tokens), merges) == 1
    # Of (0,2) (2,4) (2,5) (2,6) (0,6) a left-branching tree has (0,2) and (0,6).
    assert unlabelled_f1((0,) * 6, merges) == 0.4


def test_a_limit_of_the_norm_shortens_the_first_step_to_it(tmp_path):
    lengths = {}
    for clip in (None, 0.05, 1e9):
        options = {} if clip is None else {"clip": clip}
        config = Config(num_expressions=400, hidden=6, batch_size=5, iterations=1, **options)
        run = ParserRun(config, "st-gs", 0, load_data(config), tmp_path / str(clip))
        assert train_run(run, checkpoint_every=1, progress=False)["config"]["clip"] == clip
        state = run.start()
        start = state.parameters.copy()
        load_state(run.folder / "checkpoint.npz", state)
        lengths[clip] = np.linalg.norm(state.parameters - start)
    assert lengths[0.05] == pytest.approx(0.05 * config.learning_rate, rel=1e-4)
    assert lengths[None] == lengths[1e9] > lengths[0.05]


def test_the_learning_rate_falls_linearly():
    config = Config(learning_rate=0.2, learning_rate_final=0.0, iterations=101)
    rates = [config.learning_rate_at(iteration) for iteration in (0, 50, 100)]
    assert rates == pytest.approx([0.2, 0.1, 0.0])
    assert Config(learning_rate=0.2).learning_rate_at(70) == 0.2


def test_adam_is_algorithm_1():
    state = TrainingState(np.array([1.0, -2.0]), np.zeros((2, 2)), None, None)
    gradients = np.array([[0.5, -1.0], [0.1, 3.0]])
    m = v = np.zeros(2)
    expected = state.parameters.copy()
    for t, g in enumerate(gradients, start=1):
        adam_step(state, g, learning_rate=0.1)
        state.iteration += 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(state.parameters, expected, rtol=1e-12)


@pytest.mark.slow
def test_gold_trees_teach_the_network_more_than_chance(tmp_path):
    config = Config(("gold",), num_expressions=20_000, iterations=2500, measure_every=500)
    run = ParserRun(config, "gold", 0, load_data(config), tmp_path)
    result = train_run(run, checkpoint_every=2500, progress=False)
    assert max(result["curves"]["valid_accuracy"]) > 0.45


@pytest.mark.slow
@pytest.mark.real_data
def test_the_published_test_file_is_kept_out_and_tested_on(tmp_path, monkeypatch):
    folder = REAL_DATA_DIR
    if not folder or not (Path(folder) / FILE.format(split="test")).is_file():
        pytest.skip("RBST_DATA_DIR names no folder with the published ListOps test file")
    monkeypatch.setenv("RBST_DATA_DIR", folder)
    assert (
        listops("--estimator", "gr-mc10", "--num-expressions", 20_000, "--out", tmp_path / "out")
        == 0
    )
    assert read_json(tmp_path / "out" / "config.json")["published_test"] is True
    assert "published_test" in read_json(tmp_path / "out" / "results.json")["runs"][0]["accuracy"]


def test_the_published_test_file_is_spoken_of_where_it_is_used():
    config = Config(num_expressions=400)
    data = load_data(config)
    assert "published" not in describe(config, data)
    with_file = describe(replace(config, published_test=True), data)
    assert with_file.endswith("0 dropped because the published test file holds them")
