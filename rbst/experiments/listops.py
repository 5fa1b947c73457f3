r"""``rbst listops``: latent parse trees, learned from the value of an expression alone.

Trains the parser of :mod:`rbst.models.tree_lstm` to predict the value 0..9 of ListOps expressions, once for
each estimator and seed (Paulus et al., 2021, section 5.3 and Table 1). ``gold`` and ``left`` in the place of
an estimator train the same network on the gold trees (the ceiling) and on left-branching ones (the floor).
The parameters with the best validation accuracy are the ones that are tested. Every run has a folder of
its own, see :mod:`rbst.experiments.listops_run`; ``--resume`` skips what is finished and continues what
is not.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import DEVICES, device_namespace
from rbst._files import find_data_file, whole_file
from rbst._tables import text_table
from rbst.data.listops import FILE, OPERATORS, TOKENS, Example
from rbst.experiments.listops_run import (
    GIVEN_TREES,
    Config,
    Run,
    describe,
    load_data,
    measure_run,
    pad,
    train_run,
    unlabelled_f1,
)
from rbst.experiments.record import start_experiment, stored_config, tuples, write_results

EXPRESSIONS_SHOWN, LONGEST_SHOWN = 3, 14


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst listops``, with the defaults of :class:`Config`."""
    option, add = parser.add_argument, _adder(parser)
    option(
        "--estimator",
        dest="estimators",
        action="append",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="repeatable; see 'rbst estimators', or gold or left for given trees (default: "
        f"{' '.join(Config().estimators)})",
    )
    add("--max-length", int, "longest expression in tokens; 10, 25, 50 in the paper")
    add("--tau", float, "temperature, where there is one")
    add("--learning-rate", float, "of the optimizer")
    add("--momentum", float, "of gradient descent")
    add("--seeds", int, "runs of each estimator")
    add_training_arguments(parser)
    option(
        "--out", type=Path, metavar="FOLDER", help="results go here (default: runs/listops/TIME)"
    )
    option("--resume", action="store_true", help="continue the interrupted experiment in --out")
    option("--quick", action="store_true", help="100 iterations, to see that all works")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that ``rbst listops`` and ``rbst sweep listops`` share."""
    option, add = parser.add_argument, _adder(parser)
    add("--hidden", int, "size of the network")
    option(
        "--forget-bias",
        action="store_const",
        const=1.0,
        default=argparse.SUPPRESS,
        help="add 1 to both forget gates",
    )
    add("--batch-size", int, "expressions of a minibatch", "the maximum length")
    add("--iterations", int, "most steps of each run")
    option(
        "--optimizer",
        choices=("sgd", "adam"),
        default=argparse.SUPPRESS,
        help=f"gradient descent or Adam (default: {Config().optimizer})",
    )
    add(
        "--learning-rate-final",
        float,
        "learning rate after the most steps, reached linearly",
        "constant",
    )
    add("--clip", float, "limit of the gradient's norm", "none")
    add("--measure-every", int, "steps between two validations")
    add("--patience", int, "validations without a better one before a run stops")
    add("--seed", int, "of the first run of each estimator")
    option("--dtype", choices=("float32", "float64"), default=argparse.SUPPRESS, help="precision")
    option(
        "--device",
        choices=DEVICES,
        default=argparse.SUPPRESS,
        help="where to compute; gpu needs the extra rbst[gpu] (default: cpu)",
    )
    option(
        "--data",
        choices=("generated", "published"),
        default=argparse.SUPPRESS,
        help=f"expressions to learn from (default: {Config().data})",
    )
    add("--num-expressions", int, "generated of all lengths, then restricted")
    option(
        "--data-dir", type=Path, metavar="FOLDER", help="where the published files are looked for"
    )
    option("--download", action="store_true", help="fetch the published test file if it is missing")
    option(
        "--checkpoint-every",
        type=int,
        default=500,
        metavar="STEPS",
        help="between two checkpoints (default: 500)",
    )


def _adder(parser: argparse.ArgumentParser) -> Callable[..., None]:
    """A shorthand for options whose absence means the default of :class:`Config`."""

    def add(name: str, kind: type, text: str, default: str | None = None) -> None:
        field = name.removeprefix("--").replace("-", "_")
        parser.add_argument(
            name,
            type=kind,
            metavar="N" if kind is int else "X",
            default=argparse.SUPPRESS,
            help=f"{text} (default: {default or getattr(Config(), field)})",
        )

    return add


def run(arguments: argparse.Namespace) -> int:
    """Train every estimator with every seed, then print the table and write results and figures."""
    asked = asked_options(arguments)
    if arguments.resume:
        out = arguments.out
        config = stored_config(out, asked, lambda options: Config(**options))
    else:
        config = _new_config(arguments, asked)
    device_namespace(config.device)  # where there is none, say so before a folder is made
    data = load_data(config, arguments.data_dir)
    if not arguments.resume:
        out = start_experiment("listops", config, arguments.out)
    print(describe(config, data))

    start = time.perf_counter()
    runs = [
        Run(config, name, seed, data, out / f"{name}-seed{seed}")
        for seed in range(config.seed, config.seed + config.seeds)
        for name in config.estimators
    ]
    results = [finish(run, checkpoint_every=arguments.checkpoint_every) for run in runs]
    write_results(out, config, start, runs=results)
    draw_curves(config, results, out / "curves.png")
    draw_trees(runs, out / "trees.png")
    print(f"\n{format_table(config, results)}")
    print(f"\nResults, curves.png and trees.png are in {out}")
    return 0


def asked_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line."""
    if arguments.checkpoint_every < 1:
        raise ValueError(
            f"--checkpoint-every must be at least 1, got {arguments.checkpoint_every}; change it"
        )
    return tuples(
        {f.name: getattr(arguments, f.name) for f in fields(Config) if f.name in arguments}
    )


