"""Every tutorial runs, and the notebook that its page offers has the same code."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parent.parent / "tutorials").glob("[0-9][0-9]_*.py"))
EACH_TUTORIAL = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)

CONVERT = "from sphinx_gallery.notebook import python_to_jupyter_cli as convert; convert()"


def run(arguments, folder):
    """Run Python without a display, on one core; its error is the message of the failure."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """The notebooks that sphinx-gallery makes of the tutorials, by name, in a folder of their own."""
    pytest.importorskip("sphinx_gallery", reason="notebooks need the extra 'docs'")
    folder = tmp_path_factory.mktemp("notebooks")
    copies = [Path(shutil.copy(path, folder)).name for path in TUTORIALS]
    run(["-c", CONVERT, *copies], folder)
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.ipynb")}


def test_there_are_tutorials():
    assert TUTORIALS


@EACH_TUTORIAL
def test_each_page_asks_before_it_tells(path):
    text = path.read_text(encoding="utf-8")
    assert "**Before you" in text, "no prediction to make"
    assert re.findall(r"\*\*Exercise (\d)\.\*\*", text) in (["1", "2"], ["1", "2", "3"])
    for answer in text.split("# **Exercise")[1:]:
        assert re.match(r".*?\n\n# %%\n# \*\*Answer\.\*\*.*?\n\n.*?assert ", answer, re.DOTALL)


@EACH_TUTORIAL
def test_code_that_draws_is_marked_as_such(path):
    cells = path.read_text(encoding="utf-8").split("\n# %%\n")
    drawing = [cell for cell in cells if "plt.subplots(" in cell]
    unmarked = [cell for cell in drawing if not re.match(r"(# ?.*\n)*\n# Figure\n", cell)]
    assert not unmarked, f"begin the cell with '# Figure', which folds it: {unmarked[0][:200]}"


@pytest.mark.tutorial
@EACH_TUTORIAL
def test_tutorial_runs_alone(path, tmp_path):
    run([str(path)], tmp_path)


@pytest.mark.tutorial
@EACH_TUTORIAL
def test_code_of_the_notebook_is_that_of_the_script(path, notebooks):
    cells = notebooks[path.stem]["cells"]
    code = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    title, *script = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(title.value, ast.Constant)
    assert [ast.dump(step) for cell in code for step in cell.body] == list(map(ast.dump, script))


@pytest.mark.tutorial
@EACH_TUTORIAL
def test_text_of_the_notebook_is_markdown(path, notebooks):
    for cell in notebooks[path.stem]["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            left = re.findall(r":\w+:`.*?`|^\.\. \w+.*$|:label:.*$", text, re.MULTILINE)
            assert not left, f"reStructuredText that the converter does not know: {left}"
