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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.crosscheck.laws import Case, Law, alike

SMALLEST_EIGENVALUE = 1e-4  # of a covariance, relative to the largest: below, its digits run out
DRAWS_PER_ENTRY = 40  # of a covariance that is to be tested
POWER = 0.999  # with which an error that a test "would catch" is caught
REFERENCE_DRAWS, REFERENCE_BLOCK = 2**16, 2**14

Part = tuple[int, Array, Array, Array]  # (B, x, exact, V): B x' V^-1 x tests a mean, exact + x

# --- What gradients should be like -----------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What the mean of K samples of a case should be like, given ``D = e_k``."""

    case: Case
    num_samples: int  # K
    outcome: int  # k
    mean: Array  # exact moments of a gradient, (n,) and (n, n)
    covariance: Array
    eigenvalues: Array  # of the covariance, as :func:`whiten` returns them
    whitening: Array
    q_covariance: Array | None = None  # (p, p), of the entries of y y'; None where it is not tested


def targets(
    law: Law,
    case: Case,
    outcomes: tuple[int, ...],
    num_samples: int | None = None,
    *,
    covariance_tested: bool = False,
) -> list[Target]:
    r"""Exact moments for each D of a case and K samples, whose mean has 1/K of their covariance.

    The covariance of q is :math:`G + (W_1 - G) / K`, with G that of a normal y. There is no quadrature for
    that of one sample, :math:`W_1`: draws of the reference implementation estimate it. An error there makes
    the test a little less or more strict; what it tests is the exact covariance all the same.
    """
    K, law = num_samples or law.num_samples or 1, law.of_one_sample()
    found = []
    for k in outcomes:
        mean, covariance, eigenvalues, whitening = _moments(law, case, k)
        q_covariance = None
        if covariance_tested:
            rows, columns = np.triu_indices(len(eigenvalues))
            q_covariance = normal = np.diag(np.where(rows == columns, 2.0, 1.0))
            if law.with_noise:
                q_covariance = normal + (_q_covariance(law, case, k) - normal) / K
        moments = (covariance / K, eigenvalues / K, whitening * np.sqrt(K))
        found.append(Target(case, K, k, mean, *moments, q_covariance))
    return found


@lru_cache(maxsize=512)
def _moments(law: Law, case: Case, outcome: int) -> tuple[Array, Array, Array, Array]:
    """Mean and covariance of one sample given D, eigenvalues and whitening of the covariance."""
    arguments = (*alike(case, outcome, 1), case.tau)
    assert law.covariance is not None  # a law that is tested for it has one
    covariance = law.covariance(*arguments)[0]
    return law.mean(*arguments)[0], covariance, *whiten(covariance, case.directions)


