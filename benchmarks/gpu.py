r"""GR and GR-MCK, a training step and a bound on a GPU: time, memory, ratio to the CPU, part of what the device can do.

Two yardsticks are measured on the same device: the bandwidth of CuPy's copy of an array, and the rate of a
large float32 matrix product. GR-MCK is compared with the first: its K V n draws are written once and read
once, 8 bytes each, and everything else it does to them costs it the rest. GR is compared with the second: its
five matrix products over the nodes of the quadrature take :math:`10 \, V R G` operations, for a basis of R functions on
G nodes. The step is that of ``rbst vae`` at Table 2, the bound that of a block of its test images.
Not among the parts that run by default: it needs CuPy and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import rbst
from benchmarks._measure import Setting, cell, draw_inputs, find, timed_rows
from benchmarks.vae_step import binary_images, rbst_run, rbst_step
from rbst._array import Array, device_namespace, new_generator
from rbst._tables import markdown_table
from rbst.experiments.vae import IMAGES_PER_BLOCK, VAERun
from rbst.quadrature import choose_table

TAU, K = 0.5, 100
RTOLS = (1e-3, 1e-6)
SIZES = ((10**4, 16), (10**5, 16), (10**6, 16))
COPIED, PRODUCT = 2**28, 8192  # entries of the copy, rows of the product
STEPS = ((2, 20), (2, 200), (2, 2000), (16, 20), (16, 200), (16, 2000))  # arity, batch
ESTIMATORS, SAMPLES = ("st-gs", "gr", f"gr-mc{K}"), 1000
LIGHT_SIZES, LIGHT_COPIED, LIGHT_PRODUCT = ((20, 4),), 1000, 10
LIGHT_STEPS, LIGHT_SAMPLES = ((2, 5),), 2


def measure(setting: Setting) -> list[dict]:
    """One row for each size, method and device, for each step and bound, and one for each yardstick."""
    gpu = device_namespace("gpu")
    rows = yardsticks(gpu, setting)
    rows += measure_estimators(gpu, *(row["rate"] for row in rows), setting)
    return rows + measure_model(gpu, setting)


def measure_estimators(gpu: Any, bandwidth: float, rate: float, setting: Setting) -> list[dict]:
    """The estimators alone, on both devices; on the GPU with the fraction of the yardstick and the memory."""
    rows = []
    for variables, n in LIGHT_SIZES if setting.light else SIZES:
        calls = {
            (method, device): call
            for device, xp in (("gpu", gpu), ("cpu", np))
            for method, call in methods(xp, variables, n).items()
        }
        for row in timed_rows(("method", "device"), calls, setting):
            row |= {"variables": variables, "n": n}
            if row["device"] == "gpu":
                method, seconds = row["method"], 1e-3 * row["milliseconds"]
                row["megabytes"] = reserved(gpu, methods(gpu, variables, n)[method])
                row["fraction"] = (
                    8 * K * variables * n / seconds / bandwidth
                    if method == f"gr-mc{K}"
                    else operations(method, variables, n) / seconds / rate
                )
            rows.append(row)
    return rows


def measure_model(gpu: Any, setting: Setting) -> list[dict]:
    """A training step of each estimator, and the bounds of a block of test images, on both devices."""
    cases, samples = (LIGHT_STEPS, LIGHT_SAMPLES) if setting.light else (STEPS, SAMPLES)
    rng = np.random.default_rng(0)
    images = binary_images(max(batch for _, batch in cases), rng)
    rows = []
    for arity, batch in cases:
        calls = {}
        for device, xp in (("gpu", gpu), ("cpu", np)):
            for name in ESTIMATORS:
                run = rbst_run(images, arity, batch, name, device)
                calls[name, device, batch] = waiting(xp, rbst_step(run))
            if batch == cases[0][1]:
                calls["bound", device, IMAGES_PER_BLOCK] = waiting(xp, bounds(run, xp, samples))
        timed = timed_rows(("method", "device", "images"), calls, setting)
        rows += [row | {"arity": arity} for row in timed]
    return rows


def bounds(run: VAERun, xp: Any, samples: int) -> Callable[[], Array]:
    """The bounds of a block of test images by an untrained model."""
    x = xp.asarray(binary_images(IMAGES_PER_BLOCK, np.random.default_rng(1)))
    flat = run.start().parameters
    return lambda: run.model.bounds(flat, x, samples, new_generator(xp, 1))[1]


def yardsticks(xp: Any, setting: Setting) -> list[dict]:
    """Bytes a second of a copy, read and written; operations a second of a float32 matrix product."""
    copied, product = (LIGHT_COPIED, LIGHT_PRODUCT) if setting.light else (COPIED, PRODUCT)
    source = xp.ones(copied, dtype="float32")
    square = xp.ones((product, product), dtype="float32")
    calls = {
        ("copy", "gpu"): waiting(xp, source.copy),
        ("matrix product", "gpu"): waiting(xp, lambda: square @ square),
    }
    work = {"copy": 8 * copied, "matrix product": 2 * product**3}
    name = xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return [
        row | {"name": name, "rate": work[row["method"]] / (1e-3 * row["milliseconds"])}
        for row in timed_rows(("method", "device"), calls, setting)
    ]


def methods(xp: Any, variables: int, n: int) -> dict[str, Callable[[], Array]]:
    """The estimators on arrays of the module ``xp``."""
    logits, D, g = map(xp.asarray, draw_inputs(variables, n))
    rng = new_generator(xp, 1)
    sampled = partial(rbst.gumbel_rao, logits, D, g, tau=TAU, num_samples=K, rng=rng)
    table = {f"gr-mc{K}": sampled}
    for rtol in RTOLS:
        exact = partial(rbst.exact_gumbel_rao, logits, D, g, tau=TAU, rtol=rtol)
        table[f"gr, rtol {rtol:.0e}"] = exact
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


def reserved(xp: Any, call: Callable[[], Array]) -> float:
    """What CuPy's pool takes from the device for a call, and for its result, in MB; inputs were there before."""
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    call()
    return (pool.total_bytes() - before) / 1e6


