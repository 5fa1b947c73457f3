r"""REINFORCE with the other samples as its baseline.

K samples of D give each of them a baseline that does not depend on it: the mean cost of the other K - 1
(:func:`leave_one_out`). Where f has a derivative, the mean gradient of the others also says how f ought to
change with D, to first order, and what is left has a smaller variance still (:func:`double_control_variate`).
Contract: logits ``(..., n)``, samples ``(K, ..., n)``; f is evaluated at corners only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbst._array import Array, is_array, namespace
from rbst._checks import (
    as_precise,
    check_array,
    check_gradient,
    check_joint_logits,
    check_logits,
    check_num_samples,
    check_number,
    check_one_hot,
    check_untraced,
    in_precision,
)
from rbst.categorical import _softmax, sample_categorical, softmax_vjp
from rbst.enumeration import evaluate, evaluate_gradient
from rbst.estimators.score_function import check_cost


def leave_one_out(logits: Array, samples: Array, costs: Array) -> Array:
    r"""RLOO: the score times the cost less the mean cost of the other samples.

    .. math:: \frac1K \sum_k \Big( f_k - \frac1{K - 1} \sum_{j \ne k} f_j \Big) (D_k - \pi)

    where

    - :math:`\pi` are the probabilities of ``logits``, shape ``(..., n)``;
    - :math:`D_k` are the one-hot ``samples``, shape ``(K, ..., n)``, K at least 2;
    - :math:`f_k` is ``costs``, of a shape that broadcasts to ``(K, ...)``: a cost that several variables share is
      passed as ``costs[..., None]``.

    Unbiased. Returns an array of the shape and dtype of ``logits``. Salimans and Knowles (2014); Kool, van Hoof and
    Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> D, cost = np.eye(3)[[0, 2]], np.array([1.0, 4.0])
    >>> leave_one_out(np.log([0.2, 0.3, 0.5]), D, cost)
    array([-1.5,  0. ,  1.5])
    """
    logits = check_logits(logits)
    samples = check_samples(samples, logits)
    K, costs = len(samples), check_cost("costs", costs, samples)
    difference = K / (K - 1) * (costs - costs.mean(axis=0))
    advantage = in_precision("the cost less those of the others", difference, logits)
    # The scores D_k - pi: pi drops out, since the advantages add up to zero.
    return (advantage[..., None] * samples).mean(axis=0)


def double_control_variate(
    logits: Array, samples: Array, costs: Array, gradients: Array, *, weight: float = 1.0
) -> Array:
    r"""The double control variate: leave-one-out of what a Taylor expansion leaves, and its mean exactly.

    .. math::

        \frac1K \sum_k \big( r_k - \frac1{K - 1} \sum_{j \ne k} r_j \big) (D_k - \pi) + \alpha J(\pi) \bar g,
        \qquad r_k = f_k - \alpha \sum_l \bar g_{-k, l}^\top (D_{k, l} - \pi_l)

    where, for L variables with one joint cost,

    - :math:`\pi` are the probabilities of ``logits``, shape ``(..., L, n)``;
    - :math:`D_k` are ``samples``, shape ``(K, ..., L, n)``, :math:`f_k` their ``costs``, shape ``(K, ...)``, and
      ``gradients`` those of f at them, shape ``(K, ..., L, n)``;
    - :math:`\bar g` is the mean of the gradients, :math:`\bar g_{-k}` that of the others, :math:`\alpha` is ``weight``; at 1 what is
      left of the cost is the residual of a Taylor expansion. Where the expansion is *added* to the cost, :math:`\alpha` has
      the other sign.

    Unbiased: given the others, :math:`\mathbb E[\bar g_{-k}^\top (D_k - \pi) (D_k - \pi)] = J(\pi) \bar g_{-k}`, and :math:`r_j`
    depends on :math:`D_k` only through :math:`\bar g_{-j}`, whose factor :math:`D_j - \pi` has mean zero. Written for
    Boolean variables by its authors; nothing in it asks for n = 2. Returns an array of the shape and dtype of ``logits``. Titsias
    and Shi, "Double control variates for gradient estimation in discrete latent variable models", AISTATS 2022.
    """
    logits = check_joint_logits(logits)
    weight = weight if is_array(weight) else check_number("weight", weight)
    samples, pi = check_samples(samples, logits), _softmax(logits)
    K, many = len(samples), namespace(logits).broadcast_to(logits, samples.shape)
    gradients = check_gradient(gradients, many, "gradients")
    mean_gradient = gradients.mean(axis=0)
    others = (K * mean_gradient - gradients) / (K - 1)
    expansion = (others * (samples - pi)).sum(axis=(-1, -2))
    costs = check_array("costs", costs, logits)
    if costs.shape != expansion.shape:
        raise ValueError(
            f"costs must have one entry for each sample, shape {expansion.shape}, got {costs.shape}; sum over the "
            "variables"
        )
    residual = as_precise(costs, logits) - weight * expansion
    return leave_one_out(logits, samples, residual[..., None]) + weight * softmax_vjp(
        pi, mean_gradient
    )


def rloo(f: Callable[[Array], Array], logits: Array, *, num_samples: int = 2, rng: Any) -> Array:
    """:func:`leave_one_out` of ``num_samples`` samples of L variables with one joint cost f.

    ``logits`` has shape ``(..., L, n)``, f maps ``(..., L, n)`` to ``(...)``.
    """
    samples = _draw(logits, num_samples, rng)
    return leave_one_out(logits, samples, evaluate(f, samples)[..., None])


def double_cv(
    f: Callable[[Array], Array],
    logits: Array,
    *,
    df_dD: Callable[[Array], Array],
    num_samples: int = 2,
    weight: float = 1.0,
    rng: Any,
) -> Array:
    """:func:`double_control_variate` of ``num_samples`` samples; f as in :func:`rloo`, ``df_dD`` its derivative."""
    samples = _draw(logits, num_samples, rng)
    costs, many = evaluate(f, samples), namespace(logits).broadcast_to(logits, samples.shape)
    gradients = evaluate_gradient(df_dD, samples, many)
    return double_control_variate(logits, samples, costs, gradients, weight=weight)


def _draw(logits: Array, num_samples: int, rng: Any) -> Array:
    check_untraced(logits)
    logits, num_samples = check_joint_logits(logits), check_num_samples(num_samples)
    many = namespace(logits).broadcast_to(logits, (num_samples, *logits.shape))
    return sample_categorical(many, rng)


def check_samples(samples: Array, logits: Array) -> Array:
    """One-hot samples ``(K, ..., n)``, at least two of them, of the dtype of ``logits``."""
    samples = check_array("samples", samples, logits)
    if samples.ndim != logits.ndim + 1 or samples.shape[1:] != logits.shape or len(samples) < 2:
        raise ValueError(
            f"samples must have shape (K, {', '.join(map(str, logits.shape))}) with K >= 2, got {samples.shape}; "
            "one sample has no others: use score_function with a baseline"
        )
    many = namespace(logits).broadcast_to(logits, samples.shape)
    return check_one_hot(samples, many, "samples")
