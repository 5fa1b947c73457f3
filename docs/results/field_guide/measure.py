r"""Measure what the field guide says: ``python docs/results/field_guide/measure.py``.

Bias and standard deviation of every estimator, over the length of the gradient, on the named test functions and on a VAE
whose 8 bits can be enumerated, at three times of its training; then the small questions of the guide, one function for each.
Exact where :func:`rbst.diagnose` is; sampled with standard errors elsewhere. Everything goes into ``field_guide.json``, from
which ``--draw`` draws the figures again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import autograd.numpy as np
from autograd import grad

import rbst
from rbst._files import read_json, write_json
from rbst.data.digits import load_digits
from rbst.diagnostics import Diagnosis, Figure
from rbst.enumeration import enumerate_outcomes
from rbst.estimators.concrete import sample_log_concrete, temperature_gradient
from rbst.estimators.registry import ESTIMATORS
from rbst.experiments.compare import count_evaluations
from rbst.experiments.training import TrainingState, adam_step, minibatch
from rbst.models.vae import VAE, bernoulli_log_likelihood
from rbst.plotting import new_figure, plot_bias_variance, write_figure
from rbst.problems import PROBLEMS, QUADRATIC, get_problem

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers."""

    seed: int = 0
    n: int = 4
    variables: int = 2
    taus: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 4.0)
    sampled_taus: tuple[float, ...] = (0.1, 0.5, 1.0)
    draws: int = 20_000
    bits: int = 8
    hidden: int = 32
    images: int = 10
    image_draws: int = 2_000
    batch_size: int = 20
    iterations: int = 3_000
    learning_rate: float = 2e-3
    phases: tuple[int, ...] = (0, 300, 3_000)


BATCHES = (1, 10, 20, 100, 1000)
PHASES = ("start", "middle", "end")

# The map: rows (estimator, temperature) with bias and standard deviation over the gradient.


def candidates(config: Config, n: int, baseline: float) -> Iterator[rbst.Estimator]:
    """Every name of the table that n allows, at the temperatures of its kind of diagnosis."""
    for entry in ESTIMATORS:
        name = entry.with_samples(10)
        if entry.categories not in (None, n):
            continue
        estimator = rbst.get_estimator(name, baseline=baseline)
        if estimator.tau is None:
            yield estimator
            continue
        taus = config.sampled_taus if estimator.given_D == "random" else config.taus
        for tau in taus:
            yield rbst.get_estimator(name, tau=tau, baseline=baseline)


def row(d: Diagnosis) -> dict[str, Any]:
    """What the record keeps of a diagnosis, in five digits."""
    figures = {"bias": d.relative_bias, "deviation": d.relative_deviation, "cosine": d.cosine}
    kept = {"estimator": d.estimator, "tau": d.tau, "method": d.method}
    for name, figure in figures.items():
        value = 0.0 if figure.error is None and abs(figure) < 1e-10 else float(figure)
        kept[name] = float(f"{value:.5g}")
        if figure.error is not None:
            kept[f"{name}_error"] = float(f"{figure.error:.2g}")
    return kept


def of_functions(config: Config) -> dict[str, list[dict[str, Any]]]:
    """The named test functions, as ``rbst compare`` sets them up."""
    rng = np.random.default_rng(config.seed)
    logits = rng.normal(size=(config.variables, config.n))
    maps = {}
    for name in PROBLEMS:
        problem = get_problem(name, logits)
        baseline = rbst.exact_expectation(problem.f, logits)
        maps[name] = [
            row(diagnosed(estimator, problem.f, problem.df_dD, logits, rng, config.draws))
            for estimator in candidates(config, config.n, baseline)
        ]
    return maps


def diagnosed(
    estimator: rbst.Estimator,
    f: Callable,
    df_dD: Callable | None,
    logits: Any,
    rng: Any,
    draws: int,
) -> Diagnosis:
    """A diagnosis, with draws for those that need them."""
    return rbst.diagnose(estimator, f, logits, df_dD=df_dD, rng=rng, num_samples=draws)


