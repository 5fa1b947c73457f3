"""A kill at every write: whatever was on the disk at that moment, resuming or starting anew gives the same numbers.

A hook sees what a command does to the files below its folder: folders made, files opened to be written, moved,
removed. Before each of these it copies the folder: that is what a process that dies here leaves behind, since neither
this write nor what would have followed, the tidying up of a ``finally`` included, has happened. Then the command is
given again for the copy, with ``--resume`` if the folder says that it can be.
"""

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from oracles import at_night

from rbst._files import read_json, read_npz
from rbst.cli import main

SMALL = ("--hidden", "4", "--iterations", "6", "--checkpoint-every", "2")
VAE = ("vae", *SMALL, "--bits", "2", "--arity", "2", "--bound-samples", "2")
NAMES = ("--estimator", "reinforce", "--estimator", "st-gs")
LISTOPS = ("listops", *SMALL, "--num-expressions", "300", "--measure-every", "3")
COMMANDS = {
    "vae": (*VAE, *NAMES),
    "track": (*VAE, "--estimator", "st-gs", "--track"),
    "listops": (*LISTOPS, *NAMES),
    "sweep": ("sweep", *VAE[1:], "--estimator", "st-gs", "--draws", "2", "--workers", "1"),
    "sweep listops": ("sweep", *LISTOPS, "--estimator", "gold", "--draws", "2", "--workers", "1"),
}


class Camera:
    """Copies a folder before each write below it, to ``copies/0``, ``copies/1``, ..."""

    def __init__(self):
        self.folder = self.copies = None
        self.count = 0

    def __call__(self, event, arguments):
        if self.folder is None or event not in ("os.mkdir", "open", "os.rename", "os.remove"):
            return
        path, *rest = arguments
        if not isinstance(path, (str, os.PathLike)) or self.folder not in Path(path).parents:
            return
        if event == "open" and not rest[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if self.folder.exists():
            shutil.copytree(self.folder, self.copies / str(self.count))
        self.count += 1

    @contextmanager
    def on(self, folder, copies):
        self.folder, self.copies, self.count = folder, copies, 0
        try:
            yield self
        finally:
            self.folder = None


CAMERA = Camera()
sys.addaudithook(CAMERA)


def numbers(out):
    """Everything that two equal experiments agree on."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        assert ".part" not in name
        if path.suffix == ".json":
            found[name] = without_times(read_json(path))
        elif path.suffix == ".npz" and path.name != "checkpoint.npz":
            found[name] = {key: array.tolist() for key, array in read_npz(path).items()}
    return found


def without_times(value):
    times = ("milliseconds_per_iteration", "seconds", "finished", "folder")
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in times}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def again(words, out):
    """Resume, or where there is nothing to resume start anew."""
    started = any((out / name).is_file() for name in ("config.json", "sweep.json"))
    return main([*words, "--out", str(out), *(["--resume"] if started else [])])


@pytest.fixture(autouse=True)
def _small_and_alone(in_this_process, tmp_path, monkeypatch):
    """No figures, which are not numbers; a small track; no data of this machine; no other process."""
    monkeypatch.setattr("rbst.experiments.run.save_figure", lambda *_: None)
    monkeypatch.setattr("rbst.experiments.report.save_figure", lambda *_: None)
    settings = {"VARIANCE_DRAWS": 40, "REFERENCE_DRAWS": 40, "TAUS": (0.5,)}
    for name, value in settings.items():
        monkeypatch.setattr(f"rbst.experiments.tracking.{name}", value)
    monkeypatch.delenv("RBST_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def check(command, tmp_path, moments):
    words, whole, copies = COMMANDS[command], tmp_path / "whole", tmp_path / "killed"
    with CAMERA.on(tmp_path / "whole", copies) as camera:
        assert main([*words, "--out", str(whole / "out")]) == 0
    expected = numbers(whole / "out")
    assert camera.count > 30
    for at in moments(camera.count):
        out = copies / str(at) / "out"
        assert again(words, out) == 0, f"killed at write {at}"
        assert numbers(out) == expected, f"killed at write {at}"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_some_writes_loses_nothing(command, tmp_path, capsys):
    rng = np.random.default_rng(0)
    check(command, tmp_path, lambda n: [1, 3, 5, *rng.choice(range(6, n), 3, replace=False)])


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_every_write_loses_nothing(command, tmp_path, capsys):
    """At night; in between at every fourth."""
    check(command, tmp_path, lambda n: range(0, n, at_night(1, otherwise=4)))
