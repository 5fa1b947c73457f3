r"""``rbst compare``: bias, variance and MSE of every estimator that goes by a name, on one test function.

The expectation of a named test function (:mod:`rbst.problems`) over a few categorical variables with
random logits; each estimator is diagnosed exactly where it can be, and by sampling with standard errors
where it cannot (:mod:`rbst.diagnostics`). Ranks the estimators by the MSE of the mean of a batch, in which returning
zero has its place, writes that table and one of bias and variance, and draws the figures against the temperature
and against the number of samples K. f and estimators may be the user's own.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from autograd.tracer import isbox

from rbst._array import Array
from rbst._checks import check_logits, check_num_samples, check_tau
from rbst._files import write_text
from rbst._load import load_object, parse_logits
from rbst._progress import progress_over
from rbst._tables import aligned_markdown_table, text_table, wrapped
from rbst.autodiff import estimate_gradient
from rbst.diagnostics import Diagnosis, brief, diagnose, diagnosis_table
from rbst.enumeration import MAX_OUTCOMES, count_outcomes, enumerate_outcomes, exact_gradient
from rbst.estimators.registry import ESTIMATORS, Estimator, get_estimator
from rbst.experiments.own import find_estimator
from rbst.experiments.run import (
    add_result_options,
    asked_config,
    new_experiment,
    save_figure,
    write_results,
)
from rbst.experiments.settings import Settings, add_options, at_least, not_negative, setting
from rbst.plotting import (
    new_figure,
    plot_against_samples,
    plot_against_tau,
    plot_bias_variance,
    set_caption,
)
from rbst.problems import PROBLEMS, Problem, get_problem

Builder = Callable[[float], Estimator]
"""From a temperature to an estimator."""


@dataclass(frozen=True)
class Config(Settings):
    """Everything that decides the numbers of ``rbst compare``; written to ``config.json``."""

    problem: str = setting("quadratic", "the test function", choices=tuple(PROBLEMS))
    n: int = setting(4, "categories of a variable", within=at_least(1))
    variables: int = setting(2, "variables", metavar="L", within=at_least(1))
    taus: tuple[float, ...] = setting((0.1, 0.5, 1.0), "temperature", option="--tau")
    num_samples: tuple[int, ...] = setting((10, 100), "K of gr-mcK", metavar="K")
    scale: float = setting(1.0, "standard deviation of the logits", within=not_negative)
    baseline: float = setting(0.0, "number that reinforce subtracts from f")
    draws: int = setting(
        10_000, "estimates where one has to sample", within=at_least(2), quick=1000
    )
    seed: int = setting(0, "of the logits and of what is sampled", within=at_least(0))
    function: str = setting(
        "",
        "your own f instead, for autograd to differentiate, or an rbst.problems.Problem",
        metavar="MODULE:NAME",
    )
    at: str | None = setting(
        None,
        "these logits, a row for each variable, instead of normal ones of --variables, --n and --scale",
        option="--logits",
        metavar="'a b; c d'",
    )
    estimators: tuple[str, ...] = setting(
        (),
        "name, or MODULE:NAME of your own Estimator or function of tau",
        option="--estimator",
        absent="all names",
    )
    batch: int = setting(1, "estimates in a mean", metavar="B", within=at_least(1))
    budget: float | None = setting(
        None,
        "evaluations of f that each estimator may spend on its batch, instead of --batch",
        metavar="C",
        within=lambda x: None if 1 <= x < math.inf else "finite and at least 1",
    )
    derivative_cost: float = setting(
        2.0, "of df/dD after f, in evaluations of f, for --budget", within=not_negative
    )

    def check(self) -> None:
        """What is given twice is one; there is a problem, estimators for it, and one way to a batch."""
        if self.budget is not None and self.batch != 1:
            raise ValueError(
                f"--budget decides the batch of each estimator, got --batch {self.batch} too; leave one out"
            )
        for option in ("taus", "num_samples", "estimators"):
            object.__setattr__(self, option, tuple(dict.fromkeys(getattr(self, option))))
        for tau in self.taus:
            check_tau(tau)
        for K in self.num_samples:
            check_num_samples(K)
        if self.at is not None:
            self._take_shape()
        elif self.n * self.variables > MAX_OUTCOMES:
            raise ValueError(
                f"--n times --variables must be at most {MAX_OUTCOMES:,}, got {self.n} and "
                f"{self.variables}; make the problem smaller"
            )
        count_outcomes(self.logits)
        get_estimator("reinforce", baseline=self.baseline)
        called = [build(self.taus[0]).name for build in self.builders.values()]
        for name in called:
            if called.count(name) > 1:
                raise ValueError(
                    f"each estimator needs a name of its own, got two called {name!r}; rename one"
                )
        _ = self.test_function

    def _take_shape(self) -> None:
        """Given logits say how many variables and categories there are."""
        for name, size in zip(("variables", "n"), self.logits.shape, strict=True):
            if getattr(self, name) not in (size, type(self).__dataclass_fields__[name].default):
                raise ValueError(
                    f"--logits has shape {self.logits.shape}, got --{name} {getattr(self, name)} too; leave "
                    f"--{name} out"
                )
            object.__setattr__(self, name, size)

    @cached_property
    def logits(self) -> Array:
        """Those that were given, or normal ones of standard deviation ``scale``, shape ``(variables, n)``."""
        if self.at is not None:
            return check_logits(parse_logits(self.at))
        rng = np.random.default_rng(self.seed)
        return self.scale * rng.normal(size=(self.variables, self.n))

    @cached_property
    def test_function(self) -> Problem:
        """One with a name, or the user's own."""
        if not self.function:
            return get_problem(self.problem, self.logits)
        own = load_object(self.function, "--function")
        if isinstance(own, Problem):
            return own
        if not callable(own):
            raise ValueError(
                f"--function must be a function of arrays (..., L, n) or an rbst.problems.Problem, got a "
                f"{type(own).__name__} at {self.function!r}; give the address of a function"
            )
        df_dD: Any = getattr(own, "df_dD", None)
        return Problem(self.function, own, df_dD, f"f = {self.function}")

    @cached_property
    def builders(self) -> dict[str, Builder]:
        """The estimators to compare: those that were asked for, or every name with each K."""
        names = self.estimators or tuple(
            name for entry in ESTIMATORS for name in map(entry.with_samples, self.num_samples)
        )
        return {name: partial(find_estimator, name, baseline=self.baseline) for name in names}

    @property
    def caption(self) -> str:
        """What a figure must say about the experiment."""
        name = f"f = {self.function}" if self.function else f"{self.problem} test function"
        logits = f"normal logits of scale {self.scale:g}"
        if self.at is not None:
            logits = f"logits {self.at}" if len(self.at) <= 40 else "given logits"
        return (
            f"{name}, L = {self.variables} variables, n = {self.n} categories, "
            f"{logits}, seed {self.seed}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst compare``, with the defaults of :class:`Config`."""
    add_options(parser, {"compare": Config()})
    text = "draw bias against standard deviation too, map.svg"
    parser.add_argument("--plot", action="store_true", help=text)
    add_result_options(parser, "compare", "at most 1000 draws, to check that everything works")


def run(arguments: argparse.Namespace) -> int:
    """Diagnose every estimator, write results and figures, and print the ranking."""
    config = asked_config(arguments, Config)
    _check_shape(config)
    # This fails for an f without values.
    gradient = exact_gradient(config.test_function.f, config.logits)
    with new_experiment("compare", config, arguments.out) as out:
        start = time.perf_counter()
        diagnoses, batch, left_out = diagnose_all(config)
        note = [NEGATIVE] if any(d.bias_squared < 0 for d in diagnoses) else []
        tables = [diagnosis_table(diagnoses), *note, ranking(diagnoses, batch)]
        write_text(out / "table.md", "\n\n".join(tables) + "\n")
        results = {
            "logits": config.logits,
            "gradient": gradient,
            "diagnoses": [_record(d, batch[d.estimator]) for d in diagnoses],
            "left_out": left_out,
        }
        write_results(out, config, start, results=results)
        lines = exact_lines(config, diagnoses)
        points: dict[str, list[Diagnosis]] = {}
        for d in diagnoses:
            if d.method == "sampled":
                points.setdefault(d.estimator, []).append(d)
        save_figure(out / "against-tau.svg", draw_against_tau, config, lines, points, batch)
        diagnosed = config.builders.keys() - left_out
        if any(config.builders[name](config.taus[0]).given_D == "gumbel-rao" for name in diagnosed):
            save_figure(out / "against-samples.svg", draw_against_samples, config)
        if arguments.plot:
            save_figure(out / "map.svg", draw_map, config, lines | points)
    named = "" if config.function else f"{config.test_function.equation}: "
    print(f"Results and figures are in {out}\n\n{wrapped(named + config.caption)}\n")
    for reason in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name, other in left_out.items() if other == reason)
        print(wrapped(f"left out: {names} ({reason})") + "\n")
    print(summary(config, diagnoses, batch))
    return 0


