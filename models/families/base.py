"""What sets one family of text-to-image models apart from another; everything else is `models.bundle`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from diffusers import DiffusionPipeline
from torch.nn import functional as F

from models.forward import Forward
from models.specs import FamilyName

if TYPE_CHECKING:
    from models.bundle import ModelBundle


class Family(Protocol):
    """One file each; registered in `models.families.FAMILIES`.

    The embeddings [B, L, D] of prompts are all that a network is told of them: where the family has a pooled vector
    too, it is the last row, filled up with zeros (see `packed`). So embeddings are one tensor everywhere.
    """

    name: FamilyName
    title: str  # as shown to people
    pipeline: type[DiffusionPipeline]  # diffusers' class, which is also what a folder's model_index.json names
    denoiser: str  # the pipeline's name of the network: "unet" | "transformer"
    denoiser_class: type[Any]
    text_encoders: dict[str, type[Any]]  # the pipeline's names and classes, in order
    tokenizers: dict[str, type[Any]]
    optional: tuple[str, ...]  # text encoders and tokenizers that a checkpoint may do without
    without: dict[str, Any]  # what the pipeline's class must be told that it does without
    lora_targets: dict[str, list[str]]  # endings of layer names, by what `layers` may be in a configuration
    # Parts of layers' names: what attention makes of the text, of that its keys and values, and every attention.
    text_layers: tuple[str, ...]
    text_keys_values: tuple[str, ...]
    attention_layers: tuple[str, ...]

    def forward(self, scheduler_config: dict[str, Any]) -> Forward:
        """The forward process. Raises ValueError for a prediction type that is not supported."""
        ...

    def schedule(self, bundle: ModelBundle, steps: int) -> Any:
        """A deterministic diffusers scheduler with `steps` timesteps set."""
        ...

    def native_side(self, denoiser: Any) -> int:
        """Height and width of the latents that the network was made for."""
        ...

    def channels(self, denoiser: Any) -> int:
        """Channels of the latents."""
        ...

    def encode(self, bundle: ModelBundle, prompts: list[str]) -> torch.Tensor:
        """Embeddings [B, L, D] of prompts."""
        ...

    def reader(self, bundle: ModelBundle) -> tuple[Any, int]:
        """The tokenizer that reads furthest into a prompt, and how many tokens, special ones among them."""
        ...

    def predict(
        self,
        bundle: ModelBundle,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        embeds: torch.Tensor,
        guidance: float | None,
    ) -> torch.Tensor:
        """The network's raw output [B, C, h, w] in its own dtype. `guidance` is for networks distilled on it."""
        ...

    def distilled(self, bundle: ModelBundle) -> bool:
        """Whether the network follows the prompt without a second, unconditional pass."""
        ...


def packed(tokens: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """Embeddings [B, L + 1, D] of tokens [B, L, D] and a pooled vector [B, P], P <= D.

    Raises:
        ValueError: the pooled vector is longer than a token's embedding.
    """
    width = tokens.shape[-1]
    if pooled.shape[-1] > width:
        raise ValueError(f"A pooled vector of {pooled.shape[-1]} does not fit beside tokens of width {width}.")
    return torch.cat([tokens, F.pad(pooled, (0, width - pooled.shape[-1]))[:, None].to(tokens)], dim=1)


def unpacked(embeds: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B, L, D] and the pooled vector [B, width] of packed embeddings [B, L + 1, D]."""
    return embeds[:, :-1], embeds[:, -1, :width]


def components(bundle: ModelBundle) -> dict[str, Any]:
    """A bundle's parts by the names of diffusers' pipeline; those that it does without are None."""
    family = bundle.family
    parts = {"vae": bundle.vae, family.denoiser: bundle.denoiser}
    parts |= dict(zip(family.text_encoders, bundle.text_encoders, strict=True))
    return parts | dict(zip(family.tokenizers, bundle.tokenizers, strict=True))


def pipeline_of(bundle: ModelBundle, scheduler: Any = None) -> DiffusionPipeline:
    """The bundle's parts as diffusers' pipeline: to encode prompts as it does, and to save them as it does."""
    family = bundle.family
    return family.pipeline(**components(bundle), scheduler=scheduler, **family.without, **bundle.pipeline_options)


def zero_empty(embeds: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """Zeros in place of empty prompts' embeddings [B, L, D]."""
    given = torch.tensor([prompt != "" for prompt in prompts], device=embeds.device)
    return embeds * given.view(-1, 1, 1)
