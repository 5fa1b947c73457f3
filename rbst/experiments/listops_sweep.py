r"""``rbst sweep listops``: random search over latent-tree parsers, for Table 1 of Paulus et al. (2021).

The learning rate (and the momentum, if it is given an interval) is drawn by :mod:`rbst.experiments.search`; maximum
length, temperature and estimator are the cells of the table, as in the paper. Every run is tested with its
best parameters when it has been trained; the table shows of each cell the rate with the best validation accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rbst._array import device_namespace
from rbst.data.listops import ListOps
from rbst.experiments.listops import (
    add_training_arguments,
    asked_options,
    finish,
    look_for_published_test,
)
from rbst.experiments.listops_run import GIVEN_TREES, Config, Run, load_data
from rbst.experiments.report import write_report
from rbst.experiments.search import (
    Job,
    Space,
    add_place_arguments,
    add_space_arguments,
    digest,
    executor,
    plan_jobs,
    start_or_resume,
    work,
)

ESTIMATORS = ("left", "gold", "st-gs", "gr-mc10", "gr-mc100", "gr")
MAX_LENGTHS = (10,)
TAUS = (0.01, 0.1, 1.0)
INTERVALS = {
    "--learning-rate": ((0.03, 0.5), "log-uniform"),
    "--momentum": ((0.0, 0.0), "uniform"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst sweep listops``."""
    for name, dest, kind, default in (
        ("--estimator", "names", str, ESTIMATORS),
        ("--max-length", "max_lengths", int, MAX_LENGTHS),
        ("--tau", "taus", float, TAUS),
    ):
        parser.add_argument(
            name, dest=dest, type=kind, action="append",
            metavar="NAME" if kind is str else "N" if kind is int else "X",
            help=f"repeatable (default: {', '.join(map(str, default))})",
        )  # fmt: skip
    add_space_arguments(parser, INTERVALS)
    parser.set_defaults(draws=5)
    add_training_arguments(parser)
    add_place_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan, train and test every job, print the table."""
    configs = _planned(arguments)
    device_namespace(configs[0].device)  # where there is none, say so before a folder is made
    for config in {config.max_length: config for config in configs}.values():
        load_data(config, arguments.data_dir)  # says at once if it can't be had
    with executor(arguments.scheduler, arguments.workers) as pool:
        out = start_or_resume(arguments, configs)
        jobs = plan_jobs(arguments, configs, job_key, out)
        work(pool, finish_job, list(jobs.values()), "train")
    print(write_report([out], out))
    print(f"\nThe table is in {out / 'report.md'} and {out / 'report.json'}")
    return 0


def plan_configs(
    base: Config,
    space: Space,
    estimators: Sequence[str],
    max_lengths: Sequence[int],
    taus: Sequence[float],
) -> list[Config]:
    """One configuration for each draw and cell; a given tree has no temperature, and takes the first."""
    return [
        replace(base, estimators=(name,), max_length=max_length, tau=tau, **draw)
        for draw in space.sample()
        for max_length in max_lengths
        for name in estimators
        for tau in (taus[:1] if name in GIVEN_TREES else taus)
    ]


def job_key(config: Config) -> str:
    """The name of a job's folder: readable, and different for different configurations.

    Examples
    --------
    >>> job_key(Config(estimators=("gr",), max_length=25, tau=0.01)).rsplit("-", 1)[0]
    'gr-l25-tau0.01'
    """
    return f"{config.estimators[0]}-l{config.max_length}-tau{config.tau:g}-{digest(config)}"


def finish_job(job: Job) -> None:
    """Train to the end, from wherever an earlier attempt was killed, and test."""
    config = job.config
    settings = ("data", "max_length", "num_expressions", "published_test")
    data = _expressions(job.data_dir, **{name: getattr(config, name) for name in settings})
    run = Run(config, config.estimators[0], config.seed, data, Path(job.folder))
    finish(run, checkpoint_every=job.checkpoint_every, progress=False)


@lru_cache(maxsize=1)
def _expressions(data_dir: str | None, **settings: Any) -> ListOps:
    """The expressions, once for all jobs of a process that agree on what decides them."""
    return load_data(Config(**settings), Path(data_dir) if data_dir else None)


def _planned(arguments: argparse.Namespace) -> list[Config]:
    """The configurations of all jobs, read off the command line and checked."""
    options = asked_options(arguments)
    for name in ("learning_rate", "momentum", "tau"):
        options.pop(name)  # intervals and lists here, numbers in a configuration
    space = Space(
        tuple(arguments.learning_rate),
        None,
        tuple(arguments.momentum),
        arguments.draws,
        arguments.search_seed,
    )
    base = look_for_published_test(Config(**options), arguments)
    return plan_configs(
        base,
        space,
        arguments.names or ESTIMATORS,
        arguments.max_lengths or MAX_LENGTHS,
        arguments.taus or TAUS,
    )
