"""The cross-check: it accepts what is right, rejects what is wrong, and says why."""

import json
import os
import pty
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import suspects
from suspects import CAUSES, SUSPECTS

from rbst import (
    exact_gumbel_rao,
    gumbel_rao,
    reinmax,
    score_function,
    st_gumbel_softmax,
    straight_through,
    zgr,
)
from rbst.crosscheck import check, list_battery
from rbst.crosscheck.battery import FALSE_ALARM_RATE
from rbst.crosscheck.laws import checkable, get_law
from rbst.crosscheck.moments import Sums, covariance_test, mean_test, needed_noncentrality

FEW = 6000  # gradients a row: gross mistakes show at once


def without_shared_noise(logits, D, df_dD, *, tau, num_samples, rng):
    return gumbel_rao(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)


def plain_score_function(logits, D, cost):
    return score_function(logits, D, cost)


def reinmax_rao(logits, D, df_dD, *, tau, num_samples, rng):
    pi = np.exp(logits - logits.max(axis=-1, keepdims=True))
    pi /= pi.sum(axis=-1, keepdims=True)
    theta_D = np.log((pi + D) / 2)
    first = gumbel_rao(theta_D, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)
    return 2 * first - straight_through(logits, D, df_dD) / 2


RIGHT = (
    (gumbel_rao, "gr-mc10"),
    (without_shared_noise, "gr-mc3"),
    (st_gumbel_softmax, "st-gs"),
    (suspects.draws_right, "st-gs"),
    (suspects.right, "gr-mc10"),
    (straight_through, "st"),
    (zgr, "zgr"),
    (reinmax, "reinmax"),
    (exact_gumbel_rao, "gr"),
    (reinmax_rao, "reinmax-rao-mc2"),
    (plain_score_function, "reinforce"),
    (suspects.ReadBeforeUpdate(), "reinforce"),
)


def name_of(value):
    return getattr(value, "__name__", type(value).__name__) if callable(value) else None


def assert_passes(report):
    assert report.passed, "\n".join(map(str, report.failures))


# --- What is right passes, what is wrong fails and is told why -----------------------------------------


@pytest.mark.parametrize(("implementation", "estimator"), RIGHT, ids=name_of)
def test_the_right_ones_pass(implementation, estimator):
    for seed in range(2):
        report = check(implementation, estimator, samples=FEW, seed=seed)
        assert_passes(report)
        skipped = [row.property for row in report.rows if row.verdict == "skip"]
        assert set(skipped) <= {"covariance, n = 10, tau = 0.5"}  # ten D share few draws


@pytest.mark.parametrize(("suspect", "estimator", "cause"), CAUSES, ids=name_of)
def test_the_wrong_ones_fail_and_the_cause_is_named(suspect, estimator, cause):
    report = check(suspect, estimator, samples=2 * FEW)
    assert not report.passed
    causes = {row.cause for row in report.failures}
    assert any(cause in text for text in causes), causes


def test_every_suspect_has_a_cause():
    examined = {suspect for suspect, *_ in CAUSES}
    assert {suspect for suspect, _ in SUSPECTS} <= examined


def test_what_is_said_of_a_wrong_mean_is_said_of_every_case_that_shows_it():
    report = check(suspects.theta_twice, samples=FEW, dtype="float64")
    wrong_means = [row for row in report.failures if row.property.startswith("mean, n = 3")]
    assert len(wrong_means) >= 3
    assert {row.cause for row in wrong_means} == {
        "matches theta counted twice: x of Eq. 9 contains it already"
    }


def scaled(factor):
    def implementation(logits, D, df_dD, *, tau, num_samples, rng):
        return factor * gumbel_rao(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)

    return implementation


def with_variance(factor):
    """The right mean, and ``factor`` times the right variance: K samples and one that weighs more."""

    def implementation(logits, D, df_dD, *, tau, num_samples, rng):
        K = num_samples
        weight = (1 + np.sqrt(1 - (1 + K) * (1 - factor))) / (
            1 + K
        )  # (1 - w)^2 / K + w^2 = factor / K
        many, one = (
            gumbel_rao(logits, D, df_dD, tau=tau, num_samples=number, rng=rng) for number in (K, 1)
        )
        return (1 - weight) * many + weight * one

    return implementation


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_one_per_cent_of_the_mean_is_caught_at_half_a_temperature(factor):
    report = check(scaled(factor), dtype="float64")
    rows = {row.property: row for row in report.rows}
    assert rows["mean, n = 3, tau = 0.5"].verdict == "fail"
    found = re.search(r"the mean is ([.0-9]+) times", rows["mean, n = 3, tau = 0.5"].cause)
    assert float(found[1]) == pytest.approx(factor, abs=0.002)


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_three_per_cent_of_the_variance_are_caught(factor):
    report = check(with_variance(factor), dtype="float64")
    rows = {row.property: row for row in report.rows}
    assert rows["mean, n = 3, tau = 0.5"].verdict == "pass"
    assert rows["covariance, n = 3, tau = 0.5"].verdict == "fail"


