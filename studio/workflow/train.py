"""Training: the accepted pairs' latents through a method's `fit`, and the result as a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors.torch import load_file

from models.adapters import WeightDelta, save_delta
from models.bundle import ModelBundle
from models.files import write_atomically
from models.fingerprint import FINGERPRINT, fingerprint_of
from studio import __version__, prompts
from studio.configs import EsdConfig, TrainingConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs
from studio.methods.training import STATE_FILE
from studio.progress import Report
from studio.records import Checkpoint, ImagePair
from studio.workflow.context import JobContext, WorkflowError

ADAPTER = "adapter.safetensors"


def train(context: JobContext) -> dict[str, Any]:
    """Train one method on the project's accepted pairs; a state that an earlier try left is resumed.

    The pairs are part of the effective configuration, and a resumed training keeps those it began with.
    """
    path = context.training_folder / ADAPTER
    for done in context.store.list_checkpoints(context.project.id):
        if done.path == str(path):  # the worker died after its last write
            return _result(done)
    method = get_method(context.config["method"])
    name = context.config["name"]
    config = effective_config(context, method.Config.model_validate(context.config["config"]))
    bundle = context.load_bundle()
    _check_resumed(context, bundle)
    chosen = _chosen_pairs(context) if method.uses_pairs else []
    pairs = training_pairs(context, bundle, chosen)
    used = {FINGERPRINT: fingerprint_of(bundle), "pairs": [pair.id for pair in chosen]}
    context.save_effective({**context.config, "config": config.model_dump(), **used})
    folder = context.training_folder
    folder.mkdir(parents=True, exist_ok=True)
    with TrainingClock(folder / "seconds", context.report) as clock:
        delta = method.fit(bundle, pairs, config, clock, folder)
    sha256 = save_delta(_described(context, bundle, delta, len(pairs)), path)
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
            train_seconds=clock.seconds,
        )
    )
    for leftover in folder.iterdir():
        if leftover != path:
            leftover.unlink()
    return _result(checkpoint)


def _result(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"checkpoint_id": checkpoint.id, "sha256": checkpoint.sha256, "train_seconds": checkpoint.train_seconds}


def effective_config(context: JobContext, config: TrainingConfig) -> TrainingConfig:
    """The configuration with what was left to the project filled in, as it is stored."""
    if isinstance(config, EsdConfig) and not config.prompts:
        own = prompts.concept_prompts() if context.is_toybox else [context.project.concept]
        return config.model_copy(update={"prompts": own})
    return config


def _check_resumed(context: JobContext, bundle: ModelBundle) -> None:
    """Refuse to go on with a state that was trained on other weights. Raises WorkflowError."""
    began, now = context.config.get(FINGERPRINT), fingerprint_of(bundle)
    if began not in (None, now):
        raise WorkflowError(
            f"This training began on {context.project.checkpoint} with the SHA-256 {began[:12]}, but its weights now "
            f"have {now[:12]}: its state cannot be resumed. Restore the checkpoint, or start a new training."
        )


def _chosen_pairs(context: JobContext) -> list[ImagePair]:
    """The accepted pairs; where a saved state is resumed, those it was trained on, whatever was judged since."""
    if (context.training_folder / STATE_FILE).is_file() and (begun := context.config.get("pairs")):
        return [context.store.get_image_pair(pair_id) for pair_id in begun]
    return context.store.accepted_pairs(context.project.id)


def training_pairs(context: JobContext, bundle: ModelBundle, chosen: Sequence[ImagePair]) -> TrainingPairs:
    """The latents and prompts of these pairs; methods that need some refuse none."""
    texts = {pair.id: pair for pair in context.store.list_prompt_pairs(context.project.id)}
    unsafe, safe = [], []
    for pair in chosen:
        path = context.settings.latents / f"{pair.id}.safetensors"
        if not path.is_file():
            raise WorkflowError(
                f"The latents of pair {pair.id} are missing ({path}). Reject the pair or restore the file."
            )
        latents = load_file(path)
        unsafe.append(latents["unsafe"])
        safe.append(latents["safe"])
    none = torch.empty(0, *bundle.latent_shape)
    return TrainingPairs(
        unsafe_latents=torch.stack(unsafe) if unsafe else none,
        safe_latents=torch.stack(safe) if safe else none,
        unsafe_prompts=[texts[pair.prompt_pair_id].unsafe for pair in chosen],
        safe_prompts=[texts[pair.prompt_pair_id].safe for pair in chosen],
    )


def _described(context: JobContext, bundle: ModelBundle, delta: WeightDelta, pairs: int) -> WeightDelta:
    facts = {"concept": context.project.concept, "pairs": str(pairs), "software": f"DUO Studio {__version__}"}
    facts[FINGERPRINT] = fingerprint_of(bundle)
    return replace(delta, metadata={**delta.metadata, **facts})


class TrainingClock:
    """Seconds of training over all tries of a job; a report on its way to `report`.

    The count is kept in a file, so that a killed worker's time is not lost: steps that are trained again after a
    crash count again.
    """

    INTERVAL = 5.0  # seconds between two writes

    def __init__(self, path: Path, report: Report) -> None:
        self.path, self._report = path, report
        self.seconds = float(path.read_text()) if path.is_file() else 0.0
        self._last = time.perf_counter()

    def __enter__(self) -> TrainingClock:
        self._last = time.perf_counter()
        return self

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        if time.perf_counter() - self._last > self.INTERVAL:
            self._count()
        self._report(step, total, message, **values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count()

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._last
        self._last = now
        write_atomically(self.path, str(self.seconds).encode())
