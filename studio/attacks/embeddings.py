"""What attacks found in the place of prompts, as files: written by a job, read again to be drawn by any model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.bundle import ModelBundle
from models.deltas import to_safetensors
from models.files import write_atomically
from models.prompting import layout
from studio import __version__
from studio.attacks.base import AttackError, AttackInput

TOKEN = "<found>"  # the key of learned tokens, by which a textual-inversion loader adds them


def save_embedding(folder: Path, one: AttackInput, attack: str) -> str:
    """Keep what is drawn in the prompt's place; returns the file's SHA-256, "" where the prompt is all there is.

    Learned tokens become a textual-inversion file, one tensor [K, D] under their name, as diffusers loads it: say the
    prompt with that name behind it. Embeddings for the UNet are "prompt_embeds" [L, D], starts "start_latents".
    """
    if one.token_embeds is not None:
        tensors = {TOKEN: one.token_embeds}
    elif one.embeds is not None:
        tensors = {"prompt_embeds": one.embeds}
    elif one.start_latents is not None:
        tensors = {"start_latents": one.start_latents}
    else:
        return ""
    data = to_safetensors(
        {name: value.detach().float().cpu() for name, value in tensors.items()},
        {"format": "pt", "attack": attack, "software": f"DUO Studio {__version__}"},
    )
    sha256 = hashlib.sha256(data).hexdigest()
    write_atomically(folder / f"{sha256}.safetensors", data)
    return sha256


def load_embedding(folder: Path, sha256: str, prompt: str, bundle: ModelBundle) -> AttackInput:
    """What `save_embedding` kept, ready to be drawn by this model.

    Raises AttackError where the file is missing or changed, or was made for another text encoder.
    """
    path = folder / f"{sha256}.safetensors"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise AttackError(f"The embedding {path} is missing or was changed. Restore the file or attack again.")
    tensors = load_file(path)
    if (start := tensors.get("start_latents")) is not None:
        return AttackInput(prompt, start_latents=start)
    if (embeds := tensors.get("prompt_embeds")) is not None:
        return AttackInput(prompt, embeds=_fitting(embeds, bundle, path.name))
    learned = _fitting(tensors[TOKEN], bundle, path.name)
    free = layout(bundle, [*prompt.split(), *[None] * len(learned)])
    with torch.no_grad():
        embeds = free.encode(learned.to(bundle.device).unsqueeze(0))[0]
    return AttackInput(prompt, embeds=embeds, token_embeds=learned)


def _fitting(values: torch.Tensor, bundle: ModelBundle, name: str) -> torch.Tensor:
    width = bundle.text_encoder.config.hidden_size
    if values.shape[-1] != width:
        raise AttackError(
            f"The embedding {name} is {values.shape[-1]} wide, but {bundle.spec.name} reads {width}. Use a model with "
            "the text encoder it was found on."
        )
    return values
