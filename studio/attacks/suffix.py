"""Learned tokens after a prompt: how two attacks train them on captioned pictures, and how they are used."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.bundle import ModelBundle
from models.prompting import Layout, check_free_tokens, encode_tokens, layout, token_table
from studio.attacks.base import Arena, AttackInput, AttackTask, Meter


class Suffix:
    """Prompts with K free tokens at their end, ready to be encoded with one learned embedding [K, D] in all of them."""

    def __init__(self, bundle: ModelBundle, prompts: Sequence[str], tokens: int) -> None:
        check_free_tokens(bundle, tokens)
        unique = list(dict.fromkeys(prompts))
        self.bundle = bundle
        self.layouts: list[Layout] = [layout(bundle, [*text.split(), *[None] * tokens]) for text in unique]
        self.rows = [unique.index(text) for text in prompts]

    def encode(self, learned: torch.Tensor, chosen: Sequence[int], meter: Meter) -> torch.Tensor:
        """Embeddings [B, L, D] of the chosen prompts; each different one is encoded once."""
        used = sorted({self.rows[row] for row in chosen})
        meter.text_passes += len(used)
        embeds = torch.cat([self.layouts[row].embed(learned.unsqueeze(0)) for row in used])
        encoded = encode_tokens(self.bundle, torch.stack([self.layouts[row].ids for row in used]), embeds)
        places = {row: place for place, row in enumerate(used)}
        return encoded[[places[self.rows[row]] for row in chosen]]


def first_guess(bundle: ModelBundle, tokens: int) -> torch.Tensor:
    """Where learned tokens [K, D] start: the mean of the vocabulary, which means nothing in particular."""
    return token_table(bundle).float().mean(dim=0).expand(tokens, -1).clone()


def with_suffix(arena: Arena, tasks: Sequence[AttackTask], learned: torch.Tensor) -> list[AttackInput]:
    """The tasks' prompts with the learned tokens [K, D] behind them."""
    learned = learned.to(arena.victim.device)
    with torch.no_grad():
        suffix = Suffix(arena.victim, [task.prompt for task in tasks], len(learned))
        embeds = suffix.encode(learned, range(len(tasks)), Meter())
    for task in tasks:
        task.meter.text_passes += 1
    return [
        AttackInput(task.prompt, embeds=row, token_embeds=learned.cpu())
        for task, row in zip(tasks, embeds, strict=True)
    ]
