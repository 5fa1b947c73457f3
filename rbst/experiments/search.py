r"""Random search as a set of independent jobs, on the cores of one machine or on a cluster.

The draws of a :class:`Space` are made up front from one seed, the same for every cell of the table. Each draw is a
:class:`Job` with a folder named after its configuration. A finished job is skipped and a killed one resumes,
so a search can be killed at any moment and started again with ``--resume``. What a job trains is the
business of the experiment: :mod:`rbst.experiments.sweep` has the autoencoder,
:mod:`rbst.experiments.listops_sweep` the parser. Paulus et al. (2021), section 5.4, drew twenty for each cell.
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
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from rbst import __version__
from rbst._files import new_folder, read_json, write_json
from rbst.experiments.record import CAME_LATER

JOBS_FOLDER = "jobs"


@dataclass(frozen=True)
class Space:
    """What is searched: intervals of the settings, and how many draws are made of them.

    Without ``tau`` no temperature is drawn: the cells of the table fix it.
    """

    learning_rate: tuple[float, float]
    tau: tuple[float, float] | None
    momentum: tuple[float, float]
    draws: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "tau", "momentum"):
            if getattr(self, name) is None:
                continue
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

        def log_uniform(low: float, high: float) -> float:
            # exp(log(x)) may be off in the last digit: the interval is kept, and a point is that point.
            return float(np.clip(np.exp(rng.uniform(np.log(low), np.log(high))), low, high))

        def draw() -> dict[str, float]:
            settings = {"learning_rate": log_uniform(*self.learning_rate)}
            if self.tau is not None:
                settings["tau"] = log_uniform(*self.tau)
            return settings | {"momentum": float(rng.uniform(*self.momentum))}

        return [draw() for _ in range(self.draws)]


@dataclass(frozen=True)
class Job:
    """A configuration and where its run lives; what is sent to a worker process."""

    config: Any
    folder: str
    data_dir: str | None
    checkpoint_every: int


def settings(config: Any) -> dict[str, Any]:
    """What tells one job from another.

    Settings that came later are left out at their defaults, so that the folders of earlier jobs keep their names.
    """
    return {k: v for k, v in asdict(config).items() if (k, v) not in CAME_LATER.items()}


def digest(config: Any) -> str:
    """Ten letters for everything that a configuration says; the tail of the name of a job's folder."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:10]


def add_space_arguments(
    parser: argparse.ArgumentParser, intervals: dict[str, tuple[tuple[float, float], str]]
) -> None:
    """The options of a :class:`Space`; ``intervals`` has the default and the law of each setting."""
    for name, (interval, law) in intervals.items():
        parser.add_argument(
            name, type=float, nargs=2, metavar=("LOW", "HIGH"), default=interval,
            help=f"{law} (default: {interval[0]:g} {interval[1]:g})",
        )  # fmt: skip
    option = parser.add_argument
    option("--draws", type=int, default=20, metavar="N", help="runs of each cell of the table")
    option("--search-seed", type=int, default=0, metavar="N", help="of the draws")


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the jobs are done and where their results go."""
    option = parser.add_argument
    option("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="local processes")
    option(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster that sees the same files, in place of local processes",
    )
    option("--out", type=Path, metavar="FOLDER", help="results go here (default: runs/sweep/TIME)")
    option("--resume", action="store_true", help="continue the interrupted sweep in --out")


def start_or_resume(arguments: argparse.Namespace, configs: Sequence[Any]) -> Path:
    """The folder of the search: a new one that holds the plan, or with ``--resume`` one of the same plan."""
    plan = {"version": __version__, "jobs": json.loads(json.dumps(list(map(settings, configs))))}
    if arguments.resume:
        _check_plan(arguments.out, plan)
        return arguments.out
    out = new_folder(arguments.out or Path("runs/sweep") / f"{datetime.now():%Y%m%d-%H%M%S}")
    write_json(out / "sweep.json", plan)
    return out


def plan_jobs(
    arguments: argparse.Namespace, configs: Sequence[Any], key: Callable[[Any], str], out: Path
) -> dict[str, Job]:
    """The jobs of the configurations by the names of their folders."""
    data_dir = str(arguments.data_dir.resolve()) if arguments.data_dir else None
    folder = out.resolve() / JOBS_FOLDER
    return {
        key(config): Job(config, str(folder / key(config)), data_dir, arguments.checkpoint_every)
        for config in configs
    }


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
def executor(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """Local processes with one BLAS thread each, or the workers of a Dask cluster."""
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}; change it")
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
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(pool: Executor, function: Callable[[Job], None], jobs: Sequence[Job], text: str) -> None:
    """Do all jobs, in any order."""
    from tqdm import tqdm

    futures = [pool.submit(function, job) for job in jobs]
    try:
        for future in tqdm(as_completed(futures), total=len(futures), desc=text, unit="job"):
            future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was killed; nothing that was finished is lost, continue with --resume"
        ) from error
