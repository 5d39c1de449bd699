"""What a job runs: make pairs, train, evaluate, attack, or the demo. The worker's half of `studio.jobs`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from threading import Event
from typing import Any

from models.compose import ComposeError
from models.export_files import UnfitError
from studio.job_reports import job_report
from studio.jobs import JobError, take_row
from studio.methods.state import UntrainableError
from studio.progress import Report, Stopped
from studio.records import Job, JobKind
from studio.settings import Settings
from studio.store import Store
from studio.workflow.attack import attack
from studio.workflow.bringing import bring
from studio.workflow.compose import compose_adapters
from studio.workflow.context import JobContext, WorkflowError, refuse_prompts
from studio.workflow.datasets import push
from studio.workflow.demo import demo
from studio.workflow.evaluate import evaluate, follow_evaluation
from studio.workflow.exporting import export
from studio.workflow.fetching import fetch_backbone
from studio.workflow.grouped import follow_training_job, train_job
from studio.workflow.importing import import_weights
from studio.workflow.pairs import follow_pairs, generate_pairs
from studio.workflow.strengths import try_strengths
from studio.workflow.stress import stress
from studio.workflow.sweep import sweep
from studio.workflow.train import train
from studio.workflow.transfer import transfer

__all__ = [
    "WORK",
    "JobContext",
    "WorkflowError",
    "attack",
    "bring",
    "demo",
    "evaluate",
    "generate_pairs",
    "run_job",
    "train",
]

WORK: dict[JobKind, Callable[[JobContext], dict[str, Any]]] = {
    "pairs": generate_pairs,
    "train": train_job,
    "evaluate": evaluate,
    "demo": demo,
    "attack": attack,
    "transfer": transfer,
    "stress": stress,
    "import": import_weights,
    "bring": bring,
    "push": push,
    "compose": compose_adapters,
    "export": export,
    "strengths": try_strengths,
    "fetch": fetch_backbone,
    "sweep": sweep,
}
# By what was asked for, which a resumed job is asked again; whatever else fails may be mended.
REFUSED = (ComposeError, UnfitError, UntrainableError)
# What the other processes of a job do that several processes share.
FOLLOWING: dict[JobKind, Callable[[JobContext], None]] = {
    "pairs": follow_pairs,
    "train": follow_training_job,
    "evaluate": follow_evaluation,
}


def run_job(job_id: str, settings: Settings, interrupted: Event | None = None) -> Job:
    """Do a job in this process and put its end into its row: done with a result, stopped, or failed with a reason.

    The runner has claimed the row before; a job that is still queued is claimed here. `interrupted` is set by a
    signal: the work then stops at its next report.

    Raises WorkflowError where the job has ended or another process has it.
    """
    store = Store(settings.database)
    job = _own_job(store, job_id)
    report = job_report(store, job_id)
    try:
        context = JobContext(store, settings, job, job.config, _interruptible(report, interrupted))
        refuse_prompts(context)
        result = WORK[job.kind](context)
    except Stopped:
        report.flush()
        return store.update_job(job_id, state="stopped")
    except Exception as error:  # the job loop: whatever broke, the row must say so
        traceback.print_exc(file=sys.stderr)
        report.flush()
        refused = isinstance(error, REFUSED)
        return store.update_job(job_id, state="failed", error=_words(error), refused=refused)
    else:
        report.flush()
        return store.update_job(job_id, state="done", result=result)
    finally:
        store.close()


def follow_job(job_id: str, settings: Settings) -> None:
    """Do this process's part of a job that several processes do; the first one has the row and says how it ends."""
    store = Store(settings.database)
    try:
        job = store.get_job(job_id)
        FOLLOWING[job.kind](JobContext(store, settings, job, job.config, _stopping(store, job_id)))
    except Stopped:
        pass
    finally:
        store.close()


def _stopping(store: Store, job_id: str) -> Report:
    """Says nothing, and stops when the job was asked to."""

    def reported(step: int, total: int, message: str = "", **values: float) -> None:
        if store.stop_requested(job_id):
            raise Stopped(f"Job {job_id} was asked to stop at step {step} of {total}.")

    return reported


def _own_job(store: Store, job_id: str) -> Job:
    """The job, with this process in its row. Raises WorkflowError where it has ended or another process has it."""
    try:
        return take_row(store, job_id)
    except JobError as error:
        raise WorkflowError(str(error)) from error


def _interruptible(report: Report, interrupted: Event | None) -> Report:
    def reported(step: int, total: int, message: str = "", **values: float) -> None:
        report(step, total, message, **values)
        if interrupted is not None and interrupted.is_set():
            raise Stopped(f"Interrupted at step {step} of {total}.")

    return reported


def _words(error: Exception) -> str:
    """Our own errors speak for themselves; of others the type says most."""
    ours = type(error).__module__.partition(".")[0] in ("studio", "models")
    return str(error) if ours else f"{type(error).__name__}: {error}"
