"""A whole comparison as one ZIP: the grid as a labelled PNG, and what made its pictures as JSON and CSV.

    POST /studio/comparison.zip     with the field "sheet", the JSON of a Sheet

What is hidden (see `studio.ui.veils`) is blurred in it, unless it is asked for with the header that reveals. The
pictures say by themselves what made them, so nothing is believed of the request but which hash goes where and how the
columns are called. Nothing is written to disk.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio import __version__
from studio.csv_files import csv_text
from studio.images import ImageError, read_metadata
from studio.prompt_checks import has_half_letter
from studio.reports.grid import Grid, compose_grid
from studio.settings import Settings
from studio.store import Store
from studio.ui.compare_form import MAX_PICTURES
from studio.ui.json_routes import ForbiddenError
from studio.ui.results import CHANGED, Comparison, clear_link
from studio.ui.veils import REVEAL, Veils, blurred
from studio.ui.viewer import viewer_of
from studio.ui.words import escape, short_hash

MAX_BYTES = 200_000  # of a request; 200 hashes take 14 kB
MAX_SHOWN = 512  # pixels a picture's side in the sheet
FIELDS = (
    "row", "column", "model", "prompt", "seed", "steps", "guidance_scale", "checkpoint", "adapter", "adapter_sha256",
    "adapter_scale", "detector", "detector_verdict", "Software", "sha256", "error",
)  # fmt: skip


class SheetError(ValueError):
    """A sheet that cannot be made; worded for the visitor."""


@dataclass(frozen=True)
class Sheet:
    """Where the pictures go: hashes by row and column, "" where there is no picture."""

    columns: list[str]
    rows: list[str]
    pictures: list[list[str]]
    errors: list[str]  # a column's reason for having no pictures, or ""

    def __post_init__(self) -> None:
        wide = {len(self.columns), len(self.errors), *map(len, self.pictures)}
        if len(wide) != 1 or len(self.rows) != len(self.pictures) or not any(map(any, self.pictures)):
            raise SheetError("There are no pictures to put on a sheet, or not one for each row and column.")
        if len(self.rows) * len(self.columns) > MAX_PICTURES:  # empty places take as much memory as pictures
            raise SheetError(f"A sheet has at most {MAX_PICTURES} places, as a comparison has.")


def sheet_of(comparison: Comparison) -> Sheet | None:
    """The comparison's pictures in their places; None while it has none."""
    rows, models = comparison.rows(), comparison.models
    columns = [
        f"{model.label} · {short_hash(model.adapter_sha256)}" if model.adapter_sha256 else model.label
        for model in models
    ]
    pictures = [[cells[i].sha256 if i in cells else "" for i in range(len(models))] for cells in rows.values()]
    if not any(map(any, pictures)):
        return None
    errors = {cell.model: _reason(cell.error) for cell in comparison.cells if cell.error}
    titles = [f"{prompt} · seed {seed}" for prompt, seed in rows]
    return Sheet(columns, titles, pictures, [errors.get(index, "") for index in range(len(models))])


def sheet_form(comparison: Comparison) -> str:
    """The button that downloads a comparison, or nothing while it has no pictures."""
    sheet = sheet_of(comparison)
    if sheet is None:
        return ""
    clear = ""
    if any(comparison.veils(cell) for cell in comparison.cells):
        clear = (
            f'<button type="submit"{clear_link(True)} title="The same with no picture blurred">'
            "Download grid, all clear (ZIP)</button>"
        )
    return (
        '<form method="post" action="studio/comparison.zip">'
        f'<input type="hidden" name="sheet" value="{escape(json.dumps(asdict(sheet)))}">'
        '<button type="submit" title="The grid as a PNG, and prompts, seeds, models, hashes and verdicts as JSON and '
        f'CSV">Download grid (ZIP)</button>{clear}</form>'
    )


