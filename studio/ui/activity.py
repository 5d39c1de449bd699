"""Background jobs as the page shows them: the panel under the tabs, the list, and one running job large."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import jobs
from studio.durations import duration
from studio.jobs import LIVE
from studio.records import ELSEWHERE, Job, JobState
from studio.store import Store, StoreError
from studio.ui.context import QUIET, Studio, View
from studio.ui.words import STATE_WORDS, ago, empty_state, escape, job_title, left, note

LISTED = 12
STOPPABLE: tuple[JobState, ...] = ("queued", "running")
RESUMABLE: tuple[JobState, ...] = ("stopped", "failed")
_STATE_LOOK = {"running": "gone", "stopping": "unclear", "failed": "seen"}


@dataclass(frozen=True)
class JobsPanel:
    """The project's jobs, under every tab."""

    studio: Studio
    listing: gr.HTML
    actions: gr.Row
    chosen: gr.Dropdown
    said: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.listing, self.actions, self.chosen, self.said]

    @property
    def choices(self) -> list[Any]:
        return [self.chosen]

    def shows(self, view: View) -> Any:
        return view.project.id, view.jobs, waiting(self.studio.store, view)

    def refresh(self, view: View, chosen: str | None, said: Any = None) -> list[Any]:
        """The list; the choice stays while its job can still be stopped or resumed, and what was said stays."""
        options = job_options(view.jobs)
        keys = [key for _, key in options]
        value: dict[str, Any] = {} if chosen in keys else {"value": keys[0] if keys else None}
        listing = jobs_list(view.jobs, waiting(self.studio.store, view))
        told = gr.skip() if said is None else said
        return [listing, gr.update(visible=bool(options)), gr.update(choices=options, **value), told]


def jobs_panel(studio: Studio, project: gr.Dropdown) -> JobsPanel:
    with gr.Accordion("Jobs", open=False, elem_id="duo-jobs"):
        listing = gr.HTML()
        with gr.Row(visible=False, elem_classes="duo-job-actions") as actions:
            chosen = gr.Dropdown(label="Job", choices=[], scale=0, min_width=260, elem_id="duo-job")
            stop = gr.Button("Stop", size="md", scale=0, min_width=90, elem_id="duo-stop-job")
            resume = gr.Button("Resume", size="md", scale=0, min_width=90, elem_id="duo-resume-job")
        said = gr.HTML()
    panel = JobsPanel(studio, listing, actions, chosen, said)

    def act(work: Callable[[Studio, str | None], str], project_id: str, job_id: str | None) -> list[Any]:
        words = work(studio, job_id)
        return panel.refresh(studio.view(project_id), job_id, words)

    inputs = [project, chosen]
    stop.click(partial(act, stop_job), inputs, panel.outputs, queue=False, **QUIET)
    resume.click(partial(act, resume_job), inputs, panel.outputs, queue=False, **QUIET)
    return panel


def stop_job(studio: Studio, job_id: str | None) -> str:
    """Ask a job to stop; what to say of it, "" where all is well."""
    if job_id is None:
        return ""
    job = jobs.stop(studio.store, studio.settings, job_id)
    return "" if job.state in ("stopping", "stopped") else note(f"{job_title(job)} has ended already: {job.state}.")


def resume_job(studio: Studio, job_id: str | None) -> str:
    """Queue a stopped or failed job again; what to say of it, "" where all is well."""
    try:
        if job_id is not None:
            jobs.resume(studio.store, studio.settings, job_id)
    except StoreError as error:
        return note(str(error), "error")
    return ""


