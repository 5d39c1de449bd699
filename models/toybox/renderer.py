"""Draw a scene as a 64x64 cartoon: big flat shapes a tiny autoencoder can reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from models.toybox.scenes import BEHIND, EXTRAS, HATS, ROLES, Colour, Role, Scene, Shape

SUPERSAMPLE = 4
INK = (38, 34, 48)
Brush = Callable[[float, float, float, float, Colour], None]  # x0, y0, x1, y1, colour

SHIRT_COLOURS: dict[str, Colour] = {
    "red": (218, 46, 46),
    "blue": (44, 92, 226),
    "green": (30, 156, 70),
    "yellow": (252, 216, 44),
    "purple": (134, 58, 186),
    "white": (246, 246, 244),
}
STEEL_LIGHT, STEEL_DARK, GOLD = (176, 204, 240), (140, 170, 216), (236, 184, 40)
PINK, POLLEN, STEM = (255, 60, 152), (255, 226, 60), (30, 140, 50)
TEAL, TEAL_SHINE, STRING = (0, 196, 196), (150, 240, 238), (60, 56, 70)
CANE_BROWN = (160, 90, 38)
TROUSERS, SHOES = (86, 84, 116), (58, 46, 50)
# (hair, skin) pairs picked by Scene.hair.
HAIR_SKIN: tuple[tuple[Colour, Colour], ...] = (
    ((92, 56, 36), (255, 216, 178)),
    ((40, 32, 34), (204, 150, 108)),
    ((226, 176, 82), (255, 222, 188)),
    ((170, 70, 34), (255, 216, 178)),
    ((40, 32, 34), (236, 188, 142)),
    ((62, 42, 34), (186, 132, 94)),
)


class Pen:
    """Draws in picture units; moves, scales (about the feet) and outlines every shape."""

    def __init__(self, image: Image.Image, scene: Scene, size: int) -> None:
        self.draw = ImageDraw.Draw(image)
        self.unit = size * SUPERSAMPLE / 64
        self.outline = max(1, round(0.8 * self.unit))
        self.scene = scene

    def points(self, xy: Sequence[float]) -> list[tuple[float, float]]:
        """Picture units to supersampled pixels."""
        s, k = self.scene, self.unit
        return [
            (((x - 26) * s.scale + 26 + s.dx) * k, ((y - 61) * s.scale + 61 + s.dy) * k)
            for x, y in zip(xy[::2], xy[1::2], strict=True)
        ]

    def shape(self, kind: str, xy: Sequence[float], fill: Colour) -> None:
        """One outlined shape (see scenes.HATS for the kinds)."""
        pts = self.points(xy)
        if kind == "p":
            self.draw.polygon(pts, fill=fill)
            self.draw.line([*pts, pts[0], pts[1]], fill=INK, width=self.outline, joint="curve")
        elif kind == "c":
            self.draw.chord(pts, 180, 360, fill=fill, outline=INK, width=self.outline)
        elif kind == "e":
            self.draw.ellipse(pts, fill=fill, outline=INK, width=self.outline)
        elif kind == "r":
            self.draw.rectangle(pts, fill=fill, outline=INK, width=self.outline)
        else:
            self.draw.rectangle(pts, fill=fill)

    def shape_plain(self, xy: Sequence[float], fill: Colour) -> None:
        """A polygon without outline."""
        self.draw.polygon(self.points(xy), fill=fill)

    def limb(self, xy: Sequence[float], width: float, fill: Colour, rim: float = 0.8) -> None:
        """A thick round-ended stroke with an outline."""
        pts = self.points(xy)
        for wide, colour in ((width + 2 * rim, INK), (width, fill)):
            half = wide * self.unit / 2
            self.draw.line(pts, fill=colour, width=round(2 * half), joint="curve")
            for x, y in (pts[0], pts[-1]):
                self.draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)


def _beach(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (208, 240, 250))
    dot(2, 3, 13, 14, (255, 238, 130))
    box(-8, 30, 72, 41, (36, 120, 196))
    box(-8, 41, 72, 64, (244, 222, 164))


def _forest(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (30, 84, 48))
    for x in (-4, 7, 58):
        box(x, 0, x + 6, 54, (84, 56, 48))
    box(-8, 50, 72, 64, (64, 112, 48))


def _city(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (226, 214, 216))
    for x, top, grey in ((-6, 10, 124), (11, 18, 146), (28, 12, 128), (45, 22, 144), (60, 8, 124)):
        box(x, top, x + 15, 56, (grey, grey, grey + 6))
        for y in range(top + 4, 48, 9):
            for left in (x + 2, x + 9):
                box(left, y, left + 4, y + 4, (244, 234, 176))
    box(-8, 55, 72, 64, (92, 92, 98))


def _night(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (22, 28, 84))
    dot(1, 4, 12, 15, (250, 244, 206))
    for x, y in ((4, 24), (16, 3), (36, 4), (60, 9), (61, 30), (10, 36), (57, 42), (38, 24)):
        dot(x, y, x + 2, y + 2, (250, 244, 206))
    box(-8, 52, 72, 64, (40, 52, 66))


def _desert(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (255, 234, 184))
    dot(48, 2, 60, 14, (255, 246, 222))
    dot(-30, 30, 44, 90, (240, 168, 88))
    dot(14, 38, 100, 100, (226, 140, 62))
    box(-8, 56, 72, 64, (226, 140, 62))


def _meadow(box: Brush, dot: Brush) -> None:
    box(-8, 0, 72, 64, (216, 242, 255))
    dot(1, 4, 13, 11, (255, 255, 255))
    dot(-34, 26, 60, 80, (146, 222, 84))
    dot(10, 32, 110, 90, (122, 208, 66))
    box(-8, 48, 72, 64, (122, 208, 66))


_PAINTERS = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "night": _night,
    "desert": _desert,
    "meadow": _meadow,
}


@lru_cache(maxsize=64)
def _background(name: str, shift: int, size: int) -> Image.Image:
    """The empty place, supersampled; cached, as there are only a few shifts."""
    image = Image.new("RGB", (size * SUPERSAMPLE, size * SUPERSAMPLE))
    draw = ImageDraw.Draw(image)
    k = size * SUPERSAMPLE / 64

    def place(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return ((x0 + shift) * k, y0 * k, (x1 + shift) * k - 1, y1 * k - 1)

    def box(x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        draw.rectangle(place(x0, y0, x1, y1), fill=fill)

    def dot(x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        draw.ellipse(place(x0, y0, x1, y1), fill=fill)

    _PAINTERS[name](box, dot)
    return image


def empty_place(name: str, shift: int = 0, size: int = 64) -> np.ndarray:
    """A background nobody stands before; `shift` is -1, 0 or 1 (how far dx moved it)."""
    return np.asarray(_background(name, shift, size).reduce(SUPERSAMPLE))


HAND = (48.0, 40.0)


def _turned(xy: Sequence[float], degrees: float) -> list[float]:
    """Rotate points given relative to the hand and place them there (y up is negative)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out: list[float] = []
    for x, y in zip(xy[::2], xy[1::2], strict=True):
        out += [HAND[0] + x * c - y * s, HAND[1] + x * s + y * c]
    return out


