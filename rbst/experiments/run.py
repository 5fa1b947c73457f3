r"""An experiment: runs that can be killed at any moment and continued, and the command that makes them.

A run is a configuration with one estimator and one seed, in a folder of its own: ``checkpoint.npz`` on the way, then
``result.json``, then ``test.json``. :class:`Run` says once how a run starts, steps, is measured, tested and resumed;
what is trained, and on what, is said by the experiments that inherit it. :class:`Experiment` is what their
command, ``rbst sweep`` and ``rbst report`` need to know of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from autograd import value_and_grad

from rbst import __version__
from rbst._array import DEVICES, Array, device_namespace, getval, new_generator
from rbst._files import locked, new_folder, read_json, remove_parts, write_json
from rbst._progress import progress_bar
from rbst._tables import wrapped
from rbst._terminal import complain
from rbst.autodiff import objective
from rbst.estimators.registry import Estimator
from rbst.estimators.score_function import RunningMean
from rbst.experiments.settings import (
    Settings,
    add_options,
    at_least,
    check_option,
    given,
    quickened,
    read_config,
    setting,
    tuples,
)
from rbst.experiments.training import Diverged, TrainingState, load_state, scheduled, train
from rbst.plotting import write_figure

RTOL = 1e-3
"""Tolerance of ``gr`` in training: far below the noise of one minibatch."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """What every experiment that trains has to be told."""

    seed: int = setting(0, "of the first run of each estimator", within=at_least(0, 2**63 - 1))
    seeds: int = setting(1, "runs of each estimator", within=at_least(1, 10_000))
    dtype: str = setting("float32", "precision", choices=("float32", "float64"))
    device: str = setting(
        "cpu", "where to compute; gpu needs the extra rbst[gpu]", choices=DEVICES, before="cpu"
    )

    def on_schedule(
        self, first: float, final: float | None, schedule: str, iteration: int
    ) -> float:
        """A setting at this iteration, on its way from ``first`` to ``final`` if that is given."""
        last = self.iterations - 1  # type: ignore[attr-defined]
        return scheduled(first, final, schedule, iteration / max(1, last))

    def learning_rate_at(self, iteration: int) -> float:
        """The learning rate at this iteration."""
        first, final = self.learning_rate, self.learning_rate_final  # type: ignore[attr-defined]
        return self.on_schedule(first, final, self.schedule, iteration)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Run:
    """One estimator and one seed of an experiment, its data and its folder.

    An experiment says what is missing here: the :attr:`model`, the minibatch of an iteration, the estimator, the
    update, and what is measured on the way, at the end and on the test set.
    """

    config: Any
    name: str
    seed: int
    data: Any
    folder: Path

    objective: ClassVar[str]
    """The name of the training curve."""

    aside: ClassVar[int]
    """Number of the generator of the draw that starts the running mean."""

    @cached_property
    def model(self) -> Any:
        """What is trained; it makes its ``initial_parameters``."""
        raise NotImplementedError

    @cached_property
    def xp(self) -> Any:
        """The module that computes: NumPy, or CuPy on a GPU."""
        return device_namespace(self.config.device)

    def generator(self, *purpose: int) -> Any:
        """A generator on the device of the run, for a purpose with a number of its own."""
        return new_generator(self.xp, [self.seed, *purpose])

    @property
    def checkpoint(self) -> Path:
        """Where the state of the training is."""
        return self.folder / "checkpoint.npz"

    def start(self) -> TrainingState:
        """Where the training starts: the same for every estimator."""
        rng = np.random.default_rng([self.seed, 0])
        parameters = self.xp.asarray(self.model.initial_parameters(rng, self.config.dtype))
        rng = np.random.default_rng([self.seed, 1])
        return TrainingState(parameters, self.xp.zeros_like(parameters), rng, RunningMean())

    def trained(self) -> TrainingState:
        """The state at the end of the training, which is the last checkpoint."""
        state = self.start()
        load_state(self.checkpoint, state)
        return state

    def estimator(self, iteration: int) -> Estimator:
        """The estimator of this iteration."""
        raise NotImplementedError

    def minibatch(self, iteration: int) -> Any:
        """Training examples of this iteration."""
        raise NotImplementedError

    def terms(self, flat: Array, batch: Any, estimator: Estimator, rng: Any) -> tuple:
        """``cost``, ``direct`` and ``draws`` of :func:`rbst.objective`."""
        return self.model.training_terms(flat, batch, estimator, rng)

    def update(self, state: TrainingState, gradient: Array) -> None:
        """One step of the optimizer."""
        raise NotImplementedError

    def measure(self, state: TrainingState) -> dict[str, float]:
        """Figures along the training, without a change of its state; the first is shown on the way."""
        raise NotImplementedError

    def ended(self, state: TrainingState) -> bool:
        """Whether the training may stop before its last iteration."""
        return False

    def validate(self, state: TrainingState) -> dict[str, float]:
        """Figures at the end of the training, by which runs are compared."""
        return {}

    def measure_test(self, *, progress: bool) -> dict[str, Any]:
        """Figures on the test set."""
        raise NotImplementedError

    def test(self, *, progress: bool = True) -> dict[str, Any]:
        """Figures on the test set; what is done is read from the folder."""
        path = self.folder / "test.json"
        if not path.is_file():
            write_json(path, self.measure_test(progress=progress))
        test = read_json(path)
        if not isinstance(test, dict) or not test:
            raise ValueError(f"{path} is not the test of a run; delete it to test this run anew")
        return test

    def examine(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What the command adds to the ``result`` of the training."""
        return self.test()


