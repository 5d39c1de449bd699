"""What a launcher is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from studio.launch_options import MOST_MINUTES
from studio.records import Job, LauncherName
from studio.settings import Settings


class LaunchError(ValueError):
    """Work that cannot be started where it was asked for; says which value is wrong and what to do."""


class Launcher(Protocol):
    """Starts a job's work, and knows whether it goes on without the process that was started."""

    @property
    def name(self) -> LauncherName: ...

    @property
    def title(self) -> str:
        """As people read it."""

    @property
    def grace(self) -> float:
        """Seconds between asking its process to stop and killing it."""

    def place(self, settings: Settings, job_config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the row keeps of where its work is done, from what was asked for. Raises LaunchError."""

    def arguments(self, worker: Sequence[str], job: Job) -> list[str]:
        """Python's arguments of the process that has the row; `worker` are those of a single process."""

    def goes_on(self, job: Job) -> bool:
        """Whether the work does not need its process, which is then started again where it is gone."""


def within(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The time-out that was asked for, as the row keeps it; {} where there is none. Raises LaunchError."""
    value = asked.get("timeout_minutes", 0)
    if not isinstance(value, int | float) or not 0 <= value <= MOST_MINUTES:
        raise LaunchError(
            f"The time-out is {value!r} minutes; it must lie between 0, which is none, and {MOST_MINUTES:g}."
        )
    return {"timeout_minutes": float(value)} if value else {}


def only_known(asked: Mapping[str, Any], known: Sequence[str], launcher: str) -> None:
    """Raises LaunchError where something is asked for that this launcher does not have."""
    if unknown := sorted(asked.keys() - {*known, "launcher"}):
        raise LaunchError(f"{launcher} has no {unknown[0]!r}; use {', '.join(known)}.")
