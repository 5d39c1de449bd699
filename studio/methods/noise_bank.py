"""A finite bank of noise, whose reference predictions are computed once.

The original network never changes, so its prediction for a pair's picture at a given noise and timestep, and for given
pure noise, is always the same. With a bank of K draws for each pair, the reference pass of every step is a look-up.
What it costs is variety: the tuned network sees K noises a pair instead of fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from studio.methods.trajectories import Tensors, remembered

AT_ONCE = 4  # draws whose reference predictions are computed together: the same on every try, for equal rounding

# Reference predictions [3 B, C, h, w] of safe, unsafe and pure-noise rows of some draws.
Reference = Callable[[tuple[torch.Tensor, ...]], torch.Tensor]
Drawing = Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, ...]]


class NoiseBank:
    """K draws for each of N pairs, with the reference's predictions for them."""

    def __init__(self, tensors: Tensors, count: int, draws: int) -> None:
        self.tensors, self.count, self.draws = tensors, count, draws

    @classmethod
    def make(
        cls,
        count: int,
        draws: int,
        seed: int,
        draw: Drawing,
        reference: Reference,
        facts: Any,
        progress: Callable[[int, int], None],
        state_folder: Path | None,
    ) -> NoiseBank:
        """Fill a bank, or read it from the state's folder where an earlier try of the same `facts` left it.

        Args:
            count: N pairs.
            draws: K.
            draw: what is drawn for pairs of these indices [B]; its first tensor is the indices.
            reference: the original's predictions for what was drawn.
            progress: called with (draws done, draws in all); may raise to stop.
        """

        def fill() -> Tensors:
            generator = torch.Generator().manual_seed(seed)
            drawn = draw(torch.arange(count).repeat_interleave(draws), generator)
            total = count * draws
            predictions = []
            for first in range(0, total, AT_ONCE):
                progress(first, total)
                rows = tuple(part[first : first + AT_ONCE] for part in drawn)
                predictions.append(torch.stack(reference(rows).cpu().chunk(3), dim=1))
            return {f"drawn.{n}": part for n, part in enumerate(drawn)} | {"reference": torch.cat(predictions)}

        return cls(remembered(state_folder, "bank", facts, fill), count, draws)

    def take(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """For pairs of these indices [B] one draw each, and its predictions [B, 3, C, h, w] as the last tensor."""
        entries = rows * self.draws + torch.randint(self.draws, rows.shape, generator=generator)
        drawn = [self.tensors[f"drawn.{n}"][entries] for n in range(len(self.tensors) - 1)]
        return (*drawn, self.tensors["reference"][entries])
