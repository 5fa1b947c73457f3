"""Any estimator inside JAX, under ``jit``: ``python examples/jax_model.py``. Needs JAX: ``pip install jax``.

What runs backwards is the estimator of `rbst` in NumPy, called back on the host; everything else is JAX's. For
"cost-only" estimators (reinforce) add the score-function term yourself: nothing flows through their node.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import rbst


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def stochastic_node(estimator, logits, key):
    """Forward the sample, backward the estimator, for logits ``(..., n)``."""
    return draw(estimator, logits, key)[0]


def draw(estimator, logits, key):
    def on_host(theta, seed):
        return estimator.sample(np.asarray(theta), np.random.default_rng(np.asarray(seed)))

    return jax.pure_callback(on_host, (logits, logits), logits, jax.random.key_data(key))


def forward(estimator, logits, key):
    forward_key, backward_key = jax.random.split(key)
    point, sample = draw(estimator, logits, forward_key)
    return point, (logits, sample, jax.random.key_data(backward_key))


def backward(estimator, kept, df_dpoint):
    def on_host(theta, sample, g, seed):
        rng = np.random.default_rng(np.asarray(seed))
        return estimator.pull_back(*map(np.asarray, (theta, sample, g)), rng)

    logits, sample, seed = kept
    return jax.pure_callback(on_host, logits, logits, sample, df_dpoint, seed), None


stochastic_node.defvjp(forward, backward)


def main():
    """Three logits learn the weight nearest to 2.5 kg among 1, 2 and 4 kg."""
    estimator, weights = rbst.get_estimator("gr", tau=0.5), jnp.array([1.0, 2.0, 4.0])

    @jax.jit
    def step(logits, key):
        def loss(logits):
            D = stochastic_node(estimator, jnp.broadcast_to(logits, (20, 1, 3)), key)
            return ((D @ weights - 2.5) ** 2).mean()

        return logits - 0.1 * jax.grad(loss)(logits)

    logits = jnp.zeros((1, 3))
    for key in jax.random.split(jax.random.key(0), 300):
        logits = step(logits, key)
    print("probabilities", np.asarray(jax.nn.softmax(logits)).round(3))


if __name__ == "__main__":
    main()
