"""The 5,000-sample bound of Table 2 against the matrix products of its decoder alone.

The decoder with two tanh layers of 240 reads 240 bits and gives 784 pixels, float32. A block of images, as large as
that of `rbst vae`, is measured with few samples, and the time is scaled to 10,000 images and 5,000 samples. The
products are those of the decoder's three layers with as many rows, into arrays that are there already.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks._measure import Setting, find, timed_rows
from benchmarks.vae_step import HIDDEN, binary_images, vae
from rbst._tables import markdown_table
from rbst.experiments.vae import IMAGES_PER_BLOCK

TEST_IMAGES, SAMPLES = 10_000, 5000
ARITIES, MEASURED = (2, 16), 100  # samples measured; the encoder is a hundredth of the work
LIGHT_ARITIES, LIGHT_MEASURED = (2,), 2


def bound(arity: int, samples: int) -> Callable[[], None]:
    """The bound of a block of images."""
    rng = np.random.default_rng(0)
    x = binary_images(IMAGES_PER_BLOCK, rng)
    model = vae(x.mean(axis=0), arity)
    flat = model.initial_parameters(rng, np.float32)
    return lambda: model.bounds(flat, x, samples, np.random.default_rng(1))


def products(samples: int) -> Callable[[], None]:
    """The matrix products of the decoder for as many samples of as many images."""
    sizes = (240, *HIDDEN, 784)
    x = [np.ones((IMAGES_PER_BLOCK, size), np.float32) for size in sizes]
    W = [np.ones(shape, np.float32) for shape in pairwise(sizes)]

    def multiply():
        for _ in range(samples):
            for layer in range(len(W)):
                np.matmul(x[layer], W[layer], out=x[layer + 1])

    return multiply


def measure(setting: Setting) -> list[dict]:
    """One row for each arity, and one for the matrix products."""
    arities, samples = (LIGHT_ARITIES, LIGHT_MEASURED) if setting.light else (ARITIES, MEASURED)
    calls = {(f"{arity}", "rbst"): bound(arity, samples) for arity in arities}
    calls["any", "floor"] = products(samples)
    rows = timed_rows(("arity", "side"), calls, setting)
    return [row | {"samples": samples} for row in rows]


def table(rows: list[dict]) -> str:
    """Minutes for the whole test set."""
    cells = [["arity", "microseconds a sample", "minutes for 10,000 images", "÷ matrix products"]]
    floor = find(rows, side="floor")
    for row in rows:
        milliseconds = row["milliseconds"] / (row["samples"] * IMAGES_PER_BLOCK)
        cells.append(
            [
                row["arity"] if row is not floor else "matrix products alone",
                f"{1e3 * milliseconds:.1f}",
                f"{milliseconds * SAMPLES * TEST_IMAGES / 60e3:.1f}",
                f"{row['milliseconds'] / floor['milliseconds']:.2f}",
            ]
        )
    return markdown_table(cells)
