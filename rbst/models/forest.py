r"""The nodes of a batch of trees, each computed once, and their derivatives, for :mod:`rbst.models.tree_lstm`.

A merge replaces two nodes by one and so changes two candidates; the others live on. :class:`Forest` keeps every leaf
and every candidate under a number, and a row of nodes is a row of numbers. What autograd sees of a row are the
logits of its pairs: one merge is two nodes of the graph, its draw and the logits of the next row
(:func:`next_logits`). The gradients of the nodes themselves are collected in the forest on the way back, which
begins at :func:`roots` and ends at :func:`first_logits`: a candidate that lives through several merges goes
through the cell once.

Logits have shape ``(B, pairs)``. Pairs with padding have -inf; a finished sequence has no pair left, and its one
category is the first, with logit 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograd.extend import defvjp, defvjp_argnums, primitive

from rbst._array import Array, Indices, namespace


@dataclass
class Pairs:
    """Some pairs of a row, those of the nodes j and j + 1 of a ``sequence``, and their candidates' numbers."""

    sequence: Indices
    j: Indices
    number: Indices | slice


class Forest:
    """All nodes of a batch, and the :class:`rbst.models.tree_lstm.Cell` that makes them.

    Candidates are numbered as they are made. Node l of sequence s before the first merge is node s L + l, and
    candidate number p is node B L + p; ``states`` holds [h, c] of every node, with room for all candidates that the
    lengths allow, and ``children`` the two nodes of every candidate.

    ``nodes[t]``, shape ``(B, L - t)``, and ``pairs[t]``, shape ``(B, L - t - 1)``, are the row after t merges: its
    nodes, and the candidates of its pairs. ``made[t]`` are the pairs whose candidates were made in that row,
    ``merged[t]`` those that the merge number t took.

    On the way back ``d_states`` collects the gradients of the nodes, ``d_scores`` those of the scores, and ``d_affine``
    those of the affine maps of the candidates that were taken. ``collect``, which a backward pass reaches last,
    makes the gradients of W, b and q of them: one matrix product instead of one per merge.
    """

    def __init__(self, cell: Any, lengths: Indices):
        self.cell, self.lengths, self.hidden = cell, lengths, len(cell.q)
        self.q = cell.q[:, 0] / math.sqrt(self.hidden)
        self.nodes: list[Indices] = []
        self.pairs: list[Indices] = []
        self.made: list[Pairs] = []
        self.merged: list[Pairs] = []
        self.d_affine: list[tuple[Indices, Array]] = []

    def plant(self, leaves: Array) -> Array:
        """Make the first row, of leaves ``(B, L, 2 d)``; returns the logits of its pairs."""
        xp, dtype = namespace(leaves), leaves.dtype
        B, L, width = leaves.shape
        self.num_leaves, self.count = B * L, 0
        most = int((self.lengths - 1).sum() + 2 * xp.maximum(self.lengths - 2, 0).sum())
        self.states = xp.empty((B * L + most, width), dtype=dtype)
        self.gates = xp.empty((most, 5 * self.hidden), dtype=dtype)
        self.children = xp.empty((most, 2), dtype=int)
        self.states[: B * L] = leaves.reshape(B * L, width)
        nodes = xp.arange(B * L).reshape(B, L)
        pairs, logits = xp.zeros((B, L - 1), dtype=int), xp.full((B, L - 1), -math.inf, dtype=dtype)
        sequence, j = xp.nonzero(xp.arange(L - 1) < self.lengths[:, None] - 1)
        return self._add_row(nodes, pairs, logits, sequence, j)

    def merge(self, t: int, D: Array, logits: Array) -> Array:
        """Make the row after the merge number t, of the pairs ``D``; returns the logits of its pairs.

        A finished sequence keeps its node, and loses one of padding.
        """
        xp = namespace(D)
        nodes, pairs = self.nodes[t], self.pairs[t]
        sequence = xp.nonzero(self.lengths - 1 > t)[0]
        k = D[sequence].argmax(axis=-1)
        taken = Pairs(sequence, k, pairs[sequence, k])
        self.merged.append(taken)
        B, n = nodes.shape
        place = xp.arange(n - 1)
        comes_from = place + (place > last_kept(taken, B, n)[:, None])
        everyone = xp.arange(B)[:, None]
        nodes = nodes[everyone, comes_from]
        nodes[sequence, k] = self.num_leaves + taken.number
        pair_from = comes_from[:, 1:] - 1  # the pair of a node and the one on its left
        has_left = xp.nonzero(k > 0)[0]
        has_right = xp.nonzero(k < self.lengths[sequence] - 2 - t)[0]
        return self._add_row(
            nodes,
            pairs[everyone, pair_from],
            logits[everyone, pair_from],
            xp.concatenate([sequence[has_left], sequence[has_right]]),
            xp.concatenate([k[has_left] - 1, k[has_right]]),
        )

    def _add_row(
        self, nodes: Indices, pairs: Indices, logits: Array, sequence: Indices, j: Indices
    ) -> Array:
        """Append a row, after making the candidates of its pairs ``j`` of the sequences ``sequence``."""
        xp, d = namespace(logits), self.hidden
        new = slice(self.count, self.count + len(j))
        self.count = new.stop
        children = nodes[sequence[:, None], j[:, None] + xp.arange(2)]
        self.children[new] = children
        parents = self.states[self.num_leaves + new.start : self.num_leaves + new.stop]
        self.cell.compose(self.states.take(children, axis=0), self.gates[new], parents)
        pairs[sequence, j] = xp.arange(new.start, new.stop)
        logits[sequence, j] = parents[:, :d] @ self.q
        logits[self.lengths <= len(self.nodes) + 1, :1] = 0  # finished
        self.nodes.append(nodes)
        self.pairs.append(pairs)
        self.made.append(Pairs(sequence, j, new))
        return logits

    # The backward pass asks for these first when all candidates have been made: each is one go.

    @cached_property
    def candidates(self) -> Array:
        """The states of the candidates, ``(M, 2 d)``."""
        return self.states[self.num_leaves : self.num_leaves + self.count]

    @cached_property
    def of_children(self) -> Array:
        """The states of their children, ``(M, 2, 2 d)``."""
        return self.states.take(self.children[: self.count], axis=0)

    @cached_property
    def _slopes(self) -> tuple[Array, Array]:
        return self.cell.slopes(self.of_children, self.gates[: self.count], self.candidates)

    @cached_property
    def _sensitivity(self) -> tuple[Array, Array]:
        return self.cell.pull_back(self.q, 0, *self._slopes, self.gates[: self.count])

    @property
    def score_by_children(self) -> Array:
        """Derivative of each candidate's score by its children, ``(M, 2, 2 d)``."""
        return self._sensitivity[1]

    @cached_property
    def d_states(self) -> Array:
        """Gradients of the nodes: each is set in every backward pass before it is read, and padding has 0."""
        return namespace(self.states).zeros_like(self.states)

    @cached_property
    def d_scores(self) -> Array:
        """Gradients of the candidates' scores, each set in every backward pass; 0 where none of them reaches."""
        return namespace(self.states).zeros(self.count, dtype=self.states.dtype)

    def scores_vjp(self, t: int, d_scores: Array) -> None:
        """Pull the scores of the candidates made in row t back to their children."""
        made = self.made[t]
        of_made = d_scores[made.sequence, made.j]
        self.d_scores[made.number] = of_made
        d_children = of_made[:, None, None] * self.score_by_children[made.number]
        for side in range(2):  # a node may be a left and a right child, but not twice the same
            self.d_states[self.children[made.number, side]] += d_children[:, side]

    def merge_vjp(self, t: int) -> None:
        """Pull the gradients of the candidates that the merge number t took back to their children."""
        number, d = self.merged[t].number, self.hidden
        assert not isinstance(number, slice)  # only a first row is a slice, and no merge took it
        slopes, h_by_c = self._slopes
        d_parents = self.d_states.take(self.num_leaves + number, axis=0)
        d_affine, d_children = self.cell.pull_back(
            d_parents[:, :d],
            d_parents[:, d:],
            slopes.take(number, axis=0),
            h_by_c.take(number, axis=0),
            self.gates.take(number, axis=0),
        )
        self.d_affine.append((number, d_affine))
        self.d_states[self.children.take(number, axis=0)] = d_children

    def decision_vjp(self, t: int, d_scores: Array) -> Array:
        r"""Gradient with respect to the D of the merge number t, ``(B, pairs)``.

        With :math:`n_j` the nodes and :math:`\tilde n_k` the candidates of row t, and :math:`G_j` the whole gradient of the
        new node j, of the merges and the scores it takes part in,

        .. math:: \frac{\partial f}{\partial D_k}
            = \sum_{j < k} \langle G_j, n_j \rangle + \langle G_k, \tilde n_k \rangle + \sum_{j > k} \langle G_j, n_{j+1} \rangle .
        """
        xp = namespace(d_scores)
        B, n = self.pairs[t].shape
        # A sequence that is finished has no choice, and padding no part in one. There are as many pairs left
        # as new nodes, and far fewer than places in the rows where lengths are mixed.
        sequence, j = xp.nonzero(xp.arange(n) < (self.lengths - 1 - t)[:, None])
        pair = sequence * n + j
        left = pair + sequence  # there is one node more than pairs
        G = self._gradients(t + 1, d_scores, pair, left)
        nodes = self.nodes[t]
        candidate = self.num_leaves + self.pairs[t].take(pair)
        products = xp.zeros((3, B * n), dtype=G.dtype)
        for product, node in zip(
            products, (nodes.take(left), nodes.take(left + 1), candidate), strict=True
        ):
            product[pair] = xp.einsum("id,id->i", G, self.states.take(node, axis=0))
        stays, shifts, merges = products.reshape(3, B, n)
        return (
            merges
            + (xp.cumsum(stays, axis=1) - stays)
            + (xp.cumsum(shifts[:, ::-1], axis=1)[:, ::-1] - shifts)
        )

    def _gradients(self, t: int, d_scores: Array, node: Indices, pair: Indices) -> Array:
        """Gradients of nodes of row t: of the merges and of the scores that they take part in.

        ``node`` says where they are in the row, ``pair`` where the pair on their left is between zeros.
        """
        G = self.d_states.take(self.nodes[t].take(node), axis=0)
        by_child = self.score_by_children.reshape(-1, G.shape[1])  # two rows for each candidate
        number, d_scores = between_zeros(self.pairs[t]), between_zeros(d_scores)
        for child, of in enumerate((pair + 1, pair)):  # the left child of the pair on its right
            by_node = by_child.take(2 * number.take(of) + child, axis=0)
            by_node *= d_scores.take(of)[:, None]
            G += by_node
        return G

    def collect(self) -> tuple[Array, Array, Array]:
        """Gradients of W, b and q, of what has been collected; the next backward pass starts anew."""
        d, d_scores = self.hidden, self.d_scores
        d_affine = d_scores[:, None] * self._sensitivity[0]
        for number, of_taken in self.d_affine:
            d_affine[number] += of_taken
        d_q = d_scores @ self.candidates[:, :d] / math.sqrt(d)
        d_W = self.of_children[..., :d].reshape(-1, 2 * d).T @ d_affine
        self.d_affine.clear()
        return d_W, d_affine.sum(axis=0), d_q[:, None]


