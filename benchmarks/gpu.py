r"""GR and GR-MCK on a GPU: time, ratio to the CPU, and the part of what the device can do.

Two yardsticks are measured on the same device: the bandwidth at which it copies its own memory, and the rate of a
large float32 matrix product. GR-MCK is held against the first: its K V n draws are written once and read
once, 8 bytes each, and everything else it does to them costs it the rest. GR is held against the second: its
five matrix products over the nodes of the quadrature take :math:`10 \, V R G` operations, for a basis of R functions on
G nodes. Not among the parts that run by default: it needs CuPy and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import rbst
from benchmarks._measure import Setting, cell, draw_inputs, find, least_milliseconds
from rbst._array import Array, device_namespace, new_generator
from rbst._tables import markdown_table
from rbst.quadrature import choose_table

TAU, K = 0.5, 100
RTOLS = (1e-3, 1e-6)
SIZES = ((10**4, 16), (10**5, 16), (10**6, 16))
COPIED, PRODUCT = 2**28, 8192  # entries of the copy, rows of the product
LIGHT_SIZES, LIGHT_COPIED, LIGHT_PRODUCT = ((20, 4),), 1000, 10


def measure(setting: Setting) -> list[dict]:
    """One row for each size, method and device, and one for each yardstick."""
    gpu = device_namespace("gpu")
    if setting.light:
        sizes, copied, product = LIGHT_SIZES, LIGHT_COPIED, LIGHT_PRODUCT
    else:
        sizes, copied, product = SIZES, COPIED, PRODUCT
    rows = yardsticks(gpu, copied, product, setting)
    bandwidth, rate = (row["rate"] for row in rows)
    for variables, n in sizes:
        timed = least_milliseconds(
            {
                (method, device): call
                for device, xp in (("gpu", gpu), ("cpu", np))
                for method, call in methods(xp, variables, n).items()
            },
            setting,
        )
        for (method, device), milliseconds in timed.items():
            row = {"method": method, "device": device, "variables": variables, "n": n}
            row["milliseconds"] = milliseconds
            if device == "gpu":
                seconds = 1e-3 * milliseconds
                row["fraction"] = (
                    8 * K * variables * n / seconds / bandwidth
                    if method == f"gr-mc{K}"
                    else operations(method, variables, n) / seconds / rate
                )
            rows.append(row)
    return rows


def yardsticks(xp: Any, copied: int, product: int, setting: Setting) -> list[dict]:
    """Bytes a second of a copy, read and written; operations a second of a float32 matrix product."""
    source = xp.ones(copied, dtype="float32")
    target = xp.empty_like(source)
    square = xp.ones((product, product), dtype="float32")
    timed = least_milliseconds(
        {
            "copy": waiting(xp, lambda: xp.multiply(source, 1, out=target)),
            "matrix product": waiting(xp, lambda: square @ square),
        },
        setting,
    )
    work = {"copy": 8 * copied, "matrix product": 2 * product**3}
    return [
        {"method": name, "device": "gpu", "milliseconds": ms, "rate": work[name] / (1e-3 * ms)}
        for name, ms in timed.items()
    ]


def methods(xp: Any, variables: int, n: int) -> dict[str, Callable[[], Array]]:
    """The estimators on arrays of the module ``xp``."""
    logits, D, g = map(xp.asarray, draw_inputs(variables, n))
    rng = new_generator(xp, 1)
    table = {
        f"gr-mc{K}": lambda: rbst.gumbel_rao(logits, D, g, tau=TAU, num_samples=K, rng=rng),
    }
    for rtol in RTOLS:
        table[f"gr, rtol {rtol:.0e}"] = lambda rtol=rtol: rbst.exact_gumbel_rao(
            logits, D, g, tau=TAU, rtol=rtol
        )
    return {name: waiting(xp, call) for name, call in table.items()}


def waiting(xp: Any, call: Callable[[], Array]) -> Callable[[], Array]:
    """The call, and a wait until the device has done what it was asked for: CuPy returns before that."""
    if xp is np:
        return call

    def call_and_wait() -> Array:
        result = call()
        xp.cuda.Device().synchronize()
        return result

    return call_and_wait


def operations(method: str, variables: int, n: int) -> float:
    """Of the five matrix products of ``gr``, a multiplication and an addition for each entry."""
    rtol = float(method.rpartition(" ")[2])
    table = choose_table(np.zeros((1, n), np.float32), TAU, rtol, order=1)
    return 10.0 * variables * table.mean.size


def table(rows: list[dict]) -> str:
    """The estimators, one line for each size, and the two yardsticks below."""
    cells = [["variables × n", "method", "GPU, ms", "CPU, ms", "CPU ÷ GPU", "of the peak"]]
    for row in rows:
        if row["device"] == "gpu" and "rate" not in row:
            same = {key: row[key] for key in ("method", "variables", "n")}
            cpu = find(rows, **same, device="cpu")["milliseconds"]
            of = "bandwidth" if row["method"] == f"gr-mc{K}" else "arithmetic"
            cells.append(
                [
                    f"{row['variables']:,} × {row['n']}",
                    f"`{row['method']}`",
                    cell(row["milliseconds"]),
                    cell(cpu),
                    cell(cpu / row["milliseconds"]),
                    f"{row['fraction']:.1%} of the {of}",
                ]
            )
    copy, product = (find(rows, method=name)["rate"] for name in ("copy", "matrix product"))
    return (
        f"{markdown_table(cells)}\n\nMeasured peaks: {copy / 1e9:,.0f} GB/s of a copy (read and written), "
        f"{product / 1e12:,.1f} TFLOP/s of a float32 matrix product."
    )
