"""Each adapter of :mod:`rbst.crosscheck.torch` once: a distribution, a function with a backward, a module, a loss.

Needs PyTorch: ``pip install torch``; then ``python examples/crosscheck/torch_adapters.py``.
"""

import torch
from torch.distributions import OneHotCategorical, RelaxedOneHotCategorical
from torch.nn.functional import gumbel_softmax

from rbst.crosscheck import check
from rbst.crosscheck.torch import (
    from_autograd_function,
    from_distribution,
    from_loss,
    from_module,
)


def relaxed(logits, tau):
    tau = torch.tensor(tau, dtype=logits.dtype)
    return RelaxedOneHotCategorical(tau, logits=logits, validate_args=False)


class StraightThrough(torch.autograd.Function):
    """Forward a sample, backward the Jacobian of the softmax."""

    @staticmethod
    def forward(ctx, logits):
        ctx.save_for_backward(torch.softmax(logits, dim=-1))
        return OneHotCategorical(logits=logits).sample()

    @staticmethod
    def backward(ctx, g):
        (pi,) = ctx.saved_tensors
        return pi * (g - (pi * g).sum(dim=-1, keepdim=True))


class Layer(torch.nn.Module):
    """A layer with a temperature."""

    def forward(self, logits, tau=1.0):
        return gumbel_softmax(logits, tau=tau, hard=True)


def rloo(logits, f):
    """REINFORCE with two samples, each the baseline of the other."""
    law = OneHotCategorical(logits=logits)
    D, other = law.sample(), law.sample()
    log_ratio = (law.log_prob(D) - law.log_prob(other)).sum(dim=-1)
    return (f(D) - f(other)).detach() * log_ratio / 2


CHECKS = (
    (from_distribution(relaxed, log_density=True), "gs", {}),
    (from_autograd_function(StraightThrough), "st", {}),
    (from_module(Layer()), "st-gs", {"samples": 5000}),
    (from_loss(rloo), "unbiased", {}),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    reports = [check(code, name, **options, progress=True) for code, name, options in CHECKS]
    print(*reports, sep="\n\n")
    raise SystemExit(not all(report.passed for report in reports))