def between_zeros(rows: Any) -> Any:
    """Rows ``(B, n)`` with a 0 in front and one behind, ``(B, n + 2)``."""
    B, n = rows.shape
    wider = namespace(rows).zeros((B, n + 2), dtype=rows.dtype)
    wider[:, 1:-1] = rows
    return wider


def last_kept(taken: Pairs, B: int, n: int) -> Indices:
    """The last node of each of B sequences before the gap that a merge closes, of n nodes; ``(B,)``."""
    # A finished sequence loses a node of padding at the end.
    kept = namespace(taken.j).full(B, n - 1)
    kept[taken.sequence] = taken.j
    return kept


@primitive
def first_logits(leaves: Array, W: Array, b: Array, q: Array, forest: Forest) -> Array:
    """Logits of the pairs of leaves ``(B, L, 2 d)``, shape ``(B, L - 1)``; W, b and q are the forest's."""
    return forest.plant(leaves)


def _first_logits_vjps(argnums: Sequence[int], logits: Array, arguments: tuple, _: dict) -> Any:
    leaves, *_cell, forest = arguments

    def pull_back(d_logits: Array) -> tuple:
        forest.scores_vjp(0, d_logits)
        d_leaves = forest.d_states[: forest.num_leaves].reshape(leaves.shape)
        gradients = d_leaves.copy(), *forest.collect()
        return tuple(gradients[argnum] for argnum in argnums)

    return pull_back


