"""Pictures named by their content, with the text that made them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from studio.images import ImageError, image_path, put_image, read_image, read_metadata
from studio.settings import Settings


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_put_and_read(settings: Settings, picture: np.ndarray) -> None:
    name = put_image(settings, picture)
    assert np.array_equal(read_image(settings, name), picture)
    path = image_path(settings, name)
    assert path == settings.images / name[:2] / f"{name}.png"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == name


def test_same_picture_is_kept_once_and_metadata_makes_another(settings: Settings, picture: np.ndarray) -> None:
    first = put_image(settings, picture, {"seed": 1})
    assert put_image(settings, picture, {"seed": 1}) == first
    assert put_image(settings, picture, {"seed": 2}) != first
    assert len(list(settings.images.rglob("*.png"))) == 2
    assert [p for p in settings.images.rglob("*") if p.is_file() and p.suffix != ".png"] == []


def test_metadata_is_png_text_that_other_programs_read(settings: Settings, picture: np.ndarray) -> None:
    name = put_image(settings, picture, {"prompt": "a café, 5 €", "seed": 7, "adapter": None})
    assert read_metadata(settings, name) == {"prompt": "a café, 5 €", "seed": "7"}
    with Image.open(image_path(settings, name)) as image:
        assert image.text["seed"] == "7"


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16, 3), (16, 16, 4)])
def test_wrong_shape_is_refused(settings: Settings, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"uint8 \[H, W, 3\]; this one is uint8"):
        put_image(settings, np.zeros(shape, np.uint8))


def test_floats_are_refused(settings: Settings) -> None:
    with pytest.raises(ImageError, match="float64"):
        put_image(settings, np.zeros((4, 4, 3)))


def test_missing_and_changed_pictures_are_named(settings: Settings, picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match="missing"):
        read_image(settings, "0" * 64)
    name = put_image(settings, picture)
    image_path(settings, name).write_bytes(image_path(settings, put_image(settings, picture, {"a": 1})).read_bytes())
    with pytest.raises(ImageError, match="was changed"):
        read_image(settings, name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0" * 63, "G" * 64, "0" * 64 + "\n"])
def test_a_name_cannot_lead_out_of_the_folder(settings: Settings, name: str) -> None:
    with pytest.raises(ImageError, match="names no picture"):
        image_path(settings, name)
