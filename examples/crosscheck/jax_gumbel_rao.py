"""Gumbel-Rao in JAX, written from Eqs. 9 and 10 of the paper, checked against the exact answers.

Needs JAX: ``pip install jax``; then ``python examples/crosscheck/jax_gumbel_rao.py``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rbst.crosscheck import check

jax.config.update("jax_enable_x64", True)


@functools.partial(jax.jit, static_argnames="num_samples")
def gumbel_rao(key, theta, D, g, *, tau, num_samples):
    E = jax.random.exponential(key, (num_samples, *theta.shape), theta.dtype)
    E = jnp.maximum(E, jnp.finfo(E.dtype).tiny)  # generators return exactly 0 now and then
    E_selected = (E * D).sum(axis=-1, keepdims=True)
    log_race = jnp.where(D == 1, -jnp.inf, jnp.log(E) - jax.nn.log_softmax(theta))
    x = -jnp.logaddexp(log_race, jnp.log(E_selected))  # Eq. 9, less log Z
    _, pull_back = jax.vjp(lambda x: jax.nn.softmax(x / tau).mean(axis=0), x)
    return pull_back(g)[0].sum(axis=0)


def implementation(logits, D, df_dD, *, tau, num_samples, rng):
    key = jax.random.key(int(rng.integers(2**31)))
    return np.asarray(gumbel_rao(key, logits, D, df_dD, tau=tau, num_samples=num_samples))


if __name__ == "__main__":
    report = check(implementation, "gr-mc10", progress=True)
    print(report)
    raise SystemExit(not report.passed)