def training_step(run: Run) -> Callable[[TrainingState], dict[str, float]]:
    """The function that makes one update of a :class:`TrainingState`, and returns its objective."""

    def loss(flat: Array, batch: Any, estimator: Estimator, state: TrainingState) -> Array:
        cost, direct, draws = run.terms(flat, batch, estimator, state.generator())
        value = objective(estimator, cost, direct, draws, state.baseline.value)
        state.baseline.update(getval(cost))  # only now: a baseline that knows this cost would bias
        return value

    loss_and_gradient = value_and_grad(loss)

    def step(state: TrainingState) -> dict[str, float]:
        batch, estimator = run.minibatch(state.iteration), run.estimator(state.iteration)
        if state.iteration == 0:
            # The running mean starts at the cost of a draw that is used for nothing else.
            aside = run.generator(run.aside)
            state.baseline.update(run.terms(state.parameters, batch, estimator, aside)[0])
        value, gradient = loss_and_gradient(state.parameters, batch, estimator, state)
        run.update(state, gradient)
        return {run.objective: float(value)}

    return step


def train_run(run: Run, *, checkpoint_every: int, progress: bool = True) -> dict[str, Any]:
    """Train to the end and validate; a finished run is read from its folder.

    A training that diverges ends there: its result says at which iteration, and has no validation.
    """
    path = run.folder / "result.json"
    if path.is_file():
        result = read_json(path)
        if not isinstance(result, dict) or not {"diverged_at", "estimator"} <= result.keys():
            raise ValueError(
                f"{path} is not the result of a run; delete it to finish this run anew"
            )
        return result
    state = run.start()
    if run.checkpoint.exists():
        load_state(run.checkpoint, state)
    diverged_at, validated = None, {}
    text = f"{run.name:<9} seed {run.seed}"
    with progress_bar(
        run.config.iterations, text, state.iteration, unit="steps", show=progress
    ) as bar:
        try:
            train(state, training_step(run), run, checkpoint_every=checkpoint_every, progress=bar)
            validated = run.validate(state)
        except Diverged:
            diverged_at = state.iteration
    result = {
        "config": asdict(run.config),
        "version": __version__,
        "estimator": run.name,
        "seed": run.seed,
        "iterations": state.iteration,
        "milliseconds_per_iteration": 1e3 * state.seconds / max(1, state.iteration),
        "curves": state.curves,
        "diverged_at": diverged_at,
        **validated,
    }
    write_json(path, result)
    return result


