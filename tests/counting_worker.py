"""A worker without torch, for tests of launchers: `python -m tests.counting_worker JOB_ID` counts to config["steps"].

It keeps its step in a file, so that a resumed job goes on; the first of several processes has the row, as in
`studio.workflow`.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from models.files import write_atomically
from studio.job_reports import job_report
from studio.jobs import take_row
from studio.progress import Stopped
from studio.settings import Settings
from studio.store import Store

STEPS, PAUSE = 60, 0.05


def main(job_id: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the row tells it to stop
    settings = Settings.from_environment()
    store = Store(settings.database)
    if os.environ.get("RANK", "0") != "0":
        while not store.get_job(job_id).is_final:
            time.sleep(0.05)
        return 0
    job = take_row(store, job_id)
    print("counting", flush=True)
    if job.config["name"] == "breaks":
        store.update_job(job_id, state="failed", error="It broke, as it was told to.")
        return 1
    kept = settings.checkpoints / job_id / "step"
    first = int(kept.read_text()) if kept.exists() else 0
    report = job_report(store, job_id)
    report._interval = 0.0
    try:
        for step in range(first + 1, STEPS + 1):
            report(step, STEPS, f"step {step}", loss=1 / step)
            write_atomically(kept, str(step).encode(), sync=False)
            time.sleep(PAUSE)
    except Stopped:
        store.update_job(job_id, state="stopped")
        return 0
    store.update_job(job_id, state="done", result={"first": first})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
