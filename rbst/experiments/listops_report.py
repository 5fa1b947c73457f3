"""Runs of ``rbst listops`` as Table 1 of the paper, beside the paper's numbers; a part of ``rbst report``.

Of each cell (maximum length, estimator, temperature) the learning rate with the best mean validation accuracy
is shown; accuracies are means over seeds with their standard errors. Nothing is selected by a test
accuracy. Paulus et al. (2021), Table 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbst._files import read_json
from rbst._tables import markdown_table
from rbst.experiments.listops import mean_and_error
from rbst.experiments.listops_run import GIVEN_TREES

PAPER_TAUS = (0.01, 0.1, 1.0)
PAPER = {
    ("st-gs", 10): (38.8, 59.3, 65.8),
    ("st-gs", 25): (41.2, 57.1, 60.2),
    ("st-gs", 50): (46.8, 56.8, 59.6),
    ("gr-mc10", 10): (66.4, 66.9, 66.7),
    ("gr-mc10", 25): (60.7, 60.8, 60.9),
    ("gr-mc10", 50): (58.7, 59.1, 59.6),
    ("gr-mc100", 10): (65.6, 66.3, 65.9),
    ("gr-mc100", 25): (60.0, 61.3, 61.2),
    ("gr-mc100", 50): (59.6, 59.1, 59.6),
    ("gr-mc1000", 10): (66.5, 67.1, 67.0),
    ("gr-mc1000", 25): (60.2, 60.9, 61.2),
    ("gr-mc1000", 50): (60.0, 59.8, 59.9),
}
"""Table 1 of the paper: test accuracy in percent by estimator and maximum length, at ``PAPER_TAUS``."""

Runs = Sequence[dict[str, Any]]


def collect(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The results of all finished runs under these folders that have been tested."""
    results = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("result.json")):
            result, test = read_json(path), path.with_name("test.json")
            if "max_length" in result.get("config", {}) and test.is_file():
                results.append(result | read_json(test) | {"folder": str(path.parent)})
    return results


def by_cell(runs: Runs) -> dict[tuple, dict[float, list[dict[str, Any]]]]:
    """The runs by (maximum length, temperature, estimator), and in each by learning rate.

    Given trees have no temperature: 0 stands for it, so that they come first.
    """
    cells: dict[tuple, dict[float, list]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        config, name = run["config"], run["estimator"]
        tau = 0.0 if name in GIVEN_TREES else config["tau"]
        cells[config["max_length"], tau, name][config["learning_rate"]].append(run)
    return cells


def best_rate(rates: dict[float, list[dict[str, Any]]]) -> float:
    """The learning rate with the best mean validation accuracy."""
    return max(
        rates, key=lambda rate: float(np.mean([run["accuracy"]["valid"] for run in rates[rate]]))
    )


def paper_accuracy(max_length: int, tau: float, name: str) -> str:
    """The paper's test accuracy of this cell; that of 1000 samples stands beside the exact ``gr``.

    Examples
    --------
    >>> paper_accuracy(10, 0.01, "st-gs"), paper_accuracy(10, 0.5, "st-gs")
    ('38.8', '')
    """
    row = PAPER.get(("gr-mc1000" if name == "gr" else name, max_length))
    return str(row[PAPER_TAUS.index(tau)]) if row and tau in PAPER_TAUS else ""


def describe_rates(rates: Sequence[float]) -> str:
    """The learning rates that were tried; of many the number and the range.

    Examples
    --------
    >>> describe_rates([0.1, 0.2]), describe_rates([0.03, 0.1, 0.15, 0.2, 0.4])
    ('0.1, 0.2', '5 from 0.03 to 0.4')
    """
    if len(rates) > 4:
        return f"{len(rates)} from {rates[0]:.3g} to {rates[-1]:.3g}"
    return ", ".join(f"{rate:.3g}" for rate in rates)


def format_markdown(runs: Runs) -> str:
    """The table as Markdown."""

    def percent(chosen: Runs, kind: str, split: str) -> str:
        return mean_and_error([100 * run[kind][split] for run in chosen if split in run[kind]])

    lines = [["estimator", "tokens", "tau", "test", "paper", "published test", "validation"]]
    lines[0] += ["F1", "runs", "iterations", "learning rate (tried)"]
    for (max_length, tau, name), rates in sorted(by_cell(runs).items()):
        rate = best_rate(rates)
        chosen = rates[rate]
        iterations = sorted({run["iterations"] for run in chosen})
        lines.append(
            [
                name,
                f"≤ {max_length}",
                f"{tau:g}" if tau else "",
                percent(chosen, "accuracy", "test"),
                paper_accuracy(max_length, tau, name),
                percent(chosen, "accuracy", "published_test"),
                percent(chosen, "accuracy", "valid"),
                percent(chosen, "f1", "test"),
                str(len(chosen)),
                " to ".join(str(n) for n in sorted({iterations[0], iterations[-1]})),
                f"{rate:.3g} ({describe_rates(sorted(rates))})",
            ]
        )
    note = (
        "Accuracy and F1 in percent, means over runs with their standard errors, with greedy trees. Of each cell "
        "the learning rate with the best validation accuracy is shown. F1: spans of the test trees "
        "against the gold ones, without the root. The paper's column is its test accuracy."
    )
    return f"{markdown_table(lines)}\n\n{note}\n"
