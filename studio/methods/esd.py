"""ESD: train the concept prompt's prediction towards what negative guidance away from the concept would give.

The form is target = e(c) - eta (e(c) - e("")). The paper and its older code write e("") - eta' (e(c) - e("")), which is
the same with eta = 1 + eta'; eta = 1 here is plainly the empty prompt's prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.adapters import WeightDelta, tuned_weights
from models.bundle import PICTURE_BATCH, ModelBundle, SampleStep
from studio.configs import EsdConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.training import TrainingError, delta_metadata, train


class Esd:
    """Erased Stable Diffusion, ESD-x or ESD-u, on trajectories of the frozen model that are sampled once."""

    name = "esd"
    title = "ESD"
    paper = "Gandikota 2023, Erasing Concepts from Diffusion Models, https://arxiv.org/abs/2303.07345"
    Config = EsdConfig
    uses_pairs = False

    def changes(self, bundle: ModelBundle, config: EsdConfig) -> list[str]:
        """Names of the UNet's parameters that are trained: of linear and convolution layers, in attn2 or outside it."""
        inside = config.variant == "esd-x"
        return [
            f"{module_name}.{name}"
            for module_name, module in bundle.unet.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and ("attn2" in module_name.split(".")) == inside
            for name, _ in module.named_parameters()
        ]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: EsdConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the concept prompts alone (pairs are not used); see `UnlearningMethod.fit`.

        Raises:
            TrainingError: no concept prompts.
        """
        if not config.prompts:
            raise TrainingError(
                "ESD was given 0 concept prompts. Name the concept in the form of the prompts it is in."
            )
        trajectories = sample_trajectories(bundle, config, report)
        with tuned_weights(bundle, self.changes(bundle, config)) as tuned:

            def step(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
                rows = torch.randint(len(trajectories.timesteps), (config.batch_size,), generator=generator)
                latents, wanted, timesteps, embeds = trajectories.batch(rows, bundle.device)
                return nn.functional.mse_loss(bundle.predict(latents, timesteps, embeds), wanted), {}

            train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


@dataclass(frozen=True)
class Trajectories:
    """What the frozen model saw while sampling the concept, and what it should say. M = trajectories x steps."""

    latents: torch.Tensor  # [M, C, h, w] on the CPU
    targets: torch.Tensor  # [M, C, h, w]
    timesteps: torch.Tensor  # [M]
    prompts: torch.Tensor  # [M], rows of `embeds`
    embeds: torch.Tensor  # [P, L, D]

    def batch(self, rows: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Latents, targets, timesteps and embeddings of some rows, on the device."""
        embeds = self.embeds[self.prompts[rows].to(self.embeds.device)]
        return (*(values[rows].to(device) for values in (self.latents, self.targets, self.timesteps)), embeds)


def sample_trajectories(bundle: ModelBundle, config: EsdConfig, report: Report) -> Trajectories:
    """Sample under the concept prompts, spread evenly, keeping every step's latents and target.

    Guidance needs e(c) and e("") at every step anyhow, so the targets cost nothing.
    """
    count, steps = config.trajectories, config.sampling_steps
    embeds = bundle.encode_prompt(config.prompts)
    prompts = torch.arange(count) % len(config.prompts)
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(count, *bundle.latent_shape, generator=generator)
    latents = torch.empty(count, steps, *bundle.latent_shape)
    targets = torch.empty_like(latents)
    timesteps = torch.empty(count, steps, dtype=torch.long)
    for first in range(0, count, PICTURE_BATCH):
        rows = slice(first, min(first + PICTURE_BATCH, count))

        def keep(step: SampleStep, rows: slice = rows) -> None:
            latents[rows, step.index] = step.latents.cpu()
            targets[rows, step.index] = esd_target(step.conditional, step.unconditional, config.eta).cpu()
            timesteps[rows, step.index] = step.timestep

        report(0, config.steps, f"Sampling trajectories of the concept, {first} of {count}")
        size = rows.stop - rows.start
        bundle.sample(
            noise[rows],
            embeds[prompts[rows].to(embeds.device)],
            bundle.encode_prompt([""] * size),
            steps=steps,
            guidance_scale=config.start_guidance,
            on_step=keep,
        )
    return Trajectories(
        latents.flatten(0, 1), targets.flatten(0, 1), timesteps.flatten(), prompts.repeat_interleave(steps), embeds
    )


def esd_target(conditional: torch.Tensor, unconditional: torch.Tensor, eta: float) -> torch.Tensor:
    """e(c) - eta (e(c) - e("")) of the frozen network's outputs, all [B, C, h, w] (Gandikota 2023)."""
    return conditional - eta * (conditional - unconditional)
