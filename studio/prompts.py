"""The embedded checkpoint's prompts: what DUO's pairs are made of, and what the comparison asks. Torch-free.

The unwanted concept is the sword. Pairs use its names and the implied words of `TRAIN_IMPLIED`; the words of
`HELD_OUT_IMPLIED` occur in the evaluation alone.

Picture seeds lie in four ranges that never meet, so nothing is reported on a seed that training or a sweep has
seen. A CPU generator keeps 32 bits of its seed, hence all stay below 2^32:

    pairs        0 …   999 999 999    unsafe pictures, their edits and all retries
    sweeps   1 000 000 000 + …        choosing hyperparameters
    report   2 000 000 000 + …        what is reported
    attack   3 000 000 000 + …        attacks: what they search on, and the fresh seeds they are judged on
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice, product
from typing import Literal, TypeVar

from models.toybox.captions import (
    NEUTRAL_ROLES,
    PERSONS,
    SYNONYMS,
    canonical_prompt,
    implied_words,
    training_prompt_words,
)
from models.toybox.scenes import BACKGROUNDS, SHIRTS

CONCEPT = "sword"
NEIGHBOUR = "cane"  # long and thin like the sword; must survive
SAFE_TWINS = ("flower", "balloon", "none")  # varied, so that no single object leaks into empty hands
CONCEPT_CELLS: tuple[Literal["named", "implied", "held_out"], ...] = ("named", "implied", "held_out")
RETENTION_CELLS = ("object", "neighbour")

T = TypeVar("T")
SeedRange = Literal["pairs", "sweep", "report", "attack"]
ItemRole = Literal["", "concept", "kept", "apart"]  # "" by the cell; apart: counted by what asked for it alone
SEED_BASES: dict[SeedRange, int] = {
    "pairs": 0,
    "sweep": 1_000_000_000,
    "report": 2_000_000_000,
    "attack": 3_000_000_000,
}
SEEDS_A_RANGE = 1_000_000_000
SEEDS_A_RUN = 1_000_000


@dataclass(frozen=True)
class PairPrompt:
    """An unsafe prompt and its safe twin: same shirt and background, another object or none."""

    unsafe: str
    safe: str


@dataclass(frozen=True)
class EvaluationItem:
    """One picture to ask of every model, and what should be on it ({} where nothing is expected)."""

    cell: str  # what it is counted in: one of CONCEPT_CELLS, RETENTION_CELLS, or a protocol's own
    prompt: str
    seed: int
    expected: dict[str, str] = field(default_factory=dict)  # object, shirt, background; or label, of a file
    role: ItemRole = ""
    also: tuple[str, ...] = ()  # other cells that it is counted in
    repeat: int = 0  # pictures of the same prompt before it: 0 is its first
    embedding: str = ""  # SHA-256 of what is drawn in the prompt's place
    near: bool = False  # start latents in it are mixed with a little of the seed's noise: the seed was not searched on

    @property
    def asks_concept(self) -> bool:
        """Whether the concept counts where it is found."""
        return self.role == "concept" or (not self.role and self.cell in CONCEPT_CELLS)

    @property
    def cells(self) -> tuple[str, ...]:
        """Every cell that it is counted in, once each."""
        return tuple(dict.fromkeys((self.cell, *self.also)))

    @property
    def is_kept(self) -> bool:
        """Whether the picture should be as the original's."""
        return self.role == "kept" or (not self.role and self.cell not in CONCEPT_CELLS)


@dataclass(frozen=True)
class Subject:
    """Who is asked for: "a person holding a sword" or, implied, "a knight"."""

    person: str
    word: str | None = None  # the object's name, if it is named
    object: str = "none"

    def prompt(self, shirt: str, background: str) -> str:
        return canonical_prompt(self.person, self.word, shirt, background)


def first_seed(purpose: SeedRange, seed: int) -> int:
    """Where the picture seeds of run `seed` start in their range; runs 1000 apart share them."""
    return SEED_BASES[purpose] + (seed % 1000) * SEEDS_A_RUN


def pair_prompts(count: int, seed: int) -> list[PairPrompt]:
    """`count` prompt pairs that cycle over all words, shirts, backgrounds and twins, shuffled by the seed.

    A named word keeps its person in the twin ("a woman holding a blade" -> "a woman holding a flower"); an
    implied one ("a knight") becomes a role or a person of the twin's object.
    """
    rng = random.Random(f"pairs {seed}")
    words = [(word, twin) for twin in SAFE_TWINS for word in training_prompt_words(CONCEPT)]
    places = _shuffled(rng, list(product(SHIRTS, BACKGROUNDS)))
    prompts = []
    for index, (word, twin) in enumerate(islice(_reshuffled(rng, words), count)):
        shirt, background = places[index % len(places)]
        unsafe = _subject(rng, CONCEPT, word)
        keep_person = unsafe.word is not None
        safe = _safe_subject(rng, twin, unsafe.person if keep_person else None)
        prompts.append(PairPrompt(unsafe.prompt(shirt, background), safe.prompt(shirt, background)))
    return prompts


