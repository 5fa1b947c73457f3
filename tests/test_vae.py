"""The VAE: its primitives, its bounds and its gradients against enumeration of every code."""

import math
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads
from oracles import assert_mean

from rbst import Estimator, RunningMean, get_estimator, log_probability, objective, straight_through
from rbst._array import getval
from rbst.data import BinaryImages
from rbst.enumeration import enumerate_outcomes
from rbst.experiments.run import training_step
from rbst.experiments.training import minibatch
from rbst.experiments.vae import VAERun, make_config
from rbst.models import vae
from rbst.models.vae import VAE, bernoulli_log_likelihood, bits, kl_from_uniform, sigmoid

# A false alarm at 5 standard errors has probability 6e-7 for one comparison; the tests below make a few
# hundred, so that a correct program would fail about one of 10,000 choices of their seeds.
STANDARD_ERRORS = 5


def small_model(num_variables=4, arity=4, pixels=6, seed=0, scale=1.5):
    """A model of few codes whose decoder, unlike that of a fresh start, depends strongly on them."""
    rng = np.random.default_rng(seed)
    model = VAE(rng.uniform(0.2, 0.8, pixels), num_variables, arity, hidden=(5,))
    return model, scale * model.initial_parameters(rng, np.float64)


def images(count, pixels=6, seed=0):
    return (np.random.default_rng(seed).random((count, pixels)) < 0.5).astype(np.float64)


def log_likelihoods(model, flat, x):
    """log p(x | D) and log q(D | x) of every code D for one image, and the codes."""
    parameters = model.layout.views(flat)
    logits = model.encode(parameters, x[None])[0]
    D, q = next(enumerate_outcomes(logits))
    return bernoulli_log_likelihood(model.decode(parameters, D), x), np.log(q), D


def log_evidence(model, flat, x):
    log_p, _, D = log_likelihoods(model, flat, x)
    return np.logaddexp.reduce(log_p) - math.log(len(D))


def single_sample_bound(model, flat, x):
    log_p, log_q, D = log_likelihoods(model, flat, x)
    return float((np.exp(log_q) * (log_p - math.log(len(D)) - log_q)).sum())


# Primitives.


