r"""A variable at a time: sums over some of its categories, and samples without replacement.

The gradient for one variable is an expectation over the others, in which its own categories can be summed,

.. math:: \frac{\partial \mathbb E f}{\partial \theta_l} = \mathbb E_{D_{-l}} \Big[ \sum_i f(e_i, D_{-l}) \, \pi_{l, i} (e_i - \pi_l) \Big] .

With few evaluations of f one sums the likely categories and samples the rest (:func:`sum_and_sample`), or samples
two different ones (:func:`unordered_set`). The other variables stay at one joint sample. Contract: logits ``(..., L,
n)``; f maps one-hot arrays ``(..., L, n)`` to joint costs ``(...)``, and is given arrays with further leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rbst._array import Array, namespace, row_argmax, row_sum
from rbst._checks import check_count, check_joint_logits, check_untraced, in_precision
from rbst.categorical import _one_hot, _softmax, sample_categorical
from rbst.enumeration import evaluate


def costs_one_changed(f: Callable[[Array], Array], D: Array, changed: Array) -> Array:
    """Joint costs with one variable of ``D`` at a time at its ``changed`` category, ``(..., L)`` from ``(..., L, n)``.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: D[..., 0, 1] + 10 * D[..., 1, 1]
    >>> costs_one_changed(f, np.eye(2)[[0, 0]], np.eye(2)[[1, 1]])
    array([ 1., 10.])
    """
    xp, L = namespace(D), D.shape[-2]
    own = xp.eye(L, dtype=D.dtype).reshape(L, *(1,) * (D.ndim - 2), L, 1)
    return xp.moveaxis(evaluate(f, D + own * (changed - D)), 0, -1)


def sum_and_sample(
    f: Callable[[Array], Array], logits: Array, *, num_summed: int = 1, rng: Any
) -> Array:
    r"""Sum over the likeliest categories of each variable, one sample for the rest.

    .. math:: \sum_{i \in C} f_i \, \pi_i (e_i - \pi) + (1 - \pi(C)) f_j (e_j - \pi), \qquad j \sim \pi \text{ outside } C,

    where :math:`f_i` is the cost with this variable at category i and the others at one joint sample, C are its
    ``num_summed`` likeliest categories, and :math:`\pi` are the probabilities of ``logits``, shape ``(..., L, n)``.

    Unbiased; exact for one variable with ``num_summed = n - 1``; more than n are n. Evaluates f for each variable
    ``num_summed + 1`` times. Returns an array of the shape and dtype of ``logits``. Liu, Regier, Tripuraneni, Jordan and McAuliffe,
    "Rao-Blackwellized stochastic gradients for discrete distributions", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: (D @ np.array([1.0, 2.0, 4.0]))[..., 0]
    >>> sum_and_sample(f, np.log([[0.2, 0.3, 0.5]]), num_summed=2, rng=np.random.default_rng(0))
    array([[-0.36, -0.24,  0.6 ]])
    """
    check_untraced(logits)
    logits, num_summed = check_joint_logits(logits), check_count("num_summed", num_summed)
    pi = _softmax(logits)
    xp, n = namespace(logits), logits.shape[-1]
    D, gradient, rest = sample_categorical(logits, rng), xp.zeros_like(pi), pi
    for _ in range(min(num_summed, n)):
        # Where nothing is left, the sample will do, at which f is known to be defined: its weight is zero.
        likeliest = xp.where(row_sum(rest) > 0, _one_hot(row_argmax(rest), n, logits.dtype), D)
        cost = costs_one_changed(f, D, likeliest)[..., None]
        gradient = gradient + cost * row_sum(rest * likeliest) * (likeliest - pi)
        rest = rest * (1 - likeliest)
    left = row_sum(rest)
    # Where nothing is left, any category will do: its weight is zero.
    outside = sample_categorical(xp.where((rest > 0) | (left == 0), logits, -math.inf), rng)
    gradient = gradient + left * costs_one_changed(f, D, outside)[..., None] * (outside - pi)
    return in_precision("the estimate", gradient, logits)


def unordered_set(f: Callable[[Array], Array], logits: Array, *, rng: Any) -> Array:
    r"""Two categories without replacement, whatever their order.

    .. math:: \frac{(1 - \pi_a)(1 - \pi_b)}{2 - \pi_a - \pi_b} \, (f_a - f_b) (e_a - e_b),

    where a and b are the first two categories of an exponential race with the probabilities :math:`\pi` of ``logits``,
    shape ``(..., L, n)``, and :math:`f_a`, :math:`f_b` are the costs with this variable there and the others at their
    first categories. This is what Kool's estimator with its built-in baseline comes to for sets of two,

    .. math::

        \sum_s \nabla \pi_s R(S, s) \Big[ f_s - \sum_{s'} \pi_{s'} R^{\setminus s}(S, s') f_{s'} \Big], \qquad
        R(S, a) = \frac{\pi_b}{(1 - \pi_a) P(S)}, \qquad P(S) = \frac{\pi_a \pi_b}{1 - \pi_a} + \frac{\pi_a \pi_b}{1 - \pi_b},

    with :math:`S = \{a, b\}`, and :math:`R^{\setminus s}` the same ratio once s has been drawn, so that
    :math:`R^{\setminus a}(S, a) = 1`, :math:`R^{\setminus a}(S, b) = (1 - \pi_a) / \pi_b`, and the bracket of a is
    :math:`(1 - \pi_a)(f_a - f_b)`.

    Unbiased; exact for one Boolean variable. Evaluates f L + 1 times. Returns an array of the shape and dtype of ``logits``. Kool,
    van Hoof and Welling, "Estimating gradients for discrete random variables by sampling without replacement", ICLR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: (D @ np.array([1.0, 4.0]))[..., 0]
    >>> unordered_set(f, np.log([[0.2, 0.8]]), rng=np.random.default_rng(0))  # 0.2 * 0.8 * (1 - 4)
    array([[-0.48,  0.48]])
    """
    check_untraced(logits)
    logits = check_joint_logits(logits)
    pi = _softmax(logits)
    xp = namespace(logits)
    a = sample_categorical(logits, rng)
    # The second of a race is a sample of the rest: the race forgets. A certain variable has no second.
    rest = xp.where(a == 1, -math.inf, logits)
    b = sample_categorical(
        xp.where((rest == -math.inf).all(axis=-1, keepdims=True), logits, rest), rng
    )
    not_a, not_b = row_sum(pi * (1 - a)), row_sum(pi * (1 - b))
    weight = not_a * not_b / xp.maximum(not_a + not_b, xp.finfo(logits.dtype).tiny)
    apart = evaluate(f, a)[..., None] - costs_one_changed(f, a, b)
    difference = in_precision("the difference of two costs", apart, logits)
    return weight * difference[..., None] * (a - b)
