"""The page that moves: its formulas are those of the package, and it works by hand, by key and by link.

The formulas, docs/playground/rbst.js, run in Node and are checked against the package at 200 random settings. The
tests marked ``browser`` open the page as the file it is; tests/test_site.py visits it on the site.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import autograd.numpy as np
import pytest
from autograd import elementwise_grad
from oracles import slow

import rbst
from rbst.categorical import softmax_vjp
from rbst.plotting import COLOURS, colour, simplex_to_plane

PLAYGROUND = Path(__file__).parent.parent / "docs" / "playground"

ANSWER = """
const rbst = require(process.argv[1]);
const settings = JSON.parse(require("fs").readFileSync(0));
const answers = settings.map(({ logits, D, values, kappa, weights, tau, K, E, p }) => {
  const { f, df_dD } = rbst.parcels(values, kappa, weights);
  const g = df_dD(D);
  const corners = D.map((_, k) => rbst.one_hot(k, D.length));
  const table = rbst.build_table(logits, { tau });
  const moments = corners.map((e) => rbst.conditional_moments(logits, e, df_dD(e), { tau, table }));
  const baseline = rbst.exact_expectation(values, logits);
  const laws = {
    "st": rbst.fixed_law((e) => rbst.straight_through(logits, e, df_dD(e), { tau })),
    "reinforce": rbst.fixed_law((e) => rbst.score_function(logits, e, f(e), { baseline })),
    "zgr": rbst.fixed_law((e) => rbst.zgr(logits, e, df_dD(e))),
    "st-gs": rbst.gumbel_rao_law(moments, 1),
    [`gr-mc${K}`]: rbst.gumbel_rao_law(moments, K),
    "gr": rbst.gumbel_rao_law(moments, Infinity),
  };
  const diagnoses = {};
  for (const name in laws) diagnoses[name] = rbst.diagnose(laws[name], values, logits);
  return {
    softmax: rbst.softmax(logits, tau),
    log_softmax: rbst.log_softmax(logits),
    softmax_vjp: rbst.softmax_vjp(rbst.softmax(logits), g),
    winner: rbst.sample_categorical(logits, E[0]),
    conditional_gumbels: E.map((row) => rbst.conditional_gumbels(logits, D, row)),
    relaxed_samples: E.map((row) => rbst.relaxed_sample(logits, D, row, tau)),
    straight_through: rbst.straight_through(logits, D, g, { tau }),
    gumbel_rao: rbst.gumbel_rao(logits, D, g, { tau, exponentials: E }),
    exact_gumbel_rao: rbst.exact_gumbel_rao(logits, D, g, { tau, table }),
    conditional_square: moments[D.indexOf(1)].square,
    zgr: rbst.zgr(logits, D, g),
    score_function: rbst.score_function(logits, D, f(D), { baseline: 1 }),
    exact_expectation: baseline,
    exact_gradient: rbst.exact_gradient(values, logits),
    df_dD: g,
    f: f(p),
    diagnoses,
  };
});
console.log(JSON.stringify(answers));
"""


def run_node(program, given):
    """What a program that requires the formulas prints, given JSON to read."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js to run docs/playground/rbst.js, and node was not found")
    process = subprocess.run(
        [node, "-e", program, str(PLAYGROUND / "rbst.js")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def random_settings(number):
    rng = np.random.default_rng(0)
    temperatures = np.exp(rng.uniform(np.log(0.02), np.log(5), size=20))
    for _ in range(number):
        K = int(rng.integers(1, 20))
        yield {
            "logits": rng.normal(scale=2, size=3).tolist(),
            "D": np.eye(3)[rng.integers(3)].tolist(),
            "values": rng.normal(scale=3, size=3).tolist(),
            "kappa": rng.uniform(-1, 2),
            "weights": rng.uniform(0, 4, 3).tolist(),
            "tau": rng.choice(temperatures),  # the package keeps a table of each
            "K": K,
            "E": rng.exponential(size=(K, 3)).tolist(),
            "p": rng.dirichlet(np.ones(3)).tolist(),
        }


def cost(setting):
    """The cost of the page, the mean of the values less kappa times a variance, for arrays (..., L, n)."""
    values, w = np.array(setting["values"]), np.array(setting["weights"])

    def f(x):
        variance = (x @ w**2) - (x @ w) ** 2
        return ((x @ values) - setting["kappa"] * variance).sum(axis=-1)

    return f


def answer(setting):
    """What the package says, under the names that Node gives to what the page says."""
    logits, D, E, p = (np.array(setting[key]) for key in ("logits", "D", "E", "p"))
    tau, f = setting["tau"], cost(setting)
    g = elementwise_grad(f)(D[None])[0]
    baseline = rbst.exact_expectation(f, logits[None])
    mean, square = rbst.conditional_moments(logits, D, g, tau=tau, rtol=1e-7)
    x = rbst.conditional_gumbels(logits, D, E)
    names = ("st", "reinforce", "zgr", "st-gs", f"gr-mc{setting['K']}", "gr")
    diagnoses = {
        name: rbst.diagnose(
            rbst.get_estimator(name, tau=tau, baseline=baseline), f, logits[None], rtol=1e-7
        )
        for name in names
    }
    return {
        "softmax": rbst.softmax(logits, tau),
        "log_softmax": rbst.log_softmax(logits),
        "softmax_vjp": softmax_vjp(rbst.softmax(logits), g),
        "winner": np.eye(len(D))[(logits - np.log(E[0])).argmax()],
        "conditional_gumbels": x,
        "relaxed_samples": rbst.softmax(x, tau),
        "straight_through": rbst.straight_through(logits, D, g, tau=tau),
        "gumbel_rao": rbst.gumbel_rao(logits, D, g, tau=tau, exponentials=E),
        "exact_gumbel_rao": mean,
        "conditional_square": square,
        "zgr": rbst.zgr(logits, D, g),
        "score_function": rbst.score_function(logits, D, f(D[None]), baseline=1.0),
        "exact_expectation": baseline,
        "exact_gradient": rbst.exact_gradient(f, logits[None])[0],
        "df_dD": g,
        "f": f(p[None]),
        "diagnoses": {
            name: {
                "gradient": d.gradient[0],
                "mean": (d.gradient + d.bias)[0],
                "bias": d.bias[0],
                "bias_squared": d.bias_squared,
                "variance": d.variance,
                "variance_given_D": d.variance_given_D,
                "mse": d.mse,
            }
            for name, d in diagnoses.items()
        },
    }


def flat(answers, path=""):
    """Every array of nested dictionaries with its path."""
    for key, value in answers.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield path + key, np.asarray(value, dtype=float)


@pytest.mark.parametrize("number", [10, *slow(200)])
def test_the_formulas_of_the_page_are_those_of_the_package(number):
    settings = list(random_settings(number))
    settings.sort(key=lambda setting: setting["tau"])
    for setting, said in zip(settings, run_node(ANSWER, settings), strict=True):
        expected, said = dict(flat(answer(setting))), dict(flat(said))
        assert said.keys() == expected.keys()
        for key, value in expected.items():
            scale = max(abs(value).max(), 1e-4)
            if key.startswith(
                "diagnoses."
            ):  # a bias is a difference, and small beside the gradient
                scale = max(scale, abs(expected["exact_gradient"]).max())
            assert abs(said[key] - value).max() < 1e-6 * scale, (key, setting, said[key], value)


def test_the_colours_are_those_of_the_package():
    program = """
    const rbst = require(process.argv[1]);
    const names = ["exact", "st", "reinforce", "gs", "st-gs", "gr", "zgr", ...[1, 10, 49, 50, 100, 1000].map(
      (K) => `gr-mc${K}`)];
    console.log(JSON.stringify([
      rbst.COLOURS, Object.fromEntries(names.map((name) => [name, rbst.colour(name)])),
      rbst.simplex_to_plane([0.2, 0.3, 0.5])]));
    """
    table, named, point = run_node(program, None)
    assert table.items() <= COLOURS.items()
    assert named == {name: colour(name) for name in named}
    assert point == pytest.approx(simplex_to_plane([0.2, 0.3, 0.5]))


PAGE = (PLAYGROUND / "index.html").as_uri()
LINK = re.compile(r"/playground/index\.html\?preset=([\w-]+)")
PRESETS = re.findall(
    r'^    "?([\w-]+)"?: \{ title:', (PLAYGROUND / "playground.js").read_text(), re.M
)
NEXT_FRAME = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
FIGURES = """
return Object.fromEntries([...document.querySelectorAll("#rows tr")].map((row) => [
  row.dataset.estimator, [...row.querySelectorAll("td")].slice(0, 3).map((cell) => Number(cell.textContent))]));
"""


def open_page(browser, query="", width=1400, scheme="light"):
    """Open the page; it must say nothing on the console and not scroll sideways."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(PAGE + query)
    browser.execute_async_script(NEXT_FRAME)
    assert browser.get_log("browser") == []
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


def element(browser, name):
    return browser.find_element("id", name)


def set_slider(browser, name, value):
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        element(browser, name),
        value,
    )
    browser.execute_async_script(NEXT_FRAME)


def sentence(browser):
    return element(browser, "sentence").text


def logits_shown(browser):
    return [float(element(browser, f"theta-{k}-value").text) for k in range(3)]


def test_each_preset_is_one_that_a_tutorial_links_to():
    tutorials = (PLAYGROUND.parent.parent / "tutorials").glob("[0-9][0-9]_*.py")
    links = {
        (path.name[:2], preset)
        for path in tutorials
        for preset in LINK.findall(path.read_text(encoding="utf-8"))
    }
    script = (PLAYGROUND / "playground.js").read_text(encoding="utf-8")
    titles = dict(
        re.findall(r'^ {4}"?([\w-]+)"?: \{ title: "Tutorial (\d\d): ', script, re.MULTILINE)
    )
    assert {preset for _, preset in links} == set(PRESETS) == set(titles)
    assert {(number, preset) for preset, number in titles.items()} <= links


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_opens(browser, preset, width, scheme):
    open_page(browser, f"?preset={preset}", width, scheme)
    assert element(browser, "preset").get_attribute("value") == preset
    assert "bias" in sentence(browser)
    for name in ("simplex", "estimates", "means", "law"):
        assert "NaN" not in element(browser, name).get_attribute("innerHTML")
        ground = element(browser, name).value_of_css_property("background-color")
        assert ground == "rgba(255, 255, 255, 1)"  # under black arrows


@pytest.mark.browser
def test_the_figures_are_those_of_diagnose(browser):
    open_page(browser, "?theta=0.5,0,-0.5&f=1,4,2.5&kappa=0.5&tau=0.4&K=20&D=any")
    logits = np.array([[0.5, 0.0, -0.5]])
    f = cost({"values": [1, 4, 2.5], "kappa": 0.5, "weights": [1, 2, 4]})
    baseline = rbst.exact_expectation(f, logits)
    shown = browser.execute_script(FIGURES)
    assert shown.keys() == {"st-gs", "gr-mc20", "gr", "st", "zgr", "reinforce"}
    for name, figures in shown.items():
        tau = 1.0 if name == "st" else 0.4
        d = rbst.diagnose(rbst.get_estimator(name, tau=tau, baseline=baseline), f, logits)
        expected = [d.bias_squared**0.5, d.variance**0.5, d.mse]
        assert figures == pytest.approx(expected, rel=6e-3, abs=1e-7), name  # three digits


@pytest.mark.browser
def test_theta_moves_by_mouse_touch_and_key(browser):
    from selenium.webdriver import ActionChains, Keys

    open_page(browser)
    handle = element(browser, "handle")
    shown = [logits_shown(browser)]
    ActionChains(browser).click_and_hold(handle).move_by_offset(40, 30).release().perform()
    browser.execute_async_script(NEXT_FRAME)
    shown.append(logits_shown(browser))
    assert "You moved π" in sentence(browser)
    assert shown[1][1] > shown[0][1] + 0.5  # the pointer went towards the lower right, 2 kg

    handle.send_keys(Keys.ARROW_LEFT * 5)
    browser.execute_async_script(NEXT_FRAME)
    shown.append(logits_shown(browser))
    assert shown[2][1] < shown[1][1]

    box = handle.rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    y -= browser.execute_script("return scrollY")
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x - 30, "y": y + 40}]),
        ("touchEnd", []),
    ):
        browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points, "modifiers": 0}
        )
    browser.execute_async_script(NEXT_FRAME)
    shown.append(logits_shown(browser))
    assert shown[3][0] > shown[2][0] + 0.2  # towards the lower left, 1 kg


@pytest.mark.browser
def test_the_exact_gradient_depends_on_the_corners_only(browser):
    open_page(browser)

    def exact():
        return element(browser, "means").get_attribute("aria-label").split(";")[0]

    before, figures = exact(), browser.execute_script(FIGURES)
    set_slider(browser, "kappa", 0)
    assert exact() == before
    assert "corners only" in sentence(browser)
    after = browser.execute_script(FIGURES)
    assert after["st"][0] == 0 < figures["st"][0]  # f is linear now
    assert after["st-gs"][0] > 0
    set_slider(browser, "value-1", 9)
    assert exact() != before


@pytest.mark.browser
def test_K_divides_the_noise_and_tau_makes_it(browser):
    open_page(browser)
    set_slider(browser, "K", 0)
    one = browser.execute_script(FIGURES)
    assert one["gr-mc1"] == one["st-gs"]
    assert "which is ST-GS" in sentence(browser)
    set_slider(browser, "K", 6)
    hundred = browser.execute_script(FIGURES)
    assert hundred["gr-mc100"][0] == one["gr-mc1"][0]
    assert hundred["gr"][2] < hundred["gr-mc100"][2] < one["gr-mc1"][2]
    set_slider(browser, "tau", -1.7)
    assert sentence(browser).startswith("Cold")
    assert browser.execute_script(FIGURES)["st-gs"][1] > 2 * one["st-gs"][1]
    set_slider(browser, "tau", 0.7)
    assert sentence(browser).startswith("Hot")


@pytest.mark.browser
def test_the_address_holds_what_is_shown(browser):
    open_page(browser, "?preset=near-ties&tau=0.05&D=1&nonsense=1&K=x&theta=1,2")
    set_slider(browser, "K", 6)
    element(browser, "next").click()
    shown = browser.execute_script(FIGURES)
    WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    WebDriverWait(browser, 5).until(lambda browser: "K=100" in browser.current_url)
    query = browser.current_url.partition("?")[2]
    assert query == "preset=near-ties&tau=0.05&K=100&D=1"
    assert element(browser, "live").get_attribute("textContent") == sentence(browser)
    open_page(browser, f"?{query}")
    assert browser.execute_script(FIGURES) == shown


UNLABELLED = """
return [...document.querySelectorAll("input, select, button, svg, #handle")]
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
  .map((e) => e.outerHTML);
"""


@pytest.mark.browser
def test_every_control_has_a_name_and_the_keyboard_reaches_it(browser):
    from selenium.webdriver import Keys

    open_page(browser)
    assert browser.execute_script(UNLABELLED) == []
    reached, body = [], browser.find_element("tag name", "body")
    body.click()
    for _ in range(30):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.switch_to.active_element.get_attribute("id"))
    controls = {e.get_attribute("id") for e in browser.find_elements("css selector", "input[id]")}
    assert controls | {"preset", "handle", "next", "play", "reset"} <= set(reached)


@pytest.mark.browser
def test_draws_come_by_themselves_only_when_asked(browser):
    open_page(browser)

    def estimates():
        return element(browser, "estimates").get_attribute("aria-label")

    first = estimates()
    element(browser, "play").click()
    browser.execute_async_script(NEXT_FRAME)
    assert estimates() != first
    assert element(browser, "play").get_attribute("aria-pressed") == "true"
    element(browser, "play").click()
    assert element(browser, "play").get_attribute("aria-pressed") == "false"
    element(browser, "reset").click()
    browser.execute_async_script(NEXT_FRAME)
    assert estimates() == first
