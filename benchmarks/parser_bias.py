"""The bias of each estimator on the latent-tree parser, against the gradient enumerated over merge orders.

One random sequence of five tokens has 24 merge orders, so the expected cost and its gradient with respect to
all parameters are sums. Of that gradient, the part that goes through the decisions is what an estimator has
to estimate (the rest is the mean derivative of the cost with the trees held). Printed for each estimator
and temperature: the length of the bias over the length of that part, corrected for the noise of the mean; and
the standard deviation of one single-sequence estimate in the same unit.

    python benchmarks/parser_bias.py [--repeats 200] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import autograd.numpy as anp
import numpy as np
from autograd import grad, value_and_grad

from rbst import __version__, get_estimator, log_probability, objective
from rbst._files import write_json
from rbst._tables import markdown_table
from rbst.estimators.registry import ESTIMATORS
from rbst.models.tree_lstm import Sequences, TreeLSTM, check_estimator, follow

TOKENS, SEED, BATCH = 5, 4, 200
TAUS = (0.01, 0.1, 1.0)


def problem() -> tuple[TreeLSTM, np.ndarray, Sequences]:
    """A small network whose trees matter, and one sequence."""
    rng = np.random.default_rng(SEED)
    model = TreeLSTM(num_tokens=5, num_classes=3, hidden=4)
    flat = 1.5 * rng.standard_normal(model.layout.size)
    tokens = rng.integers(5, size=(1, TOKENS))
    merges = np.zeros((1, TOKENS - 1), int)
    return model, flat, Sequences(tokens, np.array([TOKENS]), rng.integers(3, size=1), merges)


def exact(
    model: TreeLSTM, flat: np.ndarray, sequence: Sequences
) -> tuple[float, np.ndarray, np.ndarray]:
    """The expected cost, its gradient, and the part of it that goes through the decisions."""
    merges = np.array(list(itertools.product(*(range(m) for m in range(TOKENS - 1, 0, -1)))))
    every = sequence.select(np.zeros(len(merges), int))

    def log_p(flat):
        _, draws = model.terms(flat, every, follow(merges))
        return sum(log_probability(logits, D) for logits, D in draws)

    p = anp.exp(log_p(flat))

    def expected_cost(flat):
        return anp.sum(anp.exp(log_p(flat)) * model.terms(flat, every, follow(merges))[0])

    def with_trees_held(flat):
        return anp.sum(p * model.terms(flat, every, follow(merges))[0])

    value, gradient = value_and_grad(expected_cost)(flat)
    return float(value), gradient, gradient - grad(with_trees_held)(flat)


def measure(name: str, tau: float, repeats: int) -> dict[str, float]:
    """Bias, its standard error, and the standard deviation of one estimate, relative to the decisions' part."""
    model, flat, sequence = problem()
    value, gradient, through_decisions = exact(model, flat, sequence)
    estimator, rng = get_estimator(name, tau=tau), np.random.default_rng(SEED + 1)
    many = sequence.select(np.zeros(BATCH, int))

    def loss(flat):
        return objective(estimator, *model.training_terms(flat, many, estimator, rng), value)

    samples = np.array([grad(loss)(flat) for _ in range(repeats)]) - gradient
    unit = np.linalg.norm(through_decisions)
    bias, noise = samples.mean(axis=0), samples.var(axis=0, ddof=1) / repeats
    squared = (bias**2).sum() - noise.sum()
    # The squared length of a noisy mean has variance 4 b' C b + 2 tr C^2; with the diagonal of C only.
    error = math.sqrt((4 * bias**2 * noise + 2 * noise**2).sum())
    length = math.sqrt(max(squared, 0.0))
    return {
        "bias": length / unit,
        "error": error / (2 * max(length, math.sqrt(error))) / unit,
        "deviation": math.sqrt(repeats * BATCH * noise.sum()) / unit,
    }


def names() -> list[str]:
    """Every estimator that the parser takes, K = 10 for gr-mcK."""
    found = []
    for entry in ESTIMATORS:
        name = entry.with_samples(10)
        try:
            check_estimator(get_estimator(name))
        except ValueError:
            continue
        found.append(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", type=Path, help="write bias.json to this folder")
    arguments = parser.parse_args()
    results = {}
    rows = [
        ["estimator", *(f"{what}, tau = {tau:g}" for tau in TAUS for what in ("bias", "deviation"))]
    ]
    for name in names():
        row = [name]
        for tau in TAUS:
            figures = measure(name, tau, arguments.repeats)
            results[f"{name}, tau = {tau:g}"] = figures
            row += [
                f"{figures['bias']:.2f} ± {figures['error']:.2f}",
                f"{figures['deviation']:.1f}",
            ]
        rows.append(row)
        print(row, flush=True)
    print(markdown_table(rows))
    if arguments.out:
        settings = {
            "version": __version__,
            "repeats": arguments.repeats,
            "batch": BATCH,
            "seed": SEED,
        }
        write_json(arguments.out / "bias.json", settings | {"results": results})


if __name__ == "__main__":
    main()
