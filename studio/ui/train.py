"""The Train tab: start a training with every setting in sight, and watch it, or an earlier one, as the rows tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import jobs
from studio.records import ELSEWHERE
from studio.ui.activity import RESUMABLE, STOPPABLE, resume_job, stop_job, waiting
from studio.ui.context import QUIET, Studio, View
from studio.ui.train_form import TrainForm, about_method, first_preset, ground, train_form
from studio.ui.train_room import METHOD, wire_room
from studio.ui.train_start import start_training, suggested
from studio.ui.train_where import wire_where
from studio.ui.training_view import charts, head, log_text, sample_rows
from studio.ui.trainings import Curves, Training, trainings_of
from studio.ui.words import STATE_WORDS, ago, empty_state

EMPTY = empty_state(
    "No training yet",
    "Choose a method and a preset and press Train. It runs in the background; the log appears here, and "
    "of methods that train in steps charts and sample pictures. All are still here when you come back.",
)
_SHOW_TRAINING = """() => setTimeout(() => {
  if (document.querySelector('#duo-train-error .duo-note')) return;
  const training = document.getElementById('duo-training');
  const {top} = training.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) training.scrollIntoView({block: 'start'});
}, 100)"""  # on a phone it comes below the form; elsewhere it begins above what is in sight of a long form
Seen = dict[str, Any]  # what this visitor's page shows already: fingerprints of its parts


@dataclass(frozen=True)
class TrainTab:
    """The components that change when rows change."""

    studio: Studio
    curves: Curves
    form: TrainForm
    chosen: gr.Dropdown
    seen: gr.State
    head: gr.HTML
    actions: gr.Row
    stop: gr.Button
    resume: gr.Button
    charts: gr.HTML
    samples: gr.HTML
    log_box: gr.Accordion
    log: gr.HTML
    said: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.form.ground, self.chosen, self.seen, self.head, self.actions, self.stop, self.resume, self.charts,
                self.samples, self.log_box, self.log, self.said]  # fmt: skip

    @property
    def choices(self) -> list[Any]:
        return [self.chosen, self.form.method, self.seen]

    def shows(self, view: View) -> Any:
        trainings = trainings_of(view.jobs)
        return view.project, view.pairs, view.checkpoints, trainings, waiting(self.studio.store, view)

    def refresh(self, view: View, chosen: str | None, method: str | None, seen: Seen | None) -> list[Any]:
        """What changed of the training in front: the newest until the visitor chooses another one."""
        before = seen if seen is not None and seen.get("project") == view.project.id else {}
        trainings = {training.key: training for training in trainings_of(view.jobs)}
        newest = next(reversed(trainings), None)
        key = chosen if before and chosen in trainings and chosen != before.get("newest") else newest
        parts = _Parts(before, {"project": view.project.id, "newest": newest})
        above = parts.take("ground", (view.pairs, method), lambda: ground(view.pairs, method or self.form.method.value))
        options = [(option_text(training), training.key) for training in reversed(trainings.values())]
        moved: dict[str, Any] = {} if key == chosen and before else {"value": key}
        list_update = parts.take(
            "list", (options, key), lambda: gr.update(choices=options, visible=len(options) > 1, **moved)
        )
        shown = self._training(parts, view, trainings[key]) if key is not None else self._nothing(parts)
        said = gr.skip() if before else ""
        return [above, list_update, parts.now, *shown, said]

    def _training(self, parts: _Parts, view: View, training: Training) -> list[Any]:
        store, job = self.studio.store, training.job
        waits = waiting(store, view).get(job.id, "")
        checkpoint = training.checkpoint(view.checkpoints)
        state, stage = training.state, training.stage
        live = state == job.state  # a finished stage is not stopped or resumed
        steps = store.sampled_steps(job.id, stage)
        series = self.curves.of(training)
        counted = {name: len(points) for name, points in series.items()}
        text = jobs.log_tail(self.studio.settings, job.id)
        blur, concept = view.project.blur, view.project.concept
        return [
            parts.take("head", (training, waits, checkpoint), lambda: head(training, waits, checkpoint)),
            *parts.take_all(
                "buttons",
                (training.key, state, live),
                lambda: [
                    gr.update(visible=True),
                    gr.update(visible=live and state in STOPPABLE),
                    gr.update(visible=live and state in RESUMABLE),
                ],
                3,
            ),
            parts.take("charts", (training.key, job.started, state, counted), lambda: charts(series, training)),
            parts.take(
                "samples",
                (training.key, job.started, steps, blur),
                lambda: sample_rows(store.list_samples(job.id, stage), concept, blur, training.total),
            ),
            parts.take("box", True, lambda: gr.update(visible=True)),
            parts.take("log", (job.id, text), lambda: log_text(text)),
        ]

    def _nothing(self, parts: _Parts) -> list[Any]:
        hidden = gr.update(visible=False)
        return parts.take_all("nothing", None, lambda: [EMPTY, hidden, hidden, hidden, "", "", hidden, ""], 8)


class _Parts:
    """Parts of the tab by name: one whose fingerprint is as it was is neither made nor sent again."""

    def __init__(self, before: Seen, now: Seen) -> None:
        self.before, self.now = before, now

    def take(self, name: str, fingerprint: Any, make: Callable[[], Any]) -> Any:
        return self.take_all(name, fingerprint, lambda: [make()], 1)[0]

    def take_all(self, name: str, fingerprint: Any, make: Callable[[], list[Any]], count: int) -> list[Any]:
        self.now[name] = fingerprint
        if name in self.before and self.before[name] == fingerprint:
            return [gr.skip()] * count
        return make()


def option_text(training: Training) -> str:
    """A training in the list: its name, state and age."""
    return f"{training.title} ({STATE_WORDS[training.state]}, {ago(training.job.created)})"


def train_tab(studio: Studio, project: gr.Dropdown) -> TrainTab:
    """Build the tab and wire its events."""
    with gr.Row(equal_height=False, elem_classes="duo-compare duo-train"):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            form = train_form(studio)
        with gr.Column(scale=1, min_width=320, elem_id="duo-training"):
            chosen = gr.Dropdown(label="Training", choices=[], visible=False, filterable=False, elem_id="duo-trainings")
            front = gr.HTML(EMPTY)
            with gr.Row(visible=False, elem_classes="duo-actions") as actions:
                stop = gr.Button("Stop", size="md", visible=False, elem_id="duo-train-stop")
                resume = gr.Button("Resume", size="md", variant="primary", visible=False, elem_id="duo-train-resume")
                clone = gr.Button("Use these settings", size="md", elem_id="duo-train-clone")
            said = gr.HTML()
            plots = gr.HTML()
            samples = gr.HTML()
            with gr.Accordion("Log", open=False, visible=False, elem_id="duo-train-log") as log_box:
                log = gr.HTML()
    tab = TrainTab(studio, Curves(studio.store), form, chosen, gr.State(None), front, actions, stop, resume, plots,
                   samples, log_box, log, said)  # fmt: skip
    _wire_form(tab, project)
    _wire_training(tab, project, clone)
    return tab


def _wire_form(tab: TrainTab, project: gr.Dropdown) -> None:
    studio, form = tab.studio, tab.form

    def choose_method(project_id: str, method: str, where: str | None) -> list[Any]:
        view = studio.view(project_id)
        shown = [gr.update(visible=key == method) for key in form.parts]
        return [
            ground(view.pairs, method),
            about_method(method),
            gr.update(placeholder=suggested(view, method)),
            *choose_where(method, where),
            *shown,
        ]

    def choose_where(method: str, where: str | None) -> list[Any]:
        """The estimate is of this machine's memory and time."""
        here = where not in ELSEWHERE
        return [gr.update(visible=method == METHOD and here), gr.update(visible=here)]

    def start(
        project_id: str, processes: Any, anyway: bool, where: str, flavor: Any, minutes: Any, method: str, name: str,
        *values: Any,
    ) -> list[Any]:  # fmt: skip
        view, asked = studio.view(project_id), form.where.asked(where, flavor, minutes)
        said, key = start_training(
            studio, view, form, method, name, values, processes=processes, anyway=anyway, where=asked
        )
        if key is None:  # the line beside the button would say the same once more
            return [said, "", *[gr.skip()] * len(tab.outputs)]
        own = form.parts[method].form, form.values_of(method, values)
        brief = form.room.of(method, project_id, processes, *own)[3]
        return ["", brief, *tab.refresh(studio.view(project_id), None, method, None)]

    def fill(project_id: str | None, *presets: str) -> list[Any]:
        """Another project: its presets. What stands there already, and was perhaps typed over, is left alone."""
        filled: list[Any] = [gr.skip()] * 2
        for part, preset in zip(form.parts.values(), presets, strict=True):
            wanted = first_preset(studio.store.get_project(project_id), part.method) if project_id else preset
            filled += part.fill_preset(wanted) if preset != wanted else [gr.skip()] * len(part.filled)
        return filled

    groups = [part.group for part in form.parts.values()]
    outputs = [form.ground, form.about, form.name, form.room.box, form.room.brief, *groups]
    form.method.change(choose_method, [project, form.method, form.where.choice], outputs, queue=False, **QUIET)
    rooms = [form.room.box, form.room.brief]
    form.where.choice.change(choose_where, [form.method, form.where.choice], rooms, queue=False, **QUIET)
    wire_where(form.where)
    for part in form.parts.values():
        part.preset.input(part.fill_preset, part.preset, part.filled, queue=False, **QUIET)
    forms = {name: part.form for name, part in form.parts.items()}
    wire_room(form.room, project, form.method, forms, form.values_of)
    asked = [project, form.room.processes, form.room.anyway, *form.where.inputs, *form.inputs]
    started = form.go.click(start, asked, [form.room.error, form.room.brief, *tab.outputs], queue=False, **QUIET)
    started.then(None, None, None, js=_SHOW_TRAINING)
    presets = [part.preset for part in form.parts.values()]
    project.change(fill, [project, *presets], form.filled, queue=False, **QUIET)


