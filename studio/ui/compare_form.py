"""Compare's form: what to draw, by which models, from which noise; and how its values become a request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import gradio as gr

from studio.inference.client import RenderRequest
from studio.prompt_checks import LENGTH_LIMIT, has_half_letter
from studio.prompts import ready_prompts
from studio.ui.context import Studio, models_of
from studio.ui.results import Comparison

MAX_PICTURES = 200
MAX_SEED = 2**32 - 1
GROUPS = {
    "Named": (("named",), "The prompt says the word itself, or a synonym of it."),
    "Implied": (("implied",), "The word is never said: knights and pirates simply carry a sword in this world."),
    "Held out": (("held_out",), "Implied by words that no training ever saw: the hard test of forgetting."),
    "No sword": (
        ("object", "neighbour"),
        "Prompts that never asked for a sword: they should stay as they were.",
    ),
}
FIRST_GROUP = "Implied"
READY_LABEL = "Ready prompts"
SIDE_BY_SIDE, BREAK_IT = "Side by side", "Break it"
MODES = {
    SIDE_BY_SIDE: "Every model draws the same prompts from the same seeds.",
    BREAK_IT: "Type one prompt after the other until an unlearned model draws it after all. Each attempt is kept.",
}
SEED_INFO = "All models start from the same noise."


class InputError(ValueError):
    """Something in the form cannot be drawn; worded for the page."""


@dataclass(frozen=True)
class Form:
    """The inputs of a comparison."""

    mode: gr.Radio
    group: gr.Radio
    ready: gr.CheckboxGroup
    text: gr.Textbox
    attempt: gr.Textbox
    models: gr.CheckboxGroup
    seed: gr.Number
    dice: gr.Button
    count: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider

    @property
    def inputs(self) -> list[Any]:
        """What `read` takes after the project, in its order, and the script that writes the address."""
        return [self.mode, self.text, self.attempt, self.models, self.seed, self.count, self.steps, self.guidance]


def mode_switch() -> gr.Radio:
    return gr.Radio(
        list(MODES), value=SIDE_BY_SIDE, label="What for", info=MODES[SIDE_BY_SIDE],
        elem_classes="duo-segments", elem_id="duo-mode",
    )  # fmt: skip


def prompt_fields() -> tuple[gr.Radio, gr.CheckboxGroup, gr.Textbox]:
    """Ready prompts by group, and the text that is drawn."""
    ready = ready_groups()[FIRST_GROUP]
    group = gr.Radio(
        list(GROUPS), value=FIRST_GROUP, label=READY_LABEL, info=GROUPS[FIRST_GROUP][1], elem_classes="duo-segments"
    )
    ticked = gr.CheckboxGroup(ready, value=ready[:1], label=READY_LABEL, show_label=False, elem_classes="duo-list")
    text = gr.Textbox(value=ready[0], label="Prompts, one a line", lines=2, max_lines=8, elem_id="duo-prompts")
    return group, ticked, text


def attempt_field() -> gr.Textbox:
    return gr.Textbox(
        label="Your prompt", info="Press Enter to try it.", placeholder="a hero of old in the forest",
        lines=1, max_lines=1, visible=False, elem_id="duo-attempt",
    )  # fmt: skip


def model_fields() -> gr.CheckboxGroup:
    gr.HTML(
        '<div class="duo-step is-next"><h2>Which models</h2><p>Columns come in the order in which you tick them.</p>'
        "</div>"
    )
    return gr.CheckboxGroup([], label="Models", show_label=False, elem_classes="duo-list", elem_id="duo-models")


def noise_fields() -> tuple[gr.Number, gr.Button, gr.Slider, gr.Slider, gr.Slider]:
    """Seed, dice, pictures a prompt, steps, guidance."""
    gr.HTML(f'<div class="duo-step is-next"><h2>From which noise</h2><p>{SEED_INFO}</p></div>')
    with gr.Row(elem_classes="duo-seed"):
        seed = gr.Number(value=7, precision=0, label="Seed", elem_id="duo-seed", min_width=120, scale=3)
        dice = gr.Button("Random", size="md", min_width=90, scale=1, elem_id="duo-dice")
    count = gr.Slider(1, 8, value=1, step=1, label="Pictures a prompt", info="From this seed and the next ones.")
    with gr.Accordion("Sampling", open=False):
        steps = gr.Slider(1, 100, value=20, step=1, label="Steps", info="Denoising steps: more is slower and finer.")
        guidance = gr.Slider(1, 15, value=4, step=0.5, label="Guidance", info="How strongly the prompt is followed.")
    return seed, dice, count, steps, guidance


def read_form(
    studio: Studio, project_id: str | None, mode: str, text: str, attempt: str, keys: Sequence[str], seed: float | None,
    count: int, steps: int, guidance: float,
) -> Comparison:  # fmt: skip
    """What to ask of the worker; columns in the order of `keys`. Raises InputError with words for the page."""
    if project_id is None:
        raise InputError("The page is still opening. Try again in a moment.")
    prompts = lines_of(attempt if mode == BREAK_IT else text)
    if not prompts:
        raise InputError("There is no prompt yet. Type one" + (", or tick a ready one." if mode != BREAK_IT else "."))
    if (longest := max(map(len, prompts))) > LENGTH_LIMIT:  # each picture says its prompt, in its file
        raise InputError(f"A prompt has {longest:,} characters; use {LENGTH_LIMIT:,} or fewer.")
    if any(map(has_half_letter, prompts)):
        raise InputError("A prompt holds a letter that is none. Write it again.")
    project = studio.store.get_project(project_id)
    known = models_of(project, studio.store.list_checkpoints(project_id))
    models = [known[key] for key in keys if key in known]
    if not models:
        raise InputError("No model is chosen. Tick at least one column.")
    if seed is None:
        raise InputError("The seed is empty. Type a whole number from 0 up, or press Random.")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"The seed is {seed:.0f}; use a whole number from 0 to {MAX_SEED}, or press Random.")
    if not math.isfinite(guidance):  # which a slider lets through
        raise InputError("The guidance is no number. Move the slider.")
    request = RenderRequest(
        models=models,
        prompts=prompts,
        seeds=[int(seed) + offset for offset in range(int(count))],
        steps=int(steps),
        guidance_scale=float(guidance),
        detector=project.detector,
        detector_settings=project.detector_settings,
        project=project.id,
    )
    if request.pictures > MAX_PICTURES:
        raise InputError(
            f"That is {request.pictures} pictures; at most {MAX_PICTURES} at once. Take fewer prompts or seeds."
        )
    return Comparison(project.concept, request, blur=project.blur)


def lines_of(text: str) -> list[str]:
    """The prompts of a text, one a line, each once."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def group_of(group: str, text: str) -> tuple[Any, Any]:
    """The group's help, and its prompts, of which those in the text are ticked."""
    choices = ready_groups()[group]
    ticked = [prompt for prompt in lines_of(text) if prompt in choices]
    return gr.update(info=GROUPS[group][1]), gr.update(choices=choices, value=ticked)


def pick(group: str, ticked: list[str], text: str) -> str:
    """Ticked prompts go into the text and unticked ones out of it; lines of other groups and own ones stay."""
    kept = [line for line in lines_of(text) if line not in ready_groups()[group] or line in ticked]
    return "\n".join(dict.fromkeys([*kept, *ticked]))


@cache
def ready_groups() -> dict[str, list[str]]:
    prompts = ready_prompts()
    return {group: [prompt for cell in cells for prompt in prompts[cell]] for group, (cells, _) in GROUPS.items()}
