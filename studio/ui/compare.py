"""The Compare tab: the same prompts and seeds drawn by several models, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.routing import Route

from studio.hosting.roles import asker
from studio.inference.client import InferenceError, Progress
from studio.settings import Settings
from studio.store import Store
from studio.ui import break_it, compare_form
from studio.ui.break_it import BreakPanel, attempt_routes, attempts_of, break_panel, wire_breaks
from studio.ui.compare_area import (
    EMPTY,
    GRID,
    VIEWS,
    Results,
    busy,
    done,
    ending,
    pair_of,
    pictures_of,
    results_area,
    side_updates,
    sides_of,
    unread,
    words_of,
)
from studio.ui.compare_form import BREAK_IT, MODES, SIDE_BY_SIDE, Form, InputError, read_form
from studio.ui.context import QUIET, Studio, View, first_choice, is_sample, model_options
from studio.ui.difference import difference_routes
from studio.ui.links import Link, read_link
from studio.ui.results import Comparison, grid
from studio.ui.sheet import sheet_routes
from studio.ui.shelves import ShelfPanel, shelf_panel, shelf_routes, wire_shelves
from studio.ui.words import note

GO_WORDS = {SIDE_BY_SIDE: "Compare", BREAK_IT: "Try it"}
_RANDOM_SEED = "() => Math.floor(Math.random() * 1000000)"
_STARTED = "(...inputs) => window.duoStudio.compare.started(inputs)"
_LOOKED = "(...inputs) => window.duoStudio.compare.looked(inputs)"
_OPENED = "(id) => window.duoStudio.compare.opened(id)"


@dataclass(frozen=True)
class CompareTab:
    """The tab's components; those in `outputs` change with the project, its checkpoints, shelves and attempts."""

    studio: Studio
    form: Form
    known: gr.State  # the models that were offered before
    shelves: ShelfPanel
    breaks: BreakPanel
    results: Results

    @property
    def outputs(self) -> list[Any]:
        form = self.form
        own = [form.models, self.known, form.group, form.ready, form.text]
        return [*own, *self.shelves.outputs, *self.breaks.outputs, *self.results.drawn]

    @property
    def choices(self) -> list[Any]:
        return [self.form.models, self.known, self.shelves.shelf, self.breaks.hits]

    def shows(self, view: View) -> Any:
        store, key = self.studio.store, view.project.id
        return view.project, view.checkpoints, store.list_shelves(key), store.count_attempts(key)

    def refresh(
        self, view: View, ticked: list[str] | None, known: list[Any] | None, shelf: str | None, hits: list[str] | None
    ) -> list[Any]:
        """The models to choose from, a new one ticked at once, what is saved, and who drew the concept."""
        store, project = self.studio.store, view.project
        options = model_options(project, view.checkpoints)
        keys = [key for _, key in options]
        if ticked is None or known is None:
            models = gr.update(choices=options, value=first_choice(project, view.checkpoints))
            text: Any = _first_prompt(view)
            drawn: list[Any] = ["", EMPTY, "", None]  # another project's pictures go
        else:
            before = {key for _, key in known} or set(keys)  # a server that was started anew knows of none
            wanted = [key for key in ticked if key in keys] + [key for key in keys if key not in before]
            same = [tuple(option) for option in known] == options
            models = gr.skip() if same else gr.update(choices=options, value=wanted)
            text = gr.skip()
            drawn = [gr.skip()] * len(self.results.drawn)
        ready = gr.update(visible=is_sample(project))
        return [
            models, options, ready, ready, text,
            *self.shelves.refresh(store.list_shelves(project.id), shelf),
            *self.breaks.refresh(project.concept, store.list_attempts(project.id), hits),
            *drawn,
        ]  # fmt: skip

    @property
    def restored(self) -> list[Any]:
        """What `restore` fills when the page is opened."""
        form, results = self.form, self.results
        own = [form.mode, form.text, form.attempt, form.models, form.seed, form.count, form.steps, form.guidance]
        return [*own, *results.looks, results.status]

    def restore(self, project_id: str, request: gr.Request) -> list[Any]:
        """The comparison that the page's address asks for, in the form; it is drawn when the visitor wants it."""
        query = request.query_params
        view = self.studio.view(project_id)
        options = {key: text for text, key in model_options(view.project, view.checkpoints)}
        link = read_link(query, list(options), VIEWS)
        asked = query.get("project")
        if not asked or not link.says_something:
            return [gr.skip()] * len(self.restored)
        if asked != project_id:
            words = note("The project of this link is not in this studio, so nothing was filled in.", "error")
            return [*[gr.skip()] * (len(self.restored) - 1), words]
        return [*_linked(link), *_linked_looks(link, [options[key] for key in link.models]), _greeting(link, query)]


