"""The data of the experiments: embedded digits, binarised MNIST, ListOps.

Image data come as `BinaryImages`, ListOps as `ListOps`. Nothing here knows of estimators or models.
"""

from rbst.data.digits import BinaryImages, load_digits
from rbst.data.listops import Example, ListOps, generated_splits, published_splits
from rbst.data.mnist import load_mnist

__all__ = [
    "BinaryImages",
    "Example",
    "ListOps",
    "generated_splits",
    "load_digits",
    "load_mnist",
    "published_splits",
]
