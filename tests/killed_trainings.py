"""Trains a job to its end while it is killed again and again: `python -m tests.killed_trainings JOB_ID SEED KILLS`.

A program of its own, since it forks: it imports PyTorch once, never computes itself, and each child works on the job
until a scheduled moment, where it sends itself SIGKILL. Settings come from the environment. Prints the moments.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import studio.methods.state as state
import studio.workflow.train as training
from studio.job_reports import JobReport
from studio.jobs import recover, resume
from studio.settings import Settings
from studio.store import Store
from studio.workflow import run_job

Moment = tuple[str, int]  # what is about to happen, and the how-manieth time of it


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, count: int) -> None:
    """Die at the `count`-th call of a function, before it does anything."""
    wrap(owner, name, count, lambda work, *args, **kwargs: die())


def after(owner: Any, name: str, count: int) -> None:
    """Die at the `count`-th call of a function, after it has done its work."""
    wrap(owner, name, count, lambda work, *args, **kwargs: (work(*args, **kwargs), die()))


def wrap(owner: Any, name: str, count: int, last: Callable[..., Any]) -> None:
    work, calls = getattr(owner, name), [0]

    def called(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return last(work, *args, **kwargs) if calls[0] == count else work(*args, **kwargs)

    setattr(owner, name, called)


MOMENTS: dict[str, tuple[Callable[[int], None], int]] = {  # what arms it, and up to which count it makes sense
    "at a step, before its row": (lambda count: before(JobReport, "__call__", count), 6),
    "at a step, after its row": (lambda count: after(JobReport, "__call__", count), 6),
    "before a state is saved": (lambda count: before(state.TrainingState, "save", count), 2),
    "between a saved state and its row": (lambda count: after(state.TrainingState, "save", count), 2),
    "in the middle of writing a file": (lambda count: before(Path, "replace", count), 3),
    "before the adapter is written": (lambda count: before(training, "save_delta", count), 1),
    "between the adapter and its row": (lambda count: after(training, "save_delta", count), 1),
    "between the adapter's row and the job's": (lambda count: after(Store, "add_checkpoint", count), 1),
}


def schedule(seed: int, kills: int) -> list[Moment]:
    """Random moments, each kind at least once where there are enough; those near the end come last."""
    chance = random.Random(seed)
    kinds = list(MOMENTS)
    drawn = kinds[:4] + [chance.choice(kinds[:5]) for _ in range(max(kills - len(kinds), 0))] + kinds[4:]
    return [(kind, chance.randint(1, MOMENTS[kind][1])) for kind in drawn]


def main(job_id: str, seed: int, kills: int) -> int:
    settings = Settings.from_environment()
    for kind, count in schedule(seed, kills):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            MOMENTS[kind][0](count)
            run_job(job_id, settings)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        store = Store(settings.database)
        recover(store, settings)
        job = store.get_job(job_id)
        print(f"{kind}, {count}: {'killed' if os.WIFSIGNALED(status) else 'ended'} at step {job.step}, {job.state}")
        if job.state == "failed":
            resume(store, settings, job_id)
        store.close()
        if job.state == "done":
            return 0
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        run_job(job_id, settings)
        os._exit(0)
    os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
