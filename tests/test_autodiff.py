"""Estimators as nodes of an autograd graph, the surrogate objective, and single estimates."""

import autograd
import autograd.numpy as np
import numpy
import pytest
from numpy.testing import assert_array_equal
from oracles import (
    ANY_ARITY,
    NAMES,
    UNBIASED,
    affordable,
    assert_mean,
    assert_same_mean,
    quadratic,
    slow,
)

import rbst
from rbst import (
    Estimator,
    estimate_gradient,
    exact_gradient,
    get_estimator,
    log_probability,
    objective,
    softmax,
    stochastic_node,
    straight_through,
)
from rbst.categorical import softmax_vjp
from rbst.problems import QUADRATIC

LOGITS = numpy.array([[0.4, -0.3], [1.0, 0.2]])
ONCE = [name for name in NAMES if get_estimator(name).evaluates != "several"]
SEVERAL = Estimator("twice", "several", estimate=lambda f, logits, rng: 0 * logits + f(logits)[0])


def generator(seed=0):
    return numpy.random.default_rng(seed)


@pytest.mark.parametrize("name", ONCE)
def test_forward_value(name):
    point = stochastic_node(
        numpy.broadcast_to(LOGITS, (50, 2, 2)), get_estimator(name), generator()
    )
    numpy.testing.assert_allclose(point.sum(axis=-1), 1)
    inside = get_estimator(name).evaluates == "inside"
    assert ((point > 0) & (point < 1)).all() if inside else set(numpy.unique(point)) == {0, 1}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ONCE)
def test_backward_is_the_estimator(name, dtype):
    """A loss with gradient g at the point gets the pull-back of g, and zero for a score function."""
    estimator = get_estimator(name, tau=0.7)
    logits = numpy.broadcast_to(LOGITS, (5, 2, 2)).astype(dtype)
    g = generator(1).normal(size=logits.shape)
    gradient = autograd.grad(lambda x: np.sum(g * stochastic_node(x, estimator, generator())))
    if estimator.evaluates == "cost-only":
        with pytest.warns(UserWarning, match="independent of input"):
            numpy.testing.assert_array_equal(gradient(logits), 0)
        return
    rng = generator()
    _, sample = estimator.sample(logits, rng)
    backward_rng = numpy.random.Generator(numpy.random.PCG64(int(rng.integers(2**63))))
    expected = estimator.pull_back(logits, sample, g, backward_rng)
    assert gradient(logits).dtype == dtype
    numpy.testing.assert_array_equal(gradient(logits), expected)


@pytest.mark.parametrize("name", ONCE)
def test_the_order_of_the_backward_pass_changes_nothing(name):
    estimator = get_estimator(name, tau=0.7)

    def loss(logits, order):
        rng = generator()
        points = [stochastic_node(logits, estimator, rng) for _ in range(3)]
        costs = [(k + 1) * np.sum(points[k] ** 2 * LOGITS) for k in range(3)]
        return 0 * np.sum(logits) + sum(costs[k] for k in order)

    one, other = (autograd.grad(loss)(LOGITS, order) for order in ([0, 1, 2], [2, 0, 1]))
    numpy.testing.assert_allclose(one, other, rtol=1e-13)


@pytest.mark.parametrize("name", ["st-gs", "gr-mc10", "gs"])
def test_a_second_backward_pass_draws_the_same(name):
    """So the rows of a Jacobian belong to one linear map: g' J g with the same draws for each row."""
    estimator = get_estimator(name, tau=0.7)
    logits = LOGITS[0]
    jacobian = autograd.jacobian(lambda x: stochastic_node(x, estimator, generator()))(logits)
    g = numpy.array([1.0, -2.0])
    gradient = autograd.grad(lambda x: np.sum(g * stochastic_node(x, estimator, generator())))
    numpy.testing.assert_allclose(gradient(logits), g @ jacobian, atol=1e-14)


def test_forward_draws_do_not_depend_on_what_the_backward_pass_needs():
    states, points = [], []
    for name in ("st", "st-gs", "gr-mc100", "reinforce"):
        rng = generator()
        points.append(stochastic_node(LOGITS, get_estimator(name), rng))
        states.append(rng.bit_generator.state)
    assert all(state == states[0] for state in states)
    for point in points:
        numpy.testing.assert_array_equal(point, points[0])


def test_a_node_refuses_an_estimator_of_several_evaluations():
    with pytest.raises(
        ValueError, match=r"'twice' evaluates f at several points.*estimate_gradient"
    ):
        stochastic_node(LOGITS, SEVERAL, generator())


