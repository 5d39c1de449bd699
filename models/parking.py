"""Where networks wait that a training does not need: beside the device, or in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn


class Parking(Protocol):
    """Takes networks out of the way and brings them back as they were."""

    def park(self) -> None: ...
    def fetch(self) -> None: ...


class OffTheDevice:
    """Networks wait in the machine's memory."""

    def __init__(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        self.networks, self.device = networks, device

    def park(self) -> None:
        for network in self.networks:
            network.to("cpu")

    def fetch(self) -> None:
        for network in self.networks:
            network.to(self.device)


class InAFile:
    """Networks' parameters wait in a temporary file, which is written once: they do not change."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def park(self) -> None:
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="duo-studio-")
            for number, network in enumerate(self.networks):
                save_file({name: value.detach() for name, value in network.named_parameters()}, self._file(number))
        for network in self.networks:
            for parameter in network.parameters():
                parameter.data = parameter.data.new_empty(0)

    def fetch(self) -> None:
        for number, network in enumerate(self.networks):
            kept = load_file(self._file(number))
            for name, parameter in network.named_parameters():
                parameter.data = kept[name]

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return Path(self.folder.name) / f"{number}.safetensors"
