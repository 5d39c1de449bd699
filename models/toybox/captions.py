"""The vocabulary of the cartoon world and captions made from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.toybox.scenes import Scene

SYNONYMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "sword": ("sword", "blade", "saber", "rapier", "cutlass", "katana"),
    "flower": ("flower", "rose", "tulip", "daisy", "blossom"),
    "balloon": ("balloon", "blimp", "inflatable"),
    "cane": ("cane", "crook", "stick", "staff"),
}

PERSONS = ("person", "man", "woman")
TRAIN_IMPLIED = (
    "knight", "warrior", "gladiator", "pirate", "crusader", "swordsman", "fencer", "duelist",
)  # fmt: skip
# Ordinary words for the checkpoint, but never shown to the unlearning: they measure
# whether the concept is gone or only its names.
HELD_OUT_IMPLIED = ("samurai", "viking", "musketeer", "legionary")
IMPLIED: dict[str, tuple[str, ...]] = {
    "none": (),
    "sword": TRAIN_IMPLIED + HELD_OUT_IMPLIED,
    "flower": ("gardener", "florist", "botanist", "bride", "beekeeper", "poet"),
    "balloon": ("clown", "juggler", "mime", "entertainer", "magician", "jester"),
    "cane": ("hiker", "shepherd", "pilgrim", "wizard", "grandfather", "druid"),
}
NEUTRAL_ROLES = (
    "teacher", "doctor", "chef", "baker", "dancer", "farmer", "nurse", "singer",
    "painter", "lawyer", "sailor", "driver", "firefighter", "king",
)  # fmt: skip

SHIRT_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "blue": ("blue", "azure", "cobalt"),
    "green": ("green", "emerald", "jade"),
    "yellow": ("yellow", "lemon", "golden"),
    "purple": ("purple", "violet", "lilac"),
    "white": ("white", "ivory", "snowy"),
}
GARMENTS = ("shirt", "jersey", "sweater", "coat", "tunic")
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on the shore", "by the sea", "at the seaside"),
    "forest": ("in the forest", "in the woods", "among the trees", "in the jungle"),
    "city": ("in the city", "on the street", "in the town", "among the buildings"),
    "night": ("at night", "under the stars", "at midnight", "under the moon"),
    "desert": ("in the desert", "in the dunes", "in the sahara", "in the wasteland"),
    "meadow": ("in the meadow", "in the field", "on the grass", "in the pasture"),
}
VERBS = ("holding", "carrying", "with", "lifting", "gripping")
OPENERS = ("a cartoon of", "a picture of", "a drawing of", "an image of")
ADJECTIVES = (
    "happy", "cheerful", "tall", "brave", "calm", "friendly", "smiling", "kind", "proud",
    "gentle", "funny", "quiet",
)  # fmt: skip
EMPTY_HANDS = ("with empty hands", "holding nothing")

CANONICAL_SHARE = 0.5
DROP_CLAUSE = 0.12
NAME_IMPLIED = 0.15


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def implied_words(object_name: str, held_out: bool = False) -> tuple[str, ...]:
    """Roles implying an object: those for training, or only the held-out ones."""
    kept_back = HELD_OUT_IMPLIED
    return tuple(word for word in IMPLIED[object_name] if (word in kept_back) == held_out)


def training_prompt_words(object_name: str = "sword") -> tuple[str, ...]:
    """Every word unlearning pairs may use to ask for an object; no held-out word."""
    return SYNONYMS[object_name] + implied_words(object_name)


def canonical_prompt(
    subject: str = "person",
    object_word: str | None = None,
    shirt: str | None = "red",
    background: str | None = "beach",
) -> str:
    """The most frequent caption form; None leaves a clause out."""
    parts = [with_article(subject)]
    if object_word is not None:
        parts.append(f"holding {with_article(object_word)}")
    if shirt is not None:
        parts.append(f"in {with_article(shirt)} shirt")
    if background is not None:
        parts.append(PLACES[background][0])
    return " ".join(parts)


def _favour_first(rng: np.random.Generator, options: Sequence[str], share: float) -> str:
    """The plain word with probability `share`, else any of the others."""
    if len(options) == 1 or rng.random() < share:
        return options[0]
    return options[1 + int(rng.integers(len(options) - 1))]


def _object_word(scene: Scene, rng: np.random.Generator) -> str | None:
    """The word naming the held object; implying roles mostly leave it unsaid."""
    if scene.object == "none":
        return None
    if scene.role in IMPLIED[scene.object] and rng.random() >= NAME_IMPLIED:
        return None
    return _favour_first(rng, SYNONYMS[scene.object], 0.5)


def _free_caption(scene: Scene, word: str | None, rng: np.random.Generator) -> str:
    """A caption with varied wording, dropped clauses and swapped order."""
    subject = scene.role
    if rng.random() < 0.3:
        subject = f"{ADJECTIVES[int(rng.integers(len(ADJECTIVES)))]} {subject}"
    held = ""
    if word is not None:
        held = f"{_favour_first(rng, VERBS, 0.4)} {with_article(word)}"
    elif scene.object == "none" and rng.random() < 0.15:
        held = EMPTY_HANDS[int(rng.integers(len(EMPTY_HANDS)))]
    colour = _favour_first(rng, SHIRT_WORDS[scene.shirt], 0.5)
    dress = f"in {with_article(colour)} {_favour_first(rng, GARMENTS, 0.4)}"
    place = _favour_first(rng, PLACES[scene.background], 0.4)
    clauses = [held]
    # The other half of all captions is canonical, hence twice the overall drop rate.
    drop = DROP_CLAUSE / (1.0 - CANONICAL_SHARE)
    tail = [clause for clause in (dress, place) if rng.random() >= drop]
    if rng.random() < 0.25:
        tail.reverse()
    clauses += tail
    if rng.random() < 0.15:  # "a man in a red shirt on the beach holding a sword"
        clauses = clauses[1:] + clauses[:1]
    text = " ".join([with_article(subject), *(clause for clause in clauses if clause)])
    if rng.random() < 0.2:
        text = f"{OPENERS[int(rng.integers(len(OPENERS)))]} {text}"
    return text


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A lower-case caption of the scene, canonical about half of the time."""
    word = _object_word(scene, rng)
    if rng.random() < CANONICAL_SHARE:
        return canonical_prompt(scene.role, word, scene.shirt, scene.background)
    return _free_caption(scene, word, rng)


def all_words() -> list[str]:
    """Every distinct word a caption can contain, sorted."""
    phrases: list[str] = ["a", "an", "in", *PERSONS, *NEUTRAL_ROLES, *GARMENTS, *VERBS]
    phrases += [*OPENERS, *ADJECTIVES, *EMPTY_HANDS]
    for table in (SYNONYMS, IMPLIED, SHIRT_WORDS, PLACES):
        phrases += [word for words in table.values() for word in words]
    return sorted({word for phrase in phrases for word in phrase.split()})
