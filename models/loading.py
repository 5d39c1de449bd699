"""The only place that reads a checkpoint from disk or from the hub. Never unpickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from models.bundle import ModelBundle
from models.families import FAMILIES, get_family
from models.families.base import Family
from models.single_file import read_single_file
from models.specs import KNOWN_MODELS, LoadError, ModelSpec, Reference, parse_reference

__all__ = ["LoadError", "load_bundle", "resolve_device"]

TOYBOX_WEIGHTS = Path(__file__).resolve().parent / "toybox" / "weights"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PIPELINE_OPTIONS = ("force_zeros_for_empty_prompt",)  # of model_index.json, that change what is drawn
_SD2_WIDTH = 1024  # of OpenCLIP's text embeddings


def load_bundle(
    reference: str,
    *,
    device: str = "auto",
    toybox: Path | None = None,
    dtype: str = "auto",
    resolution: int = 0,
    waits: bool = False,
) -> ModelBundle:
    """Load a checkpoint, frozen and in evaluation mode.

    Args:
        reference: see `models.specs`.
        device: "auto" (cuda, else mps, else cpu), or one of them.
        toybox: the folder of the embedded checkpoint, where it is not the one in this repository.
        dtype: "float32", "float16", "bfloat16" or "auto": bfloat16 for the large families (XL, 3, FLUX) on CUDA, else
            float32, so that a seed means the same picture everywhere.
        resolution: pixels along one side of a picture; 0 is the checkpoint's own.
        waits: the network that is trained stays in the machine's memory, to be dealt out to several processes.

    Raises:
        LoadError: the checkpoint is missing, pickled, of another family, or the hub cannot be reached; or a resolution
            that the family cannot draw.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise LoadError(f"dtype is {dtype!r}; use auto, {', '.join(DTYPES)}.")
    parsed = parse_reference(reference)
    on = resolve_device(device)
    note = ""
    if parsed.kind == "file":
        file = read_single_file(Path(parsed.location), parsed.prediction)
        note, name = file.note, dtype_for(file.family, dtype, on)
        parts, scheduler, options = file.load(DTYPES[name])
        family = _settled(file.family, parts)
    elif parsed.kind == "hub":
        family, name, parts, scheduler, options = _read_hub(parsed, dtype, on)
    else:
        folder = (toybox or TOYBOX_WEIGHTS) if parsed.kind == "toybox" else Path(parsed.location)
        family, name, parts, scheduler, options = _read_folder(parsed, folder, dtype, on)
    known = KNOWN_MODELS.get(parsed.location)
    return ModelBundle(
        vae=parts["vae"],
        text_encoders=tuple(parts[encoder] for encoder in family.text_encoders),
        tokenizers=tuple(parts[tokenizer] for tokenizer in family.tokenizers),
        denoiser=parts[family.denoiser],
        scheduler_config=scheduler,
        spec=ModelSpec(
            name=known.name if known else _title(parsed),
            checkpoint=_again(parsed),
            revision=parsed.revision,
            family=family.name,
            resolution=_resolution(resolution, family, parts),
            dtype=name,
            note=note,
        ),
        device=on,
        dtype=DTYPES[name],
        pipeline_options=options,
        waits=waits,
    )


def dtype_for(family: Family, dtype: str, device: torch.device) -> str:
    """The dtype that "auto" means for a family on a device; any other stays."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device.type == "cuda" and family.name in ("sdxl", "sd3", "flux") else "float32"


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
        return "Toybox oracle (never saw the concept)" if reference.unet else "Toybox"
    return reference.location if reference.kind == "hub" else Path(reference.location).stem


def _again(reference: Reference) -> str:
    """The reference that loads it again, without its revision."""
    if reference.kind != "hub":
        return reference.text
    return reference.location + (f"#{reference.variant}" if reference.variant else "")


def _resolution(wanted: int, family: Family, parts: dict[str, Any]) -> int:
    pixels = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    step = pixels * (2 if family.denoiser == "transformer" else 1)  # transformers see patches of 2 x 2 latents
    if wanted % step:
        raise LoadError(f"{wanted} pixels cannot be drawn by {family.title}; use a multiple of {step}.")
    return wanted or family.native_side(parts[family.denoiser]) * pixels


def _family_of(index: dict[str, Any], where: str) -> Family:
    """By the pipeline's class; whether it is Stable Diffusion 1 or 2 is told from the weights later."""
    found = index.get("_class_name")
    for family in FAMILIES:
        if family.pipeline.__name__ == found:
            return family
    supported = ", ".join(dict.fromkeys(family.pipeline.__name__ for family in FAMILIES))
    raise LoadError(
        f"{where} is a {found or 'folder without pipeline class'}, which is not supported. Choose a checkpoint of "
        f"one of these: {supported}."
    )


def _settled(family: Family, parts: dict[str, Any]) -> Family:
    """Stable Diffusion 2 where the text embeddings are as wide as its are."""
    second = family.name == "sd1" and parts["unet"].config.cross_attention_dim == _SD2_WIDTH
    return get_family("sd2") if second else family


