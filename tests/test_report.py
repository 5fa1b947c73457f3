"""The report: selection by validation alone, the paper's numbers in their places, foreign files ignored."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from rbst._files import write_npz
from rbst.cli import main
from rbst.experiments import listops, tracking
from rbst.experiments.report import Report, best_runs, collect, settings_of
from rbst.experiments.tracking import iterations_to_thresholds
from rbst.experiments.vae import (
    EXPERIMENT,
    PAPER,
    PAPER_CELLS,
    cell_of,
    draw_table,
    has_tau,
    make_config,
)

pytestmark = pytest.mark.usefixtures("unrendered")

TABLE = EXPERIMENT.report
LISTOPS = listops.EXPERIMENT.report
RESULTS = Path(__file__).parents[1] / "docs" / "results"


def rows_of(folder):
    return Report([folder]).record["rows"]


def write_report(folder):
    Report([folder]).write(folder, overwrite=True)


def result(name="st-gs", valid=100.0, test=None, diverged_at=None, seed=0, **options):
    config = vars(make_config({"data": "mnist", "estimators": [name], "seed": seed} | options))
    run = {"config": config, "estimator": name, "seed": seed, "diverged_at": diverged_at}
    run |= {"curves": {"iteration": [1000, 2000], "valid_bound": [121.0, 104.9]}}
    run |= {} if valid is None else {"valid_bound": valid}
    return run | ({} if test is None else {"test": test})


def write(folder, run):
    folder.mkdir(parents=True)
    test = run.pop("test", None)
    (folder / "result.json").write_text(json.dumps(run))
    if test is not None:
        text = {"samples": 5000, "test_bound": test, "test_bound_1": 0, "error_over_images": 0.2}
        (folder / "test.json").write_text(json.dumps(text))


def test_the_best_run_is_that_of_the_best_validation_bound_whatever_its_test_says(tmp_path):
    write(tmp_path / "a", result(valid=99.0, test=150.0, learning_rate=0.1))
    write(tmp_path / "b", result(valid=99.5, test=90.0, learning_rate=0.2))
    write(tmp_path / "c", result(valid=None, diverged_at=7, learning_rate=0.3))
    write(tmp_path / "deep" / "er" / "d", result("gr-mc100", valid=95.0, test=96.0))
    rows = rows_of(tmp_path)
    assert [(row["estimator"], row["test_bound"]) for row in rows] == [
        ("st-gs", 150.0),
        ("gr-mc100", 96.0),
    ]
    assert (rows[0]["runs"], rows[0]["diverged"], rows[0]["learning_rate"]) == (3, 1, 0.1)
    assert (rows[0]["paper"], rows[1]["paper"]) == (100.7, 100.6)


def paper_bound(result):
    return PAPER_CELLS.get(cell_of(result))


def test_cells_of_the_paper():
    for name in PAPER:
        for arity in (2, 4, 8, 16):
            for batch_size in (20, 200):
                assert 90 < paper_bound(result(name, arity=arity, batch_size=batch_size)) < 210
    values = {
        ("gs", 2, 20): 98.2,
        ("reinforce", 16, 200): 129.5,
        ("st", 4, 200): 104.5,
        ("gr-mc1000", 8, 20): 96.5,
        ("st-gs", 16, 200): 92.6,
    }
    for (name, arity, batch_size), expected in values.items():
        assert paper_bound(result(name, arity=arity, batch_size=batch_size)) == expected


@pytest.mark.parametrize("options", [{"batch_size": 50}, {"bits": 120}, {"data": "digits"}])
def test_cells_that_the_paper_does_not_have(options):
    run = result()
    assert paper_bound(run | {"config": run["config"] | options}) is None
    assert paper_bound(result("gr-mc7")) is None


def test_cells_are_ordered_and_kept_apart(tmp_path):
    runs = [
        result("gr-mc100"),
        result("gr-mc10"),
        result("st"),
        result("reinforce"),
        result("st", arity=16),
        result("st", batch_size=200),
    ]
    order = [
        (run["config"]["batch_size"], run["config"]["arity"], run["estimator"])
        for (run,) in best_runs(runs, TABLE).values()
    ]
    assert order == [
        (20, 2, "reinforce"),
        (20, 2, "st"),
        (20, 2, "gr-mc10"),
        (20, 2, "gr-mc100"),
        (20, 16, "st"),
        (200, 2, "st"),
    ]


def test_the_exact_gr_stands_beside_a_thousand_samples(tmp_path):
    write(tmp_path / "a", result("gr", valid=99.0, test=99.0))
    (row,) = rows_of(tmp_path)
    assert row["paper"] == 100.5
    report = Report([tmp_path])
    ((_, lines, _),) = report.tables
    assert [line["minus paper"] for line in lines.values()] == ["-1.5"]
    assert not any(
        "n = 2: " in line and "gr-mc1000" in line and "B = 20," in line
        for line in report.missing["Table 2"]
    )


def test_thresholds_are_reached_once_and_in_order():
    curves = {"iteration": [1, 2, 3, 4, 5], "valid_bound": [104.0, 104.5, math.nan, 101.9, 100.2]}
    reached = {"104": 1, "103": 4, "102": 4, "101": 5}
    assert list(iterations_to_thresholds(curves).items()) == list(reached.items())
    assert iterations_to_thresholds({"iteration": [], "valid_bound": []}) == {}


def test_other_results_are_left_out(tmp_path):
    write(tmp_path / "vae", result(test=98.0))
    (tmp_path / "listops").mkdir()
    (tmp_path / "listops" / "result.json").write_text('{"estimator": "st-gs", "config": {}}')
    assert len(collect([tmp_path], TABLE)) == 1


def test_the_command_writes_markdown_and_json(tmp_path, capsys):
    write(tmp_path / "a", result(valid=99.0, test=98.5))
    assert main(["report", str(tmp_path), "--format", "markdown"]) == 0
    line = "| st-gs | mnist | 20 | 2 | 98.50 ± 0.20 | 100.7 | -2.2 | 99.00 | 1 |"
    assert line in capsys.readouterr().out
    assert line in (tmp_path / "report.md").read_text()
    (row,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["thresholds"]["121"] == 1000
    assert row["thresholds"]["120"] == row["thresholds"]["105"] == 2000
    assert "104" not in row["thresholds"]


def test_a_setting_that_fell_is_shown_with_both_ends_and_one_that_older_runs_lack_is_constant(
    tmp_path,
):
    fell = result(learning_rate=0.1, learning_rate_final=0.02, tau=1.0, tau_final=0.5)
    older = result("gr", learning_rate=0.3)
    del older["config"]["learning_rate_final"]
    write(tmp_path / "fell", fell)
    write(tmp_path / "older", older)
    lines = Report([tmp_path]).markdown().splitlines()
    assert lines[2].endswith("| 0.1 to 0.02 | 0.9 | 1 to 0.5 |")
    assert lines[3].endswith("| 0.3 | 0.9 | 0.5 |")


def track(folder, **config):
    """A tracked run of ST-GS in this folder."""
    run = result("st-gs", valid=99.0, **config)
    write(folder, run)
    (folder / "snapshots").mkdir()
    mse = {"st": [{"tau": tau, "mse": tau, "standard_error": 0.1} for tau in (0.5, 1.0)]}
    parts = {"choice": 1.0, "choice_error": 0.1, "noise": 2.0, "noise_error": 0.1}
    for iteration in (1000, 2000):
        split = [{"tau": tau, **parts} for tau in (0.1, 0.5, 1.0)]
        point = {"iteration": iteration, "split": split, "mse": mse}
        (folder / "snapshots" / f"{iteration:07d}.json").write_text(json.dumps(point))


@pytest.mark.renders
def test_figure_2_is_of_the_best_tracked_run_and_compares_the_best_runs(tmp_path, monkeypatch):
    write(tmp_path / "plain", result("st", valid=99.0))
    write_report(tmp_path)
    assert not (tmp_path / "figure2.svg").exists()
    write(tmp_path / "better", result("st-gs", valid=98.0))  # which was not tracked
    track(tmp_path / "tracked")
    drawn = {}

    def spy(run, same, draw=tracking.draw_figure2):
        drawn["run"], drawn["same"] = run, same
        return draw(run, same)

    monkeypatch.setattr(tracking, "draw_figure2", spy)
    write_report(tmp_path)
    assert drawn["run"]["valid_bound"] == 99.0
    assert [point["iteration"] for point in drawn["run"]["track"]] == [1000, 2000]
    assert [run["valid_bound"] for (run,) in drawn["same"]] == [99.0, 98.0]
    assert (tmp_path / "figure2.svg").read_text().startswith("<?xml")
    assert not (tmp_path / "removed.svg").exists()


@pytest.mark.renders
def test_what_is_removed_stands_side_by_side_for_every_number_of_categories(tmp_path, monkeypatch):
    track(tmp_path / "four", arity=4)
    track(tmp_path / "sixteen", arity=16)
    drawn = {}

    def spy(runs, draw=tracking.draw_removed):
        drawn["arities"] = [run["config"]["arity"] for run in runs]
        return draw(runs)

    monkeypatch.setattr(tracking, "draw_removed", spy)
    monkeypatch.setattr(tracking, "draw_figure2", lambda run, same: drawn.update(run=run))
    write_report(tmp_path)
    assert drawn["arities"] == [4, 16]
    assert drawn["run"]["config"]["arity"] == 16
    assert (tmp_path / "removed.svg").read_text().startswith("<?xml")


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    for folder, message in ((tmp_path, "no finished run"), (tmp_path / "none", "not a folder")):
        assert main(["report", str(folder)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match="no finished run"):
        write_report(tmp_path)


# Whatever lies below the folder, the rest is reported.


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "null", '"text"', 50_000 * "[", 50_000 * '{"a":' + "1" + 50_000 * "}"],
)
def test_a_foreign_or_damaged_result_does_not_stop_a_report(tmp_path, capsys, content):
    write(tmp_path / "good", result(valid=99.0, test=98.5))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "98.50" in captured.out
    assert f"left out: {tmp_path / 'bad' / 'result.json'}" in captured.err


@pytest.mark.parametrize(
    "key", ["config", "estimator", "seed", "diverged_at", "curves", "valid_bound"]
)
@pytest.mark.parametrize("value", [None, "text", [], {}, {"a": []}])
def test_a_result_with_a_part_of_another_kind_is_left_out_or_reported(tmp_path, capsys, key, value):
    write(tmp_path / "good", result("gr", valid=99.0, test=98.5))
    write(tmp_path / "bad", result(valid=99.0, test=98.5) | {key: value})
    write(tmp_path / "less", {k: v for k, v in result(test=97.0).items() if k != key})
    assert main(["report", str(tmp_path)]) == 0
    assert "98.50" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[]", "{}", '{"test_bound": "low"}', "{"])
def test_a_damaged_test_is_left_out(tmp_path, capsys, text):
    write(tmp_path / "good", result("gr", valid=99.0, test=98.5))
    write(tmp_path / "bad", result(valid=99.0, test=98.5))
    (tmp_path / "bad" / "test.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 0
    assert "left out" in capsys.readouterr().err


def test_a_report_is_replaced_only_if_asked_and_printed_all_the_same(tmp_path, capsys):
    write(tmp_path / "a", result(valid=99.0, test=98.5))
    assert main(["report", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path)]) == 0  # it says the same
    first = (tmp_path / "report.md").read_text()
    write(tmp_path / "b", result(valid=98.0, test=97.5))
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "97.50" in captured.out
    assert "replace it with --overwrite" in captured.err
    assert (tmp_path / "report.md").read_text() == first
    assert main(["report", str(tmp_path), "--overwrite"]) == 0
    assert "97.50" in (tmp_path / "report.md").read_text()


def test_each_file_of_a_report_is_replaced_only_if_asked(tmp_path, capsys):
    write(tmp_path / "a", result(valid=99.0, test=98.5))
    (tmp_path / "report.json").write_text('{"mine": 1}')
    assert main(["report", str(tmp_path)]) == 2
    assert "report.json says something else" in capsys.readouterr().err
    assert (tmp_path / "report.json").read_text() == '{"mine": 1}'
    assert not (tmp_path / "report.md").exists()
    (tmp_path / "report.json").unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path / "." / "a" / "..")]) == 0  # the same, from elsewhere
    (tmp_path / "report.md").write_bytes(b"\xff")
    assert main(["report", str(tmp_path)]) == 2
    assert "report.md says something else" in capsys.readouterr().err


def test_a_run_in_folders_that_overlap_counts_once(tmp_path):
    write(tmp_path / "a" / "b", result(valid=99.0, test=98.5))
    folders = [tmp_path, tmp_path / "a", tmp_path / "." / "a" / "b"]
    assert Report(folders).record["rows"] == Report([tmp_path / "a" / "b"]).record["rows"]


def test_runs_that_all_diverged_are_said_to_have(tmp_path, capsys):
    for name in ("st", "gr"):
        write(tmp_path / name, result(name, valid=None, diverged_at=3))
    assert main(["report", str(tmp_path)]) == 2
    assert "none of the 2 runs" in capsys.readouterr().err


@pytest.mark.parametrize("bound", [1e12, 1e300, float("inf"), float("nan")])
def test_a_huge_or_infinite_bound_takes_no_time_and_is_not_the_best(tmp_path, capsys, bound):
    huge = result(valid=bound, test=98.5)
    huge["curves"] = {"iteration": [1, 2, 3], "valid_bound": [bound, 120.5, bound]}
    write(tmp_path / "huge", huge)
    write(tmp_path / "good", result(valid=105.0, test=104.0))
    assert main(["report", str(tmp_path)]) == 0
    assert "104.00" in capsys.readouterr().out
    assert len(iterations_to_thresholds(huge["curves"])) <= 1001


def test_the_cells_of_the_paper_that_are_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    write(tmp_path / "a", result("gr", valid=99.0, test=98.5))
    write(tmp_path / "b", result("st", valid=99.0))  # not tested
    assert main(["report", str(tmp_path), "--missing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (first, *_) = [line.strip() for line in lines if line.startswith("    data mnist")]
    assert first == (
        "data mnist, bits 240, B = 20, n = 2: gs, reinforce, st, st-gs, gr-mc10, gr-mc100"
    )
    assert sum(line.startswith("    data mnist") for line in lines) == 8


def test_several_seeds_of_the_best_settings_are_averaged(tmp_path):
    write(tmp_path / "other", result(valid=98.5, test=90.0, learning_rate=0.2))
    for seed, valid, test in ((0, 98.0, 97.0), (1, 99.0, 98.0), (2, 103.0, 102.0)):
        write(tmp_path / str(seed), result(valid=valid, test=test, seed=seed))
    (row,) = rows_of(tmp_path)
    assert (row["valid_bound"], row["test_bound"], row["runs"]) == (100.0, 99.0, 4)
    assert "| 99.00 ± 0.20 | 2.65 (3) |" in Report([tmp_path]).markdown()


@pytest.mark.parametrize(("name", "seeds"), [("foust", 2), ("st-gs", 1)])
def test_a_temperature_distinguishes_settings_only_where_the_estimator_has_one(
    tmp_path, name, seeds
):
    for seed, tau in enumerate((0.5, 0.7)):
        write(tmp_path / str(seed), result(name, seed=seed, tau=tau))
    (best,) = best_runs(collect([tmp_path], TABLE), TABLE).values()
    assert len(best) == seeds


def test_what_older_runs_lack_is_the_same_setting_as_none(tmp_path):
    old, new = result(seed=0), result(seed=1)
    assert old["config"].pop("tau_final") is None
    assert settings_of(old, TABLE) == settings_of(new, TABLE)


def test_given_trees_are_the_same_settings_at_any_temperature(tmp_path):
    config = vars(listops.EXPERIMENT.make_config({"estimators": ["gold"]}))
    accuracy = {"valid": 0.5, "test": 0.5, "published_test": 0.5}
    scores = {"accuracy": accuracy, "f1": accuracy}
    run = {"estimator": "gold", "diverged_at": None, "iterations": 1} | scores
    for seed, tau in enumerate((0.1, 1.0)):
        write(tmp_path / str(seed), run | {"seed": seed, "config": config | {"tau": tau}})
    (best,) = best_runs(collect([tmp_path], LISTOPS), LISTOPS).values()
    assert [run["seed"] for run in best] == [0, 1]


def test_the_difference_to_st_gs_is_paired_over_images_and_left_out_without_them(tmp_path, rng):
    images = rng.normal(100, 25, 400)
    for name, gain in (("st-gs", 0.0), ("gr", 1.0), ("st", -3.0)):
        for seed in (0, 1):
            write(tmp_path / f"{name}{seed}", result(name, test=100.0 - gain, seed=seed))
            bounds = np.stack([images, gain - images + rng.normal(0, 0.5, 400)])
            if name != "st":
                write_npz(tmp_path / f"{name}{seed}" / "test-bounds-5000.npz", {"bounds": bounds})
    st, st_gs, gr = rows_of(tmp_path)
    assert (st["minus_st_gs"], st_gs["minus_st_gs"]) == (None, None)
    difference, error = gr["minus_st_gs"]
    assert error == pytest.approx(0.5 / np.sqrt(400), rel=0.2)  # of two differences of two means
    assert abs(difference + 1) < 5 * error  # wrong by chance once in a million
    assert f"| {difference:.2f} ± {error:.2f} |" in Report([tmp_path]).markdown()
    assert draw_table(collect([tmp_path], TABLE)) is None  # of one number of categories
    write(tmp_path / "four", result(test=98.0, arity=4))
    bounds, gains = draw_table(collect([tmp_path], TABLE)).axes
    drawn = [tuple(point) for line in bounds.lines for point in line.get_xydata()]
    of_paper = {(2, 105.5), (2, 100.7), (2, 100.5), (4, 99.1)}  # of GR-MC1000, for gr
    measured = {(2, 103.0), (2, 100.0), (2, 99.0), (4, 98.0)}
    assert {point for point in drawn if point[1] == point[1]} == of_paper | measured
    assert len(drawn) == 3 * 2 * 2  # a gap where only st-gs has a point
    _, measured, in_paper = (line.get_xydata().tolist() for line in gains.lines)
    assert (measured, in_paper) == ([[2, -difference]], [[2, pytest.approx(0.2)]])


@pytest.mark.parametrize(
    "fault",
    [
        lambda run, test: test.update(samples=None),
        lambda run, test: run["config"].update(batch_size=None),
        lambda run, test: run.update(estimator=True),
        lambda run, test: run["config"].update(arity=""),
        lambda run, test: run["config"].update(arity=float("nan")),
    ],
    ids=["samples", "batch size", "estimator", "arity as a text", "arity that is no number"],
)
def test_one_wrong_value_leaves_out_one_run_and_names_it(tmp_path, capsys, fault):
    write(tmp_path / "right", result(valid=99.0, test=98.5))
    write(tmp_path / "wrong", result("gr", valid=98.0, test=97.5))
    paths = [tmp_path / "wrong" / name for name in ("result.json", "test.json")]
    run, test = (json.loads(path.read_text()) for path in paths)
    fault(run, test)
    for path, content in zip(paths, (run, test), strict=True):
        path.write_text(json.dumps(content))
    assert [row["estimator"] for row in rows_of(tmp_path)] == ["st-gs"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"left out: {paths[0]}" in said


@pytest.mark.parametrize(("data", "in_paper"), [("mnist", True), ("digits", False)])
def test_the_picture_of_the_table_speaks_of_the_paper_where_it_is_drawn(tmp_path, data, in_paper):
    for arity in (2, 4):
        write(tmp_path / f"{arity}", result(test=98.0, arity=arity, data=data))
    caption = draw_table(collect([tmp_path], TABLE)).get_suptitle()
    assert ("in the paper" in caption) == in_paper


def test_nothing_is_drawn_of_runs_that_are_not_tested(tmp_path):
    write(tmp_path / "a", result())
    write(tmp_path / "b", result(arity=4))
    assert draw_table(collect([tmp_path], TABLE)) is None


def test_a_column_that_is_empty_is_not_shown_and_no_note_speaks_of_it(tmp_path):
    write(tmp_path / "digits", result(valid=99.0, test=98.5, data="digits", bits=24))
    text = Report([tmp_path]).text()
    assert not any(word in text for word in ("paper", "Spread", "difference", "spread"))
    write(tmp_path / "mnist", result(valid=99.0, test=98.5))
    text = Report([tmp_path]).text()  # a table for each
    headings = [line for line in text.splitlines() if line.startswith("estimator")]
    assert ["paper" in heading for heading in headings] == [False, True]


def test_on_a_terminal_no_word_of_a_heading_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for seed in range(3):
        write(tmp_path / str(seed), result("gr-mc100", valid=99.0, test=98.5 + seed, seed=seed))
    text = Report([tmp_path]).text()
    assert text.startswith("data mnist, bits 240, B = 20, n = 2\nestimator ")
    assert max(map(len, text.splitlines())) <= 80
    heading = " ".join(text.split("---")[0].split())
    words = "estimator test bound spread seeds paper validation runs learning rate momentum tau"
    assert set(words.split()) <= set(heading.replace("(", "").replace(")", "").split())


@pytest.mark.parametrize(
    ("page", "records", "rows"),
    [
        ("mnist/every_cell.md", "mnist/recipe", 30),
        ("mnist/every_cell.md", "mnist/batch200", 29),
        ("mnist/one_rate.md", "mnist/runs", 15),
        ("listops/every_run.md", "listops/runs", 45),
    ],
)
def test_the_tables_of_the_pages_are_those_of_their_records(page, records, rows):
    *_, table = tables_of(RESULTS / records)
    assert len(table.splitlines()) == 2 + rows
    assert table in (RESULTS / page).read_text(encoding="utf-8")


def tables_of(records):
    """Those in the shape of the paper's, then the one of all cells."""
    blocks = Report([records]).markdown().split("\n\n")
    return [block.strip() for block in blocks if block.startswith("|")]


