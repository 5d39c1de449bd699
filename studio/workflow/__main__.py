"""The child process of one job, or one of several: `python -m studio.workflow JOB_ID`, started by `studio.jobs`."""

from __future__ import annotations

import signal
import sys
from threading import Event

import torch

from studio.processes import step_back
from studio.settings import Settings
from studio.workflow import follow_job, run_job
from studio.workflow.joining import join, leave, leave_after


def main(job_id: str) -> int:
    """Run the job; exit code 0 when it is done or was stopped."""
    group, settings = join(Settings.from_environment())
    interrupted = Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    step_back(10)  # the page goes first, then its pictures
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if not group.is_main:
        leave_after(settings, job_id)
        follow_job(job_id, settings)
        leave(0)
    job = run_job(job_id, settings, interrupted)
    print(f"Job {job.id} ({job.kind}) is {job.state}. {job.error}".rstrip())
    code = int(job.state == "failed")
    if group.size > 1:
        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
