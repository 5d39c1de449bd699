"""A network's weights rounded to 8 bits for a while, as those who run it on small machines do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from models.bundle import ModelBundle
from models.deltas import Replaced

LEVELS = 127  # of either sign


def int8_rounded(weight: torch.Tensor) -> torch.Tensor:
    """Weights [O, ...] as int8 can hold them: symmetric, one scale an output channel (absmax), read back as they were.

    w' = s round(w / s) with s = max |w| / 127 over the channel, so no weight moves by more than s / 2.
    """
    rows = weight.detach().float().flatten(1)
    scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
    quantised = (rows / scales).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return (quantised.float() * scales).reshape(weight.shape).to(weight.dtype)


@contextmanager
def int8_weights(bundle: ModelBundle) -> Iterator[None]:
    """Inside, every linear and convolution weight of the network, adapters merged into it, is int8's nearest.

    So are those of a text encoder that an adapter has changed. Activations, biases and norms stay as they are; the very
    weights come back on leaving. An adapter that stands beside the weights (SPM with its transport) is not rounded.
    """
    changed = {kept.part for kept in bundle.originals if isinstance(kept, Replaced)}
    networks = [bundle.network(part) for part in sorted({bundle.family.denoiser} | changed)]
    layers = [
        module for network in networks for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    originals = [layer.weight.data for layer in layers]
    try:
        for layer in layers:
            layer.weight.data = int8_rounded(layer.weight.data)
        bundle.text_changed()
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.weight.data = original
        bundle.text_changed()
