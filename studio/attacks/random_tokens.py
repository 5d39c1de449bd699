"""Random tokens: what blind tries find with as many queries as an attack has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.prompting import layout, word_tokens
from studio.attack_configs import RandomTokensConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Best, Meter, PlainAttack, Report


class RandomTokens(PlainAttack):
    """Words drawn at random before the prompt, or in its place; the first that succeeds, else the best score."""

    name = "random_tokens"
    title = RandomTokensConfig.title
    paper = "control: random tokens, the same number of queries"
    access: Access = RandomTokensConfig.access
    Config = RandomTokensConfig
    control = ""

    def prepare(
        self, arena: Arena, config: RandomTokensConfig, report: Report, meter: Meter
    ) -> dict[str, torch.Tensor]:
        """The tokens that are drawn from."""
        return {"vocabulary": word_tokens(arena.victim)}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: RandomTokensConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        found = []
        for number, task in enumerate(tasks):
            found.append(self._one(arena, task, shared["vocabulary"], config))
            report(number + 1, len(tasks))
        return found

    def _one(self, arena: Arena, task: AttackTask, vocabulary: torch.Tensor, config: RandomTokensConfig) -> AttackInput:
        generator = task.generator(config.seed)
        words = task.prompt.split() if config.keep_prompt else []
        free = layout(arena.victim, [*[None] * config.tokens, *words])

        def candidates(count: int) -> list[AttackInput]:
            rows = vocabulary[torch.randint(len(vocabulary), (count, config.tokens), generator=generator)]
            return [AttackInput(free.text(row)) for row in rows.tolist()]

        if config.queries == 0:
            return candidates(1)[0]
        best = Best(config.confirm)
        for first in range(0, config.queries, config.query_batch):
            best.ask(arena, task, candidates(min(config.query_batch, config.queries - first)))
            if best.done:
                break
        return best.chosen()
