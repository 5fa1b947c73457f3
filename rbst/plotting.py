"""One colour for each estimator, everywhere, and the truth in black.

Matplotlib is imported where it is used. Functions draw into Axes and return them; whoever called saves
the figure. No figure is wider than 8 inches and no letter smaller than ``"small"``, so that a page shows it
at its size. Imported by experiments and tutorials only.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rbst._files import whole_file

COLOURS = {
    "exact": "black",
    "gold": "black",
    "left": "#7f7f7f",
    "st": "#8c564b",
    "foust": "#bcbd22",
    "gs": "#7f7f7f",
    "reinforce": "#d62728",
    "st-gs": "#ff7f0e",
    "gr-mc10": "#9ecae1",
    "gr-mc100": "#4292c6",
    "gr-mc1000": "#08519c",
    "gr": "#17becf",
    "zgr": "#2ca02c",
    "reinmax": "#e377c2",
    "reinmax-rao": "#7b4173",
    "reinmax-rao-mc10": "#ce6dbd",
    "reinmax-cv": "#a55194",
    "gst": "#637939",
    "gst-p": "#b5cf6b",
    "decoupled-st-gs": "#e7ba52",
    "mve": "#393b79",
    "rloo": "#843c39",
    "double-cv": "#ad494a",
    "sum-and-sample": "#3182bd",
    "unordered-set": "#31a354",
    "arm": "#fdae6b",
    "disarm": "#e6550d",
    "arsm": "#8c6d31",
    "muprop": "#756bb1",
    "rebar": "#636363",
    "relax": "#969696",
}


def colour(name: str) -> str:
    """The colour of an estimator (or of ``"exact"``), the same in every figure.

    Examples
    --------
    >>> colour("st-gs")
    '#ff7f0e'
    """
    if name in COLOURS:
        return COLOURS[name]
    if re.fullmatch(r"gr-mc\d+", name):
        return COLOURS["gr-mc10" if int(name[5:]) < 50 else "gr-mc1000"]
    return "#9467bd"


def new_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    """A figure of ``width`` by ``height`` inches and its array of Axes, independent of any display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def set_caption(figure: Any, text: str) -> None:
    """Put above a figure what it must say of the experiment, in lines that fit its width."""
    length = int(17 * figure.get_figwidth())
    lines = (textwrap.fill(line, length) for line in text.split("\n"))
    figure.suptitle("\n".join(lines), fontsize="small")


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure whole or not at all, as its suffix says; the same figure is the same SVG."""
    from matplotlib import rc_context

    metadata = {"Date": None} if path.suffix == ".svg" else None
    with rc_context({"svg.hashsalt": "rbst"}), whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata=metadata)


def plot_curves(
    axes: Any,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    *,
    scale: float = 1,
) -> Any:
    """Draw ``scale * curves[estimator][run][key]`` against the iteration: mean and range over the runs.

    Where a run has ended the others go on.
    """
    for name, runs in curves.items():
        iterations = max((run["iteration"] for run in runs), key=len)
        values = np.full((len(runs), len(iterations)), np.nan)
        for row, run in zip(values, runs, strict=True):
            row[: len(run[key])] = scale * np.asarray(run[key])
        axes.plot(iterations, np.nanmean(values, axis=0), color=colour(name), label=name)
        if len(runs) > 1:
            low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
            axes.fill_between(iterations, low, high, color=colour(name), alpha=0.15, linewidth=0)
    return axes


def plot_beside_paper(
    axes: Any, found: Mapping[str, Sequence[tuple[float, float, float, float]]]
) -> dict[str, Any]:
    """Draw each estimator's points (x, measured, error, in the paper): dots on a line, with error bars, and circles.

    The line has a gap where another estimator has a point and this one none. Returns a line for each, for the legend.
    """
    lines = {}
    x = sorted({x for points in found.values() for x, *_ in points})
    for name, points in found.items():
        there = {place: numbers for place, *numbers in points}
        rows = [there.get(place, (np.nan, 0, np.nan)) for place in x]
        measured, errors, in_paper = zip(*rows, strict=True)
        lines[name] = axes.errorbar(x, measured, errors, fmt=".-", color=colour(name))
        axes.plot(x, in_paper, "o", markersize=9, fillstyle="none", color=colour(name))
    return lines


def caption_beside_paper(figure: Any, measured: str, in_paper: bool) -> None:
    """Say what the dots of :func:`plot_beside_paper` are, and the circles if there are any."""
    circles = "; circles: in the paper (for gr its GR-MC1000)" if in_paper else ""
    set_caption(figure, f"dots: {measured}{circles}")


def show_images(axes: Any, rows: Mapping[str, Any], shape: tuple[int, int]) -> Any:
    """Draw named rows of grey images ``(k, pixels)``, 0 white and 1 black, with a gap between them."""
    height, width = shape
    padded = [
        np.pad(images.reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        for images in rows.values()
    ]
    axes.imshow(np.vstack([np.hstack([*row]) for row in padded]), cmap="Greys", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([(height + 2) * (row + 0.5) - 0.5 for row in range(len(rows))], list(rows))
    axes.tick_params(length=0, labelsize="small")
    axes.spines[:].set_visible(False)
    return axes


def simplex_to_plane(p: Any) -> Any:
    """Probabilities ``(..., 3)`` as points ``(..., 2)`` of an equilateral triangle of side 1.

    Category 1 sits at the lower left, 2 at the lower right, 3 on top.

    Examples
    --------
    >>> simplex_to_plane(np.array([0.5, 0.5, 0.0]))
    array([0.5, 0. ])
    """
    return np.asarray(p) @ np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])


def frame_simplex(axes: Any, *, singular: str = "white") -> Any:
    """Draw the edges and corners of the simplex, and the lines p_k = 2/3 in the colour ``singular``."""
    corners = simplex_to_plane(np.eye(3))
    axes.plot(*corners[[0, 1, 2, 0]].T, color="black", linewidth=0.8)
    for k in range(3):
        line = np.full((2, 3), 1 / 3)
        line[:, k], line[0, k - 1], line[1, k - 2] = 2 / 3, 0, 0
        axes.plot(*simplex_to_plane(line).T, color=singular, linestyle="--", linewidth=0.9)
    for k, (x, y), side in zip((1, 2, 3), corners, ("top", "top", "bottom"), strict=True):
        offset = 0.03 if side == "bottom" else -0.03
        axes.text(x, y + offset, f"$p_{k} = 1$", ha="center", va=side, fontsize="small")
    axes.set_aspect("equal")
    axes.set_axis_off()
    return axes


def plot_simplex(axes: Any, mesh: Any, values: Any, **colour_scale: Any) -> Any:
    """Colour the cells of a mesh of the simplex; those that touch the centroid stay blank.

    ``mesh`` has ``vertices``, ``triangles`` and ``centres``, ``values`` one number a cell. Returns the
    coloured cells, for a colour bar.
    """
    x, y = simplex_to_plane(mesh.vertices).T
    touches = (abs(mesh.vertices - 1 / 3).max(axis=-1) < 1e-9)[mesh.triangles].any(axis=-1)
    cells = axes.tripcolor(
        x,
        y,
        mesh.triangles[~touches],
        facecolors=values[~touches],
        edgecolors="face",
        rasterized=True,  # thousands of paths otherwise
        **colour_scale,
    )
    frame_simplex(axes)
    return cells


def plot_programme(axes: Any, mesh: Any, value: Any) -> Any:
    """Contours of a function of p over the simplex, ``value`` at the vertices of the mesh."""
    x, y = simplex_to_plane(mesh.vertices).T
    lines = axes.tricontour(x, y, mesh.triangles, value, levels=9, cmap="Greys_r")
    axes.clabel(lines, fontsize="small", fmt="%.2g")
    axes.plot(*simplex_to_plane(np.full(3, 1 / 3)), "o", color="black", markersize=4)
    return frame_simplex(axes, singular="black")


def plot_against_tau(
    axes: Any,
    taus: Any,
    lines: Mapping,
    points: Mapping,
    quantity: Callable[[Any], Any],
    floor: float | None = None,
) -> Any:
    """Draw one figure of diagnoses, ``quantity(diagnosis)``, against the temperature.

    ``lines[estimator]`` holds exact diagnoses, one for each of ``taus``; ``points[estimator]`` sampled ones,
    drawn with their standard error. What is only rounding, below ``floor``, or what sampling does not resolve
    has no place on a logarithmic axis.
    """
    positive = False
    for name, diagnoses in lines.items():
        values = np.array([quantity(d) for d in diagnoses], dtype=float)
        resolved = values > (1e-20 * diagnoses[0].gradient_squared if floor is None else floor)
        axes.plot(taus, np.where(resolved, values, np.nan), color=colour(name), label=name)
        positive |= bool(resolved.any())
    for name, diagnoses in points.items():
        values = np.array([quantity(d) for d in diagnoses], dtype=float)
        errors = np.array([quantity(d).error for d in diagnoses])
        x = np.array([np.sqrt(taus[0] * taus[-1]) if d.tau is None else d.tau for d in diagnoses])
        seen = values > 2 * errors
        style = {"fmt": "o", "markersize": 4, "capsize": 2, "color": colour(name), "label": name}
        axes.errorbar(x[seen], values[seen], errors[seen], **style)
        positive |= bool(seen.any())
    axes.set(xscale="log", yscale="log" if positive else "linear", xlabel="temperature $\\tau$")
    return axes


def plot_bias_variance(
    axes: Any,
    diagnoses: Mapping[str, Sequence[Any]],
    *,
    batch_sizes: Sequence[int] = (1, 10, 100),
) -> Any:
    r"""Draw the map of estimators: standard deviation against bias, both over the length of the gradient.

    A line for each estimator runs over its temperatures, from the coldest, with a large marker, to the hottest. The
    mean of B estimates scores what returning zero does on the curve

    .. math:: \frac{|\text{bias}|^2 + \text{sd}^2 / B}{|\nabla|^2} = 1,

    and on the dotted diagonal :math:`\text{sd} = \sqrt B \, |\text{bias}|` its two parts are equal: above it more samples
    help, below it less bias does. Logarithmic axes have no place for zero, so a grey band at the left holds what has no
    bias, none that sampling resolves (twice its standard error), or less than a 300th of the largest, with the names at
    its side; one at the bottom holds what has no variance. Sampled points are open, with their standard errors. An
    estimator that lies on another, at each temperature within 5 %, is named with it.

    Parameters
    ----------
    axes
        Where to draw.
    diagnoses
        For each name, its diagnoses, in any order of ``tau``; of each are read ``tau``, ``relative_bias`` and
        ``relative_deviation``, a :class:`rbst.diagnostics.Figure` each.
    batch_sizes
        The batches B to draw a curve and a diagonal for.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        Where there is nothing to draw.

    Examples
    --------
    >>> from rbst import diagnose
    >>> from rbst.problems import QUADRATIC
    >>> logits, taus = np.log([[0.2, 0.3, 0.5]]), (0.1, 0.5, 1.0)
    >>> gr = [diagnose("gr", QUADRATIC.f, logits, tau=tau) for tau in taus]
    >>> _, axes = new_figure(1, 1, width=6, height=6)
    >>> line = plot_bias_variance(axes[0, 0], {"gr": gr}).get_lines()[0]
    >>> line.get_xdata().round(2), line.get_ydata().round(2)
    (array([0.09, 0.35, 0.52]), array([2.76, 2.35, 1.8 ]))
    """
    places = {name: _Place.of(found) for name, found in diagnoses.items() if len(found)}
    if not places:
        raise ValueError("diagnoses must hold at least one, got none; pass {name: [diagnose(...)]}")
    edges, top = _edges(np.concatenate([place.xy for place in places.values()]))
    at_left = {}
    for k, (name, place) in enumerate(places.items()):
        outside = place.xy < 2 * edges
        drawn = np.where(outside, edges, place.xy)
        biased = ~outside[:, 0]
        style = {"color": colour(name), "marker": MARKERS[k % len(MARKERS)], "markersize": 5}
        style |= {} if place.exact else {"fillstyle": "none", "linestyle": "--"}
        if biased.any():
            twin = _lies_on(name, places)
            x, y = np.where(biased, drawn.T, np.nan)
            axes.plot(x, y, linewidth=1.2, label=f"{name} (on {twin})" if twin else name, **style)
            if not place.exact:
                axes.errorbar(x, y, *place.errors.T[::-1], fmt="none", ecolor=colour(name), lw=0.7)
            cold = int(np.argmax(biased))
            axes.plot(x[cold], y[cold], **(style | {"markersize": 9}))
        if not biased.all():
            at_left[name] = drawn[~biased, 1], style | {"linestyle": "none"}
    _set_limits(axes, edges, top)
    _draw_batches(axes, batch_sizes)
    _draw_at_left(axes, at_left, edges[0])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set(xlabel="|bias| / |gradient|", ylabel="standard deviation / |gradient|")
    if axes.get_legend_handles_labels()[0]:
        where = {"loc": "upper center", "bbox_to_anchor": (0.4, -0.1), "ncols": 3}
        axes.legend(fontsize="small", frameon=False, **where)
    return axes


MARKERS = "osD^v<>pPX*hd"
SPAN = 300.0
"""The largest figure of the map over the smallest that is not drawn at its edge."""


@dataclass(frozen=True)
class _Place:
    """An estimator on the map: its temperatures in order, and its points (bias, deviation), each with its error."""

    taus: list[float | None]
    xy: Any
    errors: Any
    exact: bool

    @classmethod
    def of(cls, found: Sequence[Any]) -> _Place:
        """What is rounding, or within two standard errors of zero, is zero."""
        ordered = sorted(found, key=lambda d: d.tau or 0.0)
        figures = [(d.relative_bias, d.relative_deviation) for d in ordered]
        errors = np.array([[x.error or 0.0 for x in pair] for pair in figures])
        values = np.array(figures, dtype=float)
        xy = np.where(values > np.maximum(2 * errors, 1e-10), values, 0.0)
        exact = all(x.error is None for pair in figures for x in pair)
        return cls([d.tau for d in ordered], xy, errors, exact)


def _edges(xy: Any) -> tuple[Any, Any]:
    """Where zeros are drawn, beyond the smallest figure of each axis that is shown, and the largest figure."""
    top = np.maximum(xy.max(axis=0), (1.0, 10.0))
    smallest = [column[column > 0].min(initial=1.0) for column in xy.T]
    return 0.4 * np.maximum(smallest, top / SPAN), top


def _lies_on(name: str, places: Mapping[str, _Place]) -> str | None:
    """Another estimator that has its points: an earlier one at every shared temperature, or one point of any."""
    mine, earlier = places[name], True
    for other, theirs in places.items():
        if other == name:
            earlier = False
        elif set(mine.taus) == {None}:
            if any(np.allclose(mine.xy[0], point, rtol=0.02) for point in theirs.xy):
                return other
        elif earlier and (shared := [tau for tau in mine.taus if tau in theirs.taus]):
            at = [[place.taus.index(tau) for tau in shared] for place in (mine, theirs)]
            if np.allclose(mine.xy[at[0]], theirs.xy[at[1]], rtol=0.05):
                return other
    return None


def _set_limits(axes: Any, edges: Any, top: Any) -> None:
    """Logarithmic axes, with a band for zero at the left and one at the bottom."""
    (left, bottom), label = edges, {"fontsize": "small", "color": "0.35"}
    axes.set(
        xscale="log", yscale="log", xlim=(left / 1.8, 2 * top[0]), ylim=(bottom / 1.8, 1.5 * top[1])
    )
    axes.axvspan(left / 1.8, left * 1.8, color="0.92", zorder=0)
    axes.axhspan(bottom / 1.8, bottom * 1.8, color="0.92", zorder=0)
    beside = f"no bias seen,\nor below {2 * left:.1g}"
    axes.text(left, 1.005, beside, ha="center", transform=axes.get_xaxis_transform(), **label)
    below = f"no deviation, or below {2 * bottom:.1g}"
    axes.text(2.2 * left, bottom, below, va="center", **label)


def _draw_batches(axes: Any, batch_sizes: Sequence[int]) -> None:
    """For each batch the curve of what zero scores, and the diagonal of equal parts."""
    low, high = axes.get_xlim()
    t = np.linspace(0, np.pi / 2, 200)
    bias, diagonal = np.append(low, np.sin(t)), np.array([low, high])
    for k, B in enumerate(batch_sizes):
        edge = np.sqrt(B) * np.append(1, np.cos(t))
        axes.plot(bias, edge, color="black", linewidth=0.8, zorder=1)
        axes.plot(diagonal, np.sqrt(B) * diagonal, ":", color="0.6", linewidth=0.8, zorder=1)
        x = low * (high / low) ** (0.26 + 0.13 * (k % 4))
        note = {"fontsize": "small", "ha": "center", "va": "center", "zorder": 1.5}
        axes.text(x, edge[0], f"B = {B}", bbox={"color": "white", "pad": 1}, **note)


def _draw_at_left(axes: Any, points: Mapping[str, tuple[Any, dict]], left: float) -> None:
    """What has no bias: markers side by side in their band, and the names beside the frame, one above another."""
    low, high = np.log(axes.get_ylim())
    lowest, gap = 0.0, 0.031
    names = sorted(points, key=lambda name: points[name][0].min())
    for k, name in enumerate(names):
        heights, style = points[name]
        x = left * (0.72, 1.0, 1.39)[k % 3]
        axes.plot(np.full(len(heights), x), heights, **style)
        height = (np.log(heights.min()) - low) / (high - low)
        above = gap * (len(names) - 1 - k)  # room for those that follow
        place = min(max(height, lowest), 1 - above)
        lowest = place + gap
        axes.annotate(
            name,
            (x, heights.min()),
            (-0.05, place),
            textcoords="axes fraction",
            ha="right",
            va="center",
            fontsize="small",
            color=colour(name),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.5,
                "color": colour(name),
                "relpos": (1, 0.5),
            },
        )


def plot_against_samples(axes: Any, st_gs: Any) -> Any:
    """Draw the MSE of GR-MCK and its parts against K, from the exact diagnosis of ST-GS (K = 1).

    Proposition 3: the variance is that of GR plus 1/K of what ST-GS adds to it.
    """
    K = np.geomspace(1, 1000, 61)
    between = st_gs.variance - st_gs.variance_given_D
    variance = between + st_gs.variance_given_D / K
    limit = {"linestyle": "--", "linewidth": 1, "color": colour("gr")}
    axes.plot(K, st_gs.bias_squared + variance, color=colour("gr-mc1000"), label="MSE of gr-mcK")
    axes.axhline(st_gs.bias_squared + between, label="MSE of gr", **limit)
    axes.plot(K, variance, color=colour("gr-mc100"), label="variance of gr-mcK")
    axes.axhline(between, label="variance of gr", **(limit | {"linestyle": ":"}))
    if st_gs.bias_squared > 1e-20 * np.sum(st_gs.gradient**2):
        axes.axhline(st_gs.bias_squared, color="0.5", linewidth=1, label="bias$^2$, for every K")
    axes.plot(1, st_gs.mse, "o", color=colour("st-gs"), label="MSE of st-gs")
    axes.set(xscale="log", yscale="log" if st_gs.mse > 0 else "linear", xlabel="K")
    return axes


def draw_tree(
    axes: Any, words: Sequence[str], merges: Sequence[int], *, gold: Sequence[int] | None = None
) -> Any:
    """Draw a binary tree over ``words``; with a ``gold`` tree, spans that it lacks are red.

    ``merges`` as in :mod:`rbst.data.listops`: each takes the nodes k and k + 1 of those that are left.
    """
    from rbst.data.listops import spans

    right = set(spans(merges if gold is None else gold))
    nodes = [(float(x), 0.0) for x in range(len(words))]
    for k, span in zip(merges, spans(merges), strict=True):
        below = nodes[k : k + 2]
        parent = ((below[0][0] + below[1][0]) / 2, max(below[0][1], below[1][1]) + 1)
        stroke = "black" if span in right else "#d62728"
        for child in below:
            axes.plot(*zip(child, parent, strict=True), color=stroke, linewidth=1)
        nodes[k : k + 2] = [parent]
    for x, word in enumerate(words):
        axes.text(x, -0.25, word, ha="center", va="top", fontsize="small", rotation=90)
    axes.set_xlim(-0.5, len(words) - 0.5)
    axes.set_ylim(-2.5, len(words))
    axes.set_axis_off()
    return axes
