r"""Gumbel-Rao: the expectation of straight-through Gumbel-Softmax given the sample.

ST-GS depends on the Gumbels beyond what D says of them. Averaging that part out, with D and hence f
unchanged, keeps the mean and can only lower the variance (Rao-Blackwell; Paulus et al., Propositions
1-3). :func:`gumbel_rao` averages over K draws of the Gumbels given D (Eq. 10);
:func:`exact_gumbel_rao` is its limit for many draws, by quadrature (Eq. 7).

Eq. 10 in three lines, for K = 2 draws E of Exp(1):

>>> import numpy as np
>>> from rbst import conditional_gumbels, softmax
>>> from rbst.categorical import softmax_vjp
>>> logits, D, g = np.log([0.2, 0.3, 0.5]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
>>> E, tau = np.array([[1.0, 2.0, 0.5], [0.3, 0.1, 2.0]]), 0.5
>>> x = conditional_gumbels(logits, D, E)  # theta + G^k given D (Eq. 9)
>>> S = softmax(x, tau)
>>> (softmax_vjp(S, g) / tau).mean(axis=0).round(4)
array([-0.3112, -0.2988,  0.6101])

The Jacobian is evaluated at the located Gumbels :math:`x = \theta + G^k` and nothing more: the draw
itself (Eq. 9) is not differentiated, since D holds still in a conditional expectation. :func:`gumbel_rao` is
these lines in ratios instead of logarithms and in blocks of bounded memory, several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from rbst._array import Array, namespace
from rbst._blocks import block_size, blocks_of_rows, by_category, draw_noise, slice_noise
from rbst._checks import (
    check_exponentials,
    check_num_samples,
    check_pull_back,
    check_rng,
    check_tau,
    check_untraced,
)
from rbst.categorical import _log_softmax
from rbst.gumbel import relaxed_weights
from rbst.rao_blackwell import conditional_mean

SAMPLES_PER_PASS = 8  # each pass over the logits of a block serves this many samples or more


def gumbel_rao(
    logits: Array,
    D: Array,
    df_dD: Array,
    *,
    tau: float,
    num_samples: int | None = None,
    rng: Any = None,
    exponentials: Array | None = None,
) -> Array:
    r"""GR-MCK: the Jacobian of the Gumbel-Softmax, averaged over K draws given D (Eq. 10).

    .. math:: \frac1K \sum_{k=1}^K \frac1\tau J(S^k)^\top g, \qquad S^k = \mathrm{softmax}_\tau(\theta + G^k), \quad G^k \text{ i.i.d. given } D

    where

    - :math:`\theta` is ``logits``, D is ``D`` (one-hot), :math:`g = \partial f(D) / \partial D` is
      ``df_dD``, all of shape ``(..., n)``; :math:`\tau` is ``tau``;
    - K is ``num_samples``, drawn with ``rng``; or the draws are given as ``exponentials``, i.i.d. Exp(1)
      of shape ``(K, ..., n)``, so that another implementation can be handed the same noise.

    The mean is that of ST-GS for every K, the variance never above it. Memory beyond inputs and result
    does not grow with K. Returns an array of the shape and dtype of ``logits``. Raises ``ValueError`` or
    ``TypeError`` for bad input, or unless exactly one source of noise is given.

    Paulus et al. (2021), Eq. 10; the ratios of Eq. 9 as in ``rbst.gumbel.relaxed_weights``.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> E = np.array([[1.0, 2.0, 0.5], [0.3, 0.1, 2.0]])
    >>> gumbel_rao(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5, exponentials=E).round(4)
    array([-0.3112, -0.2988,  0.6101])
    """
    check_untraced(logits, D, df_dD, exponentials)
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    num_samples, noise_of = _choose_noise(logits, num_samples, rng, exponentials)
    tau, xp, n = check_tau(tau), namespace(logits), logits.shape[-1]
    gradient = xp.empty((logits.size // n, n), dtype=logits.dtype)
    size = block_size(xp) // (n * min(num_samples, SAMPLES_PER_PASS))
    for rows, arrays in blocks_of_rows(size, logits, D, df_dD):
        theta, one_hot, g = map(by_category, arrays)
        total = _sum_pull_backs(theta, one_hot, g, tau, noise_of(rows, theta))
        gradient[rows] = total.T / (num_samples * tau)
    return gradient.reshape(logits.shape)


def _sum_pull_backs(
    logits: Array, D: Array, df_dD: Array, tau: float, noise: Iterator[tuple[Array, Array]]
) -> Array:
    r"""Sum over the samples of :math:`J(S^k)^\top g` for logits ``(n, v)`` and noise ``(n, k, v)``.

    With :math:`D_i = 1`, :math:`d = g - g_i` (rows of J sum to zero, so nothing changes, and no large
    common part of g has to cancel), weights :math:`w_j` for the others and :math:`C = 1 + \sum_j w_j`,

    .. math:: (J^\top g)_j = \frac{w_j}{C} \left( d_j - m \right), \quad m = \frac{\sum_j w_j d_j}{C} \quad (j \ne i),
              \qquad (J^\top g)_i = - \sum_{j \ne i} (J^\top g)_j
    """
    xp = namespace(logits)
    log_pi_others = xp.where(D == 1, -math.inf, by_category(_log_softmax(logits.T)))[:, None, :]
    d = df_dD - (df_dD * D).sum(axis=0)
    total = xp.zeros_like(d)
    for E, work in noise:
        E_selected = xp.einsum("nkv,nv->kv", E, D)
        w = relaxed_weights(log_pi_others, E, E_selected, tau, work)
        inverse_C = 1 / (1 + w.sum(axis=0))
        m = xp.einsum("nkv,nv->kv", w, d) * inverse_C
        total += d * xp.einsum("nkv,kv->nv", w, inverse_C)
        total -= xp.einsum("nkv,kv->nv", w, m * inverse_C)
    return total - D * total.sum(axis=0)


def exact_gumbel_rao(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float = 1e-6
) -> Array:
    r"""GR: the Jacobian of the Gumbel-Softmax, averaged over all Gumbels given D (Eq. 7).

    .. math:: \mathbb E\left[ \frac1\tau J(S)^\top g \,\middle|\, D \right], \qquad S = \mathrm{softmax}_\tau(\theta + G)

    where :math:`\theta` is ``logits``, D is ``D`` (one-hot), :math:`g = \partial f(D) / \partial D` is ``df_dD``,
    all of shape ``(..., n)``, :math:`\tau` is ``tau``, and ``rtol`` bounds the error relative to the largest
    entry of each variable's result, as :func:`rbst.conditional_mean` says: this is that mean, under the
    name of an estimator.

    The limit of :func:`gumbel_rao` for K to infinity: the bias of ST-GS, the least variance among them, and
    no random number. Returns an array of the shape and dtype of ``logits``. Paulus et al. (2021), Eq. 7.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> exact_gumbel_rao(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5).round(5)
    array([-0.31696, -0.25518,  0.57214])
    """
    return conditional_mean(logits, D, df_dD, tau=tau, rtol=rtol)


def _choose_noise(
    logits: Array, num_samples: int | None, rng: Any, exponentials: Array | None
) -> tuple[int, Callable[[slice, Array], Iterator[tuple[Array, Array]]]]:
    """K, and the noise for a block of variables, drawn or as given."""
    drawn, given = num_samples is not None or rng is not None, exponentials is not None
    if drawn == given:
        raise ValueError(
            "gumbel_rao takes either num_samples and rng, or exponentials of shape (K, ..., n), got "
            + ("both" if given else "neither")
        )
    if exponentials is not None:
        E = check_exponentials(exponentials, logits).reshape(
            len(exponentials), -1, logits.shape[-1]
        )
        return len(E), lambda rows, like: slice_noise(E[:, rows])
    if num_samples is None:
        raise ValueError("gumbel_rao takes num_samples with rng, got rng alone; pass num_samples=K")
    K, rng = check_num_samples(num_samples), check_rng(rng, logits)
    return K, lambda rows, like: draw_noise(like, K, rng)
