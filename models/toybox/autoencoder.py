"""The toybox's variational autoencoder: 64 x 64 pictures to 8 x 8 latents of 8 channels and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from models.toybox.data import SceneBank, to_tensor

LATENT_CHANNELS = 8
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 0.5  # on differences of neighbouring pixels: outlines stay sharp


def make_autoencoder() -> AutoencoderKL:
    channels = (16, 32, 64, 48)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error plus the same on horizontal and vertical differences."""
    loss = F.l1_loss(output, target) + F.mse_loss(output, target)
    for axis in (2, 3):
        loss = loss + EDGE_WEIGHT * F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    return loss


def train_autoencoder(
    bank: SceneBank, *, steps: int, batch_size: int, seed: int, report: Callable[[int, int, str], None]
) -> AutoencoderKL:
    """Train, then set `scaling_factor` so that latents have unit variance (as Stable Diffusion does)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = make_autoencoder()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        target = bank.batch(rng.integers(len(bank.scenes), size=batch_size))
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            output = vae.decode(posterior.sample()).sample
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        loss = reconstruction_loss(output.float(), target) + KL_WEIGHT * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            report(step + 1, steps, f"loss {loss.item():.4f}, mse {F.mse_loss(output.float(), target).item():.4f}")
    vae.eval()
    vae.register_to_config(scaling_factor=float(1.0 / encode_all(vae, bank.pictures[:2048], scaled=False).std()))
    return vae


@torch.inference_mode()
def encode_all(vae: AutoencoderKL, pictures: np.ndarray, *, batch_size: int = 256, scaled: bool = True) -> torch.Tensor:
    """Posterior means [N, 8, 8, 8] of all pictures, times the scaling factor if `scaled`."""
    means = [
        vae.encode(to_tensor(pictures[start : start + batch_size])).latent_dist.mean
        for start in range(0, len(pictures), batch_size)
    ]
    latents = torch.cat(means).clone()
    return latents * vae.config.scaling_factor if scaled else latents
