"""Random tiny models of every family, of diffusers' and transformers' own classes: 64 px pictures, 8 x 8 latents."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from models.bundle import ModelBundle
from models.specs import FamilyName, ModelSpec

WIDTH = 32  # of CLIP's embeddings; Stable Diffusion 2's is told by its width of 1024
DIFFUSION = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
DYNAMIC = {
    **FLOW,
    "shift": 1.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def make_family_bundle(
    name: FamilyName, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> ModelBundle:
    """A random model of a family; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = MAKERS[name](**options)
    spec = ModelSpec(f"Tiny {name}", f"tiny-{name}", None, name, 64)
    return ModelBundle(**parts, spec=spec, device=torch.device("cpu"), dtype=dtype)


def sd1(width: int = WIDTH, prediction_type: str = "epsilon", linear: bool = False) -> dict[str, Any]:
    return {
        "vae": vae(4),
        "text_encoders": (clip(width),),
        "tokenizers": (clip_tokenizer(),),
        "denoiser": unet(width, use_linear_projection=linear),
        "scheduler_config": {**DIFFUSION, "prediction_type": prediction_type},
    }


def sd2() -> dict[str, Any]:
    """As the published one: velocity, linear projections, text embeddings of 1024."""
    return sd1(1024, "v_prediction", linear=True)


def sdxl(zeros: bool = True) -> dict[str, Any]:
    return {
        "vae": vae(4),
        "text_encoders": (clip(16), clip(WIDTH, projection=24)),
        "tokenizers": (clip_tokenizer(), clip_tokenizer()),
        "denoiser": unet(
            16 + WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        ),
        "scheduler_config": DIFFUSION,
        "pipeline_options": {"force_zeros_for_empty_prompt": zeros},
    }


def sd3(t5: bool = True) -> dict[str, Any]:
    return {
        "vae": vae(16, shift=0.06),
        "text_encoders": (clip(16, projection=16), clip(WIDTH, projection=24), t5_encoder(64) if t5 else None),
        "tokenizers": (clip_tokenizer(), clip_tokenizer(), t5_tokenizer() if t5 else None),
        "denoiser": SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=16 + 24,
            out_channels=16,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        "scheduler_config": FLOW,
    }


def flux(guidance: bool = True) -> dict[str, Any]:
    return {
        "vae": vae(16, shift=0.1),
        "text_encoders": (clip(WIDTH), t5_encoder(64)),
        "tokenizers": (clip_tokenizer(), t5_tokenizer()),
        "denoiser": FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=WIDTH,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 4, 8),
        ),
        "scheduler_config": DYNAMIC if guidance else {**FLOW, "shift": 1.0},
    }


MAKERS: dict[FamilyName, Callable[..., dict[str, Any]]] = {
    "sd1": sd1, "sd2": sd2, "sdxl": sdxl, "sd3": sd3, "flux": flux
}  # fmt: skip


def vae(channels: int, shift: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.4,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def unet(width: int, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=width,
        norm_num_groups=8,
        **options,
    )


def clip(width: int, projection: int = 0) -> CLIPTextModel | CLIPTextModelWithProjection:
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=16,
        projection_dim=projection or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def clip_tokenizer() -> CLIPTokenizer:
    """Knows single letters."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16)


def t5_encoder(width: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
        )
    )


def t5_tokenizer() -> T5TokenizerFast:
    """Knows single letters."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5TokenizerFast(vocab=special + [(letter, -3.0) for letter in string.ascii_lowercase + ",.'"], extra_ids=0)


def look_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether pictures differ by one of 255 levels at most.

    The same weights at another address, say those of a mapped file, are added up in another order.
    """
    return int(np.abs(one.astype(int) - other.astype(int)).max()) <= 1
