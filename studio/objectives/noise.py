"""The forward diffusion process and what a network is asked to predict of it."""

from __future__ import annotations

import torch


def _coefficients(
    timesteps: torch.Tensor, alphas_cumprod: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), each [B, 1, 1, 1]."""
    abar = alphas_cumprod.to(like.device)[timesteps.to(like.device)].view(-1, *[1] * (like.dim() - 1))
    return abar.sqrt(), (1 - abar).sqrt()


def add_noise(
    latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps (Ho 2020, arXiv:2006.11239, equation 4).

    Args:
        latents: x [B, C, h, w].
        noise: eps [B, C, h, w].
        timesteps: t [B], whole numbers below T.
        alphas_cumprod: abar [T].
    """
    signal, sigma = _coefficients(timesteps, alphas_cumprod, latents)
    return signal * latents + sigma * noise


def velocity(
    latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """v = sqrt(abar_t) eps - sqrt(1 - abar_t) x (Salimans 2022, arXiv:2202.00512, appendix D). Shapes: `add_noise`."""
    signal, sigma = _coefficients(timesteps, alphas_cumprod, latents)
    return signal * noise - sigma * latents


def target(
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    prediction_type: str,
) -> torch.Tensor:
    """What the network should output at x_t: eps for "epsilon", v for "v_prediction"; [B, C, h, w].

    Raises:
        ValueError: another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return velocity(latents, noise, timesteps, alphas_cumprod)
    raise ValueError(f"prediction_type is {prediction_type!r}; use a checkpoint with epsilon or v_prediction.")
