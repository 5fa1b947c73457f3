"""Sweeps: drawn up front, killed and resumed without loss, on local processes and on a Dask cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from oracles import at_night

from rbst.cli import main
from rbst.experiments import listops, vae
from rbst.experiments.sweep import Job, Space, job_key, plan_configs, train_job
from rbst.experiments.vae import Config, make_config

pytestmark = pytest.mark.usefixtures("unrendered")

INTERVALS = {"learning_rate": (1e-3, 1e-1), "tau": (0.1, 1.0), "momentum": (0.0, 0.9)}
SPACE = Space(INTERVALS, draws=200, seed=0)
TINY = (
    *("--bits", "4", "--arity", "2", "--hidden", "6", "--iterations", "120"),
    *("--checkpoint-every", "20", "--bound-samples", "5"),
)


def test_draws_are_fixed_by_their_seed_and_fill_the_intervals():
    draws = SPACE.sample()
    assert draws == SPACE.sample()
    assert draws[:3] == Space(**(vars(SPACE) | {"draws": 3})).sample()
    for name, (low, high) in INTERVALS.items():
        values = np.array([draw[name] for draw in draws])
        assert low <= values.min() < values.max() <= high
        u = np.log(values / low) / np.log(high / low) if low else values / high
        # The mean of 200 uniform draws has a standard error of .0204; 5 of them.
        assert abs(u.mean() - 0.5) < 0.102


@pytest.mark.parametrize("value", [5e-4, 1e-3, 0.1, 0.3])
def test_an_interval_that_is_a_point_is_that_point(value):
    point = (value, value)
    intervals = {"learning_rate": point, "tau": point, "momentum": (0.9, 0.9)}
    (draw,) = Space(intervals, draws=1, seed=0).sample()
    assert draw == {"learning_rate": value, "tau": value, "momentum": 0.9}


def test_every_cell_gets_the_same_draws_and_every_job_its_own_folder():
    grid = {"estimators": ("st", "foust"), "arity": (2, 8), "batch_size": (20, 200)}
    jobs = plan_configs(Config(), SPACE, vae.EXPERIMENT.cells(grid))
    assert len(jobs) == 200 * 2 * (2 + 1)  # foust at arity 2 only
    assert len({job_key(vae.EXPERIMENT, job) for job in jobs}) == len(jobs)
    by_cell = {}
    for job in jobs:
        cell = (job.estimators, job.arity, job.batch_size)
        by_cell.setdefault(cell, []).append((job.learning_rate, job.tau, job.momentum))
    draws = list(by_cell.values())
    assert all(other == draws[0] for other in draws)


def test_the_key_does_not_depend_on_the_way_a_configuration_came_about():
    config = Config(estimators=("st-gs",), tau=0.3)
    again = make_config(json.loads(json.dumps(vars(config))))
    assert job_key(vae.EXPERIMENT, again) == job_key(vae.EXPERIMENT, config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--learning-rate 0 1", "--learning-rate must be LOW HIGH"),
        ("--learning-rate 1 0.1", "--learning-rate must be LOW HIGH"),
        ("--tau 0.1 inf", "--tau must be LOW HIGH"),
        ("--momentum 0 1", "--momentum must be LOW HIGH"),
        (
            "--learning-rate 0.1 1 --learning-rate-final 0.2",
            "--learning-rate-final must be at most the lowest --learning-rate, 0.1, got 0.2",
        ),
        ("--draws 0", "--draws must be at least 1"),
        ("--search-seed -1", "--search-seed must be at least 0"),
        ("--workers 0", "--workers must be at least 1"),
        ("--arity 3", "--arity must be a power of 2"),
        ("--bits 25", "must be a positive multiple"),
        ("--estimator sg-ts", "unknown estimator"),
        ("--batch-size 2000", "at most the 1197 training images"),
    ],
)
def test_bad_options_are_one_line_before_any_work(words, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["sweep", *words.split(), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert not out.exists()


def test_resume_needs_the_same_sweep(tmp_path, capsys):
    assert main(["sweep", "--resume", "--out", str(tmp_path)]) == 2
    assert "leave --resume out" in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text('{"jobs": []}')
    assert main(["sweep", "--resume", "--out", str(tmp_path)]) == 2
    assert "other options" in capsys.readouterr().err


def test_a_job_that_was_killed_half_way_ends_as_if_it_had_not_been(tmp_path):
    config = Config(estimators=("gr-mc10",), bits=4, arity=2, hidden=(6,), iterations=60)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_job(Job("vae", config, whole, None, 10))
    train_job(Job("vae", config, killed, None, 10))
    (killed / "result.json").unlink()
    train_job(Job("vae", config, killed, None, 10))
    assert without_times(killed) == without_times(whole)


def without_times(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text())
    del result["milliseconds_per_iteration"]
    return result


def rows(out: Path) -> list[dict]:
    """The table of a sweep, but for the place it is in."""
    table = json.loads((out / "report.json").read_text())["rows"]
    return [row | {"folder": Path(row["folder"]).name} for row in table]


def command(out: Path, *words: str, draws: int = 3) -> list[str]:
    names = [word for name in ("st", "st-gs", "reinforce") for word in ("--estimator", name)]
    base = [sys.executable, "-m", "rbst", "sweep", *TINY, *names, "--draws", str(draws)]
    return [*base, "--workers", "2", "--out", str(out), *words]


def launch(words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished(out: Path) -> dict[Path, int]:
    """The finished runs and when they were written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}


