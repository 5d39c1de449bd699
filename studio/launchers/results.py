"""What comes back from another machine: result.json, adapters, and the sample pictures of the training.

In the same form the finished stages of a training go there, so that they are not trained again.

    result.json                 the job's result, the checkpoints' and the samples' rows
    adapters/<id>.safetensors   each with the SHA-256 that its row names
    pictures/<sha256>.png

Nothing of it is believed: rows are read by a strict schema, adapters must have their hash and be safetensors, pictures
have their name's hash and be PNG files. Files are written first, rows last, so that no row names what is not there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from models.files import write_atomically
from studio.images import image_path
from studio.launchers.base import LaunchError
from studio.method_configs import METHOD_CONFIGS
from studio.records import Checkpoint, Job, Sample
from studio.settings import Settings
from studio.store import Store

RESULT, ADAPTERS, PICTURES = "result.json", "adapters", "pictures"
ADAPTER = "adapter.safetensors"
SHA256, ID = r"^[0-9a-f]{64}$", r"^[0-9a-f]{1,32}$"
PNG = b"\x89PNG\r\n\x1a\n"
LARGEST_PICTURE = 32 * 2**20  # bytes


class ResultsError(LaunchError):
    """Results that are not what they must be: nothing of them is kept."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CheckpointRow(_Row):
    id: str = Field(pattern=ID)
    stage: str = Field(pattern=r"^[\w-]{0,64}$")
    method: str
    name: str = Field(max_length=300)
    sha256: str = Field(pattern=SHA256)
    kind: Literal["lora", "weights"]
    config: dict[str, Any]
    train_seconds: float = Field(ge=0)


class SampleRow(_Row):
    stage: str = Field(pattern=r"^[\w-]{0,64}$")
    step: int = Field(ge=0)
    position: int = Field(ge=0)
    prompt: str = Field(max_length=4000)
    seed: int
    unwanted: bool
    image: str = Field(pattern=SHA256)
    found: bool | None
    score: float | None
    seen: str = Field(max_length=200)


class Results(_Row):
    job: str
    result: dict[str, Any]
    config: dict[str, Any]
    checkpoints: list[CheckpointRow] = Field(min_length=1)
    samples: list[SampleRow]


def pack_results(store: Store, settings: Settings, job: Job, folder: Path) -> str:
    """Put what a training made into an empty folder, all of it or the stages that are finished; returns the SHA-256 of
    result.json.
    """
    checkpoints = [one for one in store.list_checkpoints(job.project_id) if one.job_id == job.id]
    stages = {"", *(one.stem for one in settings.checkpoints.glob(f"{job.id}-*"))}
    samples = [
        sample for name in sorted(stages) for sample in store.list_samples(job.id, name.removeprefix(f"{job.id}-"))
    ]
    told = Results(
        job=job.id,
        result=job.result,
        config=job.config,
        checkpoints=[
            CheckpointRow(id=one.id, stage=Path(one.path).parent.name.removeprefix(job.id).removeprefix("-"),
                          method=one.method, name=one.name, sha256=one.sha256, kind=one.kind, config=one.config,
                          train_seconds=one.train_seconds)
            for one in checkpoints
        ],
        samples=[SampleRow(**{name: getattr(sample, name) for name in SampleRow.model_fields}) for sample in samples],
    )  # fmt: skip
    for one in checkpoints:
        _copy(Path(one.path), folder / ADAPTERS / f"{one.id}.safetensors")
    for sample in samples:
        _copy(image_path(settings, sample.image), folder / PICTURES / f"{sample.image}.png")
    data = told.model_dump_json(indent=1).encode()
    write_atomically(folder / RESULT, data)
    return hashlib.sha256(data).hexdigest()


def take_results(
    store: Store, settings: Settings, job: Job, fetch: Callable[[str], Path], told: str = ""
) -> dict[str, Any]:
    """Check what came back, keep its files and rows, and return the job's result.

    `fetch` brings the file of a name; `told` is the SHA-256 of result.json, where the machine said it in its log.
    Taking them twice changes nothing. Raises ResultsError where something is not as it must be.
    """
    results = _read(fetch(RESULT), job, told)
    if results.result.get("checkpoint_id") not in {row.id for row in results.checkpoints}:
        raise ResultsError(f"{RESULT} of job {job.id} names no checkpoint that came with it. Nothing of it is kept.")
    _keep(store, settings, job, results, fetch)
    store.update_job(job.id, config=results.config)
    return results.result


