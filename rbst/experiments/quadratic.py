r"""``rbst quadratic``: the toy programme of the paper, its Figure 1 exactly, and its minimisation.

The programme :math:`\min_p (p - c)^\top Q (p - c)` over the simplex of three categories is rewritten as the
expectation of :math:`(D - c)^\top A(p) (D - c)` (:mod:`rbst.problems`). Figure 1 of Paulus et al. (2021,
section 5.2) shows, for every p, by how much Rao-Blackwellizing lowers the variance of straight-through
Gumbel-Softmax: the difference in the log10-trace of the covariance. Here both traces are computed from
the moments given D, so nothing is sampled unless asked for. A(p) is held constant in the derivative of f;
the direct term, through A(p), is the same for every estimator that evaluates f at D. It is left out of the
figure, and added when the programme is minimised.

A is singular on the lines :math:`p_k = 2/3`, and vanishes at the optimum c, where the traces are 0 and the
difference of their logarithms is 0/0. The cells of the mesh have an edge on each singular line and a
vertex at c, so that no cell's centre, where the traces are computed, meets either.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rbst._array import Array
from rbst._progress import progress_bar, progress_over
from rbst._tables import text_table, wrapped
from rbst.autodiff import estimate_gradient
from rbst.categorical import softmax
from rbst.estimators.registry import get_estimator
from rbst.estimators.score_function import RunningMean
from rbst.experiments.run import (
    add_result_options,
    asked_config,
    new_experiment,
    save_figure,
    write_results,
)
from rbst.experiments.settings import (
    Settings,
    add_options,
    at_least,
    once,
    positive,
    setting,
    temperature,
)
from rbst.plotting import new_figure, plot_curves, plot_programme, plot_simplex, set_caption
from rbst.problems import programme, programme_direct, programme_gradient, programme_value
from rbst.rao_blackwell import conditional_moments

K = 1000
"""The number of samples of Figure 1, GR-MC1000."""

CAUGHT = 0.5
"""Beyond this distance from the optimum a run that has ended sits in a corner (distance 0.816)."""


def _multiple_of_3(x: int) -> str | None:
    return None if x % 3 == 0 and 6 <= x <= 3000 else "a multiple of 3, at least 6"


def _inside(start: tuple[float, ...]) -> str | None:
    proper = len(start) == 3 and math.isclose(sum(start), 1, abs_tol=1e-9)
    if proper and min(start) > 0 and max(start) < 2 / 3:
        return None
    return "three probabilities that sum to 1, each below 2/3 where A(p) is singular"


@dataclass(frozen=True)
class Config(Settings):
    """Everything that decides the numbers of ``rbst quadratic``; written to ``config.json``."""

    taus: tuple[float, ...] = setting(
        (0.1, 0.5, 1.0), "temperature", option="--tau", within=once(temperature)
    )
    resolution: int = setting(48, "cells along a side of Figure 1", within=_multiple_of_3, quick=12)
    samples: int = setting(
        0,
        "estimates at each point for Figure 1 by Monte Carlo, beside the exact one; 0 for none",
        within=lambda x: "0 or at least 2" if x == 1 else at_least(0)(x),
        quick=20,
    )
    sample_resolution: int = setting(
        18, "cells along a side of the sampled figure", within=_multiple_of_3, quick=6
    )
    estimators: tuple[str, ...] = setting(
        ("st", "st-gs", "gr-mc10", "gr", "zgr", "gs", "reinforce"),
        "of the minimisation; see 'rbst estimators'",
        option="--estimator",
        within=once(),
    )
    start: tuple[float, ...] = setting(
        (0.05, 0.35, 0.6),
        "probabilities from which the minimisation starts, each below 2/3",
        nargs=3,
        metavar="P",
        within=_inside,
    )
    steps: int = setting(60, "of the minimisation", within=at_least(1), quick=30)
    learning_rate: float = setting(1.0, "of the descent", within=positive)
    seeds: int = setting(50, "runs of the minimisation", within=at_least(1), quick=5)
    seed: int = setting(0, "of all that is random", within=at_least(0))

    def check(self) -> None:
        """The results tell the temperatures apart, and the minimisation can use the estimators."""
        if len({f"{tau:g}" for tau in self.taus}) < len(self.taus):
            raise ValueError(
                f"--tau must differ in its first six digits, got {self.taus}; leave one out"
            )
        for name in self.estimators:
            estimator = get_estimator(name, tau=self.taus[0])
            if estimator.evaluates == "several":
                raise ValueError(
                    f"{name} chooses its own evaluations of f, for which the direct term is not "
                    "defined; choose another --estimator"
                )
            if estimator.categories == 2:
                raise ValueError(
                    f"{name} is for Boolean variables, the programme has n = 3; leave it out"
                )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst quadratic``, with the defaults of :class:`Config`."""
    add_options(parser, {"quadratic": Config()})
    text = "a coarse figure and few runs, to check that everything works"
    add_result_options(parser, "quadratic", text)


