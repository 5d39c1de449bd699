"""How far apart two pictures are, pixel by pixel, as numbers and as a heat map."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from studio.images import ImageError

HOTTEST = 128  # of 255: a mean difference over the three colours from which the map shows its last colour
STOPS = ((9, 12, 32), (74, 20, 96), (160, 42, 90), (224, 92, 48), (250, 176, 60), (252, 250, 190))


def absolute_difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures uint8 [H, W, 3] -> |left - right|, mean over the colours, float [H, W] in 0 … 255."""
    if left.shape != right.shape:
        raise ImageError(f"Pictures of {left.shape[:2]} and {right.shape[:2]} pixels cannot be compared by pixels.")
    return np.asarray(np.abs(left.astype(np.int16) - right.astype(np.int16)).mean(axis=2))


def heat_map(difference: np.ndarray) -> Image.Image:
    """Values [H, W] in 0 … 255 as colours from STOPS[0] (0) to STOPS[-1] (HOTTEST and more)."""
    return Image.fromarray(_colours()[np.clip(difference * 255 / HOTTEST, 0, 255).round().astype(np.uint8)])


def heat_scale() -> str:
    """What the colours mean, as HTML."""
    colours = ", ".join(f"rgb{stop}" for stop in STOPS)
    return (
        '<p class="duo-heat-scale"><span>no difference</span>'
        f'<i aria-hidden="true" style="background:linear-gradient(to right, {colours})"></i>'
        f"<span>{HOTTEST} of 255 and more</span></p>"
    )


@cache
def _colours() -> np.ndarray:
    """256 colours, uint8 [256, 3], evenly between the stops."""
    places = np.linspace(0, 255, len(STOPS))
    channels = [np.interp(np.arange(256), places, [stop[channel] for stop in STOPS]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