# A VAE of 8 bits: the gradient of the last layer of its encoder, which the diagnoses of single images decide.


def trained_vae(config: Config) -> tuple[VAE, dict[int, Any]]:
    """The model, and its parameters after each of the phases; ZGR estimates its gradients."""
    images = load_digits().train.astype(np.float64)
    model = VAE(images.mean(axis=0), config.bits, 2, hidden=(config.hidden,))
    estimator = rbst.get_estimator("zgr")
    start = model.initial_parameters(np.random.default_rng([config.seed, 0]), np.float64)
    rng = np.random.default_rng([config.seed, 1])
    state = TrainingState(start, np.zeros((2, *start.shape)), rng, rbst.RunningMean())

    def loss(flat: Any, x: Any) -> Any:
        return rbst.objective(estimator, *model.training_terms(flat, x, estimator, rng))

    gradient, kept = grad(loss), {}
    while True:
        if state.iteration in config.phases:
            kept[state.iteration] = state.parameters.copy()
        if state.iteration == config.iterations:
            return model, kept
        chosen = minibatch(len(images), config.batch_size, state.iteration, config.seed)
        adam_step(
            state, gradient(state.parameters, images[chosen]), learning_rate=config.learning_rate
        )
        state.iteration += 1


def of_vae(config: Config) -> dict[str, list[dict[str, Any]]]:
    """The map at each phase of the training."""
    model, phases = trained_vae(config)
    images = load_digits().test[: config.images].astype(np.float64)
    rng = np.random.default_rng([config.seed, 2])
    return {
        f"VAE, {name}": [
            row(d) for d in diagnoses_of_layer(model, model.layout.views(flat), images, config, rng)
        ]
        for name, flat in zip(PHASES, phases.values(), strict=True)
    }


def diagnoses_of_layer(
    model: VAE, parameters: Mapping, images: Any, config: Config, rng: Any
) -> Iterator[Diagnosis]:
    r"""Estimators of the gradient of the encoder's last layer, for a minibatch of the images.

    With u the inputs of the layer and a 1, image i adds :math:`u_i h_i^\top` to the gradient. So the bias of the mean over M
    images is :math:`\frac1M \sum_i u_i b_i^\top`, and the variance :math:`\frac1M \sum_i |u_i|^2 \, \mathrm{tr} \, \mathrm{cov}[h_i]`
    for one image: that of a batch of B is a B-th of it. Which images are drawn is the same for all and left out.
    """
    logits = model.encode(parameters, images)
    centred = images - model.mean_pixels
    hidden = np.tanh(centred @ parameters["encoder.W0"] + parameters["encoder.b0"])
    inputs = np.column_stack([hidden, np.ones(len(images))])
    problems = [cost_of_image(model, parameters, x) for x in images]
    expected = [rbst.exact_expectation(f, theta) for f, theta in zip(problems, logits, strict=True)]
    for estimator in candidates(config, 2, float(np.mean(expected))):
        each = [
            diagnosed(estimator, f, None, theta, rng, config.image_draws)
            for f, theta in zip(problems, logits, strict=True)
        ]
        yield diagnosis_of_layer(inputs, each)


def cost_of_image(model: VAE, parameters: Mapping, x: Any) -> Callable[[Any], Any]:
    """The negative log-likelihood of an image as a function of its code."""
    return lambda D: -bernoulli_log_likelihood(model.decode(parameters, D), x)


