"""Files that are written whole or not at all, and downloads that are checked before they exist.

Everything the package writes goes first to a temporary file beside its destination, is flushed to
the disk, and then takes its final name in one step (`os.replace`). A process killed at any moment
leaves the old file or the new one, at worst with a hidden `.part` file beside it, never half a
file under the final name. Arrays live in `.npz` archives, and no pickle is ever read or written.

This module is a leaf: of the package it imports the bar of a download and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import secrets
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rbst._progress import progress_bar

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_LOCK = ".lock"
_PART = re.compile(r"\..*-[0-9a-f]{8}\.part(\..*)?", re.DOTALL)

LOCK_SECONDS = 5
"""How long a lock is waited for: a process that was killed may take a moment to be gone."""


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path that takes the name `path` if, and only if, the block succeeds.

    The temporary file lies in the folder of `path`, which is created where it is missing, and has
    the same suffix, so that `savefig` and `np.savez` choose the same format for both. A folder
    that cannot be written to raises an `OSError` before the block is entered, a disk that is full
    one that names `path`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with whole_file(Path(folder.name) / "answer.txt") as temporary:
    ...     _ = temporary.write_text("42")
    >>> (Path(folder.name) / "answer.txt").read_text()
    '42'
    >>> folder.cleanup()
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror}; make {path.parent} a folder you may write "
            "to, or choose another one",
        ) from error
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror}; make room on that disk and start again, with "
            "--resume if the command has it: what was finished before is not lost",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove what processes that were killed while they wrote left in and below `folder`."""
    for part in filter(_is_part, Path(folder).rglob(".*")):
        part.unlink(missing_ok=True)


def _is_part(path: Path) -> bool:
    """Whether this is a temporary file of `whole_file`."""
    return _PART.fullmatch(path.name) is not None and path.is_file()


@contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Keep every other process out of `folder`; the system lets go of the lock when this one dies.

    Raises `BlockingIOError` where another process keeps the folder for longer than `LOCK_SECONDS`.
    """
    path = Path(folder) / _LOCK
    deadline = time.monotonic() + LOCK_SECONDS
    while (file := _try_to_lock(path)) is None:
        if time.monotonic() > deadline:
            raise BlockingIOError(
                f"{folder} is being written by another process; wait until that has ended, or "
                "choose another folder with --out"
            )
        time.sleep(0.05)
    with file:
        try:
            yield
        finally:
            if os.name != "nt":  # where an open file cannot be removed it stays, and does no harm
                path.unlink(missing_ok=True)


def _try_to_lock(path: Path) -> Any:
    """The open file `path`, locked, or None where another process holds it."""
    file = path.open("ab")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have removed it between the two calls: the name is then another file's.
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK, errno.ENOENT):
            file.close()
            raise
    file.close()
    return None


def new_folder(path: str | os.PathLike) -> Path:
    """Create the output folder `path` and return it; one that is empty is taken as it is.

    A process that was killed before it wrote anything leaves such a folder, perhaps with a part of
    a file. Raises `FileExistsError` where `path` holds anything else, and `OSError` where the
    folder cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = [e for e in path.iterdir() if not _is_part(e) and e.name != _LOCK]
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot create the output folder {path}: {error.strerror}; choose another one "
            "with --out",
        ) from error
    if taken:
        raise FileExistsError(
            f"{path} exists already and is never overwritten; choose another folder with --out, "
            "or continue that run with --resume if the command has it"
        )
    return path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as JSON with sorted keys, whole or not at all.

    Floats keep every digit that float64 needs to be read back unchanged; NumPy scalars and arrays
    become numbers and lists, paths become strings. NaN and infinities are written as Python writes
    them (`NaN`, `Infinity`), which `read_json` understands and strict JSON parsers refuse.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=_plain) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; a damaged one raises a `ValueError` that names it."""
    content = Path(path).read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable JSON file ({error})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"cannot write a {type(value).__name__} as JSON: {value!r}")


def write_npz(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, compressed: bool = False
) -> None:
    """Write named arrays to an `.npz` archive, whole or not at all.

    Raises `TypeError` for an array of objects, which only a pickle could hold.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(
                f"array {name!r} has dtype {array.dtype}, which only a pickle could hold; "
                "convert it to numbers or strings"
            )
    save: Callable[..., None] = np.savez_compressed if compressed else np.savez
    with whole_file(path) as temporary, temporary.open("wb") as file:
        save(file, **arrays)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read every array of an `.npz` archive; a pickle is refused, never read.

    Raises `ValueError` with the name of the file where it is truncated, damaged, not an archive of
    arrays, or holds a pickle; `FileNotFoundError` where it is missing. Each array carries a
    checksum, so what comes back is what was written; that all names wanted are there is for the
    caller to check.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:
            # A damaged archive fails in many places: zip directory, CRC, inflating, array header.
            raise ValueError(
                f"{path} is truncated, damaged or not an .npz archive of plain arrays ({error}); "
                "delete it and make it again"
            ) from error


