"""Where the keys of another program's file belong: prefixes, places that two keys may not share, keys without one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from models.bundle import ModelBundle
from models.specs import LoadError

NAMED = 5  # keys that an error names
PREFIXES = ("base_model.model.", "unet.", "transformer.", "module.")

Tensors = dict[str, torch.Tensor]


class UnchangedError(LoadError):
    """Weights that are the checkpoint's own."""


class Places:
    """Tensors by where they belong. Two keys have one place only if they hold the same, as far as that is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: Tensors = {}
        self._keys: dict[str, str] = {}

    def put(self, place: str, key: str, value: torch.Tensor) -> None:
        """Raises LoadError."""
        first, before = self._keys.setdefault(place, key), self.tensors.setdefault(place, value)
        same = before is value or (
            before.shape == value.shape and (value.is_meta or torch.equal(before.float(), value.float()))
        )
        if not same:
            raise LoadError(
                f"{self.path} holds {place} twice, as {first} and as {key}, and they differ. Take the wrong one out, "
                "or get a copy that holds it once."
            )


def without_prefix(key: str, known: Iterable[str]) -> str:
    for prefix in PREFIXES:
        if key.startswith(prefix) and key.removeprefix(prefix) in known:
            return key.removeprefix(prefix)
    return key


def refuse_strange(keys: Iterable[str], total: int, path: Path, bundle: ModelBundle) -> None:
    strange = sorted(keys)
    if not strange:
        return
    more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
    text = [key for key in strange if key.startswith(("lora_te", "text_encoder", "cond_stage_model"))]
    hint = (
        "Of a text encoder the studio reads whole weights, and no LoRA."
        if text
        else "Load it in a project about the checkpoint that it was made from."
    )
    raise LoadError(
        f"{len(strange)} of the {total} keys of {path} have no place in {bundle.spec.name}: "
        f"{', '.join(strange[:NAMED])}{more}. {hint}"
    )
