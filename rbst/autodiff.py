r"""Estimators inside differentiable programs, with HIPS autograd.

:func:`stochastic_node` puts a sample into an autograd graph: forward the sample, backward the estimator.
:func:`objective` adds what a score-function estimator needs, so that one training loop serves all of
them. :func:`estimate_gradient` draws one gradient of a plain function f. The estimators themselves know
nothing of autograd.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from types import FrameType
from typing import Any
from weakref import WeakSet

import numpy as np
from autograd import checkpoint
from autograd.extend import defvjp, primitive
from autograd.tracer import isbox

from rbst._array import Array, getval, namespace, spawn_generator
from rbst._checks import as_float, check_array, check_logits, check_rng, check_seed
from rbst._derivative import check_derivative_seen, derivative, random_outcomes
from rbst.categorical import log_probability
from rbst.enumeration import check_costs
from rbst.estimators.registry import Estimator, as_estimator, parameters


@primitive
def _pass_through(logits: Array, point: Array, pull_back: Callable[..., Array]) -> Array:
    return point


defvjp(
    _pass_through,
    lambda point, logits, _, pull_back: lambda df_dpoint: pull_back(logits, point, df_dpoint),
    None,
    None,
)


def stochastic_node(logits: Array, estimator: Estimator | str, rng: Any) -> Array:
    r"""A sample of categorical variables as a node of an autograd graph.

    Forward: the point at which the estimator evaluates f: D for straight-through estimators and
    ``reinforce``, the relaxed S for ``gs``, the contracted point for ``foust``. Backward: the estimator's
    gradient with respect to ``logits``, shape ``(..., n)``. For ``reinforce`` nothing flows back through the
    sample; :func:`objective` adds its gradient. The loss has to be differentiable in the node: ``argmax``, comparing
    and indexing by it have no derivative, and a node cannot see what becomes of it (:func:`estimate_gradient` can).

    The forward pass draws one integer from ``rng`` that seeds whatever the backward pass draws, so that
    results do not depend on the order in which a graph is traversed. A function under ``autograd.checkpoint``
    runs more than once: make its generator inside it, from a seed; one that is shared would draw another
    sample in each run, and is refused with a ``ValueError``.

    Second derivatives are those of the backward pass, :math:`A^\top f'` with the Jacobian A that the estimator uses, of
    ``st``, ``zgr``, ``reinmax``, ``mve``, ``gs`` and ``foust``. They have two parts: :math:`A^\top f'' A`, since :math:`f'` is taken
    at the node, and what comes of the derivative of A with D held still. Raises ``TypeError`` where they are asked of an estimator
    that draws in the backward pass or integrates, and ``ValueError`` for one that evaluates f at several points.

    Examples
    --------
    >>> import autograd, autograd.numpy as np
    >>> from rbst import get_estimator
    >>> estimator = get_estimator("st")
    >>> def loss(logits):
    ...     D = stochastic_node(logits, estimator, np.random.default_rng(0))
    ...     return np.sum(D * np.array([1.0, 2.0, 4.0]))
    >>> autograd.grad(loss)(np.log(np.array([0.2, 0.3, 0.5])))
    array([-0.36, -0.24,  0.6 ])
    """
    estimator = as_estimator(estimator)
    if estimator.evaluates == "several":
        raise ValueError(
            f"estimator {estimator.name!r} evaluates f at several points, which a node of a graph cannot "
            "do; use estimate_gradient, or an estimator that evaluates f once"
        )
    theta = check_logits(_value(logits))
    logits = logits if isbox(logits) else theta
    _check_drawn_once(check_rng(rng, theta), traced=isbox(logits))
    point, sample = estimator.sample(theta, rng)
    seed = int(rng.integers(2**63))
    if estimator.evaluates == "cost-only":
        return point

    def pull_back(logits: Array, point_again: Array, df_dpoint: Array) -> Array:
        # In a second derivative the relaxed sample moves with the logits, and D does not.
        relaxed = estimator.evaluates == "inside" and sample is point
        drawn = point_again if relaxed else sample
        arguments = logits, drawn, df_dpoint, spawn_generator(rng, seed)
        if isbox(logits) or isbox(df_dpoint):
            # Such a sample moves with the logits, and is not traced.
            hidden = estimator.evaluates == "corner" and sample is not point
            gradient = _traced_pull_back(estimator, arguments, hidden)
        else:
            gradient = estimator.pull_back(*arguments)
        return check_estimate(estimator, gradient, logits)

    return _pass_through(logits, point.copy() if point is sample else point, pull_back)


def _value(x: Any) -> Any:
    """The array without any trace: where a second derivative is taken there are two around it."""
    while isbox(x):
        x = getval(x)
    return x


_drawn_from: WeakSet[Any] = WeakSet()
"""Locks of the generators that nodes outside any trace drew from: the one part that takes weak references."""


def _check_drawn_once(rng: Any, traced: bool) -> None:
    """Whether a function that autograd runs again, to trace what it ran without, draws from the same generator."""
    lock = getattr(rng.bit_generator, "lock", None)
    if lock is None:
        return
    if not traced:
        _drawn_from.add(lock)
    elif lock in _drawn_from and _runs_again():
        raise ValueError(
            "rng must be made inside a function under autograd.checkpoint, which runs more than once, got a "
            "generator that an earlier run has drawn from; make it there with numpy.random.default_rng(seed)"
        )


def _runs_again() -> bool:
    """Whether this is called by the backward pass of ``autograd.checkpoint``."""
    frame: FrameType | None = sys._getframe()
    while frame := frame.f_back if frame else None:
        if frame.f_code.co_name == "wrapped_grad" and frame.f_globals is checkpoint.__globals__:
            return True
    return False


def _traced_pull_back(
    estimator: Estimator, arguments: tuple[Array, Array, Array, Any], hidden: bool
) -> Array:
    """The pull-back where autograd traces it: one that draws nothing more, integrates nothing, hides nothing."""
    cause: Exception | None = None
    if estimator.given_D != "gumbel-rao" and not hidden:
        try:
            return estimator.pull_back(*arguments)
        except Exception as error:  # NumPy and autograd have many for what they cannot trace
            cause = error
    raise TypeError(
        f"estimator {estimator.name!r} has no second derivatives here, got a Hessian to take through it; "
        "use st, zgr, reinmax or gs, or differences of its gradients with the same seed"
    ) from cause


def check_estimate(estimator: Estimator, gradient: Array, logits: Array) -> Array:
    """What an estimator returns: real numbers of the shape of ``logits``."""
    if getattr(gradient, "shape", None) != logits.shape:
        raise ValueError(
            f"estimator {estimator.name!r} must return a gradient of the shape of logits, {logits.shape}, got "
            f"{getattr(gradient, 'shape', type(gradient).__name__)}; look at its pull_back"
        )
    return check_array(f"the gradient of {estimator.name!r}", gradient, logits)


def objective(
    estimator: Estimator | str,
    cost: Array,
    direct: Array | float,
    draws: Sequence[tuple[Array, Array]],
    baseline: float | Array = 0.0,
) -> Array:
    r"""What a training loop differentiates: the mean cost, with the gradient right for any estimator.

    .. math:: \text{mean over the batch of} \quad f + h + (f - b) \left( \frac{p_\theta(D)}{\mathrm{sg}(p_\theta(D))} - 1 \right)

    where

    - :math:`f` is ``cost``, shape ``(B,)``: it depends on D;
    - :math:`h` is ``direct``, shape ``(B,)`` or a number: it does not (an analytic KL divergence);
    - :math:`\theta` and D are the pairs ``draws``, each of shape ``(B, ..., n)``; the log-probabilities of
      all variables and of all pairs of an example add up;
    - :math:`b` is ``baseline``, and :math:`\mathrm{sg}` stops the gradient.

    The last term has value zero and the score-function gradient, and every further derivative has the right mean
    as well (Foerster et al., "DiCE: The infinitely differentiable Monte Carlo estimator", ICML 2018). It is
    added for ``"cost-only"`` estimators and no others, whose gradient comes through :func:`stochastic_node`. Read
    the baseline before updating it with these costs, see :class:`rbst.RunningMean`.

    Examples
    --------
    >>> import autograd, autograd.numpy as np
    >>> from rbst import get_estimator
    >>> D = np.array([[0.0, 0.0, 1.0]])
    >>> def loss(logits):
    ...     cost = np.array([4.0])  # no derivative anywhere
    ...     return objective(get_estimator("reinforce"), cost, 0.0, [(logits, D)], baseline=2.8)
    >>> autograd.grad(loss)(np.log(np.array([[0.2, 0.3, 0.5]])))
    array([[-0.24, -0.36,  0.6 ]])
    """
    cost = as_float(check_array("cost", cost))
    _check_examples(cost, draws, direct=direct, baseline=baseline)
    total = cost + direct
    if as_estimator(estimator).evaluates == "cost-only" and draws:
        log_p = reduce(add, (_joint_log_probability(logits, D) for logits, D in draws))
        total = total + (cost - baseline) * namespace(log_p).expm1(log_p - _value(log_p))
    # autograd's rule for mean divides by an integer of NumPy's, which makes float32 gradients float64.
    return namespace(total).sum(total) / total.size


def _check_examples(
    cost: Array, draws: Sequence[tuple[Array, Array]], **others: float | Array
) -> None:
    """A cost for each example; the others may be numbers. Any other broadcasting would silently mix examples."""
    for logits, _ in draws:
        if logits.shape[:1] != cost.shape:
            raise ValueError(
                f"cost must have one entry for each example of the draws, {logits.shape[:1]}, got "
                f"{cost.shape}; sum the cost over every axis but the first"
            )
    if cost.ndim != 1 or cost.size == 0:
        raise ValueError(
            f"cost must have shape (B,), one entry for each of B >= 1 examples, got {cost.shape}; sum the cost "
            "over every axis but the first"
        )
    for name, values in others.items():
        shape = np.shape(_value(values))
        if shape not in ((), cost.shape):
            raise ValueError(
                f"{name} must be a number or have the shape of cost, {cost.shape}, got {shape}; reshape it"
            )


def _joint_log_probability(logits: Array, D: Array) -> Array:
    """Log-probability of each example: summed over every axis but the first."""
    log_p = log_probability(logits, _value(D))
    return namespace(log_p).sum(log_p.reshape(log_p.shape[0], -1), axis=-1)


def estimate_gradient(
    estimator: Estimator | str,
    f: Callable[[Array], Array],
    logits: Array,
    rng: Any,
    *,
    df_dD: Callable[[Array], Array] | None = None,
) -> Array:
    r"""One sample of an estimator's gradient of :math:`\mathbb E[f(D)]`.

    Draws, evaluates f and its derivative where the estimator asks for them, and pulls back.

    Parameters
    ----------
    estimator
        From :func:`rbst.get_estimator`, your own, or a name, at a temperature of 1.
    f
        Maps arrays ``(..., L, n)`` to costs ``(...)``.
    logits
        Shape ``(..., L, n)``: L variables of n categories; leading axes are independent problems with the
        same f.
    rng
        A ``numpy.random.Generator`` (or CuPy's), or a seed.
    df_dD
        The derivative of f, from ``(..., L, n)`` to the same shape. By default autograd differentiates f,
        which must then use ``autograd.numpy``, and not look costs up by ``D.argmax()``: where the derivative is 0
        while f differs, that is a ``ValueError``. Score-function estimators need none.

    Returns
    -------
    numpy.ndarray
        The gradient, of the shape and dtype of ``logits``.

    Examples
    --------
    >>> import numpy as np
    >>> from rbst import get_estimator
    >>> values = np.array([1.0, 2.0, 4.0])
    >>> f = lambda D: (D @ values)[..., 0]
    >>> logits = np.log([[0.2, 0.3, 0.5]])
    >>> estimate_gradient(get_estimator("st"), f, logits, np.random.default_rng(0))
    array([[-0.36, -0.24,  0.6 ]])
    """
    estimator, logits = as_estimator(estimator), check_logits(logits)
    rng = check_seed(rng, logits)
    if logits.ndim < 2 or logits.shape[-2] == 0:
        raise ValueError(
            f"logits must have L >= 1 variables in their shape (..., L, n), got {logits.shape}; give one "
            "variable as logits[None, :]"
        )
    slopes: list[Array] = []
    gradient = _estimate(estimator, f, logits, rng, df_dD or _kept(derivative(f), slopes))
    if slopes and not any(bool(slope.any()) for slope in slopes):
        inside = estimator.evaluates != "corner"
        check_derivative_seen(f, random_outcomes(logits), logits, inside=inside, each=False)
    return check_estimate(estimator, gradient, logits)


def _kept(df_dD: Callable[[Array], Array], slopes: list[Array]) -> Callable[[Array], Array]:
    """The same derivative, and a list of what it was."""

    def keeping(points: Array) -> Array:
        slopes.append(df_dD(points))
        return slopes[-1]

    return keeping


def _estimate(
    estimator: Estimator,
    f: Callable[[Array], Array],
    logits: Array,
    rng: Any,
    df_dD: Callable[[Array], Array],
) -> Array:
    if estimator.evaluates == "several":
        takes_it = "df_dD" in parameters(estimator.estimate)
        return estimator.estimate(f, logits, rng, **({"df_dD": df_dD} if takes_it else {}))
    point, sample = estimator.sample(logits, rng)
    if point is sample:  # f may write into its argument
        point = point.copy()
    if estimator.evaluates == "cost-only":
        signal = check_costs(f(point), point.shape[:-2])[..., None]
    else:
        signal = df_dD(point)
    return estimator.pull_back(logits, sample, signal, rng)
