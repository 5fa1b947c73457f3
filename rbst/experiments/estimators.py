"""``rbst estimators``: the table of the estimators that go by a name."""

from __future__ import annotations

import argparse

from rbst.estimators.registry import ESTIMATORS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand has no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    print(
        "pi = softmax(theta), J(q) = diag(q) - q q', g = df/dD at the sample D = e_k, ' transposes;\n"
        "each is the estimate of dE[f(D)]/dtheta for one variable. tau is the temperature.\n"
    )
    for entry in ESTIMATORS:
        print(entry.name)
        for title in ("equation", "bias", "evaluations", "source"):
            print(f"    {title:<12} {getattr(entry, title)}")
    return 0
