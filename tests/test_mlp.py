"""The layers: every hand-written derivative against finite differences, precision, initialisation."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads

from rbst._array import add_product
from rbst.models.mlp import Layout, dense, glorot, mlp, mlp_shapes


def test_views_share_memory_with_the_flat_vector_and_cover_it():
    layout = Layout(mlp_shapes("net", [3, 4, 2]))
    flat = np.zeros(layout.size)
    for view in layout.views(flat).values():
        view += 1
    assert layout.size == 3 * 4 + 4 + 4 * 2 + 2
    np.testing.assert_array_equal(flat, 1)


SHAPES = [(1, 1, 1), (5, 3, 4), (2, 7, 1)]


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_against_finite_differences(shape, squash):
    examples, *sizes = shape
    rng = np.random.default_rng(0)
    layout = Layout({"before": (2,)} | mlp_shapes("net", sizes) | {"behind": (3,)})
    layer = replace(layout.layers["net"][0], squash=squash)
    x, flat = rng.normal(size=(examples, sizes[0])), rng.normal(size=layout.size)
    for argnum in range(2):
        check_grads(dense, argnum, modes=["rev"], order=1)(x, flat, layer)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("total", "factors"), [("f4", "f4"), ("f8", "f8"), ("f8", "f4"), ("f4", "f8"), ("f2", "f2")]
)
def test_a_product_is_added_whatever_the_precision_and_the_memory_order(total, factors, order):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, size=s).astype(factors) for s in [(3, 5), (5, 4)])
    sums = np.asarray(rng.integers(-9, 9, size=(3, 4)), dtype=total, order=order)
    wanted = sums + a @ b
    add_product(sums, a[::-1], np.asfortranarray(b))
    np.testing.assert_array_equal(sums, wanted + (a[::-1] - a) @ b)


def plain_mlp(parameters, x, layers):
    """The same network in autograd's own operations."""
    for layer in range(layers):
        x = anp.dot(x, parameters[f"net.W{layer}"]) + parameters[f"net.b{layer}"]
        x = anp.tanh(x) if layer < layers - 1 else x
    return x


@pytest.mark.parametrize("sizes", [[4, 2], [4, 5, 2], [4, 5, 3, 2]])
def test_gradient_of_the_flat_vector_is_that_of_plain_autograd(sizes):
    layout = Layout(mlp_shapes("net", sizes))
    rng = np.random.default_rng(1)
    flat, x, target = rng.normal(size=layout.size), rng.normal(size=(6, 4)), rng.normal(size=(6, 2))

    def ours(flat):
        return anp.sum((mlp(layout.views(flat), "net", x) - target) ** 2)

    def plain(parameters):
        return anp.sum((plain_mlp(parameters, x, len(sizes) - 1) - target) ** 2)

    expected = grad(plain)(dict(layout.views(flat)))
    for name, view in layout.views(grad(ours)(flat)).items():
        np.testing.assert_allclose(view, expected[name], rtol=1e-10, err_msg=name)


def test_a_view_used_twice_collects_both_gradients():
    layout = Layout({"a": (2,), "b": (3,)})

    def f(flat):
        views, again = layout.views(flat), layout.views(flat)
        return anp.sum(views["a"] ** 2) + anp.sum(views["a"] * again["a"] * 3) + again["b"][0]

    np.testing.assert_allclose(grad(f)(np.arange(1.0, 6.0)), [8, 16, 1, 0, 0])


def test_float32_stays_float32_and_agrees_with_float64():
    layout = Layout(mlp_shapes("net", [4, 5, 2]))
    rng = np.random.default_rng(2)
    flat, x = rng.normal(size=layout.size), rng.normal(size=(6, 4))

    def loss(flat, x):
        return anp.sum(mlp(layout.views(flat), "net", x) ** 2)

    single = grad(loss)(flat.astype(np.float32), x.astype(np.float32))
    assert single.dtype == np.float32
    assert (
        mlp(layout.views(flat.astype(np.float32)), "net", x.astype(np.float32)).dtype == np.float32
    )
    np.testing.assert_allclose(single, grad(loss)(flat, x), rtol=1e-4, atol=1e-4)


def test_tanh_of_huge_inputs_has_gradient_zero_not_nan():
    layer, _ = Layout(mlp_shapes("net", [2, 2, 0])).layers["net"]
    flat = np.array([1, 0, 0, 1, 0, 0], dtype=np.float32)
    x = np.array([[1e4, -1e30]], dtype=np.float32)
    gradient = grad(lambda x: anp.sum(dense(x, flat, layer)))(x)
    np.testing.assert_array_equal(gradient, 0)


def test_glorot_bounds_spread_and_equal_start_of_both_dtypes():
    layout = Layout(mlp_shapes("net", [60, 100, 20]))
    flat = glorot(layout, np.random.default_rng(3), np.float64)
    views = layout.views(flat)
    W = views["net.W0"]
    bound = np.sqrt(6 / 160)
    assert np.abs(W).max() <= bound
    # The variance of U(-a, a) is a^2 / 3; of 6000 draws its estimate has a standard error of 1.2 %.
    assert W.var() == pytest.approx(bound**2 / 3, rel=0.06)
    np.testing.assert_array_equal(views["net.b0"], 0)
    single = glorot(layout, np.random.default_rng(3), np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, flat.astype(np.float32))


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
def test_what_is_not_a_batch_of_rows_is_refused(shape):
    layout = Layout(mlp_shapes("net", [3, 2]))
    with pytest.raises(ValueError, match=r"x must have shape \(B, inputs\), got .*; reshape it"):
        mlp(layout.views(np.zeros(layout.size)), "net", np.zeros(shape))
