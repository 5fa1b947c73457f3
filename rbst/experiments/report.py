r"""``rbst report``: any folder of runs as the paper's tables, beside the paper's numbers.

Of the runs of one cell of a table the settings with the best validation are shown, with their figures on the test
set; nothing is selected by a test. What the cells and their figures are is said by each experiment
(:class:`Table`). Paulus et al. (2021), Tables 1 and 2 and Figure 2.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbst import __version__
from rbst._files import read_json, write_json, write_text
from rbst._tables import markdown_table, text_table, wrapped
from rbst._terminal import complain
from rbst.experiments import EXPERIMENTS, load_experiment
from rbst.experiments.run import save_figure

Result = Mapping[str, Any]
Results = Sequence[Result]
Cells = Mapping[tuple, Results]

NOT_SETTINGS = ("estimators", "seed", "seeds", "track", "bound_samples", "version")
"""Fields of a configuration in which runs of the same settings may differ."""


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes
    ----------
    title
        What the paper calls it.
    belongs, tested
        Whether a result is one for this table; the figure that a result has if it was tested.
    names, cell, order
        The names of the settings that distinguish the cells; their values for a result, the estimator last; the sorting key.
    has_tau
        Whether the estimator of a name has a temperature; where it has none, runs at any are of the same settings.
    score
        The validation of runs that differ in their seed alone, lower is better, infinite where all of them diverged.
    line
        What the table says of a cell, by column, made of the best runs of every cell and of all its runs; one
        column is ``paper``.
    shown
        The column of the figure that the paper's table has, empty without a test.
    repeats
        The columns that say what the cells of a group share.
    note, record
        What stands below the table, of the best runs and of the columns that are shown; what ``report.json`` says, of
        the best runs by cell and of all results.
    paper
        The numbers of the paper by cell.
    figures
        What is drawn, by file.
    """

    title: str
    belongs: Callable[[Result], bool]
    tested: str
    names: tuple[str, ...]
    cell: Callable[[Result], tuple]
    order: Callable[[tuple], tuple]
    has_tau: Callable[[str], bool]
    score: Callable[[Results], float]
    line: Callable[[tuple, Cells, Results], dict[str, str]]
    shown: str
    repeats: tuple[str, ...]
    note: Callable[[Sequence[Results], Collection[str]], str]
    record: Callable[[Cells, Cells], dict[str, Any]]
    paper: Mapping[tuple, float]
    figures: Mapping[str, Callable[[Results], Any]]


def collect(folders: Iterable[Path], table: Table) -> list[dict[str, Any]]:
    """The results under these folders for this table, each with its ``folder`` and the figures of its test, if any.

    What cannot be read, or is not what such a result is, is left out and said on standard error.
    """
    results = []
    found = (path for folder in folders for path in sorted(Path(folder).rglob("result.json")))
    paths = {path.resolve(): path for path in found}  # folders may overlap
    in_paper = [*map(kind, table.order(next(iter(table.paper))))]
    for path in paths.values():
        test = path.with_name("test.json")
        try:
            result = read_json(path)
            if not isinstance(result, dict) or not isinstance(result.get("config"), dict):
                raise ValueError(f"{path} is not the result of a run")
            if not table.belongs(result):
                continue
            if not isinstance(result["seed"], int):
                raise ValueError(f"{path} has a seed that is not an integer")
            if not isinstance(result["estimator"], str):
                raise ValueError(f"{path} has an estimator that is not a name")
            result["folder"] = str(path.parent)
            if test.is_file():
                result |= read_json(test)
                result[table.tested]
            settings_of(result, table)
            if math.isfinite(table.score([result])):
                line = table.line(table.cell(result), {table.cell(result): [result]}, [result])
                table.note([[result]], line.keys())
            if [*map(kind, table.order(table.cell(result)))] != in_paper:
                raise ValueError(f"{path} has a setting that the table cannot be sorted by")
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            reason = f"without {error}" if isinstance(error, KeyError) else error
            complain(f"left out: {path} ({reason})")
            continue
        results.append(result)
    return results


def kind(key: Any) -> type | None:
    """Of what kind a key to sort by is: a text, a number or neither."""
    if isinstance(key, int | float) and key == key:
        return float
    return str if isinstance(key, str) else None


def settings_of(result: Mapping[str, Any], table: Table) -> str:
    """Everything in the configuration of a run that decides its training but the seed, as a text."""
    unused = () if table.has_tau(result["estimator"]) else ("tau", "tau_final")
    config = {k: v for k, v in result["config"].items() if k not in (*NOT_SETTINGS, *unused)}
    # Older runs lack the fields that came later, whose None leaves out what they did not have.
    return repr(sorted((k, v) for k, v in config.items() if v is not None))


