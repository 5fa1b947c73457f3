"""Peak memory beyond inputs and result, against K.

Of `gr-mcK` as ``tracemalloc`` counts it, NumPy's arrays included. PyTorch does not report to ``tracemalloc``: of
the port it is the growth of the resident memory of a process of its own (:func:`._measure.peak_resident`).
"""

from __future__ import annotations

from multiprocessing import get_context
from typing import Any

import numpy as np

import rbst
from benchmarks import port
from benchmarks._measure import Setting, cell, draw_inputs, find, peak_resident, peak_traced
from rbst._tables import markdown_table
from rbst.plotting import colour, new_figure

TAU = 0.5
# Variables, categories, K, and whether the port, which holds all draws, is measured too.
CASES = ((2000, 16, (1, 10, 100, 1000), True), (10**6, 16, (1, 10, 100), False))
LIGHT_CASES = ((2000, 16, (1, 10), True),)


def measure(setting: Setting) -> list[dict]:
    """One row for each size, K and side."""
    rows = []
    for variables, n, samples, with_port in LIGHT_CASES if setting.light else CASES:
        for K in samples:
            size = {"variables": variables, "n": n, "K": K}
            rows.append(size | {"side": "rbst", "megabytes": own_peak(variables, n, K)})
            if with_port and port.torch is not None:
                with get_context("spawn").Pool(1) as fresh:
                    megabytes = fresh.apply(port_peak, (variables, n, K))
                if megabytes is not None:
                    rows.append(size | {"side": "port", "megabytes": megabytes})
    return rows


def own_peak(variables: int, n: int, K: int) -> float:
    """Of `gr-mcK`."""
    problem, rng = draw_inputs(variables, n), np.random.default_rng(1)
    return peak_traced(lambda: rbst.gumbel_rao(*problem, tau=TAU, num_samples=K, rng=rng))


def port_peak(variables: int, n: int, K: int) -> float | None:
    """Of the port, after a call with few variables that starts PyTorch's threads."""
    tensors = [port.torch.from_numpy(x) for x in draw_inputs(variables, n)]
    port.draw_gumbel_rao(*(x[:2] for x in tensors), TAU, 1)
    return peak_resident(lambda: port.draw_gumbel_rao(*tensors, TAU, K))


def table(rows: list[dict]) -> str:
    """Both sides, one line for each size and K."""
    cells = [["variables × n", "K", "`gr-mcK`, MB", "port, MB"]]
    for row in rows:
        if row["side"] == "rbst":
            theirs = find(rows, **{k: row[k] for k in ("variables", "n", "K")}, side="port")
            cells.append(
                [
                    f"{row['variables']:,} × {row['n']}",
                    f"{row['K']:,}",
                    f"{row['megabytes']:.2f}",
                    cell(theirs and theirs["megabytes"], ".1f"),
                ]
            )
    return markdown_table(cells)


def draw(rows: list[dict]) -> Any:
    """Peak memory against K."""
    figure, ((ax,),) = new_figure(1, 1, width=5.5, height=3.6)
    for side, variables, n in dict.fromkeys((r["side"], r["variables"], r["n"]) for r in rows):
        line = [r for r in rows if (r["side"], r["variables"]) == (side, variables)]
        name = {"rbst": "gr-mcK", "port": "port"}[side]
        ax.loglog(
            [row["K"] for row in line],
            [row["megabytes"] for row in line],
            color="black"
            if side == "port"
            else colour("gr-mc10" if variables < 10**5 else "gr-mc1000"),
            marker="o",
            markersize=4,
            label=f"{name}, {variables:,} × {n}",
        )
    ax.set(xlabel="K", ylabel="MB beyond inputs and result")
    ax.legend(title="variables × n", fontsize="small", title_fontsize="small")
    return figure
