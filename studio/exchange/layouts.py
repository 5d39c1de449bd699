"""Which of the files brought belong together: by their names, by a metadata file, or as rows of a parquet file.

By name      unsafe/a.png and safe/a.jpg, a_unsafe.png and a_safe.png, or a/unsafe.png and a/safe.png; other words for
             the two folders are in `SIDES`. Case and accents make no difference
Metadata     metadata.jsonl or metadata.csv beside the pictures, as Hugging Face's imagefolder has it: a row names two
             files (unsafe_file_name, safe_file_name) or says more of one (file_name, with its prompt)
Parquet      see `studio.exchange.parquet`

Everything that is brought becomes an `Entry`, also what cannot be taken, with the reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from studio.exchange.metadata import Row, is_metadata, read_rows
from studio.exchange.parquet import count_rows, read_entries
from studio.exchange.records import Entry, Picture
from studio.exchange.sources import Member, Source, SourceError, is_junk, same_name
from studio.refusal import refuse

SIDES = {
    **dict.fromkeys(("unsafe", "rejected", "negative", "before", "bad"), "unsafe"),
    **dict.fromkeys(("safe", "chosen", "positive", "after", "good"), "safe"),
}
_WORDS = "unsafe|safe|rejected|chosen"  # in a file's name; "good_dog.png" says nothing of sides
_ENDS = re.compile(rf"(?P<key>.+)[-_. ](?P<side>{_WORDS})")
_BEGINS = re.compile(rf"(?P<side>{_WORDS})[-_. ](?P<key>.+)")
LENGTH_LIMIT = 2_000  # characters of a prompt
ENDINGS = {
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".avif",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".heic",
}
OURS = {"readme.md", "license", "license.txt", "verdicts.jsonl", "dataset_infos.json"}  # lie beside pictures; no news
Side = Literal["unsafe", "safe"]


@dataclass(frozen=True)
class Wanted:
    """What the person who brings them said of all of them."""

    make_twins: bool = False  # an unsafe picture alone is edited; one that is not marked counts as unsafe
    unsafe_prompt: str = ""  # of those that come without
    safe_prompt: str = ""


@dataclass
class _Group:
    """Pictures of one name."""

    unsafe: list[Member] = field(default_factory=list)
    safe: list[Member] = field(default_factory=list)


@dataclass(frozen=True)
class Survey:
    """What there is, before any picture is opened."""

    pairs: int  # that come whole
    alone: int  # unsafe pictures whose twin is to be made
    rows: int  # of parquet files
    problems: tuple[Entry, ...]  # what will not be taken, as far as names tell

    @property
    def total(self) -> int:
        """How many entries there are, if the parquet files hold what they say."""
        return self.pairs + self.alone + self.rows + len(self.problems)


def entries(source: Source, wanted: Wanted) -> Iterator[Entry]:
    """Everything of the source that is not junk, in an order that stays the same: rows of parquet files first."""
    for member in _parquet(source):
        for entry in read_entries(source, member):
            yield _completed(entry, wanted)
    yield from _named(source, wanted)


def survey(source: Source, wanted: Wanted) -> Survey:
    """What `entries` is going to give."""
    found = list(_named(source, wanted))
    problems = [entry for entry in found if entry.problem]
    rows = 0
    for member in _parquet(source):
        try:
            with source.as_file(member) as path:
                rows += count_rows(path)
        except SourceError as error:
            problems.append(Entry(member.name, problem=str(error)))
    taken = [entry for entry in found if not entry.problem]
    whole = sum(entry.safe is not None for entry in taken)
    return Survey(whole, len(taken) - whole, rows, tuple(problems))


def _parquet(source: Source) -> Iterator[Member]:
    yield from (m for m in source.members if _suffix(m) == ".parquet" and not m.problem and not is_junk(m.name))


def _named(source: Source, wanted: Wanted) -> Iterator[Entry]:
    """All but the rows of parquet files."""
    members = [member for member in source.members if not is_junk(member.name)]
    pictures = []
    claimed: set[str] = set()
    told: dict[str, Row] = {}
    for member in members:
        if member.problem:
            yield Entry(member.name, problem=member.problem)
        elif is_metadata(member.name):
            for entry in _of_metadata(source, member, members, claimed, told):
                yield _completed(entry, wanted)
        elif _suffix(member) != ".parquet" and PurePosixPath(member.name).name.lower() not in OURS:
            pictures.append(member)
    left = [member for member in pictures if member.name not in claimed]
    for entry in _by_name(left, told, wanted):
        yield _completed(entry, wanted)


def _completed(entry: Entry, wanted: Wanted) -> Entry:
    """With the prompts that were given for all, and refused where a twin is to be made without them."""
    if entry.problem or entry.outcome != "take":
        return entry
    unsafe, safe = entry.unsafe_prompt or wanted.unsafe_prompt, entry.safe_prompt or wanted.safe_prompt
    entry = replace(entry, unsafe_prompt=unsafe, safe_prompt=safe)
    if entry.safe is None and not wanted.make_twins:
        return replace(entry, problem="It has no safe twin. Add one of the same name, or have twins made (make twins).")
    return replace(entry, problem=_wrong_prompts(entry))


def _wrong_prompts(entry: Entry) -> str:
    """What is wrong with the entry's prompts, "" where nothing is."""
    unsafe, safe = entry.unsafe_prompt, entry.safe_prompt
    if entry.safe is None and not (unsafe and safe):
        return (
            "Its twin is made from the unsafe and the safe prompt, but it has not both: give them for all, or in a "
            "metadata file."
        )
    if entry.safe is None and unsafe.casefold() == safe.casefold():
        return "Its two prompts are the same, so its twin would show the same: they must differ in the concept."
    for prompt in (unsafe, safe):
        if len(prompt) > LENGTH_LIMIT:
            return f"Its prompt has {len(prompt):,} characters; use {LENGTH_LIMIT:,} or fewer."
        if reason := refuse(prompt):
            return reason
    return ""


