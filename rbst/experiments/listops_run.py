r"""One run of ``rbst listops``: what decides its numbers, its data, its training and its test.

A run is a :class:`Config` with one estimator name and one seed, in a folder of its own. It can be killed at any
moment and continued bit for bit: ``checkpoint.npz`` holds the state of the training, ``best.npz`` the
parameters with the best validation accuracy so far, ``result.json`` ends it. Paulus et al. (2021), section
5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from autograd import value_and_grad

from rbst._array import DEVICES, Array, device_namespace, getval, new_generator, to_host
from rbst._files import read_json, read_npz, write_json, write_npz
from rbst.autodiff import objective
from rbst.data.listops import (
    NUM_EXPRESSIONS,
    TOKENS,
    Example,
    ListOps,
    generated_splits,
    load_published,
    published_splits,
    spans,
)
from rbst.estimators.registry import Estimator, get_estimator
from rbst.estimators.score_function import RunningMean
from rbst.experiments.record import training_record
from rbst.experiments.training import (
    Diverged,
    TrainingState,
    adam_step,
    clip_norm,
    load_state,
    minibatch,
    momentum_step,
    scheduled,
    train,
)
from rbst.models.tree_lstm import (
    Sequences,
    TreeLSTM,
    check_estimator,
    follow,
    greedy,
    left_branching,
)

GIVEN_TREES = ("gold", "left")
"""What stands in the place of an estimator where the tree is given."""

DATA_SEED = 0
"""The generated expressions and the splits are the same for every run."""

VALIDATION_EXPRESSIONS = 2000
"""Of the validation set, for the choice of the best parameters along the way."""

RTOL = 1e-3
"""Of ``gr``: an error that no training can see."""

EXPRESSIONS_PER_BLOCK = 250
"""Parsed at a time where no gradient is wanted."""


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of ``rbst listops``; written to ``config.json``."""

    estimators: tuple[str, ...] = ("st-gs", "gr-mc10")
    max_length: int = 10
    tau: float = 0.1
    hidden: int = 64
    forget_bias: float = 0.0
    batch_size: int | None = None
    iterations: int = 8000
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    learning_rate_final: float | None = None
    clip: float | None = None
    momentum: float = 0.0
    measure_every: int = 500
    patience: int = 20
    seed: int = 0
    seeds: int = 1
    dtype: str = "float32"
    data: str = "generated"
    num_expressions: int = NUM_EXPRESSIONS
    published_test: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.estimators:
            raise ValueError("an experiment needs at least one estimator, got none; name one")
        for name in self.estimators:
            if name not in GIVEN_TREES:
                check_estimator(get_estimator(name, tau=self.tau))
        for option in ("max_length", "hidden", "iterations", "measure_every", "patience", "seeds"):
            _require(option, getattr(self, option) >= 1, getattr(self, option), "at least 1")
        _require("batch_size", self.examples_per_step >= 1, self.batch_size, "at least 1")
        _require("seed", self.seed >= 0, self.seed, "at least 0")
        lr = self.learning_rate
        _require("learning_rate", 0 < lr < math.inf, lr, "positive and finite")
        final = self.learning_rate_final
        _require("learning_rate_final", final is None or 0 <= final < math.inf, final, "at least 0")
        clip = self.clip
        _require("clip", clip is None or 0 < clip < math.inf, clip, "positive and finite")
        _require("momentum", 0 <= self.momentum < 1, self.momentum, "in [0, 1)")
        _require("optimizer", self.optimizer in ("sgd", "adam"), self.optimizer, "sgd or adam")
        _require("dtype", self.dtype in ("float32", "float64"), self.dtype, "float32 or float64")
        _require("device", self.device in DEVICES, self.device, " or ".join(DEVICES))
        known = self.data in ("generated", "published")
        _require("data", known, self.data, "generated or published")

    @property
    def examples_per_step(self) -> int:
        """The batch size; by default the maximum length, as in the paper."""
        return self.max_length if self.batch_size is None else self.batch_size

    def learning_rate_at(self, iteration: int) -> float:
        """The learning rate at this iteration, falling linearly to ``learning_rate_final`` if that is given."""
        progress = iteration / max(1, self.iterations - 1)
        return scheduled(self.learning_rate, self.learning_rate_final, "linear", progress)

    @property
    def caption(self) -> str:
        """What a figure must say of the experiment."""
        return (
            f"ListOps, at most {self.max_length} tokens, tau = {self.tau:g}, hidden {self.hidden}, "
            f"batch {self.examples_per_step}, {self.optimizer}, learning rate {self.learning_rate:g}"
        )


