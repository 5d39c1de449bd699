"""SPM: a one-dimensional adapter that erases the concept and is held still under every other embedding.

As in the official code it sits on every linear layer of the transformers and on their projections in and out. There the
noisy latents are sampled anew at every step with the adapter on; here they are the frozen model's, sampled once.

Sample pictures in the middle of a training show the adapter at full strength, without Facilitated Transport.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from models.adapters import WeightDelta, adapter_disabled, attach_lora, detach, lora_delta
from models.bundle import ModelBundle
from models.transport import transport_metadata
from studio.method_configs import SpmConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.esd import esd_target
from studio.methods.training import UntrainableError, delta_metadata, train
from studio.methods.trajectories import Trajectories, sample_trajectories

AROUND = ["proj_in", "proj_out"]  # of a UNet's transformers


class Spm:
    """Semi-Permeable Membrane. With `transport`, its strength follows the prompt: see `models.transport`."""

    name = "spm"
    title = "SPM"
    paper = (
        "Lyu 2023, One-dimensional Adapter to Rule Them All: Concepts, Diffusion Models and Erasing Applications, "
        "https://arxiv.org/abs/2312.16145"
    )
    Config = SpmConfig
    uses_pairs = SpmConfig.uses_pairs
    families = SpmConfig.families
    because = SpmConfig.because

    def changes(self, bundle: ModelBundle, config: SpmConfig) -> list[str]:
        """Names of the network's weights that get an adapter."""
        endings = tuple(f".{target}.weight" for target in targets_of(bundle))
        return [name for name, _ in bundle.denoiser.named_parameters() if f".{name}".endswith(endings)]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: SpmConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the concept's names alone; see `UnlearningMethod.fit`.

        Raises:
            UntrainableError: no names.
        """
        if not config.concepts:
            raise UntrainableError("SPM was given 0 names of the concept. Name it as prompts name it.")
        # e("") - g (e(c) - e("")) is ESD's target with eta = 1 + g.
        target = partial(esd_target, eta=1 + config.guidance)
        trajectories = sample_trajectories(bundle, config.concepts, config, target, report, state_folder)
        parameters = attach_lora(
            bundle, rank=config.rank, alpha=config.rank, targets=targets_of(bundle), seed=config.seed
        )
        try:
            train(self.name, parameters, SpmStep(bundle, trajectories, config), config, report, state_folder)
            metadata = delta_metadata(self.name, bundle.spec.checkpoint, bundle.spec.revision, config)
            metadata |= transport_metadata(config.concepts) if config.transport else {}
            return lora_delta(bundle, metadata)
        finally:
            detach(bundle)


def targets_of(bundle: ModelBundle) -> list[str]:
    """Endings of the layers' names: every linear layer of the transformers, and a UNet's projections around them."""
    linear = bundle.family.lora_targets["attention+ff"]
    return [*linear, *AROUND] if bundle.family.denoiser == "unet" else linear


class SpmStep:
    """One step's loss: MSE(e_spm(c), target) + lambda MSE(e_spm(z), e(z)) at the same noisy latents."""

    def __init__(self, bundle: ModelBundle, trajectories: Trajectories, config: SpmConfig) -> None:
        self.bundle, self.trajectories, self.config = bundle, trajectories, config

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a fresh minibatch, and what to report of it."""
        bundle, config = self.bundle, self.config
        rows = torch.randint(len(self.trajectories.timesteps), (config.batch_size,), generator=generator)
        latents, wanted, timesteps, embeds = self.trajectories.batch(rows, bundle.device)
        anchors = draw_anchors(embeds.float().cpu(), config.anchors, generator).to(bundle.device)
        copies = latents.repeat(config.anchors, 1, 1, 1), timesteps.repeat(config.anchors), anchors
        with torch.no_grad(), adapter_disabled(bundle):
            still = bundle.predict(*copies)
        own = latents, timesteps, embeds.to(anchors.dtype)
        noisy, at, under = (torch.cat(both) for both in zip(own, copies, strict=True))
        tuned = bundle.predict(noisy, at, under)
        erase = F.mse_loss(tuned[: len(rows)], wanted)
        anchoring = F.mse_loss(tuned[len(rows) :], still)
        return erase + config.anchor_weight * anchoring, {
            "erase": float(erase.detach()),
            "anchoring": float(anchoring.detach()),
        }


def draw_anchors(concept: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Random embeddings z [count * B, L, D] of 0.8 to 1.2 times the concept's norm, c [B, L, D], on the CPU.

    A direction is kept with probability 1 - cos(z, c), at most 1: the closer to the concept, the seldomer (Lyu 2023,
    section 3.3).
    """
    flat = concept.flatten(1).repeat(count, 1)
    direction = torch.empty_like(flat)
    open_rows = torch.arange(len(flat))
    while len(open_rows):
        drawn = torch.randn(len(open_rows), flat.shape[1], generator=generator)
        kept = torch.rand(len(open_rows), generator=generator) < 1 - F.cosine_similarity(drawn, flat[open_rows])
        direction[open_rows[kept]] = F.normalize(drawn[kept])
        open_rows = open_rows[~kept]
    length = flat.norm(dim=1, keepdim=True) * (0.8 + 0.4 * torch.rand(len(flat), 1, generator=generator))
    return (length * direction).view(-1, *concept.shape[1:])
