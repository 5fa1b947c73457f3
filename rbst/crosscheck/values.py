"""Rows that compare number by number: under shared noise, and where D determines the gradient."""

from __future__ import annotations

import numpy as np

from rbst._array import Array
from rbst.categorical import softmax
from rbst.crosscheck.calls import Context, ask, rows_of
from rbst.crosscheck.cases import Case
from rbst.crosscheck.causes import explain_value
from rbst.crosscheck.laws import Law
from rbst.crosscheck.report import Row, judge

ROWS_OF_A_CALL = 24
RELATIVE_ERROR = {"gumbel-rao": 1e-7, "reinmax-rao": 1e-7, "reinmax-cv": 1e-5, "determined": 1e-9}
QUADRATURE_ERROR = 1e-5  # where a mean over the noise is what is asked for
FLOAT32_ERROR = 3e-3  # Eq. 9 in float32, judged in float64
ROUNDING = 32  # multiples of the machine epsilon of the terms that a gradient is a difference of


def shared_noise(
    context: Context, name: str, case: Case, shift: int, zero: bool, dtype: str
) -> list[Row]:
    """The implementation is handed the exponentials; float64 is the judge of float32."""
    logits, D = rows_of(case, (ROWS_OF_A_CALL,), dtype, shift)
    rng = np.random.default_rng(context.next_seed())
    E = rng.standard_exponential((context.law.num_samples, *logits.shape)).astype(dtype)
    if zero:
        rows = np.arange(ROWS_OF_A_CALL)
        E[0, rows, rows % case.n] = 0
    h = ask(context, logits, D, case, exponentials=E).gradient
    df_dD = context.signal(D, case)
    exact = context.law.with_noise(*_double(logits - shift, D, df_dD), case.tau, E)
    return [_compare(context, name, h, h, exact, (logits, D, df_dD, case.tau, E))]


def value(context: Context, name: str, case: Case, dtype: str, shift: int = 0) -> list[Row]:
    """A gradient that D determines; float64 is the judge of float32."""
    logits, D = rows_of(case, (ROWS_OF_A_CALL,), dtype, shift)
    answer = ask(context, logits, D, case)
    D, h = answer.D, answer.gradient
    signal = context.signal(D, case)
    exact = context.law.mean(*_double(logits - shift, D, signal), case.tau)
    plain = _without_baseline(h, logits, D, signal) if context.law.takes_cost else h
    return [_compare(context, name, h, plain, exact, (logits, D, signal, case.tau, None))]


def _double(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


def _without_baseline(h: Array, logits: Array, D: Array, cost: Array) -> Array:
    r"""Add :math:`b (D - \pi)` to :math:`(f - b)(D - \pi)`, with the one b that fits a call best."""
    direction = D - softmax(logits)
    weight = (direction**2).sum(axis=-1)
    if not weight.any():
        return h
    b = ((cost * weight).sum() - (h * direction).sum()) / weight.sum()
    return h + b * direction


def _compare(
    context: Context, name: str, h: Array, plain: Array, exact: Array, arguments: tuple
) -> Row:
    """``plain`` against the exact values; a cause is sought for h itself."""
    logits, _, signal, tau, _ = arguments
    relative = _relative_error(context.law, str(logits.dtype))
    rounding = ROUNDING * np.finfo(logits.dtype).eps * abs(signal).max() / min(1.0, tau)
    allowed = relative * abs(exact).max() + rounding
    error = abs(plain - exact).max()
    fine = error <= allowed
    cause = "" if fine else explain_value(context.law, *arguments, h)
    return judge(name, fine, f"off by {error:.1g}", f"below {allowed:.1g}", cause)


def _relative_error(law: Law, dtype: str) -> float:
    if dtype == "float32":
        return FLOAT32_ERROR
    return QUADRATURE_ERROR if law.estimator == "gr" else RELATIVE_ERROR[law.family]