def test_log_probability_in_a_graph_is_that_of_the_package():
    D = numpy.eye(2)
    gradient = autograd.grad(lambda x: np.sum(log_probability(x, D)))(LOGITS)
    numpy.testing.assert_allclose(gradient, D - softmax(LOGITS), atol=1e-15)


# --- objective ------------------------------------------------------------------------------------------


def per_example_gradients(name, examples, baseline=0.0, seed=0):
    """One training step on ``examples`` copies of LOGITS: the gradients, one for each example."""
    estimator = get_estimator(name, tau=0.7)

    def loss(logits):
        point = stochastic_node(logits, estimator, generator(seed))
        cost = quadratic(point)
        return objective(estimator, cost, 0.0, [(logits, point)], baseline)

    copies = numpy.broadcast_to(LOGITS, (examples, 2, 2)).copy()
    return examples * autograd.grad(loss)(copies)


@pytest.mark.parametrize(
    "name", [name for name in ONCE if name != "reinmax-cv"] + slow("reinmax-cv")
)
def test_a_training_loop_swaps_estimators_by_name(name):
    """The same loop and the same loss give each estimator its own mean gradient."""
    draws = affordable(name, 10**5)
    gradients = per_example_gradients(name, draws)
    copies = numpy.broadcast_to(LOGITS, (draws, 2, 2))
    oracle = estimate_gradient(get_estimator(name, tau=0.7), quadratic, copies, generator(1))
    assert_same_mean(gradients, oracle)


@pytest.mark.parametrize("name", sorted(set(UNBIASED) & set(ONCE)))
@pytest.mark.parametrize("baseline", [0.0, 0.8])
def test_the_surrogate_term_has_the_exact_gradient(name, baseline):
    assert_mean(per_example_gradients(name, 10**5, baseline), exact_gradient(quadratic, LOGITS))


def test_a_cost_only_estimator_has_no_gradient_without_the_surrogate_term():
    estimator = get_estimator("reinforce")

    def loss(logits):
        return np.mean(quadratic(stochastic_node(logits, estimator, generator()))) + 0 * np.sum(
            logits
        )

    numpy.testing.assert_array_equal(autograd.grad(loss)(LOGITS[None]), 0)


@pytest.mark.parametrize("name", ["st", "reinforce", "gs"])
def test_the_value_of_the_objective_is_the_mean_cost(name):
    cost, direct = numpy.array([1.0, 4.0]), numpy.array([0.5, 1.5])
    D = numpy.broadcast_to(numpy.eye(2), (2, 2, 2))
    logits = numpy.broadcast_to(LOGITS, (2, 2, 2))
    assert objective(get_estimator(name), cost, direct, [(logits, D)], 7.0) == pytest.approx(3.5)
    assert objective(get_estimator(name), cost, 1.0, [(logits, D)], 7.0) == pytest.approx(3.5)


@pytest.mark.parametrize("name", ["st", "reinforce"])
def test_the_direct_term_is_differentiated_and_not_scored(name):
    D = numpy.broadcast_to(numpy.eye(2), (3, 2, 2))

    def loss(logits):
        direct = np.sum(logits**2, axis=(1, 2))
        return objective(get_estimator(name), numpy.zeros(3), direct, [(logits, D)])

    logits = generator().normal(size=(3, 2, 2))
    numpy.testing.assert_allclose(autograd.grad(loss)(logits), 2 * logits / 3)


def test_a_cost_that_depends_on_parameters_keeps_that_gradient():
    """The gradient with respect to a decoder flows through the cost, beside the surrogate term."""
    D = numpy.eye(2)[None]

    def loss(weight):
        cost = weight * np.array([3.0])
        return objective(get_estimator("reinforce"), cost, 0.0, [(LOGITS[None], D)], 1.0)

    assert autograd.grad(loss)(2.0) == pytest.approx(3.0)


def test_log_probabilities_of_all_draws_add_up():
    D = numpy.eye(2)[None]

    def loss(logits, pairs):
        return objective(get_estimator("reinforce"), numpy.array([2.0]), 0.0, pairs(logits), 0.5)

    once = autograd.grad(loss)(LOGITS[None], lambda logits: [(logits, D)])
    apart = autograd.grad(loss)(
        LOGITS[None], lambda logits: [(logits[:, 0], D[:, 0]), (logits[:, 1], D[:, 1])]
    )
    numpy.testing.assert_allclose(once, 1.5 * (D - softmax(LOGITS)), atol=1e-15)
    numpy.testing.assert_allclose(apart, once)


