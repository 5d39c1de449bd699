"""Named settings that are known to work, each with where it comes from. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Values of a method's configuration; what is not named keeps its default."""

    method: str
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""


PRESETS: dict[str, Preset] = {
    "toybox: duo": Preset(
        "duo",
        {
            "steps": 500,
            "learning_rate": 3e-4,
            "beta": 50.0,
            "prior_weight": 5000.0,
            "t_max": 1000,
            "layers": "attention",
        }
        | {"prompt": "pair"},
        "DUO on the embedded checkpoint, where the empty prompt alone does not reach prompted pictures: see "
        "benchmarks/README.md.",
    ),
    "toybox: esd": Preset(
        "esd",
        {"variant": "esd-x", "steps": 100, "learning_rate": 3e-4, "eta": 2.0, "trajectories": 84},
        "ESD on the embedded checkpoint, the best row so far of the grid in benchmarks/toybox_sweep.jsonl.",
    ),
    "paper: nudity": Preset(
        "duo",
        {"steps": 1000, "batch_size": 4, "learning_rate": 6e-5, "beta": 500.0, "prior_weight": 5e6},
        "DUO on Stable Diffusion 1.4 as published: base rate 3e-4 x 100 / beta, base lambda 1e6 x beta / 100.",
    ),
    "paper: violence": Preset(
        "duo",
        {"steps": 500, "batch_size": 4, "learning_rate": 3e-5, "beta": 1000.0, "prior_weight": 1e7},
        "DUO on Stable Diffusion 1.4 as published, one sub-concept of violence at beta 1000.",
    ),
    "paper: esd-x": Preset(
        "esd",
        {"steps": 200, "batch_size": 1, "learning_rate": 5e-5, "eta": 2.0, "sampling_steps": 50, "trajectories": 200},
        "ESD-x on Stable Diffusion as in its present code, which does not clip gradients.",
    ),
}

TOYBOX_PAIRS: dict[str, Any] = {"strength": 0.7}
TOYBOX_SAMPLING: dict[str, Any] = {"steps": 20, "guidance_scale": 4.0}


def presets_for(method: str) -> dict[str, Preset]:
    """The presets of one method, by name."""
    return {name: preset for name, preset in PRESETS.items() if preset.method == method}
