r"""``rbst sweep``: random search over the discrete VAE, on one machine or on a cluster.

Learning rate, temperature and momentum are drawn up front from one seed, the same draws for every estimator,
arity and batch size (Paulus et al., 2021, section 5.4, drew twenty for each). Each draw is an independent job with a
folder named after its configuration. A finished job is skipped and a killed one resumes, so a sweep can be
killed at any moment and started again with ``--resume``. In the end the run of each cell with the best
validation bound is bounded on the test images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rbst import __version__
from rbst._files import new_folder, read_json, write_json
from rbst.data import BinaryImages
from rbst.experiments.report import best_runs, collect, write_report
from rbst.experiments.vae import add_model_arguments, asked_options, check_batch_size
from rbst.experiments.vae_run import (
    DEFAULTS,
    Config,
    Run,
    bound_run,
    load_images,
    make_config,
    train_run,
)

JOBS_FOLDER = "jobs"


@dataclass(frozen=True)
class Space:
    """What a sweep searches: intervals of the settings, and how many draws are made of them."""

    learning_rate: tuple[float, float]
    tau: tuple[float, float]
    momentum: tuple[float, float]
    draws: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "tau", "momentum"):
            low, high = getattr(self, name)
            lowest, below = (0, 1) if name == "momentum" else (1e-30, np.inf)
            if not lowest <= low <= high < below:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be LOW HIGH with {lowest} <= LOW <= HIGH < {below}, "
                    f"got {low} {high}; change them"
                )
        if self.draws < 1:
            raise ValueError(f"--draws must be at least 1, got {self.draws}; change it")
        if self.seed < 0:
            raise ValueError(f"--search-seed must be at least 0, got {self.seed}; change it")

    def sample(self) -> list[dict[str, float]]:
        """The draws: learning rate and temperature log-uniform, momentum uniform."""
        rng = np.random.default_rng(self.seed)
        return [
            {
                "learning_rate": float(np.exp(rng.uniform(*np.log(self.learning_rate)))),
                "tau": float(np.exp(rng.uniform(*np.log(self.tau)))),
                "momentum": float(rng.uniform(*self.momentum)),
            }
            for _ in range(self.draws)
        ]


def plan_jobs(
    base: Config,
    space: Space,
    estimators: Sequence[str],
    arities: Sequence[int],
    batch_sizes: Sequence[int],
) -> list[Config]:
    """One configuration for each draw, estimator, arity and batch size; ``foust`` for Boolean variables only."""
    return [
        replace(base, estimators=(name,), arity=arity, batch_size=batch_size, **draw)
        for draw in space.sample()
        for batch_size in batch_sizes
        for arity in arities
        for name in estimators
        if name != "foust" or arity == 2
    ]


def job_key(config: Config) -> str:
    """The name of a job's folder: readable, and different for different configurations.

    Examples
    --------
    >>> key = job_key(Config(estimators=("st-gs",)))
    >>> key[:13], len(key)
    ('st-gs-n8-b20-', 23)
    """
    text = json.dumps(asdict(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{config.estimators[0]}-n{config.arity}-b{config.batch_size}-{digest}"


@dataclass(frozen=True)
class Job:
    """A configuration and where its run lives; what is sent to a worker process."""

    config: Config
    out: str
    data_dir: str | None
    checkpoint_every: int

    def run(self) -> Run:
        """The run of this job, in the process that does it."""
        folder = Path(self.out) / JOBS_FOLDER / job_key(self.config)
        data = _images(self.config.data, self.data_dir)
        return Run(self.config, self.config.estimators[0], self.config.seed, data, folder)


@lru_cache(maxsize=1)
def _images(data: str, data_dir: str | None) -> BinaryImages:
    return load_images(data, Path(data_dir) if data_dir else None)


def train_job(job: Job) -> None:
    """Train to the end, from wherever an earlier attempt was killed."""
    train_run(job.run(), checkpoint_every=job.checkpoint_every, progress=False)


def bound_job(job: Job) -> None:
    """Bound the test images of a trained run."""
    bound_run(job.run(), progress=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst sweep``."""
    option = parser.add_argument
    default = ", ".join(Config().estimators)
    option(
        "--estimator",
        dest="names",
        action="append",
        metavar="NAME",
        help=f"repeatable (default: {default})",
    )
    option(
        "--arity", dest="arities", type=int, action="append", metavar="N",
        help="repeatable (default: 8 for digits, 2 4 8 16 for mnist)",
    )  # fmt: skip
    option(
        "--batch-size", dest="batch_sizes", type=int, action="append", metavar="N",
        help="repeatable (default: 20)",
    )  # fmt: skip
    for name, interval, text in (
        ("--learning-rate", (1e-4, 1e-2), "log-uniform"),
        ("--tau", (0.1, 1.0), "log-uniform"),
        ("--momentum", (0.5, 0.95), "uniform"),
    ):
        option(
            name, type=float, nargs=2, metavar=("LOW", "HIGH"), default=interval,
            help=f"{text} (default: {interval[0]:g} {interval[1]:g})",
        )  # fmt: skip
    option("--draws", type=int, default=20, metavar="N", help="runs of each cell of the table")
    option("--search-seed", type=int, default=0, metavar="N", help="of the draws")
    add_model_arguments(parser)
    option("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="local processes")
    option(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster that sees the same files, in place of local processes",
    )
    option("--out", type=Path, metavar="FOLDER", help="results go here (default: runs/sweep/TIME)")
    option("--resume", action="store_true", help="continue the interrupted sweep in --out")


def run(arguments: argparse.Namespace) -> int:
    """Plan, train every job, bound the best of each cell, print the table."""
    jobs = _planned(arguments)
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}; change it")
    data = load_images(jobs[0].data, arguments.data_dir)
    for config in jobs:
        check_batch_size(config, data)
    plan = {"version": __version__, "jobs": json.loads(json.dumps([asdict(c) for c in jobs]))}
    if arguments.resume:
        out = arguments.out
        _check_plan(out, plan)
    else:
        out = arguments.out or Path("runs/sweep") / f"{datetime.now():%Y%m%d-%H%M%S}"
    with _executor(arguments.scheduler, arguments.workers) as executor:
        if not arguments.resume:
            write_json(new_folder(out) / "sweep.json", plan)
        data_dir = str(arguments.data_dir.resolve()) if arguments.data_dir else None
        every = arguments.checkpoint_every
        todo = [Job(config, str(out.resolve()), data_dir, every) for config in jobs]
        _work(executor, train_job, todo, "train")
        keys = {job_key(job.config): job for job in todo}
        best = [keys[Path(result["folder"]).name] for result in best_runs(collect([out]))]
        _work(executor, bound_job, best, "test")
    print(write_report([out], out))
    print(f"\nThe table is in {out / 'report.md'} and {out / 'report.json'}")
    return 0


