r"""How good is a gradient estimator? Bias, variance and mean squared error, exact where they can be.

With :math:`h` one estimate of :math:`\nabla = \partial \mathbb E[f(D)] / \partial \theta`,

.. math:: \mathbb E |h - \nabla|^2 = |\mathbb E h - \nabla|^2 + \mathrm{tr} \, \mathrm{cov}[h],
          \qquad \text{MSE} = \text{bias}^2 + \text{variance}.

The outcomes of D can be enumerated. What an estimator does once D is given is known for two kinds: it
draws nothing more (such as ``st``, ``zgr`` and ``reinforce``), or it averages K draws of straight-through
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
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rbst._array import Array, namespace
from rbst._blocks import slices
from rbst._checks import (
    as_number,
    check_finite,
    check_gradient,
    check_logits,
    check_num_samples,
    check_seed,
    check_untraced,
)
from rbst._derivative import derivative
from rbst._tables import aligned_markdown_table, text_table
from rbst.autodiff import check_estimate, estimate_gradient
from rbst.claims import check_claim, check_differentiable
from rbst.enumeration import check_costs, count_outcomes, enumerate_outcomes, exact_gradient
from rbst.estimators.registry import Estimator, as_estimator, differentiates, get_estimator
from rbst.rao_blackwell import conditional_covariance, conditional_moments, jacobian_moments

DRAWS_PER_BLOCK = 2**12


class Figure(float):
    """A number with its standard error, ``error``, which is None where the number is exact.

    Examples
    --------
    >>> figure = Figure(0.25, 0.01)
    >>> figure / 2, figure.error, str(figure)
    (0.125, 0.01, '2.500e-01 ± 1e-02')
    """

    error: float | None

    def __new__(cls, value: float, error: float | None = None) -> Figure:
        figure = super().__new__(cls, value)
        figure.error = error
        return figure

    def __str__(self) -> str:
        return f"{float(self):.3e}" + ("" if self.error is None else f" ± {self.error:.0e}")

    def over(self, scale: float) -> Figure:
        """The ratio to a scale without an error; infinite where the scale is 0 and the number is not."""
        if scale == 0:
            return Figure(math.inf if self else 0.0, self.error)
        return Figure(self / scale, None if self.error is None else self.error / scale)

    def root(self) -> Figure:
        """The square root, with the error that the slope passes on; 0 of a negative estimate of a square."""
        root = math.sqrt(max(self, 0.0))
        if self.error is None:
            return Figure(root)
        return Figure(root, self.error / (2 * root) if root > 0 else math.sqrt(self.error))


@dataclass(frozen=True)
class Diagnosis:
    r"""Bias, variance and mean squared error of one estimator on one problem; as text, a table of them.

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
        :math:`|\mathbb E h - \nabla|^2`, the trace of the covariance, and their sum: each a number whose
        ``error`` is its standard error, None if exact. A sampled ``bias_squared`` has the part that is due
        to the variance of the sample mean subtracted, which makes it unbiased, and slightly negative at times
        when there is no bias to see.
    cosine
        Of the angle between :math:`\mathbb E h` and :math:`\nabla`, with an ``error`` too; 0 where one of them is 0.
    variance_given_D
        The part of the variance that is left when D is given, :math:`\mathbb E[\mathrm{tr} \, \mathrm{cov}[h \mid D]]`,
        which is what Rao-Blackwellizing removes; None if sampled.
    variance_per_coordinate
        The diagonal of the covariance, shape ``(L, n)``, if it was asked for.
    draws
        Number of estimates behind a sampled diagnosis.
    bias_error
        Standard errors of the entries of a sampled bias, shape ``(L, n)``.
    errors_covariance
        Covariance of the errors of a sampled ``bias_squared`` and ``variance``.
    """

    estimator: str
    method: Literal["exact", "sampled"]
    gradient: Array
    bias: Array
    bias_squared: Figure
    variance: Figure
    mse: Figure
    cosine: Figure
    tau: float | None = None
    baseline: float | Array | None = None
    variance_given_D: float | None = None
    variance_per_coordinate: Array | None = None
    draws: int | None = None
    bias_error: Array | None = None
    errors_covariance: float = 0.0

    def __str__(self) -> str:
        tau = "" if self.tau is None else f", tau = {self.tau:g}"
        named = {"bias^2": self.bias_squared, "variance": self.variance, "MSE": self.mse}
        rows = [
            [name, _shown(figure, self), brief(figure.over(self.gradient_squared))]
            for name, figure in named.items()
        ]
        heading = [f"{self.estimator}{tau}, {_how(self)}", "value", "over |gradient|^2"]
        return text_table([heading, *rows, ["cosine with the gradient", brief(self.cosine), ""]])

    @property
    def bias_squared_error(self) -> float | None:
        """Standard error of ``bias_squared``."""
        return self.bias_squared.error

    @property
    def variance_error(self) -> float | None:
        """Standard error of ``variance``."""
        return self.variance.error

    @property
    def mse_error(self) -> float | None:
        """Standard error of ``mse``."""
        return self.mse.error

    @property
    def gradient_squared(self) -> float:
        r"""The size of what is estimated, :math:`|\nabla|^2`."""
        return float((self.gradient**2).sum())

    @property
    def relative_bias(self) -> Figure:
        r"""Length of the bias over that of the gradient, :math:`|\mathbb E h - \nabla| / |\nabla|`."""
        return self.bias_squared.over(self.gradient_squared).root()

    @property
    def relative_deviation(self) -> Figure:
        r"""Standard deviation over the length of the gradient, :math:`\sqrt{\mathrm{tr} \, \mathrm{cov}[h]} / |\nabla|`."""
        return self.variance.over(self.gradient_squared).root()

    def relative_mse(self, batch_size: float = 1) -> Figure:
        r"""MSE of the mean of B independent estimates over the squared gradient.

        .. math:: \frac{|\mathbb E h - \nabla|^2 + \mathrm{tr} \, \mathrm{cov}[h] / B}{|\nabla|^2}

        where B is ``batch_size``. Returning zero scores 1, whatever B: an estimate that scores more is worse
        than none.
        """
        if not (isinstance(batch_size, numbers.Real) and as_number(batch_size) >= 1):
            raise ValueError(f"batch_size must be >= 1, got {batch_size!r}; 1 is a single estimate")
        batch_size = as_number(batch_size)
        mse = self.mse
        if batch_size != 1:
            error = None
            if self.bias_squared.error is not None and self.variance.error is not None:
                both = 2 * self.errors_covariance / batch_size
                squares = self.bias_squared.error**2 + (self.variance.error / batch_size) ** 2
                error = math.sqrt(max(0.0, squares + both))
            mse = Figure(self.bias_squared + self.variance / batch_size, error)
        return mse.over(self.gradient_squared)


def diagnose(
    estimator: str | Estimator,
    f: Callable[[Array], Array],
    logits: Array,
    *,
    df_dD: Callable[[Array], Array] | None = None,
    rng: Any = None,
    num_samples: int = 10_000,
    per_coordinate: bool = False,
    rtol: float = 1e-7,
    tau: float | None = None,
) -> Diagnosis:
    r"""Bias, variance and MSE of an estimator of :math:`\partial \mathbb E[f(D)] / \partial \theta`.

    Parameters
    ----------
    estimator
        A name, or from :func:`rbst.get_estimator`, or your own: one that says ``given_D`` is diagnosed exactly,
        after a few draws of it were checked against what it says, and any other by sampling. The baseline of
        ``reinforce`` is the estimator's, 0 by default.
    f
        Maps arrays ``(..., L, n)`` to costs ``(...)``.
    logits
        :math:`\theta`, shape ``(L, n)``: L independent variables, enumerated jointly. The diagnosis is made
        in float64.
    df_dD
        The derivative of f; by default autograd differentiates f, and one difference quotient has to agree.
    rng
        Generator of the draws, or a seed, where the diagnosis is sampled; an exact one ignores it.
    num_samples
        Number of estimates then.
    per_coordinate
        Whether to return the variance of each coordinate as well.
    rtol
        Tolerance of the moments given D, where they are integrals.
    tau
        The temperature of an estimator that is given by name, 1 by default.

    Returns
    -------
    Diagnosis
        Exact, or with standard errors.

    Notes
    -----
    Raises ``ValueError`` above 10**7 outcomes, where the estimator has to
    be sampled and no ``rng`` is given, for an estimator that is not what it says, and for an f that autograd
    cannot see, or that differs where its derivative is 0 at every outcome, as a table that is looked up by
    ``D.argmax()`` does.

    Paulus et al. (2021), Propositions 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst.problems import QUADRATIC
    >>> logits = np.log([[0.2, 0.3, 0.5]])
    >>> for name in ("st-gs", "gr-mc10", "gr", "zgr"):
    ...     d = diagnose(name, QUADRATIC.f, logits, tau=0.5)
    ...     print(f"{name:8} bias^2 {d.bias_squared:.6f}  variance {d.variance:.6f}  {d.method}")
    st-gs    bias^2 0.000791  variance 0.068662  exact
    gr-mc10  bias^2 0.000791  variance 0.037965  exact
    gr       bias^2 0.000791  variance 0.034554  exact
    zgr      bias^2 0.000000  variance 0.049922  exact

    The last against what it estimates: it has no bias, and one estimate is worse than returning zero.

    >>> f"{d.relative_bias:.2f} {d.relative_deviation:.2f} {d.cosine:.2f} {d.relative_mse(10):.2f}"
    '0.00 2.82 1.00 0.80'
    >>> print(diagnose("gr", QUADRATIC.f, logits, tau=0.5))
    gr, tau = 0.5, exact          value  over |gradient|^2
    ------------------------------------------------------
    bias^2                    7.910e-04              0.126
    variance                  3.455e-02                5.5
    MSE                       3.535e-02               5.63
    cosine with the gradient      0.936
    """
    if isinstance(estimator, str):
        estimator = get_estimator(estimator, tau=1.0 if tau is None else tau)
    elif tau is not None:
        raise ValueError(
            f"tau is for an estimator given by name, got tau={tau} and the estimator "
            f"{as_estimator(estimator).name!r}; build it with the temperature that you want"
        )
    estimator = as_estimator(estimator)
    check_untraced(logits)
    logits = check_logits(logits).astype("float64", copy=False)
    count_outcomes(logits)
    if df_dD is None and differentiates(estimator):
        check_differentiable(f, logits, estimator.evaluates)
    check_claim(estimator, logits)
    if estimator.given_D == "random":
        return _diagnose_by_sampling(estimator, f, df_dD, logits, rng, num_samples, per_coordinate)
    return diagnose_exactly(estimator, f, logits, df_dD, per_coordinate=per_coordinate, rtol=rtol)


# Exact: the moments given D, and the moments of those over the outcomes of D.


LawGivenD = Callable[[Array, Array], tuple[Array, Array]]
"""``(D, signal)``, both ``(b, L, n)``, to the mean ``(b, L, n)`` of the gradient given D and its variance
``(b, L, m)``: of each coordinate, m = n, or the sum over them, m = 1."""


def diagnose_exactly(
    estimator: Estimator,
    f: Callable[[Array], Array],
    logits: Array,
    df_dD: Callable[[Array], Array] | None,
    *,
    per_coordinate: bool = False,
    rtol: float,
) -> Diagnosis:
    """Total variance: the variance of the mean given D, plus the mean of the variance given D.

    For float64 logits; what the estimator and f say of themselves is believed.
    """
    law_given_D = _law_given_D(estimator, logits, per_coordinate, rtol)
    xp = namespace(logits)
    weight, mean, between = 0.0, xp.zeros(logits.shape), xp.zeros(logits.shape)
    within: Any = 0.0
    for D, probability in enumerate_outcomes(logits):
        signal = _signal(estimator, f, df_dD, D, logits)
        mean_given_D, variance_given_D = law_given_D(D, signal)
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
        Figure(bias_squared),
        Figure(variance),
        Figure(bias_squared + variance),
        Figure(_cosine(mean, gradient)),
        tau=estimator.tau,
        baseline=estimator.baseline,
        variance_given_D=float(within.sum()),
        variance_per_coordinate=between + within if per_coordinate else None,
    )


def _cosine(x: Array, y: Array) -> float:
    return float((x / (_length(x) or 1) * (y / (_length(y) or 1))).sum())


def _length(x: Array) -> float:
    """The Euclidean length, also where the squares are beyond floats."""
    largest = float(abs(x).max())
    return largest * math.sqrt(float(((x / largest) ** 2).sum())) if largest > 0 else 0.0


def _signal(
    estimator: Estimator,
    f: Callable[[Array], Array],
    df_dD: Callable[[Array], Array] | None,
    D: Array,
    logits: Array,
) -> Array:
    """What ``pull_back`` is given of f at the outcomes ``(b, L, n)``: its gradient, or its value."""
    point = D.copy()  # f may write into its argument
    if estimator.evaluates == "cost-only":
        return check_costs(f(point), D.shape[:-2])[..., None]
    gradient = (df_dD or derivative(f))(point)
    return check_gradient(gradient, namespace(logits).broadcast_to(logits, D.shape))


def _law_given_D(
    estimator: Estimator, logits: Array, per_coordinate: bool, rtol: float
) -> LawGivenD:
    if estimator.given_D == "fixed":
        return _fixed_law(estimator, logits)
    # Of one variable each outcome is a category, and g need not be factored out.
    law = _gumbel_rao_law_by_outcome if len(logits) == 1 else _gumbel_rao_law_by_category
    quadrature = {"tau": estimator.tau, "rtol": rtol}
    return law(estimator.num_samples, logits, per_coordinate, quadrature)


def _fixed_law(estimator: Estimator, logits: Array) -> LawGivenD:
    """Given D, the gradient is one number for each coordinate, and its variance is zero."""
    xp = namespace(logits)

    def law(D: Array, signal: Array) -> tuple[Array, Array]:
        gradient = estimator.pull_back(xp.broadcast_to(logits, D.shape), D, signal, None)
        gradient = check_estimate(estimator, gradient, D)
        check_finite(f"the gradient of {estimator.name!r}", gradient, "look at its pull_back")
        return gradient, xp.zeros((*D.shape[:-1], 1))

    return law


def _gumbel_rao_law_by_outcome(
    K: Any, logits: Array, per_coordinate: bool, quadrature: dict[str, Any]
) -> LawGivenD:
    """Given D, the mean of K draws of ST-GS: its mean, and its variance over K, a quadrature for each outcome."""
    xp = namespace(logits)

    def law(D: Array, g: Array) -> tuple[Array, Array]:
        arguments = xp.broadcast_to(logits, D.shape), D, g
        mean, second_moment = conditional_moments(*arguments, **quadrature)
        if per_coordinate:
            covariance = conditional_covariance(*arguments, **quadrature)
            return mean, xp.diagonal(covariance, axis1=-2, axis2=-1) / K
        return mean, (second_moment - (mean**2).sum(axis=-1))[..., None] / K

    return law


def _gumbel_rao_law_by_category(
    K: Any, logits: Array, per_coordinate: bool, quadrature: dict[str, Any]
) -> LawGivenD:
    r"""The moments of J once for each variable and category, contracted with the g of each outcome.

    .. math:: \mathbb E[J^\top g \mid D] = M d, \qquad \mathrm{var}[(J^\top g)_a \mid D] = d^\top V_a d,
              \qquad d = g - g_i, \; D_i = 1

    To subtract a common part of g changes nothing but the rounding, since the rows of J sum to zero.
    """
    xp = namespace(logits)
    forms, one_hot = {}, xp.eye(logits.shape[-1])
    for variable, category in np.argwhere(xp.isfinite(logits).tolist()).tolist():
        M, Q = jacobian_moments(logits[variable], one_hot[category], **quadrature)
        V = Q - M[:, :, None] * M[:, None, :]
        forms[variable, category] = M, V if per_coordinate else V.sum(axis=0, keepdims=True)

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
    """Sample moments, and the standard error of each."""
    draws, rng = _check_draws(estimator, rng, draws), check_seed(rng, logits)
    xp = namespace(logits)
    many = xp.broadcast_to(logits, (draws, *logits.shape))
    blocks = [many[block] for block in slices(draws, DRAWS_PER_BLOCK)]
    estimates = xp.concatenate(
        [estimate_gradient(estimator, f, block, rng, df_dD=df_dD) for block in blocks]
    ).reshape(draws, -1)
    check_finite(f"estimates of {estimator.name!r}", estimates, "look at f and at its pull_back")
    gradient = exact_gradient(f, logits)
    mean, errors = estimates.mean(axis=0), estimates - gradient.ravel()
    bias, centred = mean - gradient.ravel(), estimates - mean
    deviations = centred**2 * (draws / (draws - 1))
    coordinates, variance = deviations.mean(axis=0), _mean(deviations.sum(axis=1))
    return Diagnosis(
        estimator.name,
        "sampled",
        gradient,
        bias.reshape(logits.shape),
        _sampled_bias_squared(bias, centred, variance),
        variance,
        _mean((errors**2).sum(axis=1)),
        _sampled_cosine(mean, gradient.ravel(), centred),
        tau=estimator.tau,
        baseline=estimator.baseline,
        variance_per_coordinate=coordinates.reshape(logits.shape) if per_coordinate else None,
        draws=draws,
        bias_error=xp.sqrt(coordinates / draws).reshape(logits.shape),
        errors_covariance=2 * float((centred @ bias * deviations.sum(axis=1)).mean()) / draws,
    )


def _check_draws(estimator: Estimator, rng: Any, draws: int) -> int:
    draws = check_num_samples(draws)
    if rng is None or draws < 2:
        cure = "pass rng=numpy.random.default_rng(seed)"
        if estimator.evaluates in ("corner", "cost-only"):
            cure += ", or, if its pull_back draws nothing, declare given_D='fixed' and it is exact"
        raise ValueError(
            f"estimator {estimator.name!r} is diagnosed by sampling, which needs rng and num_samples >= 2, "
            f"got rng={rng} and num_samples={draws}; {cure}"
        )
    return draws


def _sampled_bias_squared(bias: Array, centred: Array, variance: float) -> Figure:
    r"""The square of the sample mean exceeds that of the mean by variance / N, which is subtracted.

    Its own variance is :math:`4 \, b^\top \Sigma b / N + 2 \, \mathrm{tr} \, \Sigma^2 / N^2`. With the sample mean in place
    of b the first term is too large by :math:`4 \, \mathrm{tr} \, \Sigma^2 / N^2` on average, which is subtracted as well.
    """
    draws, half = len(centred), len(centred) // 2
    # For independent x and y, E (x'y)^2 = tr Sigma^2: neighbours are paired.
    trace_of_square = ((centred[:half] * centred[half : 2 * half]).sum(axis=1) ** 2).mean()
    least = 2 * trace_of_square / draws**2  # what is left where the bias is 0
    error = math.sqrt(max(4 * float((centred @ bias).var()) / draws - least, least))
    return Figure(float((bias**2).sum()) - variance / draws, error)


def _sampled_cosine(mean: Array, gradient: Array, centred: Array) -> Figure:
    """With the error of a small turn of the mean."""
    cosine = _cosine(mean, gradient)
    lengths = [_length(x) or 1.0 for x in (mean, gradient)]
    turning = centred @ (gradient / lengths[1] - cosine * mean / lengths[0]) / lengths[0]
    return Figure(cosine, _mean(turning).error)


def _mean(values: Array) -> Figure:
    return Figure(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


# A table to print.


def diagnosis_table(diagnoses: Sequence[Diagnosis]) -> str:
    """The diagnoses as a Markdown table, aligned so that it reads as plain text as well.

    Sampled figures carry their standard error after a plus-minus sign. An exact figure that is only
    rounding, below 1e-20 of the squared gradient, is shown as 0.

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
    rows: list[tuple[str, ...]] = [("estimator", "tau", "bias^2", "variance", "MSE", "how")]
    for d in diagnoses:
        figures = (_shown(figure, d) for figure in (d.bias_squared, d.variance, d.mse))
        how = _how(d) if d.baseline is None else f"{_how(d)}, baseline {d.baseline}"
        rows.append((d.estimator, "" if d.tau is None else f"{d.tau:g}", *figures, how))
    return aligned_markdown_table(rows)


def _how(d: Diagnosis) -> str:
    return "exact" if d.method == "exact" else f"{d.draws:,} draws"


def brief(figure: Figure) -> str:
    """The figure to three digits, with its error if it was sampled; what is only rounding is shown as 0."""
    if figure.error is not None:
        return f"{figure:.3g} ± {figure.error:.1g}"
    return "0" if abs(figure) < 1e-10 else f"{figure:.3g}"


def _shown(figure: Figure, d: Diagnosis) -> str:
    rounding = figure.error is None and abs(figure) <= 1e-20 * d.gradient_squared
    return "0" if rounding else str(figure)
