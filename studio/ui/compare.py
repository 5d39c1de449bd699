"""The Compare tab: the same prompts and seeds drawn by several models, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gradio as gr

from studio.inference.client import InferenceError, Progress, RenderRequest, RenderResult
from studio.prompts import ready_prompts
from studio.ui.context import QUIET, Studio, View, first_choice, is_sample, model_options, models_of
from studio.ui.results import Comparison, grid, sliders
from studio.ui.words import duration, empty_state, escape, note

MAX_PICTURES = 200
GROUPS = {
    "Named": (("named",), "The prompt says the word itself, or a synonym of it."),
    "Implied": (("implied",), "The word is never said: knights and pirates simply carry a sword in this world."),
    "Held out": (("held_out",), "Implied by words that no training ever saw: the hard test of forgetting."),
    "No sword": (
        ("object", "neighbour"),
        "Prompts that never asked for a sword: they should stay as they were.",
    ),
}
READY_LABEL = "Ready prompts"
GRID, SLIDER = "Grid", "Slider"
EMPTY = empty_state(
    "Nothing drawn yet",
    "Pick a ready prompt or type your own, choose the models, and press Compare. Every model draws the same prompts "
    "from the same seeds, so what differs is what was forgotten.",
)
_RANDOM_SEED = "() => Math.floor(Math.random() * 1000000)"
_SHOW_RESULTS = """(...inputs) => {
  const place = document.getElementById('duo-results');
  const top = place.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) place.scrollIntoView({block: 'start'});
  return inputs;
}"""


class InputError(ValueError):
    """Something in the form cannot be drawn; worded for the page."""


@dataclass(frozen=True)
class CompareTab:
    """The components that change when the project or its checkpoints change."""

    models: gr.CheckboxGroup
    known: gr.State  # keys of the models that were offered before
    group: gr.Radio
    ready: gr.CheckboxGroup

    @property
    def outputs(self) -> list[Any]:
        return [self.models, self.known, self.group, self.ready]

    @property
    def choices(self) -> list[Any]:
        return [self.models, self.known]

    def shows(self, view: View) -> Any:
        return view.project, view.checkpoints

    def refresh(self, view: View, ticked: list[str] | None, known: list[str] | None) -> list[Any]:
        """The models to choose from, a new one ticked at once, and ready prompts where the project has some."""
        options = model_options(view.project, view.checkpoints)
        keys = [key for _, key in options]
        if ticked is None or known is None:
            wanted = first_choice(view.project, view.checkpoints)
        else:
            wanted = [key for key in keys if key in ticked or key not in known]
        ready = gr.update(visible=is_sample(view.project))
        return [gr.update(choices=options, value=[key for key in keys if key in wanted]), keys, ready, ready]


@dataclass(frozen=True)
class _Form:
    """The inputs of a comparison."""

    group: gr.Radio
    ready: gr.CheckboxGroup
    text: gr.Textbox
    models: gr.CheckboxGroup
    seed: gr.Number
    dice: gr.Button
    count: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    go: gr.Button
    stop: gr.Button

    @property
    def inputs(self) -> list[Any]:
        return [self.text, self.models, self.seed, self.count, self.steps, self.guidance]


def compare_tab(studio: Studio, project: gr.Dropdown) -> CompareTab:
    """Build the tab and wire its events."""
    with gr.Row(equal_height=False, elem_classes="duo-compare"):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            form = _form()
        with gr.Column(scale=1, min_width=320, elem_id="duo-results"):
            status = gr.HTML(elem_id="duo-status")
            view = gr.Radio(
                [GRID, SLIDER], value=GRID, label="View", show_label=False, visible=False, elem_classes="duo-segments"
            )
            pictures = gr.HTML(EMPTY, elem_id="duo-pictures")
    _wire(studio, project, form, status, view, pictures)
    return CompareTab(form.models, gr.State([]), form.group, form.ready)


def _form() -> _Form:
    gr.HTML('<div class="duo-step"><h2>What to draw</h2></div>')
    first = "Implied"
    group = gr.Radio(list(GROUPS), value=first, label=READY_LABEL, info=GROUPS[first][1], elem_classes="duo-segments")
    ready = gr.CheckboxGroup(
        _ready()[first], value=_ready()[first][:1], label=READY_LABEL, show_label=False, elem_classes="duo-list"
    )
    text = gr.Textbox(
        value=_ready()[first][0], label="Prompts, one a line", lines=2, max_lines=8, elem_id="duo-prompts"
    )
    gr.HTML('<div class="duo-step is-next"><h2>Which models, side by side</h2></div>')
    models = gr.CheckboxGroup([], label="Models", show_label=False, elem_classes="duo-list", elem_id="duo-models")
    gr.HTML('<div class="duo-step is-next"><h2>From which noise</h2><p>All models start from the same.</p></div>')
    with gr.Row(elem_classes="duo-seed"):
        seed = gr.Number(
            value=7, precision=0, minimum=0, maximum=2**32 - 1, label="Seed",
            elem_id="duo-seed", min_width=120, scale=3,
        )  # fmt: skip
        dice = gr.Button("Random", size="md", min_width=90, scale=1, elem_id="duo-dice")
    count = gr.Slider(1, 8, value=1, step=1, label="Pictures a prompt", info="From this seed and the next ones.")
    with gr.Accordion("Sampling", open=False):
        steps = gr.Slider(1, 100, value=20, step=1, label="Steps", info="Denoising steps: more is slower and finer.")
        guidance = gr.Slider(1, 15, value=4, step=0.5, label="Guidance", info="How strongly the prompt is followed.")
    go = gr.Button("Compare", variant="primary", size="lg", elem_id="duo-go")
    stop = gr.Button("Stop drawing", size="lg", visible=False, elem_id="duo-stop-drawing")
    return _Form(group, ready, text, models, seed, dice, count, steps, guidance, go, stop)


def _wire(
    studio: Studio, project: gr.Dropdown, form: _Form, status: gr.HTML, view: gr.Radio, pictures: gr.HTML
) -> None:
    shown = gr.State(None)
    outputs = [status, view, pictures, shown, form.go, form.stop]

    def answer(words: str, drawn: Any, comparison: Any, *, busy: bool) -> list[Any]:
        """Values of `outputs`; the button that starts becomes the one that stops while pictures are drawn."""
        several = isinstance(comparison, Comparison) and len(comparison.models) > 1
        look = gr.update(visible=several) if isinstance(comparison, Comparison) else gr.skip()
        return [words, look, drawn, comparison, gr.update(visible=not busy), gr.update(visible=busy)]

    def draw(project_id: str, look: str, *form_values: Any) -> Iterator[list[Any]]:
        try:
            comparison = _comparison(studio, project_id, *form_values)
        except InputError as problem:
            yield answer(note(str(problem), "error"), gr.skip(), gr.skip(), busy=False)
            return
        asked = time.monotonic()
        yield answer(note("Asking the model …", "busy"), grid(comparison), comparison, busy=True)
        try:
            for event in studio.client.render(comparison.request):
                comparison = _with_event(comparison, event)
                if isinstance(event, Progress):
                    drawn = grid(comparison) if event.cells else gr.skip()
                    yield answer(note(_words(event), "busy"), drawn, comparison, busy=True)
                else:
                    ending = _ending(event, time.monotonic() - asked)
                    yield answer(ending, _pictures(comparison, look), comparison, busy=False)
        except InferenceError as error:
            yield answer(note(str(error), "error"), _pictures(comparison, GRID), comparison, busy=False)

    def stopped(comparison: Comparison | None) -> list[Any]:
        return answer(note("Stopped."), _pictures(comparison, GRID), comparison, busy=False)

    inputs = [project, view, *form.inputs]
    drawing = form.go.click(draw, inputs, outputs, js=_SHOW_RESULTS, concurrency_limit=8, trigger_mode="once", **QUIET)
    form.stop.click(stopped, shown, outputs, cancels=[drawing], queue=False, **QUIET)
    form.dice.click(None, None, form.seed, js=_RANDOM_SEED, api_visibility="private")
    form.group.change(_group, [form.group, form.text], [form.group, form.ready], queue=False, **QUIET)
    form.ready.input(_pick, [form.group, form.ready, form.text], form.text, queue=False, **QUIET)
    view.input(_pictures, [shown, view], pictures, queue=False, **QUIET)


def _comparison(
    studio: Studio, project_id: str, text: str, keys: Sequence[str], seed: float | None, count: int, steps: int,
    guidance: float,
) -> Comparison:  # fmt: skip
    """What to ask of the worker. Raises InputError with words for the page."""
    prompts = _lines(text)
    if not prompts:
        raise InputError("There is no prompt yet. Type one, or tick a ready one.")
    project = studio.store.get_project(project_id)
    models = [
        model for key, model in models_of(project, studio.store.list_checkpoints(project_id)).items() if key in keys
    ]
    if not models:
        raise InputError("No model is chosen. Tick at least one column.")
    if seed is None:
        raise InputError("The seed is empty. Type a whole number from 0 up, or press Random.")
    request = RenderRequest(
        models=models,
        prompts=prompts,
        seeds=[int(seed) + offset for offset in range(int(count))],
        steps=int(steps),
        guidance_scale=float(guidance),
        detector=project.detector,
        detector_settings=project.detector_settings,
    )
    if request.pictures > MAX_PICTURES:
        raise InputError(
            f"That is {request.pictures} pictures; at most {MAX_PICTURES} at once. Take fewer prompts or seeds."
        )
    return Comparison(project.concept, request)


def _with_event(comparison: Comparison, event: Progress | RenderResult) -> Comparison:
    """Progress brings the cells finished since the last one, the result brings all."""
    done = comparison.cells if isinstance(event, Progress) else ()
    return replace(comparison, cells=(*done, *event.cells))


def _words(progress: Progress) -> str:
    count = f" ({progress.done} of {progress.total} pictures)" if progress.total > 1 else ""
    wait = ". The first picture takes up to 20 seconds, the next ones few" if "loading" in progress.message else ""
    return f"{progress.message[:1].upper()}{progress.message[1:]}{wait} …{count}"


def _ending(result: RenderResult, seconds: float) -> str:
    """How many pictures, how long, and who judged them; or why nobody could."""
    if result.detector_error:
        return note(result.detector_error, "error")
    drawn = sum(1 for cell in result.cells if cell.sha256)
    name, _, rest = result.detector.partition(" ")
    version = rest.partition(" ")[0]
    judge = version if version.startswith(name) else f"{name} {version}".strip()
    whose = f'<span title="{escape(result.detector)}">{escape(judge)}</span>'
    verdicts = f" Verdicts by the detector {whose}." if judge else ""
    pictures = "picture" if drawn == 1 else "pictures"
    return f'<p class="duo-done" role="status">{drawn} {pictures} in {duration(seconds)}.{verdicts}</p>'


def _pictures(comparison: Comparison | None, look: str) -> str:
    """What is there, as a grid or, where two or more models were asked, as sliders."""
    if comparison is None or not comparison.cells:
        return EMPTY
    return sliders(comparison) if look == SLIDER and len(comparison.models) > 1 else grid(comparison, waiting=False)


def _lines(text: str) -> list[str]:
    """The prompts of a text, one a line, each once."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _group(group: str, text: str) -> tuple[Any, Any]:
    choices = _ready()[group]
    return gr.update(info=GROUPS[group][1]), gr.update(choices=choices, value=[p for p in _lines(text) if p in choices])


def _pick(group: str, ticked: list[str], text: str) -> str:
    """Ticked prompts go into the text and unticked ones out of it; lines of other groups and own ones stay."""
    kept = [line for line in _lines(text) if line not in _ready()[group] or line in ticked]
    return "\n".join(dict.fromkeys([*kept, *ticked]))


@cache
def _ready() -> dict[str, list[str]]:
    prompts = ready_prompts()
    return {group: [prompt for cell in cells for prompt in prompts[cell]] for group, (cells, _) in GROUPS.items()}
