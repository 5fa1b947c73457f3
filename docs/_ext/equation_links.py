r"""Links from equation numbers to the equations of the derivation.

``derivation.md`` numbers its equations by hand, ``\tag{6.5}``, so that they read the same on GitHub. Code
and tutorials cite them as (6.5). Here each such number becomes a link, and a number that no equation
bears is an undefined label, which fails the build. The pages of results are left alone: a number in
parentheses is a measurement there.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

DERIVATION = "derivation"
RESULTS = "results/"
TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
CITATION = re.compile(r"\((\d+\.\d+)\)")
VERBATIM = (nodes.literal, nodes.literal_block, nodes.doctest_block, nodes.math, nodes.math_block)


class LabelEquations(SphinxTransform):
    """Make each tagged equation of the derivation a label, ``equation-6.5``."""

    default_priority = 900

    def apply(self, **kwargs) -> None:
        if self.env.docname != DERIVATION:
            return
        labels = self.env.domains["std"]
        for equation in self.document.findall(nodes.math_block):
            for number in TAG.findall(equation.astext()):
                name, identifier = f"equation-{number}", f"equation-{number.replace('.', '-')}"
                equation["ids"].append(identifier)
                labels.anonlabels[name] = (DERIVATION, identifier)
                labels.labels[name] = (DERIVATION, identifier, f"({number})")


class LinkCitations(SphinxTransform):
    """Make each number in parentheses that prose cites a reference to that label."""

    default_priority = 910

    def apply(self, **kwargs) -> None:
        if self.env.docname.startswith(RESULTS):
            return
        for text in list(self.document.findall(nodes.Text)):
            if CITATION.search(text) and not inside(text, (*VERBATIM, nodes.reference)):
                text.parent.replace(text, self.link(text))

    def link(self, text: str) -> list[nodes.Node]:
        """The text with each citation replaced by a reference."""
        parts, end = [], 0
        for citation in CITATION.finditer(text):
            reference = addnodes.pending_xref(
                "",
                nodes.inline("", citation[0]),
                refdomain="std",
                reftype="ref",
                refexplicit=True,
                refwarn=True,
                reftarget=f"equation-{citation[1]}",
                refdoc=self.env.docname,
            )
            parts += [nodes.Text(text[end : citation.start()]), reference]
            end = citation.end()
        return [*parts, nodes.Text(text[end:])]


def inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Whether an ancestor of ``node`` is of one of these kinds."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def setup(app) -> dict[str, bool]:
    app.add_transform(LabelEquations)
    app.add_transform(LinkCitations)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
