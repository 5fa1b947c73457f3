"""``rbst check``: hold an implementation against the exact answers and print the report."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from rbst.crosscheck.battery import check, list_battery
from rbst.crosscheck.subject import first_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "implementation",
        nargs="?",
        metavar="MODULE:FUNCTION",
        help="the function, in a module that can be imported from the current folder; it is called as "
        "function(logits, D, df_dD, tau=..., num_samples=..., rng=...) or, if it draws D, as "
        "function(logits, df_dD_function, ...)",
    )
    parser.add_argument("--estimator", default="gr-mc10", help="what it is meant to compute")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="ask in one precision only")
    parser.add_argument("--samples", type=int, help="gradients drawn for each statistical row")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="stop asking after this time"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--list", action="store_true", help="print what would be asked, and stop")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; the exit status is 0 if no row failed, else 1."""
    if arguments.list:
        print_battery(arguments.estimator)
        return 0
    if arguments.implementation is None:
        raise ValueError("wanted an implementation as MODULE:FUNCTION, got none; or give --list")
    report = check(
        load(arguments.implementation),
        arguments.estimator,
        dtype=arguments.dtype,
        samples=arguments.samples,
        budget=arguments.budget,
        seed=arguments.seed,
        progress=True,
    )
    in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(report.to_json() if arguments.json else report.to_text(colour=in_colour))
    return 0 if report.passed else 1


def print_battery(estimator: str) -> None:
    """What is asked, and below each question the rows that ask it."""
    for question, rows in itertools.groupby(list_battery(estimator), key=lambda row: row[1]):
        print(question)
        for name, _ in rows:
            print(f"    {name}")


def load(name: str) -> Callable[..., Any]:
    """The function of a name such as ``module:function``, from the current folder or an installed package."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(
            f"the implementation must be given as MODULE:FUNCTION, got {name!r}; for example "
            "rbst:gumbel_rao"
        )
    found = _import(module_name)
    for part in function_name.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"{module_name!r} has no {function_name!r}; check the name after the colon"
            )
        found = getattr(found, part)
    return found


def _import(name: str) -> Any:
    """The module; what it prints meanwhile goes to standard error, where it is not in the report."""
    sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        cure = "the module itself raises this"
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            cure = "run rbst check in the folder of the module"
        found = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"cannot import {name!r} ({found}); {cure}") from error
