"""Two habits of the docstrings here that napoleon would misread.

A list of parameters may end with a plain paragraph: what is returned, what is raised. To napoleon that is
one more item, since only a heading ends a section; it is given one, "Notes". And a constant or a property may
be described with a colon in the first line. To napoleon what stands before the colon is a type; an empty
comment above the line keeps it a sentence.
"""

import re

LISTS_OF_ITEMS = {"Parameters", "Attributes"}
DESCRIBED_IN_ONE_LINE = {"attribute", "data", "property"}
UNDERLINE = re.compile(r"-{3,}$")


def prepare(app, what, name, obj, options, lines) -> None:
    """Edit the ``lines`` of a docstring before napoleon reads them."""
    if what in DESCRIBED_IN_ONE_LINE:
        lines[:0] = ["..", ""]
    else:
        end_lists_of_items(lines)


def end_lists_of_items(lines: list[str]) -> None:
    """Insert the heading before the first paragraph that is no item."""
    in_list = False
    for number in range(1, len(lines) - 1):
        above, line, below = lines[number - 1 : number + 2]
        if UNDERLINE.match(line):
            in_list = above in LISTS_OF_ITEMS
            continue
        starts_paragraph = line and not line[0].isspace() and not above
        is_item_or_heading = below.startswith(" ") or UNDERLINE.match(below)
        if in_list and starts_paragraph and not is_item_or_heading:
            lines[number:number] = ["Notes", "-----"]
            return


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", prepare, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
