"""Values written as "name=value, name=value": limits, care and Hugging Face Jobs. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any


def named_values(text: str, known: Collection[str], error: type[ValueError], each: str) -> Iterator[tuple[str, str]]:
    """Name and value of each part. Raises `error` for a name that is not known; `each` says what has an = there."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise error(f"there is no {name!r}; use {', '.join(known)}, each with = and {each}.")
        yield name, value


def read_fields(text: str, kind: Any, error: type[ValueError], each: str) -> dict[str, Any]:
    """Values for a dataclass's fields, each of its default's type. Raises `error`."""
    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in named_values(text, kinds, error, each):
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise error(f"{name} is {value!r}; it must be a number.") from None
    return values
