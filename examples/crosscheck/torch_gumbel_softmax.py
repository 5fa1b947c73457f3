"""``torch.nn.functional.gumbel_softmax(hard=True)`` held against the exact law of ST-GS.

Needs PyTorch: ``pip install torch``; then ``python examples/crosscheck/torch_gumbel_softmax.py``.
"""

import torch

from rbst.crosscheck import check


def implementation(logits, df_dD, *, tau, rng):
    """Draws D itself, so it is handed the gradient of f as a function of D."""
    torch.manual_seed(int(rng.integers(2**31)))
    theta = torch.tensor(logits, requires_grad=True)
    sample = torch.nn.functional.gumbel_softmax(theta, tau=tau, hard=True)
    D = sample.detach().round().numpy()  # D + S - S is one-hot up to rounding only
    sample.backward(torch.tensor(df_dD(D)))
    return D, theta.grad.numpy()


if __name__ == "__main__":
    report = check(implementation, "st-gs", progress=True)
    print(report)
    raise SystemExit(not report.passed)
