"""A training as it goes to another machine: one zip file of rows and latents, and its checkpoint's files beside it.

    parcel.json     the job and its configuration, and what the checkpoint is
    rows.json       the project, its prompts, and the accepted pairs
    latents/…       of those pairs
    stages/…        what stages that are finished have made, as results come back (`studio.launchers.results`)

What training does not need stays here: pictures, other pairs, who judged them and why, other models.
"""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from models.files import write_atomically
from models.specs import parse_reference
from studio import __version__
from studio.launchers.accelerate import ACCELERATE
from studio.launchers.base import LaunchError
from studio.launchers.local import LOCAL
from studio.launchers.results import ADAPTERS, PICTURES, RESULT, pack_results, take_stages
from studio.records import Job
from studio.settings import Settings
from studio.store import Store
from studio.zip_files import leads_outside, too_large

FORMAT = 1
PARCEL, ROWS, LATENTS = "parcel.json", "rows.json", "latents/"
STAGES = "stages"
STAGE_FILE = re.compile(rf"{STAGES}/({RESULT}|{ADAPTERS}/[0-9a-f]{{1,32}}\.safetensors|{PICTURES}/[0-9a-f]{{64}}\.png)")
CHECKPOINT, TOYBOX = "checkpoint", "toybox"  # folders beside the parcel
PARTS = (".safetensors", ".json", ".txt", ".model")  # of a checkpoint's folder: nothing pickled
_UNTOLD = {"reviewer": "reviewer", "reason": "", "revealed": 0, "milliseconds": 0, "supersedes": None, "bulk_id": None}
TABLES = ("projects", "prompt_pairs", "image_pairs", "verdicts")


@dataclass(frozen=True)
class Unpacked:
    """A training on the machine that is to do it."""

    job: Job
    save_minutes: float


