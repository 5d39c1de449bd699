"""What an evaluation compares: the models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.specs import TOYBOX_ORACLE
from studio.configs import EvaluateConfig
from studio.evaluation_checks import of_another
from studio.methods import get_method
from studio.records import Checkpoint
from studio.workflow.context import JobContext, WorkflowError


@dataclass(frozen=True)
class Contestant:
    """A model of the comparison: a checkpoint, perhaps with a trained delta."""

    key: str  # in report.json
    label: str
    reference: str
    checkpoint: Checkpoint | None = None
    scale: float = 1.0  # of the trained change


def at_scales(contestants: Sequence[Contestant], scales: Sequence[float]) -> list[Contestant]:
    """The trained models at each of the scales; without 1, which is the model itself."""
    wanted = [scale for scale in dict.fromkeys(scales) if scale != 1]
    return [
        replace(one, label=f"{one.label} times {scale:g}", scale=scale)
        for one in contestants
        if one.checkpoint is not None
        for scale in wanted
    ]


def contestants_of(context: JobContext, config: EvaluateConfig) -> list[Contestant]:
    """The original, the chosen trained models, and the oracle. A model's key is its method, or else its name.

    Raises WorkflowError where a chosen model is a change of another checkpoint.
    """
    base = context.project.checkpoint
    trained = context.store.list_checkpoints(context.project.id)
    if config.checkpoint_ids:
        trained = [context.store.get_checkpoint(checkpoint_id) for checkpoint_id in config.checkpoint_ids]
    for checkpoint in trained:
        if (other := context.store.get_project(checkpoint.project_id).checkpoint) != base:
            raise WorkflowError(of_another(checkpoint, other, context.project))
    methods = Counter(checkpoint.method for checkpoint in trained)
    models = {"original": Contestant("original", "Original", base)}
    for checkpoint in trained:
        key = checkpoint.method if methods[checkpoint.method] == 1 else checkpoint.name
        if key in (*models, "oracle"):
            key = f"{key} {checkpoint.id}"
        label = checkpoint.name if checkpoint.name != checkpoint.method else get_method(checkpoint.method).title
        models[key] = Contestant(key, label, base, checkpoint)
    if config.oracle and context.is_toybox:
        models["oracle"] = Contestant("oracle", "Oracle", TOYBOX_ORACLE)
    return list(models.values())
