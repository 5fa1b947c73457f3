"""ListOps: nested list operations on digits, with the tree that evaluates them.

An expression such as `[MAX 2 9 [MIN 4 7 ] 0 ]` has the value 9. It is a digit, or an operator
(minimum, maximum, median truncated to an integer, sum modulo 10), its arguments, and `]`. The
length of an expression counts its tokens: operators, digits and closing brackets. A model reads
the tokens and predicts the value; whether the tree it builds on the way is the right one is then
measured against the gold tree.

Trees are binary and written as merges. Start from the n tokens as n nodes in a row; a merge at k
replaces the nodes k and k + 1 by their parent; n - 1 merges leave the root. A tree of more than
two merges has many orders of merging: the one used here is bottom-up and left to right (each
parent as soon as both its children are complete), which is what a stack machine does. `spans` turns
merges into the half-open token ranges of the n - 1 parents, which do not depend on the order: two
trees are compared by the sets of their spans.

Source: N. Nangia and S. R. Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning", NAACL
Student Research Workshop 2018, and the data published with it (MIT licence, New York University).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from rbst._files import fetch_data_file, find_data_file

DIGITS = tuple("0123456789")
_APPLY: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda digits: int(median(digits)),  # of an even number the mean of two, truncated
    "[SM": lambda digits: sum(digits) % 10,
}
OPERATORS = tuple(_APPLY)
TOKENS = (*DIGITS, *OPERATORS, "]")
_ID = {token: index for index, token in enumerate(TOKENS)}
_FIRST_OPERATOR = _ID[OPERATORS[0]]
_CLOSE = _ID["]"]

ADDRESS = (
    "https://raw.githubusercontent.com/nyu-mll/spinn/listops-release/python/spinn/data/listops/"
    "{split}_d20s.tsv"
)
FILE = "listops_{split}_d20s.tsv"
# The authors give MD5; the test file has been checked against a SHA-256 as well.
CHECKSUMS = {
    "train": {"md5": "f3141589f80dad7de8ce2b6bcbbd306b"},
    "test": {
        "sha256": "71335416e6896e8dd8dc69281c8ed9b37316382d05d3705d660461564e843840",
        "md5": "a533eeca66c3b8a9ca7ddc47d4e5254b",
    },
}

# The published rules of generation; NUM_EXPRESSIONS matters, see `generate`.
NUM_EXPRESSIONS = 100_000
_MAX_DEPTH = 20
_MIN_ARGUMENTS = 2

Tokens = tuple[int, ...]
Merges = tuple[int, ...]


class MalformedExpression(ValueError):
    """Tokens that form no expression; `position` is the index of the token at fault."""

    def __init__(self, reason: str, position: int):
        super().__init__(reason, position)
        self.reason, self.position = reason, position

    def __str__(self) -> str:
        return f"{self.reason} at token {self.position + 1}"


@dataclass(frozen=True)
class Example:
    """One expression: token ids (indices into `TOKENS`), its value 0..9, and its gold tree."""

    tokens: Tokens
    label: int
    merges: Merges


@dataclass(frozen=True, eq=False)
class ListOps:
    """Training, validation and test examples, none longer than `max_length` (None: any length).

    No expression occurs twice in `train`, `valid` and `test` together, and none of
    `published_test` in `train` or `valid`. `num_dropped` is the number of expressions that were
    left out for it, after the restriction to `max_length`.
    """

    name: str
    max_length: int | None
    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]
    published_test: tuple[Example, ...]
    num_dropped: int


# ----------------------------------------------------------------------------- expressions


def evaluate(tokens: Sequence[int]) -> int:
    """Return the value of an expression given as token ids.

    Raises `MalformedExpression` (a `ValueError`) with the index of the offending token.

    >>> tokens, _ = parse("[MAX 2 9 [MIN 4 7 ] 0 ]")
    >>> evaluate(tokens)
    9
    >>> evaluate(tokens[:-1])
    Traceback (most recent call last):
        ...
    rbst.data.listops.MalformedExpression: a bracket is not closed by ']' at token 9
    """
    value, _ = _reduce(tokens)
    return value


def gold_merges(tokens: Sequence[int]) -> Merges:
    """Return the gold tree of an expression; errors are those of `evaluate`.

    It is the published one: inside each bracket the operator takes its arguments from left to
    right and then `]`, so `[SM 6 5 ]` is `( ( ( [SM 6 ) 5 ) ] )`.

    >>> gold_merges(parse("[SM 6 5 ]")[0])
    (0, 0, 0)
    >>> gold_merges(parse("[SM 6 [MIN 3 4 ] ]")[0])
    (0, 1, 1, 1, 0, 0)
    """
    _, merges = _reduce(tokens)
    return merges


def _reduce(tokens: Sequence[int]) -> tuple[int, Merges]:
    """The stack machine: the value of an expression, and the merges by which it comes about."""
    unfinished: list[list[int]] = []  # per open bracket: operator, then the arguments so far
    value, merges, num_nodes = None, [], 0
    for position, token in enumerate(tokens):
        if not 0 <= token < len(TOKENS):
            raise MalformedExpression(f"{token} is not a token id 0..{len(TOKENS) - 1}", position)
        if value is not None:
            raise MalformedExpression("the expression is complete, but goes on", position)
        num_nodes += 1
        if _FIRST_OPERATOR <= token < _CLOSE:
            unfinished.append([token])
            continue
        if token == _CLOSE:
            if not unfinished:
                raise MalformedExpression("']' without an open bracket", position)
            operator, *arguments = unfinished.pop()
            if not arguments:
                raise MalformedExpression(f"{TOKENS[operator]!r} has no arguments", position)
            token = _APPLY[TOKENS[operator]](arguments)
            num_nodes -= 1
            merges.append(num_nodes - 1)
        if unfinished:
            unfinished[-1].append(token)
            num_nodes -= 1
            merges.append(num_nodes - 1)
        else:
            value = token
    if unfinished:
        raise MalformedExpression("a bracket is not closed by ']'", len(tokens))
    if value is None:
        raise MalformedExpression("the expression is empty", 0)
    return value, tuple(merges)


# ----------------------------------------------------------------------------- trees


def spans(merges: Sequence[int]) -> list[tuple[int, int]]:
    """Return for each merge the tokens [start, end) below the parent it makes.

    A tree over n tokens has n - 1 spans, the last of which is (0, n). Two trees are the same if
    and only if their sets of spans are.

    >>> spans(gold_merges(parse("[SM 6 [MIN 3 4 ] ]")[0]))
    [(0, 2), (2, 4), (2, 5), (2, 6), (0, 6), (0, 7)]
    """
    nodes = [(i, i + 1) for i in range(len(merges) + 1)]
    found = []
    for step, k in enumerate(merges):
        if not 0 <= k < len(nodes) - 1:
            raise ValueError(
                f"merge {step} should be in 0..{len(nodes) - 2}, as {len(nodes)} nodes are left, "
                f"got {k}"
            )
        nodes[k : k + 2] = [(nodes[k][0], nodes[k + 1][1])]
        found.append(nodes[k])
    return found


def bracket(tokens: Sequence[int], merges: Sequence[int]) -> str:
    """Write a tree in the published format.

    >>> bracket(*parse("[SM 6 5 ]"))
    '( ( ( [SM 6 ) 5 ) ] )'
    """
    if len(merges) != len(tokens) - 1:
        raise ValueError(f"{len(tokens)} tokens take {len(tokens) - 1} merges, got {len(merges)}")
    opening, closing = [0] * len(tokens), [0] * len(tokens)
    for start, end in spans(merges):
        opening[start] += 1
        closing[end - 1] += 1
    return " ".join(
        "( " * opening[i] + TOKENS[token] + " )" * closing[i] for i, token in enumerate(tokens)
    )


# ----------------------------------------------------------------------------- reading


def parse(text: str) -> tuple[Tokens, Merges]:
    """Read an expression and its gold tree, whose parentheses may stand in the text.

    Raises `ValueError` with the place of the fault.

    >>> parse("[SM 6 5 ]")
    ((13, 6, 5, 14), (0, 0, 0))
    >>> parse("( ( ( [SM 6 ) 5 ) ] )")
    ((13, 6, 5, 14), (0, 0, 0))
    >>> parse("[SM 6 5) ]")
    Traceback (most recent call last):
        ...
    ValueError: expression, column 7: unknown token '5)'; tokens are separated by spaces
    """
    tokens, columns = [], []
    for match in re.finditer(r"\S+", text):
        word, column = match.group(), match.start() + 1
        if word in ("(", ")"):
            continue
        if word not in _ID:
            raise ValueError(
                f"expression, column {column}: unknown token {word!r}; tokens are separated by spaces"
            )
        tokens.append(_ID[word])
        columns.append(column)
    try:
        return tuple(tokens), gold_merges(tokens)
    except MalformedExpression as error:
        columns.append(len(text.rstrip()) + 1)  # where a token is missing at the end
        raise ValueError(f"expression, column {columns[error.position]}: {error.reason}") from None


def read_examples(path: str | os.PathLike) -> list[Example]:
    """Read a published file, lines `value<TAB>expression`; its checksum has been verified."""
    examples = []
    with open(path, encoding="ascii") as lines:
        for line in lines:
            label, text = line.split("\t")
            tokens, merges = parse(text)
            examples.append(Example(tokens, int(label), merges))
    return examples


def load_published(split: str, data_dir: str | os.PathLike | None = None) -> list[Example]:
    """Load the published examples, `split` "train" (90,000) or "test" (10,000).

    `listops_{split}_d20s.tsv` is looked for in `data_dir`, in the folder that `RBST_DATA_DIR` names
    and in the user's cache folder, and downloaded to the cache where none has it. Its checksum is
    verified before it is read. Errors are those of `load_mnist`.
    """
    if split not in CHECKSUMS:
        raise ValueError(f"split must be one of {sorted(CHECKSUMS)}, got {split!r}")
    found = find_data_file(FILE.format(split=split), data_dir)
    if found is not None and found.read_bytes()[:13] == b"Source\tTarget":
        raise ValueError(
            f"{found} is ListOps as the Long Range Arena has it (columns Source and Target), "
            f"wanted that of Nangia and Bowman (2018); move it away, and theirs is fetched from "
            f"{ADDRESS.format(split=split)}"
        )
    path = fetch_data_file(
        FILE.format(split=split), ADDRESS.format(split=split), CHECKSUMS[split], data_dir=data_dir
    )
    return read_examples(path)


# ----------------------------------------------------------------------------- generation


def _symbols(rng: np.random.Generator) -> Iterator[int]:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a numpy.random.Generator, got {type(rng).__name__}; make one with "
            "numpy.random.default_rng(seed)"
        )
    # A node is one of ten digits, 3/40 each, or one of sixteen operator nodes (operator, number of
    # arguments), 1/64 each: one of 320 equal shares decides it, 24 a digit and 5 an operator node.
    while True:
        yield from rng.integers(320, size=4096).tolist()


def _draw_expression(symbols: Iterator[int]) -> Tokens:
    tokens: list[int] = []
    wanted: list[int] = []  # per open bracket: how many arguments it still wants
    for symbol in symbols:
        if symbol < 240 or len(wanted) == _MAX_DEPTH - 1:
            tokens.append(symbol % 10)
        else:
            operator, extra_arguments = symbol % 4, symbol // 4 % 4
            tokens.append(_FIRST_OPERATOR + operator)
            wanted.append(_MIN_ARGUMENTS + extra_arguments)
            continue
        # A digit completes an argument, and the last argument completes its bracket.
        while wanted:
            wanted[-1] -= 1
            if wanted[-1]:
                break
            wanted.pop()
            tokens.append(_CLOSE)
        if not wanted:
            break
    return tuple(tokens)


def generate(rng: np.random.Generator, *, num_expressions: int = NUM_EXPRESSIONS) -> list[Tokens]:
    """Generate distinct expressions by the published rules, in random order.

    At depth 1 stands the root. At depth d < 20 a node is with probability 3/4 a digit, uniform on
    0..9, else one of the four operators, uniform, with 2 to 5 arguments, uniform, at depth d + 1;
    at depth 20 it is always a digit. Expressions are drawn until `num_expressions` different ones
    have been found. As the short ones run out first, the distribution of lengths depends on that
    number: only with 100,000 is it that of the published data.

    >>> expressions = generate(np.random.default_rng(0), num_expressions=1000)
    >>> sum(len(tokens) <= 10 for tokens in expressions)
    462
    """
    if num_expressions < 1:
        raise ValueError(f"num_expressions must be at least 1, got {num_expressions}")
    symbols = _symbols(rng)
    found: dict[Tokens, None] = {}
    while len(found) < num_expressions:
        found[_draw_expression(symbols)] = None
    expressions = list(found)
    return [expressions[i] for i in rng.permutation(num_expressions)]


# ----------------------------------------------------------------------------- splits


def generated_splits(
    rng: np.random.Generator,
    *,
    max_length: int | None = None,
    published_test: Iterable[Example] = (),
    num_expressions: int = NUM_EXPRESSIONS,
) -> ListOps:
    """Generate ListOps and split it 80 : 10 : 10, keeping clear of the published test file.

    Expressions longer than `max_length` are left out first. Expressions of `published_test` are
    then dropped from the training and validation sets (`num_dropped` says how many); the test set
    keeps them, and with them the distribution of lengths.

    >>> listops = generated_splits(np.random.default_rng(0), max_length=10, num_expressions=1000)
    >>> len(listops.train), len(listops.valid), len(listops.test), listops.num_dropped
    (370, 46, 46, 0)
    """
    _check_max_length(max_length)
    generated = [
        Example(tokens, *_reduce(tokens))
        for tokens in generate(rng, num_expressions=num_expressions)
        if _fits(tokens, max_length)
    ]
    if len(generated) < 10:
        raise ValueError(
            f"max_length={max_length} leaves {len(generated)} of {num_expressions} expressions, "
            "too few to split; raise either"
        )
    tenth = len(generated) // 10
    test, valid, train = generated[:tenth], generated[tenth : 2 * tenth], generated[2 * tenth :]
    held_out = _distinct(e for e in published_test if _fits(e.tokens, max_length))
    kept_valid, kept_train = (_distinct(part, held_out) for part in (valid, train))
    return ListOps(
        name="listops-generated",
        max_length=max_length,
        train=kept_train,
        valid=kept_valid,
        test=tuple(test),
        published_test=held_out,
        num_dropped=len(train) + len(valid) - len(kept_train) - len(kept_valid),
    )


def published_splits(
    rng: np.random.Generator,
    *,
    max_length: int | None = None,
    data_dir: str | os.PathLike | None = None,
) -> ListOps:
    """Load the published ListOps; a random tenth of its training file is the validation set.

    The published test file is both `test` and `published_test`. Expressions of it, and repeated
    ones, are dropped from the rest (`num_dropped` says how many).
    """
    _check_max_length(max_length)
    test = _distinct(e for e in load_published("test", data_dir) if _fits(e.tokens, max_length))
    rest = [e for e in load_published("train", data_dir) if _fits(e.tokens, max_length)]
    kept = _distinct(rest, test)
    shuffled = [kept[i] for i in rng.permutation(len(kept))]
    tenth = len(shuffled) // 10
    return ListOps(
        name="listops-published",
        max_length=max_length,
        train=tuple(shuffled[tenth:]),
        valid=tuple(shuffled[:tenth]),
        test=test,
        published_test=test,
        num_dropped=len(rest) - len(kept),
    )


def _check_max_length(max_length: int | None) -> None:
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1, or None for any, got {max_length}")


def _fits(tokens: Tokens, max_length: int | None) -> bool:
    return max_length is None or len(tokens) <= max_length


def _distinct(examples: Iterable[Example], without: Iterable[Example] = ()) -> tuple[Example, ...]:
    """Keep the first of every expression that is not in `without`."""
    left_out, kept = {example.tokens for example in without}, dict[Tokens, Example]()
    for example in examples:
        if example.tokens not in left_out:
            kept.setdefault(example.tokens, example)
    return tuple(kept.values())
