"""Folders that are whole or not there, and whether they fit on the disk. No torch."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARGIN = 64 * 2**20  # bytes that must stay free: configs, card, the database beside it

NO_LORA = (
    "This model's change is edited weights, not a LoRA. Export it merged, as a folder or a single file; its "
    "difference file, which only the studio reads, is the adapter itself."
)


class ExportError(ValueError):
    """A model that cannot leave the studio as asked; says the cause and the remedy."""


class UnfitError(ExportError):
    """A model that the format or the precision has no place for, whatever else is mended."""


def require_space(folder: Path, needed: int) -> None:
    """Raise ExportError where `needed` bytes do not fit into the folder, which need not exist yet."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed + MARGIN:
        raise ExportError(
            f"The export needs {gigabytes(needed + MARGIN)}, but only {gigabytes(free)} are free at {there}. Free some "
            "space, choose float16, or choose another folder."
        )


def slug(text: str, otherwise: str) -> str:
    """A name that every file system and the hub take: "duo-2" of "DUO (2)"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or otherwise


def gigabytes(size: float) -> str:
    """A size in words, in powers of 1000: "3.4 GB", "12 MB"."""
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if size >= power:
            value = size / power
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(size, 1) / 1e3:.0f} kB"


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to write into; it becomes `target` on leaving, or goes where that raises.

    What an earlier try that was killed left beside it goes first.

    Raises:
        ExportError: `target` is there already and is not empty.
    """
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.????????.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        yield temporary
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path)
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_existing(target: Path) -> None:
    """Raise ExportError where something would be overwritten."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} is there already. Choose a folder that does not exist yet, or an empty one.")


def _sync(path: Path) -> None:
    if path.is_file():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
