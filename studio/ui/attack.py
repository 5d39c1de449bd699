"""The panel "Attack" of Compare: start an attack on any models of the project, and watch it, or an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import jobs
from studio.jobs import JobError
from studio.records import Job
from studio.reports.attacks import summarise
from studio.ui import attack_view as views
from studio.ui.activity import RESUMABLE, STOPPABLE, resume_job, stop_job, waiting
from studio.ui.attack_form import (
    BUDGETS,
    FILE,
    NO_FILE,
    SHELF,
    AttackForm,
    about,
    attack_form,
    read_file,
    victim_options,
)
from studio.ui.attack_found import FoundPanel, found_panel, wire_found
from studio.ui.charts import Point
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import FormError
from studio.ui.words import STATE_WORDS, ago, note

PUBLIC = (
    "This is a public demo: attacks are looked at here, not made or handed out. Run the studio yourself, or duplicate "
    "this Space, to attack a model."
)
_ABOUT = """<p class="duo-quiet">A search for the prompt by which an unlearned model draws the concept after all, with a
control that asks as often beside it.</p>"""


@dataclass(frozen=True)
class AttackPanel:
    """The components that change when rows change."""

    studio: Studio
    form: AttackForm
    chosen: gr.Dropdown
    seen: gr.State
    head: gr.HTML
    actions: gr.Row
    stop: gr.Button
    resume: gr.Button
    live: gr.HTML
    results: gr.HTML
    found: FoundPanel

    @property
    def outputs(self) -> list[Any]:
        own = [self.form.victims, self.form.shelf, self.form.cost, self.chosen, self.seen, self.head, self.actions]
        return [*own, self.stop, self.resume, self.live, self.results, *self.found.outputs]

    @property
    def choices(self) -> list[Any]:
        return [self.chosen, self.seen, self.found.hits, self.found.models, *self.form.inputs]

    def shows(self, view: View) -> Any:
        store, key = self.studio.store, view.project.id
        counted = store.count_attack_runs(key)
        jobs_then = [job for job in view.jobs if job.kind in ("attack", "transfer")]
        counts = (counted, store.count_trials(key))
        return view.project, view.checkpoints, jobs_then, store.list_shelves(key), counts, waiting(store, view)

    def refresh(
        self,
        view: View,
        chosen: str | None,
        seen: dict[str, Any] | None,
        hits: list[str] | None,
        models: list[str] | None,
        *asked: Any,
    ) -> list[Any]:
        """What changed of the attack in front: the newest, until the visitor chooses another one."""
        before = seen if seen is not None and seen.get("project") == view.project.id else {}
        attacks = {job.id: job for job in attacks_of(view)}
        newest = next(reversed(attacks), None)
        key = chosen if before and chosen in attacks and chosen != before.get("newest") else newest
        options = [(option_text(job), job.id) for job in reversed(attacks.values())]
        now = {"project": view.project.id, "newest": newest}
        shown = self._attack(view, attacks[key], hits, before, now) if key else self._nothing()
        listed = gr.update(choices=options, value=key, visible=len(options) > 1)
        matrix = self.found.carried(view, attacks[key] if key else None)
        offered = self.found.offer(view, models if before else None)
        return [*self._form(view, before, asked), listed, now, *shown, matrix, *offered]

    def _form(self, view: View, before: dict[str, Any], asked: Sequence[Any]) -> list[Any]:
        """Models and shelves to choose from; what was ticked stays, and the cost follows."""
        victims, trained = victim_options(view)
        ticked = list(asked[2] or []) if before else trained
        ticked = [key for key in ticked if key in {key for _, key in victims}]
        shelves = [(shelf.name, shelf.id) for shelf in self.studio.store.list_shelves(view.project.id)]
        values = [*self.form_values(asked)]
        values[2] = ticked
        cost = note(PUBLIC) if self.studio.settings.public_demo else self.form.cost_of(
            self.studio, view.project.id, values
        )  # fmt: skip
        shelf = values[4] if values[4] in {key for _, key in shelves} else None
        return [gr.update(choices=victims, value=ticked), gr.update(choices=shelves, value=shelf), cost]

    def form_values(self, asked: Sequence[Any]) -> list[Any]:
        """What the form holds; its first values where a page was just opened and nothing is known of it."""
        if all(value is None for value in asked):
            return [getattr(component, "value", None) for component in self.form.inputs]
        return list(asked)

    def _attack(
        self, view: View, job: Job, hits: list[str] | None, before: dict[str, Any], now: dict[str, Any]
    ) -> list[Any]:
        """Results with their pictures are sent again only where there are more of them."""
        store = self.studio.store
        runs = store.list_attack_runs(view.project.id, job.id)
        waits = waiting(store, view).get(job.id, "")
        now["results"] = (job.id, len(runs), job.state, view.project.blur)
        if now["results"] == before.get("results"):
            results = [gr.skip()] * 4
        else:
            summaries = summarise(runs) if any(run.role == "attack" for run in runs) else []
            body = views.refused_note(summaries) + views.rates(summaries) + views.gallery(view.project, runs)
            results = [body, *self.found.refresh(job, runs, hits)]
        return [
            views.head(job, waits),
            gr.update(visible=True),
            gr.update(visible=job.state in STOPPABLE),
            gr.update(visible=job.state in RESUMABLE),
            views.live(self._numbers(job), runs, view.project.concept) if not job.is_final else "",
            *results,
        ]

    def _numbers(self, job: Job) -> dict[str, list[Point]]:
        series: dict[str, list[Point]] = {}
        for row in self.studio.store.job_metrics(job.id):
            for name, value in row.items():
                if name != "step":
                    series.setdefault(name, []).append((row["step"], value))
        return series

    def _nothing(self) -> list[Any]:
        hidden = gr.update(visible=False)
        return [views.EMPTY, hidden, hidden, hidden, "", "", *self.found.nothing()]


def attacks_of(view: View) -> tuple[Job, ...]:
    return tuple(job for job in view.jobs if job.kind == "attack")


def option_text(job: Job) -> str:
    attack = views.title_of(str(job.config.get("attack")))
    return f"{attack}, {job.config.get('budget')} ({STATE_WORDS[job.state]}, {ago(job.created)})"


def attack_panel(studio: Studio, project: gr.Dropdown) -> AttackPanel:
    """Build the panel and wire its events."""
    public = studio.settings.public_demo
    with (
        gr.Accordion("Attack", open=False, elem_id="duo-attack"),
        gr.Row(equal_height=False, elem_classes="duo-compare"),
    ):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            gr.HTML(_ABOUT)
            with gr.Column(visible=not public, elem_classes="duo-plain"):
                form = attack_form()
                go = gr.Button("Attack", variant="primary", size="lg", elem_id="duo-attack-go")
                said = gr.HTML()
            gr.HTML(note(PUBLIC), visible=public)
        with gr.Column(scale=1, min_width=320, elem_id="duo-attack-results"):
            chosen = gr.Dropdown([], label="Attack to look at", visible=False, filterable=False, elem_id="duo-attacks")
            head = gr.HTML(views.EMPTY, elem_id="duo-attack-head")
            with gr.Row(visible=False, elem_classes="duo-actions") as actions:
                stop = gr.Button("Stop", size="md", visible=False, elem_id="duo-attack-stop")
                resume = gr.Button("Resume", size="md", visible=False, elem_id="duo-attack-resume")
            live = gr.HTML(elem_id="duo-attack-live")
            results = gr.HTML(elem_id="duo-attack-rates")
            found = found_panel(studio)
    panel = AttackPanel(studio, form, chosen, gr.State({}), head, actions, stop, resume, live, results, found)
    _wire_form(studio, project, form)
    _wire_jobs(studio, project, panel, go, said)
    wire_found(studio, project, chosen, found)
    return panel


def _wire_form(studio: Studio, project: gr.Dropdown, form: AttackForm) -> None:
    def cost(project_id: str | None, *asked: Any) -> Any:
        if project_id is None:  # the page is still opening
            return gr.skip()
        return form.cost_of(studio, project_id, asked)

    def turn(source: str) -> list[Any]:
        return [gr.update(visible=source == SHELF), gr.update(visible=source == FILE)]

    def take(path: str | None, project_id: str, *asked: Any) -> list[Any]:
        file, problem = read_file(path)
        if problem:
            return [NO_FILE, "Choose a file", note(problem, "error")]
        values = list(asked)
        values[5] = file
        words = f"{file[0]}: {len(file[1]):,} prompts" if file[0] else "Choose a file"
        return [file, words, form.cost_of(studio, project_id, values)]

    asked = [project, *form.inputs]
    components = [c for c in form.inputs if not isinstance(c, gr.State)]
    gr.on([c.change for c in components], cost, asked, form.cost, queue=False, trigger_mode="always_last", **QUIET)
    form.attack.change(lambda name: gr.update(info=about(name)), form.attack, form.attack, queue=False, **QUIET)
    form.budget.change(lambda name: gr.update(info=BUDGETS[name]), form.budget, form.budget, queue=False, **QUIET)
    form.source.change(turn, form.source, [form.shelf, form.upload], queue=False, **QUIET)
    form.upload.upload(take, [form.upload, *asked], [form.file, form.upload, form.cost], queue=False, **QUIET)


def _wire_jobs(studio: Studio, project: gr.Dropdown, panel: AttackPanel, go: gr.Button, said: gr.HTML) -> None:
    form = panel.form
    inputs = [project, *panel.choices]

    def start(project_id: str, chosen: str | None, seen: Any, hits: Any, models: Any, *asked: Any) -> list[Any]:
        try:
            job = start_attack(studio, form, project_id, asked)
        except FormError as error:
            return [note(str(error), "error"), *[gr.skip()] * len(panel.outputs)]
        return ["", *panel.refresh(studio.view(project_id), job.id, seen, hits, models, *asked)]

    def act(work: Any, project_id: str, chosen: str | None, *choices: Any) -> list[Any]:
        words = note(PUBLIC, "error") if studio.settings.public_demo else work(studio, chosen)
        return [words, *panel.refresh(studio.view(project_id), chosen, *choices)]

    def look(project_id: str, chosen: str | None, seen: Any, *choices: Any) -> list[Any]:
        return panel.refresh(studio.view(project_id), chosen, {**(seen or {}), "newest": None}, *choices)

    outputs = [said, *panel.outputs]
    go.click(start, inputs, outputs, queue=False, **QUIET)
    panel.stop.click(lambda *values: act(stop_job, *values), inputs, outputs, queue=False, **QUIET)
    panel.resume.click(lambda *values: act(resume_job, *values), inputs, outputs, queue=False, **QUIET)
    panel.chosen.input(look, inputs, panel.outputs, queue=False, **QUIET)


def start_attack(studio: Studio, form: AttackForm, project_id: str, asked: Sequence[Any]) -> Job:
    """Queue an attack. Raises FormError with words for the page; on a public demo always."""
    if studio.settings.public_demo:
        raise FormError(PUBLIC)
    config = form.read(studio.store, asked)
    known = {key for _, key in victim_options(studio.view(project_id))[0]}
    if unknown := [key for key in config.victims if key not in known]:
        raise FormError(f"There is no model {unknown[0]!r} in this project any more. Choose the models again.")
    try:
        job = jobs.submit(studio.store, studio.settings, "attack", project_id, config.model_dump())
    except JobError as error:
        raise FormError(str(error)) from error
    studio.runner.tick()
    return job
