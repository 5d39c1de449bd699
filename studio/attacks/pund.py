"""PUND: a suffix embedding found on the original model while it keeps being erased, then used on any victim.

The eraser that it is trained against is the original itself, whose cross-attention is changed and put back: never the
model under test, which would leak into the attack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.adapters import tuned_weights
from studio.attack_configs import PundConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Meter, PlainAttack, Report
from studio.attacks.denoising import noised, predict_only, prediction_error
from studio.attacks.suffix import Suffix, first_guess, with_suffix


class Pund(PlainAttack):
    """One embedding for all prompts and all victims."""

    name = "pund"
    title = PundConfig.title
    paper = (
        "Han 2024, Probing Unlearned Diffusion Models: A Transferable Adversarial Attack Perspective, "
        "https://arxiv.org/abs/2404.19382"
    )
    access: Access = PundConfig.access
    Config = PundConfig
    uses_original = True

    def prepare(self, arena: Arena, config: PundConfig, report: Report, meter: Meter) -> dict[str, torch.Tensor]:
        """Steps of min_v ||eps - eps_copy(z_t, t, [p; v])||^2, now and then an erasing round against v."""
        original = arena.the_original()
        names = [name for name, _ in original.denoiser.named_parameters() if ".attn2." in name]
        with tuned_weights(original, names) as tuned:
            search = SuffixSearch(arena, config, list(tuned.parameters.values()), meter)
            for step in range(config.steps):
                if step and step % config.erase_every == 0:
                    report(step, config.steps, "Erasing what was found")
                    search.erase()
                loss = search.step(step)
                report(step + 1, config.steps, f"Searching a suffix, loss {loss:.4g}", loss=loss)
        return {"tokens": search.learned.detach().cpu()}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: PundConfig,
        report: Report,
    ) -> list[AttackInput]:
        """The prompts with the suffix behind them; see `Attack.craft`."""
        report(1, 1)
        return with_suffix(arena, tasks, shared["tokens"])

    def together(self, config: PundConfig) -> int:
        return 64


class SuffixSearch:
    """The embedding v, and the eraser that it must survive."""

    def __init__(self, arena: Arena, config: PundConfig, weights: list[torch.nn.Parameter], meter: Meter) -> None:
        self.model, self.config, self.weights, self.meter = arena.the_original(), config, weights, meter
        self.pictures = arena.concept_pictures()[: config.pictures]
        self.suffix = Suffix(self.model, list(arena.picture_prompts)[: len(self.pictures)], config.tokens)
        self.learned = first_guess(self.model, config.tokens).requires_grad_()
        self.optimizer = torch.optim.AdamW([self.learned], lr=config.learning_rate, weight_decay=config.weight_decay)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.empty = self.model.encode_prompt([""])

    def step(self, number: int) -> float:
        """One step of v, at timesteps of this step's stratum."""
        width = self.model.num_train_timesteps / self.config.strata
        low = int(width * (number % self.config.strata))
        high = max(low + 1, int(width * (number % self.config.strata + 1)))
        rows, noisy, timesteps, wanted = self._batch(low, high)
        embeds = self.suffix.encode(self.learned, rows, self.meter)
        loss = prediction_error(self.model, noisy, timesteps, embeds, wanted, self.meter)
        (self.learned.grad,) = torch.autograd.grad(loss, [self.learned])
        self.optimizer.step()
        return float(loss.detach())

    def erase(self) -> None:
        """Train the copy's cross-attention until the suffix says to it what the empty prompt says."""
        optimizer = torch.optim.Adam(self.weights, lr=self.config.erase_rate)
        fixed = self.learned.detach()
        for _ in range(self.config.erase_steps):
            rows, noisy, timesteps, _ = self._batch(0, self.model.num_train_timesteps)
            wanted = predict_only(self.model, noisy, timesteps, self.empty, self.meter)
            with torch.no_grad():
                embeds = self.suffix.encode(fixed, rows, self.meter)
            loss = prediction_error(self.model, noisy, timesteps, embeds, wanted, self.meter)
            gradients = torch.autograd.grad(loss, self.weights)
            for weight, gradient in zip(self.weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()

    def _batch(self, low: int, high: int) -> tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows, noisy latents, their timesteps in [low, high) and what the model should say."""
        size = self.config.batch_size
        rows = torch.randint(len(self.pictures), (size,), generator=self.generator)
        timesteps = torch.randint(low, high, (size,), generator=self.generator)
        noisy, wanted = noised(self.model, self.pictures[rows], timesteps, self.generator)
        return rows.tolist(), noisy, timesteps, wanted
