"""The experiments of the paper, small enough for a laptop, one module a subcommand of ``rbst``."""