def diagnosis_of_layer(inputs: Any, each: Sequence[Diagnosis]) -> Diagnosis:
    """The diagnosis of the layer from those of the images; sampled errors are bounds from above."""
    M, weights = len(each), (inputs**2).sum(axis=1)

    def pulled_back(arrays: Sequence[Any]) -> Any:
        return np.einsum("iu,ia->ua", inputs, np.array([a.ravel() for a in arrays])) / M

    gradient, bias = pulled_back([d.gradient for d in each]), pulled_back([d.bias for d in each])
    variance = float(np.mean(weights * [float(d.variance) for d in each]))
    bias_squared, mean = float((bias**2).sum()), gradient + bias
    cosine = float((mean * gradient).sum() / np.sqrt((mean**2).sum() * (gradient**2).sum()))
    if each[0].method == "exact":
        errors = (None, None, None, None)
    else:
        noise = variance / M / each[0].draws  # variance of the sample mean, the trace
        bias_squared -= noise
        of_bias = float(np.sqrt(4 * max(bias_squared, 0) * noise + 2 * noise**2))
        single = np.array([d.variance.error for d in each])
        of_variance = float(np.sqrt(((weights * single) ** 2).sum()) / M)
        of_cosine = float(np.sqrt(noise / (mean**2).sum()))
        errors = (of_bias, of_variance, float(np.hypot(of_bias, of_variance)), of_cosine)
    first = each[0]
    return Diagnosis(
        first.estimator,
        first.method,
        gradient,
        bias,
        Figure(bias_squared, errors[0]),
        Figure(variance, errors[1]),
        Figure(bias_squared + variance, errors[2]),
        Figure(cosine, errors[3]),
        tau=first.tau,
    )


# The questions.


def of_parcels() -> dict[str, Any]:
    """Tutorials 01 to 06: one parcel of 1, 2 or 4 kg, and two, at tau = 0.3."""
    weights, answer = np.array([1.0, 2.0, 4.0]), {}
    for count in (1, 2):
        logits = np.tile([0.3, -0.7, 1.1], (count, 1))

        def f(D: Any) -> Any:
            return (np.sum(D @ weights, axis=-1) - 2.5) ** 2

        baseline = rbst.exact_expectation(f, logits)
        rows = {}
        for name in ("reinforce", "gr", "zgr"):
            estimator = rbst.get_estimator(name, tau=0.3, baseline=baseline)
            d = rbst.diagnose(estimator, f, logits)
            rows[name] = {"variance": float(d.variance), **row(d)}
        answer[str(count)] = rows
    return answer


def of_interactions() -> list[dict[str, Any]]:
    """The quadratic of 1 to 8 even variables of 3 categories: the price of an unbiased estimate of all of them."""
    rows = []
    for L in (1, 2, 4, 8):
        logits = np.zeros((L, 3))
        baseline = rbst.exact_expectation(QUADRATIC.f, logits)
        for name in ("reinforce", "gr", "zgr"):
            estimator = rbst.get_estimator(name, tau=0.5, baseline=baseline)
            d = rbst.diagnose(estimator, QUADRATIC.f, logits, df_dD=QUADRATIC.df_dD)
            rows.append({"variables": L, **row(d)})
    return rows


