"""The benchmarks run, measure what they say, and find the memory of GR-MCK bounded. No time is asserted."""

import doctest
import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rbst

pytest.importorskip("benchmarks", reason="the benchmarks come with the repository alone")

import device_array
from oracles import at_night

from benchmarks import _measure, estimators, gpu, growth, port
from benchmarks.__main__ import ON_REQUEST, PARTS, pin_threads
from rbst.experiments import run

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
RESIDENT = Path("/proc/self/clear_refs").exists()  # resident memory is measured on Linux
SETTING = _measure.Setting(threads=1, repeats=3, light=False)


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_part_runs_light_and_records_what_it_did(tmp_path):
    result = run_python(
        *("-m", "benchmarks", *PARTS, *ON_REQUEST, "--light", "--threads", "1", "--out", tmp_path)
    )
    assert result.returncode == 0, result.stderr[-3000:]
    has_port = port.torch is not None
    assert ("the port is left out" in result.stdout) == (not has_port)
    for name in (*PARTS, *ON_REQUEST):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["command"].startswith(f"python -m benchmarks {name} --threads 1")
        assert (record["dtype"], record["light"]) == ("float32", True)
        assert {"machine", "versions", "started", "seconds"} <= record.keys()
        assert ("torch" in record["versions"]) == has_port
        quantity = "megabytes" if name == "memory" else "milliseconds"
        assert record["rows"]
        assert all(np.isfinite(row[quantity]) for row in record["rows"])
        assert all(row[quantity] > 0 for row in record["rows"] if row.get("side") != "port")
        with_port = any("port" in f"{row}" or "PyTorch" in f"{row}" for row in record["rows"])
        wanted = has_port and name not in ("boolean", "vae_bound")
        assert with_port == wanted or (name == "memory" and not RESIDENT)
        assert (tmp_path / f"{name}.txt").read_text().startswith("| ")
    for name in ("estimators", "growth", "memory"):
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")


def test_the_part_for_a_gpu_runs_on_a_stand_in_and_waits_for_it(monkeypatch):
    """Times and rates mean nothing there; that its arrays and calls are those of a device is what is seen."""
    waits = []
    device = SimpleNamespace(synchronize=lambda: waits.append(None))
    runtime = SimpleNamespace(getDeviceProperties=lambda number: {"name": b"none"})
    stand_in = SimpleNamespace(Device=lambda: device, runtime=runtime)
    monkeypatch.setattr(device_array, "cuda", stand_in, raising=False)
    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 0)
    monkeypatch.setattr(device_array, "get_default_memory_pool", lambda: pool, raising=False)
    modules = {"cpu": np, "gpu": device_array}
    for module in (gpu, run):
        monkeypatch.setattr(module, "device_namespace", modules.get)
    rows = gpu.measure(_measure.Setting(threads=1, repeats=1, light=True))
    on_gpu = [row for row in rows if row["device"] == "gpu"]
    assert len(waits) >= 2 * len(on_gpu)  # each is called to warm up, and then for its time
    assert {row["method"] for row in on_gpu if "rate" not in row} == {
        row["method"] for row in rows if row["device"] == "cpu"
    }
    assert all(row["fraction"] > 0 for row in on_gpu if "fraction" in row)
    lines = gpu.table(rows).splitlines()
    assert len(lines) == 2 + 3 + 2 + 1 + 2 + 4
    assert "of the bandwidth" in lines[2]
    assert "of the arithmetic" in lines[3]


def test_an_unknown_part_is_refused_by_name():
    result = run_python("-m", "benchmarks", "estimator")
    assert result.returncode == 2
    assert "'estimator' is no part of the benchmarks; take any of estimators" in result.stderr


def test_threads_are_pinned_before_numpy_is_loaded():
    code = """
import os, sys
from benchmarks.__main__ import pin_threads
assert "numpy" not in sys.modules
pin_threads(3)
print(os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"])
"""
    assert run_python("-c", code).stdout == "3 3\n"
    with pytest.raises(RuntimeError, match="loaded already"):
        pin_threads(3)