def test_float32_logits_keep_a_float32_gradient_beside_float64_costs():
    D = numpy.eye(2, dtype=numpy.float32)[None]

    def loss(logits):
        return objective(get_estimator("reinforce"), numpy.array([2.0]), 0.0, [(logits, D)])

    assert autograd.grad(loss)(LOGITS[None].astype(numpy.float32)).dtype == numpy.float32


@pytest.mark.parametrize("cost", [numpy.zeros((3, 1)), numpy.zeros((3, 2)), numpy.float64(1)])
def test_objective_wants_one_cost_an_example(cost):
    D = numpy.broadcast_to(numpy.eye(2), (3, 2, 2))
    with pytest.raises(
        ValueError, match=r"cost must have one entry for each example .*\(3,\), got"
    ):
        objective(get_estimator("reinforce"), cost, 0.0, [(numpy.zeros((3, 2, 2)), D)])


# --- estimate_gradient, and estimators of one's own -----------------------------------------------------


@pytest.mark.parametrize("name", ANY_ARITY)
def test_a_derivative_that_is_handed_in_replaces_autograd(name):
    logits = generator().normal(size=(6, 2, 3))
    one, other = (
        estimate_gradient(get_estimator(name, tau=0.7), quadratic, logits, generator(), df_dD=df)
        for df in (None, autograd.elementwise_grad(quadratic))
    )
    numpy.testing.assert_array_equal(one, other)


def test_cost_only_estimators_never_ask_for_a_derivative():
    def f(D):
        assert type(D) is numpy.ndarray
        return (D[..., 0] > 0).sum(axis=-1)

    def forbidden(D):
        raise AssertionError

    gradient = estimate_gradient(
        get_estimator("reinforce"), f, LOGITS, generator(), df_dD=forbidden
    )
    assert gradient.shape == LOGITS.shape


def test_an_estimator_of_ones_own_works_everywhere():
    def pull_back(logits, D, g, rng):
        return straight_through(logits, D, g) / 2 + 0 * rng.random()

    half = Estimator("half", "corner", pull_back)
    g = numpy.array([1.0, 3.0])
    expected = softmax_vjp(softmax(LOGITS), g) / 2

    def f(D):
        return np.sum(D * g, axis=(-2, -1))

    numpy.testing.assert_allclose(estimate_gradient(half, f, LOGITS, generator()), expected)

    def loss(logits):
        D = stochastic_node(logits, half, generator())
        return objective(half, f(D), 0.0, [(logits, D)])

    numpy.testing.assert_allclose(autograd.grad(loss)(LOGITS[None]), expected[None])


def test_an_estimator_of_several_evaluations_evaluates_f_itself():
    gradient = estimate_gradient(SEVERAL, lambda D: numpy.ones(2), LOGITS, generator())
    numpy.testing.assert_array_equal(gradient, 1)


def test_logits_of_one_variable_get_an_axis_first():
    with pytest.raises(
        ValueError, match=r"\(\.\.\., L, n\), got \(2,\); give one variable as logits\["
    ):
        estimate_gradient(get_estimator("st"), quadratic, LOGITS[0], generator())


def test_costs_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"f must map .* sum over the last two axes"):
        estimate_gradient(get_estimator("reinforce"), lambda D: D.sum(axis=-1), LOGITS, generator())


def test_a_cost_that_writes_into_its_argument_leaves_the_sample_alone():
    def f(D):
        total = quadratic(D.copy())
        D *= 0
        return total

    for name in ("reinforce", "zgr"):
        gradients = [
            estimate_gradient(
                get_estimator(name),
                cost,
                LOGITS,
                generator(),
                df_dD=autograd.elementwise_grad(quadratic),
            )
            for cost in (f, quadratic)
        ]
        numpy.testing.assert_array_equal(*gradients)
    numpy.testing.assert_array_equal(exact_gradient(f, LOGITS), exact_gradient(quadratic, LOGITS))


def test_a_sample_that_is_written_into_leaves_the_backward_pass_alone():
    def loss(logits, spoil):
        D = stochastic_node(logits, get_estimator("zgr"), generator())
        if spoil:
            D._value *= 0
        return np.sum(D * LOGITS)

    one, other = (autograd.grad(loss)(LOGITS, spoil) for spoil in (False, True))
    numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (2,)])
