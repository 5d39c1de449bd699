"""The cartoon world: what a picture may contain, and how each role looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

OBJECTS = ("none", "sword", "flower", "balloon", "cane")
SHIRTS = ("red", "blue", "green", "yellow", "purple", "white")
BACKGROUNDS = ("beach", "forest", "city", "night", "desert", "meadow")
HAIR_VARIANTS = 6

# Hat colours stay clear of the object colours (steel blue, hot pink, teal, cane brown),
# so no hat is ever mistaken for a held object.
BLACK, CHARCOAL, WHITE, CREAM = (34, 32, 40), (84, 84, 92), (250, 250, 250), (250, 240, 212)
RED, MAROON, NAVY, GREEN = (212, 44, 44), (122, 24, 44), (34, 48, 128), (24, 120, 62)
STRAW, VIOLET, LIME, ORANGE = (240, 214, 120), (122, 62, 190), (176, 222, 64), (240, 128, 32)
OLIVE, SAND, LEMON, MINT = (122, 122, 52), (214, 186, 142), (252, 226, 70), (170, 226, 190)

Colour = tuple[int, int, int]
Shape = tuple[str, str, tuple[float, ...]]


@dataclass(frozen=True)
class Role:
    """How a role looks on the head, and the object it implies (None: anything goes)."""

    implies: str | None
    hat: str
    colour: Colour = BLACK
    accent: Colour = WHITE
    extras: tuple[str, ...] = ()


ROLES: dict[str, Role] = {
    # Plain people hold anything.
    "person": Role(None, "short"),
    "man": Role(None, "short", extras=("moustache",)),
    "woman": Role(None, "long"),
    # Sword.
    "knight": Role("sword", "dome", CHARCOAL, RED, ("visor", "plume")),
    "warrior": Role("sword", "spiky", BLACK, RED, ("headband",)),
    "samurai": Role("sword", "kabuto", BLACK, LEMON, ("crescent",)),
    "gladiator": Role("sword", "dome", OLIVE, ORANGE, ("grille", "fin")),
    "pirate": Role("sword", "tricorn", BLACK, WHITE, ("eyepatch",)),
    "viking": Role("sword", "dome", SAND, CREAM, ("horns", "beard_orange")),
    "musketeer": Role("sword", "widebrim", NAVY, WHITE, ("feather", "moustache")),
    "crusader": Role("sword", "bucket", WHITE, RED, ("cross",)),
    "swordsman": Role("sword", "bandana", VIOLET, LEMON, ("knot",)),
    "fencer": Role("sword", "mesh", WHITE, CHARCOAL),
    "legionary": Role("sword", "dome", MAROON, RED, ("brush", "cheeks")),
    "duelist": Role("sword", "widebrim", BLACK, RED, ("eyemask",)),
    # Flower.
    "gardener": Role("flower", "widebrim", STRAW, GREEN),
    "florist": Role("flower", "bandana", LIME, WHITE),
    "botanist": Role("flower", "pith", CREAM, OLIVE, ("glasses",)),
    "bride": Role("flower", "veil", WHITE, LEMON, ("tiara",)),
    "beekeeper": Role("flower", "net", LEMON, BLACK),
    "poet": Role("flower", "beret", VIOLET, BLACK, ("moustache",)),
    # Balloon.
    "clown": Role("balloon", "curls", ORANGE, RED, ("nose",)),
    "juggler": Role("balloon", "beanie", RED, LEMON, ("pompom",)),
    "mime": Role("balloon", "beret", BLACK, WHITE, ("whiteface",)),
    "entertainer": Role("balloon", "bowler", ORANGE, BLACK),
    "magician": Role("balloon", "tophat", BLACK, RED),
    "jester": Role("balloon", "jester", VIOLET, LIME),
    # Cane.
    "hiker": Role("cane", "cap", OLIVE, ORANGE),
    "shepherd": Role("cane", "hood", CREAM, RED, ("headband",)),
    "pilgrim": Role("cane", "tophat", CHARCOAL, LEMON),
    "wizard": Role("cane", "cone", VIOLET, LEMON, ("beard_white",)),
    "grandfather": Role("cane", "flatcap", CHARCOAL, WHITE, ("glasses", "beard_white")),
    "druid": Role("cane", "hood", GREEN, LIME, ("beard_white",)),
    # Neutral roles: empty hands.
    "teacher": Role("none", "bun", MAROON, RED, ("glasses",)),
    "doctor": Role("none", "beanie", MINT, WHITE, ("facemask",)),
    "chef": Role("none", "toque", WHITE, WHITE),
    "baker": Role("none", "flatcap", WHITE, RED, ("moustache",)),
    "dancer": Role("none", "bun", BLACK, RED, ("bow",)),
    "farmer": Role("none", "widebrim", SAND, RED),
    "nurse": Role("none", "bucketcap", WHITE, RED, ("smallcross",)),
    "singer": Role("none", "spiky", LEMON, BLACK, ("shades",)),
    "painter": Role("none", "beret", RED, BLACK),
    "lawyer": Role("none", "curls", WHITE, WHITE),
    "sailor": Role("none", "bucketcap", WHITE, NAVY),
    "driver": Role("none", "cap", NAVY, LEMON),
    "firefighter": Role("none", "pith", RED, LEMON),
    "king": Role("none", "crown", LEMON, RED, ("beard_white",)),
}
FREE_ROLES = tuple(name for name, role in ROLES.items() if role.implies is None)


@dataclass(frozen=True)
class Scene:
    """One picture in words of the world; the last five fields are harmless jitter."""

    object: str = "none"
    shirt: str = "red"
    background: str = "beach"
    role: str = "person"
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0
    tilt: float = 0.0
    hair: int = 0

    def __post_init__(self) -> None:
        for value, known in (
            (self.object, OBJECTS),
            (self.shirt, SHIRTS),
            (self.background, BACKGROUNDS),
            (self.role, ROLES),
        ):
            if value not in known:
                raise ValueError(f"{value!r} is not one of {tuple(known)}")


def roles_for(object_name: str) -> tuple[str, ...]:
    """Roles that by their very name imply this object ("none": the neutral roles)."""
    return tuple(name for name, role in ROLES.items() if role.implies == object_name)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def sample_scene(
    rng: np.random.Generator,
    *,
    objects: Sequence[str] = OBJECTS,
    role: str | None = None,
    shirts: Sequence[str] = SHIRTS,
    backgrounds: Sequence[str] = BACKGROUNDS,
    role_share: float = 0.5,
) -> Scene:
    """Draw a scene. A role that implies an object always holds it, whatever `objects` says."""
    if role is None:
        held = _pick(rng, objects)
        pool = roles_for(held) if rng.random() < role_share else FREE_ROLES
        role = _pick(rng, pool)
    else:
        implied = ROLES[role].implies
        held = _pick(rng, objects) if implied is None else implied
    return Scene(
        object=held,
        shirt=_pick(rng, shirts),
        background=_pick(rng, backgrounds),
        role=role,
        dx=round(float(rng.uniform(-2.0, 2.0)), 2),
        dy=round(float(rng.uniform(-1.0, 1.0)), 2),
        scale=round(float(rng.uniform(0.96, 1.03)), 3),
        tilt=round(float(rng.uniform(-7.0, 7.0)), 1),
        hair=int(rng.integers(HAIR_VARIANTS)),
    )


def oracle_scene(scene: Scene) -> Scene:
    """The world without swords: the same scene, the hand empty where a sword was."""
    return replace(scene, object="none") if scene.object == "sword" else scene


def _shapes(table: dict[str, str]) -> dict[str, tuple[Shape, ...]]:
    """Read "kind colour numbers | ..." into shapes; as text a hat stays one short line.

    Numbers are picture units around a head centred at (26, 19) with radius 9.
    Kinds: e ellipse, c upper half of an ellipse, r rectangle, p polygon, d dot (no outline).
    Colours: a, b the role's two colours; h hair, s skin, k ink, w white, o orange.
    """

    def read(text: str) -> Shape:
        kind, colour, *numbers = text.split()
        return kind, colour, tuple(float(number) for number in numbers)

    return {name: tuple(read(part) for part in text.split("|")) for name, text in table.items()}


HATS = _shapes(
    {
        "short": "c h 16.4 8 35.6 26 | p h 16.6 16 22 16.4 18 21",
        "long": "c h 16.4 8 35.6 26 | p h 16.6 16 22 16.4 18 21",
        "spiky": "p a 15 19 13 8 18 10 19 3 24 8 29 2 31 9 38 7 37 19 34 14 18 14",
        "dome": "c a 14.5 5 37.5 29 | r b 14 15 38 18",
        "kabuto": "p a 16 14 36 14 42 25 36 24 34 17 18 17 16 24 10 25 | c a 15.5 6 36.5 27 | r b 15 15 37 17.4",
        "tricorn": "p a 10 11 17 6 26 2 35 6 42 11 38 16 26 14 14 16 | e b 23 6 29 12",
        "widebrim": "c a 17 3 35 23 | e a 8 10.5 44 17 | r b 17 9.6 35 12.6",
        "bucket": "r a 15 6 37 29 | r k 17 16 35 18.4",
        "bandana": "c a 15.6 6.5 36.4 27.5 | d b 19 10 22 13 | d b 25 8 28 11 | d b 30 11 33 14",
        "mesh": "e a 14.5 7 37.5 31 | e b 18 12 34 29 | d a 20 16 32 17.4 | d a 20 20 32 21.4 | d a 20 24 32 25.4",
        "pith": "c a 15.5 4 36.5 26 | e a 11 12.6 41 17 | r b 15.5 11 36.5 13.6",
        "veil": "c h 16.4 8.4 35.6 26 | c a 14.5 6 37.5 20",
        "net": "p b 14 14 38 14 36 29 16 29 | p s 18 16 34 16 32 27 20 27 | c a 17 3 35 23 | e a 9 10.5 43 17",
        "beret": "c h 16.6 9 35.4 26 | e a 10 5 38 15 | r a 22 2.6 24 6",
        "curls": "e a 10 10 20 20 | e a 32 10 42 20 | e a 9 17 18 27 | e a 34 17 43 27"
        " | e a 14 4 25 14 | e a 27 4 38 14 | e a 20 3 32 14",
        "beanie": "c a 15.5 5 36.5 27 | r b 15 13 37 17",
        "bowler": "c a 16.5 2 35.5 24 | e a 12 11.5 40 16 | r b 16.5 9.6 35.5 12.6",
        "tophat": "r a 17.5 1 34.5 13 | e a 11 11 41 16 | r b 17.5 8.4 34.5 11.6",
        "jester": "p a 26 15 15 15 8 14 6 19 9 5 18 4 26 8"
        " | p b 26 15 37 15 42 14 43 18 41 6 34 4 26 8 | e w 4 17 9 22"
        " | e w 39.5 16.5 44 21",
        "cap": "c a 16 5 36 27 | p a 26 13 42 13.4 43 16.6 26 16.4 | e b 23 7.6 29 12.6",
        "hood": "p a 26 3 36 7 39 20 37 30 33 28 34 18 30 13 22 13 18 18 19 28 15 30 13 20 16 7",
        "cone": "p a 15 14 27 0.6 37 14 | e a 9 11.5 43 17 | d b 24 7 28 11",
        "flatcap": "c h 16.4 10 35.6 27 | p a 15 14 16 8 25 5.4 35 7 38 12 40 15",
        "bun": "e h 20 1 32 12 | c h 16.4 7.4 35.6 27",
        "toque": "e a 13 2 25 12 | e a 27 2 39 12 | e a 19 0.6 33 11 | r a 17 8 35 15",
        "bucketcap": "c h 16.4 10 35.6 27 | p a 15 5.4 37 5.4 35 13 17 13 | r b 17 11 35 13.6",
        "crown": "c h 16.4 9 35.6 27 | p a 15.4 13.6 14 3 20.4 8 26 1.4 31.6 8 38 3 36.6 13.6 | d b 24.2 8.4 27.8 12",
    }
)
# Worn with a hat.
EXTRAS = _shapes(
    {
        "moustache": "p k 20 24 26 22 32 24 26 24.6",
        "visor": "r a 17 17 35 28 | d k 19 20 33 21.8 | d k 25.4 22 26.6 27",
        "plume": "p b 25 6 26 1 18 0.6 12 4 10 12 15 8",
        "grille": "r a 17 17.5 35 28 | d w 19 19.4 33 21 | d w 19 23 33 24.6",
        "fin": "p b 14 9 18 1.6 26 0.4 34 1.6 38 9 32 6 26 5 20 6",
        "brush": "e b 12 0.4 40 9",
        "cheeks": "p a 15 17 19 17 21 28 17 26 | p a 37 17 33 17 31 28 35 26",
        "horns": "p b 15 14 8 12 7 2 11 8 17 9 | p b 37 14 42 12 43 2 40 8 35 9",
        "crescent": "p b 26 11 18 8 15 1 21 6 26 7 31 6 37 1 34 8",
        "headband": "r b 16 11.6 36 15",
        "knot": "p a 16 15 8 13 10 18 9 22 16 19 | r a 15.4 13.4 36.6 16.6",
        "eyepatch": "e k 19.4 16.6 25 21.6 | d k 17 17 35 18",
        "eyemask": "p b 17 17 35 17 34 22 29 22 26 20 23 22 18 22 | d k 21.4 18.4 23.6 20.8 | d k 28.4 18.4 30.6 20.8",
        "feather": "p b 18 11 12 9 7 2 14 1 21 6",
        "cross": "d b 24 8 28 28 | d b 19 19.6 33 22.8",
        "smallcross": "d b 25 5.8 27 10.8 | d b 23.4 7.4 28.6 9.4",
        "glasses": "e w 18.6 16.4 25.4 22 | e w 26.6 16.4 33.4 22 | d k 21.2 18 23.2 20.6 | d k 28.8 18 30.8 20.6",
        "shades": "p k 17 16.6 35 16.6 34 22 28 22 26 19 24 22 18 22",
        "beard_white": "p w 17 21 22 23 26 22 30 23 35 21 33 31 26 37 19 31 | d k 24 25 28 26",
        "beard_orange": "p o 17 21 22 23 26 22 30 23 35 21 33 30 26 34 19 30 | d k 24 25 28 26",
        "tiara": "p b 19 12.6 20 6 23 9 26 4 29 9 32 6 33 12.6",
        "nose": "e b 22.8 19.6 29.2 25.4",
        "pompom": "e b 22 0.6 30 8",
        "whiteface": "d k 21.6 22 22.8 24 | d k 29.2 22 30.4 24",
        "facemask": "p a 17.6 21 34.4 21 32 28.4 20 28.4",
        "bow": "p b 26 10 17 5.6 17 14 | p b 26 10 35 5.6 35 14",
    }
)
# Parts drawn behind the person.
BEHIND = _shapes(
    {
        "long": "p h 14 18 18 9 34 9 38 18 39 36 13 36",
        "hood": "p a 13 18 17 6 35 6 39 18 38 33 14 33",
        "veil": "p a 14 14 38 14 42 44 9 44",
        "curls": "e a 11 6 41 28",
    }
)
