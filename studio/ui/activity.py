"""Background jobs as the page shows them: the panel under the tabs, the list, and one running job large."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import jobs
from studio.jobs import LIVE
from studio.records import Job
from studio.ui.context import QUIET, Studio, View
from studio.ui.words import ago, duration, empty_state, escape, job_title, left

LISTED = 12
_STATE_LOOK = {"running": "gone", "stopping": "unclear", "failed": "seen"}


@dataclass(frozen=True)
class JobsPanel:
    """The project's jobs, under every tab."""

    listing: gr.HTML
    stop: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.listing, self.stop]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id, view.jobs

    def refresh(self, view: View) -> list[Any]:
        return [jobs_list(view.jobs), gr.update(visible=any(job.state in LIVE for job in view.jobs))]


def jobs_panel(studio: Studio, project: gr.Dropdown) -> JobsPanel:
    with gr.Accordion("Jobs", open=False, elem_id="duo-jobs"):
        panel = JobsPanel(
            gr.HTML(), gr.Button("Stop the running job", size="md", visible=False, elem_id="duo-stop-job")
        )

    def stop(project_id: str) -> list[Any]:
        for job in studio.store.list_jobs(project_id, states=LIVE):
            jobs.stop(studio.store, studio.settings, job.id)
        return panel.refresh(studio.view(project_id))

    panel.stop.click(stop, project, panel.outputs, queue=False, **QUIET)
    return panel


def jobs_list(jobs: Sequence[Job]) -> str:
    """The newest jobs first, with state, progress and what they last said."""
    if not jobs:
        return empty_state(
            "No jobs yet", "Training, evaluations and the demo run in the background and are listed here."
        )
    rows = "".join(_row(job) for job in reversed(jobs[-LISTED:]))
    older = len(jobs) - LISTED
    more = f'<p class="duo-more">… and {older} older</p>' if older > 0 else ""
    return f'<div class="duo-jobs">{rows}{more}</div>'


def running_job(job: Job) -> str:
    """One job, large: title, bar, time left, last message."""
    waiting = "Waiting for the job before it." if job.state == "queued" else "Starting …"
    facts = " · ".join(part for part in (_step(job), left(job.eta_seconds)) if part)
    return (
        f'<div class="duo-running" role="status"><h3>{escape(job_title(job))}</h3>{_bar(job)}'
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


def _row(job: Job) -> str:
    if job.state == "failed":
        message = f'<p class="is-error">{escape(job.error.splitlines()[0] if job.error else "It failed.")}</p>'
    else:
        message = f"<p>{escape(job.message)}</p>"
    return (
        f'<div class="duo-job"><div>{escape(job_title(job))}<p>{_when(job)}</p></div>'
        f'<div><span class="duo-pill is-{_STATE_LOOK.get(job.state, "plain")}">{escape(job.state)}</span>'
        f"{_bar(job) if not job.is_final else ''}</div><div>{message}"
        f"<p>{escape(' · '.join(part for part in (_step(job), left(job.eta_seconds)) if part))}</p></div></div>"
    )


def _when(job: Job) -> str:
    if job.finished and job.started:
        return f"{ago(job.finished)}, took {duration(job.finished - job.started)}"
    if job.started:
        return f"running for {duration(time.time() - job.started)}"
    return f"asked for {ago(job.created)}"


def _step(job: Job) -> str:
    return f"{100 * job.step / job.total:.0f} % done" if job.total and not job.is_final else ""


def _bar(job: Job) -> str:
    share = 100 * job.step / job.total if job.total else 0
    return (
        f'<div class="duo-progress" role="progressbar" aria-label="{escape(job_title(job))}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
    )
