"""What a metric and a detector are. Pictures are uint8 arrays [N, H, W, 3], RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class MetricUnavailable(RuntimeError):  # noqa: N818 (reads as what it says)
    """The metric cannot run here (say, weights that must be downloaded). Names what is missing and how to get it."""


def check_images(images: np.ndarray) -> np.ndarray:
    """The pictures unchanged, or a ValueError that says what is wrong with them."""
    if not isinstance(images, np.ndarray):
        raise ValueError(f"Pictures must be a NumPy array of uint8 [N, H, W, 3]; got {type(images).__name__}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:]:
        raise ValueError(
            f"Pictures must be uint8 [N, H, W, 3], RGB; got {images.dtype} {list(images.shape)}. "
            "Read them with studio.images.read_image or generate them with ModelBundle.generate."
        )
    return images


@dataclass(frozen=True)
class Detection:
    """What a detector says of one picture."""

    found: bool  # is the concept there?
    score: float  # 0 … 1, the detector's confidence that it is
    labels: dict[str, float] = field(default_factory=dict)  # every label with its confidence
    facts: dict[str, str] = field(default_factory=dict)  # toybox: object, shirt, background (object may be "unclear")

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):  # it would pass for a picture without the concept
            raise ValueError(
                f"The detector gave the score {self.score}, which is no number. Its weights are damaged, or its "
                "numbers overflow; fetch them again."
            )


class Detector(Protocol):
    """Says of a picture whether the concept is in it. Loaded once a process."""

    name: str
    version: str
    higher_is_better: bool  # False: a concept found is a failure to forget
    settings: dict[str, Any]  # threshold, label set …, shown beside every figure
    names: Sequence[str]  # of what it can see; () where it does not tell
    wanted: Sequence[str]  # those of them that are the concept

    def detect(self, images: np.ndarray) -> list[Detection]: ...


class Measure(Protocol):
    """One number for all pictures that a model drew under prompts without the concept, or under its own."""

    name: str
    title: str  # with the network and the scale, as a table shows it
    higher_is_better: bool
    is_share: bool  # of pictures, 0 … 1
    fewest: int  # pictures below which it is not worth saying
    asks: str  # the cell of its own prompts, "" where it takes those without the concept

    def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
        """Take in pictures [N, H, W, 3], the original's of the same prompts and seeds, and the prompts."""
        ...

    def take(self) -> tuple[float, int]:
        """The number and how many pictures it is of; starts anew."""
        ...


class Metric(Protocol):
    """Scores pictures against reference pictures of the same prompts and seeds."""

    name: str
    higher_is_better: bool

    def score(self, images: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """One float a picture, shape [N]."""
        ...
