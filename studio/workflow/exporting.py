"""Export: a trained model as files for other programs, with its card, and to the hub where that is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.adapters import check_base, checked_sha256, file_sha256, load_delta, merge
from models.bundle import ModelBundle
from models.deltas import WeightDelta
from models.export_files import refuse_existing, require_space, slug, whole_folder
from models.export_lora import DIFFUSERS_NAME, lora_bytes, refuse_weights, save_diffusers_lora, save_kohya_lora
from models.export_pipeline import cast, pipeline_bytes, pipeline_of, save_merged, save_single_file
from models.fingerprint import FINGERPRINT, fingerprint_in, fingerprint_of
from models.loading import DTYPES, load_bundle
from models.specs import parse_reference
from models.stored import stored_weights
from models.transport import METADATA as TRANSPORT
from studio import __version__
from studio.configs import ExportConfig
from studio.methods import get_method
from studio.records import Checkpoint
from studio.reports.attacks import summarise
from studio.reports.card import Base, CardFacts, model_in, render_card
from studio.reports.schema import StudyReport
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.pushing import check_token, push_folder

MANIFEST = "export.json"
CARD = "README.md"
LOADING, MERGING, WRITING, DESCRIBING, PUSHING, STEPS = range(6)


@dataclass(frozen=True)
class Export:
    """What is written where."""

    context: JobContext
    config: ExportConfig
    checkpoint: Checkpoint
    folder: Path

    @property
    def name(self) -> str:
        """Of the main file, without its ending."""
        return slug(self.checkpoint.name, self.checkpoint.method)

    @property
    def main_file(self) -> str:
        """That other programs load; "" where it is the folder."""
        names = {"single-file": f"{self.name}.safetensors", "kohya": f"{self.name}.safetensors", "lora": DIFFUSERS_NAME}
        return names.get(self.config.format, "")

    def report(self, step: int, message: str) -> None:
        self.context.report(step, STEPS, message)


def export(context: JobContext) -> dict[str, Any]:
    """Write the model and its card into a folder of its own; where asked, send it to the hub.

    The folder appears when it is whole. A job that is run again writes anew what it had not finished.

    Raises:
        ExportError: it does not fit the disk or the format, or would overwrite something.
        WorkflowError: the model is another project's, or the hub refuses.
    """
    config = ExportConfig.model_validate(context.config)
    checkpoint = context.store.get_checkpoint(config.checkpoint_id)
    if checkpoint.project_id != context.project.id:
        raise WorkflowError(f"{checkpoint.name} ({checkpoint.id}) belongs to another project. Export it there.")
    made = Export(context, config, checkpoint, _folder(context, config, checkpoint))
    if config.push:
        check_token()  # before the work, not after it
    if not _is_ours(made.folder, context.job.id):
        refuse_existing(made.folder)
        _write(made)
    files = {file.relative_to(made.folder).as_posix(): file.stat().st_size for file in _files(made.folder)}
    url = ""
    if config.push:
        made.report(PUSHING, f"Sending {len(files)} files to {config.push}")
        url = push_folder(made.folder, config.push, private=config.private)
    made.report(STEPS, f"Exported to {made.folder}" if not url else f"Sent to {url}")
    place = made.folder
    if place.is_relative_to(context.settings.data):  # which may be moved with all that is in it
        place = place.relative_to(context.settings.data)
    return {"folder": place.as_posix(), "main_file": made.main_file, "bytes": sum(files.values()), "url": url}


def _folder(context: JobContext, config: ExportConfig, checkpoint: Checkpoint) -> Path:
    if config.out:
        return Path(config.out).expanduser().absolute()
    name = f"{slug(checkpoint.name, checkpoint.method)}-{config.format}"
    return context.settings.exports / context.job.id / name


def _is_ours(folder: Path, job_id: str) -> bool:
    """Whether this job has written the folder before: its worker died, or the hub refused, after that."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["job"] == job_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(made: Export) -> None:
    checkpoint = made.checkpoint
    checked_sha256(Path(checkpoint.path), checkpoint.sha256)
    delta = load_delta(Path(checkpoint.path))
    made.report(LOADING, f"Loading {checkpoint.name}")
    write = _WRITERS[made.config.format]
    with whole_folder(made.folder) as folder:
        kind = write(made, delta, folder)
        made.report(DESCRIBING, "Writing the card")
        weights = [file for file in _files(folder) if file.suffix == ".safetensors"]
        hashes = {f.relative_to(folder).as_posix(): (f.stat().st_size, file_sha256(f)) for f in weights}
        facts = card_facts(made, delta, kind, hashes)
        (folder / CARD).write_text(render_card(facts), encoding="utf-8")
        (folder / MANIFEST).write_text(_manifest(made, facts), encoding="utf-8")


