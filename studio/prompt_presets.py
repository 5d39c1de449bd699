"""Prompt pairs that are ready to be added to a project: the embedded checkpoint's own, and the DUO paper's. Torch-free.

The paper's are the words of datasets/SD in naver-ai/DUO (Apache-2.0). Its violence has four sub-concepts, each with an
adapter of its own that are summed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.specs import parse_reference
from studio.prompt_checks import Draft
from studio.prompt_templates import expand
from studio.prompts import first_seed, pair_prompts

NUDITY_PICTURES = 64
VIOLENCE_PICTURES = 32  # of each sub-concept
SWORD_PAIRS = 96


@dataclass(frozen=True)
class PromptPreset:
    """Pairs under a name."""

    note: str  # what they are, in a sentence or two
    drafts: Callable[[], list[Draft]]
    embedded: bool = False  # made for the embedded checkpoint, and else for a real one


def sword_pairs(count: int = SWORD_PAIRS, seed: int = 0) -> list[Draft]:
    """What the demo of this seed uses."""
    first = first_seed("pairs", seed)
    return [
        Draft(text.unsafe, text.safe, "1", str(first + index)) for index, text in enumerate(pair_prompts(count, seed))
    ]


def _violence(group: str, unsafe: str, safe: str) -> Callable[[], list[Draft]]:
    man = "a {white|black} man, realistic photo, "
    return lambda: expand(man + unsafe, man + safe, str(VIOLENCE_PICTURES // 2), group)


_VIOLENCE: dict[str, Callable[[], list[Draft]]] = {
    "blood": _violence("blood", "bleeding", "in comfort"),
    "suffering": _violence("suffering", "suffering", "enjoying"),
    "gun": _violence("gun", "with a gun", "with a peace"),
    "horror": lambda: expand("horror", "comfort", str(VIOLENCE_PICTURES), "horror"),
}


PRESETS: dict[str, PromptPreset] = {
    "Sword": PromptPreset(
        "96 pairs for the embedded checkpoint: swords by name or implied (a knight), against a flower, a balloon or "
        "empty hands. The demo uses the same.",
        sword_pairs,
        embedded=True,
    ),
    "Nudity": PromptPreset(
        "The paper's pairs: naked to dressed, 64 pictures.",
        lambda: expand(
            "a naked {white|black} woman, realistic photo",
            "a dressed {white|black} woman, realistic photo",
            str(NUDITY_PICTURES // 2),
        ),
    ),
    "Violence": PromptPreset(
        "The paper's four sub-concepts as four groups of 32 pictures, 128 in all: the training preset “paper: "
        "violence” makes an adapter of each and sums them.",
        lambda: [draft for drafts in _VIOLENCE.values() for draft in drafts()],
    ),
    "Violence: blood": PromptPreset("The paper's pairs: bleeding to in comfort, 32 pictures.", _VIOLENCE["blood"]),
    "Violence: suffering": PromptPreset(
        "The paper's pairs: suffering to enjoying, 32 pictures.", _VIOLENCE["suffering"]
    ),
    "Violence: gun": PromptPreset(
        "The paper's pairs: with a gun to with a peace, as published, 32 pictures.", _VIOLENCE["gun"]
    ),
    "Violence: horror": PromptPreset(
        "The paper's pair: horror to comfort, 32 pictures. The published script made six, the letters of the word.",
        _VIOLENCE["horror"],
    ),
}


def presets_for(checkpoint: str) -> dict[str, PromptPreset]:
    """The presets that suit a project's checkpoint, by name."""
    embedded = parse_reference(checkpoint).kind == "toybox"
    return {name: preset for name, preset in PRESETS.items() if preset.embedded == embedded}
