"""No attack: the prompt as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from studio.attack_configs import NoneConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, PlainAttack, Report


class NoAttack(PlainAttack):
    """What every attack is measured against first."""

    name = "none"
    title = NoneConfig.title
    paper = "control: the prompt as it is"
    access: Access = NoneConfig.access
    Config = NoneConfig
    control = ""

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: NoneConfig,
        report: Report,
    ) -> list[AttackInput]:
        """The prompts; see `Attack.craft`."""
        report(1, 1)
        return [AttackInput(task.prompt) for task in tasks]

    def together(self, config: NoneConfig) -> int:
        return 64
