"""What stays on one line: a formula and what touches it, both sides of an equals sign, a name with hyphens.

A formula is drawn as an image, and browsers may break a line on either side of an image: a comma then opens a
line, or a parenthesis closes one. They also break after any hyphen and at any space, so that a line ends in
"gr-" or in "τ =". Here what belongs together is put into one box that does not break.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

from rbst.estimators import ESTIMATORS

SIGN = "[=<>≤≥≈±]"
OPENING = re.compile(rf"((^|[\w)\]]) {SIGN} )?[(\[“‘]*$")
CLOSING = re.compile(rf"( {SIGN} [^\s,;:)]+)?[)\].,;:!?’”]*")
RELATION = re.compile(rf"(?<=\S) ({SIGN}) (?=\S)")
NAMES = sorted((entry.name for entry in ESTIMATORS if "-" in entry.name), key=len, reverse=True)
NAME = re.compile(rf"\b({'|'.join(NAMES)})\b".replace("K", r"(K|\d+)"), re.IGNORECASE)
LONGEST = 24
"""Characters of code that are kept together; what is longer must fit a narrow screen."""
VERBATIM = (nodes.literal, nodes.literal_block, nodes.doctest_block, nodes.math, nodes.math_block)


class UnbrokenMath(SphinxTransform):
    """Box each inline formula with the punctuation at its sides, and with the number that it equals."""

    default_priority = 920

    def apply(self, **kwargs) -> None:
        for math in list(self.document.findall(nodes.math)):
            parent, index = math.parent, math.parent.index(math)
            before, after = text_at(parent, index - 1), text_at(parent, index + 1)
            opening, closing = OPENING.search(before)[0], CLOSING.match(after)[0]
            if not opening and not closing:
                continue
            if closing:
                parent[index + 1] = nodes.Text(after[len(closing) :])
            if opening:
                parent[index - 1] = nodes.Text(before[: -len(opening)])
            parent[index] = box(*filter(None, (opening, math.deepcopy(), closing)))


class UnbrokenWords(SphinxTransform):
    """No line ends before or after a sign between two words, nor within a name or a short piece of code."""

    default_priority = 930

    def apply(self, **kwargs) -> None:
        for code in self.document.findall(nodes.literal):
            if "-" in code.astext() and len(code.astext()) <= LONGEST and " " not in code.astext():
                code["classes"].append("unbroken")
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, VERBATIM) and (
                RELATION.search(text) or NAME.search(text)
            ):
                text.parent.replace(text, kept_together(text))


def kept_together(text: str) -> list[nodes.Node]:
    """The text with spaces that do not break around its signs, and each name in a box."""
    text, parts, end = RELATION.sub("\u00a0\\1\u00a0", text), [], 0
    for name in NAME.finditer(text):
        parts += [nodes.Text(text[end : name.start()]), box(name[0])]
        end = name.end()
    return [*parts, nodes.Text(text[end:])]


def box(*parts: str | nodes.Node) -> nodes.inline:
    """Parts that stay on one line."""
    inside = (nodes.Text(part) if isinstance(part, str) else part for part in parts)
    return nodes.inline("", "", *inside, classes=["unbroken"])


def text_at(parent: nodes.Element, index: int) -> str:
    """The text of the child at ``index``, empty if there is none or if it is not plain text."""
    if 0 <= index < len(parent) and isinstance(parent[index], nodes.Text):
        return str(parent[index])
    return ""


def setup(app) -> dict[str, bool]:
    app.add_transform(UnbrokenMath)
    app.add_transform(UnbrokenWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
