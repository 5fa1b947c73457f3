"""``rbst compare`` as a ruler that decides: batches, budgets, the place of zero, and the user's own."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest

from rbst import Estimator, diagnose, get_estimator
from rbst.cli import main
from rbst.estimators.registry import ESTIMATORS, differentiates
from rbst.experiments.compare import count_evaluations
from rbst.problems import QUADRATIC

pytestmark = pytest.mark.usefixtures("unrendered")

MINE = """
import autograd.numpy as np
from rbst import Estimator, get_estimator, sample_categorical, zgr
from rbst.problems import QUADRATIC as problem

T = np.array([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0], [2.0, 2.0, 0.5]])

def f(D):
    return np.sum(D[..., 0], axis=-1) ** 2 + np.sin(np.sum(D[..., 1], axis=-1))

def stepwise(D):
    return (D[..., 0] > 0.5).sum(axis=-1) * 1.0

stepwise.df_dD = lambda D: 1.0 + 0 * D

def for_three(D):
    return D[..., 2, 0]

def looked_up(D):
    return T[D[..., 0, :].argmax(-1), D[..., 1, :].argmax(-1)]

def nan(D):
    return f(D) * np.nan

half = Estimator("half", "corner", lambda logits, D, g, rng: zgr(logits, D, g) / 2, given_D="fixed")
other_half = half

def own_gr(tau):
    gr = get_estimator("gr", tau=tau)
    return Estimator("own-gr", "corner", gr.pull_back, given_D="gumbel-rao", tau=tau, num_samples=np.inf)

def pair(f, logits, rng):
    D = sample_categorical(np.broadcast_to(logits, (2, *logits.shape)), rng)
    cost = f(D)
    return (cost[0] - cost[1])[..., None, None] * (D[0] - D[1]) / 2

rloo = Estimator("rloo", "several", estimate=pair)
three = 3
"""


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """Run the command in a folder that holds ``mine.py``; its status, results, and what it prints."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)

    def run(*words):
        shape = ["--n", "3", "--variables", "2", "--tau", "0.5"]
        status = main(["compare", "--quick", *shape, *words, "--out", "out"])
        file = tmp_path / "out" / "results.json"
        results = json.loads(file.read_text())["results"] if file.exists() else None
        return status, results, capsys.readouterr()

    return run


def ranks(folder):
    """The names in the second table of ``table.md``, from the best on."""
    lines = (folder / "out" / "table.md").read_text().split("| estimator ")[2].splitlines()[2:]
    return [line.split("|")[1].strip() for line in lines if line.startswith("|")]


def test_a_ranking_by_the_mse_of_a_batch_knows_what_zero_scores(compare, tmp_path):
    status, results, _ = compare("--batch", "50")
    assert status == 0
    scores = {d["estimator"]: d["relative_mse"] for d in results["diagnoses"]}
    for d in results["diagnoses"]:
        expected = (d["bias_squared"] + d["variance"] / 50) / d["gradient_squared"]
        assert d["relative_mse"] == pytest.approx(expected)
    order = ranks(tmp_path)
    place = order.index("**returning zero**")
    assert order[:place] == sorted((n for n in scores if scores[n] < 1), key=scores.get)
    assert order[place + 1 :] == sorted((n for n in scores if scores[n] >= 1), key=scores.get)


def test_one_budget_buys_batches_of_different_sizes(compare):
    status, results, _ = compare("--budget", "100", "--derivative-cost", "1", "--estimator", "reinforce",
                                 "--estimator", "zgr", "--estimator", "mine:rloo", "--function", "mine:f")  # fmt: skip
    assert status == 0
    batches = {d["estimator"]: d["batch"] for d in results["diagnoses"]}
    assert batches == {"reinforce": 100, "zgr": 50, "rloo": 50}


