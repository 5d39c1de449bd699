"""What an unlearning method is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from models.adapters import WeightDelta
from models.bundle import ModelBundle
from models.specs import FamilyName
from studio.progress import Enough, Report, Stopped, silent

__all__ = [
    "ALL_FAMILIES",
    "GUIDED",
    "UNETS",
    "Enough",
    "Report",
    "Stopped",
    "TrainingPairs",
    "UnlearningMethod",
    "silent",
]

# Where a second pass under the empty prompt belongs to drawing.
GUIDED: tuple[FamilyName, ...] = ("sd1", "sd2", "sdxl", "sd3")
DISTILLED = "a pass under the empty prompt, without which a network that is distilled on its guidance draws"
ALL_FAMILIES: tuple[FamilyName, ...] = ("sd1", "sd2", "sdxl", "sd3", "flux")
UNETS: tuple[FamilyName, ...] = ("sd1", "sd2", "sdxl")
NO_CROSS_ATTENTION = "cross-attention, which a transformer over picture and text together does not have"


@dataclass(frozen=True)
class TrainingPairs:
    """The accepted pairs: latents [N, C, h, w] as the UNet sees them (scaled), prompts [N].

    `unsafe_prompts` is what prompt-based baselines train on; DUO itself needs the latents alone.
    """

    unsafe_latents: torch.Tensor
    safe_latents: torch.Tensor
    unsafe_prompts: list[str] = field(default_factory=list)
    safe_prompts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return int(self.unsafe_latents.shape[0])


class UnlearningMethod(Protocol):
    """One published way to make a model forget. One file each; registered in `studio.methods.METHODS`."""

    name: str  # "duo"
    title: str  # "DUO"
    paper: str  # citation with year and link
    Config: type[Any]  # one of studio.configs.METHOD_CONFIGS
    uses_pairs: bool  # False: it is trained on prompts alone
    families: tuple[FamilyName, ...]  # that it is defined for
    because: str  # why for no others: "... it changes cross-attention, which they do not have"; "" where for all

    def changes(self, bundle: ModelBundle, config: Any) -> list[str]:
        """Names of the UNet's parameters that `fit` may change; all others stay bit for bit."""
        ...

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: Any,  # an instance of Config
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train and return the delta. The bundle comes back as it was.

        With `state_folder`, the state (weights, optimizer, random generator, step) is saved there every
        `config.save_every` steps and on a stop, and a state found there is resumed.
        """
        ...
