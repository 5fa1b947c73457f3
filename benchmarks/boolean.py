r"""Boolean variables: Gumbel-Rao exactly beside one sample of it.

Per size, temperature and dtype, the least time of each call in one process: ``gr-mc1``, ``gr`` at three
tolerances, and the mean with the mean square (``moments``); beside it the time to build the table that a
temperature and a tolerance need once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import rbst
from benchmarks._measure import Setting, draw_inputs, find, least_milliseconds
from rbst._tables import markdown_table
from rbst.boolean import build_boolean_table

VARIABLES, LIGHT_VARIABLES = (4800,), (100,)  # as in a step: 20 examples of 240
TAUS = (0.1, 0.5, 1.0)
RTOLS = (1e-3, 1e-6, 1e-11)


def methods(inputs: tuple[np.ndarray, ...], tau: float) -> dict[str, Callable]:
    """Every call by the name that the table gives it."""
    rng = np.random.default_rng(1)
    calls = {"gr-mc1": lambda: rbst.gumbel_rao(*inputs, tau=tau, num_samples=1, rng=rng)}
    for rtol in RTOLS:
        calls[f"gr, rtol {rtol:.0e}"] = lambda rtol=rtol: rbst.exact_gumbel_rao(
            *inputs, tau=tau, rtol=rtol
        )
    calls["moments"] = lambda: rbst.conditional_moments(*inputs, tau=tau)
    return calls


def build_milliseconds(tau: float, name: str) -> float | None:
    """Least time to build the table of a call."""
    if name == "gr-mc1":
        return None
    key = (1e-6, 2) if name == "moments" else (float(name.split()[-1]), 1)
    least = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        build_boolean_table.__wrapped__(tau, *key)
        least = min(least, 1e3 * (time.perf_counter() - start))
    return least


def measure(setting: Setting) -> list[dict]:
    """One row for each size, dtype, temperature and call."""
    calls = {}
    for variables in LIGHT_VARIABLES if setting.light else VARIABLES:
        for dtype in ("float32", "float64"):
            inputs = tuple(x.astype(dtype) for x in draw_inputs(variables, 2))
            for tau in TAUS:
                for name, call in methods(inputs, tau).items():
                    calls[variables, dtype, tau, name] = call
    least = least_milliseconds(calls, setting)
    return [
        {
            "variables": variables,
            "dtype": dtype,
            "tau": tau,
            "method": name,
            "milliseconds": least[variables, dtype, tau, name],
            "milliseconds to build its table": build_milliseconds(tau, name),
        }
        for variables, dtype, tau, name in calls
    ]


def table(rows: list[dict]) -> str:
    """Each call beside one sample."""
    cells = [["variables", "dtype", "τ", "method", "ms", "÷ gr-mc1", "ms for its table"]]
    for row in rows:
        case = {key: row[key] for key in ("variables", "dtype", "tau")}
        one = find(rows, **case, method="gr-mc1")
        build = row["milliseconds to build its table"]
        cells.append(
            [
                f"{row['variables']}",
                row["dtype"],
                f"{row['tau']:g}",
                row["method"],
                f"{row['milliseconds']:.3f}",
                f"{row['milliseconds'] / one['milliseconds']:.2f}",
                "" if build is None else f"{build:.1f}",
            ]
        )
    return markdown_table(cells)
