"""The attack panel's form: which attack, how much it may spend, on which models and prompts, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from studio.attack_configs import ATTACK_CONFIGS, Access, AttackJobConfig, attack_config
from studio.attack_costs import estimate, speed_of
from studio.config_base import refusal
from studio.durations import duration
from studio.store import NotFoundError, Store
from studio.ui.compare_form import InputError, lines_of
from studio.ui.context import Studio, View, model_options
from studio.ui.forms import Form, FormError, config_form, number_text
from studio.ui.prompt_uploads import uploaded_prompts
from studio.ui.words import UP_TO, escape, note

CONTROLS = ("none", "random_tokens", "seed_search")
FIRST_ATTACK = "ring_a_bell"
BUDGETS = {
    "quick": "Minutes on the embedded checkpoint: to see whether an attack works at all.",
    "published": "The values of the paper or its code.",
    "thorough": "More than was published: for a model that is to be let go.",
}
NEEDS: dict[Access, str] = {
    "none": "needs nothing",
    "text-encoder": "needs the text encoder alone",
    "black-box": "asks the model for pictures",
    "white-box": "needs the model’s weights",
    "original": "needs the original model alone",
}
OWN, FILE, SHELF = "The project’s", "A file", "A shelf"
MAX_PROMPTS = 10_000
NO_FILE: tuple[str, list[str]] = ("", [])
FIELDS = ("n", "fresh", "control", "seed", "steps", "guidance_scale", "most_tried", "batch_size")


@dataclass(frozen=True)
class AttackForm:
    """The inputs, in the order in which `read` takes their values."""

    attack: gr.Dropdown
    budget: gr.Radio
    victims: gr.CheckboxGroup
    source: gr.Radio
    shelf: gr.Dropdown
    upload: gr.UploadButton
    file: gr.State  # name and prompts of the file that was chosen
    values: gr.Textbox
    details: Form
    cost: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        fields = [self.attack, self.budget, self.victims, self.source, self.shelf, self.file, self.values]
        return [*fields, *self.details.components]

    def read(self, store: Store, asked: Sequence[Any]) -> AttackJobConfig:
        """The job's configuration, of the values of `inputs`. Raises FormError."""
        attack, budget, victims, source, shelf, file, values, *rest = asked
        if attack not in ATTACK_CONFIGS or budget not in BUDGETS:
            raise FormError("Choose an attack and a budget.")
        if not victims:
            raise FormError("No model is chosen. Tick at least one that is to be attacked.")
        prompts = _prompts(store, source, shelf, file or NO_FILE)
        own = _values(values)
        try:
            attack_config(attack, budget, own)
        except ValidationError as error:
            known = ATTACK_CONFIGS[attack].model_fields
            raise FormError(f"A value of the attack is wrong: {refusal(error, known)}") from error
        others = {"attack": attack, "budget": budget, "victims": list(victims), "prompts": prompts, "values": own}
        config = self.details.read(rest, **others)
        assert isinstance(config, AttackJobConfig)
        return config

    def cost_of(self, studio: Studio, project_id: str, asked: Sequence[Any]) -> str:
        """What the form's choice takes, or what is wrong with it."""
        try:
            config = self.read(studio.store, asked)
        except FormError as error:
            return note(str(error))
        embedded = studio.store.get_project(project_id).checkpoint.startswith("toybox")
        speed = speed_of(studio.store.list_attack_runs(project_id), embedded)
        return cost_html(config, estimate(config, len(config.victims), speed))


