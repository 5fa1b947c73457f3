"""The site: every public name on it, no dead link, mathematics typeset, steps side by side or stacked.

The tests marked ``browser`` build the site (tutorials that have not changed since the last build are not
run again) and visit every page in headless Chromium, which can resolve no name but that of this machine:
whatever a page would fetch from elsewhere is an error on its console.
"""

import doctest
import pkgutil
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from rbst.estimators import ESTIMATORS

DOCS = Path(__file__).parent.parent / "docs"
WIDE, NARROW = 1400, 400


def names_on_the_api_page():
    """Each name that a table of the page lists, as it is imported."""
    module, names = "", []
    for line in (DOCS / "api" / "index.rst").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif entry := re.fullmatch(r"   ([\w.]+)", line):
            names.append(f"{module}.{entry[1]}")
    return names


def test_every_name_on_the_api_page_is_public_and_described():
    names = names_on_the_api_page()
    assert len(set(names)) == len(names)
    for name in names:
        assert "._" not in name, name
        assert pkgutil.resolve_name(name).__doc__, name


DOORS = ("rbst", "rbst.crosscheck", "rbst.data", "rbst.testing")


@pytest.mark.parametrize("door", DOORS)
def test_everything_that_a_public_module_exports_is_on_the_api_page(door):
    module = pytest.importorskip(door)
    missing = {f"{door}.{name}" for name in module.__all__} - set(names_on_the_api_page())
    assert not missing, "list it in docs/api/index.rst"


@pytest.mark.parametrize("page", ["index.md", "use_in_a_model.md"])
def test_the_examples_of_the_page_run(page):
    blocks = re.findall("^```pycon\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.S | re.M)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, page, None, None)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_code_of_the_guide_is_that_of_the_examples():
    page = (DOCS / "use_in_a_model.md").read_text(encoding="utf-8")
    blocks = re.findall("^```python\n(.*?)^```", page, re.S | re.M)
    examples = ("autograd_model", "torch_model", "torch_gumbel_rao", "jax_model")
    for name, block in zip(examples, blocks, strict=True):
        example = DOCS.parent / "examples" / f"{name}.py"
        assert block in example.read_text(encoding="utf-8"), f"copy it from {example.name}"


def test_the_glossary_has_a_row_for_each_name():
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("## Names of estimators")[1].splitlines() if "| `" in line]
    for row, entry in zip(rows, ESTIMATORS, strict=True):
        equation = entry.equation.replace(
            "'", "′"
        )  # which no typesetter takes for a quotation mark
        cells = (f"`{entry.name}`", equation, entry.bias, entry.evaluations, entry.source)
        cells = (cell.replace("|", "\\|") for cell in cells)
        assert row == f"| {' | '.join(cells)} |"


@pytest.fixture(scope="module")
def site():
    """The folder of the built site."""
    pytest.importorskip("sphinx_gallery", reason="the site needs the extra 'docs'")
    pytest.importorskip("furo", reason="the site needs the extra 'docs'")
    html = DOCS / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "-E", "-q", str(DOCS), str(html)],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr[-5000:]
    return html


class Page(HTMLParser):
    """The addresses that a page points at, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.anchors = [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[key] for key in ("href", "src") if attributes.get(key)]
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}


@pytest.mark.browser
def test_no_link_within_the_site_is_dead(site):
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for address in page.addresses:
            url = urlsplit(address)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.exists():
                dead.append(f"{path.relative_to(site)}: {address}")
            elif target in pages and unquote(url.fragment) not in pages[target].anchors:
                dead.append(f"{path.relative_to(site)}: no anchor {address}")
    assert not dead, "\n".join(dead)


@pytest.mark.browser
def test_each_tutorial_offers_its_notebook_and_its_script(site):
    scripts = sorted((DOCS.parent / "tutorials").glob("[0-9][0-9]_*.py"))
    assert scripts
    for script in scripts:
        names = {Path(a).name for a in Page(site / "tutorials" / f"{script.stem}.html").addresses}
        assert {f"{script.stem}.ipynb", script.name} <= names


@pytest.mark.browser
def test_no_page_of_the_api_shows_what_only_python_says(site):
    pages = sorted((site / "api" / "generated").glob("*.html"))
    assert len(pages) == len(names_on_the_api_page())
    for page in pages:
        text = re.sub("<[^>]*>", "", page.read_text())
        found = re.search(r"0x[0-9a-f]{6}|&lt;(function|class)|\brbst\.\w+\._|dtype\[", text)
        assert not found, f"{page.name}: {found}"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The site, served to this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


WHEN_TYPESET = """
const done = arguments[0];
Promise.resolve(window.MathJax?.startup?.promise).then(() => done(null), error => done(String(error)));
"""


def set_width(browser, width):
    """The width of the window in pixels; a page that is open follows."""
    from selenium.webdriver.support.ui import WebDriverWait

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    there = f"return window.innerWidth === {width}"
    WebDriverWait(browser, 30, poll_frequency=0.02).until(lambda b: b.execute_script(there))


def visit(browser, url, width):
    """Load a page at a width, wait until its formulas are drawn, unfold it; what went wrong."""
    set_width(browser, width)
    browser.get(url)
    error = browser.execute_async_script(WHEN_TYPESET)
    browser.execute_script(
        "for (const fold of document.querySelectorAll('details')) fold.open = true"
    )
    console = [entry["message"] for entry in browser.get_log("browser")]
    return console + ([error] if error else [])


RAW_TEX = r"""
const problems = [];
for (const math of document.querySelectorAll(".math"))
  if (!math.querySelector("mjx-container")) problems.push("not typeset: " + math.textContent);
