r"""``rbst sweep``: random search as a set of independent jobs, on the cores of one machine or on a cluster.

The draws of a :class:`Space` are made up front from one seed, the same for every cell of the table. Each draw is a
:class:`Job` with a folder named after its configuration. A finished job is skipped and a killed one resumes,
so a search can be killed at any moment and started again with ``--resume``. ``rbst sweep`` alone is the search over the first
of the experiments, the names of the others are commands of its own. Paulus et al. (2021), section 5.4, drew twenty
for each cell.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rbst import __version__
from rbst._array import device_namespace
from rbst._files import locked, read_json, write_json
from rbst._processes import deaf_to_interrupts, end_with_parent
from rbst._progress import progress_over
from rbst.experiments import EXPERIMENTS, load_experiment
from rbst.experiments.report import Report, best_runs, collect
from rbst.experiments.run import Experiment, Run, default_folder, held_folder, train_run
from rbst.experiments.settings import (
    add_options,
    at_least,
    check_option,
    default_text,
    digest,
    given,
    identity,
    kind_of,
    metavar_of,
    option_of,
)

JOBS_FOLDER = "jobs"
UNIFORM = ("momentum",)
"""What is drawn uniformly; everything else uniformly in the logarithm."""


@dataclass(frozen=True)
class Space:
    """What is searched: intervals of the settings, and how many draws are made of them."""

    intervals: Mapping[str, tuple[float, float]]
    draws: int
    seed: int

    def __post_init__(self) -> None:
        for name, (low, high) in self.intervals.items():
            lowest, below = (0, 1) if name in UNIFORM else (1e-30, np.inf)
            if not lowest <= low <= high < below:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be LOW HIGH with {lowest} <= LOW <= HIGH < {below}, "
                    f"got {low} {high}; change them"
                )
        check_option("--draws", self.draws, at_least(1, 10**6))
        check_option("--search-seed", self.seed, at_least(0, 2**63 - 1))

    def sample(self) -> list[dict[str, float]]:
        """The draws, one setting after the other."""
        rng = np.random.default_rng(self.seed)

        def draw(name: str, low: float, high: float) -> float:
            if name in UNIFORM:
                return float(rng.uniform(low, high))
            # exp(log(x)) may be off in the last digit: the interval is kept, and a point is that point.
            return float(np.clip(np.exp(rng.uniform(np.log(low), np.log(high))), low, high))

        return [
            {name: draw(name, *interval) for name, interval in self.intervals.items()}
            for _ in range(self.draws)
        ]


def plan_configs(base: Any, space: Space, cells: Sequence[Mapping[str, Any]]) -> list[Any]:
    """One configuration for each draw and each cell."""
    return [replace(base, **cell, **draw) for draw in space.sample() for cell in cells]


# ----------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The options of ``rbst sweep``, and the other experiments as commands with options of their own.

    Returns the parsers of these.
    """
    first, *others = map(swept, map(load_experiment, EXPERIMENTS))
    _add_sweep(parser, first)
    commands = parser.add_subparsers(
        title="other experiments", metavar="EXPERIMENT", action=_BeforeItsOptions
    )
    parsers = []
    for experiment in others:
        sub = commands.add_parser(
            experiment.name,
            help=f"{experiment.summary}; see 'rbst sweep {experiment.name} --help'",
            description=f"Random search over {experiment.summary}, on cores or a cluster.",
            formatter_class=parser.formatter_class,
        )
        _add_sweep(sub, experiment)
        parsers.append(sub)
    parser.usage = f"%(prog)s [options]\n       {parser.prog} EXPERIMENT [options]"
    return parsers


