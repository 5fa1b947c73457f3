"""Tables, drawn in one place: for a terminal, for a page, and one that reads well as both.

Rows are lists of cells, the first row a heading. A leaf: anyone may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows) -> str:
    """Aligned text, the first column to the left and the others, numbers, to the right.

    Examples
    --------
    >>> print(text_table([["name", "value"], ["st", "1.25"], ["gr-mc10", "0.5"]]))
    name     value
    --------------
    st        1.25
    gr-mc10    0.5
    """
    heading, *body = ("  ".join(row) for row in _aligned(rows, str.rjust))
    return "\n".join([heading, "-" * len(heading), *body])


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
    aligned = _aligned(rows, str.ljust)
    heading, *body = (f"| {' | '.join(row)} |" for row in aligned)
    rule = "|".join("-" * (len(cell) + 2) for cell in aligned[0])
    return "\n".join([heading, f"|{rule}|", *body])


def _aligned(rows: Rows, justify: Callable[[str, int], str]) -> list[list[str]]:
    """The cells, each as wide as its column; the first column always to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[row[0].ljust(widths[0]), *map(justify, row[1:], widths[1:])] for row in rows]
