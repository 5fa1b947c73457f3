"""One colour for each estimator, everywhere, and the truth in black.

Matplotlib is imported where it is used. Functions draw into Axes and return them; whoever called saves
the figure. Imported by experiments and tutorials only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

COLOURS = {
    "exact": "black",
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


def plot_curves(axes: Any, curves: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> Any:
    """Draw ``curves[estimator][run][key]`` against the iteration: mean and range over the runs."""
    for name, runs in curves.items():
        iterations = runs[0]["iteration"]
        values = np.array([run[key] for run in runs])
        axes.plot(iterations, values.mean(axis=0), color=colour(name), label=name)
        if len(runs) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(iterations, low, high, color=colour(name), alpha=0.15, linewidth=0)
    return axes


def show_images(axes: Any, rows: Mapping[str, Any], shape: tuple[int, int]) -> Any:
    """Draw named rows of grey images ``(k, pixels)``, 0 white and 1 black, with a gap between them."""
    height, width = shape
    padded = [
        np.pad(images.reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        for images in rows.values()
    ]
    axes.imshow(np.vstack([np.hstack(row) for row in padded]), cmap="Greys", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([(height + 2) * (row + 0.5) - 0.5 for row in range(len(rows))], list(rows))
    axes.tick_params(length=0, labelsize=8)
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
        axes.text(x, y + offset, f"$p_{k} = 1$", ha="center", va=side, fontsize=8)
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
        **colour_scale,
    )
    frame_simplex(axes)
    return cells


def plot_programme(axes: Any, mesh: Any, value: Any) -> Any:
    """Contours of a function of p over the simplex, ``value`` at the vertices of the mesh."""
    x, y = simplex_to_plane(mesh.vertices).T
    lines = axes.tricontour(x, y, mesh.triangles, value, levels=9, cmap="Greys_r")
    axes.clabel(lines, fontsize=7, fmt="%.2g")
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


def plot_against_samples(axes: Any, st_gs: Any) -> Any:
    """Draw the MSE of GR-MCK and its parts against K, from the exact diagnosis of ST-GS (K = 1).

    Proposition 3: the variance is that of GR, plus what ST-GS has on top of it over K.
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
    nodes = [(x, 0.0) for x in range(len(words))]
    for k, span in zip(merges, spans(merges), strict=True):
        below = nodes[k : k + 2]
        parent = ((below[0][0] + below[1][0]) / 2, max(below[0][1], below[1][1]) + 1)
        stroke = "black" if span in right else "#d62728"
        for child in below:
            axes.plot(*zip(child, parent, strict=True), color=stroke, linewidth=1)
        nodes[k : k + 2] = [parent]
    for x, word in enumerate(words):
        axes.text(x, -0.25, word, ha="center", va="top", fontsize=7, rotation=90)
    axes.set_xlim(-0.5, len(words) - 0.5)
    axes.set_ylim(-2.5, len(words))
    axes.set_axis_off()
    return axes