def _new_config(arguments: argparse.Namespace, asked: dict[str, Any]) -> Config:
    config = Config(**asked)
    if arguments.quick:
        config = replace(config, iterations=min(config.iterations, 100), measure_every=50)
    return look_for_published_test(config, arguments)


def look_for_published_test(config: Config, arguments: argparse.Namespace) -> Config:
    """Whether the published test file is there decides which expressions are kept out of the training."""
    found = find_data_file(FILE.format(split="test"), arguments.data_dir) is not None
    if not found and not arguments.download and config.data == "generated":
        print(
            "the published test file is not here, so nothing is kept out of the training for its sake "
            "and it is not tested on; --download fetches it (2.8 MB)"
        )
    published_test = found or arguments.download or config.data == "published"
    return replace(config, published_test=published_test)


def finish(run: Run, *, checkpoint_every: int, progress: bool = True) -> dict[str, Any]:
    """Train and test one run."""
    result = train_run(run, checkpoint_every=checkpoint_every, progress=progress)
    if not run.best_file.is_file():
        return result | {"accuracy": None, "f1": None}
    return result | measure_run(run)


# ----------------------------------------------------------------------------- what it shows


COLUMNS = (
    ("train", "train"),
    ("valid", "validation"),
    ("test", "test"),
    ("published_test", "published test"),
)


def format_table(config: Config, results: Sequence[dict[str, Any]]) -> str:
    """The results as text: mean over seeds, and with several of them its standard error."""
    splits = [
        (key, title) for key, title in COLUMNS if key != "published_test" or config.published_test
    ]
    rows = [["estimator", *(title for _, title in splits), "F1", "ms/iteration", "iterations"]]
    for name in config.estimators:
        runs = [result for result in results if result["estimator"] == name]
        trained = [result for result in runs if result["accuracy"]]
        cells = [
            mean_and_error([100 * result["accuracy"][key] for result in trained])
            for key, _ in splits
        ]
        cells.append(mean_and_error([100 * result["f1"]["test"] for result in trained]))
        cells.append(mean_and_error([result["milliseconds_per_iteration"] for result in runs]))
        cells.append("/".join(str(result["iterations"]) for result in runs))
        rows.append([name, *cells])
    note = (
        "Accuracies and F1 in percent, of the parameters with the best validation accuracy, with the\n"
        "greedy tree. F1: unlabelled spans of the test trees against the gold ones, without the root."
    )
    for result in results:
        if result["diverged_at"] is not None:
            note += (
                f"\n{result['estimator']} with seed {result['seed']} diverged at iteration "
                f"{result['diverged_at']}; its best parameters before that are counted."
            )
    return f"{text_table(rows)}\n{note}"