class _BeforeItsOptions(argparse._SubParsersAction):
    """The name of an experiment, which refuses options before it: they are those of the first experiment."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, *rest: Any) -> None:
        """Parse what follows the name."""
        if parser.words[0] != values[0]:
            parser.error(
                f"{values[0]} must come before its options, got {parser.words[0]}; write "
                f"{parser.prog} {values[0]} first"
            )
        super().__call__(parser, namespace, values, *rest)


def swept(experiment: Experiment) -> Experiment:
    """The experiment with the defaults of a sweep."""
    defaults = {
        data: replace(config, **experiment.swept) for data, config in experiment.defaults.items()
    }
    return replace(experiment, defaults=defaults)


def _add_sweep(parser: argparse.ArgumentParser, experiment: Experiment) -> None:
    option, defaults = parser.add_argument, experiment.defaults
    known = {f.name: f for f in fields(experiment.default())}
    for name, values in experiment.grid.items():
        text = default_text({data: tuple(values(config)) for data, config in defaults.items()})
        option(
            option_of(known[name]), dest=f"cells_{name}", type=kind_of(known[name]), action="append",
            metavar=metavar_of(known[name]), help=f"repeatable{text}",
        )  # fmt: skip
    for name, (low, high) in experiment.intervals.items():
        law = "uniform" if name in UNIFORM else "log-uniform"
        option(
            option_of(known[name]), dest=f"interval_{name}", type=float, nargs=2,
            metavar=("LOW", "HIGH"), default=(low, high), help=f"{law} (default: {low:g} {high:g})",
        )  # fmt: skip
    option("--draws", type=int, default=experiment.draws, metavar="N", help="runs of each cell")
    option("--search-seed", type=int, default=0, metavar="N", help="of the draws")
    add_options(parser, defaults, {*experiment.grid, *experiment.intervals, "seeds", "track"})
    experiment.add_run_options(parser)
    option("--workers", type=int, default=usable_cores(), metavar="N", help="local processes")
    text = "of a Dask cluster that sees the same files, instead of local processes"
    option("--scheduler", metavar="ADDRESS", help=text)
    option("--out", type=Path, metavar="FOLDER", help="results go here (default: runs/sweep/TIME)")
    option("--resume", action="store_true", help="continue the interrupted sweep in --out")
    parser.set_defaults(experiment=experiment.name)


def usable_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def run(arguments: argparse.Namespace) -> int:
    """Plan, train every job, test the best of each cell or all of them, print the table."""
    experiment = swept(load_experiment(arguments.experiment))
    configs = planned(experiment, arguments)
    device_namespace(configs[0].device)  # where there is none, say so before a folder is made
    for config in {(*data_key(experiment, c).items(), c.batch_size): c for c in configs}.values():
        experiment.load_data(config, arguments.data_dir)  # says at once if it can't be had
    plan = {"version": __version__, "jobs": json.loads(json.dumps(list(map(identity, configs))))}
    out = arguments.out
    if arguments.resume:
        _check_plan(out, plan)
    else:
        out = out or default_folder("sweep")
    with (
        executor(arguments.scheduler, arguments.workers) as pool,
        held_folder(out, resume=arguments.resume),
    ):
        if not arguments.resume:
            write_json(out / "sweep.json", plan)
        jobs = plan_jobs(experiment, configs, out, arguments)
        work(pool, train_job, list(jobs.values()), "train")
        if not experiment.tested_at_once:
            best = best_runs(collect([out], experiment.report), experiment.report).values()
            tested = [jobs[Path(result["folder"]).name] for chosen in best for result in chosen]
            work(pool, test_job, tested, "test")
        report = Report([out])
        report.write(out, overwrite=True)
    print(f"The table is in {out / 'report.md'} and {out / 'report.json'}\n")
    print(report.text())
    return 0


def planned(experiment: Experiment, arguments: argparse.Namespace) -> list[Any]:
    """The configurations of all jobs, read off the command line and checked."""
    check_option("--checkpoint-every", arguments.checkpoint_every, at_least(1))
    check_option("--workers", arguments.workers, at_least(1, 1000))
    options = given(arguments, experiment.default())
    default = experiment.default(options.get("data", ""))
    grid = {
        name: tuple(dict.fromkeys(getattr(arguments, f"cells_{name}") or values(default)))
        for name, values in experiment.grid.items()
    }
    intervals = {name: getattr(arguments, f"interval_{name}") for name in experiment.intervals}
    final, lowest = options.get("learning_rate_final"), intervals["learning_rate"][0]
    if final is not None and final > lowest:
        raise ValueError(
            f"--learning-rate-final must be at most the lowest --learning-rate, {lowest:g}, got {final:g}; "
            "some runs would speed up; lower it"
        )
    cells = experiment.cells(grid)
    if not cells:
        raise ValueError(f"no cell of the table fits {grid}; change --estimator")
    base = experiment.prepare(experiment.make_config(options | cells[0]), arguments)
    space = Space(intervals, arguments.draws, arguments.search_seed)
    return plan_configs(base, space, cells)


def _check_plan(out: Path | None, plan: dict[str, Any]) -> None:
    if out is None or not (out / "sweep.json").is_file():
        raise FileNotFoundError(
            f"--resume needs --out with the folder of a sweep, got {out}; leave --resume out to start one"
        )
    stored = read_json(out / "sweep.json")
    if not isinstance(stored, dict) or stored.get("jobs") != plan["jobs"]:
        raise ValueError(
            f"{out} was started with other options than these; give the same ones to resume it, or "
            "choose another --out"
        )


# ----------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    """A configuration and where its run lives; what is sent to a worker process."""

    experiment: str
    config: Any
    folder: Path
    data_dir: Path | None
    checkpoint_every: int


def job_key(experiment: Experiment, config: Any) -> str:
    """The name of a job's folder: readable, and different for different configurations."""
    return f"{experiment.job_name(config)}-{digest(config)}"


