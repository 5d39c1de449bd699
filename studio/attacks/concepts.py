"""The concept's direction in a text encoder's output, which three attacks use."""

from __future__ import annotations

import torch

from models.prompting import padded, prompt_ids
from studio.attacks.base import Arena, AttackError, Meter
from studio.objectives.tokens import concept_vector


def prompt_rows(arena: Arena, prompts: list[str]) -> torch.Tensor:
    """Ids [B, L] of prompts, cut where the text encoder's places end."""
    room = arena.victim.prompt_length - 2
    return torch.cat([padded(arena.victim, torch.tensor([prompt_ids(arena.victim, p)[:room]]).long()) for p in prompts])


def direction(arena: Arena, pairs: int, meter: Meter) -> torch.Tensor:
    """c [L, D] of the first so many prompt pairs.

    Raises AttackError where there are none.
    """
    chosen = list(arena.pairs)[:pairs]
    if not chosen:
        raise AttackError(
            "The concept's direction needs prompt pairs with and without it; the project has 0. Add some."
        )
    shows, lacks = (arena.encode(meter, prompt_rows(arena, [pair[side] for pair in chosen])) for side in (0, 1))
    return concept_vector(shows, lacks)
