r"""Straight-through estimators: the derivative of a softmax put in place of that of a sample.

A one-hot sample D does not move smoothly with the logits. Straight-through estimators take
:math:`g = \partial f(D) / \partial D` at the sample and pull it back through the Jacobian of a softmax.
They evaluate f once, at a corner of the simplex; they differ in *where* the softmax stands (Paulus et
al., Eqs. 5 and 6). Contract: ``(logits, D, df_dD)`` of one shape ``(..., n)`` in, the same shape out.
"""

from __future__ import annotations

from typing import Any

from rbst._array import Array
from rbst._checks import check_pull_back, check_tau
from rbst.categorical import _softmax, softmax_vjp
from rbst.estimators.gumbel_rao import gumbel_rao


def straight_through(logits: Array, D: Array, df_dD: Array, *, tau: float = 1.0) -> Array:
    r"""ST: the Jacobian of the tempered softmax at the logits (Eq. 5).

    .. math:: \frac1\tau J(\mathrm{softmax}_\tau(\theta))^\top g, \qquad J(q) = \mathrm{diag}(q) - q q^\top

    where

    - :math:`\theta` is ``logits``, shape ``(..., n)``; ``D`` is the one-hot sample, of the same shape,
      which enters only through
    - :math:`g = \partial f(D) / \partial D`, ``df_dD``, of the same shape;
    - :math:`\tau` is ``tau``; at 1 this is the estimator of Bengio et al. (2013), and training with a
      falling ``tau`` is the slope annealing of Chung, Ahn and Bengio (ICLR 2017).

    Exact in the mean at ``tau = 1`` for an f that is linear in each of any number of independent
    variables, biased in general. Returns an estimate of :math:`\partial \mathbb E[f] / \partial \theta` of
    the shape and dtype of ``logits``. Paulus et al. (2021), Eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> straight_through(np.log([0.2, 0.3, 0.5]), D, g)
    array([-0.36, -0.24,  0.6 ])
    """
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    tau = check_tau(tau)
    return softmax_vjp(_softmax(logits, tau), df_dD) / tau


def st_gumbel_softmax(logits: Array, D: Array, df_dD: Array, *, tau: float, rng: Any) -> Array:
    r"""ST-GS: the Jacobian of the Gumbel-Softmax sample that is coupled with D (Eq. 6).

    .. math:: \frac1\tau J(S)^\top g, \qquad S = \mathrm{softmax}_\tau(\theta + G), \quad D = \text{one-hot of } \arg\max_i (\theta_i + G_i)

    where :math:`\theta`, D and :math:`g` are ``logits``, ``D`` and ``df_dD``, all of shape ``(..., n)``, and
    ``tau`` is the temperature. D is given, so :math:`G` is drawn from its law given D, which leaves the
    joint law as it is: this is :func:`rbst.gumbel_rao` with one sample (Proposition 2, K = 1).

    Biased. Returns an array of the shape and dtype of ``logits``. Jang et al. (2017); Paulus et al. (2021), Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> rng = np.random.default_rng(1)
    >>> st_gumbel_softmax(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5, rng=rng).round(4)
    array([-0.4855, -0.645 ,  1.1305])
    """
    return gumbel_rao(logits, D, df_dD, tau=tau, num_samples=1, rng=rng)
