"""Pictures from outside, made here as cameras, browsers and attackers make them: taken as they look, or refused."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from studio.exchange.pictures import PictureError, fitted, read_picture

RED = (200, 30, 40)


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def half_red(mode: str = "RGB") -> Image.Image:
    """Red on the left, black on the right, twice as wide as high."""
    image = Image.new("RGB", (40, 20))
    image.paste(RED, (0, 0, 20, 20))
    return image.convert(mode)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, in depths that PIL does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG", "AVIF"])
def test_each_format_is_read_by_its_content(kind: str) -> None:
    how = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    picture = read_picture(encoded(half_red(), kind, **how))
    assert (picture.shape, picture.dtype) == ((20, 40, 3), np.uint8)
    assert np.abs(picture[10, 5].astype(int) - RED).max() <= 8
    assert picture[10, 35].max() <= 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_each_kind_of_pixels_becomes_rgb(mode: str) -> None:
    image = half_red().quantize() if mode == "P" else half_red(mode)
    picture = read_picture(encoded(image))
    grey = round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2])
    wanted = {"1": None, "L": (grey,) * 3, "LA": (grey,) * 3}.get(mode, RED)
    assert picture.shape == (20, 40, 3)
    if wanted is not None:
        assert np.abs(picture[10, 5].astype(int) - wanted).max() <= 2


def test_cmyk_is_read_as_its_colours() -> None:
    picture = read_picture(encoded(half_red("CMYK"), "JPEG", quality=98))
    assert np.abs(picture[10, 5].astype(int) - RED).max() <= 8
    assert np.abs(read_picture(encoded(Image.new("CMYK", (40, 40)), "TIFF")) - 255).max() == 0  # no ink is white


def test_sixteen_bits_become_eight() -> None:
    grey = b"".join(b"\0" + struct.pack(">2H", 0, 0x8080) for _ in range(2))
    assert read_picture(png(2, 2, 16, 0, grey)).tolist() == [[[0] * 3, [128] * 3]] * 2
    colour = b"".join(b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0) for _ in range(2))
    assert read_picture(png(1, 2, 16, 2, colour)).tolist() == [[[255, 128, 0]]] * 2
    tiff = encoded(Image.fromarray(np.full((4, 4), 65_535, np.uint16)), "TIFF")
    assert read_picture(tiff).min() == 255


@pytest.mark.parametrize(("kind", "orientation"), [("JPEG", 6), ("PNG", 6), ("WEBP", 6), ("TIFF", 6), ("JPEG", 3)])
def test_the_cameras_rotation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(encoded(half_red(), kind, exif=exif))
    if orientation == 3:  # upside down: red is on the right
        assert picture.shape == (20, 40, 3)
        assert picture[10, 35, 0] > 150 > picture[10, 5, 0]
    else:  # a quarter turn to the right: what was left is on top
        assert picture.shape == (40, 20, 3)
        assert picture[5, 10, 0] > 150 > picture[35, 10, 0]


def test_what_is_transparent_becomes_white() -> None:
    image = half_red("RGBA")
    image.putpixel((5, 10), (*RED, 0))
    image.putpixel((6, 10), (0, 0, 0, 128))
    picture = read_picture(encoded(image))
    assert picture[10, 5].tolist() == [255] * 3
    assert np.abs(picture[10, 6].astype(int) - 127).max() <= 1
    assert picture[10, 7].tolist() == list(RED)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, *RED])
    palette.putpixel((0, 0), 0)
    assert read_picture(encoded(palette, transparency=0))[0].tolist()[:2] == [[255] * 3, list(RED)]


def test_colours_follow_the_profile() -> None:
    """A profile in which red and green are exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = read_picture(encoded(half_red(), icc_profile=profile))
    assert np.abs(plain[10, 5].astype(int) - RED).max() <= 1
    swapped = profile.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    picture = read_picture(encoded(Image.new("RGB", (8, 8), (255, 0, 0)), icc_profile=swapped))
    assert picture[0, 0, 1] > 200 > picture[0, 0, 0]
    assert read_picture(encoded(half_red(), icc_profile=b"no profile"))[10, 5].tolist() == list(RED)