def take_stages(store: Store, settings: Settings, job: Job, folder: Path) -> Job:
    """Keep the stages that an earlier try of a training finished, as `pack_results` left them in the folder; the job
    then goes on with the next. What its row has already stays as it is. Raises ResultsError.
    """
    results = _read(folder / RESULT, job, "")
    known = {row.id for row in results.checkpoints}
    stages = {
        stage: made
        for stage, made in results.result.items()
        if isinstance(made, dict) and made.get("checkpoint_id") in known
    }
    _keep(store, settings, job, results, lambda name: folder / name)
    for row in results.checkpoints:
        for leftover in _folder(settings, job, row.stage).iterdir():  # of the time in which it was not finished
            if leftover.name != ADAPTER:
                leftover.unlink()
    now = store.get_job(job.id)
    return store.update_job(job.id, result={**stages, **now.result}, config={**results.config, **now.config})


def _keep(store: Store, settings: Settings, job: Job, results: Results, fetch: Callable[[str], Path]) -> None:
    """Files first, then rows."""
    for row in results.checkpoints:
        _keep_adapter(fetch(f"{ADAPTERS}/{row.id}.safetensors"), row, _folder(settings, job, row.stage) / ADAPTER)
    for image in {sample.image for sample in results.samples}:
        _keep_picture(settings, fetch(f"{PICTURES}/{image}.png"), image)
    there = {checkpoint.id for checkpoint in store.list_checkpoints(job.project_id)}
    for row in results.checkpoints:
        if row.id not in there:
            store.add_checkpoint(_checkpoint(settings, job, row))
    rows: dict[tuple[str, int], list[Sample]] = {}
    for sample in results.samples:
        one = Sample(id="", job_id=job.id, **sample.model_dump())
        rows.setdefault((sample.stage, sample.step), []).append(one)
    for row_of_samples in rows.values():
        store.put_sample_row(row_of_samples)


def _read(path: Path, job: Job, told: str) -> Results:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if told and told != found:
        raise ResultsError(f"{RESULT} has the SHA-256 {found[:12]}, but the machine that made it said {told[:12]}: it "
                           "was changed on its way. Nothing of it is kept; resume the job to train again.")  # fmt: skip
    try:
        results = Results.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ResultsError(
            f"{RESULT} of job {job.id} cannot be used: {where}: {first['msg']}. Nothing of it is kept."
        ) from error
    if results.job != job.id:
        raise ResultsError(f"{RESULT} is that of job {results.job}, not of {job.id}. Nothing of it is kept.")
    if wrong := next((row.method for row in results.checkpoints if row.method not in METHOD_CONFIGS), None):
        raise ResultsError(f"{RESULT} of job {job.id} names the method {wrong!r}, which is not known here.")
    return results


def _keep_adapter(file: Path, row: CheckpointRow, target: Path) -> None:
    """Raises ResultsError unless the file has the row's hash and is a safetensors file with tensors in it."""
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != row.sha256:
        raise ResultsError(f"The adapter {row.name!r} has the SHA-256 {found[:12]}, not {row.sha256[:12]}: it was "
                           "changed on its way. It is not kept.")  # fmt: skip
    try:
        with safe_open(file, framework="numpy") as opened:
            if not list(opened.keys()):
                raise ResultsError(f"The adapter {row.name!r} has no tensors. It is not kept.")
    except SafetensorError as error:
        raise ResultsError(f"The adapter {row.name!r} is no safetensors file ({error}). It is not kept.") from error
    write_atomically(target, data)


def _keep_picture(settings: Settings, file: Path, sha256: str) -> None:
    data = file.read_bytes()
    if len(data) > LARGEST_PICTURE or not data.startswith(PNG) or hashlib.sha256(data).hexdigest() != sha256:
        raise ResultsError(f"The picture {sha256[:12]} is not the PNG file that its name says. Nothing of it is kept.")
    path = image_path(settings, sha256)
    if not path.exists():
        write_atomically(path, data, sync=False)


def _checkpoint(settings: Settings, job: Job, row: CheckpointRow) -> Checkpoint:
    facts = row.model_dump(exclude={"stage"})
    path = str(_folder(settings, job, row.stage) / ADAPTER)
    return Checkpoint(project_id=job.project_id, job_id=job.id, path=path, **facts)


def _folder(settings: Settings, job: Job, stage: str) -> Path:
    return settings.checkpoints / (f"{job.id}-{stage}" if stage else job.id)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