def wait_until(condition, process: subprocess.Popen | None = None) -> bool:
    """Wait for a condition; False if the process ends before."""
    while not condition():
        if process is not None and process.poll() is not None:
            return condition()
        time.sleep(0.005)
    return True


@pytest.mark.slow
def test_sigkills_lose_no_finished_run_and_change_no_number(tmp_path):
    # 9 runs, at night 24, each far longer than the time to a kill: no sweep gets to its end before its kill.
    words, (kills, draws) = ("--iterations", "500"), at_night((5, 8), otherwise=(2, 3))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, *words, draws=draws), check=True, capture_output=True)
    rng = np.random.default_rng(1)
    kept: dict[Path, int] = {}
    for _ in range(kills):
        resume = ("--resume",) if killed.exists() else ()
        process = launch(command(killed, *words, *resume, draws=draws))
        before = len(kept)
        wait_until(lambda before=before: len(finished(killed)) > before, process)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        for path, written in kept.items():
            assert path.stat().st_mtime_ns == written
        kept = finished(killed)
    assert kills <= len(kept) < 3 * draws
    subprocess.run(
        command(killed, *words, "--resume", draws=draws), check=True, capture_output=True
    )
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert rows(killed) == rows(whole)
    assert [row["runs"] for row in rows(whole)] == [draws] * 3
    assert all(row["test_bound"] is not None for row in rows(whole))


@pytest.mark.slow
def test_workers_end_with_a_killed_sweep(tmp_path):
    process = launch(command(tmp_path / "out", "--iterations", "1000000"))
    wait_until(lambda: len(list((tmp_path / "out").rglob("checkpoint.npz"))) == 2, process)
    process.kill()
    process.wait()
    checkpoints = sorted((tmp_path / "out").rglob("checkpoint.npz"))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        times = [path.stat().st_mtime_ns for path in checkpoints]
        time.sleep(1)
        if times == [path.stat().st_mtime_ns for path in checkpoints]:
            return
    pytest.fail("orphaned workers went on training for 30 seconds")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("again", [0, 1, 20])
