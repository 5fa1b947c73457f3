"""The command line as a user meets it: help, errors of one line, results on the disk, resuming."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import rbst
from rbst._files import read_npz, write_npz
from rbst.cli import COMMANDS, main
from rbst.estimators.registry import ESTIMATORS
from rbst.experiments import compare
from rbst.experiments.run import new_experiment

ROOT = Path(rbst.__file__).parent.parent
pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = ("--bits", "4", "--arity", "2", "--hidden", "6", "--iterations", "30")


def run(*words):
    return main(["vae", *map(str, words)])


def outcome(out: Path) -> list[dict]:
    """The runs of an experiment without what the clock says."""
    runs = json.loads((out / "results.json").read_text())["runs"]
    for result in runs:
        del result["milliseconds_per_iteration"]
    return runs


def test_version_and_help_of_the_installed_command():
    for word, expected in (("--version", f"rbst {rbst.__version__}"), ("--help", "commands:")):
        done = subprocess.run(
            [sys.executable, "-m", "rbst", word], capture_output=True, text=True, check=True
        )
        assert expected in done.stdout
        assert done.stderr == ""


INTERRUPT_WHILE_IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it

class Interrupt:
    def find_spec(self, name, *_):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from rbst_command import main  # from here on as the installed command does it
sys.argv[1:] = ["estimators"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    ["rbst", "numpy", "numpy._core._multiarray_umath", "numpy.linalg._umath_linalg", "autograd.numpy",
     "rbst.estimators.registry", "rbst.cli", "rbst.experiments", "rbst.experiments.estimators", None],
)  # fmt: skip
def test_an_interrupt_while_the_command_imports_has_no_traceback(module):
    code = INTERRUPT_WHILE_IMPORTING.replace("MODULE", repr(module))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = (130, "interrupted\n") if module else (0, "")
    assert (done.returncode, done.stderr) == expected


def test_the_installed_command_starts_outside_the_package():
    for path in ("pyproject.toml", "conda/recipe.yaml"):
        if (ROOT / path).exists():
            assert re.search(r"^ *-? *rbst = \W?rbst_command:main", (ROOT / path).read_text(), re.M)


def test_help_names_every_command_and_no_command_prints_it(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_help_of_vae_says_each_default_once(capsys):
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: 24 for digits, 240 for mnist)" in text
    assert "(default: st st-gs gs reinforce gr-mc10 gr-mc100)" in text
    assert "None" not in text
    assert "False" not in text
    assert not re.search(r"\(default[^)]*\) \(default", text)


def test_the_list_of_estimators(capsys):
    assert main(["estimators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(entry.name in lines for entry in ESTIMATORS)
    for title in ("equation", "bias", "evaluations", "use", "source"):
        assert sum(line.startswith(f"    {title} ") for line in lines) == len(ESTIMATORS)
    assert max(map(len, lines)) <= 80
    assert sum("needs the derivative of f; fits stochastic_node" in line for line in lines) > 5


@pytest.mark.parametrize(
    ("name", "row"), [("gr-mcK", "gr-mcK"), ("gr-mc7", "gr-mcK"), ("st", "st")]
)
def test_one_estimator_of_the_list(capsys, name, row):
    assert main(["estimators", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [entry.name for entry in ESTIMATORS if entry.name in lines] == [row]


def test_no_estimator_of_the_list(capsys):
    assert main(["estimators", "gumbel-softmax"]) == 2
    assert "did you mean 'gs'?" in capsys.readouterr().err


@pytest.mark.renders
def test_a_quick_run_leaves_numbers_and_figures(tmp_path, capsys):
    out = tmp_path / "quick"
    assert run("--quick", "--estimator", "st-gs", "--estimator", "gs", "--out", out) == 0
    printed = capsys.readouterr().out
    table = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert re.search(r"estimator +test bound M=1 +M=100 +minus st-gs +ms/iteration +log10", printed)
    assert str(out) in printed

    config = json.loads((out / "config.json").read_text())
    assert config["version"] == rbst.__version__
    assert (config["estimators"], config["iterations"]) == (["st-gs", "gs"], 100)
    results = json.loads((out / "results.json").read_text())
    assert [result["estimator"] for result in results["runs"]] == ["st-gs", "gs"]
    for result in results["runs"]:
        # A hundred steps take the bound well below the start; more samples make it tighter.
        assert result["test_bound"] < result["test_bound_1"] < result["curves"]["valid_bound"][0]
        assert table[result["estimator"]][1] == f"{result['test_bound_1']:.2f}"
    for name, start in (("curves.svg", b"<?xml"), ("reconstructions.png", b"\x89PNG")):
        assert (out / name).read_bytes().startswith(start)
    assert not list(out.rglob("*.part*"))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(*SMALL, "--estimator", "st-gs", "--seed", seed, "--out", tmp_path / name)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    bounds = {outcome(tmp_path / name)[0]["test_bound"] for name in "ac"}
    assert len(bounds) == 2


def test_several_seeds_have_standard_errors_in_the_table(tmp_path, capsys):
    run(*SMALL, "--estimator", "st", "--seeds", 2, "--out", tmp_path / "out")
    assert capsys.readouterr().out.count(" ± ") == 4
    assert [result["seed"] for result in outcome(tmp_path / "out")] == [0, 1]


def test_differences_are_paired_over_the_images(tmp_path, capsys):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st-gs", "--estimator", "gr", "--out", out)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gr "))
    st_gs, gr = (
        -read_npz(out / f"{name}-seed0" / "test-bounds-100.npz")["bounds"][1]
        for name in ("st-gs", "gr")
    )
    difference = gr - st_gs
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert f" {difference.mean():.2f} ± {error:.2f} " in row
    assert error < gr.std(ddof=1) / np.sqrt(len(gr)) / 2  # what two rows share is not in it


def test_every_estimator_starts_from_the_same_parameters_and_minibatches(tmp_path):
    # With a learning rate that moves nothing, what is left of the curves is the common start.
    names = [word for name in ("st", "gs", "reinforce") for word in ("--estimator", name)]
    run(*SMALL, *names, "--learning-rate", "1e-30", "--out", tmp_path / "out")
    curves = [result["curves"]["valid_bound"] for result in outcome(tmp_path / "out")]
    assert curves[0] == curves[1] == curves[2]


# Resuming.


def test_resuming_a_finished_experiment_repeats_its_table(tmp_path, capsys):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st-gs", "--out", out)
    first, before = capsys.readouterr().out, outcome(out)
    assert run("--resume", "--out", out) == 0
    assert capsys.readouterr().out == first
    assert outcome(out) == before


def test_resume_does_only_what_is_missing(tmp_path):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st", "--estimator", "st-gs", "--out", out)
    before = outcome(out)
    kept = (out / "st-seed0" / "result.json").stat().st_mtime_ns
    for path in (out / "st-gs-seed0").iterdir():
        path.unlink()
    assert run("--resume", "--out", out, "--bits", 4) == 0
    assert outcome(out) == before
    assert (out / "st-seed0" / "result.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("option", "value"), [("--tau", "0.25"), ("--bits", "24"), ("--estimator", "gs")]
)
def test_options_that_contradict_the_experiment_are_refused(tmp_path, capsys, option, value):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st", "--out", out)
    capsys.readouterr()
    assert run("--resume", "--out", out, option, value) == 2
    assert "was started with" in one_line(capsys)


# Numbers first: whatever standard output is, what was computed is shown or saved.


def shell(line, **environment):
    """A line of shell in which RBST is the command; its status, output and errors."""
    line = line.replace("RBST", f"{sys.executable} -m rbst")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=os.environ | environment
    )


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


@posix
@pytest.mark.parametrize(
    ("line", "status", "errors"),
    [
        ("RBST estimators >&-", 0, ""),
        ("RBST estimators 2>&-", 0, ""),
        ("set -o pipefail; RBST estimators | head -1", 0, ""),
        ("RBST estimators >/dev/full", 2, "rbst: the output could not be written: No space left"),
        ("RBST --help >&-", 0, ""),
    ],
)
def test_streams_that_are_closed_broken_or_full(line, status, errors):
    done = shell(line)
    assert (done.returncode, done.stderr == "") == (status, errors == "")
    assert errors in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@posix
@pytest.mark.parametrize("stream", ["| head -0", ">&- 2>&-"])
def test_a_training_survives_the_loss_of_its_output(tmp_path, stream):
    words = f"{' '.join(SMALL)} --estimator st --out {tmp_path / 'out'}"
    shell(f"RBST vae {words} {stream}")
    assert len(outcome(tmp_path / "out")) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_few_characters_is_shown_what_it_can_show(tmp_path, monkeypatch, encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run(*SMALL, "--estimator", "st", "--seeds", 2, "--out", tmp_path / "out") == 0
    printed = terminal.buffer.getvalue().decode(encoding)
    assert printed.count(" +/- " if encoding == "ascii" else " ± ") == 4


@pytest.mark.slow
@posix
def test_a_bogus_backend_and_a_narrow_terminal_cost_nothing(tmp_path):
    words = f"{' '.join(SMALL)} --estimator st --out {tmp_path / 'out'}"
    done = shell(f"RBST vae {words}", MPLBACKEND="nonsense", COLUMNS="20")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "out" / "curves.svg").read_text().startswith("<?xml")


def test_help_on_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    assert run("--help") == 0
    assert "--bits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [*(f"{name} --help" for name in COMMANDS), "sweep listops --help", "check --list"]
)
def test_help_keeps_to_the_width_of_the_terminal(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words.split()) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_figure_that_cannot_be_drawn_costs_no_number(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise ValueError("Data has no positive values, and therefore cannot be log-scaled.")

    monkeypatch.setattr("rbst.experiments.vae.new_figure", fail)
    assert run(*SMALL, "--estimator", "st", "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "curves.svg was not drawn: Data has no positive values" in captured.err
    assert "M=100" in captured.out
    assert len(outcome(tmp_path / "out")) == 1


def test_progress_in_a_log_is_ten_lines_for_a_training(tmp_path, capsys):
    run(*SMALL, "--estimator", "st", "--out", tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    training = [line for line in lines if "st        seed 0: " in line]
    assert [int(line.split()[3]) for line in training] == list(range(3, 31, 3))
    assert all(re.search(r" of 30 steps, \d+ s", line) for line in training)
    assert len(lines) <= 20


# Two processes on one folder.


@pytest.mark.slow
@posix
def test_of_three_processes_on_one_folder_each_ends_with_the_right_numbers_or_a_sentence(tmp_path):
    words = [*("vae", "--estimator", "st"), *SMALL[:6], "--iterations", "400"]
    run(*words[1:], "--out", tmp_path / "whole")
    out = tmp_path / "out"
    first = subprocess.Popen(
        [sys.executable, "-m", "rbst", *words, "--checkpoint-every", "10", "--out", out],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (out / "st-seed0" / "checkpoint.npz").exists():
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.wait()
    command = [sys.executable, "-m", "rbst", "vae", "--resume", "--out", out]
    three = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in three:
        _, errors = process.communicate()
        assert process.returncode == 0 or "is being written by another process" in errors
    assert 0 in [process.returncode for process in three]
    assert outcome(out) == outcome(tmp_path / "whole")


# What is asked for is refused before anything is made, and what a folder holds may be anything.


@pytest.mark.parametrize(
    "words",
    ["--tau-final 1e-300", f"--seeds {10**30}", "--bits 99999999999", "--threads 0", f"--seed {10**30}",
     "--estimator st --estimator st", f"--iterations {10**30}", "--hidden 99999999999"],
)  # fmt: skip
def test_what_no_machine_could_do_is_one_line(words, tmp_path, capsys):
    assert run(*words.split(), "--out", tmp_path / "out") == 2
    one_line(capsys)
    assert not (tmp_path / "out").exists()


# Errors: one line on standard error, exit status 2, and nothing on the disk.


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


BAD = {
    "--bits 25": "must be a positive multiple of log2(arity) = 3, got 25; try 24",
    "--bits 0": "try 3",
    "--bits many": "argument --bits: wanted an integer, got 'many'; see rbst vae --help",
    "--tau warm": "argument --tau: wanted a number, got 'warm'; see rbst vae --help",
    "--arity 3": "--arity must be a power of 2, got 3; try 2, 4, 8 or 16",
    "--arity 1": "must be a power of 2",
    "--arity 0": "must be a power of 2",
    "--estimator stgs": "did you mean 'st-gs'? Known: st,",
    "--estimator gr-mc0": "num_samples must be >= 1, got 0",
    "--estimator foust": "foust is for Boolean variables, got --arity 8; use 2",
    "--tau 0": "tau must be positive and finite, got 0.0",
    "--tau nan": "tau must be positive and finite, got nan",
    "--tau -1": "tau must be positive and finite, got -1.0",
    "--tau-final 0": "--tau-final must be positive and finite, got 0.0",
    "--learning-rate-final 0": "--learning-rate-final must be positive for a geometric --schedule, got 0.0",
    "--hidden 0": "--hidden must be one or more sizes >= 1",
    "--batch-size 0": "--batch-size must be at least 1",
    "--batch-size 1198": "at most the 1197 training images, got 1198",
    "--iterations 0": "--iterations must be at least 1",
    "--seeds 0": "--seeds must be at least 1",
    "--seed -1": "--seed must be at least 0",
    "--bound-samples 0": "--bound-samples must be at least 1",
    "--learning-rate 0": "--learning-rate must be positive and finite",
    "--learning-rate inf": "--learning-rate must be positive and finite",
    "--learning-rate nan": "--learning-rate must be positive and finite",
    "--momentum 1": "--momentum must be in [0, 1)",
    "--momentum -0.1": "--momentum must be in [0, 1)",
    "--dtype float16": "invalid choice: 'float16'",
    "--data cifar": "invalid choice: 'cifar'",
    "--checkpoint-every 0": "--checkpoint-every must be at least 1",
    "--frobnicate": "rbst vae: no such option or argument: --frobnicate; see rbst vae --help",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_options_are_one_line_before_any_work(words, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*words.split(), "--out", out) == 2
    assert BAD[words] in one_line(capsys)
    assert not out.exists()


def test_an_unknown_command_is_one_line(capsys):
    assert main(["frobnicate"]) == 2
    assert "invalid choice: 'frobnicate'" in one_line(capsys)


def test_of_two_that_start_in_one_folder_one_is_refused(tmp_path):
    def start(k):
        try:
            with new_experiment("compare", compare.Config(seed=k), tmp_path / "out") as out:
                (out / "results.json").write_text(f"{k}")
        except FileExistsError:
            return False
        return True

    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            (winner,) = np.flatnonzero([*pool.map(start, range(4))])
        assert json.loads((tmp_path / "out" / "config.json").read_text())["seed"] == winner
        assert (tmp_path / "out" / "results.json").read_text() == f"{winner}"
        shutil.rmtree(tmp_path / "out")


def test_a_comparison_that_fails_leaves_its_folder_free(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyError("of the user's f")

    words = [
        "compare",
        "--quick",
        "--estimator",
        "st",
        "--draws",
        "10",
        "--out",
        str(tmp_path / "out"),
    ]
    with monkeypatch.context() as broken:
        broken.setattr(compare, "diagnose_all", fail)
        with pytest.raises(KeyError):
            main(words)
    assert main(words) == 0


def test_what_was_not_quick_is_not_resumed_as_such(tmp_path, capsys):
    out = tmp_path / "out"
    words = (*SMALL[:-1], "300", "--estimator", "st", "--bound-samples", "2", "--out", out)
    assert run(*words) == 0
    assert run("--resume", "--quick", "--out", out) == 2
    assert "was started without --quick" in capsys.readouterr().err
    assert run(*words[:-2], "--quick", "--out", tmp_path / "quick") == 0
    assert run("--resume", "--quick", "--out", tmp_path / "quick") == 0


@pytest.mark.parametrize(
    ("file", "content"),
    [("test.json", "{}"), ("test.json", "[]"), ("result.json", '{"diverged_at": null}')],
)
def test_a_damaged_record_is_named_with_a_cure(tmp_path, capsys, file, content):
    out = tmp_path / "out"
    assert run(*SMALL, "--estimator", "st", "--bound-samples", "2", "--out", out) == 0
    (out / "st-seed0" / file).write_text(content)
    assert run("--resume", "--out", out) == 2
    message = capsys.readouterr().err
    assert file in message
    assert "delete it to" in message


def test_bounds_of_another_shape_are_named_with_a_cure(tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*SMALL, "--estimator", "st", "--bound-samples", "2", "--out", out) == 0
    (out / "st-seed0" / "test.json").unlink()
    write_npz(out / "st-seed0" / "test-bounds-2.npz", {"bounds": np.zeros((3, 5))})
    assert run("--resume", "--out", out) == 2
    assert "does not hold the bounds of images" in capsys.readouterr().err


ENDS = {
    "leaves.py": "import sys\nsys.exit(0)\n",
    "later.py": "import sys\ndef f(D):\n    sys.exit(0)\n",
}


@pytest.mark.parametrize("file", ENDS)
def test_code_that_ends_the_program_does_not_end_it_well(tmp_path, capsys, monkeypatch, file):
    (tmp_path / file).write_text(ENDS[file])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    address = file.replace(".py", ":f")
    words = ("--quick", "--estimator", "gr", "--function", address, "--out", "out")
    assert main(["compare", *words]) == 2
    assert one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_lack_of_memory_is_one_line(capsys, monkeypatch, tmp_path):
    def run(_):
        raise MemoryError("Unable to allocate 29.8 GiB")

    monkeypatch.setattr(compare, "run", run)
    assert main(["compare", "--out", str(tmp_path / "out")]) == 2
    assert "out of memory: Unable to allocate 29.8 GiB" in one_line(capsys)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a folder in use is not removed")
def test_a_folder_that_is_gone_is_one_line(tmp_path, capsys, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    words = ("--quick", "--estimator", "gr", "--function", "mine:f", "--out", str(tmp_path / "out"))
    assert main(["compare", *words]) == 2
    assert "the current folder does not exist any more" in one_line(capsys)
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_that_is_lost_is_no_success(word):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rbst", word], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert b"could not be written" in done.stderr


def test_an_existing_folder_is_refused_and_left_alone(tmp_path, capsys):
    precious = tmp_path / "results.json"
    precious.write_text("precious")
    assert run(*SMALL, "--out", tmp_path) == 2
    line = one_line(capsys)
    assert "exists already and is never overwritten" in line
    assert "--resume" in line
    assert precious.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_an_unwritable_folder_is_one_line(tmp_path, capsys, place):
    # A file in the way stops every user; permissions do not stop an administrator.
    (tmp_path / "file").write_text("in the way")
    assert run(*SMALL, "--out", tmp_path / place) == 2
    assert str(tmp_path / place) in one_line(capsys)


def test_resume_without_an_experiment_is_one_line(tmp_path, capsys):
    assert run("--resume") == 2
    assert "--resume needs --out" in one_line(capsys)
    assert run("--resume", "--out", tmp_path) == 2
    assert "holds no config.json" in one_line(capsys)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"nonsense": 1}',
        '{"bits": "many"}',
        '{"tau": -1}',
        '{"seeds": 1.5}',
        '{"hidden": 4}',
        '{"track": 1}',
        50_000 * "[",
        '{"estimators": "st"}',
        '{"tau": null}',
    ],
)
def test_resume_with_a_damaged_configuration_is_one_line(tmp_path, capsys, content):
    (tmp_path / "config.json").write_text(content)
    assert run("--resume", "--out", tmp_path) == 2
    assert "config.json" in one_line(capsys)


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_resume_with_a_result_that_is_none_is_one_line_and_names_it(tmp_path, capsys, content):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st", "--out", out)
    found = out / "st-seed0" / "result.json"
    found.write_text(content)
    capsys.readouterr()
    assert run("--resume", "--out", out) == 2
    line = one_line(capsys)
    assert str(found) in line
    assert "delete it" in line


def test_resume_with_a_damaged_checkpoint_is_one_line_and_names_it(tmp_path, capsys):
    out = tmp_path / "out"
    run(*SMALL, "--estimator", "st", "--out", out)
    (out / "st-seed0" / "result.json").unlink()
    checkpoint = out / "st-seed0" / "checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    capsys.readouterr()
    assert run("--resume", "--out", out) == 2
    line = one_line(capsys)
    assert str(checkpoint) in line
    assert "delete it" in line