def _require(option: str, holds: bool, got: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"--{option.replace('_', '-')} must be {wanted}, got {got}; change it")


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
    if config.examples_per_step > len(data.train):
        raise ValueError(
            f"--batch-size must be at most the {len(data.train)} training expressions, got "
            f"{config.examples_per_step}; choose a smaller one"
        )
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


@dataclass(frozen=True)
class Run:
    """One estimator (or ``gold`` or ``left``) and one seed of an experiment, and its folder."""

    config: Config
    name: str
    seed: int
    data: ListOps
    folder: Path

    @cached_property
    def xp(self) -> Any:
        """The module that computes: NumPy, or CuPy on a GPU."""
        return device_namespace(self.config.device)

    def start(self) -> tuple[TreeLSTM, TrainingState]:
        """The model and where its training starts: the same for every estimator."""
        config, xp = self.config, self.xp
        model = TreeLSTM(len(TOKENS), 10, config.hidden, config.forget_bias)
        parameters = model.initial_parameters(np.random.default_rng([self.seed, 0]), config.dtype)
        parameters = xp.asarray(parameters)
        velocity = xp.zeros_like(parameters)
        if config.optimizer == "adam":
            velocity = xp.stack([velocity, velocity])
        rng = np.random.default_rng([self.seed, 1])
        return model, TrainingState(parameters, velocity, rng, RunningMean())

    @cached_property
    def estimator(self) -> Estimator:
        """The estimator; a given tree needs none, and the objective of ``st`` is the mean cost."""
        name = "st" if self.name in GIVEN_TREES else self.name
        return get_estimator(name, tau=self.config.tau, rtol=RTOL)

    def terms(self, model: TreeLSTM, flat: Array, sequences: Sequences, rng: Any) -> tuple:
        """``cost``, ``direct`` and ``draws`` of :func:`rbst.objective`."""
        if self.name == "gold":
            return model.terms(flat, sequences, follow(sequences.merges))[0], 0.0, []
        if self.name == "left":
            return model.terms(flat, sequences, left_branching)[0], 0.0, []
        return model.training_terms(flat, sequences, self.estimator, rng)

    def predict(self, model: TreeLSTM, flat: Array, sequences: Sequences) -> tuple[Array, Array]:
        """Classes and trees, without chance: the greedy tree, or the given one; from the host and to it."""
        sequences = sequences.move(self.xp)
        choose = greedy
        if self.name in GIVEN_TREES:
            choose = follow(sequences.merges) if self.name == "gold" else left_branching
        classes, merges = model.predict(flat, sequences, choose)
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

    def best(self) -> tuple[TreeLSTM, Array]:
        """The model and its parameters of the best validation."""
        model, state = self.start()
        best = read_npz(self.best_file)["parameters"].astype(state.parameters.dtype)
        return model, self.xp.asarray(best)


def training_step(run: Run, model: TreeLSTM) -> Callable[[TrainingState], dict[str, float]]:
    """The function that makes one update of a :class:`TrainingState`, and returns its cost."""
    config = run.config
    training = pad(run.data.train).move(run.xp)

    def loss(flat: Array, sequences: Sequences, state: TrainingState) -> Array:
        cost, direct, draws = run.terms(model, flat, sequences, state.generator())
        value = objective(run.estimator, cost, direct, draws, state.baseline.value)
        state.baseline.update(getval(cost))  # only now: a baseline that knows this cost would bias
        return value

    loss_and_gradient = value_and_grad(loss)

    def step(state: TrainingState) -> dict[str, float]:
        size = config.examples_per_step
        batch = minibatch(len(training), size, state.iteration, run.seed, run.xp)
        sequences = training.select(batch)
        if state.iteration == 0:
            # The running mean starts at the cost of a draw that no gradient is made of.
            aside = new_generator(run.xp, [run.seed, 2])
            state.baseline.update(run.terms(model, state.parameters, sequences, aside)[0])
        value, gradient = loss_and_gradient(state.parameters, sequences, state)
        if config.clip is not None:
            clip_norm(gradient, config.clip)
        rate = config.learning_rate_at(state.iteration)
        if config.optimizer == "adam":
            adam_step(state, gradient, learning_rate=rate)
        else:
            momentum_step(state, gradient, learning_rate=rate, momentum=config.momentum)
        return {"train_cost": float(value)}

    return step


