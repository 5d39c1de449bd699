"""Say what a toybox picture shows from colours and shapes alone.

A judge with learned weights could share the blind spots of the model it judges; this one
has no weights. It is meant for generated pictures, so it tolerates blur, noise and
off-colours, and says "unclear" rather than guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.toybox.renderer import (
    CANE_BROWN,
    PINK,
    SHIRT_COLOURS,
    STEEL_DARK,
    STEEL_LIGHT,
    TEAL,
    empty_place,
)
from models.toybox.scenes import BACKGROUNDS

UNCLEAR = "unclear"
# Objects are held to the right of these columns (arm and hair end there).
OBJECT_LEFT = {"sword": 42, "flower": 37, "balloon": 37, "cane": 43}
TORSO = (slice(37, 47), slice(20, 33))
# Columns the person and objects hardly reach: the place shows there.
PLACE_COLUMNS = (*range(8), *range(60, 64))
SHIRT_REACH, PLACE_REACH, BEHIND_REACH = 85.0, 75.0, 42.0

# For each object: colours it shows (also as darkened by its outline) and their reach.
OBJECT_COLOURS: dict[str, tuple[tuple[tuple[int, int, int], ...], float]] = {
    "sword": ((STEEL_LIGHT, STEEL_DARK, (120, 146, 186)), 40.0),
    "flower": ((PINK, (214, 54, 128)), 75.0),
    "balloon": ((TEAL, (0, 150, 156)), 65.0),
    "cane": ((CANE_BROWN, (128, 74, 40)), 45.0),
}

SURE, HINT = 1.0, 0.5


@dataclass(frozen=True)
class Blob:
    """Measured shape of an object's pixels."""

    area: int = 0
    height: int = 0  # rows from first to last
    filled: float = 0.0  # share of those rows that have pixels
    width: float = 0.0  # mean pixels per row that has any
    across: int = 0  # columns from first to last
    spread: float = 0.0  # deviation from the best straight line, in columns


def _components(mask: np.ndarray, smallest: int) -> list[np.ndarray]:
    """Connected groups (8 neighbours) of set pixels, largest first, as (n, 2) arrays."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    groups: list[np.ndarray] = []
    while left:
        todo = [left.pop()]
        group = []
        while todo:
            y, x = todo.pop()
            group.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo.extend(near)
        if len(group) >= smallest:
            groups.append(np.array(group))
    return sorted(groups, key=len, reverse=True)


def _measure(points: np.ndarray) -> Blob:
    """Shape numbers of a group of pixels."""
    y, x = points[:, 0], points[:, 1]
    rows = np.unique(y)
    height = int(rows[-1] - rows[0] + 1)
    spread = 0.0
    if len(rows) > 2:
        slope, base = np.polyfit(y, x, 1)
        spread = float(np.sqrt(np.mean((x - slope * y - base) ** 2)))
    return Blob(
        area=len(points),
        height=height,
        filled=len(rows) / height,
        width=len(points) / len(rows),
        across=int(np.ptp(x)) + 1,
        spread=spread,
    )


def _blob(mask: np.ndarray, name: str) -> Blob:
    """The object's pixels: the largest group; the hand cuts a cane in two."""
    groups = _components(mask, 8)
    if not groups:
        return Blob()
    points = groups[0]
    if name == "cane":
        middle = np.median(points[:, 1])
        parts = [part for part in groups if abs(np.median(part[:, 1]) - middle) <= 4]
        points = np.concatenate(parts)
    return _measure(points)


def _sword_evidence(blob: Blob) -> float:
    """A steel blade is long, upright, narrow and straight."""
    if blob.height < 9:
        return 0.0
    if blob.width > 9.5 or blob.spread > 3.0:
        return HINT if blob.height >= 20 else 0.0
    return min(blob.area / 60, blob.height / 20)


def _flower_evidence(blob: Blob) -> float:
    """A blossom is a big pink ring."""
    return min(blob.area / 60, blob.height / 9, blob.across / 9)


def _balloon_evidence(blob: Blob) -> float:
    """A balloon is a big full disc."""
    if blob.area < 0.45 * blob.height * blob.across:
        return 0.5 * min(1.0, blob.area / 120)
    return min(blob.area / 120, blob.height / 12, blob.across / 11)


def _cane_evidence(blob: Blob) -> float:
    """A cane is a long brown line with a small crook."""
    if blob.height < 12 or blob.width > 7.5 or blob.spread > 4.0:
        return 0.0
    return min(blob.area / 40, blob.height * blob.filled / 22)


EVIDENCE = {
    "sword": _sword_evidence,
    "flower": _flower_evidence,
    "balloon": _balloon_evidence,
    "cane": _cane_evidence,
}


def object_evidence(masks: dict[str, np.ndarray]) -> dict[str, float]:
    """Evidence for each object, from 0 to 2; 1 or more counts as seen."""
    return {name: min(2.0, EVIDENCE[name](_blob(mask, name))) for name, mask in masks.items()}


