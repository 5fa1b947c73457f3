"""One training step of the discrete VAE against the same model in PyTorch eager, in one process.

Encoder and decoder with two tanh layers of 240, 784 pixels, 240 bits, float32, SGD with momentum. Both sides
do the whole step: forward, backward and update. The port of `gr-mc100` is the usual one, K samples of Eq. 9
held at once and averaged under autograd; `st-gs` is `torch.nn.functional.gumbel_softmax`. Repeats alternate
between the sides; the table shows medians of wall-clock time.

    python benchmarks/vae_step.py [--threads 2] [--repeats 30] [--arity 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--repeats", type=int, default=30)
parser.add_argument("--arity", type=int, default=2)
parser.add_argument("--out", help="write the figures to this file as JSON")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)

import autograd  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from rbst import RunningMean, get_estimator  # noqa: E402
from rbst.experiments.training import TrainingState, minibatch  # noqa: E402
from rbst.experiments.vae_run import RTOL, training_step  # noqa: E402
from rbst.models.vae import VAE  # noqa: E402

torch.set_num_threads(arguments.threads)

TAU, LEARNING_RATE, MOMENTUM, IMAGES = 0.5, 1e-3, 0.9, 2000


def torch_views(model: VAE, flat: np.ndarray) -> dict[str, torch.Tensor]:
    """The parameters of a flat vector as tensors of their own."""
    return {
        name: torch.tensor(view, requires_grad=True)
        for name, view in model.layout.views(flat).items()
    }


def torch_mlp(p: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    for layer in range(2):
        x = torch.tanh(torch.addmm(p[f"{name}.b{layer}"], x, p[f"{name}.W{layer}"]))
    return torch.addmm(p[f"{name}.b2"], x, p[f"{name}.W2"])


def torch_loss(model: VAE, p: dict, x: torch.Tensor, sample) -> torch.Tensor:
    """The objective of :meth:`rbst.models.vae.VAE.training_terms` in PyTorch."""
    mean = torch.tensor(model.mean_pixels)
    logits = torch_mlp(p, "encoder", x - mean).view(len(x), model.num_variables, model.arity)
    D = sample(logits)
    pixels = torch_mlp(p, "decoder", D.flatten(1))
    cost = functional.binary_cross_entropy_with_logits(pixels, x, reduction="none").sum(-1)
    log_pi = torch.log_softmax(logits, dim=-1)
    kl = (log_pi.exp() * (log_pi + math.log(model.arity))).sum((-1, -2))
    return (cost + kl).mean()


def sample_st_gs(logits: torch.Tensor) -> torch.Tensor:
    return functional.gumbel_softmax(logits, tau=TAU, hard=True)


def sample_gumbel_rao(logits: torch.Tensor, K: int = 100) -> torch.Tensor:
    """D forward; backward the Jacobian at K draws of Eq. 9, which are not differentiated."""
    with torch.no_grad():
        index = torch.distributions.Categorical(logits=logits).sample()
        D = functional.one_hot(index, logits.shape[-1]).to(logits.dtype)
        E = torch.empty(K, *logits.shape).exponential_()
        log_pi = torch.log_softmax(logits, dim=-1)
        selected = (E * D).sum(dim=-1, keepdim=True)
        located = torch.where(D == 1, -selected.log(), -(E / log_pi.exp() + selected).log())
        noise = located - logits
    S = torch.softmax((logits + noise) / TAU, dim=-1).mean(dim=0)
    return S + (D - S).detach()


def largest_difference(model: VAE, flat: np.ndarray, x: np.ndarray) -> float:
    """Of the two gradients of `st` given the same codes, relative to the largest entry."""
    codes = []

    def loss(flat):
        cost, direct, draws = model.training_terms(
            flat, x, get_estimator("st"), np.random.default_rng(0)
        )
        codes.append(draws[0][1])
        return autograd.numpy.mean(cost + direct)

    ours = autograd.grad(loss)(flat)

    def sample(logits):
        pi = torch.softmax(logits, dim=-1)
        return torch.tensor(codes[0]) + pi - pi.detach()

    p = torch_views(model, flat)
    torch_loss(model, p, torch.tensor(x), sample).backward()
    theirs = np.concatenate([p[name].grad.numpy().ravel() for name in model.layout.shapes])
    return float(abs(ours - theirs).max() / abs(theirs).max())


def numpy_step(model: VAE, flat: np.ndarray, images: np.ndarray, name: str, B: int):
    estimator = get_estimator(name, tau=TAU, rtol=RTOL)
    state = TrainingState(flat.copy(), np.zeros_like(flat), np.random.default_rng(0), RunningMean())
    update = training_step(
        model,
        lambda _: estimator,
        images,
        batch_size=B,
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        seed=0,
    )

    def step():
        update(state)
        state.iteration += 1

    return step


def torch_step(model: VAE, flat: np.ndarray, images: np.ndarray, sample, B: int):
    p, data = torch_views(model, flat), torch.tensor(images)
    optimiser = torch.optim.SGD(p.values(), lr=LEARNING_RATE, momentum=MOMENTUM)
    iteration = 0

    def step():
        nonlocal iteration
        x = data[torch.tensor(minibatch(len(data), B, iteration, 0))]
        iteration += 1
        optimiser.zero_grad()
        torch_loss(model, p, x, sample).backward()
        optimiser.step()

    return step


def medians(steps: dict, repeats: int) -> dict[str, float]:
    """Median milliseconds of each step; the sides take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 3:  # the first ones warm caches and allocators
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(times)) for name, times in seconds.items()}


def main() -> None:
    machine = f"{platform.processor() or platform.machine()}, {arguments.threads} thread(s)"
    print(f"{machine}; numpy {np.__version__}, torch {torch.__version__}; arity {arguments.arity}")
    figures = {"machine": machine, "torch": torch.__version__, "numpy": np.__version__}
    rng = np.random.default_rng(0)
    images = (rng.random((IMAGES, 784)) < 0.13).astype(np.float32)
    num_variables = 240 // (arguments.arity.bit_length() - 1)
    model = VAE(images.mean(axis=0), num_variables, arguments.arity, (240, 240))
    flat = model.initial_parameters(rng, np.float32)
    difference = largest_difference(model, flat, images[:20])
    if not difference < 1e-4:
        sys.exit(f"the two models disagree: relative difference {difference:.1e}")
    print(f"gradients given the same codes agree to {difference:.1e} of the largest entry")
    for B in (20, 200):
        steps = {
            "torch st-gs": torch_step(model, flat, images, sample_st_gs, B),
            "rbst st-gs": numpy_step(model, flat, images, "st-gs", B),
            "torch gr-mc100": torch_step(model, flat, images, sample_gumbel_rao, B),
            "rbst gr-mc100": numpy_step(model, flat, images, "gr-mc100", B),
            "rbst gr": numpy_step(model, flat, images, "gr", B),
        }
        times = medians(steps, arguments.repeats)
        figures[f"B = {B}"] = times
        print(f"\nbatch {B}")
        for name, milliseconds in times.items():
            port = "torch st-gs" if name.endswith("st-gs") else "torch gr-mc100"
            ratio = milliseconds / times[port]
            print(f"  {name:<15} {milliseconds:8.2f} ms   {ratio:5.2f} x {port}")
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
