"""What the cross-check would catch at which cost, and how often it cries wolf.

python benchmarks/crosscheck_power.py              the table of docs/crosscheck.md
python benchmarks/crosscheck_power.py --seeds 100  p-values of right implementations, over seeds
"""

import argparse
import time

import numpy as np

from rbst import gumbel_rao, st_gumbel_softmax
from rbst.crosscheck import check
from rbst.experiments.tables import markdown_table
from rbst.rao_blackwell import _build_table

SAMPLES = (10_000, 30_000, None, 1_000_000)
COLUMNS = (
    "mean, n = 3, tau = 0.5",
    "mean, n = 3, tau = 0.1",
    "mean, n = 3, tau = 0.01",
    "covariance, n = 3, tau = 0.5",
    "covariance, n = 10, tau = 0.5",
)


def given_rng(logits, D, df_dD, *, tau, num_samples, rng):
    """Gumbel-Rao without the comparison under shared noise."""
    return gumbel_rao(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


IMPLEMENTATIONS = {"gr-mc10": given_rng, "st-gs": st_gumbel_softmax}


def power(estimator: str, samples: int | None) -> list[str]:
    """One line of the table: relative errors in per cent, and seconds of one core."""
    _build_table.cache_clear()
    begun = time.process_time()
    report = check(IMPLEMENTATIONS[estimator], estimator, samples=samples)
    seconds = time.process_time() - begun
    caught = {row.property: row.detects for row in report.rows}
    cells = [f"{100 * caught[column]:.2g} %" for column in COLUMNS]
    return [f"`{estimator}`", f"{samples or 'default'}", *cells, f"{seconds:.1f} s"]


def false_alarms(estimator: str, seeds: int) -> list[str]:
    """How many p-values of a right implementation fall below a level; a fair test keeps to it."""
    reports = [check(IMPLEMENTATIONS[estimator], estimator, seed=seed) for seed in range(seeds)]
    p_values = np.array([row.p_value for r in reports for row in r.rows if row.p_value is not None])
    below = [f"{(p_values < level).mean():.4f}" for level in (0.1, 0.01, 0.001)]
    failed = sum(not report.passed for report in reports)
    return [
        f"`{estimator}`",
        f"{seeds}",
        f"{len(p_values)}",
        *below,
        f"{p_values.min():.1g}",
        f"{failed}",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="count false alarms over so many seeds")
    seeds = parser.parse_args().seeds
    if seeds is None:
        heading = ["estimator", "samples", *COLUMNS, "CPU time"]
        print(markdown_table([heading, *(power(e, s) for e in IMPLEMENTATIONS for s in SAMPLES)]))
    else:
        heading = [
            "estimator",
            "seeds",
            "p-values",
            "below .1",
            "below .01",
            "below .001",
            "smallest",
            "failed",
        ]
        print(markdown_table([heading, *(false_alarms(e, seeds) for e in IMPLEMENTATIONS)]))