def test_a_phones_second_picture_is_left_aside() -> None:
    data = encoded(half_red(), "MPO", save_all=True, append_images=[Image.new("RGB", (40, 20), "blue")])
    assert read_picture(data)[10, 5, 0] > 150


ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", (40, 20), "blue")]}
REFUSED = {
    "empty": (b"", "The file is empty"),
    "text": (b"hello, I am a picture", "no picture that can be read"),
    "svg": (b'\xef\xbb\xbf \n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG, HTML"),
    "html": (b"<!DOCTYPE html><script>alert(1)</script>", "SVG, HTML"),
    "svg in utf-16": ("\ufeff<svg/>".encode("utf-16-le"), "SVG, HTML"),
    "pdf": (b"%PDF-1.7 ...", "document"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "document"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "cut off JPEG": (encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")[:-900], "damaged or cut off"),
    "cut off PNG": (encoded(Image.effect_noise((64, 64), 90))[:-900], "damaged or cut off"),
    "damaged PNG": (encoded(half_red()).replace(b"IDAT", b"IDAX"), "damaged or cut off"),
    "GIF": (encoded(half_red(), "GIF", **ANIMATED), "holds 2 pictures"),
    "APNG": (encoded(half_red(), "PNG", **ANIMATED), "holds 2 pictures"),
    "WebP": (encoded(half_red(), "WEBP", **ANIMATED), "holds 2 pictures"),
    "TIFF": (encoded(half_red(), "TIFF", **ANIMATED), "holds 2 pictures"),
    "bomb": (png(60_000, 60_000, 8, 2, b"\0" * 999), "megapixels"),
    # cut off too: whoever unpacked it first would say so
    "large": (png(9000, 9000, 1, 0, b"\0" * 999), "9,000 x 9,000 pixels, 81 megapixels; 67 are the most"),
    "clear": (encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0))), "transparent all over"),
    "float": (encoded(Image.new("F", (8, 8)), "TIFF"), "kind F"),
    "32 bits": (encoded(Image.fromarray(np.full((8, 8), 1 << 20, np.int32)), "TIFF"), "32 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_picture_says_why(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(PictureError, match=words):
        read_picture(data)


def test_bytes_that_are_damaged_anywhere_raise_nothing_else() -> None:
    """Each kind with bytes changed at random: read, or refused in our words."""
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        whole = np.frombuffer(encoded(half_red(), kind), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[random.integers(0, len(data), 6)] = random.integers(0, 256, 6)
            with suppress(PictureError):
                assert read_picture(data.tobytes()).dtype == np.uint8


def test_crop_keeps_the_middle_and_pad_keeps_all() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, :10], picture[:, 30:] = RED, (0, 0, 250)
    crop = fitted(picture, 20, "crop")
    assert (crop.shape, crop.max()) == ((20, 20, 3), 0)  # both coloured ends are cut off
    padded = fitted(picture, 20, "pad")
    assert padded[0].min() == padded[-1].min() == 255
    assert padded[10, 0].tolist() == list(RED)
    assert padded[10, -1].tolist() == [0, 0, 250]
    assert (padded[5:15].min(axis=2) < 255).all()


def test_fitting_is_exact_where_nothing_is_to_do_and_refuses_blowing_up() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for fit in ("crop", "pad"):
        assert (fitted(picture, 32, fit) == picture).all()  # type: ignore[arg-type]
    assert fitted(picture[:8], 32, "crop").shape == (32, 32, 3)
    with pytest.raises(PictureError, match="32 x 7 pixels; for pictures of 32 x 32 each side needs at least 8"):
        fitted(picture[:7], 32, "pad")
