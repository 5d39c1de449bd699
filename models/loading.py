"""The only place that reads a checkpoint from disk or from the hub. Never unpickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import CLIPTextModel, CLIPTokenizer

from models.bundle import ModelBundle
from models.specs import KNOWN_MODELS, LoadError, ModelSpec, Reference, parse_reference

__all__ = ["LoadError", "load_bundle", "resolve_device"]

TOYBOX_WEIGHTS = Path(__file__).resolve().parent / "toybox" / "weights"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_bundle(
    reference: str, *, device: str = "auto", toybox: Path | None = None, dtype: str | None = None
) -> ModelBundle:
    """Load a checkpoint, frozen and in evaluation mode.

    Args:
        reference: see `models.specs`.
        device: "auto" (cuda, else mps, else cpu), or one of them.
        toybox: the folder of the embedded checkpoint, where it is not the one in this repository.
        dtype: "float32", "float16" or "bfloat16". None is float32 on every device, so that a seed means the same
            picture everywhere; half precision is for large models on a GPU.

    Raises:
        LoadError: the checkpoint is missing, pickled, of another family, or the hub cannot be reached.
    """
    if dtype is not None and dtype not in DTYPES:
        raise LoadError(f"dtype is {dtype!r}; use {', '.join(DTYPES)}.")
    name = dtype or "float32"
    parsed = parse_reference(reference)
    if parsed.kind == "file":
        parts, scheduler = _read_single_file(Path(parsed.location), DTYPES[name])
    elif parsed.kind == "hub":
        parts, scheduler = _read_hub(parsed, DTYPES[name])
    else:
        folder = (toybox or TOYBOX_WEIGHTS) if parsed.kind == "toybox" else Path(parsed.location)
        parts, scheduler = _read_folder(parsed, folder, DTYPES[name])
    known = KNOWN_MODELS.get(parsed.location)
    return ModelBundle(
        **parts,
        scheduler_config=scheduler,
        spec=ModelSpec(
            name=known.name if known else _title(parsed),
            checkpoint=parsed.location if parsed.kind == "hub" else parsed.text,
            revision=parsed.revision,
            family="sd1",
            resolution=_resolution(parts["unet"], parts["vae"]),
            dtype=name,
        ),
        device=resolve_device(device),
        dtype=DTYPES[name],
    )


def resolve_device(device: str = "auto") -> torch.device:
    """The best device here for "auto"; any other name is checked.

    Raises:
        LoadError: the device is not on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    kind = device.split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(name for name, there in available.items() if there)
        raise LoadError(f"device {device!r} is not available here; use auto or {usable}.")
    return torch.device(device)


def _title(reference: Reference) -> str:
    if reference.kind == "toybox":
        return "Toybox" if reference.unet == "unet" else "Toybox oracle (never saw the concept)"
    return reference.location if reference.kind == "hub" else Path(reference.location).stem


def _resolution(unet: UNet2DConditionModel, vae: AutoencoderKL) -> int:
    size = unet.config.sample_size
    return int(size if isinstance(size, int) else size[0]) * 2 ** (len(vae.config.block_out_channels) - 1)


def _check_family(index: dict[str, Any], where: str) -> None:
    found = index.get("_class_name")
    if found != "StableDiffusionPipeline":
        raise LoadError(
            f"{where} is a {found or 'folder without pipeline class'}, which is not supported: the studio works on "
            "StableDiffusionPipeline (Stable Diffusion 1 and 2). Choose such a checkpoint."
        )


def _read_folder(reference: Reference, folder: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    if not folder.is_dir():
        raise LoadError(f"{folder} is not a folder. Check the path, or use owner/name@revision for the hub.")
    index = folder / "model_index.json"
    if not index.is_file():
        raise LoadError(
            f"{folder} has no model_index.json: it is no diffusers pipeline. Save one with save_pretrained."
        )
    _check_family(json.loads(index.read_text(encoding="utf-8")), str(folder))
    for part in ("vae", "text_encoder", reference.unet):
        if not any((folder / part).glob("*.safetensors")):
            pickled = sorted(path.name for path in (folder / part).glob("*") if path.suffix in (".bin", ".pt", ".ckpt"))
            cause = f"only pickled weights ({pickled[0]}), which can run code when opened" if pickled else "no weights"
            raise LoadError(f"{folder / part} has {cause}. Save it with safe_serialization=True (.safetensors).")
    try:
        return _read_parts(str(folder), reference.unet, dtype, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise LoadError(f"{folder} cannot be read: {error}. Copy or save the folder again.") from error


def _read_hub(reference: Reference, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    where = f"{reference.location}@{reference.revision}"
    try:
        index = hf_hub_download(reference.location, "model_index.json", revision=reference.revision)
        _check_family(json.loads(Path(index).read_text(encoding="utf-8")), where)
        return _read_parts(reference.location, reference.unet, dtype, revision=reference.revision)
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise LoadError(
            f"{where} cannot be loaded from the Hugging Face hub: {error} Check the name and the revision, that it "
            "has .safetensors weights, and the connection; offline, give a folder instead (or use toybox)."
        ) from error


def _read_parts(source: str, unet: str, dtype: torch.dtype, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    weights = {"use_safetensors": True, "torch_dtype": dtype, **options}
    parts = {
        "vae": AutoencoderKL.from_pretrained(source, subfolder="vae", **weights),
        "text_encoder": CLIPTextModel.from_pretrained(
            source, subfolder="text_encoder", use_safetensors=True, dtype=dtype, **options
        ),
        "tokenizer": CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", **options),
        "unet": UNet2DConditionModel.from_pretrained(source, subfolder=unet, **weights),
    }
    config, _ = DDIMScheduler.load_config(source, subfolder="scheduler", return_unused_kwargs=True, **options)
    return parts, dict(config)


def _read_single_file(path: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """One original-layout file. Its configs come from a pipeline folder of the same name beside it, else the hub."""
    if not path.is_file():
        raise LoadError(f"{path} does not exist. Check the path.")
    beside = path.with_suffix("")
    local = (beside / "model_index.json").is_file()
    options: dict[str, Any] = {"config": str(beside), "local_files_only": True} if local else {}
    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(path), torch_dtype=dtype, safety_checker=None, requires_safety_checker=False, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, SingleFileComponentError, HfHubHTTPError) as error:
        hint = (
            f"Is it the checkpoint that the configs in {beside} belong to?"
            if local
            else f"A single file carries no configs: put a pipeline folder's configs and tokenizer in {beside} "
            "(model_index.json and subfolders, no weights needed), or connect to the Hugging Face hub."
        )
        raise LoadError(f"{path} cannot be loaded as Stable Diffusion: {error}. {hint}") from error
    parts = {name: getattr(pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    return parts, dict(pipeline.scheduler.config)
