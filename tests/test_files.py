"""Whole-or-nothing files, and downloads from a local server that serves good and bad answers."""

import hashlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rbst import _files


@contextmanager
def serve(files, *, truncated=(), stalled=None):
    """Serve `files` (name -> bytes) on loopback; yield the address and the list of requests.

    Names in `truncated` get half of the bytes announced. With `stalled`, an event, the second
    half waits for it.
    """
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            requests.append(name)
            if name not in files:
                self.send_error(404)
                return
            content = files[name]
            half = len(content) // 2
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:half])
            if stalled is not None:
                requests.append("half")
                stalled.wait(60)
            elif name not in truncated:
                self.wfile.write(content[half:])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def isolate_data_folders(monkeypatch, folder):
    """Point the user's cache into `folder` on every platform, and forget RBST_DATA_DIR."""
    monkeypatch.delenv("RBST_DATA_DIR", raising=False)
    for variable in ("XDG_CACHE_HOME", "HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("no_proxy", "*")


def read_only_folder(path):
    path.mkdir(parents=True)
    path.chmod(0o500)
    if os.access(path, os.W_OK):
        pytest.skip("this user (root?) may write to read-only folders")
    return path


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    isolate_data_folders(monkeypatch, tmp_path / "home")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# ----------------------------------------------------------------------------- writing


def test_whole_file_appears_only_when_the_block_is_done(tmp_path):
    path = tmp_path / "new" / "figure.png"
    with _files.whole_file(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["figure.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whole_file_keeps_the_old_file_when_the_block_fails(tmp_path, error):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail_half_way():
        with _files.whole_file(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["results.json"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_whole_file_has_the_permissions_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_text("")
    _files.write_text(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_unwritable_folder_is_refused_before_the_block(tmp_path):
    (tmp_path / "file").write_text("")
    entered = []

    def write():
        with _files.whole_file(tmp_path / "file" / "results.json"):
            entered.append(True)

    with pytest.raises(OSError, match=r"cannot write .*results\.json.*choose another"):
        write()
    assert not entered


def test_folder_without_write_permission_is_refused(tmp_path):
    locked = read_only_folder(tmp_path / "locked")
    with pytest.raises(PermissionError, match="choose another"):
        _files.write_text(locked / "results.json", "")
    with pytest.raises(PermissionError, match="--out"):
        _files.new_folder(locked / "run")


def test_new_folder_is_empty_or_refused(tmp_path):
    path = _files.new_folder(tmp_path / "runs" / "vae")
    assert path.is_dir()
    for left_by_a_kill in (".config-0123abcd.part.json", ".lock"):
        (path / left_by_a_kill).write_text("")
        assert _files.new_folder(path) == path
    (path / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="--resume"):
        _files.new_folder(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file_and_a_cure(tmp_path):
    def fill():
        with _files.whole_file(tmp_path / "result.json"), open("/dev/full", "w") as file:
            file.write("x")

    with pytest.raises(OSError, match=r"result\.json: No space left on device; make room"):
        fill()
    assert names(tmp_path) == []


def test_parts_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".0000010-12ab89ef.part.npz").write_text("")
    precious = [
        "0000010.npz",
        "a.part.txt",
        ".notes.part1",
        ".a.partner.txt",
        ".mine-12ab.part.npz",
    ]
    for name in precious:
        (tmp_path / "run" / name).write_text("")
    (tmp_path / "run" / ".a-12ab89ef.part").mkdir()
    _files.remove_parts(tmp_path)
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == sorted([*precious, ".a-12ab89ef.part"])


HOLD = """
import sys, time
from rbst._files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_locked_folder_is_for_one_process_until_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "LOCK_SECONDS", 0.2)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match="written by another process"):
            _files.locked(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.communicate()
    monkeypatch.setattr(_files, "LOCK_SECONDS", 5)
    with _files.locked(tmp_path):
        assert names(tmp_path) == [".lock"]
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError), _files.locked(tmp_path):
        raise RuntimeError
    assert names(tmp_path) == []


def test_without_a_home_the_cache_is_in_the_temporary_folder(monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(_files.Path, "home", no_home)
    assert _files.cache_folder().name == "rbst"
    assert _files.find_data_file("none.npz") is None or os.environ.get("RBST_DATA_DIR")


def test_new_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot create the output folder.*--out"):
        _files.new_folder(tmp_path / "file" / "run")


# ----------------------------------------------------------------------------- JSON


def test_json_has_sorted_keys_and_plain_values(tmp_path):
    path = tmp_path / "config.json"
    value = {"tau": np.float32(0.1), "arity": np.int64(2), "b": np.eye(2), "out": Path("runs")}
    _files.write_json(path, value)
    text = path.read_text()
    assert [text.index(f'"{key}"') for key in sorted(value)] == sorted(
        text.index(f'"{key}"') for key in value
    )
    assert _files.read_json(path) == {
        "tau": float(np.float32(0.1)),
        "arity": 2,
        "b": [[1.0, 0.0], [0.0, 1.0]],
        "out": "runs",
    }


@given(st.floats(allow_nan=False))
def test_json_keeps_every_digit_of_a_float(tmp_path_factory, number):
    path = tmp_path_factory.mktemp("json") / "number.json"
    _files.write_json(path, {"number": number})
    assert _files.read_json(path)["number"] == number


def test_json_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match="cannot write a set as JSON"):
        _files.write_json(tmp_path / "config.json", {"a": {1}})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"tau": 0.', b"\xff\xfe\xfa"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is not a readable JSON file"):
        _files.read_json(path)


# ----------------------------------------------------------------------------- npz


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "state.npz"
    _files.write_npz(path, {"x": np.arange(3.0), "step": np.array(7), "a": np.array(["x"])})
    return path


def test_npz_reads_back_what_was_written(archive):
    stored = _files.read_npz(archive)
    assert sorted(stored) == ["a", "step", "x"]
    np.testing.assert_array_equal(stored["x"], [0.0, 1.0, 2.0])
    assert stored["step"] == 7
    assert stored["a"] == ["x"]


@given(arrays(np.float32, array_shapes(min_dims=0, min_side=0)), st.booleans())
def test_npz_keeps_arrays_bit_for_bit(tmp_path_factory, array, compressed):
    path = tmp_path_factory.mktemp("npz") / "array.npz"
    _files.write_npz(path, {"array": array}, compressed=compressed)
    stored = _files.read_npz(path)["array"]
    assert stored.dtype == array.dtype
    assert stored.shape == array.shape
    assert stored.tobytes() == array.tobytes()


def test_same_arrays_make_the_same_file(archive, tmp_path):
    again = tmp_path / "again.npz"
    _files.write_npz(again, _files.read_npz(archive))
    assert again.read_bytes() == archive.read_bytes()


def test_npz_refuses_objects(tmp_path):
    with pytest.raises(TypeError, match=r"'bad'.*pickle"):
        _files.write_npz(tmp_path / "state.npz", {"bad": np.array([{}])})
    assert names(tmp_path) == []


def test_archive_truncated_anywhere_is_an_error(archive):
    content = archive.read_bytes()
    for size in range(len(content)):
        archive.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"state\.npz is truncated, damaged"):
            _files.read_npz(archive)


def test_archive_with_one_byte_changed_never_yields_wrong_arrays(archive):
    # A change in the directory of the archive may hide an array; no other gets by unseen.
    content = archive.read_bytes()
    stored = _files.read_npz(archive)
    num_refused = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        archive.write_bytes(changed)
        try:
            again = _files.read_npz(archive)
        except ValueError:
            num_refused += 1
        else:
            for name, array in again.items():
                assert array.tobytes() == stored[name].tobytes()
    assert num_refused > len(content) // 3


class Trap:
    """Unpickling one creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    as_pickle, as_npz = tmp_path / "a.npz", tmp_path / "b.npz"
    as_pickle.write_bytes(pickle.dumps(Trap(sprung)))
    np.savez(as_npz, state=np.array([Trap(sprung)], dtype=object))
    for path in (as_pickle, as_npz):
        with pytest.raises(ValueError, match="plain arrays"):
            _files.read_npz(path)
    assert not sprung.exists()
    # The trap works: a reader that allows pickles springs it.
    np.load(as_npz, allow_pickle=True)["state"]
    assert sprung.exists()


def test_other_files_are_no_archive(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "notes.txt").write_text("not an archive")
    for name in ("array.npy", "notes.txt"):
        with pytest.raises(ValueError, match=name):
            _files.read_npz(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        _files.read_npz(tmp_path / "missing.npz")


# ----------------------------------------------------------------------------- data folders


@pytest.mark.skipif(os.name == "nt", reason="the paths of the other platforms are POSIX paths")
def test_cache_folder_follows_the_platform(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert _files.cache_folder() == Path("/scratch/rbst")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert _files.cache_folder() == Path("/home/me/.cache/rbst")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _files.cache_folder() == Path("/home/me/Library/Caches/rbst")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert _files.cache_folder() == Path("/local/rbst")
    monkeypatch.delenv("LOCALAPPDATA")
    assert _files.cache_folder() == Path("/home/me/AppData/Local/rbst")


def test_folders_are_searched_in_order(monkeypatch, tmp_path):
    given, named, cache = tmp_path / "given", tmp_path / "named", _files.cache_folder()
    monkeypatch.setenv("RBST_DATA_DIR", str(named))
    for folder in (given, named, cache):
        folder.mkdir(parents=True)
    assert _files.find_data_file("data", given) is None
    for folder in (cache, named, given):
        (folder / "data").touch()
        assert _files.find_data_file("data", given) == folder / "data"
    assert _files.find_data_file("data") == named / "data"


def test_a_folder_that_was_asked_for_must_exist(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir names .*absent"):
        _files.find_data_file("data", tmp_path / "absent")
    monkeypatch.setenv("RBST_DATA_DIR", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"RBST_DATA_DIR names .*absent"):
        _files.find_data_file("data")


# ----------------------------------------------------------------------------- downloads

CONTENT = bytes(range(256)) * 20
GOOD = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "md5": hashlib.md5(CONTENT).hexdigest()}


def test_download_verifies_and_shows_progress(tmp_path, capsys):
    with serve({"data": CONTENT}) as (address, _):
        _files.download(f"{address}/data", tmp_path / "data.bin", GOOD)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["data.bin"]
    assert "data.bin: 5120 of 5120 B" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "checksums", "error", "message"),
    [
        ("missing", GOOD, ConnectionError, "HTTP 404"),
        ("short", GOOD, ConnectionError, "truncated, 2560 of 5120 bytes came"),
        ("data", GOOD | {"sha256": "0" * 64}, ValueError, "wrong sha256 .*wanted 000.*, got"),
        ("data", GOOD | {"md5": "0" * 32}, ValueError, "wrong md5 .*wanted 000.*, got"),
    ],
)
@pytest.mark.parametrize("there_before", [False, True])
def test_failed_download_changes_nothing(tmp_path, name, checksums, error, message, there_before):
    path = tmp_path / "data.bin"
    if there_before:
        path.write_text("old")
    files = {"data": CONTENT, "short": CONTENT}
    with (
        serve(files, truncated=["short"]) as (address, _),
        pytest.raises(error, match=message) as caught,
    ):
        _files.download(f"{address}/{name}", path, checksums)
    assert f"by hand at {path}" in str(caught.value)
    assert "RBST_DATA_DIR" in str(caught.value)
    assert names(tmp_path) == (["data.bin"] if there_before else [])
    assert not there_before or path.read_text() == "old"


def test_download_without_a_server(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"could not download .*by hand"):
        _files.download(f"http://127.0.0.1:{port}/data", tmp_path / "data.bin")
    assert names(tmp_path) == []


def test_download_from_something_that_is_no_web_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 no web server\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(ConnectionError, match=r"could not download .*by hand"):
            _files.download(f"http://127.0.0.1:{server.getsockname()[1]}/", tmp_path / "data.bin")
        thread.join()
    assert names(tmp_path) == []


def test_unwritable_folder_is_found_before_the_network_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        serve({"data": CONTENT}) as (address, requests),
        pytest.raises(OSError, match="cannot write"),
    ):
        _files.download(f"{address}/data", tmp_path / "file" / "data.bin")
    assert requests == []


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_download_leaves_no_file(tmp_path):
    script = "import sys; from rbst._files import download; download(*sys.argv[1:])"
    release = threading.Event()
    with serve({"data": CONTENT}, stalled=release) as (address, requests):
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"{address}/data", str(tmp_path / "data.bin")],
            stderr=subprocess.DEVNULL,
            cwd=Path(_files.__file__).parents[1],
        )
        while "half" not in requests:
            assert process.poll() is None
        process.kill()
        process.wait()
        release.set()
    assert not (tmp_path / "data.bin").exists()


def test_fetch_prefers_the_file_at_hand_and_verifies_it(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    with serve({"data": CONTENT}) as (address, requests):
        url = f"{address}/data"
        assert _files.fetch_data_file("data.bin", url, GOOD, data_dir=tmp_path) == path
        path.write_bytes(CONTENT[1:])
        with pytest.raises(ValueError, match=r"wrong sha256 of .*data\.bin.*delete it"):
            _files.fetch_data_file("data.bin", url, GOOD, data_dir=tmp_path)
        assert requests == []
        fetched = _files.fetch_data_file("data.bin", url, GOOD)
        assert fetched == _files.cache_folder() / "data.bin"
        assert fetched.read_bytes() == CONTENT
        assert requests == ["data"]
