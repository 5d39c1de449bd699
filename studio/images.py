"""The studio's pictures: PNG files named by the SHA-256 of their bytes, under `settings.images`.

A picture is written once and never changed, so a name is a promise of content. What made the picture (prompt, seed,
checkpoint …) travels inside it as PNG text.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.files import write_atomically
from studio.settings import Settings

SHA256 = re.compile(r"[0-9a-f]{64}")


class ImageError(ValueError):
    """A picture that cannot be written or read; says which and why."""


def put_image(settings: Settings, image: np.ndarray, metadata: Mapping[str, Any] | None = None) -> str:
    """Write a picture and return its name, the SHA-256 of the PNG file in hexadecimal.

    `image` is uint8 [H, W, 3], RGB. Each item of `metadata` becomes a PNG text chunk, a None is left out. The same
    pixels with the same metadata give the same name and are written once; used again, the file counts as new, so that
    `studio.cleaning` leaves it alone until a row names it.
    """
    data = png_bytes(image, metadata)
    name = hashlib.sha256(data).hexdigest()
    path = image_path(settings, name)
    try:
        os.utime(path)
    except FileNotFoundError:
        write_atomically(path, data)
    return name


def image_path(settings: Settings, sha256: str) -> Path:
    """Where a picture of this name lies, whether it is there or not."""
    if not SHA256.fullmatch(sha256):
        raise ImageError(f"{sha256!r} names no picture; a name is 64 hexadecimal digits, as put_image returns it.")
    return settings.images / sha256[:2] / f"{sha256}.png"


def read_image(settings: Settings, sha256: str) -> np.ndarray:
    """The picture as uint8 [H, W, 3]. Raises ImageError where it is missing or its bytes are no longer its own."""
    with Image.open(BytesIO(_checked_bytes(settings, sha256))) as image:
        return np.asarray(image.convert("RGB"))


def read_file(settings: Settings, sha256: str) -> bytes:
    """The picture's PNG file. Raises ImageError where it is missing or its bytes are no longer its own."""
    return _checked_bytes(settings, sha256)


def read_metadata(settings: Settings, sha256: str) -> dict[str, str]:
    """The text that was written into the picture."""
    with Image.open(BytesIO(_checked_bytes(settings, sha256))) as image:
        image.load()  # text may also follow the pixels
        return dict(getattr(image, "text", {}))


def png_bytes(image: np.ndarray, metadata: Mapping[str, Any] | None = None) -> bytes:
    """A PNG file in memory, the same bytes for the same picture and metadata."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"A picture must be uint8 [H, W, 3]; this one is {image.dtype} {list(image.shape)}.")
    text = PngInfo()
    for key, value in (metadata or {}).items():
        if value is not None:
            text.add_itxt(key, str(value)) if not str(value).isascii() else text.add_text(key, str(value))
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _checked_bytes(settings: Settings, sha256: str) -> bytes:
    path = image_path(settings, sha256)
    if not path.exists():
        raise ImageError(f"The picture {path} is missing; was the data folder moved or emptied?")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ImageError(f"The picture {path} was changed: its SHA-256 is now {found}. Restore it or make it again.")
    return data
