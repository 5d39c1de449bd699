"""Relearning: train a model on a few pictures until it shows the concept again, and see how many steps that takes.

All weights of the network are trained by the usual denoising loss, as anybody does who fine-tunes a model. Pictures
with the concept are an attacker's; pictures without it are what a well-meaning owner trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from models.adapters import tuned_weights
from models.bundle import ModelBundle
from studio.progress import Report


@dataclass(frozen=True)
class Lesson:
    """Pictures to train on: latents [M, C, h, w] and their prompts."""

    latents: torch.Tensor
    prompts: Sequence[str]


def relearn(
    bundle: ModelBundle,
    lesson: Lesson,
    stops: Sequence[int],
    measure: Callable[[int], bool],
    report: Report,
    *,
    rate: float,
    batch_size: int,
    seed: int,
) -> int | None:
    """Train, and ask `measure` after each of these numbers of steps, until it says that the concept is back.

    Returns the steps after which it was back, None where it never was. The weights are as before on leaving; the same
    seed gives the same training.
    """
    generator = torch.Generator().manual_seed(seed)
    embeds = bundle.encode_prompt(lesson.prompts)
    names = [name for name, _ in bundle.denoiser.named_parameters()]
    with tuned_weights(bundle, names) as tuned:
        optimizer = torch.optim.AdamW(list(tuned.parameters.values()), lr=rate, weight_decay=1e-2)
        for step in range(1, max(stops) + 1):
            loss = denoising_loss(bundle, lesson.latents, embeds, batch_size, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            report(step, max(stops), f"step {step}, loss {float(loss.detach()):.4g}")
            if step in stops and measure(step):
                return step
    return None


def denoising_loss(
    bundle: ModelBundle, latents: torch.Tensor, embeds: torch.Tensor, batch_size: int, generator: torch.Generator
) -> torch.Tensor:
    """||target - network(x_t, t, c)||^2 of a few pictures at random noise (Ho 2020, arXiv:2006.11239, equation 14)."""
    rows = torch.randint(len(latents), (batch_size,), generator=generator)
    timesteps = torch.randint(bundle.num_train_timesteps, (batch_size,), generator=generator)
    chosen = latents[rows].float()
    noise = torch.randn(chosen.shape, generator=generator)
    noisy = bundle.forward.noised(chosen, noise, timesteps)
    wanted = bundle.forward.target(chosen, noise, timesteps)
    output = bundle.predict(noisy.to(bundle.device), timesteps.to(bundle.device), embeds[rows.to(embeds.device)])
    return F.mse_loss(output, wanted.to(output))
