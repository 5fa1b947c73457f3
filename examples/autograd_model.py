"""A model with hidden choices, trained in autograd: ``python examples/autograd_model.py gr``.

Three hidden variables of four categories each choose a row of a matrix; an observation is the sum of the
three rows, and noise. The encoder is linear, the decoder is the matrix, and what is minimised is the negative
evidence lower bound. With 64 joint outcomes its expectation is known exactly, whichever estimator trained.
"""

import sys

import autograd.numpy as np
from autograd import grad
from autograd.misc.optimizers import adam

import rbst

L, N, SIZE, NOISE = 3, 4, 8, 0.5


def make_data(rng, count):
    """Observations ``(count, SIZE)`` of a matrix that is drawn first."""
    matrix = rng.normal(size=(L * N, SIZE))
    D = rbst.sample_categorical(np.zeros((count, L, N)), rng)
    return D.reshape(count, L * N) @ matrix + NOISE * rng.normal(size=(count, SIZE))


def encode(parameters, x):
    """Logits ``(B, L, N)`` of the hidden variables given observations ``(B, SIZE)``."""
    return (x @ parameters["encoder"] + parameters["bias"]).reshape(-1, L, N)


def misfit(parameters, x, D):
    """What depends on the choices: -log p(x given D), less its constant, for D ``(..., L, N)``."""
    mean = D.reshape(*D.shape[:-2], L * N) @ parameters["decoder"]
    return np.sum((x - mean) ** 2, axis=-1) / (2 * NOISE**2)


def divergence(logits):
    """What does not: the Kullback-Leibler divergence of q(D given x) from the uniform prior, ``(B,)``."""
    log_q = rbst.log_softmax(logits)
    return np.sum(np.exp(log_q) * (log_q + np.log(N)), axis=(-1, -2))


def train(estimator, x, *, seed=0, steps=1500, batch=50):
    """Parameters after ``steps`` of Adam."""
    rng, baseline = np.random.default_rng(seed), rbst.RunningMean()

    def loss(parameters, step):
        batch_x = x[rng.integers(len(x), size=batch)]
        logits = encode(parameters, batch_x)
        D = rbst.stochastic_node(logits, estimator, rng)
        cost = misfit(parameters, batch_x, D)
        past = baseline.value
        baseline.update(cost)  # after it was read, so that it does not depend on this D
        return rbst.objective(estimator, cost, divergence(logits), [(logits, D)], baseline=past)

    start = {
        "encoder": 0.1 * rng.normal(size=(SIZE, L * N)),
        "bias": np.zeros(L * N),
        "decoder": rng.normal(size=(L * N, SIZE)),
    }
    return adam(grad(loss), start, num_iters=steps, step_size=0.01)


def exact_bound(parameters, x):
    """The negative evidence lower bound of each observation, all 64 outcomes weighed, averaged."""
    logits = encode(parameters, x)
    expected = [
        rbst.exact_expectation(lambda D, row=row: misfit(parameters, row, D), theta)
        for row, theta in zip(x, logits, strict=True)
    ]
    return np.mean(expected + divergence(logits))


def main(names):
    x = make_data(np.random.default_rng(1), 1000)
    for name in names:
        parameters = train(rbst.get_estimator(name, tau=0.5), x)
        print(f"{name:10} exact bound {exact_bound(parameters, x[:200]):.2f} nats")


if __name__ == "__main__":
    main(sys.argv[1:] or ["reinforce", "st-gs", "gr"])