defvjp_argnums(first_logits, _first_logits_vjps)


@primitive
def next_logits(logits: Array, D: Array, forest: Forest, t: int) -> Array:
    """Logits ``(B, pairs - 1)`` of the row after the merge number t, of the pairs ``D``."""
    return forest.merge(t, D, logits)


def _next_logits_vjps(argnums: Sequence[int], new: Array, arguments: tuple, options: dict) -> Any:
    _, _, forest, t = arguments

    def pull_back(d_new: Array) -> tuple:
        d_D = forest.decision_vjp(t, d_new) if 1 in argnums else None
        forest.scores_vjp(t + 1, d_new)
        forest.merge_vjp(t)
        gradients = surviving(d_new, forest, t), d_D
        return tuple(gradients[argnum] for argnum in argnums)

    return pull_back


defvjp_argnums(next_logits, _next_logits_vjps)


def surviving(d_new: Array, forest: Forest, t: int) -> Array:
    """Gradient with respect to the logits before the merge number t: of the pairs that outlived it."""
    xp = namespace(d_new)
    B, pairs = forest.pairs[t].shape
    if pairs == 1:
        return xp.zeros((B, 1), dtype=d_new.dtype)
    made = forest.made[t + 1]
    d_new = d_new.copy()
    d_new[made.sequence, made.j] = 0
    place = xp.arange(pairs)
    kept = last_kept(forest.merged[t], B, pairs + 1)
    went_to = xp.minimum(place - (place > kept[:, None]), pairs - 2)
    return d_new[xp.arange(B)[:, None], went_to]


@primitive
def roots(logits: Array, forest: Forest) -> Array:
    """h of the root of every tree, ``(B, d)``, once one node is left of each; ``logits`` are of no pair."""
    return forest.states[forest.nodes[-1][:, 0], : forest.hidden]


def _roots_vjp(h: Array, logits: Array, forest: Forest) -> Any:
    def pull_back(d_h: Array) -> Array:
        forest.d_states[forest.nodes[-1][:, 0], : forest.hidden] = d_h
        return namespace(logits).zeros_like(logits)

    return pull_back


defvjp(roots, _roots_vjp, None)
