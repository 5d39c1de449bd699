"""Templates with alternatives that expand into prompt pairs: "a {knight|warrior} in the {meadow|forest}". Torch-free.

Alternatives at the same place of the two templates belong together, one by one: the first unsafe one with the first
safe one. Several places multiply. A place with a single alternative, {gardener}, serves for all of the other side's.
"""

from __future__ import annotations

from itertools import product
from math import prod

from studio.prompt_checks import Draft, tidy

PAIR_LIMIT = 2_000
LENGTH_LIMIT = 20_000  # characters of a template, of which every pair may have a copy
HELP = (
    "Write alternatives as {knight|warrior}. The first of the unsafe prompt goes with the first of the safe one, the "
    "second with the second; several places multiply. A single {gardener} goes with every alternative of its place."
)

Part = str | list[str]  # text, or the alternatives of one place


class TemplateError(ValueError):
    """Templates that do not expand; says where and what to do."""


def expand(unsafe: str, safe: str, count: str = "", group: str = "") -> list[Draft]:
    """Every pair of the two templates, once each, in the order they are written; the last place varies fastest.

    Raises TemplateError.
    """
    if (longest := max(len(unsafe), len(safe))) > LENGTH_LIMIT:
        raise TemplateError(f"A template has {longest:,} characters; use {LENGTH_LIMIT:,} or fewer.")
    parts = {"unsafe": parse(unsafe, "unsafe"), "safe": parse(safe, "safe")}
    places = {name: [part for part in one if isinstance(part, list)] for name, one in parts.items()}
    choices = [_choices(number, *both) for number, both in enumerate(_paired(places["unsafe"], places["safe"]), 1)]
    total = prod(map(len, choices))
    if total > PAIR_LIMIT:
        raise TemplateError(f"These templates make {total:,} pairs; at most {PAIR_LIMIT:,} can be added at once.")
    texts = [
        tuple(_filled(one, [words[side] for words in chosen]) for side, one in enumerate(parts.values()))
        for chosen in product(*choices)
    ]
    return [Draft(bad, good, count, group=group) for bad, good in dict.fromkeys(texts)]


def parse(template: str, name: str) -> list[Part]:
    """The template's texts and places in their order. Raises TemplateError for a brace without its partner."""
    parts: list[Part] = []
    rest = template
    while rest:
        text, opened, rest = rest.partition("{")
        if "}" in text:
            raise TemplateError(
                f"The {name} template has “}}” without “{{” before it, after “{text.partition('}')[0]}”."
            )
        parts.append(text)
        if not opened:
            break
        inside, closed, rest = rest.partition("}")
        if not closed:
            raise TemplateError(f"The {name} template has “{{” without “}}”: close it after “{inside.strip()}”.")
        if "{" in inside:
            raise TemplateError(f"The {name} template has a place within a place at “{{{inside}}}”; write them apart.")
        if not inside.strip():
            raise TemplateError(f"The {name} template has an empty place {{}}: write alternatives, as {{red|blue}}.")
        parts.append([word.strip() for word in inside.split("|")])
    return parts


def _paired(unsafe: list[list[str]], safe: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    if len(unsafe) != len(safe):
        raise TemplateError(
            f"The unsafe template has {_places(unsafe)} and the safe one {_places(safe)}; both need the same number. "
            "Braces around a single word, as {gardener}, make a place too."
        )
    return list(zip(unsafe, safe, strict=True))


def _choices(number: int, unsafe: list[str], safe: list[str]) -> list[tuple[str, str]]:
    """What stands at one place of both templates, for each alternative."""
    if len(unsafe) == 1:
        unsafe = unsafe * len(safe)
    if len(safe) == 1:
        safe = safe * len(unsafe)
    if len(unsafe) != len(safe):
        raise TemplateError(
            f"Place {number} has {len(unsafe)} unsafe alternatives ({'|'.join(unsafe)}) and {len(safe)} safe ones "
            f"({'|'.join(safe)}); give as many of each, or a single one."
        )
    return list(zip(unsafe, safe, strict=True))


def _filled(parts: list[Part], words: list[str]) -> str:
    chosen = iter(words)
    return tidy("".join(part if isinstance(part, str) else next(chosen) for part in parts))


def _places(places: list[list[str]]) -> str:
    shown = " ".join("{" + "|".join(place) + "}" for place in places)
    return f"{len(places)} place{'' if len(places) == 1 else 's'}" + (f" ({shown})" if places else "")
