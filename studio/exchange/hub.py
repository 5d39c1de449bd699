"""What everybody may know of the Hugging Face Hub: whether somebody is logged in, and its errors without the token."""

from __future__ import annotations


def has_token() -> bool:
    """Whether there is a token of this machine, by `hf auth login` or HF_TOKEN."""
    from huggingface_hub import get_token

    return bool(get_token())


def hub_words(error: Exception, token: str) -> str:
    """An error on one line, without the hub's links to what HTTP's numbers mean, and without the token."""
    from huggingface_hub.errors import HTTPError

    lines = str(error).splitlines() or [type(error).__name__]
    if not isinstance(error, HTTPError) and error.__cause__ is not None:  # "Error while uploading …", and why
        lines += str(error.__cause__).splitlines()
    told = " ".join(line.strip() for line in lines if line.strip() and "developer.mozilla.org" not in line)
    return told.replace(token, "(token)").rstrip(".") + "."