@pytest.mark.parametrize(
    ("page", "records", "several"),
    [("mnist", "recipe", 1), ("mnist", "batch200", 1), ("listops", "runs", 3)],
)
def test_the_pages_open_with_the_tables_of_the_paper(page, records, several):
    *in_its_shape, _ = tables_of(RESULTS / page / records)
    assert len(in_its_shape) == several
    text = (RESULTS / page / "README.md").read_text(encoding="utf-8")
    assert all(table in text for table in in_its_shape)


def test_several_columns_are_shown_in_the_shape_of_the_paper_first(tmp_path):
    write(tmp_path / "a", result("st-gs", test=98.5, arity=2))
    assert len(tables_of(tmp_path)) == 1
    write(tmp_path / "b", result("gr", test=97.25, arity=16))
    write(tmp_path / "c", result("gr-mc7", test=98.0, arity=16))
    write(tmp_path / "d", result("st", arity=16))  # not tested
    for name in ("zgr", "reinmax"):  # which share the place of gr
        write(tmp_path / name, result(name, test=99.0, arity=16))
    first, _ = tables_of(tmp_path)
    assert first.splitlines() == [
        "| estimator | n = 2 | n = 16 |",
        "|---|---:|---:|",
        "| st-gs | 98.50 (100.7) |  |",
        "| gr-mc7 |  | 98.00 |",
        "| gr |  | 97.25 (96.8) |",
        "| reinmax |  | 99.00 |",
        "| zgr |  | 99.00 |",
    ]
    text = Report([tmp_path]).text()
    assert text.startswith("data mnist, bits 240, B = 20, in brackets the paper\nestimator")


