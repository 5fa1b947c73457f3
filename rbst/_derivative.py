"""The derivative of f as autograd sees it, and whether it says anything of f.

A cost that is looked up in a table, ``T[D.argmax()]``, is an honest cost, but its derivative in D is 0 everywhere: an
estimator that is given it returns zero without a word. So an f that varies while its derivative is 0 is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from autograd import make_vjp
from autograd.extend import vspace

from rbst._array import Array, namespace, new_generator
from rbst._checks import check_cost_shape
from rbst.categorical import sample_categorical

PROBES = 32
"""Random outcomes, where there are too many to look at each."""

CURE = "take an estimator that needs no derivative, such as reinforce or rloo"

Function = Callable[[Array], Array]


def derivative(f: Function) -> Function:
    """From points ``(..., L, n)`` to df/dD of the same shape, by autograd."""

    def df_dD(points: Array) -> Array:
        try:
            pull_back, costs = make_vjp(f)(points)
            gradient = pull_back(vspace(costs).ones())
        except (
            AssertionError,
            AttributeError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:
            f(points.copy())  # an f that fails without autograd too says so itself
            raise ValueError(
                f"autograd must be able to differentiate f, got {type(error).__name__}: {error}; write f with "
                f"autograd.numpy throughout, pass its derivative as df_dD, or {CURE}"
            ) from error
        check_cost_shape(costs, points.shape[:-2])  # costs too many would be summed, unseen
        return gradient

    return df_dD


def random_outcomes(logits: Array) -> Iterator[Array]:
    """One-hot arrays of the shape of the logits, each possible category as likely as any other."""
    xp = namespace(logits)
    flat = xp.where(xp.isfinite(logits), xp.zeros_like(logits), logits)
    rng = new_generator(xp, 0)  # the user's draws are not touched
    for _ in range(PROBES):
        yield sample_categorical(flat, rng)


def check_derivative_seen(
    f: Function, outcomes: Iterable[Array], logits: Array, *, inside: bool, each: bool
) -> None:
    """Refuse an f that differs along a variable in which its derivative is 0 at all outcomes.

    ``inside`` looks at the derivative halfway between an outcome and the middle of the simplex; ``each`` asks for a
    derivative in each variable, and otherwise one in any will do.
    """
    xp = namespace(logits)
    seen = xp.zeros(logits.shape[-2], dtype=bool)
    for D in outcomes:
        seen |= variables_seen(derivative(f)(_contracted(D, inside)), logits)
        if bool(seen.all() if each else seen.any()):
            return
    for variable in np.flatnonzero(~np.asarray(seen.tolist())).tolist():
        if _differs_along(f, logits, variable):
            raise ValueError(
                f"f must have a derivative in D, got one that is 0 in variable {variable} at every outcome while f "
                "differs (argmax, comparing and indexing by D have none); write a table T of costs as a sum, for "
                "two variables autograd.numpy.einsum('...i,...j,ij->...', D[..., 0, :], D[..., 1, :], T), or "
                + CURE
            )


def _contracted(D: Array, inside: bool) -> Array:
    return (D + 1 / D.shape[-1]) / 2 if inside else D.copy()


def variables_seen(gradient: Array, logits: Array) -> Array:
    """Of each variable, whether somewhere its possible categories have different derivatives; a common part moves nothing."""
    xp = namespace(logits)
    possible = xp.isfinite(logits)
    most = xp.where(possible, gradient, -np.inf).max(axis=-1)
    least = xp.where(possible, gradient, np.inf).min(axis=-1)
    moving = ~(most <= least)  # a NaN is for others to find
    return moving.reshape(-1, logits.shape[-2]).any(axis=0)


def _differs_along(f: Function, logits: Array, variable: int) -> bool:
    """Whether f changes when one variable is drawn again."""
    draws = list(random_outcomes(logits))
    for D, other in zip(draws[::2], draws[1::2], strict=True):
        moved = D.copy()
        moved[..., variable, :] = other[..., variable, :]
        before, after = f(D.copy()), f(moved)
        if bool((abs(before - after) > 1e-9 * (abs(before) + abs(after))).any()):
            return True
    return False
