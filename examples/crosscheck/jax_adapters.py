"""Adapters of :mod:`rbst.crosscheck.jax`: a straight-through sample and a whole loss.

Needs JAX: ``pip install jax``; then ``python examples/crosscheck/jax_adapters.py``.
"""

import jax

from rbst.crosscheck import check
from rbst.crosscheck.jax import from_function, from_loss


def straight_through_gumbel_softmax(key, logits, tau):
    x = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    S = jax.nn.softmax(x / tau)
    D = jax.nn.one_hot(x.argmax(axis=-1), logits.shape[-1], dtype=logits.dtype)
    return D + S - jax.lax.stop_gradient(S)


def rloo(key, logits, f):
    """REINFORCE with two samples, each the baseline of the other."""
    n, keys = logits.shape[-1], jax.random.split(key)
    D, other = (
        jax.nn.one_hot(jax.random.categorical(k, logits), n, dtype=logits.dtype) for k in keys
    )
    log_ratio = ((D - other) * jax.nn.log_softmax(logits)).sum(axis=(-2, -1))
    return jax.lax.stop_gradient(f(D) - f(other)) * log_ratio / 2


CHECKS = (
    (from_function(straight_through_gumbel_softmax), "st-gs", {"samples": 20_000}),
    (from_loss(rloo), "unbiased", {}),
)

if __name__ == "__main__":
    reports = [check(code, name, **options, progress=True) for code, name, options in CHECKS]
    print(*reports, sep="\n\n")
    raise SystemExit(not all(report.passed for report in reports))
