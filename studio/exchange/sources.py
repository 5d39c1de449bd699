"""Where pairs come from: a folder, a zip, one file, or what was uploaded, each as a list of named members. Torch-free.

Names are never used to write anything. Links are not followed. What systems leave behind (.DS_Store, __MACOSX,
Thumbs.db, desktop.ini, ._x and all that is hidden) is passed over.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from studio.zip_files import leads_outside, too_large

MAX_MEMBERS = 200_000
JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
UPLOADED = ".file"  # an upload's files are numbered, their names beside them: see studio.exchange.uploads


class SourceError(ValueError):
    """Something brought that cannot be opened as a whole; says why and what to do."""


@dataclass(frozen=True)
class Member:
    """One file of a source."""

    name: str  # with "/" between folders
    size: int  # bytes, as the source says
    place: str = ""  # where it lies, where that is not its name
    problem: str = ""  # why it is not read


@dataclass
class Source:
    """A folder's files; the others differ in how a member is opened."""

    path: Path
    name: str  # as people know it
    members: list[Member] = field(default_factory=list)

    def open(self, member: Member) -> IO[bytes]:
        return (self.path / (member.place or member.name)).open("rb")

    def read(self, member: Member, limit: int) -> bytes:
        """At most `limit` + 1 bytes, so that more can be told from as many. Raises SourceError."""
        if member.problem:
            raise SourceError(member.problem)
        try:
            with self.open(member) as file:
                return file.read(limit + 1)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
            raise SourceError(f"It cannot be read ({error}). Pack or copy it again.") from error

    @contextmanager
    def as_file(self, member: Member) -> Iterator[Path]:
        """The member as a file of its own, for readers that jump about in it. Raises SourceError."""
        yield self.path / (member.place or member.name)


@dataclass
class ZipSource(Source):
    """A zip's files."""

    archive: zipfile.ZipFile | None = None
    entries: dict[str, zipfile.ZipInfo] = field(default_factory=dict)

    def open(self, member: Member) -> IO[bytes]:
        assert self.archive is not None
        return self.archive.open(self.entries[member.name])

    @contextmanager
    def as_file(self, member: Member) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="duo-bring-") as folder:
            path = Path(folder) / "member"
            try:
                with self.open(member) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file)
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
                raise SourceError(f"It cannot be unpacked ({error}). Pack it again.") from error
            yield path


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """What lies at `path`, its members in the order of their names. Raises SourceError."""
    if path.is_dir():
        source: Source = Source(path, path.name, list(_uploaded(path) or _folder(path)))
        if len(source.members) == 1 and _kind(source.members[0]) == ".zip":
            only = source.members[0]
            with _opened_zip(path / (only.place or only.name), only.name) as whole:
                yield whole
            return
        yield _sorted(source)
    elif not path.exists():
        raise SourceError(f"{path} does not exist. Check the path.")
    elif path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        with _opened_zip(path, path.name) as whole:
            yield whole
    elif path.is_file():
        yield Source(path.parent, path.name, [Member(path.name, path.stat().st_size)])
    else:
        raise SourceError(f"{path} is neither a folder nor a file. Use a folder, a .zip or a .parquet file.")


def is_junk(name: str) -> bool:
    """Whether a system or an editor left this behind."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" or part.lower() in JUNK for part in parts)


def same_name(name: str) -> str:
    """What two names share that some systems take for one: without case, accents composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _kind(member: Member) -> str:
    return PurePosixPath(member.name).suffix.lower()


def _sorted(source: Source) -> Source:
    if len(source.members) > MAX_MEMBERS:
        raise SourceError(f"{source.name} holds more than {MAX_MEMBERS:,} files. Bring it in parts.")
    source.members.sort(key=lambda member: member.name)
    return source


def _folder(path: Path) -> Iterator[Member]:
    for folder, folders, files in os.walk(path):
        inside = Path(folder)
        links = [name for name in folders if (inside / name).is_symlink()]
        for name in (*files, *links):
            file = inside / name
            relative = file.relative_to(path).as_posix()
            try:
                relative.encode()
                found = file.lstat()
            except UnicodeEncodeError:
                shown = relative.encode(errors="backslashreplace").decode()
                yield Member(shown, 0, problem="Its name is not UTF-8: rename it.")
            except OSError as error:
                yield Member(relative, 0, problem=f"It cannot be read ({error.strerror}).")
            else:
                problem = "It is a link, and links are not followed: put the file itself here."
                problem = problem if stat.S_ISLNK(found.st_mode) else "It is no plain file."
                yield Member(relative, found.st_size, problem="" if stat.S_ISREG(found.st_mode) else problem)


def _uploaded(path: Path) -> list[Member]:
    """The members of an upload; none where the folder is not one."""
    found = []
    for file in path.glob(f"*{UPLOADED}"):
        try:
            name = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["name"]
        except FileNotFoundError:  # it was not uploaded to its end
            continue
        except (ValueError, KeyError):
            return []
        found.append(Member(name, file.stat().st_size, place=file.name))
    return found


@contextmanager
def _opened_zip(path: Path, name: str) -> Iterator[Source]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"{name} is no zip that can be opened ({error}). Pack it again.") from error
    with archive:
        if why := too_large(archive, path, name):
            raise SourceError(why)
        # Old Windows programs wrote names with backslashes.
        entries = [(e.filename.replace("\\", "/"), e) for e in archive.infolist() if not e.is_dir()]
        members = list(_zipped(entries, name))
        yield _sorted(ZipSource(path, name, members, archive, dict(entries)))


def _zipped(entries: list[tuple[str, zipfile.ZipInfo]], archive: str) -> Iterator[Member]:
    times = Counter(name for name, _ in entries)
    for name, entry in entries:
        if leads_outside(name):
            raise SourceError(f"{archive} holds {name!r}, which would lie outside of it (zip slip). Refused.")
        problem = ""
        if stat.S_ISLNK(entry.external_attr >> 16):
            problem = "It is a link, and links are not followed: pack the file itself."
        elif entry.flag_bits & 1:
            problem = "It is encrypted: pack it without a password."
        elif times[name] > 1:
            problem = f"The archive holds {times[name]} files of this name: which one is meant?"
        yield Member(name, entry.file_size, problem=problem)
