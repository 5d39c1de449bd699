"""SalUn: the weights that the concept's own loss moves most are found first, and only they are trained.

Trained is that the unsafe pictures give under their prompts what the network itself says of them under an anchor's
("random labels"), while safe pictures are denoised as before. Here the anchor of a picture is its pair's safe prompt,
unless others are named.

What is different here: in the official code, whose Adam has no weight decay, weights outside of the mask stay because
their gradients are nothing; here they stay whatever the weight decay is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from models.adapters import TunedWeights, WeightDelta, tuned_weights
from models.bundle import ModelBundle
from models.deltas import to_safetensors
from models.fingerprint import fingerprint_of
from studio.method_configs import SalunConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.checks import check_pairs, check_unsafe_prompts
from studio.methods.layers import has_part
from studio.methods.training import TrainingError, delta_metadata, draw_rows, train
from studio.methods.trajectories import Tensors, remembered


class Salun:
    """Saliency Unlearning on pairs."""

    name = "salun"
    title = "SalUn"
    paper = (
        "Fan 2024, SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image "
        "Classification and Generation, https://arxiv.org/abs/2310.12508"
    )
    Config = SalunConfig
    uses_pairs = SalunConfig.uses_pairs
    families = SalunConfig.families
    because = SalunConfig.because

    def changes(self, bundle: ModelBundle, config: SalunConfig) -> list[str]:
        """Names of the network's parameters among which the mask chooses."""
        names = [name for name, _ in bundle.denoiser.named_parameters()]
        return (
            names if config.layers == "all" else [name for name in names if has_part(name, bundle.family.text_layers)]
        )

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: SalunConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the pairs' latents and prompts; see `UnlearningMethod.fit`.

        Raises:
            TrainingError: no pairs, latents of another checkpoint, or pairs without prompts.
        """
        check_pairs(bundle, pairs)
        check_unsafe_prompts(pairs, "SalUn trains on the pairs' prompts")
        if not all(prompt.strip() for prompt in pairs.safe_prompts) or len(pairs.safe_prompts) != len(pairs):
            raise TrainingError("SalUn keeps the safe pictures by their prompts, but not every pair has a safe prompt.")
        pictures = Pictures(bundle, pairs, config)
        with tuned_weights(bundle, self.changes(bundle, config)) as tuned:
            mask = _mask(pictures, tuned, config, report, state_folder)
            with masked(tuned, mask):
                step = SalunStep(pictures, tuned, mask, config)
                train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            step.hold()
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


class Pictures:
    """Minibatches of the pairs: noisy latents, and what the network is told of them."""

    def __init__(self, bundle: ModelBundle, pairs: TrainingPairs, config: SalunConfig) -> None:
        self.bundle, self.pairs = bundle, pairs
        self.unsafe, self.safe = bundle.encode_prompt(pairs.unsafe_prompts), bundle.encode_prompt(pairs.safe_prompts)
        anchors = config.anchor_prompts or pairs.safe_prompts
        self.anchors = bundle.encode_prompt([anchors[row % len(anchors)] for row in range(len(pairs))])

    def noisy(
        self, latents: torch.Tensor, count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows [B] on the CPU; on the device x_t [B, C, h, w], t [B] and the wanted output [B, C, h, w]."""
        bundle = self.bundle
        rows = draw_rows(len(latents), count, generator)
        chosen = latents[rows].float()
        noise = torch.randn(chosen.shape, generator=generator)
        timesteps = torch.randint(0, bundle.num_train_timesteps, (count,), generator=generator)
        noisy, wanted = (make(chosen, noise, timesteps) for make in (bundle.forward.noised, bundle.forward.target))
        return rows, noisy.to(bundle.device), timesteps.to(bundle.device), wanted.to(bundle.device)