def test_evaluations_of_an_estimator_that_makes_its_own_are_counted():
    from autograd import elementwise_grad

    def estimate(f, logits, rng):
        f(np.zeros((3, *logits.shape)))
        return elementwise_grad(f)(np.zeros((2, *logits.shape)))[0]

    own = Estimator("own", "several", estimate=estimate)
    assert count_evaluations(own, QUADRATIC.f, np.zeros((2, 3))) == (5, 2)


@pytest.mark.parametrize("entry", ESTIMATORS, ids=lambda entry: entry.name)
def test_the_evaluations_of_every_estimator_can_be_counted(entry):
    estimator = get_estimator(entry.with_samples(3), tau=0.5)
    values, derivatives = count_evaluations(estimator, QUADRATIC.f, np.zeros((2, 2)))
    assert values >= 1
    assert (derivatives > 0) == differentiates(estimator)


@pytest.mark.slow
def test_functions_and_estimators_of_ones_own(compare):
    names = ("mine:half", "mine:own_gr", "mine:rloo", "gr", "gr", "reinforce")
    words = [word for name in names for word in ("--estimator", name)]
    status, results, captured = compare("--function", "mine:f", "--tau", "1", "--tau", "1", *words)
    assert status == 0
    found = {(d["estimator"], d["tau"]): d for d in results["diagnoses"]}
    assert set(found) == {("half", None), ("own-gr", 0.5), ("own-gr", 1.0), ("rloo", None),
                          ("gr", 0.5), ("gr", 1.0), ("reinforce", None)}  # fmt: skip
    assert len(results["diagnoses"]) == len(found)
    assert found["own-gr", 1.0]["mse"] == pytest.approx(found["gr", 1.0]["mse"])
    rloo = found["rloo", None]
    assert abs(rloo["bias_squared"]) < 4 * rloo["bias_squared_error"]  # unbiased
    assert "f = mine:f" in captured.out


def test_a_problem_or_a_derivative_of_ones_own(compare):
    _, results, _ = compare("--function", "mine:problem", "--estimator", "zgr", "--seed", "3")
    logits = np.array(results["logits"])
    assert (
        results["diagnoses"][0]["mse"]
        == diagnose("zgr", QUADRATIC.f, logits, df_dD=QUADRATIC.df_dD).mse
    )


def test_a_derivative_beside_a_function_replaces_autograd(compare):
    status, results, _ = compare("--function", "mine:stepwise", "--estimator", "st")
    assert (status, results["left_out"]) == (0, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--function mine:nope", "the module 'mine' has no 'nope'"),
        ("--function mine:three", "must be a function of arrays (..., L, n)"),
        ("--function mine:for_three", "f must take arrays of shape (..., 2, 3), got IndexError: "),
        ("--function mine:nan", "the value of f must be finite, got NaN"),
        ("--function no_such_module:f", "run the command in the folder of the module"),
        ("--function f:", "must be given as MODULE:NAME, got 'f:'"),
        ("--estimator mine:f", "a function from a temperature to one, got"),
        ("--estimator mine:three", "a function from a temperature to one, got a int"),
        ("--estimator mine:half --estimator mine:other_half", "got two called 'half'; rename one"),
        ("--estimator stgs", "did you mean 'st-gs'?"),
        ("--batch 0", "--batch must be at least 1, got 0"),
        ("--batch 2 --budget 3", "--budget decides the batch"),
        ("--budget nan", "--budget must be finite and at least 1, got nan"),
        ("--derivative-cost -1", "--derivative-cost must be at least 0 and finite, got -1.0"),
        ("--baseline nan", "baseline must be finite, got NaN"),
        ("--scale inf", "--scale must be at least 0 and finite, got inf"),
    ],
)
def test_bad_input_is_a_sentence_before_any_work(compare, words, message, tmp_path):
    status, _, captured = compare(*words.split())
    assert status == 2
    assert message in captured.err
    assert not (tmp_path / "out").exists()


