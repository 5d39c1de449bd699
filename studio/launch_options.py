"""How trainings run at Hugging Face unless asked otherwise. The settings read it: it imports no more than they may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from studio.named_values import read_fields

LEAST_MINUTES, MOST_MINUTES = 1.0, 7 * 24 * 60.0
NAME = re.compile(r"[\w.-]{1,96}")
FLAVOR = re.compile(r"[a-z0-9-]{1,40}")
IMAGE = re.compile(r"[\w./:@-]{1,200}")


class OptionsError(ValueError):
    """A value that cannot be; says which, what it is and the remedy."""


@dataclass(frozen=True)
class HfJobsOptions:
    """One training on a machine of Hugging Face Jobs."""

    flavor: str = "a10g-small"  # which machine
    timeout_minutes: float = 240.0  # after which Hugging Face ends it; never without, since each minute costs
    namespace: str = ""  # user or organisation that pays and owns the files; "" is the token's user
    image: str = "python:3.12"  # the container that the studio is installed into
    save_minutes: float = 5.0  # between two copies of the training's state, with which it can be resumed

    def __post_init__(self) -> None:
        for name, pattern in (("flavor", FLAVOR), ("image", IMAGE), ("namespace", NAME)):
            value = getattr(self, name)
            if not (isinstance(value, str) and (pattern.fullmatch(value) or (name == "namespace" and not value))):
                raise OptionsError(f"{name} is {value!r}; it must be a name as Hugging Face has it, such as "
                                   f"{getattr(HfJobsOptions, name) or 'my-organisation'!r}.")  # fmt: skip
        for name, low in (("timeout_minutes", LEAST_MINUTES), ("save_minutes", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= MOST_MINUTES:
                raise OptionsError(f"{name} is {value!r}; it must lie between {low:g} and {MOST_MINUTES:g}.")


def options_from(values: Mapping[str, Any], start: HfJobsOptions) -> HfJobsOptions:
    """`start` with what was given over it. Raises OptionsError."""
    known = asdict(start)
    if unknown := sorted(values.keys() - known.keys()):
        raise OptionsError(f"there is no {unknown[0]!r}; use {', '.join(known)}.")
    return HfJobsOptions(**(known | {name: value for name, value in values.items() if value is not None}))


def read_options(text: str) -> HfJobsOptions:
    """Options from "flavor=t4-small, timeout_minutes=60". Raises OptionsError."""
    return HfJobsOptions(**read_fields(text, HfJobsOptions, OptionsError, "its value"))


def write_options(options: HfJobsOptions) -> str:
    """What `read_options` reads."""
    return ", ".join(f"{name}={value}" for name, value in asdict(options).items())
