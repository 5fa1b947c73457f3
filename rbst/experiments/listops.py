r"""``rbst listops``: latent parse trees, learned from the value of an expression alone.

Trains the parser of :mod:`rbst.models.tree_lstm` to predict the value 0..9 of ListOps expressions, once for
each estimator and seed (Paulus et al., 2021, section 5.3 and Table 1). ``gold`` and ``left`` instead of
an estimator train the same network on the gold trees (the ceiling) and on left-branching ones (the floor).
The parameters with the best validation accuracy, ``best.npz``, are the ones that are tested. Runs, folders and
``--resume`` are those of :mod:`rbst.experiments.run`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import Array, to_host
from rbst._files import find_data_file, read_npz, write_npz
from rbst._tables import mean_and_error, text_table, wrapped
from rbst.data import Example, ListOps, generated_splits, published_splits
from rbst.data.listops import FILE, NUM_EXPRESSIONS, TOKENS, load_published, spans
from rbst.estimators.registry import Estimator, get_estimator
from rbst.experiments.report import (
    Cells,
    Result,
    Results,
    Table,
    beside_paper,
    best_runs,
    paper_cell,
)
from rbst.experiments.run import RTOL, Experiment, Run, RunSettings, by_estimator, check_batch_size
from rbst.experiments.settings import (
    at_least,
    fraction,
    not_negative,
    once,
    positive,
    setting,
    temperature,
)
from rbst.experiments.training import TrainingState, adam_step, clip_norm, minibatch, momentum_step
from rbst.models.tree_lstm import Sequences, TreeLSTM, check_estimator, follow, left_branching
from rbst.plotting import (
    caption_beside_paper,
    colour,
    draw_tree,
    new_figure,
    plot_beside_paper,
    plot_curves,
    set_caption,
)

GIVEN_TREES = ("gold", "left")
"""Names that stand for a given tree instead of an estimator."""

DATA_SEED = 0
"""The generated expressions and the splits are the same for every run."""

VALIDATION_EXPRESSIONS = 2000
"""Of the validation set, for the choice of the best parameters along the way."""

EXPRESSIONS_PER_BLOCK = 250
"""Parsed at a time where no gradient is wanted."""

EXPRESSIONS_SHOWN, LONGEST_SHOWN = 3, 14


@dataclass(frozen=True)
class Config(RunSettings):
    """Everything that decides the numbers of ``rbst listops``; written to ``config.json``.

    With the defaults, the coldest temperature of the paper, ST-GS collapses and GR-MC10 does not.
    """

    estimators: tuple[str, ...] = setting(
        ("st-gs", "gr-mc10"),
        "see 'rbst estimators', or gold or left for given trees",
        option="--estimator",
        within=once(),
    )
    max_length: int = setting(
        10, "longest expression in tokens; 10, 25, 50 in the paper", within=at_least(1)
    )
    tau: float = setting(0.01, "temperature, where there is one", within=temperature)
    hidden: int = setting(64, "size of the network", within=at_least(1, 10**5))
    forget_bias: float = setting(0.0, "add 1 to both forget gates", const=1.0)
    batch_size: int | None = setting(
        None, "expressions of a minibatch", within=at_least(1), absent="the maximum length"
    )
    iterations: int = setting(2500, "most steps of each run", within=at_least(1), quick=100)
    optimizer: str = setting("sgd", "gradient descent or Adam", choices=("sgd", "adam"))
    learning_rate: float = setting(0.2, "of the optimizer", within=positive)
    learning_rate_final: float | None = setting(
        None,
        "learning rate after the most steps, reached linearly",
        within=not_negative,
        before=None,
        absent="constant",
    )
    clip: float | None = setting(None, "limit of the gradient's norm", within=positive, before=None)
    momentum: float = setting(0.0, "of gradient descent", within=fraction)
    measure_every: int = setting(500, "steps between two validations", within=at_least(1), quick=50)
    patience: int = setting(
        20, "validations without a better one before a run stops", within=at_least(1)
    )
    data: str = setting(
        "generated", "expressions to learn from", choices=("generated", "published")
    )
    num_expressions: int = setting(
        NUM_EXPRESSIONS, "generated of all lengths, then restricted", within=at_least(1)
    )
    published_test: bool = setting(False)
    schedule = "linear"

    def check(self) -> None:
        """The parser can use the estimators."""
        for name in self.estimators:
            if name not in GIVEN_TREES:
                check_estimator(get_estimator(name, tau=self.tau))

    @property
    def examples_per_step(self) -> int:
        """The batch size; by default the maximum length, as in the paper."""
        return self.max_length if self.batch_size is None else self.batch_size

    @property
    def caption(self) -> str:
        """What a figure must say about the experiment."""
        return (
            f"ListOps, at most {self.max_length} tokens, tau = {self.tau:g}, hidden {self.hidden}, "
            f"batch {self.examples_per_step}, {self.optimizer}, learning rate {self.learning_rate:g}"
        )


# ----------------------------------------------------------------------------- data


def load_data(config: Config, data_dir: Path | None = None) -> ListOps:
    """The expressions of an experiment, split."""
    rng = np.random.default_rng(DATA_SEED)
    if config.data == "published":
        data = published_splits(rng, max_length=config.max_length, data_dir=data_dir)
    else:
        data = generated_splits(
            rng,
            max_length=config.max_length,
            published_test=load_published("test", data_dir) if config.published_test else (),
            num_expressions=config.num_expressions,
        )
    check_batch_size(config.examples_per_step, data.train, "expressions")
    return data


def describe(config: Config, data: ListOps) -> str:
    """One line on the expressions."""
    line = (
        f"{data.name}, at most {config.max_length} tokens: {len(data.train)} training, "
        f"{len(data.valid)} validation, {len(data.test)} test"
    )
    if not config.published_test:
        return f"{line} expressions"
    return (
        f"{line}, {len(data.published_test)} published test expressions; {data.num_dropped} dropped "
        "because the published test file holds them"
    )


def pad(examples: Sequence[Example]) -> Sequences:
    """Examples as one padded array.

    Examples
    --------
    >>> two = [Example((10, 1, 2, 14), 1, (0, 0, 0)), Example((7,), 7, ())]
    >>> pad(two).tokens
    array([[10,  1,  2, 14],
           [ 7,  0,  0,  0]])
    """
    lengths = np.array([len(example.tokens) for example in examples])
    tokens = np.zeros((len(examples), lengths.max()), int)
    merges = np.zeros((len(examples), lengths.max() - 1), int)
    for i, example in enumerate(examples):
        tokens[i, : lengths[i]] = example.tokens
        merges[i, : lengths[i] - 1] = example.merges
    return Sequences(tokens, lengths, np.array([e.label for e in examples]), merges)


# ----------------------------------------------------------------------------- one run


class ParserRun(Run):
    """A parser that is trained with one estimator, or with ``gold`` or ``left`` trees."""

    objective, aside = "train_cost", 2

    @cached_property
    def model(self) -> TreeLSTM:
        """The parser."""
        return TreeLSTM(len(TOKENS), 10, self.config.hidden, self.config.forget_bias)

    def start(self) -> TrainingState:
        """Adam has two moments where descent has a velocity."""
        state = super().start()
        if self.config.optimizer == "adam":
            state.velocity = self.xp.stack([state.velocity, state.velocity])
        return state

    def estimator(self, iteration: int) -> Estimator:
        """The same at every iteration; a given tree needs none, and the objective of ``st`` is the mean cost."""
        name = "st" if self.name in GIVEN_TREES else self.name
        return get_estimator(name, tau=self.config.tau, rtol=RTOL)

    @cached_property
    def training(self) -> Sequences:
        """The training expressions, padded, on the device of the run."""
        return pad(self.data.train).move(self.xp)

    def minibatch(self, iteration: int) -> Sequences:
        """The expressions of this iteration."""
        size = self.config.examples_per_step
        batch = minibatch(len(self.training), size, iteration, self.seed, self.xp)
        return self.training.select(batch)

    def terms(self, flat: Array, batch: Sequences, estimator: Estimator, rng: Any) -> tuple:
        """``cost``, ``direct`` and ``draws`` of :func:`rbst.objective`; of a given tree the cost alone."""
        if self.name in GIVEN_TREES:
            return self.model.terms(flat, batch, self._given(batch))[0], 0.0, []
        return self.model.training_terms(flat, batch, estimator, rng)

    def _given(self, sequences: Sequences) -> Any:
        return follow(sequences.merges) if self.name == "gold" else left_branching

    def update(self, state: TrainingState, gradient: Array) -> None:
        """Gradient descent with momentum, or Adam."""
        config, rate = self.config, self.config.learning_rate_at(state.iteration)
        if config.clip is not None:
            clip_norm(gradient, config.clip)
        if config.optimizer == "adam":
            adam_step(state, gradient, learning_rate=rate)
        else:
            momentum_step(state, gradient, learning_rate=rate, momentum=config.momentum)

    def predict(self, flat: Array, sequences: Sequences) -> tuple[Array, Array]:
        """Classes and trees, without chance: the greedy tree, or the given one; from the host and to it."""
        sequences = sequences.move(self.xp)
        choose = self._given(sequences) if self.name in GIVEN_TREES else None
        classes, merges = self.model.predict(flat, sequences, choose)
        return to_host(classes), to_host(merges)

    @cached_property
    def sequences(self) -> dict[str, Sequences]:
        """The padded expressions of each split; of the training set as many as of the validation set."""
        data = self.data
        splits = {
            "train": data.train[: len(data.valid)],
            "valid": data.valid,
            "test": data.test,
            "published_test": data.published_test,
        }
        return {name: pad(examples) for name, examples in splits.items() if examples}

    @property
    def best_file(self) -> Path:
        """Where the parameters of the best validation are."""
        return self.folder / "best.npz"

    def best(self) -> Array:
        """The parameters of the best validation."""
        return self.xp.asarray(read_npz(self.best_file)["parameters"].astype(self.config.dtype))

    def measure(self, state: TrainingState) -> dict[str, float]:
        """Accuracy and F1 on validation expressions; the best parameters so far are kept."""
        sequences = self.sequences["valid"].select(slice(0, VALIDATION_EXPRESSIONS))
        accuracy, f1 = measure_parser(self, state.parameters, sequences)
        if accuracy > max(state.curves.get("valid_accuracy", []), default=-1.0):
            write_npz(self.best_file, {"parameters": to_host(state.parameters)})
        return {"valid_accuracy": accuracy, "valid_f1": f1}

    def ended(self, state: TrainingState) -> bool:
        """Whether the last ``patience`` validations brought nothing better."""
        accuracies = state.curves.get("valid_accuracy") or [0.0]
        return len(accuracies) - 1 - int(np.argmax(accuracies)) >= self.config.patience

    def measure_test(self, *, progress: bool) -> dict[str, Any]:
        """Accuracy and F1 of the best parameters on every split."""
        flat = self.best()
        measured = {name: measure_parser(self, flat, s) for name, s in self.sequences.items()}
        return {
            "accuracy": {name: accuracy for name, (accuracy, _) in measured.items()},
            "f1": {name: f1 for name, (_, f1) in measured.items()},
        }

    def test(self, *, progress: bool = True) -> dict[str, Any]:
        """A training that diverged before its first validation has nothing to test."""
        if not self.best_file.is_file():
            return {"accuracy": None, "f1": None}
        return super().test(progress=progress)


def measure_parser(run: ParserRun, flat: Array, sequences: Sequences) -> tuple[float, float]:
    """Accuracy of the predicted values and mean F1 of the trees, without chance."""
    # Neighbours in length share a block, so that little of it is padding.
    order = np.argsort(sequences.lengths, kind="stable")
    correct, scores = 0, []
    for first in range(0, len(order), EXPRESSIONS_PER_BLOCK):
        block = sequences.select(order[first : first + EXPRESSIONS_PER_BLOCK])
        labels, merges = run.predict(flat, block)
        correct += int((labels == block.labels).sum())
        for length, induced, gold in zip(block.lengths, merges, block.merges, strict=True):
            if length > 2:
                scores.append(unlabelled_f1(induced[: length - 1], gold[: length - 1]))
    return correct / len(order), float(np.mean(scores)) if scores else math.nan


def unlabelled_f1(induced: Sequence[int], gold: Sequence[int]) -> float:
    """F1 of the spans of an induced tree; the span of the whole expression does not count.

    Binary trees over the same tokens have equally many spans, so precision, recall and F1 are one.

    Examples
    --------
    >>> unlabelled_f1((1, 0, 0), (0, 0, 0))  # ((a (b c)) d) against (((a b) c) d): one of two
    0.5
    """
    found, true = set(spans(induced)[:-1]), set(spans(gold)[:-1])
    return len(found & true) / len(true)


def add_download(parser: argparse.ArgumentParser) -> None:
    """The option that fetches what is missing."""
    text = "fetch the published test file if it is missing"
    parser.add_argument("--download", action="store_true", help=text)


def look_for_published_test(config: Config, arguments: argparse.Namespace) -> Config:
    """If the published test file is there, its expressions are kept out of the training."""
    found = find_data_file(FILE.format(split="test"), arguments.data_dir) is not None
    published_test = found or arguments.download or config.data == "published"
    if not published_test:
        note = (
            "the published test file is not here, so its expressions are not kept out of the training, and it "
            "is not used for testing; --download fetches it (2.8 MB)"
        )
        print(wrapped(note))
    return replace(config, published_test=published_test)


# ----------------------------------------------------------------------------- what it shows


def percent(results: Results, kind: str, split: str) -> str:
    """Mean accuracy or F1 on a split, of the runs that have one."""
    return mean_and_error([100 * run[kind][split] for run in results if split in (run[kind] or ())])


def format_table(config: Config, results: Results) -> str:
    """The results as text: mean over seeds, and with several of them its standard error."""
    splits = {"train": "train", "valid": "validation", "test": "test"}
    if config.published_test:
        splits["published_test"] = "published test"
    rows = [["estimator", *splits.values(), "F1", "at the end", "ms/iteration", "iterations"]]
    for name, own in by_estimator(config, results).items():
        accuracies = (percent(own, "accuracy", split) for split in splits)
        last = mean_and_error(
            [
                100 * accuracy
                for run in own
                for accuracy in run["curves"].get("valid_accuracy", ())[-1:]
            ]
        )
        milliseconds = mean_and_error([result["milliseconds_per_iteration"] for result in own])
        iterations = "/".join(str(result["iterations"]) for result in own)
        rows.append([name, *accuracies, percent(own, "f1", "test"), last, milliseconds, iterations])
    note = (
        "Accuracies and F1 in percent, of the parameters with the best validation accuracy, with the "
        "greedy tree; at the end: validation accuracy of the last parameters. F1: unlabelled spans of the "
        "test trees against the gold ones, without the root."
    )
    for result in results:
        if result["diverged_at"] is not None:
            counted = "; its best parameters before that are counted"
            note += (
                f"\n{result['estimator']} with seed {result['seed']} diverged at iteration "
                f"{result['diverged_at']}{counted if result['accuracy'] else ', before its first validation'}."
            )
    return f"{text_table(rows)}\n\n{wrapped(note)}"


def draw_curves(config: Config, runs: Sequence[Run], results: Results) -> Any:
    """Training cost, validation accuracy and F1 along the training: mean and range over the seeds."""
    panels = {
        "train_cost": ("training cost", "cost (nats)", 1),
        "valid_accuracy": ("validation accuracy", "accuracy (%)", 100),
        "valid_f1": ("induced against gold trees", "F1 (%)", 100),
    }
    curves: dict[str, list] = {}
    for result in results:
        if result["curves"]:
            curves.setdefault(result["estimator"], []).append(result["curves"])
    figure, axes = new_figure(1, 3, width=8, height=3)
    for panel, (key, (title, label, unit)) in zip(axes.flat, panels.items(), strict=True):
        plot_curves(panel, curves, key, scale=unit)
        panel.set(title=title, xlabel="iteration", ylabel=label)
    if curves:
        axes.flat[0].legend(frameon=False, fontsize="small")
    set_caption(figure, config.caption)
    return figure


def draw_trees(config: Config, runs: Sequence[ParserRun], results: Results) -> Any:
    """The most nested test expressions: the gold tree, and beside it what each run of the first seed found."""
    shown = [
        run
        for run in runs
        if run.seed == runs[0].seed and run.name not in GIVEN_TREES and run.best_file.is_file()
    ]
    short = [e for e in runs[0].data.test if 1 < len(e.tokens) <= LONGEST_SHOWN]
    close = TOKENS.index("]")  # there are as many of them as operators
    nested = sorted(short, key=lambda e: (e.tokens.count(close), len(e.tokens)), reverse=True)
    examples = nested[:EXPRESSIONS_SHOWN]
    if not examples:
        return None
    trees = {"gold tree": [example.merges for example in examples]}
    for run in shown:
        _, merges = run.predict(run.best(), pad(examples))
        trees[run.name] = [m[: len(e.merges)] for m, e in zip(merges, examples, strict=True)]
    return compare_trees(config, examples, trees)


def compare_trees(
    config: Config, examples: Sequence[Example], trees: Mapping[str, Sequence[Sequence[int]]]
) -> Any:
    """A row for each title, the merges of its trees beside one another."""
    figure, axes = new_figure(len(trees), len(examples), width=8, height=2.1 * len(trees) + 0.5)
    for row, (title, drawn) in zip(axes, trees.items(), strict=True):
        for panel, example, merges in zip(row, examples, drawn, strict=True):
            draw_tree(panel, [TOKENS[t] for t in example.tokens], merges, gold=example.merges)
            score = f"F1 {unlabelled_f1(merges, example.merges):.0%}"
            panel.set_title(f"{title}, {score}", fontsize="small")
    set_caption(
        figure,
        f"greedy trees of test expressions; spans that the gold tree lacks in red\n{config.caption}",
    )
    return figure


# ----------------------------------------------------------------------------- Table 1

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


PAPER_CELLS = {
    (max_length, tau, name): accuracy
    for (name, max_length), row in PAPER.items()
    for tau, accuracy in zip(PAPER_TAUS, row, strict=True)
}


def cell_of(result: Result) -> tuple[int, float, str]:
    """What is compared: maximum length, temperature, estimator.

    Given trees have no temperature: 0 stands for it, so that they come first.
    """
    config, name = result["config"], result["estimator"]
    return config["max_length"], 0.0 if name in GIVEN_TREES else config["tau"], name


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


def mistakes(results: Results) -> float:
    """The figure by which runs are compared, lower is better; infinite where one diverged before its first validation."""
    if not all(run.get("accuracy") for run in results):
        return math.inf
    return -float(np.mean([run["accuracy"]["valid"] for run in results]))


def table_line(cell: tuple, best: Cells, same: Results) -> dict[str, str]:
    """A line of Table 1: means over runs with their standard errors."""
    (max_length, tau, name), chosen = cell, best[cell]
    iterations = [run["iterations"] for run in chosen]
    test = 100 * float(np.mean([run["accuracy"]["test"] for run in chosen]))
    rates = sorted({run["config"]["learning_rate"] for run in same})
    return {
        "estimator": name,
        "tokens": f"≤ {max_length}",
        "tau": f"{tau:g}" if tau else "",
        "test": percent(chosen, "accuracy", "test"),
        **beside_paper(test, cell, PAPER_CELLS),
        "published test": percent(chosen, "accuracy", "published_test"),
        "validation": percent(chosen, "accuracy", "valid"),
        "F1": percent(chosen, "f1", "test"),
        "runs": str(len(chosen)),
        "iterations": " to ".join(map(str, sorted({min(iterations), max(iterations)}))),
        "learning rate (tried)": f"{chosen[0]['config']['learning_rate']:.3g} ({describe_rates(rates)})",
    }


def table_note(best: Sequence[Results], columns: Collection[str]) -> str:
    """The note below a table of these columns."""
    note = (
        "Accuracy and F1 in percent, means over runs with their standard errors, with greedy trees. Of each cell "
        "the learning rate with the best validation accuracy is shown. F1: spans of the test trees "
        "against the gold ones, without the root."
    )
    return f"{note} The paper's column is its test accuracy." if "paper" in columns else note


def draw_table(results: Results) -> Any:
    """Table 1 as a picture, a panel for each length, with the paper's numbers; None for one temperature and length."""
    best = best_runs(results, EXPERIMENT.report)
    if len({cell[:2] for cell in best if cell[-1] not in GIVEN_TREES}) < 2:
        return None
    lengths = sorted({max_length for max_length, *_ in best})
    figure, (panels,) = new_figure(1, len(lengths), width=8, height=3.2)
    lines: dict[str, Any] = {}
    for axes, max_length in zip(panels, lengths, strict=True):
        axes.sharex(panels[0])
        axes.sharey(panels[0])
        lines |= _draw_accuracies(axes, {c: runs for c, runs in best.items() if c[0] == max_length})
        axes.set(title=f"at most {max_length} tokens", xlabel="tau", xscale="log")
        axes.label_outer()
    panels[0].set_xticks(PAPER_TAUS, [f"{tau:g}" for tau in PAPER_TAUS])
    panels[0].set_ylabel("test accuracy (%)")
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=7, fontsize="small")
    in_paper = any(paper_cell(cell) in PAPER_CELLS for cell in best)
    caption_beside_paper(figure, "measured, means over seeds", in_paper)
    return figure


