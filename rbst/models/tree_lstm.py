r"""A latent-tree LSTM: it draws a binary tree over a sequence, one merge after the other, and reads the root.

A node is a pair (h, c). At each step every pair of neighbours has a candidate parent, its score decides how
likely the pair is to be merged, one pair is drawn, and its parent takes the place of the two:

.. math::

    (i, f_l, f_r, o) &= \sigma(\cdot), \quad g = \tanh(\cdot) \quad \text{of } W [h_l; h_r] + b, \\
    c &= f_l c_l + f_r c_r + i g, \qquad h = o \tanh c, \\
    \text{logit}_j &= \langle q, \tilde h_j \rangle / \sqrt d \qquad \text{for the candidate } j.

The drawn one-hot D enters the next row of nodes linearly, which is what a straight-through estimator
differentiates: node j stays where it is if D lies to its right, takes the value of node j + 1 if D lies to
its left, and that of candidate j if D is j,

.. math:: n'_j = n_j \sum_{k > j} D_k + n_{j+1} \sum_{k < j} D_k + \tilde n_j D_j.

Simplified from Choi, Yoo and Lee (2018); Paulus et al. (2021), section 5.3.

A merge changes two candidates, so only two are computed, and one merge is three nodes of the autograd graph:
its logits, its draw, and the next row. Padding takes part in nothing: pairs with it have logit -inf *before*
the softmax, and a finished sequence has one category left, so that its draw is certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograd.extend import SparseObject, defvjp, defvjp_argnums, primitive, vspace

from rbst._array import Array, getval, namespace
from rbst.autodiff import log_probability, stochastic_node
from rbst.categorical import one_hot
from rbst.estimators.registry import Estimator
from rbst.models.mlp import Layout, affine, glorot, mlp, mlp_shapes


@dataclass(frozen=True, eq=False)
class Sequences:
    """B sequences of tokens, padded to one length L, with their labels and a tree for each.

    Attributes
    ----------
    tokens
        Token numbers, shape ``(B, L)``; what stands beyond a sequence's length is never looked at.
    lengths
        Shape ``(B,)``, each at least 1.
    labels
        Classes, shape ``(B,)``.
    merges
        A tree as merges, shape ``(B, L - 1)``: entry t merges the nodes k and k + 1 of the row that t
        merges have left. Only the first ``lengths - 1`` entries count.
    """

    tokens: Array
    lengths: Array
    labels: Array
    merges: Array

    def __post_init__(self) -> None:
        B, L = self.tokens.shape
        if (self.lengths.shape, self.labels.shape, self.merges.shape) != ((B,), (B,), (B, L - 1)):
            raise ValueError(
                f"tokens of shape {(B, L)} need lengths ({B},), labels ({B},) and merges {(B, L - 1)}, got "
                f"{self.lengths.shape}, {self.labels.shape} and {self.merges.shape}; pad them alike"
            )
        if not 1 <= self.lengths.min() <= self.lengths.max() == L:
            raise ValueError(
                f"lengths must be in 1..{L} and the longest {L}, got {self.lengths.min()}.."
                f"{self.lengths.max()}; drop empty sequences and columns of nothing but padding"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def move(self, xp: Any) -> Sequences:
        """The same sequences as arrays of the module ``xp``, NumPy or CuPy."""
        return Sequences(*map(xp.asarray, (self.tokens, self.lengths, self.labels, self.merges)))

    def select(self, index: Array) -> Sequences:
        """The sequences of these numbers, padded to the longest of them.

        Examples
        --------
        >>> import numpy as np
        >>> tokens = np.array([[3, 0, 0], [1, 2, 0], [1, 2, 3]])
        >>> all_three = Sequences(tokens, np.array([1, 2, 3]), np.zeros(3, int), np.zeros((3, 2), int))
        >>> all_three.select([1, 0]).tokens
        array([[1, 2],
               [3, 0]])
        """
        lengths = self.lengths[index]
        L = int(lengths.max())
        return Sequences(
            self.tokens[index, :L], lengths, self.labels[index], self.merges[index, : L - 1]
        )


Choose = Callable[[Array, int], Array]
"""``(logits, t) -> D``, both ``(B, pairs)``: which pair the merge number t takes."""


@dataclass(frozen=True, eq=False)
class TreeLSTM:
    """The architecture. Parameters are a flat vector that every method is given.

    Attributes
    ----------
    num_tokens, num_classes
        Sizes of the vocabulary and of the output.
    hidden
        d, the size of h, of c, of an embedding and of the classifier's hidden layer.
    forget_bias
        A constant added to both forget gates. 0 in Choi et al.; 1 in much public code.

    Examples
    --------
    >>> model = TreeLSTM(num_tokens=15, num_classes=10, hidden=8)
    >>> model.layout.size
    1114
    """

    num_tokens: int
    num_classes: int
    hidden: int = 64
    forget_bias: float = 0.0

    @cached_property
    def layout(self) -> Layout:
        """Where each array lies in the flat parameter vector."""
        d = self.hidden
        return Layout(
            {
                "embedding": (self.num_tokens, d),
                "leaf.W": (d, 2 * d),
                "leaf.b": (2 * d,),
                "cell.W": (2 * d, 5 * d),
                "cell.b": (5 * d,),
                "query": (d, 1),
            }
            | mlp_shapes("classifier", [d, d, self.num_classes])
        )

    def initial_parameters(self, rng: Any, dtype: Any) -> Array:
        """Glorot matrices and zero biases, made on the host."""
        return glorot(self.layout, rng, dtype)

    def unroll(
        self, flat: Array, sequences: Sequences, choose: Choose
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """Merge until one node is left; ``choose`` takes every decision.

        Returns the class scores at the root, shape ``(B, num_classes)``, and the pairs (logits, D) of every
        decision. The last merge of the longest sequence has one pair left and is none.
        """
        parameters = self.layout.views(flat)
        xp, d = namespace(getval(flat)), self.hidden
        forget_bias = xp.zeros(5 * d, dtype=flat.dtype)
        forget_bias[d : 3 * d] = self.forget_bias
        b = parameters["cell.b"] + forget_bias
        cell = parameters["cell.W"], b, parameters["query"]
        table = affine(parameters["embedding"], parameters["leaf.W"], parameters["leaf.b"])
        forest = Forest(sequences.lengths, *map(getval, cell))
        row = first_row(look_up(table, sequences.tokens), *cell, forest)
        draws = []
        for t in range(sequences.tokens.shape[1] - 1):
            pairs = row.shape[1] - 1
            if pairs > 1:
                logits = pair_logits(row, sequences.lengths - 1 - t)
                D = choose(logits, t)
                draws.append((logits, getval(D)))
            else:
                D = xp.ones((len(sequences), 1), dtype=flat.dtype)
            row = next_row(row, D, forest, t)
        return mlp(parameters, "classifier", row[:, 0, :d]), draws

    def terms(
        self, flat: Array, sequences: Sequences, choose: Choose
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        r"""The cost :math:`-\log p(y \mid T)` of each sequence, shape ``(B,)``, and the draws."""
        scores, draws = self.unroll(flat, sequences, choose)
        labels = one_hot(sequences.labels, self.num_classes, scores.dtype)
        return -log_probability(scores, labels), draws

    def training_terms(
        self, flat: Array, sequences: Sequences, estimator: Estimator, rng: Any
    ) -> tuple[Array, float, list[tuple[Array, Array]]]:
        """``cost``, ``direct`` (none) and ``draws`` of :func:`rbst.objective`, with sampled trees."""
        check_estimator(estimator)
        cost, draws = self.terms(
            flat, sequences, lambda logits, t: stochastic_node(logits, estimator, rng)
        )
        return cost, 0.0, draws

    def predict(
        self, flat: Array, sequences: Sequences, choose: Choose | None = None
    ) -> tuple[Array, Array]:
        """Most probable class, shape ``(B,)``, and the tree as merges, shape ``(B, L - 1)``.

        By default the tree is the greedy one: at each step the pair with the highest score.
        """
        scores, draws = self.unroll(flat, sequences, choose or greedy)
        merges = namespace(sequences.merges).zeros_like(sequences.merges)
        for t, (_, D) in enumerate(draws):
            merges[:, t] = D.argmax(axis=-1)
        return scores.argmax(axis=-1), merges


# ----------------------------------------------------------------------------- decisions


def check_estimator(estimator: Estimator) -> None:
    """Refuse an estimator that would need the network anywhere but at one sampled tree."""
    reasons = {
        "inside": "evaluates the network inside the simplex, and a relaxed merge is not a tree",
        "several": "evaluates the network at several samples, which one training step does not do",
    }
    if estimator.evaluates in reasons:
        raise ValueError(
            f"estimator {estimator.name!r} {reasons[estimator.evaluates]}; use one of the "
            "straight-through family, such as st-gs or gr-mc10, or reinforce"
        )


def greedy(logits: Array, t: int) -> Array:
    """The pair with the highest score."""
    return one_hot(logits.argmax(axis=-1), logits.shape[-1], logits.dtype)


def follow(merges: Array) -> Choose:
    """The decisions of given trees, ``(B, L - 1)`` merges."""

    def choose(logits: Array, t: int) -> Array:
        # A finished sequence has one category, whatever its merges say there.
        last = (getval(logits) > -math.inf).sum(axis=-1) - 1
        k = namespace(last).minimum(merges[:, t], last)
        return one_hot(k, logits.shape[-1], logits.dtype)

    return choose


def left_branching(logits: Array, t: int) -> Array:
    """Always the first pair: tokens are read from left to right, as a recurrent network would."""
    first = namespace(getval(logits)).zeros(len(logits), dtype=int)
    return one_hot(first, logits.shape[-1], logits.dtype)


# ----------------------------------------------------------------------------- one cell


def compose(children: Array, W: Array, b: Array) -> tuple[Array, Array]:
    r"""Parents of M pairs of nodes; returns the gates ``(M, 5 d)`` and the parents [h, c] ``(M, 2 d)``.

    ``children`` holds :math:`[h_l, h_r, c_l, c_r]`, shape ``(M, 4 d)``.
    """
    xp, d = namespace(children), children.shape[1] // 4
    gates = children[:, : 2 * d] @ W
    gates += b
    # sigma(x) = (1 + tanh(x / 2)) / 2: one function for the five of them.
    gates[:, : 4 * d] *= 0.5
    xp.tanh(gates, out=gates)
    gates[:, : 4 * d] += 1
    gates[:, : 4 * d] *= 0.5
    i, f_l, f_r, o, g = _in_five(gates)
    parents = xp.empty((len(gates), 2 * d), dtype=gates.dtype)
    h, c = parents[:, :d], parents[:, d:]
    xp.multiply(i, g, out=c)
    c += f_l * children[:, 2 * d : 3 * d]
    c += f_r * children[:, 3 * d :]
    xp.tanh(c, out=h)
    h *= o
    return gates, parents


def compose_slopes(children: Array, gates: Array, parents: Array) -> tuple[Array, Array]:
    r"""Derivatives of M parents by their own gates: what every pullback of :func:`compose` multiplies by.

    Returns :math:`\partial c / \partial z` of the arguments z of :math:`i, f_l, f_r, g`, and in the fourth place
    :math:`\partial h / \partial z` of that of :math:`o`, shape ``(M, 5, d)``; and :math:`\partial h / \partial c`,
    shape ``(M, d)``.
    """
    xp = namespace(gates)
    M, d = len(gates), gates.shape[1] // 5
    i, _, _, o, g = _in_five(gates)
    tanh_c = xp.tanh(parents[:, d:])
    # sigma' = sigma (1 - sigma), tanh' = 1 - tanh^2
    slopes = gates * gates
    xp.subtract(gates[:, : 4 * d], slopes[:, : 4 * d], out=slopes[:, : 4 * d])
    xp.subtract(1, slopes[:, 4 * d :], out=slopes[:, 4 * d :])
    factors = g, children[:, 2 * d : 3 * d], children[:, 3 * d :], tanh_c, i
    for slope, factor in zip(_in_five(slopes), factors, strict=True):
        slope *= factor
    return slopes.reshape(M, 5, d), o * (1 - tanh_c * tanh_c)


def compose_vjp(
    d_h: Array, d_c: Array, slopes: Array, h_by_c: Array, gates: Array, W: Array
) -> tuple[Array, Array]:
    """Gradients with respect to the affine map ``(M, 5 d)`` and to the children ``(M, 4 d)``."""
    xp = namespace(W)
    M, d = h_by_c.shape
    d_c = d_c + d_h * h_by_c
    d_affine = slopes * d_c[:, None]
    xp.multiply(slopes[:, 3], d_h, out=d_affine[:, 3])
    d_affine = d_affine.reshape(M, 5 * d)
    d_children = xp.empty((M, 4 * d), dtype=W.dtype)
    xp.matmul(d_affine, W.T, out=d_children[:, : 2 * d])
    xp.multiply(d_c, gates[:, d : 2 * d], out=d_children[:, 2 * d : 3 * d])
    xp.multiply(d_c, gates[:, 2 * d : 3 * d], out=d_children[:, 3 * d :])
    return d_affine, d_children


def _in_five(gates: Array) -> Array:
    """The five blocks of ``(M, 5 d)`` as views."""
    M, width = gates.shape
    return gates.reshape(M, 5, width // 5).swapaxes(0, 1)


def swap_sides(pairs: Array) -> Array:
    """Reorder ``(M, 4 d)`` between [h_l, c_l, h_r, c_r] and [h_l, h_r, c_l, c_r]; its own inverse."""
    M, width = pairs.shape
    return pairs.reshape(M, 2, 2, width // 4).swapaxes(1, 2).reshape(M, width)


# ----------------------------------------------------------------------------- rows of nodes
#
# A row is one array (B, nodes, 2 d + 1): h, c and the score of the pair of this node and the next. The
# score is part of the row so that the gradient of a candidate that lives through several merges is collected
# on it and goes through the cell once, where the candidate was made.


@dataclass
class Pairs:
    """Some pairs of a row, those of the nodes j and j + 1 of a ``sequence``, and their candidates' numbers."""

    sequence: Array
    j: Array
    number: Array


