r"""Costs at coupled samples: ARM and DisARM for Boolean variables, ARSM for any number of categories.

Two samples made of the same noise, one by inverting it, disagree where the logits are undecided, and there the
difference of their costs says which way to go. No derivative of f is needed, and the constant part of the cost drops
out. Contract: logits ``(..., L, n)``; f maps one-hot arrays ``(..., L, n)`` to joint costs ``(...)``.

With Boolean variables (n = 2), :math:`\phi = \theta_2 - \theta_1` is the logit of the second category, and a gradient h
for :math:`\phi` is the gradient :math:`(-h, h)` for the two logits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from rbst._array import Array, namespace, row_sum
from rbst._checks import check_joint_logits, check_rng, check_untraced, in_precision
from rbst.categorical import _one_hot, _softmax, draw_exponentials
from rbst.enumeration import evaluate


def arm(f: Callable[[Array], Array], logits: Array, *, rng: Any) -> Array:
    r"""ARM: augment, reinforce, merge.

    .. math:: h = \big( f(b) - f(\tilde b) \big) \left( u - \tfrac12 \right), \qquad b = [u > \sigma(-\phi)], \quad \tilde b = [u < \sigma(\phi)],
              \quad u \sim U(0, 1)^L

    for the logits :math:`\phi = \theta_2 - \theta_1` of L Boolean variables, ``logits`` of shape ``(..., L, 2)``;
    returns :math:`(-h, h)` in this shape. Unbiased; two evaluations of f. Yin and Zhou, "ARM: Augment-REINFORCE-merge
    gradient for stochastic binary networks", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: (D @ np.array([1.0, 4.0]))[..., 0]
    >>> arm(f, np.zeros((1, 2)), rng=np.random.default_rng(0)).round(4)
    array([[-0.4109,  0.4109]])
    """
    u, b, b_tilde, _ = _antithetic_pair(logits, rng)
    difference = _difference(f, b, b_tilde)
    h = difference[..., None] * (u - 0.5)
    return namespace(h).stack([-h, h], axis=-1)


def disarm(f: Callable[[Array], Array], logits: Array, *, rng: Any) -> Array:
    r"""DisARM: the mean of ARM given the two samples.

    .. math:: h = \tfrac12 \big( f(b) - f(\tilde b) \big) (-1)^{\tilde b} [b \ne \tilde b] \, \sigma(|\phi|)

    with the samples of :func:`arm`, for ``logits`` of shape ``(..., L, 2)``; returns :math:`(-h, h)`. Unbiased; two
    evaluations of f, and never a larger variance than ARM's. Dong, Mnih and Tucker, "DisARM: An antithetic gradient
    estimator for binary latent variables", NeurIPS 2020; Yin, Ho, Yan, Qian and Zhou (2020), as U2G.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: (D @ np.array([1.0, 4.0]))[..., 0]
    >>> disarm(f, np.zeros((1, 2)), rng=np.random.default_rng(0))
    array([[-0.75,  0.75]])
    """
    _, b, b_tilde, likelier = _antithetic_pair(logits, rng)
    difference = _difference(f, b, b_tilde)
    # (-1)^b~ where the two differ: 1 for b = 1, b~ = 0 and -1 for the reverse; 0 where they agree.
    h = difference[..., None] * (b - b_tilde)[..., 1] * likelier / 2
    return namespace(h).stack([-h, h], axis=-1)


def _difference(f: Callable[[Array], Array], b: Array, b_tilde: Array) -> Array:
    return in_precision("the difference of two costs", evaluate(f, b) - evaluate(f, b_tilde), b)


def _antithetic_pair(logits: Array, rng: Any) -> tuple[Array, Array, Array, Array]:
    """u ``(..., L)``, the two one-hot samples that it makes, and the probability of the likelier outcome."""
    check_untraced(logits)
    logits = check_joint_logits(logits)
    if logits.shape[-1] != 2:
        raise ValueError(
            f"logits must be those of Boolean variables, (..., L, 2), got {logits.shape}; for more categories use "
            "arsm, rloo or unordered-set"
        )
    xp, pi = namespace(logits), _softmax(logits)
    u = check_rng(rng, logits).random(size=logits.shape[:-1], dtype=xp.dtype(logits.dtype))
    b, b_tilde = u >= pi[..., 0], u < pi[..., 1]  # u may be 0, never 1
    first, second = (_one_hot(xp.asarray(x, int), 2, logits.dtype) for x in (b, b_tilde))
    return u, first, second, pi.max(axis=-1)


def arsm(f: Callable[[Array], Array], logits: Array, *, rng: Any) -> Array:
    r"""ARSM: ARM for categories, by swapping the noise of every two of them.

    .. math:: h_c = \sum_j \Big( F_{cj} - \frac1n \sum_m F_{mj} \Big) \left( \tfrac1n - \varpi_j \right), \qquad
              F_{cj} = f\big( \arg\min_i (\log \varpi_i^{c \rightleftharpoons j} - \theta_i) \big), \quad \varpi \sim \mathrm{Dir}(1),

    where :math:`\varpi^{c \rightleftharpoons j}` has the entries c and j exchanged, in all L variables at once, and
    :math:`\theta` is ``logits``, shape ``(..., L, n)``. Unbiased; :math:`n (n - 1) / 2 + 1` evaluations of f. Yin, Yue
    and Zhou, "ARSM: Augment-REINFORCE-swap-merge estimator for gradient backpropagation through categorical
    variables", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> f = lambda D: (D @ np.array([1.0, 2.0, 4.0]))[..., 0]
    >>> arsm(f, np.log([[0.2, 0.3, 0.5]]), rng=np.random.default_rng(0)).round(4)
    array([[-0.6643, -0.3425,  1.0069]])
    """
    check_untraced(logits)
    logits = check_joint_logits(logits)
    n = logits.shape[-1]
    xp, possible = namespace(logits), _softmax(logits) > 0
    E = draw_exponentials(logits, check_rng(rng, logits))  # varpi = E / sum E: the same argmin
    pairs = list(itertools.combinations(range(n), 2))
    orders = [list(range(n))]
    for c, j in pairs:
        orders.append([j if i == c else c if i == j else i for i in range(n)])
    swapped = xp.stack([E[..., order] for order in xp.asarray(orders)])
    winners = (xp.log(swapped) - logits).argmin(axis=-1)
    costs = evaluate(f, _one_hot(winners, n, logits.dtype))
    F = [
        [costs[0] if c == j else costs[1 + pairs.index((min(c, j), max(c, j)))] for j in range(n)]
        for c in range(n)
    ]
    F = xp.stack([xp.stack(row, axis=-1) for row in F], axis=-2)[..., None, :, :]  # (..., 1, c, j)
    centred = in_precision("the cost less the mean", F - F.mean(axis=-2, keepdims=True), logits)
    h = (centred * (1 / n - E / row_sum(E))[..., None, :]).sum(axis=-1)
    # An impossible category has gradient 0; what it got goes to the others, so that rows still sum to zero.
    h = xp.where(possible, h, 0)
    return xp.where(possible, h - row_sum(h) / row_sum(possible.astype(h.dtype)), 0)