def run(arguments: argparse.Namespace) -> int:
    """Compute the traces, minimise the programme, and write results and figures."""
    config = asked_config(arguments, Config)
    with new_experiment("quadratic", config, arguments.out) as out:
        start = time.perf_counter()
        rng = np.random.default_rng(config.seed)

        mesh = SimplexMesh(config.resolution)
        counted = progress_over(config.taus, "exact traces", len(config.taus), "temperatures")
        traces = {tau: exact_traces(mesh.centres, tau) for tau in counted}
        coarse, sampled = SimplexMesh(config.sample_resolution), {}
        if config.samples:
            draws = config.samples * len(config.taus)
            with progress_bar(draws, "sampled traces", unit="draws") as progress:
                for tau in config.taus:
                    sampled[tau] = sampled_traces(
                        coarse.centres, tau, config.samples, rng, progress
                    )
        curves: dict[float, dict[str, list]] = {tau: {} for tau in config.taus}
        jobs = [(tau, name) for tau in config.taus for name in ("exact", *config.estimators)]
        for tau, name in progress_over(jobs, "minimising", len(jobs), "descents"):
            curves[tau][name] = minimise(name, tau, config)

        results = {
            "figure_1": {f"{tau:g}": summarise_traces(mesh.centres, traces[tau]) for tau in traces},
            "monte_carlo": {
                f"{tau:g}": compare_traces(sampled[tau], exact_traces(coarse.centres, tau))
                for tau in sampled
            },
            "minimisation": {
                f"{tau:g}": {name: summarise_runs(runs) for name, runs in curves[tau].items()}
                for tau in curves
            },
        }
        write_results(out, config, start, results=results)
        save_figure(out / "figure1.svg", draw_figure_1, config, mesh, traces, coarse, sampled)
        save_figure(out / "minimisation.svg", draw_minimisation, config, curves)
    print(f"Results, figure1.svg and minimisation.svg are in {out}\n\n{format_results(results)}")
    return 0


# Figure 1: the traces of the covariances, over the whole simplex.


class SimplexMesh:
    """The simplex of three categories, cut into ``resolution ** 2`` equal triangles.

    ``vertices`` has shape ``(v, 3)``, in probabilities; ``triangles`` ``(resolution ** 2, 3)``, indices of
    vertices; ``centres`` ``(resolution ** 2, 3)``. With a resolution that 3 divides, the lines
    :math:`p_k = 2/3` run along edges and the centroid is a vertex.

    Examples
    --------
    >>> mesh = SimplexMesh(3)
    >>> mesh.vertices.shape, mesh.triangles.shape, mesh.centres[0].round(3)
    ((10, 3), (9, 3), array([0.111, 0.111, 0.778]))
    """

    def __init__(self, resolution: int) -> None:
        R = resolution
        corners = [(i, j) for i in range(R + 1) for j in range(R + 1 - i)]
        index = {corner: k for k, corner in enumerate(corners)}
        up = [((i, j), (i + 1, j), (i, j + 1)) for i, j in index if i + j < R]
        down = [((i + 1, j), (i, j + 1), (i + 1, j + 1)) for i, j in index if i + j < R - 1]
        self.vertices = np.array([(i, j, R - i - j) for i, j in index]) / R
        self.triangles = np.array([[index[corner] for corner in cell] for cell in up + down])
        self.centres = self.vertices[self.triangles].mean(axis=1)


