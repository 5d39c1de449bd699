"""Genetic search over rows of tokens, many searches at once: select, cross, mutate. Losses are the caller's.

P searches run side by side; of each, a population [N, K] of N candidates with K tokens.
"""

from __future__ import annotations

import torch


def select(population: torch.Tensor, losses: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `keep` best of each search, best first: [P, keep, K] and their losses [P, keep], from [P, N, K] and [P, N].

    They are copies: nothing that is done to the children can lose the best (the official Ring-A-Bell code mutates its
    survivors in place).
    """
    order = losses.argsort(dim=1, stable=True)[:, :keep]
    return population.gather(1, order.unsqueeze(-1).expand(-1, -1, population.shape[-1])), losses.gather(1, order)


def crossover(first: torch.Tensor, second: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
    """One-point crossover: tokens before the cut from the first parent, the others from the second.

    Parents [..., K]; cuts [...] in 0 … K, where 0 is all of the second and K all of the first.
    """
    positions = torch.arange(first.shape[-1], device=first.device)
    return torch.where(positions < cuts.unsqueeze(-1), first, second)


def mutate(tokens: torch.Tensor, chosen: torch.Tensor, positions: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One token of each chosen row replaced: rows [..., K]; chosen [...] bool, positions [...] < K, values [...]."""
    here = torch.arange(tokens.shape[-1], device=tokens.device) == positions.unsqueeze(-1)
    return torch.where(here & chosen.unsqueeze(-1), values.unsqueeze(-1), tokens)


def breed(
    elite: torch.Tensor,
    count: int,
    vocabulary: torch.Tensor,
    *,
    crossover_rate: float,
    mutation_rate: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Children [P, count, K] of an elite [P, E, K]: two random parents, crossed or the first copied, then mutated."""
    searches, parents, length = elite.shape
    shape = (searches, count)
    rows = torch.randint(parents, (2, *shape), generator=generator).unsqueeze(-1).expand(-1, -1, -1, length)
    first, second = elite.gather(1, rows[0]), elite.gather(1, rows[1])
    cuts = torch.randint(1, max(length, 2), shape, generator=generator)
    crossed = torch.rand(shape, generator=generator) < crossover_rate
    children = crossover(first, second, torch.where(crossed, cuts, length))
    values = vocabulary[torch.randint(len(vocabulary), shape, generator=generator)]
    positions = torch.randint(length, shape, generator=generator)
    return mutate(children, torch.rand(shape, generator=generator) < mutation_rate, positions, values)


def known_losses(children: torch.Tensor, elite: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Losses [P, M] of children that copy a member of the elite [P, E, K]; NaN for those that are new."""
    same = (children.unsqueeze(2) == elite.unsqueeze(1)).all(-1)
    found = losses.gather(1, same.int().argmax(-1))
    return torch.where(same.any(-1), found, torch.full_like(found, torch.nan))
