"""Stop what may be illegal: hide a pair from everyone, freeze its files, and end the trainings that use it. Torch-free.

The rows are the store's (`studio.stop_rows`); here are the files. A frozen file is read-only, and `studio.cleaning`
never deletes it, since a row names it. Only `purge` does, which the owner of the studio alone can call, from a shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from studio import jobs
from studio.images import image_path
from studio.records import Checkpoint, Job, PairStop
from studio.settings import Settings
from studio.store import Store

FROZEN, WRITABLE = 0o444, 0o644
# What the owner is told, in general words. Not legal advice, and it says so.
STEPS = (
    "Do not copy, send, print or show the pictures to anybody, not even to ask for advice: passing them on can be a "
    "crime of its own.",
    "Leave the files as they are. The studio keeps them read-only and never cleans them up. Some laws ask you to keep "
    "them, others to delete them: ask those you report to before you delete anything.",
    "Report it to one of the places below, and say whether a program made the pictures. The audit log keeps who "
    "stopped the pair, and when.",
    "Models that were trained on the pair are named in the list. Do not pass them on before you know what to do.",
    "Look after whoever saw it: a break, and somebody to talk to.",
)
# For suspected pictures of child abuse: where, who, and their address.
CONTACTS = (
    ("United States", "NCMEC CyberTipline", "https://report.cybertip.org"),
    ("United Kingdom", "Internet Watch Foundation (IWF)", "https://report.iwf.org.uk"),
    ("Canada", "Cybertip.ca", "https://www.cybertip.ca"),
    ("Australia", "eSafety Commissioner", "https://www.esafety.gov.au/report"),
    ("European Union and elsewhere", "the hotline of your country, which INHOPE lists", "https://www.inhope.org"),
    ("Everywhere, and for all else that may be illegal", "your local police", ""),
)
NO_ADVICE = (
    "This is general information, no legal advice, and the list is not complete. Ask a lawyer where you are what the "
    "law asks of you."
)


def stop_pair(store: Store, settings: Settings, stop: PairStop, seen: str | None = None) -> PairStop:
    """Hide the pair, and all that show one of its pictures. Raises StoreError: see `StopRows.add_stop`."""
    stop = store.add_stop(stop, seen)
    for job in store.list_jobs(states=("running",)):
        if job.kind in ("train", "demo") and _may_use(store, job):
            jobs.stop(store, settings, job.id)
    for file in pair_files(settings, stop):
        file.chmod(FROZEN)
    return stop


def lift_stop(store: Store, settings: Settings, stop: PairStop) -> PairStop:
    """Show the pair again. Raises StoreError where it is not stopped by itself, or its files are deleted."""
    stop = store.add_stop(stop)
    still = store.stopped_pictures()
    for file in pair_files(settings, stop):
        if file.stem not in still:
            file.chmod(WRITABLE)
    return stop


def purge_pair(store: Store, settings: Settings, stop: PairStop) -> int:
    """Delete the files of a stopped pair for good, and book it; returns how many files. The pair stays hidden."""
    stop = store.add_stop(stop)
    count = 0
    edited = store.drop_edits(stop.pair_id)
    edits = [image_path(settings, name) for name in edited - store.needed_pictures(edited, [stop.pair_id])]
    for file in [*pair_files(settings, stop), *edits]:
        with suppress(FileNotFoundError):
            file.unlink()
            count += 1
    return count


def trained_on(store: Store, project_id: str, pair_id: str) -> list[str]:
    """The names of trained models whose training used this pair, and of sums of such; other projects' with theirs."""
    made_by = {job.id: job for job in store.list_jobs()}
    checkpoints = store.list_checkpoints()
    used = {one.id for one in checkpoints if pair_id in _pairs_of(one, made_by[one.job_id])}
    while more := {one.id for one in checkpoints if one.id not in used and _parts_of(one) & used}:
        used |= more
    projects = {project.id: project.name for project in store.list_projects()}
    return [
        one.name if one.project_id == project_id else f"{projects[one.project_id]}: {one.name}"
        for one in checkpoints
        if one.id in used
    ]


def _pairs_of(checkpoint: Checkpoint, job: Job) -> Sequence[str]:
    """What it was trained on, by its job's configuration, which keeps each stage under its name."""
    stage = Path(checkpoint.path).parent.name.removeprefix(checkpoint.job_id).removeprefix("-")
    used = job.config.get("stages", {}).get(stage, {}) if stage else job.config
    return used.get("pairs", [])


def _parts_of(checkpoint: Checkpoint) -> set[str]:
    """The models that it is the sum of."""
    return {part["checkpoint_id"] for part in checkpoint.config.get("composed", [])}


def pair_files(settings: Settings, stop: PairStop) -> Iterator[Path]:
    """The pictures that the stop names and the latents of the pair, those that are there."""
    for sha256 in filter(None, (stop.unsafe_sha256, stop.safe_sha256)):
        if (picture := image_path(settings, sha256)).is_file():
            yield picture
    yield from settings.latents.glob(f"{stop.pair_id}.safetensors")
    yield from settings.latents.glob(f"{stop.pair_id}-*.safetensors")


def _may_use(store: Store, job: Job) -> bool:
    """Whether a training uses a stopped pair: one that says so, or that does not say yet which pairs it uses."""
    parts = [job.config, *job.config.get("stages", {}).values()]
    known = [part["pairs"] for part in parts if "pairs" in part]
    return not known or any(store.is_stopped(pair_id) for pairs in known for pair_id in pairs)
