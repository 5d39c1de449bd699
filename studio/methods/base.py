"""What an unlearning method is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from models.adapters import WeightDelta
from models.bundle import ModelBundle
from studio.progress import Enough, Report, Stopped, silent

__all__ = ["Enough", "Report", "Stopped", "TrainingPairs", "UnlearningMethod", "silent"]


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
    Config: type[Any]  # one of studio.method_configs.METHOD_CONFIGS
    uses_pairs: bool  # False: it is trained on prompts alone
    families: tuple[str, ...]  # that it is defined for
    because: str  # why for no others: "... it changes cross-attention, which they do not have"; "" where for all

    def changes(self, bundle: ModelBundle, config: Any) -> list[str]:
        """Names of the parameters that `fit` may change, in the network that its delta names; all others stay bit for
        bit."""
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
