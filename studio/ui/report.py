"""The Report tab: the figures of finished evaluations, how to get the first one and the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import gradio as gr
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio import jobs
from studio.configs import DemoConfig
from studio.demo import QUICK_N, create_demo_project
from studio.records import Evaluation, Job, JobKind
from studio.reports.schema import StudyReport
from studio.reports.table import table_csv, table_latex
from studio.reports.tradeoff_figure import tradeoff_file
from studio.store import NotFoundError, Store
from studio.ui.activity import failure, running_job
from studio.ui.context import QUIET, Studio, View, is_sample, project_options
from studio.ui.evaluate import EvaluateForm, evaluate_form, start_evaluation
from studio.ui.findings import findings, links
from studio.ui.forms import FormError
from studio.ui.two_runs import two_runs
from studio.ui.words import empty_state, note

FULL_N = DemoConfig().n
RUN_NOW, RUN_AGAIN = "Run the demo now (about 8 minutes)", "Run the demo again (about 8 minutes)"
QUICK = "Quick version (about 5 minutes, wider intervals)"
AGAIN = ("failed", "stopped")
KINDS: dict[JobKind, str] = {
    "demo": "demo",
    "evaluate": "evaluation",
    "sweep": "sweep",
}  # jobs that end with a report, and their names
FORMS: dict[str, tuple[Callable[[StudyReport], str], str]] = {
    "csv": (table_csv, "text/csv"),
    "tex": (table_latex, "application/x-tex"),
    "svg": (tradeoff_file, "image/svg+xml"),
}
UNREADABLE = (
    "This report was written by another version of the studio and cannot be shown here. Download it, or evaluate again."
)
EMPTY_SAMPLE = empty_state(
    "No report yet",
    "The demo fills this page: it makes picture pairs with and without a sword, trains DUO and the ESD "
    "baseline from zero, and counts how often each model still draws a sword. In a terminal it is “make demo”.",
)
EMPTY = empty_state(
    "No report yet",
    "Train a model, then evaluate it here: every model draws the same prompts, the detector counts how often the "
    "concept is still there, and this page shows the rates with their intervals.",
)


@dataclass(frozen=True)
class ReportTab:
    """The components that change when rows change."""

    choice: gr.Dropdown
    second: gr.Dropdown
    empty: gr.HTML
    running: gr.HTML
    stop: gr.Button
    resume: gr.Button
    form: EvaluateForm
    start: gr.Row
    full: gr.Button

    @property
    def outputs(self) -> list[Any]:
        own = [self.choice, self.second, self.empty, self.running, self.stop, self.resume, self.start, self.full]
        return [*own, *self.form.outputs]

    @property
    def choices(self) -> list[Any]:
        return [self.choice, self.second, *self.form.choices]

    def shows(self, view: View) -> Any:
        evaluations = [evaluation.id for evaluation in view.evaluations]
        attacks = [job.id for job in view.jobs if job.kind == "attack" and job.state == "done"]
        return view.project, view.last_job(*KINDS), evaluations, view.checkpoints, attacks

    def refresh(self, view: View, chosen: str | None, second: str | None, *form_choices: Any) -> list[Any]:
        """New values of `outputs`. The newest evaluation is chosen unless the visitor chose one that is still there."""
        job = view.last_job(*KINDS)
        active = job is not None and not job.is_final
        text = running_job(job) if active and job else failure(job) if job and job.state == "failed" else ""
        name = KINDS.get(job.kind, "") if job else ""
        options = [(_title(evaluation), evaluation.id) for evaluation in reversed(view.evaluations)]
        ids = [value for _, value in options]
        value = chosen if chosen in ids else ids[0] if ids else None
        other = second if second in ids else None
        return [
            gr.update(choices=options, value=value, visible=bool(ids)),
            gr.update(choices=[("no other run", ""), *options], value=other or "", visible=len(ids) > 1),
            gr.update(value=EMPTY_SAMPLE if is_sample(view.project) else EMPTY, visible=not ids and not active),
            gr.update(value=text, visible=bool(text)),
            gr.update(value=f"Stop the {name}", visible=active, interactive=bool(job and job.state != "stopping")),
            gr.update(value=f"Resume the stopped {name}", visible=job is not None and job.state in AGAIN),
            gr.update(visible=not active and is_sample(view.project)),
            gr.update(value=RUN_AGAIN if ids else RUN_NOW, variant="secondary" if ids else "primary"),
            *self.form.refresh(view, *form_choices),
        ]


def report_tab(studio: Studio, project: gr.Dropdown) -> ReportTab:
    """Build the tab and wire its own buttons; what polling refreshes is in the ReportTab."""
    with gr.Row(elem_classes="duo-report-bar"):
        choice = gr.Dropdown(
            label="Evaluation", choices=[], visible=False, scale=1, min_width=260, elem_id="duo-evaluation"
        )
        second = gr.Dropdown(
            label="Side by side with", choices=[], visible=False, scale=1, min_width=260, elem_id="duo-second"
        )
        downloads = gr.HTML(elem_id="duo-downloads")
    running = gr.HTML(visible=False, elem_id="duo-demo-progress")
    empty = gr.HTML(EMPTY_SAMPLE)
    with gr.Row(elem_classes="duo-actions"):
        stop = gr.Button("Stop the demo", visible=False, size="md", elem_id="duo-stop")
        resume = gr.Button("Resume the stopped demo", visible=False, size="md", elem_id="duo-resume")
    beside = gr.HTML(elem_id="duo-beside")
    body = gr.HTML(elem_id="duo-findings")
    form = evaluate_form(studio, project)
    with gr.Row(elem_classes="duo-actions", elem_id="duo-start") as start:
        full = gr.Button(RUN_NOW, variant="primary", size="md", elem_id="duo-run")
        quick = gr.Button(QUICK, size="md", elem_id="duo-run-quick")
    tab = ReportTab(choice, second, empty, running, stop, resume, form, start, full)
    _wire_jobs(studio, tab, project, quick)
    tab.choice.change(partial(_show, studio.store), tab.choice, [body, downloads], **QUIET)
    for changed in (tab.choice, tab.second):
        changed.change(partial(_beside, studio.store), [tab.choice, tab.second], beside, **QUIET)
    return tab


def _wire_jobs(studio: Studio, tab: ReportTab, project: gr.Dropdown, quick: gr.Button) -> None:
    store = studio.store

    def refresh(project_id: str, *choices: Any) -> list[Any]:
        return tab.refresh(studio.view(project_id), *choices)

    def stop(project_id: str, *choices: Any) -> list[Any]:
        job = studio.view(project_id).last_job(*KINDS)
        if job is not None and not job.is_final:
            jobs.stop(store, studio.settings, job.id)
        return refresh(project_id, *choices)

    def resume(project_id: str, *choices: Any) -> list[Any]:
        job = studio.view(project_id).last_job(*KINDS)
        if job is not None and job.state in AGAIN:
            jobs.resume(store, studio.settings, job.id)
            studio.runner.tick()
        return refresh(project_id, *choices)

    def evaluate(project_id: str, *values: Any) -> str:
        try:
            job = start_evaluation(studio, tab.form, project_id, *values)
        except FormError as problem:
            return note(str(problem), "error")
        return note(_queued(store.get_job(job.id)))

    chosen = [project, *tab.choices]
    for button, n in ((tab.full, FULL_N), (quick, QUICK_N)):
        begin = partial(_begin_demo, studio, DemoConfig(n=n))
        button.click(begin, project, project, **QUIET).then(refresh, chosen, tab.outputs, **QUIET)
    tab.stop.click(stop, chosen, tab.outputs, queue=False, **QUIET)
    tab.resume.click(resume, chosen, tab.outputs, queue=False, **QUIET)
    asked = tab.form.go.click(evaluate, [project, *tab.form.inputs], tab.form.said, queue=False, **QUIET)
    asked.then(refresh, chosen, tab.outputs, queue=False, **QUIET)


def report_routes(store: Store) -> list[Route]:
    """/studio/tables/<evaluation>.csv, .tex and .svg: the figures of one evaluation, and the curve of its models."""

    def table(request: Request) -> Response:
        name, _, form = request.path_params["name"].rpartition(".")
        if form not in FORMS:
            return PlainTextResponse(f"There is no such form; use {', '.join(FORMS)}.", status_code=404)
        write, media_type = FORMS[form]
        try:
            text = write(StudyReport.model_validate(store.get_evaluation(name).report))
        except NotFoundError:
            return PlainTextResponse("There is no such evaluation.", status_code=404)
        except ValidationError:
            return PlainTextResponse(UNREADABLE, status_code=409)
        if not text:
            return PlainTextResponse("Fewer than two models have both figures of the curve.", status_code=404)
        return Response(text, media_type=f"{media_type}; charset=utf-8")

    return [Route("/studio/tables/{name}", table, methods=["GET"])]


def _show(store: Store, evaluation_id: str | None) -> tuple[str, str]:
    """Findings and downloads of the chosen evaluation."""
    if not evaluation_id:
        return "", ""
    evaluation = store.get_evaluation(evaluation_id)
    blur = store.get_project(evaluation.project_id).blur
    try:
        return findings(evaluation, blur=blur), links(evaluation, blur=blur)
    except ValidationError:
        return note(UNREADABLE, "error"), links(evaluation, blur=blur)


def _beside(store: Store, chosen: str | None, second: str | None) -> str:
    """The chosen evaluation beside a second one, where another was chosen."""
    if not chosen or not second:
        return ""
    if chosen == second:
        return note("Both are the same run. Choose another one to see two side by side.")
    try:
        return two_runs(store.get_evaluation(chosen), store.get_evaluation(second))
    except (NotFoundError, ValidationError):
        return note(UNREADABLE, "error")


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


def _queued(job: Job) -> str:
    waits = " It waits for the job before it." if job.state == "queued" else ""
    return f"The evaluation runs in the background and appears above when it is done.{waits}"


def _title(evaluation: Evaluation) -> str:
    """ "25 November 2026, 21:08 · seed 0 · n = 200"."""
    moment = datetime.fromtimestamp(evaluation.created).strftime("%d %B %Y, %H:%M").lstrip("0")
    report = evaluation.report
    protocol = f" · {report['protocol']['title']}" if report.get("protocol") else ""
    return f"{moment}{protocol} · seed {report.get('seed', '?')} · n = {report.get('n', '?')}"
