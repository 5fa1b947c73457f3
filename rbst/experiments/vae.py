r"""``rbst vae``: one discrete VAE, several estimators, the same start and the same minibatches.

Trains the model of :mod:`rbst.models.vae` once for each estimator and seed, and compares the bounds that
they reach, what an iteration costs, and how noisy the gradient of the encoder logits is (Paulus et al.,
2021, section 5.4; on the embedded digits in small, with ``--data mnist`` in full). Every run has a folder
of its own, see :mod:`rbst.experiments.vae_run`; ``--resume`` skips what is finished and continues what
is not.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import DEVICES, device_namespace, to_host
from rbst._files import whole_file
from rbst._tables import text_table
from rbst.categorical import sample_categorical
from rbst.experiments.record import start_experiment, stored_config, write_results
from rbst.experiments.tracking import log10_trace, track_run
from rbst.experiments.training import SCHEDULES
from rbst.experiments.vae_run import (
    DEFAULTS,
    Config,
    Run,
    bound_run,
    load_images,
    make_config,
    train_run,
)
from rbst.models.vae import sigmoid

IMAGES_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst vae``; what is left out takes the default of the data set."""
    option = parser.add_argument
    option(
        "--estimator",
        dest="estimators",
        action="append",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help=f"repeatable; see 'rbst estimators' (default: {' '.join(Config().estimators)})",
    )
    add_model_arguments(parser)
    add = _adder(parser)
    add("--arity", int, "categories of a latent variable")
    add("--batch-size", int, "images of a minibatch")
    add("--learning-rate", float, "of the descent")
    add("--momentum", float, "of the descent")
    add("--tau", float, "temperature, where there is one")
    add("--tau-final", float, "temperature at the end, reached geometrically", "constant")
    add("--seeds", int, "runs of each estimator")
    option(
        "--track",
        action="store_true",
        default=argparse.SUPPRESS,
        help="measure variance and error of the gradients along the training as well",
    )
    option("--out", type=Path, metavar="FOLDER", help="results go here (default: runs/vae/TIME)")
    option("--resume", action="store_true", help="continue the interrupted experiment in --out")
    option("--quick", action="store_true", help="at most 100 iterations, to see that all works")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that ``rbst vae`` and ``rbst sweep`` share."""
    option, add = parser.add_argument, _adder(parser)
    option(
        "--data",
        choices=tuple(DEFAULTS),
        default=argparse.SUPPRESS,
        help="images to model (default: digits)",
    )
    option("--data-dir", type=Path, metavar="FOLDER", help="where MNIST is looked for first")
    add("--bits", int, "size of the latent code, L log2(arity)")
    option(
        "--hidden",
        type=int,
        nargs="+",
        metavar="SIZE",
        default=argparse.SUPPRESS,
        help="tanh layers of the encoder; the decoder has them in reverse" + _defaults("hidden"),
    )
    add("--iterations", int, "steps of each run")
    add("--learning-rate-final", float, "learning rate at the end, 0 only for a linear schedule")
    choices = {
        "--schedule": (SCHEDULES, "how the learning rate gets to its end"),
        "--code": (("one-hot", "bits"), "how a category enters the decoder: n numbers, or log2 n"),
    }
    for name, (values, text) in choices.items():
        text += _defaults(name.removeprefix("--"))
        option(name, choices=values, default=argparse.SUPPRESS, help=text)
    add("--rate-encoder", float, "factor of the learning rate for the encoder")
    add("--rate-output", float, "factor of the learning rate for the decoder's output layer")
    add("--seed", int, "of the first run")
    option("--dtype", choices=("float32", "float64"), default=argparse.SUPPRESS, help="precision")
    option(
        "--device",
        choices=DEVICES,
        default=argparse.SUPPRESS,
        help="where to compute; gpu needs the extra rbst[gpu] (default: cpu)",
    )
    add("--bound-samples", int, "M of the test bound")
    option(
        "--checkpoint-every",
        type=int,
        default=500,
        metavar="STEPS",
        help="between two checkpoints (default: 500)",
    )


def _adder(parser: argparse.ArgumentParser) -> Any:
    """A shorthand for options whose absence means the default of the data set."""

    def add(name: str, kind: type, text: str, default: str | None = None) -> None:
        field = name.removeprefix("--").replace("-", "_")
        parser.add_argument(
            name,
            type=kind,
            metavar="N" if kind is int else "X",
            default=argparse.SUPPRESS,
            help=text + (f" (default: {default})" if default else _defaults(field)),
        )

    return add


def _defaults(field: str) -> str:
    """The default of a setting as its help shows it, by data set where they differ."""
    texts = {}
    for data, config in DEFAULTS.items():
        value = getattr(config, field)
        texts[data] = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        texts[data] = "constant" if value is None else texts[data]
    if len(set(texts.values())) == 1:
        return f" (default: {texts['digits']})"
    return f" (default: {', '.join(f'{text} for {data}' for data, text in texts.items())})"


def run(arguments: argparse.Namespace) -> int:
    """Train every estimator with every seed, then print the table and write results and figures."""
    asked = asked_options(arguments)
    if arguments.resume:
        out = arguments.out
        config = stored_config(out, asked, make_config)
    else:
        config = make_config(asked)
        if arguments.quick:
            config = replace(config, iterations=min(config.iterations, 100))
    device_namespace(config.device)  # where there is none, say so before a folder is made
    data = load_images(config.data, arguments.data_dir)
    check_batch_size(config, data)
    if not arguments.resume:
        out = start_experiment("vae", config, arguments.out)

    start = time.perf_counter()
    runs = [
        Run(config, name, seed, data, out / f"{name}-seed{seed}")
        for seed in range(config.seed, config.seed + config.seeds)
        for name in config.estimators
    ]
    results = [finish(run, arguments.checkpoint_every) for run in runs]
    write_results(out, config, start, runs=results)
    draw_curves(config, results, out / "curves.png")
    draw_reconstructions(config, runs, results, out / "reconstructions.png")
    print(format_table(config, results))
    print(f"\nResults, curves.png and reconstructions.png are in {out}")
    return 0


def asked_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line."""
    if arguments.checkpoint_every < 1:
        raise ValueError(
            f"--checkpoint-every must be at least 1, got {arguments.checkpoint_every}; change it"
        )
    return {f.name: getattr(arguments, f.name) for f in fields(Config) if f.name in arguments}


