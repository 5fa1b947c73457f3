"""Signatures as a reader of the package would write them.

Python spells an array's type out, names a class by the room that it is defined in, and shows a function by
its address in memory. In a signature here an array is ``ndarray``, a class has the name by which it is
imported, and a function its own.
"""

import importlib
import re

ARRAY = re.compile(r"ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[~numpy\.\w+\]\]")
FUNCTION = re.compile(r"<function (\w+) at 0x\w+>|<function (\w+)>")
CLASS = re.compile(r"\brbst(\.\w+)*\.(\w+)")
GENERATOR = "numpy.random._generator."


def shorten(app, what, name, obj, options, signature, returns):
    """The arguments and the result of one object, as autodoc is about to show them."""
    return tuple(text and readable(text) for text in (signature, returns))


def readable(text: str) -> str:
    """A part of a signature with each of the three replaced."""
    text = FUNCTION.sub(lambda found: found[1] or found[2], ARRAY.sub("ndarray", text))
    return CLASS.sub(imported_from, text.replace(GENERATOR, "numpy.random."))


def imported_from(found: re.Match) -> str:
    """The shortest address at which the class is offered: ``rbst.Estimator``."""
    *rooms, name = found[0].split(".")
    for depth in range(1, len(rooms)):
        door = ".".join(rooms[:depth])
        if name in getattr(importlib.import_module(door), "__all__", ()):
            return f"{door}.{name}"
    return found[0]


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