def check_batch_size(size: int, examples: Sized, what: str) -> None:
    """No minibatch is larger than the training set."""
    if size > len(examples):
        raise ValueError(
            f"--batch-size must be at most the {len(examples)} training {what}, got {size}; "
            "choose a smaller one"
        )


# ----------------------------------------------------------------------------- experiments


@dataclass(frozen=True)
class Experiment:
    """What the commands need to know of an experiment.

    Attributes
    ----------
    name, summary
        What it is called, and what is trained.
    defaults
        The default configuration for each data set, by its name.
    load_data, run
        The data of a configuration, from a folder that may be given; the kind of its runs.
    table, figures
        What the command prints of its results, and what it draws.
    cells, grid
        For ``rbst sweep``: the settings of each cell of the table, made of values of the settings in ``grid``, which by
        default are those of a configuration.
    intervals, draws, swept
        What is drawn, from which interval, and how often; other defaults that ``rbst sweep`` has of its own.
    data_settings
        The settings that decide the data.
    job_name, tested_at_once
        The readable part of the name of a folder; whether every run is tested, or only the best of each cell, since
        that is dear.
    report
        For ``rbst report``.
    add_options, prepare, describe
        More options; what they change in a configuration; a line that is printed before the training.
    """

    name: str
    summary: str
    defaults: Mapping[str, Any]
    load_data: Callable[[Any, Path | None], Any]
    run: type[Run]
    table: Callable[[Any, Sequence[Any]], str]
    figures: Mapping[str, Callable[[Any, Sequence[Any], Sequence[Any]], Any]]
    cells: Callable[[Mapping[str, Sequence[Any]]], list[dict[str, Any]]]
    grid: Mapping[str, Callable[[Any], Sequence[Any]]]
    intervals: Mapping[str, tuple[float, float]]
    draws: int
    data_settings: Sequence[str]
    job_name: Callable[[Any], str]
    tested_at_once: bool
    report: Any
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    prepare: Callable[[Any, argparse.Namespace], Any] = lambda config, arguments: config
    describe: Callable[[Any, Any], str] = lambda config, data: ""
    swept: Mapping[str, Any] = field(default_factory=dict)

    def make_config(self, options: Mapping[str, Any]) -> Any:
        """The configuration with these settings, and for everything else the defaults of its data."""
        return replace(self.default(options.get("data", "")), **tuples(options))

    def default(self, data: str = "") -> Any:
        """The defaults of these data, by default of the first."""
        return self.defaults.get(data, next(iter(self.defaults.values())))

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of the command."""
        add_options(parser, self.defaults)
        self.add_run_options(parser)
        text = "continue the interrupted experiment in --out"
        parser.add_argument("--resume", action="store_true", help=text)
        text = "at most 100 iterations, to check that everything works"
        add_result_options(parser, self.name, text)

    def add_run_options(self, parser: argparse.ArgumentParser) -> None:
        """The options of a command that trains that are no settings."""
        option = parser.add_argument
        text = "where the data are looked for first, then in $RBST_DATA_DIR and the cache"
        option("--data-dir", type=Path, metavar="FOLDER", help=text)
        text = "steps between two checkpoints"
        option("--checkpoint-every", type=int, default=500, metavar="N", help=text)
        self.add_options(parser)

    def execute(self, arguments: argparse.Namespace) -> int:
        """Train every estimator with every seed, write results and figures, and print the table."""
        check_option("--checkpoint-every", arguments.checkpoint_every, at_least(1))
        out, asked = arguments.out, given(arguments, self.default())
        if arguments.resume:
            config = stored_config(out, asked, self.make_config)
            if arguments.quick and quickened(config) != config:
                raise ValueError(
                    f"{out} was started without --quick; leave the option out to resume it"
                )
        else:
            config = self.make_config(asked)
            config = self.prepare(quickened(config) if arguments.quick else config, arguments)
            out = out or default_folder(self.name)
        device_namespace(config.device)  # where there is none, say so before a folder is made
        data = self.load_data(config, arguments.data_dir)
        with held_folder(out, resume=arguments.resume):
            if not arguments.resume:
                write_config(out, config)
            if text := self.describe(config, data):
                print(wrapped(text), flush=True)
            start = time.perf_counter()
            runs = [
                self.run(config, name, seed, data, out / f"{name}-seed{seed}")
                for seed in range(config.seed, config.seed + config.seeds)
                for name in config.estimators
            ]
            results = []
            for run in runs:
                result = train_run(run, checkpoint_every=arguments.checkpoint_every)
                results.append(result | run.examine(result))
            write_results(out, config, start, runs=results)
            results = [{**r, "folder": run.folder} for run, r in zip(runs, results, strict=True)]
            for name, draw in self.figures.items():
                save_figure(out / name, draw, config, runs, results)
            for name, draw in self.report.figures.items():
                save_figure(out / name, draw, results)
        print(f"Results and figures are in {out}\n\n{self.table(config, results)}")
        return 0


def add_result_options(parser: argparse.ArgumentParser, name: str, quick: str) -> None:
    """Where the results go, and a run in small."""
    text = f"results go here (default: runs/{name}/TIME)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--quick", action="store_true", help=quick)


def asked_config(arguments: argparse.Namespace, config: type) -> Any:
    """The configuration that the command line asks for."""
    asked = config(**given(arguments, config))
    return quickened(asked) if arguments.quick else asked


def by_estimator(config: Any, results: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The results of each estimator of an experiment."""
    return {name: [r for r in results if r["estimator"] == name] for name in config.estimators}


