"""How many weights a checkpoint has and how precise they are, from the headers of its files alone. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from models.specs import Reference, parse_reference

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_LEFT_OUT = ("safety_checker", "image_encoder", "feature_extractor")  # parts that the studio does not load
_HEADER_LIMIT = 100_000_000  # bytes, as safetensors itself has it


@dataclass(frozen=True)
class Stored:
    """The weights of a checkpoint as they lie on the disk."""

    count: int
    dtypes: frozenset[str]  # "float32" … by torch's names; others by safetensors' own


def stored_weights(reference: str, toybox: Path) -> Stored | None:
    """What the studio loads of a checkpoint; None where it is not on this machine or cannot be read."""
    try:
        files = list(_files(parse_reference(reference), toybox))
        sizes = [size for file in files for size in _tensors(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not sizes:
        return None
    return Stored(sum(count for count, _ in sizes), frozenset(dtype for _, dtype in sizes))


def file_weights(path: Path) -> int | None:
    """How many weights one safetensors file has; None where it is none."""
    try:
        return sum(count for count, _ in _tensors(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _files(reference: Reference, toybox: Path) -> Iterator[Path]:
    if reference.kind == "file":
        yield Path(reference.location)
        return
    folder = toybox if reference.kind == "toybox" else Path(reference.location)
    if reference.kind == "hub":
        index = try_to_load_from_cache(reference.location, "model_index.json", revision=reference.revision)
        if not isinstance(index, str):
            return
        folder = Path(index).parent
    parts = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for name, part in sorted(parts.items()):
        if isinstance(part, list) and part[0] is not None and name not in _LEFT_OUT:
            place = reference.unet if reference.unet and name == "unet" else name
            yield from _of_one_variant(sorted((folder / place).glob("*.safetensors")), reference.variant)


def _of_one_variant(files: list[Path], wanted: str | None) -> list[Path]:
    """A part may be there in several precisions, named model.safetensors and model.fp16.safetensors."""
    variants: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name.removesuffix(".safetensors").split("-000")[0]
        variants.setdefault(stem.partition(".")[2], []).append(file)
    return variants.get(wanted or "") or next(iter(variants.values()), [])


def _tensors(file: Path) -> Iterator[tuple[int, str]]:
    """(elements, dtype) of each tensor of a safetensors file."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= _HEADER_LIMIT:
            raise ValueError(f"{file} is no safetensors file.")
        header = json.loads(opened.read(length))
    for name, tensor in header.items():
        if name != "__metadata__":
            yield math.prod(tensor["shape"]), _NAMES.get(tensor["dtype"], tensor["dtype"])