def test_a_gradient_of_another_shape_is_refused(shape):
    """It would broadcast in silence, and a diagnosis would find no variance."""
    own = Estimator("mine", "corner", lambda logits, D, g, rng: numpy.zeros(shape))
    wanted = r"'mine' must return a gradient of the shape of logits, \(2, 2\), got .*; look at"
    with pytest.raises(ValueError, match=wanted):
        estimate_gradient(own, quadratic, LOGITS, generator())
    with pytest.raises(ValueError, match=wanted):
        autograd.grad(lambda x: np.sum(stochastic_node(x, own, generator())))(LOGITS)


def test_no_variables_at_all():
    with pytest.raises(ValueError, match=r"L >= 1 variables .*, got \(0, 3\); give one"):
        estimate_gradient(get_estimator("st"), quadratic, numpy.zeros((0, 3)), generator())


# --- Second derivatives ---------------------------------------------------------------------------------


def cubic(D):
    return np.sum(D * np.array([1.0, 2.0, 4.0])) ** 3 / 10 + np.sum(D * np.array([1.0, 0.0, -2.0]))


ROW = numpy.array([0.5, -0.2, 0.1])


@pytest.mark.parametrize("name", ["st", "zgr", "reinmax", "foust"])
def test_the_second_derivative_is_that_of_the_estimators_own_jacobian(name):
    """With g = f'(point) and A(theta) g the pull-back: d(A g)/d theta + A f'' A', D held still."""
    n = 2 if name == "foust" else 3
    estimator, theta = get_estimator(name, tau=0.7), ROW[:n]

    def f(D):
        return cubic(np.concatenate([D, numpy.zeros(3 - n)]))

    def at(theta):
        point, D = estimator.sample(theta, generator(3))
        return point, D

    point, D = at(theta)
    g, second = autograd.grad(f)(point), autograd.hessian(f)(point)
    A = numpy.stack([estimator.pull_back(theta, D, e, None) for e in numpy.eye(n)], axis=-1)
    steps = 1e-5 * numpy.eye(n)
    moved = [
        (estimator.pull_back(theta + h, D, g, None) - estimator.pull_back(theta - h, D, g, None))
        / 2e-5
        for h in steps
    ]
    expected = numpy.stack(moved, axis=-1) + A @ second @ A.T
    found = autograd.jacobian(
        autograd.grad(lambda x: f(stochastic_node(x, estimator, generator(3))))
    )(theta)
    numpy.testing.assert_allclose(found, expected, atol=1e-8)
    assert abs(numpy.stack(moved)).max() > 1e-3  # what used to be dropped


@pytest.mark.parametrize("name", ["st", "zgr", "reinmax", "gs", "foust"])
def test_a_weight_outside_the_node_moves_its_gradient(name):
    logits = numpy.array([[0.3, -0.2]])

    def gradient(weight):
        def loss(x):
            return np.sum(weight * stochastic_node(x, name, generator(3)) ** 3)

        return autograd.grad(loss)(logits)

    expected = (gradient(2 + 1e-6) - gradient(2 - 1e-6)) / 2e-6
    numpy.testing.assert_allclose(autograd.jacobian(gradient)(2.0), expected, atol=1e-8)
    assert abs(expected).max() > 1e-3


def test_the_second_derivative_of_the_relaxation_is_a_difference_of_first_ones():
    estimator = get_estimator("gs", tau=0.7)
    gradient = autograd.grad(lambda x: cubic(stochastic_node(x, estimator, generator(3))))
    expected = [(gradient(ROW + h) - gradient(ROW - h)) / 2e-6 for h in 1e-6 * numpy.eye(3)]
    numpy.testing.assert_allclose(autograd.jacobian(gradient)(ROW), expected, atol=1e-7)


REFUSED = [
    "st-gs",
    "gr-mc10",
    "gr",
    "reinmax-rao",
    "reinmax-rao-mc3",
    "reinmax-cv",
    "decoupled-st-gs",
]


@pytest.mark.parametrize("name", REFUSED)
def test_second_derivatives_that_do_not_exist_here_are_refused(name):
    gradient = autograd.grad(lambda x: cubic(stochastic_node(x, get_estimator(name), generator())))
    with pytest.raises(
        TypeError, match=rf"'{name}' has no second derivatives .*, got .*; use st, zgr"
    ):
        autograd.jacobian(gradient)(ROW)


