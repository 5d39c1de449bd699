"""The form of the Train tab: method, preset, name, every setting, and what it would be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from models.stored import stored_weights
from studio.configs import ENOUGH_PAIRS, PAPER_PAIRS
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.presets import Preset, presets_for
from studio.records import Checkpoint, PairCounts, Project
from studio.ui.context import Studio
from studio.ui.forms import Form, config_form, fields_of
from studio.ui.train_room import RoomPanel, room_panel
from studio.ui.train_where import WherePanel, where_panel
from studio.ui.words import escape

DEFAULTS, OWN = "defaults", "own"
FAMILY_OF_PIPELINE = {  # of those that some method is not defined for
    "StableDiffusion3Pipeline": ("sd3", "Stable Diffusion 3"),
    "FluxPipeline": ("flux", "FLUX.1"),
}
FIRST_FIELDS = (
    "variant", "prompts", "concepts", "anchor_prompts", "guides", "attributes", "steps", "rounds", "learning_rate",
    "beta", "prior_weight", "eta", "batch_size", "one_adapter_a_group", "sample_every",
)  # fmt: skip


@dataclass(frozen=True)
class MethodForm:
    """One method's part of the form."""

    method: str
    group: gr.Column
    preset: gr.Dropdown
    note: gr.HTML
    form: Form

    @property
    def filled(self) -> list[Any]:
        """The components that a preset or another training fills."""
        return [self.preset, self.note, *self.form.components]

    def fill_preset(self, name: str) -> list[Any]:
        """Updates of `filled`; "own" leaves the fields as they are."""
        if name == OWN:
            return [gr.update(value=name), "", *[gr.skip() for _ in self.form.components]]
        preset = presets_for(self.method).get(name)
        values = preset.values if preset else {}
        return [gr.update(value=name), _quiet(preset.note if preset else ""), *self.form.show(values)]

    def fill_config(self, config: dict[str, Any], source: str) -> list[Any]:
        """Updates of `filled` with the settings of another training."""
        return [gr.update(value=OWN), _quiet(f"The settings of {source}."), *self.form.show(config)]


@dataclass(frozen=True)
class TrainForm:
    """The whole form."""

    ground: gr.HTML
    method: gr.Dropdown
    about: gr.HTML
    name: gr.Textbox
    parts: dict[str, MethodForm]
    room: RoomPanel
    where: WherePanel
    go: gr.Button

    @property
    def inputs(self) -> list[Any]:
        return [self.method, self.name, *(one for part in self.parts.values() for one in part.form.components)]

    @property
    def filled(self) -> list[Any]:
        """What another project, or a clone, fills."""
        return [self.method, self.name, *(one for part in self.parts.values() for one in part.filled)]

    def values_of(self, method: str, values: Sequence[Any]) -> list[Any]:
        """Those of `values` (the inputs after the name) that are one method's."""
        start = 0
        for part in self.parts.values():
            count = len(part.form.components)
            if part.method == method:
                return list(values[start : start + count])
            start += count
        raise KeyError(method)


def train_form(studio: Studio) -> TrainForm:
    """Build the components."""
    ground = gr.HTML(elem_id="duo-train-ground")
    methods = [(method_title(method), method) for method in METHOD_CONFIGS]
    first = next(iter(METHOD_CONFIGS))
    method = gr.Dropdown(methods, value=first, label="Method", filterable=False, elem_id="duo-method")
    about = gr.HTML(about_method(first), elem_classes="duo-about")
    name = gr.Textbox(
        label="Name",
        info="What the result is called on the page.",
        placeholder=method_title(first),
        max_lines=1,
        elem_id="duo-train-name",
    )
    parts = {}
    for key in METHOD_CONFIGS:
        with gr.Column(visible=key == first, elem_classes="duo-method-settings") as group:
            parts[key] = _method_form(key, group)
    where = where_panel(studio)
    room = room_panel(studio)
    with gr.Column(elem_id="duo-train-foot"):  # in sight wherever the form is scrolled to, what is wrong too
        room.error.render()
        room.brief.render()
        go = gr.Button("Train", variant="primary", size="lg", elem_id="duo-train-go")
    return TrainForm(ground, method, about, name, parts, room, where, go)


def _method_form(method: str, group: gr.Column) -> MethodForm:
    config = METHOD_CONFIGS[method]
    names = [(name, name) for name in presets_for(method)]
    name = preset_of("toybox", method)  # of the project that is there first; another one's replaces it
    begin = presets_for(method)[name] if name != DEFAULTS else Preset(method)
    preset = gr.Dropdown(
        [*names, ("the method's defaults", DEFAULTS), ("as typed below", OWN)],
        value=name,
        label="Preset",
        filterable=False,
        elem_id=f"duo-{method}-preset",
    )
    note = gr.HTML(_quiet(begin.note), elem_classes="duo-about")
    first = [name for name in FIRST_FIELDS if name in config.model_fields]
    rest = [name for name in fields_of(config) if name not in first]
    fields = config_form(config, first, begin.values).fields if first else {}
    if rest:
        with gr.Accordion("All settings", open=not first, elem_classes="duo-all-settings"):
            fields = {**fields, **config_form(config, rest, begin.values).fields}
    part = MethodForm(method, group, preset, note, Form(config, fields))
    for component in part.form.components:  # in the browser alone: a preset that was changed is none
        component.input(None, None, [preset, note], js=f"() => ['{OWN}', '']", queue=False, api_visibility="private")
    return part


