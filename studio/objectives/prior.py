"""DUO's output-preserving term."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def prior_loss(tuned: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """L_prior = mean ||eps_theta(x_T, T, c) - eps_phi(x_T, T, c)||^2 at pure noise x_T; a scalar, 0 if unchanged.

    Both [B, C, h, w]; T is the last training timestep (Park 2024, arXiv:2407.21035).
    """
    return F.mse_loss(tuned, reference)