RATES = {2: 7e-4, 4: 8e-4, 8: 9e-4, 16: 1e-3}  # of the recipe, by arity


def test_the_seeds_of_the_page_are_those_of_their_records():
    runs = collect([RESULTS / "mnist" / name for name in ("recipe", "seeds")], TABLE)
    page, cells = (
        " ".join((RESULTS / "mnist" / name).read_text(encoding="utf-8").split())
        for name in ("README.md", "every_cell.md")
    )
    leads, pairs, means_of, deviations = [], [], {}, []
    for arity, rate in RATES.items():
        bounds = {name: seeds_of(name, arity, rate, runs, cells) for name in SEEDED}
        means = (f"{b.mean():.2f} ({b.std(ddof=1):.2f})" for b in bounds.values())
        assert f"| {arity} | {' | '.join(means)} |" in page
        ahead = {n: bounds["st-gs"] - b for n, b in bounds.items() if n != "st-gs"}
        assert all((lead > 0).all() for lead in ahead.values())
        assert f"| {arity} | {' | '.join(map(with_error, ahead.values()))} |" in page
        leads.append(ahead["gr"])
        pairs.extend(bounds["gr-mc10"] - bounds["gr"])
        for name, lead in ahead.items():
            means_of.setdefault(name, []).append(lead.mean())
        deviations.extend(b.std(ddof=1) for b in bounds.values())
    above = f"{with_error(np.array(pairs))} above `gr`"
    assert f"{above} on average over the twelve pairs" in page
    assert f"over [three seeds](#what-a-seed-changes) `gr-mc10` ends {above}." in page
    ranges = {name: f"{min(found):.1f} to {max(found):.1f}" for name, found in means_of.items()}
    assert (
        f"`gs` is {ranges['gs']} below, `gr` {ranges['gr']} and `gr-mc10` {ranges['gr-mc10']},"
        in page
    )
    assert f"standard deviation of up to {max(deviations):.1f} nats" in page
    assert f"two runs one of up to {np.sqrt(2) * max(deviations):.1f}:" in page
    means, variances = zip(*((lead.mean(), lead.var(ddof=1) / 3) for lead in leads), strict=True)
    rest, error = np.mean(means[1:]), np.sqrt(sum(variances[1:])) / 3
    more = f"{rest - means[0]:.2f} ± {np.hypot(error, np.sqrt(variances[0])):.2f}"
    assert f"its lead is {rest:.2f} ± {error:.2f}, which is {more} more than with 2" in page