def test_an_interrupt_of_everyone_ends_all_without_a_traceback(tmp_path, again):
    """And so do more of them, from somebody impatient."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(out, "--iterations", "1000000"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        # What a shell starts in the background ignores interrupts, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_until(lambda: len(list(out.rglob("checkpoint.npz"))) == 2, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    for _ in range(again):
        time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.splitlines()[-1] == "interrupted"
    assert "Traceback" not in printed
    assert wait_until(lambda: not alive(process.pid))  # no worker is left


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps to find the worker processes")
def test_a_killed_worker_is_one_line_and_nothing_is_lost(tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(out, "--iterations", "20000"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: len(list(out.rglob("checkpoint.npz"))) == 2, process)
    children = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)],  # -ww: do not cut the line
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    workers = [line.split()[0] for line in children.splitlines() if "spawn_main" in line]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert b"rbst sweep: a worker process was killed" in errors
    assert b"Traceback" not in errors


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_table_and_survives_the_death_of_a_worker(tmp_path):
    pytest.importorskip("distributed", reason="needs rbst[cluster]")
    whole, out, address = tmp_path / "whole", tmp_path / "dask", tmp_path / "scheduler.json"
    subprocess.run(command(whole), check=True, capture_output=True)
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    processes = [launch([*dask, "--port", "0", "--no-dashboard", "--scheduler-file", str(address)])]
    try:
        wait_until(address.exists, processes[0])
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny"]
        worker += ["--scheduler-file", str(address), "--nthreads", "1", "--no-dashboard"]
        worker += ["--local-directory", str(tmp_path)]
        processes += [launch(worker), launch(worker)]
        wait_until(lambda: address.read_text().strip() != "")
        scheduler = json.loads(address.read_text())["address"]
        sweep = launch(command(out, "--scheduler", scheduler))
        assert wait_until(lambda: len(finished(out)) >= 2, sweep)
        kept = finished(out)
        processes[1].kill()
        assert sweep.wait(timeout=300) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert rows(out) == rows(whole)


def test_without_dask_a_scheduler_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["sweep", *TINY, "--scheduler", "tcp://127.0.0.1:1", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "pip install 'rbst[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_small_sweep_from_start_to_report(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["sweep", *TINY, "--estimator", "st-gs", "--draws", "2", "--workers", "1"]
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"data digits, bits 4, B = 20, n = 2\nestimator .*\n-+\nst-gs ", printed)
    assert "| st-gs | digits | 20 | 2 |" in (out / "report.md").read_text()
    first = rows(out)
    assert main([*words, "--out", str(out)]) == 2  # never overwritten
    assert "exists already" in capsys.readouterr().err
    best = next(out.rglob("test.json")).parent
    shutil.rmtree(best)
    assert main([*words, "--out", str(out), "--resume"]) == 0
    assert rows(out) == first


# ----------------------------------------------------------------------------- the parser

TINY_PARSER = (
    *("sweep", "listops", "--hidden", "6", "--iterations", "40", "--measure-every", "20"),
    *("--num-expressions", "1500", "--estimator", "left", "--estimator", "gr", "--tau", "0.1"),
    *("--tau", "1", "--draws", "2", "--workers", "1"),
)


@pytest.mark.parametrize(
    "words",
    [
        *("--draws 1", "--out mine", "--resume", "--estimator gr", "--iterations 3", "--arity 4"),
        *("--draws 20", "--search-seed 0", "--threads 2"),  # also at the default of another
    ],
)
def test_options_before_an_experiment_are_refused_and_not_dropped(words, capsys):
    assert main(["sweep", *words.split(), "listops", "--num-expressions", "200"]) == 2
    assert "write rbst sweep listops first" in capsys.readouterr().err


def test_an_experiment_takes_threads_after_its_name(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["sweep", "listops", "--threads", "0", "--out", str(out)]) == 2
    assert "--threads must be from 1 to 1024, got 0" in capsys.readouterr().err


def test_a_given_tree_has_one_cell_and_an_estimator_one_for_each_temperature():
    space = Space({"learning_rate": (0.1, 0.2), "momentum": (0.0, 0.0)}, draws=3, seed=0)
    grid = {"estimators": ("gold", "gr"), "max_length": (10, 25), "tau": (0.1, 1.0)}
    configs = plan_configs(listops.Config(), space, listops.EXPERIMENT.cells(grid))
    cells = [(c.estimators[0], c.max_length, c.tau) for c in configs]
    given = [("gold", 10, 0.1), ("gold", 25, 0.1)]
    drawn = [("gr", length, tau) for length in (10, 25) for tau in (0.1, 1.0)]
    assert sorted(cells) == sorted(3 * (given + drawn))
    assert len({job_key(listops.EXPERIMENT, config) for config in configs}) == len(configs)
    assert len({config.learning_rate for config in configs}) == 3


@pytest.mark.parametrize(("words", "iterations"), [("sweep listops", 20000), ("listops", 2500)])
def test_a_sweep_of_parsers_trains_longer_than_one_run(words, iterations, capsys):
    assert main([*words.split(), "--help"]) == 0
    assert f"most steps of each run (default: {iterations})" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_sweep_of_parsers_from_start_to_table_and_back(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RBST_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    out = tmp_path / "out"
    assert main([*TINY_PARSER, "--out", str(out)]) == 0
    printed = (out / "report.md").read_text()
    assert "| gr | 0.1 |" in printed
    assert "| left |  |" in printed
    assert "All: tokens ≤ 10. " in printed
    written = finished(out)
    assert len(written) == 2 * 3
    first = (out / "report.md").read_text()
    lost = next(iter(written)).parent
    shutil.rmtree(lost)
    assert main([*TINY_PARSER, "--out", str(out), "--resume"]) == 0
    kept = finished(out)
    assert all(kept[path] == time for path, time in written.items() if path.parent != lost)
    assert (out / "report.md").read_text() == first
    assert main([*TINY_PARSER, "--draws", "3", "--out", str(out), "--resume"]) == 2
    assert "other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tau 0", "tau must be"),
        ("--estimator gs", "gs"),
        ("--learning-rate 0 1", "--learning-rate must be LOW HIGH"),
        ("--max-length 0", "--max-length must be at least 1"),
        ("--workers 0", "--workers must be at least 1"),
    ],
)
def test_bad_options_of_the_parser_are_one_line_too(words, message, tmp_path, capsys):
    out = tmp_path / "out"
    small = ["--num-expressions", "1000"]
    assert main(["sweep", "listops", *small, *words.split(), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert not out.exists()
