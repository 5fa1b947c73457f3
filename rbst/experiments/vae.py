r"""``rbst vae``: one discrete VAE, several estimators, the same start and the same minibatches.

Trains the model of :mod:`rbst.models.vae` once for each estimator and seed, and compares the bounds that
they reach, what an iteration costs, and how noisy the gradient of the encoder logits is (Paulus et al.,
2021, section 5.4; on the embedded digits in small, with ``--data mnist`` in full). Runs, folders and ``--resume`` are
those of :mod:`rbst.experiments.run`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import Array, to_host
from rbst._files import read_npz, write_npz
from rbst._progress import progress_bar
from rbst._tables import mean_and_error, text_table, wrapped
from rbst.categorical import sample_categorical
from rbst.data import BinaryImages, load_digits, load_mnist
from rbst.estimators.registry import Estimator, get_estimator
from rbst.experiments import tracking
from rbst.experiments.own import find_estimator
from rbst.experiments.report import Cells, Results, Table, beside_paper, best_runs, paper_cell
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
from rbst.experiments.training import SCHEDULES, Diverged, TrainingState, minibatch, momentum_step
from rbst.models.vae import VAE, sigmoid
from rbst.plotting import (
    caption_beside_paper,
    new_figure,
    plot_beside_paper,
    plot_curves,
    set_caption,
    show_images,
)

MEASUREMENTS = 50
"""Points of the training curves."""

SNAPSHOTS = 10
"""Parameters that a tracked run keeps along the way; divides MEASUREMENTS."""

VALIDATION_IMAGES = 1000
VALIDATION_SAMPLES = 100
"""Runs are compared by the bound of this many samples on this many shuffled validation images."""

IMAGES_PER_BLOCK = 100
"""Test images that are bounded between two writes to the disk."""

IMAGES_SHOWN = 8


@dataclass(frozen=True)
class Config(RunSettings):
    """Everything that decides the numbers of an experiment; the defaults are those of the digits."""

    data: str = setting("digits", "images to model", choices=("digits", "mnist"))
    estimators: tuple[str, ...] = setting(
        ("st", "st-gs", "gs", "reinforce", "gr-mc10", "gr-mc100"),
        "name or MODULE:NAME, see 'rbst estimators'",
        option="--estimator",
        within=once(),
    )
    arity: int = setting(8, "categories of a latent variable", within=at_least(0, 2**16))
    bits: int = setting(24, "size of the latent code, L log2(arity)", within=at_least(0, 10**6))
    hidden: tuple[int, ...] = setting(
        (64,),
        "tanh layers of the encoder; the decoder has them in reverse",
        nargs="+",
        metavar="SIZE",
        within=lambda x: (
            None if x and min(x) >= 1 and max(x) <= 10**5 else "one or more sizes >= 1"
        ),
    )
    batch_size: int = setting(20, "images of a minibatch", within=at_least(1))
    iterations: int = setting(4000, "steps of each run", within=at_least(1), quick=100)
    learning_rate: float = setting(0.01, "of the descent", within=positive)
    learning_rate_final: float | None = setting(
        None,
        "learning rate at the end, 0 only for a linear schedule",
        within=not_negative,
        before=None,
        absent="constant",
    )
    schedule: str = setting(
        "geometric", "how the learning rate gets to its end", choices=SCHEDULES, before="geometric"
    )
    rate_encoder: float = setting(
        1.0, "factor of the learning rate for the encoder", within=positive, before=1.0
    )
    rate_output: float = setting(
        1.0,
        "factor of the learning rate for the decoder's output layer",
        within=positive,
        before=1.0,
    )
    momentum: float = setting(0.9, "of the descent", within=fraction)
    tau: float = setting(0.5, "temperature, where there is one", within=temperature)
    tau_final: float | None = setting(
        None, "temperature at the end, reached geometrically", within=temperature, absent="constant"
    )
    bound_samples: int = setting(100, "M of the test bound", within=at_least(1))
    track: bool = setting(
        False, "measure variance and error of the gradients along the training as well"
    )
    code: str = setting(
        "one-hot",
        "how a category enters the decoder: n numbers, or log2 n",
        choices=("one-hot", "bits"),
        before="one-hot",
    )

    def check(self) -> None:
        """The code is a whole number of variables, a step can use the estimators, a geometric rate stays above 0."""
        if self.arity < 2 or self.arity & (self.arity - 1):
            raise ValueError(f"--arity must be a power of 2, got {self.arity}; try 2, 4, 8 or 16")
        bits_per_variable = self.arity.bit_length() - 1
        if self.bits < 1 or self.bits % bits_per_variable:
            nearest = max(1, round(self.bits / bits_per_variable)) * bits_per_variable
            raise ValueError(
                f"--bits must be a positive multiple of log2(arity) = {bits_per_variable}, got "
                f"{self.bits}; try {nearest}"
            )
        for name in self.estimators:
            estimator = find_estimator(name, tau=self.tau)
            if estimator.categories == 2 != self.arity:
                raise ValueError(
                    f"{name} is for Boolean variables, got --arity {self.arity}; use 2"
                )
            if estimator.evaluates == "several":
                raise ValueError(
                    f"{name} evaluates the decoder at several points, which a training step does not "
                    "do; choose another --estimator"
                )
        if self.learning_rate_final == 0 and self.schedule == "geometric":
            raise ValueError(
                "--learning-rate-final must be positive for a geometric --schedule, got 0.0; change it"
            )

    @property
    def num_variables(self) -> int:
        """L: the bits divided by the bits of one variable."""
        return self.bits // (self.arity.bit_length() - 1)

    @property
    def measure_every(self) -> int:
        """Iterations between two of ``MEASUREMENTS``."""
        return max(1, self.iterations // MEASUREMENTS)

    @property
    def caption(self) -> str:
        """What a figure must say about the experiment."""
        tau = f"{self.tau:g}" if self.tau_final is None else f"{self.tau:g} to {self.tau_final:g}"
        return (
            f"{self.data}, L = {self.num_variables} variables, n = {self.arity}, tau = {tau}, "
            f"batch {self.batch_size}"
        )


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
"""The defaults of each data set.

