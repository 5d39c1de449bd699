"""Checkpoints that are one `.safetensors` file in the original layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError, infer_diffusers_model_type
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open

from models.families import FAMILIES, get_family
from models.families.base import Family
from models.specs import LoadError

CONFIGS = Path(__file__).resolve().parent / "configs"  # one folder a kind of checkpoint, without weights

# diffusers' name of a kind of checkpoint -> our family
KINDS = {
    "v1": "sd1",
    "v2": "sd2",
    "xl_base": "sdxl",
    "playground-v2-5": "sdxl",
    "sd3": "sd3",
    "sd35_large": "sd3",
    "sd35_medium": "sd3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
}

Loader = Callable[[torch.dtype], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]


def read_single_file(path: Path) -> tuple[Family, Loader]:
    """What family a file is of, and what loads it: parts, the scheduler's configuration, the pipeline's options.

    Its configurations come from a pipeline folder of the same name beside it, else from those that the studio ships,
    else from the hub.

    Raises:
        LoadError: the file is missing, damaged, or of no family that is supported.
    """
    kind = kind_of(path)
    beside = path.with_suffix("") / "model_index.json"
    if beside.is_file():
        index = json.loads(beside.read_text(encoding="utf-8"))
        own = next((family for family in FAMILIES if family.pipeline.__name__ == index.get("_class_name")), None)
        if own is not None:
            return own, lambda dtype: _load(path, kind, own, dtype)
    if kind not in KINDS:
        raise LoadError(
            f"{path} is a checkpoint of the kind {kind!r}, which is not supported as one file. "
            f"Use one of {', '.join(KINDS)}, or a diffusers folder."
        )
    family = get_family(KINDS[kind])
    return family, lambda dtype: _load(path, kind, family, dtype)


def kind_of(path: Path) -> str:
    """diffusers' name for what a file holds, told from the names and shapes in its header alone. Raises LoadError."""
    if not path.is_file():
        raise LoadError(f"{path} does not exist. Check the path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise LoadError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error
    return str(infer_diffusers_model_type({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}))


def _load(
    path: Path, kind: str, family: Family, dtype: torch.dtype
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    folders = [path.with_suffix(""), CONFIGS / kind]
    config = next((folder for folder in folders if (folder / "model_index.json").is_file()), None)
    options: dict[str, Any] = {"config": str(config), "local_files_only": True} if config else {}
    if family.name in ("sd1", "sd2"):
        options |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        pipeline = family.pipeline.from_single_file(str(path), torch_dtype=dtype, **options)
    except (OSError, ValueError, RuntimeError, KeyError, SingleFileComponentError, HfHubHTTPError) as error:
        hint = (
            f"Is it the checkpoint that the configs in {config} belong to?"
            if config
            else f"A single file carries no configs: put a pipeline folder's configs and tokenizers in {folders[0]} "
            "(model_index.json and subfolders, no weights needed), or connect to the Hugging Face hub."
        )
        raise LoadError(f"{path} cannot be loaded as {family.title}: {error}. {hint}") from error
    names = ("vae", family.denoiser, *family.text_encoders, *family.tokenizers)
    kept = {key: value for key, value in pipeline.config.items() if key == "force_zeros_for_empty_prompt"}
    return {name: getattr(pipeline, name) for name in names}, dict(pipeline.scheduler.config), kept
