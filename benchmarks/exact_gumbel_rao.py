r"""What accuracy costs: Gumbel-Rao by quadrature and by samples, against the port.

Each method is given the same logits, samples D and gradients g (float32) and returns E[J(S)'g / tau | D], or
an estimate of it. The table shows the least time of each. The error of a variable is the largest error of an
entry, relative to the largest entry of the exact answer, which is ``conditional_mean`` at rtol = 1e-11 in
float64; the table shows its median and its maximum over the variables.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import rbst
from benchmarks import port
from benchmarks._measure import Setting, cell, draw_inputs, find, least_milliseconds
from rbst._tables import markdown_table
from rbst.quadrature import SMALLEST_SINGLE_RTOL, build_table

SIZES, LIGHT_SIZES = ((600, 8), (1600, 16)), ((20, 4),)
TAUS = (0.1, 0.5, 1.0)
SAMPLES = (10, 100, 1000)
RTOLS = (1e-3, 1e-6)


def methods(
    logits: np.ndarray, D: np.ndarray, g: np.ndarray, tau: float
) -> dict[str, Callable[[], np.ndarray]]:
    """Every method by the name that the table gives it."""
    rng = np.random.default_rng(1)
    table = {}
    for K in SAMPLES:
        if port.torch is not None:
            tensors = [port.torch.from_numpy(x) for x in (logits, D, g)]
            table[f"PyTorch GR-MC{K}"] = lambda tensors=tensors, K=K: port.gumbel_rao(
                *tensors, tau, port.draw_exponentials(K, tensors[0])
            ).numpy()
        table[f"gr-mc{K}"] = lambda K=K: rbst.gumbel_rao(
            logits, D, g, tau=tau, num_samples=K, rng=rng
        )
    for rtol in RTOLS:
        table[f"gr, rtol {rtol:.0e}"] = lambda rtol=rtol: rbst.exact_gumbel_rao(
            logits, D, g, tau=tau, rtol=rtol
        )
    return table


def errors(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Relative error of each variable."""
    return np.abs(result - exact).max(axis=-1) / np.abs(exact).max(axis=-1)


def build_milliseconds(tau: float, rtol: float, dtype: str) -> float:
    """Least time to build the table that ``gr`` needs once for each temperature and tolerance."""
    least = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        build_table.__wrapped__(tau, rtol, 2.0 if tau >= 1 else 1.0, 1, dtype)
        least = min(least, 1e3 * (time.perf_counter() - start))
    return least


def measure(setting: Setting) -> list[dict]:
    """One row for each size, temperature and method."""
    sizes = LIGHT_SIZES if setting.light else SIZES
    problems = {(*size, tau): (*draw_inputs(*size), tau) for size in sizes for tau in TAUS}
    calls = {
        (*case, name): method
        for case, problem in problems.items()
        for name, method in methods(*problem).items()
    }
    least = least_milliseconds(calls, setting)
    exact = {
        case: rbst.conditional_mean(*(x.astype(np.float64) for x in arrays), tau=tau, rtol=1e-11)
        for case, (*arrays, tau) in problems.items()
    }
    rows = []
    for (variables, n, tau, name), method in calls.items():
        error = errors(method(), exact[variables, n, tau])
        row = {"variables": variables, "n": n, "tau": tau, "method": name}
        row["milliseconds"] = least[variables, n, tau, name]
        row |= {"median error": float(np.median(error)), "largest error": float(error.max())}
        if name.startswith("gr, "):
            rtol = float(name.split()[-1])
            dtype = "float32" if rtol >= SMALLEST_SINGLE_RTOL else "float64"
            row["milliseconds to build its table"] = build_milliseconds(tau, rtol, dtype)
        rows.append(row)
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
