"""One training step of the discrete VAE against the same model in PyTorch eager, and against its matrix products.

Encoder and decoder with two tanh layers of 240, 784 pixels, 240 bits in variables of the given arity, the bits of a
category as the decoder's input, float32, SGD with momentum. Both sides do the whole step: forward, backward and
update. The port of `gr-mc100` is the usual one, K samples of Eq. 9 held at once and averaged under autograd;
`st-gs` is `torch.nn.functional.gumbel_softmax`. `gr`, to the tolerance of `rbst vae`, stands beside the port's
`gr-mc100`. The matrix products are those of the layers, forward and backward, into arrays that are there already:
what a step cannot do without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import autograd
import numpy as np

from benchmarks._measure import Setting, cell, check_agreement, find, timed_rows
from benchmarks.port import sample_gumbel_rao, torch
from rbst import get_estimator
from rbst._tables import markdown_table
from rbst.data import BinaryImages
from rbst.experiments.run import training_step
from rbst.experiments.training import minibatch
from rbst.experiments.vae import VAERun, make_config
from rbst.models.vae import VAE, bits

TAU, LEARNING_RATE, MOMENTUM, IMAGES = 0.5, 1e-3, 0.9, 2000
HIDDEN = (240, 240)
CASES = ((2, 20), (2, 200), (16, 20), (16, 200))  # arity, batch
LIGHT_CASES = ((2, 5),)


def vae(mean_pixels: np.ndarray, arity: int) -> VAE:
    """The model of Table 2 at this arity."""
    return VAE(mean_pixels, 240 // (arity.bit_length() - 1), arity, HIDDEN, "bits")


def binary_images(count: int, rng: np.random.Generator) -> np.ndarray:
    """Random images with as many white pixels as MNIST has."""
    return (rng.random((count, 784)) < 0.13).astype(np.float32)


def matrix_products(model: VAE, B: int) -> Callable[[], None]:
    """The products of all layers with a batch: x W, then g W' and x' g, of the first layer x' g alone."""
    layers = []
    for name, shape in model.layout.shapes.items():
        if len(shape) == 2:
            x, g = np.ones((B, shape[0]), np.float32), np.ones((B, shape[1]), np.float32)
            W = np.ones(shape, np.float32)
            layers.append((x, W, g, name != "encoder.W0", np.empty_like(x), np.empty_like(W)))

    def products():
        for x, W, g, backward, d_x, d_W in layers:
            np.matmul(x, W, out=g)
            np.matmul(x.T, g, out=d_W)
            if backward:
                np.matmul(g, W.T, out=d_x)

    return products


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


def torch_loss(model: VAE, p: dict, x: torch.Tensor, sample: Callable) -> torch.Tensor:
    """The objective of :meth:`rbst.models.vae.VAE.training_terms` in PyTorch."""
    mean = torch.tensor(model.mean_pixels)
    logits = torch_mlp(p, "encoder", x - mean).view(len(x), model.num_variables, model.arity)
    D = sample(logits)
    pixels = torch_mlp(p, "decoder", (D @ torch.tensor(bits(model.arity)).to(D.dtype)).flatten(1))
    cost = torch.nn.functional.binary_cross_entropy_with_logits(pixels, x, reduction="none").sum(-1)
    log_pi = torch.log_softmax(logits, dim=-1)
    kl = (log_pi.exp() * (log_pi + math.log(model.arity))).sum((-1, -2))
    return (cost + kl).mean()


def sample_st_gs(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gumbel_softmax(logits, tau=TAU, hard=True)


def sample_gr_mc100(logits: torch.Tensor) -> torch.Tensor:
    return sample_gumbel_rao(logits, TAU, 100)


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


def rbst_run(images: np.ndarray, arity: int, B: int, name: str, device: str = "cpu") -> VAERun:
    """A run of Table 2, on these images."""
    options = {"data": "mnist", "arity": arity, "batch_size": B, "tau": TAU, "device": device}
    config = make_config(options | {"learning_rate": LEARNING_RATE, "momentum": MOMENTUM})
    data = BinaryImages("random", (28, 28), images, images[:B], images[:B])
    return VAERun(config, name, 0, data, Path())


def rbst_step(run: VAERun) -> Callable[[], None]:
    update, state = training_step(run), run.start()

    def step():
        update(state)
        state.iteration += 1

    return step


def torch_step(
    model: VAE, flat: np.ndarray, images: np.ndarray, sample: Callable, B: int
) -> Callable[[], None]:
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


def calls(arity: int, B: int) -> dict[tuple[str, str], Callable[[], None]]:
    """One step of each estimator and side, of models with the same parameters."""
    rng = np.random.default_rng(0)
    images = binary_images(IMAGES, rng)
    runs = {n: rbst_run(images, arity, B, n) for n in ("st-gs", "gr-mc10", "gr-mc100", "gr")}
    model, flat = runs["gr"].model, runs["gr"].start().parameters
    steps = {(name, "rbst"): rbst_step(run) for name, run in runs.items()}
    steps["products", "floor"] = matrix_products(model, B)
    if torch is not None:
        difference = largest_difference(model, flat, images[:20])
        check_agreement("gradients given the same codes", difference, 1e-4)
        samplers = {"st-gs": sample_st_gs, "gr-mc100": sample_gr_mc100}
        for name, sample in samplers.items():
            steps[name, "port"] = torch_step(model, flat, images, sample, B)
    return steps


def measure(setting: Setting) -> list[dict]:
    """One row for each arity, batch, estimator and side."""
    cases = LIGHT_CASES if setting.light else CASES
    every = {(*case, *key): step for case in cases for key, step in calls(*case).items()}
    return timed_rows(("arity", "batch", "estimator", "side"), every, setting)


def table(rows: list[dict]) -> str:
    """Each estimator beside the matrix products alone and the port of the same one, `gr` beside that of `gr-mc100`."""
    header = ["arity", "batch", "estimator", "ms", "÷ matrix products", "port, ms", "÷ port"]
    cells = [header]
    for row in rows:
        if row["side"] != "rbst":
            continue
        case = {"arity": row["arity"], "batch": row["batch"]}
        name = "gr-mc100" if row["estimator"] == "gr" else row["estimator"]
        other = find(rows, **case, estimator=name, side="port")
        products = find(rows, **case, side="floor")
        cells.append(
            [
                f"{row['arity']}",
                f"{row['batch']}",
                f"`{row['estimator']}`",
                f"{row['milliseconds']:.2f}",
                cell(row["milliseconds"] / products["milliseconds"], ".1f"),
                cell(other and other["milliseconds"], ".2f"),
                cell(other and row["milliseconds"] / other["milliseconds"], ".2f"),
            ]
        )
    return markdown_table(cells)
