"""The panel "Sum adapters" of the Train tab: trained models of one checkpoint, each with its weight, as one more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import jobs
from studio.records import Checkpoint, Job
from studio.ui.activity import failure, waiting
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import FormError
from studio.ui.words import escape, note, short_hash

MOST, FIRST = 8, 2  # adapters of a sum, and rows that are there at first
NOTHING = ""
_ABOUT = """<p class="duo-quiet">One model that forgets what several were trained to forget: their changes are added,
each times its weight. Models of other projects about the same checkpoint can join.</p>"""


@dataclass(frozen=True)
class SumPanel:
    """The components, and what follows the rows."""

    studio: Studio
    box: gr.Accordion
    models: list[gr.Dropdown]
    weights: list[gr.Textbox]
    state: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.box, *self.models, self.state]

    @property
    def choices(self) -> list[Any]:
        return self.models

    def shows(self, view: View) -> Any:
        job = view.last_job("compose")
        return view.project.id, self.candidates(view), job, job and waiting(self.studio.store, view).get(job.id)

    def refresh(self, view: View, *chosen: str | None) -> list[Any]:
        """New lists; a choice stays while its model is there."""
        options = [("none", NOTHING), *model_options(view, self.candidates(view))]
        keys = {key for _, key in options}
        lists = [gr.update(choices=options, value=key if key in keys else NOTHING) for key in chosen]
        job = view.last_job("compose")
        waits = waiting(self.studio.store, view).get(job.id, "") if job else ""
        return [gr.update(visible=len(options) > 2), *lists, _state(view, job, waits)]

    def candidates(self, view: View) -> list[Checkpoint]:
        """The project's models, then those of other projects about the same checkpoint."""
        alike = {project.id for project in view.projects if project.checkpoint == view.project.checkpoint}
        others = [one for one in self.studio.store.list_checkpoints() if one.project_id in alike - {view.project.id}]
        return [*view.checkpoints, *others]


def sum_panel(studio: Studio, project: gr.Dropdown) -> SumPanel:
    """Build the panel and wire its events."""
    models, weights, rows = [], [], []
    with gr.Accordion("Sum adapters", open=False, visible=False, elem_id="duo-sum") as box:
        gr.HTML(_ABOUT)
        for number in range(1, MOST + 1):
            with gr.Row(visible=number <= FIRST, elem_classes="duo-sum-row") as row:
                models.append(gr.Dropdown([("none", NOTHING)], value=NOTHING, label=f"Model {number}", scale=3))
                weights.append(gr.Textbox("1", label=f"Weight {number}", max_lines=1, scale=1, min_width=90))
            rows.append(row)
        with gr.Row(elem_classes="duo-actions"):
            more = gr.Button("One more", size="md", elem_id="duo-sum-more")
            shown = gr.State(FIRST)
        name = gr.Textbox(label="Name", placeholder="the names of its parts", max_lines=1, elem_id="duo-sum-name")
        go = gr.Button("Sum", variant="primary", size="md", elem_id="duo-sum-go")
        said = gr.HTML()
        state = gr.HTML(elem_id="duo-sum-state")
    panel = SumPanel(studio, box, models, weights, state)

    def add(count: int) -> list[Any]:
        count = min(count + 1, MOST)
        return [count, gr.update(visible=count < MOST), *(gr.update(visible=n < count) for n in range(MOST))]

    def start(project_id: str, name: str, *values: Any) -> list[Any]:
        try:
            start_sum(studio, panel, project_id, name, values[:MOST], values[MOST:])
        except FormError as error:
            return [note(str(error), "error"), *[gr.skip()] * len(panel.outputs)]
        return ["", *panel.refresh(studio.view(project_id), *values[:MOST])]

    more.click(add, shown, [shown, more, *rows], queue=False, **QUIET)
    go.click(start, [project, name, *models, *weights], [said, *panel.outputs], queue=False, **QUIET)
    return panel


def start_sum(
    studio: Studio, panel: SumPanel, project_id: str, name: str, models: Sequence[str], weights: Sequence[str]
) -> Job:
    """Queue the sum of the chosen models. Raises FormError with words for the page."""
    known = {one.id: one.name for one in panel.candidates(studio.view(project_id))}
    chosen = [(key, text) for key, text in zip(models, weights, strict=True) if key in known]
    if len(chosen) < 2:
        raise FormError(f"{len(chosen) or 'No'} model{'' if len(chosen) == 1 else 's'} chosen. Choose at least two.")
    keys = [key for key, _ in chosen]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise FormError(f"{known[twice]} is chosen twice. Choose it once, with the sum of both weights.")
    parts = [{"checkpoint_id": key, "weight": _weight(known[key], text)} for key, text in chosen]
    config = {"parts": parts, "name": name.strip()}
    job = jobs.submit(studio.store, studio.settings, "compose", project_id, config)
    studio.runner.tick()
    return job


def model_options(view: View, candidates: Sequence[Checkpoint]) -> list[tuple[str, str]]:
    """(text, id) of each model; one of another project is named with it."""
    names = {project.id: project.name for project in view.projects}
    return [
        (f"{'' if one.project_id == view.project.id else names[one.project_id] + ': '}{one.name} · "
         f"{short_hash(one.sha256)}", one.id)
        for one in candidates
    ]  # fmt: skip


def _weight(name: str, text: str) -> float:
    try:
        weight = float((text or "").strip())
    except ValueError:
        weight = math.nan
    if weight == 0 or not math.isfinite(weight):
        raise FormError(f"The weight of {name} is {text or 'empty'}; it must be a number other than 0.")
    return weight


def _state(view: View, job: Job | None, waits: str) -> str:
    """How the last sum stands."""
    if job is None or job.state == "stopped":
        return ""
    if job.state == "failed":
        return failure(job)
    if job.state != "done":
        return note(waits or "Summing …", "busy")
    made = next((one for one in view.checkpoints if one.id == job.result.get("checkpoint_id")), None)
    if made is None:
        return ""
    what = f"<b>{escape(made.name)}</b> · <code>{short_hash(made.sha256)}</code> is the newest sum."
    return (
        f'<div class="duo-note duo-note-info" role="status"><span>{what} '
        '<a href="#" data-open-tab="Compare">See it in Compare</a></span></div>'
    )
