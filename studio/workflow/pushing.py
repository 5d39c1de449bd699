"""A folder to the Hugging Face hub, with the token that huggingface_hub finds: HF_TOKEN, or a stored login.

The token is asked for by huggingface_hub alone; it is in no row, log or card, and whatever an error says is told
without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from studio.exchange.hub import hub_words
from studio.workflow.context import WorkflowError

NO_TOKEN = (
    "There is no token for the Hugging Face hub. Log in with `hf auth login` as the user who runs the studio, or set "
    "HF_TOKEN before it starts. The token must be allowed to write."
)


def check_token() -> str:
    """The token. Raises WorkflowError where there is none."""
    token = get_token()
    if not token:
        raise WorkflowError(NO_TOKEN)
    return token


def push_folder(
    folder: Path,
    repository: str,
    *,
    private: bool,
    kind: Literal["model", "dataset"] = "model",
    replaces: Sequence[str] = (),
) -> str:
    """Send all files of a folder as one commit; the repository is made where it is not there. Returns its address.

    Files there that match one of `replaces` and are not sent again are deleted in the same commit.

    Raises:
        WorkflowError: no token, the hub refuses or cannot be reached, or the repository is public and ought not to be.
    """
    token = check_token()
    api = HfApi(token=token)
    try:
        _check_visibility(api, repository, private, kind)
        made = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Add {folder.name}",
            delete_patterns=list(replaces) or None,
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise WorkflowError(
            f"{repository} was not sent to the hub: {hub_words(error, token)} The files stay in {folder}. "
            "Check the name, that the token may write there, and the connection; then resume the job."
        ) from None
    return str(made)


def _check_visibility(api: HfApi, repository: str, private: bool, kind: str) -> None:
    try:
        there = api.repo_info(repository, repo_type=kind)
    except RepositoryNotFoundError:
        return
    if private and there.private is False:
        raise ValueError(f"{repository} is there already and is public. Choose another name, or ask for a public one.")
