r"""Rows of nodes and the candidates of their neighbours, each computed once, for :mod:`rbst.models.tree_lstm`.

A merge replaces two nodes by one and so changes two candidates; the others live on. :class:`Forest` numbers the
candidates of a whole batch as they are made, and one merge is three nodes of the autograd graph: its logits
(:func:`pair_logits`), its draw, and the next row (:func:`next_row`), each with its derivative below it.

A row is one array ``(B, nodes, 2 d + 1)``: h, c and the score of the pair of this node and the next. The score is
part of the row so that the gradient of a candidate that lives through several merges is collected on it and goes
through the cell once, where the candidate was made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograd.extend import SparseObject, defvjp, defvjp_argnums, primitive, vspace

from rbst._array import Array, namespace


@dataclass
class Pairs:
    """Some pairs of a row, those of the nodes j and j + 1 of a ``sequence``, and their candidates' numbers."""

    sequence: Array
    j: Array
    number: Array


class Forest:
    """The candidates of a batch, numbered as they are made, and the :class:`rbst.models.tree_lstm.Cell` that makes them.

    ``numbers[t]`` tells which candidate stands at each pair of the row after t merges, shape ``(B, pairs)``;
    ``made[t]`` are the pairs whose candidates were made in that row, ``merged[t]`` those that the merge
    number t took. The arrays have room for all candidates that the lengths allow.

    On the way back ``d_scores`` collects the gradients of the scores, and ``d_affine`` those of the affine
    maps of the candidates that were taken. ``first_row``, which a backward pass reaches last, makes
    the gradients of W, b and q of them: one matrix product instead of one a merge.
    """

    def __init__(self, cell: Any, lengths: Array):
        xp, dtype = namespace(cell.W), cell.W.dtype
        self.cell, self.lengths = cell, lengths
        self.hidden, self.count = len(cell.q), 0
        self.q = cell.q[:, 0] / math.sqrt(self.hidden)
        most = int((lengths - 1).sum() + 2 * xp.maximum(lengths - 2, 0).sum())
        self.children = xp.empty((most, 4 * self.hidden), dtype=dtype)
        self.gates = xp.empty((most, 5 * self.hidden), dtype=dtype)
        self.parents = xp.empty((most, 2 * self.hidden), dtype=dtype)
        self.d_scores = xp.zeros(most, dtype=dtype)
        self.d_affine: list[tuple[Array, Array]] = []
        self.numbers: list[Array] = []
        self.made: list[Pairs] = []
        self.merged: list[Pairs] = []

    def make(self, row: Array, numbers: Array, sequence: Array, j: Array) -> None:
        """Compute the candidates of some pairs of a row; write their scores and numbers into it."""
        xp = namespace(row)
        new = slice(self.count, self.count + len(j))
        self.count = new.stop
        children = row[sequence[:, None], j[:, None] + xp.arange(2), :-1]
        self.children[new] = swap_sides(children.reshape(-1, 4 * self.hidden))
        self.gates[new], self.parents[new] = self.cell.compose(self.children[new])
        row[sequence, j, -1] = self.parents[new, : self.hidden] @ self.q
        number = xp.arange(new.start, new.stop)
        numbers[sequence, j] = number
        self.numbers.append(numbers)
        self.made.append(Pairs(sequence, j, number))

    def make_vjp(self, t: int, d_row: Array) -> None:
        """Pull the scores of the candidates made in row t back to their children, all within ``d_row``."""
        made = self.made[t]
        d_scores = d_row[made.sequence, made.j, -1]
        self.d_scores[made.number] = d_scores
        d_row[made.sequence, made.j, -1] = 0
        d_children = d_scores[:, None, None] * self.score_by_children[made.number]
        d_row[made.sequence, made.j, :-1] += d_children[:, 0]
        d_row[made.sequence, made.j + 1, :-1] += d_children[:, 1]

    def parents_vjp(self, taken: Pairs, d_parents: Array) -> Array:
        """Pull the gradients of candidates that were taken back to their children, ``(A, 2, 2 d)``."""
        number, d = taken.number, self.hidden
        slopes, h_by_c = self._slopes
        d_affine, d_children = self.cell.pull_back(
            d_parents[:, :d],
            d_parents[:, d:],
            slopes[number],
            h_by_c[number],
            self.gates[number],
        )
        self.d_affine.append((number, d_affine))
        return swap_sides(d_children).reshape(-1, 2, 2 * d)

    # The backward pass asks for these first when all candidates have been made: each is one go.

    @cached_property
    def _slopes(self) -> tuple[Array, Array]:
        made = slice(0, self.count)
        return self.cell.slopes(self.children[made], self.gates[made], self.parents[made])

    @cached_property
    def _sensitivity(self) -> tuple[Array, Array]:
        return self.cell.pull_back(self.q, 0, *self._slopes, self.gates[: self.count])

    @cached_property
    def score_by_children(self) -> Array:
        """Derivative of each candidate's score by its children, ``(M, 2, 2 d)``."""
        return swap_sides(self._sensitivity[1]).reshape(-1, 2, 2 * self.hidden)

    def collect(self) -> tuple[Array, Array, Array]:
        """Gradients of W, b and q, of what has been collected; the next backward pass starts anew."""
        d, d_scores = self.hidden, self.d_scores[: self.count]
        d_affine = d_scores[:, None] * self._sensitivity[0]
        for number, of_taken in self.d_affine:
            d_affine[number] += of_taken
        d_q = d_scores @ self.parents[: self.count, :d] / math.sqrt(d)
        d_W = self.children[: self.count, : 2 * d].T @ d_affine
        self.d_affine.clear()
        self.d_scores[...] = 0
        return d_W, d_affine.sum(axis=0), d_q[:, None]


