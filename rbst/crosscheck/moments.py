r"""The tests: many gradients, all with the same logits and D, against an exact mean and covariance.

With :math:`\Sigma / K = U \Lambda U^\top` the exact covariance given D, of rank n - 1 since gradients sum
to zero, the whitened gradient :math:`y = \Lambda^{-1/2} U^\top (h - \mu)` has mean 0 and covariance I if the
implementation is right. Both are tested in all coordinates jointly, over the D of a case:

.. math:: T_\text{mean} = \sum_D B_D \, \bar y_D^\top V_D^{-1} \bar y_D \sim \chi^2_{\sum_D m_D}, \qquad
          T_\text{cov} = \sum_D B_D \, \bar q_D^\top W_D^{-1} \bar q_D \sim \chi^2_{\sum_D m_D (m_D + 1) / 2},

where :math:`B_D` is the number of gradients given D, :math:`m_D` the rank, and q the entries of :math:`y y^\top
- I` on and above the diagonal. V and W are covariances of y and q, two thirds of them exact and one third
from the sample (:func:`blend`). The laws hold for many gradients, by the central limit theorem;
docs/crosscheck.md has measured rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rbst._array import Array

SMALLEST_EIGENVALUE = 1e-4  # of a covariance, relative to the largest: below, its digits run out
DRAWS_PER_ENTRY = 40  # of a covariance that is to be tested
POWER = 0.999  # with which an error that a test "would catch" is caught


@dataclass(frozen=True)
class Target:
    r"""What gradients given ``D = e_k`` are to be like.

    Attributes
    ----------
    outcome
        The category k.
    mean, covariance
        Exact moments of a gradient, shapes ``(n,)`` and ``(n, n)``.
    eigenvalues, whitening
        Of the covariance, as :func:`whiten` returns them.
    q_covariance
        Covariance of the entries q of :math:`y y^\top`, shape ``(p, p)``; None where no covariance is tested.
    """

    outcome: int
    mean: Array
    covariance: Array
    eigenvalues: Array
    whitening: Array
    q_covariance: Array | None = None

    @property
    def rank(self) -> int:
        """m: how many coordinates have noise."""
        return len(self.eigenvalues)


def whiten(covariance: Array, directions: Array | None = None) -> tuple[Array, Array]:
    r"""Eigenvalues :math:`\Lambda` that are not zero, and :math:`U \Lambda^{-1/2}`, shape ``(n, m)``.

    With ``directions`` of shape ``(n, d)`` both are of the covariance along these alone.

    Examples
    --------
    >>> import numpy as np
    >>> eigenvalues, whitening = whiten(np.array([[4.0, -4.0], [-4.0, 4.0]]))
    >>> eigenvalues.round(6).tolist(), abs(whitening).round(6).tolist()
    ([8.0], [[0.25], [0.25]])
    """
    P = np.eye(len(covariance)) if directions is None else directions
    values, vectors = np.linalg.eigh(P.T @ covariance @ P)
    kept = values > SMALLEST_EIGENVALUE * values[-1]
    return values[kept], P @ vectors[:, kept] / np.sqrt(values[kept])


def products(y: Array) -> Array:
    r"""Entries q of :math:`y y^\top - I` on and above the diagonal, for y of shape ``(b, m)``.

    Examples
    --------
    >>> products(np.array([[2.0, 3.0]])).tolist()
    [[3.0, 6.0, 8.0]]
    """
    rows, columns = np.triu_indices(y.shape[-1])
    return y[:, rows] * y[:, columns] - (rows == columns)


def blend(exact: Array | float, sample: Array | float) -> Array | float:
    r"""Two thirds of the exact variance and one third of that of the sample.

    For a mean of B draws of skewness :math:`\gamma`, in units of its standard error, the tail at z has
    :math:`\exp(\gamma z^3 / 6 \sqrt B)` times its normal size where the exact variance is used, and
    :math:`\exp(-\gamma z^3 / 3 \sqrt B)` times where that of the sample is: a mean that is too large by
    chance comes with a variance that is. In this proportion the two cancel, in every direction;
    docs/crosscheck.md has the derivation.
    """
    return (2 * exact + sample) / 3


def quadratic_form(covariance: Array, x: Array) -> float:
    r""":math:`x^\top V^{-1} x`, where V may be so uneven that rounding leaves it singular.

    Examples
    --------
    >>> quadratic_form(np.diag([1.0, 4.0]), np.array([1.0, 2.0]))
    2.0
    """
    if not x.size:
        return 0.0
    values, vectors = np.linalg.eigh(covariance)
    floor = np.finfo(np.float64).eps * values[-1]
    return float(((x @ vectors) ** 2 / np.maximum(values, floor)).sum())


class Sums:
    """Running sums over the gradients given one D, beside what they are to be like."""

    def __init__(self, target: Target, rounding: float = 0.0) -> None:
        self.rounding = rounding  # of an entry of the mean
        n, m = len(target.mean), target.rank
        p = m * (m + 1) // 2
        self.target = target
        self.count, self.total, self.products = 0, np.zeros(n), np.zeros((n, n))
        self.q_total, self.q_products = np.zeros(p), np.zeros((p, p))
        rows, columns = np.triu_indices(m)
        self.diagonal = rows == columns

    def add(self, h: Array) -> None:
        """Take in gradients ``(b, n)``."""
        centred = h.astype(np.float64) - self.target.mean
        self.count += len(h)
        self.total += centred.sum(axis=0)
        self.products += centred.T @ centred
        if self.target.q_covariance is None:
            return
        y = centred @ self.target.whitening
        q = products(y)
        self.q_total += q.sum(axis=0)
        self.q_products += q.T @ q

    @property
    def needed(self) -> int:
        """How many gradients a test of the covariance needs."""
        return DRAWS_PER_ENTRY * len(self.diagonal)

    @property
    def deviation(self) -> Array:
        """Sample mean less exact mean."""
        return self.total / self.count

    @property
    def sample_mean(self) -> Array:
        """Mean of the gradients."""
        return self.target.mean + self.deviation

    @property
    def sample_covariance(self) -> Array:
        """Covariance of the gradients."""
        return self.products / self.count - np.outer(self.deviation, self.deviation)

    @property
    def y_mean(self) -> Array:
        """Mean of the whitened gradients."""
        return self.deviation @ self.target.whitening

    def y_covariance(self) -> Array:
        """Covariance of the whitened gradients, blended, with what rounding adds to that of their mean."""
        W = self.target.whitening
        rounding = self.count * self.rounding**2 * W.T @ W
        return blend(np.eye(self.target.rank), W.T @ self.sample_covariance @ W) + rounding

    @property
    def q_mean(self) -> Array:
        """Whitened sample covariance less the identity, on and above the diagonal."""
        return self.q_total / self.count - products(self.y_mean[None])[0] - self.diagonal

    def q_sample_covariance(self) -> Array:
        """Covariance of the entries of y y'."""
        mean = self.q_total / self.count
        return self.q_products / self.count - np.outer(mean, mean)

    def q_covariance(self) -> Array:
        """The same, blended."""
        assert self.target.q_covariance is not None  # it is tested
        return np.asarray(blend(self.target.q_covariance, self.q_sample_covariance()))

    def mean_statistic(self) -> tuple[float, int]:
        """Chi-square of the mean and its degrees of freedom."""
        y = self.y_mean
        return self.count * quadratic_form(self.y_covariance(), y), len(y)

    def covariance_statistic(self) -> tuple[float, int]:
        """Chi-square of the covariance about the sample mean and its degrees of freedom."""
        q = self.q_mean
        return self.count * quadratic_form(self.q_covariance(), q), len(q)

    def variance(self) -> tuple[float, float, float]:
        """Total variance of the sample, its standard error, and the exact one."""
        weights = np.zeros(len(self.diagonal))
        weights[self.diagonal] = self.target.eigenvalues
        error = math.sqrt(weights @ self.q_covariance() @ weights / self.count)
        exact = float(self.target.eigenvalues.sum())
        return exact + float(weights @ self.q_mean), error, exact


