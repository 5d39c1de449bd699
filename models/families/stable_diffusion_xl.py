"""Stable Diffusion XL: two text encoders, a pooled vector, and the picture's size and crop as conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from models.families.base import packed, pipeline_of, unpacked, zero_empty
from models.families.unets import UNetFamily
from models.specs import FamilyName

if TYPE_CHECKING:
    from models.bundle import ModelBundle


class StableDiffusionXL(UNetFamily):
    """Podell 2023, arXiv:2307.01952. The base model; its refiner, which has one text encoder, is not loaded.

    Pictures are told to have been as large as they are and not to have been cropped. Where the checkpoint was trained
    with zeros for the empty prompt (`force_zeros_for_empty_prompt`, as the published one), the empty prompt is zeros.
    """

    name: FamilyName = "sdxl"
    title = "Stable Diffusion XL"
    pipeline = StableDiffusionXLPipeline
    text_encoders = {  # noqa: RUF012 (never changed)
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    tokenizers = {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer}  # noqa: RUF012

    without: dict[str, Any] = {}  # noqa: RUF012

    def encode(self, bundle: ModelBundle, prompts: list[str]) -> torch.Tensor:
        tokens, _, pooled, _ = pipeline_of(bundle).encode_prompt(
            prompt=prompts, device=bundle.device, do_classifier_free_guidance=False
        )
        embeds = packed(tokens, pooled)
        return zero_empty(embeds, prompts) if bundle.pipeline_options.get("force_zeros_for_empty_prompt") else embeds

    def predict(
        self,
        bundle: ModelBundle,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        embeds: torch.Tensor,
        guidance: float | None,
    ) -> Any:
        tokens, pooled = unpacked(embeds, bundle.text_encoders[1].config.projection_dim)
        height, width = (side * bundle.pixels_a_latent for side in latents.shape[-2:])
        # original height and width, top and left of the crop, height and width that are wanted
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=latents.dtype, device=latents.device)
        return bundle.denoiser(
            latents,
            timesteps,
            encoder_hidden_states=tokens,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes.expand(len(latents), -1)},
            return_dict=False,
        )[0]
