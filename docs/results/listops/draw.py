"""Draws the table, curves and trees of the page again from its records: ``python docs/results/listops/draw.py``.

Table and curves come from ``runs``. The trees come from ``trees.json``, which was read off an earlier picture of them, since
the parameters that drew them were not kept.
"""

from pathlib import Path

from rbst._files import read_json
from rbst.data.listops import Example, evaluate, parse
from rbst.experiments.listops import EXPERIMENT, Config, compare_trees, draw_curves, draw_table
from rbst.experiments.report import collect
from rbst.experiments.settings import tuples
from rbst.plotting import write_figure

HERE = Path(__file__).parent
SHOWN = ("st-gs", "gr", "gr-mc10", "gr-mc100")


def draw_runs(rate: str, name: str) -> Config:
    """The curves of both seeds at tau = 0.01 with this learning rate; the settings of the first."""
    folders = [f"{name}-L10-tau0.01-lr{rate}-seed{seed}" for name in SHOWN for seed in range(2)]
    results = [read_json(HERE / "runs" / folder / "result.json") for folder in folders]
    config = Config(**tuples(results[0]["config"]))
    write_figure(draw_curves(config, [], results), HERE / name)
    return config


def main() -> None:
    """Draw all of them."""
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