def _wire_training(tab: TrainTab, project: gr.Dropdown, clone: gr.Button) -> None:
    studio, form = tab.studio, tab.form

    def choose(project_id: str, key: str, method: str, seen: Seen | None) -> list[Any]:
        """The list's newest one is followed again when it is chosen."""
        view = studio.view(project_id)
        kept = {name: (seen or {}).get(name) for name in ("project", "newest")}
        return tab.refresh(view, key, method, kept if seen else None)

    def act(
        work: Callable[[Studio, str | None], str], project_id: str, key: str, method: str, seen: Seen | None
    ) -> list[Any]:
        training = find_training(studio.view(project_id), key)
        said = work(studio, training.job.id) if training else ""
        return [*tab.refresh(studio.view(project_id), key, method, seen)[:-1], said]

    def copy(project_id: str, key: str) -> list[Any]:
        view = studio.view(project_id)
        training = find_training(view, key)
        if training is None or training.method not in form.parts:
            return [gr.skip()] * len(form.filled)
        filled = [gr.update(value=training.method), gr.update(value=suggested(view, training.method, training.name))]
        for part in form.parts.values():
            same = part.method == training.method
            filled += part.fill_config(training.config, training.title) if same else [gr.skip()] * len(part.filled)
        return filled

    inputs = [project, *tab.choices[:1], form.method, tab.seen]
    tab.chosen.input(choose, inputs, tab.outputs, queue=False, **QUIET)
    tab.stop.click(partial(act, stop_job), inputs, tab.outputs, queue=False, **QUIET)
    tab.resume.click(partial(act, resume_job), inputs, tab.outputs, queue=False, **QUIET)
    clone.click(copy, [project, tab.chosen], form.filled, queue=False, **QUIET).then(
        None, None, None, js="() => document.getElementById('duo-method').scrollIntoView({block: 'center'})"
    )


def find_training(view: View, key: str | None) -> Training | None:
    return next((training for training in trainings_of(view.jobs) if training.key == key), None)
