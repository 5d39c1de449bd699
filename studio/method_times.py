"""How long a training of another method than DUO will take, before it starts. Torch-free.

What is counted is what `studio.estimates` counts of DUO: rows through the network with and without gradients, and how
often it is asked. That is known of methods which change few of the weights: an optimizer over all of them, the Fisher
information, watched attention and closed forms were not measured, and a method that needs one of these has no estimate.
Memory is estimated for DUO alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

from studio.estimates import Pace, Situation, Time, cost, drawing, time_at
from studio.method_configs import ConceptAblationConfig, EsdConfig, SpmConfig
from studio.training_configs import MethodConfig

AT_ONCE = 32  # pictures and trajectories that the frozen model samples together, as models.bundle has it
PLAIN, TUNED = 1, 3  # walks through the network: forward; forward and, twice the work, backward
DUO_PASS = PLAIN + TUNED  # what the measured cost of a pass is of: the original is asked, then the adapter is trained
COUNTED_FIELDS = ("variant", "layers", "steps", "batch_size", "anchors", "prior_weight", "trajectories", "pictures",
            "sampling_steps", "sample_every")  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a training asks of the network."""

    plain_rows: float = 0.0  # without gradients
    tuned_rows: float = 0.0  # with gradients
    plain_calls: float = 0.0
    tuned_calls: float = 0.0


Counted = EsdConfig | SpmConfig | ConceptAblationConfig


def is_counted(config: MethodConfig) -> TypeGuard[Counted]:
    """Whether it is known what a training asks of the network, and that most of its time goes there."""
    if isinstance(config, EsdConfig):
        return config.variant in ("esd-x", "esd-x-strict")
    return isinstance(config, SpmConfig) or (isinstance(config, ConceptAblationConfig) and config.layers != "all")


def asked_of(config: Counted, guided: bool = True) -> Asked:
    """What a training's configuration amounts to.

    `guided` tells whether a picture is sampled by two rows, under its prompt and under the empty one.
    """
    if isinstance(config, EsdConfig):
        sampled, calls = _sampled(config.trajectories, config.sampling_steps, True)
        return Asked(sampled, config.steps * config.batch_size, calls, config.steps)
    if isinstance(config, SpmConfig):
        sampled, calls = _sampled(config.trajectories, config.sampling_steps, True)
        still = config.steps * config.batch_size * config.anchors
        return Asked(sampled + still, config.steps * config.batch_size + still, calls + config.steps, config.steps)
    sampled, calls = _sampled(config.pictures, config.sampling_steps, guided)
    rows, times = config.steps * config.batch_size, config.steps
    if config.prior_weight:  # the anchor's prediction is trained too
        return Asked(sampled, 2 * rows, calls, 2 * times)
    return Asked(sampled + rows, rows, calls + times, times)


def _sampled(count: int, steps: int, guided: bool) -> tuple[int, int]:
    """Rows and calls of sampling with the frozen model."""
    return count * steps * (2 if guided else 1), math.ceil(count / AT_ONCE) * steps


def method_cost(config: Counted, situation: Situation) -> float:
    """`estimates.cost` of a whole training, sample pictures left out."""
    shape = situation.shape
    asked = asked_of(config, guided=shape.name != "flux")
    forward, both = (shape.at(shape.flops[mode], shape.resolution) for mode in ("forward", "kept"))
    calls = (PLAIN * asked.plain_calls + TUNED * asked.tuned_calls) / DUO_PASS
    return cost(asked.plain_rows * forward + asked.tuned_rows * both, calls, situation)


def method_time(config: Counted, situation: Situation, paces: Iterable[Pace], matmul: float | None = None) -> Time:
    """Seconds of a training, as `estimates.duration_of` tells them of DUO.

    `paces` are earlier trainings by the same method, with their `method_cost`.
    """
    whole = method_cost(config, situation) + cost(drawing(config, situation), 0, situation)
    return time_at(whole, situation, paces, matmul)