def _check_shape(config: Config) -> None:
    """Whether f takes the variables of this comparison at all."""
    D = next(enumerate_outcomes(config.logits))[0]
    try:
        config.test_function.f(D)
    except MemoryError:
        raise
    except Exception as error:  # it is the user's
        raise ValueError(
            f"f must take arrays of shape (..., {config.variables}, {config.n}), got {type(error).__name__}: {error}; "
            f"is it made for {config.variables} variables of {config.n} categories?"
        ) from error


def diagnose_all(config: Config) -> tuple[list[Diagnosis], dict[str, int], dict[str, str]]:
    """The diagnoses, at each temperature where there is one; batches by name, and of what cannot be compared the reason."""
    rng = np.random.default_rng(config.seed)
    diagnoses, batch, left_out = [], {}, {}
    candidates = []
    for name, build in config.builders.items():
        first, last = build(config.taus[0]).tau, build(config.taus[-1]).tau
        taus = config.taus if first != last else config.taus[:1]
        candidates += [(name, build(tau)) for tau in taus]
    for name, estimator in progress_over(candidates, "diagnosing", len(candidates), "cases"):
        try:
            batch[estimator.name] = _batch_of(estimator, config)
            diagnoses.append(_diagnose(estimator, config, rng))
        except ValueError as error:  # not made for this n, or beyond the budget
            left_out[name] = str(error)
    if not diagnoses:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise ValueError(f"no estimator can be compared here ({reasons})")
    return diagnoses, batch, left_out