def verify(path: str | os.PathLike, checksums: Mapping[str, str], *, cure: str) -> None:
    """Raise a `ValueError` that ends in `cure` unless the file has these checksums, by algorithm."""
    content = Path(path).read_bytes()
    for algorithm, wanted in checksums.items():
        # The checksums here detect damage, so MD5 is allowed where nothing better was published.
        came = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
        if came != wanted:
            raise ValueError(f"wrong {algorithm} of {path}: wanted {wanted}, got {came}; {cure}")


def cache_folder() -> Path:
    """Return the folder for downloaded data, after the convention of the platform.

    `$XDG_CACHE_HOME/rbst` or `~/.cache/rbst` on Linux, `~/Library/Caches/rbst` on macOS,
    `%LOCALAPPDATA%\\rbst` on Windows. The folder need not exist.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "rbst"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "rbst"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    return (Path(xdg) if os.path.isabs(xdg) else _home() / ".cache") / "rbst"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry of this user
        return Path(tempfile.gettempdir())


def find_data_file(name: str, data_dir: str | os.PathLike | None = None) -> Path | None:
    """Look for the file `name` in `data_dir`, `RBST_DATA_DIR` and the cache, in this order.

    Returns its path, or None where no folder holds it. A folder that was asked for and does not
    exist raises `FileNotFoundError`, so that a misspelt name is not taken for missing data.
    """
    asked_for = {"data_dir": data_dir, "RBST_DATA_DIR": os.environ.get("RBST_DATA_DIR") or None}
    folders = {origin: Path(folder) for origin, folder in asked_for.items() if folder is not None}
    for origin, folder in folders.items():
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{origin} names {asked_for[origin]}, which is not a folder; correct it or leave it out"
            )
    for folder in [*folders.values(), cache_folder()]:
        if (folder / name).is_file():
            return folder / name
    return None


def fetch_data_file(
    name: str,
    url: str,
    checksums: Mapping[str, str],
    *,
    data_dir: str | os.PathLike | None = None,
    beside: Sequence[str] = (),
) -> Path:
    """Find a data file, or download it into the cache; either way its checksums hold.

    If it can be neither found nor downloaded, the error lists every file of ``beside``.
    """
    path = find_data_file(name, data_dir)
    if path is None:
        path = cache_folder() / name
        try:
            download(url, path, checksums)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}; any mirror will do, since checksums are verified; "
                f"wanted: {', '.join(beside or [name])}"
            ) from error
    else:
        verify(path, checksums, cure=f"delete it, and it is fetched from {url}")
    return path


def download(url: str, path: str | os.PathLike, checksums: Mapping[str, str] = {}) -> None:
    """Download `url` to `path` with a progress bar; the checksums are verified before it exists.

    Raises `ConnectionError` where the server cannot be reached, answers with an error or sends
    less than it announced, `ValueError` for a wrong checksum, `OSError` for a folder that cannot
    be written to (before the network is asked). Each says what to do instead, and after each
    there is no file at `path`, or the one that was there before.
    """
    path = Path(path)
    cure = f"put {path.name} by hand at {path}, or set RBST_DATA_DIR to a folder that holds it"
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            try:
                _transfer(url, file, label=path.name)
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
            ) as error:
                reason = " ".join(str(getattr(error, "reason", error)).split())
                if isinstance(error, urllib.error.HTTPError):
                    reason = f"HTTP {error.code} {reason}"
                    error.close()
                raise ConnectionError(f"could not download {url}: {reason}; {cure}") from error
        verify(temporary, checksums, cure=f"it came from {url}; try again, or {cure}")


def _transfer(url: str, file: Any, *, label: str) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        announced = response.headers.get("Content-Length")
        total = None if announced is None else int(announced)
        received = 0
        with progress_bar(total, label, unit="B", unit_scale=True) as progress:
            while block := response.read(_BLOCK):
                file.write(block)
                received += len(block)
                progress.update(len(block))
        if total is not None and received < total:
            raise ConnectionError(f"truncated, {received} of {total} bytes came")
