r"""Straight-through with a surrogate that is pushed towards the sample, and with two temperatures.

Straight-through Gumbel-Softmax makes the surrogate agree with the sample by the noise that drew it.
:func:`gapped_straight_through` does it without noise: it moves the logits until the sampled category leads by a
gap. :func:`decoupled_gumbel_softmax` keeps the noise and gives the forward and the backward pass a temperature each.
"""

from __future__ import annotations

from typing import Any

from rbst._array import Array, namespace, row_argmax, row_max, row_sum
from rbst._checks import (
    check_companion,
    check_gradient,
    check_logits,
    check_number,
    check_pull_back,
    check_tau,
)
from rbst.categorical import _log_softmax, _one_hot, _softmax, softmax_vjp
from rbst.gumbel import sample_gumbels


def gapped_straight_through(
    logits: Array, D: Array, df_dD: Array, *, tau: float, gap: float | None = 1.0
) -> Array:
    r"""GST: the Jacobian of a softmax whose logits were moved until the sample leads by a gap.

    .. math:: \frac1\tau J(q) g, \qquad q = \mathrm{softmax}_\tau(\theta + m_1 - m_2), \quad J(q) = \mathrm{diag}(q) - q q^\top

    with :math:`D_k = 1` and the moves, held constant,

    .. math:: m_1 = (\max_j \theta_j - \theta_k) D, \qquad m_{2, j} = \max(0, \theta_j - \max_i \theta_i + \gamma) \quad (j \ne k),

    where :math:`\theta` is ``logits``, D is ``D``, :math:`g` is ``df_dD``, of shape ``(..., n)``, :math:`\tau` is ``tau`` and
    :math:`\gamma` is ``gap``; with ``gap=None`` it is :math:`-\log(1 - \pi_k) / \pi_k`, the lead that the winner
    of a Gumbel race has on average.

    Biased. A function of D alone: nothing is drawn. Returns an array of the shape and dtype of ``logits``. Fan, Chi, Rudnicky
    and Ramadge, "Training discrete deep generative models via gapped straight-through estimator", ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> gapped_straight_through(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5).round(4)
    array([-0.5256, -0.3126,  0.8382])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    tau, xp = check_tau(tau), namespace(logits)
    if gap is not None:
        gap = check_number("gap", gap, at_least=0)
    below = logits - row_max(logits)
    if gap is None:
        log_pi_k = row_sum(xp.where(D == 1, _log_softmax(logits), 0))
        pi_k = xp.exp(log_pi_k)
        # 1 - pi_k without cancellation; where the others are too rare to represent, the gap is that of the rarest.
        tiny = xp.finfo(logits.dtype).tiny
        others = xp.maximum(row_sum(_softmax(logits) * (1 - D)), tiny)
        rare = xp.clip(pi_k, tiny, 0.5)  # its logarithm of 1 - pi_k does not round to 0
        gap = xp.where(pi_k < 0.5, -xp.log1p(-rare) / rare, -xp.log(others) / xp.maximum(pi_k, 0.5))
    surrogate = xp.where(D == 1, 0, below - xp.maximum(0, below + gap))
    return softmax_vjp(_softmax(surrogate, tau), df_dD - row_sum(df_dD * D)) / tau


def decoupled_gumbel_softmax(logits: Array, x: Array, df_dS: Array, *, tau: float) -> Array:
    r"""Decoupled ST-GS: f at a sample of one temperature, the Jacobian at another.

    .. math:: \frac1\tau J(q) \, \frac{\partial f(S)}{\partial S}, \qquad S = \mathrm{softmax}_{\tau_f}(x), \quad
              q = \mathrm{softmax}_\tau(x), \quad x = \theta + G

    where :math:`x` are located Gumbels (:func:`rbst.sample_gumbels`) of the shape ``(..., n)`` of ``logits``,
    and ``df_dS`` is the gradient of f at S, the point of the forward temperature :math:`\tau_f`, which the caller
    chose. With a hard forward pass (:math:`\tau_f \to 0`) this is ST-GS at ``tau``: the forward
    temperature matters only if f sees it. With :math:`\tau_f = \tau` it is
    :func:`rbst.gumbel_softmax`.

    Biased. Returns an array of the shape and dtype of ``logits``. Shah, Yan, Mozer and Liu, "Improving discrete optimisation via
    decoupled straight-through Gumbel-Softmax", 2024 (arXiv 2410.13331).
    """
    logits, tau = check_logits(logits), check_tau(tau)
    x = check_companion("x", check_logits(x, "x"), logits)
    return softmax_vjp(_softmax(x, tau), check_gradient(df_dS, logits, "df_dS")) / tau


def sample_decoupled(logits: Array, rng: Any) -> tuple[Array, Array]:
    """A sample D and the located Gumbels that it is the argmax of: a hard forward pass."""
    # Below the maximum a shift of all logits has already cancelled, so it cannot cost a digit.
    x = sample_gumbels(logits - row_max(logits), rng)
    return _one_hot(row_argmax(x), logits.shape[-1], logits.dtype), x
