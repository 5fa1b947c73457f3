r"""The tests: many gradients, all with the same logits and D, against an exact mean and covariance.

With :math:`\Sigma / K = U \Lambda U^\top` the exact covariance given D, of rank n - 1 since gradients sum
to zero, the whitened gradient :math:`y = \Lambda^{-1/2} U^\top (h - \mu)` has mean 0 and covariance I if the
implementation is right. Both are tested in all coordinates jointly, over the D of a case:

.. math:: T_\text{mean} = \sum_D B_D |\bar y_D|^2 \sim \chi^2_{\sum_D m_D}, \qquad
          T_\text{cov} = \sum_D B_D \, \bar q_D^\top V_D^{-1} \bar q_D \sim \chi^2_{\sum_D m_D (m_D + 1) / 2},

where :math:`B_D` is the number of gradients given D, :math:`m_D` the rank, q the entries of :math:`y y^\top -
I` on and above the diagonal and :math:`V` their sample covariance. Both laws hold for many gradients, by
the central limit theorem; docs/crosscheck.md has measured rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rbst._array import Array

SMALLEST_EIGENVALUE = (
    1e-4  # relative to the largest; below it the exact covariance has too few digits
)
DRAWS_PER_ENTRY = 100  # of a covariance that is to be tested
POWER = 0.999  # with which an error that a test "would catch" is caught


@dataclass
class Sums:
    """Running sums over gradients given ``D = e_k``, k the ``outcome``; mean and covariance are exact."""

    outcome: int
    mean: Array
    covariance: Array | None
    count: int = 0
    not_finite: int = 0
    total: Array = field(init=False)
    products: Array = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.mean)
        self.total, self.products = np.zeros(n), np.zeros((n, n))
        if self.covariance is None:
            return
        values, vectors = np.linalg.eigh(self.covariance)
        kept = values > SMALLEST_EIGENVALUE * values[-1]
        self.eigenvalues = values[kept]
        self.whitening = vectors[:, kept] / np.sqrt(values[kept])
        self.upper = np.triu_indices(len(self.eigenvalues))
        self.diagonal = self.upper[0] == self.upper[1]
        q = len(self.upper[0])
        self.q_total, self.q_products = np.zeros(q), np.zeros((q, q))
        self.pairs, self.pair_products, self.pair_squares = 0, 0.0, 0.0

    def add(self, h: Array) -> None:
        """Take in gradients ``(b, n)``."""
        finite = np.isfinite(h).all(axis=-1)
        self.not_finite += len(h) - int(finite.sum())
        if self.not_finite:
            return
        h = h.astype(np.float64)
        centred = h - self.mean
        self.count += len(h)
        self.total += centred.sum(axis=0)
        self.products += centred.T @ centred
        if self.covariance is None:
            return
        y = centred @ self.whitening
        rows, columns = self.upper
        q = y[:, rows] * y[:, columns] - self.diagonal
        self.q_total += q.sum(axis=0)
        self.q_products += q.T @ q
        pairs = len(y) // 2
        products = (y[:pairs] * y[pairs : 2 * pairs]).sum(axis=-1)
        self.pairs += pairs
        self.pair_products += float(products.sum())
        self.pair_squares += float((products**2).sum())

    @property
    def rank(self) -> int:
        """How many coordinates have noise."""
        return len(self.eigenvalues)

    def mean_statistic(self) -> tuple[float, int]:
        """Chi-square of the mean and its degrees of freedom."""
        y = self.total @ self.whitening / self.count
        return float(self.count * (y @ y)), self.rank

    def covariance_statistic(self) -> tuple[float, int]:
        """Chi-square of the covariance about the sample mean and its degrees of freedom."""
        q, B = self.deviation(), self.count
        # The mean of Hotelling's statistic is len(q) (B - 1) / (B - len(q) - 2), not len(q).
        scale = B * (B - len(q) - 2) / (B - 1)
        return float(scale * q @ np.linalg.solve(self.q_covariance(), q)), len(q)

    def deviation(self) -> Array:
        """Whitened sample covariance less the identity, on and above the diagonal."""
        y = self.total @ self.whitening / self.count
        return self.q_total / self.count - np.outer(y, y)[self.upper]

    def q_covariance(self) -> Array:
        """Covariance of the entries of y y'."""
        mean = self.q_total / self.count
        V = self.q_products / self.count - np.outer(mean, mean)
        return V + 1e-9 * np.eye(len(V))  # a constant answer has none

    def sample_mean(self) -> Array:
        """Mean of the gradients."""
        return self.mean + self.total / self.count

    def sample_covariance(self) -> Array:
        """Covariance of the gradients."""
        shift = self.total / self.count
        return self.products / self.count - np.outer(shift, shift)

    def variance(self) -> tuple[float, float, float]:
        """Total variance of the sample, its standard error, and the exact one."""
        weights = np.where(self.diagonal, self.eigenvalues[self.upper[0]], 0.0)
        exact = float(self.eigenvalues.sum())
        error = math.sqrt(weights @ self.q_covariance() @ weights / self.count)
        return exact + float(weights @ self.deviation()), error, exact


