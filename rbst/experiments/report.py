r"""``rbst report``: any folder of runs as the paper's tables, beside the paper's numbers.

Of the runs of one cell (estimator, arity, batch size) the one with the best validation bound is shown, with
its bound on the test images; nothing is selected by a test bound. Where runs were tracked, Figure 2 is
drawn as well. Paulus et al. (2021), Table 2 and Figure 2. Runs of ``rbst listops`` make Table 1, see
:mod:`rbst.experiments.listops_report`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rbst import __version__
from rbst._files import read_json, whole_file, write_json, write_text
from rbst._tables import markdown_table
from rbst.experiments import listops_report
from rbst.experiments.tracking import REFERENCE_DRAWS, VARIANCE_DRAWS

PAPER_ARITIES, PAPER_BATCH_SIZES = (2, 4, 8, 16), (20, 200)
PAPER = {
    "gs": ("98.2/96.4", "95.7/93.8", "95.5/92.3", "96.8/94.3"),
    "reinforce": ("202.6/121.4", "173.7/122.2", "203.9/124.9", "169.4/129.5"),
    "st": ("105.5/103.1", "106.2/104.5", "107.2/105.1", "108.2/104.5"),
    "st-gs": ("100.7/97.1", "99.1/93.7", "98.0/92.8", "98.8/92.6"),
    "gr-mc10": ("100.7/97.4", "97.8/93.8", "97.4/93.1", "97.9/92.4"),
    "gr-mc100": ("100.6/96.8", "97.5/94.0", "96.8/92.2", "97.3/92.4"),
    "gr-mc1000": ("100.5/97.0", "97.6/93.5", "96.5/92.5", "96.8/92.2"),
}
"""Table 2 of the paper: negative test bounds of 5,000 samples, B = 20 / B = 200, arities 2, 4, 8, 16."""


def paper_bound(config: dict[str, Any]) -> float | None:
    """The number of the paper's Table 2 for this cell, None where it has none.

    Examples
    --------
    >>> cell = {"data": "mnist", "bits": 240, "estimators": ["st-gs"], "arity": 16, "batch_size": 200}
    >>> paper_bound(cell)
    92.6
    """
    name, arity, batch_size = config["estimators"][0], config["arity"], config["batch_size"]
    known = name in PAPER and arity in PAPER_ARITIES and batch_size in PAPER_BATCH_SIZES
    if not known or (config["data"], config["bits"]) != ("mnist", 240):
        return None
    cell = PAPER[name][PAPER_ARITIES.index(arity)]
    return float(cell.split("/")[PAPER_BATCH_SIZES.index(batch_size)])


def collect(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The results of all finished runs under these folders, each with its ``folder`` and its test, if any."""
    results = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("result.json")):
            result = read_json(path)
            if result.get("config", {}).get("data") not in ("digits", "mnist"):
                continue  # of another experiment
            result["config"] = result["config"] | {"estimators": [result["estimator"]]}
            result["folder"] = str(path.parent)
            test = path.with_name("test.json")
            result["track"] = [read_json(p) for p in sorted(path.parent.glob("snapshots/*.json"))]
            results.append(result | (read_json(test) if test.is_file() else {}))
    return results


def cell_of(result: dict[str, Any]) -> tuple[str, int, int, int, str]:
    """What is compared: data, bits, batch size, arity, estimator."""
    config = result["config"]
    key = ("data", "bits", "batch_size", "arity")
    return (*(config[name] for name in key), result["estimator"])


