r"""One run of the discrete VAE: what decides its numbers, its training, its validation, its test.

A run is a :class:`Config` with one estimator name and one seed. It lives in a folder of its own, so that it can be
killed at any moment and continued: :func:`train_run` leaves ``checkpoint.npz`` on the way and
``result.json`` at the end, :func:`bound_run` then bounds the test images block by block and leaves
``test.json``. ``rbst vae`` and ``rbst sweep`` are made of these. Paulus et al. (2021), section 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from autograd import value_and_grad

from rbst._array import DEVICES, Array, device_namespace, getval, namespace, new_generator, to_host
from rbst._files import read_json, read_npz, write_json, write_npz
from rbst.autodiff import objective
from rbst.data import BinaryImages, load_digits, load_mnist
from rbst.estimators.registry import Estimator, get_estimator
from rbst.estimators.score_function import RunningMean
from rbst.experiments.record import training_record, tuples
from rbst.experiments.training import (
    EVEN_RATES,
    SCHEDULES,
    Diverged,
    TrainingState,
    load_state,
    minibatch,
    momentum_step,
    scheduled,
    train,
)
from rbst.models.vae import VAE

MEASUREMENTS = 50
"""Points of the training curves."""

SNAPSHOTS = 10
"""Parameters that a tracked run keeps along the way; divides MEASUREMENTS."""

RTOL = 1e-3
"""Tolerance of ``gr`` in training: far below the noise of one minibatch."""

VALIDATION_IMAGES = 1000
VALIDATION_SAMPLES = 100
"""Runs are compared by the bound of so many samples on so many shuffled validation images."""

IMAGES_PER_BLOCK = 100
"""Test images that are bounded between two writes to the disk."""


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of an experiment; the defaults are those of the digits."""

    data: str = "digits"
    estimators: tuple[str, ...] = ("st", "st-gs", "gs", "reinforce", "gr-mc10", "gr-mc100")
    arity: int = 8
    bits: int = 24
    hidden: tuple[int, ...] = (64,)
    batch_size: int = 20
    iterations: int = 4000
    learning_rate: float = 0.01
    learning_rate_final: float | None = None
    schedule: str = "geometric"
    rate_encoder: float = 1.0
    rate_output: float = 1.0
    momentum: float = 0.9
    tau: float = 0.5
    tau_final: float | None = None
    seed: int = 0
    seeds: int = 1
    dtype: str = "float32"
    bound_samples: int = 100
    track: bool = False
    device: str = "cpu"
    code: str = "one-hot"

    def __post_init__(self) -> None:
        _require("data", self.data in ("digits", "mnist"), self.data, "digits or mnist")
        if not self.estimators:
            raise ValueError("an experiment needs at least one estimator, got none; name one")
        for name in self.estimators:
            estimator = get_estimator(name, tau=self.tau)
            if name == "foust" and self.arity != 2:
                raise ValueError(f"foust is for Boolean variables, got --arity {self.arity}; use 2")
            if estimator.evaluates == "several":
                raise ValueError(
                    f"{name} evaluates the decoder at several points, which a training step does not "
                    "do; choose another --estimator"
                )
        if self.arity < 2 or self.arity & (self.arity - 1):
            raise ValueError(f"--arity must be a power of 2, got {self.arity}; try 2, 4, 8 or 16")
        bits_per_variable = self.arity.bit_length() - 1
        if self.bits < 1 or self.bits % bits_per_variable:
            nearest = max(1, round(self.bits / bits_per_variable)) * bits_per_variable
            raise ValueError(
                f"--bits must be a positive multiple of log2(arity) = {bits_per_variable}, got "
                f"{self.bits}; try {nearest}"
            )
        for option in ("batch_size", "iterations", "seeds", "bound_samples"):
            _require(option, getattr(self, option) >= 1, getattr(self, option), "at least 1")
        _require("seed", self.seed >= 0, self.seed, "at least 0")
        _require("hidden", min(self.hidden, default=0) >= 1, self.hidden, "one or more sizes >= 1")
        lr = self.learning_rate
        _require("learning_rate", 0 < lr < math.inf, lr, "positive and finite")
        _require("momentum", 0 <= self.momentum < 1, self.momentum, "in [0, 1)")
        for option in ("rate_encoder", "rate_output"):
            factor = getattr(self, option)
            _require(option, 0 < factor < math.inf, factor, "positive and finite")
        _require("schedule", self.schedule in SCHEDULES, self.schedule, " or ".join(SCHEDULES))
        _require("code", self.code in ("one-hot", "bits"), self.code, "one-hot or bits")
        final = self.tau_final
        _require("tau_final", final is None or 0 < final < math.inf, final, "positive and finite")
        final = self.learning_rate_final
        linear = self.schedule == "linear"
        wanted = "at least 0 and finite" if linear else "positive for a geometric --schedule"
        holds = final is None or 0 < final < math.inf or (final == 0 and linear)
        _require("learning_rate_final", holds, final, wanted)
        _require("dtype", self.dtype in ("float32", "float64"), self.dtype, "float32 or float64")
        _require("device", self.device in DEVICES, self.device, " or ".join(DEVICES))

    @property
    def num_variables(self) -> int:
        """L: the bits divided by the bits of one variable."""
        return self.bits // (self.arity.bit_length() - 1)

    @property
    def caption(self) -> str:
        """What a figure must say of the experiment."""
        tau = f"{self.tau:g}" if self.tau_final is None else f"{self.tau:g} to {self.tau_final:g}"
        return (
            f"{self.data}, L = {self.num_variables} variables, n = {self.arity}, tau = {tau}, "
            f"batch {self.batch_size}"
        )

    def estimator(self, name: str, iteration: int) -> Estimator:
        """The estimator at this iteration, its temperature on the way to ``tau_final`` if that is given."""
        tau = scheduled(self.tau, self.tau_final, "geometric", self._progress(iteration))
        return get_estimator(name, tau=tau, rtol=RTOL)

    def learning_rate_at(self, iteration: int) -> float:
        """The learning rate at this iteration, on its way to ``learning_rate_final`` if that is given."""
        progress = self._progress(iteration)
        return scheduled(self.learning_rate, self.learning_rate_final, self.schedule, progress)

    def _progress(self, iteration: int) -> float:
        """From 0 at the first iteration to 1 at the last."""
        return iteration / max(1, self.iterations - 1)