def chi_square_p_value(statistic: float, degrees: int) -> float:
    """Probability that a chi-square exceeds the statistic."""
    from scipy.special import chdtrc

    return float(chdtrc(degrees, statistic))


def mean_test(sums: list[Sums]) -> tuple[float, int, float]:
    """Statistic, degrees of freedom and p-value, over the D of a case."""
    return _pooled([s.mean_statistic() for s in sums])


def covariance_test(sums: list[Sums]) -> tuple[float, int, float]:
    """Statistic, degrees of freedom and p-value, over those D of a case that came often enough."""
    return _pooled([s.covariance_statistic() for s in often_enough(sums)])


def often_enough(sums: list[Sums]) -> list[Sums]:
    """Those with enough gradients to estimate the covariance of the entries of y y'."""
    return [s for s in sums if s.count >= DRAWS_PER_ENTRY * len(s.diagonal)]


def _pooled(statistics: list[tuple[float, int]]) -> tuple[float, int, float]:
    statistic, degrees = sum(s for s, _ in statistics), sum(d for _, d in statistics)
    return statistic, degrees, chi_square_p_value(statistic, degrees)


def independence_test(sums: list[Sums]) -> tuple[float, float]:
    r"""Correlation between rows of one call, and the p-value of there being none.

    The sum of :math:`(y_b - \bar y)^\top (y_{b'} - \bar y)` over pairs, in units of its standard error; as a
    correlation it is 0 where rows are independent and near 1 where they share their noise.
    """
    y_mean = [s.total @ s.whitening / s.count for s in sums]
    products = sum(s.pair_products - s.pairs * (y @ y) for s, y in zip(sums, y_mean, strict=True))
    squares = sum(s.pair_squares for s in sums)
    scale = sum(s.pairs * (s.rank + s.deviation()[s.diagonal].sum()) for s in sums)
    p_value = math.erfc(abs(products) / math.sqrt(2 * squares)) if squares else 1.0
    return (float(products / scale) if scale > 1e-9 else 0.0), p_value


def detectable_mean_error(sums: list[Sums], level: float) -> float:
    """The factor by which a mean must be off to be caught: ``1 + this``, with probability POWER."""
    signal = sum(s.count * np.sum((s.mean @ s.whitening) ** 2) for s in sums)
    return _detectable(float(signal), sum(s.rank for s in sums), level)


def detectable_covariance_error(sums: list[Sums], level: float) -> float:
    """The factor by which a covariance must be off to be caught: ``1 + this``, with probability POWER."""
    signal, degrees = 0.0, 0
    for s in often_enough(sums):
        identity = s.diagonal.astype(float)
        signal += s.count * float(identity @ np.linalg.solve(s.q_covariance(), identity))
        degrees += len(identity)
    return _detectable(signal, degrees, level)


def _detectable(signal: float, degrees: int, level: float) -> float:
    r"""The :math:`\epsilon` whose non-centrality :math:`\epsilon^2` ``signal`` is enough."""
    return math.sqrt(needed_noncentrality(degrees, level) / signal) if signal else math.inf


def needed_noncentrality(degrees: int, level: float) -> float:
    """Non-centrality at which a chi-square test of this level rejects with probability POWER.

    Examples
    --------
    >>> round(needed_noncentrality(6, 1e-6 / 40))
    92
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, chndtr

    critical = chdtri(degrees, level)
    return float(brentq(lambda x: chndtr(critical, degrees, x) - (1 - POWER), 1e-3, 1e5))


def projected_mean_test(h_sums: Sums, directions: Array) -> tuple[float, int, float]:
    """Hotelling's test of the mean along a few directions, for n too large for an exact covariance."""
    from scipy.special import fdtrc

    shift = directions.T @ h_sums.total / h_sums.count
    S = directions.T @ h_sums.sample_covariance() @ directions
    S += 1e-12 * np.trace(S) * np.eye(len(S)) + 1e-30 * np.eye(len(S))
    B, q = h_sums.count, len(shift)
    statistic = float(B * shift @ np.linalg.solve(S, shift))
    return statistic, q, float(fdtrc(q, B - q, statistic * (B - q) / (q * (B - 1))))
