"""The figure of the front page: ``python docs/front_figure.py`` writes it, for a light page and for a dark one."""

from pathlib import Path

import autograd.numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import rbst
from rbst.plotting import colour

STATIC = Path(__file__).parent / "_static"
SAMPLES = (1, 2, 5, 10, 20, 50, 100)
SCHEMES = {"light": ("white", "black"), "dark": ("none", "#cfd0d0")}


def diagnose(name: str) -> rbst.Diagnosis:
    """Bias and variance of an estimator on the problem of the README, exact."""
    logits = np.log([[0.2, 0.3, 0.5]])
    weights = np.array([1.0, 2.0, 4.0])
    return rbst.diagnose(
        rbst.get_estimator(name, tau=0.5), lambda D: (D @ weights - 2.5)[..., 0] ** 2, logits
    )


def draw(scheme: str) -> Path:
    """One panel: variance against K, falling to that of ``gr``."""
    ground, ink = SCHEMES[scheme]
    variances = [diagnose("st-gs" if K == 1 else f"gr-mc{K}").variance for K in SAMPLES]
    limit = diagnose("gr").variance
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with rc_context(
        {
            **dict.fromkeys(inks, ink),
            "font.size": 11,
            "svg.hashsalt": "rbst",
            "svg.fonttype": "none",
        }
    ):
        figure = Figure(figsize=(5, 2.8), layout="constrained", facecolor=ground)
        axes = figure.subplots()
        axes.set_facecolor(ground)
        axes.plot(SAMPLES, variances, "o-", color=colour("gr-mc100"), linewidth=2)
        axes.axhline(limit, color=colour("gr"), linewidth=2)
        axes.annotate("st-gs", (1, variances[0]), (8, -4), textcoords="offset points")
        axes.annotate("gr-mcK", (10, variances[3]), (4, 10), textcoords="offset points")
        axes.annotate(
            "gr: K → ∞, without sampling", (1, limit), (0, -18), textcoords="offset points"
        )
        axes.set(xscale="log", xticks=SAMPLES, xticklabels=map(str, SAMPLES))
        axes.set(xlabel="K, draws of the noise for one sample D", ylabel="variance", ylim=(0, None))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        path = STATIC / f"front-{scheme}.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    for scheme in SCHEMES:
        print(draw(scheme))
