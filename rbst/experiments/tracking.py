r"""How noisy and how wrong the gradient of the encoder logits is, along a training (Paulus et al., Figure 2).

Parameters and minibatch are held, and the gradient of the mean bound with respect to the encoder logits,
an array ``(B, L, n)``, is drawn again and again. The trace of its covariance is Figure 2a. Its mean squared
error, Figure 2b, needs the true gradient, which nobody can enumerate here: a long-run average of the
unbiased ``reinforce`` stands in for it, whose own variance is subtracted, so that what is shown is unbiased and comes
with a standard error. The divergence is the same in every draw and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from autograd import grad

from rbst._array import Array, namespace, to_host
from rbst._files import read_json, read_npz, write_json
from rbst.autodiff import objective
from rbst.estimators.registry import Estimator, get_estimator
from rbst.experiments.run import RTOL, Run

VARIANCE_DRAWS = 200
IMAGES_AT_ONCE = 1000
TRACKED = ("st", "gs", "st-gs", "gr-mc10", "gr-mc100", "gr")
TAUS = (0.1, 0.25, 0.5, 1.0)
GROUPS = 20
"""Standard errors come from this many independent groups of draws."""

REFERENCE_DRAWS = 4000
MOST_THRESHOLDS = 1000
MSE_SNAPSHOTS = 3
"""Figure 2b is made at this many of the snapshots, spread over the training."""


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

    most = max(1, IMAGES_AT_ONCE // len(x))
    sizes = [most] * (num_draws // most) + [num_draws % most] * (num_draws % most > 0)
    return np.concatenate([draw(copies) for copies in sizes])


def log10_trace(run: Run) -> float:
    """Base-10 logarithm of the trace of the covariance of a run's own gradient, after its training."""
    state = run.trained()
    estimator, baseline = run.estimator(state.iteration - 1), state.baseline.value
    draws = gradient_draws(
        *(run.model, estimator, state.parameters, run.minibatch(0), VARIANCE_DRAWS),
        *(run.generator(4), baseline),
    )
    trace = float(draws.var(axis=0, ddof=1).sum())
    return math.log10(trace) if trace > 0 else -math.inf


def track_run(run: Run) -> dict[str, Any]:
    """Figures 2a and 2b at the snapshots of a run; what is done is read from its folder."""
    paths = sorted((run.folder / "snapshots").glob("[0-9]*.npz"))
    with_mse = {paths[i] for i in np.linspace(0, len(paths) - 1, MSE_SNAPSHOTS).astype(int)}
    points = []
    for path in paths:
        done = path.with_suffix(".json")
        if not done.is_file():
            parameters = run.xp.asarray(read_npz(path)["parameters"])
            point = {"iteration": int(path.stem), "variance": variances(run, parameters)}
            if path in with_mse:
                point["mse"] = mean_squared_errors(run, parameters)
            write_json(done, point)
        points.append(read_json(done))
    return {"tau": run.config.tau, "points": points}


def read_track(folder: str | Path) -> list[dict[str, Any]]:
    """What :func:`track_run` has left in the folder of a run."""
    return [read_json(path) for path in sorted(Path(folder).glob("snapshots/[0-9]*.json"))]


def variances(run: Run, parameters: Array) -> dict[str, float]:
    """Trace of the covariance of each tracked estimator at the temperature of the run."""
    traces = {}
    for place, name in enumerate(TRACKED):
        rng = run.generator(8, place)
        estimator = get_estimator(name, tau=run.config.tau, rtol=RTOL)
        draws = gradient_draws(
            run.model, estimator, parameters, run.minibatch(0), VARIANCE_DRAWS, rng
        )
        traces[name] = float(draws.var(axis=0, ddof=1).sum())
    return traces


def mean_squared_errors(run: Run, parameters: Array) -> dict[str, list[dict[str, float]]]:
    """The mean squared error of each tracked estimator at each of the temperatures ``TAUS``."""
    model, x, rng = run.model, run.minibatch(0), run.generator(9)
    reference = reference_groups(model, parameters, x, rng)
    errors: dict[str, list[dict[str, float]]] = {name: [] for name in TRACKED}
    for name in TRACKED:
        for tau in TAUS:
            estimator = get_estimator(name, tau=tau, rtol=RTOL)
            draws = gradient_draws(model, estimator, parameters, x, VARIANCE_DRAWS, rng)
            mse, error = mean_squared_error(draws, reference)
            errors[name].append({"tau": tau, "mse": mse, "standard_error": error})
    return errors


