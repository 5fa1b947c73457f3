r"""Exact conditional moments of straight-through Gumbel-Softmax given the sample: K to infinity.

Given :math:`D_i = 1` and the winner's exponential :math:`t = E_i`, the weights of Eq. 9,

.. math:: w_j = r_j^{1/\tau}, \qquad r_j = \frac{\pi_j t}{\pi_j t + E_j} \quad (j \ne i), \qquad w_i = 1,

are independent, and :math:`1 / C^m = \int_0^\infty s^{m-1} e^{-sC} ds / \Gamma(m)` turns the power of
their sum C into a product. So every moment of the Jacobian of :math:`p = w / C` given D is an integral
over t and s alone, for any number of categories n, of products of the one-dimensional means

.. math:: \phi_j = \mathbb E\, e^{-s w_j}, \qquad \psi_j = \mathbb E\, w_j e^{-s w_j}, \qquad \chi_j = \mathbb E\, w_j^2 e^{-s w_j}.

The integrals are trapezoidal sums, exact to the ``rtol`` that the caller asks for. At one node (t, s) of
the grid the three means are smooth functions of one number, :math:`\pi_j`. They are therefore expanded
once, in a few Chebyshev polynomials of a root or logarithm of :math:`\pi_j` (9.11), and the sums over categories that a moment
needs become sums of basis functions: a variable costs n times the length R of the basis, and R times the
number of nodes for each sum.

Paulus et al. (2021), section 4, stops at K samples; docs/derivation.md, sections 9 and 10, has the
derivation, whose numbers the comments cite. Contract: logits, D and df/dD of one shape ``(..., n)``;
given D the variables' noises are independent, so moments are computed variable by variable.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rbst._array import Array, namespace
from rbst._blocks import block_size, blocks_of_rows, by_category
from rbst._checks import (
    as_number,
    check_logits,
    check_one_hot,
    check_pull_back,
    check_tau,
    check_untraced,
    shown,
)
from rbst.boolean import boolean_moments
from rbst.categorical import _log_softmax
from rbst.quadrature import Table, choose_table

SMALLEST_RTOL = 1e-11
COARSEST_RTOL = 0.1
"""Coarser tolerances are tightened to this: the two or three terms that they ask for can be far off."""


def conditional_mean(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float = 1e-6
) -> Array:
    r"""Mean of the ST-GS gradient given D, without Monte Carlo.

    .. math:: \mathbb E\left[ \frac1\tau J(S)^\top g \,\middle|\, D \right]
              = \frac1\tau \int_0^\infty\!\!\int_0^\infty e^{-t} s e^{-s} \prod_{j \ne i} \phi_j \;
              l_a \left( g_a \sum_b l_b - \sum_b l_b g_b \right) ds\, dt, \qquad l_j = \frac{\psi_j}{\phi_j}, \quad l_i = 1

    where

    - :math:`\theta` is ``logits``, D is the one-hot ``D`` with :math:`D_i = 1`, :math:`g = \partial f(D) /
      \partial D` is ``df_dD``, all of shape ``(..., n)``;
    - :math:`\tau` is ``tau``; :math:`S = \mathrm{softmax}_\tau(\theta + G)`;
    - ``rtol`` bounds the error of each variable relative to the largest entry of its result (or to 1e-12
      of the largest of g, where the result is smaller than that). float32 input is answered to
      max(``rtol``, 2e-5) or better. The largest error seen was 0.52 of that, for 1 to 20,000 categories,
      forty temperatures from 1e-3 to 1e4 and logits that are flat, of scales 1 to 30 or -inf.

    Two categories are a function of one number and cost less than one sample, see ``rbst.boolean``.

    Returns shape ``(..., n)`` and the dtype of ``logits``. Raises ``ValueError`` or ``TypeError`` for bad
    input and for ``rtol`` below 1e-11, which float64 cannot promise.

    Paulus et al. (2021), Eq. 7, left there to Monte Carlo; docs/derivation.md, (9.10).

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> conditional_mean(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5).round(5)
    array([-0.31696, -0.25518,  0.57214])
    """
    check_untraced(logits, D, df_dD)
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    tau, rtol = check_tau(tau), check_rtol(rtol)
    if logits.shape[-1] == 2:
        (first,) = boolean_moments(logits, D, df_dD, tau=tau, rtol=rtol, order=1)
        return _one_and_minus_one(first, logits)
    if logits.shape[-1] == 1:  # certain: there is nothing to move
        return namespace(logits).zeros_like(logits)
    table = choose_table(logits, tau, rtol, order=1)
    mean = namespace(logits).empty_like(logits).reshape(-1, logits.shape[-1])
    for rows, variables in _blocks(table, logits, D, df_dD):
        mean[rows] = _mean(variables, table).T
    return mean.reshape(logits.shape)


def conditional_moments(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float = 1e-6
) -> tuple[Array, Array]:
    r"""Mean and mean square of the ST-GS gradient given D.

    .. math:: \mathbb E[h \mid D], \qquad \mathbb E\left[ |h|^2 \,\middle|\, D \right], \qquad h = \frac1\tau J(S)^\top g

    The arguments are those of :func:`conditional_mean`. Returns the mean of shape ``(..., n)`` and the
    mean square of shape ``(...)``; the variance given D, :math:`\mathbb E[|h|^2 | D] - |\mathbb E[h |
    D]|^2`, is what one sample of noise adds to GR (Paulus et al. (2021), Proposition 3). Both are computed
    more accurately than ``rtol``, so that this difference meets it as well, as far as rounding allows: the
    error of the mean square, and with it that of the variance, may always be 5e-12 of the mean square (4e-12
    was seen) or 1e-24 of the largest :math:`g^2`. That counts for a hot variance, which falls like
    :math:`\tau^{-2}` relative to the mean square, and like :math:`\tau^{-4}` if only two categories count. float32
    results have too few digits for the difference. docs/derivation.md, (10.3).

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 4.0])
    >>> mean, square = conditional_moments(np.log([0.2, 0.3, 0.5]), D, g, tau=0.5)
    >>> mean.round(5), float(square.round(5))
    (array([-0.31696, -0.25518,  0.57214]), 0.93545)
    """
    check_untraced(logits, D, df_dD)
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    tau, rtol = check_tau(tau), check_rtol(rtol)
    if logits.shape[-1] == 2:
        first, square = boolean_moments(logits, D, df_dD, tau=tau, rtol=rtol, order=2)
        square = 2 * square.reshape(logits.shape[:-1]).astype(logits.dtype)
        return _one_and_minus_one(first, logits), square
    xp = namespace(logits)
    if logits.shape[-1] == 1:
        return xp.zeros_like(logits), xp.zeros_like(logits[..., 0])
    table = choose_table(logits, tau, rtol, order=2)
    mean = xp.empty_like(logits).reshape(-1, logits.shape[-1])
    square = xp.empty_like(mean[:, 0])
    for rows, variables in _blocks(table, logits, D, df_dD):
        mean[rows] = _mean(variables, table).T
        square[rows] = _mean_square(variables, table)
    return mean.reshape(logits.shape), square.reshape(logits.shape[:-1])


def _one_and_minus_one(first: Array, like: Array) -> Array:
    """Two entries that sum to zero, from the first of them, in the shape and dtype of ``like``."""
    pair = namespace(like).empty((first.size, 2), dtype=like.dtype)
    pair[:, 0] = first
    pair[:, 1] = -first
    return pair.reshape(like.shape)


def conditional_covariance(
    logits: Array, D: Array, df_dD: Array, *, tau: float, rtol: float = 1e-6
) -> Array:
    r"""Covariance of the ST-GS gradient given D.

    .. math:: \mathbb E[h h^\top \mid D] - \mathbb E[h \mid D]\, \mathbb E[h \mid D]^\top, \qquad h = \frac1\tau J(S)^\top g

    The arguments are those of :func:`conditional_mean`; returns shape ``(..., n, n)``. Rows sum to zero,
    the trace is the variance of :func:`conditional_moments`, whose words on accuracy hold here as well.
    docs/derivation.md, (10.6).

    Examples
    --------
    >>> import numpy as np
    >>> D, g = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    >>> conditional_covariance(np.zeros(2), D, g, tau=0.5).round(5)
    array([[ 0.03156, -0.03156],
           [-0.03156,  0.03156]])
    """
    check_untraced(logits, D, df_dD)
    logits, D, df_dD = check_pull_back(logits, D, df_dD)
    table = choose_table(logits, check_tau(tau), check_rtol(rtol), order=2)
    n = logits.shape[-1]
    covariance = namespace(logits).empty((logits.size // n, n, n), dtype=logits.dtype)
    for rows, variables in _blocks(table, logits, D, df_dD, n**2):
        mean = _mean(variables, table).T
        covariance[rows] = _mean_product(variables, table) - mean[:, :, None] * mean[:, None, :]
    return covariance.reshape(*logits.shape, n)


def jacobian_moments(
    logits: Array, D: Array, *, tau: float, rtol: float = 1e-6
) -> tuple[Array, Array]:
    r"""Moments of the Jacobian itself given D, to be contracted with any number of gradients g.

    .. math:: M_{ab} = \mathbb E[J_{ab} \mid D], \qquad Q_{abc} = \mathbb E[J_{ab} J_{ac} \mid D], \qquad J = \frac1\tau J(S)

    so that for :math:`h = J^\top g` (J is symmetric)

    .. math:: \mathbb E[h_a \mid D] = \sum_b M_{ab} g_b, \qquad \mathbb E[h_a^2 \mid D] = \sum_{bc} Q_{abc} g_b g_c .

    They depend on the variable and its category only: several variables are diagnosed with one call
    for each category, not one for each joint outcome. ``logits`` and ``D`` have shape ``(..., n)``.
    Returns M of shape ``(..., n, n)`` and Q of shape ``(..., n, n, n)``, which suits up to a few dozen
    categories. Centre g, subtracting :math:`g_i`, before a contraction: nothing changes but rounding.

    Examples
    --------
    >>> import numpy as np
    >>> M, Q = jacobian_moments(np.zeros(2), np.array([0.0, 1.0]), tau=0.5)
    >>> M.round(4)  # 1 - pi / 4
    array([[ 0.2146, -0.2146],
           [-0.2146,  0.2146]])
    """
    check_untraced(logits, D)
    logits = check_logits(logits)
    D = check_one_hot(D, logits)
    table = choose_table(logits, check_tau(tau), check_rtol(rtol), order=2)
    xp = namespace(logits)
    n = logits.shape[-1]
    first = xp.empty((logits.size // n, n, n), dtype=logits.dtype)
    second = xp.empty((logits.size // n, n, n, n), dtype=logits.dtype)
    for rows, variables in _blocks(table, logits, D, xp.zeros_like(logits), n**3):
        first[rows], second[rows] = _jacobian_moments(variables, table)
    return first.reshape(*logits.shape, n), second.reshape(*logits.shape, n, n)


def check_rtol(rtol: float) -> float:
    """A relative tolerance that float64 can promise, at most :data:`COARSEST_RTOL`."""
    if not isinstance(rtol, numbers.Real) or isinstance(rtol, bool):
        raise TypeError(f"rtol must be a number, got {type(rtol).__name__}; 1e-6 is the default")
    number = as_number(rtol)
    if not SMALLEST_RTOL <= number < 1:
        raise ValueError(
            f"rtol must lie in [1e-11, 1), got {shown(rtol)}; rounding in float64 alone costs about "
            "1e-12, so no less than 1e-11 can be promised"
        )
    return min(number, COARSEST_RTOL)


# --- One block of v variables: sums over categories, then over the nodes of the grid -----------------


@dataclass(frozen=True)
class _Block:
    """A block of v variables: what its moments are made of."""

    D: Array  # (n, v)
    d: Array  # g - g_i, (n, v): rows of J sum to zero, so nothing changes, and nothing large cancels
    basis: Array  # (R, n, v) of log_phi and mean, zero for the selected category
    to_square: Array  # (n, v): times this, the basis of square and variance


def _blocks(
    table: Table, logits: Array, D: Array, df_dD: Array, result_size: int = 0
) -> Iterator[tuple[slice, _Block]]:
    """The variables in blocks of bounded memory, in the precision of the table.

    ``result_size`` is the number of entries of the result for one variable, where it is large.
    """
    xp, dtype = namespace(logits), table.weight.dtype
    elements = block_size(xp) * 4 // dtype.itemsize  # the same memory in either precision
    size = elements // max(table.weight.size, logits.shape[-1] * len(table.mean), result_size)
    for rows, arrays in blocks_of_rows(size, logits, D, df_dD):
        block_logits, block_D, g = (array.astype(dtype) for array in arrays)
        log_pi_others = xp.where(block_D == 1, -math.inf, _log_softmax(block_logits))
        d = g - (g * block_D).sum(axis=-1, keepdims=True)
        block_D, d, log_pi_others = map(by_category, (block_D, d, log_pi_others))
        yield rows, _Block(block_D, d, *table.basis(log_pi_others))


def _mean(block: _Block, table: Table) -> Array:
    r"""E[h | D] of shape ``(n, v)``, by (9.10) with :math:`S_k = \sum_b d_b^k \, l_b`."""
    xp = namespace(block.d)
    basis_sum = block.basis.sum(axis=1).T
    basis_dot_d = xp.einsum("rjv,jv->vr", block.basis, block.d)
    weight = _weigh(basis_sum, table)
    S0 = basis_sum @ table.mean
    S0 += 1  # l_i = 1, and d_i = 0
    S1 = basis_dot_d @ table.mean
    S0 *= weight
    S1 *= weight
    sum_l_S0 = xp.einsum("rjv,vr->jv", block.basis, S0 @ table.mean.T)
    sum_l_S1 = xp.einsum("rjv,vr->jv", block.basis, S1 @ table.mean.T)
    mean = block.d * sum_l_S0 - sum_l_S1
    # The selected category has l_i = 1. Minus the sum of the others would be the same, n times less accurate.
    mean -= block.D * (S1 @ xp.ones_like(table.weight))
    return mean


def _weigh(basis_sum: Array, table: Table) -> Array:
    r"""Weights of the nodes for each variable, ``(v, G)``: quadrature weight times :math:`\prod_j \phi_j`."""
    xp = namespace(basis_sum)
    weight = basis_sum @ table.log_phi
    xp.exp(weight, out=weight)
    weight *= table.weight
    return weight


def _mean_square(block: _Block, table: Table) -> Array:
    r"""E[|h|^2 | D] of shape ``(v,)``, by (10.3) with the sums over a and b both taken apart.

    With :math:`S_k = \sum_b d_b^k l_b`, :math:`V_k = \sum_b d_b^k (l^{(2)}_b - l_b^2)` and :math:`Q_k =
    \sum_a d_a^k l^{(2)}_a`, summing :math:`l^{(2)}_a [(d_a S_0 - S_1)^2 + d_a^2 V_0 - 2 d_a V_1 + V_2]` over a:

    .. math:: Q_2 (S_0^2 + V_0) - 2 Q_1 (S_0 S_1 + V_1) + Q_0 (S_1^2 + V_2)
    """
    xp = namespace(block.d)
    B0, B1 = (xp.einsum("rjv,jv->vr", block.basis, block.d**k) for k in range(2))
    S0, S1 = 1 + B0 @ table.mean, B1 @ table.mean
    weight = _weigh(B0, table) * table.weight_ratio
    B0, B1, B2 = (
        xp.einsum("rjv,jv->vr", block.basis, block.to_square * block.d**k) for k in range(3)
    )
    V0, V1, V2 = B0 @ table.variance, B1 @ table.variance, B2 @ table.variance
    Q0, Q1, Q2 = 1 + B0 @ table.square, B1 @ table.square, B2 @ table.square
    integrand = Q2 * (S0**2 + V0) - 2 * Q1 * (S0 * S1 + V1) + Q0 * (S1**2 + V2)
    return (weight * integrand).sum(axis=-1)


def _at_nodes(
    block: _Block, table: Table, pairs: bool = False
) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
    r"""The nodes in chunks of g: weights for :math:`C^{-2}` and :math:`C^{-4}`, :math:`l_j`, :math:`l^{(2)}_j`, :math:`l^{(2)}_j - l_j^2`.

    The weights have shape ``(v, g)``, the functions ``(v, n, g)``; for the selected category they are 1, 1, 0.
    """
    weight = _weigh(block.basis.sum(axis=1).T, table)
    basis, selected = block.basis.transpose(2, 1, 0), block.D.T[:, :, None]
    square_basis = basis * block.to_square.T[:, :, None]
    v, n, _ = basis.shape
    size = max(1, max(block_size(namespace(basis)), 2**20) // (v * n * (n if pairs else 1)))
    for start in range(0, table.weight.size, size):
        nodes = slice(start, start + size)
        yield (
            weight[:, nodes],
            weight[:, nodes] * table.weight_ratio[nodes],
            basis @ table.mean[:, nodes] + selected,
            square_basis @ table.square[:, nodes] + selected,
            square_basis @ table.variance[:, nodes],
        )


def _mean_product(block: _Block, table: Table) -> Array:
    r"""E[h h' | D] of shape ``(v, n, n)``.

    With S and V as in :func:`_mean_square`, :math:`u_a = d_a S_0 - S_1` and :math:`\kappa = l^{(2)} - l^2`, the
    integrand of :math:`\mathbb E[h_a h_b | D]` is, for :math:`a \ne b`,

    .. math:: l_a l_b (u_a u_b + d_a d_b V_0 - (d_a + d_b) V_1 + V_2)
              - (d_a - d_b)(\kappa_a u_a l_b - l_a \kappa_b u_b) - (d_a - d_b)^2 \kappa_a \kappa_b

    and for :math:`a = b` the first factor, :math:`l_a^2`, becomes :math:`l^{(2)}_a = l_a^2 + \kappa_a`.
    """
    xp = namespace(block.d)
    d = block.d.T[:, :, None]
    difference = d - d.swapaxes(1, 2)
    identity = xp.eye(d.shape[1], dtype=d.dtype)
    product: Any = 0
    for _, weight, mean, _, variance in _at_nodes(block, table):
        weight = weight[:, None, :]
        S0, S1 = ((d**k * mean).sum(axis=1, keepdims=True) for k in range(2))
        V0, V1, V2 = ((d**k * variance).sum(axis=1, keepdims=True) for k in range(3))
        u = d * S0 - S1
        product += _outer(weight * mean * u, mean * u)
        product += d * d.swapaxes(1, 2) * _outer(weight * V0 * mean, mean)
        product -= (d + d.swapaxes(1, 2)) * _outer(weight * V1 * mean, mean)
        product += _outer(weight * V2 * mean, mean)
        crossed = _outer(weight * variance * u, mean)
        product -= difference * (crossed - crossed.swapaxes(1, 2))
        product -= difference**2 * _outer(weight * variance, variance)
        own = variance * (u**2 + d**2 * V0 - 2 * d * V1 + V2)
        product += identity * (weight * own).sum(axis=2, keepdims=True)
    return product


def _jacobian_moments(block: _Block, table: Table) -> tuple[Array, Array]:
    r"""E[J_ab | D] of shape ``(v, n, n)`` and E[J_ab J_ac | D] of shape ``(v, n, n, n)``.

    Row a of J is :math:`\frac1\tau \sum_{b \ne a} p_a p_b (e_a - e_b)`, so both follow from the mixed moments
    :math:`\mathbb E[p_a p_b | D]` (9.4) and :math:`\mathbb E[p_a^2 p_b p_c | D]` (10.2) with b and c other than a.
    """
    xp = namespace(block.d)
    identity = xp.eye(len(block.d), dtype=block.d.dtype)
    pairs: Any = 0
    quadruples: Any = 0
    for weight, weight_4, mean, square, _ in _at_nodes(block, table, pairs=True):
        pairs += _outer(weight[:, None, :] * mean, mean)
        weighted = weight_4[:, None, :] * square
        distinct = _outer(weighted[:, :, None, :] * mean[:, None, :, :], mean[:, None, :, :])
        equal = _outer(weighted, square)[:, :, :, None]
        quadruples += xp.where(identity == 1, equal, distinct)
    pairs *= 1 - identity
    quadruples *= (1 - identity)[:, :, None] * (1 - identity)[:, None, :]
    first = identity * pairs.sum(axis=-1, keepdims=True) - pairs
    row = quadruples.sum(axis=-1)  # sum over c of E[p_a^2 p_b p_c], (v, a, b)
    same_b, same_c = identity[:, :, None], identity[:, None, :]
    second = quadruples - same_b * row[:, :, None, :] - same_c * row[:, :, :, None]
    second += same_b * same_c * row.sum(axis=-1)[:, :, None, None]
    return first, second


def _outer(x: Array, y: Array) -> Array:
    """Sum over the nodes of products of all pairs: ``(..., n, g)`` and ``(..., m, g)`` to ``(..., n, m)``."""
    return x @ y.swapaxes(-1, -2)
