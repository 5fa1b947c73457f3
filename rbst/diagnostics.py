r"""How good is a gradient estimator? Bias, variance and mean squared error, exact where they can be.

With :math:`h` one estimate of :math:`\nabla = \partial \mathbb E[f(D)] / \partial \theta`,

.. math:: \mathbb E |h - \nabla|^2 = |\mathbb E h - \nabla|^2 + \mathrm{tr} \, \mathrm{cov}[h],
          \qquad \text{MSE} = \text{bias}^2 + \text{variance}.

The outcomes of D can be enumerated. What an estimator does once D is given is known for two kinds: it
draws nothing more (``st``, ``zgr``, ``reinmax``, ``reinforce``), or it averages K draws of straight-through
Gumbel-Softmax (``st-gs``, ``gr-mcK``, ``gr``), whose two moments given D are integrals
(:mod:`rbst.rao_blackwell`), so that by Proposition 3 of Paulus et al. (2021)

.. math:: \mathrm{var}[\text{GR-MC}K] = \frac1K \, \mathbb E[\mathrm{var}[\text{ST-GS} \mid D]] + \mathrm{var}[\text{GR}],
          \qquad \text{GR} = \mathbb E[\text{ST-GS} \mid D].

The moments of the Jacobian given D depend on the variable and its category, not on f: L variables of n
categories need L n of them, however many outcomes there are. Every other estimator is sampled, and
every figure then comes with its standard error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from autograd import elementwise_grad

from rbst._array import Array, namespace
from rbst._checks import check_gradient, check_logits, check_num_samples, check_tau
from rbst._tables import aligned_markdown_table
from rbst.autodiff import estimate_gradient
from rbst.enumeration import check_costs, count_outcomes, enumerate_outcomes, exact_gradient
from rbst.estimators.registry import Estimator, get_estimator
from rbst.rao_blackwell import conditional_covariance, conditional_moments, jacobian_moments

SEARCH_RTOL = 1e-4
"""Tolerance while :func:`rbst.best_temperature` searches."""

DRAWS_PER_BLOCK = 2**12


@dataclass(frozen=True)
class Diagnosis:
    r"""Bias, variance and mean squared error of one estimator on one problem.

    Attributes
    ----------
    estimator, tau, baseline
        The name, and the temperature and the baseline of an estimator that has them.
    method
        ``"exact"`` or ``"sampled"``.
    gradient
        The exact gradient :math:`\nabla`, shape ``(L, n)``.
    bias
        :math:`\mathbb E h - \nabla`, shape ``(L, n)``.
    bias_squared, variance, mse
        :math:`|\mathbb E h - \nabla|^2`, the trace of the covariance, and their sum. A sampled
        ``bias_squared`` has the part that is due to the variance of the sample mean subtracted, which makes
        it unbiased, and slightly negative at times when there is no bias to see.
    variance_given_D
        The part of the variance that is left when D is given, :math:`\mathbb E[\mathrm{tr} \, \mathrm{cov}[h \mid D]]`,
        which is what Rao-Blackwellizing removes; None if sampled.
    variance_per_coordinate
        The diagonal of the covariance, shape ``(L, n)``, if it was asked for.
    draws
        Number of estimates behind a sampled diagnosis.
    bias_error, bias_squared_error, variance_error, mse_error
        Standard errors, of the shapes of what they belong to; None if exact.
    """

    estimator: str
    method: Literal["exact", "sampled"]
    gradient: Array
    bias: Array
    bias_squared: float
    variance: float
    mse: float
    tau: float | None = None
    baseline: float | Array | None = None
    variance_given_D: float | None = None
    variance_per_coordinate: Array | None = None
    draws: int | None = None
    bias_error: Array | None = None
    bias_squared_error: float | None = None
    variance_error: float | None = None
    mse_error: float | None = None


def diagnose(
    estimator: Estimator,
    f: Callable[[Array], Array],
    logits: Array,
    *,
    df_dD: Callable[[Array], Array] | None = None,
    rng: Any = None,
    num_samples: int = 10_000,
    per_coordinate: bool = False,
    rtol: float = 1e-7,
) -> Diagnosis:
    r"""Bias, variance and MSE of an estimator of :math:`\partial \mathbb E[f(D)] / \partial \theta`.

    Parameters
    ----------
    estimator
        From :func:`rbst.get_estimator`, or your own: one that says ``given_D`` is diagnosed exactly, any other
        by sampling. The baseline of ``reinforce`` is the estimator's, 0 by default.
    f
        Maps arrays ``(..., L, n)`` to costs ``(...)``.
    logits
        :math:`\theta`, shape ``(L, n)``: L independent variables, enumerated jointly. The diagnosis is made
        in float64.
    df_dD
        The derivative of f; by default autograd differentiates f.
    rng, num_samples
        Generator and number of estimates where the diagnosis is sampled; an exact one ignores them.
    per_coordinate
        Whether to return the variance of each coordinate as well.
    rtol
        Tolerance of the moments given D, where they are integrals.

    Returns a :class:`rbst.Diagnosis`. Raises ``ValueError`` above 10**7 outcomes, and where the estimator has to
    be sampled and no ``rng`` is given.

    Paulus et al. (2021), Propositions 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst import get_estimator
    >>> from rbst.problems import QUADRATIC
    >>> logits = np.log([[0.2, 0.3, 0.5]])
    >>> for name in ("st-gs", "gr-mc10", "gr", "zgr"):
    ...     d = diagnose(get_estimator(name, tau=0.5), QUADRATIC.f, logits)
    ...     print(f"{name:8} bias^2 {d.bias_squared:.6f}  variance {d.variance:.6f}  {d.method}")
    st-gs    bias^2 0.000791  variance 0.068662  exact
    gr-mc10  bias^2 0.000791  variance 0.037965  exact
    gr       bias^2 0.000791  variance 0.034554  exact
    zgr      bias^2 0.000000  variance 0.049922  exact
    """
    logits = check_logits(logits).astype("float64", copy=False)
    count_outcomes(logits)
    if estimator.given_D == "random":
        return _diagnose_by_sampling(estimator, f, df_dD, logits, rng, num_samples, per_coordinate)
    law_given_D = LAWS_GIVEN_D[estimator.given_D](estimator, logits, per_coordinate, rtol)
    return _diagnose_exactly(estimator, law_given_D, f, df_dD, logits, per_coordinate)


# Exact: the moments given D, and the moments of those over the outcomes of D.


LawGivenD = Callable[[Array, Array], tuple[Array, Array]]
"""``(D, signal)``, both ``(b, L, n)``, to the mean ``(b, L, n)`` of the gradient given D and its variance
``(b, L, m)``: of each coordinate, m = n, or the sum over them, m = 1."""


def _diagnose_exactly(
    estimator: Estimator,
    law_given_D: LawGivenD,
    f: Callable[[Array], Array],
    df_dD: Callable[[Array], Array] | None,
    logits: Array,
    per_coordinate: bool,
) -> Diagnosis:
    """Total variance: the variance of the mean given D, plus the mean of the variance given D."""
    xp = namespace(logits)
    weight, mean, between, within = 0.0, xp.zeros(logits.shape), xp.zeros(logits.shape), 0.0
    for D, probability in _possible_outcomes(logits):
        mean_given_D, variance_given_D = law_given_D(D, _signal(estimator, f, df_dD, D))
        # The moments of this block, merged with those of the blocks before it (Chan et al., 1979).
        block_weight = probability.sum()
        block_mean = xp.tensordot(probability, mean_given_D, 1) / block_weight
        step, total_weight = block_mean - mean, weight + block_weight
        between += xp.tensordot(probability, (mean_given_D - block_mean) ** 2, 1)
        between += step**2 * weight * block_weight / total_weight
        mean += step * block_weight / total_weight
        within += xp.tensordot(probability, variance_given_D, 1)
        weight = total_weight

    gradient = exact_gradient(f, logits)
    bias = mean - gradient
    bias_squared, variance = float((bias**2).sum()), float(between.sum() + within.sum())
    return Diagnosis(
        estimator.name,
        "exact",
        gradient,
        bias,
        bias_squared,
        variance,
        bias_squared + variance,
        tau=estimator.tau,
        baseline=estimator.baseline,
        variance_given_D=float(within.sum()),
        variance_per_coordinate=between + within if per_coordinate else None,
    )


def _possible_outcomes(logits: Array) -> Iterator[tuple[Array, Array]]:
    for D, probability in enumerate_outcomes(logits):
        possible = probability > 0
        if possible.any():
            yield D[possible], probability[possible]


def _signal(
    estimator: Estimator,
    f: Callable[[Array], Array],
    df_dD: Callable[[Array], Array] | None,
    D: Array,
) -> Array:
    """What ``pull_back`` is given of f at the outcomes ``(b, L, n)``: its gradient, or its value."""
    if estimator.evaluates == "cost-only":
        return check_costs(f(D), D.shape[:-2])[..., None]
    return check_gradient((df_dD or elementwise_grad(f))(D), D)


def _fixed_law(estimator: Estimator, logits: Array, per_coordinate: bool, rtol: float) -> LawGivenD:
    """Given D, the gradient is one number a coordinate, and its variance is nothing."""
    xp = namespace(logits)

    def law(D: Array, signal: Array) -> tuple[Array, Array]:
        gradient = estimator.pull_back(xp.broadcast_to(logits, D.shape), D, signal, None)
        return gradient, xp.zeros((*D.shape[:-1], 1))

    return law


def _gumbel_rao_law(
    estimator: Estimator, logits: Array, per_coordinate: bool, rtol: float
) -> LawGivenD:
    """Given D, the mean of K draws of ST-GS: its mean, and its variance over K."""
    one_variable = len(logits) == 1  # each outcome is a category, and g need not be factored out
    law = _law_by_outcome if one_variable else _law_by_category
    quadrature = {"tau": estimator.tau, "rtol": rtol}
    return law(estimator.num_samples, logits, per_coordinate, quadrature)


def _law_by_outcome(
    K: float, logits: Array, per_coordinate: bool, quadrature: dict[str, float]
) -> LawGivenD:
    """One quadrature for each outcome that is asked for."""
    xp = namespace(logits)

    def law(D: Array, g: Array) -> tuple[Array, Array]:
        arguments = xp.broadcast_to(logits, D.shape), D, g
        mean, second_moment = conditional_moments(*arguments, **quadrature)
        if per_coordinate:
            covariance = conditional_covariance(*arguments, **quadrature)
            return mean, xp.diagonal(covariance, axis1=-2, axis2=-1) / K
        return mean, (second_moment - (mean**2).sum(axis=-1))[..., None] / K

    return law


def _law_by_category(
    K: float, logits: Array, per_coordinate: bool, quadrature: dict[str, float]
) -> LawGivenD:
    r"""The moments of J once for each variable and category, contracted with the g of each outcome.

    .. math:: \mathbb E[J^\top g \mid D] = M d, \qquad \mathrm{var}[(J^\top g)_a \mid D] = d^\top V_a d,
              \qquad d = g - g_i, \; D_i = 1

    To subtract a common part of g changes nothing but the rounding, since the rows of J sum to zero.
    """
    xp = namespace(logits)
    forms = {
        (variable, category): _jacobian_forms(
            logits[variable], category, per_coordinate, quadrature
        )
        for variable, possible in enumerate(xp.isfinite(logits).tolist())
        for category in range(len(possible))
        if possible[category]
    }

    def law(D: Array, g: Array) -> tuple[Array, Array]:
        d = g - (g * D).sum(axis=-1, keepdims=True)
        mean = xp.empty_like(d)
        variance = xp.empty((*d.shape[:-1], d.shape[-1] if per_coordinate else 1))
        for (variable, category), (M, V) in forms.items():
            rows = D[:, variable, category] == 1
            d_rows = d[rows, variable]
            mean[rows, variable] = d_rows @ M
            variance[rows, variable] = xp.einsum("ri,aij,rj->ra", d_rows, V, d_rows) / K
        return mean, variance

    return law


def _jacobian_forms(
    logits: Array, category: int, per_coordinate: bool, quadrature: dict[str, float]
) -> tuple[Array, Array]:
    """M of shape ``(n, n)``, and V of shape ``(n, n, n)``, or ``(1, n, n)`` for the sum over a."""
    D = namespace(logits).eye(logits.shape[-1])[category]
    M, Q = jacobian_moments(logits, D, **quadrature)
    V = Q - M[:, :, None] * M[:, None, :]
    return M, V if per_coordinate else V.sum(axis=0, keepdims=True)


LAWS_GIVEN_D = {"fixed": _fixed_law, "gumbel-rao": _gumbel_rao_law}


# Sampled: what cannot be enumerated, with standard errors.


def _diagnose_by_sampling(
    estimator: Estimator,
    f: Callable[[Array], Array],
    df_dD: Callable[[Array], Array] | None,
    logits: Array,
    rng: Any,
    draws: int,
    per_coordinate: bool,
) -> Diagnosis:
    r"""Sample moments, and the standard error of each.

    The squared bias of the sample mean exceeds that of the mean by variance / N, which is subtracted. Its own
    standard error is :math:`\sqrt{4 \, b^\top \Sigma b / N + 2 \, \mathrm{tr} \, \Sigma^2 / N^2}`.
    """
    draws = check_num_samples(draws)
    if rng is None or draws < 2:
        raise ValueError(
            f"estimator {estimator.name!r} is diagnosed by sampling, which needs rng and num_samples >= 2, "
            f"got rng={rng} and num_samples={draws}; pass rng=numpy.random.default_rng(seed)"
        )
    xp = namespace(logits)
    estimates = xp.concatenate(
        [
            estimate_gradient(
                estimator, f, xp.broadcast_to(logits, (block, *logits.shape)), rng, df_dD=df_dD
            ).reshape(block, -1)
            for block in _blocks(draws)
        ]
    )
    gradient = exact_gradient(f, logits)
    mean = estimates.mean(axis=0)
    bias, centred = mean - gradient.ravel(), estimates - mean
    deviations = centred**2 * (draws / (draws - 1))
    coordinates, variance = deviations.mean(axis=0), float(deviations.sum(axis=1).mean())
    squared_errors = ((estimates - gradient.ravel()) ** 2).sum(axis=1)
    # For independent x and y, E (x'y)^2 = tr Sigma^2: neighbours are paired.
    half = draws // 2
    trace_of_square = ((centred[:half] * centred[half : 2 * half]).sum(axis=1) ** 2).mean()
    along_bias = (centred @ bias).var()
    return Diagnosis(
        estimator.name,
        "sampled",
        gradient,
        bias.reshape(logits.shape),
        float((bias**2).sum()) - variance / draws,
        variance,
        float(squared_errors.mean()),
        tau=estimator.tau,
        baseline=estimator.baseline,
        variance_per_coordinate=coordinates.reshape(logits.shape) if per_coordinate else None,
        draws=draws,
        bias_error=xp.sqrt(coordinates / draws).reshape(logits.shape),
        bias_squared_error=math.sqrt(4 * along_bias / draws + 2 * trace_of_square / draws**2),
        variance_error=_standard_error(deviations.sum(axis=1)),
        mse_error=_standard_error(squared_errors),
    )


def _blocks(draws: int) -> Iterator[int]:
    for first in range(0, draws, DRAWS_PER_BLOCK):
        yield min(DRAWS_PER_BLOCK, draws - first)


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


# Which temperature?


@dataclass(frozen=True)
class BestTemperature:
    """What :func:`rbst.best_temperature` found.

    Attributes
    ----------
    tau
        The temperature of least MSE within ``tau_range``.
    diagnosis
        The estimator there.
    tau_range
        The range that was searched.
    on_boundary
        Whether the minimum sits on an end of it.
    taus, mse
        The grid that was visited first, and the exact MSE on it.
    """

    tau: float
    diagnosis: Diagnosis
    tau_range: tuple[float, float]
    on_boundary: bool
    taus: Array
    mse: Array


def best_temperature(
    estimator: str | Callable[[float], Estimator],
    f: Callable[[Array], Array],
    logits: Array,
    *,
    df_dD: Callable[[Array], Array] | None = None,
    tau_range: tuple[float, float] = (0.01, 10.0),
) -> BestTemperature:
    r"""The temperature at which the exact MSE of an estimator is least, on this problem.

    .. math:: \tau^* = \arg\min_{\tau_0 \le \tau \le \tau_1} \mathbb E |h_\tau - \nabla|^2

    where ``estimator`` is a name such as ``"gr"``, or a function from a temperature to an
    :class:`rbst.Estimator`; ``f``, ``logits`` and ``df_dD`` are those of :func:`diagnose`; and
    :math:`(\tau_0, \tau_1)` is ``tau_range``. A grid of 13 temperatures, even in log tau, brackets the
    minimum, and a bounded search refines it to a hundredth.

    Returns a :class:`rbst.BestTemperature`; warns where the minimum sits on the boundary of the range, for then the
    true one lies beyond it, if there is one. Raises ``ValueError`` for an estimator without a
    temperature, or one whose MSE is known by sampling only.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst.problems import LINEAR
    >>> best = best_temperature("gr", LINEAR.f, np.log([[0.2, 0.3, 0.5]]), tau_range=(0.1, 5.0))
    >>> round(best.tau, 2), best.on_boundary
    (0.72, False)
    """
    from scipy.optimize import minimize_scalar

    low, high = (check_tau(tau) for tau in tau_range)
    if low >= high:
        raise ValueError(
            f"tau_range must be (low, high) with low < high, got ({low}, {high}); swap them"
        )
    build = estimator
    if isinstance(estimator, str):

        def build(tau: float) -> Estimator:
            return get_estimator(estimator, tau=tau)

    _check_searchable(build(low))

    def mse_at(log_tau: float) -> float:
        candidate = build(math.exp(log_tau))
        return diagnose(candidate, f, logits, df_dD=df_dD, rtol=SEARCH_RTOL).mse

    grid = np.linspace(math.log(low), math.log(high), 13)
    mse = np.array([mse_at(log_tau) for log_tau in grid])
    lowest = int(mse.argmin())
    bracket = grid[max(lowest - 1, 0)], grid[min(lowest + 1, len(grid) - 1)]
    refined = minimize_scalar(mse_at, bounds=bracket, method="bounded", options={"xatol": 1e-2})
    log_tau = refined.x if refined.fun < mse[lowest] else grid[lowest]
    end = 0 if mse[0] <= mse[-1] else -1
    on_boundary = bool(mse[end] <= min(refined.fun, mse[lowest]) * (1 + SEARCH_RTOL))
    if on_boundary:
        log_tau = grid[end]
        warnings.warn(
            f"the MSE of {build(low).name!r} is least at tau = {math.exp(log_tau):g}, an end of the range "
            f"({low:g}, {high:g}) that was searched; widen tau_range"
            + (", or take the limit of gr as tau falls to 0, zgr" if end == 0 else ""),
            stacklevel=2,
        )
    tau = math.exp(log_tau)
    diagnosis = diagnose(build(tau), f, logits, df_dD=df_dD)
    return BestTemperature(tau, diagnosis, (low, high), on_boundary, np.exp(grid), mse)


def _check_searchable(estimator: Estimator) -> None:
    if estimator.tau is None:
        raise ValueError(
            f"estimator {estimator.name!r} has no temperature to choose; take it as it is, or pass one "
            "that has, such as 'gr'"
        )
    if estimator.given_D == "random":
        raise ValueError(
            f"the MSE of estimator {estimator.name!r} is known by sampling only, whose noise hides a "
            "minimum; compare diagnose() at a few temperatures, with their standard errors"
        )


# A table to print.


def diagnosis_table(diagnoses: Sequence[Diagnosis]) -> str:
    """The diagnoses as a Markdown table, aligned so that it reads as plain text as well.

    Sampled figures carry their standard error after a plus-minus sign. An exact figure that is nothing
    but rounding, below 1e-20 of the squared gradient, is shown as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst import get_estimator
    >>> from rbst.problems import LINEAR
    >>> logits = np.log([[0.2, 0.3, 0.5]])
    >>> print(diagnosis_table([diagnose(get_estimator("reinforce"), LINEAR.f, logits)]))
    | estimator | tau | bias^2 | variance  | MSE       | how                 |
    |-----------|-----|--------|-----------|-----------|---------------------|
    | reinforce |     | 0      | 1.990e-01 | 1.990e-01 | exact, baseline 0.0 |
    """
    header = ("estimator", "tau", "bias^2", "variance", "MSE", "how")
    return aligned_markdown_table([header, *map(_table_row, diagnoses)])


def _table_row(d: Diagnosis) -> tuple[str, ...]:
    how = "exact" if d.method == "exact" else f"{d.draws:,} draws"
    if d.baseline is not None:
        how += f", baseline {d.baseline}"
    figures = (
        _figure(getattr(d, key), getattr(d, f"{key}_error"), float(1e-20 * (d.gradient**2).sum()))
        for key in ("bias_squared", "variance", "mse")
    )
    return (d.estimator, "" if d.tau is None else f"{d.tau:g}", *figures, how)


def _figure(value: float, error: float | None, rounding: float) -> str:
    if error is not None:
        return f"{value:.3e} ± {error:.0e}"
    return f"{value:.3e}" if value > rounding else "0"
