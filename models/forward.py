"""The forward processes: how latents are noised, and what a network is asked to predict of them.

A timestep t is what the network is told, and grows with the noise: 0 … T - 1 of a diffusion, and 1000 sigma of a flow,
from 0 (the latents themselves) to 1000 (pure noise). So a range of timesteps means the same end of the process in every
family, whatever order a sampler's schedule lists them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

FLOW_TIMESTEPS = 1000  # t = 1000 sigma, in Stable Diffusion 3 and in FLUX


class Forward(Protocol):
    """A forward process. Latents and noise are [B, C, h, w], timesteps [B]."""

    @property
    def last(self) -> int:
        """The timestep of pure noise."""
        ...

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t."""
        ...

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network should output at x_t."""
        ...


@dataclass(frozen=True)
class Diffusion:
    """Denoising diffusion (Ho 2020, arXiv:2006.11239), predicting eps, or v (Salimans 2022, arXiv:2202.00512).

    Raises:
        ValueError: another prediction type.
    """

    alphas_cumprod: torch.Tensor  # abar [T] float32 on the CPU
    prediction_type: str = "epsilon"  # "epsilon" | "v_prediction"

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"prediction_type is {self.prediction_type!r}; use a checkpoint with epsilon or v_prediction."
            )

    @property
    def last(self) -> int:
        return len(self.alphas_cumprod) - 1

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps (Ho 2020, equation 4)."""
        signal, sigma = self._coefficients(timesteps, latents)
        return signal * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """eps, or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x (Salimans 2022, appendix D)."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._coefficients(timesteps, latents)
        return signal * noise - sigma * latents

    def _coefficients(self, timesteps: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), each [B, 1, 1, 1]."""
        abar = self.alphas_cumprod.to(like.device)[timesteps.to(like.device)].view(-1, *[1] * (like.dim() - 1))
        return abar.sqrt(), (1 - abar).sqrt()


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu 2022, arXiv:2209.03003; Esser 2024, arXiv:2403.03206)."""

    last: int = FLOW_TIMESTEPS

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t = (1 - sigma) x + sigma eps."""
        sigma = (timesteps.to(latents) / FLOW_TIMESTEPS).view(-1, *[1] * (latents.dim() - 1))
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """eps - x, at every timestep."""
        return noise - latents
