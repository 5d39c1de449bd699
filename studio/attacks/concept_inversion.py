"""Concept Inversion: textual inversion through the unlearned model, on pictures of the concept by the original.

The pictures' own prompts with the new tokens behind them serve as templates, so that what is learned is what those
prompts have lost. Nothing bounds the embedding, hence it can also teach a model what it never knew: read its success
against the oracle's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from studio.attack_configs import ConceptInversionConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Meter, PlainAttack, Report
from studio.attacks.denoising import noised, prediction_error
from studio.attacks.suffix import Suffix, first_guess, with_suffix


class ConceptInversion(PlainAttack):
    """New token embeddings, learned once for all prompts of a victim."""

    name = "concept_inversion"
    title = ConceptInversionConfig.title
    paper = (
        "Pham 2023, Circumventing Concept Erasure Methods for Text-to-Image Generative Models, "
        "https://arxiv.org/abs/2308.01508"
    )
    access: Access = ConceptInversionConfig.access
    Config = ConceptInversionConfig
    shared_by_victims = False

    def prepare(
        self, arena: Arena, config: ConceptInversionConfig, report: Report, meter: Meter
    ) -> dict[str, torch.Tensor]:
        """min_v E ||eps - eps_theta'(z_t, t, f([p; v]))||^2 over the pictures and their prompts."""
        victim = arena.victim
        pictures = arena.concept_pictures()[: config.pictures]
        suffix = Suffix(victim, list(arena.picture_prompts)[: len(pictures)], config.tokens)
        learned = first_guess(victim, config.tokens).requires_grad_()
        optimizer = torch.optim.AdamW([learned], lr=config.learning_rate, weight_decay=config.weight_decay)
        generator = torch.Generator().manual_seed(config.seed)
        for step in range(config.steps):
            rows = torch.randint(len(pictures), (config.batch_size,), generator=generator)
            timesteps = torch.randint(victim.num_train_timesteps, (config.batch_size,), generator=generator)
            noisy, wanted = noised(victim, pictures[rows], timesteps, generator)
            embeds = suffix.encode(learned, rows.tolist(), meter)
            loss = prediction_error(victim, noisy, timesteps, embeds, wanted, meter)
            (learned.grad,) = torch.autograd.grad(loss, [learned])
            optimizer.step()
            value = float(loss.detach())
            report(step + 1, config.steps, f"Learning the concept's token, loss {value:.4g}", loss=value)
        return {"tokens": learned.detach().cpu()}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: ConceptInversionConfig,
        report: Report,
    ) -> list[AttackInput]:
        """The prompts with the learned tokens behind them; see `Attack.craft`."""
        report(1, 1)
        return with_suffix(arena, tasks, shared["tokens"])

    def together(self, config: ConceptInversionConfig) -> int:
        return 64
