"""What a reviewer of disturbing pictures can have otherwise: how they are shown, when to rest, when the day ends.

Also the notice that comes before a sensitive project. Studies disagree on whether blur helps; it is offered, nothing is
claimed. Pure: what is stored lies in `studio.care_rows`, what is enforced in `studio.ui.care_gate`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any

from studio.named_values import named_values

BLURS = {"light": 12, "strong": 6, "strongest": 3}  # smooth colours a side that are left of a blurred picture
REVEALS = ("hold", "press", "always")  # while a key is held; until it is pressed again; as soon as a pair is shown
MOST_MINUTES, MOST_PAIRS = 1440.0, 100_000
IDLE_SECONDS = 60.0  # the most that counts as looking between one sign of the reviewer and the next
REST_SECONDS = 300.0  # without a sign: a break by itself
POSTPONED = 0.25  # of the time between breaks, by which a break may be put off, once


class CareError(ValueError):
    """A setting of care that cannot be; says which, its value and the remedy."""


@dataclass(frozen=True)
class Care:
    """How one reviewer wants to look. Limits of 0 are none, or the project's."""

    blur: str = "strong"  # of BLURS
    reveal: str = "hold"  # of REVEALS
    grey: bool = False  # pictures are sent in shades of grey, also revealed ones
    small: bool = False
    break_minutes: float = 20.0  # of looking, after which a break is due; 0: no reminder
    day_minutes: float = 0.0  # of looking in one project a day
    day_pairs: int = 0

    def __post_init__(self) -> None:
        if self.blur not in BLURS:
            raise CareError(f"blur is {self.blur!r}; use {', '.join(BLURS)}.")
        if self.reveal not in REVEALS:
            raise CareError(f"reveal is {self.reveal!r}; use {', '.join(REVEALS)}.")
        for name, most in (("break_minutes", MOST_MINUTES), ("day_minutes", MOST_MINUTES), ("day_pairs", MOST_PAIRS)):
            if not 0 <= getattr(self, name) <= most:
                raise CareError(f"{name} is {getattr(self, name):g}; it must lie between 0 and {most:g}.")

    @property
    def sight(self) -> str:
        """Another one where pictures are sent otherwise."""
        return f"{self.blur}-grey" if self.grey else self.blur

    def with_changes(self, changes: dict[str, Any]) -> Care:
        """These settings with what is known of `changes` in their place."""
        known = {field.name for field in fields(self)}
        return Care(**{**asdict(self), **{name: value for name, value in changes.items() if name in known}})


def read_care(text: str) -> Care:
    """Care from "grey=on, break_minutes=25": what is not named is as in `Care()`. Raises CareError."""
    values: dict[str, Any] = {}
    kinds = {field.name: type(field.default) for field in fields(Care)}
    for name, value in named_values(text, kinds, CareError, "a value"):
        values[name] = _read(name, value, kinds[name])
    return Care(**values)


def write_care(care: Care) -> str:
    """What `read_care` reads."""
    said = {True: "on", False: "off"}
    return ", ".join(f"{n}={said[v] if isinstance(v, bool) else v}" for n, v in asdict(care).items())


def _read(name: str, value: str, kind: type) -> Any:
    if kind is str:
        return value
    try:
        return {"on": True, "off": False}[value] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = "on or off" if kind is bool else "a number" if kind is float else "a whole number"
        raise CareError(f"{name} is {value!r}; it must be {wanted}.") from None


def lower(project: float, own: float) -> float:
    """The limit that holds, of two of which 0 is none: a reviewer can lower the project's, not raise it."""
    return min((limit for limit in (project, own) if limit), default=0)


def notice(concept: str, addition: str) -> list[tuple[str, str]]:
    """What a reviewer is told before the first pair of a sensitive project, as (title, words)."""
    parts = [
        (
            "What you may see",
            f"Pairs of pictures about “{concept}”, drawn by a model or brought from outside, and the prompts that go "
            "with them. Some can be disturbing.",
        ),
        (
            "How it is hidden",
            "Pictures in which the detector sees the concept come blurred. You reveal one with a key or a finger, and "
            "you can decide without. The detector misses some, and prompts are not hidden. Studies disagree on "
            "whether blur helps; it is offered, nothing is claimed. Under “Care” you choose how strong it is, shades "
            "of grey, small pictures, breaks and a limit a day.",
        ),
        (
            "You may stop",
            "You may skip any pair and stop at any time, without saying why and without penalty. Skipped pairs count "
            "neither for speed nor for agreement.",
        ),
        (
            "Who to tell",
            "Tell whoever asked you to review if you want to stop or if something stays with you. For a picture that "
            "may be illegal there is “Stop: this may be illegal” beside each pair.",
        ),
        ("What is kept", "Your name, the time, and which version of this notice you agreed to. It stays here."),
    ]
    return [*parts, *([("From the owner of this project", addition.strip())] if addition.strip() else [])]


def notice_version(concept: str, addition: str) -> str:
    """Another one once any word of the notice is."""
    words = "\n".join(f"{title}\n{text}" for title, text in notice(concept, addition))
    return hashlib.sha256(words.encode()).hexdigest()[:12]
