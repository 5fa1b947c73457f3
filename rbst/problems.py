r"""Test functions with a name: linear, quadratic, quartic, and the quadratic programme of the paper.

Each is a cost f of L one-hot variables together with its derivative, derived by hand: ``f`` maps
``(..., L, n)`` to ``(...)`` and ``df_dD`` maps ``(..., L, n)`` to the same shape. Both take NumPy, CuPy and
autograd arrays, and points inside the simplex as well as its corners.

The first three see the variables through one number, their mean level

.. math:: s(D) = \frac1L \sum_{l=1}^L \sum_{j=1}^n v_j D_{lj}, \qquad v_j = \frac{j - 1}{n - 1} \in [0, 1].

The programme (Paulus et al., 2021, section 5.2) is a quadratic function of the probabilities p that is
rewritten as an expectation over D, :func:`programme`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rbst._array import Array, getval, namespace
from rbst._checks import check_logits
from rbst.categorical import softmax, softmax_vjp

TARGET = 0.45
"""The level that ``quadratic`` and ``quartic`` aim at.

No corner has it, and so none is stationary, unless :math:`L (n - 1)` is a multiple of 20.
"""


@dataclass(frozen=True)
class Problem:
    """A cost with a name, its derivative, and the formula to print beside them."""

    name: str
    f: Callable[[Array], Array]
    df_dD: Callable[[Array], Array]
    equation: str


def mean_level(D: Array) -> Array:
    r"""The mean level :math:`s(D)` of variables ``(..., L, n)``, shape ``(...)``.

    Examples
    --------
    >>> import numpy as np
    >>> float(mean_level(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])))
    0.5
    """
    xp = namespace(D)
    return xp.mean(xp.sum(D * _levels(D), axis=-1), axis=-1)


def _constants(array: Array) -> Any:
    """The module that makes constants to go with an array, which may be traced."""
    return namespace(getval(array))


def _levels(D: Array) -> Array:
    n = D.shape[-1]
    return _constants(D).arange(n, dtype=D.dtype) / max(n - 1, 1)


def _through_level(slope: Array, D: Array) -> Array:
    r"""Chain rule: :math:`\partial f / \partial D_{lj} = f'(s) \, v_j / L` from the slopes ``(...)``."""
    return slope[..., None, None] * _levels(D) / D.shape[-2] * namespace(D).ones_like(D)


LINEAR = Problem(
    "linear",
    mean_level,
    lambda D: _through_level(namespace(D).ones_like(mean_level(D)), D),
    "f = s",
)
"""The mean level s, linear in each variable."""

QUADRATIC = Problem(
    "quadratic",
    lambda D: (mean_level(D) - TARGET) ** 2,
    lambda D: _through_level(2 * (mean_level(D) - TARGET), D),
    f"f = (s - {TARGET})^2",
)
"""The squared distance of the mean level from 0.45."""

QUARTIC = Problem(
    "quartic",
    lambda D: (mean_level(D) - TARGET) ** 4,
    lambda D: _through_level(4 * (mean_level(D) - TARGET) ** 3, D),
    f"f = (s - {TARGET})^4",
)
"""The fourth power of that distance."""


def programme_value(p: Array) -> Array:
    r"""The quadratic programme, :math:`(p - c)^\top Q (p - c)`.

    where :math:`p` is on the simplex, shape ``(..., n)``, :math:`Q_{ij} = \exp(-2 |i - j|)` and
    :math:`c_i = 1/n`. Returns shape ``(...)``. The minimum is 0, at :math:`p = c`. Paulus et al. (2021),
    section 5.2, with n = 3.

    Examples
    --------
    >>> import numpy as np
    >>> float(programme_value(np.array([1.0, 0.0, 0.0])).round(6))
    0.628452
    """
    xp = namespace(p)
    x = p - 1 / p.shape[-1]
    return xp.sum(x * (x @ _coupling(p)), axis=-1)


def programme_gradient(p: Array) -> Array:
    r"""Gradient of the programme with respect to the logits, :math:`J(p)^\top \, 2 Q (p - c)`.

    ``p`` holds the probabilities, shape ``(..., n)``; the result has the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> programme_gradient(np.array([0.5, 0.25, 0.25])).round(4)
    array([ 0.1178, -0.054 , -0.0638])
    """
    return softmax_vjp(p, 2 * (p - 1 / p.shape[-1]) @ _coupling(p))


def _coupling(p: Array) -> Array:
    xp = _constants(p)
    index = xp.arange(p.shape[-1], dtype=p.dtype)
    return xp.exp(-2.0 * abs(index[:, None] - index))


def programme_matrix(p: Array) -> Array:
    r"""The matrix A(p) that turns the programme into an expectation over D.

    .. math::

        A_{ij}(p) = \frac{(p_i - c_i)(p_j - c_j) \, Q_{ij}}{B_{ij}(p)}, \qquad
        B_{ij}(p) = \mathbb E[(D - c)_i (D - c)_j] = \begin{cases}
            p_i - 2 p_i c_i + c_i^2 & i = j \\ c_i c_j - p_i c_j - c_i p_j & i \ne j \end{cases}

    so that :math:`\mathbb E[(D - c)^\top A(p) (D - c)]` is the programme. ``p`` has shape ``(..., n)``, the
    result ``(..., n, n)``. Raises ``ValueError`` where A is singular, :math:`p_i + p_j = 1/n`; for n = 3
    these are the lines :math:`p_k = 2/3`. Paulus et al. (2021), section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> programme_matrix(np.array([0.5, 0.25, 0.25])).round(4)
    array([[ 0.1   ,  0.0135,  0.0018],
           [ 0.0135,  0.0357, -0.0169],
           [ 0.0018, -0.0169,  0.0357]])
    """
    x, B = p - 1 / p.shape[-1], _second_moments(p)
    return x[..., :, None] * x[..., None, :] * _coupling(p) / B


def _second_moments(p: Array) -> Array:
    """B(p) of :func:`programme_matrix`, never zero."""
    xp = _constants(p)
    n = p.shape[-1]
    pairs = 1 / n**2 - (p[..., :, None] + p[..., None, :]) / n
    diagonal = p - 2 * p / n + 1 / n**2
    same = xp.eye(n, dtype=p.dtype)
    B = same * diagonal[..., None] + (1 - same) * pairs
    if bool((B == 0).any()):
        raise ValueError(
            f"A(p) is singular where two probabilities sum to 1/n = 1/{n}, and such a p came; "
            "move it a little, or start the minimisation in the middle of the simplex"
        )
    return B


def programme(p: Array) -> Problem:
    r"""The programme at the probabilities p as a cost of D, with A(p) held constant.

    .. math:: f(D) = \sum_l (D_l - c)^\top A(p_l) (D_l - c), \qquad \frac{\partial f}{\partial D_l} = 2 A(p_l) (D_l - c)

    where ``p`` has shape ``(..., L, n)``; its leading axes broadcast against those of D.
    :math:`\mathbb E[f(D)]` is ``programme_value`` summed over the variables, but its gradient is not
    the gradient of the programme before ``programme_direct`` is added.

    Examples
    --------
    >>> import numpy as np
    >>> toy = programme(np.array([[0.5, 0.25, 0.25]]))
    >>> float(toy.f(np.array([[0.0, 1.0, 0.0]])).round(5))
    0.03286
    """
    A, c = programme_matrix(p), 1 / p.shape[-1]

    def f(D: Array) -> Array:
        return namespace(D, p).sum((D - c) * _times(A, D - c), axis=(-2, -1))

    def df_dD(D: Array) -> Array:
        return 2 * _times(A, D - c)

    return Problem("programme", f, df_dD, "f = (D - c)' A(p) (D - c)")


def _times(matrix: Array, x: Array) -> Array:
    return namespace(matrix, x).sum(matrix * x[..., None, :], axis=-1)


def programme_direct(p: Array, D: Array) -> Array:
    r"""The direct term :math:`\partial f(D, \theta) / \partial \theta`, through A(p) at a fixed D.

    .. math::

        \frac{\partial f}{\partial p_i} = 2 x_i \sum_j P_{ij} x_j, \qquad
        P_{ij} = \frac{\partial A_{ij}}{\partial p_i} \; (i \ne j), \quad
        P_{ii} = \frac12 \frac{\partial A_{ii}}{\partial p_i}, \quad x = D - c,

    pulled back to the logits by the Jacobian of the softmax. With :math:`N_{ij} = (p_i - c_i)(p_j - c_j)
    Q_{ij}`, so that A = N / B, the quotient rule gives

    .. math::

        P_{ij} = \frac{(p_j - c_j) Q_{ij} B_{ij} + c_j N_{ij}}{B_{ij}^2} \; (i \ne j), \qquad
        P_{ii} = \frac{(p_i - c_i) Q_{ii} B_{ii} - (\frac12 - c_i) N_{ii}}{B_{ii}^2}.

    ``p`` and ``D`` (a corner, or a relaxed point) have shape ``(..., n)``, as has the result. Every
    estimator that evaluates f at D has this term in common.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([0.5, 0.25, 0.25])
    >>> programme_direct(p, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.1102, -0.0457, -0.0644])
    """
    xp = _constants(p)
    c, x = 1 / p.shape[-1], D - 1 / p.shape[-1]
    Q, B = _coupling(p), _second_moments(p)
    N = (p - c)[..., :, None] * (p - c)[..., None, :] * Q
    minus_half_dB = c - xp.eye(p.shape[-1], dtype=p.dtype) / 2
    P = ((p - c)[..., None, :] * Q * B + minus_half_dB * N) / B**2
    return softmax_vjp(p, 2 * x * _times(P, x))


PROBLEMS = ("linear", "quadratic", "quartic", "programme")


def get_problem(name: str, logits: Array) -> Problem:
    """The test function of this name, for logits ``(..., L, n)``; the programme is taken at them.

    Examples
    --------
    >>> import numpy as np
    >>> problem = get_problem("quadratic", np.zeros((1, 3)))
    >>> problem.equation, float(problem.f(np.array([[0.0, 1.0, 0.0]])).round(4))
    ('f = (s - 0.45)^2', 0.0025)
    """
    fixed = {problem.name: problem for problem in (LINEAR, QUADRATIC, QUARTIC)}
    if name in fixed:
        return fixed[name]
    if name == "programme":
        return programme(softmax(check_logits(logits)))
    raise ValueError(f"unknown test function {name!r}; choose one of {', '.join(PROBLEMS)}")
