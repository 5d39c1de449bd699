"""What the page may know of the Hugging Face Hub before a job pushes to it: whether somebody is logged in."""

from __future__ import annotations


def has_token() -> bool:
    """Whether there is a token of this machine, by `hf auth login` or HF_TOKEN."""
    from huggingface_hub import get_token

    return bool(get_token())