for (const error of document.querySelectorAll("[data-mml-node=merror]"))
  problems.push("MathJax: " + error.getAttribute("data-mjx-error"));
const prose = document.body.cloneNode(true);
for (const element of prose.querySelectorAll("pre, code, script, style")) element.remove();
for (const match of prose.textContent.matchAll(/\\[a-zA-Z()[\]]+.{0,20}|\$.{0,20}/g))
  problems.push("raw TeX: " + match[0]);
return problems;
"""

OVERFLOW = """
const boxes = [document.documentElement, document.querySelector(".content")].filter(Boolean);
return boxes.some(box => box.scrollWidth > Math.max(box.clientWidth, 1));
"""

STEPS = """
const side = element => (({left, right, top, bottom}) => ({left, right, top, bottom}))(
  element.getBoundingClientRect());
return [...document.querySelectorAll(".step")]
  .map(step => [step.querySelector(".step-text"), step.querySelector(".step-code")])
  .filter(([text, code]) => text.textContent.trim() && code.textContent.trim())
  .map(halves => halves.map(side));
"""


def test_figures_are_turned_over_on_dark_screens_only():
    """ "not print and (dark)" means "not (print and dark)": it turned figures over on light screens."""
    styles = (DOCS / "_static" / "rbst.css").read_text()
    assert "not print and" not in styles


FIGURES = sorted((DOCS / "results").rglob("*.svg"))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_figure_fits_the_page_and_its_letters_have_eleven_pixels(figure):
    """Pages have room for 8.67 inches; a letter of 100 points has 11 pixels where it is scaled by 0.0825."""
    drawn = figure.read_text(encoding="utf-8")
    assert float(re.search(r'width="([\d.]+)pt"', drawn)[1]) <= 72 * 8.67
    sizes = re.findall(r"scale\((0\.\d+) -0\.\d+\)", drawn)
    assert sizes
    assert min(map(float, sizes)) >= 0.0825


def test_no_page_shows_lines_as_pixels():
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    assert not [page for page in pages if ".png)" in page.read_text(encoding="utf-8")]


@pytest.mark.browser
def test_every_page_loads_and_is_typeset_and_fits_both_widths(site, address, browser):
    problems, formulas = [], 0
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).as_posix()
        found = visit(browser, f"{address}/{page}", WIDE)
        found += browser.execute_script(RAW_TEX)
        for width in (WIDE, NARROW):  # loading and typesetting take longer than all the rest
            set_width(browser, width)
            if browser.execute_script(OVERFLOW):
                found.append(f"scrolls sideways at {width} pixels")
        problems += [f"{page}: {problem}" for problem in found]
        formulas += browser.execute_script(
            "return document.querySelectorAll('mjx-container').length"
        )
    assert not problems, "\n".join(problems)
    assert formulas > 0


@pytest.mark.browser
def test_steps_stand_side_by_side_or_stacked(site, address, browser):
    pages = sorted((site / "tutorials").glob("[0-9][0-9]_*.html"))
    assert pages
    for path in pages:
        url = f"{address}/tutorials/{path.name}"
        visit(browser, url, WIDE)
        steps = browser.execute_script(STEPS)
        assert steps, f"{path.name} has no step"
        for text, code in steps:
            assert text["right"] <= code["left"], path.name
            assert text["top"] == pytest.approx(code["top"], abs=1), path.name
        set_width(browser, NARROW)
        for text, code in browser.execute_script(STEPS):
            assert text["bottom"] <= code["top"], path.name
            assert text["left"] == pytest.approx(code["left"], abs=1), path.name
