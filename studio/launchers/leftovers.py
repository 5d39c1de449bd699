"""Repositories of trainings at Hugging Face that lie on the hub still, though their job has ended here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from studio.exchange.hub import hub_words
from studio.launchers.attend import ENDED
from studio.launchers.base import LaunchError
from studio.launchers.depot import Depot
from studio.records import Job
from studio.store import Store


@dataclass(frozen=True)
class Leftover:
    """One repository, of this studio's own job."""

    job: Job
    repository: str

    @property
    def is_needed(self) -> bool:
        """Whether the job can be resumed, and then begins with what lies there."""
        return self.job.state != "done"


def find_leftovers(store: Store, token: str, before: float) -> Iterator[Leftover]:
    """Those of jobs that ended before then (seconds since 1970), here and at Hugging Face. Raises LaunchError."""
    for job in store.list_jobs():
        repository = str(job.place.get("repository") or "")
        if repository.endswith(f"/duo-studio-{job.id}") and job.is_final and (job.finished or 0) < before:
            if not Depot(repository, token).exists():
                _forget(store, job)
            elif not _runs(job, token):
                yield Leftover(job, repository)


def delete_leftover(store: Store, token: str, leftover: Leftover) -> None:
    """A job that is resumed afterwards begins anew. Raises LaunchError."""
    Depot(leftover.repository, token).delete()
    _forget(store, leftover.job)


def _forget(store: Store, job: Job) -> None:
    store.update_job(job.id, place={**job.place, "repository": "", "ended": True})


def _runs(job: Job, token: str) -> bool:
    """Whether the machine may still be at work, though the row has ended: nobody could reach or cancel it."""
    from huggingface_hub import HfApi

    if job.place.get("ended") or not job.place.get("remote_id"):
        return False
    try:
        remote = HfApi(token=token).inspect_job(job_id=job.place["remote_id"], namespace=job.place.get("namespace"))
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 404:
            return False
        raise LaunchError(
            f"Hugging Face does not tell whether training {job.id} still runs there: {hub_words(error, token)} Check "
            "the token and the connection."
        ) from None
    return str(getattr(remote.status.stage, "value", remote.status.stage)) not in ENDED
