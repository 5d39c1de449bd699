"""ImageNette: pictures of ten easy classes of ImageNet, counted by ResNet-50's likeliest class (top-1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from studio.backbones import BackboneError, located
from studio.metrics.base import MetricUnavailable, check_images
from studio.metrics.imagenet_detector import ImagenetDetector, class_numbers

CELL = "imagenette"
CLASSES = (
    "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck", "gas pump",
    "golf ball", "parachute",
)  # fmt: skip
PROMPT = "a photo of a {}"


class Imagenette:
    """Share of pictures of its own prompts whose likeliest class of all 1,000 is the one that was asked for."""

    name = "imagenette"
    title = "ImageNette accuracy (ResNet-50, top-1)"
    higher_is_better = True
    is_share = True
    fewest = 1  # pictures
    asks = CELL

    def __init__(self, judge: ImagenetDetector | None = None) -> None:
        """Raises MetricUnavailable where ResNet-50 is not on this machine."""
        try:
            located("resnet50")
        except BackboneError as error:
            raise MetricUnavailable(str(error)) from None
        self._judge = judge or ImagenetDetector({})
        self._right: list[bool] = []

    def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
        """Pictures [N, H, W, 3] and the prompts of `class_prompts` that they were drawn from."""
        if len(check_images(images)) != len(prompts):
            raise ValueError(f"{len(images)} pictures came with {len(prompts)} prompts.")
        wanted = {prompt_of(name): class_numbers([name])[0] for name in CLASSES}
        best = self._judge.probabilities(images).argmax(dim=-1).tolist()
        self._right += [seen == wanted[prompt] for seen, prompt in zip(best, prompts, strict=True)]

    def take(self) -> tuple[float, int]:
        """The share, and of how many pictures; then it is empty again."""
        right, self._right = self._right, []
        return float(np.mean(right)), len(right)


def prompt_of(name: str) -> str:
    return PROMPT.format(name)


def class_prompts(detector: str, settings: dict[str, Any]) -> list[str]:
    """A prompt a class, but for a class that is itself to be forgotten."""
    forgotten = set(ImagenetDetector(settings).numbers) if detector == "imagenet" else set()
    return [prompt_of(name) for name in CLASSES if class_numbers([name])[0] not in forgotten]
