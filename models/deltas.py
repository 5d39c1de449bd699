"""Changes of a network as small safetensors files: save, load, hash. Never unpickles.

In memory keys are relative to the network; files carry the pipeline's name of it (``unet.``, ``transformer.`` or
``text_encoder.``) before them, which makes a LoRA file one that diffusers' ``load_lora_weights`` reads, with rank and
alpha in the header. Equal deltas give equal files.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.files import write_atomically
from models.specs import LoadError

PARTS = ("unet", "transformer", "text_encoder")
_DIFFUSERS_KEY = "lora_adapter_metadata"  # where diffusers looks for alpha and rank


@dataclass(frozen=True)
class WeightDelta:
    """A change of a network.

    "lora": pairs ``<module>.lora_A.weight`` [r, in, …] and ``<module>.lora_B.weight`` [out, r, …], with "rank", "alpha"
    and "targets" in the metadata. "weights": ``<parameter>`` to its difference, new minus original. All float32, CPU.
    """

    kind: Literal["lora", "weights"]
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """The pipeline's name of the network that is changed: "unet" | "transformer" | "text_encoder"."""
        return self.metadata.get("part", PARTS[0])


@dataclass(frozen=True)
class Replaced:
    """The values that some weights of a network had before a delta was added to them."""

    part: str  # the pipeline's name of the network
    weights: dict[str, torch.Tensor]


def part_metadata(part: str) -> dict[str, str]:
    """What a delta's metadata say of the network that it changes; nothing of a UNet."""
    return {} if part == PARTS[0] else {"part": part}


def weight_changes(delta: WeightDelta) -> dict[str, torch.Tensor]:
    """Parameter name to what a delta adds to it at scale 1, float32; of a LoRA alpha / r * B A in its shape."""
    if delta.kind == "weights":
        return delta.tensors
    factor = float(delta.metadata["alpha"]) / int(delta.metadata["rank"])
    changes = {}
    for key, down in delta.tensors.items():
        if key.endswith(".lora_A.weight"):  # of a Linear or a Conv2d
            module = key.removesuffix(".lora_A.weight")
            up = delta.tensors[f"{module}.lora_B.weight"]
            changes[f"{module}.weight"] = factor * (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])
    return changes


def save_delta(delta: WeightDelta, path: Path) -> str:
    """Write a delta as safetensors, atomically; returns the file's SHA-256. Equal deltas give equal files."""
    data = delta_file(delta)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def delta_file(delta: WeightDelta) -> bytes:
    """The bytes of a delta's file."""
    metadata = {"format": "pt", **delta.metadata, "kind": delta.kind}
    if delta.kind == "lora":
        metadata[_DIFFUSERS_KEY] = json.dumps(
            {
                f"{delta.part}.r": int(delta.metadata["rank"]),
                f"{delta.part}.lora_alpha": float(delta.metadata["alpha"]),
                f"{delta.part}.target_modules": json.loads(delta.metadata["targets"]),
            },
            sort_keys=True,
        )
    return to_safetensors({f"{delta.part}.{key}": value for key, value in delta.tensors.items()}, metadata)


def to_safetensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file. The library writes the header's metadata in random order; here it is sorted."""
    data = save({key: value.contiguous() for key, value in tensors.items()}, metadata)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def load_delta(path: Path) -> WeightDelta:
    """Read a delta: one of ours, or a LoRA in diffusers' format from elsewhere (alpha = rank if it names none).

    Raises:
        LoadError: the file is missing, pickled, damaged, not a delta, or holds values that are not finite.
    """
    if not path.is_file():
        raise LoadError(f"The adapter {path} does not exist. Check the path, or train again.")
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: the header's length in 8 bytes, then JSON
    if start[8:] != b"{":
        pickled = start[:1] == b"\x80" or start[:2] == b"PK"
        cause = "a pickled file, which can run code when it is opened, so it is never read" if pickled else "damaged"
        raise LoadError(f"{path} is no safetensors file but {cause}. Get the adapter as .safetensors.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise LoadError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error
    return _checked(path, tensors, metadata)


def _checked(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> WeightDelta:
    part = next(iter(tensors), "").partition(".")[0]
    if part not in PARTS or not all(key.startswith(f"{part}.") for key in tensors):
        odd = next((key for key in tensors if not key.startswith(f"{part}.") or part not in PARTS), "nothing")
        raise LoadError(
            f"{path} is no change of one network alone: it holds {odd}. Choose an adapter whose keys all "
            f"begin with {' or with '.join(f'{one}.' for one in PARTS)}"
        )
    metadata |= part_metadata(part)
    tensors = {key.removeprefix(f"{part}."): value for key, value in sorted(tensors.items())}
    if broken := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise LoadError(
            f"{path} holds values that are not finite in {broken[0]}. Train again at a lower learning rate."
        )
    downs = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    ups = {key.removesuffix(".lora_B.weight") for key in tensors if key.endswith(".lora_B.weight")}
    kind = metadata.pop("kind", "lora" if downs else "")
    foreign = metadata.pop(_DIFFUSERS_KEY, "{}")
    metadata.pop("format", None)
    if kind == "weights":
        return WeightDelta("weights", tensors, metadata)
    if kind != "lora" or downs != ups or 2 * len(downs) != len(tensors):
        raise LoadError(
            f"{path} is neither a LoRA with A and B for every layer nor edited weights. Choose another file."
        )
    ranks = {len(tensors[f"{layer}.lora_A.weight"]) for layer in downs}
    metadata.setdefault("targets", json.dumps(sorted(downs)))
    return WeightDelta("lora", tensors, {**metadata, **_scaling(path, ranks, metadata, foreign, part)})


def _scaling(path: Path, ranks: set[int], metadata: dict[str, str], foreign: str, part: str) -> dict[str, str]:
    """Rank and alpha of a LoRA whose layers have these ranks: as we write them, else as diffusers does (JSON)."""
    try:
        said = json.loads(foreign)
        rank = int(metadata.get("rank") or said.get(f"{part}.r") or min(ranks))
        alpha = float(metadata.get("alpha") or said.get(f"{part}.lora_alpha") or rank)
        if ranks != {rank} or not math.isfinite(alpha):
            raise ValueError(f"rank {rank} and alpha {alpha} with layers of rank {', '.join(map(str, sorted(ranks)))}")
    except (ValueError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{path} says no rank and alpha that can be used: {error}. Use a LoRA of one rank with its metadata."
        ) from error
    return {"rank": str(rank), "alpha": str(alpha)}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_sha256(path: Path, expected: str | None) -> str:
    """The SHA-256 of an adapter's file as it is now; `expected` is what it was when it was saved, None if not known.

    Raises:
        LoadError: the file is missing, or is not the expected one.
    """
    if not path.is_file():
        raise LoadError(f"The adapter {path} does not exist. Restore the file or train again.")
    found = file_sha256(path)
    if expected not in (None, found):
        raise LoadError(
            f"The adapter {path} has the SHA-256 {found}, but was saved with {expected}: the file was changed or "
            "replaced. No picture is drawn with it; restore the file or train again."
        )
    return found
