"""Discrete prompts by gradients: the simplex, the nearest token, sampled tokens, and the concept's direction."""

from __future__ import annotations

import torch


def project_to_simplex(rows: torch.Tensor) -> torch.Tensor:
    """The nearest point (Euclidean) of the probability simplex to each row [..., V] (Duchi 2008, figure 1)."""
    ordered = rows.sort(dim=-1, descending=True).values
    counts = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=rows.dtype)
    excess = (ordered.cumsum(dim=-1) - 1) / counts
    used = (ordered > excess).sum(dim=-1, keepdim=True)
    return (rows - excess.gather(-1, used - 1)).clamp(min=0)


def sample_one_hot(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One-hot rows [K, V] drawn from simplex rows [K, V]; the gradient goes to the weights straight through
    (Zhang 2023, arXiv:2310.11868)."""
    drawn = torch.multinomial(weights.detach().cpu().clamp(min=0) + 1e-12, 1, generator=generator).squeeze(-1)
    hard = torch.nn.functional.one_hot(drawn, weights.shape[-1]).to(weights)
    return hard + (weights - weights.detach())


def nearest_tokens(soft: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rows [K] of the table [V, D] with the greatest cosine to the soft tokens [K, D] (PEZ, Wen 2023, algorithm 1)."""
    unit = torch.nn.functional.normalize
    return (unit(soft, dim=-1) @ unit(table, dim=-1).T).argmax(dim=-1)


def concept_vector(with_concept: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    """c = mean_i [f(p_i+) - f(p_i-)], [L, D] of embeddings [N, L, D] each (Tsai 2023, arXiv:2310.10012, equation 3)."""
    return (with_concept - without).mean(dim=0)


def reinforce_loss(
    logits: torch.Tensor, tokens: torch.Tensor, rewards: torch.Tensor, baseline: float | torch.Tensor
) -> torch.Tensor:
    """-mean_b (R_b - baseline) log p(tokens_b): its gradient is REINFORCE's (Williams 1992).

    Logits [K, V], tokens [B, K], rewards [B].
    """
    log_p = logits.log_softmax(dim=-1)
    chosen = log_p.unsqueeze(0).expand(len(tokens), -1, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    return -((rewards - baseline) * chosen).mean()