def _write_lora(made: Export, delta: WeightDelta, folder: Path) -> str:
    refuse_weights(delta)
    require_space(made.folder, lora_bytes(delta, made.config.dtype))
    made.report(WRITING, "Writing the LoRA")
    own = {key: delta.metadata[key] for key in (TRANSPORT,) if key in delta.metadata}  # which the studio itself keeps
    save_diffusers_lora(delta, folder / made.main_file, made.config.dtype, {**_header(made, delta), **own})
    return ""


def _write_kohya(made: Export, delta: WeightDelta, folder: Path) -> str:
    refuse_weights(delta)
    require_space(made.folder, lora_bytes(delta, made.config.dtype))
    bundle = _base(made, delta)  # its network's shape decides the layers' names
    made.report(WRITING, "Writing the LoRA")
    config = dict(bundle.denoiser.config)
    save_kohya_lora(delta, folder / made.main_file, made.config.dtype, config, _header(made, delta))
    return bundle.family.pipeline.__name__


def _write_merged(made: Export, delta: WeightDelta, folder: Path) -> str:
    pipeline = _merged(made, delta)
    made.report(WRITING, "Writing the model")
    save_merged(pipeline, folder)
    return type(pipeline).__name__


def _write_single_file(made: Export, delta: WeightDelta, folder: Path) -> str:
    pipeline = _merged(made, delta)
    made.report(WRITING, "Writing the file")
    save_single_file(pipeline, folder / made.main_file, _header(made, delta))
    return type(pipeline).__name__


_WRITERS: dict[str, Callable[[Export, WeightDelta, Path], str]] = {
    "merged": _write_merged,
    "single-file": _write_single_file,
    "lora": _write_lora,
    "kohya": _write_kohya,
}


def _base(made: Export, delta: WeightDelta) -> ModelBundle:
    """The checkpoint that the delta is a change of, in a precision that holds each of its weights.

    On the CPU: adding takes no GPU, which the page or another program may be using.
    """
    settings, reference = made.context.settings, made.context.project.checkpoint
    stored = stored_weights(reference, settings.toybox)
    exact = stored is not None and stored.dtypes == {made.config.dtype}

    def load(dtype: str) -> ModelBundle:
        made.report(LOADING, f"Loading {reference} in {dtype}")
        return load_bundle(reference, device="cpu", toybox=settings.toybox, dtype=dtype)

    bundle = load(made.config.dtype if exact else "float32")
    made_on = delta.metadata.get(FINGERPRINT, "")
    if made_on and _trained_on(bundle, made_on, load):
        bundle.fingerprint = made_on
    check_base(bundle, delta)
    return bundle


def _trained_on(bundle: ModelBundle, made_on: str, load: Callable[[str], ModelBundle]) -> bool:
    """Whether these are the weights with that fingerprint, in the precision that they were trained in.

    Told by casting; where parts have a precision of their own, as T5's in float16, by loading it so.
    """
    return any(fingerprint_in(bundle, dtype) == made_on for dtype in DTYPES.values()) or any(
        fingerprint_of(load(name)) == made_on for name, dtype in DTYPES.items() if dtype != bundle.dtype
    )