def test_calls_take_turns_and_the_least_time_counts(monkeypatch):
    """A clock that only the calls advance: the warming calls take longest and do not count."""
    clock, order = [0.0], []
    durations = {"a": iter([9, 4, 2, 3]), "b": iter([9, 8, 7, 6])}

    def call(name):
        order.append(name)
        clock[0] += next(durations[name])

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    least = _measure.least_milliseconds(
        {name: lambda name=name: call(name) for name in "ab"}, SETTING
    )
    assert order == ["a", "b"] * 4
    assert least == {"a": 2000, "b": 6000}


def test_a_turn_repeats_a_short_call(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * _measure.TURN / 5)
    calls = []
    _measure.least_milliseconds({"short": lambda: calls.append(None)}, SETTING)
    assert len(calls) > 2 * SETTING.repeats


class CountingGenerator:
    """Counts how many numbers are drawn, and of which dtype."""

    def __init__(self):
        self.rng, self.drawn, self.dtypes = np.random.default_rng(0), 0, set()

    def standard_exponential(self, out, dtype):
        self.drawn += out.size
        self.dtypes.add(dtype)
        return self.rng.standard_exponential(out=out, dtype=dtype)


@pytest.mark.parametrize("entries", [7, 2**16, 3 * 2**16 + 5])
def test_the_floor_draws_each_entry_once(entries):
    rng = CountingGenerator()
    _measure.floor(entries, 0.1, rng)
    assert (rng.drawn, rng.dtypes) == (entries, {np.dtype("float32")})


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_sides_that_disagree_are_not_timed(difference):
    with pytest.raises(SystemExit, match=r"the two sides disagree by .*: means"):
        _measure.check_agreement("means", difference, 1e-4)


def test_all_is_single_precision():
    for (_, side), call in estimators.calls(5, 3, 0.5, (1, 10)).items():
        if side == "rbst":
            assert call().dtype == np.float32
        elif side == "port":
            assert call().dtype == port.torch.float32


def test_the_exponent_of_growth():
    """Time of square growth, but for one row that lies below LINEAR_FROM and does not count."""
    sizes = (10, 10**4, 10**5, 10**6)
    rows = [
        {"variables": v, "n": 10, "K": 10, "method": "gr-mcK", "milliseconds": max(v, 100) ** 2.0}
        for v in sizes
    ]
    assert growth.exponent(growth.large(rows)) == pytest.approx(2)
    assert growth.exponent(rows) < 1.9


def test_examples_in_the_docstrings():
    assert doctest.testmod(_measure) == doctest.TestResults(failed=0, attempted=3)


# --- Memory --------------------------------------------------------------------------------------------


def with_temporary(megabytes):
    """A result of 1 MB, and a temporary array that is written to, so that it is resident."""
    temporary = np.ones(megabytes * 10**6, dtype=np.uint8)
    return temporary[: 10**6].copy()


def test_traced_memory_is_that_of_temporaries():
    assert _measure.peak_traced(lambda: with_temporary(10)) == pytest.approx(10, rel=0.01)


@pytest.mark.skipif(not RESIDENT, reason="Linux only, as in the benchmarks")
def test_resident_memory_is_that_of_temporaries():
    """In a process of its own: what the allocator holds from earlier tests would be reused."""
    code = "from test_benchmarks import _measure, with_temporary; print(_measure.peak_resident(lambda: with_temporary(100)))"
    path = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(100, rel=0.1)


def peaks(variables, samples):
    """Peak memory of GR-MCK beyond inputs and result for each K, in MB."""
    problem = _measure.draw_inputs(variables, 16)
    rng = np.random.default_rng(1)
    return {
        K: _measure.peak_traced(
            lambda K=K: rbst.gumbel_rao(*problem, tau=0.5, num_samples=K, rng=rng)
        )
        for K in samples
    }


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples():
    megabytes = peaks(20_000, (1, 8, 64, 512))  # all draws at once would be 655 MB
    assert max(megabytes.values()) < 4
    assert megabytes[512] == pytest.approx(megabytes[8], rel=0.1)


