"""One training step of the latent-tree parser against the same network in PyTorch eager.

PyTorch computes all candidates anew in each merge and lets autograd differentiate the masks, as the published
parsers do; `torch.nn.functional.gumbel_softmax` draws. Both sides do the whole step: forward, backward and
the update of the parameters by gradient descent. Sequences are all of full length, which is the worst case
of both, or of lengths drawn as ListOps has them. Memory is the peak of what a step of this package allocates,
arrays included, as ``tracemalloc`` counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import autograd
import numpy as np

from benchmarks._measure import Setting, cell, check_agreement, find, peak_traced, timed_rows
from benchmarks.port import torch
from rbst import get_estimator, objective, stochastic_node
from rbst._tables import markdown_table
from rbst.data.listops import NUM_EXPRESSIONS, generate
from rbst.models.tree_lstm import Sequences, TreeLSTM

HIDDEN, TAU = 64, 0.5
FULL, MIXED = "all full", "as in ListOps"
CASES = ((10, FULL), (50, FULL), (50, MIXED))  # tokens, and as many sequences in a batch
LIGHT_CASES = ((5, FULL), (5, MIXED))


def random_sequences(lengths: np.ndarray, rng: np.random.Generator) -> Sequences:
    """Random sequences of these lengths."""
    B, L = len(lengths), lengths.max()
    return Sequences(
        rng.integers(15, size=(B, L)), lengths, rng.integers(10, size=B), np.zeros((B, L - 1), int)
    )


def lengths_of_listops(
    B: int, L: int, rng: np.random.Generator, num_expressions: int
) -> np.ndarray:
    """Lengths of B expressions of at most L tokens."""
    expressions = generate(rng, num_expressions=num_expressions)
    return np.array([len(tokens) for tokens in expressions if len(tokens) <= L][:B])


def torch_cost(model, p, tokens, lengths, labels, choose):
    """The network of :mod:`rbst.models.tree_lstm` in PyTorch."""
    d = model.hidden
    leaves = torch.nn.functional.embedding(tokens, p["embedding"])
    h, c = (
        torch.addmm(p["leaf.b0"], leaves.reshape(-1, d), p["leaf.W0"])
        .reshape(*tokens.shape, 2 * d)
        .chunk(2, dim=-1)
    )
    for t in range(tokens.shape[1] - 1):
        pairs = h.shape[1] - 1
        x = torch.cat([h[:, :-1], h[:, 1:]], dim=-1)
        gates = torch.addmm(p["cell.b"], x.reshape(-1, 2 * d), p["cell.W"])
        i, f_l, f_r, o, g = gates.reshape(len(h), pairs, 5 * d).chunk(5, dim=-1)
        new_c = (
            torch.sigmoid(f_l) * c[:, :-1]
            + torch.sigmoid(f_r) * c[:, 1:]
            + torch.sigmoid(i) * torch.tanh(g)
        )
        new_h = torch.sigmoid(o) * torch.tanh(new_c)
        done = lengths - 1 <= t
        if pairs > 1:
            scores = (new_h @ p["query"]).squeeze(-1) / math.sqrt(d)
            possible = torch.arange(pairs) < (lengths - 1 - t)[:, None]
            possible[done, 0] = True
            D = choose(scores.masked_fill(~possible, -math.inf))
            up_to = D.cumsum(dim=-1)
            stays, shifts, D = (1 - up_to).unsqueeze(-1), (up_to - D).unsqueeze(-1), D.unsqueeze(-1)
            new_h = stays * h[:, :-1] + shifts * h[:, 1:] + D * new_h
            new_c = stays * c[:, :-1] + shifts * c[:, 1:] + D * new_c
        keep = done[:, None, None]
        h = torch.where(keep, h[:, :-1], new_h)
        c = torch.where(keep, c[:, :-1], new_c)
    hidden = torch.tanh(torch.addmm(p["classifier.b0"], h[:, 0], p["classifier.W0"]))
    scores = torch.addmm(p["classifier.b1"], hidden, p["classifier.W1"])
    return torch.nn.functional.cross_entropy(scores, labels)


def largest_difference(model, flat, sequences) -> float:
    """Of the two gradients given the same decisions, relative to the largest entry: the sides agree."""
    rng = np.random.default_rng(0)
    estimator, draws = get_estimator("st"), []

    def choose(logits, t):
        D = stochastic_node(logits, estimator, rng)
        draws.append(autograd.tracer.getval(D))
        return D

    ours = autograd.grad(lambda flat: np.mean(model.terms(flat, sequences, choose)[0]))(flat)
    parameters = torch.tensor(flat, requires_grad=True)
    queue = iter(draws)

    def torch_choose(logits):
        pi = torch.softmax(logits, dim=-1)
        return torch.tensor(next(queue)) + pi - pi.detach()

    cost = torch_cost(model, views(model, parameters), *to_torch(sequences), torch_choose)
    theirs = torch.autograd.grad(cost, parameters)[0].numpy()
    return float(abs(ours - theirs).max() / abs(theirs).max())


def views(model, flat):
    """The named arrays of a flat tensor."""
    sizes = [math.prod(shape) for shape in model.layout.shapes.values()]
    return {
        name: part.reshape(shape)
        for (name, shape), part in zip(model.layout.shapes.items(), flat.split(sizes), strict=True)
    }


def to_torch(sequences):
    return tuple(
        torch.from_numpy(array) for array in (sequences.tokens, sequences.lengths, sequences.labels)
    )


def rbst_step(model, flat, sequences, name):
    estimator, rng = get_estimator(name, tau=TAU), np.random.default_rng(0)

    def loss(flat):
        return objective(estimator, *model.training_terms(flat, sequences, estimator, rng))

    gradient = autograd.grad(loss)
    flat = flat.copy()

    def step():
        flat[...] -= 1e-3 * gradient(flat)
        return flat

    return step


def torch_step(model, flat, sequences):
    parameters = {
        name: array.clone().requires_grad_()
        for name, array in views(model, torch.tensor(flat)).items()
    }
    optimiser = torch.optim.SGD(parameters.values(), lr=1e-3)
    batch = to_torch(sequences)

    def choose(logits):
        return torch.nn.functional.gumbel_softmax(logits, tau=TAU, hard=True)

    def step():
        optimiser.zero_grad()
        torch_cost(model, parameters, *batch, choose).backward()
        optimiser.step()

    return step


def calls(size: int, lengths: str, light: bool) -> dict[tuple[str, str], Callable[[], None]]:
    """One step of each estimator and side, of networks with the same parameters."""
    rng = np.random.default_rng(size)
    model = TreeLSTM(num_tokens=15, num_classes=10, hidden=HIDDEN)
    flat = model.initial_parameters(rng, np.float32)
    if lengths == FULL:
        drawn = np.full(size, size)
    else:
        drawn = lengths_of_listops(size, size, rng, 100 if light else NUM_EXPRESSIONS)
    sequences = random_sequences(drawn, rng)
    steps = {
        (name, "rbst"): rbst_step(model, flat, sequences, name)
        for name in ("st-gs", "gr-mc10", "gr-mc100", "gr")
    }
    if torch is not None:
        difference = largest_difference(model, flat, sequences)
        check_agreement("gradients given the same decisions", difference, 1e-3)
        steps["st-gs", "port"] = torch_step(model, flat, sequences)
    return steps


def measure(setting: Setting) -> list[dict]:
    """One row for each size, estimator and side."""
    every = {
        (*case, *key): step
        for case in (LIGHT_CASES if setting.light else CASES)
        for key, step in calls(*case, setting.light).items()
    }
    rows = timed_rows(("tokens", "lengths", "estimator", "side"), every, setting)
    return [
        row
        | {"batch": row["tokens"]}
        | ({"megabytes": peak_traced(step)} if row["side"] == "rbst" else {})
        for row, step in zip(rows, every.values(), strict=True)
    ]


def table(rows: list[dict]) -> str:
    """Each estimator beside the port of `st-gs`."""
    header = [
        "tokens = batch",
        "lengths",
        "estimator",
        "MB",
        "ms",
        "port's `st-gs`, ms",
        "÷ port's `st-gs`",
    ]
    cells = [header]
    for row in rows:
        if row["side"] == "port":
            continue
        other = find(rows, tokens=row["tokens"], lengths=row["lengths"], side="port")
        cells.append(
            [
                f"{row['tokens']}",
                row["lengths"],
                f"`{row['estimator']}`",
                f"{row['megabytes']:.1f}",
                f"{row['milliseconds']:.1f}",
                cell(other and other["milliseconds"], ".1f"),
                cell(other and row["milliseconds"] / other["milliseconds"], ".2f"),
            ]
        )
    return markdown_table(cells)