def operations(method: str, variables: int, n: int) -> float:
    """Of the five matrix products of ``gr``, a multiplication and an addition for each entry."""
    rtol = float(method.rpartition(" ")[2])
    table = choose_table(np.zeros((1, n), np.float32), TAU, rtol, order=1)
    return 10.0 * variables * table.mean.size


def table(rows: list[dict]) -> str:
    """The estimators, one line for each size, the two yardsticks below, and the model."""
    cells = [["variables × n", "method", "GPU, ms", "CPU, ms", "CPU ÷ GPU", "reached", "MB"]]
    for row in rows:
        if "fraction" in row:
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
                    f"{row['megabytes']:,.0f}",
                ]
            )
    copy, product = (find(rows, method=name)["rate"] for name in ("copy", "matrix product"))
    return (
        f"{markdown_table(cells)}\n\nThe yardsticks: {copy / 1e9:,.0f} GB/s of a copy (read and written), "
        f"{product / 1e12:,.1f} TFLOP/s of a float32 matrix product.\n\n"
        f"{model_table(rows)}"
    )


def model_table(rows: list[dict]) -> str:
    """The training steps and the bounds."""
    cells = [["arity", "images", "", "GPU, ms", "CPU, ms", "CPU ÷ GPU"]]
    for row in rows:
        if row["device"] == "gpu" and "arity" in row:
            same = {key: row[key] for key in ("method", "arity", "images")}
            cpu = find(rows, **same, device="cpu")["milliseconds"]
            name = row["method"]
            cells.append(
                [
                    f"{row['arity']}",
                    f"{row['images']:,}",
                    "bound" if name == "bound" else f"step of `{name}`",
                    f"{row['milliseconds']:.1f}",
                    f"{cpu:,.1f}",
                    cell(cpu / row["milliseconds"], ".2f"),
                ]
            )
    return markdown_table(cells)
