"""Two models' pictures of the same prompt and seed, and how far apart they are, pixel by pixel.

/studio/differences/<sha256>-<sha256>.webp     the heat map of two pictures; with ?blur its colours alone
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.images import ImageError, read_image
from studio.inference.client import Cell
from studio.settings import Settings
from studio.ui.pictures import FOREVER, blurred, enlarged, picture_url
from studio.ui.results import Comparison, picture, verdict
from studio.ui.words import escape, note

HOTTEST = 128  # of 255: a mean difference over the three colours from which the map shows its last colour
STOPS = ((9, 12, 32), (74, 20, 96), (160, 42, 90), (224, 92, 48), (250, 176, 60), (252, 250, 190))


def difference_url(left: str, right: str) -> str:
    return f"studio/differences/{left}-{right}.webp"


def differences(comparison: Comparison, settings: Settings, left: int = 0, right: int = 1) -> str:
    """A row a prompt and seed: one picture, the other, and their heat map with the mean difference."""
    pairs = comparison.pairs(left, right)
    if not pairs:
        return '<p class="duo-done">There is no prompt of which both models have a picture.</p>'
    rows = "".join(_row(comparison, settings, *pair) for pair in pairs)
    colours = ", ".join(f"rgb{stop}" for stop in STOPS)
    scale = (
        '<p class="duo-heat-scale"><span>no difference</span>'
        f'<i aria-hidden="true" style="background:linear-gradient(to right, {colours})"></i>'
        f"<span>{HOTTEST} of 255 and more</span></p>"
    )
    return f'{scale}<div class="duo-scroll" tabindex="0" role="region" aria-label="Differences">{rows}</div>'


def absolute_difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures uint8 [H, W, 3] -> |left - right|, mean over the colours, float [H, W] in 0 … 255."""
    if left.shape != right.shape:
        raise ImageError(f"Pictures of {left.shape[:2]} and {right.shape[:2]} pixels cannot be compared by pixels.")
    return np.asarray(np.abs(left.astype(np.int16) - right.astype(np.int16)).mean(axis=2))


def heat_map(difference: np.ndarray) -> Image.Image:
    """Values [H, W] in 0 … 255 as colours from STOPS[0] (0) to STOPS[-1] (HOTTEST and more)."""
    return Image.fromarray(_colours()[np.clip(difference * 255 / HOTTEST, 0, 255).round().astype(np.uint8)])


def difference_routes(settings: Settings) -> list[Route]:
    def heat(request: Request) -> Response:
        names = request.path_params["name"].removesuffix(".webp").split("-")
        try:
            left, right = (read_image(settings, name) for name in names)
            drawn = heat_map(absolute_difference(left, right))
        except ValueError as error:  # also an ImageError, and any other number of names than two
            return PlainTextResponse(f"There is no such difference. {error}", status_code=404)
        drawn = blurred(drawn) if "blur" in request.query_params else drawn
        return Response(enlarged(drawn), media_type="image/webp", headers=FOREVER)

    return [Route("/studio/differences/{name}", heat, methods=["GET"])]


def _row(comparison: Comparison, settings: Settings, left: Cell, right: Cell) -> str:
    shown = "".join(_picture(comparison, cell) for cell in (left, right))
    return (
        f'<p class="duo-prompt"><q>{escape(left.prompt)}</q> <span>seed {left.seed}</span></p>'
        f'<div class="duo-grid" style="--columns:3">{shown}{_heat(comparison, settings, left, right)}</div>'
    )


def _picture(comparison: Comparison, cell: Cell) -> str:
    label = comparison.label(cell)
    pill_html, spoken = verdict(comparison.concept, cell)
    alt = f"{label}: {cell.prompt}, seed {cell.seed}. {spoken}"
    shown = picture(picture_url(cell.sha256), alt, veiled=comparison.veils(cell))
    return f'<figure class="duo-cell">{shown}<figcaption><b>{escape(label)}</b> {pill_html}</figcaption></figure>'


def _heat(comparison: Comparison, settings: Settings, left: Cell, right: Cell) -> str:
    try:
        apart = absolute_difference(read_image(settings, left.sha256), read_image(settings, right.sha256))
    except ImageError as error:
        return f'<figure class="duo-cell">{note(str(error), "error")}</figure>'
    mean, changed = float(apart.mean()), float((apart > 0).mean())
    words = (
        f"mean {mean:.1f} of 255; {100 * changed:.0f} % of the pixels differ"
        if changed
        else "identical, pixel for pixel"
    )
    alt = f"Difference between {comparison.label(left)} and {comparison.label(right)}: {words}"
    veiled = comparison.veils(left) or comparison.veils(right)
    shown = picture(difference_url(left.sha256, right.sha256), alt, veiled=veiled)
    return f'<figure class="duo-cell">{shown}<figcaption><b>Difference</b> {escape(words)}</figcaption></figure>'


@cache
def _colours() -> np.ndarray:
    """256 colours, uint8 [256, 3], evenly between the stops."""
    places = np.linspace(0, 255, len(STOPS))
    channels = [np.interp(np.arange(256), places, [stop[channel] for stop in STOPS]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
