"""FLUX.1: a transformer over 2 x 2 patches of the latents and T5's tokens, with CLIP's pooled vector.

FLUX.1-dev is distilled on its guidance scale, which it is told as a number; FLUX.1-schnell follows the prompt by
itself. Neither needs an unconditional pass; one is made where a negative prompt is given, as SDEdit does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from models.families.base import packed, pipeline_of, unpacked
from models.families.transformers import FlowFamily
from models.forward import FLOW_TIMESTEPS
from models.specs import FamilyName

if TYPE_CHECKING:
    from models.bundle import ModelBundle

_PICTURE = ["to_q", "to_k", "to_v", "to_out.0"]
_TEXT = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
_FEED_FORWARD = ["net.0.proj", "net.2", "proj_mlp", "proj_out"]
T5_TOKENS = 512
NATIVE_SIDE = 128  # 1024 pixels; the transformer itself knows no size
GUIDANCE = 3.5  # what a network that is told its guidance is told in training, as in diffusers' own training scripts


class Flux(FlowFamily):
    """Black Forest Labs 2024, FLUX.1. Self-attention here is what the picture's own tokens go through."""

    name: FamilyName = "flux"
    title = "FLUX.1"
    pipeline = FluxPipeline
    denoiser_class = FluxTransformer2DModel
    text_encoders = {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}  # noqa: RUF012 (never changed)
    tokenizers = {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast}  # noqa: RUF012
    optional: tuple[str, ...] = ()
    lora_targets = {  # noqa: RUF012
        "self-attention": _PICTURE,
        "attention": _PICTURE + _TEXT,
        "attention+ff": _PICTURE + _TEXT + _FEED_FORWARD,
        "all": [*_PICTURE, *_TEXT, *_FEED_FORWARD, "norm1.linear", "norm1_context.linear", "norm.linear"],
    }

    def sigmas(self, steps: int) -> list[float] | None:
        return torch.linspace(1, 1 / steps, steps).tolist()

    def native_side(self, denoiser: FluxTransformer2DModel) -> int:
        return NATIVE_SIDE

    def channels(self, denoiser: FluxTransformer2DModel) -> int:
        return int(denoiser.config.in_channels) // 4

    def reader(self, bundle: ModelBundle) -> tuple[Any, int]:
        return bundle.tokenizers[1], T5_TOKENS

    def distilled(self, bundle: ModelBundle) -> bool:
        return True

    def encode(self, bundle: ModelBundle, prompts: list[str]) -> torch.Tensor:
        tokens, pooled, _ = pipeline_of(bundle).encode_prompt(
            prompt=prompts, prompt_2=None, device=bundle.device, max_sequence_length=T5_TOKENS
        )
        return packed(tokens, pooled)

    def predict(
        self,
        bundle: ModelBundle,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        embeds: torch.Tensor,
        guidance: float | None,
    ) -> torch.Tensor:
        tokens, pooled = unpacked(embeds, bundle.denoiser.config.pooled_projection_dim)
        told = None
        if bundle.denoiser.config.guidance_embeds:
            told = torch.full((len(latents),), GUIDANCE if guidance is None else guidance, device=latents.device)
        output = bundle.denoiser(
            hidden_states=patches(latents),
            timestep=timesteps.expand(len(latents)) / FLOW_TIMESTEPS,
            guidance=told,
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(tokens.shape[1], 3, dtype=latents.dtype, device=latents.device),
            img_ids=patch_ids(latents),
            return_dict=False,
        )[0]
        return unpatched(output, latents.shape[-2], latents.shape[-1])


def patches(latents: torch.Tensor) -> torch.Tensor:
    """[B, h/2 * w/2, 4 C] of latents [B, C, h, w]: each 2 x 2 patch is one token."""
    blocks = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [B, C, h/2, 2, w/2, 2]
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatched(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Latents [B, C, height, width] of `patches`."""
    blocks = tokens.unflatten(1, (height // 2, width // 2)).unflatten(3, (-1, 2, 2))  # [B, h/2, w/2, C, 2, 2]
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def patch_ids(latents: torch.Tensor) -> torch.Tensor:
    """Position [h/2 * w/2, 3] of each patch: nothing, row, column."""
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    ids = torch.zeros(height, width, 3, dtype=latents.dtype, device=latents.device)
    ids[..., 1] += torch.arange(height, device=latents.device)[:, None]
    ids[..., 2] += torch.arange(width, device=latents.device)[None]
    return ids.flatten(0, 1)
