r"""Boolean variables exactly, for less than the price of one sample.

For n = 2 the moments of ST-GS given D are those of one number. With :math:`\delta` the logit of the outcome that
was selected less that of the other,

.. math:: h = \frac{S_1 S_2}{\tau} \, (g_1 - g_2) \begin{pmatrix} 1 \\ -1 \end{pmatrix}, \qquad
          \kappa_m(\delta) = \mathbb E\left[ \left( \frac{S_1 S_2}{\tau} \right)^m \middle|\, D \right]
          = \frac{1}{\tau^m \sigma(\delta)} \int_0^\infty \sigma'(z / \tau)^m \, \sigma'(z - \delta) \, dz .

These are smooth functions of one argument, so a :class:`BooleanTable` has them as piecewise polynomials, once for
a temperature and a tolerance. A variable then costs an index, a few coefficients and Horner's rule.
docs/derivation.md, (12.1) and (12.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rbst._array import Array, namespace, table_beside
from rbst._blocks import block_size, slices
from rbst.quadrature import NEGLIGIBLE, ROUNDING, precision

CELL = 0.25  # width of a cell near delta = 0, where kappa bends over a distance of 1

SINGLE_RTOL = 5e-6  # a quarter of what a float32 result is promised: a polynomial of degree 3


@dataclass(frozen=True)
class BooleanTable:
    """Piecewise polynomials of the moments: cells of one width up to a bend, of another beyond."""

    lowest: float  # of delta: below, the moments are constant
    bend: float
    wide: float  # the width of the cells beyond the bend; 0 without such cells
    cells: int
    coefficients: Array  # (moments, degree + 1, cells), of powers of a coordinate in [-1/2, 1/2], highest first

    def moments(self, delta: Array) -> list[Array]:
        """kappa_1 and, from a table of order 2, kappa_2 at every delta."""
        xp = namespace(delta)
        place = xp.minimum(delta, self.bend)
        place -= self.lowest
        xp.maximum(place, 0, out=place)
        place /= CELL
        if self.wide:
            place += xp.maximum(delta - self.bend, 0) / self.wide
        xp.minimum(place, self.cells - 0.5, out=place)  # the last cell is zero
        whole = xp.floor(place)
        cell = whole.astype("int64")
        place -= whole
        place -= 0.5
        return [_horner(powers, cell, place) for powers in self.coefficients]


def _horner(coefficients: Array, cell: Array, x: Array) -> Array:
    value = coefficients[0].take(cell)
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient.take(cell)
    return value


def boolean_moments(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float, order: int
) -> list[Array]:
    """E[h_1 | D] and, at order 2, E[h_1^2 | D] of variables ``(..., 2)``, flattened, in the precision of the table."""
    xp = namespace(logits)
    dtype = precision(logits, rtol, order)
    if logits.dtype.char == "f" and order == 1:
        rtol = max(rtol, SINGLE_RTOL)
    table = table_beside(logits, build_boolean_table, tau, rtol, order, dtype)
    logits, D, g = (array.reshape(-1, 2) for array in (logits, D, df_dD))
    moments = [xp.empty(len(logits), dtype=dtype) for _ in range(order)]
    for rows in slices(len(logits), block_size(xp)):
        lead, sign, slope = (
            x[rows, 0].astype(dtype, copy=False) - x[rows, 1] for x in (logits, D, g)
        )
        lead *= sign
        for m, c in enumerate(table.moments(lead)):
            moments[m][rows] = c * slope ** (m + 1)
    return moments


@lru_cache(maxsize=64)  # some kilobytes each
def build_boolean_table(
    tau: float, rtol: float, order: int, dtype: str = "float64"
) -> BooleanTable:
    """The table for a temperature and a tolerance, with moments up to ``order``."""
    if order == 2:  # so that a variance keeps it, which is at least this share of the mean square
        rtol = max(rtol * math.exp(-4) / max(1, tau) ** 4, ROUNDING)
    digits = math.log(1 / rtol) + 4
    # On a cell the error falls by CELL / (4 pi) for each degree, as the moments are analytic up to Im delta = pi (12.3).
    degree = math.ceil(math.log(20 / rtol) / math.log(4 * math.pi / CELL)) - 1
    lowest = -CELL * math.ceil(digits / CELL)
    highest = max(1, tau) * (math.log(1 / (NEGLIGIBLE**order * rtol)) + 8)
    # From here on z < 0 no longer counts beside kappa_m itself, which falls like e^(-m delta / tau).
    bend = min(highest, digits / (1 - order / tau)) if tau > order else highest
    bend = CELL * math.ceil(bend / CELL)
    wide = CELL * max(1, tau)
    beyond = max(0, math.ceil((highest - bend) / wide))
    edges = [np.arange(lowest, bend - CELL / 2, CELL), bend + wide * np.arange(beyond)]
    widths = [CELL, wide]
    x = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)) / 2
    near, far = (e[:, None] + w * (x + 0.5) for e, w in zip(edges, widths, strict=True))
    # A few cells at a time: a new array of more than a megabyte takes longer to get than to fill.
    pieces = [
        integrate(points[cells], tau, digits, order)
        for integrate, points in ((_near_moments, near), (_far_moments, far))
        for cells in slices(len(points), 8)
    ]
    values = np.concatenate(pieces, axis=1)  # (order, cells, degree + 1)
    coefficients = np.linalg.solve(np.vander(x), values.swapaxes(1, 2))
    coefficients = np.concatenate([coefficients, np.zeros_like(coefficients[..., :1])], axis=2)
    cells = coefficients.shape[2]
    return BooleanTable(lowest, bend, wide if beyond else 0, cells, coefficients.astype(dtype))


def _near_moments(delta: np.ndarray, tau: float, digits: float, order: int) -> np.ndarray:
    r"""The integral in :math:`z = \min(1, \tau) \log(1 + e^u)`, where it decays at both ends."""
    step = 2 * math.pi**2 / (digits + 4)
    u = np.arange(-digits, max(0, delta.max()) + digits + step, step)
    scale = min(1, tau)
    z = scale * np.logaddexp(0, u)
    weight = step * scale / (1 + np.exp(-u))
    odds = np.exp(-delta)[..., None] * np.exp(z)
    density = (1 + np.exp(-delta))[..., None] * odds / (1 + odds) ** 2
    w = np.exp(-z / tau)
    slope = w / (1 + w) ** 2 / tau
    return np.stack([density @ (weight * slope**m) for m in range(1, order + 1)])


def _far_moments(delta: np.ndarray, tau: float, digits: float, order: int) -> np.ndarray:
    r"""The integral in :math:`y = z - \delta`, over the whole line: z < 0 is too far away to count."""
    step = 2 * math.pi**2 / (digits + 4)
    y = np.arange(-digits / (1 - order / tau), digits + step, step)
    weight = step * np.exp(-np.abs(y)) / (1 + np.exp(-np.abs(y))) ** 2
    w = np.exp(-delta / tau)[..., None] * np.exp(-y / tau)
    slope = w / (1 + w) ** 2 / tau
    return np.stack([slope**m @ weight for m in range(1, order + 1)])