def _draw_accuracies(axes: Any, best: Cells) -> dict[str, Any]:
    """Test accuracy of the cells of one length against the temperature, beside the paper's; a line of each estimator."""
    found: dict[str, list] = {}
    lines = {}
    for cell, runs in best.items():
        _, tau, name = cell
        accuracy = 100 * float(np.mean([run["accuracy"]["test"] for run in runs]))
        if name in GIVEN_TREES:
            (lines[name],) = axes.plot(PAPER_TAUS, [accuracy] * 3, ":", color=colour(name))
        else:
            in_paper = PAPER_CELLS.get(paper_cell(cell), math.nan)
            found.setdefault(name, []).append((tau, accuracy, 0, in_paper))
    return lines | plot_beside_paper(axes, found)


EXPERIMENT = Experiment(
    name="listops",
    summary="a latent-tree parser",
    defaults={"generated": Config()},
    load_data=load_data,
    run=ParserRun,
    table=format_table,
    figures={"curves.svg": draw_curves, "trees.svg": draw_trees},
    cells=lambda grid: [
        {"estimators": (name,), "max_length": max_length, "tau": tau}
        for max_length in grid["max_length"]
        for name in grid["estimators"]
        for tau in (grid["tau"][:1] if name in GIVEN_TREES else grid["tau"])
    ],
    grid={
        "estimators": lambda config: ("left", "gold", "st-gs", "gr-mc10", "gr-mc100", "gr"),
        "max_length": lambda config: (config.max_length,),
        "tau": lambda config: PAPER_TAUS,
    },
    intervals={"learning_rate": (0.03, 0.5), "momentum": (0.0, 0.0)},
    draws=5,
    swept={"iterations": 20_000},
    data_settings=("data", "max_length", "num_expressions", "published_test"),
    job_name=lambda config: f"{config.estimators[0]}-l{config.max_length}-tau{config.tau:g}",
    tested_at_once=True,
    report=Table(
        title="Table 1",
        belongs=lambda result: "max_length" in result["config"],
        tested="accuracy",
        names=("tokens <=", "tau ="),
        cell=cell_of,
        order=lambda cell: (*cell[:-1], cell[-1] not in GIVEN_TREES, cell[-1]),
        has_tau=lambda name: name not in GIVEN_TREES and get_estimator(name).tau is not None,
        score=mistakes,
        line=table_line,
        shown="test",
        repeats=("tokens", "tau"),
        note=table_note,
        record=lambda best, cells: {"listops": [run for runs in cells.values() for run in runs]},
        paper=PAPER_CELLS,
        figures={"table1.svg": draw_table},
    ),
    add_options=add_download,
    prepare=look_for_published_test,
    describe=describe,
)
add_arguments, run = EXPERIMENT.add_arguments, EXPERIMENT.execute
