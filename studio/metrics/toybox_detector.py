"""The embedded checkpoint's detector: which object a cartoon person holds, the shirt and the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.toybox.detector import OBJECT_LABELS, VERSION, DetectorNet, load_detector, predict
from models.toybox.scenes import BACKGROUNDS, SHIRTS
from studio.detector_configs import ToyboxDetectorConfig
from studio.metrics.base import Detection, MetricUnavailable, check_images


class ToyboxDetector:
    """Wraps the CNN of `models/toybox/detector.py`.

    `found` is: the concept's confidence reaches the threshold. The fact "object" is the likeliest label, or
    "unclear" when that label, too, stays below the threshold: a broken picture counts neither as the concept
    nor as anything kept.
    """

    name = "toybox"
    higher_is_better = False
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def __init__(self, settings: dict[str, Any], toybox: Path) -> None:
        self.config = ToyboxDetectorConfig(**settings)
        self.settings = self.config.model_dump()
        self.version = VERSION
        self.names, self.wanted = OBJECT_LABELS[:-1], (self.config.concept,)
        self._file = toybox / "detector.safetensors"
        self._net: DetectorNet | None = None

    def detect(self, images: np.ndarray) -> list[Detection]:
        """One Detection a picture of [N, H, W, 3]; labels hold the confidence of each object."""
        if len(check_images(images)) == 0:
            return []
        answer = predict(self._load(), images)
        return [
            self._detection(*rows)
            for rows in zip(answer["object_probs"], answer["shirt_probs"], answer["background_probs"], strict=True)
        ]

    def _detection(self, objects: np.ndarray, shirts: np.ndarray, backgrounds: np.ndarray) -> Detection:
        labels = {label: float(value) for label, value in zip(OBJECT_LABELS, objects, strict=True)}
        best = max(labels, key=labels.__getitem__)
        score = labels[self.config.concept]
        return Detection(
            found=score >= self.config.threshold,
            score=score,
            labels=labels,
            facts={
                "object": best if labels[best] >= self.config.threshold else "unclear",
                "shirt": SHIRTS[int(np.argmax(shirts))],
                "background": BACKGROUNDS[int(np.argmax(backgrounds))],
            },
        )

    def _load(self) -> DetectorNet:
        if self._net is None:
            if not self._file.is_file():
                raise MetricUnavailable(
                    f"The embedded detector's weights are missing: {self._file}. Restore models/toybox/weights from "
                    "the repository, or rebuild them with `make toybox`."
                )
            self._net = load_detector(self._file)
        return self._net
