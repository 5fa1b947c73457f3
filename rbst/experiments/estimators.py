"""``rbst estimators``: the table of the estimators that go by a name."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from rbst._tables import wrapped
from rbst.estimators.registry import ESTIMATORS, Entry, differentiates, find_entry, get_estimator

TITLES = ("equation", "bias", "evaluations", "use", "source")

SYMBOLS = (
    "pi = softmax(theta), J(q) = diag(q) - q q', g = df/dD at the sample D = e_k, ' transposes; each is the estimate "
    "of dE[f(D)]/dtheta for one variable. tau is the temperature. In arm and disarm u is uniform, phi = theta_2 - theta_1, "
    "b = [u > sigma(-phi)], and b~ what 1 - u gives; in arsm varpi is uniform on the simplex."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand takes a name, or none."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this one, such as gr-mc10")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or one estimator of it."""
    named = {entry.name: entry for entry in ESTIMATORS}
    entries: tuple[Entry, ...] = ESTIMATORS
    if arguments.name is not None:
        entries = (named.get(arguments.name) or find_entry(arguments.name)[0],)
    print(wrapped(SYMBOLS) + "\n")
    lines = textwrap.TextWrapper(
        shutil.get_terminal_size().columns, subsequent_indent=" " * 17, break_long_words=False
    )
    for entry in entries:
        print(entry.name)
        for title in TITLES:
            text = use(entry) if title == "use" else getattr(entry, title)
            lines.initial_indent = f"    {title:<12} "
            print(lines.fill(text))
    return 0


def use(entry: Entry) -> str:
    """Whether an estimator needs the derivative of f, and whether it fits into a model.

    Examples
    --------
    >>> for entry in ESTIMATORS:
    ...     if entry.name in ("gr", "reinforce", "rloo"):
    ...         print(entry.name, "|", use(entry))
    gr | needs the derivative of f; fits stochastic_node
    reinforce | needs no derivative; fits stochastic_node, with objective
    rloo | needs no derivative; estimate_gradient only
    """
    built = get_estimator(entry.with_samples(10))
    needs = "the derivative of f" if differentiates(built) else "no derivative"
    others = {
        "several": "estimate_gradient only",
        "cost-only": "fits stochastic_node, with objective",
    }
    return f"needs {needs}; {others.get(entry.evaluates, 'fits stochastic_node')}"
