"""What a user gives by a text: an object by its address, ``module:name``, and logits. A leaf: anyone may import it."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from typing import Any

import numpy as np

from rbst._array import Array


def load_object(address: str, what: str) -> Any:
    """The object ``name`` of the module, from the current folder or an installed package.

    ``what`` says in messages what it is for. Raises ``ValueError`` for an address that leads nowhere.

    Examples
    --------
    >>> load_object("rbst.problems:QUADRATIC", "the function").name
    'quadratic'
    """
    module, colon, name = address.partition(":")
    if not (module and colon and name):
        raise ValueError(
            f"{what} must be given as MODULE:NAME, got {address!r}; for example mine:f, for f in mine.py"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except AttributeError:
        cure = f"the module {module!r} has no {name!r}, so check the name after the colon"
    except ImportError as error:
        cure = f"{type(error).__name__}: {error}; run the command in the folder of the module"
    except (Exception, SystemExit) as error:
        cure = f"the module itself raises {type(error).__name__}: {error}"
    raise ValueError(f"{what} must be importable, got {address!r}; {cure}")


def parse_logits(text: str) -> Array:
    """Logits ``(L, n)`` from a text with a row of numbers for each variable.

    Examples
    --------
    >>> parse_logits("0.5 1; -1 0")
    array([[ 0.5,  1. ],
           [-1. ,  0. ]])
    """
    try:
        return np.array([row.split() for row in text.split(";")], dtype=float)
    except ValueError:
        cure = "give one row of numbers for each variable, such as '0.25 -0.75 1; 0.5 0 -0.5'"
        raise ValueError(
            f"logits must be rows of numbers of one length, got {text!r}; {cure}"
        ) from None