For MNIST the architecture and the lengths of the paper; the falling rate and its factors by layer are ours, the
paper says "SGD with momentum": with one rate for all layers the decoder's output layer starves.
"""


def load_images(config: Config, data_dir: Path | None = None) -> BinaryImages:
    """The images of this configuration; ``data_dir`` is where MNIST is looked for first."""
    data = load_mnist(data_dir) if config.data == "mnist" else load_digits()
    check_batch_size(config.batch_size, data.train, "images")
    return data


# ----------------------------------------------------------------------------- one run


class VAERun(Run):
    """A VAE that is trained with one estimator."""

    objective, aside = "train_bound", 6

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
    def model(self) -> VAE:
        """The VAE, centred at the mean training image."""
        config = self.config
        mean_pixels = self.xp.asarray(to_host(self.images.train).mean(axis=0))
        return VAE(mean_pixels, config.num_variables, config.arity, config.hidden, config.code)

    def estimator(self, iteration: int) -> Estimator:
        """The estimator, its temperature on the way to ``tau_final`` if that is given."""
        config = self.config
        tau = config.on_schedule(config.tau, config.tau_final, "geometric", iteration)
        return find_estimator(self.name, tau=tau, rtol=RTOL)

    def minibatch(self, iteration: int) -> Array:
        """The images of this iteration; those of the first are where gradients are examined."""
        images = self.images.train
        size = self.config.batch_size
        return images[minibatch(len(images), size, iteration, self.seed, self.xp)]

    def update(self, state: TrainingState, gradient: Array) -> None:
        """Gradient descent with momentum, each layer at its own rate."""
        config = self.config
        momentum_step(
            state,
            gradient,
            learning_rate=config.learning_rate_at(state.iteration),
            momentum=config.momentum,
            rate_factors=self.model.rate_factors(config.rate_encoder, config.rate_output),
        )

    def measure(self, state: TrainingState) -> dict[str, float]:
        """The single-sample validation bound, with draws of its own; a tracked run keeps its parameters."""
        every = self.config.measure_every * (MEASUREMENTS // SNAPSHOTS)
        snapshot = state.iteration % every == 0 or state.iteration == self.config.iterations
        if self.config.track and snapshot:
            path = self.folder / "snapshots" / f"{state.iteration:07d}.npz"
            write_npz(path, {"parameters": to_host(state.parameters)})
        return self._bound(state, 0, 1, self.generator(2, state.iteration))

    def validate(self, state: TrainingState) -> dict[str, float]:
        """The validation bound of ``VALIDATION_SAMPLES`` samples."""
        return self._bound(state, 1, VALIDATION_SAMPLES, self.generator(7))

    def _bound(self, state: TrainingState, which: int, samples: int, rng: Any) -> dict[str, float]:
        images = self.validation_images
        with np.errstate(over="ignore", invalid="ignore"):
            bounds = self.model.bounds(state.parameters, images, samples, rng)
        bound = float(-bounds[which].mean())
        if not math.isfinite(bound):
            raise Diverged(f"the validation bound is {bound} at iteration {state.iteration}")
        return {"valid_bound": bound}

    def measure_test(self, *, progress: bool) -> dict[str, Any]:
        """The bounds of the test images with ``bound_samples`` samples.

        Every block of images has a generator of its own and is written when it is done, so that a killed
        test continues at the block it was in and ends as if it had not been killed.
        """
        state, images, M = self.trained(), self.images.test, self.config.bound_samples
        path = bounds_file(self.folder, M)
        done = read_bounds(path)
        with progress_bar(
            len(images), f"{self.name:<9} test  ", done.shape[1], unit="images", show=progress
        ) as bar:
            while done.shape[1] < len(images):
                first = done.shape[1]
                x = images[first : first + IMAGES_PER_BLOCK]
                bounds = self.model.bounds(state.parameters, x, M, self.generator(3, first))
                done = np.hstack([done, np.stack([to_host(bound) for bound in bounds])])
                write_npz(path, {"bounds": done})
                bar.update(len(x))
        one, many = -done.mean(axis=1)
        error = done[1].std(ddof=1) / math.sqrt(done.shape[1])
        return {
            "samples": M,
            "device": self.config.device,
            "test_bound_1": one,
            "test_bound": many,
            "error_over_images": error,
        }

    def examine(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """The test bounds, the variance of the gradient at the end, and along the training of a tracked run."""
        if result["diverged_at"] is not None:
            return {}
        added = self.test() | {"log10_trace": tracking.log10_trace(self)}
        return added | ({"track": tracking.track_run(self)} if self.config.track else {})


def bounds_file(folder: str | Path, samples: int) -> Path:
    """Where a run keeps the bound of each test image."""
    return Path(folder) / f"test-bounds-{samples}.npz"


def read_bounds(path: Path) -> Array:
    """The bounds of one and of M samples of each test image that has been bounded, ``(2, images)``."""
    if not path.exists():
        return np.empty((2, 0))
    bounds = read_npz(path).get("bounds")
    if bounds is None or bounds.ndim != 2 or len(bounds) != 2:
        raise ValueError(f"{path} does not hold the bounds of images; delete it to make it again")
    return bounds


def paired_difference(results: Results, others: Results) -> tuple[float, float] | None:
    """How much higher the bounds of tested runs are than those of others, image by image, and its standard error.

    For several runs their means are compared; None where the bounds of a run are missing.
    """
    runs, references = (
        [bounds_file(r["folder"], r["samples"]) for r in some if "samples" in r]
        for some in (results, others)
    )
    if not runs or not references or not all(path.exists() for path in (*runs, *references)):
        return None
    mine, theirs = (
        np.mean([-read_bounds(path)[1] for path in some], axis=0) for some in (runs, references)
    )
    difference = mine - theirs
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference)))


# ----------------------------------------------------------------------------- what it shows


def finished(config: Config, results: Results) -> dict[str, Results]:
    """The results of the runs that did not diverge, by estimator."""
    return by_estimator(config, [r for r in results if r["diverged_at"] is None])


def draw_curves(config: Config, runs: Sequence[Run], results: Results) -> Any:
    """The objective and the validation bound along the training of each estimator."""
    figure, axes = new_figure(1, 2, width=8, height=3.6)
    kept = finished(config, results)
    curves = {name: [run["curves"] for run in own] for name, own in kept.items() if own}
    titles = {"train_bound": "training objective", "valid_bound": "validation bound, M = 1"}
    for panel, (key, title) in zip(axes.flat, titles.items(), strict=True):
        plot_curves(panel, curves, key)
        panel.set(title=title, xlabel="iteration", ylabel="negative bound (nats)")
    handles, names = axes.flat[0].get_legend_handles_labels()
    relaxed = [find_estimator(name, tau=config.tau).evaluates == "inside" for name in names]
    labels = [f"{n} (at relaxed codes)" if r else n for n, r in zip(names, relaxed, strict=True)]
    axes.flat[0].legend(handles, labels, frameon=False, fontsize="small")
    seeds = config.seeds
    spread = f"mean and range of {seeds} seeds" if seeds > 1 else f"seed {config.seed}"
    set_caption(figure, f"{config.caption}; {spread}")
    return figure


def draw_reconstructions(config: Config, runs: Sequence[VAERun], results: Results) -> Any:
    """Test images, their reconstructions and samples from the prior, of the first seed."""
    # Shuffled, because the test images of MNIST are sorted by class.
    xp, test = runs[0].xp, runs[0].images.test
    shown = test[xp.asarray(np.random.default_rng(1).permutation(len(test))[:IMAGES_SHOWN])]
    reconstructions, samples = {"input": to_host(shown)}, {}
    for run, result in zip(runs, results, strict=True):
        if run.seed != config.seed or result["diverged_at"] is not None:
            continue
        rng, model = run.generator(5), run.model
        parameters = model.layout.views(run.trained().parameters)
        codes = sample_categorical(model.encode(parameters, shown), rng)
        reconstructions[run.name] = to_host(sigmoid(model.decode(parameters, codes)))
        codes = sample_categorical(xp.zeros_like(codes), rng)
        samples[run.name] = to_host(sigmoid(model.decode(parameters, codes)))
    if not samples:
        return None
    shape = runs[0].data.shape
    figure, axes = new_figure(1, 2, width=8, height=0.45 * (len(samples) + 1) + 0.8)
    titles = "reconstructions of test images, from one sampled code", "samples from the prior"
    for panel, title, rows in zip(axes.flat, titles, (reconstructions, samples), strict=True):
        show_images(panel, rows, shape)
        panel.set_anchor("S")  # the rows of one estimator stand side by side
        panel.set_title(title, fontsize="small")
    ink = "probability of ink from white (0) to black (1)"
    set_caption(figure, f"{config.caption}; seed {config.seed}; {ink}")
    return figure


def format_table(config: Config, results: Results) -> str:
    """The results as text: mean over seeds, and with several of them its standard error."""
    kept = finished(config, results)
    trained = [name for name in kept if kept[name]]
    reference = "st-gs" if "st-gs" in trained else next(iter(trained), "")
    rows = [
        ["estimator", "test bound M=1", f"M={config.bound_samples}", "ms/iteration", "log10 trace"]
    ]
    for name, own in kept.items():
        columns = ("test_bound_1", "test_bound", "milliseconds_per_iteration", "log10_trace")
        cells = [mean_and_error([result[key] for result in own], 2) for key in columns]
        rows.append([name, *(cells if own else ["diverged"] * len(columns))])
    notes = [
        "Negative log-likelihood bounds in nats on the test images, lower is better, at discrete codes."
    ]
    if config.seeds > 1:
        notes.append(f"±: standard error of the mean over {config.seeds} seeds.")
    if len(trained) > 1:
        notes.append(
            "minus: the difference, ± its standard error over the same test images, paired."
        )
        rows[0].insert(3, f"minus {reference}")
        for row in rows[1:]:
            others = kept[reference] if row[0] != reference else []
            row.insert(3, _pm(paired_difference(kept[row[0]], others)))
    notes.append(
        "log10 trace: covariance of the encoder-logit gradient on a fixed minibatch, after training."
    )
    if lost := len(results) - sum(map(len, kept.values())):
        notes.append(f"{lost} of {len(results)} runs diverged and are left out of the means.")
    parts = [text_table(rows), wrapped("\n".join(notes))]
    for result in results:
        if points := result.get("track", {}).get("points"):
            title = f"{result['estimator']}, seed {result['seed']}: the variance of ST-GS along the training"
            parts.append(f"{title}\n{tracking.split_table(points)}")
    return "\n\n".join(parts)


# ----------------------------------------------------------------------------- Table 2

PAPER_ARITIES, PAPER_BATCH_SIZES = (2, 4, 8, 16), (20, 200)
PAPER = {
    "gs": ("98.2/96.4", "95.7/93.8", "95.5/92.3", "96.8/94.3"),
    "reinforce": ("202.6/121.4", "173.7/122.2", "203.9/124.9", "169.4/129.5"),
    "st": ("105.5/103.1", "106.2/104.5", "107.2/105.1", "108.2/104.5"),
    "st-gs": ("100.7/97.1", "99.1/93.7", "98.0/92.8", "98.8/92.6"),
    "gr-mc10": ("100.7/97.4", "97.8/93.8", "97.4/93.1", "97.9/92.4"),
    "gr-mc100": ("100.6/96.8", "97.5/94.0", "96.8/92.2", "97.3/92.4"),
    "gr-mc1000": ("100.5/97.0", "97.6/93.5", "96.5/92.5", "96.8/92.2"),
}
"""Table 2 of the paper: negative test bounds of 5,000 samples, B = 20 / B = 200, arities 2, 4, 8, 16."""

PAPER_CELLS = {
    ("mnist", 240, B, n, name): float(PAPER[name][column].split("/")[half])
    for half, B in enumerate(PAPER_BATCH_SIZES)
    for column, n in enumerate(PAPER_ARITIES)
    for name in PAPER
}


def cell_of(result: Mapping[str, Any]) -> tuple:
    """What is compared: data, bits, batch size, arity, estimator."""
    config = result["config"]
    key = ("data", "bits", "batch_size", "arity")
    return (*(config[name] for name in key), result["estimator"])


def place(cell: tuple) -> tuple:
    """Sorts the cells of the table: ``gr-mcK`` after the others, by K, and ``gr`` last."""
    *rest, name = cell
    order = {name: i for i, name in enumerate(["reinforce", "gs", "st", "foust", "st-gs"])}
    samples = name.removeprefix("gr-mc")
    return (*rest, order.get(name, len(order)), int(samples) if samples.isdigit() else 10**9)


def validation_bound(result: Mapping[str, Any]) -> float:
    """The figure by which runs are compared, lower is better; infinite for a run that diverged."""
    bound = result.get("valid_bound", math.inf)
    return bound if result["diverged_at"] is None and math.isfinite(bound) else math.inf


def table_line(cell: tuple, best: Cells, same: Results) -> dict[str, str]:
    """A line of Table 2."""
    row = table_row(cell, best, same)
    lost = f" ({row['diverged']} diverged)" if row["diverged"] else ""
    seeds, spread = len(best[cell]), row["spread_over_seeds"]
    bound, error = row["test_bound"], row["error_over_images"]
    return {
        "estimator": row["estimator"],
        "data": row["data"],
        "B": str(row["batch_size"]),
        "n": str(row["arity"]),
        "test bound": "" if error is None else _pm((bound, error)),
        "minus st-gs": _pm(row["minus_st_gs"]),
        "spread (seeds)": "" if spread is None else f"{spread:.2f} ({seeds})",
        **beside_paper(bound, cell, PAPER_CELLS),
        "validation": f"{row['valid_bound']:.2f}",
        "runs": f"{row['runs']}{lost}",
        "learning rate": _from_to(row["learning_rate"], row["learning_rate_final"]),
        "momentum": f"{row['momentum']:.3g}",
        "tau": _from_to(row["tau"], row["tau_final"]) if has_tau(cell[-1]) else "",
    }


def has_tau(name: str) -> bool:
    """Whether the temperature of a configuration is one of this estimator; those of one's own may have one."""
    return ":" in name or get_estimator(name).tau is not None


