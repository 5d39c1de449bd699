"""Files that are whole or not there: the one way in which pictures, latents, adapters and states are written."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}(\.part)?")  # as below; earlier versions wrote no .part


def is_temporary(path: Path) -> bool:
    """Whether the name is one that `write_atomically` gives a file until it is whole."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_atomically(path: Path, data: bytes, *, sync: bool = True, mode: int = 0o644) -> None:
    """Write to a temporary name beside `path` and rename: readers see the old file or the whole new one.

    With `sync` the bytes are on the disk before the rename, so that this holds after a power cut too. Without it (some
    milliseconds less) it holds after a kill alone: for what is checked when it is read and can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