def _of_metadata(
    source: Source, file: Member, members: Sequence[Member], claimed: set[str], told: dict[str, Row]
) -> Iterator[Entry]:
    """The pairs that a metadata file names; what it says of single pictures is put into `told`."""
    folder = PurePosixPath(file.name).parent
    there = _Names(members)
    for row in read_rows(source, file):
        if row.problem:
            yield Entry(row.where, problem=row.problem)
            continue
        named = [there.find(str(folder / name)) for name in row.files]
        if missing := [name for name, found in zip(row.files, named, strict=True) if found is None]:
            yield Entry(row.where, problem=f"It names {missing[0]!r}, which is not there.")
            continue
        found = [member.name for member in named if member is not None]
        if len(found) == 1:
            told[found[0]] = row
            continue
        claimed |= set(found)
        unsafe, safe = (Picture(name) for name in found)
        yield Entry(f"{unsafe.name} + {safe.name}", unsafe, safe, row.unsafe_prompt, row.safe_prompt, row.decision)


class _Names:
    """Members by their name, or else by the one name that differs in case alone."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._exact = {member.name: member for member in members}
        self._alike: dict[str, list[Member]] = defaultdict(list)
        for member in members:
            self._alike[same_name(member.name)].append(member)

    def find(self, name: str) -> Member | None:
        alike = self._alike.get(same_name(name), [])
        return self._exact.get(name) or (alike[0] if len(alike) == 1 else None)


def _by_name(pictures: Sequence[Member], told: dict[str, Row], wanted: Wanted) -> Iterator[Entry]:
    groups: dict[str, _Group] = {}
    for member in pictures:
        side, key = side_of(member.name)
        if side is None and not (wanted.make_twins and _suffix(member) in ENDINGS):
            is_picture = not wanted.make_twins or _suffix(member) in ENDINGS
            yield Entry(member.name, problem=_UNMARKED if is_picture else _NO_PICTURE)
            continue
        getattr(groups.setdefault(key, _Group()), side or "unsafe").append(member)
    for group in groups.values():
        yield from _of_group(group, told)


def _of_group(group: _Group, told: dict[str, Row]) -> Iterator[Entry]:
    several = [(side, found) for side, found in (("unsafe", group.unsafe), ("safe", group.safe)) if len(found) > 1]
    if several:
        for side, found in several:
            yield from (Entry(member.name, problem=_which(member, side, found)) for member in found)
        for member in (*group.unsafe, *group.safe):
            if all(member not in found for _, found in several):
                twins = " and ".join(twin.name for twin in several[0][1])
                yield Entry(member.name, problem=f"Which one is its twin, {twins}? Rename or remove one of them.")
        return
    unsafe, safe = (next(iter(found), None) for found in (group.unsafe, group.safe))
    if unsafe is None:
        assert safe is not None
        yield Entry(safe.name, problem="There is no unsafe picture of this name: add it, or leave this one out.")
        return
    about, of_twin = told.get(unsafe.name), told.get(safe.name) if safe else None
    unsafe_prompt = about.unsafe_prompt if about else ""
    safe_prompt = (of_twin.own_prompt if of_twin else "") or (about.safe_prompt if about else "")
    name = f"{unsafe.name} + {safe.name}" if safe else unsafe.name
    twin = Picture(safe.name) if safe else None
    yield Entry(name, Picture(unsafe.name), twin, unsafe_prompt, safe_prompt, about.decision if about else "")


def _which(member: Member, side: str, found: Sequence[Member]) -> str:
    other = next(one for one in found if one is not member)
    alike = same_name(member.name) == same_name(other.name)
    how = "differs from it in upper and lower case alone" if alike else f"would be the same {side} picture"
    return f"{other.name} {how}: rename or remove one of them."


def side_of(name: str) -> tuple[Side | None, str]:
    """Which side of a pair a picture is by its name, None where it does not say, and the key that its twin shares."""
    path = PurePosixPath(same_name(name))
    *folders, stem = (*path.parts[:-1], path.stem)
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] in SIDES:
            return _side(folders[place]), "/".join([*folders[:place], *folders[place + 1 :], stem])
    if stem in SIDES:
        return _side(stem), "/".join([*folders, ""])
    for pattern in (_ENDS, _BEGINS):
        if found := pattern.fullmatch(stem):
            return _side(found["side"]), "/".join([*folders, found["key"]])
    return None, "/".join([*folders, stem])


def _side(word: str) -> Side:
    return "unsafe" if SIDES[word] == "unsafe" else "safe"


def _suffix(member: Member) -> str:
    return PurePosixPath(member.name).suffix.lower()


_UNMARKED = (
    "Nothing says which side it is: put it into a folder unsafe or safe, call it a_unsafe or a_safe, name it in a "
    "metadata file, or have twins made (make twins), which takes it as unsafe."
)
_NO_PICTURE = "It is no picture by its name, and nothing says which side it is."
__all__ = ["Entry", "Side", "SourceError", "Wanted", "entries", "side_of"]
