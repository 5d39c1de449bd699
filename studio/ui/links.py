"""The state of a comparison in the page's address: compare.js writes it when Compare is pressed, this reads it.

    ?project=…&mode=break&prompt=…&prompt=…&model=original&model=…&seed=7&count=1&steps=20&guidance=4
    &view=Slider&left=0&right=2

`model` is a key of the project's models, in the order of the columns; `left` and `right` are columns of the slider and
the difference. A link fills the form and draws nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from studio.ui.compare_form import BREAK_IT, MAX_SEED, SIDE_BY_SIDE, lines_of


class Query(Protocol):
    """What is needed of a request's query parameters."""

    def get(self, key: str) -> str | None: ...

    def getlist(self, key: str) -> list[str]: ...


@dataclass(frozen=True)
class Link:
    """What an address asks for; None where it says nothing, or nothing that the form allows."""

    mode: str = SIDE_BY_SIDE
    prompts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    seed: int | None = None
    count: int | None = None
    steps: int | None = None
    guidance: float | None = None
    view: str | None = None
    left: int | None = None
    right: int | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.prompts)


def read_link(query: Query, known: Sequence[str], views: Sequence[str]) -> Link:
    """The link of an address; `known` are the keys of the project's models."""
    models = tuple(dict.fromkeys(key for key in query.getlist("model") if key in known))
    columns = range(len(models))
    left, right = (_whole(query.get(name), 0, len(models) - 1) for name in ("left", "right"))
    return Link(
        mode=BREAK_IT if query.get("mode") == "break" else SIDE_BY_SIDE,
        prompts=tuple(lines_of("\n".join(query.getlist("prompt")))),
        models=models,
        seed=_whole(query.get("seed"), 0, MAX_SEED),
        count=_whole(query.get("count"), 1, 8),
        steps=_whole(query.get("steps"), 1, 100),
        guidance=_number(query.get("guidance"), 1, 15),
        view=view if (view := query.get("view")) in views else None,
        left=left if left in columns else None,
        right=right if right in columns else None,
    )


def _whole(text: str | None, low: int, high: int) -> int | None:
    number = _number(text, low, high)
    return None if number is None or number != int(number) else int(number)


def _number(text: str | None, low: float, high: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if low <= number <= high else None