Read = tuple[Family, str, dict[str, Any], dict[str, Any], dict[str, Any]]  # family, dtype, parts, scheduler, options


def _read_folder(reference: Reference, folder: Path, dtype: str, device: torch.device) -> Read:
    if not folder.is_dir():
        raise LoadError(f"{folder} is not a folder. Check the path, or use owner/name@revision for the hub.")
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise LoadError(
            f"{folder} has no model_index.json: it is no diffusers pipeline. Save one with save_pretrained."
        )
    index = json.loads(index_file.read_text(encoding="utf-8"))
    family = _family_of(index, str(folder))
    variants = set()
    for part in _weighty(family, index, reference):
        variants.add(_variant_of(folder / part))
    variant = next(iter(variants)) if len(variants) == 1 else None
    name = dtype_for(family, dtype, device)
    try:
        parts, scheduler = _read_parts(
            str(folder), family, index, reference, DTYPES[name], variant, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise LoadError(f"{folder} cannot be read: {error}. Copy or save the folder again.") from error
    return _settled(family, parts), name, parts, scheduler, _options(index)


def _weighty(family: Family, index: dict[str, Any], reference: Reference) -> list[str]:
    """Subfolders that must hold weights."""
    encoders = [name for name in family.text_encoders if not _absent(family, index, name)]
    return ["vae", *encoders, reference.unet or family.denoiser]


def _absent(family: Family, index: dict[str, Any], name: str) -> bool:
    return name in family.optional and (index.get(name) or [None])[0] is None


def _variant_of(part: Path) -> str | None:
    """The variant that a subfolder's weights have in their names, None for the plain ones. Raises LoadError."""
    files = sorted(path.name for path in part.glob("*.safetensors"))
    plain = [name for name in files if name.removesuffix(".safetensors").split("-000")[0].count(".") == 0]
    if plain:
        return None
    if files:
        return files[0].removesuffix(".safetensors").split("-000")[0].rpartition(".")[2]
    pickled = sorted(path.name for path in part.glob("*") if path.suffix in (".bin", ".pt", ".ckpt"))
    cause = f"only pickled weights ({pickled[0]}), which can run code when opened" if pickled else "no weights"
    raise LoadError(f"{part} has {cause}. Save it with safe_serialization=True (.safetensors).")


def _read_hub(reference: Reference, dtype: str, device: torch.device) -> Read:
    where = f"{reference.location}@{reference.revision}"
    try:
        index_file = hf_hub_download(reference.location, "model_index.json", revision=reference.revision)
        index = json.loads(Path(index_file).read_text(encoding="utf-8"))
        family = _family_of(index, where)
        name = dtype_for(family, dtype, device)
        parts, scheduler = _read_parts(
            reference.location,
            family,
            index,
            reference,
            DTYPES[name],
            reference.variant,
            revision=reference.revision,
        )
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise LoadError(
            f"{where} cannot be loaded from the Hugging Face hub: {error} Check the name, revision and variant, "
            "that it has .safetensors weights, that you have accepted its licence there, and the connection; offline, "
            "give a folder instead (or use toybox)."
        ) from error
    return _settled(family, parts), name, parts, scheduler, _options(index)


def _options(index: dict[str, Any]) -> dict[str, Any]:
    return {name: index[name] for name in _PIPELINE_OPTIONS if name in index}


def _read_parts(
    source: str,
    family: Family,
    index: dict[str, Any],
    reference: Reference,
    dtype: torch.dtype,
    variant: str | None,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    safe = {"use_safetensors": True, "variant": variant, **options}
    parts: dict[str, Any] = {
        "vae": AutoencoderKL.from_pretrained(source, subfolder="vae", torch_dtype=dtype, **safe),
        family.denoiser: family.denoiser_class.from_pretrained(
            source, subfolder=reference.unet or family.denoiser, torch_dtype=dtype, **safe
        ),
    }
    for name, encoder in family.text_encoders.items():
        absent = _absent(family, index, name)
        parts[name] = None if absent else encoder.from_pretrained(source, subfolder=name, dtype=dtype, **safe)
    for name, tokenizer in family.tokenizers.items():
        absent = _absent(family, index, name)
        parts[name] = None if absent else tokenizer.from_pretrained(source, subfolder=name, **options)
    config, _ = DDIMScheduler.load_config(source, subfolder="scheduler", return_unused_kwargs=True, **options)
    _check_scheduler(config.get("_class_name", ""))
    return parts, dict(config)


def _check_scheduler(name: str) -> None:
    """Raise LoadError for noise that neither a diffusion of eps or v nor a flow makes."""
    if name.startswith(("EDM", "CM", "LCM", "TCD")):
        raise LoadError(
            f"The checkpoint's scheduler is {name}, whose noise is not supported: pictures would be wrong. Choose a "
            "checkpoint of a plain diffusion or flow."
        )
