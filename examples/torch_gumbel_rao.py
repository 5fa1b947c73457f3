"""GR-MCK in PyTorch itself, to be copied, and the proof that it is right: ``python examples/torch_gumbel_rao.py``.

Needs PyTorch: ``pip install torch``. ``examples/torch_model.py`` runs any estimator of `rbst` in its place, on the CPU.
"""

import torch

from rbst.crosscheck import check
from rbst.crosscheck.torch import from_function


def gumbel_rao(logits, tau, K):
    """One-hot samples D of ``logits``, shape ``(..., n)``, whose backward pass is GR-MCK."""
    tiny = torch.finfo(logits.dtype).tiny  # generators return exactly 0 now and then
    with torch.no_grad():  # neither the draw of D nor that of the noise given D is differentiated
        log_pi = logits.log_softmax(-1)
        E = logits.new_empty(K + 1, *logits.shape).exponential_().clamp_min(tiny)
        winner = (log_pi - E[0].log()).argmax(-1, keepdim=True)
        D = torch.zeros_like(logits).scatter_(-1, winner, 1)
        log_race = (E[1:].log() - log_pi).masked_fill(D == 1, -torch.inf)
        x = -torch.logaddexp(log_race, (E[1:] * D).sum(-1, keepdim=True).log())  # Eq. 9
    zero = (logits - logits.detach()).nan_to_num()  # moves with the logits; -inf less itself is NaN
    S = ((zero + x) / tau).softmax(-1).mean(0)
    return D + (S - S.detach())


def ten_samples(logits, tau=1.0):
    """GR-MC10."""
    return gumbel_rao(logits, tau, 10)


if __name__ == "__main__":
    report = check(from_function(ten_samples), "gr-mc10", progress=True)
    print(report)
    raise SystemExit(not report.passed)
