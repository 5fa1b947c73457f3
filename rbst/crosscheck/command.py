"""``rbst check``: hold an implementation against the exact answers and print the report.

The implementation is imported and called in a process of its own, which is asked one question at a time.
It judges nothing: whatever it does, even if it ends its process or never answers, the verdict is made here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import json
import math
import multiprocessing
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, fields
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rbst._array import Array
from rbst.crosscheck.battery import PRECISIONS, Options, examine, list_battery
from rbst.crosscheck.laws import get_law
from rbst.crosscheck.subject import (
    Answer,
    BudgetSpent,
    Gone,
    Profile,
    Question,
    Subject,
    Unusable,
    describe,
    numbers,
)

STATUS = {"passed": 0, "failed": 1, "incomplete": 3}
TIMEOUT = 300.0


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
    parser.add_argument("--dtype", choices=PRECISIONS, help="ask in one precision only")
    parser.add_argument("--tau", type=float, help="the only temperature that it is for")
    parser.add_argument("--categories", type=int, metavar="N", help="the only n that it is for")
    parser.add_argument(
        "--dimensions", type=int, help="2: it takes (b, n) and no other leading axes"
    )
    parser.add_argument(
        "--mean-only", action="store_true", help="its variance may differ: antithetic noise"
    )
    parser.add_argument("--samples", type=int, help="gradients drawn for each statistical row")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="stop asking after this time: incomplete"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="wait no longer for one answer: failed",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--verbose", action="store_true", help="every figure and p-value")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--list", action="store_true", help="print what would be asked, and stop")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; the exit status is 0 if it passed, 1 if it failed, 3 if it is incomplete."""
    if arguments.list:
        print_battery(arguments.estimator)
        return 0
    if arguments.implementation is None:
        raise ValueError("wanted an implementation as MODULE:FUNCTION, got none; or give --list")
    if not arguments.timeout > 0:
        raise ValueError(
            f"timeout must be a positive number of seconds, got {arguments.timeout}; try 60"
        )
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    law = get_law(arguments.estimator)
    with contextlib.closing(
        RemoteSubject(arguments.implementation, arguments.estimator, arguments.timeout)
    ) as subject:
        report = examine(subject, law, options, progress=True)
    in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = report.to_text(verbose=arguments.verbose, colour=in_colour)
    print(report.to_json() if arguments.json else text)
    return STATUS[report.verdict]


def print_battery(estimator: str) -> None:
    """What is asked, and below each question the rows that ask it."""
    for question, rows in itertools.groupby(list_battery(estimator), key=lambda row: row[1]):
        print(question)
        for name, _ in rows:
            print(f"    {name}")


# --- The process that judges ---------------------------------------------------------------------------


class RemoteSubject:
    """An implementation in a process of its own, that is asked like a :class:`Subject`."""

    def __init__(self, name: str, estimator: str, timeout: float) -> None:
        self.timeout = timeout
        processes = multiprocessing.get_context("spawn")
        self.connection, theirs = processes.Pipe()
        self.process = processes.Process(target=serve, args=(theirs, name, estimator), daemon=True)
        self.process.start()
        theirs.close()
        try:
            found, _ = self._receive(timeout)
        except Gone as gone:
            self.close()
            raise ValueError(f"cannot import {name!r}: {gone.found}; {gone.cause}") from None
        if "error" in found:
            self.close()
            raise ValueError(found["error"])
        self.profile = Profile(**found | {"accepts": tuple(found["accepts"])})

    def ask(self, question: Question, seconds: float = math.inf) -> Answer:
        """Its answer, within these seconds and the time-out."""
        header = {k: v for k, v in vars(question).items() if not isinstance(v, np.ndarray)}
        arrays = {k: v for k, v in vars(question).items() if isinstance(v, np.ndarray)}
        with contextlib.suppress(OSError):  # a process that is no more is noticed below
            send(self.connection, header, arrays)
        try:
            header, arrays = self._receive(min(self.timeout, seconds))
        except TimedOut:
            if seconds < self.timeout:
                raise BudgetSpent("not asked: the budget is spent") from None
            raise
        if "unusable" in header:
            raise Unusable(*header["unusable"])
        shape = question.logits.shape
        shapes = {"D": shape, "gradient": (question.repeats, *shape) if question.problem else shape}
        D, h = (numbers(k, arrays.get(k), "fiub", shapes[k]) for k in ("D", "gradient"))
        return Answer(D, h, tuple(header["changed"]))

    def _receive(self, seconds: float) -> tuple[dict[str, Any], dict[str, Array]]:
        """The answer to the last question."""
        try:
            if self.connection.poll(seconds):
                return receive(self.connection)
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            cause = f"its process ended with exit status {code}: the code leaves it, or crashes"
            raise Gone("its process ended", "an answer", cause) from None
        except (ValueError, KeyError, zipfile.BadZipFile):
            cause = "the code writes to a pipe that is not its own"
            raise Gone("something that is no answer", "an answer", cause) from None
        raise TimedOut(
            f"no answer in {seconds:.3g} s", "an answer", "it hangs, or --timeout is short"
        )

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class TimedOut(Gone):
    """There was no answer in time."""


def send(connection: Connection, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """One message: JSON and arrays, as an uncompressed archive of NumPy."""
    message = io.BytesIO()
    np.savez(message, header=np.array(json.dumps(header)), **arrays)
    connection.send_bytes(message.getbuffer())


def receive(connection: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next message; nothing in it is executed."""
    with np.load(io.BytesIO(connection.recv_bytes()), allow_pickle=False) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays.pop("header")))
    if not isinstance(header, dict):
        raise ValueError("a message without a header")
    return header, arrays


# --- The process that is asked -------------------------------------------------------------------------


def serve(connection: Connection, name: str, estimator: str) -> None:
    """Import the implementation and answer questions until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that judges
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # whatever prints, prints to standard error
    sys.stdout = sys.stderr
    try:
        subject = Subject(load(name), get_law(estimator))
    except (ValueError, TypeError) as error:
        return send(connection, {"error": str(error)}, {})
    send(connection, asdict(subject.profile), {})
    with contextlib.suppress(EOFError):
        while True:
            _answer_one(connection, subject)


def _answer_one(connection: Connection, subject: Subject) -> None:
    header, arrays = receive(connection)
    question = Question(**header | {"seed": tuple(header["seed"])}, **arrays)
    try:
        answer = subject.ask(question)
        header, arrays = {"changed": answer.changed}, {"D": answer.D, "gradient": answer.gradient}
    except Unusable as error:
        header, arrays = {"unusable": (error.found, error.expected, error.cause)}, {}
    except KeyboardInterrupt as error:  # its own: interrupts do not come here
        header, arrays = {"unusable": (describe(error), "a gradient", "it interrupts itself")}, {}
    send(connection, header, arrays)


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
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(
                f"{module_name!r} has no {function_name!r}; check the name after the colon"
            ) from None
        except BaseException as error:
            raise ValueError(f"{part!r} of {name!r} cannot be had: {describe(error)}") from None
    return found


def _import(name: str) -> Any:
    """The module; what it prints meanwhile goes to standard error, where it is not in the report."""
    sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except BaseException as error:
        cure = "the module itself raises this"
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            cure = "run rbst check in the folder of the module"
        raise ValueError(f"cannot import {name!r} ({describe(error)}); {cure}") from None
