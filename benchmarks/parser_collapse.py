"""Why a parser that ST-GS trains at a low temperature collapses: what the noise given the decisions does on the way.

Trains the parser of ``rbst listops`` with ST-GS and with the exact Gumbel-Rao, with and without a limit of the gradient's
norm, and looks at fixed expressions along the way. At every merge the mean and the mean square of the gradient of its
logits given the decision are computed by quadrature (`conditional_moments`), with the exact mean passed on to earlier
merges: their difference is what Rao-Blackwellizing removes, and no draw of the Gumbels enters.

    python -m benchmarks.parser_collapse [--iterations 8000] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from autograd import grad

from rbst import Estimator, __version__, conditional_moments, objective
from rbst._files import read_json, write_json
from rbst._tables import text_table
from rbst.experiments.listops import Config, ParserRun, load_data, measure_parser
from rbst.experiments.run import training_step

TAU, RATE, SEED = 0.01, 0.1, 0
RUNS = (("st-gs", None), ("gr", None), ("st-gs", 1.0), ("gr", 1.0))
EVERY, LOOKED_AT, VALIDATED = 200, 200, 1000


def decision_moments(run: ParserRun, flat: Any) -> tuple[np.ndarray, np.ndarray]:
    """Variance given D and squared mean of the gradient of the logits, for each decision of fixed expressions."""
    found = []

    def remember(logits: Any, D: Any, df_dD: Any, rng: Any) -> Any:
        mean, square = conditional_moments(logits, D, df_dD * len(logits), tau=TAU, rtol=1e-4)
        squared_mean = (mean**2).sum(axis=-1)
        undecided = (logits > -np.inf).sum(axis=-1) > 1  # a finished expression decides nothing
        found.append((np.maximum(square - squared_mean, 0)[undecided], squared_mean[undecided]))
        return mean / len(logits)

    recorder = Estimator("recorder", "corner", remember)
    batch = run.training.select(np.arange(LOOKED_AT))

    def loss(flat: Any) -> Any:
        terms = run.model.training_terms(flat, batch, recorder, np.random.default_rng(SEED))
        return objective(recorder, *terms)

    grad(loss)(flat.astype(np.float64))
    variance, squared_mean = zip(*found, strict=True)
    return np.concatenate(variance), np.concatenate(squared_mean)


def look(run: ParserRun, state: Any, steps: list[float]) -> dict[str, float]:
    """What is recorded of one moment of a training."""
    variance, squared_mean = decision_moments(run, state.parameters)
    largest = np.sort(variance)[-max(1, len(variance) // 100) :]
    accuracy, _ = measure_parser(
        run, state.parameters, run.sequences["valid"].select(slice(0, VALIDATED))
    )
    return {
        "iteration": state.iteration,
        "valid_accuracy": accuracy,
        "variance_given_D": float(variance.mean()),
        "squared_mean": float(squared_mean.mean()),
        "largest_deviation": float(np.sqrt(variance.max())),
        "share_of_largest_percent": float(largest.sum() / max(variance.sum(), 1e-300)),
        "median_step": float(np.median(steps)),
        "longest_step": float(np.max(steps)),
    }


def follow(name: str, clip: float | None, data: Any, iterations: int) -> list[dict[str, float]]:
    """One training and what was seen of it every ``EVERY`` steps."""
    config = Config(
        estimators=(name,), tau=TAU, learning_rate=RATE, clip=clip, iterations=iterations
    )
    points: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = ParserRun(config, name, SEED, data, Path(folder))
        state, step, steps = run.start(), training_step(run), []
        while state.iteration < iterations:
            step(state)
            state.iteration += 1
            # Without momentum the velocity is the step.
            steps.append(float(np.linalg.norm(state.velocity.astype(np.float64))))
            if not np.isfinite(steps[-1]):
                break
            if state.iteration % EVERY == 0:
                points.append(look(run, state, steps))
                steps.clear()
                print(f"{name} clip {clip}", points[-1], flush=True)
    return points


def label(name: str, clip: float | None) -> str:
    """What a run is called."""
    return name if clip is None else f"{name}, norm at most {clip:g}"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Accuracy, the two parts of the mean square, the share of the largest 1 % of decisions, and the steps, along each training."""
    from rbst.plotting import colour, new_figure, set_caption, write_figure

    figure, axes = new_figure(2, 2, width=8, height=6)
    accuracy, moments, steps, shares = axes.flat
    for run in runs:
        points = {key: [p[key] for p in run["points"]] for key in run["points"][0]}
        style = {
            "color": colour(run["estimator"]),
            "linestyle": "-" if run["clip"] is None else "--",
        }
        x, text = points["iteration"], label(run["estimator"], run["clip"])
        accuracy.plot(x, 100 * np.array(points["valid_accuracy"]), label=text, **style)
        moments.plot(x, points["variance_given_D"], **style)
        moments.plot(x, points["squared_mean"], alpha=0.35, **style)
        steps.plot(x, points["longest_step"], **style)
        shares.plot(x, 100 * np.array(points["share_of_largest_percent"]), **style)
    accuracy.set(title="validation accuracy", ylabel="percent")
    moments.set(
        title="gradient of a decision's logits given D",
        ylabel="variance; pale: squared mean",
        yscale="log",
    )
    steps.set(title=f"longest of {EVERY} steps", ylabel="norm", yscale="log", xlabel="iteration")
    shares.set(
        title="variance in its largest 1 % of decisions",
        ylabel="percent",
        xlabel="iteration",
    )
    names = accuracy.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=4, fontsize="small")
    for panel in axes.flat:
        panel.title.set_fontsize("medium")
    set_caption(
        figure,
        f"ListOps, at most 10 tokens, tau = {TAU:g}, learning rate {RATE:g}, seed {SEED}; variances exact, over the "
        f"decisions of {LOOKED_AT} training expressions",
    )
    write_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=8000)
    parser.add_argument("--out", type=Path, help="write collapse.json and collapse.svg there")
    parser.add_argument("--draw", action="store_true", help="draw the record in --out again")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(read_json(arguments.out / "collapse.json")["runs"], arguments.out / "collapse.svg")
        return
    data = load_data(Config())
    runs = [
        {"estimator": name, "clip": clip, "points": follow(name, clip, data, arguments.iterations)}
        for name, clip in RUNS
    ]
    keys = list(runs[0]["points"][0])
    for run in runs:
        rows = [keys, *([f"{p[key]:.3g}" for key in keys] for p in run["points"][::5])]
        print(f"\n{label(run['estimator'], run['clip'])}\n{text_table(rows)}")
    if arguments.out:
        settings = {"version": __version__, "tau": TAU, "learning_rate": RATE, "seed": SEED}
        settings |= {"iterations": arguments.iterations, "expressions": LOOKED_AT, "runs": runs}
        write_json(arguments.out / "collapse.json", settings)
        draw(runs, arguments.out / "collapse.svg")


if __name__ == "__main__":
    main()