def plan_jobs(
    experiment: Experiment, configs: Sequence[Any], out: Path, arguments: argparse.Namespace
) -> dict[str, Job]:
    """The jobs of the configurations by the names of their folders."""
    data_dir = arguments.data_dir.resolve() if arguments.data_dir else None
    folder = out.resolve() / JOBS_FOLDER
    return {
        key: Job(experiment.name, config, folder / key, data_dir, arguments.checkpoint_every)
        for config in configs
        for key in (job_key(experiment, config),)
    }


def data_key(experiment: Experiment, config: Any) -> dict[str, Any]:
    """The settings that decide the data."""
    return {name: getattr(config, name) for name in experiment.data_settings}


@lru_cache(maxsize=1)
def _data(experiment: str, data_dir: Path | None, **settings: Any) -> Any:
    """The data, once for all jobs of a process that agree on what decides them."""
    known = load_experiment(experiment)
    return known.load_data(known.make_config(settings), data_dir)


def job_run(job: Job) -> Run:
    """The run of a job, in the process that does it."""
    experiment, config = load_experiment(job.experiment), job.config
    data = _data(job.experiment, job.data_dir, **data_key(experiment, config))
    return experiment.run(config, config.estimators[0], config.seed, data, job.folder)


def train_job(job: Job) -> None:
    """Train to the end, from wherever an earlier attempt was killed, and test if that is not dear."""
    experiment = load_experiment(job.experiment)
    run = job_run(job)
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked(run.folder):
        train_run(run, checkpoint_every=job.checkpoint_every, progress=False)
        if experiment.tested_at_once:
            run.test(progress=False)


def test_job(job: Job) -> None:
    """Test a trained run."""
    with locked(job.folder):
        job_run(job).test(progress=False)


# ----------------------------------------------------------------------------- where they are done


@contextmanager
def executor(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """Local processes, or the workers of a Dask cluster."""
    if scheduler is not None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ValueError(
                "--scheduler needs the package distributed, which is not installed; "
                "pip install 'rbst[cluster]'"
            ) from error
        with Client(scheduler, timeout=30) as client:
            yield client.get_executor(pure=False)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=end_with_parent)
    try:
        yield pool
    except BaseException:
        with deaf_to_interrupts():
            for process in multiprocessing.active_children():
                process.kill()  # at any moment: what they write is whole or not there
            # Waits for the thread that minds the workers: as this process ends, the two would close the same pipe.
            pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def work(pool: Executor, function: Callable[[Job], None], jobs: Sequence[Job], text: str) -> None:
    """Do all jobs, in any order."""
    try:
        with deaf_to_interrupts():
            futures = [pool.submit(function, job) for job in jobs]
        for future in progress_over(as_completed(futures), text, len(futures), "jobs"):
            future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed; nothing that was finished is lost, continue with --resume"
        ) from error
