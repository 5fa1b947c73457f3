r"""A training loop that can be killed at any moment and resumes bit for bit.

Everything that the next step depends on lies in a :class:`TrainingState`; :func:`save_state` writes it
whole or not at all, and :func:`load_state` reads it back without unpickling anything. The loop itself knows no
model: the step and the measurements are a run's (:class:`rbst.experiments.run.Run`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rbst._array import Array, Indices, namespace, new_generator, to_host
from rbst._checks import NotFinite
from rbst._files import read_npz, write_npz
from rbst.estimators.score_function import RunningMean

CHECKPOINT_FORMAT = 1

SCHEDULES = ("geometric", "linear")
"""How a setting gets from its first value to its final one."""


class Diverged(ArithmeticError):
    """The objective or the parameters are no longer finite."""


@dataclass
class TrainingState:
    """Parameters, the optimiser's velocity, the generator, the running mean, and what was measured.

    The generator is NumPy's on every device: CuPy does not tell the state of its own, so a checkpoint could
    not hold it. :meth:`generator` makes one for the device.
    """

    parameters: Array
    velocity: Array
    rng: Any
    baseline: RunningMean
    iteration: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def generator(self) -> Any:
        """A generator where the parameters are: ``rng`` itself, or a new one started by a draw of it."""
        xp = namespace(self.parameters)
        return self.rng if xp is np else new_generator(xp, int(self.rng.integers(2**63)))


def momentum_step(
    state: TrainingState,
    gradient: Array,
    *,
    learning_rate: float,
    momentum: float,
    rate_factors: Sequence[tuple[slice, float]] = ((slice(None), 1.0),),
) -> None:
    r"""One step of gradient descent with momentum, in place.

    .. math:: v \leftarrow \mu v - \eta \, g, \qquad \theta \leftarrow \theta + v

    with :math:`\eta` the ``learning_rate``, multiplied in each part of the parameters by a factor of its own
    (``rate_factors``, slices that cover the vector), and :math:`\mu` the ``momentum``.

    ``gradient`` is overwritten: a step of a large model is a matter of memory traffic.
    """
    for part, factor in rate_factors:
        gradient[part] *= learning_rate * factor
    state.velocity *= momentum
    state.velocity -= gradient
    state.parameters += state.velocity


ADAM_DECAYS, ADAM_EPSILON = (0.9, 0.999), 1e-8


def adam_step(state: TrainingState, gradient: Array, *, learning_rate: float) -> None:
    r"""One step of Adam, in place; ``state.velocity`` holds the two moments, ``(2, parameters)``.

    .. math::

        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with :math:`\eta` the ``learning_rate``, :math:`\beta` the ``ADAM_DECAYS`` and t the number of this step, from 1.
    Kingma and Ba (2015), Algorithm 1.
    """
    t = state.iteration + 1
    for moment, decay, power in zip(state.velocity, ADAM_DECAYS, (1, 2), strict=True):
        moment *= decay
        moment += (1 - decay) * gradient**power
    mean, square = (m / (1 - b**t) for m, b in zip(state.velocity, ADAM_DECAYS, strict=True))
    state.parameters -= learning_rate * mean / (namespace(square).sqrt(square) + ADAM_EPSILON)


def scheduled(first: float, final: float | None, schedule: str, progress: float) -> float:
    r"""A setting on its way from ``first`` to ``final``, at ``progress`` from 0 to 1; constant without ``final``.

    .. math:: x_0^{1 - p} x_1^p \quad \text{(geometric)}, \qquad (1 - p) x_0 + p x_1 \quad \text{(linear, which reaches 0)}

    Examples
    --------
    >>> scheduled(1.0, 0.01, "geometric", 0.5), scheduled(1.0, 0.0, "linear", 0.25)
    (0.1, 0.75)
    """
    if final is None:
        return first
    if schedule == "linear":
        return first + (final - first) * progress
    return first * (final / first) ** progress


def clip_norm(gradient: Array, limit: float) -> None:
    """Scale a gradient, in place, so that its Euclidean norm is at most ``limit`` (Pascanu et al., 2013).

    Examples
    --------
    >>> g = np.array([3e200, 4e200])
    >>> clip_norm(g, 1.0)
    >>> g
    array([0.6, 0.8])
    """
    xp = namespace(gradient)
    largest = float(xp.abs(gradient).max())
    if largest > 0 and math.isfinite(largest):  # what is not finite is for the training to notice
        relative = gradient / largest  # squares of large entries overflow in float32
        norm = largest * math.sqrt(float(xp.vdot(relative, relative)))
        if norm > limit:
            gradient *= limit / norm


def minibatch(
    num_examples: int, batch_size: int, iteration: int, seed: int, xp: Any = np
) -> Indices:
    """Indices of the minibatch of this iteration; each epoch visits the examples in a new order.

    A function of its arguments alone, so that a checkpoint needs no position in the data. Examples that do not
    fill a last minibatch are left out of the epoch. ``xp`` is the module of the examples, NumPy or CuPy: their
    order is the same in both, and is copied to a device once per epoch.

    Examples
    --------
    >>> np.concatenate([minibatch(6, 2, iteration, seed=0) for iteration in range(3)])
    array([3, 2, 5, 4, 0, 1])
    """
    per_epoch = num_examples // batch_size
    epoch, position = divmod(iteration, per_epoch)
    order = _shuffled(num_examples, epoch, seed, xp)
    return order[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=2)
def _shuffled(num_examples: int, epoch: int, seed: int, xp: Any) -> Indices:
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    order.setflags(write=False)  # it is shared by the minibatches of the epoch
    return xp.asarray(order)


def train(
    state: TrainingState,
    step: Callable[[TrainingState], dict[str, float]],
    run: Any,
    *,
    checkpoint_every: int,
    progress: Any,
) -> None:
    """Run ``step`` until ``run.config.iterations`` are done or ``run.ended(state)``, measuring and saving on the way.

    ``step(state)`` makes one update and returns named figures, which are averaged between two
    measurements; ``run.measure(state)`` returns more of them and must leave the state as it is. Both go into
    ``state.curves`` beside the iteration. ``state.seconds`` counts the steps only. Raises
    :class:`Diverged` after the first step that leaves a figure or a parameter that is not finite;
    what is on the disk then, ``run.checkpoint``, is the last one that was still finite.
    """
    iterations = run.config.iterations
    while state.iteration < iterations and not run.ended(state):
        start = time.perf_counter()
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked for
                figures = step(state)
        except NotFinite as error:
            state.iteration += 1
            raise Diverged(
                f"the training diverged at iteration {state.iteration}: {error}"
            ) from error
        state.seconds += time.perf_counter() - start
        state.iteration += 1
        progress.update()
        _check_finite(state, figures)
        for name, value in figures.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        last = state.iteration == iterations
        if state.iteration % run.config.measure_every == 0 or last:
            measured = run.measure(state)
            _record(state, measured)
            name, value = next(iter(measured.items()))
            progress.set_postfix_str(f"{name} {value:.4g}")
            last = last or run.ended(state)
        if state.iteration % checkpoint_every == 0 or last:
            save_state(run.checkpoint, state)


def _check_finite(state: TrainingState, figures: dict[str, float]) -> None:
    # A sum is not finite if a term is not, and costs less than a look at each of them.
    if not (all(map(math.isfinite, figures.values())) and math.isfinite(state.parameters.sum())):
        raise Diverged(
            f"the training diverged at iteration {state.iteration}: the objective or a parameter is not finite"
        )


def _record(state: TrainingState, measured: dict[str, float]) -> None:
    """Append the averages since the last record, and what was measured, to the curves."""
    steps = state.iteration - state.curves.get("iteration", [0])[-1]
    averages = {name: total / steps for name, total in state.sums.items()}
    for name, value in ({"iteration": state.iteration} | averages | measured).items():
        state.curves.setdefault(name, []).append(value)
    state.sums = {}


def save_state(path: Path, state: TrainingState) -> None:
    """Write a checkpoint, whole or not at all."""
    rest = {
        "format": CHECKPOINT_FORMAT,
        "rng": state.rng.bit_generator.state,
        "baseline": vars(state.baseline),
        "iteration": state.iteration,
        "seconds": state.seconds,
        "sums": state.sums,
        "curves": state.curves,
    }
    arrays = {"parameters": to_host(state.parameters), "velocity": to_host(state.velocity)}
    write_npz(path, arrays | {"rest": np.array(json.dumps(rest))})


def load_state(path: Path, state: TrainingState) -> None:
    """Overwrite ``state`` with a checkpoint of the same run.

    Raises ``FileNotFoundError`` for a missing file and ``ValueError`` for a damaged one, or one that belongs
    to a model of another size or dtype; ``state`` is left alone then.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}; delete what else this run left there to train it anew"
        )
    stored = read_npz(path)
    try:
        rest = json.loads(str(stored["rest"]))
        if rest["format"] != CHECKPOINT_FORMAT:
            raise ValueError(f"format {rest['format']}, this version reads {CHECKPOINT_FORMAT}")
        for name in ("parameters", "velocity"):
            expected = getattr(state, name)
            if (stored[name].shape, stored[name].dtype) != (expected.shape, expected.dtype):
                raise ValueError(
                    f"{name} of shape {stored[name].shape} and dtype {stored[name].dtype}, "
                    f"this run has {expected.shape} and {expected.dtype}"
                )
        rng = type(state.rng)(type(state.rng.bit_generator)())
        rng.bit_generator.state = rest["rng"]
        baseline = RunningMean(**rest["baseline"])
        counts = {name: rest[name] for name in ("iteration", "seconds", "sums", "curves")}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this run ({error}); delete it to start this run anew"
        ) from error
    xp = namespace(state.parameters)
    state.parameters[...] = xp.asarray(stored["parameters"])
    state.velocity[...] = xp.asarray(stored["velocity"])
    state.rng, state.baseline = rng, baseline
    vars(state).update(counts)