def check_batch_size(config: Config, data: Any) -> None:
    """No minibatch is larger than the training set."""
    if config.batch_size > len(data.train):
        raise ValueError(
            f"--batch-size must be at most the {len(data.train)} training images, got "
            f"{config.batch_size}; choose a smaller one"
        )


def finish(run: Run, checkpoint_every: int) -> dict[str, Any]:
    """Train and test one run, and measure the variance of its gradient at the end."""
    result = train_run(run, checkpoint_every=checkpoint_every)
    if result["diverged_at"] is not None:
        return result
    result |= bound_run(run)
    result["log10_trace"] = log10_trace(run)
    if run.config.track:
        result["track"] = track_run(run)
    return result


def draw_curves(config: Config, results: Sequence[dict[str, Any]], path: Path) -> None:
    """The objective and the validation bound along the training of each estimator."""
    from rbst.plotting import new_figure, plot_curves

    figure, axes = new_figure(1, 2, width=9, height=3.8)
    curves = {
        name: [run["curves"] for run in finished(results) if run["estimator"] == name]
        for name in config.estimators
    }
    curves = {name: runs for name, runs in curves.items() if runs}
    titles = {"train_bound": "training objective", "valid_bound": "validation bound, M = 1"}
    for panel, (key, title) in zip(axes.flat, titles.items(), strict=True):
        plot_curves(panel, curves, key)
        panel.set(title=title, xlabel="iteration", ylabel="negative bound (nats)")
    axes.flat[0].legend(frameon=False, fontsize=8)
    spread = (
        f"mean and range of {config.seeds} seeds" if config.seeds > 1 else f"seed {config.seed}"
    )
    figure.suptitle(f"{config.caption}; {spread}", fontsize=9)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def finished(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of the runs that did not diverge."""
    return [result for result in results if result["diverged_at"] is None]


def draw_reconstructions(
    config: Config, runs: Sequence[Run], results: Sequence[dict[str, Any]], path: Path
) -> None:
    """Test images, their reconstructions and samples from the prior, of the first seed."""
    from rbst.plotting import new_figure, show_images

    # Shuffled, because the test images of MNIST are sorted by class.
    xp, test = runs[0].xp, runs[0].images.test
    shown = test[xp.asarray(np.random.default_rng(1).permutation(len(test))[:IMAGES_SHOWN])]
    reconstructions, samples = {"input": to_host(shown)}, {}
    for run, result in zip(runs, results, strict=True):
        if run.seed != config.seed or result["diverged_at"] is not None:
            continue
        model, state = run.trained()
        rng = run.generator(5)
        parameters = model.layout.views(state.parameters)
        codes = sample_categorical(model.encode(parameters, shown), rng)
        reconstructions[run.name] = to_host(sigmoid(model.decode(parameters, codes)))
        codes = sample_categorical(xp.zeros_like(codes), rng)
        samples[run.name] = to_host(sigmoid(model.decode(parameters, codes)))
    if not samples:
        return
    shape = runs[0].data.shape
    figure, axes = new_figure(1, 2, width=9, height=0.47 * (len(samples) + 1) + 0.8)
    show_images(axes.flat[0], reconstructions, shape)
    show_images(axes.flat[1], samples, shape)
    for panel in axes.flat:
        panel.set_anchor("S")  # the rows of one estimator stand side by side
    axes.flat[0].set_title("reconstructions of test images, from one sampled code", fontsize=9)
    axes.flat[1].set_title("samples from the prior", fontsize=9)
    ink = "probability of ink from white (0) to black (1)"
    figure.suptitle(f"{config.caption}; seed {config.seed}; {ink}", fontsize=9)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def format_table(config: Config, results: Sequence[dict[str, Any]]) -> str:
    """The results as text: mean over seeds, and with several of them its standard error."""
    columns = (
        ("test_bound_1", "test bound M=1", "{:.2f}"),
        ("test_bound", f"M={config.bound_samples}", "{:.2f}"),
        ("milliseconds_per_iteration", "ms/iteration", "{:.2f}"),
        ("log10_trace", "log10 trace", "{:.2f}"),
    )
    rows = [["estimator", *(title for _, title, _ in columns)]]
    for name in config.estimators:
        runs = [result for result in finished(results) if result["estimator"] == name]
        row = [name]
        for key, _, form in columns:
            values = np.array([run[key] for run in runs])
            cell = form.format(values.mean()) if runs else "diverged"
            if len(values) > 1:
                cell += " ± " + form.format(values.std(ddof=1) / math.sqrt(len(values)))
            row.append(cell)
        rows.append(row)
    note = (
        "Negative log-likelihood bounds in nats on the test images, lower is better, at discrete codes.\n"
        "log10 trace: covariance of the encoder-logit gradient on a fixed minibatch, after training."
    )
    lost = len(results) - len(finished(results))
    if lost:
        note += f"\n{lost} of {len(results)} runs diverged and are left out of the means."
    return f"{text_table(rows)}\n{note}"
