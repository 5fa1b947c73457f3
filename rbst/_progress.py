"""How far a long computation is: a bar on a terminal, and in a log a line for every tenth of the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rbst._terminal import is_terminal


def progress_bar(
    total: int | None,
    text: str,
    done: int = 0,
    *,
    unit: str,
    unit_scale: bool = False,
    show: bool = True,
) -> Any:
    """A context whose value has ``update(n=1)`` and ``set_postfix_str``, as tqdm's bars have; ``unit`` is a plural."""
    if show and is_terminal(sys.stderr):
        from tqdm import tqdm

        return tqdm(total=total, initial=done, desc=text, unit=unit, unit_scale=unit_scale)
    return _Log(total or sys.maxsize, text, done, unit, show)


def progress_over(items: Iterable[Any], text: str, total: int, unit: str) -> Iterator[Any]:
    """The items one by one, with a progress bar."""
    with progress_bar(total, text, unit=unit) as bar:
        for item in items:
            yield item
            bar.update()


class _Log:
    """Lines such as ``st-gs seed 0: 400 of 4000 steps, 12 s, valid_bound 23.1``."""

    def __init__(self, total: int, text: str, done: int, unit: str, show: bool) -> None:
        self.total, self.text, self.done, self.unit, self.show = total, text, done, unit, show
        self.start = time.perf_counter()
        self.said, self.postfix = 10 * done // total, ""

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_postfix_str(self, text: str) -> None:
        """What the next line says at its end."""
        self.postfix = f", {text}"

    def update(self, n: int = 1) -> None:
        """``n`` more are done."""
        self.done += n
        tenths = 10 * self.done // self.total
        if self.show and tenths > self.said:
            self.said = tenths
            line = f"{self.text}: {self.done} of {self.total} {self.unit}, "
            line += f"{time.perf_counter() - self.start:.0f} s{self.postfix}"
            print(line, file=sys.stderr, flush=True)