# --- Tests over the D of a case ----------------------------------------------------------------------


def chi_square_p_value(statistic: float, degrees: int) -> float:
    """Probability that a chi-square exceeds the statistic."""
    from scipy.special import chdtrc

    return float(chdtrc(degrees, statistic)) if degrees else 1.0


def mean_test(sums: list[Sums]) -> float:
    """p-value of the mean, over the D of a case."""
    return _pooled([s.mean_statistic() for s in sums])


def covariance_test(sums: list[Sums]) -> float:
    """p-value of the covariance, over those D of a case that were drawn often enough."""
    return _pooled([s.covariance_statistic() for s in often_enough(sums)])


def often_enough(sums: list[Sums]) -> list[Sums]:
    """Those with enough gradients for the central limit theorem to hold for every entry of y y'."""
    return [s for s in sums if s.count >= s.needed]


def _pooled(statistics: list[tuple[float, int]]) -> float:
    """p-value of a sum of independent chi-squares."""
    return chi_square_p_value(sum(s for s, _ in statistics), sum(d for _, d in statistics))


def independence_test(pairs: Iterable[tuple[Array, Array]], fewest: int) -> tuple[float, float]:
    """The largest correlation over kinds of pairs of numbers ``(b,)``, and the p-value of there being none.

    Both are measured by their own means and variances, so that a wrong law hides nothing. For independent
    pairs, a product of two standardised numbers has mean 0 and variance 1, whatever their laws.
    """
    statistics, largest = [], 0.0
    for first, second in pairs:
        if len(first) >= fewest:
            product = _standardised(first) * _standardised(second)
            largest = max(largest, abs(float(product.mean())))
            statistic = len(first) * product.mean() ** 2 / blend(1.0, (product**2).mean())
            statistics.append((float(statistic), 1))
    return largest, _pooled(statistics)


