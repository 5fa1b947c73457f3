"""The command ``rbst``: a table of subcommands, each of which lives in a module of its own.

A module that serves a subcommand has ``add_arguments(parser)`` and ``run(arguments)``. It is imported
when its subcommand is called, so that ``rbst --help`` is quick. An error in the input is one line on
standard error and exit status 2; an interrupt is status 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from rbst import __version__
from rbst._terminal import complain, steady_streams

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

COMMANDS = {
    "vae": (
        "rbst.experiments.vae",
        "train a discrete VAE with several estimators and compare them",
        (
            "rbst vae --quick",
            "rbst vae --estimator st-gs --estimator gr --seeds 3",
            "rbst vae --data mnist --arity 16 --estimator gr-mc10 --out runs/mine",
            "rbst vae --resume --out runs/mine",
        ),
    ),
    "sweep": (
        "rbst.experiments.sweep",
        "random search over discrete VAEs or parsers, on cores or a cluster",
        (
            "rbst sweep --estimator st-gs --estimator gr --draws 5",
            "rbst sweep --data mnist --arity 2 --learning-rate 3e-4 2e-3 --out runs/search",
            "rbst sweep listops --estimator gr --tau 0.1",
        ),
    ),
    "report": (
        "rbst.experiments.report",
        "collect runs of VAEs and parsers into the paper's tables",
        (
            "rbst report runs",
            "rbst report runs/search --missing --format markdown --out /tmp/table",
        ),
    ),
    "listops": (
        "rbst.experiments.listops",
        "learn latent parse trees from the values of ListOps expressions",
        (
            "rbst listops --quick",
            "rbst listops --estimator left --estimator gold --estimator gr --max-length 25",
        ),
    ),
    "check": (
        "rbst.crosscheck.command",
        "check another implementation of an estimator against the exact answers",
        (
            "rbst check mymodule:my_function --estimator gr-mc10",
            "rbst check mymodule:my_function --estimator st-gs --samples 20000",
        ),
    ),
    "vectors": (
        "rbst.vectors",
        "write test vectors for implementations in other languages",
        ("rbst vectors --out vectors.json",),
    ),
    "quadratic": (
        "rbst.experiments.quadratic",
        "the toy programme of the paper: its Figure 1 exactly, and its minimisation",
        ("rbst quadratic --quick", "rbst quadratic --tau 0.5 --samples 1000"),
    ),
    "compare": (
        "rbst.experiments.compare",
        "bias, variance and MSE of every estimator on a test function",
        (
            "rbst compare --quick",
            "rbst compare --problem quartic --n 3 --tau 0.5",
            "rbst compare --batch 20 --plot",
        ),
    ),
    "estimators": (
        "rbst.experiments.estimators",
        "list the estimators that go by a name",
        ("rbst estimators", "rbst estimators gr-mc10"),
    ),
}
"""Module, help and examples of each subcommand."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that says what was wanted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for kind, name in ((int, "an integer"), (float, "a number")):
            self.register("type", kind, _reader(kind, name))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and keep the words: the name of an experiment must be the first of them."""
        self.words = args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with the message and where help is."""
        complain(f"{self.prog}: {message}; see {self.prog} --help")
        self.exit(2)


def _reader(kind: type, name: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"wanted {name}, got {text!r}") from None

    return read


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows each default once, none where the default is to do nothing, and examples as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    with steady_streams() as lost:
        try:
            status = _run(argv)
        except SystemExit as end:  # of argparse, after help or an error
            status = int(end.code or 0)
        except KeyboardInterrupt:
            complain("interrupted")
            status = 130
    if lost:
        complain(f"rbst: {lost[0]}")
        return status or 2
    return status


def _run(argv: Sequence[str]) -> int:
    # Only the module of the subcommand asked for is imported; the others keep their line of help.
    wanted = next((word for word in argv if word in COMMANDS), None)
    parser = build_parser(wanted)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.prog = " ".join(filter(None, [parser.prog, arguments.command]))
        parser.error(f"no such option or argument: {' '.join(unknown)}")
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        with limited_threads(arguments.threads):
            return import_module(COMMANDS[arguments.command][0]).run(arguments) or 0
    except (ValueError, TypeError, OSError, MemoryError, SystemExit) as error:
        complain(f"rbst {arguments.command}: {_in_words(error)}")
        return 2


def _in_words(error: BaseException) -> str:
    """An error for the user, where its own message does not say what happened."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error or 'no more could be had'}; ask for less at once"
    if isinstance(error, SystemExit):
        return f"the code that was called ends the program, with sys.exit({error.code!r})"
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return "the current folder does not exist any more; change to one that does"
    return str(error)


def _is_nowhere() -> bool:
    """Whether the current folder has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit BLAS to this many threads, in the processes that start meanwhile too.

    One is the default: the matrices here are small, and on a busy machine two threads mostly wait for each other.
    """
    if not 1 <= threads <= 1024:
        raise ValueError(f"--threads must be from 1 to 1024, got {threads}; 1 is best for most")
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(THREADS, str(threads))  # read by the BLAS of a new process
    os.environ["MPLBACKEND"] = "Agg"  # figures go into files, whatever draws elsewhere
    with threadpool_limits(limits=threads):
        yield


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of ``command`` and the names of the others."""
    parser = _Parser(
        prog="rbst",
        description="Gradient estimators for discrete latent variables, exact where possible.",
    )
    parser.add_argument("--version", action="version", version=f"rbst {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, summary, examples) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
            formatter_class=_Formatter,
        )
        nested = import_module(module).add_arguments(subparser) if name == command else ()
        text = "threads of BLAS; more than one rarely helps"
        for each in (subparser, *(nested or ())):
            each.add_argument("--threads", type=int, default=1, metavar="N", help=text)
    return parser
