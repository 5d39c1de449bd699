"""How long work tells its progress, and how it is told to stop. Torch-free: the page and the worker share it."""

from __future__ import annotations

from typing import Protocol


class Stopped(Exception):  # noqa: N818 — a stop is no error
    """Raised by a report when the user asked for a stop. Work done so far is kept."""


class Enough(Exception):  # noqa: N818 — no error either
    """Raised by a report when the work has done what was asked before its last step. Says why."""


class Report(Protocol):
    """How long work tells its progress.

    `values` are the numbers of this step (loss, gradient norm …); raises `Stopped` when a stop was asked for,
    and `Enough` when a training may end before its last step.
    """

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None: ...


def silent(step: int, total: int, message: str = "", **values: float) -> None:
    """A report for tests and notebooks: says nothing, never stops."""
