"""The ReinMax package checked against its own formula, 2 J((pi_tau + D) / 2) g - J(pi) g / 2.

Needs PyTorch and ReinMax: ``pip install torch reinmax``; then
``python examples/crosscheck/reinmax_package.py``.
"""

import reinmax
import torch

from rbst.crosscheck import check


def implementation(logits, df_dD, *, tau, rng):
    """Draws D itself, so it is handed the gradient of f as a function of D."""
    torch.manual_seed(int(rng.integers(2**31)))
    theta = torch.tensor(logits, requires_grad=True)
    sample, _ = reinmax.reinmax(theta, tau)
    D = sample.detach().numpy()
    sample.backward(torch.tensor(df_dD(D)))
    return D, theta.grad.numpy()


if __name__ == "__main__":
    report = check(implementation, "reinmax", progress=True)
    print(report)
    raise SystemExit(not report.passed)
