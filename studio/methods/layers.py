"""Which layers of a network a method changes, told by their names."""

from __future__ import annotations

from collections.abc import Sequence


def has_part(name: str, parts: Sequence[str]) -> bool:
    """Whether one of the parts is in the name of a layer or a parameter."""
    return any(part in name for part in parts)