def reference_groups(model: Any, parameters: Array, x: Array, rng: Any) -> Array:
    """Means of ``GROUPS`` groups of unbiased gradients, ``(GROUPS, B, L, n)``.

    ``reinforce`` with one baseline for each image, the mean cost of draws that no gradient is made of.
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


def iterations_to_thresholds(curves: dict[str, list[float]], step: float = 1.0) -> dict[str, int]:
    """The first measured iteration at which the validation bound has fallen to each multiple of ``step``.

    A bound that starts beyond all measure has fallen by ``MOST_THRESHOLDS`` multiples at most.

    Examples
    --------
    >>> curves = {"iteration": [10, 20, 30], "valid_bound": [25.2, 23.9, 24.5]}
    >>> iterations_to_thresholds(curves)
    {'26': 10, '25': 20, '24': 20}
    """
    reached: dict[str, int] = {}
    bounds = curves.get("valid_bound", [])
    highest = min(bounds, default=0.0) + MOST_THRESHOLDS * step
    lowest = None
    for iteration, bound in zip(curves.get("iteration", []), bounds, strict=True):
        if not bound < highest:  # nor is one that is not a number
            continue
        threshold = int(-(-bound // step) * step)
        if lowest is None:
            lowest = threshold + int(step)
        while lowest - step >= threshold:
            lowest -= int(step)
            reached[str(lowest)] = iteration
    return reached


def draw_figure2(run: Mapping[str, Any], same: Sequence[Mapping[str, Any]]) -> Any:
    """Figure 2 of the paper: (a) and (b) of a tracked run, (c) of runs of several estimators."""
    from rbst.plotting import new_figure

    figure, axes = new_figure(1, 3, width=12, height=3.8)
    _draw_variances(axes[0, 0], run)
    _draw_errors(axes[0, 1], run)
    _draw_thresholds(axes[0, 2], same)
    axes[0, 1].legend(frameon=False, fontsize=8)  # where all lines fall, so there is room
    config = run["config"]
    figure.suptitle(
        f"{config['data']}, {config['bits']} bits, n = {config['arity']}, batch {config['batch_size']}; "
        f"(a) and (b) at the parameters of a run of {run['estimator']} (seed {run['seed']}), "
        f"(a) at tau = {config['tau']:.3g};\n{VARIANCE_DRAWS} draws of each gradient, in (b) against the mean of "
        f"{REFERENCE_DRAWS} draws of reinforce",
        fontsize=9,
    )
    return figure


def _draw_variances(axes: Any, run: Mapping[str, Any]) -> None:
    from rbst.plotting import colour

    iterations = [point["iteration"] for point in run["track"]]
    for name in run["track"][0]["variance"]:
        traces = [point["variance"][name] for point in run["track"]]
        axes.plot(iterations, traces, ".-", color=colour(name))
    axes.set(
        title="(a) variance", xlabel="iteration", ylabel="trace of the covariance", yscale="log"
    )


def _draw_errors(axes: Any, run: Mapping[str, Any]) -> None:
    from rbst.plotting import colour

    point = [point for point in run["track"] if "mse" in point][-1]
    for name, values in point["mse"].items():
        axes.errorbar(
            [value["tau"] for value in values],
            [value["mse"] for value in values],
            yerr=[value["standard_error"] for value in values],
            color=colour(name),
            capsize=2,
            label=name,
        )
    title = f"(b) mean squared error, iteration {point['iteration']}"
    axes.set(
        title=title, xlabel="tau", ylabel="MSE, one standard error", xscale="log", yscale="log"
    )


def _draw_thresholds(axes: Any, results: Sequence[Mapping[str, Any]]) -> None:
    from rbst.plotting import colour

    for result in results:
        reached = iterations_to_thresholds(result["curves"])
        bounds = [int(bound) for bound in reached]
        axes.plot(reached.values(), bounds, ".-", color=colour(result["estimator"]))
    axes.set(
        title="(c) iterations to a validation bound",
        xlabel="iteration",
        ylabel="negative bound (nats), M = 1",
    )
