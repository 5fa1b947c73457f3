r"""Gumbels given the category that won, three ways.

The Gumbel-max trick draws :math:`D` as the argmax of the *located* Gumbels :math:`x = \theta + G`.
Rao-Blackwellizing needs the opposite: :math:`x` given :math:`D`. In terms of i.i.d. :math:`E_j \sim
\mathrm{Exp}(1)`, with :math:`D_i = 1` and :math:`Z = \sum_j \exp \theta_j` (Paulus et al., Eq. 9),

.. math::

    x_i = -\log E_i + \log Z, \qquad
    x_j = -\log\left( \frac{E_j}{\exp \theta_j} + \frac{E_i}{Z} \right) \quad (j \ne i).

:func:`conditional_gumbels` computes this in log space. :func:`relaxed_weights` computes only what a
tempered softmax sees of it, the ratios :math:`\exp((x_j - x_i) / \tau)`.
:func:`rejection_gumbels` knows nothing of Eq. 9 and draws until the argmax agrees: the oracle of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rbst._array import Array, namespace
from rbst._checks import (
    check_exponentials,
    check_logits,
    check_num_samples,
    check_number,
    check_one_hot,
    check_rng,
    check_untraced,
)
from rbst.categorical import _log_softmax, draw_exponentials, positive


def sample_gumbels(logits: Array, rng: Any) -> Array:
    r"""Located Gumbels :math:`\theta + G`, :math:`G_i = -\log E_i`, :math:`E_i \sim \mathrm{Exp}(1)`.

    ``logits`` has shape ``(..., n)``, the result has the same shape and dtype; -inf stays -inf.

    Examples
    --------
    >>> import numpy as np
    >>> sample_gumbels(np.array([0.0, 5.0, -np.inf]), np.random.default_rng(0)).round(3)
    array([0.386, 4.981,  -inf])
    """
    logits = check_logits(logits)
    return _sample_gumbels(logits, check_rng(rng, logits))


def _sample_gumbels(logits: Array, rng: Any) -> Array:
    """:func:`sample_gumbels` of arguments that have been checked."""
    return logits - namespace(logits).log(draw_exponentials(logits, rng))


def conditional_gumbels(logits: Array, D: Array, exponentials: Array) -> Array:
    r"""Located Gumbels :math:`x = \theta + G` given their argmax (Eq. 9, in log space).

    With :math:`D_i = 1` and :math:`\log \pi = \theta - \log Z`,

    .. math::

        x_i = \log Z - \log E_i, \qquad
        x_j = \log Z - \log\left( \frac{E_j}{\pi_j} + E_i \right) \quad (j \ne i)

    where

    - :math:`\theta` is ``logits``, shape ``(..., n)``; D is the one-hot ``D`` of the same shape;
    - :math:`E` is ``exponentials``, shape ``(K, ..., n)``, i.i.d. draws of Exp(1).

    Returns shape ``(K, ..., n)``. The result already contains :math:`\theta`: adding it again counts it
    twice. A draw of exactly 0 stands for a very small one, see ``rbst.categorical.positive``.

    Paulus et al. (2021), Eq. 9; in the form in :math:`E_j / \pi_j` a constant added to the logits reaches
    nothing but :math:`\log Z`.

    Examples
    --------
    >>> import numpy as np
    >>> D = np.array([0.0, 1.0, 0.0])
    >>> conditional_gumbels(np.array([0.3, -0.7, 1.1]), D, np.ones((1, 3))).round(3)
    array([[0.054, 1.579, 0.618]])
    """
    logits = check_logits(logits)
    D = check_one_hot(D, logits)
    E = positive(check_exponentials(exponentials, logits))
    xp = namespace(logits)
    log_pi = _log_softmax(logits)
    log_Z = logits.max(axis=-1, keepdims=True) - log_pi.max(axis=-1, keepdims=True)
    log_E_selected = xp.log((E * D).sum(axis=-1, keepdims=True))
    log_race = xp.where(D == 1, -math.inf, xp.log(E) - log_pi)  # E_j / pi_j, absent for j = i
    return log_Z - xp.logaddexp(log_race, log_E_selected)


def relaxed_weights(
    log_pi_others: Array, E: Array, E_selected: Array, tau: float, work: Array | None = None
) -> Array:
    r"""Weights :math:`w_j = \exp((x_j - x_i) / \tau)` of Eq. 9, overwriting the exponentials ``E``.

    .. math:: w_j = r_j^{1/\tau}, \qquad r_j = \frac{\pi_j E_i}{\pi_j E_i + E_j} \in (0, 1) \quad (j \ne i)

    where

    - :math:`\log \pi_j` is ``log_pi_others``, with -inf at the selected category, so that its weight
      comes out as 0 and the caller adds the :math:`w_i = 1`;
    - :math:`E_j` is ``E``, positive, :math:`E_i` is ``E_selected``; the shapes broadcast to that of ``E``;
    - ``work`` is an array of the shape of ``E`` to work in, by default a new one.

    The tempered softmax is :math:`w / \sum_j w_j`: no Z, one power a draw, for ``tau`` = 1 or 1/2 not even
    that, and nothing that overflows.

    Examples
    --------
    >>> import numpy as np
    >>> log_pi_others = np.array([np.log(0.25), -np.inf])
    >>> relaxed_weights(log_pi_others, np.array([1.0, 2.0]), np.array([2.0]), 0.5).round(4)
    array([0.1111, 0.    ])
    """
    xp = namespace(E)
    pi = xp.exp(log_pi_others)
    if tau <= 1:
        odds = xp.multiply(pi, E_selected, out=work)
        E += odds
        return _power(xp.divide(odds, E, out=E), 1 / tau)
    # A root of pi_j can be far from 0 where pi_j itself is too small to represent, so it is taken
    # apart. Where pi_j is subnormal it no longer counts in the denominator (the quotient would overflow).
    E += xp.multiply(xp.where(pi < xp.finfo(pi.dtype).tiny, 0, pi), E_selected, out=work)
    weights = _power(xp.divide(E_selected, E, out=E), 1 / tau)
    weights *= xp.exp(log_pi_others / tau)
    return weights


def _power(x: Array, exponent: float) -> Array:
    """``x ** exponent`` in place for x in [0, 1], by cheaper means than ``power``.

    At low temperatures most powers underflow. NumPy's ``power`` was seen to take a hundred times as long
    for such an entry; the exponential of a multiple of the logarithm takes the same time for all of them.
    The relative error is a few eps times the logarithm of the result, so weights that matter keep theirs.
    """
    xp = namespace(x)
    if exponent == 1:
        return x
    if exponent == 2:
        return xp.square(x, out=x)
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf, and its exponential 0 again
        xp.log(x, out=x)
    x *= exponent
    return xp.exp(x, out=x)


def rejection_gumbels(
    logits: Array, D: Array, *, num_samples: int, rng: Any, max_draws: int = 10**7
) -> Array:
    r"""Located Gumbels given their argmax, by drawing until the argmax agrees.

    The definition of a conditional law, slow and beyond doubt: Eq. 9 is checked against it.

    ``logits`` and ``D`` have shape ``(n,)`` (one variable), the result ``(num_samples, n)``. On average
    :math:`1 / \pi_i` draws yield one sample; ``ValueError`` if ``max_draws`` of them do not suffice.

    Examples
    --------
    >>> import numpy as np
    >>> D = np.array([0.0, 1.0, 0.0])
    >>> x = rejection_gumbels(
    ...     np.array([0.3, -0.7, 1.1]), D, num_samples=1000, rng=np.random.default_rng(0)
    ... )
    >>> x.shape, bool((x.argmax(axis=-1) == 1).all())
    ((1000, 3), True)
    """
    check_untraced(logits)
    logits, rng = check_logits(logits), check_rng(rng, logits)
    D, num_samples = check_one_hot(D, logits), check_num_samples(num_samples)
    if logits.ndim != 1:
        raise ValueError(
            f"rejection_gumbels takes one variable of shape (n,), got {logits.shape}; loop over the others"
        )
    xp = namespace(logits)
    accepted, found, drawn = [], 0, 0
    at_once = min(2**14, max(1, 2**20 // len(logits)))
    max_draws = int(check_number("max_draws", max_draws, at_least=1))
    while found < num_samples:
        if drawn >= max_draws:
            raise ValueError(
                f"rejection found {found} of {num_samples} samples in {drawn} draws; the selected "
                "category is too rare, use conditional_gumbels or raise max_draws"
            )
        size = min(at_once, max_draws - drawn), len(logits)
        proposals = _sample_gumbels(xp.broadcast_to(logits, size), rng)
        kept = proposals[proposals.argmax(axis=-1) == D.argmax()]
        accepted.append(kept)
        found, drawn = found + len(kept), drawn + len(proposals)
    return xp.concatenate(accepted)[:num_samples]