def by_cell(results: Results, table: Table) -> dict[tuple, list[Mapping[str, Any]]]:
    """The results by cell, in the order of the table."""
    cells: dict[tuple, list] = {}
    for result in results:
        cells.setdefault(table.cell(result), []).append(result)
    return {cell: cells[cell] for cell in sorted(cells, key=table.order)}


def best_runs(results: Results, table: Table) -> dict[tuple, list[Mapping[str, Any]]]:
    """Of each cell the runs of the settings with the best validation, by seed."""
    best = {}
    for cell, same in by_cell(results, table).items():
        groups: dict[str, list] = {}
        for result in same:
            groups.setdefault(settings_of(result, table), []).append(result)
        chosen = min(groups.values(), key=table.score)
        if math.isfinite(table.score(chosen)):
            # What was run twice counts once.
            by_seed = {r["seed"]: r for r in sorted(chosen, key=lambda r: -table.score([r]))}
            best[cell] = [by_seed[seed] for seed in sorted(by_seed)]
    return best


def rows_of(lines: Collection[Mapping[str, str]]) -> list[list[str]]:
    """Lines as rows of a table, the heading first; without the columns that say nothing of any."""
    said = [column for column in next(iter(lines)) if any(line[column] for line in lines)]
    return [said, *([line[column] for column in said] for line in lines)]


def said_by_all(lines: Collection[Mapping[str, str]], columns: Iterable[str]) -> dict[str, str]:
    """What all of several lines say alike, of these columns."""
    first, *others = lines
    return {c: first[c] for c in columns if others and all(o[c] == first[c] for o in others)}


def without(lines: Collection[Mapping[str, str]], columns: Collection[str]) -> list[dict[str, str]]:
    """The lines without these columns."""
    return [{k: v for k, v in line.items() if k not in columns} for line in lines]


def named(table: Table, group: tuple) -> str:
    """What the cells of a group share, as in ``tokens <= 10, tau = 0.1``; 0 stands for nothing."""
    pairs = zip(table.names, group, strict=True)
    return ", ".join(f"{key} {value}" for key, value in pairs if value)


def as_in_paper(
    table: Table, lines: Mapping[tuple, Mapping[str, str]]
) -> list[tuple[str, list[list[str]]]]:
    """The tests in the shape of the paper's table, its own in brackets: what cells share, and the rows.

    A row for each estimator and a column for each value of the last setting, a number, wherever that has several.
    """
    groups: dict[tuple, dict[tuple, str]] = {}
    for cell, line in lines.items():
        figure, paper = line[table.shown].partition(" ±")[0], line["paper"]
        if figure:
            text = f"{figure} ({paper})" if paper else figure
            groups.setdefault(cell[:-2], {})[cell[-2:]] = text
    setting, found = table.names[-1], []
    for group, texts in groups.items():
        values = sorted({value for value, _ in texts})
        # Not a set: estimators that share a place stay in the order of the lines.
        names = sorted(
            dict.fromkeys(name for _, name in texts), key=lambda n: table.order((*group, 0, n))
        )
        heading = [
            f"{setting} {value:g}" if value else f"no {setting.rstrip(' =')}" for value in values
        ]
        body = [[name, *(texts.get((value, name), "") for value in values)] for name in names]
        if sum(map(bool, values)) > 1:
            brackets = ", in brackets the paper" if "(" in "".join(texts.values()) else ""
            found.append((named(table, (*group, 0)) + brackets, [["estimator", *heading], *body]))
    return found


def paper_cell(cell: tuple) -> tuple:
    """The cell of the paper's table that this one stands beside: for the exact ``gr`` that of ``gr-mc1000``."""
    *rest, name = cell
    return (*rest, "gr-mc1000" if name == "gr" else name)


def beside_paper(found: float | None, cell: tuple, paper: Mapping[tuple, float]) -> dict[str, str]:
    """The paper's number of a cell, and how far the one found is from it."""
    number = paper.get(paper_cell(cell))
    difference = "" if None in (found, number) else f"{found - number:+.1f}"  # type: ignore[operator]
    return {"paper": "" if number is None else f"{number:.1f}", "minus paper": difference}


def missing(results: Results, table: Table) -> list[str]:
    """The cells of the paper's table that have no tested run, a line for each row of estimators."""
    done = {paper_cell(table.cell(result)) for result in results if table.tested in result}
    rows: dict[tuple, list[str]] = {}
    for *cell, name in table.paper:
        if (*cell, name) not in done:
            rows.setdefault(tuple(cell), []).append(name)
    return [f"{named(table, group)}: {', '.join(rows[group])}" for group in sorted(rows)]