def _require(option: str, holds: bool, got: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"--{option.replace('_', '-')} must be {wanted}, got {got}; change it")


DEFAULTS = {
    "digits": Config(),
    "mnist": Config(
        data="mnist",
        arity=2,
        bits=240,
        hidden=(240, 240),
        iterations=50_000,
        learning_rate=0.0007,
        learning_rate_final=0.0,
        schedule="linear",
        rate_encoder=2.5,
        rate_output=10.0,
        code="bits",
        bound_samples=5000,
    ),
}
"""What is not asked for, by data set.

For MNIST the architecture and the lengths of the paper; the falling rate and its factors by layer are ours, the
paper says "SGD with momentum": with one rate for all layers the decoder's output layer starves.
"""


def make_config(options: dict[str, Any]) -> Config:
    """The defaults of the data set with these fields replaced; lists become tuples."""
    data = options.get("data", "digits")
    _require("data", data in DEFAULTS, data, " or ".join(DEFAULTS))
    unknown = sorted(set(options) - {f.name for f in fields(Config)})
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r}; known are {', '.join(asdict(Config()))}")
    return replace(DEFAULTS[data], **tuples(options))


def load_images(data: str, data_dir: Path | None = None) -> BinaryImages:
    """The images of this name; ``data_dir`` is where MNIST is looked for first."""
    return load_mnist(data_dir) if data == "mnist" else load_digits()


