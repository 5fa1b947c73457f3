"""What a type checker tells users: the package ships its types, and they are NumPy's arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RIGHT = """
import numpy as np
import rbst

logits = np.log(np.array([[0.2, 0.3, 0.5]]))
rng = np.random.default_rng(0)
D = rbst.sample_categorical(logits, rng)
gradient = rbst.gumbel_rao(logits, D, D, tau=0.5, num_samples=10, rng=rng)
length = float(np.sqrt((gradient**2).sum()))
largest = int(gradient.argmax(axis=-1)[0])
estimator = rbst.get_estimator("gr", tau=0.5)
row = rbst.exact_gradient(lambda D: D[..., 0, 0], logits).tolist()
variance: float = rbst.diagnose(estimator, lambda D: D[..., 0, 0], logits).variance
"""

WRONG = {
    "gradient.maen()": 'has no attribute "maen"',
    "text: str = gradient": "Incompatible types in assignment",
    "rbst.softmax('logits')": 'Argument 1 to "softmax"',
    "rbst.straight_through(logits, D, 2.0)": 'Argument 3 to "straight_through"',
    "rbst.gumbel_rao(logits, D, D, tau=0.5, samples=3, rng=rng)": "Unexpected keyword argument",
    "rbst.get_estimator('gr', tau='0.5')": 'Argument "tau" to "get_estimator"',
    "rbst.exact_gradient(2.0, logits)": 'Argument 1 to "exact_gradient"',
    "rbst.conditional_mean(logits, D, D, tau=0.5).shape + 1": "tuple",
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What ``mypy --strict`` prints for a script of a user's."""
    pytest.importorskip("mypy", reason="needs mypy, of the extra 'test'")
    folder = tmp_path_factory.mktemp("types")

    def check(script: str) -> list[str]:
        (folder / "script.py").write_text(script)
        command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "script.py"]
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout.splitlines()[:-1]

    return check


@pytest.mark.slow
def test_a_right_script_passes_a_strict_type_check(reports):
    assert reports(RIGHT) == []


def test_a_strict_type_check_reports_each_misuse_and_no_more(reports):
    script = RIGHT + "\n".join(WRONG)
    first = RIGHT.count("\n") + 1
    errors = [line for line in reports(script) if ": error:" in line]
    assert len(errors) == len(WRONG), "\n".join(errors)
    for number, (error, (line, told)) in enumerate(zip(errors, WRONG.items(), strict=True), first):
        assert error.startswith(f"script.py:{number}:"), f"{line}: {error}"
        assert told in error, f"{line}: {error}"
