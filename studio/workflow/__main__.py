"""The child process of one job: `python -m studio.workflow JOB_ID`. Started by `studio.jobs.Runner`."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event

import torch

from studio.settings import Settings
from studio.workflow import run_job


def main(job_id: str) -> int:
    """Run the job; exit code 0 when it is done or was stopped."""
    settings = Settings.from_environment()
    interrupted = Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    os.nice(5)  # the page's own pictures go first
    if settings.threads:
        torch.set_num_threads(settings.threads)
    job = run_job(job_id, settings, interrupted)
    print(f"Job {job.id} ({job.kind}) is {job.state}. {job.error}".rstrip())
    return int(job.state == "failed")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