def exact_traces(p: Array, tau: float) -> dict[str, Array]:
    r"""Traces of the covariances of ST-GS, GR-MCK and GR at probabilities ``(N, 3)``, without sampling.

    With :math:`m_i = \mathbb E[h \mid D = e_i]` and :math:`s_i = \mathbb E[|h|^2 \mid D = e_i]` for the
    estimate h of ST-GS,

    .. math:: \mathrm{tr} \, \mathrm{cov}[\text{GR}] = \sum_i p_i |m_i - \bar m|^2, \qquad
              \mathbb E[\mathrm{tr} \, \mathrm{cov}[\text{ST-GS} \mid D]] = \sum_i p_i (s_i - |m_i|^2),

    and the second over K is what GR-MCK has on top of the first (Paulus et al., 2021, Proposition 3).
    """
    n = p.shape[-1]
    D = np.broadcast_to(np.eye(n), (len(p), n, n))
    g = programme(p[:, None, None]).df_dD(D[:, :, None])[:, :, 0]
    logits = np.broadcast_to(np.log(p)[:, None], D.shape)
    mean, second_moment = conditional_moments(logits, D, g, tau=tau)
    overall = (p[..., None] * mean).sum(axis=1, keepdims=True)
    gr = (p * ((mean - overall) ** 2).sum(axis=-1)).sum(axis=-1)
    within = (p * (second_moment - (mean**2).sum(axis=-1))).sum(axis=-1)
    return {"st-gs": gr + within, f"gr-mc{K}": gr + within / K, "gr": gr}


def log_ratio(traces: dict[str, Array], name: str) -> Array:
    """The difference of the log10-traces of ST-GS and of the estimator ``name``."""
    return np.log10(traces["st-gs"]) - np.log10(traces[name])


def sampled_traces(
    p: Array, tau: float, draws: int, rng: Any, progress: Any
) -> dict[str, tuple[Array, Array]]:
    """The traces of ST-GS and GR-MCK from ``draws`` estimates at each point, and their standard errors."""
    toy, logits = programme(p[:, None]), np.log(p)[:, None]
    estimators = [get_estimator(name, tau=tau) for name in ("st-gs", f"gr-mc{K}")]
    estimates: dict[str, list[Array]] = {estimator.name: [] for estimator in estimators}
    for _ in range(draws):
        for estimator in estimators:
            estimate = estimate_gradient(estimator, toy.f, logits, rng, df_dD=toy.df_dD)
            estimates[estimator.name].append(estimate[:, 0])
        progress.update()
    return {name: _sample_trace(np.stack(values)) for name, values in estimates.items()}


def _sample_trace(estimates: Array) -> tuple[Array, Array]:
    draws = len(estimates)
    squares = ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=-1) * (draws / (draws - 1))
    return squares.mean(axis=0), squares.std(axis=0, ddof=1) / math.sqrt(draws)


REGIONS = {
    "corners (some p_k > .9)": lambda p: p.max(axis=-1) > 0.9,
    "edges (some p_k < .05, none > .9)": lambda p: (
        (p.min(axis=-1) < 0.05) & (p.max(axis=-1) <= 0.9)
    ),
    "middle (all p_k > .15)": lambda p: p.min(axis=-1) > 0.15,
}
"""Parts of the simplex over which Figure 1 is summarised."""


