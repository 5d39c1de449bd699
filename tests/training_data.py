"""What tests of training share."""

from __future__ import annotations

import torch

from studio.methods.base import TrainingPairs
from studio.methods.training import SplitStep


def one_step(step: SplitStep, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a whole fresh minibatch, and what is reported of it."""
    loss, values = step.loss(step.draw(generator))
    return loss, {name: float(value.detach()) for name, value in values.items()}


def make_pairs(count: int = 6, shape: tuple[int, ...] = (8, 8, 8)) -> TrainingPairs:
    """Random pairs whose twins lie close together, each with prompts of its own."""
    generator = torch.Generator().manual_seed(0)
    unsafe = torch.randn(count, *shape, generator=generator)
    return TrainingPairs(
        unsafe,
        unsafe + 0.5 * torch.randn(count, *shape, generator=generator),
        [f"a knight {index}" for index in range(count)],
        [f"a gardener {index}" for index in range(count)],
    )
