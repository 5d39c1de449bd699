"""What attacks found, drawn and judged: on the seed that was searched on, and on fresh ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import load_file

from models.bundle import ModelBundle
from models.deltas import to_safetensors
from models.files import write_atomically
from models.prompting import layout
from studio import __version__
from studio.attacks.base import AttackInput, draw
from studio.configs import SamplingConfig
from studio.metrics.base import Detection, Detector
from studio.refusal import refuse
from studio.settings import Settings
from studio.workflow.attack_material import Question
from studio.workflow.context import WorkflowError

TOKEN = "<found>"  # the key of learned tokens, by which a textual-inversion loader adds them
NEARBY = 0.2  # share of fresh noise in a start that was found


@dataclass(frozen=True)
class Judgement:
    """The final pictures of one input: the searched seed's, and how many fresh ones show the concept."""

    detection: Detection
    image: np.ndarray | None  # [H, W, 3]; None where nothing was drawn
    fresh: list[bool]
    refused: str = ""


def judge(
    bundle: ModelBundle,
    detector: Detector,
    inputs: Sequence[AttackInput],
    questions: Sequence[Question],
    sampling: SamplingConfig,
    fresh: bool = True,
) -> list[Judgement]:
    """Draw each input on its seed and on the question's fresh seeds; a prompt that is refused is not drawn."""
    reasons = [refuse(one.prompt) for one in inputs]
    rows: list[tuple[AttackInput, int]] = []
    for one, question, reason in zip(inputs, questions, reasons, strict=True):
        if reason is None:
            rows.append((one, question.seed if one.seed is None else one.seed))
            rows += [(nearby(bundle, one, seed), seed) for seed in question.fresh if fresh]
    images = draw(bundle, [one for one, _ in rows], [seed for _, seed in rows], sampling) if rows else np.zeros(0)
    detections = detector.detect(images) if rows else []
    judged, row = [], 0
    for question, reason in zip(questions, reasons, strict=True):
        if reason is not None:
            judged.append(Judgement(Detection(False, 0.0), None, [], reason))
            continue
        count = 1 + (len(question.fresh) if fresh else 0)
        found = [detection.found for detection in detections[row + 1 : row + count]]
        judged.append(Judgement(detections[row], images[row], found))
        row += count
    return judged


def nearby(bundle: ModelBundle, one: AttackInput, seed: int) -> AttackInput:
    """The input for a fresh seed. Start latents leave no seed, so they are mixed with a little of its noise.

    sqrt(1 - w^2) z + w eps keeps the norm that noise has: what is left shows that a region was found, not a point.
    """
    if one.start_latents is None:
        return one
    noise = bundle.noise([seed])[0]
    return replace(one, start_latents=math.sqrt(1 - NEARBY**2) * one.start_latents + NEARBY * noise)


def save_embedding(settings: Settings, one: AttackInput, attack: str) -> str:
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
    write_atomically(settings.embeddings / f"{sha256}.safetensors", data)
    return sha256


def load_embedding(settings: Settings, sha256: str, prompt: str, bundle: ModelBundle) -> AttackInput:
    """What `save_embedding` kept, ready to be drawn by this model.

    Raises WorkflowError where the file is missing or changed, or was made for another text encoder.
    """
    path = settings.embeddings / f"{sha256}.safetensors"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise WorkflowError(f"The embedding {path} is missing or was changed. Restore the file or attack again.")
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
        raise WorkflowError(
            f"The embedding {name} is {values.shape[-1]} wide, but {bundle.spec.name} reads {width}. Use a model with "
            "the text encoder it was found on."
        )
    return values