@primitive
def first_row(leaves: Array, W: Array, b: Array, q: Array, forest: Forest) -> Array:
    """The leaves ``(B, L, 2 d)`` as a row, with the scores of all their pairs; W, b and q are the forest's."""
    xp = namespace(leaves)
    B, L, width = leaves.shape
    row = xp.zeros((B, L, width + 1), dtype=leaves.dtype)
    row[..., :width] = leaves
    sequence, j = xp.nonzero(xp.arange(L - 1) < forest.lengths[:, None] - 1)
    forest.make(row, xp.zeros((B, L - 1), dtype=int), sequence, j)
    return row


def _first_row_vjps(argnums: Sequence[int], row: Array, arguments: tuple, _: dict) -> Any:
    forest = arguments[-1]

    def pull_back(d_row: Array) -> tuple:
        d_row = d_row.copy()
        forest.make_vjp(0, d_row)
        gradients = d_row[..., :-1], *forest.collect()
        return tuple(gradients[argnum] for argnum in argnums)

    return pull_back


defvjp_argnums(first_row, _first_row_vjps)


@primitive
def pair_logits(row: Array, num_pairs: Array) -> Array:
    """Scores of neighbouring pairs ``(B, pairs)``, -inf beyond the first ``num_pairs`` of a sequence.

    A finished sequence has no pair left; its one category is the first, with logit 0.
    """
    logits = namespace(row).where(_is_pair(row, num_pairs), row[:, :-1, -1], -math.inf)
    logits[num_pairs <= 0, 0] = 0
    return logits


def _is_pair(row: Array, num_pairs: Array) -> Array:
    return namespace(row).arange(row.shape[1] - 1) < num_pairs[:, None]


def _pair_logits_vjp(logits: Array, row: Array, num_pairs: Array) -> Any:
    def pull_back(d_logits: Array) -> SparseObject:
        def add_to(d_row: Array) -> Array:
            d_row[:, :-1, -1] += namespace(row).where(_is_pair(row, num_pairs), d_logits, 0)
            return d_row

        return SparseObject(vspace(row), add_to)

    return pull_back


defvjp(pair_logits, _pair_logits_vjp, None)


