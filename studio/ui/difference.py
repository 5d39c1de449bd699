"""Two models' pictures of the same prompt and seed, and how far apart they are, pixel by pixel.

/studio/differences/<sha256>-<sha256>.webp     the heat map of two pictures; hidden when one of the two is
"""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.images import ImageError, read_image
from studio.inference.client import Cell
from studio.settings import Settings
from studio.store import Store
from studio.ui.heat import absolute_difference, heat_map, heat_scale
from studio.ui.json_routes import ForbiddenError
from studio.ui.pictures import enlarged, picture_url
from studio.ui.results import Comparison, picture, verdict
from studio.ui.veils import NEVER, Veils, blurred, veiled
from studio.ui.viewer import viewer_of
from studio.ui.words import escape, note


def difference_url(left: str, right: str) -> str:
    return f"studio/differences/{left}-{right}.webp"


def differences(comparison: Comparison, settings: Settings, left: int = 0, right: int = 1) -> str:
    """A row a prompt and seed: one picture, the other, and their heat map with the mean difference."""
    pairs = comparison.pairs(left, right)
    if not pairs:
        return '<p class="duo-done">There is no prompt of which both models have a picture.</p>'
    rows = "".join(_row(comparison, settings, *pair) for pair in pairs)
    return f'{heat_scale()}<div class="duo-scroll" tabindex="0" role="region" aria-label="Differences">{rows}</div>'


def difference_routes(settings: Settings, store: Store) -> list[Route]:
    veils = Veils(settings, store)

    def heat(request: Request) -> Response:
        names = request.path_params["name"].removesuffix(".webp").split("-")
        try:
            left, right = (veils.read(name, viewer_of(request).name) for name in names)
            drawn = heat_map(absolute_difference(np.asarray(left.picture), np.asarray(right.picture)))
        except ValueError as error:  # also an ImageError, and any other number of names than two
            return PlainTextResponse(f"There is no such difference. {error}", status_code=404, headers=NEVER)
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403, headers=NEVER)
        blur, headers = veiled(request, left.hidden or right.hidden, settled=not (left.grey or right.grey))
        shown = left.toned(right.toned(blurred(drawn) if blur else drawn))
        return Response(enlarged(shown), media_type="image/webp", headers=headers)

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
