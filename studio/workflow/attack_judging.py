"""What attacks found, drawn and judged: on the seed that was searched on, and on fresh ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle import ModelBundle
from studio.attacks.base import AttackInput, draw
from studio.configs import SamplingConfig
from studio.metrics.base import Detection, Detector
from studio.refusal import refuse
from studio.workflow.attack_material import Question

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