def table_row(cell: tuple, best: Cells, same: Results) -> dict[str, Any]:
    """What ``report.json`` says of a cell; of several seeds the means of those that did not diverge."""
    kept = [r for r in best[cell] if math.isfinite(validation_bound(r))] or best[cell]
    tested = [result for result in kept if "test_bound" in result]
    bounds = [result["test_bound"] for result in tested]
    first, reference = kept[0], best.get((*cell[:-1], "st-gs"), [])
    shown = ("data", "batch_size", "arity", "learning_rate", "momentum", "tau", "tau_final")
    return {key: first["config"][key] for key in (*shown, "iterations")} | {
        "learning_rate_final": first["config"].get("learning_rate_final"),
        "estimator": first["estimator"],
        "runs": len(same),
        "diverged": sum(not math.isfinite(validation_bound(other)) for other in same),
        "valid_bound": float(np.mean([validation_bound(result) for result in kept])),
        "test_bound": float(np.mean(bounds)) if tested else None,
        "error_over_images": tested[0]["error_over_images"] if tested else None,
        "spread_over_seeds": float(np.std(bounds, ddof=1)) if len(tested) > 1 else None,
        "minus_st_gs": None if cell[-1] == "st-gs" else paired_difference(kept, reference),
        "samples": tested[0]["samples"] if tested else None,
        "paper": PAPER_CELLS.get(paper_cell(cell)),
        "seed": first["seed"],
        "thresholds": tracking.iterations_to_thresholds(first["curves"]),
        "folder": first["folder"],
    }