@dataclass(frozen=True)
class Run:
    """One estimator and one seed of an experiment, its images and its folder."""

    config: Config
    name: str
    seed: int
    data: BinaryImages
    folder: Path

    @cached_property
    def xp(self) -> Any:
        """The module that computes: NumPy, or CuPy on a GPU."""
        return device_namespace(self.config.device)

    @cached_property
    def images(self) -> BinaryImages:
        """The images in the precision of the run, on its device."""
        images = self.data.astype(self.config.dtype)
        return replace(
            images, **{k: self.xp.asarray(getattr(images, k)) for k in ("train", "valid", "test")}
        )

    @cached_property
    def validation_images(self) -> Array:
        """At most ``VALIDATION_IMAGES`` of the validation set, shuffled, the same for every run."""
        order = np.random.default_rng(0).permutation(len(self.images.valid))
        return self.images.valid[self.xp.asarray(order[:VALIDATION_IMAGES])]

    @cached_property
    def fixed_minibatch(self) -> Array:
        """Training images on which the gradient is examined; the same for every estimator."""
        images = self.images.train
        return images[minibatch(len(images), self.config.batch_size, 0, self.seed, self.xp)]

    def generator(self, *purpose: int) -> Any:
        """A generator on the device of the run, for a purpose with a number of its own."""
        return new_generator(self.xp, [self.seed, *purpose])

    @property
    def checkpoint(self) -> Path:
        """Where the state of the training is."""
        return self.folder / "checkpoint.npz"

    def start(self) -> tuple[VAE, TrainingState]:
        """The model and where its training starts: the same for every estimator."""
        config, xp = self.config, self.xp
        mean_pixels = xp.asarray(to_host(self.images.train).mean(axis=0))
        model = VAE(mean_pixels, config.num_variables, config.arity, config.hidden, config.code)
        parameters = model.initial_parameters(np.random.default_rng([self.seed, 0]), config.dtype)
        rng = np.random.default_rng([self.seed, 1])
        return model, TrainingState(parameters, xp.zeros_like(parameters), rng, RunningMean())

    def trained(self) -> tuple[VAE, TrainingState]:
        """The model and the state at its last checkpoint."""
        model, state = self.start()
        load_state(self.checkpoint, state)
        return model, state


def training_step(
    model: VAE,
    estimator_at: Callable[[int], Estimator],
    images: Array,
    *,
    batch_size: int,
    learning_rate_at: Callable[[int], float],
    momentum: float,
    seed: int,
    rate_factors: Sequence[tuple[slice, float]] = EVEN_RATES,
) -> Callable[[TrainingState], dict[str, float]]:
    """The function that makes one update of a :class:`TrainingState`, and returns its bound.

    ``estimator_at`` gives the estimator of an iteration, which may be one of your own, and
    ``learning_rate_at`` its learning rate.
    """

    xp = namespace(images)

    def loss(flat: Array, x: Array, estimator: Estimator, state: TrainingState) -> Array:
        cost, direct, draws = model.training_terms(flat, x, estimator, state.generator())
        bound = objective(estimator, cost, direct, draws, state.baseline.value)
        state.baseline.update(getval(cost))  # only now: a baseline that knows this cost would bias
        return bound

    loss_and_gradient = value_and_grad(loss)

    def step(state: TrainingState) -> dict[str, float]:
        x = images[minibatch(len(images), batch_size, state.iteration, seed, xp)]
        estimator = estimator_at(state.iteration)
        if state.iteration == 0:
            # The running mean starts at the cost of a draw that no gradient is made of.
            aside = new_generator(xp, [seed, 6])
            state.baseline.update(model.training_terms(state.parameters, x, estimator, aside)[0])
        bound, gradient = loss_and_gradient(state.parameters, x, estimator, state)
        momentum_step(
            state,
            gradient,
            learning_rate=learning_rate_at(state.iteration),
            momentum=momentum,
            rate_factors=rate_factors,
        )
        return {"train_bound": float(bound)}

    return step


