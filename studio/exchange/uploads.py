"""What a browser uploads to be brought in: incoming/<id>/, one numbered file and its name beside it each. Torch-free.

A name is written only when its file is whole, and only into a file of JSON: no name of anybody's becomes a path. The
folder goes when its job is done, when the visitor drops it, or a day later where no job waits for it (see
`studio.cleaning`).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path, PurePosixPath

from studio.exchange.sources import MAX_MEMBERS, UPLOADED, SourceError
from studio.settings import Settings
from studio.zip_files import GIB, MAX_UNPACKED

ID = re.compile(r"[0-9a-f]{24}")
ROOM = GIB  # that stays free on the disk


def begin_upload(settings: Settings) -> str:
    """A new, empty upload; returns its id."""
    upload = secrets.token_hex(12)
    (settings.incoming / upload).mkdir(parents=True)
    return upload


def upload_folder(settings: Settings, upload: str) -> Path:
    """Raises SourceError where there is no such upload."""
    if not ID.fullmatch(upload) or not (settings.incoming / upload).is_dir():
        raise SourceError("This upload is not there any more. Choose the files again.")
    return settings.incoming / upload


def begin_file(folder: Path, name: str) -> Path:
    """Where the bytes of one more file go, until `end_file` names it. Raises SourceError where no more are taken."""
    clean = _clean(name)
    if clean in ("", ".") or "\0" in clean or len(clean) > 1000:
        raise SourceError(f"The name {name[:80]!r} cannot be used. Rename the file.")
    files = list(folder.glob(f"*{UPLOADED}"))
    if len(files) >= MAX_MEMBERS:
        raise SourceError(f"More than {MAX_MEMBERS:,} files. Bring them in parts, or as one zip.")
    path = folder / f"{secrets.token_hex(8)}{UPLOADED}"
    path.touch(exist_ok=False)
    return path


def room_for(folder: Path, size: int) -> str:
    """Why so many bytes more are not taken, "" where they are."""
    there = sum(file.stat().st_size for file in folder.iterdir())
    if there + size > MAX_UNPACKED:
        return f"Together these files have more than {MAX_UNPACKED // GIB} GiB. Bring them in parts."
    if shutil.disk_usage(folder).free < size + ROOM:
        return "There is not enough room on the disk for these files."
    return ""


def end_file(path: Path, name: str) -> None:
    """The file is whole: from now on it is a member of the upload."""
    path.with_suffix(".json").write_text(json.dumps({"name": _clean(name)}), encoding="utf-8")


def _clean(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix().lstrip("/")


def delete_upload(settings: Settings, path: Path) -> bool:
    """Delete an upload's folder; False, and nothing deleted, where the path is not one."""
    if path.parent != settings.incoming or not ID.fullmatch(path.name):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return True
