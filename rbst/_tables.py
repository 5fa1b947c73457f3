"""Tables, drawn in one place: for a terminal, for a page, and one that reads well as both.

Rows are lists of cells, the first row a heading. A leaf: anyone may import it.
"""

from __future__ import annotations

import math
import shutil
import statistics
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows, width: int | None = None) -> str:
    """Aligned text, the first column to the left and the others, numbers, to the right.

    It is no wider than ``width``, by default that of the terminal (80 where there is none): long cells are
    wrapped at words, and where even that is too wide every row becomes a list.

    Examples
    --------
    >>> print(text_table([["name", "value"], ["st", "1.25"], ["gr-mc10", "0.5"]]))
    name     value
    --------------
    st        1.25
    gr-mc10    0.5
    >>> print(text_table([["name", "bound, M = 1"], ["st", "1.25"]], width=16))
    name  bound, M =
                   1
    ----------------
    st          1.25
    """
    width = width or shutil.get_terminal_size().columns
    for split_headings, gap in ((False, "  "), (False, " "), (True, "  "), (True, " ")):
        widths = _fitted(rows, width - len(gap) * (len(rows[0]) - 1), split_headings)
        if widths:
            heading, *body = ("\n".join(_wrapped_row(row, widths, gap)) for row in rows)
            rule = "-" * (sum(widths) + len(gap) * (len(widths) - 1))
            return "\n".join([heading, rule, *body])
    return _listed(rows)


def mean_and_error(values: Sequence[float], digits: int = 1) -> str:
    """The mean, and of several values its standard error.

    Examples
    --------
    >>> mean_and_error([60.0]), mean_and_error([60.0, 62.0], 2), mean_and_error([])
    ('60.0', '61.00 ± 1.00', '–')
    """
    if not len(values):
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}"


def wrapped(text: str) -> str:
    """Footnotes, each as wide as the terminal; what follows a first line is indented as that is."""
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(
            line,
            width,
            subsequent_indent=(len(line) - len(line.lstrip())) * 2 * " ",
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def _fitted(rows: Rows, width: int, split_headings: bool) -> list[int] | None:
    """Widths of the columns that fit, or None: the widest give way, down to their longest word."""
    columns = list(zip(*rows, strict=True))
    least = [
        max(
            len(word)
            for cell in column[i > 0 and split_headings :]
            for word in _bound(cell).split() or [" "]
        )
        for i, column in enumerate(columns)
    ]
    widths = [max(1, *map(len, column)) for column in columns]
    while sum(widths) > width:
        able = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not able:
            return None
        widths[max(able, key=lambda i: widths[i])] -= 1
    return widths


def _wrapped_row(row: Sequence[str], widths: Sequence[int], gap: str) -> list[str]:
    cells = [
        textwrap.wrap(_bound(cell), width, break_on_hyphens=False) or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    return [
        gap.join(
            part.rjust(width) if i else part.ljust(width)
            for i, (part, width) in enumerate(zip(line, widths, strict=True))
        )
        .replace("\0", " ")
        .rstrip()
        for line in zip_longest(*cells, fillvalue="")
    ]


def _bound(cell: str) -> str:
    """A cell in which an error stays on the line of its sign."""
    return cell.replace("± ", "±\0")


def _listed(rows: Rows) -> str:
    heading, *body = rows
    return "\n\n".join(
        "\n".join(f"{name}: {cell}" for name, cell in zip(heading, row, strict=True))
        for row in body
    )


def markdown_table(rows: Rows) -> str:
    """Markdown without padding, numbers to the right.

    Examples
    --------
    >>> print(markdown_table([["name", "value"], ["st", "1.25"]]))
    | name | value |
    |---|---:|
    | st | 1.25 |
    """
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    heading, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heading, f"|{'|'.join(rule)}|", *body])


def aligned_markdown_table(rows: Rows) -> str:
    """Markdown with padding, so that it reads as plain text too; every column to the left.

    Examples
    --------
    >>> print(aligned_markdown_table([["name", "value"], ["gr-mc10", "0.5"]]))
    | name    | value |
    |---------|-------|
    | gr-mc10 | 0.5   |
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heading, *body = (f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([heading, f"|{rule}|", *body])
