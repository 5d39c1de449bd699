"""The layout in which Stable Diffusion 1, 2 and XL were published: one file for UNet, VAE and text encoders ("LDM").

Every program that reads single files knows it. Keys are renamed and some tensors take another shape, none changes its
values: `original_tensors` checks by diffusers' own way back, bit for bit, before it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_TO_LDM_MAPPING,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import nn

from models.export_files import UnfitError

Tensors = dict[str, torch.Tensor]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_SAMPLER = {"downsamplers": "downsample", "upsamplers": "upsample"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
_OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
              "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """Where a pipeline's text encoder lies in the file: OpenAI's layout of CLIP, or OpenCLIP's."""

    part: str  # of the pipeline
    prefix: str
    open_clip: bool


def has_original_layout(pipeline: DiffusionPipeline) -> bool:
    """Whether there is such a layout for this kind of pipeline."""
    return type(pipeline).__name__ in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def encoders_of(pipeline: DiffusionPipeline) -> list[Encoder]:
    """The text encoders' places. Stable Diffusion 2 has OpenCLIP's, which is known by its activation, GELU."""
    if type(pipeline).__name__ == "StableDiffusionXLPipeline":
        return [
            Encoder("text_encoder", "conditioner.embedders.0.transformer.text_model.", False),
            Encoder("text_encoder_2", "conditioner.embedders.1.model.", True),
        ]
    if pipeline.text_encoder.config.hidden_act == "gelu":
        return [Encoder("text_encoder", "cond_stage_model.model.", True)]
    return [Encoder("text_encoder", "cond_stage_model.transformer.text_model.", False)]


def original_tensors(pipeline: DiffusionPipeline) -> Tensors:
    """Every weight of the pipeline under its original name; where the shape is the same, the pipeline's own tensor.

    Raises:
        UnfitError: the pipeline is of another kind, or has parts that the layout has no place for.
    """
    if not has_original_layout(pipeline):
        raise UnfitError(
            f"A {type(pipeline).__name__} has no single-file layout that the studio can write; only Stable Diffusion "
            "1, 2 and XL have one. Export it merged, as a diffusers folder."
        )
    try:
        tensors = {UNET + key: value for key, value in unet_tensors(pipeline.unet).items()}
        tensors |= {VAE + key: value for key, value in _vae(pipeline.vae.state_dict()).items()}
        for encoder in encoders_of(pipeline):
            tensors |= _text(getattr(pipeline, encoder.part), encoder)
        _check(tensors, pipeline)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnfitError(
            f"The original layout has no place for {error} of this model. Export it merged, as a diffusers folder."
        ) from error
    return tensors


# UNet


def unet_tensors(unet: ModelMixin) -> Tensors:
    """A UNet's weights under their original names, without the file's prefix."""
    return {unet_key(key, unet.config): value for key, value in unet.state_dict().items()}


def unet_key(key: str, config: Mapping[str, Any]) -> str:
    """The original name of a UNet's weight. Raises KeyError where there is none."""
    fixed = DIFFUSERS_TO_LDM_MAPPING["unet"]
    if key in fixed["layers"]:
        return str(fixed["layers"][key])
    if key in fixed["addition_embed_type"] and config.get("addition_embed_type") == "text_time":
        return str(fixed["addition_embed_type"][key])
    parts = key.split(".")
    length = 3 if parts[0] == "mid_block" else 4
    block, rest = ".".join(parts[:length]), parts[length:]
    if "resnets" in parts:
        rest[0] = _RESNET[rest[0]]
    elif "downsamplers" in parts:
        rest[0] = "op"
    return ".".join([_unet_blocks(config)[block], *rest])