def test_the_second_seed_at_batches_of_200():
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    runs = collect([RESULTS / "mnist" / name for name in ("batch200", "seeds")], TABLE)
    told = []
    for arity in (8, 16):
        both = [
            {
                run["seed"]: run["valid_bound"]
                for run in runs
                if by_the_recipe(run, name, arity, 4 * RATES[arity])
            }
            for name in ("st-gs", "gr")
        ]
        first, second = (both[0][seed] - both[1][seed] for seed in (0, 1))
        told.append(f"{second:.2f} with {arity} ({first:.2f} with the first)")
    assert f"second seed, on validation images, it is ahead by {' and '.join(told)}" in page


SEEDED = ("gs", "st-gs", "gr-mc10", "gr")


def seeds_of(name, arity, rate, runs, page):
    """The test bounds of three seeds, once the page says of them and of their validation what the records do."""
    found = sorted(
        (run for run in runs if by_the_recipe(run, name, arity, rate)), key=lambda run: run["seed"]
    )
    assert [run["seed"] for run in found] == [0, 1, 2]
    assert len({settings_of(run, TABLE) for run in found[1:]}) == 1
    assert all(run["samples"] == 5000 for run in found)
    both = (f"{run['test_bound']:.2f} ({run['valid_bound']:.2f})" for run in found)
    assert f"| {name} | {arity} | {' | '.join(both)} |" in page
    return np.array([run["test_bound"] for run in found])


