"""Standard output and error that cost no result: closed, broken, full, or of few characters.

A command that has computed for hours must not die of the line that says so. What cannot be written is dropped,
what cannot be encoded is spelled, and :func:`steady_streams` tells at the end whether anything was lost.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rbst._tables import wrapped

SPELLED = {"±": "+/-", "–": "-", "≤": "<=", "≥": ">=", "→": "->", "∞": "inf", "²": "^2", "∇": "grad",
           "τ": "tau", "θ": "theta", "π": "pi", "×": "x", "·": "*", "…": "..."}  # fmt: skip
"""What ASCII and cp1252 terminals are shown for characters that they lack."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(character, "?") for character in lacking), error.end


codecs.register_error("rbst-spelled", _spell)


def complain(text: str) -> None:
    """Say what went wrong on standard error: one line, which a terminal is shown wrapped at words."""
    print(wrapped(text) if is_terminal(sys.stderr) else text, file=sys.stderr)


def is_terminal(stream: Any) -> bool:
    """Whether somebody reads along."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


class _Steady:
    """A stream whose writes never fail; ``lost`` is the first error that they met."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.lost: Exception | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="rbst-spelled")

    def write(self, text: str) -> int:
        """Write, or keep the error."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or keep the error."""
        self._try(self.stream.flush)

    def _try(self, act: Any) -> None:
        if self.lost is None:
            try:
                act()
            except (OSError, ValueError) as error:  # a ValueError: it has been closed
                self.lost = error
                self._drain()

    def _drain(self) -> None:
        """Discard what is still in the buffer, so that Python does not fail on it at exit."""
        with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def steady_streams() -> Iterator[list[str]]:
    """Make both streams steady for a while; the list says, after the end, what of the output was lost.

    A reader that has gone, as in ``| head -1``, has seen what it wanted, so that nothing counts as lost.
    """
    before, lost = (sys.stdout, sys.stderr), list[str]()
    # A stream that was closed when Python started is None. Its number must not become that of a file.
    streams = [_Steady(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = streams
    try:
        yield lost
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
        error = streams[0].lost
        if isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.ESHUTDOWN):
            lost.append(f"the output could not be written: {error.strerror}")