def _planned(arguments: argparse.Namespace) -> list[Config]:
    """The jobs that the command line asks for, all of them checked."""
    options = asked_options(arguments)
    for name in ("learning_rate", "tau", "momentum"):
        options.pop(name)  # intervals here, numbers in a configuration
    space = Space(
        tuple(arguments.learning_rate),
        tuple(arguments.tau),
        tuple(arguments.momentum),
        arguments.draws,
        arguments.search_seed,
    )
    data = options.get("data", "digits")
    arities = arguments.arities or ([2, 4, 8, 16] if data == "mnist" else [DEFAULTS[data].arity])
    base = make_config(options | {"arity": arities[0]})
    names = arguments.names or base.estimators
    return plan_jobs(base, space, names, arities, arguments.batch_sizes or [base.batch_size])


def _check_plan(out: Path | None, plan: dict[str, Any]) -> None:
    if out is None or not (out / "sweep.json").is_file():
        raise FileNotFoundError(
            f"--resume needs --out with the folder of a sweep, got {out}; leave --resume out to start one"
        )
    if read_json(out / "sweep.json").get("jobs") != plan["jobs"]:
        raise ValueError(
            f"{out} was started with other options than these; give the same ones to resume it, or "
            "choose another --out"
        )


@contextmanager
def _executor(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """Local processes with one BLAS thread each, or the workers of a Dask cluster."""
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
    # Read by the BLAS of a process when it starts, which the new ones have yet to do.
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    os.environ |= dict.fromkeys(threads, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(
    executor: Executor, function: Callable[[Job], None], jobs: Sequence[Job], text: str
) -> None:
    """Do all jobs, in any order."""
    from tqdm import tqdm

    futures = [executor.submit(function, job) for job in jobs]
    try:
        for future in tqdm(as_completed(futures), total=len(futures), desc=text, unit="job"):
            future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed; nothing that was finished is lost, continue with --resume"
        ) from error