def _standardised(x: Array) -> Array:
    size = x.std()
    return (x - x.mean()) / size if size > 1e-9 * abs(x).max() else np.zeros_like(x)  # rounding


def group_means_test(means: Array, exact: Array) -> tuple[float, Array, Array]:
    r"""p-value of independent ``means`` ``(N, d)`` having this expectation, by Hotelling's T².

    Beside it their mean and its standard errors. Directions without any variance must be exact.
    """
    from scipy.special import fdtrc

    N, error = len(means), means.mean(axis=0) - exact
    covariance = np.cov(means.T).reshape(len(exact), -1)
    standard_errors = np.sqrt(np.diagonal(covariance) / N)
    values, vectors = np.linalg.eigh(covariance)
    size = max(abs(exact).max(), abs(means).max())
    kept = values > (1e-8 * size) ** 2  # what scatters less than that is rounding
    if abs(error @ vectors[:, ~kept]).max(initial=0.0) > 1e-6 * size:
        return 0.0, means.mean(axis=0), standard_errors
    d = int(kept.sum())
    statistic = N * float(((error @ vectors[:, kept]) ** 2 / values[kept]).sum())
    p_value = float(fdtrc(d, N - d, statistic * (N - d) / (d * (N - 1)))) if d else 1.0
    return p_value, means.mean(axis=0), standard_errors


# --- What a test would have caught -------------------------------------------------------------------


def detectable_mean_error(sums: list[Sums], level: float) -> float:
    """The factor by which a mean must be off to be caught: ``1 + this``, with probability POWER."""
    found = [(s, s.target.mean @ s.target.whitening, s.y_covariance()) for s in sums]
    return _detectable(found, level)


def detectable_covariance_error(sums: list[Sums], level: float) -> float:
    """The same for a covariance."""
    found = [(s, s.diagonal.astype(float), s.q_covariance()) for s in often_enough(sums)]
    return _detectable(found, level)


def _detectable(found: Sequence[tuple[Sums, Array, Array]], level: float) -> float:
    r"""The :math:`\epsilon` whose non-centrality, :math:`\epsilon^2 \sum_D B_D x^\top V^{-1} x`, is enough."""
    signal = sum(s.count * quadratic_form(covariance, x) for s, x, covariance in found)
    degrees = sum(len(x) for _, x, _ in found)
    return math.sqrt(needed_noncentrality(degrees, level) / signal) if signal > 0 else math.inf


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
