"""The same mathematics in PyTorch, written in the usual way: all K draws of Eq. 9 at once, then the mean.

``torch`` is None where PyTorch is not installed, and nothing else here can be called then.
"""

from __future__ import annotations

try:
    import torch
except ImportError:
    torch = None


def draw_exponentials(K: int, logits: torch.Tensor) -> torch.Tensor:
    return torch.empty(K, *logits.shape).exponential_()


def located_gumbels(logits: torch.Tensor, D: torch.Tensor, E: torch.Tensor) -> torch.Tensor:
    """The located Gumbels given D (Eq. 9), less log Z, which no softmax sees."""
    selected = (E * D).sum(dim=-1, keepdim=True)
    others = -(E / torch.softmax(logits, dim=-1) + selected).log()
    return torch.where(D == 1, -selected.log(), others)


def gumbel_rao(
    logits: torch.Tensor, D: torch.Tensor, g: torch.Tensor, tau: float, E: torch.Tensor
) -> torch.Tensor:
    """GR-MCK: located Gumbels, the Jacobian of their tempered softmax, the mean."""
    S = torch.softmax(located_gumbels(logits, D, E) / tau, dim=-1)
    return (S * (g - (S * g).sum(dim=-1, keepdim=True))).mean(dim=0) / tau


def draw_gumbel_rao(
    logits: torch.Tensor, D: torch.Tensor, g: torch.Tensor, tau: float, K: int
) -> torch.Tensor:
    """GR-MCK with noise of its own."""
    return gumbel_rao(logits, D, g, tau, draw_exponentials(K, logits))


def st_gumbel_softmax(logits: torch.Tensor, g: torch.Tensor, tau: float) -> torch.Tensor:
    """ST-GS with PyTorch's own sampler: draws D, then pulls g back."""
    logits = logits.detach().requires_grad_()
    D = torch.nn.functional.gumbel_softmax(logits, tau=tau, hard=True)
    return torch.autograd.grad(D, logits, g)[0]


def sample_gumbel_rao(logits: torch.Tensor, tau: float, K: int) -> torch.Tensor:
    """A node of a graph: D forward; backward the mean Jacobian at K draws, which are not differentiated."""
    with torch.no_grad():
        index = torch.distributions.Categorical(logits=logits).sample()
        D = torch.nn.functional.one_hot(index, logits.shape[-1]).to(logits.dtype)
        noise = located_gumbels(logits, D, draw_exponentials(K, logits)) - logits
    S = torch.softmax((logits + noise) / tau, dim=-1).mean(dim=0)
    return S + (D - S).detach()