def about_method(method: str) -> str:
    """What the method does, in a sentence."""
    text = (METHOD_CONFIGS[method].__doc__ or "").partition(":")[2].strip()
    return _quiet(text[:1].upper() + text[1:])


def first_preset(project: Project, method: str) -> str:
    """The preset to begin with: the embedded checkpoint's own, elsewhere the paper's."""
    return preset_of("toybox" if project.checkpoint == "toybox" else "paper", method)


def preset_of(origin: str, method: str) -> str:
    """The method's first preset from there, or else its defaults."""
    return next((name for name in presets_for(method) if name.startswith(origin)), DEFAULTS)


def free_name(method: str, checkpoints: Sequence[Checkpoint], others: Sequence[str] = (), name: str = "") -> str:
    """The name, or the method's title, numbered where a training is called so already."""
    taken = {checkpoint.name for checkpoint in checkpoints} | set(others)
    base = name or method_title(method)
    numbered = (f"{base} {number}" for number in range(2, len(taken) + 3))
    return base if base not in taken else next(one for one in numbered if one not in taken)


def ground(pairs: PairCounts, method: str) -> str:
    """What the training would be on, and whether that is enough."""
    config = METHOD_CONFIGS[method]
    accepted = f"{pairs.accepted} accepted pair{'' if pairs.accepted == 1 else 's'}"
    if not config.uses_pairs:
        trained = "steps" in config.model_fields
        way = "trained on prompts alone" if trained else "solved from prompts alone, without steps and samples"
        return _box("info", f"{method_title(method)} is {way}; the {accepted} are not used.")
    if pairs.accepted == 0:
        return no_pairs(pairs)
    more = _link("Curate", "Accept more in Curate.") if pairs.undecided else _link("Prompts", "Make more in Prompts.")
    if pairs.accepted < ENOUGH_PAIRS:
        text = (
            f"<b>Only {accepted}.</b> With fewer than {ENOUGH_PAIRS} a training is hardly worth its time; DUO's "
            f"paper takes {PAPER_PAIRS}. Expect the concept to come back under other prompts. {more}"
        )
        return _box("warn", text, is_html=True)
    if pairs.accepted < PAPER_PAIRS:
        text = f"<b>{accepted}.</b> DUO's paper takes {PAPER_PAIRS}: with fewer, more of the concept may stay. {more}"
        return _box("warn", text, is_html=True)
    return _box("info", f"Trained on {accepted} (DUO's paper takes {PAPER_PAIRS}).")


def not_defined(method: str, checkpoint: str, toybox: Path) -> str:
    """Why the method cannot train this checkpoint; "" where it can, or where its family is not told yet."""
    stored = stored_weights(checkpoint, toybox)
    family, title = FAMILY_OF_PIPELINE.get(stored.pipeline if stored else "", ("", ""))
    config = METHOD_CONFIGS[method]
    if not family or family in config.families:
        return ""
    others = [method_title(name) for name, other in METHOD_CONFIGS.items() if family in other.families]
    return f"{method_title(method)} is not defined for {title}, because {config.because}. Use {', '.join(others)}."


def no_pairs(pairs: PairCounts) -> str:
    """Why there is nothing to train on, and where to go."""
    todo = (
        f"{pairs.ready} are made: {_link('Curate', 'accept some in Curate')}."
        if pairs.ready
        else f"{_link('Prompts', 'Write prompts and generate pairs')}, then {_link('Curate', 'accept some')}."
    )
    return _box("error", f"<b>There are 0 accepted pairs to train on.</b> {todo}", is_html=True)


def without_prompts(method: str, count: int) -> str:
    """Why a method cannot be trained on accepted pairs of which `count` came without a prompt."""
    which = "1 accepted pair was" if count == 1 else f"{count} accepted pairs were"
    other = "set Prompt to “empty”, " if "prompt" in METHOD_CONFIGS[method].model_fields else ""
    return (
        f"{which} brought without a prompt, but {method_title(method)} as it is set trains under each pair's own: "
        f"{other}bring them again with their prompts, or reject them in Curate."
    )


def _link(tab: str, text: str) -> str:
    return f'<a href="#" data-open-tab="{tab}">{text}</a>'


def _box(kind: str, text: str, *, is_html: bool = False) -> str:
    role = "alert" if kind == "error" else "status"
    return f'<div class="duo-note duo-note-{kind}" role="{role}"><span>{text if is_html else escape(text)}</span></div>'


def _quiet(text: str) -> str:
    return f'<p class="duo-quiet">{escape(text)}</p>' if text else ""
