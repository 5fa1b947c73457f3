"""``rbst check``: check an implementation against the exact answers and print the report.

The implementation is imported and called in a process of its own, which is asked one question at a time.
It judges nothing: whatever it does, even if it ends its process or never answers, the verdict is made here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, fields
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rbst._array import Array
from rbst._load import load_object, parse_logits
from rbst._processes import end_with_parent
from rbst._tables import wrapped
from rbst.categorical import one_hot
from rbst.crosscheck import examine, list_battery, own_problem
from rbst.crosscheck.laws import get_law
from rbst.crosscheck.rows import BFLOAT16, PRECISIONS, Options
from rbst.crosscheck.subject import (
    Answer,
    BudgetSpent,
    Gone,
    Profile,
    Question,
    Subject,
    Unusable,
    answer_from,
    describe,
    numbers,
)
from rbst.enumeration import count_outcomes

STATUS = {"passed": 0, "failed": 1, "incomplete": 3}
TIMEOUT = 300.0

BELOW_THE_HELP = """\
To check PyTorch or JAX code, wrap it in a module of your own:
  from rbst.crosscheck.torch import from_function  # or rbst.crosscheck.jax
  mine = from_function(torch.nn.functional.gumbel_softmax, hard=True)
It is then checked as mymodule:mine. More adapters: help(rbst.crosscheck.torch).

exit status:
  0 every row passed   1 a row failed   2 the command line was invalid
  3 none failed, and some were not asked"""


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
    parser.epilog = f"{parser.epilog}\n\n{BELOW_THE_HELP}"
    add = parser.add_argument
    what = "what it is meant to compute: a name of 'rbst estimators', or unbiased"
    add("--estimator", default="gr-mc10", metavar="NAME", help=what)
    add("--function", metavar="MODULE:F", help="for unbiased: the f whose E f(D) is differentiated")
    where = "for unbiased: where, as numbers; a row for each variable of f, with ; between rows"
    add("--logits", metavar="'a b; c d'", help=where)
    add("--dtype", choices=PRECISIONS, help=f"ask in one precision only; {BFLOAT16}")
    add("--tau", type=float, metavar="X", help="the only temperature that it is for")
    add("--categories", type=int, metavar="N", help="the only n that it is for")
    add("--dimensions", type=int, metavar="N", help="2: it takes (b, n) and no other leading axes")
    add("--mean-only", action="store_true", help="its variance may differ: antithetic noise")
    many = "gradients for a statistical row (default: by row)"
    add("--samples", type=int, metavar="N", help=many)
    add("--budget", type=float, metavar="SECONDS", help="stop asking after this time: incomplete")
    limit = "wait no longer for one answer: failed"
    add("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help=limit)
    add("--seed", type=int, default=0, metavar="N", help="of the noise")
    add("--verbose", action="store_true", help="every figure and p-value")
    add("--json", action="store_true", help="print the report as JSON")
    add("--list", action="store_true", help="print what would be asked, and stop")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; the exit status is 0 if it passed, 1 if it failed, 3 if it is incomplete."""
    if arguments.list:
        print_battery(arguments.estimator)
        return 0
    if arguments.implementation is None:
        raise ValueError("wanted an implementation as MODULE:FUNCTION, got none; or give --list")
    if not 0 < arguments.timeout <= 1e6:
        raise ValueError(
            f"timeout must be a number of seconds in (0, 1e6], got {arguments.timeout}; try 60"
        )
    if arguments.logits and not arguments.function:
        raise ValueError(
            f"--logits is for a --function of yours, got {arguments.logits!r} and none; leave it out"
        )
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    law = get_law(arguments.estimator)
    logits = None if arguments.logits is None else parse_logits(arguments.logits)
    names = (arguments.implementation, arguments.function)
    with contextlib.closing(
        RemoteSubject(names, law.estimator, logits, arguments.timeout)
    ) as subject:
        costs, problem = subject.costs, None
        if costs is not None:
            problem = own_problem(lambda D: _of_table(costs, D), logits, law)
        report = examine(subject, law, options, problem=problem, progress=True)
    in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = report.to_text(verbose=arguments.verbose, colour=in_colour)
    print(report.to_json() if arguments.json else text)
    return STATUS[report.verdict]


def _of_table(costs: Array, D: Array) -> Array:
    """f at one-hot D (..., L, n), from its values ``(n, ..., n)`` at every outcome."""
    return costs[tuple(np.moveaxis(D.argmax(axis=-1), -1, 0))]


def print_battery(estimator: str) -> None:
    """What is asked, and below each question the rows that ask it."""
    for question, rows in itertools.groupby(list_battery(estimator), key=lambda row: row[1]):
        print(wrapped(question))
        for name, _ in rows:
            print(wrapped(f"    {name}"))


# --- The process that judges ---------------------------------------------------------------------------


NO_ANSWER = (
    "something that is no answer",
    "an answer",
    "the code writes to a pipe that is not its own",
)
LONGEST = 2**30
"""No message has more bytes."""


