"""Estimators for an experiment: those of the table by name, and the user's own by address."""

from __future__ import annotations

from typing import Any

from rbst._load import load_object
from rbst.estimators.registry import Estimator, get_estimator


def find_estimator(name: str, tau: float, **parameters: Any) -> Estimator:
    """The estimator of a name, or at an address ``module:name`` of an Estimator or a function of tau.

    Examples
    --------
    >>> find_estimator("gr", tau=0.5).tau
    0.5
    >>> find_estimator("math:pi", tau=0.5)
    Traceback (most recent call last):
    ValueError: --estimator must be an rbst.Estimator or a function from a temperature to one, got a float from 'math:pi'; see the help of rbst.Estimator
    """
    if ":" not in name:
        return get_estimator(name, tau=tau, **parameters)
    own = load_object(name, "--estimator")
    try:
        built = own(tau) if callable(own) else own
        found = f"a {type(built).__name__}"
    except Exception as error:
        built, found = None, f"{type(error).__name__}: {error}"
    if not isinstance(built, Estimator):
        raise ValueError(
            "--estimator must be an rbst.Estimator or a function from a temperature to one, got "
            f"{found} from {name!r}; see the help of rbst.Estimator"
        )
    return built