def _record(d: Diagnosis, B: int) -> dict[str, Any]:
    """What ``results.json`` says of a diagnosis: its fields, what follows from them, and the MSE of a batch."""
    errors = ("bias_squared_error", "variance_error", "mse_error")
    ratios = ("gradient_squared", "relative_bias", "relative_deviation")
    derived = {name: getattr(d, name) for name in (*errors, *ratios)}
    return vars(d) | derived | {"batch": B, "relative_mse": d.relative_mse(B)}


def _diagnose(estimator: Estimator, config: Config, rng: Any = None) -> Diagnosis:
    problem, draws = config.test_function, config.draws
    return diagnose(
        estimator, problem.f, config.logits, df_dD=problem.df_dD, rng=rng, num_samples=draws
    )


# What a batch costs, and what it is worth.


def count_evaluations(
    estimator: Estimator, f: Callable[[Array], Array], logits: Array
) -> tuple[float, float]:
    """How often one estimate evaluates f, and how often its derivative.

    Counted where an estimator of several evaluations makes them itself, on one problem with the seed 0.

    Examples
    --------
    >>> count_evaluations(get_estimator("gr-mc10"), abs, np.zeros((1, 3)))
    (1, 1)
    >>> count_evaluations(get_estimator("reinforce"), abs, np.zeros((1, 3)))
    (1, 0)
    """
    if estimator.evaluates != "several":
        return 1, int(estimator.evaluates != "cost-only")
    counts = {False: 0, True: 0}

    def counting(D: Array) -> Array:
        counts[isbox(D)] += math.prod(D.shape[:-2])
        return f(D)

    estimate_gradient(estimator, counting, logits, 0)
    return counts[False] + counts[True], counts[True]


