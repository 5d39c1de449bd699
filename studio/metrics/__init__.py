"""Registries of detectors (is the concept there?), distances and measures (what else changed?)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.metrics.base import Detector, Measure, Metric, MetricUnavailable
from studio.metrics.clip_detector import ClipDetector
from studio.metrics.clip_score import ClipScore
from studio.metrics.external_detector import ExternalDetector
from studio.metrics.fid import Fid
from studio.metrics.imagenet_detector import ImagenetDetector
from studio.metrics.imagenette import Imagenette
from studio.metrics.lpips_metric import LpipsAlex
from studio.metrics.lpips_small import Lpips64
from studio.metrics.nudenet_detector import NudenetDetector
from studio.metrics.rmse import Rmse
from studio.metrics.toybox_detector import ToyboxDetector

DETECTORS: dict[str, Callable[[dict[str, Any], Path], Detector]] = {
    "toybox": ToyboxDetector,
    "nudenet": NudenetDetector,
    "imagenet": ImagenetDetector,
    "clip": ClipDetector,
    "external": ExternalDetector,
}
MEASURES: dict[str, Callable[[], Measure]] = {
    "clip-score": ClipScore,
    "lpips-64": Lpips64,
    "fid": Fid,
    "imagenette": Imagenette,
}
DISTANCES: dict[str, Callable[[], Metric]] = {"lpips-alex": LpipsAlex, "rmse": Rmse}


def get_detector(name: str, settings: dict[str, Any], toybox: Path) -> Detector:
    """The detector of that name with these settings; it loads its weights at the first picture."""
    if name not in DETECTORS:
        raise ValueError(f"There is no detector {name!r}; use one of {', '.join(DETECTORS)}.")
    return DETECTORS[name](settings, toybox)


def best_distance() -> tuple[Metric, str]:
    """LPIPS where its backbone is on this machine, else RMSE; and why it is not LPIPS ("" if it is)."""
    try:
        return LpipsAlex(), ""
    except MetricUnavailable as error:
        return Rmse(), str(error)
