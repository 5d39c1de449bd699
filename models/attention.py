"""See the cross-attention of a bundle's UNet while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention

from models.bundle import ModelBundle


@contextmanager
def watched_attention(bundle: ModelBundle) -> Iterator[list[torch.Tensor]]:
    """Every cross-attention adds its probabilities [B * heads, queries, L] to the list, layer by layer."""
    seen: list[torch.Tensor] = []
    layers = [layer for name, layer in bundle.denoiser.named_modules() if name.endswith("attn2")]
    processors = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.processor = WatchedProcessor(seen)
        yield seen
    finally:
        for layer, processor in zip(layers, processors, strict=True):
            layer.processor = processor


class WatchedProcessor:
    """Cross-attention of a Stable Diffusion UNet, written out so that its probabilities can be seen."""

    def __init__(self, seen: list[torch.Tensor]) -> None:
        self.seen = seen

    def __call__(
        self, layer: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        query, key, value = (
            layer.head_to_batch_dim(projected)
            for projected in (
                layer.to_q(hidden_states), layer.to_k(encoder_hidden_states), layer.to_v(encoder_hidden_states)
            )
        )  # fmt: skip
        probabilities = layer.get_attention_scores(query, key)
        self.seen.append(probabilities)
        output = layer.batch_to_head_dim(torch.bmm(probabilities, value))
        return layer.to_out[1](layer.to_out[0](output))
