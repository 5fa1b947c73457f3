"""The map of bias against standard deviation, and the field guide's numbers against their record."""

import numpy as np
import pytest

from rbst import diagnose
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


def test_compare_draws_the_map_when_it_is_asked_to(tmp_path, capsys):
    words = ["--quick", "--n", "2", "--variables", "1", "--tau", "0.5"]
    words += [f"--estimator={name}" for name in ("gr", "zgr", "disarm")]
    assert main(["compare", *words, "--plot", "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "map.png").stat().st_size > 10_000
    assert "map.png" in capsys.readouterr().out
    assert main(["compare", *words, "--out", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "map.png").exists()
