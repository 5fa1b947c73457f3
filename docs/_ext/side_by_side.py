"""Tutorials in steps: the text of a step on the left, its code and what that prints and draws on the right.

A generated tutorial page is one long column: text, code, output, text, code, output. Here each run of text
is put into one box together with the code that follows it. ``rbst.css`` lays the two halves of a box side by
side where the window is wide and leaves them stacked where it is not. Two things are folded until the reader
opens them: an answer, which is a step whose text has a paragraph that begins with a bold "Answer", and the
code of a figure, which is a cell that begins with the comment ``# Figure``. A figure has a box of its own, in
which it scrolls where the window is narrow (see ``vector_figures``). A cell that only calls
``plt.show()`` matters to the script and is left out.
"""

from itertools import groupby

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

FRAME = (nodes.section, nodes.title, nodes.target, addnodes.only)
FIGURE = "sphx-glr-single-img"
OUTPUT_CLASSES = {"sphx-glr-script-out", FIGURE, "sphx-glr-horizontal"}


class SideBySide(SphinxTransform):
    """Group the text, the code and the output of each section of a tutorial into steps."""

    default_priority = 900  # when classes have been assigned

    def apply(self, **kwargs) -> None:
        if self.env.docname.startswith("tutorials/"):
            for section in list(self.document.findall(nodes.section)):
                group_steps(section)


def group_steps(section: nodes.section) -> None:
    """Put each run of text that stands in ``section``, with the code that follows it, into one step."""
    children = [child for child in section.children if not is_silent(child)]
    section.children, text = [], []
    for kind, run in groupby(children, key=kind_of):
        if kind == "text":
            text = list(run)
        elif kind == "code":
            code = [part for node in run for part in box_figure(node)]
            question, answer = split_at_answer(text)
            if answer:
                section.extend([*question, *fold("Answer", [step(answer, code)])])
            else:
                section += step(text, code)
            text = []
        else:
            section.extend([*text, *run])
            text = []
    section.extend(text)


def is_silent(node: nodes.Node) -> bool:
    """Whether ``node`` has nothing to show: a comment of sphinx-gallery's, or a lone ``plt.show()``."""
    return isinstance(node, nodes.comment) or (
        isinstance(node, nodes.literal_block) and node.astext().strip() == "plt.show()"
    )


def kind_of(node: nodes.Node) -> str:
    """``"code"`` for code and its output, ``"text"`` for what explains it, ``"other"`` for the frame."""
    if isinstance(node, nodes.literal_block) and node.get("language") == "Python":
        return "code"
    if classes_of(node) & OUTPUT_CLASSES:
        return "code"
    return "other" if isinstance(node, FRAME) else "text"


def classes_of(node: nodes.Node) -> set[str]:
    """The classes of a node of docutils or of sphinx-gallery, which has them in another place."""
    return {*node.get("classes", ()), *(node.get("class") or ())}


def split_at_answer(text: list[nodes.Node]) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """What stands before the paragraph that begins with a bold "Answer", and the rest from there on."""
    for index, node in enumerate(text):
        opens_bold = isinstance(node, nodes.paragraph) and isinstance(node[0], nodes.strong)
        if opens_bold and node.astext().startswith("Answer"):
            return text[:index], text[index:]
    return text, []


def box_figure(node: nodes.Node) -> list[nodes.Node]:
    """``node``, folded if it is the code of a figure, and in a box that can scroll if it is the figure."""
    if isinstance(node, nodes.literal_block) and node.astext().startswith("# Figure"):
        return fold("Code of the figure", [node])
    classes = classes_of(node)
    if FIGURE in classes:
        return [nodes.container("", node, classes=["figure", *classes & {"wide"}])]
    return [node]


def fold(summary: str, content: list[nodes.Node]) -> list[nodes.Node]:
    """``content`` in a box that shows its summary until it is opened."""
    opening = f"<details><summary>{summary}</summary>"
    return [
        nodes.raw("", opening, format="html"),
        *content,
        nodes.raw("", "</details>", format="html"),
    ]


def step(text: list[nodes.Node], code: list[nodes.Node]) -> nodes.container:
    """One box of two halves."""
    return nodes.container(
        "",
        nodes.container("", *text, classes=["step-text"]),
        nodes.container("", *code, classes=["step-code"]),
        classes=["step"],
    )


def setup(app) -> dict[str, bool]:
    app.add_transform(SideBySide)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
