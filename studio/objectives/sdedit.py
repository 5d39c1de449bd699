"""SDEdit: where an edit of a given strength begins (Meng 2021, arXiv:2108.01073)."""

from __future__ import annotations

import torch

from studio.objectives.noise import add_noise


def start_index(steps: int, strength: float) -> int:
    """The first denoising step that is taken, 0 … steps: steps - int(steps * strength), as in diffusers' img2img.

    `strength` in 0 … 1; at 0 no step is taken and the picture is returned as it is.
    """
    return steps - int(steps * strength)


def noised_start(
    latents: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, start: int
) -> torch.Tensor:
    """Latents [B, C, h, w] noised to the level of step `start` of the descending sampling `timesteps` [steps]."""
    if start >= len(timesteps):
        return latents
    return add_noise(latents, noise, timesteps[start].expand(len(latents)), alphas_cumprod)
