"""A training's private repository on the hub: its inputs, its saved state, and at last its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from studio.exchange.hub import hub_words
from studio.launchers.base import LaunchError
from studio.zip_files import leads_outside

KIND = "dataset"


class Depot:
    """Sends and fetches files. Each method raises LaunchError where the hub refuses or cannot be reached."""

    def __init__(self, repository: str, token: str) -> None:
        from huggingface_hub import HfApi

        self.repository, self._token = repository, token
        self._api = HfApi(token=token)

    def make(self) -> None:
        """Private, and never one that is public already: prompts and latents are nobody else's."""
        try:
            self._api.create_repo(self.repository, repo_type=KIND, private=True, exist_ok=True)
            public = self._api.repo_info(self.repository, repo_type=KIND).private is False
        except Exception as error:
            raise self._failed("was not made", error) from None
        if public:
            raise LaunchError(
                f"{self.repository} is there already and is public. Delete it at the hub, or make it private."
            )

    def send(self, files: Mapping[str, Path | bytes], message: str) -> str:
        """One commit; returns its name."""
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(name, str(file) if isinstance(file, Path) else file) for name, file in files.items()
        ]
        try:
            return self._api.create_commit(self.repository, operations, commit_message=message, repo_type=KIND).oid
        except Exception as error:
            raise self._failed(f"did not take {', '.join(list(files)[:3])}", error) from None

    def names(self, prefix: str, revision: str | None = None) -> list[str]:
        """Of the files that begin with this."""
        try:
            found = self._api.list_repo_files(self.repository, repo_type=KIND, revision=revision)
        except Exception as error:
            raise self._failed("does not tell its files", error) from None
        return sorted(name for name in found if name.startswith(prefix) and not leads_outside(name))

    def fetch(self, name: str, folder: Path, revision: str | None = None) -> Path:
        """The file, below `folder` by its name."""
        if leads_outside(name) or PurePosixPath(name).is_absolute():
            raise LaunchError(f"{self.repository} names the file {name!r}, which would lie elsewhere. Refused.")
        try:
            return Path(
                self._api.hf_hub_download(self.repository, name, repo_type=KIND, revision=revision, local_dir=folder)
            )
        except Exception as error:
            raise self._failed(f"does not give {name}", error) from None

    def exists(self) -> bool:
        try:
            return bool(self._api.repo_exists(self.repository, repo_type=KIND))
        except Exception as error:
            raise self._failed("does not tell whether it is there", error) from None

    def delete(self) -> None:
        try:
            self._api.delete_repo(self.repository, repo_type=KIND, missing_ok=True)
        except Exception as error:
            raise self._failed("was not deleted", error) from None

    def _failed(self, what: str, error: Exception) -> LaunchError:
        return LaunchError(
            f"{self.repository} on the hub {what}: {hub_words(error, self._token)} Check that the token may write "
            "there, and the connection; then resume the job."
        )