def train_run(run: Run, *, checkpoint_every: int, progress: bool = True) -> dict[str, Any]:
    """Train until the iterations or the patience are used up; a finished run is read from its folder.

    A training that diverges ends there, and its best parameters so far stand.
    """
    if (run.folder / "result.json").is_file():
        return read_json(run.folder / "result.json")
    from tqdm import tqdm

    config = run.config
    model, state = run.start()
    checkpoint = run.folder / "checkpoint.npz"
    if checkpoint.exists():
        load_state(checkpoint, state)
    step = training_step(run, model)
    diverged_at = None
    with tqdm(
        total=config.iterations,
        initial=state.iteration,
        desc=f"{run.name:<9} seed {run.seed}",
        unit="it",
        disable=not progress,
    ) as bar:

        def measure(state: TrainingState) -> dict[str, float]:
            measured = validate(run, model, state)
            bar.set_postfix_str(f"validation {measured['valid_accuracy']:.1%}")
            return measured

        try:
            while state.iteration < config.iterations and not out_of_patience(state, config):
                until = (state.iteration // config.measure_every + 1) * config.measure_every
                train(
                    state,
                    step,
                    iterations=min(until, config.iterations),
                    measure=measure,
                    measure_every=config.measure_every,
                    checkpoint=checkpoint,
                    checkpoint_every=checkpoint_every,
                    progress=bar,
                )
        except Diverged:
            diverged_at = state.iteration
    result = training_record(config, run.name, run.seed, state, diverged_at)
    write_json(run.folder / "result.json", result)
    return result


def validate(run: Run, model: TreeLSTM, state: TrainingState) -> dict[str, float]:
    """Accuracy and F1 on validation expressions; the best parameters so far are kept."""
    sequences = run.sequences["valid"].select(slice(0, VALIDATION_EXPRESSIONS))
    accuracy, f1 = measure_parser(run, model, state.parameters, sequences)
    if accuracy > max(state.curves.get("valid_accuracy", []), default=-1.0):
        write_npz(run.best_file, {"parameters": to_host(state.parameters)})
    return {"valid_accuracy": accuracy, "valid_f1": f1}


def out_of_patience(state: TrainingState, config: Config) -> bool:
    """Whether the last ``patience`` validations brought nothing better.

    Examples
    --------
    >>> curves = {"valid_accuracy": [0.2, 0.5, 0.4, 0.5]}
    >>> state = TrainingState(np.zeros(1), np.zeros(1), None, RunningMean(), curves=curves)
    >>> out_of_patience(state, Config(patience=2)), out_of_patience(state, Config(patience=3))
    (True, False)
    """
    accuracies = state.curves.get("valid_accuracy", [])
    return bool(accuracies) and len(accuracies) - 1 - int(np.argmax(accuracies)) >= config.patience


def measure_parser(
    run: Run, model: TreeLSTM, flat: Array, sequences: Sequences
) -> tuple[float, float]:
    """Accuracy of the predicted values and mean F1 of the trees, without chance."""
    # Neighbours in length share a block, so that little of it is padding.
    order = np.argsort(sequences.lengths, kind="stable")
    correct, scores = 0, []
    for first in range(0, len(order), EXPRESSIONS_PER_BLOCK):
        block = sequences.select(order[first : first + EXPRESSIONS_PER_BLOCK])
        labels, merges = run.predict(model, flat, block)
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


def measure_run(run: Run) -> dict[str, Any]:
    """Accuracy and F1 of the best parameters on every split; what is done is read from the folder."""
    if (run.folder / "test.json").is_file():
        return read_json(run.folder / "test.json")
    model, flat = run.best()
    result: dict[str, Any] = {"accuracy": {}, "f1": {}}
    for name, sequences in run.sequences.items():
        accuracy, f1 = measure_parser(run, model, flat, sequences)
        result["accuracy"][name], result["f1"][name] = accuracy, f1
    write_json(run.folder / "test.json", result)
    return result