def mean_and_error(values: Sequence[float]) -> str:
    """The mean, and of several values its standard error.

    Examples
    --------
    >>> mean_and_error([60.0]), mean_and_error([60.0, 62.0]), mean_and_error([])
    ('60.0', '61.0 ± 1.0', '–')
    """
    if not len(values):
        return "–"
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    return f"{np.mean(values):.1f}" + (f" ± {error:.1f}" if error is not None else "")


def draw_curves(config: Config, results: Sequence[dict[str, Any]], path: Path) -> None:
    """Training cost, validation accuracy and F1 along the training; one line a run."""
    from rbst.plotting import colour, new_figure

    styles = {"gold": {"color": "black"}, "left": {"color": "black", "linestyle": ":"}}
    panels = {
        "train_cost": ("training cost", "cost (nats)", 1),
        "valid_accuracy": ("validation accuracy", "accuracy (%)", 100),
        "valid_f1": ("induced against gold trees", "F1 (%)", 100),
    }
    figure, axes = new_figure(1, 3, width=11, height=3.4)
    for panel, (key, (title, label, unit)) in zip(axes.flat, panels.items(), strict=True):
        for result in results:
            name, curves = result["estimator"], result["curves"]
            if curves:
                style = styles[name] if name in GIVEN_TREES else {"color": colour(name)}
                values = unit * np.array(curves[key])
                panel.plot(curves["iteration"], values, linewidth=1.2, label=name, **style)
        panel.set(title=title, xlabel="iteration", ylabel=label)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    one_a_name = dict(zip(labels, handles, strict=True))
    axes.flat[0].legend(one_a_name.values(), one_a_name, frameon=False, fontsize=8)
    figure.suptitle(config.caption, fontsize=9)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw_trees(runs: Sequence[Run], path: Path) -> None:
    """The most nested test expressions: the gold tree, and beside it what each run of the first seed found."""
    from rbst.plotting import draw_tree, new_figure

    shown = [
        run
        for run in runs
        if run.seed == runs[0].seed and run.name not in GIVEN_TREES and run.best_file.is_file()
    ]
    short = [e for e in runs[0].data.test if count_operators(e) and len(e.tokens) <= LONGEST_SHOWN]
    examples = sorted(short, key=lambda e: (count_operators(e), len(e.tokens)), reverse=True)
    examples = examples[:EXPRESSIONS_SHOWN]
    if not examples:
        return
    titles = ["gold tree", *(run.name for run in shown)]
    trees = [[example.merges for example in examples]]
    for run in shown:
        _, merges = run.predict(*run.best(), pad(examples))
        trees.append([m[: len(e.tokens) - 1] for m, e in zip(merges, examples, strict=True)])
    figure, axes = new_figure(
        len(examples), len(trees), width=3.6 * len(trees), height=2.1 * len(examples)
    )
    for column, (title, drawn) in enumerate(zip(titles, trees, strict=True)):
        for row, (example, merges) in enumerate(zip(examples, drawn, strict=True)):
            words = [TOKENS[token] for token in example.tokens]
            draw_tree(axes[row, column], words, merges, gold=example.merges)
            axes[row, column].set_title(
                title
                if column == 0
                else f"{title}, F1 {unlabelled_f1(merges, example.merges):.0%}",
                fontsize=8,
            )
    figure.suptitle(
        f"greedy trees of test expressions; spans that the gold tree lacks in red\n{runs[0].config.caption}",
        fontsize=9,
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def count_operators(example: Example) -> int:
    """Operators of an expression."""
    return sum(TOKENS[token] in OPERATORS for token in example.tokens)
