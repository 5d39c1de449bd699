"""The attacks there are, controls first: one file each, listed here by hand."""

from __future__ import annotations

from studio.attacks.base import Attack
from studio.attacks.concept_inversion import ConceptInversion
from studio.attacks.none import NoAttack
from studio.attacks.p4d import P4d
from studio.attacks.pund import Pund
from studio.attacks.random_tokens import RandomTokens
from studio.attacks.ring_a_bell import RingABell
from studio.attacks.ring_a_bell_soft import RingABellSoft
from studio.attacks.seed_search import SeedSearch
from studio.attacks.sneaky_prompt import SneakyPrompt
from studio.attacks.text_free_inversion import TextFreeInversion
from studio.attacks.unlearn_diff_atk import UnlearnDiffAtk

ATTACKS: tuple[Attack, ...] = (
    NoAttack(),
    RandomTokens(),
    SeedSearch(),
    RingABell(),
    RingABellSoft(),
    ConceptInversion(),
    SneakyPrompt(),
    P4d(),
    UnlearnDiffAtk(),
    Pund(),
    TextFreeInversion(),
)


def get_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        ValueError: there is none.
    """
    for attack in ATTACKS:
        if attack.name == name:
            return attack
    raise ValueError(f"There is no attack {name!r}; use {', '.join(attack.name for attack in ATTACKS)}.")
