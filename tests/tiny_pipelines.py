"""Random tiny pipelines of the real classes, in the shape of the published ones: block for block, but narrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.bundle import ModelBundle
from models.export_pipeline import pipeline_of
from models.original_layout import original_tensors
from tests.conftest import SCHEDULER, make_tokenizer

WITHOUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def sd1_pipeline(seed: int = 0, **changes: Any) -> StableDiffusionPipeline:
    """Stable Diffusion 1: CLIP, four blocks, attention in all but the deepest, convolutions around it, PNDM."""
    with seeded(seed):
        unet = make_unet(cross_attention_dim=24, **changes)
        return StableDiffusionPipeline(
            vae=make_vae(), text_encoder=CLIPTextModel(text_config(24)), tokenizer=make_tokenizer(), unet=unet,
            scheduler=PNDMScheduler(**noise(), skip_prk_steps=True), **WITHOUT,
        )  # fmt: skip


def sd2_pipeline(seed: int = 0, **changes: Any) -> StableDiffusionPipeline:
    """Stable Diffusion 2: OpenCLIP's text encoder, linear layers around the attention, v-prediction."""
    with seeded(seed):
        text = CLIPTextModel(text_config(32, hidden_act="gelu", num_hidden_layers=3))
        unet = make_unet(cross_attention_dim=32, use_linear_projection=True, **changes)
        return StableDiffusionPipeline(
            vae=make_vae(), text_encoder=text, tokenizer=make_tokenizer(), unet=unet,
            scheduler=DDIMScheduler(**noise(), clip_sample=False, prediction_type="v_prediction"), **WITHOUT,
        )  # fmt: skip


def xl_pipeline(seed: int = 0, **changes: Any) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: both text encoders, three blocks, several transformer blocks a layer, none in the first."""
    with seeded(seed):
        first, second = text_config(24), text_config(40, hidden_act="gelu", projection_dim=16)
        shape: dict[str, Any] = {
            "block_out_channels": (16, 32, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "cross_attention_dim": 24 + 40,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
        }
        return StableDiffusionXLPipeline(
            vae=make_vae(), text_encoder=CLIPTextModel(first), text_encoder_2=CLIPTextModelWithProjection(second),
            tokenizer=make_tokenizer(), tokenizer_2=make_tokenizer(), unet=make_unet(**{**shape, **changes}),
            scheduler=EulerDiscreteScheduler(**noise()),
        )  # fmt: skip


def make_unet(**changes: Any) -> UNet2DConditionModel:
    config: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**config, **changes})


def make_vae() -> AutoencoderKL:
    """Four blocks of two layers, as all three have."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=4,
        sample_size=64,
    )


def text_config(width: int, **changes: Any) -> CLIPTextConfig:
    tokenizer = make_tokenizer()
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "projection_dim": width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextConfig(**{**config, **changes})


def save_original_layout(bundle: ModelBundle, path: Path) -> None:
    """One file without configs, as such checkpoints are downloaded."""
    save_file({key: value.contiguous() for key, value in original_tensors(pipeline_of(bundle)).items()}, path)


def noise() -> dict[str, Any]:
    return {key: SCHEDULER[key] for key in ("beta_start", "beta_end", "beta_schedule", "steps_offset")}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random weights from a seed; the test's own random numbers go on as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
