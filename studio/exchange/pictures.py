"""One picture from outside: opened by its content, whatever its name says, and made sRGB [H, W, 3], or refused.

The rotation that a camera notes is applied, colours are taken from their profile (CMYK too) to sRGB, 16 bits become 8,
transparency becomes white. Refused, each with its reason: what is no picture, damaged, animated, too large to open, or
too small for the project. Decoders of many formats read these bytes: only a worker's process should call this.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps

# Readers that PIL may use: no EPS or PDF, which start other programs, and no format that holds scripts.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MAX_PIXELS = 64 * 2**20  # more than any camera's; decoded, four bytes each
MAX_FILE = 128 * 2**20  # bytes
SMALLEST = 4  # a side may be enlarged this many times
SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"II*\0", b"MM\0*", b"BM")
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
NAMES = "PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF"
Fit = Literal["crop", "pad"]


class PictureError(ValueError):
    """A picture that is not taken; says why and what to do."""


def read_picture(data: bytes) -> np.ndarray:
    """The picture as uint8 [H, W, 3] in sRGB, upright. Raises PictureError."""
    _refuse_by_start(data)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_header(image)
            image.load()
            return _pixels(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Image.UnidentifiedImageError:
        broken = data.startswith(SIGNATURES) or data[8:12] in (b"WEBP", b"avif")
        what = "damaged or cut off at its very start" if broken else "no picture that can be read here"
        raise PictureError(f"It is {what}: save it as {NAMES}.") from None
    except Image.DecompressionBombError:
        raise PictureError(f"It has more than {_mega(MAX_PIXELS)} megapixels. Make it smaller.") from None
    except Exception as error:  # decoders raise whatever damaged bytes lead them into, each in its own way
        raise PictureError(f"It is damaged or cut off ({error or type(error).__name__}). Save it again.") from error


def fitted(picture: np.ndarray, side: int, fit: Fit) -> np.ndarray:
    """A picture [H, W, 3] as a square [side, side, 3].

    "crop" scales the shorter side to `side` and cuts off the longer one's ends alike; "pad" scales the longer side and
    fills the rest with white. Raises PictureError where so small a picture would have to be blown up.
    """
    height, width = picture.shape[:2]
    shorter = min(height, width)
    if shorter * SMALLEST < side:
        raise PictureError(
            f"It is {width} x {height} pixels; for pictures of {side} x {side} each side needs at least "
            f"{-(-side // SMALLEST)}."
        )
    image = Image.fromarray(picture)
    if fit == "crop":
        left, top = (width - shorter) / 2, (height - shorter) / 2
        box = (left, top, left + shorter, top + shorter)
        return np.array(image.resize((side, side), Image.Resampling.LANCZOS, box=box))
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    whole = Image.new("RGB", (side, side), "white")
    whole.paste(image.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.array(whole)


def _refuse_by_start(data: bytes) -> None:
    """What the first bytes say already, in clearer words than a decoder's."""
    if not data:
        raise PictureError("The file is empty.")
    if len(data) > MAX_FILE:
        raise PictureError(f"The file has {len(data) / 2**20:.0f} MiB; {MAX_FILE // 2**20} MiB are the most.")
    start = data[:256].lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n\0").lower()
    if start.startswith(b"<"):
        raise PictureError(f"It is SVG, HTML or the like, which can hold scripts, and no picture: save it as {NAMES}.")
    if start.startswith((b"%pdf", b"%!ps")):
        raise PictureError(f"It is a document and no picture: save the picture as {NAMES}.")
    if data[4:12] in HEIC:
        raise PictureError("It is HEIC, which cannot be read here: save it as JPEG or PNG.")


def _check_header(image: Image.Image) -> None:
    """Before anything is decoded. A phone's JPEG may hold a second picture (MPO): the first one is meant."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"It is {width:,} x {height:,} pixels, {_mega(width * height)} megapixels; {_mega(MAX_PIXELS)} are the "
            "most. Make it smaller."
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise PictureError(f"It holds {frames} pictures (animated, or pages): save the one that is meant by itself.")


def _pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of an upright picture in any mode."""
    if image.mode == "F" or image.mode == "LAB":
        raise PictureError(f"Its pixels are of the kind {image.mode}, whose colours are not plain: save it as RGB.")
    if image.mode.startswith("I"):
        return _sixteen_bits(np.asarray(image))
    if image.has_transparency_data:
        clear = _coloured(image.convert("RGBA"), image.info.get("icc_profile"))
        if clear.getchannel("A").getbbox() is None:
            raise PictureError("It is transparent all over: there is nothing to see.")
        white = Image.new("RGBA", clear.size, "white")
        return np.asarray(Image.alpha_composite(white, clear).convert("RGB"))
    plain = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
    own = image.mode in ("RGB", "CMYK", "P")  # a grey profile says nothing of RGB
    return np.asarray(_coloured(plain, image.info.get("icc_profile") if own else None).convert("RGB"))


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65_535:
        raise PictureError("Its pixels have 32 bits, whose white is not known: save it with 8 or 16 bits a colour.")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _coloured(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB. A profile that is damaged, or not of this picture's kind, is left aside."""
    if not profile:
        return image
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = "RGB" if image.mode == "CMYK" else image.mode
        done = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if done is None else done


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:.0f}"
