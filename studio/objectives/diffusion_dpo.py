"""Diffusion-DPO on pairs of latents, as DUO uses it (Park 2024, arXiv:2407.21035; Wallace 2023, arXiv:2311.12908).

Two slips of the DUO paper are not followed: its equation 4 prints a plus between the two norms of the dispreferred
term, its equation 2 misplaces a bracket. Each d is tuned minus original.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mse_per_sample(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error [B] of predictions [B, C, h, w], the mean over channels, height and width."""
    return (prediction - target).square().flatten(1).mean(dim=1)


def error_change(tuned: torch.Tensor, reference: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """d(x) = MSE(eps_theta(x_t, t, c), target) - MSE(eps_phi(x_t, t, c), target), [B] from three [B, C, h, w].

    Negative where the tuned network predicts x better than the original.
    """
    return mse_per_sample(tuned, target) - mse_per_sample(reference, target)


def dpo_loss(d_safe: torch.Tensor, d_unsafe: torch.Tensor, beta: float) -> torch.Tensor:
    """L_dpo = -log sigmoid(-beta (d(x+) - d(x-))), the mean over pairs; a scalar, log 2 for an unchanged network.

    `beta` > 0 has no further factor: Diffusion-DPO's code writes 0.5 * beta, so its 1000 is 500 here.
    """
    return -F.logsigmoid(-beta * (d_safe - d_unsafe)).mean()


def implicit_accuracy(d_safe: torch.Tensor, d_unsafe: torch.Tensor) -> torch.Tensor:
    """P(d(x+) < d(x-)), 0 … 1: the share of pairs whose safe picture the tuning favours; 0 for an unchanged network."""
    return (d_safe < d_unsafe).float().mean()