def summarise_traces(p: Array, traces: dict[str, Array]) -> dict[str, Any]:
    """Quantiles of the difference of the log10-traces, and its median in each region."""
    summary: dict[str, Any] = {}
    for name in (f"gr-mc{K}", "gr"):
        difference = log_ratio(traces, name)
        low, median, high = np.quantile(difference, [0, 0.5, 1])
        summary[name] = {"least": low, "median": median, "most": high}
        summary[name]["most at p"] = p[difference.argmax()]
        summary[name]["median by region"] = {
            region: np.median(difference[inside(p)]) for region, inside in REGIONS.items()
        }
    gap = log_ratio(traces, "gr") - log_ratio(traces, f"gr-mc{K}")
    summary["gr beyond gr-mc1000"] = {"median": np.median(gap), "most": gap.max()}
    return summary


def compare_traces(
    sampled: dict[str, tuple[Array, Array]], exact: dict[str, Array]
) -> dict[str, Any]:
    """How the sampled differences of the log10-traces lie around the exact ones."""
    difference, error = sampled_log_ratio(sampled)
    deviation = difference - log_ratio(exact, f"gr-mc{K}")
    return {
        "points": len(deviation),
        "median absolute deviation": np.median(abs(deviation)),
        "median standard error": np.median(error),
        "share within 2 standard errors": np.mean(abs(deviation) <= 2 * error),
        "most standard errors away": np.max(abs(deviation) / error),
    }


def sampled_log_ratio(sampled: dict[str, tuple[Array, Array]]) -> tuple[Array, Array]:
    """The difference of the sampled log10-traces, and its standard error by the delta method."""
    (st_gs, st_gs_error), (gr, gr_error) = sampled["st-gs"], sampled[f"gr-mc{K}"]
    error = np.hypot(st_gs_error / st_gs, gr_error / gr) / math.log(10)
    return np.log10(st_gs) - np.log10(gr), error


# The minimisation: descent in the logits, from the same start with every estimator.


def minimise(name: str, tau: float, config: Config) -> list[dict[str, list]]:
    r"""Gradient descent on the programme; the distance to the optimum at each step of each run.

    .. math:: \theta \leftarrow \theta - \eta \left( h + \frac{\partial f(D, \theta)}{\partial \theta} \right)

    with h the estimate for fixed A(p), or with the exact gradient for the name ``"exact"``. All runs
    advance together; ``reinforce`` has a running mean for each of them.
    """
    rng = np.random.default_rng(config.seed)
    runs = 1 if name == "exact" else config.seeds
    logits = np.log(np.broadcast_to(config.start, (runs, 1, 3)))
    baselines = [RunningMean() for _ in range(runs)]
    distances = []
    for step in range(config.steps + 1):
        p = softmax(logits)
        distances.append(np.sqrt(((p - 1 / 3) ** 2).sum(axis=(-2, -1))))
        if step < config.steps:
            gradient = (
                programme_gradient(p)
                if name == "exact"
                else _estimate(name, tau, logits, baselines, rng)
            )
            logits = logits - config.learning_rate * gradient
    iterations = list(range(config.steps + 1))
    return [{"iteration": iterations, "distance": list(run)} for run in np.transpose(distances)]


def _estimate(
    name: str, tau: float, logits: Array, baselines: list[RunningMean], rng: Any
) -> Array:
    """One estimate for each run, with the direct term at the point where f is evaluated."""
    baseline = np.array([[mean.value] for mean in baselines])
    estimator = get_estimator(name, tau=tau, baseline=baseline)
    p = softmax(logits)
    toy = programme(p)
    point, sample = estimator.sample(logits, rng)
    if estimator.evaluates == "cost-only":
        cost = toy.f(point)
        signal = cost[:, None]
        for mean, value in zip(baselines, cost, strict=True):
            mean.update(value)
    else:
        signal = toy.df_dD(point)
    return estimator.pull_back(logits, sample, signal, rng) + programme_direct(p, point)


