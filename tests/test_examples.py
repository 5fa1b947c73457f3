"""The examples: what runs backwards in another framework is what runs backwards here."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import autograd
import autograd.numpy as np
import pytest

import rbst

EXAMPLES = Path(__file__).parent.parent / "examples"
LOGITS = np.log([[[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]] * 40)
NODE_NAMES = ("st", "st-gs", "gr-mc10", "gr", "zgr", "gs")


def load(name):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def costs(D):
    """The squared miss of each example, for arrays of any framework."""
    total = D.sum(-2)
    return (total[..., 0] + 2 * total[..., 1] + 4 * total[..., 2] - 4) ** 2


@pytest.fixture
def model():
    return load("autograd_model")


def test_the_example_of_autograd_learns(model):
    x = model.make_data(np.random.default_rng(1), 200)
    first, later = (
        model.exact_bound(model.train(rbst.get_estimator("reinforce"), x, steps=steps), x[:20])
        for steps in (1, 60)
    )
    assert later < 0.9 * first


@pytest.mark.slow
def test_the_guide_shows_what_the_example_of_autograd_prints(model, capsys):
    guide = (EXAMPLES.parent / "docs" / "use_in_a_model.md").read_text(encoding="utf-8")
    row = re.compile(r"^(\S+) +exact bound (\S+) nats$", re.MULTILINE)
    shown = row.findall(guide)
    model.main([name for name, _ in shown])
    for (name, bound), (_, printed) in zip(
        shown, row.findall(capsys.readouterr().out), strict=True
    ):
        assert float(printed) == pytest.approx(float(bound), abs=0.05), name


def test_a_running_mean_takes_a_traced_cost():
    baseline = rbst.RunningMean()

    def loss(x):
        baseline.update(x**2)
        return np.sum(x)

    autograd.grad(loss)(np.array([1.0, 3.0]))
    assert baseline.value == 5.0


@pytest.mark.examples
@pytest.mark.parametrize("name", NODE_NAMES)
def test_the_node_of_pytorch_has_the_gradient_of_the_node_here(name):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    estimator = rbst.get_estimator(name, tau=0.5)
    logits = torch.tensor(LOGITS, requires_grad=True)
    node = load("torch_model").StochasticNode
    costs(node.apply(logits, estimator, np.random.default_rng(3))).sum().backward()

    def here(theta):
        return np.sum(costs(rbst.stochastic_node(theta, estimator, np.random.default_rng(3))))

    assert logits.grad.numpy() == pytest.approx(autograd.grad(here)(LOGITS), rel=1e-12, abs=1e-12)


@pytest.mark.examples
@pytest.mark.parametrize("name", NODE_NAMES)
def test_the_node_of_jax_has_the_right_mean(name):
    jax = pytest.importorskip("jax", reason="needs JAX: pip install jax")
    estimator = rbst.get_estimator(name, tau=0.5)
    node = load("jax_model").stochastic_node

    @jax.jit
    def gradient(theta, key):
        return jax.grad(lambda theta: costs(node(estimator, theta, key)).sum())(theta)

    logits = np.tile(LOGITS[:1], (20_000, 1, 1)).astype("float32")
    found = np.asarray(gradient(logits, jax.random.key(5)))
    assert found.dtype == np.float32
    rng = np.random.default_rng(6)
    here = rbst.estimate_gradient(estimator, costs, logits, rng)
    error = np.sqrt((found.var(axis=0) + here.var(axis=0)) / len(logits))
    assert (np.abs(found.mean(axis=0) - here.mean(axis=0)) <= 4.5 * error + 1e-6).all()


@pytest.mark.examples
def test_gumbel_rao_in_torch_alone_is_right():
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    script = EXAMPLES / "torch_gumbel_rao.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "PASSED: 33 passed" in done.stdout


@pytest.mark.examples
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_example_finds_the_weight(framework):
    pytest.importorskip(framework, reason=f"needs {framework}")
    script = EXAMPLES / f"{framework}_model.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    probabilities = [float(number) for number in re.findall(r"\d\.\d+", done.stdout)]
    assert probabilities[1] > 0.85, done.stdout
