"""The map of bias against standard deviation, and the field guide's numbers against their record."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rbst import diagnose, exact_expectation, get_estimator
from rbst.cli import main
from rbst.plotting import colour, new_figure, plot_bias_variance
from rbst.problems import QUADRATIC

LOGITS = np.log([[0.2, 0.3, 0.5]])


def axes_of(diagnoses, **options):
    _, axes = new_figure(1, 1, width=6, height=6)
    return plot_bias_variance(axes[0, 0], diagnoses, **options)


def diagnosed(name, *taus, draws=500):
    rng = np.random.default_rng(0)
    return [diagnose(name, QUADRATIC.f, LOGITS, tau=t, rng=rng, num_samples=draws) for t in taus]


def lines_of(axes, name):
    return [line for line in axes.get_lines() if line.get_color() == colour(name)]


def test_a_line_runs_over_the_temperatures_in_their_order():
    gr = diagnosed("gr", 1.0, 0.1, 0.5)
    line, cold = lines_of(axes_of({"gr": gr}), "gr")
    expected = [float(d.relative_deviation) for d in (gr[1], gr[2], gr[0])]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert cold.get_ydata() == pytest.approx(expected[0])  # the large marker


def test_what_has_no_bias_stands_in_its_band_with_its_name():
    axes = axes_of({"gr": diagnosed("gr", 0.5), "zgr": diagnosed("zgr", 1.0)})
    (point,) = lines_of(axes, "zgr")
    biased = lines_of(axes, "gr")[0].get_xdata()
    assert point.get_xdata() < biased.min()
    assert "zgr" in [text.get_text() for text in axes.texts]
    assert "zgr" not in axes.get_legend_handles_labels()[1]


def test_a_bias_that_sampling_does_not_resolve_is_no_bias_on_the_map():
    axes = axes_of({"gr": diagnosed("gr", 0.5), "rloo": diagnosed("rloo", 1.0)})
    (point,) = lines_of(axes, "rloo")
    assert point.get_fillstyle() == "none"  # sampled
    assert point.get_xdata() < lines_of(axes, "gr")[0].get_xdata().min()


def test_an_estimator_that_lies_on_another_says_so():
    """GR-MCK is GR when K is large, and not when it is small."""
    taus = 0.3, 0.5
    names = ("gr", "gr-mc10", "gr-mc1000")
    axes = axes_of({name: diagnosed(name, *taus) for name in names})
    assert axes.get_legend_handles_labels()[1] == ["gr", "gr-mc10", "gr-mc1000 (on gr)"]


def test_an_estimator_without_a_temperature_may_lie_on_a_point_of_another():
    """ReinMax at a temperature of 1 is ZGR; for f = x^4 both are biased."""

    def f(D):
        return (D @ np.array([1.0, 2.0, 4.0]))[..., 0] ** 4

    diagnoses = {
        "zgr": [diagnose("zgr", f, LOGITS)],
        "reinmax": [diagnose("reinmax", f, LOGITS, tau=tau) for tau in (0.5, 1.0)],
    }
    assert axes_of(diagnoses).get_legend_handles_labels()[1] == ["zgr (on reinmax)", "reinmax"]


def test_a_batch_of_estimates_on_its_curve_scores_what_zero_does():
    d = diagnosed("gr", 0.5)[0]
    B = float(d.variance / (d.gradient_squared - d.bias_squared))
    axes = axes_of({"gr": [d]}, batch_sizes=[B])
    assert d.relative_mse(B) == pytest.approx(1)
    curve = next(line for line in axes.get_lines() if line.get_color() == "black")
    bias, deviation = curve.get_xdata()[1:], curve.get_ydata()[1:]
    at = np.interp(float(d.relative_bias), bias, deviation)
    assert at == pytest.approx(float(d.relative_deviation), rel=1e-3)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match=r"at least one, got none; pass"):
        axes_of({"gr": []})


@pytest.mark.slow
def test_compare_draws_the_map_when_it_is_asked_to(tmp_path):
    words = ["--quick", "--n", "2", "--variables", "1", "--tau", "0.5"]
    words += [f"--estimator={name}" for name in ("gr", "zgr", "disarm")]
    assert main(["compare", *words, "--plot", "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "map.svg").stat().st_size > 10_000
    assert main(["compare", *words, "--out", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "map.svg").exists()


# What the guide says is what was measured.

DOCS = Path(__file__).parent.parent / "docs"
RECORD = json.loads((DOCS / "results" / "field_guide" / "field_guide.json").read_text())
PHASES = ("VAE, start", "VAE, middle", "VAE, end")


def row(rows, estimator, tau=None):
    """The row of an estimator; without a temperature, the only one."""
    (found,) = [r for r in rows if r["estimator"] == estimator and tau in (None, r["tau"])]
    return found


def best(title, B, estimator):
    return row(RECORD["best"][title][str(B)], estimator)


def sentences():
    """Pieces of the page, made of the record."""
    maps, parcels = RECORD["maps"], RECORD["parcels"]
    middle, quadratic, quartic = maps["VAE, middle"], maps["quadratic"], maps["quartic"]
    one, two = parcels["1"], parcels["2"]
    yield f"has variance {one['reinforce']['variance']:.2f}, `gr` {one['gr']['variance']:.1f}"
    yield f"a bias of {one['gr']['bias']:.2f} times the gradient"
    yield f"`reinforce` has {two['reinforce']['variance']:.0f} and `gr` {two['gr']['variance']:.0f}"
    for name, key in (
        ("reinforce", "deviation"),
        ("gr", "deviation"),
        ("gr", "bias"),
        ("zgr", "deviation"),
    ):
        figures = [r[key] for r in RECORD["interactions"] if r["estimator"] == name]
        yield "| " + " | ".join(f"{x:.2f}" for x in figures) + " |"
    for B in (20, 100, 1000):
        cells = [best(title, B, "gr") for title in PHASES]
        yield "| " + " | ".join(f"{c['mse']:.2g} at τ = {c['tau']:g}" for c in cells) + " |"
    for name in ("gr", "gr-mc10", "st-gs", "gs"):
        found = [[best(title, B, name)["tau"] for title in maps] for B in (20, 100, 1000)]
        cells = [f"{np.median(t):g} ({min(t):g} to {max(t):g})" for t in found]
        yield f"| `{name}` | " + " | ".join(cells) + " |"
    deviation = {
        (name, tau): row(middle, name, tau)["deviation"]
        for name in ("st-gs", "gr-mc10", "gr")
        for tau in (0.1, 0.5)
    }
    yield (
        f"a standard deviation of {row(middle, 'unordered-set')['deviation']:.1f} where `gr` at τ = 0.5 has "
        f"{deviation['gr', 0.5]:.1f}"
    )
    yield (
        f"is {deviation['st-gs', 0.5]:.2f} for K = 1 (`st-gs`), {deviation['gr-mc10', 0.5]:.2f} for K = 10 and "
        f"{deviation['gr', 0.5]:.2f} for `gr`"
    )
    yield f"it is {deviation['st-gs', 0.1]:.1f}, {deviation['gr-mc10', 0.1]:.1f} and {deviation['gr', 0.1]:.1f}"
    least = min(r["bias"] for r in quartic if r["estimator"] == "gr")
    yield f"their bias is {row(quartic, 'zgr')['bias']:.2f} of the gradient"
    yield f"{least:.2f} is its least"
    st = [row(maps[title], "st", 1.0)["bias"] for title in PHASES]
    yield f"{st[0]:.2f} of the gradient at the start, {st[1]:.2f} in the middle and {st[2]:.2f} at the end"
    cold = [row(maps[title], "gr", 0.1)["bias"] for title in PHASES]
    yield f"`gr` at τ = 0.1 has {cold[0]:.2f}, {cold[1]:.2f} and {cold[2]:.2f}"
    yield f"{row(middle, 'reinmax', 1.0)['bias']:.3f} instead of {st[1]:.2f} in the middle"
    yield f"at τ = 0.5 its bias there is {row(middle, 'reinmax', 0.5)['bias']:.2f}"
    cv, rao = row(quadratic, "reinmax-cv", 1.0), row(quadratic, "reinmax-rao", 1.0)
    reinmax = row(quadratic, "reinmax", 1.0)
    assert reinmax["bias"] == 0
    yield f"{cv['bias']:.2f} ± {np.ceil(100 * cv['bias_error']) / 100:.2f} where ReinMax has 0"
    yield f"its standard deviation {cv['deviation']:.2f} ± {np.ceil(100 * cv['deviation_error']) / 100:.2f}"
    yield f"instead of {reinmax['deviation']:.2f}"
    yield f"{rao['bias']:.2f} and {rao['deviation']:.2f}"
    baselines = RECORD["baselines"]
    constant = [baselines[name] for name in ("none", "mean", "10 times the mean")]
    assert [b["bias"] for b in constant] == [0, 0, 0]
    yield "{:.2f}, {:.2f} and {:.1f}".format(*(b["deviation"] for b in constant))
    own = baselines["mean of a batch of 2, own cost in it"]["bias"]
    yield f"a batch of 2 takes {own:g} of the gradient away"
    learned = RECORD["learned_temperature"]
    ends = [learned["convex, fixed"]["curve"][-1], learned["convex, learned"]["curve"][-1]]
    for c, digits in zip(ends, (".2f", ".3f"), strict=True):
        yield f"| {c['tau']:.3g} | {c['relaxed']:{digits}} | {c['discrete']:.2f} |"
    yield f"cools to {learned['concave, learned']['curve'][-1]['tau']:.3f}"
    costs = RECORD["equal_cost"]
    five, three = (
        {r["estimator"]: r["mse"] for r in costs[k] if r["budget"] == 12}
        for k in ("1 of 5", "1 of 3")
    )
    yield f"are {five['reinforce']:.2f} (`reinforce`"
    yield f"{five['rloo']:.2f} (`rloo`) and {five['unordered-set']:.2f} (`unordered-set`)"
    yield f"an error of {three['reinforce']:.2f} (returning"
    yield f"`sum-and-sample` {three['sum-and-sample']:.3f}"
    names = ("gs", "gr", "gr-mc100", "gr-mc10", "st-gs", "st", "reinforce")
    sixteen = bounds_on_mnist(16)
    yield "| " + " | ".join(f"`{name}`" for name in names) + " |"
    yield "| " + " | ".join(f"{sixteen[name][1]:.2f}" for name in names) + " |"
    gs, st_gs, gr = (f"{sixteen[name][0]:.2g} (`{name}`)" for name in ("gs", "st-gs", "gr"))
    yield f"had τ = {gs}, {st_gs} and {gr}"


def bounds_on_mnist(arity):
    """Temperature and test bound of the runs with this many categories, by estimator."""
    report = json.loads((DOCS / "results" / "mnist" / "recipe" / "report.json").read_text())
    rows = [row for row in report["rows"] if row["arity"] == arity]
    return {row["estimator"]: (row["tau"], row["test_bound"]) for row in rows}


@pytest.mark.parametrize("sentence", list(sentences()))
def test_every_figure_of_the_guide_is_in_its_record(sentence):
    page = re.sub(r"\s+", " ", (DOCS / "field_guide.md").read_text().replace("*", ""))
    assert re.sub(r"\s+", " ", sentence) in page


def rows_of_results():
    """The tables of the page of results."""
    cost, learned = RECORD["equal_cost"], RECORD["learned_temperature"]
    for name in ("reinforce", "rloo", "sum-and-sample", "unordered-set", "arsm"):
        mse = {
            (k, r["budget"]): r["mse"]
            for k, rows in cost.items()
            for r in rows
            if r["estimator"] == name
        }
        columns = [(k, budget) for k in ("1 of 3", "1 of 5", "4 of 5") for budget in (5, 12)]
        more = {"reinforce": ", exact mean as its baseline", "rloo": ", all in one"}.get(name, "")
        yield [f"`{name}`{more}", *(mse.get(column) for column in columns)]
    for step, kind in (
        (0, "learned"),
        (200, "learned"),
        (800, "learned"),
        (2000, "learned"),
        (2000, "fixed"),
    ):
        cells = []
        for f in ("convex", "concave"):
            (c,) = [c for c in learned[f"{f}, {kind}"]["curve"] if c["step"] == step]
            cells += [c["tau"], c["relaxed"], c["discrete"]]
        yield [f"{step:,}" if kind == "learned" else f"{step:,}, τ fixed", *cells]


@pytest.mark.parametrize("cells", list(rows_of_results()), ids=lambda cells: cells[0])
def test_the_tables_of_the_results_are_those_of_the_record(cells):
    lines = (DOCS / "results" / "field_guide" / "README.md").read_text().splitlines()
    label, *numbers = cells
    (line,) = [s for s in lines if s.startswith(f"| {label} |")]
    shown = [cell.strip() for cell in line.split("|")[2:-1]]
    for text, number in zip(shown, numbers, strict=True):
        assert (text == "") == (number is None)
        if number is not None:
            assert float(f"{number:.3g}") == float(text)


def test_the_record_can_be_computed_again():
    """The parcels of the tutorials, from scratch: one goes one way and two the other."""
    weights = np.array([1.0, 2.0, 4.0])
    for count, rows in RECORD["parcels"].items():
        logits = np.tile([0.3, -0.7, 1.1], (int(count), 1))

        def f(D):
            return ((D @ weights).sum(axis=-1) - 2.5) ** 2

        def df(D):
            return 2 * ((D @ weights).sum(axis=-1) - 2.5)[..., None, None] * weights + 0 * D

        for name in ("reinforce", "gr"):
            estimator = get_estimator(name, tau=0.3, baseline=exact_expectation(f, logits))
            d = diagnose(estimator, f, logits, df_dD=df)
            assert d.variance == pytest.approx(rows[name]["variance"], rel=1e-4)
            assert d.relative_bias == pytest.approx(rows[name]["bias"], rel=1e-3, abs=1e-9)
    one, two = RECORD["parcels"]["1"], RECORD["parcels"]["2"]
    assert one["gr"]["bias"] > 1
    assert one["reinforce"]["variance"] < one["gr"]["variance"] / 10
    assert two["reinforce"]["variance"] > two["gr"]["variance"] * 5


def test_the_map_opens_with_what_its_record_says():
    five = ("st-gs", "gr-mc10", "gr", "zgr", "gs")
    least, least_of_five = {}, {}
    for title, batches in RECORD["best"].items():
        rows = batches["20"]
        least[title] = min(rows, key=lambda row: row["mse"])["estimator"]
        asked = [row for row in rows if row["estimator"] in five]
        least_of_five[title] = min(asked, key=lambda row: row["mse"])["estimator"]
        if title == "VAE, end":
            assert min(row["mse"] for row in asked) > 1
    assert least_of_five == dict.fromkeys(RECORD["best"], "gr") | {"quartic": "gs"}
    of_functions = {title: name for title, name in least.items() if not title.startswith("VAE")}
    assert of_functions == {
        "linear": "st",
        "quadratic": "gr",
        "quartic": "arsm",
        "programme": "muprop",
    }
    rest = {name for title, name in least.items() if title.startswith("VAE")}
    assert rest == {"sum-and-sample", "unordered-set"}
