"""What size of error the cross-check catches at what cost, and the tails of its tests.

python benchmarks/crosscheck_power.py              the table of docs/crosscheck.md
python benchmarks/crosscheck_power.py --tails 20000  p-values where few gradients have heavy tails
"""

import argparse
import time

import numpy as np
from tqdm import trange

from rbst import gumbel_rao, st_gumbel_softmax
from rbst._tables import markdown_table
from rbst.crosscheck import check, laws, moments
from rbst.quadrature import build_table

SAMPLES = (10_000, 30_000, None, 1_000_000)
COLUMNS = (
    "mean, n = 3, tau = 0.5",
    "mean, n = 3, tau = 0.1",
    "mean, n = 3, tau = 0.01",
    "covariance, n = 3, tau = 0.5",
    "covariance, n = 10, tau = 2",
)


def given_rng(logits, D, df_dD, *, tau, num_samples, rng):
    """Gumbel-Rao without the comparison under shared noise."""
    return gumbel_rao(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


IMPLEMENTATIONS = {"gr-mc10": given_rng, "st-gs": st_gumbel_softmax}


def power(estimator: str, samples: int | None) -> list[str]:
    """One line of the table: relative errors in per cent, and seconds of processor time."""
    for kept in (build_table, moments._moments, moments._q_covariance):
        kept.cache_clear()
    begun = time.process_time()
    report = check(IMPLEMENTATIONS[estimator], estimator, samples=samples)
    seconds = time.process_time() - begun
    caught = {row.property: row.detects for row in report.rows}
    cells = [f"{100 * caught[column]:.2g} %" for column in COLUMNS]
    return [f"`{estimator}`", f"{samples or 'default'}", *cells, f"{seconds:.1f} s"]


GRADIENTS = 1813  # given each D: few
SHARES = (0, 1 / 3, 1)  # of the sample in the covariance that a deviation is measured by
CASES = (*laws.USUAL, laws.COLD)
LEVELS = (1e-2, 1e-3, 1e-4)


def tails(label: str, covariance_tested: bool, repeats: int) -> list[list[str]]:
    """p-values of ST-GS where its gradients are rare events, a line for each share of the sample."""
    law, case = laws.get_law("st-gs"), {c.name: c for c in CASES}[label]
    targets = moments.targets(law, case, case.outcomes, covariance_tested=covariance_tested)
    part = moments.Sums.q_part if covariance_tested else moments.Sums.y_part
    rng = np.random.default_rng(0)
    p_values: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in trange(repeats, desc=label, leave=False):
        sums = [moments.Sums(target) for target in targets]
        for s in sums:
            rows = laws.alike(case, s.target.outcome, GRADIENTS)
            s.add(st_gumbel_softmax(*rows, tau=case.tau, rng=rng))
        for share in SHARES:
            moments.blend = lambda exact, sample, share=share: (1 - share) * exact + share * sample
            p_values[share].append(moments.p_value_of([part(s) for s in sums]))
    lines = []
    for share, found in p_values.items():
        below = [f"{(np.array(found) < level).mean():.2g}" for level in LEVELS]
        name = "covariance" if covariance_tested else "mean"
        lines.append([f"{name}, {label}", f"{share:.2g}", *below, f"{min(found):.0e}"])
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tails", type=int, help="p-values of this many small samples, rather than what is caught"
    )
    arguments = parser.parse_args()
    if arguments.tails:
        heading = ["test", "share", *(f"below {level:g}" for level in LEVELS), "smallest"]
        asked = [("n = 3, tau = 0.01", False), ("n = 3, tau = 0.1", True), ("n = 2, tau = 1", True)]
        table = [line for label, tested in asked for line in tails(label, tested, arguments.tails)]
    else:
        heading = ["estimator", "samples", *COLUMNS, "CPU time"]
        table = [power(estimator, samples) for estimator in IMPLEMENTATIONS for samples in SAMPLES]
    print(markdown_table([heading, *table]))
