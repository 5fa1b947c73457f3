r"""How noisy and how wrong the gradient of the encoder logits is, along a training (Paulus et al., Figure 2).

Parameters and minibatch are held, and what is examined is the gradient of the mean bound with respect to the encoder
logits, an array ``(B, L, n)``. By Proposition 3 the variance of ST-GS has two parts, what the choice of D adds and what the
noise given D adds,

.. math:: \mathrm{tr} \, \mathrm{cov}[h] = \mathrm{tr} \, \mathrm{cov}\big[\mathbb E[h \mid D]\big]
          + \mathbb E\big[\mathrm{tr} \, \mathrm{cov}[h \mid D]\big],

of which GR has the first alone and GR-MCK the second over K beside it. Given a D both are exact
(:func:`rbst.conditional_moments`); only D is drawn. Estimators of another kind are drawn again and again. The mean squared
error needs the true gradient, which nobody can enumerate here: a long-run average of the unbiased ``reinforce`` stands in
for it, whose own variance is subtracted, so that what is shown is unbiased and comes with a standard error. The divergence is
the same in every draw and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from autograd import grad

from rbst._array import Array, namespace, to_host
from rbst._blocks import slices
from rbst._files import read_json, read_npz, write_json
from rbst._progress import progress_over
from rbst._tables import text_table
from rbst.autodiff import objective
from rbst.estimators.registry import Estimator, get_estimator
from rbst.experiments.run import RTOL, Run
from rbst.plotting import colour, new_figure, set_caption
from rbst.rao_blackwell import conditional_moments

VARIANCE_DRAWS = 200
IMAGES_AT_ONCE = 1000
SAMPLED = ("st", "gs")
SAMPLES = {"st-gs": 1, "gr-mc10": 10, "gr-mc100": 100, "gr": math.inf}
"""By what the noise given D is divided in the variance of each estimator of this family."""

TAUS = (0.1, 0.25, 0.5, 1.0)
GROUPS = 20
"""Standard errors come from this many independent groups of draws."""

REFERENCE_DRAWS = 4000
MOST_THRESHOLDS = 1000
MSE_SNAPSHOTS = 3
"""Figure 2b is computed at this many snapshots, spread over the training."""


def gradient_draws(
    model: Any,
    estimator: Estimator,
    parameters: Array,
    x: Array,
    num_draws: int,
    rng: Any,
    baseline: float | Array = 0.0,
) -> Array:
    """Independent gradients of the mean cost with respect to the encoder logits, ``(num_draws, B, L, n)``.

    They are returned on the host.
    """
    xp = namespace(x)
    views = model.layout.views(parameters)
    logits = model.encode(views, x)

    def loss(logits: Array, x: Array, baseline: float | Array) -> Array:
        cost, draws = model.reconstruction(views, logits, x, estimator, rng)
        return len(cost) * objective(estimator, cost, 0.0, draws, baseline)

    def draw(copies: int) -> Array:
        """Several draws at once, on copies of the minibatch; each is the gradient of a mean over it."""
        b = xp.tile(baseline, copies) if np.ndim(baseline) else baseline
        gradient = grad(loss)(xp.tile(logits, (copies, 1, 1)), xp.tile(x, (copies, 1)), b)
        return to_host(gradient).reshape(copies, *logits.shape).astype(np.float64) / len(x)

    blocks = slices(num_draws, IMAGES_AT_ONCE // len(x))
    return np.concatenate([draw(block.stop - block.start) for block in blocks])


def run_draws(
    run: Run, parameters: Array, estimator: Estimator, rng: Any, baseline: float = 0.0
) -> Array:
    """Gradients at the first minibatch of a run, ``(VARIANCE_DRAWS, B, L, n)``."""
    x = run.minibatch(0)
    return gradient_draws(run.model, estimator, parameters, x, VARIANCE_DRAWS, rng, baseline)


def trace_of(draws: Array) -> float:
    """The trace of the covariance of draws."""
    return float(draws.var(axis=0, ddof=1).sum())


def log10_trace(run: Run) -> float:
    """Base-10 logarithm of the trace of the covariance of a run's own gradient, after its training."""
    state = run.trained()
    estimator, baseline = run.estimator(state.iteration - 1), state.baseline.value
    trace = trace_of(run_draws(run, state.parameters, estimator, run.generator(4), baseline))
    return math.log10(trace) if trace > 0 else -math.inf


