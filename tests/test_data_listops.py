"""ListOps: evaluator, trees, reader, generator and splits, against independent versions of each.

Statistical tests here are chi-squared tests at a false-alarm rate of 1e-4 each, with fixed seeds.
"""

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_files import isolate_data_folders, names, serve

from rbst import _files
from rbst.data import listops
from rbst.data.listops import Example, evaluate, gold_merges, parse, spans

FALSE_ALARM_RATE = 1e-4
REAL_FOLDER = os.environ.get("RBST_DATA_DIR")

# An expression here is an int or (operator, argument, ...), apart from the tokens of the package.
nested = st.recursive(
    st.integers(0, 9),
    lambda inner: st.tuples(
        st.sampled_from(listops.OPERATORS), st.lists(inner, min_size=1, max_size=5)
    ).map(lambda pair: (pair[0], *pair[1])),
    max_leaves=30,
)


def value_of(expression):
    if isinstance(expression, int):
        return expression
    functions = {"[MIN": min, "[MAX": max, "[MED": np.median, "[SM": lambda a: sum(a) % 10}
    return int(functions[expression[0]]([value_of(argument) for argument in expression[1:]]))


def words_of(expression):
    if isinstance(expression, int):
        return str(expression)
    return " ".join([expression[0], *map(words_of, expression[1:]), "]"])


def published_form(expression):
    """The published bracketing, built from the inside: ((([OP a) b) ])."""
    if isinstance(expression, int):
        return str(expression)
    tree = expression[0]
    for argument in [*map(published_form, expression[1:]), "]"]:
        tree = f"( {tree} {argument} )"
    return tree


@st.composite
def binary_trees(draw):
    """A well-formed expression with any tree over its tokens."""
    tokens, _ = parse(words_of(draw(nested)))
    merges = [draw(st.integers(0, n - 2)) for n in range(len(tokens), 1, -1)]
    return tokens, merges


def spans_of(text):
    """The spans of the parents of a written tree."""
    starts, found, position = [], [], 0
    for word in text.split():
        if word == "(":
            starts.append(position)
        elif word == ")":
            found.append((starts.pop(), position))
        else:
            position += 1
    return sorted(found)


# ----------------------------------------------------------------------------- evaluator


@given(nested)
def test_evaluator_agrees_with_recursion(expression):
    tokens, _ = parse(words_of(expression))
    assert evaluate(tokens) == value_of(expression)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("[MED 1 4 ]", 2),  # 2.5 is truncated
        ("[MED 9 1 5 ]", 5),
        ("[MED 8 9 9 8 ]", 8),
        ("[SM 9 9 9 ]", 7),
        ("[MIN 3 [MAX 1 2 ] 4 ]", 2),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
    ],
)
def test_evaluator_on_examples(text, value):
    assert evaluate(parse(text)[0]) == value


@pytest.mark.parametrize(
    ("tokens", "position", "message"),
    [
        ((), 0, "empty"),
        ((13, 1, 2), 3, "not closed"),
        ((14,), 0, "without an open bracket"),
        ((13, 14), 1, "'\\[SM' has no arguments"),
        ((1, 2), 1, "complete, but goes on"),
        ((13, 1, 14, 14), 3, "complete, but goes on"),
        ((13, 1, 15, 14), 2, "15 is not a token id"),
        ((-1,), 0, "-1 is not a token id"),
    ],
)
def test_malformed_tokens(tokens, position, message):
    with pytest.raises(listops.MalformedExpression, match=message) as caught:
        evaluate(tokens)
    assert caught.value.position == position


# ----------------------------------------------------------------------------- trees


@given(nested)
def test_gold_tree_is_the_published_bracketing(expression):
    text = published_form(expression)
    tokens, merges = parse(text)
    assert (tokens, gold_merges(tokens)) == parse(words_of(expression)) == (tokens, merges)
    assert listops.bracket(tokens, merges) == text


