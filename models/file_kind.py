"""What a checkpoint in one file is, told from its header alone: its kind, what it predicts, which parts it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES, infer_diffusers_model_type
from safetensors import SafetensorError, safe_open

from models.specs import FamilyName, LoadError

# diffusers' name of a kind of checkpoint -> our family. Playground v2.5 is not among them: its noise is EDM's.
KINDS: dict[str, FamilyName] = {
    "v1": "sd1",
    "v2": "sd2",
    "xl_base": "sdxl",
    "sd3": "sd3",
    "sd35_medium": "sd3",
    "sd35_large": "sd3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
}
_SD3_PARTS = {
    "VAE": "first_stage_model.",
    "first text encoder (CLIP L)": "text_encoders.clip_l.",
    "second text encoder (CLIP G)": "text_encoders.clip_g.",
}
PARTS: dict[str, dict[str, str]] = {  # what must be in a file of that kind, and how its keys begin
    "v1": {"VAE": "first_stage_model.", "text encoder": "cond_stage_model.transformer."},
    "v2": {"VAE": "first_stage_model.", "text encoder": "cond_stage_model.model."},
    "xl_base": {
        "VAE": "first_stage_model.",
        "first text encoder": "conditioner.embedders.0.",
        "second text encoder": "conditioner.embedders.1.",
    },
    "sd3": _SD3_PARTS,
    "sd35_medium": _SD3_PARTS,
    "sd35_large": _SD3_PARTS,
}
T5 = "text_encoders.t5xxl.transformer.shared.weight"
_SPREAD = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SPREAD_OF_V = 0.09
_DECLARED = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}  # modelspec.prediction_type


@dataclass(frozen=True)
class Header:
    """Names and shapes of a file's tensors, and what its writer says of it."""

    path: Path
    shapes: Mapping[str, Sequence[int]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Raises LoadError where the file is missing or damaged."""
    if not path.is_file():
        raise LoadError(f"{path} does not exist. Check the path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (not a dict)
            return Header(path, shapes, file.metadata() or {})
    except SafetensorError as error:
        raise LoadError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error


def kind_of(header: Header) -> str:
    """diffusers' name for what the file holds; "v1" also for what has no mark of any kind."""
    tensors = {key: torch.empty(shape, device="meta") for key, shape in header.shapes.items()}
    try:
        return str(infer_diffusers_model_type(tensors))
    except (KeyError, IndexError, UnboundLocalError, ValueError) as error:
        raise LoadError(
            f"{header.path} has some of a known checkpoint's tensors and lacks others ({error}). Use a whole one."
        ) from error


def check_whole(header: Header, kind: str) -> None:
    """Raise LoadError where the file is of no kind that is loaded, or lacks parts."""
    path = header.path
    if kind not in KINDS:
        raise LoadError(
            f"{path} is a checkpoint of the kind {kind!r}, which is not supported as one file. "
            f"Use one of {', '.join(KINDS)}, or a diffusers folder."
        )
    if KINDS[kind] == "flux":
        raise LoadError(
            f"{path} is FLUX.1 ({kind}) as one file, which holds the transformer alone. Use a diffusers folder of it, "
            "with its VAE, text encoders and tokenizers."
        )
    if kind == "v1" and CHECKPOINT_KEY_NAMES["v1"] not in header.shapes:
        raise LoadError(
            f"{path} holds {len(header.shapes)} tensors, but no checkpoint of Stable Diffusion in the original layout. "
            "Choose the checkpoint itself: a LoRA or a part of one comes in by “import”."
        )
    missing = [name for name, start in PARTS[kind].items() if not any(key.startswith(start) for key in header.shapes)]
    if missing:
        raise LoadError(
            f"{path} lacks the {' and the '.join(missing)} of its kind, {kind}. Use a file that has them inside, or a "
            "diffusers folder."
        )


def prediction_of(header: Header, kind: str) -> tuple[str, str]:
    """What the network predicts ("epsilon" or "v_prediction"), and how that is known.

    Two conventions of writers come first: `modelspec.prediction_type` in the header, and an empty tensor "v_pred".
    Stable Diffusion 2 has neither. The spread of one bias tells its two forms apart, a rule of thumb by ComfyUI.
    """
    declared = _DECLARED.get(header.metadata.get("modelspec.prediction_type", "").lower())
    if declared:
        return declared, "as its header says"
    if "v_pred" in header.shapes:
        return "v_prediction", "as its tensor “v_pred” says"
    if kind != "v2":
        return "epsilon", "as its kind does"
    with safe_open(header.path, framework="pt", device="cpu") as file:
        spread = float(file.get_tensor(_SPREAD).float().std(unbiased=False)) if _SPREAD in header.shapes else 1.0
    return "v_prediction" if spread > _SPREAD_OF_V else "epsilon", "judged by its weights"
