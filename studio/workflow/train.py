"""Training: the accepted pairs' latents through a method's `fit`, and the result as a checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.adapters import WeightDelta, save_delta
from models.bundle import ModelBundle
from models.fingerprint import FINGERPRINT, fingerprint_of
from studio import __version__, prompts
from studio.everyday import everyday_prompts
from studio.methods import get_method
from studio.methods.base import TrainingPairs, UnlearningMethod, silent
from studio.methods.checks import check_family
from studio.methods.parallel import current_group
from studio.methods.training import STATE_FILE
from studio.records import Checkpoint, ImagePair
from studio.store import PairStoppedError
from studio.training_configs import ConceptNames, ConceptPrompts, MethodConfig, RetainedPrompts
from studio.workflow.clock import TrainingClock
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.latents import read_latents
from studio.workflow.samples import WatchedTraining
from studio.workflow.tracking import Tracking

ADAPTER = "adapter.safetensors"


def train(context: JobContext) -> dict[str, Any]:
    """Train one method on the project's accepted pairs; a state that an earlier try left is resumed.

    The pairs are part of the effective configuration, and a resumed training keeps those it began with.
    """
    path = context.training_folder / ADAPTER
    for done in context.store.list_checkpoints(context.project.id):
        if done.path == str(path):  # the worker died after this row was written
            return _finished(done)
    method = get_method(context.config["method"])
    name = context.config["name"]
    config = effective_config(context, method.Config.model_validate(context.config["config"]))
    bundle = context.load_bundle()
    check_family(method, bundle)
    _check_resumed(context, bundle)
    chosen = _chosen_pairs(context) if method.uses_pairs else []
    pairs = training_pairs(context, bundle, chosen)
    used: dict[str, Any] = {FINGERPRINT: fingerprint_of(bundle)}
    used |= {"device": device_name(bundle.device)}
    used |= {"pairs": [pair.id for pair in chosen], "pictures": {pair.id: pair.safe_image for pair in chosen}}
    context.save_effective({**context.config, "config": config.model_dump(), **used})
    folder = context.training_folder
    folder.mkdir(parents=True, exist_ok=True)
    current_group().wait(bundle.device)
    delta, seconds = _fit(context, method, bundle, pairs, config)
    sha256 = save_delta(_described(context, bundle, delta, pairs), path)
    checkpoint = context.store.add_checkpoint(
        Checkpoint(
            id="",
            project_id=context.project.id,
            job_id=context.job.id,
            method=method.name,
            name=name,
            path=str(path),
            sha256=sha256,
            kind=delta.kind,
            config=config.model_dump(),
            train_seconds=seconds,
        )
    )
    return _finished(checkpoint)


def _fit(
    context: JobContext, method: UnlearningMethod, bundle: ModelBundle, pairs: TrainingPairs, config: MethodConfig
) -> tuple[WeightDelta, float]:
    """What the method makes, watched and tracked, and its seconds of training over all tries."""
    folder = context.training_folder
    facts: dict[str, str | int] = {"method": method.name, "family": bundle.spec.family, "pairs": len(pairs)}
    with (
        Tracking(context.settings, f"{method.name}-{context.folder_name}", config, facts, context.report) as tracking,
        TrainingClock(folder / "seconds", tracking) as clock,
    ):
        watched = WatchedTraining(context, bundle, config, clock)
        watched.begin()
        delta = method.fit(bundle, pairs, config, watched, folder)
        watched.end(delta)
    return delta, clock.seconds


def follow_training(context: JobContext) -> None:
    """Train beside the process that has the job: on its pairs and configuration, saying and saving nothing."""
    bundle = context.load_bundle()
    current_group().wait(bundle.device)
    begun = context.store.get_job(context.job.id)
    fit_beside(replace(context, job=begun, config=begun.config), bundle)


def fit_beside(context: JobContext, bundle: ModelBundle) -> None:
    """The follower's part of one training, whose effective configuration the context has."""
    method = get_method(context.config["method"])
    config = method.Config.model_validate(context.config["config"])
    # Another machine has rows of its own, in which the first one's choice is not written: it makes the same.
    chosen = _begun_pairs(context) if "pairs" in context.config else _chosen_pairs(context)
    pairs = training_pairs(context, bundle, chosen)
    method.fit(bundle, pairs, config, silent, context.training_folder)


def _finished(checkpoint: Checkpoint) -> dict[str, Any]:
    """The job's result; what served to resume it is deleted, with what a killed try left half written."""
    adapter = Path(checkpoint.path)
    for leftover in adapter.parent.iterdir():
        if leftover != adapter:
            leftover.unlink()
    return {"checkpoint_id": checkpoint.id, "sha256": checkpoint.sha256, "train_seconds": checkpoint.train_seconds}


