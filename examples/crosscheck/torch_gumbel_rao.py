"""Gumbel-Rao in PyTorch, written from Eqs. 9 and 10 of the paper, checked against the exact answers.

Needs PyTorch: ``pip install torch``; then ``python examples/crosscheck/torch_gumbel_rao.py``.
"""

import torch

from rbst.crosscheck import check


def implementation(logits, D, df_dD, *, tau, exponentials):
    """Takes the exponentials, so that every number can be compared."""
    theta, D, g, E = map(torch.tensor, (logits, D, df_dD, exponentials))
    E = E.clamp_min(torch.finfo(E.dtype).tiny)  # generators return exactly 0 now and then
    log_pi = theta.log_softmax(dim=-1)
    log_E_selected = (E * D).sum(dim=-1, keepdim=True).log()
    log_race = (E.log() - log_pi).masked_fill(D == 1, -torch.inf)
    x = -torch.logaddexp(log_race, log_E_selected)  # Eq. 9, less log Z
    x.requires_grad_()  # Eq. 9 itself is not differentiated
    (softmax := torch.softmax(x / tau, dim=-1)).backward(g.expand_as(softmax))
    return x.grad.mean(dim=0).numpy()


if __name__ == "__main__":
    report = check(implementation, "gr-mc10", progress=True)
    print(report)
    raise SystemExit(not report.passed)
