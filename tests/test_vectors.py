"""The test vectors: what is stored is what the code of today computes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rbst.estimators import ESTIMATORS
from rbst.vectors import SCHEMA, answers, make_vectors, write_vectors

STORED = "docs/vectors/rbst-vectors-1.json"
# Everything that answers() returns, or that follows from the noise by an exponential.
COMPUTED = {
    "gradient",
    "conditional_mean",
    "conditional_covariance",
    "exact_gradient",
    "point",
    "df_dD",
    "cost",
}


def read_vectors(path):
    content = json.loads(path.read_text())
    assert content["schema"] == SCHEMA
    return [
        {
            key: np.array(value, dtype=float) if isinstance(value, list) else value
            for key, value in case.items()
        }
        for case in content["cases"]
    ]


@pytest.fixture(scope="module")
def made():
    return make_vectors()


@pytest.fixture
def stored(pytestconfig):
    return read_vectors(pytestconfig.rootpath / STORED)


def assert_close(found, wanted):
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * max(1, abs(wanted).max()))


def test_the_file_of_the_release_is_small(pytestconfig):
    assert (pytestconfig.rootpath / STORED).stat().st_size < 10**6


def test_stored_inputs_are_made_again_and_outputs_follow_from_them(stored, made):
    assert [case["id"] for case in stored] == [case["id"] for case in made]
    for old, new in zip(stored, made, strict=True):
        assert old.keys() == new.keys(), old["id"]
        for key in old.keys() - COMPUTED:
            np.testing.assert_array_equal(old[key], new[key], err_msg=f"{old['id']}, {key}")
        for key in old.keys() & COMPUTED:
            assert_close(new[key], old[key])
        for key, value in answers(old).items():
            assert_close(value, old[key])


def test_every_registered_estimator_has_cases(stored):
    assert {case["estimator"] for case in stored} == {
        entry.with_samples(10) for entry in ESTIMATORS
    }


def test_cases_are_what_the_schema_says(stored):
    for case in stored:
        L, n = case["logits"].shape
        M = next((len(case[key]) for key in ("D", "point") if key in case), 0)
        shapes = {
            "D": (M, L, n),
            "df_dD": (M, L, n),
            "gradient": (M, L, n),
            "conditional_mean": (M, L, n),
            "conditional_covariance": (M, L, n, n),
            "exact_gradient": (L, n),
            "weights": (L, n),
            "point": (M, L, n),
            "cost": (M,),
            "uniforms": (M, L),
        }
        for key in shapes.keys() & case.keys():
            assert case[key].shape == shapes[key], (case["id"], key)
        if "exponentials" in case:
            K = case.get("num_samples", 1) + (case["estimator"] == "reinmax-cv")
            assert case["exponentials"].shape == (K, M, L, n)
        assert ("gradient" in case) == (M > 0)  # what evaluates f several times has a mean only
        assert np.isfinite(case.get("gradient", 0.0)).all()


@pytest.mark.parametrize("estimator", ["reinforce", "zgr"])
def test_the_mean_over_all_outcomes_of_an_unbiased_estimator_is_the_exact_gradient(
    stored, estimator
):
    """REINFORCE is unbiased for any cost, ZGR for a quadratic one of a single variable."""
    (case,) = (case for case in stored if case["id"] == f"{estimator}/one variable of three")
    weights = np.exp(case["logits"][0])
    probabilities = case["D"][:, 0] @ (weights / weights.sum())
    mean = (probabilities[:, None, None] * case["gradient"]).sum(axis=0)
    np.testing.assert_allclose(mean, case["exact_gradient"], atol=1e-12)


def test_means_and_covariances_agree_across_estimators(stored):
    """The mean given D does not depend on K, and is that of gr; K samples have 1/K of the covariance."""
    cases = {case["id"]: case for case in stored}
    checked = 0
    for name, case in cases.items():
        if case["estimator"] == "gr-mc10":
            one, limit = (cases[name.replace("gr-mc10", other)] for other in ("st-gs", "gr"))
            assert_close(case["conditional_mean"], one["conditional_mean"])
            np.testing.assert_allclose(case["conditional_mean"], limit["gradient"], atol=1e-9)
            assert_close(10 * case["conditional_covariance"], one["conditional_covariance"])
            checked += 1
    assert checked == 14


def test_two_runs_write_the_same_bytes(tmp_path):
    write_vectors(tmp_path / "a.json")
    command = [sys.executable, "-m", "rbst", "vectors", "--out", str(tmp_path / "b.json")]
    subprocess.run(command, check=True, capture_output=True)
    for suffix in ("json", "npz"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_both_files_hold_the_same_numbers(tmp_path, made, monkeypatch):
    monkeypatch.setattr("rbst.vectors.make_vectors", lambda: made[:5])
    write_vectors(tmp_path / "v.json")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as archive:
        assert str(archive["schema"]) == SCHEMA
        for case in read_vectors(tmp_path / "v.json"):
            for key, value in case.items():
                if not isinstance(value, str):
                    np.testing.assert_array_equal(archive[f"{case['id']}/{key}"], value)


def test_the_file_is_strict_json_with_sorted_keys(pytestconfig):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (pytestconfig.rootpath / STORED).read_text()
    content = json.loads(text, parse_constant=refuse)
    assert all(list(case) == sorted(case) for case in content["cases"])
    assert '"-Infinity"' in text


def test_files_that_exist_are_replaced_only_if_asked(tmp_path, made, monkeypatch):
    monkeypatch.setattr("rbst.vectors.make_vectors", lambda: made[:1])
    (tmp_path / "v.npz").write_text("precious")
    with pytest.raises(
        FileExistsError, match=r"v\.npz exists already; replace it with --overwrite"
    ):
        write_vectors(tmp_path / "v.json")
    assert (tmp_path / "v.npz").read_text() == "precious"
    write_vectors(tmp_path / "v.json", overwrite=True)
    assert len(read_vectors(tmp_path / "v.json")) == 1


def test_the_command_wants_a_json_file(tmp_path):
    command = [sys.executable, "-m", "rbst", "vectors", "--out", str(tmp_path / "v.txt")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "*.json" in result.stderr
