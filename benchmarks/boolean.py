r"""Boolean variables: Gumbel-Rao exactly beside one sample of it.

Per size, temperature and dtype, the least time of each call in one process: ``gr-mc1``, ``gr`` at three
tolerances, and the mean with the mean square (``moments``); beside it the time to build the table that a
temperature and a tolerance need once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import rbst
from benchmarks._measure import Setting, build_milliseconds, draw_inputs, find, timed_rows
from rbst._tables import markdown_table
from rbst.boolean import build_boolean_table

VARIABLES, LIGHT_VARIABLES = (4800,), (100,)  # as in a step: 20 examples of 240
TAUS = (0.1, 0.5, 1.0)
RTOLS = (1e-3, 1e-6, 1e-11)


def methods(inputs: tuple[np.ndarray, ...], tau: float) -> dict[str, Callable]:
    """Every call by the name that the table gives it."""
    rng = np.random.default_rng(1)
    calls = {"gr-mc1": partial(rbst.gumbel_rao, *inputs, tau=tau, num_samples=1, rng=rng)}
    for rtol in RTOLS:
        exact = partial(rbst.exact_gumbel_rao, *inputs, tau=tau, rtol=rtol)
        calls[f"gr, rtol {rtol:.0e}"] = exact
    calls["moments"] = partial(rbst.conditional_moments, *inputs, tau=tau)
    return calls


def build_table_of(name: str, tau: float) -> float | None:
    """Milliseconds to build the table of a call."""
    if name == "gr-mc1":
        return None
    key = (1e-6, 2) if name == "moments" else (float(name.split()[-1]), 1)
    return build_milliseconds(build_boolean_table, tau, *key)


def measure(setting: Setting) -> list[dict]:
    """One row for each size, dtype, temperature and call."""
    calls = {}
    for variables in LIGHT_VARIABLES if setting.light else VARIABLES:
        for dtype in ("float32", "float64"):
            inputs = tuple(x.astype(dtype) for x in draw_inputs(variables, 2))
            for tau in TAUS:
                for name, call in methods(inputs, tau).items():
                    calls[variables, dtype, tau, name] = call
    rows = timed_rows(("variables", "dtype", "tau", "method"), calls, setting)
    for row in rows:
        row["milliseconds to build its table"] = build_table_of(row["method"], row["tau"])
    return rows


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