@lru_cache(maxsize=512)
def _q_covariance(law: Law, case: Case, outcome: int) -> Array:
    """Covariance of q for one sample, estimated from draws of the reference implementation."""
    mean, _, _, whitening = _moments(law, case, outcome)
    rng = np.random.default_rng(outcome)
    total: Any = 0.0
    for _ in range(REFERENCE_DRAWS // REFERENCE_BLOCK):
        E = rng.standard_exponential((1, REFERENCE_BLOCK, case.n))
        h = law.gradient(*alike(case, outcome, REFERENCE_BLOCK), case.tau, E)
        q = products((h - mean) @ whitening)
        total = total + q.T @ q
    return total / REFERENCE_DRAWS


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
    r"""Entries q of :math:`y y^\top - I` on and above the diagonal, for y of shape ``(b, m)``."""
    rows, columns = np.triu_indices(y.shape[-1])
    return y[:, rows] * y[:, columns] - (rows == columns)


# --- What they turn out to be ----------------------------------------------------------------------------


def blend(exact: Array | float, sample: Array | float) -> Array | float:
    r"""Two thirds of the exact variance and one third of that of the sample.

    In this proportion the skewness of the gradients cancels in the tails of the tests: where a mean is too
    large by chance, so is the variance of its sample. docs/crosscheck.md has the derivation.
    """
    return (2 * exact + sample) / 3


class Sums:
    """Running sums over the gradients given one D, beside their target."""

    def __init__(self, target: Target, rounding: float = 0.0) -> None:
        self.target = target
        self.rounding = rounding  # of an entry of the mean
        n, m = target.whitening.shape
        rows, columns = np.triu_indices(m)
        self.diagonal = rows == columns
        p = len(rows)
        self.count, self.total, self.products = 0, np.zeros(n), np.zeros((n, n))
        self.q_total, self.q_products = np.zeros(p), np.zeros((p, p))

    def add(self, h: Array) -> None:
        """Take in gradients ``(b, n)``."""
        centred = h.astype(np.float64) - self.target.mean
        self.count += len(h)
        self.total += centred.sum(axis=0)
        self.products += centred.T @ centred
        if self.target.q_covariance is not None:
            q = products(centred @ self.target.whitening)
            self.q_total += q.sum(axis=0)
            self.q_products += q.T @ q

    @property
    def needed(self) -> int:
        """How many gradients a test of the covariance needs for the central limit theorem to hold."""
        return DRAWS_PER_ENTRY * len(self.diagonal)

    @property
    def deviation(self) -> Array:
        """Sample mean less exact mean."""
        return self.total / self.count

    @property
    def covariance(self) -> Array:
        """Covariance of the gradients."""
        return self.products / self.count - np.outer(self.deviation, self.deviation)

    def y_part(self) -> Part:
        """The whitened gradients, with what rounding adds to the covariance of their mean."""
        W = self.target.whitening
        rounding = self.count * self.rounding**2 * W.T @ W
        V = blend(np.eye(W.shape[-1]), W.T @ self.covariance @ W) + rounding
        return self.count, self.deviation @ W, self.target.mean @ W, V

    def q_part(self) -> Part:
        """The entries of y y', about the mean of the sample."""
        y_mean = self.deviation @ self.target.whitening
        q_mean = self.q_total / self.count - products(y_mean[None])[0] - self.diagonal
        assert self.target.q_covariance is not None  # it is tested
        W = np.asarray(blend(self.target.q_covariance, self.q_sample_covariance()))
        return self.count, q_mean, self.diagonal.astype(float), W

    def q_sample_covariance(self) -> Array:
        """Covariance of the entries of y y'."""
        mean = self.q_total / self.count
        return self.q_products / self.count - np.outer(mean, mean)

    def variance(self) -> tuple[float, float, float]:
        """Total variance of the sample, its standard error, and the exact one."""
        weights = np.zeros(len(self.diagonal))
        weights[self.diagonal] = self.target.eigenvalues
        count, q_mean, _, W = self.q_part()
        exact = float(self.target.eigenvalues.sum())
        return exact + float(weights @ q_mean), math.sqrt(weights @ W @ weights / count), exact


def variance_ratio(sums: list[Sums]) -> float:
    """Total variance of the sample, over the D of a case, in units of the exact one."""
    found = sum(np.trace(s.covariance) for s in sums)
    return float(found / sum(np.trace(s.target.covariance) for s in sums))


# --- Tests over the D of a case ----------------------------------------------------------------------


def quadratic_form(covariance: Array, x: Array) -> float:
    r""":math:`x^\top V^{-1} x`, where V may be so uneven that rounding leaves it singular."""
    if not x.size:
        return 0.0
    values, vectors = np.linalg.eigh(covariance)
    floor = np.finfo(np.float64).eps * values[-1]
    return float(((x @ vectors) ** 2 / np.maximum(values, floor)).sum())


def chi_square_p_value(chi_square: float, degrees: int) -> float:
    """Probability that a chi-square exceeds the statistic."""
    from scipy.special import chdtrc

    return float(chdtrc(degrees, chi_square)) if degrees else 1.0


def p_value_of(parts: list[Part]) -> float:
    """The p-value of a mean or of a covariance, over the D of a case."""
    chi_square = sum(B * quadratic_form(V, x) for B, x, _, V in parts)
    return chi_square_p_value(chi_square, sum(len(x) for _, x, *_ in parts))


def detectable_error(parts: list[Part], level: float) -> float:
    r"""The :math:`\epsilon` for which :math:`1 + \epsilon` times the exact value is caught, with probability POWER.

    Its non-centrality, :math:`\epsilon^2 \sum_D B_D x^\top V^{-1} x` with x the exact value, is enough.
    """
    signal = sum(B * quadratic_form(V, exact) for B, _, exact, V in parts)
    degrees = sum(len(x) for _, x, *_ in parts)
    return math.sqrt(needed_noncentrality(degrees, level) / signal) if signal > 0 else math.inf


def needed_noncentrality(degrees: int, level: float) -> float:
    """Non-centrality at which a chi-square test of this level rejects with probability POWER.

    Examples
    --------
    >>> round(needed_noncentrality(6, 1e-6 / 40))
    92
    """
    from scipy.special import chdtri, chndtrinc

    return float(chndtrinc(chdtri(degrees, level), degrees, 1 - POWER))


def often_enough(sums: list[Sums]) -> list[Sums]:
    """Those with enough gradients for a test of the covariance."""
    return [s for s in sums if s.count >= s.needed]


def independence_test(pairs: Iterable[tuple[Array, Array]], fewest: int) -> tuple[float, float]:
    """The largest correlation over kinds of pairs of numbers ``(b,)``, and the p-value of there being none.

    Both are measured by their own means and variances, so that a wrong law hides nothing. For independent
    pairs, a product of two standardised numbers has mean 0 and variance 1, whatever their laws.
    """
    chi_squares, largest = [], 0.0
    for first, second in pairs:
        if len(first) >= fewest:
            product = _standardised(first) * _standardised(second)
            largest = max(largest, abs(float(product.mean())))
            chi_square = len(first) * product.mean() ** 2 / blend(1.0, (product**2).mean())
            chi_squares.append(float(chi_square))
    return largest, chi_square_p_value(sum(chi_squares), len(chi_squares))


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
    t_square = N * float(((error @ vectors[:, kept]) ** 2 / values[kept]).sum())
    p_value = float(fdtrc(d, N - d, t_square * (N - d) / (d * (N - 1)))) if d else 1.0
    return p_value, means.mean(axis=0), standard_errors
