r"""The grid of an exact conditional moment, and the functions of pi on it.

The moments of :mod:`rbst.rao_blackwell` are integrals over the winner's exponential t and over s, and need at
each node (t, s) the three means

.. math:: \phi(\pi) = \mathbb E\, e^{-s w}, \qquad \psi(\pi) = \mathbb E\, w e^{-s w}, \qquad \chi(\pi) = \mathbb E\, w^2 e^{-s w}, \qquad
          w = \left( \frac{\pi t}{\pi t + E} \right)^{1/\tau} .

All integrals are trapezoidal sums. A :class:`Table`, built once for a temperature and a tolerance, holds the
nodes, their weights, and each function of :math:`\pi` as a few Chebyshev coefficients per node (9.11); its
:meth:`Table.basis` has the polynomials at the probabilities of a block of variables.

docs/derivation.md, section 9, whose numbers the comments cite. Each margin was set by counting terms and by
the errors that the tests of the tolerance print.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rbst._array import Array, namespace, table_beside

NEGLIGIBLE = 1e-12  # gradients below this multiple of max |df/dD| count as zero
SMALLEST_SINGLE_RTOL = 1e-4  # below, the inside works in double precision for float32 logits too
ROUNDING = 5e-13  # no table asks for more: float64 has no further digits to give
HOT = 5.0  # temperatures above are expanded in a logarithm, the others in a root
EXPANSION_SHARE = 0.05  # the part of rtol that an expansion may use


@dataclass(frozen=True)
class Root:
    r"""Cold: the functions are smooth in a root of pi, :math:`\pi^{1/\nu}`."""

    nu: float

    def of(self, log_pi: Array) -> Array:
        return namespace(log_pi).exp(log_pi / self.nu)

    def inverse(self, root_of_pi: np.ndarray) -> np.ndarray:
        return self.nu * np.log(root_of_pi)


@dataclass(frozen=True)
class Logarithm:
    r"""Hot: they change over a distance of 1 in log pi where pi is near 1, and of tau where it is small.

    Both are of about one length in :math:`-\log(1 - \log(\pi) / 5)`; the 5 was found by counting terms.
    """

    def of(self, log_pi: Array) -> Array:
        return -namespace(log_pi).log1p(-log_pi / 5)

    def inverse(self, stretched: np.ndarray) -> np.ndarray:
        return -5 * np.expm1(-stretched)


@dataclass(frozen=True)
class Table:
    r"""The G nodes of the grid of (t, s), and Chebyshev coefficients of the functions of pi on them.

    Each function is its row of coefficients times a basis: Chebyshev polynomials in an affine function
    of a root or logarithm of pi, times the power :math:`\pi^\beta` with which the function vanishes: :math:`\beta = \min(1, 1 /
    \tau)` for means of w, :math:`\min(1, 2/\tau)` for means of its square.
    """

    power: float  # beta of log_phi and mean
    square_power: float  # beta of square and variance
    stretch: Root | Logarithm  # xi is affine in this function of pi
    lowest: float  # log pi below which a function is pi^beta times a constant
    weight: Array  # (G,), of e^-t s e^-s / tau: the sum of weight * prod phi is E C^-2 / tau
    weight_ratio: Array  # (G,), s^2 / (6 tau): turns them into the weights of E C^-4 / tau^2
    log_phi: Any = None  # (R, G)
    mean: Any = None  # (R, G), l = psi / phi: the mean of w under its law tilted by e^(-s w)
    square: Any = None  # (R, G), chi / phi: its mean square; at order 2 only, as is
    variance: Any = None  # (R, G), chi / phi - (psi / phi)^2

    def coordinate(self, log_pi: Array) -> Array:
        """xi in [-1, 1] for log pi in [lowest, 0]."""
        smallest, largest = self.ends()
        return (2 * self.stretch.of(log_pi) - (largest + smallest)) / (largest - smallest)

    def ends(self) -> list[float]:
        """The stretched values that become xi = -1 and xi = 1."""
        return self.stretch.of(np.array([self.lowest, 0.0])).tolist()

    def basis(self, log_pi: Array) -> tuple[Array, Array]:
        r"""Basis functions :math:`\pi^\beta T_r(\xi)` of shape ``(R, n, v)``, and the factor between the two :math:`\beta`.

        The Chebyshev polynomials follow from :math:`T_{r+1} = 2 \xi T_r - T_{r-1}`.
        """
        xp, (n, v) = namespace(log_pi), log_pi.shape
        # In memory as log_pi is: of the axes of categories and variables the longer one is contiguous.
        shape = (len(self.mean), *sorted((n, v)))
        basis = xp.empty(shape, dtype=log_pi.dtype)
        basis = basis.swapaxes(1, 2) if n > v else basis
        basis[0] = xp.exp(self.power * log_pi)
        log_pi = xp.maximum(log_pi, self.lowest)
        xi = self.coordinate(log_pi)
        basis[1] = xi * basis[0]
        xi *= 2
        for r in range(2, len(basis)):
            xp.multiply(xi, basis[r - 1], out=basis[r])
            basis[r] -= basis[r - 2]
        return basis, xp.exp((self.square_power - self.power) * log_pi)


def choose_table(logits: Array, tau: float, rtol: float, order: int) -> Table:
    """The table for these logits: of first (order 1) or also second moments (order 2)."""
    n = logits.shape[-1]
    typical_C = 1 + (n - 1) * n ** (-1 / tau)
    scale = 2.0 ** round(math.log2(typical_C))  # a power of 2, so that many n share a table
    key = tau, rtol, scale, order, precision(logits, rtol, order)
    return table_beside(logits, build_table, *key)


def precision(logits: Array, rtol: float, order: int) -> str:
    """The dtype to work in: single precision only where it can keep the tolerance."""
    single = logits.dtype.char == "f" and rtol >= SMALLEST_SINGLE_RTOL and order == 1
    return "float32" if single else "float64"


@lru_cache(maxsize=16)
def build_table(tau: float, rtol: float, scale: float, order: int, dtype: str) -> Table:
    """The table for a temperature and a tolerance; ``scale`` is the typical size of C."""
    if order == 2:
        variance_share = 0.1 / max(1, tau) ** 4  # of the mean square, at least
        rtol = max(rtol * variance_share, ROUNDING)
    digits = math.log(1 / rtol) + 4  # e^-digits bounds what is cut off of an integral
    log_t, weight_t = nodes_of_t(tau, digits, scale)
    s, weight_s = nodes_of_s(digits, scale)
    table = Table(
        power=min(1, 1 / tau),
        square_power=min(1, 2 / tau),
        stretch=_choose_stretch(tau, order),
        lowest=max(1, tau) * (math.log(NEGLIGIBLE * rtol) - 4),
        weight=np.outer(weight_t, weight_s).ravel() / tau,
        weight_ratio=np.tile(s**2 / 6, len(log_t)) / tau,
    )
    tolerance = max(EXPANSION_SHARE * rtol, ROUNDING)
    expansion: dict[str, Any] = _expand(table, log_t, s, tau, digits, order, tolerance)
    table = replace(table, **expansion)
    arrays: dict[str, Any] = {
        k: x.astype(dtype) for k, x in vars(table).items() if isinstance(x, np.ndarray)
    }
    return replace(table, **arrays)


def _choose_stretch(tau: float, order: int) -> Root | Logarithm:
    """The function of pi in which fewest terms were counted."""
    if tau > HOT:
        return Logarithm()
    # Where pi is nearly the same power as pi^(1/tau) (or pi^(2/tau)), their quotient is nearly a logarithm.
    distance = min(abs(math.log(tau / k)) for k in range(1, order + 1))
    return Root(max(1, tau) * (3 + 6 / (distance + 0.3)))


def _expand(
    table: Table,
    log_t: np.ndarray,
    s: np.ndarray,
    tau: float,
    digits: float,
    order: int,
    tolerance: float,
) -> dict[str, np.ndarray]:
    """Chebyshev coefficients ``(R, G)`` of each function of the table, R as small as ``tolerance`` allows.

    The error of an expansion counts relative to its function, and in proportion to e^-t e^-s.
    """
    powers = {"log_phi": table.power, "mean": table.power}
    if order == 2:
        powers |= {"square": table.square_power, "variance": table.square_power}
    importance = np.exp(-np.exp(log_t)[:, None] - s).ravel()
    degree, terms = int(digits / 1.5), math.inf
    while terms > 0.8 * degree:  # not resolved yet
        degree = int(1.5 * degree)
        log_pi, transform = _chebyshev(degree, table)
        functions = _functions_of_pi(log_pi, log_t, s, tau, digits, order)
        coefficients, terms = {}, 0
        for name, power in powers.items():
            scaled = functions[name].reshape(degree, -1) * np.exp(-power * log_pi)[:, None]
            coefficients[name] = transform @ scaled
            if name != "variance":  # it only ever adds to squares: their size is what counts
                size = abs(scaled).min(axis=0)
            terms = max(terms, _count_terms(coefficients[name] * (importance / size), tolerance))
    return {name: c[:terms] for name, c in coefficients.items()}


def _chebyshev(degree: int, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """The Chebyshev nodes as values of log pi, and the matrix from values there to coefficients."""
    degrees = np.arange(degree)
    angles = np.pi * (degrees + 0.5) / degree
    smallest, largest = table.ends()
    stretched = ((largest + smallest) + (largest - smallest) * np.cos(angles)) / 2
    log_pi = table.stretch.inverse(stretched)
    transform = np.cos(degrees[:, None] * angles) * 2 / degree  # the cosines are orthogonal
    transform[0] /= 2
    return log_pi, transform


def _count_terms(coefficients: np.ndarray, tolerance: float) -> int:
    """How many leading terms (at least two) there are until all that follow stay below ``tolerance``."""
    counted = np.nonzero(abs(coefficients).max(axis=1) > tolerance)[0]
    return max(2, int(counted.max(initial=0)) + 1)


def _functions_of_pi(
    log_pi: np.ndarray, log_t: np.ndarray, s: np.ndarray, tau: float, digits: float, order: int
) -> dict[str, np.ndarray]:
    """The functions of :class:`Table` by name, from the means of :func:`race_means`."""
    one_minus_phi, *means = race_means(log_pi, log_t, s, tau, digits, order)
    functions = {"log_phi": np.log1p(-one_minus_phi), "mean": means[0] / (1 - one_minus_phi)}
    if order == 2:
        functions["square"] = means[1] / (1 - one_minus_phi)
        functions["variance"] = functions["square"] - functions["mean"] ** 2
    return functions


def nodes_of_t(tau: float, digits: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Nodes log t and weights of :math:`\int_0^\infty e^{-t} \ldots dt`.

    Towards small t the integrand of the mean falls like :math:`t \, t^\beta / C^2` in log t, where C is at least
    1 and, in the worst case, :math:`\bar C t^{1/\tau}`.
    """
    step = min(0.7, math.pi**2 / (digits + 2.5))
    lowest = -(digits + 2 * math.log(scale)) / (1 + min(1, 1 / tau))
    if tau > 1:
        lowest = max(lowest, -digits / (1 - 1 / tau))
    log_t = np.arange(lowest - 1, math.log(digits + 3) + step, step)
    return log_t, step * np.exp(log_t - np.exp(log_t))


