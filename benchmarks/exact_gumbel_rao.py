r"""What accuracy costs: Gumbel-Rao by quadrature and by samples, against PyTorch, in one process.

Each method is given the same logits, samples D and gradients g (float32) and returns E[J(S)'g / tau | D], or
an estimate of it. The port is the usual one: all K draws of Eq. 9 at once, then the mean. The methods take
turns, and the table shows the least time of each. The error of a variable is the largest error of an
entry, relative to the largest entry of the exact answer, which is ``conditional_mean`` at rtol = 1e-11 in
float64; the table shows its median and its maximum over the variables. The whole is repeated, so that a
passing disturbance of the machine does not decide a time.

    python -m benchmarks.exact_gumbel_rao [--threads 2] [--repeats 6] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--repeats", type=int, default=6)
parser.add_argument("--out", help="write results.json and table.md to this folder")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402

import rbst  # noqa: E402
from rbst.rao_blackwell import _build_table  # noqa: E402

torch.set_num_threads(arguments.threads)

SIZES = ((600, 8), (1600, 16))
TAUS = (0.1, 0.5, 1.0)
SAMPLES = (10, 100, 1000)
RTOLS = (1e-3, 1e-6)


def torch_gumbel_rao(
    logits: torch.Tensor, D: torch.Tensor, g: torch.Tensor, tau: float, K: int
) -> torch.Tensor:
    """GR-MCK: located Gumbels by Eq. 9, the Jacobian of their tempered softmax, the mean."""
    E = torch.empty(K, *logits.shape).exponential_()
    pi = torch.softmax(logits, dim=-1)
    selected = (E * D).sum(dim=-1, keepdim=True)
    located = torch.where(D == 1, -selected.log(), -(E / pi + selected).log())
    S = torch.softmax(located / tau, dim=-1)
    return (S * (g - (S * g).sum(dim=-1, keepdim=True))).mean(dim=0) / tau


def methods(
    logits: np.ndarray, D: np.ndarray, g: np.ndarray, tau: float
) -> dict[str, Callable[[], np.ndarray]]:
    """Every method by the name that the table gives it."""
    tensors = [torch.tensor(x) for x in (logits, D, g)]
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    table = {}
    for K in SAMPLES:
        table[f"PyTorch GR-MC{K}"] = lambda K=K: torch_gumbel_rao(*tensors, tau, K).numpy()
        table[f"gr-mc{K}"] = lambda K=K: rbst.gumbel_rao(
            logits, D, g, tau=tau, num_samples=K, rng=rng
        )
    for rtol in RTOLS:
        table[f"gr, rtol {rtol:.0e}"] = lambda rtol=rtol: rbst.exact_gumbel_rao(
            logits, D, g, tau=tau, rtol=rtol
        )
    return table


def take_turns(table: dict[str, Callable[[], np.ndarray]], least: dict[str, float]) -> None:
    """Call each method for about a tenth of a second, in turns, and keep its least milliseconds."""
    for method in table.values():
        method()  # warms caches and allocators
    for _ in range(3):
        for name, method in table.items():
            end = time.perf_counter() + 0.1
            while (start := time.perf_counter()) < end:
                method()
                least[name] = min(least[name], 1e3 * (time.perf_counter() - start))


def errors(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Relative error of each variable."""
    return np.abs(result - exact).max(axis=-1) / np.abs(exact).max(axis=-1)


def build_milliseconds(tau: float, rtol: float, dtype: str) -> float:
    """Least time to build the table that ``gr`` needs once for each temperature and tolerance."""
    least = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        _build_table.__wrapped__(tau, rtol, 2.0 if tau >= 1 else 1.0, 1, dtype)
        least = min(least, 1e3 * (time.perf_counter() - start))
    return least


def measure() -> list[dict]:
    """One row for each size, temperature and method; the whole is repeated, against passing disturbances."""
    rng = np.random.default_rng(0)
    problems = []
    for variables, n in SIZES:
        logits, g = (rng.standard_normal((variables, n), dtype=np.float32) for _ in range(2))
        D = rbst.sample_categorical(logits, rng)
        problems += [(logits, D, g, tau) for tau in TAUS]
    tables = [methods(*problem) for problem in problems]
    least = [dict.fromkeys(table, float("inf")) for table in tables]
    for _ in range(arguments.repeats):
        for table, milliseconds in zip(tables, least, strict=True):
            take_turns(table, milliseconds)
    rows = []
    for (logits, D, g, tau), table, milliseconds in zip(problems, tables, least, strict=True):
        double = (x.astype(np.float64) for x in (logits, D, g))
        exact = rbst.conditional_mean(*double, tau=tau, rtol=1e-11)
        for name, method in table.items():
            error = errors(method(), exact)
            row = {
                "variables": logits.shape[0],
                "n": logits.shape[1],
                "tau": tau,
                "method": name,
                "milliseconds": milliseconds[name],
            }
            for K in SAMPLES:
                port = milliseconds[f"PyTorch GR-MC{K}"]
                row[f"ratio to PyTorch GR-MC{K}"] = milliseconds[name] / port
            row |= {"median error": float(np.median(error)), "largest error": float(error.max())}
            rows.append(row)
    return rows


def as_markdown(rows: list[dict]) -> list[str]:
    """The rows as the lines of a table."""
    lines = [
        "| variables × n | τ | method | ms | ÷ PyTorch GR-MC10 | ÷ GR-MC100 | ÷ GR-MC1000 "
        "| median error | largest error |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratios = (row[f"ratio to PyTorch GR-MC{K}"] for K in SAMPLES)
        cells = [
            f"{row['variables']} × {row['n']}",
            f"{row['tau']:g}",
            row["method"],
            f"{row['milliseconds']:.2f}",
            *(f"{ratio:.3f}" for ratio in ratios),
            f"{row['median error']:.1e}",
            f"{row['largest error']:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cpu_model() -> str:
    """The model name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def main() -> None:
    results = {
        "command": f"python -m benchmarks.exact_gumbel_rao --threads {arguments.threads} "
        f"--repeats {arguments.repeats}",
        "machine": f"{os.cpu_count()} CPUs, {cpu_model()}",
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "dtype": "float32",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "rbst": rbst.__version__,
        },
        "rows": measure(),
        "milliseconds to build a table": {
            f"tau {tau:g}, rtol {rtol:.0e}": build_milliseconds(tau, rtol, dtype)
            for tau in TAUS
            for rtol, dtype in zip(RTOLS, ("float32", "float64"), strict=True)
        },
    }
    print("\n".join(as_markdown(results["rows"])))
    print(json.dumps({key: x for key, x in results.items() if key != "rows"}, indent=2))
    if arguments.out:
        folder = Path(arguments.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        (folder / "table.md").write_text("\n".join(as_markdown(results["rows"])) + "\n")


if __name__ == "__main__":
    main()