class SalunStep:
    """One step's loss: MSE(e(x_t, c), sg e(x_t, a)) + alpha MSE(e(y_t, r), target).

    x is an unsafe picture, c its prompt, a its anchor; y is a safe picture and r its prompt. sg: no gradient goes
    through what the network, as it is now, says under the anchor.
    """

    def __init__(self, pictures: Pictures, tuned: TunedWeights, mask: Tensors, config: SalunConfig) -> None:
        self.pictures, self.tuned, self.mask, self.config = pictures, tuned, mask, config

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a fresh minibatch, and what to report of it."""
        pictures, size = self.pictures, self.config.batch_size
        bundle, pairs = pictures.bundle, pictures.pairs
        if self.config.weight_decay:
            self.hold()
        rows, noisy, timesteps, _ = pictures.noisy(pairs.unsafe_latents, size, generator)
        others, still, at, wanted = pictures.noisy(pairs.safe_latents, size, generator)
        with torch.no_grad():
            anchored = bundle.predict(noisy, timesteps, pictures.anchors[rows.to(pictures.anchors.device)])
        embeds = [pictures.unsafe[rows.to(pictures.unsafe.device)], pictures.safe[others.to(pictures.safe.device)]]
        said = bundle.predict(torch.cat([noisy, still]), torch.cat([timesteps, at]), torch.cat(embeds))
        forget, remain = F.mse_loss(said[:size], anchored), F.mse_loss(said[size:], wanted)
        values = {"forget": float(forget.detach()), "remain": float(remain.detach())}
        return forget + self.config.remain_weight * remain, values

    @torch.no_grad()
    def hold(self) -> None:
        """Put weights outside of the mask back to what they were, bit for bit: weight decay has moved them."""
        for name, parameter in self.tuned.parameters.items():
            original = self.tuned.originals[name].float()
            parameter.data = torch.where(self.mask[name].to(parameter.device), parameter.data, original)


@contextmanager
def masked(tuned: TunedWeights, mask: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, weights outside of the mask get no gradient."""
    handles = [
        parameter.register_hook(partial(torch.mul, mask[name].to(parameter.device)))
        for name, parameter in tuned.parameters.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mask(
    pictures: Pictures, tuned: TunedWeights, config: SalunConfig, report: Report, state_folder: Path | None
) -> Tensors:
    """The mask of this training, from an earlier try of it where it is there."""
    bundle, pairs = pictures.bundle, pictures.pairs
    generator = torch.Generator().manual_seed(config.seed)

    def losses() -> Iterator[torch.Tensor]:
        for first in range(0, config.saliency_samples, config.batch_size):
            report(0, config.steps, f"Finding the concept's weights, {first} of {config.saliency_samples}")
            count = min(config.batch_size, config.saliency_samples - first)
            rows, noisy, timesteps, wanted = pictures.noisy(pairs.unsafe_latents, count, generator)
            empty, own = bundle.encode_prompt([""] * count), pictures.unsafe[rows.to(pictures.unsafe.device)]
            both = bundle.predict(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([empty, own]))
            unconditional, conditional = both.chunk(2)
            yield F.mse_loss(guided(conditional, unconditional, config.saliency_guidance), wanted)

    settings = config.model_dump_json(exclude={"save_every", "sample_every"})
    seen = hashlib.sha256(to_safetensors({"unsafe": pairs.unsafe_latents}, {})).hexdigest()
    facts = [fingerprint_of(bundle), pairs.unsafe_prompts, seen, settings]
    return remembered(
        state_folder, "saliency", facts, lambda: top_share(saliency(losses(), tuned.parameters), config.mask_ratio)
    )


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
    """(1 + g) e(c) - g e(""), all [B, C, h, w]."""
    return (1 + guidance) * conditional - guidance * unconditional


def saliency(losses: Iterable[torch.Tensor], weights: Mapping[str, nn.Parameter]) -> Tensors:
    """|sum over minibatches of the loss's gradient|, float32 on the CPU, shaped as the weights (Fan 2024, section 4).

    Its sign, that of training towards or away from the pictures, makes no difference.
    """
    total = {name: torch.zeros(weight.shape, device=weight.device) for name, weight in weights.items()}
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.float()
    return {name: value.abs().cpu() for name, value in total.items()}


def top_share(scores: Mapping[str, torch.Tensor], ratio: float) -> Tensors:
    """Masks of the highest scores, `ratio` of all of them together, rounded down."""
    flat = torch.cat([value.flatten() for value in scores.values()])
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.topk(int(len(flat) * ratio), sorted=False).indices] = True
    parts = kept.split([value.numel() for value in scores.values()])
    return {name: part.view(value.shape).clone() for (name, value), part in zip(scores.items(), parts, strict=True)}