def nodes_of_s(digits: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Nodes s and weights of :math:`\int_0^\infty s e^{-s} \ldots ds`, with :math:`s = \exp(u - e^{-u}) / \bar C`."""
    lowest = -digits / 2 - 0.5  # of u - exp(-u)
    start = -math.log(-lowest)
    for _ in range(50):  # Newton's method for the concave, increasing u - exp(-u) = lowest
        start -= (start - math.exp(-start) - lowest) / (1 + math.exp(-start))
    step = min(0.5, 3.6 / (digits - 1))
    u = np.arange(start, math.log((digits + 2) * scale) + step, step)
    s = np.exp(u - np.exp(-u)) / scale
    return s, step * s**2 * (1 + np.exp(-u)) * np.exp(-s)


def race_means(
    log_pi: np.ndarray, log_t: np.ndarray, s: np.ndarray, tau: float, digits: float, order: int
) -> list[np.ndarray]:
    r"""1 - phi, psi and, at order 2, chi of (9.3): ``(..., N_t, N_s)`` for log pi of shape ``(...)``.

    With :math:`y = \log(E / t)` the weight of a category no longer depends on t, and the law of y no longer on
    the category:

    .. math:: w(y) = \left( \frac{\pi}{\pi + e^y} \right)^{1/\tau}, \qquad
              \mathbb E\, u(w) = \int u(w(y)) \, t e^y \exp(-t e^y) \, dy

    The integrands are smooth and decay at both ends: the trapezoidal rule converges exponentially.
    """
    lowest = min(log_pi.min() + min(0, math.log(tau)), -log_t[-1]) - digits
    highest = math.log(digits + 3) - log_t[0]
    if tau > order:  # w^order E ~ E^(1 - order/tau) has decayed further to the right
        lowest = max(lowest, -digits / (1 - order / tau) - log_t[-1])
    if tau < 1:  # w E ~ E^(1 - 1/tau) has decayed further to the left
        highest = min(highest, log_pi.max() + digits / (1 / tau - 1) + 1)
    step = math.pi**2 / (digits + 2.5) / 2
    y = np.arange(lowest, highest + step, step)
    E = np.exp(log_t[:, None] + y)
    density = step * E * np.exp(-E)  # (N_t, N_y)
    w = np.exp(-np.logaddexp(0, y - log_pi[..., None]) / tau)[..., None]  # (..., N_y, 1)
    fallen = -np.expm1(-s * w)  # 1 - e^(-sw), (..., N_y, N_s)
    # Since w <= 1, phi is at least e^-s; beyond s = 36 that can no longer be told from 0 beside 1.
    one_minus_phi = np.minimum(density @ fallen, -np.expm1(-np.minimum(s, 36)))
    return [one_minus_phi, *(density @ (w**k * (1 - fallen)) for k in range(1, order + 1))]
