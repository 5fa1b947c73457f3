"""Checkpoints: whatever kills a run, it resumes and ends bit for bit where it would have ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rbst
from rbst import RunningMean
from rbst._files import read_npz, write_npz
from rbst.cli import main
from rbst.experiments.training import (
    Diverged,
    TrainingState,
    load_state,
    minibatch,
    momentum_step,
    save_state,
    train,
)


class Killed(Exception):
    pass


class NoProgress:
    def update(self):
        pass

    def set_postfix_str(self, text):
        pass


def fresh_state(size=5, dtype=np.float32):
    rng = np.random.default_rng(1)
    parameters = np.linspace(-1, 1, size).astype(dtype)
    return TrainingState(parameters, np.zeros_like(parameters), rng, RunningMean())


def noisy_step(state):
    """A step whose outcome depends on everything that a checkpoint must hold."""
    noise = state.rng.standard_exponential(len(state.parameters), dtype=state.parameters.dtype)
    gradient = state.parameters * noise - np.float32(state.baseline.value)
    state.baseline.update(float(noise.mean()))
    momentum_step(state, gradient, learning_rate=0.1, momentum=0.9)
    return {"noise": float(noise.mean())}


def run(
    state,
    checkpoint,
    step=noisy_step,
    iterations=23,
    killed_at=None,
    checkpoint_every=5,
    measure_every=4,
):
    def step_or_die(state):
        if state.iteration == killed_at:
            state.parameters += np.nan  # whatever a killed process leaves in memory is lost
            raise Killed
        return step(state)

    told = SimpleNamespace(
        config=SimpleNamespace(iterations=iterations, measure_every=measure_every),
        measure=lambda state: {"largest": float(np.abs(state.parameters).max())},
        checkpoint=checkpoint,
        ended=lambda state: False,
    )
    train(state, step_or_die, told, checkpoint_every=checkpoint_every, progress=NoProgress())
    return state


def contents(state):
    """Everything in a state but the clock."""
    return {
        "parameters": state.parameters.tobytes(),
        "velocity": state.velocity.tobytes(),
        "rng": json.dumps(state.rng.bit_generator.state, default=str),
        "baseline": vars(state.baseline),
        "iteration": state.iteration,
        "sums": state.sums,
        "curves": state.curves,
    }


def test_a_momentum_step_by_hand_in_place():
    state = fresh_state(2)
    state.parameters[:], state.velocity[:] = [1, 2], [0.5, -0.5]
    parameters = state.parameters
    momentum_step(state, np.float32([1, 1]), learning_rate=0.25, momentum=0.5)
    np.testing.assert_array_equal(state.velocity, [0, -0.5])
    np.testing.assert_array_equal(parameters, [1, 1.5])


def test_minibatches_visit_every_example_once_an_epoch_in_a_new_order():
    epochs = [
        np.concatenate([minibatch(12, 4, 3 * epoch + i, seed=7) for i in range(3)])
        for epoch in range(3)
    ]
    for order in epochs:
        np.testing.assert_array_equal(np.sort(order), np.arange(12))
    assert not np.array_equal(epochs[0], epochs[1])
    assert len({tuple(minibatch(10, 4, i, seed=7)) for i in range(2)}) == 2  # two examples sit out


@pytest.mark.parametrize("killed_at", [0, 1, 4, 5, 6, 12, 20, 22])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, killed_at):
    whole = run(fresh_state(), tmp_path / "whole.npz")
    checkpoint = tmp_path / "killed.npz"
    with pytest.raises(Killed):
        run(fresh_state(), checkpoint, killed_at=killed_at)
    state = fresh_state()
    assert checkpoint.exists() == (killed_at >= 5)
    if checkpoint.exists():
        load_state(checkpoint, state)
    assert contents(run(state, checkpoint)) == contents(whole)


def test_killed_again_and_again(tmp_path):
    whole = run(fresh_state(), tmp_path / "whole.npz")
    checkpoint = tmp_path / "killed.npz"
    for killed_at in (7, 9, 11, 18):
        state = fresh_state()
        if checkpoint.exists():
            load_state(checkpoint, state)
        with pytest.raises(Killed):
            run(state, checkpoint, killed_at=killed_at)
    state = fresh_state()
    load_state(checkpoint, state)
    assert state.iteration == 15
    assert contents(run(state, checkpoint)) == contents(whole)


def test_checkpoints_and_measurements_do_not_change_the_numbers(tmp_path):
    often = run(fresh_state(), tmp_path / "a.npz", checkpoint_every=1, measure_every=1)
    seldom = run(fresh_state(), tmp_path / "b.npz", checkpoint_every=100, measure_every=100)
    assert often.parameters.tobytes() == seldom.parameters.tobytes()
    assert seldom.curves["iteration"] == [23]
    np.testing.assert_allclose(seldom.curves["noise"][0], np.mean(often.curves["noise"]))


def test_averages_between_measurements_survive_a_resume(tmp_path):
    state = run(fresh_state(), tmp_path / "a.npz", iterations=6, measure_every=4)
    assert state.curves["iteration"] == [4, 6]
    assert set(state.curves) == {"iteration", "noise", "largest"}


@pytest.mark.parametrize("where", ["figure", "parameters"])
def test_a_diverging_run_stops_and_its_checkpoint_stays_finite(tmp_path, where):
    def step(state):
        figures = noisy_step(state)
        if state.iteration == 12:
            if where == "parameters":
                state.parameters[2] = np.inf
            else:
                figures["noise"] = np.nan
        return figures

    state = fresh_state()
    with pytest.raises(Diverged, match="iteration 13"):
        run(state, tmp_path / "checkpoint.npz", step=step)
    load_state(tmp_path / "checkpoint.npz", state)
    assert state.iteration == 10
    assert np.isfinite(state.parameters).all()


def test_an_overflow_that_a_check_inside_a_step_refuses_is_a_divergence(tmp_path):
    def step(state):
        if state.iteration == 7:
            rbst.softmax(state.parameters * np.inf)
        return noisy_step(state)

    with pytest.raises(Diverged, match=r"iteration 8: .*finite"):
        run(fresh_state(), tmp_path / "checkpoint.npz", step=step)


# Checkpoints that must not be taken for what they are not.


@pytest.fixture
def checkpoint(tmp_path):
    run(fresh_state(), tmp_path / "checkpoint.npz")
    return tmp_path / "checkpoint.npz"


def refused(path, message, state=None, error=ValueError):
    """The error names the file and says what to do, and leaves the state as it was."""
    state = state or fresh_state()
    before = contents(state)
    with pytest.raises(error, match=message) as caught:
        load_state(path, state)
    assert str(path) in str(caught.value)
    assert contents(state) == before


def test_missing(tmp_path):
    refused(tmp_path / "none.npz", "to train it anew", error=FileNotFoundError)


@pytest.mark.parametrize("kept", [0, 10, 400, -30])
def test_truncated(checkpoint, kept):
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    refused(checkpoint, "truncated, damaged")


def test_a_flipped_bit(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    position = content.find(fresh_state().parameters.dtype.str.encode()) + 80
    content[position] ^= 1
    checkpoint.write_bytes(content)
    refused(checkpoint, "truncated, damaged")


@pytest.mark.parametrize("state", [fresh_state(6), fresh_state(dtype=np.float64)])
def test_of_another_model(checkpoint, state):
    refused(checkpoint, "not a checkpoint of this run", state)


def test_without_an_iteration(checkpoint):
    arrays = read_npz(checkpoint)
    rest = json.loads(str(arrays["rest"]))
    del rest["iteration"]
    write_npz(checkpoint, arrays | {"rest": np.array(json.dumps(rest))})
    refused(checkpoint, "not a checkpoint of this run")


@pytest.mark.parametrize("missing", ["parameters", "velocity", "rest"])
def test_without_one_of_its_arrays(checkpoint, missing):
    arrays = read_npz(checkpoint)
    del arrays[missing]
    write_npz(checkpoint, arrays)
    refused(checkpoint, "not a checkpoint of this run")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"rng": {"bit_generator": "MT19937"}},
        {"baseline": {"nonsense": 1}},
        [],
    ],
)
def test_with_a_part_that_makes_no_sense(checkpoint, change):
    arrays = read_npz(checkpoint)
    rest = json.loads(str(arrays["rest"]))
    changed = rest | change if isinstance(change, dict) else change
    write_npz(checkpoint, arrays | {"rest": np.array(json.dumps(changed))})
    refused(checkpoint, "not a checkpoint of this run")


def test_nested_too_deeply(checkpoint):
    write_npz(checkpoint, read_npz(checkpoint) | {"rest": np.array(50_000 * "[" + 50_000 * "]")})
    refused(checkpoint, "not a checkpoint of this run")


def test_a_file_of_another_kind(checkpoint):
    write_npz(checkpoint, {"train": np.zeros(3)})
    refused(checkpoint, "not a checkpoint of this run")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


@pytest.mark.parametrize("name", ["parameters", "rest"])
def test_a_pickle_is_never_read(checkpoint, name):
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    np.savez(checkpoint, **(read_npz(checkpoint) | {name: trap}))
    refused(checkpoint, "truncated, damaged or not an .npz archive of plain arrays")


def test_a_failed_write_leaves_the_old_checkpoint(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_state(checkpoint, fresh_state())
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


# The real thing.

COMMAND = (
    *("vae", "--estimator", "reinforce", "--estimator", "gr-mc10"),
    *("--arity", "2", "--bits", "6", "--hidden", "8", "--iterations", "300"),
    *("--checkpoint-every", "10", "--out"),
)


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
def test_sigkill_of_the_command_loses_nothing(tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*COMMAND, str(whole)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "rbst", *COMMAND, killed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(killed / "reinforce-seed0" / "checkpoint.npz", process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "reinforce-seed0" / "result.json").exists()
    assert main([*COMMAND, str(killed), "--resume"]) == 0
    assert outcome(killed) == outcome(whole)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)


def outcome(out: Path) -> dict:
    """What two equal experiments agree on: everything but times."""
    runs = json.loads((out / "results.json").read_text())["runs"]
    for result in runs:
        del result["milliseconds_per_iteration"]
    checkpoints = {}
    for path in sorted(out.glob("*/checkpoint.npz")):
        arrays = read_npz(path)
        rest = json.loads(str(arrays["rest"]))
        del rest["seconds"]
        arrays = {name: arrays[name].tobytes() for name in ("parameters", "velocity")}
        checkpoints[path.parent.name] = (arrays, rest)
    return {"runs": runs, "checkpoints": checkpoints}
