"""Facilitated Transport: a LoRA beside the network's layers, whose strength each picture's prompt decides.

Lyu 2023 (SPM, arXiv:2312.16145) draws a picture with the adapter as strong as its prompt is like the erased concept. So
the adapter cannot be added to the weights, which all pictures of a batch share: it stays a branch beside them, and each
picture's branch is multiplied by the picture's own strength. Both guidance branches of a picture get the same one.

This is the studio's own: a plain LoRA loader knows nothing of it and adds the adapter at full strength everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from models.deltas import WeightDelta

if TYPE_CHECKING:
    from models.bundle import ModelBundle

METADATA = "facilitated_transport"  # a delta's key: JSON with the concept's prompts


def transport_metadata(concepts: Sequence[str]) -> dict[str, str]:
    """What makes `models.adapters.apply` treat a LoRA this way."""
    return {METADATA: json.dumps({"concepts": list(concepts)})}


class TransportedLora:
    """A LoRA that is on a bundle. Outside of sampling, where there is no prompt to ask, its strength is 1."""

    def __init__(self, bundle: ModelBundle, delta: WeightDelta, scale: float) -> None:
        self.bundle = bundle
        self.concepts: list[str] = json.loads(delta.metadata[METADATA])["concepts"]
        self.embeds = bundle.encode_prompt(self.concepts)
        self.factor = scale * float(delta.metadata["alpha"]) / int(delta.metadata["rank"])
        self.strengths: torch.Tensor | None = None  # [B] of the pictures being sampled
        modules = dict(bundle.denoiser.named_modules())
        self.handles = [
            self._beside(modules[name], delta.tensors[f"{name}.lora_A.weight"], delta.tensors[f"{name}.lora_B.weight"])
            for name in (key.removesuffix(".lora_A.weight") for key in delta.tensors if ".lora_A." in key)
        ]
        bundle.on_sampling.append(self.follow)

    def remove(self) -> None:
        """Take it off; the weights were never touched."""
        self.bundle.on_sampling.remove(self.follow)
        for handle in self.handles:
            handle.remove()

    def follow(self, prompts: Sequence[str] | None, embeds: torch.Tensor | None) -> None:
        """Called by the bundle before pictures are sampled, with their prompts [B] if known and embeddings [B, L, D],
        and with two Nones afterwards."""
        if embeds is None:
            self.strengths = None
            return
        overlap = None if prompts is None else word_overlap(self.bundle, prompts, self.concepts)
        self.strengths = transport_strength(embeds.float(), self.embeds.to(embeds.device).float(), overlap)

    def _beside(self, module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> RemovableHandle:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        down, up = (part.to(weight.device, weight.dtype) for part in (down, up))

        def add_branch(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            if isinstance(layer, nn.Conv2d):
                branch = F.conv2d(F.conv2d(inputs[0], down, None, layer.stride, layer.padding), up)
            else:
                branch = F.linear(F.linear(inputs[0], down), up)
            return output + self.factor * self._rows(branch) * branch

        return module.register_forward_hook(add_branch)

    def _rows(self, branch: torch.Tensor) -> torch.Tensor | float:
        """Strengths that broadcast over a branch [n * B, …]: n is 2 where both guidance branches go through at once."""
        if self.strengths is None:
            return 1.0
        rows = self.strengths.repeat(len(branch) // len(self.strengths)).to(branch.dtype)
        return rows.view(-1, *[1] * (branch.dim() - 1))


def transport_strength(
    embeds: torch.Tensor, concepts: torch.Tensor, overlap: torch.Tensor | None = None
) -> torch.Tensor:
    """Strength [B] of the adapter: the square of s = max over concepts of max(cosine, shared words).

    The cosine is that of the whole embeddings, flattened; s below 0 counts as 0. The square is the official code's: it
    multiplies both factors of the adapter by s.

    Args:
        embeds: of the pictures' prompts, [B, L, D].
        concepts: of the concept's names, [P, L, D].
        overlap: [B, P], the share of a name's tokens that are in the prompt; None where prompts are not known.
    """
    likeness = F.cosine_similarity(embeds.flatten(1)[:, None], concepts.flatten(1)[None], dim=-1)
    if overlap is not None:
        likeness = torch.maximum(likeness, overlap.to(likeness.device))
    return likeness.amax(dim=1).clamp(0, 1).square()


def word_overlap(bundle: ModelBundle, prompts: Sequence[str], concepts: Sequence[str]) -> torch.Tensor:
    """[B, P]: the share of each concept's different tokens that are among each prompt's."""
    asked, wanted = (
        [set(ids) for ids in bundle.tokenizer(list(texts), add_special_tokens=False).input_ids]
        for texts in (prompts, concepts)
    )
    return torch.tensor([[len(words & name) / max(len(name), 1) for name in wanted] for words in asked])