# ----------------------------------------------------------------------------- folders


def default_folder(name: str) -> Path:
    """``runs/NAME/TIME``."""
    return Path("runs") / name / f"{datetime.now():%Y%m%d-%H%M%S-%f}"


@contextmanager
def held_folder(out: Path, *, resume: bool) -> Iterator[None]:
    """Keep a folder for this process alone; without ``resume`` it must be a new one."""
    if not resume:
        new_folder(out)
    with locked(out):
        if not resume:
            new_folder(out)  # another process may have started in it meanwhile
        remove_parts(out)
        yield


@contextmanager
def new_experiment(name: str, config: Any, out: Path | None) -> Iterator[Path]:
    """A new folder for this process alone, by default ``runs/NAME/TIME``; at the end it gets ``config.json``.

    Where the block fails before it writes anything the folder is left empty, and may be asked for again.
    """
    out = out or default_folder(name)
    with held_folder(out, resume=False):
        yield out
        write_config(out, config)


def write_config(out: Path, config: Any) -> None:
    """``config.json``: everything that decides the numbers, and the version."""
    write_json(out / "config.json", asdict(config) | {"version": __version__})


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
    for name, value in asked.items():
        if value != getattr(stored, name):
            raise ValueError(
                f"{out} was started with {name} = {getattr(stored, name)}, got {value}; leave the "
                "option out to resume it, or choose another --out"
            )
    return stored


def write_results(out: Path, config: Any, start: float, **results: Any) -> None:
    """``results.json``: the results with their configuration, version and time, and the seconds since ``start``."""
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


def save_figure(path: Path, draw: Callable[..., Any], *arguments: Any) -> None:
    """Write the figure that ``draw`` returns, if any; where it fails, say so: numbers matter more."""
    try:
        figure = draw(*arguments)
        if figure is not None:
            write_figure(figure, path)
    except Exception as error:
        complain(f"{path.name} was not drawn: {error}")
