"""The panel "What real attackers do" of Compare: relearning, adapters taken off, int8, other samplers, start pictures.

/studio/trials/<job>.csv and .json     the table of a stress or transfer job
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio import jobs
from studio.attack_costs import speed_of
from studio.durations import duration
from studio.jobs import JobError
from studio.records import Job
from studio.reports.trials import trials_csv, trials_json
from studio.store import NotFoundError, Store
from studio.stress_configs import GROUPS, StressConfig
from studio.stress_costs import cost_of
from studio.ui.activity import RESUMABLE, STOPPABLE, failure, resume_job, running_job, stop_job, waiting
from studio.ui.attack import PUBLIC
from studio.ui.context import QUIET, Studio, View, trained_options
from studio.ui.forms import Form, FormError, config_form
from studio.ui.trial_view import links, stress_results
from studio.ui.words import STATE_WORDS, ago, empty_state, escape, note

FIELDS = ("n", "seed", "steps", "guidance_scale", "batch_size", "beside", "benign_pictures", "relearn_rate",
          "relearn_batch", "back_at")  # fmt: skip
EMPTY = empty_state(
    "Nothing measured yet",
    "Whoever holds a model does not stop at prompts. Choose what is to be done to it and press Measure: the same "
    "prompts and seeds are drawn after each, by the original and the oracle too.",
)
_ABOUT = """<p class="duo-quiet">What people do to a model that they hold, each measured on the same prompts and
seeds.</p>"""


@dataclass(frozen=True)
class StressPanel:
    """The components that change when rows change."""

    studio: Studio
    victims: gr.CheckboxGroup
    groups: gr.CheckboxGroup
    details: Form
    cost: gr.HTML
    chosen: gr.Dropdown
    seen: gr.State
    head: gr.HTML
    actions: gr.Row
    stop: gr.Button
    resume: gr.Button
    results: gr.HTML

    @property
    def asked(self) -> list[Any]:
        return [self.victims, self.groups, *self.details.components]

    @property
    def outputs(self) -> list[Any]:
        own = [self.victims, self.cost, self.chosen, self.seen, self.head, self.actions, self.stop, self.resume]
        return [*own, self.results]

    @property
    def choices(self) -> list[Any]:
        return [self.chosen, self.seen, *self.asked]

    def shows(self, view: View) -> Any:
        store = self.studio.store
        return view.project, view.checkpoints, jobs_of(view), store.count_trials(view.project.id), waiting(store, view)

    def refresh(self, view: View, chosen: str | None, seen: dict[str, Any] | None, *asked: Any) -> list[Any]:
        """What changed of the job in front: the newest, until the visitor chooses another one."""
        before = seen if seen is not None and seen.get("project") == view.project.id else {}
        listed = {job.id: job for job in jobs_of(view)}
        newest = next(reversed(listed), None)
        key = chosen if before and chosen in listed and chosen != before.get("newest") else newest
        options = [(f"{STATE_WORDS[job.state]}, {ago(job.created)}", job.id) for job in reversed(listed.values())]
        now: dict[str, Any] = {"project": view.project.id, "newest": newest}
        trained = trained_options(view)
        keys = [key for _, key in trained]
        values = list(asked) if before else [getattr(component, "value", None) for component in self.asked]
        values[0] = [one for one in values[0] or [] if one in keys] if before else keys
        return [
            gr.update(choices=trained, value=values[0]),
            self.cost_html(view, values),
            gr.update(choices=options, value=key, visible=len(options) > 1),
            now,
            *self._job(view, listed[key] if key else None, before, now),
        ]

    def _job(self, view: View, job: Job | None, before: dict[str, Any], now: dict[str, Any]) -> list[Any]:
        if job is None:
            hidden = gr.update(visible=False)
            return [EMPTY, hidden, hidden, hidden, ""]
        trials = self.studio.store.list_trials(view.project.id, job.id)
        now["results"] = (job.id, len(trials))
        same = now["results"] == before.get("results")
        return [
            head(job, waiting(self.studio.store, view).get(job.id, "")),
            gr.update(visible=True),
            gr.update(visible=job.state in STOPPABLE),
            gr.update(visible=job.state in RESUMABLE),
            gr.skip() if same else stress_results(trials) + links(job, len(trials)),
        ]

    def read(self, asked: Sequence[Any]) -> StressConfig:
        """Raises FormError."""
        victims, groups, *rest = asked
        if not victims:
            raise FormError("No model is chosen. Tick at least one trained model.")
        if not groups:
            raise FormError("Nothing is chosen that is to be done to it. Tick at least one.")
        ordered = [group for group in GROUPS if group in groups]
        config = self.details.read(rest, victims=list(victims), groups=ordered)
        assert isinstance(config, StressConfig)
        return config

    def cost_html(self, view: View, asked: Sequence[Any]) -> str:
        if self.studio.settings.public_demo:
            return note(PUBLIC)
        try:
            config = self.read(asked)
        except FormError as error:
            return note(str(error))
        toybox = view.project.checkpoint == "toybox"
        speed = speed_of(self.studio.store.list_attack_runs(view.project.id), toybox)
        cost = cost_of(config, len(config.victims), toybox, speed)
        time = "Time: not known yet." if cost.seconds is None else f"At most about {duration(cost.seconds)}"
        where = f", {speed.where}" if speed else ""
        words = f"At most {cost.pictures:,} pictures in {cost.cells} cells, and {cost.steps:,} training steps."
        return (
            f'<div class="duo-note duo-note-info at-cost" role="status"><div><p><b>{time}</b>{escape(where)}.</p>'
            f"<p>{words}</p></div></div>"
        )


def jobs_of(view: View) -> tuple[Job, ...]:
    return tuple(job for job in view.jobs if job.kind == "stress")


def head(job: Job, waits: str) -> str:
    if job.state == "failed":
        return failure(job)
    if not job.is_final:
        return running_job(job) if not waits else note(waits, "busy")
    took = f", took {duration(job.finished - job.started)}" if job.finished and job.started else ""
    words = f"{STATE_WORDS[job.state].capitalize()} {ago(job.finished or job.created)}{took}."
    return f'<p class="duo-done" role="status">{escape(words)}</p>'


def stress_panel(studio: Studio, project: gr.Dropdown) -> StressPanel:
    """Build the panel and wire its events."""
    public = studio.settings.public_demo
    with (
        gr.Accordion("What real attackers do", open=False, elem_id="duo-stress"),
        gr.Row(equal_height=False, elem_classes="duo-compare"),
    ):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            gr.HTML(_ABOUT)
            with gr.Column(visible=not public, elem_classes="duo-plain"):
                victims = gr.CheckboxGroup([], label="Models", elem_classes="duo-list", elem_id="duo-stress-victims")
                groups = gr.CheckboxGroup(
                    [(words, key) for key, words in GROUPS.items()], value=list(GROUPS), label="What is done",
                    elem_classes="duo-list", elem_id="duo-stress-groups",
                )  # fmt: skip
                with gr.Accordion("All settings", open=False, elem_classes="duo-all-settings"):
                    details = config_form(StressConfig, FIELDS)
                cost = gr.HTML(elem_id="duo-stress-cost")
                go = gr.Button("Measure", variant="primary", size="lg", elem_id="duo-stress-go")
                said = gr.HTML()
            gr.HTML(note(PUBLIC), visible=public)
        with gr.Column(scale=1, min_width=320, elem_id="duo-stress-results"):
            chosen = gr.Dropdown([], label="Run to look at", visible=False, filterable=False, elem_id="duo-stresses")
            heading = gr.HTML(EMPTY, elem_id="duo-stress-head")
            with gr.Row(visible=False, elem_classes="duo-actions") as actions:
                stop = gr.Button("Stop", size="md", visible=False, elem_id="duo-stress-stop")
                resume = gr.Button("Resume", size="md", visible=False, elem_id="duo-stress-resume")
            results = gr.HTML(elem_id="duo-stress-table")
    panel = StressPanel(
        studio, victims, groups, details, cost, chosen, gr.State({}), heading, actions, stop, resume, results
    )
    _wire(studio, project, panel, go, said)
    return panel


def _wire(studio: Studio, project: gr.Dropdown, panel: StressPanel, go: gr.Button, said: gr.HTML) -> None:
    def cost(project_id: str | None, *asked: Any) -> Any:
        return gr.skip() if project_id is None else panel.cost_html(studio.view(project_id), asked)

    def start(project_id: str, chosen: str | None, seen: Any, *asked: Any) -> list[Any]:
        try:
            job = start_stress(studio, panel, project_id, asked)
        except FormError as error:
            return [note(str(error), "error"), *[gr.skip()] * len(panel.outputs)]
        return ["", *panel.refresh(studio.view(project_id), job.id, seen, *asked)]

    def act(work: Any, project_id: str, chosen: str | None, *choices: Any) -> list[Any]:
        words = note(PUBLIC, "error") if studio.settings.public_demo else work(studio, chosen)
        return [words, *panel.refresh(studio.view(project_id), chosen, *choices)]

    def look(project_id: str, chosen: str | None, seen: Any, *asked: Any) -> list[Any]:
        return panel.refresh(studio.view(project_id), chosen, {**(seen or {}), "newest": None, "results": None}, *asked)

    inputs, outputs = [project, *panel.choices], [said, *panel.outputs]
    changes = [component.change for component in panel.asked]
    gr.on(changes, cost, [project, *panel.asked], panel.cost, queue=False, trigger_mode="always_last", **QUIET)
    go.click(start, inputs, outputs, queue=False, **QUIET)
    panel.stop.click(lambda *values: act(stop_job, *values), inputs, outputs, queue=False, **QUIET)
    panel.resume.click(lambda *values: act(resume_job, *values), inputs, outputs, queue=False, **QUIET)
    panel.chosen.input(look, inputs, panel.outputs, queue=False, **QUIET)


def start_stress(studio: Studio, panel: StressPanel, project_id: str, asked: Sequence[Any]) -> Job:
    """Queue a stress job. Raises FormError with words for the page; on a public demo always."""
    if studio.settings.public_demo:
        raise FormError(PUBLIC)
    config = panel.read(asked)
    try:
        job = jobs.submit(studio.store, studio.settings, "stress", project_id, config.model_dump())
    except JobError as error:
        raise FormError(str(error)) from error
    studio.runner.tick()
    return job


def trial_routes(store: Store) -> list[Route]:
    def trials(request: Request) -> Response:
        name, _, kind = request.path_params["name"].rpartition(".")
        try:
            job = store.get_job(name)
        except NotFoundError:
            return PlainTextResponse("There is no such table.", status_code=404)
        rows = store.list_trials(job.project_id, job.id)
        if kind == "csv":
            return Response(trials_csv(rows), media_type="text/csv; charset=utf-8")
        return Response(json.dumps(trials_json(rows), indent=1), media_type="application/json")

    return [Route("/studio/trials/{name}", trials, methods=["GET"])]
