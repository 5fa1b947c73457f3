r"""``rbst sweep``: random search over the discrete VAE; ``rbst sweep listops`` over the parser.

Learning rate, temperature and momentum are drawn by :mod:`rbst.experiments.search`, for every estimator, arity and
batch size (Paulus et al., 2021, section 5.4). In the end the run of each cell with the best validation bound
is bounded on the test images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from rbst._array import device_namespace
from rbst.data import BinaryImages
from rbst.experiments import listops_sweep
from rbst.experiments.report import best_runs, collect, write_report
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

INTERVALS = {
    "--learning-rate": ((1e-4, 1e-2), "log-uniform"),
    "--tau": ((0.1, 1.0), "log-uniform"),
    "--momentum": ((0.5, 0.95), "uniform"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst sweep``, and the command ``listops`` with options of its own."""
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
    add_space_arguments(parser, INTERVALS)
    add_model_arguments(parser)
    add_place_arguments(parser)
    parser.set_defaults(sweep=run_vae)
    others = parser.add_subparsers(title="other experiments", metavar="EXPERIMENT")
    listops = others.add_parser(
        "listops",
        help="latent parse trees in place of the VAE; see 'rbst sweep listops --help'",
        description="Random search over latent-tree parsers, on cores or a cluster.",
        formatter_class=parser.formatter_class,
    )
    listops_sweep.add_arguments(listops)
    listops.set_defaults(sweep=listops_sweep.run)


def run(arguments: argparse.Namespace) -> int:
    """Sweep the experiment that was asked for."""
    return arguments.sweep(arguments)


def run_vae(arguments: argparse.Namespace) -> int:
    """Plan, train every job, bound the best of each cell, print the table."""
    configs = plan_configs(*_planned(arguments))
    device_namespace(configs[0].device)  # where there is none, say so before a folder is made
    data = load_images(configs[0].data, arguments.data_dir)
    for config in configs:
        check_batch_size(config, data)
    with executor(arguments.scheduler, arguments.workers) as pool:
        out = start_or_resume(arguments, configs)
        jobs = plan_jobs(arguments, configs, job_key, out)
        work(pool, train_job, list(jobs.values()), "train")
        best = [jobs[Path(result["folder"]).name] for result in best_runs(collect([out]))]
        work(pool, bound_job, best, "test")
    print(write_report([out], out))
    print(f"\nThe table is in {out / 'report.md'} and {out / 'report.json'}")
    return 0


def plan_configs(
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
    return f"{config.estimators[0]}-n{config.arity}-b{config.batch_size}-{digest(config)}"


def job_run(job: Job) -> Run:
    """The run of a job, in the process that does it."""
    config = job.config
    data = _images(config.data, job.data_dir)
    return Run(config, config.estimators[0], config.seed, data, Path(job.folder))


@lru_cache(maxsize=1)
def _images(data: str, data_dir: str | None) -> BinaryImages:
    return load_images(data, Path(data_dir) if data_dir else None)


def train_job(job: Job) -> None:
    """Train to the end, from wherever an earlier attempt was killed."""
    train_run(job_run(job), checkpoint_every=job.checkpoint_every, progress=False)


def bound_job(job: Job) -> None:
    """Bound the test images of a trained run."""
    bound_run(job_run(job), progress=False)


def _planned(
    arguments: argparse.Namespace,
) -> tuple[Config, Space, Sequence[str], Sequence[int], Sequence[int]]:
    """What :func:`plan_configs` is given, read off the command line and checked."""
    options = asked_options(arguments)
    for name in ("learning_rate", "tau", "momentum"):
        options.pop(name)  # intervals here, numbers in a configuration
    final, lowest = options.get("learning_rate_final"), arguments.learning_rate[0]
    if final is not None and final > lowest:
        raise ValueError(
            f"--learning-rate-final must be at most the lowest --learning-rate, {lowest:g}, got {final:g}; "
            "some runs would speed up; lower it"
        )
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
    return base, space, names, arities, arguments.batch_sizes or [base.batch_size]
