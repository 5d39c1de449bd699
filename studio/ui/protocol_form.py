"""The part of the Evaluate form about protocols: which one, its files, what it lacks, and attacks to draw again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio.attack_configs import ATTACK_CONFIGS
from studio.configs import EvaluateConfig
from studio.evaluation_checks import missing_networks
from studio.prompt_sources import PromptFileError, read_prompts
from studio.protocols import PROTOCOLS, Protocol, lacks, preset_of
from studio.records import Checkpoint, Job
from studio.settings import Settings
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import Form
from studio.ui.words import UP_TO, ago, escape, note

OWN = "The studio’s own"
FILE_TYPES = [".csv", ".tsv", ".txt", ".json"]
FILLED = ("n", "repeats", "steps", "guidance_scale")
Files = dict[str, list[str]]  # by "prompts" and "unrelated": paths of what was kept


@dataclass(frozen=True)
class ProtocolForm:
    """The components."""

    protocol: gr.Dropdown
    about: gr.HTML
    prompts: gr.UploadButton
    unrelated: gr.UploadButton
    files: gr.State
    attacks: gr.CheckboxGroup

    @property
    def inputs(self) -> list[Any]:
        return [self.protocol, self.files, self.attacks]

    def refresh(self, view: View, ticked: list[str] | None, public: bool) -> list[Any]:
        """The finished attacks to choose from, none ticked at first."""
        options = attack_options(view.jobs, view.checkpoints)
        keys = [key for _, key in options]
        kept = [key for key in ticked or () if key in keys]
        return [gr.update(choices=options, value=kept, visible=bool(options) and not public)]

    def wire(self, studio: Studio, project: gr.Dropdown, models: gr.CheckboxGroup, values: Form) -> None:
        """`values` are the fields of the evaluation, which a protocol fills."""
        fields = [values.fields[name] for name in FILLED]

        def choose(project_id: str, name: str, ticked: list[str], attacks: list[str]) -> list[Any]:
            preset = preset_of(name, studio.store.get_project(project_id).checkpoint)
            filled = dict(zip(values.fields, values.show(preset), strict=True))
            files: Files = {"prompts": [], "unrelated": []}
            said = about_html(studio, project_id, name, files, ticked, attacks)
            return [said, files, *uploads(PROTOCOLS.get(name)), *(filled[one] for one in FILLED)]

        def take(use: str, path: str, project_id: str, name: str, files: Files, *chosen: list[str]) -> list[Any]:
            try:
                kept = {**(files or {}), use: [str(keep_file(studio.settings, Path(path)))]}
            except PromptFileError as error:
                return [gr.skip(), note(str(error), "error")]
            return [kept, about_html(studio, project_id, name, kept, *chosen)]

        def look(project_id: str, name: str, files: Files, *chosen: list[str]) -> str:
            return about_html(studio, project_id, name, files, *chosen)

        shown = [self.about, self.files, self.prompts, self.unrelated, *fields]
        self.protocol.input(choose, [project, self.protocol, models, self.attacks], shown, queue=False, **QUIET)
        asked = [project, self.protocol, self.files, models, self.attacks]
        for use, button in (("prompts", self.prompts), ("unrelated", self.unrelated)):
            button.upload(
                lambda *given, use=use: take(use, *given), [button, *asked], [self.files, self.about], queue=False,
                **QUIET,
            )  # fmt: skip
        gr.on([models.input, self.attacks.input], look, asked, self.about, queue=False, **QUIET)


def protocol_form() -> ProtocolForm:
    """Build the components in the current container."""
    options = [(OWN, ""), *((one.title, name) for name, one in PROTOCOLS.items())]
    protocol = gr.Dropdown(
        options, value="", label="Protocol", filterable=False, elem_id="duo-evaluate-protocol",
        info="How a paper measures, as values that you may change below.",
    )  # fmt: skip
    about = gr.HTML(elem_id="duo-evaluate-about")
    with gr.Row(elem_classes="duo-small-buttons"):
        prompts = gr.UploadButton(f"File of prompts ({UP_TO})", file_types=FILE_TYPES, size="md", visible=False,
                                  elem_id="duo-evaluate-prompts")  # fmt: skip
        unrelated = gr.UploadButton(f"File of unrelated prompts ({UP_TO})", file_types=FILE_TYPES, size="md",
                                    visible=False, elem_id="duo-evaluate-unrelated")  # fmt: skip
    attacks = gr.CheckboxGroup(
        [], label="Finished attacks", visible=False, elem_classes="duo-list", elem_id="duo-evaluate-attacks",
        info="What they found is drawn again by every model, on seeds that were not searched on.",
    )  # fmt: skip
    return ProtocolForm(protocol, about, prompts, unrelated, gr.State({"prompts": [], "unrelated": []}), attacks)


def uploads(protocol: Protocol | None) -> list[Any]:
    """Which files the protocol takes."""
    wanted = (protocol.prompts, protocol.unrelated) if protocol else ("", "")
    return [gr.update(visible=bool(one)) for one in wanted]


def about_html(
    studio: Studio, project_id: str, name: str, files: Files, ticked: Sequence[str], attacks: Sequence[str]
) -> str:
    """What the protocol measures, which files were chosen, and what it lacks."""
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        return ""
    missing = missing_of(studio, project_id, protocol, files, ticked, attacks)
    lines = "".join(f"<li>{escape(one)}</li>" for one in missing)
    chosen = "".join(f"<p>{_chosen(use, path)}</p>" for use, paths in files.items() for path in paths)
    differs = "".join(f"<li>{escape(one)}</li>" for one in protocol.differs)
    return (
        f'<div class="duo-about-protocol"><p>{escape(protocol.about)} <small>{escape(protocol.paper)}</small></p>'
        f"{chosen}<details><summary>Not as published</summary><ul>{differs}</ul></details>"
        + (f"<p><b>Missing:</b></p><ul>{lines}</ul>" if missing else "<p>All that it needs is here.</p>")
        + "</div>"
    )


def missing_of(
    studio: Studio, project_id: str, protocol: Protocol, files: Files, ticked: Sequence[str], attacks: Sequence[str]
) -> list[str]:
    """What the protocol lacks on this machine, networks too."""
    view = studio.view(project_id)
    models = [one for one in view.checkpoints if one.id in (ticked or ())]
    config = EvaluateConfig.model_validate({"attacks": list(attacks or ()), **(files or {})})
    return [*lacks(protocol, config, view.project, view.jobs, models), *missing_networks(protocol)]


def keep_file(settings: Settings, path: Path) -> Path:
    """A copy of an uploaded file that a job finds again, by what is in it. Raises PromptFileError for no prompts."""
    read_prompts(path)
    data = path.read_bytes()
    kept = settings.prompt_files / hashlib.sha256(data).hexdigest()[:16] / path.name
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = kept.with_name(f".{kept.name}.part")
        whole.write_bytes(data)
        whole.replace(kept)
    return kept


def attack_options(jobs: Sequence[Job], checkpoints: Sequence[Checkpoint]) -> list[tuple[str, str]]:
    """(text, id) of each finished attack, the newest first."""
    names = {one.id: one.name for one in checkpoints} | {"original": "the original", "oracle": "the oracle"}
    return [
        (
            f"{ATTACK_CONFIGS[job.config['attack']].title} on "
            f"{', '.join(names.get(victim, victim) for victim in job.config['victims'])} · {ago(job.created)}",
            job.id,
        )
        for job in reversed(jobs)
        if job.kind == "attack" and job.state == "done"
    ]


def _chosen(use: str, path: str) -> str:
    return f"{'Prompts' if use == 'prompts' else 'Unrelated prompts'}: <b>{escape(Path(path).name)}</b>"
