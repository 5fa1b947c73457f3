"""Times and memory beside a PyTorch port of the same mathematics and beside the floor, in one process.

    python -m benchmarks [PART ...] [--light] [--threads 2] [--repeats 8] [--out FOLDER]

Each part is a module of this folder and says in its docstring what it times. It has ``measure(setting)``,
which returns rows, ``table(rows)``, which makes Markdown of them, and perhaps ``draw(rows)``, a figure. Without
PyTorch (the extra ``bench``) the port is left out. Times are only ever reported: nothing here passes or fails by
one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS = ("estimators", "growth", "memory", "vae_step", "vae_bound", "parser_step", "boolean")
ON_REQUEST = ("exact_gumbel_rao",)  # has a results page of its own
NEEDS_GPU = ("gpu",)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    known = (*PARTS, *ON_REQUEST, *NEEDS_GPU)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"any of {', '.join(known)}; without a name all but {', '.join(known[len(PARTS) :])}",
    )
    parser.add_argument(
        "--light", action="store_true", help="small sizes, once each: shows that it runs, no more"
    )
    parser.add_argument("--threads", type=int, default=2, help="for NumPy's BLAS and for PyTorch")
    parser.add_argument(
        "--repeats", type=int, default=8, help="turns of each side; the best counts"
    )
    parser.add_argument("--out", type=Path, help="write PART.json, PART.txt and PART.svg here")
    arguments = parser.parse_args(argv)
    for name in arguments.parts:
        if name not in known:
            parser.error(f"{name!r} is no part of the benchmarks; take any of {', '.join(known)}")
    if arguments.threads < 1 or arguments.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    return arguments


def pin_threads(threads: int) -> None:
    """Libraries read these variables when they are loaded, so NumPy must not have been imported."""
    if "numpy" in sys.modules:
        raise RuntimeError("NumPy is loaded already; run the benchmarks as python -m benchmarks")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    pin_threads(arguments.threads)
    from benchmarks._measure import Setting, run_part

    setting = Setting(arguments.threads, arguments.repeats, arguments.light)
    for name in arguments.parts or PARTS:
        run_part(name, importlib.import_module(f"benchmarks.{name}"), setting, arguments.out)


if __name__ == "__main__":
    main()
