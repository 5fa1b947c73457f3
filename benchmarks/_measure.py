"""What the parts share: inputs, turns, the floor, peak memory, and what is recorded of a run.

Imported after the threads are pinned, by ``python -m benchmarks``.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import rbst
from benchmarks import port
from rbst._array import Array
from rbst._blocks import block_size
from rbst._files import write_json, write_text
from rbst.gumbel import _power
from rbst.plotting import write_figure

TURN = 0.05  # seconds that a call is repeated for when it is its turn


@dataclass(frozen=True)
class Setting:
    """How much is measured; ``light`` asks for small sizes, once each."""

    threads: int
    repeats: int
    light: bool


def draw_inputs(variables: int, n: int) -> tuple[Array, Array, Array]:
    """Logits, D and g of one problem, ``(variables, n)`` in float32; the parts without a model take theirs from here.

    Examples
    --------
    >>> [(array.shape, str(array.dtype)) for array in draw_inputs(3, 2)]
    [((3, 2), 'float32'), ((3, 2), 'float32'), ((3, 2), 'float32')]
    """
    rng = np.random.default_rng(0)
    logits, g = (rng.standard_normal((variables, n), dtype=np.float32) for _ in range(2))
    return logits, rbst.sample_categorical(logits, rng), g


def check_agreement(what: str, difference: float, tolerance: float) -> None:
    """End the run where the two sides do not compute the same: their times would mean nothing."""
    if not difference < tolerance:
        sys.exit(f"the two sides disagree by {difference:.1e} of the largest entry: {what}")
    print(f"the two sides agree to {difference:.1e} of the largest entry: {what}")


# --- Time ----------------------------------------------------------------------------------------------


def least_milliseconds(
    calls: Mapping[Hashable, Callable[[], Any]], setting: Setting
) -> dict[Hashable, float]:
    """The least time of each call. The calls take turns, so that a disturbance meets all of them."""
    for call in calls.values():
        call()  # warms caches and allocators
    least = dict.fromkeys(calls, math.inf)
    for _ in range(1 if setting.light else setting.repeats):
        for key, call in calls.items():
            least[key] = min(least[key], _least_of_a_turn(call, 0 if setting.light else TURN))
    return least


def timed_rows(
    names: Sequence[str], calls: Mapping[tuple, Callable[[], Any]], setting: Setting
) -> list[dict]:
    """A row for each call: what its key says under these names, and its least time."""
    return [
        dict(zip(names, key, strict=True)) | {"milliseconds": least}
        for key, least in least_milliseconds(calls, setting).items()
    ]


def build_milliseconds(build: Any, *key: Any) -> float:
    """Least time to build a table that is cached by its key."""
    return min(_least_of_a_turn(lambda: build.__wrapped__(*key), 0) for _ in range(5))


def _least_of_a_turn(call: Callable[[], Any], seconds: float) -> float:
    least, stop = math.inf, 0.0
    end = time.perf_counter() + seconds
    while stop < end:
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        least = min(least, 1e3 * (stop - start))
    return least


def floor(entries: int, tau: float, rng: np.random.Generator) -> None:
    """What GR-MCK cannot do without: a float32 draw of Exp(1) for each of K V n entries, and its power.

    In place, in one block of the size that the package works in; the power by the package's own
    means, the quickest known here.
    """
    buffer = np.empty(min(entries, block_size(np)), dtype=np.float32)
    for start in range(0, entries, buffer.size):
        block = buffer[: entries - start]
        rng.standard_exponential(out=block, dtype=block.dtype)
        _power(block, 1 / tau)


# --- Memory --------------------------------------------------------------------------------------------


def peak_traced(call: Callable[[], Array]) -> float:
    """Peak of what Python and NumPy allocate during a call, less the result, in MB (10**6 bytes)."""
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - result.nbytes) / 1e6


def peak_resident(call: Callable[[], Array]) -> float | None:
    """Growth of the resident memory to its peak during a call, less the result, in MB; Linux only.

    PyTorch does not report to ``tracemalloc``. Memory that an earlier call gave back to the allocator,
    and the allocator not to the system, does not count, so this is a lower bound.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
        before = _status("VmRSS")
    except OSError:
        return None
    result = call()
    return max(0.0, _status("VmHWM") - before - result.nbytes / 1e6)


def _status(field: str) -> float:
    """A field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


# --- The record ----------------------------------------------------------------------------------------


def run_part(name: str, part: ModuleType, setting: Setting, out: Path | None) -> None:
    """Measure one part, print its table, and write record, table and figure to the folder ``out``."""
    if port.torch is None:
        print(
            "PyTorch is not installed: the port is left out (python -m pip install 'rbst[bench]')"
        )
    else:
        port.torch.set_num_threads(setting.threads)
    started, start = datetime.now(timezone.utc), time.perf_counter()
    rows = part.measure(setting)
    record = describe(name, setting) | {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "rows": rows,
    }
    table = part.table(rows)
    print(
        f"\n{name}, {record['seconds']} s; {record['machine']}, {setting.threads} thread(s)\n\n{table}"
    )
    if out is None:
        return
    write_json(out / f"{name}.json", record)
    write_text(out / f"{name}.txt", table + "\n")
    if hasattr(part, "draw"):
        write_figure(part.draw(rows), out / f"{name}.svg")


def describe(name: str, setting: Setting) -> dict[str, Any]:
    """What was run, with what, and where."""
    light = " --light" if setting.light else ""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "rbst": rbst.__version__,
    }
    if port.torch is not None:
        versions["torch"] = port.torch.__version__
    return {
        "command": f"python -m benchmarks {name} --threads {setting.threads} "
        f"--repeats {setting.repeats}{light}",
        "threads": setting.threads,
        "repeats": setting.repeats,
        "seconds of a turn": TURN,
        "light": setting.light,
        "dtype": "float32",
        "machine": f"{os.cpu_count()} CPUs, {cpu_model()}",
        "versions": versions,
    }


def cpu_model() -> str:
    """The model name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def find(rows: list[dict], **wanted: Any) -> dict | None:
    """The row with these entries, if there is one.

    Examples
    --------
    >>> find([{"K": 1, "side": "rbst"}, {"K": 10, "side": "rbst"}], K=10)
    {'K': 10, 'side': 'rbst'}
    """
    return next((row for row in rows if wanted.items() <= row.items()), None)


def ratio(rows: list[dict], row: dict, **other: Any) -> float | None:
    """The time of a row over that of the row that differs from it in ``other``, if there is one."""
    timed = ("milliseconds", *other)
    same = {key: entry for key, entry in row.items() if key not in timed}
    divisor = find(rows, **same, **other)
    return row["milliseconds"] / divisor["milliseconds"] if divisor else None


def cell(number: float | None, form: str | None = None) -> str:
    """A number for a table, to three digits where no form is given; empty where there is none.

    Examples
    --------
    >>> cell(1234.5), cell(0.012345), cell(0.5, ".2f"), cell(None)
    ('1,230', '0.0123', '0.50', '')
    """
    if number is None:
        return ""
    if form is not None:
        return format(number, form)
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"