@pytest.mark.slow
def test_memory_of_many_variables():
    # All draws at once would be 1.3 GB, at night 6.4.
    megabytes = peaks(at_night(1_000_000, otherwise=200_000), (1, 10, 100))
    assert max(megabytes.values()) < 64
    assert megabytes[100] == pytest.approx(megabytes[10], rel=0.1)


def test_what_the_page_of_exact_gumbel_rao_opens_with_is_in_its_record():
    folder = RESULTS / "exact_gumbel_rao"
    page = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    cases = {}
    for row in json.loads((folder / "exact_gumbel_rao.json").read_text())["rows"]:
        cases.setdefault((row["n"], row["tau"]), {})[row["method"]] = row["milliseconds"]

    def ratios(rtol, method, digits):
        found = [case[f"gr, rtol {rtol}"] / case[method] for case in cases.values()]
        return f"{min(found):.{digits}f} to {max(found):.{digits}f}"

    few, many = (ratios("1e-03", f"gr-mc{K}", d) for K, d in ((10, 1), (100, 2)))
    assert f"`gr` costs {few} times `gr-mc10` and {many} of `gr-mc100`" in page
    assert f"At the default, 1e-6, it costs {ratios('1e-06', 'gr-mc100', 1)} times" in page


TABLES = [
    *(("benchmarks", name) for name in ("estimators", "vae_step", "parser_step", "vae_bound")),
    *(("benchmarks", name) for name in ("growth", "memory", "gpu")),
    ("exact_gumbel_rao", "exact_gumbel_rao"),
]


@pytest.mark.parametrize(("page", "name"), TABLES, ids=[name for _, name in TABLES])
def test_the_tables_of_the_pages_are_those_of_their_records(page, name):
    text = (RESULTS / page / "README.md").read_text(encoding="utf-8")
    rows = json.loads((RESULTS / page / f"{name}.json").read_text())["rows"]
    parts = importlib.import_module(f"benchmarks.{name}").table(rows).split("\n\n")
    assert all(part in text for part in parts)
    assert all(len(part.splitlines()) > 4 for part in parts if part.startswith("|"))