def _pm(value_and_error: tuple[float, float] | None) -> str:
    return "" if value_and_error is None else "{:.2f} ± {:.2f}".format(*value_and_error)


def _from_to(first: float, final: float | None) -> str:
    return f"{first:.3g}" + (f" to {final:.3g}" if final is not None else "")


def table_note(best: Sequence[Results], columns: Collection[str]) -> str:
    """The note below a table of these columns."""
    samples = {str(r["samples"]) for chosen in best for r in chosen if "samples" in r}
    note = (
        "Negative log-likelihood bounds in nats, lower is better. Of each cell the run with the best validation "
        "bound is shown."
    )
    if samples:
        note += (
            f" Test bounds are of M = {', '.join(sorted(samples, key=int))} samples, ± the standard error over "
            "images, most of which two rows share."
        )
    if "minus st-gs" in columns:
        note += " The difference to st-gs is paired over the images."
    if "spread (seeds)" in columns:
        note += " Spread: the standard deviation over seeds."
    return note


def tracked(results: Results) -> dict[tuple, Mapping[str, Any]]:
    """The best run of each cell that has tracked ones, with its track; the most categories come last."""
    runs = [{**run, "track": tracking.read_track(run["folder"])} for run in results]
    best = best_runs([run for run in runs if run["track"]], EXPERIMENT.report)
    return {cell: run for cell, (run, *_) in best.items()}