def _merged(made: Export, delta: WeightDelta) -> Any:
    bundle = _base(made, delta)
    made.report(MERGING, f"Merging {made.checkpoint.name} into the weights")
    merge(bundle, delta)
    pipeline = pipeline_of(bundle)
    require_space(made.folder, pipeline_bytes(pipeline, made.config.dtype))
    cast(pipeline, made.config.dtype)
    return pipeline


def _header(made: Export, delta: WeightDelta) -> dict[str, str]:
    """What a weights file says of itself: no path of this machine, and no text that somebody typed but the concept."""
    facts = {"method": made.checkpoint.method, "concept": made.context.project.concept}
    facts |= {"base": base_of(made).name, "adapter_sha256": made.checkpoint.sha256}
    facts |= {key: delta.metadata[key] for key in (FINGERPRINT, "pairs_sha256") if key in delta.metadata}
    return {**facts, "software": f"DUO Studio {__version__}"}


# The card


def base_of(made: Export) -> Base:
    """The project's checkpoint as others know it: a local one by its file's name alone."""
    reference = parse_reference(made.context.project.checkpoint)
    if reference.kind == "hub":
        return Base(reference.location, reference.location, reference.revision or "")
    if reference.kind == "toybox":
        return Base("The embedded checkpoint of DUO Studio")
    return Base(Path(reference.location).stem)


def card_facts(made: Export, delta: WeightDelta, pipeline: str, files: dict[str, tuple[int, str]]) -> CardFacts:
    """What the card tells; figures come from the newest evaluation and the attacks that this model was in."""
    context, checkpoint = made.context, made.checkpoint
    method, project = get_method(checkpoint.method), context.project
    base = base_of(made)
    composed = delta.metadata.get("composed", "[]")
    return CardFacts(
        base=Base(base.name, base.repository, base.revision, delta.metadata.get(FINGERPRINT, "")),
        concept=project.concept,
        method=method.name,
        method_title=method.title,
        paper=method.paper,
        kind=delta.kind,
        part=delta.part,
        format=made.config.format,
        dtype=made.config.dtype,
        main_file=made.main_file,
        pipeline=pipeline,
        files=files,
        config={key: value for key, value in checkpoint.config.items() if not key.startswith(("imported", "composed"))},
        adapter_sha256=checkpoint.sha256,
        software=f"DUO Studio {__version__}",
        pairs=int(delta.metadata.get("pairs", 0)),
        pairs_sha256=delta.metadata.get("pairs_sha256", ""),
        train_seconds=checkpoint.train_seconds,
        rank=delta.metadata.get("rank", ""),
        alpha=delta.metadata.get("alpha", ""),
        imported=str(checkpoint.config.get("imported", "")),
        composed=[(part["name"], part["weight"], part["sha256"]) for part in json.loads(composed)],
        transport=TRANSPORT in delta.metadata,
        sensitive=project.blur or project.detector == "nudenet",
        report=_newest_report(context, checkpoint.sha256),
        attacks=[one for one in summarise(context.store.list_attack_runs(project.id)) if one.victim == checkpoint.id],
    )


def _newest_report(context: JobContext, sha256: str) -> StudyReport | None:
    """The newest evaluation that has this model; those that served to choose settings come last.

    One of another version's form counts as none.
    """
    chosen: StudyReport | None = None
    for evaluation_id in reversed(context.store.evaluation_ids(context.project.id)):
        try:
            report = StudyReport.model_validate(context.store.get_evaluation(evaluation_id).report)
        except ValueError:
            continue
        if model_in(report, sha256) and report.seed_range == "report":
            return report
        chosen = chosen or (report if model_in(report, sha256) else None)
    return chosen


def _manifest(made: Export, facts: CardFacts) -> str:
    """The card's facts for programs."""
    told = {"job": made.context.job.id, "base": asdict(facts.base)}
    for name in ("concept", "method", "part", "format", "dtype", "main_file", "adapter_sha256", "pairs", "pairs_sha256",
                 "composed", "config", "software"):  # fmt: skip
        told[name] = getattr(facts, name)
    told["files"] = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in facts.files.items()}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
