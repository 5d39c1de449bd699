"""Prompting4Debugging: words under which the victim predicts what the original does under the wanted prompt.

Variant n searches a whole prompt of N tokens; k keeps the prompt's tokens and inserts a free one after every K of them,
and, as in the official code, one before the first. Where that splits a word, the prompt reads as other tokens than were
searched when it is typed; the victim is asked with what is typed. (The attack that ships with UnlearnDiffAtk under this
name is another one: tokens before the prompt and 40 steps.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.prompting import layout, prompt_ids, token_table, word_tokens
from studio.attack_configs import P4dConfig
from studio.attacks.base import Access, Arena, AttackError, AttackInput, AttackTask, Best, Meter, PlainAttack, Report
from studio.attacks.denoising import noised, predict_only, prediction_error
from studio.objectives.tokens import nearest_tokens


class P4d(PlainAttack):
    """Projected gradients on token embeddings (PEZ). What is kept is the prompt that the detector scores highest."""

    name = "p4d"
    title = P4dConfig.title
    paper = (
        "Chin 2023, Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding Problematic Prompts, "
        "https://arxiv.org/abs/2309.06135"
    )
    access: Access = P4dConfig.access
    Config = P4dConfig
    uses_original = True
    uses_target = True

    def prepare(self, arena: Arena, config: P4dConfig, report: Report, meter: Meter) -> dict[str, torch.Tensor]:
        """The tokens that embeddings are projected to."""
        return {"vocabulary": word_tokens(arena.victim)}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: P4dConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        return [TokenSearch(arena, task, shared["vocabulary"], config).run(report) for task in tasks]


class TokenSearch:
    """The search for one prompt."""

    def __init__(self, arena: Arena, task: AttackTask, vocabulary: torch.Tensor, config: P4dConfig) -> None:
        if task.target is None:
            raise AttackError("P4D needs a picture of the prompt by the original model, and was given none.")
        self.arena, self.task, self.config = arena, task, config
        self.target, self.vocabulary = task.target, vocabulary
        self.original = arena.the_original()
        self.table = token_table(arena.victim)[vocabulary.to(arena.victim.device)].float()  # [V, D]
        self.layout = layout(arena.victim, parts_of(prompt_ids(arena.victim, task.prompt), config))
        self.generator = task.generator(config.seed)
        count = len(self.layout.places)
        self.soft = self.table[torch.randint(len(vocabulary), (count,), generator=self.generator)].clone()
        self.soft.requires_grad_()
        self.optimizer = torch.optim.AdamW([self.soft], lr=config.learning_rate, weight_decay=config.weight_decay)
        self.task.meter.text_passes += 1
        self.wanted_embeds = self.original.encode_prompt([task.prompt])

    def run(self, report: Report) -> AttackInput:
        """All steps, or until the victim shows the concept when it is asked."""
        best, config = Best(self.config.confirm), self.config
        for step in range(config.steps):
            loss = self.step()
            report(step, config.steps, f"Step {step}, loss {loss:.4g}{best.words}", loss=loss)
            if (step + 1) % config.ask_every == 0 or step + 1 == config.steps:
                best.ask(self.arena, self.task, [self.input()])
                if best.done:
                    break
        return best.chosen()

    def step(self) -> float:
        """One step on ||eps_theta'(z_t, t, adv) - eps_theta(z_t, t, p)||^2 (equation 4).

        The loss is taken at the projected tokens; their gradient moves the soft ones.
        """
        victim, size = self.arena.victim, self.config.batch_size
        timesteps = torch.randint(victim.num_train_timesteps, (size,), generator=self.generator)
        noisy, _ = noised(victim, self.target.expand(size, -1, -1, -1), timesteps, self.generator)
        wanted = predict_only(self.original, noisy, timesteps, self.wanted_embeds, self.task.meter)
        hard = self.table[nearest_tokens(self.soft.detach(), self.table)].requires_grad_()
        self.task.meter.text_passes += 1
        embeds = self.layout.encode(hard.unsqueeze(0))
        loss = prediction_error(victim, noisy, timesteps, embeds, wanted, self.task.meter)
        (self.soft.grad,) = torch.autograd.grad(loss, [hard])
        self.optimizer.step()
        return float(loss.detach())

    def input(self) -> AttackInput:
        """The prompt of the nearest tokens."""
        tokens = self.vocabulary[nearest_tokens(self.soft.detach(), self.table).cpu()]
        return AttackInput(self.layout.text(tokens.tolist()))


def parts_of(prompt: Sequence[int], config: P4dConfig) -> list[int | None]:
    """Tokens of the prompt and free places of the variant: N places alone, or one before every K tokens and one after
    the last K."""
    if config.variant == "n":
        return [None] * config.tokens
    parts: list[int | None] = [None]
    for number, token in enumerate(prompt, 1):
        parts.append(token)
        if number % config.every == 0:
            parts.append(None)
    return parts
