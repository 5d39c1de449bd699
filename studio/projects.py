"""What a new project needs, checked once for page and shell. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.specs import parse_reference
from studio.detector_configs import DETECTOR_CONFIGS
from studio.records import Project

BLURRED = ("nudenet", "clip", "external")  # detectors of what not everybody may want to see at once


class ProjectError(ValueError):
    """A project that cannot be made as asked; says why and what to do."""


def new_project(
    name: str,
    concept: str,
    checkpoint: str,
    detector: str,
    settings: dict[str, Any] | None = None,
    blur: bool | None = None,
    others: Iterable[Project] = (),
) -> Project:
    """A project that can be stored.

    Args:
        settings: the detector's. None looks for the concept, where the detector can look for several.
        blur: None is the detector's default.
        others: the projects there are, whose names are taken.

    Raises:
        ProjectError: an empty or taken name, no concept, no such detector, a folder or file that is not there.
        LoadError: the checkpoint's text names none.
        ValidationError: the detector's settings are out of bounds.
    """
    if detector not in DETECTOR_CONFIGS:
        raise ProjectError(f"There is no detector {detector!r}; use {', '.join(DETECTOR_CONFIGS)}.")
    config = DETECTOR_CONFIGS[detector]
    concept = concept.strip()
    if settings is None:
        settings = {"concept": concept} if "concept" in config.model_fields else {}
    return Project(
        id="",
        name=free_name(name, others),
        concept=checked_concept(concept),
        checkpoint=checked_checkpoint(checkpoint),
        detector=detector,
        detector_settings=config.model_validate(settings).model_dump(),
        blur=blurs(detector) if blur is None else blur,
    )


def free_name(name: str, others: Iterable[Project]) -> str:
    """The name without spaces around it. Raises ProjectError where it is empty or taken, in whatever case."""
    name = " ".join(name.split())
    if not name:
        raise ProjectError("The project has no name: give it one, such as “Sword on my checkpoint”.")
    if any(name.casefold() in (other.name.casefold(), other.id) for other in others):
        raise ProjectError(f"There is a project “{name}” already: choose another name.")
    return name


def checked_concept(concept: str) -> str:
    if not concept.strip():
        raise ProjectError("The concept is empty: say in a word or two what the model should forget, such as “sword”.")
    return concept.strip()


def checked_checkpoint(text: str) -> str:
    """The reference as it is stored: a path from here on absolute. Whether the hub has it is found out on loading."""
    reference = parse_reference(text)
    if reference.kind in ("toybox", "hub"):
        return reference.text
    path = Path(reference.location).absolute()
    if reference.kind == "file" and not path.is_file():
        raise ProjectError(f"There is no file {path} on the computer that runs the studio: check the path.")
    if reference.kind == "folder":
        if not path.is_dir():
            raise ProjectError(f"There is no folder {path} on the computer that runs the studio: check the path.")
        if not (path / "model_index.json").is_file():
            raise ProjectError(
                f"{path} has no model_index.json: choose a folder that save_pretrained of a pipeline made."
            )
    return f"{path}#{reference.prediction}" if reference.prediction else str(path)


def blurs(detector: str) -> bool:
    """Whether pictures that this detector flags are blurred, where nobody said otherwise."""
    return detector in BLURRED
