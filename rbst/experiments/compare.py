r"""``rbst compare``: bias, variance and MSE of every estimator that goes by a name, on one test function.

The expectation of a named test function (:mod:`rbst.problems`) over a few categorical variables with
random logits; each estimator is diagnosed exactly where it can be, and by sampling with standard errors
where it cannot (:mod:`rbst.diagnostics`). Prints and writes a table, and draws the three figures against the
temperature and against the number of samples K.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import Array
from rbst._checks import check_num_samples, check_tau
from rbst._files import whole_file, write_text
from rbst.diagnostics import Diagnosis, diagnose, diagnosis_table
from rbst.enumeration import count_outcomes, exact_gradient
from rbst.estimators.registry import ESTIMATORS, get_estimator
from rbst.experiments.run import start_experiment, write_results
from rbst.experiments.settings import tuples
from rbst.plotting import new_figure, plot_against_samples, plot_against_tau
from rbst.problems import PROBLEMS, Problem, get_problem


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of ``rbst compare``; written to ``config.json``."""

    problem: str = "quadratic"
    n: int = 4
    variables: int = 2
    taus: tuple[float, ...] = (0.1, 0.5, 1.0)
    num_samples: tuple[int, ...] = (10, 100)
    scale: float = 1.0
    baseline: float = 0.0
    draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for option in ("n", "variables"):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, option)}")
        if not 0 <= self.scale < math.inf:
            raise ValueError(
                f"--scale must be finite and at least 0, got {self.scale}; 1 is the default"
            )
        if self.draws < 2:
            raise ValueError(f"--draws must be at least 2, got {self.draws}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0, got {self.seed}")
        for option in ("taus", "num_samples"):  # given twice, a value is one
            object.__setattr__(self, option, tuple(dict.fromkeys(getattr(self, option))))
        for tau in self.taus:
            check_tau(tau)
        for K in self.num_samples:
            check_num_samples(K)
        count_outcomes(self.logits)
        get_problem(self.problem, self.logits)
        get_estimator("reinforce", baseline=self.baseline)

    @property
    def logits(self) -> Array:
        """Normal logits of standard deviation ``scale``, shape ``(variables, n)``."""
        rng = np.random.default_rng(self.seed)
        return self.scale * rng.normal(size=(self.variables, self.n))

    @property
    def caption(self) -> str:
        """What a figure must say of the experiment."""
        return (
            f"{self.problem} test function, L = {self.variables} variables, n = {self.n} categories, "
            f"normal logits of scale {self.scale:g}, seed {self.seed}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst compare``, with the defaults of :class:`Config`."""
    default = Config()
    option = parser.add_argument
    option("--problem", choices=PROBLEMS, default=default.problem, help="the test function")
    option("--n", type=int, default=default.n, help="categories of a variable")
    option("--variables", type=int, default=default.variables, metavar="L", help="variables")
    option(
        "--tau",
        dest="taus",
        action="append",
        type=float,
        default=argparse.SUPPRESS,
        help=f"temperature, repeatable (default: {' '.join(f'{tau:g}' for tau in default.taus)})",
    )
    option(
        "--num-samples",
        action="append",
        type=int,
        metavar="K",
        default=argparse.SUPPRESS,
        help=f"K of gr-mcK, repeatable (default: {' '.join(map(str, default.num_samples))})",
    )
    option("--scale", type=float, default=default.scale, help="standard deviation of the logits")
    option("--baseline", type=float, default=default.baseline, help="of reinforce")
    option("--draws", type=int, default=default.draws, help="estimates where one has to sample")
    option("--seed", type=int, default=default.seed, help="of the logits and of what is sampled")
    option("--out", type=Path, help="folder of the results (default: runs/compare/DATE-TIME)")
    option("--quick", action="store_true", help="at most 1000 draws, to see that all works")


def run(arguments: argparse.Namespace) -> int:
    """Diagnose every estimator, then print the table and write results and figures."""
    from tqdm import tqdm

    config = _config_from(arguments)
    out = start_experiment("compare", config, arguments.out)
    start = time.perf_counter()
    problem = get_problem(config.problem, config.logits)
    rng = np.random.default_rng(config.seed)

    diagnoses, left_out = [], {}
    for name, tau in tqdm(list(_candidates(config)), desc="diagnosing"):
        try:
            diagnoses.append(_diagnose(name, tau, problem, config, rng))
        except ValueError as error:  # an estimator that is not made for this n
            left_out[name] = str(error)

    table = diagnosis_table(diagnoses)
    write_text(out / "table.md", table + "\n")
    results = {
        "logits": config.logits,
        "gradient": exact_gradient(problem.f, config.logits),
        "diagnoses": [_record(diagnosis) for diagnosis in diagnoses],
        "left_out": left_out,
    }
    write_results(out, config, start, results=results)
    draw_against_tau(config, problem, diagnoses, out / "against-tau.png")
    draw_against_samples(config, problem, out / "against-samples.png")
    print(f"{problem.equation}: {config.caption}\n\n{table}")
    for name, reason in left_out.items():
        print(f"left out: {name} ({reason})")
    print(f"\nResults, against-tau.png and against-samples.png are in {out}")
    return 0


def _record(diagnosis: Diagnosis) -> dict[str, Any]:
    """What ``results.json`` says of a diagnosis: its figures, and the standard error of each beside it."""
    record = {f.name: getattr(diagnosis, f.name) for f in fields(diagnosis)}
    errors = ("bias_squared_error", "variance_error", "mse_error")
    ratios = ("gradient_squared", "relative_bias", "relative_deviation")
    return record | {name: getattr(diagnosis, name) for name in (*errors, *ratios)}


def _config_from(arguments: argparse.Namespace) -> Config:
    options = {f.name: getattr(arguments, f.name) for f in fields(Config) if f.name in arguments}
    config = Config(**tuples(options))
    return replace(config, draws=min(config.draws, 1000)) if arguments.quick else config


def _candidates(config: Config) -> Iterator[tuple[str, float]]:
    """Every name of the registry, with each K and each temperature that it has."""
    for entry in ESTIMATORS:
        for name in dict.fromkeys(map(entry.with_samples, config.num_samples)):
            has_tau = get_estimator(name, tau=config.taus[0]).tau is not None
            for tau in config.taus if has_tau else config.taus[:1]:
                yield name, tau


def _diagnose(
    name: str, tau: float, problem: Problem, config: Config, rng: np.random.Generator
) -> Diagnosis:
    return diagnose(
        get_estimator(name, tau=tau, baseline=config.baseline),
        problem.f,
        config.logits,
        df_dD=problem.df_dD,
        rng=rng,
        num_samples=config.draws,
    )


def draw_against_tau(
    config: Config, problem: Problem, diagnoses: list[Diagnosis], path: Path
) -> None:
    """Bias^2, variance and MSE against tau: lines where exact, error bars where sampled."""
    low, high = min(config.taus), max(config.taus)
    taus = np.geomspace(low / 1.5, high * 1.5, 13)
    lines = {d.estimator: [] for d in diagnoses if d.method == "exact"}
    for tau in taus:  # the outer loop: what depends on tau alone is computed once
        for name in lines:
            lines[name].append(_diagnose(name, tau, problem, config, None))
    points = {}
    for d in diagnoses:
        if d.method == "sampled":
            points.setdefault(d.estimator, []).append(d)
    figure, axes = new_figure(1, 3, width=12, height=4.6)
    for column, quantity in zip(axes[0], ("bias_squared", "variance", "mse"), strict=True):
        plot_against_tau(column, taus, lines, points, quantity)
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(
        f"{config.caption}\nLines: exact; st-gs, every gr-mcK and gr have one bias. Points: {config.draws:,} "
        "draws with standard error, left out where they do not resolve the bias.",
        fontsize=9,
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw_against_samples(config: Config, problem: Problem, path: Path) -> None:
    """Bias^2, variance and MSE of GR-MCK against K at each temperature, exact by Proposition 3."""
    columns = len(config.taus)
    figure, axes = new_figure(1, columns, width=4 * columns, height=3.8)
    for column in axes[0, 1:]:
        column.sharey(axes[0, 0])
    for column, tau in zip(axes[0], config.taus, strict=True):
        plot_against_samples(column, _diagnose("st-gs", tau, problem, config, None))
        column.set_title(f"$\\tau$ = {tau:g}", fontsize=10)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle(f"GR-MCK, {config.caption}; all exact", fontsize=9)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