def compare_tab(studio: Studio, project: gr.Dropdown) -> CompareTab:
    """Build the tab and wire its events."""
    with gr.Row(equal_height=False, elem_classes="duo-compare"):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            mode = compare_form.mode_switch()
            with gr.Column(elem_classes="duo-plain") as prompts:
                group, ready, text = compare_form.prompt_fields()
                shelves = shelf_panel()
            attempt = compare_form.attempt_field()
            models = compare_form.model_fields()
            form = Form(mode, group, ready, text, attempt, models, *compare_form.noise_fields())
        with gr.Column(scale=1, min_width=320, elem_id="duo-results"):
            results = results_area()
            breaks = break_panel()
    tab = CompareTab(studio, form, gr.State([]), shelves, breaks, results)
    _wire_form(project, tab, prompts)
    _wire_drawing(project, tab)
    wire_shelves(studio, project, form, shelves)
    wire_breaks(studio, project, form, breaks)
    return tab


def compare_routes(settings: Settings, store: Store) -> list[Route]:
    """What the tab's pictures and downloads are fetched from."""
    pictures = [*difference_routes(settings, store), *sheet_routes(settings, store)]
    return [*pictures, *shelf_routes(store), *attempt_routes(store)]


def _wire_form(project: gr.Dropdown, tab: CompareTab, prompts: gr.Column) -> None:
    form, results, breaks = tab.form, tab.results, tab.breaks

    def switch(mode: str, comparison: Comparison | None) -> list[Any]:
        side = mode != BREAK_IT
        empty = EMPTY if side else break_it.EMPTY
        return [
            gr.update(info=MODES[mode]), gr.update(visible=side), gr.update(visible=not side),
            gr.update(visible=not side), gr.update(value=GO_WORDS[mode]), gr.skip() if comparison else empty,
        ]  # fmt: skip

    switched = [form.mode, prompts, form.attempt, breaks.box, results.go, results.pictures]
    form.mode.change(switch, [form.mode, results.shown], switched, queue=False, **QUIET)
    form.dice.click(None, None, form.seed, js=_RANDOM_SEED, api_visibility="private")
    outputs = [form.group, form.ready]
    form.group.change(compare_form.group_of, [form.group, form.text], outputs, queue=False, **QUIET)
    form.ready.input(compare_form.pick, [form.group, form.ready, form.text], form.text, queue=False, **QUIET)
    form.text.change(
        lambda *values: compare_form.group_of(*values)[1], [form.group, form.text], form.ready,
        queue=False, trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    project.change(None, project, None, js=_OPENED, api_visibility="private")


def _wire_drawing(project: gr.Dropdown, tab: CompareTab) -> None:
    studio, form, results, breaks = tab.studio, tab.form, tab.results, tab.breaks

    def draw(project_id: str, look: str, left: Any, right: Any, mode: str, *rest: Any) -> Iterator[dict[Any, Any]]:
        """Updates while pictures arrive; the button that starts becomes the one that stops meanwhile."""
        try:
            comparison = read_form(studio, project_id, mode, *rest)
        except InputError as problem:
            yield {results.status: note(str(problem), "error")}
            return
        asked = time.monotonic()
        sides = sides_of(comparison, look, left, right)
        yield {
            results.status: note("Asking the model …", "busy"), results.pictures: grid(comparison),
            results.tools: "", results.shown: comparison, **busy(results, True),
            results.left: sides[0], results.right: sides[1],
        }  # fmt: skip
        words = ""
        try:
            for event in studio.client.render(comparison.request):
                comparison = comparison.with_event(event)
                if isinstance(event, Progress):
                    drawn = grid(comparison) if event.cells else gr.skip()
                    status = note(words_of(event), "busy")
                    yield {results.status: status, results.pictures: drawn, results.shown: comparison}
                else:
                    words = ending(event, time.monotonic() - asked) + unread(studio, comparison)
        except InferenceError as error:
            look, words = GRID, note(str(error), "error")
        kept: dict[Any, Any] = {}
        if mode == BREAK_IT:
            kept = _keep(tab, project_id, comparison)
            words += "" if _keeps() else note("It is counted here once: attempts of visitors are not kept.")
            words += note("Without a verdict nothing is counted.", "error") if comparison.detector_error else ""
        yield {**done(studio, results, comparison, look, sides), results.status: words, **kept}

    def stopped(comparison: Comparison | None) -> dict[Any, Any]:
        sides = sides_of(comparison, GRID, 0, 1) if comparison else [gr.skip()] * 2
        return {**done(studio, results, comparison, GRID, sides), results.status: note("Stopped.")}

    def looked(comparison: Comparison | None, look: str, left: Any, right: Any) -> list[Any]:
        sides = sides_of(comparison, look, left, right) if comparison else [gr.skip()] * 2
        return [pictures_of(studio, comparison, look, *pair_of(sides)), *sides]

    area = [
        results.status, results.pictures, results.tools, results.shown, results.go, results.stop, *results.looks,
        *breaks.outputs,
    ]  # fmt: skip
    inputs = [project, *results.looks, *form.inputs]
    drawing = gr.on(
        [results.go.click, form.attempt.submit], draw, inputs, area, js=_STARTED, concurrency_limit=8,
        trigger_mode="once", **QUIET,
    )  # fmt: skip
    results.stop.click(stopped, results.shown, area, cancels=[drawing], queue=False, **QUIET)
    for changed in results.looks:
        outputs = [results.pictures, results.left, results.right]
        changed.input(looked, [results.shown, *results.looks], outputs, js=_LOOKED, queue=False, **QUIET)


def _keep(tab: CompareTab, project_id: str, comparison: Comparison) -> dict[Any, Any]:
    """Store the attempts that were judged; what the tally says then.

    Whoever may only look and draw sees their own in the tally, once: what is kept, everybody sees.
    """
    store, made = tab.studio.store, attempts_of(project_id, comparison)
    if _keeps():
        store.add_attempts(made)
        made = []
    shown = tab.breaks.refresh(comparison.concept, [*store.list_attempts(project_id), *made], None)
    return dict(zip(tab.breaks.outputs, shown, strict=True))


def _keeps() -> bool:
    viewer = asker.get()
    return viewer is None or viewer.may("reviewer")


def _first_prompt(view: View) -> str:
    """What the form begins with: a ready prompt of the sample, or the project's own first one."""
    if is_sample(view.project):
        return compare_form.ready_groups()[compare_form.FIRST_GROUP][0]
    return view.prompts[0].unsafe if view.prompts else ""


def _linked(link: Link) -> list[Any]:
    """The form's values; what the link leaves out stays as it is."""
    text, attempt = ("\n".join(link.prompts), gr.skip())
    if link.mode == BREAK_IT:
        text, attempt = gr.skip(), link.prompts[0]
    numbers = (link.seed, link.count, link.steps, link.guidance)
    return [
        gr.update(value=link.mode), text, attempt, list(link.models) or gr.skip(),
        *(gr.skip() if value is None else value for value in numbers),
    ]  # fmt: skip


def _linked_looks(link: Link, labels: list[str]) -> list[Any]:
    view = gr.update(value=link.view) if link.view else gr.skip()
    sides = side_updates(labels, link.left, link.right, visible=False) if labels else [gr.skip()] * 2
    return [view, *sides]


def _greeting(link: Link, query: Any) -> str:
    lost = len(set(query.getlist("model"))) - len(link.models)
    gone = f" {lost} of its models are no longer in this project." if lost else ""
    return note(f"Filled in from the link. Press {GO_WORDS[link.mode]} to draw it.{gone}")
