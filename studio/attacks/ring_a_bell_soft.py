"""The concept's direction added to the prompt's embedding, with no search and no words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from studio.attack_configs import RingABellSoftConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Meter, PlainAttack, Report
from studio.attacks.concepts import direction, prompt_rows


class RingABellSoft(PlainAttack):
    """f(p) + eta c itself is what the UNet is given."""

    name = "ring_a_bell_soft"
    title = RingABellSoftConfig.title
    paper = (
        "the target of Tsai 2023 (https://arxiv.org/abs/2310.10012) used as it is, as in the code of Gong 2024, RECE, "
        "https://arxiv.org/abs/2407.12383"
    )
    access: Access = RingABellSoftConfig.access
    Config = RingABellSoftConfig
    shared_by_victims = False  # a direction is its own text encoder's

    def prepare(
        self, arena: Arena, config: RingABellSoftConfig, report: Report, meter: Meter
    ) -> dict[str, torch.Tensor]:
        """The concept's direction."""
        return {"direction": direction(arena, config.pairs, meter, config.vector)}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: RingABellSoftConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        embeds = arena.encode(Meter(), prompt_rows(arena, [task.prompt for task in tasks]))
        for task in tasks:
            task.meter.text_passes += 1
        moved = embeds + config.eta * shared["direction"].to(embeds)
        report(1, 1)
        return [AttackInput(task.prompt, embeds=row) for task, row in zip(tasks, moved, strict=True)]

    def together(self, config: RingABellSoftConfig) -> int:
        return 64