def track_run(run: Run) -> dict[str, Any]:
    """Figures 2a and 2b at the snapshots of a run; what is done is read from its folder."""
    paths = sorted((run.folder / "snapshots").glob("[0-9]*.npz"))
    with_mse = {paths[i] for i in np.linspace(0, len(paths) - 1, MSE_SNAPSHOTS).astype(int)}
    for path in progress_over(paths, f"{run.name:<9} track ", len(paths), "snapshots"):
        done = path.with_suffix(".json")
        if not done.is_file():
            parameters = run.xp.asarray(read_npz(path)["parameters"])
            write_json(
                done, {"iteration": int(path.stem)} | track(run, parameters, path in with_mse)
            )
    return {"tau": run.config.tau, "points": read_track(run.folder)}


def track(run: Run, parameters: Array, with_mse: bool) -> dict[str, Any]:
    """The variances at the temperature of the run, the split of each temperature, and the errors if asked."""
    own, rng = run.config.tau, run.generator(10)
    D, df_dD = draws_of_D(run.model, parameters, run.minibatch(0), VARIANCE_DRAWS, rng)
    logits = to_host(run.model.encode(run.model.layout.views(parameters), run.minibatch(0)))
    taus = sorted({*TAUS, own})
    means, splits = {}, {}
    for tau in taus:
        means[tau], splits[tau] = split_variance(logits.astype(np.float64), D, df_dD, tau)
    variance = {
        name: splits[own]["choice"] + splits[own]["noise"] / K for name, K in SAMPLES.items()
    }
    for place, name in enumerate(SAMPLED):
        estimator = get_estimator(name, tau=own)
        variance[name] = trace_of(run_draws(run, parameters, estimator, run.generator(8, place)))
    point = {"variance": variance, "split": [splits[tau] for tau in taus]}
    if with_mse:
        rng = run.generator(9)
        reference = reference_groups(run.model, parameters, run.minibatch(0), rng)
        errors: dict[str, list[dict[str, float]]] = {name: [] for name in (*SAMPLED, *SAMPLES)}
        for tau in taus:
            for name in SAMPLED:
                draws = run_draws(run, parameters, get_estimator(name, tau=tau), rng)
                errors[name].append(_error(tau, *mean_squared_error(draws, reference)))
            mse, error = mean_squared_error(means[tau], reference)
            for name, K in SAMPLES.items():
                noise, noise_error = (splits[tau][key] / K for key in ("noise", "noise_error"))
                errors[name].append(_error(tau, mse + noise, math.hypot(error, noise_error)))
        point["mse"] = errors
    return point


def _error(tau: float, mse: float, error: float) -> dict[str, float]:
    return {"tau": tau, "mse": mse, "standard_error": error}


def draws_of_D(
    model: Any, parameters: Array, x: Array, num_draws: int, rng: Any
) -> tuple[Array, Array]:
    """Independent draws of D given the minibatch, and the gradients of its mean cost there, ``(num_draws, B, L, n)``."""
    drawn = []

    def pull_back(logits: Array, D: Array, df_dD: Array, rng: Any) -> Array:
        drawn.append(to_host(D))
        return df_dD

    estimator = Estimator("df/dD", "corner", pull_back, given_D="fixed")
    df_dD = gradient_draws(model, estimator, parameters, x, num_draws, rng)
    return np.concatenate(drawn).reshape(df_dD.shape).astype(np.float64), df_dD


def split_variance(
    logits: Array, D: Array, df_dD: Array, tau: float
) -> tuple[Array, dict[str, float]]:
    """E[h | D] of each D, and the two parts of the variance of ST-GS with their standard errors over the draws of D."""
    mean, square = conditional_moments(
        np.broadcast_to(logits, D.shape), D, df_dD, tau=tau, rtol=RTOL
    )
    N, axes = len(D), tuple(range(1, D.ndim))
    noise = (square - (mean**2).sum(axis=-1)).sum(axis=axes[:-1])
    choice = ((mean - mean.mean(axis=0)) ** 2).sum(axis=axes) * (N / (N - 1))
    split = {"tau": tau}
    for name, values in {"choice": choice, "noise": noise}.items():
        split[name] = float(values.mean())
        split[f"{name}_error"] = float(values.std(ddof=1) / math.sqrt(N))
    return mean, split


def read_track(folder: str | Path) -> list[dict[str, Any]]:
    """What :func:`track_run` has left in the folder of a run."""
    return [read_json(path) for path in sorted(Path(folder).glob("snapshots/[0-9]*.json"))]


def reference_groups(model: Any, parameters: Array, x: Array, rng: Any) -> Array:
    """Means of ``GROUPS`` groups of unbiased gradients, ``(GROUPS, B, L, n)``.

    ``reinforce`` with one baseline for each image, the mean cost of separate draws.
    """
    views = model.layout.views(parameters)
    reinforce, logits = get_estimator("reinforce"), model.encode(views, x)
    costs = [model.reconstruction(views, logits, x, reinforce, rng)[0] for _ in range(100)]
    baseline = namespace(x).stack(costs).mean(axis=0)
    size = REFERENCE_DRAWS // GROUPS
    return np.stack(
        [
            gradient_draws(model, reinforce, parameters, x, size, rng, baseline).mean(axis=0)
            for _ in range(GROUPS)
        ]
    )


