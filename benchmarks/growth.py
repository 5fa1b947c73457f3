"""How the time grows with K, with the number of categories and with the batch: linearly, or not.

GR-MCK and GR beside the port, one axis at a time. The time of one entry (of K V n; V n for GR, which has no K)
shows what a line in the log-log figure hides: the fixed cost of a call, and a cache that is outgrown.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import rbst
from benchmarks import port
from benchmarks._measure import Setting, cell, draw_inputs, least_milliseconds
from rbst._tables import markdown_table
from rbst.plotting import colour, new_figure

TAU, RTOL = 0.5, 1e-3
PORT_ENTRIES = 10**7  # the port holds all of K V n, several times over
LINEAR_FROM = 10**5  # entries, above which the fixed cost of a call no longer counts

# Variables, categories and K along each axis.
AXES = {
    "K": [(1000, 8, K) for K in (1, 3, 10, 30, 100, 300, 1000, 3000)],
    "n": [(200, n, 10) for n in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)],
    "variables": [(10**i * j, 8, 10) for i in range(1, 6) for j in (1, 3)] + [(10**6, 8, 10)],
}
LIGHT_AXES = {
    "K": [(20, 4, 1), (20, 4, 4)],
    "n": [(20, 4, 2), (20, 8, 2)],
    "variables": [(10, 4, 2), (40, 4, 2)],
}
LABELS = {
    "K": "K (1000 variables, n = 8)",
    "n": "n (200 variables, K = 10)",
    "variables": "variables, batch × L\n(n = 8, K = 10)",
}
COLOURS = {"gr-mcK": colour("gr-mc100"), "gr": colour("gr"), "port, GR-MCK": "black"}


def measure(setting: Setting) -> list[dict]:
    """One row for each axis, size and method."""
    rng = np.random.default_rng(1)
    sizes, calls = {}, {}
    for axis, points in (LIGHT_AXES if setting.light else AXES).items():
        for variables, n, K in points:
            size = {"axis": axis, "variables": variables, "n": n, "K": K}
            problem = draw_inputs(variables, n)
            own = {"gr-mcK": partial(rbst.gumbel_rao, *problem, tau=TAU, num_samples=K, rng=rng)}
            if axis != "K":
                own["gr"] = partial(rbst.exact_gumbel_rao, *problem, tau=TAU, rtol=RTOL)
            if port.torch is not None and variables * n * K <= PORT_ENTRIES:
                tensors = [port.torch.from_numpy(x) for x in problem]
                own["port, GR-MCK"] = partial(port.draw_gumbel_rao, *tensors, TAU, K)
            for method, call in own.items():
                key = (axis, variables, n, K, method)
                sizes[key], calls[key] = size | {"method": method}, call
    least = least_milliseconds(calls, setting)
    return [sizes[key] | {"milliseconds": least[key]} for key in calls]


def entries(row: dict) -> int:
    """Of the working arrays: K V n, and V n for GR."""
    return row["variables"] * row["n"] * (1 if row["method"] == "gr" else row["K"])


def nanoseconds(row: dict) -> float:
    """Time of one entry."""
    return 1e6 * row["milliseconds"] / entries(row)


def large(rows: list[dict]) -> list[dict]:
    """Those beyond the fixed cost of a call."""
    return [row for row in rows if row["variables"] * row["n"] * row["K"] >= LINEAR_FROM]


def exponent(rows: list[dict]) -> float:
    """The slope of log time against log entries, by least squares."""
    x, y = np.log([[entries(row), row["milliseconds"]] for row in rows]).T
    return float(np.polyfit(x, y, 1)[0])


def lines(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """The rows of each axis and method."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["axis"], row["method"]), []).append(row)
    return found


def table(rows: list[dict]) -> str:
    """The exponent of each line beyond the fixed cost of a call, and what an entry costs there."""
    cells = [["along", "method", "sizes fitted", "exponent", "least ns of an entry", "most"]]
    for (axis, method), line in lines(rows).items():
        line = large(line)
        if len(line) > 1:
            costs = [nanoseconds(row) for row in line]
            fitted = f"{line[0][axis]:,} to {line[-1][axis]:,}"
            shown = [f"{exponent(line):.2f}", cell(min(costs)), cell(max(costs))]
            cells.append([axis, f"`{method}`", fitted, *shown])
    return markdown_table(cells)


def draw(rows: list[dict]) -> Any:
    """Time against size above, with a line of slope 1; below, the time of one entry."""
    figure, axes = new_figure(2, 3, width=7.8, height=5.6)
    for row in axes:
        for panel in row[1:]:
            panel.sharey(row[0])
    for column, axis in enumerate(AXES):
        times, costs = axes[:, column]
        for (own, method), line in lines(rows).items():
            if own != axis:
                continue
            x = np.array([row[axis] for row in line])
            y = np.array([row["milliseconds"] for row in line])
            style = {"color": COLOURS[method], "marker": "o", "markersize": 3}
            times.loglog(x, y, label=method, **style)
            times.loglog(x, y[-1] * x / x[-1], color="grey", linewidth=0.7, linestyle="dashed")
            costs.loglog(x, [nanoseconds(row) for row in line], **style)
        costs.set_xlabel(LABELS[axis])
    axes[0, 0].set_ylabel("ms")
    axes[1, 0].set_ylabel("ns of one entry")
    axes[0, 1].loglog([], [], color="grey", linewidth=0.7, linestyle="dashed", label="slope 1")
    axes[0, 1].legend(fontsize="small")
    return figure
