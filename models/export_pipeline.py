"""A whole model as it leaves the studio: a diffusers folder, or one file in the original layout. Never pickled.

What is merged into the weights is part of them: unlike a LoRA, nobody can take it off, scale or negate it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from models.bundle import ModelBundle
from models.export_files import UnfitError
from models.families.base import pipeline_of as assembled
from models.loading import DTYPES
from models.original_layout import original_tensors

SHARD = "5GB"  # the largest file of a folder, as the hub advises
WRITTEN = (".json", ".safetensors", ".txt", ".model", ".jinja")  # what a pipeline's folder may hold


def pipeline_of(bundle: ModelBundle) -> DiffusionPipeline:
    """The bundle's parts, themselves and no copies, as the pipeline they came from, without a safety checker."""
    config = dict(bundle.scheduler_config)
    scheduler = getattr(diffusers, config.get("_class_name", "DDIMScheduler"))
    return assembled(bundle, scheduler.from_config(config))


def networks_of(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    """The parts of a pipeline that have weights, by their names."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def pipeline_bytes(pipeline: DiffusionPipeline, dtype: str) -> int:
    """Size of all weights in this precision; one that two parts share counts once."""
    states = (part.state_dict().values() for part in networks_of(pipeline).values())
    counts = {value.data_ptr(): value.numel() for state in states for value in state}
    return sum(counts.values()) * DTYPES[dtype].itemsize


def cast(pipeline: DiffusionPipeline, dtype: str) -> None:
    """Give all weights this precision, in place.

    Raises:
        UnfitError: a weight is too large for it, or was not finite before.
    """
    for name, part in networks_of(pipeline).items():
        part.to(DTYPES[dtype])
        for key, value in part.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise UnfitError(
                    f"{name}'s {key} is not finite in {dtype}: it is too large for that precision, or was broken "
                    "before. Choose float32."
                )


def save_merged(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Write a folder that diffusers' `from_pretrained` and the studio load; large networks in several files."""
    pipeline.save_pretrained(folder, safe_serialization=True, max_shard_size=SHARD)
    _forget_origin(folder)
    _refuse_strange(folder)


def save_single_file(pipeline: DiffusionPipeline, path: Path, metadata: Mapping[str, str]) -> None:
    """Write one file in the original layout, and its configs and tokenizers into a folder of the same name beside it.

    ComfyUI and A1111 need the file alone; diffusers and the studio find its configs there without asking the hub.

    Raises:
        UnfitError: there is no such layout for this model.
    """
    tensors = {key: value.contiguous() for key, value in original_tensors(pipeline).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"format": "pt", **metadata})
    save_configs(pipeline, path.with_suffix(""))


def save_configs(pipeline: DiffusionPipeline, folder: Path) -> None:
    """A pipeline's folder without its weights."""
    pipeline.save_config(folder)
    for name, part in pipeline.components.items():
        if isinstance(part, ModelMixin):
            part.save_config(folder / name)
        elif isinstance(part, PreTrainedModel):
            part.config.save_pretrained(folder / name)
        elif part is not None:
            part.save_pretrained(folder / name)
    _forget_origin(folder)
    _refuse_strange(folder)


def _forget_origin(folder: Path) -> None:
    """Where a part was loaded from is nobody's business: it may be a path that names a person."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(config, dict) and (found := {"_name_or_path", "name_or_path"} & config.keys()):
            kept = {key: value for key, value in config.items() if key not in found}
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_strange(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in WRITTEN:
            raise UnfitError(f"{file.name} would be written, which is neither weights in safetensors nor a config.")