def test_bernoulli_log_likelihood_against_finite_differences_and_its_definition():
    rng = np.random.default_rng(0)
    logits, x = rng.normal(size=(3, 4, 7)), images(4, 7)
    check_grads(lambda logits: bernoulli_log_likelihood(logits, x), modes=["rev"], order=1)(logits)
    pi = 1 / (1 + np.exp(-logits))
    expected = (x * np.log(pi) + (1 - x) * np.log(1 - pi)).sum(axis=-1)
    np.testing.assert_allclose(bernoulli_log_likelihood(logits, x), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_likelihood_do_not_overflow(dtype):
    x = np.array([-1e30, -1000, -20, 0, 20, 1000, 1e30], dtype=dtype)
    expected = np.where(x > 30, x, np.log1p(np.exp(np.minimum(x, 30).astype(np.float64))))
    white = -bernoulli_log_likelihood(x[:, None], np.zeros_like(x)[:, None])
    np.testing.assert_allclose(white, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(sigmoid(x), [0, 0, 2.0612e-9, 0.5, 1, 1, 1], rtol=1e-4, atol=1e-7)
    assert white.dtype == sigmoid(x).dtype == dtype
    black = np.ones_like(x)
    gradient = grad(lambda x: bernoulli_log_likelihood(x, black))(x)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, black - sigmoid(x))


def test_kl_against_finite_differences():
    logits = np.random.default_rng(1).normal(size=(2, 3, 4))
    check_grads(kl_from_uniform, modes=["rev"], order=1)(logits)


@pytest.mark.parametrize("impossible", [False, True])
def test_kl_against_enumeration(impossible):
    logits = 2 * np.random.default_rng(3).normal(size=(3, 4))
    if impossible:
        logits[1, 2] = -np.inf
    _, q = next(enumerate_outcomes(logits))
    q = q[q > 0]
    expected = (q * (np.log(q) + 3 * math.log(4))).sum()
    np.testing.assert_allclose(kl_from_uniform(logits[None]), [expected], rtol=1e-12)
    assert np.isfinite(grad(lambda t: kl_from_uniform(t)[0])(logits[None])).all()


# Shapes and precision.


def test_float32_stays_float32_through_the_whole_training_objective():
    model, flat = small_model()
    x = images(3).astype(np.float32)
    for name in ("st-gs", "gs", "reinforce", "gr-mc10"):
        estimator = get_estimator(name, tau=0.5)

        def loss(flat, estimator=estimator):
            rng = np.random.default_rng(0)
            cost, direct, draws = model.training_terms(flat, x, estimator, rng)
            assert cost.dtype == direct.dtype == np.float32
            return objective(estimator, cost, direct, draws, 3.0)

        assert grad(loss)(flat.astype(np.float32)).dtype == np.float32


def test_output_bias_starts_at_the_logit_of_the_mean_pixel():
    mean = np.array([0.0, 0.25, 1.0])
    model = VAE(mean, num_variables=2, arity=2, hidden=(4, 3))
    views = model.layout.views(model.initial_parameters(np.random.default_rng(0), np.float64))
    np.testing.assert_allclose(sigmoid(views["decoder.b2"]), [0.001, 0.25, 0.999])
    assert views["encoder.W1"].shape == (4, 3)
    assert views["decoder.W0"].shape == (4, 3)
    assert views["decoder.W1"].shape == (3, 4)


def test_bits_are_a_fixed_layer_in_front_of_the_decoder():
    """The decoder on bits is the decoder on one-hot codes whose first matrix is the bits' times its own."""
    plain = VAE(np.full(5, 0.3), num_variables=3, arity=8, hidden=(4,))
    coded = VAE(np.full(5, 0.3), num_variables=3, arity=8, hidden=(4,), code="bits")
    rng = np.random.default_rng(0)
    views = coded.layout.views(rng.normal(size=coded.layout.size))
    matrix = np.kron(np.eye(3), bits(8))
    assert matrix.shape == (24, 9)
    same = plain.layout.views(np.empty(plain.layout.size))
    for name, view in views.items():
        same[name][...] = matrix @ view if name == "decoder.W0" else view
    S = rng.dirichlet(np.ones(8), size=(2, 3))  # a relaxed code is mixed in the same way
    np.testing.assert_allclose(coded.decode(views, S), plain.decode(same, S), rtol=1e-12)
    assert len({tuple(row) for row in bits(8)}) == 8
    check_grads(lambda S: coded.decode(views, S), modes=["rev"], order=1)(S)


def test_rate_factors_cover_every_parameter_once():
    model = VAE(np.full(5, 0.3), num_variables=2, arity=4, hidden=(4, 3), code="bits")
    factors = np.zeros(model.layout.size)
    for part, factor in model.rate_factors(2.5, 10.0):
        factors[part] += factor
    for name, view in model.layout.views(factors).items():
        expected = 2.5 if name.startswith("encoder") else 10.0 if name[-1] == "2" else 1.0
        assert (view == expected).all(), name


# Bounds, against the exact log-likelihood of a model of 8 bits.


def test_many_samples_approach_the_exact_log_likelihood():
    model, flat = small_model()
    x, M = images(4), 20_000
    _, bound = model.bounds(flat, x, M, np.random.default_rng(5))
    for image, value in zip(x, bound, strict=True):
        log_p, log_q, D = log_likelihoods(model, flat, image)
        log_w = log_p - math.log(len(D)) - log_q
        mean = np.exp(log_q + log_w).sum()
        variance = (np.exp(log_q) * (np.exp(log_w) - mean) ** 2).sum()
        relative_error = math.sqrt(variance / M) / mean  # the standard error of the logarithm
        assert relative_error < 0.05
        assert abs(value - math.log(mean)) < STANDARD_ERRORS * relative_error
        assert math.log(mean) == pytest.approx(log_evidence(model, flat, image))


def test_with_one_sample_both_bounds_are_the_same():
    model, flat = small_model()
    one, many = model.bounds(flat, images(5), 1, np.random.default_rng(6))
    np.testing.assert_allclose(many, one, rtol=1e-12)


def test_bound_rises_with_the_number_of_samples_and_stays_below_the_log_likelihood():
    model, flat = small_model()
    repeats = 2000
    x = np.repeat(images(1), repeats, axis=0)
    means, errors = [], []
    for M in (1, 2, 5, 25, 125):
        _, bound = model.bounds(flat, x, M, np.random.default_rng([6, M]))
        means.append(bound.mean())
        errors.append(bound.std(ddof=1) / math.sqrt(repeats))
    means, errors = np.array(means), np.array(errors)
    step_errors = np.hypot(errors[1:], errors[:-1])
    assert (np.diff(means) > STANDARD_ERRORS * step_errors).all()
    assert (means < log_evidence(model, flat, x[0]) + STANDARD_ERRORS * errors).all()


def test_single_sample_bound_equals_the_enumerated_one():
    model, flat = small_model()
    x = np.repeat(images(1), 400, axis=0)
    one, _ = model.bounds(flat, x, 50, np.random.default_rng(7))
    assert_mean(one, single_sample_bound(model, flat, x[0]))
    assert single_sample_bound(model, flat, x[0]) < log_evidence(model, flat, x[0]) - 0.1


def test_the_training_objective_has_the_enumerated_bound_as_its_mean():
    model, flat = small_model()
    x = np.repeat(images(1), 20_000, axis=0)
    cost, direct, _ = model.training_terms(flat, x, get_estimator("st"), np.random.default_rng(8))
    assert_mean(cost + direct, -single_sample_bound(model, flat, x[0]))


def test_bounds_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
    model, flat = small_model()
    x = images(3)
    whole = model.bounds(flat, x, 50, np.random.default_rng(9))
    monkeypatch.setattr(vae, "block_size", lambda xp: 7 * x.size // 2)
    blocks = list(model.log_weights(flat, x, 50, np.random.default_rng(9)))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    np.testing.assert_allclose(
        model.bounds(flat, x, 50, np.random.default_rng(9)), whole, rtol=1e-12
    )


# Gradients of all parameters, through `objective`, against the gradient of the enumerated bound.


def exact_gradient(model, flat, x):
    """Gradient of the negative bound of one image, by autograd through the sum over all codes."""
    D, _ = next(enumerate_outcomes(np.zeros((model.num_variables, model.arity))))

    def bound(flat):
        parameters = model.layout.views(flat)
        logits = model.encode(parameters, x[None])
        log_q = anp.sum(log_probability(anp.concatenate([logits] * len(D)), D), axis=-1)
        cost = -bernoulli_log_likelihood(model.decode(parameters, D), x)
        return anp.sum(anp.exp(log_q) * cost) + kl_from_uniform(logits)[0]

    return grad(bound)(flat)


def sampled_gradients(model, flat, x, estimator, seed, batches=400, batch_size=400):
    """Gradients of the mean objective of ``batch_size`` copies of an image, shape (batches, parameters)."""
    rng, baseline = np.random.default_rng(seed), RunningMean()
    copies = np.repeat(x[None], batch_size, axis=0)

    def loss(flat):
        cost, direct, draws = model.training_terms(flat, copies, estimator, rng)
        bound = objective(estimator, cost, direct, draws, baseline.value)
        baseline.update(4.0)
        return bound

    return np.array([grad(loss)(flat) for _ in range(batches)])


def in_standard_errors(difference, *samples):
    """The difference of means in standard errors; parameters without noise must agree exactly."""
    error = np.sqrt(sum(s.var(axis=0, ddof=1) / len(s) for s in samples))
    exact = error < 1e-12
    np.testing.assert_allclose(difference[exact], 0, atol=1e-9)
    return np.abs(difference[~exact] / error[~exact])


@pytest.fixture(scope="module")
def gradient_problem():
    model, flat = small_model(num_variables=3, arity=2, pixels=4, seed=4)
    return model, flat, images(1, 4, seed=5)[0]


@pytest.fixture(scope="module")
def st_gs_gradients(gradient_problem):
    return sampled_gradients(*gradient_problem, get_estimator("st-gs", tau=0.5), seed=11)


def test_reinforce_hits_the_gradient_of_the_enumerated_bound(gradient_problem):
    samples = sampled_gradients(*gradient_problem, get_estimator("reinforce"), seed=10)
    z = in_standard_errors(samples.mean(axis=0) - exact_gradient(*gradient_problem), samples)
    assert z.max() < STANDARD_ERRORS
    assert len(z) > 30  # encoder and decoder are noisy; the check is not empty


@pytest.mark.parametrize("name", ["gr-mc1", "gr-mc10"])
def test_gumbel_rao_shares_the_mean_of_st_gs(name, gradient_problem, st_gs_gradients):
    samples = sampled_gradients(*gradient_problem, get_estimator(name, tau=0.5), seed=12)
    difference = samples.mean(axis=0) - st_gs_gradients.mean(axis=0)
    assert in_standard_errors(difference, samples, st_gs_gradients).max() < STANDARD_ERRORS


def test_st_gs_is_biased_in_the_encoder_and_nowhere_else(gradient_problem, st_gs_gradients):
    model = gradient_problem[0]
    difference = st_gs_gradients.mean(axis=0) - exact_gradient(*gradient_problem)
    views, samples = model.layout.views(difference), st_gs_gradients
    first = model.layout.size - sum(v.size for n, v in views.items() if n.startswith("decoder"))
    assert in_standard_errors(difference[first:], samples[:, first:]).max() < STANDARD_ERRORS
    assert in_standard_errors(difference[:first], samples[:, :first]).max() > 2 * STANDARD_ERRORS


def test_an_estimator_of_ones_own_trains_without_the_registry():
    def pull_back(logits, D, df_dD, rng):
        return straight_through(logits, D, df_dD) / 2

    estimator = Estimator("half", "corner", pull_back)
    model, flat = small_model(scale=1.0)
    x = images(40)
    rng = np.random.default_rng(13)

    def loss(flat):
        cost, direct, draws = model.training_terms(flat, x, estimator, rng)
        return objective(estimator, cost, direct, draws)

    before = -np.mean([single_sample_bound(model, flat, image) for image in x])
    for _ in range(100):
        flat = flat - 0.5 * grad(loss)(flat)
    assert -np.mean([single_sample_bound(model, flat, image) for image in x]) < before - 0.3


def test_the_first_update_reads_the_baseline_before_it_learns_of_this_cost():
    x = images(8)
    options = {"bits": 4, "arity": 2, "hidden": [5], "batch_size": 8, "dtype": "float64"}
    config = make_config(options | {"learning_rate": 0.1, "momentum": 0.0})
    run = VAERun(config, "reinforce", 3, BinaryImages("random", (2, 3), x, x, x), Path("none"))
    model, reinforce, state = run.model, run.estimator(0), run.start()
    flat = state.parameters.copy()
    training_step(run)(state)

    minibatch_x = x[minibatch(8, 8, 0, seed=3)]
    aside, _, _ = model.training_terms(flat, minibatch_x, reinforce, np.random.default_rng([3, 6]))
    costs = []

    def loss(flat):
        cost, direct, draws = model.training_terms(
            flat, minibatch_x, reinforce, np.random.default_rng([3, 1])
        )
        costs.append(getval(cost).mean())
        return objective(reinforce, cost, direct, draws, aside.mean())

    np.testing.assert_allclose(state.parameters, flat - 0.1 * grad(loss)(flat), rtol=1e-12)
    assert state.baseline.value == pytest.approx(0.99 * aside.mean() + 0.01 * costs[0])