def figure_2(results: Results) -> Any:
    """Figure 2 of the last tracked run, beside the best runs of every estimator; None if no run was tracked."""
    for cell, run in reversed(tracked(results).items()):
        best = best_runs(results, EXPERIMENT.report).items()
        same = [chosen for other, chosen in best if other[:-1] == cell[:-1]]
        return tracking.draw_figure2(run, same)
    return None


def draw_removed(results: Results) -> Any:
    """What Rao-Blackwellizing removes, by number of categories; None unless several were tracked."""
    runs = list(tracked(results).values())
    return tracking.draw_removed(runs) if len(runs) > 1 else None


FAR_ABOVE = ("reinforce", "foust")
"""They end so far above the others (the first in the paper) that beside them no others could be told apart."""


def draw_table(results: Results) -> Any:
    """Table 2 as a picture, a row for each batch size, with the paper's numbers; None where n is the same in all cells.

    On the left, test bounds against the number of categories n; on the right, how far they lie below those of
    ``st-gs``, image by image.
    """
    best = best_runs(results, EXPERIMENT.report)
    rows = {cell: table_row(cell, best, best[cell]) for cell in best if cell[-1] not in FAR_ABOVE}
    rows = {cell: row for cell, row in rows.items() if row["test_bound"] is not None}
    if len({cell[:-1] for cell in rows}) < 2:
        return None
    groups = list(dict.fromkeys(cell[:3] for cell in rows))
    figure, axes = new_figure(len(groups), 2, width=8, height=0.6 + 3 * len(groups))
    lines: dict[str, Any] = {}
    for (bounds, gains), group in zip(axes, groups, strict=True):
        own = {cell[3:]: row for cell, row in rows.items() if cell[:3] == group}
        lines |= _draw_bounds(bounds, own)
        _draw_gains(gains, own)
        title = f"{group[0]}, batches of {group[2]}"
        bounds.set(title=title, ylabel="test bound (nats)")
        gains.set(title=f"{title}, image by image", ylabel="nats below st-gs")
        for panel in (bounds, gains):
            arities = sorted({n for n, _ in own})
            panel.set(xscale="log", xlabel="categories")
            panel.set_xticks(arities, map(str, arities))
            panel.minorticks_off()
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=7, fontsize="small")
    in_paper = any(row["paper"] is not None for row in rows.values())
    caption_beside_paper(figure, "measured (bars: 95 % over images)", in_paper)
    return figure