def job_options(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """(text, id) of the jobs that can be stopped or resumed: first what runs, then what waits, then the newest."""
    order = {"running": 0, "queued": 1}
    able = [job for job in reversed(jobs) if job.state in (*STOPPABLE, *RESUMABLE) and not job.refused]
    able.sort(key=lambda job: order.get(job.state, 2))
    return [(f"{job_title(job)} ({STATE_WORDS[job.state]}, {_clock_time(job.created)})", job.id) for job in able]


def waiting(store: Store, view: View) -> dict[str, str]:
    """For each waiting job of the project what it waits for; jobs of all projects share one queue."""
    if not any(job.state == "queued" for job in view.jobs):
        return {}
    names = {project.id: project.name for project in view.projects}
    queue = [job for job in store.list_jobs(states=(*LIVE, "queued")) if job.launcher not in ELSEWHERE]
    running = [job for job in queue if job.state in LIVE]
    waits = [job for job in queue if job.state == "queued"]
    words = {}
    for place, job in enumerate(waits):
        before = (running + waits[:place])[:1]
        if job.project_id != view.project.id:
            continue
        if not before:
            words[job.id] = "Starts in a moment."
            continue
        first = before[0]
        where = "" if first.project_id == job.project_id else f" of project {names.get(first.project_id, 'unknown')}"
        others = len(running) + place - 1
        more = f" and {others} more before it" if others else ""
        words[job.id] = f"Number {place + 1} in the queue: waits for {job_title(first)}{where}{more}."
    return words


def jobs_list(jobs: Sequence[Job], waits: Mapping[str, str] | None = None) -> str:
    """The newest jobs first, with state, progress and what they last said."""
    if not jobs:
        return empty_state(
            "No jobs yet", "Training, evaluations and the demo run in the background and are listed here."
        )
    rows = "".join(_row(job, (waits or {}).get(job.id, "")) for job in reversed(jobs[-LISTED:]))
    older = len(jobs) - LISTED
    more = f'<p class="duo-more">… and {older} older</p>' if older > 0 else ""
    return f'<div class="duo-jobs">{rows}{more}</div>'


def running_job(job: Job) -> str:
    """One job, large: title, bar, time left, last message."""
    waiting = "Waiting for the job before it." if job.state == "queued" else "Starting …"
    facts = " · ".join(part for part in (_step(job), left(job.eta_seconds)) if part)
    return (
        f'<div class="duo-running" role="status"><h3>{escape(job_title(job))}</h3>{progress_bar(job)}'
        f"<p><b>{escape(facts or waiting)}</b></p><p>{escape(job.message)}</p>"
        "<p>It runs in the background: you can close this page and come back.</p></div>"
    )


def failure(job: Job) -> str:
    """Why a job ended without a result: the first line for everybody, the rest on demand."""
    first, _, rest = job.error.partition("\n")
    details = f"<details><summary>Last lines of its log</summary><pre>{escape(rest)}</pre></details>" if rest else ""
    return (
        f'<div class="duo-note duo-note-error" role="alert"><div><b>{escape(job_title(job))} failed.</b> '
        f"{escape(first)}{details}</div></div>"
    )


def progress_bar(job: Job) -> str:
    share = 100 * job.step / job.total if job.total else 0
    return (
        f'<div class="duo-progress" role="progressbar" aria-label="{escape(job_title(job))}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
    )


def _row(job: Job, waits: str) -> str:
    if job.state == "failed":
        message = f'<p class="is-error">{escape(job.error.splitlines()[0] if job.error else "It failed.")}</p>'
    else:
        message = f"<p>{escape(waits or job.message)}</p>"
    bar = progress_bar(job) if job.state in LIVE else ""
    return (
        f'<div class="duo-job"><div>{escape(job_title(job))}<p>{_when(job)}</p></div>'
        f'<div><span class="duo-pill is-{_STATE_LOOK.get(job.state, "plain")}">{escape(STATE_WORDS[job.state])}</span>'
        f"{bar}</div><div>{message}"
        f"<p>{escape(' · '.join(part for part in (_step(job), left(job.eta_seconds)) if part))}</p></div></div>"
    )


def _when(job: Job) -> str:
    if job.finished and job.started:
        return f"{ago(job.finished)}, took {duration(job.finished - job.started)}"
    if job.started:
        return f"running for {duration(time.time() - job.started)}"
    return f"asked for {ago(job.created)}"


def _clock_time(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))


def _step(job: Job) -> str:
    return f"{100 * job.step / job.total:.0f} % done" if job.total and job.state in LIVE else ""
