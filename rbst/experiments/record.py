"""What every experiment leaves in its folder: the configuration it was given and the results it came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rbst import __version__
from rbst._files import new_folder, read_json, write_json
from rbst.experiments.training import TrainingState

CAME_LATER = {
    "device": "cpu",
    "learning_rate_final": None,
    "schedule": "geometric",
    "rate_encoder": 1.0,
    "rate_output": 1.0,
    "code": "one-hot",
    "clip": None,
}
"""Settings that the first records do not have, at the values that these stand for."""


def start_experiment(name: str, config: Any, out: Path | None) -> Path:
    """A new folder, by default ``runs/NAME/TIME``, that holds ``config.json``."""
    out = new_folder(out or Path("runs") / name / f"{datetime.now():%Y%m%d-%H%M%S}")
    write_json(out / "config.json", asdict(config) | {"version": __version__})
    return out


def stored_config(
    out: Path | None, asked: dict[str, Any], make_config: Callable[[dict[str, Any]], Any]
) -> Any:
    """The configuration of the experiment in ``out``; options ``asked`` for that contradict it are an error."""
    if out is None:
        raise ValueError("--resume needs --out, got none; name the folder of the experiment")
    if not (out / "config.json").is_file():
        raise FileNotFoundError(
            f"--resume needs the folder of an experiment, got {out}, which holds no config.json; "
            "leave --resume out to start one"
        )
    stored = read_config(out / "config.json", make_config)
    for name, value in tuples(asked).items():
        if value != getattr(stored, name):
            raise ValueError(
                f"{out} was started with {name} = {getattr(stored, name)}, got {value}; leave the "
                "option out to resume it, or choose another --out"
            )
    return stored


def read_config(path: Path, make_config: Callable[[dict[str, Any]], Any]) -> Any:
    """The configuration that was written to ``path``."""
    options = read_json(path)
    if not isinstance(options, dict):
        raise ValueError(f"{path} does not hold a configuration; choose another folder")
    options.pop("version", None)
    known = vars(make_config({}))
    older = {name: value for name, value in CAME_LATER.items() if name in known}
    try:
        return make_config(tuples(older | options))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a configuration of this version ({error}); choose another folder"
        ) from error


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the lists of JSON and of the command line as the tuples that a configuration holds."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


def training_record(
    config: Any, name: str, seed: int, state: TrainingState, diverged_at: int | None
) -> dict[str, Any]:
    """What ``result.json`` says of a training: what was asked, by which version, and how it went."""
    return {
        "config": asdict(config),
        "version": __version__,
        "estimator": name,
        "seed": seed,
        "iterations": state.iteration,
        "milliseconds_per_iteration": 1e3 * state.seconds / max(1, state.iteration),
        "curves": state.curves,
        "diverged_at": diverged_at,
    }


def write_results(out: Path, config: Any, start: float, **results: Any) -> None:
    """``results.json``: what came out, by what, when, and in how many seconds since ``start``."""
    write_json(
        out / "results.json",
        {
            "config": asdict(config),
            "version": __version__,
            "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            "seconds": time.perf_counter() - start,
            **results,
        },
    )
