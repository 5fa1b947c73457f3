r"""Categorical variables: probabilities, their derivative, and one-hot samples.

A variable with n categories has logits :math:`\theta \in \mathbb R^n` and probabilities
:math:`\pi = \mathrm{softmax}(\theta)`; a sample is a one-hot vector D. Every array has shape
``(..., n)``: categories last, any number of leading batch axes. Paulus et al. (2021), section 2.
"""

from __future__ import annotations

from typing import Any

from autograd.extend import defvjp, primitive

from rbst._array import Array, Indices, getval, namespace, row_argmax, row_dot, row_max, row_sum
from rbst._checks import check_array, check_logits, check_one_hot, check_rng, check_tau


def softmax(logits: Array, tau: float = 1.0) -> Array:
    r"""Tempered softmax, the probabilities of a categorical variable at ``tau = 1``.

    .. math:: \mathrm{softmax}_\tau(\theta)_i = \frac{\exp(\theta_i / \tau)}{\sum_j \exp(\theta_j / \tau)}

    where

    - :math:`\theta` is ``logits``, shape ``(..., n)``, float32 or float64; -inf marks an impossible
      category;
    - :math:`\tau` is ``tau``, the positive temperature.

    Returns an array of the same shape and dtype. Raises ``TypeError`` for logits that are not floats,
    ``ValueError`` for NaN, +inf, a row of nothing but -inf, or ``tau <= 0``.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.log([0.2, 0.3, 0.5]))
    array([0.2, 0.3, 0.5])
    >>> softmax(np.array([1000.0, 0.0, -np.inf]), tau=0.5)
    array([1., 0., 0.])
    """
    return _softmax(check_logits(logits), check_tau(tau))


def _softmax(logits: Array, tau: float = 1.0) -> Array:
    """:func:`softmax` of logits and a temperature that have been checked."""
    below_largest = logits - row_max(logits)
    weights = namespace(logits).exp(below_largest if tau == 1 else below_largest / tau)
    return weights / row_sum(weights)


def softmax_vjp(probabilities: Array, gradient: Array) -> Array:
    r"""Vector-Jacobian product of the softmax at temperature one.

    .. math:: J(q)^\top g = q \odot (g - q^\top g), \qquad J(q) = \mathrm{diag}(q) - q q^\top

    where :math:`q` is ``probabilities`` and :math:`g` is ``gradient``, both of shape ``(..., n)``. At
    temperature :math:`\tau` divide the result by :math:`\tau`. The entries of a row sum to zero, and a
    constant added to those of g, however large, changes nothing but the rounding of g itself.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_vjp(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    centred = gradient - row_dot(probabilities, gradient)
    # The mean is subtracted a second time: the first left the rounding of what g has in common.
    centred -= row_dot(probabilities, centred)
    return probabilities * centred


def log_softmax(logits: Array) -> Array:
    r"""Log-probabilities :math:`\log \pi_i = \theta_i - \log \sum_j \exp \theta_j`.

    ``logits`` has shape ``(..., n)``; the result has the same shape and dtype, -inf where a logit is
    -inf. Raises as :func:`softmax` does.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([1000.0, 1000.0]))
    array([-0.69314718, -0.69314718])
    """
    return _log_softmax(check_logits(logits))


def _log_softmax(logits: Array) -> Array:
    """:func:`log_softmax` of logits that have been checked."""
    xp = namespace(logits)
    below_largest = logits - row_max(logits)
    return below_largest - xp.log(row_sum(xp.exp(below_largest)))


def log_probability(logits: Array, D: Array) -> Array:
    r"""Log-probability of a one-hot sample, :math:`\log p_\theta(D) = D^\top \theta - \log \sum_j \exp \theta_j`.

    ``logits`` and ``D`` have shape ``(..., n)``, the result has shape ``(...)``: variable by variable.
    Sum over the axis of variables for a joint log-probability. In an autograd graph it is differentiated
    by the logits with ``log_probability_vjp``; D counts as fixed.

    Examples
    --------
    >>> import numpy as np
    >>> float(log_probability(np.log([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 0.0])))  # log 0.3
    -1.2039728043259361
    """
    logits = check_logits(logits)
    return _log_probability(logits, check_one_hot(getval(D), getval(logits)))


@primitive
def _log_probability(logits: Array, D: Array) -> Array:
    xp = namespace(logits)
    return xp.sum(xp.where(D == 1, _log_softmax(logits), 0), axis=-1)  # 0 * -inf would be NaN


def log_probability_vjp(logits: Array, D: Array, gradient: Array) -> Array:
    r"""Vector-Jacobian product of :func:`rbst.log_probability`: :math:`g \, (D - \pi)`.

    ``gradient`` is :math:`g` of shape ``(...)``, the result has shape ``(..., n)``.

    Examples
    --------
    >>> import numpy as np
    >>> log_probability_vjp(np.zeros(2), np.array([1.0, 0.0]), np.float64(3.0))
    array([ 1.5, -1.5])
    """
    logits = check_logits(logits)
    D = check_one_hot(D, logits)
    gradient = check_array("gradient", gradient, logits).astype(logits.dtype)
    return gradient[..., None] * (D - _softmax(logits))


defvjp(
    _log_probability, lambda _, logits, D: lambda g: log_probability_vjp(logits, D, g), argnums=[0]
)


def one_hot(index: Indices, n: int, dtype: Any = "float64") -> Array:
    """One-hot rows: ``index`` of integers ``(...)`` in 0..n-1 becomes ``(..., n)`` with a 1 at each index.

    Examples
    --------
    >>> import numpy as np
    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    xp = namespace(index)
    index = xp.asarray(index)
    if index.dtype.kind not in "iu":
        raise TypeError(f"index must hold integers, got {index.dtype}; argmax returns them")
    if index.size and not bool((index.min() >= 0) & (index.max() < n)):
        raise ValueError(
            f"index must be in 0..{n - 1}, got {int(index.min())}..{int(index.max())}; leave out rows without "
            "a category"
        )
    return _one_hot(index, n, dtype)


