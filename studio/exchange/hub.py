"""A set that was taken out, as a dataset on the Hugging Face Hub. Tested against a stand-in that speaks its HTTP only.

The token is the one of this machine (`hf auth login`, or HF_TOKEN): it is read when it is needed and never kept. A
dataset is private unless something else was said, and one that is public already is never written to by accident.
"""

from __future__ import annotations

import re
from pathlib import Path

NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
OURS = ["data/*", "unsafe/*", "safe/*", "metadata.jsonl", "verdicts.jsonl"]  # of an earlier push: replaced as a whole


class HubError(RuntimeError):
    """A dataset that cannot be pushed; says why and what to do."""


def has_token() -> bool:
    """Whether somebody is logged in on this machine."""
    from huggingface_hub import get_token

    return bool(get_token())


def check_name(repository: str) -> str:
    """The name of a dataset, "owner/name". Raises HubError."""
    name = repository.strip()
    if not NAME.fullmatch(name) or ".." in name:
        raise HubError(f"{name[:80]!r} names no dataset on the Hub: write owner/name.")
    return name


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder as a dataset, in one commit; returns its address.

    Raises HubError: no token, no such right, a name that is taken, or no connection.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = check_name(repository)
    if not has_token():
        raise HubError("There is no Hugging Face token on this machine. Run `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    try:
        api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        if not public and not api.repo_info(name, repo_type="dataset").private:
            raise HubError(
                f"The dataset {name} is there already and public. Use another name, or say that it is meant."
            )
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Curated pairs from DUO Studio",
            delete_patterns=OURS,
        )
        return f"{api.endpoint}/datasets/{name}"
    except HfHubHTTPError as error:
        why = error.server_message or str(error).splitlines()[0]
        raise HubError(f"The Hub refused {name}: {why} See that the token may write there.") from error
    except HFValidationError as error:
        raise HubError(f"{name} names no dataset on the Hub: {error}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise HubError(f"The Hub does not answer ({error}). Try again when there is a connection.") from error
