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

import rbst

DOCS = Path(__file__).parent.parent / "docs"
WIDE, NARROW = 1400, 400


def modules_with_an_api_page():
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    return set(re.findall(r"^\.\. automodule:: (\S+)", pages, re.MULTILINE))


def public_modules():
    """Modules whose path has no leading underscore; packages only collect what their modules define."""
    found = pkgutil.walk_packages(rbst.__path__, "rbst.")
    return {module.name for module in found if not module.ispkg and "._" not in module.name}


def test_every_public_module_is_on_an_api_page():
    missing = sorted(public_modules() - modules_with_an_api_page())
    assert not missing, f"add '.. automodule:: {missing[0]}' to a page in docs/api"


def test_every_public_name_is_on_an_api_page():
    listed = re.findall(r"^   (\w+)$", (DOCS / "api" / "index.rst").read_text(), re.MULTILINE)
    assert set(rbst.__all__) <= set(listed), "list every name of rbst.__all__ in docs/api/index.rst"
    for name in rbst.__all__:
        assert getattr(rbst, name).__module__ in modules_with_an_api_page(), name


def test_the_examples_of_the_front_page_run():
    blocks = re.findall("^```pycon\n(.*?)^```", (DOCS / "index.md").read_text(), re.S | re.M)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, "index.md", None, None)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


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


def visit(browser, url, width):
    """Load a page at a width in pixels, wait until its formulas are drawn, unfold it; what went wrong."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
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


@pytest.mark.browser
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_page_loads_and_is_typeset(site, address, browser, width):
    problems, formulas = [], 0
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).as_posix()
        found = visit(browser, f"{address}/{page}", width)
        found += browser.execute_script(RAW_TEX)
        if browser.execute_script(OVERFLOW):
            found.append("scrolls sideways")
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
        visit(browser, url, NARROW)
        for text, code in browser.execute_script(STEPS):
            assert text["bottom"] <= code["top"], path.name
            assert text["left"] == pytest.approx(code["left"], abs=1), path.name