@given(binary_trees())
def test_any_tree_is_written(tokens_and_merges):
    tokens, merges = tokens_and_merges
    text = listops.bracket(tokens, merges)
    assert text.count("(") == text.count(")") == len(merges)
    assert parse(text)[0] == tokens
    assert spans_of(text) == sorted(spans(merges))


def test_every_binary_tree_is_some_merges_and_no_more():
    # Catalan numbers 1, 1, 2, 5, 14, 42 for 1 to 6 leaves, from (n - 1)! orders of merging.
    orders = [()]
    for num_leaves, num_trees in enumerate([1, 1, 2, 5, 14, 42], start=1):
        assert len({frozenset(spans(merges)) for merges in orders}) == num_trees
        orders = [(k, *rest) for k in range(num_leaves) for rest in orders]


def test_merges_must_fit():
    with pytest.raises(
        ValueError, match=r"merge 1 should be in 0\.\.0, as 2 nodes are left, got 1"
    ):
        spans((0, 1))
    with pytest.raises(ValueError, match="2 tokens take 1 merges, got 2"):
        listops.bracket((1, 2), (0, 0))


# ----------------------------------------------------------------------------- reader


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "empty"),
        ("[SM 6 5", 8, "not closed"),
        ("[SM 6 55 ]", 7, "unknown token '55'"),
        ("[SM 6 5]", 7, r"unknown token '5\]'"),
        ("[SUM 6 5 ]", 1, r"unknown token '\[SUM'"),
        ("[SM ]", 5, "no arguments"),
        ("[SM 6 5 ] ]", 11, "goes on"),
        ("6  ]", 4, "goes on"),
        ("]", 1, "without an open bracket"),
    ],
)
def test_malformed_expression_names_the_column(text, column, message):
    with pytest.raises(ValueError, match=rf"^expression, column {column}: .*{message}"):
        parse(text)


@given(st.lists(st.sampled_from([*listops.TOKENS, "(", ")", "x", "\t"]), max_size=12))
def test_parser_accepts_exactly_the_expressions(words):
    text = " ".join(words)
    fault = None
    try:
        tokens, merges = parse(text)
    except ValueError as error:
        fault = str(error)
    if fault is not None:
        assert re.match(r"expression, column \d+: ", fault)
        return
    kept = [word for word in words if word not in ("(", ")", "\t")]
    assert [listops.TOKENS[token] for token in tokens] == kept
    evaluate(tokens)
    assert len(spans(merges)) == len(tokens) - 1


