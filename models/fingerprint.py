"""Which weights a bundle has: what pictures, latents and adapters of it belong to, whatever its folder is called."""

from __future__ import annotations

import hashlib
import json

import torch

from models.bundle import ModelBundle
from models.deltas import Replaced

FINGERPRINT = (
    "checkpoint_sha256"  # in the metadata of files that belong to a checkpoint; files from elsewhere have none
)


def fingerprint_of(bundle: ModelBundle) -> str:
    """SHA-256 over all weights of a bundle: what a picture depends on besides prompt, seed and sampling.

    Of the checkpoint itself, also while deltas or a LoRA in training are on it. Computed once a bundle: a gigabyte
    takes a second or two, and whoever changes its weights for good must empty `bundle.fingerprint`.
    """
    if not bundle.fingerprint:
        with bundle.fetched():
            bundle.fingerprint = _hash(bundle, bundle.dtype)
    return bundle.fingerprint


def fingerprint_in(bundle: ModelBundle, dtype: torch.dtype) -> str:
    """The fingerprint that the same checkpoint has where it is loaded in this precision.

    Right where the bundle's own precision holds every weight of its files, as float32 does.
    """
    return _hash(bundle, dtype)


def _hash(bundle: ModelBundle, dtype: torch.dtype) -> str:
    digest = hashlib.sha256(json.dumps(bundle.scheduler_config, sort_keys=True, default=str).encode())
    family = bundle.family
    encoders = [name for name, part in zip(family.text_encoders, bundle.text_encoders, strict=True) if part is not None]
    own = (_own_weights(bundle, part) for part in encoders)
    for weights in (_own_weights(bundle, family.denoiser), bundle.vae.state_dict(), *own):
        for name, tensor in sorted(weights.items()):
            digest.update(name.encode())
            cast = tensor.detach().to("cpu", dtype) if tensor.is_floating_point() else tensor.detach().cpu()
            digest.update(cast.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _own_weights(bundle: ModelBundle, part: str) -> dict[str, torch.Tensor]:
    """A network's own weights: without a LoRA that is attached, and as they were before deltas were applied."""
    state = bundle.network(part).state_dict()
    weights = {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    for kept in reversed(bundle.originals):  # the first one applied has the checkpoint's own
        weights |= kept.weights if isinstance(kept, Replaced) and kept.part == part else {}
    return weights
