"""Projects and jobs for tests of the workflow: what both halves of its tests begin with."""

from __future__ import annotations

import time
from typing import Any

from studio import prompts
from studio.jobs import submit
from studio.progress import Stopped, silent
from studio.records import JobKind, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext

PAIRS = {"steps": 4, "batch_size": 3, "max_tries": 6}


def make_project(store: Store, count: int = 6, **detector_settings: Any) -> Project:
    project = store.create_project(
        Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword", **detector_settings})
    )
    texts = prompts.pair_prompts(count, 0)
    store.add_prompt_pairs(PromptPair("", project.id, text.unsafe, text.safe, seed=i) for i, text in enumerate(texts))
    return project


def context_of(
    store: Store, settings: Settings, project: Project, kind: JobKind, config: dict[str, Any], report: Any = silent
) -> JobContext:
    job = submit(store, settings, kind, project.id, config)
    return JobContext(store, settings, job, job.config, report)


def stop_after(calls: int) -> Any:
    """A report that asks for a stop at its n-th call."""
    left = iter(range(calls))

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        if next(left, None) is None:
            raise Stopped("enough")

    return report


def stop_at(first: int) -> Any:
    """A report that asks for a stop at the first step from `first` on."""

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        if first <= step < total:
            raise Stopped("enough")

    return report


def wait_for(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
