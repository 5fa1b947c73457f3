r"""REINFORCE less something similar whose mean is known: MuProp, REBAR and RELAX.

The noise of REINFORCE is that of the cost. A function of D that follows f closely can be subtracted from the cost if
its own gradient is added back. MuProp subtracts f's tangent plane at the mean; REBAR subtracts f at the relaxed
sample; RELAX any function with a derivative, which may be learned. All are unbiased, whatever they subtract. Contract: logits ``(...,
L, n)``; f maps ``(..., L, n)`` to joint costs ``(...)``, inside the simplex too, and ``df_dD`` is its derivative there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbst._array import Array, namespace, row_argmax, row_max, row_sum
from rbst._checks import (
    check_gradient,
    check_joint_logits,
    check_number,
    check_rng,
    check_tau,
    check_untraced,
    in_precision,
)
from rbst.categorical import (
    _one_hot,
    _softmax,
    draw_exponentials,
    sample_categorical,
    softmax_vjp,
)
from rbst.enumeration import check_costs, evaluate, evaluate_gradient
from rbst.gumbel import conditional_gumbels, sample_gumbels

Function = Callable[[Array], Array]


def muprop(f: Function, logits: Array, *, df_dD: Function, rng: Any) -> Array:
    r"""MuProp: the tangent plane of f at the mean as the control variate.

    .. math:: \big( f(D) - f(\pi) - f'(\pi)^\top (D - \pi) \big) (D - \pi) + J(\pi) f'(\pi), \qquad D \sim \pi

    where :math:`\pi` are the probabilities of ``logits``, shape ``(..., L, n)``; the product with :math:`f'` sums
    over all L variables, J is each variable's. Unbiased. One evaluation of f at D, one of f and its derivative at
    :math:`\pi`. Gu, Levine, Sutskever and Mnih, "MuProp: Unbiased backpropagation for stochastic neural networks",
    ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.array([1.0, 2.0, 4.0])
    >>> f, df = lambda D: (D @ weights)[..., 0], lambda D: 0 * D + weights
    >>> rng = np.random.default_rng(0)
    >>> muprop(f, np.log([[0.2, 0.3, 0.5]]), df_dD=df, rng=rng).round(6)  # linear: no noise is left
    array([[-0.36, -0.24,  0.6 ]])
    """
    check_untraced(logits)
    logits = check_joint_logits(logits)
    pi = _softmax(logits)
    D = sample_categorical(logits, rng)
    slope = evaluate_gradient(df_dD, pi, logits)
    difference = evaluate(f, D) - evaluate(f, pi) - (slope * (D - pi)).sum(axis=(-1, -2))
    residual = in_precision("the cost less its tangent plane", difference, logits)
    return residual[..., None, None] * (D - pi) + softmax_vjp(pi, slope)


def relax(
    f: Function,
    logits: Array,
    *,
    control: tuple[Function, Function] | None = None,
    df_dD: Function | None = None,
    tau: float = 1.0,
    rng: Any,
) -> Array:
    r"""RELAX: any differentiable function of the located Gumbels as the control variate.

    .. math:: \big( f(D) - c(\tilde z) \big) (D - \pi) + \frac{\partial c(z)}{\partial \theta} - \frac{\partial c(\tilde z)}{\partial \theta}

    where :math:`z = \theta + G` are located Gumbels, D their argmax, :math:`\tilde z` another draw of them given D
    (Eq. 9), and

    - :math:`\theta` is ``logits``, shape ``(..., L, n)``;
    - ``control`` is c, from ``(..., L, n)`` to ``(...)``, and its derivative; what c computes may be learned,
      with the variance of the estimate as the loss. By default it is that of :func:`rebar`, which needs
      ``df_dD`` and ``tau``.

    Unlike in Gumbel-Rao the derivative *does* run through Eq. 9, see ``conditional_gumbels_vjp``. Unbiased. Grathwohl,
    Choi, Wu, Roeder and Duvenaud, "Backpropagation through the void", ICLR 2018.
    """
    check_untraced(logits)
    logits, rng = check_joint_logits(logits), check_rng(rng, logits)
    logits = logits - row_max(logits)  # a shift changes nothing, and would cost z its digits
    if control is None:
        if df_dD is None:
            raise ValueError("relax needs control or df_dD, got neither; pass the derivative of f")
        control = relaxed_cost(f, df_dD, tau)
    try:
        c, dc = control
    except (TypeError, ValueError):
        raise TypeError(
            f"control must be a pair of functions, c and its derivative, got {type(control).__name__}"
        ) from None
    z = sample_gumbels(logits, rng)
    xp = namespace(logits)
    D = _one_hot(row_argmax(z), logits.shape[-1], logits.dtype)
    E = draw_exponentials(xp.broadcast_to(logits, (1, *logits.shape)), rng)
    z_tilde = conditional_gumbels(logits, D, E)[0]
    difference = evaluate(f, D) - check_costs(c(z_tilde), logits.shape[:-2], "control")
    residual = in_precision("the cost less the control variate", difference, logits)
    score = residual[..., None, None] * (D - _softmax(logits))
    slope, slope_tilde = (
        check_gradient(dc(x), logits, "the derivative of control") for x in (z, z_tilde)
    )
    return score + slope - conditional_gumbels_vjp(logits, D, E[0], slope_tilde)


def conditional_gumbels_vjp(logits: Array, D: Array, E: Array, gradient: Array) -> Array:
    r"""Vector-Jacobian product of Eq. 9, the located Gumbels given D, with the noise held.

    .. math:: (1 - r) \odot v + \pi \, (r^\top v), \qquad r_j = \frac{\pi_j E_i}{\pi_j E_i + E_j} \quad (j \ne i), \quad r_i = 1, \quad D_i = 1

    where v is ``gradient``, E are the exponentials of the draw and :math:`\pi` the probabilities of ``logits``, all of
    shape ``(..., n)``: :math:`x_j = -\log(E_j e^{-\theta_j} + E_i / Z)` moves with :math:`\theta_j` by :math:`1 - r_j` and
    with :math:`\log Z` by :math:`r_j`. This is the derivative that Gumbel-Rao must *not* contain.

    Examples
    --------
    >>> import numpy as np
    >>> D, E = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    >>> conditional_gumbels_vjp(np.zeros(2), D, E, np.array([1.0, 0.0])).round(4)
    array([0.8333, 0.1667])
    """
    pi = _softmax(logits)
    race = pi * row_sum(E * D)
    r = namespace(logits).where(D == 1, 1, race / (race + E))
    return (1 - r) * gradient + pi * row_sum(r * gradient)


def rebar(
    f: Function, logits: Array, *, df_dD: Function, tau: float, weight: float = 1.0, rng: Any
) -> Array:
    r"""REBAR: f at the relaxed sample as the control variate.

    .. math:: \text{RELAX with } c(z) = \eta f(S), \quad S = \mathrm{softmax}_\tau(z), \qquad \frac{\partial c}{\partial z} = \frac\eta\tau J(S) f'(S)

    where :math:`\eta` is ``weight`` and :math:`\tau` is ``tau``; the other arguments are those of :func:`muprop`. With
    :math:`\eta = 0` it is REINFORCE. Unbiased. Two evaluations of f, two of its derivative. Tucker, Mnih,
    Maddison, Lawson and Sohl-Dickstein, "REBAR: Low-variance, unbiased gradient estimates for discrete latent variable
    models", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.array([1.0, 2.0, 4.0])
    >>> f, df = lambda D: (D @ weights)[..., 0], lambda D: 0 * D + weights
    >>> rng = np.random.default_rng(0)
    >>> rebar(f, np.log([[0.2, 0.3, 0.5]]), df_dD=df, tau=0.5, rng=rng).round(4)
    array([[-0.3115, -0.4313,  0.7429]])
    """
    return relax(f, logits, control=relaxed_cost(f, df_dD, tau, weight), rng=rng)


def relaxed_cost(
    f: Function, df_dD: Function, tau: float, weight: float = 1.0
) -> tuple[Function, Function]:
    r"""The control variate of REBAR and its derivative, :math:`\eta f(S)` and :math:`\frac\eta\tau J(S) f'(S)`.

    Both are functions of the located Gumbels z, with :math:`S = \mathrm{softmax}_\tau(z)`.
    """
    tau, weight = check_tau(tau), check_number("weight", weight)

    def c(z: Array) -> Array:
        return weight * evaluate(f, _softmax(z, tau))

    def dc(z: Array) -> Array:
        S = _softmax(z, tau)
        return softmax_vjp(S, evaluate_gradient(df_dD, S, z)) * (weight / tau)

    return c, dc