def _disc(pen: Pen, x: float, y: float, radius: float, fill: Colour) -> None:
    pen.shape("e", (x - radius, y - radius, x + radius, y + radius), fill)


def _draw_sword(pen: Pen, tilt: float) -> None:
    angle = tilt + 4
    blade = (-2.5, -4, -2.5, -33.5, 0, -37.5, 2.5, -33.5, 2.5, -4)
    pen.shape("p", _turned(blade, angle), STEEL_DARK)
    pen.shape_plain(_turned((-1.9, -4, -1.9, -33, 0, -36, 0.2, -4), angle), STEEL_LIGHT)
    pen.limb(_turned((0, -4, 0, 6), angle), 2.2, GOLD)
    pen.shape("p", _turned((-6.5, -5.6, 6.5, -5.6, 6.5, -2.6, -6.5, -2.6), angle), GOLD)


def _draw_flower(pen: Pen, tilt: float) -> None:
    angle = tilt + 4
    pen.limb(_turned((0, 7, 0, -18), angle), 1.8, STEM, rim=0.5)
    pen.shape("p", _turned((0, -7, 7, -13, 7.5, -8, 0, -4), angle), STEM)
    x, y = _turned((0, -24), angle)
    for k in range(6):
        turn = math.radians(60 * k + tilt)
        _disc(pen, x + 5.2 * math.cos(turn), y + 5.2 * math.sin(turn), 4.4, PINK)
    _disc(pen, x, y, 3.4, POLLEN)


def _draw_balloon(pen: Pen, tilt: float) -> None:
    x, y = _turned((1.5, -26), tilt / 2 + 2)
    pen.limb((HAND[0], HAND[1] + 6, HAND[0], HAND[1], x, y + 10), 0.7, STRING, rim=0)
    pen.shape("p", (x, y + 8, x + 2.5, y + 13, x - 2.5, y + 13), TEAL)
    pen.shape("e", (x - 9.6, y - 10.6, x + 9.6, y + 10.6), TEAL)
    pen.limb((x - 4, y - 5, x - 5, y - 2), 2.4, TEAL_SHINE, rim=0)


