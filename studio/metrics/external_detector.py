"""A detector from another package, found by its entry point in the group `duo_studio.detectors`.

In the other package's pyproject.toml:

    [project.entry-points."duo_studio.detectors"]
    my-violence = "my_package.judge:detect"

and `detect(images)` takes uint8 pictures [N, H, W, 3], RGB, and returns N confidences in 0 … 1, or N pairs
(confidence, {label: confidence}). It is loaded by name alone: nobody who can only type into the page names a module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from studio.detector_configs import ExternalDetectorConfig
from studio.metrics.base import Detection, MetricUnavailable, check_images

GROUP = "duo_studio.detectors"


class ExternalDetector:
    """Wraps the callable; what it returns is checked, since figures hang on it."""

    name = "external"
    higher_is_better = False
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def __init__(self, settings: dict[str, Any], toybox: Path | None = None) -> None:
        self.config = ExternalDetectorConfig(**settings)
        self.settings = self.config.model_dump()
        found = installed().get(self.config.entry_point)
        if found is None:
            names = ", ".join(installed()) or "none"
            raise MetricUnavailable(
                f"No installed package offers the detector {self.config.entry_point!r} (entry points of {GROUP}: "
                f"{names}). Install the package that has it into the studio's environment."
            )
        self._entry = found
        self.version = f"{found.dist.name} {found.dist.version}" if found.dist else found.value
        self._call: Callable[[np.ndarray], Any] | None = None

    def detect(self, images: np.ndarray) -> list[Detection]:
        """One Detection a picture of [N, H, W, 3]."""
        if len(check_images(images)) == 0:
            return []
        if self._call is None:
            self._call = self._entry.load()
        answers = list(self._call(images))
        if len(answers) != len(images):
            raise ValueError(f"Detector {self._entry.value} gave {len(answers)} answers for {len(images)} pictures.")
        return [self._detection(answer) for answer in answers]

    def _detection(self, answer: Any) -> Detection:
        score, labels = answer if isinstance(answer, tuple) else (answer, {})
        score = float(score)
        if not 0 <= score <= 1:
            raise ValueError(f"Detector {self._entry.value} gave the confidence {score}; it must lie in 0 … 1.")
        named = {str(label): float(value) for label, value in labels.items()}
        return Detection(found=score >= self.config.threshold, score=score, labels=named)


def installed() -> dict[str, EntryPoint]:
    """The entry points of all installed packages, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}