def pack(store: Store, settings: Settings, job: Job, path: Path) -> None:
    """Write the zip. Raises LaunchError where the job is no training, or the latents of a pair are missing."""
    if job.kind != "train":
        raise LaunchError(f"Job {job.id} is {job.kind!r}; only a training (train) can be done on another machine.")
    rows, files = _rows(store, settings, job)
    told = {
        "format": FORMAT,
        "studio": __version__,
        "job": {"id": job.id, "project_id": job.project_id, "config": job.config},
        "save_minutes": job.place.get("save_minutes", settings.hf_jobs.save_minutes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PARCEL, json.dumps(told, indent=1))
        archive.writestr(ROWS, json.dumps(rows))
        for file in files:
            archive.write(file, f"{LATENTS}{file.name}")
        if has_stages(store, job):
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                pack_results(store, settings, job, Path(folder))
                for file in sorted(Path(folder).rglob("*.*")):
                    archive.write(file, f"{STAGES}/{file.relative_to(folder).as_posix()}")


def has_stages(store: Store, job: Job) -> bool:
    """Whether a training that is not done has finished stages, each with a model of its own."""
    return any(one.job_id == job.id for one in store.list_checkpoints(job.project_id))


def beside(settings: Settings, checkpoint: str) -> dict[str, Path]:
    """The files of a checkpoint that only this machine has, by their names there. Raises LaunchError."""
    reference = parse_reference(checkpoint)
    if reference.kind == "hub":
        return {}
    if reference.kind == "toybox":
        own = settings.toybox != Settings.toybox
        return _inside(settings.toybox, TOYBOX) if own else {}
    path = Path(reference.location)
    if reference.kind == "file":
        if not path.is_file():
            raise LaunchError(f"The checkpoint {path} is missing. Restore it, or choose another machine that has it.")
        return {f"{CHECKPOINT}/{path.name}": path}
    return _inside(path, CHECKPOINT)


def unpack(path: Path, store: Store, settings: Settings, folder: Path) -> Unpacked:
    """Put a parcel into an empty studio, as a queued training; `folder` has what lay beside it.

    Several processes are started as the settings' configuration of accelerate says. Raises LaunchError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if why := too_large(archive, path, str(path)):
                raise LaunchError(why)
            told, rows = json.loads(archive.read(PARCEL)), json.loads(archive.read(ROWS))
            if told["format"] != FORMAT:
                raise LaunchError(f"{path} has format {told['format']!r}; this studio reads {FORMAT}. Pack it again.")
            names = [name for name in archive.namelist() if name.startswith(LATENTS)]
            for name in names:
                plain = PurePosixPath(name).name
                if leads_outside(name) or name != f"{LATENTS}{plain}" or not plain.endswith(".safetensors"):
                    raise LaunchError(f"{path} holds {name!r}, which is no file of latents. Refused.")
                write_atomically(settings.latents / plain, archive.read(name), sync=False)
            for name in filter(STAGE_FILE.fullmatch, archive.namelist()):
                write_atomically(folder / name, archive.read(name), sync=False)
            rows["projects"][0]["checkpoint"] = _checkpoint(rows["projects"][0]["checkpoint"], folder)
            asked, save_minutes = told["job"], float(told["save_minutes"])
            store.import_rows({table: rows.get(table, []) for table in TABLES})
            several = asked["config"].get("processes", 1) > 1 or settings.accelerate_config
            launcher = ACCELERATE if several else LOCAL
            job = Job(asked["id"], asked["project_id"], "train", asked["config"], launcher=launcher.name,
                      place=launcher.place(settings, asked["config"], {}))  # fmt: skip
        job = store.create_job(job)
        if (folder / STAGES).is_dir():
            job = take_stages(store, settings, job, folder / STAGES)
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, json.JSONDecodeError, OSError) as error:
        raise LaunchError(f"{path} is no training to be done here ({type(error).__name__}: {error}).") from error
    return Unpacked(job, save_minutes)


def _rows(store: Store, settings: Settings, job: Job) -> tuple[dict[str, Any], list[Path]]:
    """The rows that a training reads, and the files of latents that they name."""
    everything = store.export_rows(job.project_id)
    begun = set(job.config.get("pairs", [])) | {
        pair for stage in job.config.get("stages", {}).values() for pair in stage.get("pairs", [])
    }
    accepted = {pair.id for pair in store.accepted_pairs(job.project_id)}
    pairs = [row for row in everything["image_pairs"] if row["id"] in accepted | begun and row["state"] == "ready"]
    deciding = {row["decision_id"] for row in pairs}
    verdicts = [row | _UNTOLD for row in everything["verdicts"] if row["id"] in deciding]
    pairs = [row | {"source": "{}", "reason": "", "decided_by": "reviewer"} for row in pairs]
    project = everything["projects"][0] | {"second_share": 0.0, "notice": ""}
    files = [file for row in pairs for file in _latents(settings, row)]
    rows = {"projects": [project], "prompt_pairs": everything["prompt_pairs"], "image_pairs": pairs}
    return {**rows, "verdicts": verdicts}, files


def _latents(settings: Settings, row: Mapping[str, Any]) -> list[Path]:
    """All tries of a pair: a training that was begun keeps the one that it began with. Raises LaunchError."""
    found = [*settings.latents.glob(f"{row['id']}.safetensors"), *settings.latents.glob(f"{row['id']}-*.safetensors")]
    if not found:
        raise LaunchError(
            f"The latents of pair {row['id']} are missing in {settings.latents}. Reject the pair or restore the file."
        )
    return sorted(found)


def _inside(folder: Path, name: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise LaunchError(f"The checkpoint {folder} is missing. Restore it, or choose another machine that has it.")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in PARTS]
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in files}


def _checkpoint(text: str, folder: Path) -> str:
    """The checkpoint as this machine has it."""
    reference = parse_reference(text) if (folder / CHECKPOINT).is_dir() else None
    if reference is None:
        return text
    if reference.kind == "file":
        file = folder / CHECKPOINT / Path(reference.location).name
        return f"{file}#{reference.prediction}" if reference.prediction else str(file)
    return str(folder / CHECKPOINT)
