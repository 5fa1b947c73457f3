"""What the README shows is what its code prints, and its two commands are the ones that are meant."""

import re
import subprocess
import sys
from pathlib import Path

import autograd.numpy as np

import rbst

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_print_what_stands_below_them():
    code, printed = (
        re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]
        for language in ("python", "text")
    )
    assert len(code.strip().splitlines()) <= 10
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == printed


def test_the_two_commands_stand_in_the_readme():
    assert "python -m pip install . && rbst vae\n" in README
    assert "python -m pip install -e '.[test]' && pytest -n auto\n" in README


def test_every_linked_file_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_what_is_said_of_a_quartic():
    logits = np.log([[0.2, 0.3, 0.5]])

    def quartic(D):
        return 10 + (D @ np.array([1.0, 2.0, 4.0]) - 2.5)[..., 0] ** 4

    zgr, gr = (
        rbst.diagnose(rbst.get_estimator(name, tau=0.5), quartic, logits).bias_squared ** 0.5
        for name in ("zgr", "gr")
    )
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert f"it has {zgr:.2f}, and `gr` {gr:.2f}." in text