def best_runs(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each cell the run with the lowest negative validation bound, in the order of the table."""
    best: dict[tuple, dict[str, Any]] = {}
    for result in results:
        if result["diverged_at"] is None:
            cell = cell_of(result)
            if cell not in best or result["valid_bound"] < best[cell]["valid_bound"]:
                best[cell] = result
    order = {name: place for place, name in enumerate(["reinforce", "gs", "st", "foust", "st-gs"])}

    def place(cell: tuple) -> tuple:
        *rest, name = cell
        samples = name.removeprefix("gr-mc")
        return (*rest, order.get(name, len(order)), int(samples) if samples.isdigit() else 10**9)

    return [best[cell] for cell in sorted(best, key=place)]


def table_rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table says of each cell."""
    rows = []
    for result in best_runs(results):
        config = result["config"]
        same = [other for other in results if cell_of(other) == cell_of(result)]
        rows.append(
            {
                "data": config["data"],
                "batch_size": config["batch_size"],
                "arity": config["arity"],
                "estimator": result["estimator"],
                "runs": len(same),
                "diverged": sum(other["diverged_at"] is not None for other in same),
                "valid_bound": result["valid_bound"],
                "test_bound": result.get("test_bound"),
                "error_over_images": result.get("error_over_images"),
                "samples": result.get("samples"),
                "paper": paper_bound(config),
                "learning_rate": config["learning_rate"],
                "learning_rate_final": config.get("learning_rate_final"),
                "momentum": config["momentum"],
                "tau": config["tau"],
                "tau_final": config["tau_final"],
                "iterations": config["iterations"],
                "seed": result["seed"],
                "thresholds": iterations_to_thresholds(result["curves"]),
                "folder": result["folder"],
            }
        )
    return rows


def iterations_to_thresholds(curves: dict[str, list[float]], step: float = 1.0) -> dict[str, int]:
    """The first measured iteration at which the validation bound has fallen to each multiple of ``step``.

    Examples
    --------
    >>> curves = {"iteration": [10, 20, 30], "valid_bound": [25.2, 23.9, 24.5]}
    >>> iterations_to_thresholds(curves)
    {'26': 10, '25': 20, '24': 20}
    """
    reached: dict[str, int] = {}
    lowest = None
    for iteration, bound in zip(
        curves.get("iteration", []), curves.get("valid_bound", []), strict=True
    ):
        threshold = int(-(-bound // step) * step)
        if lowest is None:
            lowest = threshold + int(step)
        while lowest - step >= threshold:
            lowest -= int(step)
            reached[str(lowest)] = iteration
    return reached


def format_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    heading = ["estimator", "data", "B", "n", "test bound", "paper", "validation", "runs"]
    heading += ["learning rate", "momentum", "tau"]
    lines = [heading]
    for row in rows:
        test = "" if row["test_bound"] is None else f"{row['test_bound']:.2f}"
        lost = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        lines.append(
            [
                row["estimator"],
                row["data"],
                str(row["batch_size"]),
                str(row["arity"]),
                test,
                "" if row["paper"] is None else f"{row['paper']:.1f}",
                f"{row['valid_bound']:.2f}",
                f"{row['runs']}{lost}",
                _from_to(row["learning_rate"], row["learning_rate_final"]),
                f"{row['momentum']:.3g}",
                _from_to(row["tau"], row["tau_final"]),
            ]
        )
    samples = sorted({row["samples"] for row in rows if row["samples"]})
    note = (
        "Negative log-likelihood bounds in nats, lower is better. Of each cell the run with the best validation "
        "bound is shown. Test bounds are of M = "
        + (", ".join(map(str, samples)) or "?")
        + " samples."
    )
    return f"{markdown_table(lines)}\n\n{note}\n"


def _from_to(first: float, final: float | None) -> str:
    return f"{first:.3g}" + (f" to {final:.3g}" if final is not None else "")


def write_report(folders: Sequence[Path], out: Path) -> str:
    """Write ``report.md`` and ``report.json`` to ``out`` and return the Markdown."""
    results, parsers = collect(folders), listops_report.collect(folders)
    if not best_runs(results) and not parsers:
        raise ValueError(
            f"no finished run under {', '.join(map(str, folders))}; give folders that hold result.json"
        )
    rows = table_rows(results)
    tables = [format_markdown(rows)] if rows else []
    tables += [listops_report.format_markdown(parsers)] if parsers else []
    text = "\n".join(tables)
    write_json(out / "report.json", {"version": __version__, "rows": rows, "listops": parsers})
    write_text(out / "report.md", text)
    draw_figure2(results, out / "figure2.png")
    return text


def draw_figure2(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Figure 2 of the paper, of the first cell that has a tracked run; nothing where none has.

    (a) and (b) are of the best tracked run of that cell, (c) of the best run of each estimator.
    """
    from rbst.plotting import new_figure

    tracked = best_runs([result for result in results if result["track"]])
    if not tracked:
        return
    run = tracked[0]
    same = [result for result in best_runs(results) if cell_of(result)[:-1] == cell_of(run)[:-1]]
    figure, axes = new_figure(1, 3, width=12, height=3.8)
    _draw_variances(axes[0, 0], run)
    _draw_errors(axes[0, 1], run)
    _draw_thresholds(axes[0, 2], same)
    axes[0, 1].legend(frameon=False, fontsize=8)  # where all lines fall, so there is room
    config = run["config"]
    figure.suptitle(
        f"{config['data']}, {config['bits']} bits, n = {config['arity']}, batch {config['batch_size']}; "
        f"(a) and (b) at the parameters of a run of {run['estimator']} (seed {run['seed']}), "
        f"(a) at tau = {config['tau']:.3g};\n{VARIANCE_DRAWS} draws of each gradient, in (b) against the mean of "
        f"{REFERENCE_DRAWS} draws of reinforce",
        fontsize=9,
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_variances(axes: Any, run: dict[str, Any]) -> None:
    from rbst.plotting import colour

    iterations = [point["iteration"] for point in run["track"]]
    for name in run["track"][0]["variance"]:
        traces = [point["variance"][name] for point in run["track"]]
        axes.plot(iterations, traces, ".-", color=colour(name))
    axes.set(
        title="(a) variance", xlabel="iteration", ylabel="trace of the covariance", yscale="log"
    )


def _draw_errors(axes: Any, run: dict[str, Any]) -> None:
    from rbst.plotting import colour

    point = [point for point in run["track"] if "mse" in point][-1]
    for name, values in point["mse"].items():
        axes.errorbar(
            [value["tau"] for value in values],
            [value["mse"] for value in values],
            yerr=[value["standard_error"] for value in values],
            color=colour(name),
            capsize=2,
            label=name,
        )
    title = f"(b) mean squared error, iteration {point['iteration']}"
    axes.set(
        title=title, xlabel="tau", ylabel="MSE, one standard error", xscale="log", yscale="log"
    )


def _draw_thresholds(axes: Any, results: Sequence[dict[str, Any]]) -> None:
    from rbst.plotting import colour

    for result in results:
        reached = iterations_to_thresholds(result["curves"])
        bounds = [int(bound) for bound in reached]
        axes.plot(reached.values(), bounds, ".-", color=colour(result["estimator"]))
    axes.set(
        title="(c) iterations to a validation bound",
        xlabel="iteration",
        ylabel="negative bound (nats), M = 1",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst report``."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="searched for runs")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the report (default: the first FOLDER)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Collect, write, print."""
    for folder in arguments.folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; give folders that hold runs")
    print(write_report(arguments.folders, arguments.out or arguments.folders[0]))
    return 0
