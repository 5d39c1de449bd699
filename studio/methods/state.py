"""A training's saved state: one safetensors file with weights, optimizer, generator and step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from models.deltas import to_safetensors
from models.files import write_atomically

STATE_FILE = "state.safetensors"


class TrainingError(RuntimeError):
    """Training that cannot start or go on. Says the cause, the value and the remedy."""


class UntrainableError(TrainingError):
    """Settings that this method, checkpoint or set of pairs can never be trained with."""


class TrainingState:
    """Weights, optimizer, generator and step of a run in one safetensors file."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run  # identifies method and configuration

    def save(
        self,
        step: int,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        tensors = {"generator": generator.get_state()}
        for index, parameter in enumerate(parameters):
            tensors[f"weight.{index}"] = parameter.detach().cpu()
            for name, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu()
        write_atomically(self.path, to_safetensors(tensors, {"step": str(step), "run": self.run}))

    @torch.no_grad()
    def load(
        self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> int:
        """Put the saved run back in place, if there is one; returns the steps already done."""
        if not self.path.is_file():
            return 0
        remedy = f"Delete {self.path} to train from the start, or give this run a folder of its own."
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                metadata = file.metadata() or {}
                if metadata.get("run") != self.run:
                    raise TrainingError(f"{self.path} is the state of another method or configuration. {remedy}")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise TrainingError(f"{self.path} is damaged ({error}). {remedy}") from error
        optimizer_state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                optimizer_state.setdefault(int(index), {})[name] = value
        for index, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"weight.{index}"])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": optimizer_state})
        generator.set_state(tensors["generator"])
        return int(metadata["step"])