def sheet_zip(veils: Veils, sheet: Sheet, viewer: str = "", *, clear: bool = False) -> bytes:
    """grid.png, comparison.json and comparison.csv; hidden pictures blurred, or `clear`.

    Raises ImageError for a picture that is not there, ForbiddenError for one that is not for this viewer.
    """
    listed = _listed(veils.settings, sheet)
    drawn = BytesIO()
    _grid(veils, sheet, listed, viewer, clear).image.save(drawn, "PNG")
    whole = {"made_by": f"DUO Studio {__version__}", "columns": sheet.columns, "rows": sheet.rows, "pictures": listed}
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("grid.png", drawn.getvalue())
        archive.writestr("comparison.json", json.dumps(whole, indent=2, ensure_ascii=False))
        archive.writestr("comparison.csv", csv_text(FIELDS, listed))
    return packed.getvalue()


def sheet_routes(settings: Settings, store: Store) -> list[Route]:
    veils = Veils(settings, store)

    async def comparison(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return PlainTextResponse("That is too large to be a comparison.", status_code=413)
        try:
            clear, viewer = REVEAL in request.headers, viewer_of(request).name
            packed = await run_in_threadpool(lambda: sheet_zip(veils, _asked(body), viewer, clear=clear))
        except (SheetError, ImageError) as error:
            return PlainTextResponse(str(error), status_code=400)
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403)
        headers = {"Content-Disposition": 'attachment; filename="duo-comparison.zip"', "Cache-Control": "no-store"}
        return Response(packed, media_type="application/zip", headers=headers)

    return [Route("/studio/comparison.zip", comparison, methods=["POST"])]


def _asked(body: bytes) -> Sheet:
    """The sheet of a form's body. Raises SheetError where it is none."""
    try:
        given = json.loads(parse_qs(body.decode())["sheet"][0])
        sheet = Sheet(**given)
    except SheetError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SheetError(f"This is no sheet of pictures: {error}.") from error
    names = [*sheet.columns, *sheet.rows, *sheet.errors, *(name for row in sheet.pictures for name in row)]
    if not all(isinstance(name, str) and not has_half_letter(name) for name in names):
        raise SheetError("This is no sheet of pictures: its labels and hashes must be text.")
    return sheet


def _listed(settings: Settings, sheet: Sheet) -> list[dict[str, Any]]:
    """One dictionary a place of the sheet: what its picture says about itself, or why there is none."""
    listed = []
    for row, names in enumerate(sheet.pictures):
        for column, name in enumerate(names):
            about: dict[str, Any] = {"row": row + 1, "column": column + 1, "model": sheet.columns[column]}
            made = {**read_metadata(settings, name), "sha256": name} if name else {"error": sheet.errors[column]}
            listed.append(about | made)
    return listed


def _grid(veils: Veils, sheet: Sheet, listed: list[dict[str, Any]], viewer: str, clear: bool) -> Grid:
    """The pictures under their columns' names, each with its verdict or the reason why it is not there."""
    images = [[_pixels(veils, name, viewer, clear) if name else None for name in row] for row in sheet.pictures]
    height, width = max(image.shape[:2] for row in images for image in row if image is not None)
    scale = min(1.0, MAX_SHOWN / max(height, width))
    size = (round(width * scale), round(height * scale))
    empty = np.full((size[1], size[0], 3), 225, np.uint8)
    sized = [[empty if image is None else _sized(image, size) for image in row] for row in images]
    captions = [str(one.get("detector_verdict") or one.get("error") or "") for one in listed]
    wide = len(sheet.columns)
    return compose_grid(
        np.stack([np.stack(row) for row in sized]),
        sheet.rows,
        sheet.columns,
        {},
        [[caption[:40] for caption in captions[start : start + wide]] for start in range(0, len(captions), wide)],
    )


def _pixels(veils: Veils, name: str, viewer: str, clear: bool) -> np.ndarray:
    """uint8 [H, W, 3]; a blurred picture has its own size again."""
    seen = veils.read(name, viewer)
    shown = blurred(seen.picture).resize(seen.picture.size) if seen.hidden and not clear else seen.picture
    return np.asarray(seen.toned(shown))


def _sized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size[::-1]:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _reason(error: str) -> str:
    return "hash mismatch: the adapter's file was changed" if CHANGED in error else error