def _unet_blocks(config: Mapping[str, Any]) -> dict[str, str]:
    """Every block of a UNet of this configuration to its original number."""
    layers = config["layers_per_block"]
    if not isinstance(layers, int):
        raise KeyError(f"layers_per_block {layers}")
    names = {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
             "mid_block.resnets.1": "middle_block.2"}  # fmt: skip
    for block in range(len(config["block_out_channels"])):
        down, up = 1 + block * (layers + 1), block * (layers + 1)
        for layer in range(layers):
            names[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{down + layer}.0"
            names[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{down + layer}.1"
        names[f"down_blocks.{block}.downsamplers.0"] = f"input_blocks.{down + layers}.0"
        for layer in range(layers + 1):
            names[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{up + layer}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{up + layer}.1"
        place = 2 if "CrossAttn" in config["up_block_types"][block] else 1
        names[f"up_blocks.{block}.upsamplers.0"] = f"output_blocks.{up + layers}.{place}"
    return names


# VAE


def _vae(state: Tensors) -> Tensors:
    last = max(int(key.split(".")[2]) for key in state if key.startswith("decoder.up_blocks."))
    tensors = {}
    for key, value in state.items():
        name = _vae_key(key, last)
        # The original's attention layers are convolutions of one pixel, diffusers' are linear.
        tensors[name] = value[:, :, None, None] if ".attentions." in key and value.ndim == 2 else value
    return tensors


def _vae_key(key: str, last: int) -> str:
    """The original name of a VAE's weight; `last` is the number of the decoder's last block."""
    fixed = DIFFUSERS_TO_LDM_MAPPING["vae"]
    if key in fixed:
        return str(fixed[key])
    half, blocks, *parts = key.split(".")
    if blocks == "mid_block":
        kind, number, *rest = parts
        if kind == "attentions":
            rest = [_VAE_ATTENTION[rest[0]], rest[-1]]
            return ".".join([half, "mid", f"attn_{int(number) + 1}", *rest])
        return ".".join([half, "mid", f"block_{int(number) + 1}", *_shortcut(rest)])
    block, kind, number, *rest = parts
    kinds = ["block", number] if kind == "resnets" else [_VAE_SAMPLER[kind]]
    if blocks == "up_blocks":
        block = str(last - int(block))
    return ".".join([half, blocks.removesuffix("_blocks"), block, *kinds, *_shortcut(rest)])


def _shortcut(parts: list[str]) -> list[str]:
    return ["nin_shortcut" if part == "conv_shortcut" else part for part in parts]


# Text encoders


def _text(model: nn.Module, encoder: Encoder) -> Tensors:
    state = {key.removeprefix("text_model."): value for key, value in model.state_dict().items()}
    if not encoder.open_clip:
        return {encoder.prefix + key: value for key, value in state.items()}
    return {encoder.prefix + key: value for key, value in _open_clip(state).items()}


def _open_clip(state: Tensors) -> Tensors:
    """OpenCLIP's names: query, key and value of a layer lie in one tensor, and the projection is transposed."""
    fixed = {
        key.removeprefix("text_model."): name for key, name in DIFFUSERS_TO_LDM_MAPPING["openclip"]["layers"].items()
    }
    tensors: Tensors = {}
    for key, value in state.items():
        if key in fixed:
            tensors[fixed[key]] = value.T.contiguous() if key == "text_projection.weight" else value
            continue
        layer, _, rest = key.removeprefix("encoder.layers.").partition(".")
        place = f"transformer.resblocks.{int(layer)}"
        part, _, side = rest.rpartition(".")
        if part in ("self_attn.k_proj", "self_attn.v_proj"):
            continue
        if part == "self_attn.q_proj":
            three = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            tensors[f"{place}.attn.in_proj_{side}"] = torch.cat(three)
        else:
            tensors[f"{place}.{_OPEN_CLIP[part]}.{side}"] = value
    return tensors


# The way back


def _check(tensors: Tensors, pipeline: DiffusionPipeline) -> None:
    """Raise UnfitError where diffusers would not read back each weight as it is."""
    _same(convert_ldm_unet_checkpoint(tensors, dict(pipeline.unet.config)), pipeline.unet, "UNet")
    _same(convert_ldm_vae_checkpoint(tensors, dict(pipeline.vae.config)), pipeline.vae, "VAE")
    for encoder in encoders_of(pipeline):
        model = getattr(pipeline, encoder.part)
        if encoder.open_clip:
            read = convert_open_clip_checkpoint(model, tensors, prefix=encoder.prefix)
        else:
            read = convert_ldm_clip_checkpoint(tensors)
        _same(read, model, "text encoder")


def _same(read: Tensors, model: nn.Module, name: str) -> None:
    found = {key.removeprefix("text_model."): value for key, value in read.items()}
    for key, value in model.state_dict().items():
        back = found.get(key.removeprefix("text_model."))
        if back is None or not torch.equal(back, value):
            raise UnfitError(
                f"The {name}'s {key} would not come back as it is from a single file: this model's shape is not one "
                "that the original layout knows. Export it merged, as a diffusers folder."
            )
