"""LPIPS of pictures made smaller first, as some papers of this field measure it: another number, under another name."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from studio.metrics.base import check_images
from studio.metrics.lpips_metric import LpipsAlex

SIDE = 64


class Lpips64:
    """LPIPS (AlexNet, version 0.1) after both pictures were resized to 64 pixels (bilinear, antialiased)."""

    name = "lpips-64"
    title = "LPIPS of pictures resized to 64 px (AlexNet)"
    higher_is_better = False
    fewest = 1  # pictures
    is_share = False
    asks = ""

    def __init__(self, lpips: LpipsAlex | None = None) -> None:
        """Raises MetricUnavailable where AlexNet is not on this machine."""
        self._lpips = lpips or LpipsAlex()
        self._scores: list[float] = []

    def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
        """Pictures [N, H, W, 3] and the original's; the prompts are not looked at."""
        self._scores += self._lpips.score(smaller(images), smaller(reference)).tolist()

    def take(self) -> tuple[float, int]:
        """The mean over what was added, and its number; then it is empty again."""
        scores, self._scores = self._scores, []
        return float(np.mean(scores)), len(scores)


def smaller(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> uint8 [N, 64, 64, 3]."""
    x = torch.from_numpy(np.ascontiguousarray(check_images(images))).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
