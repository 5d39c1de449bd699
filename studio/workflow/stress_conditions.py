"""What is done to a model before its pictures are counted: one condition each, drawn on the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from models.bundle import ModelBundle
from models.quantising import int8_weights
from models.samplers import sampled_by
from studio.stress_configs import Group, StressConfig

PLAIN = "plain"
SAMPLER_NAMES = {"euler": "Euler", "heun": "Heun", "dpm++": "DPM-Solver++"}


def _nothing(bundle: ModelBundle) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Condition:
    """One row of the table. `key` names it in the store, `title` on the page."""

    key: str
    title: str
    group: Group
    scale: float = 1.0  # of the adapter
    within: Callable[[ModelBundle], AbstractContextManager[None]] = _nothing
    sampling: dict[str, Any] = field(default_factory=dict)  # changes of what `generate` is told
    start: bool = False  # from pictures with the concept
    inpaint: bool = False  # … of which half is kept


def conditions_of(config: StressConfig) -> list[Condition]:
    """Those of the chosen groups, in the table's order; relearning, which trains, is none of them."""
    return [one for one in _all(config) if one.group in config.groups]


def _all(config: StressConfig) -> Iterator[Condition]:
    yield Condition(PLAIN, "As it is", "plain")
    for scale in config.scales:
        yield Condition(f"adapter {scale:g}", _scale_words(scale), "adapter", scale=scale)
    yield Condition("int8", "Weights in int8", "int8", within=int8_weights)
    for name in config.samplers:
        within = partial(sampled_by, sampler=name)
        yield Condition(f"sampler {name}", f"Sampler {SAMPLER_NAMES[name]}", "samplers", within=within)
    for scale in config.guidances:
        yield Condition(f"guidance {scale:g}", f"Guidance {scale:g}", "guidance", sampling={"guidance_scale": scale})
    for strength in config.strengths:
        title = f"From a picture with it, {strength:.0%} repainted"
        yield Condition(f"img2img {strength:g}", title, "img2img", sampling={"strength": strength}, start=True)
    for strength in config.inpaint_strengths:
        title = f"Right half filled in, {strength:.0%} repainted"
        sampling = {"strength": strength}
        yield Condition(f"inpaint {strength:g}", title, "inpainting", sampling=sampling, start=True, inpaint=True)


def _scale_words(scale: float) -> str:
    if scale == 0:
        return "Adapter removed"
    return "Adapter negated" if scale == -1 else f"Adapter at {scale:g}"


def left_half(bundle: ModelBundle) -> torch.Tensor:
    """[h, w] bool: what inpainting keeps."""
    _, height, width = bundle.latent_shape
    kept = torch.zeros(height, width, dtype=torch.bool)
    kept[:, : width // 2] = True
    return kept
