"""The Report tab: the figures of a finished evaluation, or how to get the first one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import gradio as gr
from pydantic import ValidationError

from studio import jobs
from studio.configs import DemoConfig
from studio.demo import QUICK_N, create_demo_project
from studio.records import Evaluation, Job
from studio.store import Store
from studio.ui.activity import failure, running_job
from studio.ui.context import QUIET, Studio, View, is_sample, project_options
from studio.ui.findings import findings, links
from studio.ui.words import empty_state, note

FULL_N = DemoConfig().n
RUN_NOW, RUN_AGAIN = "Run the demo now (about 25 minutes)", "Run the demo again"
AGAIN = ("failed", "stopped")
UNREADABLE = (
    "This report was written by another version of the studio and cannot be shown here. Download it, or evaluate again."
)


@dataclass(frozen=True)
class ReportTab:
    """The components that change when rows change."""

    choice: gr.Dropdown
    empty: gr.HTML
    running: gr.HTML
    stop: gr.Button
    resume: gr.Button
    start: gr.Row
    full: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.choice, self.empty, self.running, self.stop, self.resume, self.start, self.full]

    @property
    def choices(self) -> list[Any]:
        return [self.choice]

    def shows(self, view: View) -> Any:
        return view.project.id, view.last_job("demo"), [evaluation.id for evaluation in view.evaluations]

    def refresh(self, view: View, chosen: str | None) -> list[Any]:
        """New values of `outputs`. The newest evaluation is chosen unless the visitor chose one that is still there."""
        demo = view.last_job("demo")
        active = demo is not None and not demo.is_final
        again = demo is not None and demo.state in AGAIN
        text = running_job(demo) if active and demo else failure(demo) if demo and demo.state == "failed" else ""
        options = [(_title(evaluation), evaluation.id) for evaluation in reversed(view.evaluations)]
        ids = [value for _, value in options]
        value = chosen if chosen in ids else ids[0] if ids else None
        return [
            gr.update(choices=options, value=value, visible=bool(ids)),
            gr.update(visible=not ids and not active),
            gr.update(value=text, visible=bool(text)),
            gr.update(visible=active, interactive=bool(demo and demo.state != "stopping")),
            gr.update(visible=again),
            gr.update(visible=not active),
            gr.update(value=RUN_AGAIN if ids else RUN_NOW, variant="secondary" if ids else "primary"),
        ]


def report_tab(studio: Studio, project: gr.Dropdown) -> ReportTab:
    """Build the tab and wire its own buttons; what polling refreshes is in the ReportTab."""
    with gr.Row(elem_classes="duo-report-bar"):
        choice = gr.Dropdown(
            label="Evaluation", choices=[], visible=False, scale=1, min_width=260, elem_id="duo-evaluation"
        )
        downloads = gr.HTML(elem_id="duo-downloads")
    running = gr.HTML(visible=False, elem_id="duo-demo-progress")
    empty = gr.HTML(
        empty_state(
            "No report yet",
            "The demo fills this page: it makes picture pairs with and without a sword, trains DUO and the ESD "
            "baseline from zero, and counts how often each model still draws a sword. In a terminal it is “make demo”.",
        )
    )
    with gr.Row(elem_classes="duo-actions"):
        stop = gr.Button("Stop the demo", visible=False, size="md", elem_id="duo-stop")
        resume = gr.Button("Resume the stopped demo", visible=False, size="md", elem_id="duo-resume")
    body = gr.HTML(elem_id="duo-findings")
    with gr.Row(elem_classes="duo-actions", elem_id="duo-start") as start:
        full = gr.Button(RUN_NOW, variant="primary", size="md", elem_id="duo-run")
        quick = gr.Button("Quick version (about 8 minutes, wider intervals)", size="md", elem_id="duo-run-quick")
    tab = ReportTab(choice, empty, running, stop, resume, start, full)
    _wire(studio, tab, project, quick, body, downloads)
    return tab


def _wire(
    studio: Studio, tab: ReportTab, project: gr.Dropdown, quick: gr.Button, body: gr.HTML, downloads: gr.HTML
) -> None:
    store = studio.store

    def refresh(project_id: str, chosen: str | None) -> list[Any]:
        return tab.refresh(studio.view(project_id), chosen)

    def stop(project_id: str, chosen: str | None) -> list[Any]:
        job = _last_demo(store, project_id)
        if job is not None and not job.is_final:
            jobs.stop(store, studio.settings, job.id)
        return refresh(project_id, chosen)

    def resume(project_id: str, chosen: str | None) -> list[Any]:
        job = _last_demo(store, project_id)
        if job is not None and job.state in AGAIN:
            jobs.resume(store, studio.settings, job.id)
            studio.runner.tick()
        return refresh(project_id, chosen)

    def show(evaluation_id: str | None) -> tuple[str, str]:
        if not evaluation_id:
            return "", ""
        evaluation = store.get_evaluation(evaluation_id)
        try:
            return findings(evaluation), links(evaluation)
        except ValidationError:
            return note(UNREADABLE, "error"), links(evaluation)

    for button, n in ((tab.full, FULL_N), (quick, QUICK_N)):
        begin = partial(_begin_demo, studio, DemoConfig(n=n))
        button.click(begin, project, project, **QUIET).then(refresh, [project, tab.choice], tab.outputs, **QUIET)
    tab.stop.click(stop, [project, tab.choice], tab.outputs, **QUIET)
    tab.resume.click(resume, [project, tab.choice], tab.outputs, **QUIET)
    tab.choice.change(show, tab.choice, [body, downloads], **QUIET)


def _begin_demo(studio: Studio, config: DemoConfig, project_id: str) -> Any:
    """Queue the demo, in this project if it is still empty and else in a new one, which the page then shows."""
    store = studio.store
    running = [job for job in store.list_jobs() if job.kind == "demo" and not job.is_final]
    if running:  # a second click, or a second visitor's
        return gr.update(value=running[-1].project_id, choices=project_options(store.list_projects()))
    if store.list_prompt_pairs(project_id) or not is_sample(store.get_project(project_id)):
        project_id = create_demo_project(store, config).id
    jobs.submit(store, studio.settings, "demo", project_id, config.model_dump())
    studio.runner.tick()
    return gr.update(value=project_id, choices=project_options(store.list_projects()))


def _last_demo(store: Store, project_id: str) -> Job | None:
    demos = [job for job in store.list_jobs(project_id) if job.kind == "demo"]
    return demos[-1] if demos else None


def _title(evaluation: Evaluation) -> str:
    """ "25 November 2026, 21:08 · seed 0 · n = 200"."""
    moment = datetime.fromtimestamp(evaluation.created).strftime("%d %B %Y, %H:%M").lstrip("0")
    report = evaluation.report
    return f"{moment} · seed {report.get('seed', '?')} · n = {report.get('n', '?')}"
