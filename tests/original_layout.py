"""Writes a model as the one file in which Stable Diffusion 1 was first published (the "original", LDM layout)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file

from models.bundle import ModelBundle

UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

Rule = tuple[str, Callable[[re.Match[str]], str]]


def save_original_layout(bundle: ModelBundle, path: Path) -> None:
    """Only for models with one layer a block and no attention before the last up block, as the tests' tiny one."""
    blocks = len(bundle.vae.config.up_block_types)
    tensors: dict[str, torch.Tensor] = {}
    for key, value in bundle.unet.state_dict().items():
        tensors[f"model.diffusion_model.{_unet_key(key)}"] = value
    for key, value in bundle.vae.state_dict().items():
        tensors[f"first_stage_model.{_vae_key(key, blocks)}"] = value
    for key, value in bundle.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key}"] = value
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)


def _renamed(table: dict[str, str], text: str) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text


def _first_match(key: str, rules: list[Rule]) -> str:
    for pattern, rename in rules:
        if match := re.fullmatch(pattern, key):
            return rename(match)
    raise KeyError(key)


def _unet_key(key: str) -> str:
    layers = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"]
    if key in layers:
        return layers[key]
    if "resnets" in key:
        key = _renamed(UNET_RESNET, key)
    rules: list[Rule] = [
        (r"down_blocks\.(\d)\.resnets\.0\.(.*)", lambda m: f"input_blocks.{1 + 2 * int(m[1])}.0.{m[2]}"),
        (r"down_blocks\.(\d)\.attentions\.0\.(.*)", lambda m: f"input_blocks.{1 + 2 * int(m[1])}.1.{m[2]}"),
        (r"down_blocks\.(\d)\.down.*\.conv\.(.*)", lambda m: f"input_blocks.{2 + 2 * int(m[1])}.0.op.{m[2]}"),
        (r"mid_block\.resnets\.(\d)\.(.*)", lambda m: f"middle_block.{2 * int(m[1])}.{m[2]}"),
        (r"mid_block\.attentions\.0\.(.*)", lambda m: f"middle_block.1.{m[1]}"),
        (r"up_blocks\.(\d)\.resnets\.(\d)\.(.*)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0.{m[3]}"),
        (r"up_blocks\.(\d)\.attentions\.(\d)\.(.*)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1.{m[3]}"),
        (r"up_blocks\.(\d)\.up.*\.conv\.(.*)", lambda m: f"output_blocks.{2 * int(m[1]) + 1}.1.conv.{m[2]}"),
    ]
    return _first_match(key, rules)


def _vae_key(key: str, blocks: int) -> str:
    layers = DIFFUSERS_TO_LDM_MAPPING["vae"]
    if key in layers:
        return layers[key]
    key = key.replace("conv_shortcut", "nin_shortcut")
    if "attentions" in key:
        key = _renamed(VAE_ATTENTION, key)
    last = blocks - 1
    rules: list[Rule] = [
        (r"(\w+)\.mid_block\.attentions\.0\.(.*)", lambda m: f"{m[1]}.mid.attn_1.{m[2]}"),
        (r"(\w+)\.mid_block\.resnets\.(\d)\.(.*)", lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}.{m[3]}"),
        (r"encoder\.down_blocks\.(\d)\.resnets\.(.*)", lambda m: f"encoder.down.{m[1]}.block.{m[2]}"),
        (r"encoder\.down_blocks\.(\d)\.down.*\.(conv\..*)", lambda m: f"encoder.down.{m[1]}.downsample.{m[2]}"),
        (r"decoder\.up_blocks\.(\d)\.resnets\.(.*)", lambda m: f"decoder.up.{last - int(m[1])}.block.{m[2]}"),
        (r"decoder\.up_blocks\.(\d)\.up.*\.(conv\..*)", lambda m: f"decoder.up.{last - int(m[1])}.upsample.{m[2]}"),
    ]
    return _first_match(key, rules)
