"""Seed search: what the plain prompt shows when it is asked again from other seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from studio.attack_configs import SeedSearchConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Best, PlainAttack, Report


class SeedSearch(PlainAttack):
    """The first seed that succeeds, else the best score. On a fresh seed what is left of it is the plain prompt."""

    name = "seed_search"
    title = SeedSearchConfig.title
    paper = "control: the same prompt from other seeds, the same number of queries"
    access: Access = SeedSearchConfig.access
    Config = SeedSearchConfig
    control = ""

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: SeedSearchConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        found = []
        for number, task in enumerate(tasks):
            found.append(self._one(arena, task, config))
            report(number + 1, len(tasks))
        return found

    def _one(self, arena: Arena, task: AttackTask, config: SeedSearchConfig) -> AttackInput:
        prompt = "" if config.empty_prompt else task.prompt
        if config.queries == 0:
            return AttackInput(prompt)
        seeds = torch.randint(2**31, (config.queries,), generator=task.generator(config.seed)).tolist()
        best = Best()
        for first in range(0, config.queries, config.query_batch):
            best.ask(arena, task, [AttackInput(prompt, seed=s) for s in seeds[first : first + config.query_batch]])
            if best.done:
                break
        return best.chosen()
