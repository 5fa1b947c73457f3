"""What tests share: a seeded generator, hypothesis without clock, chance or memory, and a browser."""

import os
import shutil
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# The products of the tests are small: a second thread slows them down. Processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")


@pytest.fixture
def rng():
    return np.random.default_rng(20210503)


class Here(Executor):
    """Does jobs in this process, as they come."""

    def submit(self, function, /, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def in_this_process(monkeypatch):
    """The jobs of a sweep are done in this process; what workers are is the matter of other tests."""
    monkeypatch.setattr("rbst.experiments.sweep.executor", lambda *_: nullcontext(Here()))


@pytest.fixture
def unrendered(request, monkeypatch):
    """Figures are drawn but not turned into pixels, which takes longer than everything else that a small run does.

    A test that is marked ``renders`` does without it.
    """
    if request.node.get_closest_marker("renders"):
        return

    def savefig(self, path, **_):
        Path(path).write_bytes(b"\x89PNG")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium that reaches 127.0.0.1 and nothing else."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium, of the extra 'docs'"
    )
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    chromium, driver = next(filter(None, programs), None), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()
