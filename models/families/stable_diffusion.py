"""Stable Diffusion 1 and 2: one CLIP text encoder whose last hidden state the UNet's cross-attention reads.

The two differ in their weights alone: the second's text encoder is OpenCLIP's, and it may predict v.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from models.families.unets import UNetFamily
from models.specs import FamilyName

if TYPE_CHECKING:
    from models.bundle import ModelBundle


class StableDiffusion(UNetFamily):
    """Rombach 2022, arXiv:2112.10752."""

    pipeline = StableDiffusionPipeline
    text_encoders = {"text_encoder": CLIPTextModel}  # noqa: RUF012 (never changed)
    tokenizers = {"tokenizer": CLIPTokenizer}  # noqa: RUF012
    without = {  # noqa: RUF012
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }

    def __init__(self, name: FamilyName, title: str) -> None:
        self.name: FamilyName = name
        self.title = title

    def encode(self, bundle: ModelBundle, prompts: list[str]) -> torch.Tensor:
        tokens = bundle.tokenizer(
            prompts, padding="max_length", max_length=bundle.prompt_length, truncation=True, return_tensors="pt"
        )
        return bundle.text_encoder(tokens.input_ids.to(bundle.device))[0]

    def predict(
        self,
        bundle: ModelBundle,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        embeds: torch.Tensor,
        guidance: float | None,
    ) -> Any:
        return bundle.denoiser(latents, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]
