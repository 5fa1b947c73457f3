"""The arrows between the modules, and what ``import rbst`` brings along."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rbst

ROOT = Path(rbst.__file__).parent

# A module may import modules of lower rank and those of its own package, and no others. The leaves
# (rank 0 and 1) may be imported by anyone.
RANKS = {
    "_autograd_device": -1,
    "_array": 0,
    "_checks": 1,
    "_terminal": 0.3,
    "_progress": 0.6,
    "_files": 1,
    "_load": 1,
    "_processes": 0,
    "_tables": 0,
    "categorical": 2,
    "_derivative": 3,
    "problems": 3,
    "gumbel": 3,
    "_blocks": 3,
    "quadrature": 3,
    "boolean": 4,
    "enumeration": 4,
    "rao_blackwell": 4.5,
    "estimators": 5,
    "autodiff": 6,
    "claims": 6.5,
    "diagnostics": 7,
    "temperature": 8,
    "models": 7,
    "plotting": 7,
    "crosscheck": 8,
    "testing": 9,
    "vectors": 8,
    "experiments": 8,
    "cli": 9,
    "__main__": 10,
}
MODULES = [path.relative_to(ROOT.parent).with_suffix("") for path in sorted(ROOT.rglob("*.py"))]
MODULES = [module for module in MODULES if str(module) != "rbst/__init__"]


def imported(path):
    """Every module of the package that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "rbst")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports in full"
            if node.module == "rbst":
                yield from (f"rbst.{alias.name}" for alias in node.names)
            elif node.module.startswith("rbst."):
                yield node.module


def part(name):
    """``rbst.models.vae`` belongs to ``models``."""
    return name.split(".")[1]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_arrows_point_one_way(module):
    own = module.parts[1]
    found = {part(name) for name in imported(ROOT.parent / module.with_suffix(".py"))}
    found -= {own, "__version__"}  # the version is a string that the package sets before it is used
    if own == "data":
        assert found <= {"_files"}  # data knows nothing of estimators or models
        return
    assert own in RANKS, f"give {own} a rank"
    if own in {"experiments", "plotting"}:
        found -= {"data"}
    if own not in {"experiments", "cli"}:
        assert "plotting" not in found
    if own == "plotting":
        assert not found & {"estimators", "autodiff"}
    assert all(RANKS.get(name, 99) < RANKS[own] for name in found), (
        f"{own} may import only what is below it, and imports {sorted(found)}"
    )


def test_the_arrows_are_really_read():
    assert "rbst.estimators.registry" in set(imported(ROOT / "autodiff.py"))
    assert "rbst.categorical" in set(imported(ROOT / "autodiff.py"))  # from rbst import categorical


def test_the_public_names_exist_and_are_sorted():
    assert list(rbst.__all__) == sorted(rbst.__all__)
    for name in rbst.__all__:
        assert getattr(rbst, name).__doc__


@pytest.mark.parametrize(
    "path",
    [
        "estimators",
        "categorical.py",
        "gumbel.py",
        "enumeration.py",
        "rao_blackwell.py",
        "autodiff.py",
    ],
)
def test_public_functions_have_type_hints(path):
    for file in (ROOT / path).rglob("*.py") if (ROOT / path).is_dir() else [ROOT / path]:
        if not file.exists():
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = [*node.args.args, *node.args.kwonlyargs]
                missing = [a.arg for a in arguments if a.annotation is None and a.arg != "self"]
                assert not missing, f"{file.name}: {node.name} lacks types of {missing}"
                assert node.returns is not None, f"{file.name}: {node.name} lacks a return type"
    assert (ROOT / "py.typed").exists()


def test_import_rbst_is_quick():
    """Neither scipy nor matplotlib, models, experiments, CuPy or Dask come along."""
    heavy = (
        "scipy",
        "matplotlib",
        "tqdm",
        "cupy",
        "rbst._autograd_device",
        "dask",
        "rbst.models",
        "rbst.experiments",
        "rbst.data",
    )
    code = f"import rbst, sys; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert result.stdout.strip() == "[]"


def test_importing_draws_nothing_from_the_global_generator():
    code = (
        "import numpy as np; np.random.seed(0); before = np.random.get_state()[1].tobytes()\n"
        "import rbst; rbst.sample_categorical(np.zeros(3), np.random.default_rng(0))\n"
        "print(before == np.random.get_state()[1].tobytes())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert result.stdout.strip() == "True"
