"""Any estimator inside PyTorch: ``python examples/torch_model.py``. Needs PyTorch: ``pip install torch``.

What runs backwards is the estimator of `rbst` in NumPy, on the CPU; everything else is PyTorch's. For
"cost-only" estimators (reinforce) add the score-function term yourself: nothing flows through their node.
"""

import numpy as np
import torch
from torch.autograd.function import once_differentiable

import rbst


class StochasticNode(torch.autograd.Function):
    """Forward the sample, backward the estimator, for logits ``(..., n)``."""

    @staticmethod
    def forward(ctx, logits, estimator, rng):
        theta = logits.detach().cpu().numpy()
        point, sample = estimator.sample(theta, rng)
        ctx.recipe = estimator, theta, sample, int(rng.integers(2**63))
        return torch.as_tensor(point, device=logits.device)

    @staticmethod
    @once_differentiable
    def backward(ctx, df_dpoint):
        estimator, theta, sample, seed = ctx.recipe
        g, rng = df_dpoint.cpu().numpy(), np.random.default_rng(seed)
        gradient = estimator.pull_back(theta, sample, g, rng)
        return torch.as_tensor(gradient, device=df_dpoint.device), None, None


def main():
    """Three logits learn the weight nearest to 2.5 kg among 1, 2 and 4 kg."""
    logits = torch.zeros(1, 3, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0])
    estimator, rng = rbst.get_estimator("gr", tau=0.5), np.random.default_rng(0)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(300):
        D = StochasticNode.apply(logits.expand(20, 1, 3), estimator, rng)
        loss = ((D @ weights - 2.5) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("probabilities", logits.softmax(-1).detach().numpy().round(3))


if __name__ == "__main__":
    main()
