"""What a zip from anybody must be before anything of it is read: names that stay inside, and no bomb. Torch-free."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

GIB = 2**30
MAX_UNPACKED = 8 * GIB  # a zip can say that it holds more than any disk
BOMB_SIZE, BOMB_RATIO = 256 * 2**20, 200  # pictures hardly shrink: what grows like this is no collection of them


def leads_outside(name: str) -> bool:
    """Whether a name, unpacked on any system, could mean a file outside the folder that it is unpacked into."""
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    odd = not name or name.startswith("/") or drive or "\\" in name or "\0" in name
    return odd or ".." in PurePosixPath(name).parts


def too_large(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    """Why the archive is not unpacked, by what it says of its own sizes; "" where nothing speaks against it."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_UNPACKED:
        return f"{name} unpacks to {size / GIB:.1f} GiB, more than {MAX_UNPACKED // GIB} GiB. Refused."
    packed = path.stat().st_size
    if size > BOMB_SIZE and size > BOMB_RATIO * packed:
        return (
            f"{name} unpacks to {size / 2**20:,.0f} MiB, {size / packed:,.0f} times its own size; more than "
            f"{BOMB_RATIO} times is taken for a zip bomb. Refused."
        )
    return ""