def train_run(run: Run, *, checkpoint_every: int, progress: bool = True) -> dict[str, Any]:
    """Train to the end and validate; a finished run is read from its folder.

    A training that diverges ends there: its result says at which iteration, and has no bounds.
    """
    if (run.folder / "result.json").is_file():
        return read_json(run.folder / "result.json")
    from tqdm import tqdm

    config = run.config
    model, state = run.start()
    if run.checkpoint.exists():
        load_state(run.checkpoint, state)
    step = training_step(
        model,
        lambda iteration: config.estimator(run.name, iteration),
        run.images.train,
        batch_size=config.batch_size,
        learning_rate_at=config.learning_rate_at,
        momentum=config.momentum,
        seed=run.seed,
        rate_factors=model.rate_factors(config.rate_encoder, config.rate_output),
    )
    diverged_at = None
    with tqdm(
        total=config.iterations,
        initial=state.iteration,
        desc=f"{run.name:<9} seed {run.seed}",
        unit="it",
        disable=not progress,
    ) as bar:
        try:
            train(
                state,
                step,
                iterations=config.iterations,
                measure=lambda state: _measure(run, model, state),
                measure_every=max(1, config.iterations // MEASUREMENTS),
                checkpoint=run.checkpoint,
                checkpoint_every=checkpoint_every,
                progress=bar,
            )
        except Diverged:
            diverged_at = state.iteration
    result = training_record(config, run.name, run.seed, state, diverged_at)
    if diverged_at is None:
        rng = run.generator(7)
        bounds = model.bounds(state.parameters, run.validation_images, VALIDATION_SAMPLES, rng)
        result["valid_bound"] = float(-bounds[1].mean())
    write_json(run.folder / "result.json", result)
    return result


def _measure(run: Run, model: VAE, state: TrainingState) -> dict[str, float]:
    """The single-sample validation bound, with draws of its own; a tracked run keeps its parameters."""
    if run.config.track and is_snapshot(run.config, state.iteration):
        write_npz(snapshot_path(run, state.iteration), {"parameters": to_host(state.parameters)})
    rng = run.generator(2, state.iteration)
    bound, _ = model.bounds(state.parameters, run.validation_images, 1, rng)
    return {"valid_bound": float(-bound.mean())}


def is_snapshot(config: Config, iteration: int) -> bool:
    """Whether a tracked run keeps its parameters of this iteration."""
    every = max(1, config.iterations // MEASUREMENTS) * (MEASUREMENTS // SNAPSHOTS)
    return iteration % every == 0 or iteration == config.iterations


def snapshot_path(run: Run, iteration: int) -> Path:
    """Where a tracked run keeps its parameters of this iteration."""
    return run.folder / "snapshots" / f"{iteration:07d}.npz"


def bound_run(run: Run, *, progress: bool = True) -> dict[str, Any]:
    """Bound the test images with ``config.bound_samples`` samples; what is done is read from the folder.

    Every block of images has a generator of its own and is written when it is done, so that a killed
    test continues at the block it was in and ends as if it had not been killed.
    """
    if (run.folder / "test.json").is_file():
        return read_json(run.folder / "test.json")
    from tqdm import tqdm

    model, state = run.trained()
    images, M = run.images.test, run.config.bound_samples
    blocks = run.folder / f"test-bounds-{M}.npz"
    done = read_npz(blocks)["bounds"] if blocks.exists() else np.empty((2, 0))
    with tqdm(
        total=len(images),
        initial=done.shape[1],
        desc=f"{run.name:<9} test  ",
        unit="img",
        disable=not progress,
    ) as bar:
        while done.shape[1] < len(images):
            first = done.shape[1]
            x = images[first : first + IMAGES_PER_BLOCK]
            bounds = model.bounds(state.parameters, x, M, run.generator(3, first))
            done = np.hstack([done, np.stack([to_host(bound) for bound in bounds])])
            write_npz(blocks, {"bounds": done})
            bar.update(len(x))
    one, many = -done.mean(axis=1)
    error = done[1].std(ddof=1) / math.sqrt(done.shape[1])
    result = {"samples": M, "test_bound_1": one, "test_bound": many, "error_over_images": error}
    write_json(run.folder / "test.json", result)
    return result
