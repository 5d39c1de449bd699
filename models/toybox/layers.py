"""What the toybox's small networks over pictures have in common."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def strided_convolutions(channels: Sequence[int]) -> nn.Sequential:
    """Convolutions from each number of channels to the next, [B, C, S, S] to [B, C', S/2, S/2] each."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers)
