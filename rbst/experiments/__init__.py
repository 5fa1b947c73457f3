"""What the subcommands do: experiments of the paper, each in one file."""

from importlib import import_module
from typing import Any

EXPERIMENTS = ("vae", "listops")
"""The experiments that train, can be swept and make a table of the paper: modules of this package."""


def load_experiment(name: str) -> Any:
    """The experiment of this name."""
    return import_module(f"{__name__}.{name}").EXPERIMENT
