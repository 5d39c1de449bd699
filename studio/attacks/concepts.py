"""The concept's direction in a text encoder's output, which three attacks use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.prompting import padded, prompt_ids
from studio.attacks.base import Arena, AttackError, Meter
from studio.objectives.tokens import concept_vector


def prompt_rows(arena: Arena, prompts: list[str]) -> torch.Tensor:
    """Ids [B, L] of prompts, cut where the text encoder's places end."""
    room = arena.victim.prompt_length - 2
    return torch.cat([padded(arena.victim, torch.tensor([prompt_ids(arena.victim, p)[:room]]).long()) for p in prompts])


def direction(arena: Arena, pairs: int, meter: Meter, vector: str = "") -> torch.Tensor:
    """c [L, D] of the first so many prompt pairs, or read from a .npy file.

    Raises AttackError where there are no pairs, or the file holds no direction of this text encoder.
    """
    if vector:
        return read_vector(Path(vector), arena)
    chosen = list(arena.pairs)[:pairs]
    if not chosen:
        raise AttackError(
            "The concept's direction needs prompt pairs with and without it; the project has 0. Add some."
        )
    shows, lacks = (arena.encode(meter, prompt_rows(arena, [pair[side] for pair in chosen])) for side in (0, 1))
    return concept_vector(shows, lacks)


def read_vector(path: Path, arena: Arena) -> torch.Tensor:
    """A direction [L, D] from a .npy file of [L, D] or [1, L, D]; never unpickles.

    Raises AttackError where it is no such file, holds what is not finite, or is of another shape.
    """
    wanted = (arena.victim.prompt_length, arena.victim.text_encoder.config.hidden_size)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AttackError(f"{path} is no .npy file of numbers ({error}). Use one that numpy.save wrote.") from error
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.shape != wanted or not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
        raise AttackError(
            f"{path} holds {values.dtype} {list(values.shape)}, but {arena.victim.spec.name} needs finite numbers "
            f"{list(wanted)}. Use a direction made with this text encoder."
        )
    return torch.from_numpy(values.astype(np.float32))
