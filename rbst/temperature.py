r"""Which temperature? The one at which the mean of a batch of estimates is nearest to the gradient.

A relaxation trades bias for variance by its temperature, and a batch divides the variance alone: where the
variance falls as the temperature rises, as it usually does, the best temperature falls as the batch grows.
What counts is the mean squared error of the batch against the squared gradient,
:meth:`rbst.Diagnosis.relative_mse`, where returning zero scores 1. Where nothing beats zero, or the least value
lies at an end of the range, no temperature was found, and the choice is left between bias and variance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rbst._array import Array
from rbst._checks import check_logits, check_number, check_tau, check_untraced
from rbst._tables import text_table
from rbst.claims import check_claim, check_differentiable
from rbst.diagnostics import Diagnosis, diagnose, diagnose_exactly
from rbst.enumeration import count_outcomes
from rbst.estimators.registry import Estimator, get_estimator

SEARCH_RTOL = 1e-4
"""Tolerance while :func:`best_temperature` searches."""

GRID = 13
"""Temperatures that are visited first, in three decades or less."""

STEP = 0.005
"""Of log tau: a search ends where it would look again at a point that it has visited."""

MOST_VISITS = 40


@dataclass(frozen=True)
class BestTemperature:
    """What :func:`best_temperature` found; as text, the temperature or what there is to choose from.

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
        The grid that was visited first, and the exact MSE of the mean of a batch on it.
    batch_size
        The number of estimates in the batch.
    zero_wins
        Whether returning zero has a smaller MSE.
    pareto
        The diagnoses of the grid that no other beats in both bias and variance.
    """

    tau: float
    diagnosis: Diagnosis
    tau_range: tuple[float, float]
    on_boundary: bool
    taus: Array
    mse: Array
    batch_size: float = 1
    zero_wins: bool = False
    pareto: tuple[Diagnosis, ...] = ()

    def __str__(self) -> str:
        if not (self.on_boundary or self.zero_wins):
            score = self.diagnosis.relative_mse(self.batch_size)
            return f"tau = {self.tau:.3g}, where the MSE is {score:.3g} of the squared gradient"
        rows = [
            [f"{d.tau:.3g}", f"{d.relative_bias:.3g}", f"{d.relative_deviation:.3g}"]
            for d in self.pareto
        ]
        table = text_table([["tau", "|bias|/|gradient|", "sd/|gradient|"], *rows])
        return f"{self.why}; to choose from:\n{table}"

    @property
    def why(self) -> str:
        """Why no temperature is the best one; empty if one is."""
        reasons = []
        name, B = self.diagnosis.estimator, f"{self.batch_size:g}"
        if self.zero_wins:
            score = self.diagnosis.relative_mse(self.batch_size)
            reasons.append(
                f"returning zero beats {name!r} at every tau for a batch of {B} (at best its MSE is "
                f"{score:.3g} of the squared gradient)" + self._batch_that_helps()
            )
        if self.on_boundary:
            low, high = self.tau_range
            reasons.append(
                f"the MSE of {name!r} is least at tau = {self.tau:g}, an end of the range ({low:g}, "
                f"{high:g}) that was searched" + self._beyond()
            )
        return "; ".join(reasons)

    def _beyond(self) -> str:
        """What to do at an end of the range."""
        cold = math.isclose(self.tau, self.tau_range[0])  # exp(log(0.01)) is not 0.01
        if cold and self.diagnosis.estimator == "gr":
            return "; take 'zgr', its limit as tau falls to 0"
        return f"; pass a tau_range that goes {'lower' if cold else 'higher'}, or choose from the table"

    def _batch_that_helps(self) -> str:
        """From which batch on some temperature of the grid beats zero: variance / B < |gradient|^2 - bias^2."""
        room = [(d.gradient_squared - d.bias_squared, d.variance) for d in self.pareto]
        sizes = [variance / left for left, variance in room if left > 0]
        if not sizes:
            return ", and its bias alone is longer than the gradient"
        return f", and it would take a batch of {math.floor(min(sizes)) + 1} to beat it"


def best_temperature(
    estimator: str | Callable[[float], Estimator],
    f: Callable[[Array], Array],
    logits: Array,
    *,
    df_dD: Callable[[Array], Array] | None = None,
    tau_range: tuple[float, float] = (0.01, 10.0),
    batch_size: float = 1,
) -> BestTemperature:
    r"""The temperature at which the exact MSE of the mean of a batch of estimates is least, on this problem.

    .. math:: \tau^* = \arg\min_{\tau_0 \le \tau \le \tau_1} \; |\mathbb E h_\tau - \nabla|^2
              + \frac1B \mathrm{tr} \, \mathrm{cov}[h_\tau]

    where ``estimator`` is a name such as ``"gr"``, or a function from a temperature to an
    :class:`rbst.Estimator`; ``f``, ``logits`` and ``df_dD`` are those of :func:`rbst.diagnose`;
    :math:`(\tau_0, \tau_1)` is ``tau_range`` and B is ``batch_size``.

    A grid, 13 temperatures in three decades and even in log tau, comes first. Between its points the bias, as a
    vector, and the logarithm of the variance are interpolated: a minimum where the bias changes its sign is far
    narrower than the grid, and is seen nevertheless. The point of least predicted MSE is visited until it is
    known to a hundredth. What can be missed is a bias that turns twice between two neighbours of the grid.

    Returns a :class:`rbst.BestTemperature`, as text the bias and the deviation that there are to choose from; warns where
    the minimum sits on the boundary of the range, for then the true one lies beyond it, if there is one,
    and where returning zero has a smaller MSE. Raises ``ValueError`` for an estimator without a temperature,
    or one whose MSE is known by sampling only.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst.problems import LINEAR
    >>> for B in (10, 1000):
    ...     best = best_temperature("gr", LINEAR.f, np.log([[0.2, 0.3, 0.5]]), batch_size=B)
    ...     print(B, best)
    10 tau = 0.332, where the MSE is 0.0195 of the squared gradient
    1000 tau = 0.0738, where the MSE is 0.000283 of the squared gradient
    """
    low, high = _check_range(tau_range)
    batch_size = check_number("batch_size", batch_size, at_least=1)
    build = _builder(estimator)
    check_untraced(logits)
    logits = check_logits(logits).astype("float64", copy=False)
    count_outcomes(logits)
    _check_searchable(build(low))
    check_claim(build(low), logits)
    if df_dD is None:
        check_differentiable(f, logits, "corner")

    def diagnose_at(log_tau: float) -> Diagnosis:
        return diagnose_exactly(build(math.exp(log_tau)), f, logits, df_dD, rtol=SEARCH_RTOL)

    grid, visited = _search(diagnose_at, math.log(low), math.log(high), batch_size)
    mse = {x: d.bias_squared + d.variance / batch_size for x, d in visited.items()}
    log_tau = min(mse, key=mse.__getitem__)
    end = min(grid[0], grid[-1], key=mse.__getitem__)
    on_boundary = mse[end] <= mse[log_tau] * (1 + SEARCH_RTOL)
    if on_boundary:
        log_tau = end
    diagnosis = diagnose(build(math.exp(log_tau)), f, logits, df_dD=df_dD)
    best = BestTemperature(
        math.exp(log_tau),
        diagnosis,
        (low, high),
        on_boundary,
        np.exp(grid),
        np.array([mse[x] for x in grid]),
        batch_size,
        bool(diagnosis.relative_mse(batch_size) >= 1),
        _pareto([visited[x] for x in grid]),
    )
    if best.why:
        warnings.warn(f"{best.why}; print what is returned to choose", stacklevel=2)
    return best


def _check_range(tau_range: tuple[float, float]) -> tuple[float, float]:
    if np.shape(tau_range) != (2,):
        raise ValueError(f"tau_range must be a pair (low, high), got {tau_range!r}; try (0.05, 5)")
    low, high = (check_tau(tau) for tau in tau_range)
    if low >= high:
        raise ValueError(
            f"tau_range must be (low, high) with low < high, got ({low}, {high}); swap them"
        )
    return low, high


def _search(
    diagnose_at: Callable[[float], Diagnosis], low: float, high: float, batch_size: float
) -> tuple[list[float], dict[float, Diagnosis]]:
    """The grid, and all that was visited: then again and again where the MSE must be least by what was seen."""
    decades = (high - low) / math.log(10)
    grid = np.linspace(low, high, max(GRID, math.ceil((GRID - 1) * decades / 3) + 1)).tolist()
    fine = np.linspace(low, high, math.ceil((high - low) / STEP) + 1)
    visited = {log_tau: diagnose_at(log_tau) for log_tau in grid}
    for _ in range(MOST_VISITS):
        expected = float(fine[_predicted_mse(visited, fine, batch_size).argmin()])
        if min(abs(expected - log_tau) for log_tau in visited) < STEP / 2:
            break
        visited[expected] = diagnose_at(expected)
    least = min(visited, key=lambda x: visited[x].bias_squared + visited[x].variance / batch_size)
    for end, neighbour in ((grid[0], grid[1]), (grid[-1], grid[-2])):
        if least == end:  # unless there is a dip beside it, which the splines smooth away
            for share in (0.75, 0.5):
                inner = share * end + (1 - share) * neighbour
                visited[inner] = diagnose_at(inner)
    return grid, visited


def _predicted_mse(visited: dict[float, Diagnosis], at: Array, batch_size: float) -> Array:
    r"""Splines through the bias and the logarithm of the variance: :math:`|\sum_i w_i b_i|^2 + \frac1B \prod_i v_i^{w_i}`."""
    from scipy.interpolate import CubicSpline

    points = sorted(visited)
    diagnoses = [visited[x] for x in points]
    w = CubicSpline(points, np.eye(len(points)))(at)  # what is linear in the data has weights
    products = np.array([[float((a.bias * b.bias).sum()) for b in diagnoses] for a in diagnoses])
    variances = np.array([max(d.variance, 1e-300) for d in diagnoses])
    return ((w @ products) * w).sum(axis=-1) + np.exp(w @ np.log(variances)) / batch_size


def _builder(estimator: str | Callable[[float], Estimator]) -> Callable[[float], Estimator]:
    if isinstance(estimator, str):
        return lambda tau: get_estimator(estimator, tau=tau)
    if not callable(estimator):
        raise TypeError(
            f"estimator must be a name or a function from tau to an Estimator, got {type(estimator).__name__}; "
            "pass its name"
        )
    return estimator


def _check_searchable(estimator: Estimator) -> None:
    if estimator.tau is None:
        raise ValueError(
            f"estimator {estimator.name!r} has no temperature to choose, got it to search over; take it as it "
            "is, or pass one that has, such as 'gr'"
        )
    if estimator.given_D == "random":
        raise ValueError(
            f"the MSE of estimator {estimator.name!r} is known by sampling only, whose noise hides a "
            "minimum; compare diagnose() at a few temperatures, with their standard errors"
        )


def _pareto(diagnoses: Sequence[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Those that no other beats: each has less bias or less variance than any other one."""

    def beaten(d: Diagnosis) -> bool:
        return any(
            other.bias_squared <= d.bias_squared
            and other.variance <= d.variance
            and (other.bias_squared < d.bias_squared or other.variance < d.variance)
            for other in diagnoses
        )

    return tuple(d for d in diagnoses if not beaten(d))
