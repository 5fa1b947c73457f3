"""Punctuation that stays with its formula.

A formula is drawn as an image, and browsers may break a line on either side of an image: a comma then
opens a line, or a parenthesis closes one. Here a formula and the punctuation that touches it are put into
one box that does not break.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

OPENING = re.compile(r"[(\[“‘]+$")
CLOSING = re.compile(r"[)\].,;:!?’”]+")


class UnbrokenMath(SphinxTransform):
    """Box each inline formula together with the punctuation before and after it."""

    default_priority = 920

    def apply(self, **kwargs) -> None:
        for math in list(self.document.findall(nodes.math)):
            parent, index = math.parent, math.parent.index(math)
            before, after = text_at(parent, index - 1), text_at(parent, index + 1)
            opening, closing = OPENING.search(before), CLOSING.match(after)
            if not opening and not closing:
                continue
            box = nodes.inline("", "", classes=["unbroken"])
            parent[index] = box
            if closing:
                parent[index + 1] = nodes.Text(after[closing.end() :])
            if opening:
                parent[index - 1] = nodes.Text(before[: opening.start()])
                box += nodes.Text(opening[0])
            box += math
            if closing:
                box += nodes.Text(closing[0])


def text_at(parent: nodes.Element, index: int) -> str:
    """The text of the child at ``index``, empty if there is none or if it is not plain text."""
    if 0 <= index < len(parent) and isinstance(parent[index], nodes.Text):
        return str(parent[index])
    return ""


def setup(app) -> dict[str, bool]:
    app.add_transform(UnbrokenMath)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