@primitive
def next_row(row: Array, D: Array, forest: Forest, t: int) -> Array:
    """The row after the merge number t, of the pairs ``D``; a finished sequence copies."""
    xp = namespace(row)
    B, n, _ = row.shape
    sequence = xp.nonzero(forest.lengths - 1 > t)[0]
    k = D[sequence].argmax(axis=-1)
    taken = Pairs(sequence, k, forest.numbers[t][sequence, k])
    forest.merged.append(taken)
    place = xp.arange(n - 1)
    comes_from = place + (place > _last_kept(taken, B, n)[:, None])
    everyone = xp.arange(B)[:, None]
    new_row = row[everyone, comes_from]
    new_row[sequence, k, :-1] = forest.parents[taken.number]
    has_left, has_right = k > 0, k < forest.lengths[sequence] - 2 - t
    forest.make(
        new_row,
        forest.numbers[t][everyone, comes_from[:, : n - 2]],
        xp.concatenate([sequence[has_left], sequence[has_right]]),
        xp.concatenate([k[has_left] - 1, k[has_right]]),
    )
    return new_row


def _last_kept(taken: Pairs, B: int, n: int) -> Array:
    """The last node of each of B sequences before the gap that a merge closes, of n nodes; ``(B,)``."""
    last_kept = namespace(taken.j).full(
        B, n - 1
    )  # a finished sequence loses a node of padding at the end
    last_kept[taken.sequence] = taken.j
    return last_kept


def _next_row_vjps(argnums: Sequence[int], new_row: Array, arguments: tuple, _: dict) -> Any:
    row, _, forest, t = arguments

    def pull_back(d_new: Array) -> tuple:
        d_D = decision_vjp(d_new, row, forest, t) if 1 in argnums else None
        d_new = d_new.copy()
        forest.make_vjp(t + 1, d_new)
        gradients = row_vjp(d_new, row, forest, t), d_D
        return tuple(gradients[argnum] for argnum in argnums)

    return pull_back


defvjp_argnums(next_row, _next_row_vjps)


def row_vjp(d_new: Array, row: Array, forest: Forest, t: int) -> Array:
    """Gradient with respect to the row before the merge number t: that of the place where each node went."""
    xp = namespace(row)
    B, n, _ = row.shape
    taken = forest.merged[t]
    last_kept = _last_kept(taken, B, n)
    place = xp.arange(n)
    went_to = xp.minimum(place - (place > last_kept[:, None]), n - 2)
    d_row = d_new[xp.arange(B)[:, None], went_to]
    d_row[xp.arange(B), last_kept] = 0  # the padding that a finished sequence loses
    d_row[taken.sequence[:, None], taken.j[:, None] + xp.arange(2), :-1] = forest.parents_vjp(
        taken, d_new[taken.sequence, taken.j, :-1]
    )
    return d_row


def decision_vjp(d_new: Array, row: Array, forest: Forest, t: int) -> Array:
    r"""Gradient with respect to the D of the merge number t, ``(B, pairs)``.

    With :math:`G_j` the whole gradient of the new node j, of the merges and the scores it takes part in,

    .. math:: \frac{\partial f}{\partial D_k}
        = \sum_{j < k} \langle G_j, n_j \rangle + \langle G_k, \tilde n_k \rangle + \sum_{j > k} \langle G_j, n_{j+1} \rangle .
    """
    xp = namespace(row)
    nodes, G = row[..., :-1], d_new[..., :-1].copy()
    by_children = forest.score_by_children[forest.numbers[t + 1]]
    d_scores = d_new[:, :-1, -1, None]
    G[:, :-1] += d_scores * by_children[:, :, 0]
    G[:, 1:] += d_scores * by_children[:, :, 1]
    stays = xp.einsum("bjd,bjd->bj", G, nodes[:, :-1])
    shifts = xp.einsum("bjd,bjd->bj", G, nodes[:, 1:])
    merges = xp.einsum("bjd,bjd->bj", G, forest.parents[forest.numbers[t]])
    return (
        merges
        + (xp.cumsum(stays, axis=1) - stays)
        + (xp.cumsum(shifts[:, ::-1], axis=1)[:, ::-1] - shifts)
    )


def swap_sides(pairs: Array) -> Array:
    """Reorder ``(M, 4 d)`` between [h_l, c_l, h_r, c_r] and [h_l, h_r, c_l, c_r]; its own inverse."""
    M, width = pairs.shape
    return pairs.reshape(M, 2, 2, width // 4).swapaxes(1, 2).reshape(M, width)
