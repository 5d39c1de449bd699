"""Ends a training as soon as the concept is gone and while the rest is still there. Off unless asked for.

At every `sample_every`-th step the model in training draws `early_stop_pictures` prompts with the concept and as many
without, always from the same seeds, which no report uses. Training ends when the detector finds the concept in no more
than `early_stop_rate` of the former and the latter lie within `early_stop_distance` of the original's own pictures.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np

from models.bundle import ModelBundle
from studio import prompts
from studio.configs import SamplingConfig
from studio.metrics import best_distance
from studio.metrics.base import Detector
from studio.progress import Enough
from studio.workflow.context import JobContext, WorkflowError

FIRST_SEED = prompts.first_seed("sweep", 998)  # as for choosing settings: no report is made of these pictures
AT_ONCE = 4  # pictures; drawing needs less memory than the training around it


class EarlyStop:
    """Raises `Enough` from `check` when the concept is gone."""

    def __init__(self, context: JobContext, bundle: ModelBundle, config: Any, detector: Detector | None) -> None:
        """Raises WorkflowError where there is no detector, or nothing to draw without the concept."""
        self.bundle, self.config, self.detector = bundle, config, detector
        self.count = int(getattr(config, "early_stop_pictures", 0)) if getattr(config, "sample_every", 0) else 0
        if not self.count:
            return
        if detector is None:
            raise WorkflowError(
                f"Stopping early needs the detector {context.project.detector!r}, which is not installed. Install it, "
                "or set early_stop_pictures to 0."
            )
        unwanted, wanted = concept_prompts(context)
        if not wanted:
            raise WorkflowError("Stopping early needs prompts without the concept: give prompt pairs, or set "
                                "early_stop_pictures to 0.")  # fmt: skip
        self.unwanted = list(islice(cycle(unwanted), self.count))
        self.wanted = list(islice(cycle(wanted), self.count))
        self.distance, _ = best_distance()
        self.reference: np.ndarray | None = None  # the original's pictures of what should stay

    def begin(self) -> None:
        """Draw the original's pictures, while it is still the original."""
        if self.count:
            self.reference = self._draw(self.wanted)

    def check(self, step: int) -> None:
        """Raises Enough where the training has done what was asked."""
        if not self.count or self.reference is None or self.detector is None:
            return
        found = [detection.found for detection in self.detector.detect(self._draw(self.unwanted))]
        rate = sum(found) / len(found)
        if rate > self.config.early_stop_rate:
            return
        distance = float(np.mean(self.distance.score(self._draw(self.wanted), self.reference)))
        if distance <= self.config.early_stop_distance:
            raise Enough(
                f"Ended early at step {step}: the concept is in {sum(found)} of {len(found)} pictures, and others "
                f"differ by {distance:.3f} ({self.distance.name})."
            )

    def _draw(self, texts: list[str]) -> np.ndarray:
        sampling = SamplingConfig()
        return self.bundle.generate(
            texts,
            range(FIRST_SEED, FIRST_SEED + len(texts)),
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            batch_size=AT_ONCE,
        ).images


def concept_prompts(context: JobContext) -> tuple[list[str], list[str]]:
    """Prompts with the concept and without; of the embedded checkpoint none that is held out for the report."""
    if context.is_toybox:
        ready = prompts.ready_prompts()
        return ready["implied"] + ready["named"], ready["object"] + ready["neighbour"]
    pairs = context.store.list_prompt_pairs(context.project.id)
    unsafe = dict.fromkeys([pair.unsafe for pair in pairs] or [context.project.concept])
    return list(unsafe), list(dict.fromkeys(pair.safe for pair in pairs))
