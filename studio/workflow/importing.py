"""Import: another program's weights as a checkpoint of the project, to be compared like one that was trained here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.adapters import save_delta
from models.deltas import file_sha256
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.foreign import load_foreign
from studio import __version__
from studio.configs import ImportConfig
from studio.exchange.uploads import delete_upload
from studio.methods import get_method
from studio.records import Checkpoint
from studio.workflow.context import JobContext
from studio.workflow.train import ADAPTER


def import_weights(context: JobContext) -> dict[str, Any]:
    """Read the file as a change of the project's checkpoint and keep it as an adapter of ours.

    Raises:
        LoadError: see `models.foreign.load_foreign`.
    """
    path = context.training_folder / ADAPTER
    for done in context.store.list_checkpoints(context.project.id):
        if done.path == str(path):  # the worker died after its last write
            return {"checkpoint_id": done.id, "sha256": done.sha256}
    config = ImportConfig.model_validate(context.config)
    method, source = get_method(config.method), Path(config.path)
    bundle = context.load_bundle()
    context.report(0, 1, f"Reading {source.name}")
    delta = load_foreign(source, bundle, transport=config.transport)
    origin = {"imported": source.name} | ({"imported_sha256": file_sha256(source)} if source.is_file() else {})
    facts = {"method": method.name, "checkpoint": bundle.spec.checkpoint, "concept": context.project.concept}
    facts |= {"revision": bundle.spec.revision} if bundle.spec.revision is not None else {}
    facts |= {FINGERPRINT: fingerprint_of(bundle), "software": f"DUO Studio {__version__}", **origin}
    sha256 = save_delta(replace(delta, metadata={**delta.metadata, **facts}), path)
    checkpoint = context.store.add_checkpoint(
        Checkpoint(
            id="",
            project_id=context.project.id,
            job_id=context.job.id,
            method=method.name,
            name=config.name or f"{method.title} ({source.stem})",
            path=str(path),
            sha256=sha256,
            kind=delta.kind,
            config=origin,
        )
    )
    delete_upload(context.settings, source.parent)  # where it came through the page
    context.report(1, 1, f"Imported {len(delta.tensors)} tensors")
    return {"checkpoint_id": checkpoint.id, "sha256": sha256}
