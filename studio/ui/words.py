"""How the page says things: times, rates, hashes, job states and errors, each worded once."""

from __future__ import annotations

import html
import time

from studio.durations import duration
from studio.records import Job

UPLOAD_MB = 64  # of a file that is chosen in a form; COCO's captions have 32
UP_TO = f"up to {UPLOAD_MB} MB"

STATE_WORDS = {
    "queued": "waiting",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "done": "done",
    "failed": "failed",
}
KIND_WORDS = {
    "pairs": "Make picture pairs",
    "strengths": "Try strengths on one pair",
    "train": "Train",
    "evaluate": "Evaluate",
    "demo": "Demo: the whole method",
    "import": "Import weights",
    "fetch": "Fetch a network",
    "bring": "Bring own pairs",
    "push": "Push to the Hub",
    "compose": "Sum adapters",
    "export": "Export",
    "attack": "Attack",
    "transfer": "Transfer of found prompts",
    "stress": "What real attackers do",
    "sweep": "Sweep",
}
ICONS = {
    "seen": '<svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="5" fill="currentColor"/></svg>',
    "gone": '<svg viewBox="0 0 12 12" aria-hidden="true"><path d="M1.5 6.5 4.6 9.5 10.5 2.8" fill="none" '
    'stroke="currentColor" stroke-width="2"/></svg>',
    "unclear": '<svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="4.2" fill="none" '
    'stroke="currentColor" stroke-width="1.8" stroke-dasharray="2.4 1.9"/></svg>',
}


def escape(text: object) -> str:
    return html.escape(str(text))


def left(seconds: float | None) -> str:
    """What an ETA says: "about 3 min 5 s left", or nothing while it is unknown."""
    return "" if seconds is None else f"about {duration(max(seconds, 1))} left"


def ago(moment: float, now: float | None = None) -> str:
    """How long ago a moment (seconds since 1970) was, roughly."""
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    if seconds < 60:
        return "just now"
    if seconds < 86_400:
        return f"{duration(seconds // 60 * 60)} ago"
    return f"{round(seconds / 86_400)} d ago"


def short_hash(sha256: str) -> str:
    return sha256[:8]


def pill(concept: str, found: bool, score: float, seen: str = "") -> str:
    """The detector's verdict on one picture; `seen` is the object it saw instead, where it names one."""
    kind = "seen" if found else "unclear" if seen == "unclear" else "gone"
    words = {"seen": concept, "unclear": "unclear picture", "gone": f"no {concept}"}[kind]
    instead = f", but {seen}" if kind == "gone" and seen not in ("", "none") else ""
    title = f"The detector's confidence that the picture shows a {concept}: {score:.2f} of 1{instead}"
    return f'<span class="duo-pill is-{kind}" title="{escape(title)}">{ICONS[kind]}{escape(words)} {score:.2f}</span>'


def job_title(job: Job) -> str:
    """What a job does, with the method, the attack or the name it was given."""
    name = job.config.get("name") or job.config.get("method") or job.config.get("attack")
    return f"{KIND_WORDS[job.kind]} · {name}" if name else KIND_WORDS[job.kind]


def note(text: str, kind: str = "info", role: str = "status") -> str:
    """A short message in a coloured box: kind is "info", "busy" or "error"."""
    spinner = '<span class="duo-spinner" aria-hidden="true"></span>' if kind == "busy" else ""
    role = "alert" if kind == "error" else role
    return f'<div class="duo-note duo-note-{kind}" role="{role}">{spinner}<span>{escape(text)}</span></div>'


def empty_state(title: str, text: str) -> str:
    """What an empty place says: what it is for and what fills it."""
    return f'<div class="duo-empty"><h3>{escape(title)}</h3><p>{escape(text)}</p></div>'
