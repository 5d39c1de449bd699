"""What the machine that trains tells in its log, a line of JSON each, among the lines that are for people."""

from __future__ import annotations

import json
import math
from typing import Any

from studio.records import Job
from studio.store import Store

MARK = "@duo-studio "
MOST_VALUES = 64  # of one step


def event(**values: Any) -> str:
    """The line that tells these."""
    return MARK + json.dumps(values, separators=(",", ":"))


def read_event(line: str) -> dict[str, Any] | None:
    """What a line tells; None where it is for people."""
    if not line.startswith(MARK):
        return None
    try:
        told = json.loads(line.removeprefix(MARK))
    except (json.JSONDecodeError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def progress_of(job: Job, metrics: list[dict[str, float]]) -> str:
    """The line of a row that changed."""
    facts = {"step": job.step, "total": job.total, "message": job.message, "eta": job.eta_seconds}
    return event(**facts, metrics=metrics) if metrics else event(**facts)


def take_progress(store: Store, job_id: str, told: dict[str, Any], now: float) -> None:
    """Put what a line tells into the row; what is not as it must be is passed over."""
    changes: dict[str, Any] = {"heartbeat": now}
    if all(isinstance(told.get(name), int) and told[name] >= 0 for name in ("step", "total")):
        changes |= {"step": told["step"], "total": told["total"], "eta_seconds": _number(told.get("eta"))}
    if isinstance(told.get("message"), str):
        changes["message"] = told["message"][:500] or "The machine starts the training"
    store.update_job(job_id, **changes)
    for row in told.get("metrics", []) if isinstance(told.get("metrics"), list) else []:
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and len(row) <= MOST_VALUES:
            values = {str(name)[:64]: value for name, value in row.items() if name != "step" and _is_number(value)}
            store.add_job_metrics(job_id, step, values)


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) and math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