def _batch_of(estimator: Estimator, config: Config) -> int:
    """The batch that was asked for, or what the budget buys."""
    if config.budget is None:
        return config.batch
    values, derivatives = count_evaluations(estimator, config.test_function.f, config.logits)
    cost = values + config.derivative_cost * derivatives
    if cost > config.budget:
        raise ValueError(f"one estimate costs {cost:g} evaluations, got --budget {config.budget:g}")
    return int(config.budget // cost)


HEADING = ("estimator", "tau", "bias/grad", "sd/grad", "cosine", "B", "MSE/grad^2")
ZERO = "**returning zero**"
SHOWN, BEST, BETTER, WORSE = 15, 6, 4, 4
"""Rows of the ranking in a terminal, and which, where there are more: the best, and those about the place of zero."""

NEGATIVE = (
    "A bias^2 below 0 is one that sampling cannot tell from 0: the variance of the mean has been subtracted from "
    "its square."
)


def ranking(diagnoses: Sequence[Diagnosis], batch: Mapping[str, int]) -> str:
    """The estimators by the MSE of the mean of their batch over the squared gradient, and the place of zero.

    Examples
    --------
    >>> f, logits = get_problem("quadratic", np.zeros((1, 3))).f, np.log([[0.2, 0.3, 0.5]])
    >>> print(ranking([diagnose(name, f, logits, tau=0.5) for name in ("gr", "zgr")], {"gr": 10, "zgr": 10}))
    | estimator          | tau | bias/grad | sd/grad | cosine | B  | MSE/grad^2 |
    |--------------------|-----|-----------|---------|--------|----|------------|
    | gr                 | 0.5 | 0.355     | 2.35    | 0.936  | 10 | 0.676      |
    | zgr                |     | 0         | 2.82    | 1      | 10 | 0.795      |
    | **returning zero** |     | 1         | 0       |        |    | 1          |
    """
    return aligned_markdown_table([HEADING, *_ranked_rows(diagnoses, batch)])


def _ranked_rows(diagnoses: Sequence[Diagnosis], batch: Mapping[str, int]) -> list[tuple[str, ...]]:
    scored: list[tuple[float, tuple[str, ...]]] = []
    for d in diagnoses:
        B, tau = batch[d.estimator], "" if d.tau is None else f"{d.tau:g}"
        figures = d.relative_bias, d.relative_deviation, d.cosine
        mse = d.relative_mse(B)
        scored.append((mse, (d.estimator, tau, *map(brief, figures), str(B), brief(mse))))
    scored.append((1.0, (ZERO, "", "1", "0", "", "", "1")))
    return [row for _, row in sorted(scored, key=lambda scored: scored[0])]


def summary(config: Config, diagnoses: Sequence[Diagnosis], batch: Mapping[str, int]) -> str:
    """The ranking for a terminal: the best, and those about the place of zero; and how to read it.

    Examples
    --------
    >>> config, logits = Config(batch=10), np.log([[0.2, 0.3, 0.5]])
    >>> f = get_problem("quadratic", logits).f
    >>> print(summary(config, [diagnose(name, f, logits, tau=0.5) for name in ("gr", "zgr")], {"gr": 10, "zgr": 10}))
    Best first, by the MSE of the mean of 10 estimates (--batch) over the squared
    gradient: below 1 is better than returning zero.
    <BLANKLINE>
    estimator       tau  bias/grad  sd/grad   B  MSE/grad^2
    -------------------------------------------------------
    gr              0.5      0.355     2.35  10       0.676
    zgr                          0     2.82  10       0.795
    returning zero               1        0               1
    """
    rows = [
        (name.strip("*"), *row, B, mse) for name, *row, _, B, mse in _ranked_rows(diagnoses, batch)
    ]
    place, left = [row[0] for row in rows].index(ZERO.strip("*")), 0
    if len(rows) > SHOWN:
        near = range(place - BETTER, place + WORSE + 1)
        chosen = [i for i in range(len(rows)) if i < BEST or i in near]
        left = len(rows) - len(chosen)
        gaps = {i for i in chosen if i and i - 1 not in chosen}
        blank = ("...", *[""] * (len(rows[0]) - 1))
        rows = [row for i in chosen for row in ([blank] * (i in gaps) + [rows[i]])]
    of = f"{config.batch} estimates (--batch)" if config.batch > 1 else "a batch of one (--batch)"
    if config.budget is not None:
        of = f"the B estimates that {config.budget:g} evaluations buy"
    best = f"Best first, by the MSE of the mean of {of} over the squared gradient: below 1 is better than returning zero."
    if left:
        best += f" The other {left} rows, cosines, and bias^2 and variance of each are in table.md."
    heading = tuple(name for name in HEADING if name != "cosine")
    return f"{wrapped(best)}\n\n{text_table([heading, *rows])}"


# Figures.


def exact_lines(config: Config, diagnoses: Sequence[Diagnosis]) -> dict[str, list[Diagnosis]]:
    """Of every estimator that is exact its diagnoses at ``line_taus``."""
    taus = line_taus(config)
    exact = {d.estimator for d in diagnoses if d.method == "exact"}
    chosen = [build for build in config.builders.values() if build(taus[0]).name in exact]
    lines: dict[str, list[Diagnosis]] = {build(taus[0]).name: [] for build in chosen}
    for tau in taus:  # the outer loop: what depends on tau alone is computed once
        for estimator in (build(tau) for build in chosen):
            lines[estimator.name].append(_diagnose(estimator, config))
    return lines


def line_taus(config: Config) -> Array:
    """Temperatures around those that were asked for."""
    return np.geomspace(min(config.taus) / 1.5, max(config.taus) * 1.5, 13)


def draw_map(config: Config, diagnoses: dict[str, list[Diagnosis]]) -> Any:
    """Standard deviation against bias, :func:`rbst.plotting.plot_bias_variance`."""
    figure, axes = new_figure(1, 1, width=7, height=8)
    batch_sizes = dict.fromkeys((1, 10, 100, config.batch))
    plot_bias_variance(axes[0, 0], diagnoses, batch_sizes=list(batch_sizes))
    set_caption(figure, f"{config.caption}\nLines: exact. Open markers: {config.draws:,} draws.")
    return figure


def draw_against_tau(
    config: Config,
    lines: dict[str, list[Diagnosis]],
    points: dict[str, list[Diagnosis]],
    batch: dict[str, int],
) -> Any:
    """Bias^2, variance and MSE against tau: lines where exact, error bars where sampled.

    With a batch, all are over the gradient, and a line at 1 is what returning zero scores.
    """
    quantities, floor = QUANTITIES, None
    if config.batch != 1 or config.budget is not None:
        title = f"MSE / |gradient|$^2$, B = {config.batch}"
        if config.budget is not None:
            title = f"MSE / |gradient|$^2$ at {config.budget:g} evaluations"
        quantities = RATIOS | {title: lambda d: d.relative_mse(batch[d.estimator])}
        floor = 1e-10
    names = len(lines) + len(points)
    figure, axes = new_figure(1, 3, width=8, height=3.6 + 0.2 * (names // 5 + 1))
    for column, (title, quantity) in zip(axes[0], quantities.items(), strict=True):
        plot_against_tau(column, line_taus(config), lines, points, quantity, floor)
        column.set_title(title, fontsize="medium")
    if floor is not None:
        axes[0, 2].axhline(1, color="black", linestyle="--", linewidth=1, label="returning zero")
    labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=5, fontsize="small")
    set_caption(
        figure,
        f"{config.caption}\nLines: exact; st-gs, every gr-mcK and gr have one bias.\nPoints: {config.draws:,} "
        "draws with standard error, left out where they do not resolve the bias.",
    )
    return figure


QUANTITIES = {
    "bias$^2$": lambda d: d.bias_squared,
    "variance (trace)": lambda d: d.variance,
    "MSE": lambda d: d.mse,
}
RATIOS = {
    "|bias| / |gradient|": lambda d: d.relative_bias,
    "standard deviation / |gradient|": lambda d: d.relative_deviation,
}


def draw_against_samples(config: Config) -> Any:
    """Bias^2, variance and MSE of GR-MCK against K at each temperature, exact by Proposition 3."""
    columns = len(config.taus)
    figure, axes = new_figure(1, columns, width=min(8, 5 * columns), height=3.4)
    for column in axes[0, 1:]:
        column.sharey(axes[0, 0])
    for column, tau in zip(axes[0], config.taus, strict=True):
        plot_against_samples(column, _diagnose(get_estimator("st-gs", tau=tau), config))
        column.set_title(f"$\\tau$ = {tau:g}", fontsize="medium")
    axes[0, 0].legend(fontsize="small")
    set_caption(figure, f"GR-MCK, {config.caption}; all exact")
    return figure
