r"""What accuracy costs: Gumbel-Rao by quadrature and by samples, against the port.

Each method is given the same logits, samples D and gradients g (float32) and returns E[J(S)'g / tau | D], or
an estimate of it. The table shows the least time of each. The error of a variable is the largest error of an
entry, relative to the largest entry of the exact answer, which is ``conditional_mean`` at rtol = 1e-11 in
float64; the table shows its median and its maximum over the variables.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import rbst
from benchmarks import port
from benchmarks._measure import Setting, build_milliseconds, cell, draw_inputs, find, timed_rows
from rbst._tables import markdown_table
from rbst.quadrature import SMALLEST_SINGLE_RTOL, build_table

SIZES, LIGHT_SIZES = ((600, 8), (1600, 16)), ((20, 4),)
TAUS = (0.1, 0.5, 1.0)
SAMPLES = (10, 100, 1000)
RTOLS = (1e-3, 1e-6)


def methods(problem: tuple[np.ndarray, ...], tau: float) -> dict[str, Callable[[], Any]]:
    """Every method by the name that the table gives it."""
    rng = np.random.default_rng(1)
    table = {}
    for K in SAMPLES:
        if port.torch is not None:
            tensors = [port.torch.from_numpy(x) for x in problem]
            table[f"PyTorch GR-MC{K}"] = partial(port.draw_gumbel_rao, *tensors, tau, K)
        table[f"gr-mc{K}"] = partial(rbst.gumbel_rao, *problem, tau=tau, num_samples=K, rng=rng)
    for rtol in RTOLS:
        exact = partial(rbst.exact_gumbel_rao, *problem, tau=tau, rtol=rtol)
        table[f"gr, rtol {rtol:.0e}"] = exact
    return table


def errors(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Relative error of each variable."""
    return np.abs(result - exact).max(axis=-1) / np.abs(exact).max(axis=-1)


def measure(setting: Setting) -> list[dict]:
    """One row for each size, temperature and method."""
    sizes = LIGHT_SIZES if setting.light else SIZES
    problems = {(*size, tau): draw_inputs(*size) for size in sizes for tau in TAUS}
    calls = {
        (*case, name): method
        for case, problem in problems.items()
        for name, method in methods(problem, case[-1]).items()
    }
    rows = timed_rows(("variables", "n", "tau", "method"), calls, setting)
    exact = {
        case: rbst.conditional_mean(*(x.astype(float) for x in problem), tau=case[-1], rtol=1e-11)
        for case, problem in problems.items()
    }
    for row, (case, method) in zip(rows, calls.items(), strict=True):
        error = errors(np.asarray(method()), exact[case[:-1]])
        row |= {"median error": float(np.median(error)), "largest error": float(error.max())}
        if row["method"].startswith("gr, "):
            tau, rtol = row["tau"], float(row["method"].split()[-1])
            dtype = "float32" if rtol >= SMALLEST_SINGLE_RTOL else "float64"
            key = (tau, rtol, 2.0 if tau >= 1 else 1.0, 1, dtype)
            row["milliseconds to build its table"] = build_milliseconds(build_table, *key)
    return rows


def table(rows: list[dict]) -> str:
    """Each method beside the three of the port, with its errors."""
    heading = [
        "variables × n",
        "τ",
        "method",
        "ms",
        "÷ PyTorch GR-MC10",
        "÷ GR-MC100",
        "÷ GR-MC1000",
    ]
    cells = [[*heading, "median error", "largest error"]]
    for row in rows:
        case = {key: row[key] for key in ("variables", "n", "tau")}
        ports = [find(rows, **case, method=f"PyTorch GR-MC{K}") for K in SAMPLES]
        cells.append(
            [
                f"{row['variables']} × {row['n']}",
                f"{row['tau']:g}",
                row["method"],
                f"{row['milliseconds']:.2f}",
                *(cell(p and row["milliseconds"] / p["milliseconds"], ".3f") for p in ports),
                f"{row['median error']:.1e}",
                f"{row['largest error']:.1e}",
            ]
        )
    return markdown_table(cells)