@pytest.mark.parametrize("estimator", ["gr-mc1", "gr-mc10", "gr-mc100", "st-gs"])
def test_the_default_battery_promises_as_much(estimator):
    report = check(
        without_shared_noise if "gr" in estimator else st_gumbel_softmax, estimator, dtype="float64"
    )
    rows = {row.property: row for row in report.rows}
    assert rows["mean, n = 3, tau = 0.5"].detects <= 0.01
    assert rows["covariance, n = 3, tau = 0.5"].detects <= 0.03


# --- The statistics ------------------------------------------------------------------------------------


def whitened_tests(rng, scale=1.0, shift=0.0, draws=5000):
    """p-values for Gaussian vectors whose mean and covariance are known."""
    root = np.array([[1.0, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.2, 0.1, 0.3]])
    sums = [Sums(k, np.arange(3.0) + k, root @ root.T) for k in range(2)]
    for s in sums:
        s.add(s.mean + shift + scale * rng.normal(size=(draws, 3)) @ root.T)
    return mean_test(sums)[2], covariance_test(sums)[2]


def test_p_values_are_uniform_for_the_right_law(rng):
    """400 pairs: a uniform p-value has mean 1/2 and standard error .0144; five of them are allowed."""
    p_values = np.array([whitened_tests(rng) for _ in range(400)])
    np.testing.assert_allclose(p_values.mean(axis=0), 0.5, atol=5 * 12**-0.5 / 20)
    assert (p_values < 0.1).mean(axis=0) == pytest.approx(0.1, abs=5 * 0.015)


def test_p_values_are_small_for_the_wrong_law(rng):
    assert whitened_tests(rng, shift=0.1)[0] < 1e-9
    assert whitened_tests(rng, scale=1.15)[1] < 1e-9
    assert whitened_tests(rng, scale=0.0)[1] < 1e-9


def test_what_a_test_would_catch_it_catches(rng):
    """At the non-centrality stated, 999 of 1000 noncentral chi-squares exceed the critical value."""
    from scipy.stats import chi2

    level, degrees = 1e-6 / 30, 6
    noncentrality = needed_noncentrality(degrees, level)
    statistics = rng.noncentral_chisquare(degrees, noncentrality, size=10**5)
    missed = (statistics < chi2.isf(level, degrees)).mean()
    assert missed == pytest.approx(1e-3, abs=5 * 1e-4)


@pytest.mark.slow
def test_200_seeds_raise_no_alarm():
    """The bound on the false-alarm rate, 1e-6 a battery, allows 2e-4 failures in 200 batteries."""
    p_values = []
    for seed in range(200):
        report = check(without_shared_noise, samples=4 * FEW, seed=seed, dtype="float64")
        assert_passes(report)
        p_values += [row.p_value for row in report.rows if row.p_value is not None]
    for level in (
        1e-2,
        1e-3,
    ):  # rows of one battery are independent: binomial, five standard errors
        allowed = 5 * np.sqrt(level / len(p_values))
        assert np.mean(np.array(p_values) < level) <= 1.5 * level + allowed


# --- The report, and the tool around it ----------------------------------------------------------------


