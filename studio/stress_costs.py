"""What a stress job costs at most, in pictures and training steps, and in time. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from studio.attack_configs import Cost
from studio.attack_costs import Speed
from studio.stress_configs import StressConfig


@dataclass(frozen=True)
class StressCost:
    """The most that a job takes; where the concept is back early, it is less."""

    cells: int
    pictures: int
    steps: int  # of training
    seconds: float | None  # None where nothing was measured


def cost_of(config: StressConfig, victims: int, toybox: bool, speed: Speed | None) -> StressCost:
    """Of so many trained models, with the original and the oracle beside them where that is asked for."""
    beside = (1 + toybox) if config.beside else 0
    models = victims + beside
    groups = set(config.groups)
    counts = {
        "plain": 1,
        "int8": 1,
        "samplers": len(config.samplers),
        "guidance": len(config.guidances),
        "img2img": len(config.strengths),
        "inpainting": len(config.inpaint_strengths),
    }
    cells = models * sum(count for group, count in counts.items() if group in groups)
    cells += victims * len(config.scales) * ("adapter" in groups)
    courses = (len(config.concept_pictures) + bool(config.benign_pictures)) * ("relearning" in groups)
    steps = models * courses * max(config.relearn_at, default=0)
    cells += models * courses * len(config.relearn_at)
    pictures = cells * config.n
    seconds = None
    if speed is not None:
        rows = steps * config.relearn_batch
        seconds = speed.seconds(Cost(queries=pictures, forward=rows, backward=rows), config.steps)
    return StressCost(cells, pictures, steps, seconds)