def test_temperatures_and_names_given_twice_are_one_run(compare):
    _, results, _ = compare("--tau", "0.5", "--num-samples", "7", "--num-samples", "7")
    names = [(d["estimator"], d["tau"]) for d in results["diagnoses"]]
    assert len(names) == len(set(names))
    assert get_estimator("gr-mc7").name in dict(names)


def test_the_screen_ends_with_the_best_and_the_place_of_zero_in_80_columns(compare, tmp_path):
    """Were two tables of up to 110 columns, whose last lines were the worst estimators."""
    _, results, captured = compare("--batch", "20")
    head, _, table = captured.out.partition("Best first, by the MSE of the mean of 20 estimates")
    assert "below 1 is better than returning zero" in " ".join(table.split())
    assert max(map(len, captured.out.splitlines()[1:])) <= 80
    shown = table.split("---\n")[1].splitlines()
    assert len(shown) <= 17
    order = [name.strip("*") for name in ranks(tmp_path)]
    assert [line.split("  ")[0] for line in shown[:6]] == order[:6]
    assert "returning zero" in [line.split("  ")[0] for line in shown]
    named = len([line for line in shown if line.strip() != "..."])
    assert f"other {len(order) - named} rows" in " ".join(table.split())
    assert head.count("left out: ") == len(set(results["left_out"].values()))


def test_logits_of_ones_own(compare):
    given = "0.25 -0.75 1; 0.5 0 -inf"
    _, results, captured = compare("--function", "mine:f", "--logits", given, "--estimator", "zgr")
    logits = np.array([[0.25, -0.75, 1], [0.5, 0, -np.inf]])
    # JSON has no infinity: None, which is NaN.
    np.testing.assert_array_equal(np.isfinite(np.array(results["logits"], float)), logits > -np.inf)
    f = importlib.import_module("mine").f
    assert results["diagnoses"][0]["mse"] == diagnose("zgr", f, logits).mse
    assert "L = 2 variables, n = 3 categories, logits 0.25" in " ".join(captured.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--logits", "1 2; 3"), "logits must be rows of numbers of one length, got '1 2; 3'"),
        (
            ("--logits", "1 2 3", "--n", "2"),
            r"--logits has shape \(1, 3\), got --n 2 too; leave --n out",
        ),
        (("--logits", "1 nan"), "logits must be finite or -inf"),
        (("--logits", ""), "logits must have shape"),
    ],
)
def test_logits_that_are_none_are_refused_before_a_folder_is_made(
    compare, tmp_path, words, message
):
    status, _, captured = compare(*words)
    assert status == 2
    assert re.search(message, captured.err)
    assert not (tmp_path / "out").exists()


def test_an_own_function_is_named_once(compare):
    _, _, captured = compare("--function", "mine:f", "--estimator", "zgr")
    assert captured.out.count("mine:f") == 1


@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # autograd says less
def test_a_table_that_is_looked_up_leaves_out_what_needs_a_derivative(compare):
    """Stood in the ranking with the MSE of returning zero, 'exact'."""
    words = [word for name in ("gr", "zgr", "reinforce") for word in ("--estimator", name)]
    status, results, captured = compare("--function", "mine:looked_up", *words)
    assert status == 0
    assert [d["estimator"] for d in results["diagnoses"]] == ["reinforce"]
    assert set(results["left_out"]) == {"gr", "zgr"}
    assert "left out: gr, zgr (f must have a derivative in D" in " ".join(captured.out.split())
    assert "against-samples.svg" not in captured.err  # shows estimators that were left out


def test_a_negative_bias_squared_has_a_note(compare, tmp_path):
    for seed in range(9):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        _, results, _ = compare("--estimator", "rloo", "--seed", str(seed))
        text = (tmp_path / "out" / "table.md").read_text()
        negative = results["diagnoses"][0]["bias_squared"] < 0
        assert ("A bias^2 below 0" in text) == negative
        if negative:
            return
    raise AssertionError("no seed gave one")