def is_record(path: Path) -> bool:
    """Whether a file is the record of a report, of any version and of runs in any folder."""
    try:
        record = read_json(path)
    except ValueError:
        return False
    return isinstance(record, dict) and "version" in record


class Report:
    """The tables of the runs under some folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.tables: list[tuple[Table, dict[tuple, dict[str, str]], str]] = []
        self.record: dict[str, Any] = {"version": __version__}
        self.figures: dict[str, tuple[Callable[[Results], Any], Results]] = {}
        self.missing: dict[str, list[str]] = {}
        count = 0
        for experiment in map(load_experiment, EXPERIMENTS):
            table: Table = experiment.report
            results = collect(folders, table)
            count += len(results)
            cells, best = by_cell(results, table), best_runs(results, table)
            self.record |= table.record(best, cells)
            if best:
                lines = {cell: table.line(cell, best, cells[cell]) for cell in best}
                columns, *_ = rows_of(lines.values())
                self.tables.append((table, lines, table.note(list(best.values()), columns)))
                self.figures |= {name: (draw, results) for name, draw in table.figures.items()}
                self.missing[table.title] = missing(results, table)
        if not self.tables:
            places = ", ".join(map(str, folders))
            if count:
                raise ValueError(f"none of the {count} runs under {places} has a finite validation")
            raise ValueError(f"no finished run under {places}; give folders that hold result.json")

    def markdown(self) -> str:
        """The tables as Markdown, one for each experiment."""
        parts = []
        for table, lines, note in self.tables:
            for title, rows in as_in_paper(table, lines):
                parts.append(f"{title}:\n\n{markdown_table(rows)}\n")
            alike = said_by_all(lines.values(), table.repeats)
            rows = rows_of(without(lines.values(), alike))
            every = ", ".join(f"{column} {value}" for column, value in alike.items() if value)
            parts.append(f"{markdown_table(rows)}\n\n{f'All: {every}. ' if every else ''}{note}\n")
        return "\n".join(parts)

    def text(self) -> str:
        """The tables for a terminal: one for each group of cells, below what they share."""
        parts = []
        for table, lines, note in self.tables:
            for title, rows in as_in_paper(table, lines):
                parts.append(f"{title}\n{text_table(rows)}\n")
            groups: dict[tuple, list[dict[str, str]]] = {}
            for cell, line in lines.items():
                groups.setdefault(cell[:-1], []).append(line)
            for group, same in groups.items():
                rows = rows_of(without(same, table.repeats))
                parts.append(f"{named(table, group)}\n{text_table(rows)}\n")
            parts.append(f"{wrapped(note)}\n")
        return "\n".join(parts)

    def write(self, out: Path, *, overwrite: bool) -> None:
        """``report.md``, ``report.json`` and the figures; another report is left alone without ``overwrite``."""
        text = self.markdown()
        same = {
            "report.md": lambda path: path.read_bytes() == text.encode(),
            "report.json": is_record,
        }
        for name, says_so in same.items():
            path = out / name
            if path.exists() and not overwrite and not says_so(path):
                raise FileExistsError(
                    f"{path} says something else and is left as it is; replace it with --overwrite, or "
                    "choose another folder with --out"
                )
        write_json(out / "report.json", self.record)
        write_text(out / "report.md", text)
        for name, (draw, results) in self.figures.items():
            save_figure(out / name, draw, results)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rbst report``."""
    option = parser.add_argument
    option("folders", type=Path, nargs="+", metavar="FOLDER", help="searched for runs")
    option("--out", type=Path, metavar="FOLDER", help="of the report (default: the first FOLDER)")
    option("--overwrite", action="store_true", help="replace a report that says something else")
    text = "of what is printed; report.md is Markdown"
    option("--format", choices=("text", "markdown"), default="text", help=text)
    option("--missing", action="store_true", help="say which cells of the paper have no run")


def run(arguments: argparse.Namespace) -> int:
    """Collect, print, write."""
    for folder in arguments.folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; give folders that hold runs")
    report = Report(arguments.folders)
    print(getattr(report, arguments.format)(), flush=True)
    for title, lines in report.missing.items() if arguments.missing else ():
        print(f"Cells of {title} of the paper without a tested run:")
        print("\n".join(wrapped(f"    {line}") for line in lines) or "    none")
    report.write(arguments.out or arguments.folders[0], overwrite=arguments.overwrite)
    return 0
