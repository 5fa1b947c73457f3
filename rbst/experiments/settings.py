r"""Configurations whose fields say everything of themselves, and what follows from that.

A configuration is a frozen dataclass that inherits :class:`Settings`; :func:`setting` gives a field its default, its
help, its range, and the value that it stood for in records that lack it. The options of a command, the checks of
their values, the reading of ``config.json`` and the names of the folders of a sweep follow from the fields.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rbst._files import read_json

Range = Callable[[Any], "str | None"]
"""What was wanted if a value is out of range, None if it is in range."""


def at_least(low: int, most: int = 10**9) -> Range:
    """An integer from ``low`` to ``most``.

    Examples
    --------
    >>> at_least(1)(0), at_least(1)(3)
    ('at least 1', None)
    """
    return lambda x: f"at least {low}" if x < low else f"at most {most}" if x > most else None


def positive(x: float) -> str | None:
    """A positive number."""
    return None if 0 < x < math.inf else "positive and finite"


def not_negative(x: float) -> str | None:
    """Zero or a positive number."""
    return None if 0 <= x < math.inf else "at least 0 and finite"


def fraction(x: float) -> str | None:
    """A number from 0 on, below 1."""
    return None if 0 <= x < 1 else "in [0, 1)"


def temperature(x: float) -> str | None:
    """A temperature by which float32 can divide."""
    return positive(x) or (None if 1e-30 <= x <= 1e30 else "between 1e-30 and 1e30")


def once(within: Range = lambda x: None) -> Range:
    """At least one value, each once and in this range.

    Examples
    --------
    >>> once()(()), once()(("st", "st")), once(positive)((1.0, 0.0))
    ('given at least once', 'given once each', 'positive and finite')
    """

    def wanted(values: Sequence[Any]) -> str | None:
        if not values:
            return "given at least once"
        if len(set(values)) < len(values):
            return "given once each"
        return next(filter(None, map(within, values)), None)

    return wanted


def setting(
    default: Any,
    text: str = "",
    *,
    within: Range | None = None,
    choices: Sequence[str] = (),
    nargs: int | str | None = None,
    const: Any = None,
    quick: int | None = None,
    before: Any = MISSING,
    absent: str = "none",
    option: str | None = None,
    metavar: str | None = None,
) -> Any:
    """A field of a configuration.

    Parameters
    ----------
    default, text
        What it is if nobody says, and the help of its option; without help it has no option.
    within, choices
        Its range, and the words that it may be.
    nargs, const, option, metavar
        What :mod:`argparse` calls these; a tuple without ``nargs`` is an option that may be repeated.
    quick
        The most that it is with ``--quick``.
    before
        The value in records from before the field existed. A field at this value is left out of the name of a job,
        so that the folders of earlier jobs keep their names.
    absent
        What the help shows for None or for an empty default.
    """
    return field(default=default, metadata=dict(locals()))


class Settings:
    """The base of configurations: every value is checked when one is made."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if value is not None or "None" not in str(f.type):
                check_option(option_of(f), value, partial(_wanted, f))
        self.check()

    def check(self) -> None:
        """What concerns several settings at once."""


def check_option(option: str, value: Any, within: Range) -> None:
    """Refuse a value that is out of range."""
    if wanted := within(value):
        raise ValueError(f"{option} must be {wanted}, got {value}; change it")


def _wanted(f: Field, value: Any) -> str | None:
    kind, says = kind_of(f), f.metadata
    several = str(f.type).startswith("tuple")
    accepted = (int, float) if kind is float else kind
    for one in value if several and isinstance(value, tuple) else (value,):
        if not isinstance(one, accepted) or (isinstance(one, bool) and kind is not bool):
            return {int: "an integer", float: "a number", str: "a word", bool: "true or false"}[
                kind
            ]
    if says["choices"] and value not in says["choices"]:
        return " or ".join(says["choices"])
    return says["within"](value) if says["within"] else None


def kind_of(f: Field) -> type:
    """The type of a value, or of one of several values."""
    return next(kind for kind in (int, float, str, bool) if kind.__name__ in str(f.type))


