"""Draws the figures of the page again from its records, and writes every_run.md: ``python docs/results/listops/draw.py``.

Tables and curves come from ``runs``. The trees come from ``trees.json``, which was read off an earlier picture of them, since
the parameters that drew them were not kept.
"""

from pathlib import Path
from typing import Any

from rbst._files import read_json
from rbst._tables import markdown_table
from rbst.data.listops import Example, evaluate, parse
from rbst.experiments.listops import EXPERIMENT, Config, compare_trees, draw_curves, draw_table
from rbst.experiments.report import Report, collect
from rbst.experiments.settings import tuples
from rbst.plotting import write_figure

HERE = Path(__file__).parent
SHOWN = ("st-gs", "gr", "gr-mc10", "gr-mc100")
GIVEN = ("gold", "left")  # trees that are not learned: these runs have no temperature

EVERY_CELL = """# Every run on ListOps

## Every cell

The cells of [Table 1](README.md#accuracy) with what was measured beside the test accuracy.

"""
EVERY_RUN = """
± is half the difference where there are two runs. "Validation" is the accuracy on all of the validation part, with the parameters
that were best on 2,000 of it. "Published test" is the accuracy on the expressions of this length in the published test file.

## Every run

The runs behind these cells, one line each: validation accuracy on 2,000 expressions and test accuracy in percent, training cost in
nats as a mean over 500 iterations. Where the last validation is far below the best one the run has collapsed.

"""
HEADING = (
    "estimator",
    "tokens",
    "tau",
    "learning rate",
    "seed",
    "best validation (iteration)",
    "last validation (iteration)",
    "test",
    "lowest and last training cost",
)


def draw_runs(rate: str, name: str) -> Config:
    """The curves of both seeds at tau = 0.01 with this learning rate; the settings of the first."""
    folders = [f"{name}-L10-tau0.01-lr{rate}-seed{seed}" for name in SHOWN for seed in range(2)]
    results = [read_json(HERE / "runs" / folder / "result.json") for folder in folders]
    config = Config(**tuples(results[0]["config"]))
    write_figure(draw_curves(config, [], results), HERE / name)
    return config


def line_of(result: dict[str, Any], test: float) -> list[str]:
    """A row of the table of all runs."""
    config, curves = result["config"], result["curves"]
    accuracy, cost = curves["valid_accuracy"], curves["train_cost"]
    best = max(range(len(accuracy)), key=accuracy.__getitem__)
    fell = result["diverged_at"]
    end = curves["iteration"][-1] if fell is None else f"diverged at {fell}"
    return [
        result["estimator"],
        f"≤ {config['max_length']}",
        "" if result["estimator"] in GIVEN else f"{config['tau']:g}",
        f"{config['learning_rate']:g}",
        f"{result['seed']}",
        f"{100 * accuracy[best]:.1f} ({curves['iteration'][best]})",
        f"{100 * accuracy[-1]:.1f} ({end})",
        f"{100 * test:.1f}",
        f"{min(cost):.2f}, {cost[-1]:.2f}",
    ]


def every_run() -> str:
    """The page of all runs."""

    def place(row: list[str]) -> tuple[int, float, str, float, int]:
        name, tokens, tau, rate, seed, *_ = row
        return int(tokens[2:]), float(tau or 0), name, float(rate), int(seed)

    rows = []
    for folder in (HERE / "runs").iterdir():
        result, test = (read_json(folder / name) for name in ("result.json", "test.json"))
        rows.append(line_of(result, test["accuracy"]["test"]))
    *_, every_cell, note = Report([HERE / "runs"]).markdown().split("\n\n")
    runs = markdown_table([HEADING, *sorted(rows, key=place)])
    return f"{EVERY_CELL}{every_cell}\n\n{note}{EVERY_RUN}{runs}\n"


def main() -> None:
    """Draw and write all of them."""
    (HERE / "every_run.md").write_text(every_run(), encoding="utf-8")
    write_figure(draw_table(collect([HERE / "runs"], EXPERIMENT.report)), HERE / "table1.svg")
    draw_runs("0.2", "curves-0.2.svg")
    config = draw_runs("0.1", "curves.svg")
    record = read_json(HERE / "trees.json")
    parsed = map(parse, record["expressions"])
    examples = [Example(tokens, evaluate(tokens), merges) for tokens, merges in parsed]
    trees = {"gold tree": [example.merges for example in examples]}
    trees |= {name: record["trees"][name] for name in SHOWN}
    write_figure(compare_trees(config, examples, trees), HERE / "trees.svg")


if __name__ == "__main__":
    main()