def _object_name(evidence: dict[str, float]) -> str:
    """One sure object, no trace of any (none), or unclear."""
    ranked = sorted(evidence, key=lambda name: evidence[name], reverse=True)
    best, second = (evidence[name] for name in ranked[:2])
    if best < HINT:
        return "none"
    return ranked[0] if best >= SURE > second else UNCLEAR


def _distances(pixels: np.ndarray, colours: Sequence[Sequence[float]]) -> np.ndarray:
    """Colour distance of every pixel to every colour, on a new last axis."""
    palette = np.asarray(colours, dtype=np.float32)
    return np.sqrt(((pixels[..., None, :] - palette) ** 2).sum(-1))


def _shirts(pixels: np.ndarray) -> list[str]:
    """The colour most torso pixels are near to."""
    torso = pixels[(slice(None), *TORSO)].reshape(len(pixels), -1, 3)
    distances = _distances(torso, list(SHIRT_COLOURS.values()))
    nearest = np.where(distances.min(-1) <= SHIRT_REACH, distances.argmin(-1), -1)
    votes = np.stack([(nearest == k).mean(-1) for k in range(len(SHIRT_COLOURS))], -1)
    names = tuple(SHIRT_COLOURS)
    return [names[v.argmax()] if v.max() >= 0.45 else UNCLEAR for v in votes]


@lru_cache(maxsize=1)
def _places() -> np.ndarray:
    """Each empty background at its shifts, sharp and then blurred: (place, view, y, x, rgb)."""
    sharp = [[empty_place(name, shift) for shift in (-1, 0, 1)] for name in BACKGROUNDS]
    views = np.asarray(sharp, dtype=np.float32)
    padded = np.pad(views, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    soft = sum(padded[:, :, i : i + 64, j : j + 64] for i in range(3) for j in range(3)) / 9
    return np.concatenate([views, soft], axis=1)


def _backgrounds(pixels: np.ndarray) -> list[str]:
    """The place whose colours sit where this picture has them."""
    sides = pixels[:, :, PLACE_COLUMNS]
    scores = np.empty((len(pixels), len(BACKGROUNDS)))
    for k, views in enumerate(_places()[:, :3, :, PLACE_COLUMNS]):
        near = [np.square(sides - view).sum(-1) <= PLACE_REACH**2 for view in views]
        scores[:, k] = np.max([match.mean((1, 2)) for match in near], axis=0)
    names = []
    for score in scores:
        second, best = np.sort(score)[-2:]
        sure = best >= 0.75 and best - second >= 0.1
        names.append(BACKGROUNDS[int(score.argmax())] if sure else UNCLEAR)
    return names


def _balanced(picture: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Undo a tint or a darker exposure, read off the part of the place that shows."""
    shown, wanted = picture[:, PLACE_COLUMNS], views[1][:, PLACE_COLUMNS]
    match = np.square(shown - wanted).sum(-1) <= PLACE_REACH**2
    gain = (shown * wanted)[match].sum(0) / np.square(wanted[match]).sum(0)
    return picture / np.clip(gain, 0.8, 1.25)


def _object_masks(pixels: np.ndarray, places: Sequence[str]) -> dict[str, np.ndarray]:
    """Where each object's colours are and the place behind is not."""
    pixels = pixels.copy()
    front = np.ones(pixels.shape[:3], dtype=bool)
    for k, place in enumerate(places):
        if place != UNCLEAR:
            views = _places()[BACKGROUNDS.index(place)]
            pixels[k] = _balanced(pixels[k], views)
            front[k] = np.square(views - pixels[k]).sum(-1).min(0) > BEHIND_REACH**2
    masks = {}
    for name, (colours, reach) in OBJECT_COLOURS.items():
        masks[name] = front & (_distances(pixels, colours).min(-1) <= reach)
        masks[name][:, :, : OBJECT_LEFT[name]] = False
    return masks


def judge_batch(images: Sequence[np.ndarray] | np.ndarray) -> list[dict[str, str]]:
    """Object, shirt and background of each 64x64 uint8 picture."""
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.shape[1:] != (64, 64, 3):
        raise ValueError(f"expected pictures of shape (n, 64, 64, 3), got {pixels.shape}")
    pixels = pixels.astype(np.float32)
    places = _backgrounds(pixels)
    masks = _object_masks(pixels, places)
    answers = []
    for k, (shirt, place) in enumerate(zip(_shirts(pixels), places, strict=True)):
        found = _object_name(object_evidence({name: mask[k] for name, mask in masks.items()}))
        if found == "none" and shirt == UNCLEAR:
            found = UNCLEAR  # no person in sight, so no empty hand either
        answers.append({"object": found, "shirt": shirt, "background": place})
    return answers


def judge(image: np.ndarray) -> dict[str, str]:
    """Object, shirt and background of one 64x64 uint8 picture."""
    return judge_batch(np.asarray(image)[None])[0]