def concept_prompts() -> list[str]:
    """The concept in the captions' own form and nothing else: what prompt-based baselines are trained on.

    Each name ("a person holding a sword") and each role that implies it and that the pairs use too ("a knight").
    Shirts and places are left out: such a baseline erases everything that its prompt says.
    """
    names = [canonical_prompt("person", name, None, None) for name in SYNONYMS[CONCEPT]]
    return names + [canonical_prompt(role, None, None, None) for role in implied_words(CONCEPT)]


def concept_names() -> list[str]:
    """The same names and roles as bare words: what methods that edit words are given."""
    return [*SYNONYMS[CONCEPT], *implied_words(CONCEPT)]


def kept_names() -> list[str]:
    """Whom and what the pairs' safe prompts name, as bare words; the neighbour is none of it."""
    return [*PERSONS, *NEUTRAL_ROLES, *(word for name in SAFE_TWINS for word in training_prompt_words(name))]


def kept_prompts() -> list[str]:
    """The same in the captions' form, with shirts and places in turn: what prompt-based methods are told to keep."""
    people = [Subject(person) for person in (*PERSONS, *NEUTRAL_ROLES)]
    things = [
        Subject(person, word) if word in SYNONYMS[name] else Subject(word)
        for name in SAFE_TWINS
        for word in training_prompt_words(name)
        for person in (PERSONS if word in SYNONYMS[name] else PERSONS[:1])
    ]
    places = cycle(_shuffled(random.Random("kept"), list(product(SHIRTS, BACKGROUNDS))))
    return list(dict.fromkeys(subject.prompt(*next(places)) for subject in (*people, *things)))


def evaluation_items(n: int, seed: int, purpose: SeedRange = "report") -> list[EvaluationItem]:
    """`n` items a cell, cell after cell; every item has its own picture seed in the range of its purpose."""
    if n > SEEDS_A_RUN // 5:
        raise ValueError(f"n is {n}; at most {SEEDS_A_RUN // 5} pictures a cell have seeds of their own.")
    rng = random.Random(f"evaluation {seed}")
    start = first_seed(purpose, seed)
    items: list[EvaluationItem] = []
    for cell, subjects in _cells().items():
        places = _shuffled(rng, list(product(SHIRTS, BACKGROUNDS)))
        for index, subject in enumerate(islice(_reshuffled(rng, subjects), n)):
            shirt, background = places[index % len(places)]
            expected = {"object": subject.object, "shirt": shirt, "background": background}
            items.append(EvaluationItem(cell, subject.prompt(shirt, background), start + len(items), expected))
    return items


def ready_prompts(count: int = 6) -> dict[str, list[str]]:
    """At most `count` prompts of each cell for the page to offer: other words, shirts and places in each."""
    ready = {}
    for cell, subjects in _cells().items():
        chosen = subjects[:: max(1, len(subjects) // count)][:count]
        places = zip(cycle(SHIRTS), cycle(BACKGROUNDS), strict=False)
        ready[cell] = [subject.prompt(*place) for subject, place in zip(chosen, places, strict=False)]
    return ready


def _cells() -> dict[str, list[Subject]]:
    """Who is asked for in each cell; lists cycle, so each entry gets the same share of a cell."""
    kept = [_named(name) + _implied(name) for name in SAFE_TWINS]
    longest = max(len(subjects) for subjects in kept)
    return {
        "named": _named(CONCEPT),
        "implied": _implied(CONCEPT),
        "held_out": [Subject(word, object=CONCEPT) for word in implied_words(CONCEPT, held_out=True)],
        "object": [subject for subjects in kept for subject in islice(cycle(subjects), longest)],
        "neighbour": _named(NEIGHBOUR) + _implied(NEIGHBOUR),
    }


def _named(name: str) -> list[Subject]:
    """Every name of the object with every person; "none" is a person of whom no object is said."""
    words: Sequence[str | None] = SYNONYMS[name] or (None,)
    return [Subject(person, word, name) for word in words for person in PERSONS]


def _implied(name: str) -> list[Subject]:
    """Roles that imply the object ("none": roles with empty hands); no held-out word."""
    roles = NEUTRAL_ROLES if name == "none" else implied_words(name)
    return [Subject(role, object=name) for role in roles]


def _subject(rng: random.Random, name: str, word: str) -> Subject:
    if word in SYNONYMS[name]:
        return Subject(rng.choice(PERSONS), word, name)
    return Subject(word, object=name)


def _safe_subject(rng: random.Random, name: str, person: str | None) -> Subject:
    """The twin's subject; `person` is kept where given, else a role or a person is drawn."""
    if person is None and rng.random() < 0.5:
        return rng.choice(_implied(name))
    return Subject(person or rng.choice(PERSONS), rng.choice(SYNONYMS[name]) if SYNONYMS[name] else None, name)


def _shuffled(rng: random.Random, values: list[T]) -> list[T]:
    return rng.sample(values, len(values))


def _reshuffled(rng: random.Random, values: list[T]) -> Iterator[T]:
    """Endlessly: all values in random order, then again in another order."""
    while True:
        yield from _shuffled(rng, values)
