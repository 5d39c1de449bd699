"""Any concept in words: CLIP's zero-shot answer to "is it this, or one of those?"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.clip_judge import ClipJudge
from models.specs import LoadError
from studio.backbones import BACKBONES, BackboneError, located
from studio.detector_configs import ClipDetectorConfig
from studio.metrics.base import Detection, MetricUnavailable, check_images


class ClipDetector:
    """`score` is the softmax over all texts, times CLIP's own scale, summed over the texts of the concept.

    As in Radford et al. 2021, section 3.1. The number depends on the texts beside it: keep them fixed between models.
    """

    name = "clip"
    higher_is_better = False
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def __init__(self, settings: dict[str, Any], toybox: Path | None = None) -> None:
        self.config = ClipDetectorConfig(**settings)
        self.settings = self.config.model_dump()
        self.names, self.wanted = [*self.config.concept, *self.config.others], self.config.concept
        clip = BACKBONES["clip-l14"]
        self.version = f"ViT-L/14 ({clip.revision[:7]})" if not self.config.model else Path(self.config.model).name
        self._judge: ClipJudge | None = None
        self._texts: torch.Tensor

    def detect(self, images: np.ndarray) -> list[Detection]:
        """One Detection a picture of [N, H, W, 3]; labels hold every text with its share."""
        if len(check_images(images)) == 0:
            return []
        judge, texts = self._load(), [*self.config.concept, *self.config.others]
        shares = (judge.scale * judge.pictures(images) @ self._texts.T).softmax(dim=-1)
        found = shares[:, : len(self.config.concept)].sum(dim=1).clamp(0, 1)
        return [
            Detection(
                found=float(score) >= self.config.threshold,
                score=float(score),
                labels={text: float(share) for text, share in zip(texts, row, strict=True)},
            )
            for score, row in zip(found, shares, strict=True)
        ]

    def _load(self) -> ClipJudge:
        if self._judge is None:
            self._judge = load_clip(self.config.model)
            self._texts = self._judge.texts([*self.config.concept, *self.config.others])
        return self._judge


def load_clip(folder: str = "") -> ClipJudge:
    """CLIP ViT-L/14 from the hub's cache, or another one from a folder. Raises MetricUnavailable."""
    try:
        return ClipJudge(Path(folder).expanduser() if folder else located("clip-l14"))
    except (BackboneError, LoadError) as error:
        raise MetricUnavailable(str(error)) from None