class Forest:
    """The candidates of a batch, numbered as they are made, and the parameters W, b, q that make them.

    ``numbers[t]`` tells which candidate stands at each pair of the row after t merges, shape ``(B, pairs)``;
    ``made[t]`` are the pairs whose candidates were made in that row, ``merged[t]`` those that the merge
    number t took. The arrays have room for all candidates that the lengths allow.

    On the way back ``d_scores`` collects the gradients of the scores, and ``d_affine`` those of the affine
    maps of the candidates that were taken. ``first_row``, which a backward pass reaches last, makes
    the gradients of W, b and q of them: one matrix product instead of one a merge.
    """

    def __init__(self, lengths: Array, W: Array, b: Array, q: Array):
        xp = namespace(W)
        self.lengths, self.W, self.b, self.q = lengths, W, b, q[:, 0] / math.sqrt(len(q))
        self.hidden, self.count = len(q), 0
        most = int((lengths - 1).sum() + 2 * xp.maximum(lengths - 2, 0).sum())
        self.children = xp.empty((most, 4 * self.hidden), dtype=W.dtype)
        self.gates = xp.empty((most, 5 * self.hidden), dtype=W.dtype)
        self.parents = xp.empty((most, 2 * self.hidden), dtype=W.dtype)
        self.d_scores = xp.zeros(most, dtype=W.dtype)
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
        self.gates[new], self.parents[new] = compose(self.children[new], self.W, self.b)
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
        d_affine, d_children = compose_vjp(
            d_parents[:, :d],
            d_parents[:, d:],
            slopes[number],
            h_by_c[number],
            self.gates[number],
            self.W,
        )
        self.d_affine.append((number, d_affine))
        return swap_sides(d_children).reshape(-1, 2, 2 * d)

    # The backward pass asks for these first when all candidates have been made: each is one go.

    @cached_property
    def _slopes(self) -> tuple[Array, Array]:
        made = slice(0, self.count)
        return compose_slopes(self.children[made], self.gates[made], self.parents[made])

    @cached_property
    def _sensitivity(self) -> tuple[Array, Array]:
        return compose_vjp(self.q, 0, *self._slopes, self.gates[: self.count], self.W)

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


@primitive
def look_up(table: Array, tokens: Array) -> Array:
    """Rows of ``table`` ``(num_tokens, w)`` by number: ``(B, L)`` becomes ``(B, L, w)``."""
    return table[tokens]


def _look_up_vjp(leaves: Array, table: Array, tokens: Array) -> Any:
    def pull_back(g: Array) -> Array:
        which = one_hot(tokens.reshape(-1), len(table), g.dtype)
        return which.T @ g.reshape(tokens.size, -1)

    return pull_back


defvjp(look_up, _look_up_vjp, None)
