"""Stable Diffusion 3 and 3.5: a transformer over picture and text, two CLIP text encoders, and T5 where it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from models.families.base import packed, pipeline_of, unpacked
from models.families.transformers import FlowFamily
from models.specs import FamilyName

if TYPE_CHECKING:
    from models.bundle import ModelBundle

_PICTURE = ["to_q", "to_k", "to_v", "to_out.0"]
_TEXT = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
T5_TOKENS = 256


class StableDiffusion3(FlowFamily):
    """Esser 2024, arXiv:2403.03206. Self-attention here is what the picture's own tokens go through."""

    name: FamilyName = "sd3"
    title = "Stable Diffusion 3"
    pipeline = StableDiffusion3Pipeline
    denoiser_class = SD3Transformer2DModel
    text_encoders = {  # noqa: RUF012 (never changed)
        "text_encoder": CLIPTextModelWithProjection,
        "text_encoder_2": CLIPTextModelWithProjection,
        "text_encoder_3": T5EncoderModel,
    }
    tokenizers = {  # noqa: RUF012
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "tokenizer_3": T5TokenizerFast,
    }
    optional: tuple[str, ...] = ("text_encoder_3", "tokenizer_3")
    lora_targets = {  # noqa: RUF012
        "self-attention": [f"{block}.{layer}" for block in ("attn", "attn2") for layer in _PICTURE],
        "attention": _PICTURE + _TEXT,
        "attention+ff": [*_PICTURE, *_TEXT, "net.0.proj", "net.2"],
        "all": [*_PICTURE, *_TEXT, "net.0.proj", "net.2", "norm1.linear", "norm1_context.linear", "proj_out"],
    }

    def native_side(self, denoiser: SD3Transformer2DModel) -> int:
        return int(denoiser.config.sample_size)

    def channels(self, denoiser: SD3Transformer2DModel) -> int:
        return int(denoiser.config.in_channels)

    def reader(self, bundle: ModelBundle) -> tuple[Any, int]:
        t5 = bundle.tokenizers[2]
        return (bundle.tokenizer, bundle.prompt_length) if t5 is None else (t5, T5_TOKENS)

    def distilled(self, bundle: ModelBundle) -> bool:
        return False

    def encode(self, bundle: ModelBundle, prompts: list[str]) -> torch.Tensor:
        tokens, _, pooled, _ = pipeline_of(bundle).encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            device=bundle.device,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
        )
        return packed(tokens, pooled)

    def predict(
        self,
        bundle: ModelBundle,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        embeds: torch.Tensor,
        guidance: float | None,
    ) -> Any:
        tokens, pooled = unpacked(embeds, bundle.denoiser.config.pooled_projection_dim)
        return bundle.denoiser(
            hidden_states=latents,
            timestep=timesteps.expand(len(latents)),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
