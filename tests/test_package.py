"""What a package index and a citation say of the package agrees with the package."""

import importlib.util
import re
from pathlib import Path

import pytest

import rbst

ROOT = Path(__file__).parent.parent
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def field(path: str, name: str) -> str:
    """The value of a field on a line of its own in a YAML file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.search(rf"^ *{name}: (.*)$", text, re.MULTILINE)[1].strip("\"'")


def test_the_changelog_has_what_is_released_and_what_is_not():
    sections = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert sections[0] == "Unreleased"
    for section in sections[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", section), section


def test_the_citation_is_of_the_newest_release():
    released = re.search(r"^## (\d.*) \((.*)\)$", CHANGELOG, re.MULTILINE)
    version, day = field("CITATION.cff", "version"), field("CITATION.cff", "date-released")
    assert (version, day) == released.groups()
    for page in ("README.md", "docs/citing.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert f"version = {{{version}}}" in text, page
        assert f"year    = {{{day[:4]}}}" in text, page


def test_the_conda_recipe_is_of_this_version_and_needs_what_the_package_needs():
    recipe = ROOT / "conda" / "recipe.yaml"
    if not recipe.exists():
        pytest.skip("the source archive leaves it out")
    assert field("conda/recipe.yaml", "version") == rbst.__version__
    needs = re.search(
        r"^dependencies = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    for need in re.findall(r'"(.*?)"', needs[1]):
        name, bound = need.split(">=")
        name = {"matplotlib": "matplotlib-base"}.get(name, name)
        assert f"    - {name} >={bound}\n" in recipe.read_text()


def test_every_yaml_file_is_one_and_the_recipe_takes_the_python_of_the_package():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which the extra 'docs' brings")
    folders = (ROOT, ROOT / "conda", ROOT / ".github", *(ROOT / ".github").glob("*/"))
    paths = [path for folder in folders for path in folder.glob("*.y*ml")]
    paths += [ROOT / "CITATION.cff", *ROOT.glob(".pre-commit-config.yaml")]
    read = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}
    assert all(isinstance(content, dict) for content in read.values())
    if recipe := read.get("recipe.yaml"):
        metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        least = re.search(r'requires-python = ">=(.*)"', metadata)[1]
        backend = re.search(r'requires = \["(.*?)"\]', metadata)[1].replace(">", " >")
        assert recipe["context"]["python_min"] == least
        assert backend in recipe["requirements"]["host"]


@pytest.fixture
def build_hook(monkeypatch):
    """The module that gives the package its README and its addresses."""
    pytest.importorskip("hatchling", reason="needs hatchling, which builds the package")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    return module


def metadata(module) -> dict:
    filled = {}
    module.Addresses(str(ROOT), {}).update(filled)
    return filled


def test_a_build_elsewhere_invents_no_address(build_hook):
    filled = metadata(build_hook)
    assert filled["urls"] == {"Paper": "https://arxiv.org/abs/2010.04838"}
    assert filled["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_release_has_absolute_links_only(build_hook, monkeypatch):
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://host.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    monkeypatch.setenv("GITHUB_REF_NAME", "v1.2.3")
    filled = metadata(build_hook)
    assert filled["urls"]["Source"] == "https://host.example/owner/name"
    text = filled["readme"]["text"]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "](https://host.example/owner/name/blob/v1.2.3/LICENSE)" in text
    assert "](https://host.example/owner/name/raw/v1.2.3/" in text  # an image
