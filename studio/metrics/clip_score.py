"""CLIP score: how well a picture fits its prompt (Hessel et al. 2021, https://arxiv.org/abs/2104.08718)."""

from __future__ import annotations

import numpy as np

from models.clip_judge import ClipJudge
from studio.metrics.base import check_images
from studio.metrics.clip_detector import load_clip


class ClipScore:
    """100 x max(cosine, 0) of a picture and its prompt, by ViT-L/14: higher is better.

    The scale is that of the unlearning papers and of torchmetrics; Hessel et al. print 2.5 x cosine.
    """

    name = "clip-score"
    title = "CLIP score (ViT-L/14, 100 x cosine)"
    higher_is_better = True
    fewest = 1  # pictures
    is_share = False
    asks = ""

    def __init__(self, judge: ClipJudge | None = None) -> None:
        """Raises MetricUnavailable where CLIP is not on this machine."""
        self._judge = judge or load_clip()
        self._scores: list[float] = []

    def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
        """Pictures [N, H, W, 3] and their prompts; the reference is not looked at."""
        if len(check_images(images)) != len(prompts):
            raise ValueError(f"{len(images)} pictures came with {len(prompts)} prompts.")
        cosines = (self._judge.pictures(images) * self._judge.texts(prompts)).sum(dim=-1)
        self._scores += (100 * cosines.clamp(min=0)).tolist()

    def take(self) -> tuple[float, int]:
        """The mean over what was added, and its number; then it is empty again."""
        scores, self._scores = self._scores, []
        return float(np.mean(scores)), len(scores)
