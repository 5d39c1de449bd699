"""Compose: several adapters of one checkpoint as one more checkpoint of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.compose import ComposeError, Part, compose
from models.deltas import checked_sha256, load_delta, save_delta
from studio import __version__
from studio.configs import ComposeConfig
from studio.records import Checkpoint
from studio.workflow.context import JobContext
from studio.workflow.train import ADAPTER


def compose_adapters(context: JobContext) -> dict[str, Any]:
    """Sum the adapters that the job names. They may be of other projects about the same checkpoint.

    Raises:
        ComposeError: they cannot be summed, or one is of a project about another checkpoint.
    """
    config = ComposeConfig.model_validate(context.config)
    chosen = [(context.store.get_checkpoint(part.checkpoint_id), part.weight) for part in config.parts]
    name = config.name or " + ".join(checkpoint.name for checkpoint, _ in chosen)
    return save_sum(context, name, chosen, {})


def save_sum(
    context: JobContext, name: str, chosen: Sequence[tuple[Checkpoint, float]], config: dict[str, Any]
) -> dict[str, Any]:
    """Sum adapters, each times its weight, and keep the result with `config`; a sum that is there is not made again.

    Its training time is that of its parts together, its method that of its first part.
    """
    path = context.training_folder / ADAPTER
    for done in context.store.list_checkpoints(context.project.id):
        if done.path == str(path):  # the worker died after its last write
            return sum_result(done)
    base = context.project.checkpoint
    for checkpoint, _ in chosen:
        if (other := context.store.get_project(checkpoint.project_id).checkpoint) != base:
            raise ComposeError(
                f"{checkpoint.name} ({checkpoint.id}) is a change of {other}, but project {context.project.name!r} is "
                f"about {base}. Sum adapters of one checkpoint."
            )
    context.report(0, 1, f"Summing {len(chosen)} adapters")
    delta = compose([_part(checkpoint, weight) for checkpoint, weight in chosen])
    facts = {"concept": context.project.concept, "checkpoint": base, "software": f"DUO Studio {__version__}"}
    sha256 = save_delta(replace(delta, metadata={**delta.metadata, **facts}), path)
    composed = [{"name": one.name, "checkpoint_id": one.id, "weight": weight} for one, weight in chosen]
    saved = context.store.add_checkpoint(
        Checkpoint(
            id="",
            project_id=context.project.id,
            job_id=context.job.id,
            method=chosen[0][0].method,
            name=name,
            path=str(path),
            sha256=sha256,
            kind=delta.kind,
            config={**config, "composed": composed},
            train_seconds=sum(checkpoint.train_seconds for checkpoint, _ in chosen),
        )
    )
    context.report(1, 1, f"Summed {len(chosen)} adapters")
    return sum_result(saved)


def sum_result(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the job says of its sum."""
    return {"checkpoint_id": checkpoint.id, "sha256": checkpoint.sha256, "train_seconds": checkpoint.train_seconds}


def _part(checkpoint: Checkpoint, weight: float) -> Part:
    """Raises LoadError where the file is missing, or not the one that was saved."""
    path = Path(checkpoint.path)
    sha256 = checked_sha256(path, checkpoint.sha256)
    return Part(checkpoint.name, load_delta(path), weight, sha256)
