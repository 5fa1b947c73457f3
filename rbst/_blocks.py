"""Work in blocks, so that memory does not grow with the number of samples, variables or nodes.

A block is a slice of the variables, which :func:`blocks_of_rows` cuts from arrays ``(..., n)``, and of noise
a slice of the samples, ``(n, k, v)``. In memory the longest of the axes comes last, so that sums and products
run along many neighbours, whatever the shape of a problem. Sizes are constants: a seed determines the draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rbst._array import Array, namespace, refill
from rbst.categorical import positive


def by_category(rows: Array) -> Array:
    """Rows ``(v, n)`` as ``(n, v)``, the longer axis contiguous: sums and products then run along it."""
    v, n = rows.shape
    return rows.T if n > v else namespace(rows).ascontiguousarray(rows.T)


def block_size(xp: Any) -> int:
    """Elements in one working block: two blocks fit the cache of a CPU core, or fill a GPU."""
    return 2**16 if xp is np else 2**24


def slices(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` (at least one) that cover ``range(total)``.

    Examples
    --------
    >>> list(slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, total, max(1, size)):
        yield slice(start, min(start + max(1, size), total))


def blocks_of_rows(size: int, *arrays: Array) -> Iterator[tuple[slice, list[Array]]]:
    """At most ``size`` variables at a time of arrays ``(..., n)``: which they are, and their rows."""
    flat = [array.reshape(-1, array.shape[-1]) for array in arrays]
    for rows in slices(len(flat[0]), size):
        yield rows, [array[rows] for array in flat]


def draw_noise(like: Array, num_samples: int, rng: Any) -> Iterator[tuple[Array, Array]]:
    """Draws of Exp(1) for the block ``like`` of shape ``(n, v)``, and an array like them to work in.

    Both lie in one buffer, used again and again. The C library of Linux returns free memory to the system once there
    is more than twice the largest block that was freed: with two buffers every call would ask for it anew.
    """
    xp = namespace(like)
    n, v = like.shape
    samples_per_block = min(num_samples, max(1, block_size(xp) // like.size))
    buffer = xp.empty((2, samples_per_block * like.size), dtype=like.dtype)
    for samples in slices(num_samples, samples_per_block):
        k = samples.stop - samples.start
        draws, work = buffer[:, : k * like.size]
        refill(draws, rng)
        positive(draws, out=draws)
        yield _by_category_and_sample(draws, n, k, v), _by_category_and_sample(work, n, k, v)


def _by_category_and_sample(flat: Array, n: int, k: int, v: int) -> Array:
    if n > max(k, v):
        return flat.reshape(k, v, n).transpose(2, 0, 1)
    return flat.reshape(n, k, v) if v > k else flat.reshape(n, v, k).swapaxes(1, 2)


def slice_noise(exponentials: Array) -> Iterator[tuple[Array, Array]]:
    """The given noise ``(K, v, n)`` in blocks of the layout and the size of drawn noise, and arrays to work in."""
    xp = namespace(exponentials)
    samples_per_block = max(1, block_size(xp) // exponentials[0].size)
    for samples in slices(len(exponentials), samples_per_block):
        draws = positive(exponentials[samples].transpose(2, 0, 1))
        yield draws, xp.empty_like(draws)