def mean_squared_error(draws: Array, reference: Array) -> tuple[float, float]:
    r"""Mean squared error against an unbiased but noisy reference, and its standard error.

    .. math:: \mathbb E |h - \nabla|^2 = \mathrm{tr} \, \mathrm{cov}[h] + |\mathbb E h - \nabla|^2

    where :math:`h` are the ``draws``, shape ``(N, ...)``, and ``reference``, shape ``(G, ...)``, are independent
    estimates of :math:`\nabla`. With the draws in G groups and :math:`d_g` the difference of two group means,
    the squared bias is the mean of :math:`d_g^\top d_{g'}` over :math:`g \ne g'`: neither the variance of
    the draws nor that of the reference enters. The standard error is the jackknife's over the groups.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> draws = 1 + rng.normal(size=(4000, 3))  # bias^2 = 3, variance = 3
    >>> mse, error = mean_squared_error(draws, rng.normal(size=(20, 3)) / 4)
    >>> abs(mse - 6) < 3 * error, error < 0.5
    (True, True)
    """
    G = len(reference)
    groups = draws[: len(draws) // G * G].reshape(G, -1, *draws.shape[1:])
    d = (groups.mean(axis=1) - reference).reshape(G, -1)
    variance = groups.reshape(G, groups.shape[1], -1).var(axis=1, ddof=1).sum(axis=-1)
    gram = d @ d.T

    def estimate(kept: Array) -> float:
        g = int(kept.sum())
        inner = gram[np.ix_(kept, kept)]
        return float((inner.sum() - np.trace(inner)) / (g * (g - 1)) + variance[kept].mean())

    everything = np.ones(G, dtype=bool)
    left_out = np.array([estimate(everything & (np.arange(G) != g)) for g in range(G)])
    error = math.sqrt((G - 1) / G * ((left_out - left_out.mean()) ** 2).sum())
    return estimate(everything), error


# ----------------------------------------------------------------------------- Figure 2


def iterations_to_thresholds(curves: dict[str, list[float]]) -> dict[str, int]:
    """The first measured iteration at which the validation bound has fallen to each whole number of nats.

    Of a bound that starts very high, only the last ``MOST_THRESHOLDS`` nats are listed.

    Examples
    --------
    >>> curves = {"iteration": [10, 20, 30], "valid_bound": [25.2, 23.9, 24.5]}
    >>> iterations_to_thresholds(curves)
    {'26': 10, '25': 20, '24': 20}
    """
    reached: dict[str, int] = {}
    bounds = curves.get("valid_bound", [])
    highest = min(bounds, default=0.0) + MOST_THRESHOLDS
    lowest: int | None = None
    for iteration, bound in zip(curves.get("iteration", []), bounds, strict=True):
        if bound < highest:  # nor is one that is not a number
            least = math.ceil(bound)
            for nats in reversed(range(least, least + 1 if lowest is None else lowest)):
                reached[str(nats)] = int(iteration)
                lowest = nats
    return reached


SHOWN = (0.1, 0.5, 1.0)
"""Temperatures at which the two parts of the variance are drawn."""


def split_table(points: Sequence[Mapping[str, Any]]) -> str:
    """The two parts of the variance at the first, the middle and the last snapshot, as text."""
    rows = [["iteration", "tau", "choice of D", "noise given D", "removed by GR"]]
    for point in [points[i] for i in sorted({0, len(points) // 2, len(points) - 1})]:
        for split in point.get("split", []):
            cells = [f"{split[k]:.3g} ± {split[f'{k}_error']:.1g}" for k in ("choice", "noise")]
            rows.append(
                [str(point["iteration"]), f"{split['tau']:g}", *cells, f"{_removed(split):.1%}"]
            )
    return text_table(rows)


def _removed(split: Mapping[str, float]) -> float:
    return split["noise"] / (split["choice"] + split["noise"])


def draw_figure2(run: Mapping[str, Any], same: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """Figure 2 of the paper: (a) and (b) of a tracked run, (c) of the seeds of several estimators."""
    track, config = run["track"], run["config"]
    figure, axes = new_figure(3, 2, width=8, height=8.4)
    *splits, removed, errors, thresholds = axes.flat
    _draw_splits(splits, track)
    _draw_removed(removed, track, "what GR removes of the variance of ST-GS")
    _draw_errors(errors, run)
    _draw_thresholds(thresholds, same)
    names = errors.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=6, fontsize="small")
    for panel in axes.flat:
        panel.title.set_fontsize("small")
    set_caption(
        figure,
        f"{config['data']}, {config['bits']} bits, n = {config['arity']}, batch {config['batch_size']}; "
        f"(a) and (b) at the parameters of a run of {run['estimator']} (seed {run['seed']});\n"
        f"{VARIANCE_DRAWS} draws of D, given which the moments are exact; in (b) against the mean of "
        f"{REFERENCE_DRAWS} draws of reinforce",
    )
    return figure


def draw_removed(runs: Sequence[Mapping[str, Any]]) -> Any:
    """What Rao-Blackwellizing removes of the variance along each of these tracked runs, side by side."""
    figure, (panels,) = new_figure(1, len(runs), width=8, height=2.8)
    for axes, run in zip(panels, runs, strict=True):
        _draw_removed(axes, run["track"], f"n = {run['config']['arity']}")
        axes.sharey(panels[0])
        axes.label_outer()
        axes.locator_params(axis="x", nbins=3)
    set_caption(figure, "what GR removes of the variance of ST-GS, at the parameters of ST-GS")
    return figure


def _at(point: Mapping[str, Any], tau: float) -> Mapping[str, float]:
    return min(point["split"], key=lambda split: abs(split["tau"] - tau))


def _draw_splits(panels: Sequence[Any], track: Sequence[Mapping[str, Any]]) -> None:
    """What the choice of D and the noise given D add to the variance, at each of the temperatures SHOWN."""
    iterations = [point["iteration"] for point in track]
    parts = {
        "choice": ("gr", "choice of D: all of GR"),
        "noise": ("st-gs", "noise given D: in ST-GS too"),
    }
    for axes in panels[1:]:
        axes.sharey(panels[0])
    for axes, tau in zip(panels, SHOWN, strict=True):
        for key, (name, label) in parts.items():
            values, errors = (
                np.array([_at(p, tau)[k] for p in track]) for k in (key, f"{key}_error")
            )
            axes.errorbar(iterations, values, errors, fmt=".-", color=colour(name), label=label)
        title = f"(a) variance at tau = {_at(track[0], tau)['tau']:g}, by Proposition 3"
        axes.set(title=title, xlabel="iteration", yscale="log")
    for axes in panels[::2]:  # the left ones
        axes.set_ylabel("trace of the covariance")
    panels[0].legend(frameon=False, fontsize="small")


def _draw_removed(axes: Any, track: Sequence[Mapping[str, Any]], title: str) -> None:
    iterations = [point["iteration"] for point in track]
    for tau, style in zip(SHOWN, (":", "--", "-"), strict=True):
        removed = [100 * _removed(_at(point, tau)) for point in track]
        axes.plot(iterations, removed, style, marker=".", color="black")
        above_its_end = {"xytext": (0, 8), "textcoords": "offset points", "ha": "right"}
        end = iterations[-1], removed[-1]
        axes.annotate(f"tau = {tau:g}", end, fontsize="small", **above_its_end)
    axes.set(title=title, xlabel="iteration", ylabel="%", ylim=(0, 100))


def _draw_errors(axes: Any, run: Mapping[str, Any]) -> None:
    point = [point for point in run["track"] if "mse" in point][-1]
    for name, values in point["mse"].items():
        taus, mse, errors = ([v[key] for v in values] for key in ("tau", "mse", "standard_error"))
        axes.errorbar(taus, mse, errors, color=colour(name), capsize=2, label=name)
    title = f"(b) mean squared error, iteration {point['iteration']}"
    axes.set(
        title=title, xlabel="tau", ylabel="MSE, one standard error", xscale="log", yscale="log"
    )


def _draw_thresholds(axes: Any, same: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Of each estimator the mean over its seeds, and their range as a band."""
    for seeds in same:
        reached = [iterations_to_thresholds(result["curves"]) for result in seeds]
        common = [bound for bound in reached[0] if all(bound in other for other in reached)]
        iterations = np.array([[other[bound] for bound in common] for other in reached])
        bounds, tint = [int(bound) for bound in common], colour(seeds[0]["estimator"])
        axes.plot(iterations.mean(axis=0), bounds, ".-", color=tint)
        if len(seeds) > 1:
            low, high = iterations.min(axis=0), iterations.max(axis=0)
            axes.fill_betweenx(bounds, low, high, color=tint, alpha=0.2, linewidth=0)
    axes.set(
        title="(c) iterations to a bound, M = 1",
        xlabel="iteration",
        ylabel="negative bound (nats)",
    )