def test_the_mean_second_derivative_of_the_objective_is_that_of_the_expectation():
    """For the score function, over all outcomes; the gradient of the gradient alone would lack a term."""

    def of_one_variable(D):
        return quadratic(D[..., None, :])

    hessian = numpy.zeros((3, 3))
    for D, pi in zip(numpy.eye(3), softmax(ROW), strict=True):
        pair = D[None]

        def loss(x, pair=pair):
            cost = of_one_variable(pair)
            return objective(get_estimator("reinforce"), cost, 0.0, [(x[None], pair)], 3.0)

        hessian += pi * autograd.hessian(loss)(ROW)
    steps = 1e-5 * numpy.eye(3)[:, None]
    expected = [
        (exact_gradient(quadratic, ROW[None] + h) - exact_gradient(quadratic, ROW[None] - h))[0]
        / 2e-5
        for h in steps
    ]
    numpy.testing.assert_allclose(hessian, expected, atol=1e-8)


def test_a_checkpointed_function_that_makes_its_own_generator_draws_one_sample():
    estimator = get_estimator("gs", tau=0.5)

    def f(x, seed):
        return cubic(stochastic_node(x, estimator, generator(seed)))

    plain, checkpointed = (autograd.grad(g)(ROW, 3) for g in (f, autograd.checkpoint(f)))
    numpy.testing.assert_array_equal(plain, checkpointed)


@pytest.mark.parametrize("name", ["st", "gs", "reinforce"])
def test_a_checkpointed_function_that_shares_a_generator_is_refused(name):
    """Its second run would draw another sample, and pull back from that one."""
    rng = generator()

    def f(x):
        return np.sum(x) + cubic(stochastic_node(x, get_estimator(name), rng))

    with pytest.raises(
        ValueError, match=r"rng must be made inside .*, got a generator that .*; make"
    ):
        autograd.grad(autograd.checkpoint(f))(ROW)
    f(ROW)  # a look at the cost before is no reason to refuse a gradient
    autograd.grad(f)(ROW)


def test_two_nodes_of_a_checkpointed_function_share_the_generator_that_it_makes():
    def f(x):
        rng = generator(3)
        return sum(cubic(stochastic_node(x, get_estimator("st"), rng)) for _ in range(2))

    plain, checkpointed = (autograd.grad(g)(ROW) for g in (f, autograd.checkpoint(f)))
    numpy.testing.assert_array_equal(plain, checkpointed)


def test_a_name_does_wherever_an_estimator_does():
    logits = np.log([[0.2, 0.3, 0.5]])
    draw = np.random.default_rng
    for name in ("zgr", "gr", "reinforce"):
        estimator = rbst.get_estimator(name)
        named = rbst.estimate_gradient(name, QUADRATIC.f, logits, draw(0))
        assert_array_equal(named, rbst.estimate_gradient(estimator, QUADRATIC.f, logits, draw(0)))
        node = rbst.stochastic_node(logits, name, draw(0))
        assert_array_equal(node, rbst.stochastic_node(logits, estimator, draw(0)))
        terms = (np.ones(1), 0.0, [(logits, np.eye(3)[[0]])])
        assert rbst.objective(name, *terms) == rbst.objective(estimator, *terms)


def test_a_seed_is_taken_where_all_that_is_random_is_drawn_at_once_and_nowhere_else():
    """Elsewhere D and the noise given D would be made of the same numbers."""
    logits, D, g = np.log([[0.2, 0.3, 0.5]]), np.eye(3)[[0]], np.ones((1, 3))
    named = rbst.estimate_gradient("gr-mc10", QUADRATIC.f, logits, 3)
    same = rbst.estimate_gradient("gr-mc10", QUADRATIC.f, logits, np.random.default_rng(3))
    assert_array_equal(named, same)
    rloo = rbst.get_estimator("rloo", num_samples=2)
    seeded = rbst.diagnose(rloo, QUADRATIC.f, logits, rng=3, num_samples=50)
    drawn = rbst.diagnose(rloo, QUADRATIC.f, logits, rng=np.random.default_rng(3), num_samples=50)
    assert seeded.variance == drawn.variance
    for call in (
        lambda: rbst.sample_categorical(logits, 0),
        lambda: rbst.gumbel_rao(logits, D, g, tau=0.5, num_samples=2, rng=0),
        lambda: rbst.stochastic_node(logits, "zgr", 0),
        lambda: rbst.estimate_gradient("zgr", QUADRATIC.f, logits, True),
    ):
        with pytest.raises(TypeError, match="default_rng"):
            call()


def test_indices_in_place_of_one_hot_rows_are_told_one_hot():
    logits = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"rbst.one_hot\(D, 3\)"):
        rbst.zgr(logits, np.array([0, 2]), np.ones((2, 3)))
