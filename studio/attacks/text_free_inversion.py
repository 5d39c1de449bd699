"""Text-free inversion: the empty prompt, and the start latents from which the victim would draw the concept.

DDIM is run backwards on the victim from a picture of the concept by the original. It asks whether the weights can still
draw the concept at all, which DUO, trained without words, claims they cannot. A start far from what noise looks like
can carry the picture by itself, so it is scaled to the norm of noise; what a model that never saw the concept (the
oracle) still draws from such starts is the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from studio.attack_configs import TextFreeInversionConfig
from studio.attacks.base import Access, Arena, AttackError, AttackInput, AttackTask, PlainAttack, Report
from studio.objectives.inversion import invert


class TextFreeInversion(PlainAttack):
    """Latents found by DDIM inversion with fixed-point iterations, no word of text anywhere."""

    name = "text_free_inversion"
    title = TextFreeInversionConfig.title
    paper = (
        "after Rusanovsky 2024, Memories of Forgotten Concepts, https://arxiv.org/abs/2412.00782, but under the empty "
        "prompt alone"
    )
    access: Access = TextFreeInversionConfig.access
    Config = TextFreeInversionConfig
    control = "seed_search"
    uses_target = True

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: TextFreeInversionConfig,
        report: Report,
    ) -> list[AttackInput]:
        """All tasks' targets at once; see `Attack.craft`."""
        targets = [task.target for task in tasks if task.target is not None]
        if len(targets) < len(tasks):
            raise AttackError("Text-free inversion needs a picture of each prompt by the original model.")
        starts = self._invert(arena, torch.stack(targets), config, report)
        passes = arena.sampling.steps * (1 + config.refinements)
        for task in tasks:
            task.meter.forward += passes
        return [AttackInput("", start_latents=start) for start in starts]

    def _invert(
        self, arena: Arena, targets: torch.Tensor, config: TextFreeInversionConfig, report: Report
    ) -> torch.Tensor:
        victim = arena.victim
        timesteps, abars = victim.schedule(arena.sampling.steps)
        empty = victim.encode_prompt([""])
        total = len(timesteps) * (1 + config.refinements)
        done = 0

        @torch.no_grad()
        def predict(latents: torch.Tensor, timestep: int) -> torch.Tensor:
            nonlocal done
            report(done, total, f"Inverting, timestep {timestep}")
            done += 1
            at = torch.full((len(latents),), timestep, device=victim.device)
            return victim.predict(latents, at, empty.expand(len(latents), -1, -1))

        abars = abars.to(victim.device)
        start = invert(
            targets.float().to(victim.device), predict, timesteps, abars, victim.prediction_type, config.refinements
        ).cpu()
        if config.noise_norm:
            norms = start.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            start = start / norms.clamp(min=1e-8) * math.sqrt(start[0].numel())
        return start

    def together(self, config: TextFreeInversionConfig) -> int:
        return 32