def option_of(f: Field) -> str:
    """The option of a field."""
    return f.metadata["option"] or "--" + f.name.replace("_", "-")


def add_options(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Any], leave_out: Collection[str] = ()
) -> None:
    """An option for each field with a help; what is not given is absent from the arguments.

    ``defaults`` holds a configuration for each data set, by its name; where they differ, the help gives all values.
    """
    first = next(iter(defaults.values()))
    for f in sorted(fields(first), key=lambda f: bool(f.kw_only)):
        says, kind = f.metadata, kind_of(f)
        if f.name in leave_out or not says["text"]:
            continue
        options: dict[str, Any] = {"dest": f.name, "default": argparse.SUPPRESS}
        repeated = str(f.type).startswith("tuple") and not says["nargs"]
        if kind is bool:
            options["action"] = "store_true"
        elif says["const"] is not None:
            options |= {"action": "store_const", "const": says["const"]}
        else:
            options |= {"type": kind} if not says["choices"] else {"choices": says["choices"]}
            options |= {"action": "append"} if repeated else {"nargs": says["nargs"]}
            if not says["choices"]:
                options["metavar"] = metavar_of(f)
        values = {key: getattr(config, f.name) for key, config in defaults.items()}
        shown = default_text(values, says["absent"])
        if "action" in options and not repeated:
            shown = ""
        text = says["text"] + (", repeatable" if repeated else "") + shown
        parser.add_argument(option_of(f), help=text.replace("%", "%%"), **options)


def metavar_of(f: Field) -> str:
    """N for an integer, X for a number, NAME for a word, if the field does not say another."""
    return f.metadata["metavar"] or {int: "N", float: "X", str: "NAME"}[kind_of(f)]


def default_text(values: Mapping[str, Any], absent: str = "none") -> str:
    """Defaults as the help shows them: one value, or one for each name where they differ.

    Examples
    --------
    >>> default_text({"digits": 8, "mnist": 2}), default_text({"digits": (1, 2), "mnist": (1, 2)})
    (' (default: 8 for digits, 2 for mnist)', ' (default: 1 2)')
    """
    texts = {}
    for key, value in values.items():
        value = absent if value in (None, "", ()) else value
        texts[key] = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if len(set(texts.values())) == 1 or all(key == text for key, text in texts.items()):
        return f" (default: {next(iter(texts.values()))})"
    return f" (default: {', '.join(f'{text} for {key}' for key, text in texts.items())})"


def given(arguments: argparse.Namespace, config: Any) -> dict[str, Any]:
    """The settings that were given on the command line."""
    return tuples(
        {f.name: getattr(arguments, f.name) for f in fields(config) if f.name in arguments}
    )


def tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the lists of JSON and of the command line as the tuples that a configuration holds."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


Config = TypeVar("Config")


def quickened(config: Config) -> Config:
    """The configuration with nothing above what ``--quick`` allows."""
    limits = {f.name: f.metadata["quick"] for f in fields(config) if f.metadata["quick"]}  # type: ignore[arg-type]
    return replace(config, **{k: min(getattr(config, k), most) for k, most in limits.items()})  # type: ignore[type-var]


def read_config(path: Path, make_config: Callable[[dict[str, Any]], Config]) -> Config:
    """The configuration that was written to ``path``, perhaps before some of its fields existed."""
    options = read_json(path)
    if not isinstance(options, dict):
        raise ValueError(f"{path} does not hold a configuration; choose another folder")
    options.pop("version", None)
    older = {
        f.name: f.metadata["before"]
        for f in fields(make_config({}))  # type: ignore[arg-type]
        if f.metadata["before"] is not MISSING
    }
    try:
        return make_config(tuples(older | options))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a configuration of this version ({error}); choose another folder"
        ) from error


def identity(config: Any) -> dict[str, Any]:
    """The settings of a job without those at the value that they had before the field existed."""
    before = {f.name: f.metadata["before"] for f in fields(config)}
    return {name: value for name, value in asdict(config).items() if value != before[name]}


def digest(config: Any) -> str:
    """Ten letters for everything that a configuration says; the tail of the name of a job's folder."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