def of_equal_cost(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Without a derivative: what 12 evaluations buy for 1 variable of 3 or 5 categories, and for 4 of 5."""
    answer = {}
    for L, n in ((1, 3), (1, 5), (4, 5)):
        rng = np.random.default_rng([config.seed, n, L])
        f, logits = random_costs(L, n, rng)
        rows = []
        for estimator, budget in choices_of_cost(rbst.exact_expectation(f, logits)):
            cost = count_evaluations(estimator, f, logits)[0]
            d = diagnosed(estimator, f, None, logits, rng, config.draws)
            batch = int(budget // cost)
            if batch:
                scored = d.relative_mse(batch)
                error = None if scored.error is None else float(f"{scored.error:.2g}")
                cell = {"evaluations": cost, "budget": budget, "batch": batch}
                rows.append({**row(d), **cell, "mse": float(f"{scored:.5g}"), "mse_error": error})
        answer[f"{L} of {n}"] = rows
    return answer


def random_costs(L: int, n: int, rng: Any) -> tuple[Callable[[Any], Any], Any]:
    """A normal cost for each category, and for each pair of categories of two variables; and normal logits."""
    table, pairs = rng.normal(size=(L, n)), rng.normal(size=(L, n, L, n))

    def f(D: Any) -> Any:
        one = np.sum(D * table, axis=(-1, -2))
        return one + np.einsum("...la,lamb,...mb->...", D, pairs, D) / 2 if L > 1 else one

    return f, rng.normal(size=(L, n))


def choices_of_cost(baseline: float) -> Iterator[tuple[rbst.Estimator, int]]:
    """Estimators that need no derivative, with the evaluations that they may spend."""
    for budget in (5, 12):
        yield rbst.get_estimator("reinforce", baseline=baseline), budget
        yield rbst.get_estimator("rloo", num_samples=budget), budget
        for name in ("sum-and-sample", "unordered-set", "arsm"):
            yield rbst.get_estimator(name), budget


def of_baselines(config: Config) -> dict[str, float]:
    """REINFORCE on the quadratic without a baseline, with one, and with the mean of a batch of 2 in which the sample is."""
    logits = np.random.default_rng(config.seed).normal(size=(config.variables, config.n))
    f, mean = QUADRATIC.f, rbst.exact_expectation(QUADRATIC.f, logits)
    figures = {}
    for name, b in (("none", 0.0), ("mean", mean), ("10 times the mean", 10 * mean)):
        d = rbst.diagnose(rbst.get_estimator("reinforce", baseline=b), f, logits)
        figures[name] = {
            "bias": round(float(d.relative_bias), 10),
            "deviation": row(d)["deviation"],
        }
    D, p = (np.concatenate(parts) for parts in zip(*enumerate_outcomes(logits), strict=True))
    cost, score = f(D), D - rbst.softmax(logits)
    # (f_1 - (f_1 + f_2) / 2) score_1, over all pairs of outcomes
    own = np.einsum("i,j,ij,ila->la", p, p, (cost[:, None] - cost) / 2, score)
    gradient = rbst.exact_gradient(f, logits)
    apart = float(np.linalg.norm(own - gradient) / np.linalg.norm(gradient))
    figures["mean of a batch of 2, own cost in it"] = {"bias": round(apart, 10)}
    return figures


def of_learned_temperature(config: Config, steps: int = 2000, batch: int = 100) -> dict[str, Any]:
    """Descend E f(S) in the logits and log tau together, and what E f(D) does meanwhile."""
    weights = np.array([1.0, 2.0, 4.0])

    def miss(D: Any) -> Any:
        return (np.sum(D @ weights, axis=-1) - 2.5) ** 2

    def concave(D: Any) -> Any:  # high inside: it prefers corners
        return 2 - miss(D) / 2

    answer = {}
    for name, f in (("convex", miss), ("concave", concave)):
        for learned in (False, True):
            answer[f"{name}, {'learned' if learned else 'fixed'}"] = descend(
                f, learned, steps, batch, np.random.default_rng([config.seed, 3])
            )
    return answer


def descend(f: Callable, learned: bool, steps: int, batch: int, rng: Any) -> dict[str, Any]:
    """The relaxed objective and the discrete one along the descent, from tau = 0.5."""
    logits, log_tau, derivative, curve = (
        np.zeros((1, 3)),
        np.log(0.5),
        grad(lambda S: f(S).sum()),
        [],
    )
    for step in range(steps + 1):
        tau = float(np.exp(log_tau))
        many = np.broadcast_to(logits, (batch, 1, 3))
        Y = sample_log_concrete(many, tau=tau, rng=rng)
        S = np.exp(Y)
        slope = derivative(S)
        if step % 100 == 0:
            relaxed = f(
                np.exp(sample_log_concrete(np.tile(logits, (20_000, 1, 1)), tau=tau, rng=rng))
            )
            error = relaxed.std() / np.sqrt(len(relaxed))
            figures = tau, relaxed.mean(), error, rbst.exact_expectation(f, logits)
            names = ("tau", "relaxed", "relaxed_error", "discrete")
            curve.append(
                {
                    "step": step,
                    **{k: float(f"{v:.5g}") for k, v in zip(names, figures, strict=True)},
                }
            )
        along_tau = temperature_gradient(Y, slope, tau=tau).mean()
        logits = logits - 0.05 * rbst.gumbel_softmax(many, S, slope, tau=tau).mean(axis=0)
        if learned:
            log_tau = np.clip(log_tau - 0.05 * tau * along_tau, np.log(0.01), np.log(100))
    return {"probabilities": rbst.softmax(logits)[0].round(4), "curve": curve}


# The best temperature of a batch, from the rows of the map.


def best_of_batches(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """For each batch, every estimator at its best temperature of those measured, the best first.

    An unbiased estimator has bias 0 here, whatever its sample mean; one whose bias is sampled to no better than a tenth of
    the gradient is left out.
    """
    unbiased = {entry.with_samples(10) for entry in ESTIMATORS if entry.bias == "none"}
    scored = [
        (0.0 if r["estimator"] in unbiased else r["bias"], r)
        for r in rows
        if r["estimator"] in unbiased or r.get("bias_error", 0) < 0.1
    ]
    answer = {}
    for B in BATCHES:
        lowest: dict[str, dict[str, Any]] = {}
        for mse, r in sorted(
            ((bias**2 + r["deviation"] ** 2 / B, r) for bias, r in scored), key=lambda pair: pair[0]
        ):
            kept = {"estimator": r["estimator"], "tau": r["tau"], "mse": float(f"{mse:.4g}")}
            lowest.setdefault(r["estimator"], kept)
        answer[str(B)] = list(lowest.values())
    return answer


# The figures.


@dataclass(frozen=True)
class Point:
    """A row of the record, with the figures that the map draws."""

    tau: float | None
    relative_bias: Figure
    relative_deviation: Figure


def points_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """The rows of each estimator as the map takes them."""
    points = {}
    for r in rows:
        bias = Figure(r["bias"], r.get("bias_error"))
        deviation = Figure(r["deviation"], r.get("deviation_error"))
        points.setdefault(r["estimator"], []).append(Point(r["tau"], bias, deviation))
    return points


def draw(record: Mapping[str, Any]) -> None:
    """One figure for each map, narrow enough for a phone."""
    config = record["config"]
    functions = (
        f"L = {config['variables']} variables, n = {config['n']}, normal logits, seed {config['seed']}\n"
        f"{config['draws']:,} draws where sampled"
    )
    vae = (
        f"L = {config['bits']} bits, last layer of the encoder, {config['images']} images\n"
        f"{config['image_draws']:,} draws for each where sampled"
    )
    for title, rows in record["maps"].items():
        figure, axes = new_figure(1, 1, width=5, height=6.4)
        plot_bias_variance(axes[0, 0], points_of(rows))
        what = vae if title.startswith("VAE") else functions
        figure.suptitle(f"{title}\n{what}", fontsize="small")
        write_figure(figure, HERE / f"{title.lower().replace(', ', '_')}.svg")


def main() -> None:
    """Measure unless only the figures are asked for, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw the figures of the record again")
    path = HERE / "field_guide.json"
    if not parser.parse_args().draw:
        config, start = Config(), time.perf_counter()
        maps = of_functions(config) | of_vae(config)
        record = {
            "command": "python docs/results/field_guide/measure.py",
            "version": rbst.__version__,
            "config": asdict(config),
            "maps": maps,
            "best": {name: best_of_batches(rows) for name, rows in maps.items()},
            "parcels": of_parcels(),
            "interactions": of_interactions(),
            "equal_cost": of_equal_cost(config),
            "baselines": of_baselines(config),
            "learned_temperature": of_learned_temperature(config),
        }
        record["seconds"] = round(time.perf_counter() - start)
        write_json(path, record)
    draw(read_json(path))


if __name__ == "__main__":
    main()
