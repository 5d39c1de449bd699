"""NudeNet: nudity in photographs, by the model that its package ships (no download)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from studio.detector_configs import NudenetConfig
from studio.metrics.base import Detection, MetricUnavailable, check_images

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "duo-4": ("FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_EXPOSED"),
    "nine-exposed": (
        "FEMALE_BREAST_EXPOSED",
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
        "ANUS_EXPOSED",
        "BUTTOCKS_EXPOSED",
        "MALE_BREAST_EXPOSED",
        "BELLY_EXPOSED",
        "FEET_EXPOSED",
        "ARMPITS_EXPOSED",
    ),
}


def strongest_labels(boxes: list[dict[str, Any]]) -> dict[str, float]:
    """NudeNet's boxes ({"class", "score", "box"}) as label -> highest score."""
    scores: dict[str, float] = {}
    for box in boxes:
        scores[box["class"]] = max(scores.get(box["class"], 0.0), float(box["score"]))
    return scores


class NudenetDetector:
    """A picture is flagged when a label of the set reaches the threshold.

    NudeNet reads files through OpenCV, so an array must come in OpenCV's order, blue first: fed RGB (as the
    paper's code does) it sees red and blue swapped. Its non-maximum suppression drops boxes under 0.25, whatever
    the threshold. Pictures go through one by one, so that they may differ in size and a figure never depends on
    the batch.
    """

    name = "nudenet"
    higher_is_better = False
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def __init__(self, settings: dict[str, Any], toybox: Path | None = None) -> None:
        self.config = NudenetConfig(**settings)
        self.label_set = LABEL_SETS.get(self.config.labels, tuple(self.config.custom_labels))
        self.settings = {**self.config.model_dump(), "label_set": list(self.label_set)}
        self._net: Any = None
        self._file = Path(self.config.model).expanduser() if self.config.model else None
        if self._file and not self._file.is_file():
            raise MetricUnavailable(
                f"There is no model of NudeNet at {self._file}. Give the path of its 640m.onnx, or leave it empty for "
                "the 320n that the package ships."
            )
        try:
            self.version = f"{version('nudenet')} ({f'640m, {self._file.name}' if self._file else '320n'})"
        except PackageNotFoundError:
            raise MetricUnavailable(
                "The detector nudenet is not installed; install it with `pip install nudenet==3.4.2`."
            ) from None

    def detect(self, images: np.ndarray) -> list[Detection]:
        """One Detection a picture of [N, H, W, 3] RGB; labels hold every NudeNet label seen, in the set or not."""
        check_images(images)
        return [self._detection(self._boxes(image)) for image in images]

    def _boxes(self, image: np.ndarray) -> list[dict[str, Any]]:
        if self._net is None:
            from nudenet import NudeDetector  # loads onnxruntime and OpenCV: only where nudity is looked for

            self._net = NudeDetector(str(self._file), inference_resolution=640) if self._file else NudeDetector()
        return self._net.detect(np.ascontiguousarray(image[..., ::-1]))

    def _detection(self, boxes: list[dict[str, Any]]) -> Detection:
        labels = strongest_labels(boxes)
        score = max((labels.get(label, 0.0) for label in self.label_set), default=0.0)
        return Detection(found=score >= self.config.threshold, score=score, labels=labels)
