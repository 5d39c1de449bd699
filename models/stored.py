"""How many weights a checkpoint has and how precise they are, from the headers of its files alone. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    pipeline: str = ""  # diffusers' class; "" where that is not told, as by a single file


def stored_weights(reference: str, toybox: Path) -> Stored | None:
    """What the studio loads of a checkpoint; None where it is not on this machine or cannot be read."""
    try:
        parsed = parse_reference(reference)
        if parsed.kind == "file":
            return _stored([Path(parsed.location)], "")
        if (folder := pipeline_folder(parsed, toybox)) is None:
            return None
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        return _stored(list(_files(folder, index, parsed)), str(index.get("_class_name", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def delta_weights(path: Path) -> tuple[int, dict[str, str]] | None:
    """How many weights an adapter's file has, and its metadata; None where it cannot be read."""
    try:
        header = _header(path)
        metadata = header.pop("__metadata__", {})
        return sum(math.prod(tensor["shape"]) for tensor in header.values()), dict(metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stored(files: list[Path], pipeline: str) -> Stored | None:
    tensors = [tensor for file in files for name, tensor in _header(file).items() if name != "__metadata__"]
    if not tensors:
        return None
    dtypes = frozenset(_NAMES.get(tensor["dtype"], tensor["dtype"]) for tensor in tensors)
    return Stored(sum(math.prod(tensor["shape"]) for tensor in tensors), dtypes, pipeline)


def part_weights(reference: Reference, folder: Path) -> dict[str, int]:
    """Numbers of weights of a pipeline's parts by their names, of those whose files are there."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    counts: dict[str, int] = {}
    for name in index:
        found = _stored(list(_files(folder, {name: index[name]}, reference)), "")
        counts |= {name: found.count} if found else {}
    return counts


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    return [name for name in _header(file) if name != "__metadata__"]


def pipeline_folder(reference: Reference, toybox: Path) -> Path | None:
    """Where a pipeline lies; None for one on the hub that was not downloaded."""
    if reference.kind != "hub":
        return toybox if reference.kind == "toybox" else Path(reference.location)
    index = try_to_load_from_cache(reference.location, "model_index.json", revision=reference.revision)
    return Path(index).parent if isinstance(index, str) else None


def _files(folder: Path, index: dict[str, Any], reference: Reference) -> Iterator[Path]:
    for name, part in sorted(index.items()):
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


def _header(file: Path) -> dict[str, Any]:
    """A safetensors file's header: tensors and "__metadata__"."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= _HEADER_LIMIT:
            raise ValueError(f"{file} is no safetensors file.")
        return dict(json.loads(opened.read(length)))
