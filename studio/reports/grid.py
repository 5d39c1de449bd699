"""Pictures side by side as one PNG: rows are prompts or seeds, columns are models."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

TILE = 256  # pixels a picture's side at least; small pictures are enlarged by a whole factor
GAP, HEADER, CAPTION, LINE = 12, 34, 24, 20
INK, SOFT, PAPER = (29, 31, 36), (93, 98, 109), (251, 250, 248)


@dataclass(frozen=True)
class Grid:
    """A composed picture, where its tiles lie (left, top) by row and column, and the text it carries."""

    image: Image.Image
    positions: list[list[tuple[int, int]]]
    tile: int
    text: dict[str, str]

    def save(self, path: Path) -> None:
        """Write a PNG whose text chunks hold what made it."""
        info = PngInfo()
        for key, value in self.text.items():
            info.add_itxt(key, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.image.save(path, "PNG", pnginfo=info)


def compose_grid(
    images: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    metadata: Mapping[str, Any],
    captions: Sequence[Sequence[str]] | None = None,
) -> Grid:
    """Lay pictures uint8 [rows, columns, S, S, 3] out under column titles, each row under its own line of text.

    `captions` [rows][columns] go under the pictures (say, what a detector saw).
    """
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[:2] != (len(rows), len(columns)):
        raise ValueError(
            f"Pictures must be uint8 [rows, columns, H, W, 3] with a title for each of {len(rows)} rows and "
            f"{len(columns)} columns; got {images.dtype} {list(images.shape)}."
        )
    factor = max(1, -(-TILE // images.shape[3]))
    tile = images.shape[3] * factor
    step = tile + GAP
    wrapped = [textwrap.wrap(row, max(12, len(columns) * step // 8)) or [""] for row in rows]
    heights = [len(lines) * LINE + tile + CAPTION + GAP for lines in wrapped]
    image = Image.new("RGB", (len(columns) * step + GAP, HEADER + sum(heights) + GAP), PAPER)
    draw = ImageDraw.Draw(image)
    font, bold = ImageFont.load_default(15), ImageFont.load_default(17)
    for column, title in enumerate(columns):
        draw.text((GAP + column * step, GAP), textwrap.shorten(title, tile // 9, placeholder="…"), INK, bold)
    positions: list[list[tuple[int, int]]] = []
    top = HEADER + GAP
    for row, lines in enumerate(wrapped):
        draw.multiline_text((GAP, top), "\n".join(lines), SOFT, font)
        start = top + len(lines) * LINE
        positions.append([(GAP + column * step, start) for column in range(len(columns))])
        for column, (left, upper) in enumerate(positions[row]):
            picture = Image.fromarray(images[row, column])
            image.paste(
                picture.resize((tile, tile * picture.height // picture.width), Image.Resampling.NEAREST), (left, upper)
            )
            if captions:
                draw.text((left, upper + tile + 3), captions[row][column], SOFT, font)
        top += heights[row]
    return Grid(image, positions, tile, {key: str(value) for key, value in metadata.items()})