def test_reports_repeat_themselves():
    first, second = (check(without_shared_noise, samples=FEW, seed=5).to_dict() for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_the_level_of_each_test_adds_up_to_the_false_alarm_rate():
    """A mean at the edge of its level fails, one inside passes: the level is the rate over the tests."""
    report = check(without_shared_noise, samples=FEW)
    tests = sum(row.p_value is not None for row in report.rows)
    assert report.false_alarm_rate == FALSE_ALARM_RATE == 1e-6
    assert 20 < tests < 40


def test_exceptions_are_rows_with_the_place_they_came_from():
    report = check(suspects.raises, samples=FEW)
    assert not any("\n" in row.found for row in report.rows)
    assert any("suspects.py" in row.cause for row in report.failures)


def test_an_interrupt_is_not_swallowed():
    def interrupted(logits, D, df_dD, *, tau, num_samples, rng):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(interrupted)


def test_what_an_implementation_prints_does_not_mix_with_the_report(capsys):
    def chatty(logits, D, df_dD, *, tau):
        print("hello")
        return straight_through(logits, D, df_dD, tau=tau)

    assert_passes(check(chatty, "st"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_a_budget_bounds_a_slow_implementation():
    """The budget cuts rows short and skips others: fewer gradients are asked for."""
    asked = {None: 0, 0.5: 0}
    for budget in asked:

        def slow(logits, D, df_dD, *, tau, num_samples, rng, budget=budget):
            asked[budget] += logits.size // logits.shape[-1]
            if budget is not None:
                time.sleep(1e-5 * logits.size)
            return without_shared_noise(logits, D, df_dD, tau=tau, num_samples=num_samples, rng=rng)

        report = check(slow, samples=4 * FEW, dtype="float64", budget=budget)
        assert report.passed
    assert asked[0.5] < asked[None] / 2
    assert any(row.verdict == "skip" for row in report.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "gr-mc"}, "unknown estimator"),
        ({"estimator": "gs"}, "known law given D"),
        ({"dtype": "float16"}, "float32 or float64"),
        ({"samples": 10}, "at least 1000"),
        ({"budget": 0}, "positive number of seconds"),
        ({"estimator": "reinforce", "draws_D": True}, "must be given D"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        check(gumbel_rao, **arguments)


def test_something_else_than_a_function():
    with pytest.raises(TypeError, match="callable"):
        check("gumbel_rao")


@pytest.mark.parametrize("name", checkable())
def test_every_checkable_estimator_has_a_battery(name):
    name = name.replace("K", "2")
    assert get_law(name).estimator == name
    assert len(list_battery(name)) > 20


def test_the_reference_of_a_law_is_the_estimator_itself(rng):
    """Exact mean and covariance of reinmax-rao against its own definition by sampling."""
    law = get_law("reinmax-rao-mc1")
    logits, D, g = np.array([0.25, -0.75, 1.0]), np.eye(3)[1], np.array([1.0, -2.0, 0.5])
    draws = 200_000
    rows = (np.broadcast_to(array, (draws, 3)) for array in (logits, D, g))
    h = reinmax_rao(*rows, tau=0.5, num_samples=1, rng=rng)
    covariance = law.covariance(logits, D, g, 0.5)
    errors = (h.mean(axis=0) - law.mean(logits, D, g, 0.5)) / np.sqrt(
        np.diagonal(covariance) / draws
    )
    assert abs(errors).max() < 5  # false alarms: 2e-6
    np.testing.assert_allclose(np.cov(h.T), covariance, atol=0.02 * covariance.max())


# --- The command ---------------------------------------------------------------------------------------

MODULE = """
from rbst import straight_through

def right(logits, D, df_dD, *, tau):
    return straight_through(logits, D, df_dD, tau=tau)

def wrong(logits, D, df_dD, *, tau):
    return tau * right(logits, D, df_dD, tau=tau)
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "rbst", "check", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_check_prints_a_table_and_exits_with_the_verdict(command):
    good, bad = (
        command("mine:right", "--estimator", "st"),
        command("mine:wrong", "--estimator", "st"),
    )
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "0 failed" in good.stdout
    assert "cause: off by 1/tau" in bad.stdout
    assert "\033" not in bad.stdout
    assert bad.stderr == ""


def test_check_prints_json(command):
    result = command("mine:wrong", "--estimator", "st", "--json", "--dtype", "float32")
    report = json.loads(result.stdout)
    assert report["schema"] == "rbst-check/1"
    assert report["passed"] is False
    assert result.returncode == 1
    assert {row["verdict"] for row in report["rows"]} == {"pass", "fail"}
    assert list(report) == sorted(report)


def test_check_lists_the_battery(command):
    result = command("--list")
    assert result.returncode == 0
    assert "shared noise, n = 3, tau = 0.5, float64" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "MODULE:FUNCTION"),
        (["mine"], "MODULE:FUNCTION"),
        (["mine:absent"], "has no 'absent'"),
        (["absent:right"], "cannot import"),
        (["mine:right", "--estimator", "nonsense"], "unknown estimator"),
    ],
)
def test_check_says_in_one_line_what_is_wrong(command, words, message):
    result = command(*words)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_colour_on_a_terminal_only(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    parent, child = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rbst", "check", "mine:wrong", "--estimator", "st"],
        cwd=tmp_path,
        stdout=child,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    os.close(child)
    output = b""
    try:
        while block := os.read(parent, 4096):
            output += block
    except OSError:  # the other end has been closed
        pass
    os.close(parent)
    assert process.wait() == 1
    assert b"\033[1;31mFAIL" in output


def test_import_rbst_does_not_bring_the_crosscheck_along():
    code = "import rbst, sys; print('rbst.crosscheck' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# --- The adapters --------------------------------------------------------------------------------------


@pytest.mark.examples
@pytest.mark.parametrize(
    ("script", "needs"),
    [
        ("torch_gumbel_softmax", ["torch"]),
        ("torch_gumbel_rao", ["torch"]),
        ("jax_gumbel_rao", ["jax"]),
        ("reinmax_package", ["torch", "reinmax"]),
    ],
)
def test_adapters_run_and_pass(script, needs, pytestconfig):
    for module in needs:
        pytest.importorskip(module)
    path = pytestconfig.rootpath / "examples" / "crosscheck" / f"{script}.py"
    result = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 failed" in result.stdout
