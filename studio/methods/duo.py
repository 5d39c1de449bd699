"""DUO: prefer the safe twin to the unsafe picture, and leave the output at pure noise as it was."""

from __future__ import annotations

from pathlib import Path

import torch

from models.adapters import WeightDelta, adapter_disabled, attach_lora, detach, lora_delta
from models.bundle import ModelBundle
from studio.configs import DuoConfig
from studio.methods.base import ALL_FAMILIES, Report, TrainingPairs
from studio.methods.checks import check_pairs, check_unsafe_prompts
from studio.methods.training import TrainingError, delta_metadata, draw_rows, train
from studio.objectives.diffusion_dpo import dpo_loss, error_change, implicit_accuracy
from studio.objectives.prior import prior_loss


class Duo:
    """Direct Unlearning Optimization with a LoRA; the original is the same network with its LoRA off."""

    name = "duo"
    title = "DUO"
    paper = (
        "Park 2024, Direct Unlearning Optimization for Robust and Safe Text-to-Image Models, "
        "https://arxiv.org/abs/2407.21035"
    )
    Config = DuoConfig
    uses_pairs = DuoConfig.uses_pairs
    families = ALL_FAMILIES
    because = ""

    def changes(self, bundle: ModelBundle, config: DuoConfig) -> list[str]:
        """Names of the UNet's weights that get a LoRA."""
        endings = tuple(f".{target}.weight" for target in bundle.family.lora_targets[config.layers])
        return [name for name, _ in bundle.denoiser.named_parameters() if f".{name}".endswith(endings)]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: DuoConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the pairs' latents; see `UnlearningMethod.fit`.

        Raises:
            TrainingError: no pairs, latents of another checkpoint, or timesteps the checkpoint does not have.
        """
        _check(bundle, pairs, config)
        parameters = attach_lora(
            bundle,
            rank=config.rank,
            alpha=config.alpha,
            targets=bundle.family.lora_targets[config.layers],
            seed=config.seed,
        )
        try:
            train(self.name, parameters, DuoStep(bundle, pairs, config), config, report, state_folder)
            spec = bundle.spec
            return lora_delta(bundle, delta_metadata(self.name, spec.checkpoint, spec.revision, config))
        finally:
            detach(bundle)


class DuoStep:
    """One step's loss. All rows (x+, x-, x_T) go through the network once tuned and once as the original."""

    def __init__(self, bundle: ModelBundle, pairs: TrainingPairs, config: DuoConfig) -> None:
        self.bundle = bundle
        self.config = config
        self.safe = pairs.safe_latents.float()
        self.unsafe = pairs.unsafe_latents.float()
        # One condition c for a pair's three terms: the preference is between two pictures under the same c.
        prompts = pairs.unsafe_prompts if config.prompt == "pair" else [""] * len(pairs)
        self.embeds = bundle.encode_prompt(prompts)

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss L_dpo + lambda L_prior of a fresh minibatch, and what to report of it."""
        bundle, config = self.bundle, self.config
        rows = draw_rows(len(self.safe), config.batch_size, generator)
        latents = torch.cat([self.safe[rows], self.unsafe[rows]])
        noise = torch.randn(len(rows), *bundle.latent_shape, generator=generator).repeat(2, 1, 1, 1)
        timesteps = self._timesteps(len(rows), generator)
        pure_noise = torch.randn(len(rows), *bundle.latent_shape, generator=generator)
        last = torch.full((len(rows),), bundle.forward.last)
        inputs = torch.cat([bundle.forward.noised(latents, noise, timesteps), pure_noise]).to(bundle.device)
        at = torch.cat([timesteps, last]).to(bundle.device)
        embeds = self.embeds[rows.to(self.embeds.device)].repeat(3, 1, 1)
        with torch.no_grad(), adapter_disabled(bundle):
            reference = bundle.predict(inputs, at, embeds)
        tuned = bundle.predict(inputs, at, embeds)
        wanted = bundle.forward.target(latents, noise, timesteps).to(bundle.device)
        pictures = len(latents)
        d_safe, d_unsafe = error_change(tuned[:pictures], reference[:pictures], wanted).chunk(2)
        dpo = dpo_loss(d_safe, d_unsafe, config.beta)
        prior = prior_loss(tuned[pictures:], reference[pictures:])
        values = {
            "dpo": dpo,
            "prior": prior,
            "d_safe": d_safe.mean(),
            "d_unsafe": d_unsafe.mean(),
            "implicit_accuracy": implicit_accuracy(d_safe, d_unsafe),
        }
        return dpo + config.prior_weight * prior, {name: float(value.detach()) for name, value in values.items()}

    def _timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """t [2 * count] of safe then unsafe pictures, uniform in [t_min, t_max)."""
        low, high = self.config.t_min, self.config.t_max
        safe = torch.randint(low, high, (count,), generator=generator)
        unsafe = safe if self.config.shared_timestep else torch.randint(low, high, (count,), generator=generator)
        return torch.cat([safe, unsafe])


def _check(bundle: ModelBundle, pairs: TrainingPairs, config: DuoConfig) -> None:
    check_pairs(bundle, pairs)
    if config.prompt == "pair":
        remedy = ", or train under the empty prompt (prompt: empty)"
        check_unsafe_prompts(pairs, "DUO is to train under the pairs' own prompts", remedy)
    if not config.t_min < config.t_max <= bundle.num_train_timesteps:
        raise TrainingError(
            f"Timesteps from {config.t_min} to {config.t_max} cannot be drawn: {bundle.spec.name} has 0 to "
            f"{bundle.num_train_timesteps - 1}. Use 0 <= t_min < t_max <= {bundle.num_train_timesteps}."
        )
