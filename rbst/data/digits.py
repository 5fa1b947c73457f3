"""The 1,797 handwritten digits that come with the package, and the form all image data share.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://archive.ics.uci.edu/dataset/80, licensed under CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/). These are the 1,797 images of its test file, as
scikit-learn 1.9.1 ships them: 8 x 8 pixels, each the number (0..16) of inked cells in a 4 x 4 block
of a 32 x 32 scan. Changes made here: packed as bytes, and binarised when loaded.

`digits.npz` holds `pixels` (1797, 64) and `labels` (1797,) in the order of the source and `order`
(1797,), the permutation that fixes the split. It was made by::

    source = sklearn.datasets.load_digits()
    np.savez_compressed("digits.npz", pixels=source.data.astype(np.uint8),
                        labels=source.target.astype(np.uint8),
                        order=np.random.default_rng(0).permutation(1797).astype(np.uint16))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
from numpy.typing import DTypeLike

from rbst._files import read_npz

_THRESHOLD = 8
_CUTS = (1197, 1497)


@dataclass(frozen=True, eq=False)
class BinaryImages:
    """Black-and-white images, split into training, validation and test sets.

    where

    - `name` says which data these are, `shape` is (height, width);
    - `train`, `valid`, `test` are (N, height * width) arrays of 0 and 1, uint8 when loaded;
    - `train_labels`, `valid_labels`, `test_labels` are (N,) uint8 class labels, or None.
    """

    name: str
    shape: tuple[int, int]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    valid_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None

    def astype(self, dtype: DTypeLike) -> BinaryImages:
        """Return the same images with pixels of another dtype, e.g. `np.float32`."""
        return replace(
            self,
            train=self.train.astype(dtype),
            valid=self.valid.astype(dtype),
            test=self.test.astype(dtype),
        )


def load_digits() -> BinaryImages:
    """Load the embedded 8 x 8 digits: 1,197 to train, 300 to validate, 300 to test.

    A pixel is 1 where at least half of its block is inked (value >= 8 of 16), else 0. The split is
    the permutation stored in the file, cut at 1,197 and 1,497, so it depends on no random
    generator. The same writers occur in all three parts.

    >>> digits = load_digits()
    >>> digits.train.shape, digits.valid.shape, digits.test.shape
    ((1197, 64), (300, 64), (300, 64))
    >>> round(float(digits.train.mean()), 4)
    0.3224
    >>> int(digits.train_labels[0])
    6
    >>> for row in digits.train[0].reshape(8, 8):
    ...     print("".join("-#"[pixel] for pixel in row))
    ---#----
    ---#----
    --#-----
    --#-----
    --####--
    --##-##-
    --##-##-
    ---###--
    """
    with resources.as_file(resources.files("rbst.data") / "digits.npz") as path:
        stored = read_npz(path)
    images = (stored["pixels"] >= _THRESHOLD).astype(np.uint8)[stored["order"]]
    labels = stored["labels"][stored["order"]]
    return BinaryImages("digits", (8, 8), *np.split(images, _CUTS), *np.split(labels, _CUTS))
