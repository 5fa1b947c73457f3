"""Binarised MNIST: a small stand-in from a local server, and the real file where it is at hand."""

import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from test_files import isolate_data_folders, names, read_only_folder, serve

from rbst import _files
from rbst.data import mnist

SPLITS = ("train", "valid", "test")
TEXTS = [f"binarized_mnist_{split}.amat" for split in SPLITS]
REAL_FOLDER = os.environ.get("RBST_DATA_DIR")


def as_text(images):
    return b"".join(b" ".join(b"01"[p : p + 1] for p in row) + b"\n" for row in images.tolist())


def checksum(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def images(monkeypatch, tmp_path):
    """Five, three and four images take the place of MNIST, with an empty cache."""
    isolate_data_folders(monkeypatch, tmp_path / "home")
    rng = np.random.default_rng(0)
    sizes = {"train": 5, "valid": 3, "test": 4}
    images = {split: rng.integers(2, size=(n, 784), dtype=np.uint8) for split, n in sizes.items()}
    packed = {split: np.packbits(array, axis=1) for split, array in images.items()}
    monkeypatch.setattr(
        mnist, "TEXT_SHA256", {split: checksum(as_text(images[split])) for split in SPLITS}
    )
    monkeypatch.setattr(
        mnist, "PACKED_SHA256", {split: checksum(packed[split].tobytes()) for split in SPLITS}
    )
    return images


@pytest.fixture
def texts(images):
    return {name: as_text(images[split]) for name, split in zip(TEXTS, SPLITS, strict=True)}


@pytest.fixture
def no_server(monkeypatch):
    """Point the address at a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    use_address(monkeypatch, f"http://127.0.0.1:{port}")


def use_address(monkeypatch, address):
    monkeypatch.setattr(mnist, "ADDRESS", f"{address}/binarized_mnist_{{split}}.amat")


def write_packed(folder, images, **changes):
    packed = {split: np.packbits(images[split], axis=1) for split in SPLITS} | changes
    _files.write_npz(folder / "binarized_mnist.npz", packed)
    return folder


def assert_loaded(loaded, images):
    assert loaded.name == "mnist"
    assert loaded.shape == (28, 28)
    for split in SPLITS:
        assert getattr(loaded, split).dtype == np.uint8
        np.testing.assert_array_equal(getattr(loaded, split), images[split])


# ----------------------------------------------------------------------------- a good server


def test_downloads_once_and_keeps_the_packed_file_only(monkeypatch, images, texts):
    with serve(texts) as (address, requests):
        use_address(monkeypatch, address)
        assert_loaded(mnist.load_mnist(), images)
        assert requests == TEXTS
        assert names(_files.cache_folder()) == ["binarized_mnist.npz"]
        assert_loaded(mnist.load_mnist(), images)
        assert requests == TEXTS
    stored = _files.read_npz(_files.cache_folder() / "binarized_mnist.npz")
    for split in SPLITS:
        np.testing.assert_array_equal(stored[split], np.packbits(images[split], axis=1))


def test_line_ends_and_trailing_spaces_do_not_matter(tmp_path, images):
    path = tmp_path / "text.amat"
    for end in (b"\n", b" \n", b"\r\n"):
        path.write_bytes(as_text(images["train"]).replace(b"\n", end))
        np.testing.assert_array_equal(mnist._parse(path), images["train"])


@pytest.mark.usefixtures("no_server")
def test_first_folder_that_has_the_packed_file_wins(monkeypatch, tmp_path, images):
    folders = [tmp_path / "given", tmp_path / "named", _files.cache_folder()]
    monkeypatch.setenv("RBST_DATA_DIR", str(folders[1]))
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "binarized_mnist.npz").write_bytes(b"not an archive")
    for folder in folders:
        write_packed(folder, images)
        assert_loaded(mnist.load_mnist(folders[0]), images)
        (folder / "binarized_mnist.npz").unlink()
    with pytest.raises(ConnectionError, match="could not download"):
        mnist.load_mnist(folders[0])


@pytest.mark.usefixtures("no_server")
def test_texts_put_by_hand_are_packed_and_left_alone(tmp_path, images, texts):
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    assert_loaded(mnist.load_mnist(tmp_path), images)
    assert {name: (tmp_path / name).read_bytes() for name in texts} == texts
    assert names(_files.cache_folder()) == ["binarized_mnist.npz"]
    assert_loaded(mnist.load_mnist(), images)


# ----------------------------------------------------------------------------- a bad server


@pytest.mark.parametrize("bad", TEXTS)
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("truncated", ConnectionError, "truncated"),
        ("corrupted", ValueError, "wrong sha256"),
        ("missing", ConnectionError, "HTTP 404"),
    ],
)
def test_bad_answer_is_refused_and_the_next_attempt_goes_on(
    monkeypatch, images, texts, bad, kind, error, message
):
    served = dict(texts)
    if kind == "missing":
        del served[bad]
    if kind == "corrupted":
        served[bad] = b"1" + served[bad][1:] if served[bad][:1] == b"0" else b"0" + served[bad][1:]
    with serve(served, truncated=[bad] if kind == "truncated" else []) as (address, _):
        use_address(monkeypatch, address)
        with pytest.raises(error, match=message) as caught:
            mnist.load_mnist()
    by_hand = f"by hand at {_files.cache_folder() / bad}, or set RBST_DATA_DIR"
    assert by_hand in str(caught.value)
    good_ones = TEXTS[: TEXTS.index(bad)]
    assert names(_files.cache_folder()) == sorted(good_ones)
    for name in good_ones:
        assert (_files.cache_folder() / name).read_bytes() == texts[name]

    with serve(texts) as (address, requests):
        use_address(monkeypatch, address)
        assert_loaded(mnist.load_mnist(), images)
        assert requests == TEXTS[TEXTS.index(bad) :]


def test_nothing_is_parsed_before_its_checksum_holds(monkeypatch, tmp_path, texts):
    def parse(path):
        raise AssertionError("parsed")

    monkeypatch.setattr(mnist, "_parse", parse)
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content + b"0")
    with pytest.raises(ValueError, match=r"wrong sha256 of .*train\.amat.*delete it"):
        mnist.load_mnist(tmp_path)


@pytest.mark.usefixtures("no_server", "images")
def test_no_network():
    with pytest.raises(
        ConnectionError,
        match=r"could not download .*train\.amat.*by hand at.*mirror.*valid\.amat.*test\.amat",
    ):
        mnist.load_mnist()
    assert names(_files.cache_folder()) == []


def test_cache_that_cannot_be_written_is_found_before_the_download(monkeypatch, tmp_path, texts):
    # The cache would lie below a regular file: refused to root as well, unlike chmod.
    (tmp_path / "file").write_text("")
    isolate_data_folders(monkeypatch, tmp_path / "file")
    with serve(texts) as (address, requests):
        use_address(monkeypatch, address)
        with pytest.raises(OSError, match=r"cannot write .*train\.amat.*or choose another"):
            mnist.load_mnist()
    assert requests == []


def test_read_only_cache(monkeypatch, texts):
    read_only_folder(_files.cache_folder())
    with serve(texts) as (address, requests):
        use_address(monkeypatch, address)
        with pytest.raises(PermissionError, match="cannot write"):
            mnist.load_mnist()
    assert requests == []


# ----------------------------------------------------------------------------- a bad packed file


def test_packed_file_is_held_against_its_checksums(tmp_path, images):
    flipped = np.packbits(images["test"], axis=1)
    flipped[2, 50] ^= 1
    write_packed(tmp_path, images, test=flipped)
    with pytest.raises(ValueError, match=r"wrong sha256 of array 'test' of .*npz.*delete"):
        mnist.load_mnist(tmp_path)


def test_packed_file_has_the_wrong_form(tmp_path, images):
    for wrong in (images["valid"], np.packbits(images["valid"], axis=1).astype(np.int64)):
        write_packed(tmp_path, images, valid=wrong)
        with pytest.raises(ValueError, match=r"wrong sha256 of array 'valid' of .*delete"):
            mnist.load_mnist(tmp_path)


def test_packed_file_lacks_an_array(tmp_path, images):
    _files.write_npz(tmp_path / "binarized_mnist.npz", {"valid": images["valid"]})
    with pytest.raises(ValueError, match=r"npz has no array 'train', only \['valid'\]; delete it"):
        mnist.load_mnist(tmp_path)


def test_truncated_packed_file(tmp_path, images):
    path = write_packed(tmp_path, images) / "binarized_mnist.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"binarized_mnist\.npz is truncated.*delete it"):
        mnist.load_mnist(tmp_path)


# ----------------------------------------------------------------------------- the real data


@pytest.fixture(scope="module")
def real():
    if REAL_FOLDER is None:
        pytest.skip("RBST_DATA_DIR is not set")
    if not (Path(REAL_FOLDER) / mnist.PACKED_FILE).is_file():
        pytest.skip(f"RBST_DATA_DIR holds no {mnist.PACKED_FILE}")
    return mnist.load_mnist(REAL_FOLDER)


@pytest.mark.real_data
def test_real_images(real):
    assert [len(getattr(real, split)) for split in SPLITS] == [50_000, 10_000, 10_000]
    means = [getattr(real, split).mean() for split in SPLITS]
    np.testing.assert_allclose(means, [0.1305623, 0.1311270, 0.1325122], rtol=0, atol=5e-8)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_texts_have_the_published_checksums_and_pack_to_the_same(real, monkeypatch, tmp_path):
    isolate_data_folders(monkeypatch, tmp_path / "home")
    texts = {}
    for name, split in zip(TEXTS, SPLITS, strict=True):
        # Digit, separator, digit, ...: the published text, made from the packed images.
        text = np.full((len(getattr(real, split)), 2 * 784), ord(" "), dtype=np.uint8)
        text[:, ::2] = getattr(real, split) + ord("0")
        text[:, -1] = ord("\n")
        texts[name] = text.tobytes()
    with serve(texts) as (address, _):
        use_address(monkeypatch, address)
        assert_loaded(mnist.load_mnist(), {split: getattr(real, split) for split in SPLITS})
    assert names(_files.cache_folder()) == ["binarized_mnist.npz"]