def effective_config(context: JobContext, config: MethodConfig) -> MethodConfig:
    """The configuration with what was left to the project filled in, as it is stored."""
    toybox, concept = context.is_toybox, context.project.concept
    filled: dict[str, list[str]] = {}
    if isinstance(config, ConceptPrompts) and not config.prompts:
        filled["prompts"] = prompts.concept_prompts() if toybox else [concept]
    if isinstance(config, ConceptNames) and not config.concepts:
        filled["concepts"] = prompts.concept_names() if toybox else [concept]
    if isinstance(config, RetainedPrompts) and not config.retain_prompts:
        filled["retain_prompts"] = prompts.kept_prompts() if toybox else everyday_prompts(concept)
    return config.model_copy(update=filled) if filled else config


def _check_resumed(context: JobContext, bundle: ModelBundle) -> None:
    """Refuse to go on with a state that was trained on other weights. Raises WorkflowError."""
    began, now = context.config.get(FINGERPRINT), fingerprint_of(bundle)
    if began not in (None, now):
        raise WorkflowError(
            f"This training began on {context.project.checkpoint} with the SHA-256 {began[:12]}, but its weights now "
            f"have {now[:12]}: its state cannot be resumed. Restore the checkpoint, or start a new training."
        )


def device_name(device: torch.device) -> str:
    """The device as `studio.devices` names it: by it the next training's time is estimated."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {os.cpu_count()} cores"


def _chosen_pairs(context: JobContext) -> list[ImagePair]:
    """The accepted pairs, of a stage those of its group; where a saved state is resumed, those it was trained on,
    whatever was judged since.

    One that was made again meanwhile is still meant as it was: its former picture names its former latents. Raises
    WorkflowError where one of them was stopped since.
    """
    if (context.training_folder / STATE_FILE).is_file() and context.config.get("pairs"):
        return _begun_pairs(context)
    accepted = context.store.accepted_pairs(context.project.id)
    if (group := context.config.get("group")) is None:
        return accepted
    groups = {pair.id: pair.group for pair in context.store.list_prompt_pairs(context.project.id, wordless=True)}
    return [pair for pair in accepted if groups[pair.prompt_pair_id] == group]


def _begun_pairs(context: JobContext) -> list[ImagePair]:
    """The pairs that are named in the effective configuration. Raises WorkflowError."""
    pictures = context.config.get("pictures", {})
    try:
        pairs = [context.store.get_image_pair(pair_id) for pair_id in context.config.get("pairs", [])]
    except PairStoppedError as error:
        raise WorkflowError(f"{error} This training used it: start a new one, which leaves it out.") from error
    return [replace(pair, safe_image=pictures.get(pair.id, pair.safe_image)) for pair in pairs]


def training_pairs(context: JobContext, bundle: ModelBundle, chosen: Sequence[ImagePair]) -> TrainingPairs:
    """The latents and prompts of these pairs; methods that need some refuse none."""
    texts = {pair.id: pair for pair in context.store.list_prompt_pairs(context.project.id, wordless=True)}
    fingerprint = fingerprint_of(bundle) if chosen else ""
    latents = [read_latents(context.settings, pair, fingerprint) for pair in chosen]
    none = torch.empty(0, *bundle.latent_shape)
    return TrainingPairs(
        unsafe_latents=torch.stack([unsafe for unsafe, _ in latents]) if latents else none,
        safe_latents=torch.stack([safe for _, safe in latents]) if latents else none,
        unsafe_prompts=[texts[pair.prompt_pair_id].unsafe for pair in chosen],
        safe_prompts=[texts[pair.prompt_pair_id].safe for pair in chosen],
    )


def pairs_sha256(pairs: TrainingPairs) -> str:
    """SHA-256 of what was trained on: all latents (float32, unsafe then safe), and the prompts, in their order."""
    digest = hashlib.sha256()
    for latents in (pairs.unsafe_latents, pairs.safe_latents):
        digest.update(latents.float().contiguous().numpy().tobytes())
    digest.update(json.dumps([pairs.unsafe_prompts, pairs.safe_prompts]).encode())
    return digest.hexdigest()


def _described(context: JobContext, bundle: ModelBundle, delta: WeightDelta, pairs: TrainingPairs) -> WeightDelta:
    facts = {"concept": context.project.concept, "pairs": str(len(pairs)), "software": f"DUO Studio {__version__}"}
    facts |= {"pairs_sha256": pairs_sha256(pairs)} if len(pairs) else {}
    facts[FINGERPRINT] = fingerprint_of(bundle)
    return replace(delta, metadata={**delta.metadata, **facts})
