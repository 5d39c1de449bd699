"""This folder as a Hugging Face Space: which files go, with which front matter, and never any data. Torch-free.

What goes is an allowlist of the repository's own files. Nothing of the data folder, no link, no hidden file, no test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from studio.settings import REPOSITORY, Settings
from studio.store import Store

FILES = ("app.py", "README.md", "CHANGELOG.md", "LICENSE", "requirements.txt", "Dockerfile")
FOLDERS = ("studio", "models", "docs")
LEFT_OUT = {"__pycache__", "data", "demo"}
SENSITIVE_TAG = "not-for-all-audiences"
ZERO_GPU = "zero-a10g"  # the hub's own name of shared GPUs, whatever they are now
Sdk = Literal["gradio", "docker"]


class SpaceError(ValueError):
    """A Space that cannot be made or filled; says why and what to do, without any token."""


@dataclass(frozen=True)
class Wanted:
    """How a Space is to be."""

    name: str  # owner/name
    sdk: Sdk | Literal[""] = ""  # "": what is there, or gradio
    hardware: str = ""  # "": what the hub gives, or what is there
    private: bool = True
    sensitive: bool = False
    secrets: Sequence[str] = ()  # names of variables of this process; their values are sent, and told to nobody

    def __post_init__(self) -> None:
        if self.sdk == "docker" and self.hardware == ZERO_GPU:
            raise SpaceError(f"{ZERO_GPU} takes the Gradio SDK: leave --sdk out, or choose other hardware.")


def space_files(settings: Settings, root: Path = REPOSITORY) -> dict[str, Path]:
    """Each file of a Space by its name there."""
    data = settings.data.resolve()
    found = [root / name for name in FILES if (root / name).is_file()]
    found += [path for name in FOLDERS for path in _inside(root / name)]
    return {path.relative_to(root).as_posix(): path for path in found if not path.resolve().is_relative_to(data)}


def front_matter(readme: str, wanted: Wanted) -> str:
    """The README with the front matter that this Space needs."""
    parts = readme.split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise SpaceError("README.md does not begin with the front matter of a Space. Restore it.")
    told: dict[str, Any] = yaml.safe_load(parts[1])
    told["sdk"] = wanted.sdk or "gradio"
    if wanted.sdk == "docker":
        for name in ("sdk_version", "python_version", "app_file"):
            told.pop(name, None)
        told["app_port"] = 7860
    if wanted.hardware:
        told["suggested_hardware"] = wanted.hardware
    tags = [tag for tag in told.get("tags", []) if tag != SENSITIVE_TAG]
    told["tags"] = [*tags, SENSITIVE_TAG] if wanted.sensitive else tags
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n{parts[2]}"


def is_sensitive(store: Store) -> bool:
    """Whether any project here may draw what is not for everybody."""
    return any(project.is_sensitive or project.detector == "nudenet" for project in store.list_projects())


def create(wanted: Wanted, settings: Settings) -> str:
    """Make the Space, with its secrets and hardware, and fill it; returns its address. Raises SpaceError."""
    from huggingface_hub import HfApi

    api, token = HfApi(token=_token()), _token()
    values = _values(wanted.secrets)
    try:
        api.create_repo(
            wanted.name, repo_type="space", space_sdk=wanted.sdk or "gradio", private=wanted.private,
            space_hardware=wanted.hardware or None, space_secrets=values or None,  # type: ignore[arg-type]
        )  # fmt: skip
    except Exception as error:
        raise SpaceError(f"{wanted.name} was not made: {_words(error, token, values)}") from None
    return sync(wanted, settings, secrets_are_set=True)


def sync(wanted: Wanted, settings: Settings, *, secrets_are_set: bool = False) -> str:
    """Bring the Space to this folder's state in one commit; what is gone here goes there too. Raises SpaceError."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api, token = HfApi(token=_token()), _token()
    files, values = space_files(settings), _values(wanted.secrets)
    try:
        if not wanted.sdk and api.space_info(wanted.name).sdk == "docker":
            wanted = replace(wanted, sdk="docker")
        readme = front_matter(files["README.md"].read_text(encoding="utf-8"), wanted)
        there = set(api.list_repo_files(wanted.name, repo_type="space"))
        contents: dict[str, Any] = {**files, "README.md": readme.encode()}
        operations: list[Any] = [CommitOperationAdd(name, _content(file)) for name, file in sorted(contents.items())]
        gone = sorted(there - files.keys() - {".gitattributes"})
        operations += [CommitOperationDelete(name) for name in gone]
        api.create_commit(wanted.name, operations, commit_message="Sync with the studio's folder", repo_type="space")
        if not secrets_are_set:
            for told in values:
                api.add_space_secret(wanted.name, told["key"], told["value"])
            if wanted.hardware:
                api.request_space_hardware(wanted.name, wanted.hardware)  # type: ignore[arg-type]
    except RepositoryNotFoundError:
        raise SpaceError(
            f"There is no Space {wanted.name} that this token may see. Make it with `space create`."
        ) from None
    except SpaceError:
        raise
    except Exception as error:
        raise SpaceError(f"{wanted.name} was not brought up to date: {_words(error, token, values)}") from None
    return f"{api.endpoint}/spaces/{wanted.name}"


def _inside(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and not name.endswith(".pyc") and path.is_file() and not path.is_symlink():
                yield path


def _content(file: Path | bytes) -> str | bytes:
    return file if isinstance(file, bytes) else str(file)


def _values(names: Sequence[str]) -> list[dict[str, str]]:
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise SpaceError(f"{missing[0]} is to be a secret, but no variable of that name is set here. Export it first.")
    return [{"key": name, "value": os.environ[name]} for name in names]


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise SpaceError(
            "There is no Hugging Face token. Run `hf auth login`, or set HF_TOKEN; it must be allowed to write."
        )
    return token


def _words(error: Exception, token: str, values: Sequence[dict[str, str]]) -> str:
    """An error's first line, without the token and without the values of secrets."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    words = " ".join(lines[-1:])
    for secret in (token, *(one["value"] for one in values)):
        words = words.replace(secret, "…")
    return words[:300]
