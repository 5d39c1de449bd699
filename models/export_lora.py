"""A LoRA as other programs read it: diffusers' file with rank and alpha in the header, and kohya's with alpha beside
each layer, which ComfyUI and A1111 read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.deltas import WeightDelta, delta_file, part_metadata, to_safetensors
from models.export_files import NO_LORA, UnfitError
from models.files import write_atomically
from models.loading import DTYPES
from models.original_layout import unet_key

DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"  # that load_lora_weights looks for in a folder


def lora_bytes(delta: WeightDelta, dtype: str) -> int:
    """Size of the tensors in this precision."""
    return sum(value.numel() for value in delta.tensors.values()) * DTYPES[dtype].itemsize


def save_diffusers_lora(delta: WeightDelta, path: Path, dtype: str, metadata: Mapping[str, str]) -> None:
    """Write the LoRA as `models.deltas` keeps it, with `metadata` in place of its own. Raises UnfitError."""
    refuse_weights(delta)
    kept = {key: delta.metadata[key] for key in ("rank", "alpha", "targets")} | part_metadata(delta.part)
    tensors = _cast(delta.tensors, dtype)
    write_atomically(path, delta_file(WeightDelta("lora", tensors, {**metadata, **kept})))


def save_kohya_lora(
    delta: WeightDelta, path: Path, dtype: str, config: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write the LoRA so that programs which read no header draw it at its strength. Raises UnfitError.

    Of a UNet in the layout of kohya's scripts, `lora_unet_<layer>` with each layer's alpha: layers have diffusers'
    names for Stable Diffusion 1 and 2 and the original ones for XL, as in kohya's own files. Of a transformer with
    diffusers' names, which ComfyUI knows, and alpha / rank in the second factor, so that alpha is the rank.

    Args:
        config: of the network, whose shape decides the names.
    """
    refuse_weights(delta)
    if delta.part == "unet":
        write_atomically(path, to_safetensors(*_kohya(delta, dtype, config, metadata)))
        return
    scale = float(delta.metadata["alpha"]) / int(delta.metadata["rank"])
    folded = {key: value * scale if ".lora_B." in key else value for key, value in delta.tensors.items()}
    facts = {**delta.metadata, "alpha": str(float(delta.metadata["rank"]))}
    save_diffusers_lora(WeightDelta("lora", folded, facts), path, dtype, metadata)


def _kohya(
    delta: WeightDelta, dtype: str, config: Mapping[str, Any], metadata: Mapping[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the header."""
    rank, alpha = int(delta.metadata["rank"]), float(delta.metadata["alpha"])
    factors, tensors = _cast(delta.tensors, dtype), {}
    for layer in (key.removesuffix(".lora_A.weight") for key in factors if key.endswith(".lora_A.weight")):
        name = f"lora_unet_{_kohya_layer(layer, config)}"
        tensors[f"{name}.lora_down.weight"] = factors[f"{layer}.lora_A.weight"]
        tensors[f"{name}.lora_up.weight"] = factors[f"{layer}.lora_B.weight"]
        tensors[f"{name}.alpha"] = torch.tensor(alpha)  # diffusers' own converter writes the rank here
    facts = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(alpha)}
    return tensors, {"format": "pt", **metadata, **facts, **_kohya_base(config)}


def refuse_weights(delta: WeightDelta) -> None:
    if delta.kind != "lora":
        raise UnfitError(NO_LORA)


def _cast(tensors: Mapping[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    found = {key: value.to(DTYPES[dtype]) for key, value in tensors.items()}
    if broken := [key for key, value in found.items() if not torch.isfinite(value).all()]:
        raise UnfitError(f"{broken[0]} is too large for {dtype}. Choose float32.")
    return found


def _is_xl(unet_config: Mapping[str, Any]) -> bool:
    return unet_config.get("addition_embed_type") == "text_time"


def _kohya_layer(layer: str, unet_config: Mapping[str, Any]) -> str:
    if _is_xl(unet_config):
        try:
            layer = unet_key(f"{layer}.weight", unet_config).removesuffix(".weight")
        except (KeyError, IndexError) as error:
            raise UnfitError(
                f"kohya's layout has no place for the layer {layer}. Export the LoRA for diffusers, or merged."
            ) from error
    return layer.replace(".", "_")


def _kohya_base(unet_config: Mapping[str, Any]) -> dict[str, str]:
    """By which A1111 sorts its list of LoRAs."""
    if _is_xl(unet_config):
        return {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"}
    second = unet_config["cross_attention_dim"] == 1024
    return {"ss_base_model_version": "sd_v2" if second else "sd_v1", "ss_v2": str(second)}
