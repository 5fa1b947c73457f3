"""Reductions of short rows against NumPy's own."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from rbst._array import SHORT_ROW, row_argmax, row_max, row_sum


@pytest.mark.parametrize("n", [1, 2, 3, SHORT_ROW, SHORT_ROW + 1, 100])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (20, 20)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_reduced_as_numpy_reduces_them(n, shape, dtype):
    x = np.random.default_rng(0).normal(size=(*shape, n)).astype(dtype).round(1)  # ties occur
    x[..., 0] = -np.inf if n > 1 else 0
    np.testing.assert_array_equal(row_max(x), x.max(axis=-1, keepdims=True))
    np.testing.assert_array_equal(row_argmax(x), x.argmax(axis=-1))
    x[..., 0] = 0
    np.testing.assert_allclose(row_sum(x), x.sum(axis=-1, keepdims=True), atol=1e-5)
    assert row_max(x).dtype == row_sum(x).dtype == dtype


@pytest.mark.parametrize("rows", [1, 100])  # of many short ones whole slices are reduced
def test_a_maximum_keeps_nan_and_infinity(rows):
    x = np.array([[1.0, np.nan], [np.nan, 1.0], [np.inf, 0.0]] * rows)
    np.testing.assert_array_equal(row_max(x), [[np.nan], [np.nan], [np.inf]] * rows)


@pytest.mark.parametrize("n", [2, 5])
def test_ties_go_to_the_first(n):
    np.testing.assert_array_equal(row_argmax(np.zeros((2, n))), [0, 0])


def test_traced_arrays_are_differentiated():
    x = np.array([[1.0, 3.0], [2.0, 0.5]])
    np.testing.assert_array_equal(grad(lambda x: anp.sum(row_max(x)))(x), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(grad(lambda x: anp.sum(row_sum(x) ** 2))(x), [[8, 8], [5, 5]])
