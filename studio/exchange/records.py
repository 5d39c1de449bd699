"""What was brought, one entry a pair, picture or row, on its way from a file to the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["take", "tie", "unlabelled"]  # of an entry without a problem: to be taken, or rightly left out


@dataclass(frozen=True)
class Picture:
    """A member of the source by its name, or bytes that came out of one."""

    name: str
    data: bytes | None = None


@dataclass(frozen=True)
class Entry:
    """A pair, an unsafe picture alone, a row that says nothing, or what cannot be taken (`problem`)."""

    name: str  # as it is listed
    unsafe: Picture | None = None
    safe: Picture | None = None  # None: it is to be made
    unsafe_prompt: str = ""
    safe_prompt: str = ""
    decision: str = ""  # "accept" or "reject" where the file has one
    outcome: Outcome = "take"
    problem: str = ""
