"""Files that are whole or not there: the one way in which pictures, latents, adapters and states are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write to a temporary name beside `path` and rename: readers see the old file or the whole new one.

    With `sync` the bytes are on the disk before the rename, so that this holds after a power cut too. Without it (some
    milliseconds less) it holds after a kill alone: for what is checked when it is read and can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
