"""The page that moves: its formulas are those of the package, and it works by hand, by key and by link.

The formulas, docs/playground/rbst.js, run in Node and are held against the package at 200 random settings.
"""

import json
import shutil
import subprocess
from pathlib import Path

import autograd.numpy as np
import pytest
from autograd import elementwise_grad

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


def test_the_formulas_of_the_page_are_those_of_the_package():
    settings = list(random_settings(200))
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
