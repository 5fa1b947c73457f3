"""An f whose derivative says nothing of it is refused by whoever needs the derivative, and by nobody else."""

import autograd.numpy as anp
import numpy as np
import pytest

from rbst import (
    best_temperature,
    diagnose,
    estimate_gradient,
    exact_gradient,
    get_estimator,
)
from rbst.estimators.registry import ESTIMATORS, differentiates

LOGITS = np.array([[0.2, -0.4, 0.9], [0.0, 1.0, -1.0]])
TABLE = np.array([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0], [2.0, 2.0, 0.5]])
SMOOTH = np.array([1.0, 2.0, 4.0])
NAMES = [entry.with_samples(3) for entry in ESTIMATORS if entry.categories is None]
NEED_IT = [name for name in NAMES if differentiates(get_estimator(name))]
FLAT = r"f must have a derivative in D, got one that is 0 in variable \d at every outcome .*reinforce or rloo"


def looked_up(D):
    return TABLE[D[..., 0, :].argmax(-1), D[..., 1, :].argmax(-1)]


def half_looked_up(D):
    return anp.dot(D[..., 0, :], SMOOTH) ** 2 + SMOOTH[D[..., 1, :].argmax(-1)]


def compared(D):
    return 1.0 * (D[..., 0, 0] > 0.5) + anp.sum(D, axis=(-2, -1))


def summed(D):
    return anp.einsum("...i,...j,ij->...", D[..., 0, :], D[..., 1, :], TABLE)


# autograd's own sentence, of every f that does not depend on D
pytestmark = pytest.mark.filterwarnings("ignore:Output seems independent of input")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_that_is_looked_up_is_refused_by_estimators_that_need_a_derivative(name):
    """Returned 0, with the sentence 'Output seems independent of input' of autograd's own at most."""
    estimator = get_estimator(name, tau=0.7)
    if name in NEED_IT:
        with pytest.raises(ValueError, match=FLAT):
            estimate_gradient(estimator, looked_up, LOGITS, np.random.default_rng(0))
        with pytest.raises(ValueError, match=FLAT):
            diagnose(estimator, looked_up, LOGITS, rng=np.random.default_rng(0), num_samples=50)
    else:
        estimate_gradient(estimator, looked_up, LOGITS, np.random.default_rng(0))
        diagnose(estimator, looked_up, LOGITS, rng=np.random.default_rng(0), num_samples=50)


def test_the_best_temperature_of_a_table_that_is_looked_up_is_refused():
    with pytest.raises(ValueError, match=FLAT):
        best_temperature("gr", looked_up, LOGITS)


@pytest.mark.parametrize("f", [half_looked_up, compared])
def test_one_variable_without_a_derivative_is_enough_for_a_diagnosis(f):
    """A derivative that is equal in all categories moves nothing, and counts as none."""
    with pytest.raises(ValueError, match=FLAT):
        diagnose("zgr", f, LOGITS)
    diagnose("reinforce", f, LOGITS)


def test_the_cure_that_the_message_names_gives_the_same_costs_and_a_gradient():
    D = np.eye(3)[[[0, 1], [2, 2]]]
    np.testing.assert_allclose(summed(D), looked_up(D))
    assert diagnose("st", summed, LOGITS).bias_squared < 1e-20  # linear in each variable
    np.testing.assert_allclose(
        exact_gradient(summed, LOGITS), exact_gradient(looked_up, LOGITS), atol=1e-15
    )


def test_many_variables_are_looked_at_by_samples():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 40, 8))

    def f(D):
        return SMOOTH[D.argmax(-1) % 3].sum(axis=-1)

    with pytest.raises(ValueError, match=FLAT):
        estimate_gradient(get_estimator("gr-mc3"), f, logits, rng)


@pytest.mark.parametrize("name", [*NEED_IT, "reinforce"])
@pytest.mark.parametrize("constant", [lambda D: np.zeros(D.shape[:-2]), lambda D: 3 + 0 * D[..., 0, 0]])  # fmt: skip
def test_a_constant_may_have_no_derivative(name, constant):
    estimator = get_estimator(name)
    rng = np.random.default_rng(0)
    assert np.isfinite(estimate_gradient(estimator, constant, LOGITS, rng)).all()
    assert diagnose(estimator, constant, LOGITS, rng=rng, num_samples=50).bias_squared < 1e-3


def test_examples_with_constants_of_their_own_are_no_f_that_differs():
    """A decoder that starts from zeros: the cost depends on the example and not on D."""
    costs = np.arange(4.0)
    rng = np.random.default_rng(0)
    gradient = estimate_gradient(
        get_estimator("st"), lambda D: costs + 0 * D[..., 0, 0], np.zeros((4, 2, 3)), rng
    )
    np.testing.assert_array_equal(gradient, 0)


def test_a_corner_where_the_derivative_is_zero_is_allowed():
    def f(D):
        return anp.sum(anp.maximum(anp.dot(D, SMOOTH) - 3, 0), axis=-1)

    assert diagnose("st", f, LOGITS).variance > 0
    for seed in range(10):
        estimate_gradient(get_estimator("st"), f, LOGITS, np.random.default_rng(seed))
    impossible = np.array([[0.0, 0.0, -np.inf]])
    np.testing.assert_array_equal(
        estimate_gradient(get_estimator("st"), f, impossible, np.random.default_rng(0)), 0
    )


def test_a_derivative_that_was_given_is_believed():
    diagnose("st", looked_up, LOGITS, df_dD=np.zeros_like)
    estimate_gradient(
        get_estimator("st"), looked_up, LOGITS, np.random.default_rng(0), df_dD=np.zeros_like
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda D: np.sin(np.array(D[..., 0, 0])),
        lambda D: np.array([float(x) for x in D[..., 0, 0].ravel()]).reshape(D.shape[:-2]),
        lambda D: np.asarray(D[..., 0, 0], dtype=float),
    ],
)
def test_plain_numpy_is_told_of_autograd(f):
    cure = r"autograd must be able to differentiate f, got .*; write f with autograd\.numpy throughout, .*reinforce"
    with pytest.raises(ValueError, match=cure):
        estimate_gradient(get_estimator("st"), f, LOGITS, np.random.default_rng(0))
    with pytest.raises(ValueError, match=cure):
        diagnose("st", f, LOGITS)


def test_an_f_that_fails_of_itself_says_so():
    for error in (KeyError("mine"), TypeError("mine")):

        def f(D, error=error):
            raise error

        with pytest.raises(type(error), match="mine"):
            estimate_gradient(get_estimator("st"), f, LOGITS, np.random.default_rng(0))
