"""The prompts of an uploaded file, in every form that `studio.prompt_sources` knows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from studio.prompt_sources import PromptFileError, read_prompts
from studio.ui.compare_form import InputError


def uploaded_prompts(path: Path, most: int) -> list[str]:
    """Each different prompt once. The upload itself is not kept. Raises InputError, worded for the page."""
    try:
        prompts = list(dict.fromkeys(row.prompt for row in read_prompts(path)))
    except PromptFileError as error:
        raise InputError(str(error).replace(str(path), path.name)) from error
    finally:
        with suppress(OSError):
            path.unlink()
    if len(prompts) > most:
        raise InputError(f"{path.name} holds {len(prompts):,} prompts; at most {most:,} are taken. Cut the file.")
    return prompts
