"""What the subcommands do: experiments of the paper, each in one file."""

from importlib import import_module
from typing import Any

EXPERIMENTS = {"vae": "rbst.experiments.vae", "listops": "rbst.experiments.listops"}
"""The experiments that train, can be swept and make a table of the paper, by the modules that they live in."""


def load_experiments(*names: str) -> dict[str, Any]:
    """The experiments of these names, by default of all."""
    return {name: import_module(EXPERIMENTS[name]).EXPERIMENT for name in names or EXPERIMENTS}
