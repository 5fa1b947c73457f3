"""GR-MCK, GR and ST-GS on given logits, beside the port and the floor.

GR-MCK and GR are given D; ST-GS draws D as well, on both sides, because PyTorch's sampler does. The floor of
GR-MCK is the time to draw its K V n exponentials and to raise each to a power (:func:`._measure.floor`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import rbst
from benchmarks import port
from benchmarks._measure import (
    Setting,
    cell,
    check_agreement,
    draw_inputs,
    find,
    floor,
    ratio,
    timed_rows,
)
from rbst._tables import markdown_table
from rbst.plotting import new_figure

# Variables (batch times L), categories, tau. Powers are squares at tau = 0.5 and exp(log) at 0.1.
CASES = (
    (4800, 2, 0.5),
    (600, 8, 0.1),
    (600, 8, 0.5),
    (1600, 16, 0.1),
    (1600, 16, 0.5),
    (200, 64, 0.5),
)
SAMPLES = (1, 10, 100, 1000)
RTOLS = (1e-3, 1e-6, 1e-9)
LIGHT_CASES, LIGHT_SAMPLES = ((40, 4, 0.1), (40, 4, 0.5)), (1, 10)


def calls(
    variables: int, n: int, tau: float, samples: tuple[int, ...]
) -> dict[tuple[str, str], Callable[[], Any]]:
    """Every method and side on one problem."""
    logits, D, g = draw_inputs(variables, n)
    rng = np.random.default_rng(1)
    table = {}
    for K in samples:
        sampled = partial(rbst.gumbel_rao, logits, D, g, tau=tau, num_samples=K, rng=rng)
        table[f"gr-mc{K}", "rbst"] = sampled
        table[f"gr-mc{K}", "floor"] = partial(floor, K * logits.size, tau, rng)
    for rtol in RTOLS:
        exact = partial(rbst.exact_gumbel_rao, logits, D, g, tau=tau, rtol=rtol)
        table[f"gr, rtol {rtol:.0e}", "rbst"] = exact
    table["st-gs", "rbst"] = lambda: rbst.st_gumbel_softmax(
        logits, rbst.sample_categorical(logits, rng), g, tau=tau, rng=rng
    )
    if port.torch is not None:
        tensors = [port.torch.from_numpy(x) for x in (logits, D, g)]
        for K in samples:
            table[f"gr-mc{K}", "port"] = partial(port.draw_gumbel_rao, *tensors, tau, K)
        table["st-gs", "port"] = lambda: port.st_gumbel_softmax(tensors[0], tensors[2], tau)
    return table


def largest_difference(variables: int, n: int, tau: float) -> float:
    """Between GR-MC10 of both sides given the same noise, relative to the largest entry."""
    problem = draw_inputs(variables, n)
    E = np.random.default_rng(2).standard_exponential((10, variables, n), dtype=np.float32)
    ours = rbst.gumbel_rao(*problem, tau=tau, exponentials=E)
    tensors = [port.torch.from_numpy(x) for x in problem]
    theirs = port.gumbel_rao(*tensors, tau, port.torch.from_numpy(E)).numpy()
    return float(abs(ours - theirs).max() / abs(theirs).max())


def measure(setting: Setting) -> list[dict]:
    """One row for each problem, method and side."""
    cases, samples = (LIGHT_CASES, LIGHT_SAMPLES) if setting.light else (CASES, SAMPLES)
    if port.torch is not None:
        difference = max(largest_difference(*case) for case in cases)
        check_agreement("GR-MC10 given the same noise", difference, 1e-4)
    every = {(*case, *key): call for case in cases for key, call in calls(*case, samples).items()}
    return timed_rows(("variables", "n", "tau", "method", "side"), every, setting)


def table(rows: list[dict]) -> str:
    """GR-MCK and ST-GS beside port and floor; then GR beside GR-MC100 of both sides."""
    heading = ["variables × n", "τ", "method", "ms", "port, ms", "÷ port", "floor, ms", "÷ floor"]
    sampled, exact = (
        [heading],
        [["variables × n", "τ", "method", "ms", "÷ `gr-mc100`", "÷ port's GR-MC100"]],
    )
    for row in rows:
        if row["side"] != "rbst":
            continue
        start = [f"{row['variables']} × {row['n']}", f"{row['tau']:g}", f"`{row['method']}`"]
        start.append(cell(row["milliseconds"]))
        if row["method"].startswith("gr,"):
            others = ({"method": "gr-mc100"}, {"method": "gr-mc100", "side": "port"})
            exact.append([*start, *(cell(ratio(rows, row, **other)) for other in others)])
            continue
        cells = []
        for side in ("port", "floor"):
            other = find(
                rows, **{k: row[k] for k in ("variables", "n", "tau", "method")}, side=side
            )
            cells.append(cell(other and other["milliseconds"]))
            cells.append(cell(ratio(rows, row, side=side), ".2f"))
        sampled.append([*start, *cells])
    return markdown_table(sampled) + "\n\n" + markdown_table(exact)


def draw(rows: list[dict]) -> Any:
    """The times of GR-MCK over floor and port, against K."""
    figure, (axes,) = new_figure(1, 2, width=7.8, height=3.6)
    cases = dict.fromkeys((row["variables"], row["n"], row["tau"]) for row in rows)
    for side, ax in zip(("floor", "port"), axes, strict=True):
        for variables, n, tau in cases:
            points = []
            for row in rows:
                same = (row["variables"], row["n"], row["tau"]) == (variables, n, tau)
                if same and row["side"] == "rbst" and row["method"].startswith("gr-mc"):
                    points.append((int(row["method"][5:]), ratio(rows, row, side=side)))
            if points[0][1] is not None:
                label = f"{variables} × {n}, τ = {tau:g}"
                ax.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set(xscale="log", xlabel="K", ylabel=f"time of gr-mcK ÷ {side}", ylim=(0, None))
    axes[0].axhline(2.5, color="black", linewidth=0.8, linestyle="dotted")
    axes[0].legend(title="variables × n", fontsize="small", title_fontsize="small")
    return figure
