"""DUO: prefer the safe twin to the unsafe picture, and leave the output at pure noise as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models.adapters import WeightDelta, adapter_disabled, attach_lora, detach, lora_delta
from models.bundle import ModelBundle, checkpointed
from models.deltas import to_safetensors
from models.fingerprint import fingerprint_of
from models.sharding import shard
from studio.methods.base import Report, Stopped, TrainingPairs
from studio.methods.checks import check_pairs, check_unsafe_prompts
from studio.methods.noise_bank import NoiseBank
from studio.methods.parallel import current_group
from studio.methods.training import UntrainableError, delta_metadata, draw_rows, train
from studio.objectives.diffusion_dpo import dpo_loss, error_change, implicit_accuracy
from studio.objectives.prior import prior_loss
from studio.training_configs import DuoConfig


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
    families = DuoConfig.families
    because = DuoConfig.because

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
        targets = bundle.family.lora_targets[config.layers]
        parameters = attach_lora(bundle, rank=config.rank, alpha=config.alpha, targets=targets, seed=config.seed)
        try:
            step = DuoStep(bundle, pairs, config)
            if config.shard_base:
                _shard(bundle, parameters)
            with bundle.parked(config.park_in_a_file), checkpointed(bundle, config.gradient_checkpointing):
                step.fill_bank(report, state_folder)
                train(self.name, parameters, step, config, report, state_folder)
            spec = bundle.spec
            return lora_delta(bundle, delta_metadata(self.name, spec.checkpoint, spec.revision, config))
        finally:
            detach(bundle)


def _shard(bundle: ModelBundle, parameters: list[nn.Parameter]) -> None:
    """Deal the base out to the group's processes. Raises UntrainableError."""
    if current_group().size == 1:
        raise UntrainableError(
            "shard_base shares the frozen base among several processes, but this training has one. Use 2 processes or "
            "more, one a GPU, or turn shard_base off."
        )
    shard(bundle, parameters)


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
        self.bank: NoiseBank | None = None

    def fill_bank(self, report: Report, state_folder: Path | None) -> None:
        """Compute the reference's predictions for a finite bank of noise, where the configuration asks for one."""
        config = self.config
        if not config.noise_bank:
            return
        settings = config.model_dump_json(include={"t_min", "t_max", "shared_timestep", "prompt", "noise_bank", "seed"})
        pictures = to_safetensors({"safe": self.safe, "unsafe": self.unsafe}, {})
        self.bank = NoiseBank.make(
            len(self.safe),
            config.noise_bank,
            config.seed,
            self._draw_for,
            self._reference,
            [fingerprint_of(self.bundle), settings, hashlib.sha256(pictures).hexdigest()],
            lambda done, total: self._tell(report, f"Asking the original about its noise bank, {done} of {total}"),
            state_folder,
        )

    def _tell(self, report: Report, message: str) -> None:
        """With a shared base all processes stop before the same forward pass. Raises Stopped."""
        stopped: Stopped | None = None
        try:
            report(0, self.config.steps, message)
        except Stopped as asked:
            stopped = asked
        if self.config.shard_base and current_group().any(stopped is not None, self.bundle.device):
            raise stopped or Stopped("Another process was asked to stop.")
        if stopped:
            raise stopped

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Pairs [B], their noise [B, C, h, w], timesteps [B, 2] of safe and unsafe, and pure noise [B, C, h, w].

        From a bank, the reference's predictions [B, 3, C, h, w] are the last.
        """
        rows = draw_rows(len(self.safe), self.config.batch_size, generator)
        return self._draw_for(rows, generator) if self.bank is None else self.bank.take(rows, generator)

    def loss(self, drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_dpo + lambda L_prior of some pairs, and what to report of it."""
        config = self.config
        if len(drawn) > len(Drawn._fields):
            reference = drawn[-1].transpose(0, 1).flatten(0, 1).to(self.bundle.device)
        else:
            reference = self._reference(drawn)
        tuned = self.bundle.predict(*self._inputs(Drawn(*drawn[: len(Drawn._fields)])))
        pictures = 2 * len(drawn[0])
        wanted = self._wanted(Drawn(*drawn[: len(Drawn._fields)])).to(self.bundle.device)
        d_safe, d_unsafe = error_change(tuned[:pictures], reference[:pictures], wanted).chunk(2)
        dpo = dpo_loss(d_safe, d_unsafe, config.beta)
        prior = prior_loss(tuned[pictures:], reference[pictures:])
        return dpo + config.prior_weight * prior, {
            "dpo": dpo,
            "prior": prior,
            "d_safe": d_safe.mean(),
            "d_unsafe": d_unsafe.mean(),
            "implicit_accuracy": implicit_accuracy(d_safe, d_unsafe),
        }

    def _draw_for(self, rows: torch.Tensor, generator: torch.Generator) -> Drawn:
        """Everything random of pairs with these indices [B]."""
        count, shape = len(rows), self.bundle.latent_shape
        noise = torch.randn(count, *shape, generator=generator)
        low, high = self.config.t_min, self.config.t_max
        safe = torch.randint(low, high, (count,), generator=generator)
        unsafe = safe if self.config.shared_timestep else torch.randint(low, high, (count,), generator=generator)
        pure_noise = torch.randn(count, *shape, generator=generator)
        return Drawn(rows, noise, torch.stack([safe, unsafe], dim=1), pure_noise)

    def _inputs(self, drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noisy latents [3 B, C, h, w] of safe, unsafe and pure noise, their timesteps [3 B] and embeddings."""
        bundle = self.bundle
        latents, noise, timesteps = self._pictures(drawn)
        inputs = torch.cat([bundle.forward.noised(latents, noise, timesteps), drawn.pure_noise])
        at = torch.cat([timesteps, torch.full((len(drawn.rows),), bundle.forward.last)])
        embeds = self.embeds[drawn.rows.to(self.embeds.device)].repeat(3, 1, 1)
        return inputs.to(bundle.device), at.to(bundle.device), embeds

    def _pictures(self, drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, noise [2 B, C, h, w] and timesteps [2 B] of the safe pictures, then of the unsafe ones."""
        latents = torch.cat([self.safe[drawn.rows], self.unsafe[drawn.rows]])
        return latents, drawn.noise.repeat(2, 1, 1, 1), drawn.timesteps.T.flatten()

    def _wanted(self, drawn: Drawn) -> torch.Tensor:
        return self.bundle.forward.target(*self._pictures(drawn))

    @torch.no_grad()
    def _reference(self, drawn: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What the original says [3 B, C, h, w]."""
        with adapter_disabled(self.bundle):
            return self.bundle.predict(*self._inputs(Drawn(*drawn)))


class Drawn(NamedTuple):
    """What is random of B pairs."""

    rows: torch.Tensor  # [B] pairs
    noise: torch.Tensor  # [B, C, h, w], shared by a pair's two pictures
    timesteps: torch.Tensor  # [B, 2] of the safe and the unsafe picture
    pure_noise: torch.Tensor  # [B, C, h, w] x_T


def _check(bundle: ModelBundle, pairs: TrainingPairs, config: DuoConfig) -> None:
    check_pairs(bundle, pairs)
    if config.prompt == "pair":
        remedy = ", or train under the empty prompt (prompt: empty)"
        check_unsafe_prompts(pairs, "DUO is to train under the pairs' own prompts", remedy)
    if not config.t_min < config.t_max <= bundle.num_train_timesteps:
        raise UntrainableError(
            f"Timesteps from {config.t_min} to {config.t_max} cannot be drawn: {bundle.spec.name} has 0 to "
            f"{bundle.num_train_timesteps - 1}. Use 0 <= t_min < t_max <= {bundle.num_train_timesteps}."
        )
