"""Ring-A-Bell: tokens whose embedding is the prompt's with the concept's direction added, by a genetic search.

It never sees the victim's UNet. The whole population of several prompts is encoded together; a candidate that survives
keeps its loss, and a child that copies a survivor takes over the survivor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models.prompting import padded, word_tokens
from studio.attack_configs import RingABellConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Meter, PlainAttack, Report
from studio.attacks.concepts import direction, prompt_rows
from studio.objectives.genetic import breed, known_losses, select


class RingABell(PlainAttack):
    """Genetic search with an elite that is never lost."""

    name = "ring_a_bell"
    title = RingABellConfig.title
    paper = (
        "Tsai 2023, Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models?, "
        "https://arxiv.org/abs/2310.10012"
    )
    access: Access = RingABellConfig.access
    Config = RingABellConfig
    shared_by_victims = False  # a direction is its own text encoder's

    def prepare(self, arena: Arena, config: RingABellConfig, report: Report, meter: Meter) -> dict[str, torch.Tensor]:
        """The concept's direction and the tokens that are searched."""
        return {
            "direction": direction(arena, config.pairs, meter, config.vector),
            "vocabulary": word_tokens(arena.victim),
        }

    def together(self, config: RingABellConfig) -> int:
        return config.together

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: RingABellConfig,
        report: Report,
    ) -> list[AttackInput]:
        """One search a task, side by side; see `Attack.craft`."""
        meter = Meter()
        own = arena.encode(meter, prompt_rows(arena, [task.prompt for task in tasks]))
        targets = own + config.eta * shared["direction"].to(own)
        search = Search(arena, targets, shared["vocabulary"], config, [task.generator(config.seed) for task in tasks])
        search.run(report, meter)
        for task in tasks:  # each has as many candidates; what two of them share is encoded once
            task.meter.text_passes += -(-meter.text_passes // len(tasks))
        return [AttackInput(search.words(row)) for row in range(len(tasks))]


class Search:
    """P searches side by side, min_s ||T - f(s)||^2 (equation 5). The best candidate ever seen comes first."""

    def __init__(
        self,
        arena: Arena,
        targets: torch.Tensor,  # [P, L, D]
        vocabulary: torch.Tensor,
        config: Any,
        generators: Sequence[torch.Generator],
    ) -> None:
        self.arena, self.targets, self.config = arena, targets, config
        self.vocabulary, self.generators = vocabulary.cpu(), generators
        shape = (config.population, config.tokens)
        draws = [torch.randint(len(self.vocabulary), shape, generator=generator) for generator in generators]
        self.population = self.vocabulary[torch.stack(draws)]  # [P, N, K]
        self.losses = torch.full(self.population.shape[:2], torch.nan)

    def run(self, report: Report, meter: Meter) -> None:
        """All generations, or until `patience` of them brought nothing better."""
        config = self.config
        self.losses = self.evaluate(self.population, self.losses, meter)
        self.population, self.losses = select(self.population, self.losses, config.population)
        best, since = self.losses[:, 0], 0
        for generation in range(config.generations):
            loss = float(self.losses[:, 0].mean())
            words = f"Generation {generation}, distance {loss:.4g}: {self.words(0)}"
            report(generation, config.generations, words, distance=loss)
            self.step(meter)
            since = 0 if (self.losses[:, 0] < best).any() else since + 1
            best = self.losses[:, 0]
            if config.patience and since >= config.patience:
                break
        report(config.generations, max(config.generations, 1), distance=float(self.losses[:, 0].mean()))

    def words(self, search: int) -> str:
        """A search's best candidate so far."""
        tokenizer = self.arena.victim.tokenizer
        return " ".join(tokenizer.decode([token]).strip() for token in self.population[search, 0].tolist())

    def step(self, meter: Meter) -> None:
        """One generation: the better half stays, the other is bred from it."""
        config = self.config
        keep = config.population // 2
        elite, losses = select(self.population, self.losses, keep)
        rates = {"crossover_rate": config.crossover, "mutation_rate": config.mutation}
        count = config.population - keep
        children = torch.cat(
            [
                breed(elite[row : row + 1], count, self.vocabulary, generator=generator, **rates)
                for row, generator in enumerate(self.generators)
            ]
        )
        new = self.evaluate(children, known_losses(children, elite, losses), meter)
        self.population, self.losses = select(
            torch.cat([elite, children], dim=1), torch.cat([losses, new], dim=1), config.population
        )

    def evaluate(self, candidates: torch.Tensor, losses: torch.Tensor, meter: Meter) -> torch.Tensor:
        """Losses [P, M] of candidates [P, M, K]; those that are known already (not NaN) are taken over."""
        unknown = losses.isnan()
        searches, _ = unknown.nonzero(as_tuple=True)
        rows = candidates[unknown]  # [U, K]
        if len(rows) == 0:
            return losses
        unique, places = rows.unique(dim=0, return_inverse=True)
        meter.text_passes += len(unique)
        distances = torch.cat([self.distances(part) for part in unique.split(self.config.encode_batch)])
        known = losses.clone()
        known[unknown] = distances[places, searches]
        return known

    def distances(self, tokens: torch.Tensor) -> torch.Tensor:
        """||T - f(s)||^2 [M, P] of candidates [M, K] to every search's target; one pass of the encoder."""
        embeds = self.arena.encode(Meter(), padded(self.arena.victim, tokens), len(tokens))
        return torch.stack(
            [(embeds - target).square().flatten(1).sum(dim=1).float().cpu() for target in self.targets], dim=1
        )