def attack_form() -> AttackForm:
    """Build the components in the current container."""
    options = [(f"{one.title} · {NEEDS[one.access]}", name) for name, one in ATTACK_CONFIGS.items()]
    options.sort(key=lambda option: option[1] in CONTROLS)
    attack = gr.Dropdown(
        options,
        value=FIRST_ATTACK,
        label="Attack",
        info=about(FIRST_ATTACK),
        filterable=False,
        elem_id="duo-attack-name",
    )
    budget = gr.Radio(
        list(BUDGETS), value="quick", label="Budget", info=BUDGETS["quick"], elem_classes="duo-segments",
        elem_id="duo-attack-budget",
    )  # fmt: skip
    victims = gr.CheckboxGroup([], label="Models to attack", elem_classes="duo-list", elem_id="duo-attack-victims")
    source = gr.Radio(
        [OWN, FILE, SHELF], value=OWN, label="Prompts", info="Those that already fail as they are get attacked.",
        elem_classes="duo-segments", elem_id="duo-attack-source",
    )  # fmt: skip
    shelf = gr.Dropdown([], label="Shelf", visible=False, elem_id="duo-attack-shelf")
    upload = gr.UploadButton(
        f"Choose a file ({UP_TO})",
        file_types=[".csv", ".tsv", ".txt"],
        size="md",
        visible=False,
        elem_id="duo-attack-file",
    )
    file = gr.State(NO_FILE)
    with gr.Accordion("All settings", open=False, elem_classes="duo-all-settings"):
        details = config_form(AttackJobConfig, FIELDS)
        values = gr.Textbox(
            label="Values of the attack", lines=2, max_lines=8, placeholder="generations=300",
            elem_id="duo-attack-values", info="Over those of the budget, listed below; one name=value a line.",
        )  # fmt: skip
    cost = gr.HTML(elem_id="duo-attack-cost")
    return AttackForm(attack, budget, victims, source, shelf, upload, file, values, details, cost)


def about(attack: str) -> str:
    """What an attack does, in a line."""
    return (ATTACK_CONFIGS[attack].__doc__ or "").strip().splitlines()[0]


def victim_options(view: View) -> tuple[list[tuple[str, str]], list[str]]:
    """(text, key) of the models that can be attacked, and those that are ticked at first: the trained ones."""
    options = model_options(view.project, view.checkpoints)
    trained = [one.id for one in view.checkpoints]
    return options, trained


def read_file(path: str | None) -> tuple[tuple[str, list[str]], str]:
    """Name and prompts of an uploaded file, and why it cannot be read. The upload itself is not kept."""
    if not path:
        return NO_FILE, ""
    try:
        return (Path(path).name, uploaded_prompts(Path(path), MAX_PROMPTS)), ""
    except InputError as error:
        return NO_FILE, str(error)


def cost_html(config: AttackJobConfig, cost: Any) -> str:
    """Time first, then queries and passes, then what is really used."""
    if cost.seconds is None:
        time = "<b>Time: not known yet.</b> It is estimated from this project’s first attack on."
    else:
        time = f"<b>At most about {escape(duration(cost.seconds))}</b>, {escape(cost.where)}."
    own = attack_config(config.attack, config.budget, config.values).model_dump()
    used = ", ".join(f"{name} {_shown(value)}" for name, value in own.items())
    return (
        f'<div class="duo-note duo-note-info at-cost" role="status"><div><p>{time}</p><p>{escape(cost.words)}</p>'
        f"<details><summary>What is really used</summary><p>{escape(used)}</p></details></div></div>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    return str(value) or "none"


def _prompts(store: Store, source: str, shelf: str | None, file: tuple[str, list[str]]) -> list[str]:
    """The prompts of the chosen source; none means the project's own."""
    if source == FILE:
        if not file[1]:
            raise FormError("No file of prompts is chosen yet: a CSV of any known kind, or one prompt a line.")
        return list(file[1])
    if source == SHELF:
        try:
            return lines_of(store.get_shelf(shelf or "").prompts)
        except NotFoundError as error:
            raise FormError("Choose a shelf; “Saved prompts” above makes one.") from error
    return []


def _values(text: str) -> dict[str, str]:
    values = {}
    for line in lines_of(text or ""):
        name, sign, value = line.partition("=")
        if not sign or not name.strip():
            raise FormError(f"“{line}” is not name=value, for example generations=500.")
        values[name.strip()] = value.strip()
    return values
