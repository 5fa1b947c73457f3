"""The embedded digits: their source, the split, the rule of binarisation."""

import dataclasses
from importlib import resources

import numpy as np
import pytest

from rbst._files import read_npz
from rbst.data.digits import load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def stored():
    with resources.as_file(resources.files("rbst.data") / "digits.npz") as path:
        return read_npz(path)


def test_shapes_and_values(digits):
    assert digits.name == "digits"
    assert digits.shape == (8, 8)
    sizes = {"train": 1197, "valid": 300, "test": 300}
    for split, size in sizes.items():
        images, labels = getattr(digits, split), getattr(digits, f"{split}_labels")
        assert images.shape == (size, 64)
        assert images.dtype == np.uint8
        assert set(np.unique(images)) == {0, 1}
        assert labels.shape == (size,)
        assert set(labels) == set(range(10))


def test_stored_pixels_are_those_of_the_source(stored):
    # Facts of the source: class counts of optdigits.tes, pixels 0..16.
    assert stored["pixels"].shape == (1797, 64)
    assert stored["pixels"].max() == 16
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(np.bincount(stored["labels"]), counts)


def test_every_image_is_in_exactly_one_split(stored):
    np.testing.assert_array_equal(np.sort(stored["order"]), np.arange(1797))


def test_pixels_and_labels_follow_the_documented_rule(digits, stored):
    for split, rows in {
        "train": stored["order"][:1197],
        "valid": stored["order"][1197:1497],
        "test": stored["order"][1497:],
    }.items():
        np.testing.assert_array_equal(getattr(digits, split), stored["pixels"][rows] >= 8)
        np.testing.assert_array_equal(getattr(digits, f"{split}_labels"), stored["labels"][rows])


def test_splits_resemble_each_other(digits):
    # An image's share of black pixels has a standard deviation of about .05: 5 standard errors.
    shares = [getattr(digits, split).mean(axis=1) for split in ("train", "valid", "test")]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        error = np.hypot(*(shares[i].std() / np.sqrt(len(shares[i])) for i in (a, b)))
        assert abs(shares[a].mean() - shares[b].mean()) < 5 * error


def test_other_dtypes_on_request(digits):
    single = digits.astype(np.float32)
    for split in ("train", "valid", "test"):
        assert getattr(single, split).dtype == np.float32
        np.testing.assert_array_equal(getattr(single, split), getattr(digits, split))
    assert single.train_labels is digits.train_labels


def test_images_are_frozen(digits):
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.train = digits.test


def test_source_agrees_with_scikit_learn(stored):
    datasets = pytest.importorskip("sklearn.datasets")
    source = datasets.load_digits()
    np.testing.assert_array_equal(stored["pixels"], source.data)
    np.testing.assert_array_equal(stored["labels"], source.target)