class RemoteSubject:
    """An implementation in a process of its own, that is asked like a :class:`Subject`."""

    def __init__(
        self, names: tuple[str, str | None], estimator: str, logits: Array | None, timeout: float
    ) -> None:
        self.timeout = timeout
        processes = multiprocessing.get_context("spawn")
        self.connection, theirs = processes.Pipe()
        arguments = (theirs, *names, estimator, logits)
        self.process = processes.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        try:
            found, arrays = self._receive()
        except Gone as gone:
            self.close()
            raise ValueError(f"cannot import {names[0]!r}: {gone.found}; {gone.cause}") from None
        if "error" in found:
            self.close()
            raise ValueError(found["error"])
        if "<locals>" in found["name"]:  # made by an adapter: its address says more
            found["name"] = names[0]
        self.profile = Profile(**found | {"accepts": tuple(found["accepts"])})
        self.costs = arrays.get("costs")  # of the user's f at every outcome

    def ask(self, question: Question, seconds: float = math.inf) -> Answer:
        """Its answer, within these seconds and the time-out."""
        header = {k: v for k, v in vars(question).items() if not isinstance(v, np.ndarray)}
        arrays = {k: v for k, v in vars(question).items() if isinstance(v, np.ndarray)}
        with contextlib.suppress(OSError):  # a process that is no more is noticed below
            send(self.connection, header, arrays)
        header, arrays = self._receive(seconds)
        if "unusable" in header:
            raise Unusable(*header["unusable"])
        return answer_from(arrays, question, header["changed"])

    def _receive(self, seconds: float = math.inf) -> tuple[dict[str, Any], dict[str, Array]]:
        """The answer to the last question, within these seconds and the time-out."""
        end = time.monotonic() + min(self.timeout, seconds)
        try:
            if self.connection.poll(min(self.timeout, seconds)):
                message = self._message(end - time.monotonic())
                if message is not None:
                    return message
        except (EOFError, OSError):
            self.process.join(1)
            code = self.process.exitcode
            if code is None:  # it lives, and what it sends has no end, or no beginning
                raise Gone(*NO_ANSWER) from None
            cause = f"its process ended with exit status {code}: the code leaves it, or crashes"
            raise Gone("its process ended", "an answer", cause) from None
        except (ValueError, KeyError, OverflowError, MemoryError, zipfile.BadZipFile):
            raise Gone(*NO_ANSWER) from None
        if seconds < self.timeout:
            raise BudgetSpent
        found, cause = f"no answer in {self.timeout:.3g} s", "it hangs, or --timeout is short"
        raise Gone(found, "an answer", cause)

    def _message(self, seconds: float) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """The message that has begun to arrive; None, and an end of the process, if it takes longer."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(max(seconds, 0.1), end)
        timer.start()
        try:
            return receive(self.connection)
        except (EOFError, OSError):
            if late.is_set():
                return None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def send(connection: Connection, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """One message: JSON and arrays, as an uncompressed archive of NumPy."""
    message = io.BytesIO()
    np.savez(message, header=np.array(json.dumps(header)), **arrays)
    connection.send_bytes(message.getbuffer())


def receive(connection: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next message; nothing in it is executed."""
    with np.load(io.BytesIO(connection.recv_bytes(LONGEST)), allow_pickle=False) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays.pop("header")))
    if not isinstance(header, dict):
        raise ValueError("a message without a header")
    return header, arrays


# --- The process that is asked -------------------------------------------------------------------------


def serve(
    connection: Connection, name: str, function: str | None, estimator: str, logits: Array | None
) -> None:
    """Import the implementation and answer questions until there are no more."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that judges
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # whatever prints, prints to standard error
    sys.stdout = sys.stderr
    try:
        f = None if function is None else load(function)
        costs = {} if f is None else {"costs": _costs(f, logits)}
        subject = Subject(load(name), get_law(estimator), f=f)
    except (ValueError, TypeError) as error:
        return send(connection, {"error": str(error)}, {})
    send(connection, asdict(subject.profile), costs)
    with contextlib.suppress(EOFError):
        while True:
            _answer_one(connection, subject)


def _costs(f: Callable[..., Any], logits: Array | None) -> Array:
    """The user's f at every outcome, ``(n, ..., n)``."""
    if logits is None:
        raise ValueError("--function needs --logits 'a b; c d', one row for each variable of f")
    count_outcomes(logits)  # refuses what is beyond enumeration
    L, n = logits.shape
    outcomes = one_hot(np.indices((n,) * L).reshape(L, -1).T, n)
    try:
        found = numbers("cost", f(outcomes), "fiub", (n**L,))
    except Unusable as error:
        raise ValueError(f"f must map (..., L, n) to (...): {error.found}, {error.cause}") from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"f raises {describe(error)}") from None
    return found.astype(float).reshape((n,) * L)


def _answer_one(connection: Connection, subject: Subject) -> None:
    header, arrays = receive(connection)
    question = Question(**header | {"seed": tuple(header["seed"])}, **arrays)
    try:
        answer = subject.ask(question)
        header = {"changed": answer.changed}
        arrays = {"D": answer.D, "gradient": answer.gradient} | answer.others
    except Unusable as error:
        header, arrays = {"unusable": (error.found, error.expected, error.cause)}, {}
    except KeyboardInterrupt as error:  # its own: interrupts do not come here
        header, arrays = {"unusable": (describe(error), "a gradient", "it interrupts itself")}, {}
    send(connection, header, arrays)


def load(name: str) -> Callable[..., Any]:
    """The function of a name such as ``module:function``; what its module prints goes to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load_object(name, "the implementation")
    except ValueError:
        raise
    except BaseException as error:
        raise ValueError(f"cannot import {name!r}: {describe(error)}") from None
