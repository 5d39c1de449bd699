"""The loss that attacks by gradients share: how well a network denoises pictures under an embedding."""

from __future__ import annotations

import torch

from models.bundle import ModelBundle
from studio.attacks.base import Meter


def noised(
    bundle: ModelBundle, latents: torch.Tensor, timesteps: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [B, C, h, w] with fresh noise at t [B], and what the network should say of them; on the device."""
    noise = torch.randn(latents.shape, generator=generator)
    clean = latents.float().cpu()
    wanted = bundle.forward.target(clean, noise, timesteps)
    return bundle.forward.noised(clean, noise, timesteps).to(bundle.device), wanted.to(bundle.device)


def prediction_error(
    bundle: ModelBundle,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    embeds: torch.Tensor,
    wanted: torch.Tensor,
    meter: Meter,
) -> torch.Tensor:
    """Mean ||wanted - prediction||^2 under embeddings [B or 1, L, D]; keeps gradients. Counts forward and backward."""
    rows = len(noisy)
    meter.forward += rows
    meter.backward += rows
    said = bundle.predict(noisy, timesteps.to(bundle.device), embeds.expand(rows, -1, -1))
    return torch.nn.functional.mse_loss(said, wanted)


def predict_only(
    bundle: ModelBundle, noisy: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor, meter: Meter
) -> torch.Tensor:
    """The prediction without gradients; counted."""
    meter.forward += len(noisy)
    with torch.no_grad():
        return bundle.predict(noisy, timesteps.to(bundle.device), embeds.expand(len(noisy), -1, -1))
