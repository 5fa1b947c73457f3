r"""A latent-tree LSTM: it draws a binary tree over a sequence, one merge after the other, and reads the root.

The Gumbel Tree-LSTM of Choi, Yoo and Lee (2018). A node is a pair (h, c) of vectors of length d; a leaf is an affine
map of its token's embedding. At each step every pair of neighbours has a candidate parent (their section
"Tree-LSTM", here :class:`Cell`),

.. math::

    (i, f_l, f_r, o) &= \sigma(\cdot), \quad g = \tanh(\cdot) \quad \text{of } [h_l, h_r] W + b, \\
    c &= f_l c_l + f_r c_r + i g, \qquad h = o \tanh c.

A query vector q scores the candidates, and one pair is drawn (their "Parent selection"),

.. math:: D \sim \mathrm{softmax}(\text{logits}), \qquad
    \text{logit}_j = \langle q, \tilde h_j \rangle / \sqrt d \quad \text{for the candidate } j.

Its parent replaces the two. The one-hot D enters the next row of nodes linearly, which is what a straight-through
estimator differentiates: node j stays where it is if D lies to its right, takes the value of node j + 1 if D
lies to its left, and that of candidate j if D is j,

.. math:: n'_j = n_j \sum_{k > j} D_k + n_{j+1} \sum_{k < j} D_k + \tilde n_j D_j.

A perceptron reads the class off the root. Theirs differs in that its leaves may come from an LSTM over the tokens
and its scores are not divided by :math:`\sqrt d`. Paulus et al. (2021), section 5.3.

A merge changes two candidates, so only two are computed: the rows of nodes and all derivatives are in
``rbst/models/forest.py``. Padding is never looked at: pairs with it have logit -inf *before* the softmax, and a
finished sequence has one category left, so that its draw is certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autograd.extend import defvjp, primitive

from rbst._array import Array, Indices, getval, namespace
from rbst.autodiff import stochastic_node
from rbst.categorical import _one_hot, log_probability
from rbst.estimators.registry import Estimator
from rbst.models.forest import Forest, first_logits, next_logits, roots
from rbst.models.mlp import Layout, Views, glorot, mlp, mlp_shapes


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

    tokens: Indices
    lengths: Indices
    labels: Indices
    merges: Indices

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
        """The same sequences as arrays of the module ``xp``."""
        return Sequences(*map(xp.asarray, (self.tokens, self.lengths, self.labels, self.merges)))

    def select(self, index: Indices | slice) -> Sequences:
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
                **mlp_shapes("leaf", [d, 2 * d]),
                "cell.W": (2 * d, 5 * d),
                "cell.b": (5 * d,),
                "query": (d, 1),
                **mlp_shapes("classifier", [d, d, self.num_classes]),
            }
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
        cell = parameters["cell.W"], self.cell_bias(parameters), parameters["query"]
        forest = Forest(Cell(*map(getval, cell)), sequences.lengths)
        logits = first_logits(leaves(parameters, sequences.tokens), *cell, forest)
        draws = []
        for t in range(sequences.tokens.shape[1] - 1):
            if logits.shape[1] > 1:
                D = choose(logits, t)
                draws.append((logits, getval(D)))
            else:
                D = namespace(getval(flat)).ones((len(sequences), 1), dtype=flat.dtype)
            logits = next_logits(logits, D, forest, t)
        return mlp(parameters, "classifier", roots(logits, forest)), draws

    def cell_bias(self, parameters: Mapping[str, Array]) -> Array:
        """The bias b of the cell, with the constant that is added to both forget gates."""
        b, d = parameters["cell.b"], self.hidden
        forget_bias = namespace(getval(b)).zeros(5 * d, dtype=b.dtype)
        forget_bias[d : 3 * d] = self.forget_bias
        return b + forget_bias

    def terms(
        self, flat: Array, sequences: Sequences, choose: Choose
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        r"""The cost :math:`-\log p(y \mid T)` of each sequence, shape ``(B,)``, and the draws."""
        scores, draws = self.unroll(flat, sequences, choose)
        labels = _one_hot(sequences.labels, self.num_classes, scores.dtype)
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
    return _one_hot(logits.argmax(axis=-1), logits.shape[-1], logits.dtype)


def follow(merges: Indices) -> Choose:
    """The decisions of given trees, ``(B, L - 1)`` merges."""

    def choose(logits: Array, t: int) -> Array:
        # A finished sequence has one category, whatever its merges say there.
        last = (getval(logits) > -math.inf).sum(axis=-1) - 1
        k = namespace(last).minimum(merges[:, t], last)
        return _one_hot(k, logits.shape[-1], logits.dtype)

    return choose


def left_branching(logits: Array, t: int) -> Array:
    """Always the first pair: tokens are read from left to right, as a recurrent network would."""
    first = namespace(getval(logits)).zeros(len(logits), dtype=int)
    return _one_hot(first, logits.shape[-1], logits.dtype)


# ----------------------------------------------------------------------------- the cell


@dataclass(frozen=True, eq=False)
class Cell:
    """A candidate parent of two nodes, and its derivatives.

    Attributes
    ----------
    W, b
        The affine map of :math:`[h_l, h_r]` to the arguments of :math:`(i, f_l, f_r, o, g)`, shapes ``(2 d, 5 d)`` and
        ``(5 d,)``.
    q
        The query that scores a candidate, shape ``(d, 1)``.
    """

    W: Array
    b: Array
    q: Array

    @cached_property
    def _halves(self) -> Array:
        """1/2 for the arguments of the four sigmoids, 1 for that of the tanh, ``(5 d,)``."""
        halves = namespace(self.b).ones_like(self.b)
        halves[: 4 * len(self.q)] = 0.5
        return halves

    @cached_property
    def _halved(self) -> tuple[Array, Array]:
        return self.W * self._halves, self.b * self._halves

    @cached_property
    def _W_transposed(self) -> Array:
        """A copy that lies row by row, with which small products are quicker than with ``W.T`` itself."""
        return namespace(self.W).ascontiguousarray(self.W.T)

    def compose(self, children: Array, gates: Array, parents: Array) -> None:
        r"""Write the gates ``(M, 5 d)`` and the states [h, c] of the parents ``(M, 2 d)`` of M pairs of nodes.

        ``children`` holds the states of the two, shape ``(M, 2, 2 d)``.
        """
        xp, d = namespace(children), children.shape[2] // 2
        # sigma(x) = (1 + tanh(x / 2)) / 2: with s = 1/2 or 1 all five gates are s tanh(s x) + 1 - s.
        W, b = self._halved
        xp.matmul(children[:, :, :d].reshape(-1, 2 * d), W, out=gates)
        gates += b
        xp.tanh(gates, out=gates)
        gates *= self._halves
        gates += 1 - self._halves
        i, f_l, f_r, o, g = _in_five(gates)
        h, c = parents[:, :d], parents[:, d:]
        xp.multiply(i, g, out=c)
        c += f_l * children[:, 0, d:]
        c += f_r * children[:, 1, d:]
        xp.tanh(c, out=h)
        h *= o

    def slopes(self, children: Array, gates: Array, parents: Array) -> tuple[Array, Array]:
        r"""Derivatives of M parents by their own gates: what every pullback of :meth:`compose` multiplies by.

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
        factors = g, children[:, 0, d:], children[:, 1, d:], tanh_c, i
        for slope, factor in zip(_in_five(slopes), factors, strict=True):
            slope *= factor
        return slopes.reshape(M, 5, d), o * (1 - tanh_c * tanh_c)

    def pull_back(
        self, d_h: Array, d_c: Array, slopes: Array, h_by_c: Array, gates: Array
    ) -> tuple[Array, Array]:
        """Gradients with respect to the affine map ``(M, 5 d)`` and to the children ``(M, 2, 2 d)``."""
        xp = namespace(gates)
        M, d = h_by_c.shape
        d_c = d_c + d_h * h_by_c
        d_affine = slopes * d_c[:, None]
        xp.multiply(slopes[:, 3], d_h, out=d_affine[:, 3])
        d_affine = d_affine.reshape(M, 5 * d)
        d_children = xp.empty((M, 2, 2 * d), dtype=gates.dtype)
        d_children[:, :, :d] = (d_affine @ self._W_transposed).reshape(M, 2, d)
        xp.multiply(d_c, gates[:, d : 2 * d], out=d_children[:, 0, d:])
        xp.multiply(d_c, gates[:, 2 * d : 3 * d], out=d_children[:, 1, d:])
        return d_affine, d_children


def _in_five(gates: Array) -> Array:
    """The five blocks of ``(M, 5 d)`` as views."""
    M, width = gates.shape
    return gates.reshape(M, 5, width // 5).swapaxes(0, 1)


# ----------------------------------------------------------------------------- leaves


def leaves(parameters: Views, tokens: Indices) -> Array:
    """The leaves [h, c] of tokens ``(B, L)``, shape ``(B, L, 2 d)``: an affine map of their embeddings."""
    return look_up(mlp(parameters, "leaf", parameters["embedding"]), tokens)


@primitive
def look_up(table: Array, tokens: Indices) -> Array:
    """Rows of ``table`` ``(num_tokens, w)`` by number: ``(B, L)`` becomes ``(B, L, w)``."""
    return table[tokens]


def _look_up_vjp(leaves: Array, table: Array, tokens: Indices) -> Any:
    def pull_back(g: Array) -> Array:
        which = _one_hot(tokens.reshape(-1), len(table), g.dtype)
        return which.T @ g.reshape(tokens.size, -1)

    return pull_back


defvjp(look_up, _look_up_vjp, None)
