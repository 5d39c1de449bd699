"""What makes a prompt pair fit to be saved: one check for the page's table, for files, templates and presets.

Torch-free. Which words a text encoder cuts off is no error and is asked of the inference worker instead.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from studio.prompts import SEEDS_A_RANGE
from studio.records import PromptPair
from studio.refusal import refuse

COUNT_LIMIT = 10_000  # pictures of one prompt pair
LENGTH_LIMIT = 2_000  # characters of a prompt; any text encoder stops long before
GROUP_LIMIT = 60  # characters of a group's name, which becomes part of its adapter's
_HALF = re.compile("[\ud800-\udfff]")
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}(\.0+)?")  # spreadsheets write 3 as 3.0


class PromptError(ValueError):
    """A prompt pair that cannot be saved; says what is wrong with it and what to do."""


@dataclass(frozen=True)
class Draft:
    """A prompt pair as somebody typed it or a file holds it."""

    unsafe: str = ""
    safe: str = ""
    count: str = ""  # "" is 1
    seed: str = ""  # "" is the next free one
    group: str = ""
    where: str = ""  # "prompts.csv, line 3"
    problem: str = ""  # why it could not even be read


@dataclass(frozen=True)
class Checked:
    """A draft and what became of it: a pair that can be saved (without project and id), or a problem."""

    draft: Draft
    pair: PromptPair | None = None
    problem: str = ""
    known: bool = False  # the problem is only that the project has it already


def tidy(prompt: str) -> str:
    """A prompt as it is stored: on one line, with single spaces."""
    return " ".join(prompt.split())


def has_half_letter(text: str) -> bool:
    """Whether it holds half of a letter, which JSON can say ("\\ud800") and no file, row or text encoder can hold."""
    return _HALF.search(text) is not None


def check(drafts: Iterable[Draft], existing: Sequence[PromptPair] = ()) -> list[Checked]:
    """Check each draft by itself and against the pairs before it, beginning with those that exist.

    Two pairs are the same if they have the same prompts and share a seed: they would be the same pictures. A draft
    without a seed gets one above all others, and is the same as any pair with its prompts.
    """
    known = _Known()
    for pair in existing:
        known.add(pair, "")
    return [_check(draft, known) for draft in drafts]


def prompts_of(checked: Iterable[Checked]) -> list[PromptPair]:
    """The pairs that can be saved."""
    return [one.pair for one in checked if one.pair is not None]


@dataclass
class _Known:
    """The pairs so far, by their prompts: first and last seed and where each came from ("" is the project)."""

    seeds: dict[tuple[str, str], list[tuple[int, int, str]]] = field(default_factory=lambda: defaultdict(list))
    free: int = 0  # a seed above all that are used

    def add(self, pair: PromptPair, where: str) -> None:
        last = pair.seed + max(pair.count, 1) - 1
        self.seeds[_key(pair.unsafe, pair.safe)].append((pair.seed, last, where))
        self.free = max(self.free, last + 1)

    def same(self, pair: PromptPair, seeded: bool) -> str | None:
        """Where the first pair came from that this one repeats; None where there is none."""
        last = pair.seed + max(pair.count, 1) - 1
        for first_known, last_known, where in self.seeds.get(_key(pair.unsafe, pair.safe), []):
            if not seeded or (pair.seed <= last_known and first_known <= last):
                return where
        return None


def _check(draft: Draft, known: _Known) -> Checked:
    draft = replace(draft, unsafe=tidy(draft.unsafe), safe=tidy(draft.safe), group=tidy(draft.group))
    try:
        pair = _pair(draft, known.free)
    except PromptError as error:
        return Checked(draft, problem=str(error))
    same = known.same(pair, seeded=bool(draft.seed.strip()))
    if same is not None:
        problem = f"The same pair is {'at ' + same if same else 'there already'}: raise its count, or use another seed."
        return Checked(draft, problem=problem, known=not same)
    known.add(pair, draft.where or "another row")
    return Checked(draft, pair)


def _pair(draft: Draft, free: int) -> PromptPair:
    if draft.problem:
        raise PromptError(draft.problem)
    for name, prompt in (("unsafe", draft.unsafe), ("safe", draft.safe)):
        if not prompt:
            raise PromptError(f"The {name} prompt is empty: write what {_PURPOSE[name]}.")
        if len(prompt) > LENGTH_LIMIT:
            raise PromptError(f"The {name} prompt has {len(prompt):,} characters; use {LENGTH_LIMIT:,} or fewer.")
        if has_half_letter(prompt + draft.group):
            raise PromptError(f"The {name} prompt or the group holds a letter that is none. Write it again.")
        if reason := refuse(prompt):
            raise PromptError(reason)
    if len(draft.group) > GROUP_LIMIT:
        raise PromptError(f"The group has {len(draft.group):,} characters; use {GROUP_LIMIT} or fewer.")
    if reason := refuse(draft.group):
        raise PromptError(reason)
    if draft.unsafe.casefold() == draft.safe.casefold():
        raise PromptError("Both prompts are equal: they must differ in the concept to forget.")
    count = _whole("Count", draft.count, 1, COUNT_LIMIT)
    seed = _whole("Seed", draft.seed, free, SEEDS_A_RANGE - 1)
    if seed + count > SEEDS_A_RANGE:
        raise PromptError(
            f"Seed {seed:,} leaves no room for {count:,} pictures: the last seed is {SEEDS_A_RANGE - 1:,}. "
            "Use a smaller one."
        )
    return PromptPair("", "", draft.unsafe, draft.safe, count, seed, draft.group)


def _whole(name: str, text: str, empty: int, highest: int) -> int:
    """A whole number from 0 to `highest`; `empty` is what no text means."""
    text = text.strip()
    if not text:
        return empty
    if not _WHOLE.fullmatch(text) or not 0 <= int(text.split(".")[0]) <= highest:
        raise PromptError(f"{name} is {text[:40]!r}: write a whole number from 0 to {highest:,}.")
    return int(text.split(".")[0])


def _key(unsafe: str, safe: str) -> tuple[str, str]:
    return unsafe.casefold(), safe.casefold()


_PURPOSE = {"unsafe": "shows the concept", "safe": "to draw in its place"}