def with_error(differences):
    return f"{differences.mean():.2f} ± {differences.std(ddof=1) / np.sqrt(len(differences)):.2f}"


def by_the_recipe(run, name, arity, rate):
    config = run["config"]
    drawn = config["learning_rate"], config["momentum"]
    return run["estimator"] == name and config["arity"] == arity and drawn == (rate, 0.9)


def test_what_tutorial_12_says_of_longer_expressions_is_in_the_table():
    *_, table = tables_of(RESULTS / "listops/runs")
    rows = [line.strip("| ").split("|") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    test = {
        row[0]: row[3].split()[0]  # without its error
        for row in cells
        if row[1] == "≤ 25" and row[2] in ("", "0.01")
    }
    tutorial = RESULTS.parents[1] / "tutorials" / "12_latent_trees.py"
    text = " ".join(tutorial.read_text(encoding="utf-8").replace("# ", "").split())
    assert f"from before the fall, have {test['st-gs']} % where GR has {test['gr']} %" in text
    assert (
        f"left to right ({test['left']} %), and gold trees are far ahead ({test['gold']} %)" in text
    )


def test_the_page_of_all_runs_is_what_its_script_writes():
    path = RESULTS / "listops" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", path)
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    assert draw.every_run() == path.with_name("every_run.md").read_text(encoding="utf-8")


def test_the_advice_that_the_page_of_mnist_opens_with_is_in_its_table():
    report = json.loads((RESULTS / "mnist/recipe/report.json").read_text(encoding="utf-8"))
    rows = [row for row in report["rows"] if row["minus_st_gs"]]
    page = " ".join((RESULTS / "mnist/README.md").read_text(encoding="utf-8").split())

    def range_of(*names, sign):
        found = [
            round(sign * row["minus_st_gs"][0], 1) + 0.0  # of -0.0 it makes 0.0
            for row in rows
            if row["estimator"] in names
        ]
        return f"{min(found):.1f} to {max(found):.1f}"

    assert f"`gs`: {range_of('gs', sign=-1)} nats below `st-gs`" in page
    assert f"`gr-mc10` or `gr`: {range_of('gr-mc10', 'gr', sign=-1)} below" in page
    assert f"`st` is {range_of('st', sign=1)} above" in page


def test_what_the_page_of_mnist_says_of_the_distance_to_the_paper():
    distance = {}
    for folder, batch_size in (("recipe", 20), ("batch200", 200)):
        report = json.loads((RESULTS / "mnist" / folder / "report.json").read_text("utf-8"))
        for row in report["rows"]:
            if row["paper"] is not None:
                place = row["estimator"], batch_size, row["arity"]
                distance[place] = round(row["test_bound"] - row["paper"], 1)
    assert max(distance.values()) == 0.1
    gs = [d for (name, *_), d in distance.items() if name == "gs"]
    assert sum(d > -1 for d in gs) == 1
    assert all(d < -1 for (name, batch, _), d in distance.items() if (name, batch) == ("st", 200))
    others = [d for (name, *_), d in distance.items() if name not in ("gs", "st", "reinforce")]
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    assert f"and some of the others by up to {-min(others)} ([minus paper]" in page


@pytest.mark.parametrize("arity", [2, 16])
def test_the_errors_of_the_page_are_those_at_the_end_of_the_tracked_runs(arity):
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    (folder,) = (RESULTS / "mnist/recipe").glob(f"st-gs-n{arity}-b20-*/snapshots")
    mse = json.loads(max(folder.glob("*.json")).read_text(encoding="utf-8"))["mse"]
    for tau in (0.1, 0.5, 1.0):
        points = [
            next(point for point in mse[name] if point["tau"] == tau)
            for name in ("st-gs", "gr-mc10", "gr-mc100", "gr", "gs", "st")
        ]
        cells = " | ".join(
            f"{point['mse']:.2f} ± {point['standard_error']:.2f}" for point in points
        )
        assert f"| {arity} | {tau:g} | {cells} |" in page


SEARCHED = dict.fromkeys((2, 4, 8, 16), ("gs", "gr", "st-gs")) | {
    2: ("gs", "gr-mc10", "gr", "st-gs")
}


def searched(arity):
    """The validation bounds of the six draws of a search, by estimator."""
    found = {}
    for run in collect([RESULTS / "mnist/recipe"], TABLE):
        config = run["config"]
        if config["arity"] == arity and config["momentum"] != 0.9:
            draw = tuple(config[name] for name in ("learning_rate", "momentum", "tau"))
            found.setdefault(draw, {})[run["estimator"]] = run["valid_bound"]
    assert len(found) == 6
    return found


@pytest.mark.parametrize(("arity", "names"), SEARCHED.items())
def test_the_searches_of_the_page_are_those_of_their_records(arity, names):
    page = (RESULTS / "mnist/every_cell.md").read_text(encoding="utf-8")
    for (rate, momentum, tau), bounds in searched(arity).items():
        cells = " | ".join(f"{bounds.pop(name):.2f}" for name in names)
        assert f"| {rate:#.2g} | {momentum:.3f} | {tau:.2f} | {cells} |" in page
        assert not bounds


def test_how_far_gr_is_ahead_with_the_same_draws():
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    ahead = {}
    for arity in SEARCHED:
        for (_, momentum, tau), bounds in searched(arity).items():
            ahead.setdefault((tau, momentum), []).append(bounds["st-gs"] - bounds["gr"])
    for (tau, momentum), leads in ahead.items():
        cells = " | ".join(f"{lead:.2f}" for lead in leads)
        assert f"| {tau:.2f} | {cells} | {momentum:.3f} |" in page
    behind, least, *_, most = sorted(lead for leads in ahead.values() for lead in leads)
    assert f"23 of the 24 draws, by {least:.2f} to {most:.0f} nats" in page
    assert f"16 categories at 0.77, `st-gs` is ahead by {-behind:.2f}" in page
    both = searched(2).values()
    above = [bounds["gr-mc10"] - bounds["gr"] for bounds in both]
    assert f"draws, {min(above):.1f} to {max(above):.1f} above `gr`" in page
    assert all(bounds["gr-mc10"] < bounds["st-gs"] for bounds in both)


def test_what_the_draws_gained():
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    gained = {}
    runs = [run for run in collect([RESULTS / "mnist/recipe"], TABLE) if run["seed"] == 0]
    for (*_, arity, name), (best,) in best_runs(runs, TABLE).items():
        for run in runs:
            if name in ("gs", "gr", "st-gs") and by_the_recipe(run, name, arity, RATES[arity]):
                difference = run["test_bound"] - best["test_bound"]
                gained.setdefault(name, []).append(f"{difference:.2f}")
    two, four, eight, sixteen = gained["gs"]
    assert f"`gs` {two}, {four}, {eight} and {sixteen} nats with 2, 4, 8 and 16" in page
    two, *others = gained["st-gs"]
    assert f"`st-gs` {two} with 2 and nothing with the others" in page
    assert others == ["0.00"] * 3
    two, four, eight, sixteen = gained["gr"]
    assert f"`gr` {eight} with 8, {sixteen} with 16 and nothing with the others" in page
    assert two == four == "0.00"


def test_how_close_gr_and_gr_mck_end_by_the_recipe():
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    runs = [run for run in collect([RESULTS / "mnist/recipe"], TABLE) if "test_bound" in run]
    spread = []
    for arity, rate in RATES.items():
        names = ("gr", "gr-mc10", "gr-mc100")
        found = [r["test_bound"] for r in runs for n in names if by_the_recipe(r, n, arity, rate)]
        assert len(found) == 3
        spread.append(max(found) - min(found))
    assert 0.5 < max(spread) < 0.6
    assert "and `gr-mc10` with 2) within 0.6 of each other" in page


def test_the_cold_limit_of_the_page_is_that_of_its_records():
    page = (RESULTS / "mnist/README.md").read_text(encoding="utf-8")
    folders = [RESULTS / "mnist" / name for name in ("cold", "recipe", "batch200")]
    bounds = {}
    for run in collect(folders, TABLE):
        config = run["config"]
        if config["momentum"] == 0.9:  # by the recipe, but for the rate
            cell = config["arity"], config["batch_size"]
            name = run["estimator"], has_tau(run["estimator"]) and config["tau"]
            bounds.setdefault((cell, name), {})[config["learning_rate"]] = run["valid_bound"]
    cells = {cell for cell, (name, _) in bounds if name == "zgr"}
    assert len(cells) == 6
    for arity, batch_size in cells:
        cell = arity, batch_size
        rates = sorted(bounds[cell, ("zgr", False)].items(), reverse=True)
        zgr = ", ".join(f"{bound:.2f} ({rate:.3g})" for rate, bound in rates)
        rate = RATES[arity] * (1 if batch_size == 20 else 4)
        gr, st_gs = (
            next(bound for other, bound in bounds[cell, at].items() if np.isclose(other, rate))
            for at in (("gr", 0.5), ("st-gs", 0.7))
        )
        assert f"| {arity} | {batch_size} | {zgr} | {gr:.2f} | {st_gs:.2f} |" in page
