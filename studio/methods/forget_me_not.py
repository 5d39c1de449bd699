"""Forget-Me-Not: while the network looks at pictures of the concept, no attention goes to the concept's words.

The official code lines up heads and prompts in the wrong order where prompts of a batch differ; here each head is asked
about its own picture's words.
"""

from __future__ import annotations

from pathlib import Path

import torch

from models.adapters import WeightDelta, tuned_weights
from models.attention import watched_attention
from models.bundle import ModelBundle
from studio.method_configs import ForgetMeNotConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.checks import check_pairs
from studio.methods.tokens import word_positions
from studio.methods.training import UntrainableError, delta_metadata, draw_rows, train


class ForgetMeNot:
    """Attention re-steering on the pairs' unsafe pictures, without the official code's textual inversion."""

    name = "forget-me-not"
    title = "Forget-Me-Not"
    paper = (
        "Zhang 2023, Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models, "
        "https://arxiv.org/abs/2303.17591"
    )
    Config = ForgetMeNotConfig
    uses_pairs = ForgetMeNotConfig.uses_pairs
    families = ForgetMeNotConfig.families
    because = ForgetMeNotConfig.because

    def changes(self, bundle: ModelBundle, config: ForgetMeNotConfig) -> list[str]:
        """Names of the UNet's parameters that are trained."""
        part = ".attn2." if config.layers == "attn2" else ""
        return [name for name, _ in bundle.denoiser.named_parameters() if part in name]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: ForgetMeNotConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the pairs' unsafe latents and the concept's names; see `UnlearningMethod.fit`.

        Raises:
            TrainingError: no pairs, latents of another checkpoint, no names, or a name that its prompt does not hold.
        """
        check_pairs(bundle, pairs)
        if not config.concepts:
            raise UntrainableError("Forget-Me-Not was given 0 names of the concept. Name it as prompts name it.")
        report(0, config.steps, f"Looking up {len(config.concepts)} names")
        with watched_attention(bundle) as seen, tuned_weights(bundle, self.changes(bundle, config)) as tuned:
            step = ForgettingStep(bundle, pairs, config, seen)
            train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


class ForgettingStep:
    """One step's loss: the norm of all cross-attention probabilities at the concept's tokens."""

    def __init__(
        self, bundle: ModelBundle, pairs: TrainingPairs, config: ForgetMeNotConfig, seen: list[torch.Tensor]
    ) -> None:
        self.bundle, self.config, self.seen = bundle, config, seen
        self.pictures = pairs.unsafe_latents.float()
        prompts = [config.template.replace("{}", name) for name in config.concepts]
        self.embeds = bundle.encode_prompt(prompts)
        try:
            masks = [
                word_positions(bundle, prompt, name, end_tokens=config.end_tokens)
                for prompt, name in zip(prompts, config.concepts, strict=True)
            ]
        except ValueError as error:
            raise UntrainableError(
                f"{error} Shorten the template, or write the name as the template has it."
            ) from error
        self.masks = torch.stack(masks)

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a fresh minibatch: pictures and names are drawn apart from each other."""
        bundle = self.bundle
        rows = draw_rows(len(self.pictures), self.config.batch_size, generator)
        names = torch.randint(len(self.masks), (len(rows),), generator=generator)
        latents = self.pictures[rows]
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, bundle.num_train_timesteps, (len(rows),), generator=generator)
        noisy = bundle.forward.noised(latents, noise, timesteps)
        self.seen.clear()
        bundle.predict(noisy.to(bundle.device), timesteps.to(bundle.device), self.embeds[names.to(self.embeds.device)])
        chosen = torch.cat([attention_at(probabilities, self.masks[names]) for probabilities in self.seen])
        return chosen.norm(), {"attention": float(chosen.detach().mean())}


def attention_at(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The probabilities at the marked tokens, flat and float32.

    Args:
        probabilities: [B * heads, queries, L], a picture's heads one after the other.
        masks: [B, L].
    """
    heads = len(probabilities) // len(masks)
    marked = masks.to(probabilities.device).repeat_interleave(heads, dim=0)[:, None]
    return probabilities.float().masked_select(marked)
