"""The latent-tree parser against a plain autograd one, against enumeration, and against padding."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, value_and_grad
from autograd.core import make_vjp
from scipy.stats import chi2

from rbst import Estimator, get_estimator, gumbel_rao, objective, stochastic_node
from rbst.categorical import log_probability as log_probability_of
from rbst.categorical import one_hot
from rbst.data.listops import spans
from rbst.models.tree_lstm import Sequences, TreeLSTM, follow, greedy, left_branching


def make_sequences(lengths, rng, num_tokens=5, num_classes=3):
    lengths = np.asarray(lengths)
    L = lengths.max()
    merges = [[rng.integers(max(1, n - 1 - t)) for t in range(L - 1)] for n in lengths]
    return Sequences(
        rng.integers(num_tokens, size=(len(lengths), L)),
        lengths,
        rng.integers(num_classes, size=len(lengths)),
        np.array(merges, dtype=int).reshape(len(lengths), L - 1),
    )


def make_model(rng, hidden=4, forget_bias=0.0):
    """A small network with weights large enough for its trees to matter."""
    model = TreeLSTM(num_tokens=5, num_classes=3, hidden=hidden, forget_bias=forget_bias)
    return model, 1.5 * rng.standard_normal(model.layout.size)


def scripted(sequences, rng, tau, num_samples=3):
    """Estimators with the same noise for a sequence and a merge, whatever the batch.

    Returns a function from the sequences of a batch (numbers of rows) to the estimator that serves it.
    """
    B, L = sequences.tokens.shape
    gumbels = rng.gumbel(size=(L, B, L))
    exponentials = rng.exponential(size=(L, num_samples, B, L))

    def estimator_of(rows):
        longest = sequences.lengths[rows].max()

        def sample(logits, _):
            m = logits.shape[-1]
            x = logits + gumbels[longest - 1 - m, rows, :m].astype(logits.dtype)
            D = one_hot(x.argmax(axis=-1), m, logits.dtype)
            return D, D

        def pull_back(logits, D, g, _):
            m = logits.shape[-1]
            E = exponentials[longest - 1 - m][:, rows, :m]
            return gumbel_rao(logits, D, g, tau=tau, exponentials=E)

        return Estimator("scripted", "corner", pull_back, sample)

    return estimator_of


# ----------------------------------------------------------------------------- the plain parser


def plain_cost(model, flat, sequences, estimator, rng):
    """The same network as its equations say, all candidates anew in each step, differentiated by autograd."""
    p, d = model.layout.views(flat), model.hidden
    nodes = anp.dot(p["embedding"], p["leaf.W0"]) + p["leaf.b0"]
    nodes = anp.stack([nodes[tokens] for tokens in sequences.tokens])
    L = sequences.tokens.shape[1]
    for t in range(L - 1):
        m = L - 1 - t
        h, c = nodes[:, :, :d], nodes[:, :, d:]
        x = anp.concatenate([h[:, :-1], h[:, 1:]], axis=2)
        z = anp.dot(x, p["cell.W"]) + p["cell.b"]
        i, f_l, f_r, o = (
            1 / (1 + anp.exp(-(z[:, :, k * d : (k + 1) * d] + (k in (1, 2)) * model.forget_bias)))
            for k in range(4)
        )
        g = anp.tanh(z[:, :, 4 * d :])
        c = f_l * c[:, :-1] + f_r * c[:, 1:] + i * g
        parents = anp.concatenate([o * anp.tanh(c), c], axis=2)
        scores = anp.dot(parents[:, :, :d], p["query"])[:, :, 0] / math.sqrt(d)
        pairs = sequences.lengths - 1 - t
        logits = anp.where(np.arange(m) < pairs[:, None], scores, -math.inf)
        logits = anp.where((np.arange(m) == 0) & (pairs <= 0)[:, None], 0.0, logits)
        D = stochastic_node(logits, estimator, rng) if m > 1 else np.ones((len(nodes), 1))
        cumulative = anp.cumsum(D, axis=1)
        stays, shifts = cumulative[:, -1:] - cumulative, cumulative - D
        merged = (
            stays[:, :, None] * nodes[:, :-1]
            + shifts[:, :, None] * nodes[:, 1:]
            + D[:, :, None] * parents
        )
        nodes = anp.where((pairs > 0)[:, None, None], merged, nodes[:, :-1])
    hidden = anp.tanh(anp.dot(nodes[:, 0, :d], p["classifier.W0"]) + p["classifier.b0"])
    scores = anp.dot(hidden, p["classifier.W1"]) + p["classifier.b1"]
    log_p = scores - anp.log(anp.sum(anp.exp(scores), axis=1, keepdims=True))
    return -log_p[np.arange(len(scores)), sequences.labels]


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
@pytest.mark.parametrize("name", ["st", "st-gs", "gr-mc10"])
def test_value_and_gradient_are_those_of_the_plain_parser(name, forget_bias):
    rng = np.random.default_rng(0)
    sequences = make_sequences([6, 1, 2, 5, 3, 6], rng)
    model, flat = make_model(rng, forget_bias=forget_bias)
    estimator = get_estimator(name, tau=0.7)

    def loss(flat):
        return objective(
            estimator, *model.training_terms(flat, sequences, estimator, np.random.default_rng(1))
        )

    def plain_loss(flat):
        return anp.mean(plain_cost(model, flat, sequences, estimator, np.random.default_rng(1)))

    value, gradient = value_and_grad(loss)(flat)
    plain_value, plain_gradient = value_and_grad(plain_loss)(flat)
    assert value == pytest.approx(plain_value, rel=1e-12)
    np.testing.assert_allclose(gradient, plain_gradient, atol=1e-11 * abs(plain_gradient).max())
    assert abs(model.layout.views(gradient)["query"]).max() > 1e-3


def test_given_trees_agree_with_finite_differences():
    rng = np.random.default_rng(2)
    sequences = make_sequences([4, 1, 3], rng)
    model, flat = make_model(rng, hidden=3)

    def loss(flat):
        return anp.mean(model.terms(flat, sequences, follow(sequences.merges))[0])

    direction = rng.standard_normal(flat.shape)
    numerical = (loss(flat + 1e-6 * direction) - loss(flat - 1e-6 * direction)) / 2e-6
    assert grad(loss)(flat) @ direction == pytest.approx(numerical, rel=1e-7)


def test_a_graph_can_be_traversed_more_than_once_and_in_parts():
    """The forest collects gradients on the way back, and must start anew each time."""
    rng = np.random.default_rng(18)
    sequences = make_sequences([6, 1, 4, 5], rng)
    model, flat = make_model(rng)

    def cost_and_log_p(flat):
        cost, draws = model.terms(flat, sequences, follow(sequences.merges))
        return anp.array([anp.sum(cost), sum(anp.sum(log_probability_of(*draw)) for draw in draws)])

    traverse, _ = make_vjp(cost_and_log_p, flat)
    for weights in ([1.0, 0.0], [0.0, 1.0], [2.0, 3.0], [2.0, 3.0]):
        expected = grad(lambda flat, w=weights: anp.sum(cost_and_log_p(flat) * np.array(w)))(flat)
        np.testing.assert_array_equal(traverse(np.array(weights)), expected)
    # Without the cost no gradient reaches the roots.
    log_p = grad(lambda flat: cost_and_log_p(flat)[1])(flat)
    np.testing.assert_allclose(traverse(np.array([0.0, 1.0])), log_p, atol=1e-12 * abs(log_p).max())


def test_float32_stays_float32():
    rng = np.random.default_rng(3)
    sequences = make_sequences([5, 2, 4], rng)
    model, flat = make_model(rng)
    estimator = get_estimator("gr-mc10", tau=0.5)

    def loss(flat):
        cost, direct, draws = model.training_terms(flat, sequences, estimator, rng)
        assert cost.dtype == np.float32
        assert {D.dtype for _, D in draws} == {np.dtype(np.float32)}
        return objective(estimator, cost, direct, draws)

    assert grad(loss)(flat.astype(np.float32)).dtype == np.float32


# ----------------------------------------------------------------------------- enumeration


def all_merges(n):
    """Every order of merging n leaves, as rows; (n - 1)! of them."""
    return np.array(list(itertools.product(*(range(m) for m in range(n - 1, 0, -1)))))


def copies(sequences, number):
    """One sequence many times."""
    return sequences.select(np.zeros(number, int))


def enumerated(model, flat, sequence):
    """Log-probabilities of all merge orders of one sequence, and the cost of each."""
    merges = all_merges(sequence.lengths[0])
    cost, draws = model.terms(flat, copies(sequence, len(merges)), follow(merges))
    log_p = sum((log_probability_of(logits, D) for logits, D in draws), np.zeros(len(merges)))
    return merges, log_p, cost


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_probabilities_of_all_merge_orders_sum_to_one_and_reach_every_tree(n):
    rng = np.random.default_rng(n)
    model, flat = make_model(rng)
    merges, log_p, _ = enumerated(model, flat, make_sequences([n], rng))
    assert len(merges) == math.factorial(n - 1)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)
    assert np.isfinite(log_p).all()
    trees = {frozenset(spans(order)) for order in merges}
    catalan = math.comb(2 * (n - 1), n - 1) // n
    assert len(trees) == catalan


@pytest.mark.parametrize("n", [4, 6])
def test_sampled_merge_orders_have_the_enumerated_frequencies(n):
    rng = np.random.default_rng(10 + n)
    model, flat = make_model(rng)
    sequence = make_sequences([n], rng)
    merges, log_p, _ = enumerated(model, flat, sequence)
    N = 40_000
    estimator = get_estimator("st")
    _, sampled = model.predict(
        flat, copies(sequence, N), lambda logits, t: stochastic_node(logits, estimator, rng)
    )
    place_values = n ** np.arange(n - 1)
    order = {number: i for i, number in enumerate((merges * place_values).sum(axis=1).tolist())}
    counts = np.bincount(
        [order[number] for number in (sampled * place_values).sum(axis=1).tolist()],
        minlength=len(merges),
    )
    expected = N * np.exp(log_p)
    assert expected.max() > 2 * N / len(merges)  # far from uniform
    # Pearson's statistic over the orders that are expected at least five times, the rest as one.
    often = expected >= 5
    counts = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], max(expected[~often].sum(), 1e-9))
    statistic = ((counts - expected) ** 2 / np.maximum(expected, 1))[expected > 1].sum()
    # False alarms: one in 10,000.
    assert chi2.sf(statistic, (expected > 1).sum() - 1) > 1e-4


@pytest.fixture(scope="module")
def gradient_problem():
    """A model, a sequence of five tokens, and the exact gradient of its expected cost."""
    rng = np.random.default_rng(4)
    model, flat = make_model(rng, hidden=3)
    sequence = make_sequences([5], rng)

    def expected_cost(flat):
        _, log_p, cost = enumerated(model, flat, sequence)
        return anp.sum(anp.exp(log_p) * cost)

    value, gradient = value_and_grad(expected_cost)(flat)
    return model, flat, sequence, float(value), gradient


def mean_gradient(problem, name, *, tau=1.0, repeats=100, batch=150):
    """Mean gradient of an estimator and its standard errors, from batches of copies of the sequence."""
    model, flat, sequence, value, _ = problem
    estimator, rng = get_estimator(name, tau=tau), np.random.default_rng(5)
    many = copies(sequence, batch)

    def loss(flat):
        return objective(estimator, *model.training_terms(flat, many, estimator, rng), value)

    samples = np.array([grad(loss)(flat) for _ in range(repeats)])
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(repeats)


def test_mean_cost_is_the_enumerated_one(gradient_problem):
    model, flat, sequence, value, _ = gradient_problem
    estimator, rng = get_estimator("st"), np.random.default_rng(6)
    cost, _, _ = model.training_terms(flat, copies(sequence, 40_000), estimator, rng)
    # Four standard errors: one false alarm in 16,000.
    assert abs(cost.mean() - value) < 4 * cost.std() / math.sqrt(len(cost))


def test_reinforce_hits_the_exact_gradient_over_merge_orders(gradient_problem):
    mean, error = mean_gradient(gradient_problem, "reinforce")
    exact = gradient_problem[-1]
    noisy = error > 1e-12
    # Six standard errors (of 99 degrees of freedom) in some 250 entries: one false alarm in 100,000.
    assert (abs(mean - exact) <= 6 * error)[noisy].all()
    np.testing.assert_allclose(mean[~noisy], exact[~noisy], atol=1e-12)
    assert np.median(error[noisy]) < 0.1 * abs(exact).max()


def test_straight_through_is_biased_here_and_gumbel_rao_has_the_mean_of_st_gs(gradient_problem):
    exact = gradient_problem[-1]
    mean, error = mean_gradient(gradient_problem, "st-gs", tau=0.5)
    assert (abs(mean - exact) / np.maximum(error, 1e-12)).max() > 8
    rao_mean, rao_error = mean_gradient(gradient_problem, "gr-mc10", tau=0.5)
    # Six standard errors in some 250 entries: one false alarm in 100,000.
    assert (abs(mean - rao_mean) <= 6 * np.hypot(error, rao_error) + 1e-12).all()
    assert (rao_error**2).sum() < (error**2).sum()


# ----------------------------------------------------------------------------- padding


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 2e-4)])
def test_padding_changes_neither_loss_nor_gradient(tau, dtype, rtol):
    rng = np.random.default_rng(7)
    sequences = make_sequences([3, 8, 1, 5, 2], rng)
    model, flat = make_model(rng)
    flat = (flat / 2).astype(dtype)
    estimator_of = scripted(sequences, rng, tau)

    def value_and_gradient(rows):
        estimator = estimator_of(rows)

        def loss(flat):
            terms = model.training_terms(flat, sequences.select(rows), estimator, rng)
            return len(rows) * objective(estimator, *terms)

        return value_and_grad(loss)(flat)

    together, gradient = value_and_gradient(np.arange(5))
    alone = [value_and_gradient(np.array([row])) for row in range(5)]
    assert together == pytest.approx(sum(value for value, _ in alone), rel=rtol)
    parts = np.array([g for _, g in alone])
    np.testing.assert_allclose(gradient, parts.sum(axis=0), atol=rtol * abs(parts).max())


def test_what_stands_in_the_padding_is_never_looked_at():
    rng = np.random.default_rng(8)
    sequences = make_sequences([3, 6, 1], rng)
    model, flat = make_model(rng)
    beyond = np.arange(6) >= sequences.lengths[:, None]
    other = Sequences(
        np.where(beyond, 4 - sequences.tokens, sequences.tokens),
        sequences.lengths,
        sequences.labels,
        np.where(beyond[:, 1:], 0, sequences.merges),
    )
    estimator = get_estimator("st-gs", tau=0.1)

    def loss(flat, sequences):
        terms = model.training_terms(flat, sequences, estimator, np.random.default_rng(9))
        return objective(estimator, *terms)

    for a, b in zip(
        value_and_grad(loss)(flat, sequences), value_and_grad(loss)(flat, other), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_finished_sequence_has_one_category_and_no_part_in_log_p():
    rng = np.random.default_rng(10)
    sequences = make_sequences([6, 2, 1], rng)
    model, flat = make_model(rng)
    _, draws = model.terms(
        flat, sequences, lambda logits, t: stochastic_node(logits, get_estimator("st"), rng)
    )
    assert [logits.shape for logits, _ in draws] == [(3, 5), (3, 4), (3, 3), (3, 2)]
    for logits, D in draws:
        for row in (1, 2):
            assert np.isfinite(logits[row]).tolist() == [True] + [False] * (logits.shape[1] - 1)
            assert D[row, 0] == 1
        assert log_probability_of(logits, D)[1:].tolist() == [0, 0]


# ----------------------------------------------------------------------------- trees and errors


def test_decisions_by_rule():
    rng = np.random.default_rng(11)
    sequences = make_sequences([6, 3, 1], rng)
    model, flat = make_model(rng)
    _, merges = model.predict(flat, sequences, left_branching)
    assert not merges.any()
    _, merges = model.predict(flat, sequences, follow(sequences.merges))
    for row, length in enumerate(sequences.lengths):
        np.testing.assert_array_equal(
            merges[row, : length - 1], sequences.merges[row, : length - 1]
        )
    logits = np.array([[0.0, 2.0, -math.inf], [1.0, -math.inf, -math.inf]])
    np.testing.assert_array_equal(greedy(logits, 0), [[0, 1, 0], [1, 0, 0]])


def test_greedy_tree_is_the_one_the_sampler_finds_when_it_is_certain():
    rng = np.random.default_rng(12)
    sequences = make_sequences([5, 3, 4], rng)
    sequences.tokens[...] = [rng.permutation(5) for _ in range(3)]  # equal pairs would be a tie
    model, flat = make_model(rng)
    model.layout.views(flat)["query"][...] *= 1e4
    _, sampled = model.predict(
        flat, sequences, lambda logits, t: stochastic_node(logits, get_estimator("st"), rng)
    )
    np.testing.assert_array_equal(model.predict(flat, sequences)[1], sampled)


def test_sequences_of_one_token():
    rng = np.random.default_rng(13)
    sequences = make_sequences([1, 1], rng)
    model, flat = make_model(rng)
    estimator = get_estimator("st-gs", tau=0.5)

    def loss(flat):
        return objective(estimator, *model.training_terms(flat, sequences, estimator, rng))

    gradient = model.layout.views(grad(loss)(flat))
    assert not gradient["cell.W"].any()
    assert gradient["embedding"].any()


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (get_estimator("gs", tau=0.5), "a relaxed merge is not a tree"),
        (Estimator("many", "several", estimate=lambda f, logits, rng: logits), "several samples"),
    ],
)
def test_an_estimator_that_needs_more_than_one_tree_is_refused(estimator, reason):
    rng = np.random.default_rng(14)
    model, flat = make_model(rng)
    with pytest.raises(ValueError, match=reason):
        model.training_terms(flat, make_sequences([3], rng), estimator, rng)


# ----------------------------------------------------------------------------- memory


def peak_memory(L, B, hidden):
    """Bytes that one training step holds at most."""
    rng = np.random.default_rng(15)
    sequences = make_sequences([L] * B, rng)
    model = TreeLSTM(num_tokens=5, num_classes=3, hidden=hidden)
    flat = model.initial_parameters(rng, np.float32)
    estimator = get_estimator("gr-mc100", tau=0.5)

    def loss(flat):
        return objective(estimator, *model.training_terms(flat, sequences, estimator, rng))

    tracemalloc.start()
    grad(loss)(flat)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_is_linear_in_the_batch_and_at_most_quadratic_in_the_length():
    base = peak_memory(12, 12, 32)
    assert peak_memory(12, 24, 32) < 2.1 * base
    assert peak_memory(24, 12, 32) < 4.2 * base


def test_memory_of_the_largest_step_of_the_paper():
    assert peak_memory(50, 50, 64) < 2**30
