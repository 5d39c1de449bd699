"""UnlearnDiffAtk: tokens before the prompt, relaxed to points of the vocabulary's simplex, that denoise a target."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.prompting import Layout, layout, token_table, word_tokens
from studio.attack_configs import UnlearnDiffAtkConfig
from studio.attacks.base import Access, Arena, AttackError, AttackInput, AttackTask, Best, Meter, PlainAttack, Report
from studio.attacks.denoising import noised, prediction_error
from studio.objectives.tokens import project_to_simplex, sample_one_hot


class UnlearnDiffAtk(PlainAttack):
    """One timestep after the other; after each, the likeliest tokens are tried on the victim."""

    name = "unlearn_diff_atk"
    title = UnlearnDiffAtkConfig.title
    paper = (
        "Zhang 2023, To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy To Generate Unsafe "
        "Images, https://arxiv.org/abs/2310.11868"
    )
    access: Access = UnlearnDiffAtkConfig.access
    Config = UnlearnDiffAtkConfig
    uses_target = True

    def prepare(
        self, arena: Arena, config: UnlearnDiffAtkConfig, report: Report, meter: Meter
    ) -> dict[str, torch.Tensor]:
        """The tokens that are searched."""
        return {"vocabulary": word_tokens(arena.victim)}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: UnlearnDiffAtkConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        return [PrefixSearch(arena, task, shared["vocabulary"], config).run(report) for task in tasks]


class PrefixSearch:
    """The search for one prompt's prefix."""

    def __init__(self, arena: Arena, task: AttackTask, vocabulary: torch.Tensor, config: UnlearnDiffAtkConfig) -> None:
        if task.target is None:
            raise AttackError("UnlearnDiffAtk needs a picture of the prompt by the original model, and was given none.")
        self.arena, self.task, self.config = arena, task, config
        self.target = task.target
        self.vocabulary = vocabulary
        self.table = token_table(arena.victim)[vocabulary.to(arena.victim.device)]  # [V, D]
        self.layout: Layout = layout(arena.victim, [*[None] * config.tokens, *task.prompt.split()])
        self.generator = task.generator(config.seed)
        shape = (config.tokens, len(vocabulary))
        self.weights = torch.full(shape, 1 / len(vocabulary), device=self.table.device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.weights], lr=config.learning_rate, weight_decay=config.weight_decay)

    def run(self, report: Report) -> AttackInput:
        """All timesteps, or until the victim shows the concept."""
        best, stages = Best(self.config.confirm), self.config.timesteps
        total = len(stages) * self.config.steps
        for number, timestep in enumerate(stages):
            for step in range(self.config.steps):
                loss = self.step(timestep)
                words = f"Timestep {timestep}, loss {loss:.4g}{best.words}"
                report(number * self.config.steps + step, total, words, loss=loss)
            best.ask(self.arena, self.task, [self.input()])
            if best.done:
                break
        return best.chosen()

    def step(self, timestep: int) -> float:
        """One step of Adam on ||eps - eps_theta'(z_t, t, [adv; p])||^2 (equation 7), then back to the simplex.

        As in the official code, every entry of the loss's gradient is clamped to [-1, 1].
        """
        victim, size = self.arena.victim, self.config.batch_size
        timesteps = torch.full((size,), min(timestep, victim.num_train_timesteps - 1))
        noisy, wanted = noised(victim, self.target.expand(size, -1, -1, -1), timesteps, self.generator)
        chosen = sample_one_hot(self.weights, self.generator)
        self.task.meter.text_passes += 1
        embeds = self.layout.encode((chosen @ self.table.float()).unsqueeze(0))
        loss = prediction_error(victim, noisy, timesteps, embeds, wanted, self.task.meter)
        (gradient,) = torch.autograd.grad(loss, [self.weights])
        self.weights.grad = gradient.clamp(-1, 1)
        self.optimizer.step()
        with torch.no_grad():
            self.weights.copy_(project_to_simplex(self.weights))
        return float(loss.detach())

    def input(self) -> AttackInput:
        """The prompt with each place's likeliest token."""
        tokens = self.vocabulary[self.weights.detach().argmax(dim=-1).cpu()]
        return AttackInput(self.layout.text(tokens.tolist()))