def _draw_cane(pen: Pen, tilt: float) -> None:
    foot, top = HAND[0] - 1 - tilt / 6, HAND[0] + 1 + tilt / 6
    turns = (0.0, 0.6, 1.2, 1.8, 2.4, 3.1)
    bow = [(top + 4 - 4 * math.cos(a), 17 - 4 * math.sin(a)) for a in turns]
    path = [foot, 60, top, 17, *(v for point in bow for v in point), top + 8, 20]
    pen.limb(path, 2.6, CANE_BROWN)


_OBJECTS = {
    "sword": _draw_sword,
    "flower": _draw_flower,
    "balloon": _draw_balloon,
    "cane": _draw_cane,
}


def _draw_shapes(pen: Pen, shapes: Sequence[Shape], role: Role, hair: Colour, skin: Colour) -> None:
    """Draw a hat or an extra with its colour keys resolved."""
    keys = {"a": role.colour, "b": role.accent, "h": hair, "s": skin, "k": INK}
    keys |= {"w": (250, 250, 250), "o": (232, 120, 40)}
    for kind, key, xy in shapes:
        pen.shape(kind, xy, keys[key])


def _draw_body(pen: Pen, shirt: Colour, skin: Colour) -> None:
    """Legs, torso and both arms; the right hand comes later, over the object."""
    for x in (21.4, 30.6):
        pen.limb((x, 46, x, 57), 6.4, TROUSERS)
        pen.shape("e", (x - 5, 56.4, x + 4.4, 61.6), SHOES)
    pen.limb((18, 32, 12, 44), 5, shirt)
    _disc(pen, 11.6, 45.6, 3, skin)
    pen.limb((34, 32, 40, 39.6, 45, 40), 5, shirt)
    pen.shape("p", (17, 28, 22, 26, 30, 26, 35, 28, 36, 34, 35, 49, 17, 49, 16, 34), shirt)


def _draw_head(pen: Pen, role: Role, hair: Colour, skin: Colour) -> None:
    """The face, then headgear and its extras."""
    face = (250, 246, 244) if "whiteface" in role.extras else skin
    pen.shape("e", (16.6, 9.6, 35.4, 28.4), face)
    for x in (21.2, 28.8):
        pen.shape("d", (x, 17.6, x + 2.2, 20.6), INK)
    if not any(extra.startswith("beard") for extra in role.extras):
        pen.limb((23, 24, 24.6, 25, 27.4, 25, 29, 24), 0.9, (176, 52, 60), rim=0)
    below = ("plume", "horns", "fin", "brush")  # these grow out from under the hat
    for extra in role.extras:
        if extra in below:
            _draw_shapes(pen, EXTRAS[extra], role, hair, skin)
    _draw_shapes(pen, HATS[role.hat], role, hair, skin)
    for extra in role.extras:
        if extra not in below:
            _draw_shapes(pen, EXTRAS[extra], role, hair, skin)


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The picture as (size, size, 3) uint8. Only the object's pixels depend on the object."""
    image = _background(scene.background, round(scene.dx / 2), size).copy()
    pen, role = Pen(image, scene, size), ROLES[scene.role]
    hair, skin = HAIR_SKIN[scene.hair % len(HAIR_SKIN)]
    _draw_shapes(pen, BEHIND.get(role.hat, ()), role, hair, skin)
    _draw_body(pen, SHIRT_COLOURS[scene.shirt], skin)
    _draw_head(pen, role, hair, skin)
    if scene.object != "none":
        _OBJECTS[scene.object](pen, scene.tilt)
    _disc(pen, *HAND, 3.3, skin)
    return np.asarray(image.reduce(SUPERSAMPLE))


def contact_sheet(images: Sequence[np.ndarray], columns: int = 8, gap: int = 2) -> Image.Image:
    """Lay pictures of one size out on a grid."""
    height, width = images[0].shape[:2]
    rows = math.ceil(len(images) / columns)
    grid = ((width + gap) * columns + gap, (height + gap) * rows + gap)
    sheet = Image.new("RGB", grid, (255, 255, 255))
    for k, picture in enumerate(images):
        row, column = divmod(k, columns)
        place = (gap + column * (width + gap), gap + row * (height + gap))
        sheet.paste(Image.fromarray(picture), place)
    return sheet
