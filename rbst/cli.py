"""The command ``rbst``: a table of subcommands, each of which lives in a module of its own.

A module that serves a subcommand has ``add_arguments(parser)`` and ``run(arguments)``. It is imported
when its subcommand is called, so that ``rbst --help`` is quick. An error in the input is one line on
standard error and exit status 2; an interrupt is status 130.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rbst import __version__

COMMANDS = {
    "vae": (
        "rbst.experiments.vae",
        "train a discrete VAE with several estimators and compare them",
    ),
    "sweep": (
        "rbst.experiments.sweep",
        "random search over discrete VAEs or parsers, on cores or a cluster",
    ),
    "report": (
        "rbst.experiments.report",
        "collect runs of VAEs and parsers into the paper's tables",
    ),
    "listops": (
        "rbst.experiments.listops",
        "learn latent parse trees from the values of ListOps expressions",
    ),
    "check": (
        "rbst.crosscheck.command",
        "hold another implementation of an estimator against the exact answers",
    ),
    "vectors": ("rbst.vectors", "write test vectors for implementations in other languages"),
    "quadratic": (
        "rbst.experiments.quadratic",
        "the toy programme of the paper: its Figure 1 exactly, and its minimisation",
    ),
    "compare": (
        "rbst.experiments.compare",
        "bias, variance and MSE of every estimator on a test function",
    ),
    "estimators": ("rbst.experiments.estimators", "list the estimators that go by a name"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each default once, and none where the default is to do nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    # Only the module of the subcommand asked for is imported; the others keep their line of help.
    wanted = next((word for word in argv if word in COMMANDS), None)
    parser = build_parser(wanted)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        return import_module(COMMANDS[arguments.command][0]).run(arguments) or 0
    except (ValueError, TypeError, OSError) as error:
        print(f"rbst {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of ``command`` and the names of the others."""
    parser = _Parser(
        prog="rbst",
        description="Gradient estimators for discrete latent variables, exact where possible.",
    )
    parser.add_argument("--version", action="version", version=f"rbst {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=_Formatter,
        )
        if name == command:
            import_module(module).add_arguments(subparser)
    return parser