def _one_hot(index: Indices, n: int, dtype: Any) -> Array:
    """:func:`one_hot` of indices that are known to be some."""
    return (index[..., None] == namespace(index).arange(n)).astype(dtype)


def sample_categorical(logits: Array, rng: Any) -> Array:
    r"""One-hot samples :math:`D \sim p_\theta`, by the Gumbel-max trick.

    .. math:: D = \text{one-hot of } \arg\max_i (\theta_i + G_i), \qquad G_i = -\log E_i, \quad E_i \sim \mathrm{Exp}(1)

    where :math:`\theta` is ``logits``, shape ``(..., n)``, and ``rng`` is a ``numpy.random.Generator``
    or CuPy's. Returns D with the shape and dtype of ``logits``. An impossible category (logit -inf) is
    never drawn. Paulus et al. (2021), section 2.2; see :func:`rbst.sample_gumbels`.

    Examples
    --------
    >>> import numpy as np
    >>> sample_categorical(np.array([0.0, 1.0, -np.inf]), np.random.default_rng(0))
    array([0., 1., 0.])
    """
    logits, rng = check_logits(logits), check_rng(rng, logits)
    xp = namespace(logits)
    # Below the maximum a shift of all logits has already cancelled, so it cannot cost a digit.
    scores = logits - row_max(logits) - xp.log(draw_exponentials(logits, rng))
    return _one_hot(row_argmax(scores), logits.shape[-1], logits.dtype)


def draw_exponentials(like: Array, rng: Any) -> Array:
    """Positive draws of Exp(1), one for each entry of ``like`` and of its dtype."""
    xp = namespace(like)
    return positive(rng.standard_exponential(size=like.shape, dtype=xp.dtype(like.dtype)))


def positive(exponentials: Array, out: Array | None = None) -> Array:
    """Replace draws of exactly 0 by a number just below the smallest draw that is not 0.

    NumPy's ``standard_exponential`` in float32 returns 0 about once in 2**23 draws. It stands for a number
    below the resolution of the generator, and the replacement is of that size: one far smaller would be
    a Gumbel far too large, and would let a category of probability e**-60 win once in 2**23 draws. The
    smallest positive draw of NumPy is 0.064 times eps in float32 and 0.032 times eps in float64 (the first
    layer of its ziggurat), so the floor of eps / 32 touches no draw but 0.

    Examples
    --------
    >>> import numpy as np
    >>> positive(np.array([0.0, 1e-17, 0.5]))
    array([6.9388939e-18, 1.0000000e-17, 5.0000000e-01])
    """
    xp = namespace(exponentials)
    return xp.maximum(exponentials, xp.finfo(exponentials.dtype).eps / 32, out=out)