def test_file_with_and_without_parentheses(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("1\t( ( ( [SM 6 ) 5 ) ] )\n1\t[SM 6 5 ]\n")
    gold, bare = listops.read_examples(path)
    assert gold == bare == Example((13, 6, 5, 14), 1, (0, 0, 0))


# ----------------------------------------------------------------------------- generator


@pytest.fixture(scope="module")
def expressions():
    return listops.generate(np.random.default_rng(1))


@pytest.mark.slow
def test_expressions_are_distinct_well_formed_and_within_the_rules(expressions):
    assert len(set(expressions)) == len(expressions) == 100_000
    deepest = 0
    for tokens in expressions:
        evaluate(tokens)
        num_arguments = [0]
        for token in tokens:
            if token == 14:
                assert 2 <= num_arguments.pop() <= 5
            else:
                num_arguments[-1] += 1
            if 10 <= token < 14:
                num_arguments.append(0)
                deepest = max(deepest, len(num_arguments) - 1)
    # The published test file, too, has brackets 19 deep: digits stand at depth 20.
    assert deepest == 19


def test_same_seed_same_expressions():
    first, second, other = (
        listops.generate(np.random.default_rng(seed), num_expressions=300) for seed in (5, 5, 6)
    )
    assert first == second
    assert first != other


def test_nodes_have_the_published_probabilities():
    symbols = listops._symbols(np.random.default_rng(2))
    num_draws = 50_000
    kinds = Counter()
    for _ in range(num_draws):
        tokens = listops._draw_expression(symbols)
        if len(tokens) == 1:
            kinds[tokens] += 1
        else:
            # The first merge joins the operator and its first argument; the root's spans that
            # start at 0 are one for each argument and one for the bracket.
            num_arguments = sum(start == 0 for start, _ in spans(gold_merges(tokens))) - 1
            kinds[tokens[0], num_arguments] += 1
    expected = {(digit,): 0.75 / 10 for digit in range(10)} | {
        (operator, k): 0.25 / 16 for operator in range(10, 14) for k in range(2, 6)
    }
    assert set(kinds) == set(expected)
    observed = [kinds[kind] for kind in expected]
    p_value = stats.chisquare(observed, num_draws * np.array(list(expected.values()))).pvalue
    assert p_value > FALSE_ALARM_RATE


# Counts of the published test file (10,000 lines): lengths <= 10, <= 25, <= 50, more; labels 0..9.
PUBLISHED_LENGTHS = [3531, 6477 - 3531, 7966 - 6477, 10_000 - 7966]
PUBLISHED_LABELS = [1127, 1038, 967, 978, 991, 969, 895, 930, 964, 1141]


def length_counts(all_tokens):
    bins = np.searchsorted([10, 25, 50], [len(tokens) for tokens in all_tokens])
    return np.bincount(bins, minlength=4)


def label_counts(all_tokens):
    return np.bincount([evaluate(tokens) for tokens in all_tokens], minlength=10)


def p_value(counts, published):
    """Do two samples come from one distribution? Independent draws, so on the safe side here."""
    return stats.chi2_contingency([counts, published]).pvalue


def test_lengths_and_labels_are_distributed_as_published(expressions):
    assert p_value(length_counts(expressions), PUBLISHED_LENGTHS) > FALSE_ALARM_RATE
    assert p_value(label_counts(expressions), PUBLISHED_LABELS) > FALSE_ALARM_RATE
    assert np.median([len(tokens) for tokens in expressions]) == 16


def test_other_rules_are_told_apart():
    """The test above can fail: fewer expressions, repeated ones, labels drawn as digits are."""
    fewer = listops.generate(np.random.default_rng(1), num_expressions=30_000)
    assert p_value(length_counts(fewer), PUBLISHED_LENGTHS) < FALSE_ALARM_RATE
    symbols = listops._symbols(np.random.default_rng(1))
    repeated = [listops._draw_expression(symbols) for _ in range(10_000)]
    assert p_value(length_counts(repeated), PUBLISHED_LENGTHS) < FALSE_ALARM_RATE
    assert p_value([10_000] * 10, PUBLISHED_LABELS) < FALSE_ALARM_RATE


def test_number_of_expressions_is_checked():
    with pytest.raises(ValueError, match="num_expressions must be at least 1, got 0"):
        listops.generate(np.random.default_rng(0), num_expressions=0)


# ----------------------------------------------------------------------------- splits


def some_examples(seed, num):
    return [
        Example(tokens, evaluate(tokens), gold_merges(tokens))
        for tokens in listops.generate(np.random.default_rng(seed), num_expressions=num)
    ]


def tokens_of(examples):
    return [example.tokens for example in examples]


def assert_no_leak(data):
    everything = tokens_of([*data.train, *data.valid, *data.test])
    if data.test is not data.published_test:
        assert len(set(everything)) == len(everything)
    learned_from = {*tokens_of(data.train), *tokens_of(data.valid)}
    assert len(learned_from) == len(data.train) + len(data.valid)
    assert learned_from.isdisjoint(tokens_of(data.published_test))
    assert learned_from.isdisjoint(tokens_of(data.test))


@pytest.mark.parametrize("max_length", [None, 10, 25])
def test_generated_splits_have_no_leak(max_length):
    published = some_examples(0, 3000)
    data = listops.generated_splits(
        np.random.default_rng(1),
        max_length=max_length,
        published_test=published,
        num_expressions=5000,
    )
    plain = listops.generated_splits(
        np.random.default_rng(1), max_length=max_length, num_expressions=5000
    )
    assert_no_leak(data)
    assert_no_leak(plain)
    assert plain.num_dropped == 0
    total = len(plain.train) + len(plain.valid) + len(plain.test)
    assert len(plain.valid) == len(plain.test) == total // 10
    # Dropping removes just what is published, and moves nothing from one set to another.
    known = set(tokens_of(published))
    assert data.test == plain.test
    assert data.valid == tuple(e for e in plain.valid if e.tokens not in known)
    assert data.train == tuple(e for e in plain.train if e.tokens not in known)
    assert data.num_dropped == sum(e.tokens in known for e in (*plain.train, *plain.valid)) > 100
    for example in (*data.train, *data.valid, *data.test, *data.published_test):
        assert max_length is None or len(example.tokens) <= max_length
        assert example.label == evaluate(example.tokens)
        assert example.merges == gold_merges(example.tokens)
    assert len(data.published_test) == sum(
        max_length is None or len(e.tokens) <= max_length for e in published
    )


def test_impossible_lengths_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="max_length must be at least 1, or None for any, got 0"):
        listops.generated_splits(rng, max_length=0)
    with pytest.raises(ValueError, match="max_length=None leaves 9 of 9 expressions"):
        listops.generated_splits(rng, num_expressions=9)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Small stand-ins for the published files: the bytes of each, with their checksums in place."""
    isolate_data_folders(monkeypatch, tmp_path / "home")
    examples = some_examples(3, 600)
    parts = {"test": examples[:100], "train": examples[50:]}
    parts["train"] += examples[200:220]
    contents = {
        split: "".join(f"{e.label}\t{listops.bracket(e.tokens, e.merges)}\n" for e in part).encode()
        for split, part in parts.items()
    }
    checksums = {split: {"md5": hashlib.md5(c).hexdigest()} for split, c in contents.items()}
    monkeypatch.setattr(listops, "CHECKSUMS", checksums)
    return contents


def test_published_splits_are_downloaded_and_have_no_leak(monkeypatch, published):
    files = {f"{split}_d20s.tsv": content for split, content in published.items()}
    with serve(files) as (address, requests):
        monkeypatch.setattr(listops, "ADDRESS", f"{address}/{{split}}_d20s.tsv")
        data = listops.published_splits(np.random.default_rng(0))
        again = listops.published_splits(np.random.default_rng(0), max_length=10)
        assert requests == ["test_d20s.tsv", "train_d20s.tsv"]
    assert names(_files.cache_folder()) == ["listops_test_d20s.tsv", "listops_train_d20s.tsv"]
    # Of 550 + 20 training lines, 50 are in the test file and 20 are repeated.
    assert (len(data.train), len(data.valid), len(data.test), data.num_dropped) == (
        450,
        50,
        100,
        70,
    )
    assert_no_leak(data)
    assert_no_leak(again)
    assert {*tokens_of(again.train), *tokens_of(again.valid)} == {
        tokens for tokens in tokens_of([*data.train, *data.valid]) if len(tokens) <= 10
    }


def test_published_file_is_verified_before_it_is_read(monkeypatch, published, tmp_path):
    def read(path):
        raise AssertionError("read")

    monkeypatch.setattr(listops, "read_examples", read)
    (tmp_path / "listops_test_d20s.tsv").write_bytes(published["test"][:-10])
    with pytest.raises(ValueError, match=r"wrong md5 of .*listops_test_d20s\.tsv.*delete it"):
        listops.load_published("test", tmp_path)
    with serve({"test_d20s.tsv": published["test"] + b" "}) as (address, _):
        monkeypatch.setattr(listops, "ADDRESS", f"{address}/{{split}}_d20s.tsv")
        with pytest.raises(ValueError, match=r"wrong md5 .*by hand at .*RBST_DATA_DIR"):
            listops.load_published("test")
        with pytest.raises(ConnectionError, match="HTTP 404"):
            listops.load_published("train")
    assert names(_files.cache_folder()) == []


def test_the_file_of_the_long_range_arena_is_told_what_it_is(tmp_path):
    text = "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n"
    (tmp_path / "listops_test_d20s.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"Long Range Arena .* wanted that of Nangia and Bowman"):
        listops.load_published("test", tmp_path)


def test_unknown_split():
    with pytest.raises(ValueError, match=r"split must be one of \['test', 'train'\], got 'valid'"):
        listops.load_published("valid")


# ----------------------------------------------------------------------------- the real data


@pytest.fixture(scope="module")
def real_file():
    if REAL_FOLDER is None:
        pytest.skip("RBST_DATA_DIR is not set")
    path = Path(REAL_FOLDER) / "listops_test_d20s.tsv"
    if not path.is_file():
        pytest.skip(f"RBST_DATA_DIR holds no {path.name}")
    return path


@pytest.fixture(scope="module")
def real_examples(real_file):
    return listops.load_published("test", real_file.parent)


@pytest.mark.real_data
def test_evaluator_and_gold_tree_agree_with_all_published_lines(real_file, real_examples):
    lines = real_file.read_text().splitlines()
    assert len(lines) == len(real_examples) == 10_000
    for line, example in zip(lines, real_examples, strict=True):
        label, text = line.split("\t")
        bare = parse(text.replace("(", "").replace(")", ""))
        assert evaluate(bare[0]) == int(label) == example.label
        assert bare == (example.tokens, example.merges)
        assert listops.bracket(*bare) == text


@pytest.mark.real_data
def test_published_statistics(real_examples):
    all_tokens = tokens_of(real_examples)
    np.testing.assert_array_equal(length_counts(all_tokens), PUBLISHED_LENGTHS)
    np.testing.assert_array_equal(label_counts(all_tokens), PUBLISHED_LABELS)
    assert max(map(len, all_tokens)) == 939
    assert np.median([len(tokens) for tokens in all_tokens]) == 16


@pytest.mark.real_data
def test_generator_has_the_published_distribution_in_detail(real_examples, expressions):
    published = tokens_of(real_examples)
    edges = np.unique(np.quantile([len(tokens) for tokens in published], np.arange(1, 20) / 20))
    tables = {
        "length": lambda tokens: np.searchsorted(edges, len(tokens)),
        "label, length <= 10": lambda tokens: evaluate(tokens) if len(tokens) <= 10 else None,
        "first operator": lambda tokens: tokens[0] if tokens[0] >= 10 else None,
        "arguments of the root": lambda tokens: sum(s == 0 for s, _ in spans(gold_merges(tokens))),
        "brackets": lambda tokens: min(tokens.count(14), 30),
    }
    for name, statistic in tables.items():
        counts = []
        for sample in (expressions[:20_000], published):
            kinds = [kind for kind in map(statistic, sample) if kind is not None]
            counts.append(np.bincount(kinds, minlength=32))
        table = np.array(counts)
        common = table.sum(axis=0) >= 20
        p = stats.chi2_contingency(table[:, common]).pvalue
        assert p > FALSE_ALARM_RATE, name


@pytest.mark.slow
@pytest.mark.real_data
def test_published_test_file_stays_out_of_training(real_examples):
    data = listops.generated_splits(
        np.random.default_rng(0), max_length=10, published_test=real_examples
    )
    assert_no_leak(data)
    assert len(data.published_test) == 3531
    # About a fifth of the short published expressions turn up in a generated set of 100,000, and
    # nine tenths of those outside its test set.
    assert 0.12 < data.num_dropped / 3531 < 0.24
