"""Compare's results area: what is shown of a comparison while it is drawn and after, and how it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.durations import duration
from studio.inference.client import InferenceError, Progress, RenderResult
from studio.ui.context import Studio
from studio.ui.difference import differences
from studio.ui.results import Comparison, grid, sliders
from studio.ui.sheet import sheet_form
from studio.ui.words import empty_state, escape, note

GRID, SLIDER, DIFFERENCE = "Grid", "Slider", "Difference"
UNREAD_SHOWN = 80  # characters of what was not read
VIEWS = (GRID, SLIDER, DIFFERENCE)
EMPTY = empty_state(
    "Nothing drawn yet",
    "Pick a ready prompt or type your own, choose the models, and press Compare. Every model draws the same prompts "
    "from the same seeds, so what differs is what was forgotten.",
)


@dataclass(frozen=True)
class Results:
    """The components of the results area."""

    go: gr.Button
    stop: gr.Button
    view: gr.Radio
    left: gr.Dropdown
    right: gr.Dropdown
    status: gr.HTML
    pictures: gr.HTML
    tools: gr.HTML
    shown: gr.State  # the Comparison on the page

    @property
    def looks(self) -> list[Any]:
        """How pictures are looked at."""
        return [self.view, self.left, self.right]

    @property
    def drawn(self) -> list[Any]:
        """What a comparison leaves on the page."""
        return [self.status, self.pictures, self.tools, self.shown]


def results_area() -> Results:
    with gr.Row(elem_id="duo-compare-bar"):
        go = gr.Button("Compare", variant="primary", size="lg", min_width=150, scale=0, elem_id="duo-go")
        stop = gr.Button("Stop drawing", size="lg", min_width=150, scale=0, visible=False, elem_id="duo-stop-drawing")
        view = gr.Radio(
            list(VIEWS), value=GRID, label="View", show_label=False, visible=False, min_width=240,
            elem_classes="duo-segments", elem_id="duo-view",
        )  # fmt: skip
        sides = [
            gr.Dropdown([], label=label, visible=False, min_width=130, elem_classes="duo-side", elem_id=f"duo-{where}")
            for label, where in (("Left", "left"), ("Right", "right"))
        ]
    status = gr.HTML(elem_id="duo-status")
    pictures = gr.HTML(EMPTY, elem_id="duo-pictures")
    tools = gr.HTML(elem_id="duo-tools")
    return Results(go, stop, view, sides[0], sides[1], status, pictures, tools, gr.State(None))


def pictures_of(studio: Studio, comparison: Comparison | None, look: str, left: int = 0, right: int = 1) -> str:
    """What is there, as a grid or, where two or more models were asked, as sliders or differences of two of them."""
    if comparison is None or not comparison.cells:
        return EMPTY
    if look == GRID or len(comparison.models) < 2:
        return grid(comparison, waiting=False)
    if look == SLIDER:
        return sliders(comparison, left, right)
    return differences(comparison, studio.settings, left, right)


def words_of(progress: Progress) -> str:
    count = f" ({progress.done} of {progress.total} pictures)" if progress.total > 1 else ""
    wait = ". The first picture takes up to 20 seconds, the next ones few" if "loading" in progress.message else ""
    return f"{progress.message[:1].upper()}{progress.message[1:]}{wait} …{count}"


def unread(studio: Studio, comparison: Comparison) -> str:
    """Which words no model has read: a verdict without the concept says nothing of them. "" where all were read."""
    request = comparison.request
    try:
        rests = studio.client.cut_off(request.models[0].checkpoint_ref, request.prompts)
    except InferenceError:  # it has just drawn; what is wrong now is told with the next comparison
        return ""
    cut = [rest for rest in rests if rest]
    if not cut:
        return ""
    which = "This prompt is" if len(rests) == 1 else f"{len(cut)} of the {len(rests)} prompts are"
    shown = f"… {cut[0][-UNREAD_SHOWN:]}" if len(cut[0]) > UNREAD_SHOWN else cut[0]
    return note(f"{which} too long for the text encoder, which did not read “{shown}”. The verdicts say nothing of it.")


def ending(result: RenderResult, seconds: float) -> str:
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


def done(
    studio: Studio, results: Results, comparison: Comparison | None, look: str, sides: list[Any]
) -> dict[Any, Any]:
    """Updates at the end of a drawing, however it ended."""
    several = comparison is not None and len(comparison.models) > 1
    return {
        **busy(results, False),
        results.pictures: pictures_of(studio, comparison, look, *pair_of(sides)),
        results.tools: _tools(comparison) if comparison else "",
        results.shown: comparison,
        results.view: gr.update(value=look, visible=several, interactive=True),
        results.left: sides[0],
        results.right: sides[1],
    }


def busy(results: Results, drawing: bool) -> dict[Any, Any]:
    """While pictures are drawn, the button that starts is the one that stops, and views wait: the end shows one."""
    return {
        results.go: gr.update(visible=not drawing),
        results.stop: gr.update(visible=drawing),
        results.view: gr.update(interactive=not drawing),
    }


def _tools(comparison: Comparison) -> str:
    copy = '<button type="button" data-copy-link="">Copy link</button><span role="status"></span>'
    return f'<div class="duo-links">{sheet_form(comparison)}{copy}</div>'


def sides_of(comparison: Comparison, look: str, left: Any, right: Any) -> list[Any]:
    """Updates of the lists that choose two of the models; shown where there is a choice."""
    labels = [model.label for model in comparison.models]
    return side_updates(labels, left, right, visible=look != GRID and len(labels) > 2)


def side_updates(labels: list[str], left: Any, right: Any, *, visible: bool) -> list[Any]:
    last = len(labels) - 1
    pair = [int(value) if value is not None and int(value) <= last else min(i, last) for i, value in
            enumerate((left, right))]  # fmt: skip
    choices = [(f"{number}. {label}", number - 1) for number, label in enumerate(labels, 1)]
    return [gr.update(choices=choices, value=value, visible=visible) for value in pair]


def pair_of(sides: list[Any]) -> list[int]:
    return [side.get("value", place) for place, side in enumerate(sides)]