def _draw_bounds(axes: Any, rows: Mapping[tuple, Mapping[str, Any]]) -> dict[str, Any]:
    """Test bounds by number of categories; a line of each estimator."""
    found: dict[str, list] = {}
    for (n, name), row in rows.items():
        in_paper = math.nan if row["paper"] is None else row["paper"]
        found.setdefault(name, []).append((n, row["test_bound"], 0, in_paper))
    return plot_beside_paper(axes, found)


def _draw_gains(axes: Any, rows: Mapping[tuple, Mapping[str, Any]]) -> None:
    """How far below ``st-gs`` each cell ends, of those that can be paired with it."""
    found: dict[str, list] = {}
    for (n, name), row in rows.items():
        if row["minus_st_gs"] is not None:
            difference, error = row["minus_st_gs"]
            in_paper = [other["paper"] for other in (rows[n, "st-gs"], row)]
            theirs = math.nan if None in in_paper else in_paper[0] - in_paper[1]
            found.setdefault(name, []).append((n, -difference, 1.96 * error, theirs))
    axes.axhline(0, color="grey", linewidth=0.8)
    plot_beside_paper(axes, found)


EXPERIMENT = Experiment(
    name="vae",
    summary="a discrete VAE",
    defaults=DEFAULTS,
    load_data=load_images,
    run=VAERun,
    table=format_table,
    figures={"curves.svg": draw_curves, "reconstructions.png": draw_reconstructions},
    cells=lambda grid: [
        {"batch_size": batch_size, "arity": arity, "estimators": (name,)}
        for batch_size in grid["batch_size"]
        for arity in grid["arity"]
        for name in grid["estimators"]
        if name != "foust" or arity == 2
    ],
    grid={
        "estimators": lambda config: config.estimators,
        "arity": lambda config: PAPER_ARITIES if config.data == "mnist" else (config.arity,),
        "batch_size": lambda config: (config.batch_size,),
    },
    intervals={"learning_rate": (1e-4, 1e-2), "tau": (0.1, 1.0), "momentum": (0.5, 0.95)},
    draws=20,
    data_settings=("data",),
    job_name=lambda config: f"{config.estimators[0]}-n{config.arity}-b{config.batch_size}",
    tested_at_once=False,
    report=Table(
        title="Table 2",
        belongs=lambda result: result["config"].get("data") in DEFAULTS,
        tested="test_bound",
        names=("data", "bits", "B =", "n ="),
        cell=cell_of,
        order=place,
        has_tau=has_tau,
        # The search is made with one seed; the others say what a seed changes.
        score=lambda results: validation_bound(min(results, key=lambda result: result["seed"])),
        line=table_line,
        shown="test bound",
        repeats=("data", "B", "n"),
        note=table_note,
        record=lambda best, cells: {"rows": [table_row(cell, best, cells[cell]) for cell in best]},
        paper=PAPER_CELLS,
        figures={"table2.svg": draw_table, "figure2.svg": figure_2, "removed.svg": draw_removed},
    ),
)
make_config = EXPERIMENT.make_config
add_arguments, run = EXPERIMENT.add_arguments, EXPERIMENT.execute