def summarise_runs(runs: list[dict[str, list]]) -> dict[str, Any]:
    """The mean distance at a few steps, and how many runs ended in a corner."""
    distances = np.array([run["distance"] for run in runs])
    last = distances.shape[1] - 1
    steps = sorted({0, last // 10, last // 4, last // 2, last})
    return {
        "mean distance": {str(step): distances[:, step].mean() for step in steps},
        "median distance at the end": np.median(distances[:, -1]),
        "runs": len(runs),
        "runs caught in a corner": int((distances[:, -1] > CAUGHT).sum()),
    }


# Figures and the printed summary.

LEGEND = """\
Colour: log10 of the trace of the
covariance of ST-GS, minus that of
the Rao-Blackwellized estimator.
1 means a tenth of the variance.
One colour scale for each row; the
highest 1% of cells share its end.

Dashed: $p_k = 2/3$, where $A(p)$ is
singular and both traces are
infinite; their ratio is not.

Blank: the cells around the optimum
$c = (1/3, 1/3, 1/3)$, where $A = 0$
and the difference is 0/0."""


def draw_figure_1(
    config: Config,
    mesh: SimplexMesh,
    traces: dict[float, dict[str, Array]],
    coarse: SimplexMesh,
    sampled: dict[float, dict[str, tuple[Array, Array]]],
) -> Any:
    """The contours of the programme, and in a row for each temperature the difference of the log10-traces."""
    by_K, limit = ([log_ratio(t, name) for t in traces.values()] for name in (f"gr-mc{K}", "gr"))
    columns = [(f"GR-MC{K},\nexact", mesh, by_K), ("GR,\nexact", mesh, limit)]
    if sampled:
        title = f"GR-MC{K},\n{config.samples} estimates a point"
        columns.insert(1, (title, coarse, [sampled_log_ratio(t)[0] for t in sampled.values()]))
    shape = 1 + len(config.taus), len(columns)
    figure, axes = new_figure(*shape, width=8, height=2.6 * shape[0])

    plot_programme(axes[0, 0], mesh, programme_value(mesh.vertices))
    axes[0, 0].set_title("$(p - c)^T Q (p - c)$,\nn = 3, dot: optimum c", fontsize="small", pad=14)
    if sampled:
        _draw_agreement(axes[0, 1], coarse, sampled)
    text = {"fontsize": "small", "va": "center", "transform": axes[0, -1].transAxes}
    axes[0, -1].text(0, 0.5, LEGEND, **text)
    axes[0, -1].set_axis_off()
    for row, tau in enumerate(config.taus):
        low, high = by_K[row].min(), np.quantile(limit[row], 0.99)
        scale = {"vmin": low, "vmax": high, "cmap": "viridis"}
        for panel, (title, cells, differences) in zip(axes[row + 1], columns, strict=True):
            coloured = plot_simplex(panel, cells, differences[row], **scale)
            panel.set_title(f"$\\tau$ = {tau:g}: ST-GS minus {title}", fontsize="small", pad=14)
        label = f"difference in log10-trace,\nmedian {np.median(by_K[row]):.2f} (exact, GR-MC{K})"
        bar = figure.colorbar(coloured, ax=axes[row + 1], shrink=0.9, aspect=20, extend="both")
        bar.set_label(label, fontsize="small")
    return figure


def _draw_agreement(
    axes: Any, coarse: SimplexMesh, sampled: dict[float, dict[str, tuple[Array, Array]]]
) -> None:
    """Sampled differences against exact ones, a point for each cell, with the diagonal in black."""
    for shade, tau in enumerate(sampled):
        exact = log_ratio(exact_traces(coarse.centres, tau), f"gr-mc{K}")
        difference, error = sampled_log_ratio(sampled[tau])
        grey = str(0.75 * (1 - shade / len(sampled)))
        axes.errorbar(
            exact, difference, error, fmt=".", ms=2, lw=0.5, color=grey, label=f"$\\tau$ = {tau:g}"
        )
    axes.axline((0, 0), slope=1, color="black", linewidth=0.8)
    axes.set_xlabel("exact", fontsize="small")
    axes.set_ylabel("sampled, with standard error", fontsize="small")
    axes.tick_params(labelsize="small")
    axes.legend(fontsize="small")
    axes.set_title(f"ST-GS minus GR-MC{K}, a dot\nfor each cell, black: equal", fontsize="small")


def draw_minimisation(config: Config, curves: dict[float, dict[str, list]]) -> Any:
    """Distance to the optimum against the step, the estimators in two rows, for each temperature."""
    family = [name for name in config.estimators if name == "st-gs" or name.startswith("gr")]
    others = [name for name in config.estimators if name not in family]
    rows = [names for names in (family, others) if names]
    columns = len(config.taus)
    figure, axes = new_figure(len(rows), columns, width=8, height=2.9 * len(rows) + 0.6)
    for row, names in zip(axes, rows, strict=True):
        for column, tau in zip(row, config.taus, strict=True):
            plot_curves(column, {name: curves[tau][name] for name in (*names, "exact")}, "distance")
            column.set(yscale="log", ylim=(1e-4, 1.2), title=f"$\\tau$ = {tau:g}")
            caught = "\n".join(filter(None, (_caught(name, curves[tau][name]) for name in names)))
            column.text(0.05, 0.05, caught, transform=column.transAxes, fontsize="small")
    lines = {line.get_label(): line for row in axes for line in row[0].get_lines()}
    names = [*config.estimators, "exact"]
    place = {"loc": "outside lower center", "ncols": 8, "fontsize": "small"}
    figure.legend([lines[name] for name in names], names, **place)
    for column in axes[-1]:
        column.set_xlabel("step")
    for row in axes:
        row[0].set_ylabel("distance to the optimum, |p - c|")
    start = ", ".join(f"{value:g}" for value in config.start)
    set_caption(
        figure,
        f"Descent from p = ({start}), step size {config.learning_rate:g}: mean (line) and range (band) over "
        f"{config.seeds} runs, n = 3.\nA run that is caught in a corner stays at distance "
        f"{math.sqrt(2 / 3):.3f}. Black: the exact gradient.",
    )
    return figure


def _caught(name: str, runs: list[dict[str, list]]) -> str:
    caught = summarise_runs(runs)["runs caught in a corner"]
    return f"{name}: {caught} of {len(runs)} caught" if caught else ""


def format_results(results: dict[str, Any]) -> str:
    """The tables that the command prints."""
    parts = (region.split(" (")[0] for region in REGIONS)
    figure_1 = [["ST-GS minus", "tau", "median", *parts, "most"]] + [
        [name, tau, *(f"{x:.3f}" for x in (row["median"], *regions.values(), row["most"]))]
        for tau, summary in results["figure_1"].items()
        for name, row in summary.items()
        if (regions := row.get("median by region"))
    ]
    steps = list(next(iter(next(iter(results["minimisation"].values())).values()))["mean distance"])
    minimisation = [["estimator", "tau", *(f"step {step}" for step in steps), "caught"]] + [
        [name, tau]
        + [f"{row['mean distance'][step]:.2e}" for step in steps]
        + [f"{row['runs caught in a corner']}/{row['runs']}"]
        for tau, rows in results["minimisation"].items()
        for name, row in rows.items()
    ]
    first = "Difference in log10-trace of the covariance, medians over the simplex and its parts:"
    second = "Mean distance to the optimum, and runs caught in a corner:"
    return (
        f"{wrapped(first)}\n{text_table(figure_1)}\n\n{wrapped(second)}\n{text_table(minimisation)}"
    )
