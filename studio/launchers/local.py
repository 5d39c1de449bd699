"""A child process of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.launchers.base import only_known, within
from studio.records import Job, LauncherName
from studio.settings import Settings


@dataclass(frozen=True)
class Local:
    name: LauncherName = "local"
    title: str = "This machine"
    grace: float = 10.0

    def place(self, settings: Settings, job_config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        only_known(asked, ("timeout_minutes",), self.title)
        return within(asked)

    def arguments(self, worker: Sequence[str], job: Job) -> list[str]:
        return [*worker, job.id]

    def goes_on(self, job: Job) -> bool:
        return False


LOCAL = Local()
