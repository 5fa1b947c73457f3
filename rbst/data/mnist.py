"""Binarised MNIST: 50,000 training, 10,000 validation and 10,000 test images of 28 x 28 pixels.

The fixed binarisation of Salakhutdinov and Murray ("On the quantitative analysis of deep belief
networks", ICML 2008), in which every pixel was drawn once with its grey value as the probability,
as published by Hugo Larochelle. MNIST is the work of Yann LeCun and Corinna Cortes, licensed under
CC BY-SA 3.0. Likelihoods are comparable between papers only on the same binarisation, so the
published text and its packed form are both checked against fixed checksums.

The package contains no MNIST. `load_mnist` looks for the packed file, else makes it once from the
published text. The test images are sorted by class: a prefix of them is not a sample of them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from rbst._files import cache_folder, fetch_data_file, find_data_file, read_npz, write_npz
from rbst.data.digits import BinaryImages

PACKED_FILE = "binarized_mnist.npz"
TEXT_FILE = "binarized_mnist_{split}.amat"
# The server speaks plain http: the checksums are what makes the download safe.
ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/" + TEXT_FILE
TEXT_SHA256 = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
PACKED_SHA256 = {
    "train": "727146c35424b019f3e350e1e69faa05644a0abaf787e3f4e1a9632220a13906",
    "valid": "a256ac44ae26be720fad8616a05ed6ecfd1619930d9a208379bb2a4405df5b6d",
    "test": "9fcd8da6f0fdf09b2ba30fe63a0bb784042a0de82563172530229b983e294ff2",
}
_SHAPE = (28, 28)
_NUM_PIXELS = 784


def load_mnist(data_dir: str | os.PathLike | None = None) -> BinaryImages:
    """Load binarised MNIST, downloading and packing it (once) where it is not at hand.

    `binarized_mnist.npz` is looked for in `data_dir`, in the folder that the environment variable
    `RBST_DATA_DIR` names, and in the user's cache folder. Where none has it, the three published
    text files are looked for in the same folders, the missing ones are downloaded (125 MB), and
    the packed file (2.3 MB) is written to the cache. The archive holds `train`, `valid` and `test`,
    each `np.packbits(images, axis=1)`: uint8 of shape (N, 98).

    Returns uint8 arrays (N, 784) of 0 and 1; there are no labels. The mean pixel is 0.1305623 in
    the training set, 0.1311270 in validation and 0.1325122 in test.

    Raises `ValueError` for a file with a wrong checksum, `ConnectionError` where the download
    fails and `OSError` where the cache cannot be written to; each says what to do. Text is parsed
    only after its checksum has been verified.
    """
    path = find_data_file(PACKED_FILE, data_dir)
    if path is None:
        path = _pack(cache_folder() / PACKED_FILE, data_dir)
    packed = read_npz(path)
    _verify_packed(packed, path)
    return BinaryImages(
        "mnist",
        _SHAPE,
        *(np.unpackbits(packed[split], axis=1, count=_NUM_PIXELS) for split in PACKED_SHA256),
    )


def _pack(path: Path, data_dir: str | os.PathLike | None) -> Path:
    packed, downloaded = {}, []
    names = [TEXT_FILE.format(split=split) for split in TEXT_SHA256]
    for split, checksum in TEXT_SHA256.items():
        name, url = TEXT_FILE.format(split=split), ADDRESS.format(split=split)
        if find_data_file(name, data_dir) is None:
            downloaded.append(cache_folder() / name)
        text = fetch_data_file(name, url, {"sha256": checksum}, data_dir=data_dir, beside=names)
        packed[split] = np.packbits(_parse(text), axis=1)
    _verify_packed(packed, "the parsed text")
    write_npz(path, packed, compressed=True)
    for text in downloaded:
        text.unlink(missing_ok=True)
    return path


def _parse(path: Path) -> np.ndarray:
    # np.loadtxt would take a minute for the training set; every entry is the one byte 0 or 1.
    characters = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    pixels = characters[(characters == ord("0")) | (characters == ord("1"))] - ord("0")
    return pixels.reshape(-1, _NUM_PIXELS)


def _verify_packed(packed: dict[str, np.ndarray], path: str | os.PathLike) -> None:
    for split, wanted in PACKED_SHA256.items():
        if split not in packed:
            raise ValueError(
                f"{path} has no array {split!r}, only {sorted(packed)}; delete it, and it is made "
                "again"
            )
        found = hashlib.sha256(packed[split].tobytes()).hexdigest()
        if found != wanted:
            raise ValueError(
                f"wrong sha256 of array {split!r} of {path}: wanted {wanted}, got {found}; it is "
                "damaged or another binarisation: delete the file, and it is made again"
            )
