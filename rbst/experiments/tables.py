"""Tables of results, as text for a terminal and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text, the first row a heading, the first column to the left.

    Examples
    --------
    >>> print(text_table([["name", "value"], ["st", "1.25"], ["gr-mc10", "0.5"]]))
    name     value
    --------------
    st        1.25
    gr-mc10    0.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The same rows as a Markdown table, numbers to the right.

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