def test_what_the_pages_say_of_a_gpu_is_in_its_record():
    rows = json.loads((RESULTS / "benchmarks" / "gpu.json").read_text())["rows"]
    page = (RESULTS / "benchmarks" / "README.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    times = {}
    for row in rows:
        if "rate" not in row:
            case = row["method"], row.get("variables"), row.get("images"), row.get("arity")
            times.setdefault(case, {})[row["device"]] = row["milliseconds"]
    ratio = {case: both["cpu"] / both["gpu"] for case, both in times.items()}

    def range_of(kept, turned=False, digits=".0f"):
        found = [1 / r if turned else r for case, r in ratio.items() if kept(*case)]
        return f"{min(found):{digits}} to {max(found):{digits}}"

    sampled = range_of(lambda method, variables, *_: variables and method == "gr-mc100")
    exact = range_of(lambda method, *_: method.startswith("gr, rtol"), digits=".2g")
    assert f"`gr-mc100` took {sampled} times less than on the core, `gr` {exact} times" in page
    at_200 = range_of(lambda method, _, images, __: images == 200)
    at_2000 = range_of(lambda method, _, images, __: images == 2000)
    assert f"the GPU is {at_200} times quicker at 200 and {at_2000} times at 2,000" in page
    many = range_of(lambda method, variables, *_: (variables or 0) >= 10**5)
    assert f"took {many} times less" in guide
    assert f"VAE {at_200} times less at batches of 200" in " ".join(guide.split())
    few = range_of(
        lambda method, _, images, __: images == 20 and method in ("st-gs", "gr"), True, ".1f"
    )
    assert f"but {few} times more with `st-gs` and `gr` at batches of 20" in " ".join(guide.split())


def test_the_boolean_table_is_that_of_its_record_and_gr_costs_at_most_half_of_a_sample():
    page = (RESULTS / "benchmarks" / "README.md").read_text(encoding="utf-8")
    cases = {}
    for row in json.loads((RESULTS / "benchmarks" / "boolean.json").read_text())["rows"]:
        case = row["variables"], row["dtype"], row["tau"]
        cases.setdefault(case, {})[row["method"]] = row["milliseconds"]
    ratios = {}
    for (variables, dtype, tau), times in cases.items():
        one = times.pop("gr-mc1")
        shares = {method: time / one for method, time in times.items()}
        cells = " | ".join(f"{share:.2f}" for share in shares.values())
        assert f"| {variables} × 2 | {dtype} | {tau:g} | {one:.2f} | {cells} |" in page
        shares.pop("moments")
        ratios.setdefault(dtype, []).extend(shares.values())
    single, double = (f"{min(found):.2f} to {max(found):.2f}" for found in ratios.values())
    assert f"`gr` took {single} of the time of one sample in float32 and {double} in f" in page
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"at most half the time of a single sample ([{single} in float32]" in front
    assert max(ratios["float32"]) < 0.5


def test_what_the_page_of_benchmarks_says_of_floor_and_port_is_in_its_record():
    page = " ".join((RESULTS / "benchmarks" / "README.md").read_text(encoding="utf-8").split())
    rows = json.loads((RESULTS / "benchmarks" / "estimators.json").read_text())["rows"]
    times = {}
    for row in rows:
        case = row["variables"], row["n"], row["tau"]
        times.setdefault(case, {})[row["method"], row["side"]] = row["milliseconds"]

    def ratio(method, side, digits, by="rbst", of=None, cases=times):
        found = [case[method, by] / case[of or method, side] for case in cases.values()]
        return f"{min(found):.{digits}f} to {max(found):.{digits}f}"

    assert f"and {ratio('gr-mc10', 'floor', 1)} times at K = 10." in page
    assert f"a pass over the logits decides: {ratio('gr-mc1', 'floor', 1)} times." in page
    one, ten, hundred, thousand = (ratio(f"gr-mc{10**i}", "port", 2) for i in range(4))
    assert f"it was {one} at K = 1, {ten} at K = 10, {hundred} at K = 100 and {thousand} a" in page
    assert f"(on both sides), took {ratio('st-gs', 'port', 2)} times" in page
    more = {case: values for case, values in times.items() if case[1] > 2}
    coarse, default, fine = (
        ratio(f"gr, rtol {rtol}", "port", 2, of="gr-mc100", cases=more)
        for rtol in ("1e-03", "1e-06", "1e-09")
    )
    assert f"It took {coarse} of it at rtol = 1e-3, {default} at 1e-6 and {fine} at 1e-9." in page
    some = {case: values for case, values in times.items() if case[1] in (8, 16)}
    coarse, default = (
        ratio(f"gr, rtol {rtol}", "rbst", 0, of="gr-mc1", cases=some) for rtol in ("1e-03", "1e-06")
    )
    front = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"[{coarse} times that of one sample]" in front
    assert f"enough for training, and {default} times at the default of 1e-6" in front


def test_what_the_page_of_benchmarks_opens_with_is_in_its_records():
    folder = RESULTS / "benchmarks"
    page = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    ratios = {}
    for name, case in (
        ("vae_step", ("arity", "batch")),
        ("parser_step", ("tokens", "batch", "lengths")),
    ):
        rows = json.loads((folder / f"{name}.json").read_text())["rows"]
        times = {
            (tuple(r[k] for k in case), r.get("estimator"), r["side"]): r["milliseconds"]
            for r in rows
        }
        for (where, estimator, side), ms in times.items():
            if side == "rbst":
                st_gs = times[where, "st-gs", "port" if estimator == "st-gs" else "rbst"]
                ratios.setdefault(estimator, []).append(ms / st_gs)
    gr_mc10, gr, gr_mc100, port = (
        f"{min(ratios[name]):.1f} to {max(ratios[name]):.1f}"
        for name in ("gr-mc10", "gr", "gr-mc100", "st-gs")
    )
    assert f"with `gr-mc10` takes {gr_mc10} times one with `st-gs`" in page
    assert f"with `gr` (rtol = 1e-3) {gr} times, with `gr-mc100` {gr_mc100} times" in page
    assert f"a step with `st-gs` takes {port} times the same step" in page
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"with `gr` at 1e-3 takes {gr} times one with `st-gs`" in front
