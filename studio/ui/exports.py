"""The panel "Export" of the Train tab: a trained model as files for other programs, and to the hub."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from huggingface_hub import get_token

from models.stored import BYTES, Stored, delta_weights, stored_weights
from studio import jobs
from studio.configs import ExportConfig
from studio.jobs import JobError
from studio.records import Checkpoint, Job
from studio.ui.activity import waiting
from studio.ui.context import QUIET, Studio, View, trained_options
from studio.ui.export_view import FORMAT_WORDS, MERGED, about, listing
from studio.ui.forms import FormError
from studio.ui.words import note

ORIGINAL_LAYOUTS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "")  # "": a single file, whatever is in it
DTYPES = get_args(ExportConfig.model_fields["dtype"].annotation)
_DTYPE_WORDS = {
    "float32": "float32, as it is",
    "float16": "float16, half the size",
    "bfloat16": "bfloat16, half the size",
}
_ABOUT = """<p class="duo-quiet">A trained model as files for other programs, in a folder of its own with a model card:
what was forgotten, how, with which settings, and what an evaluation found.</p>"""
NO_TOKEN = """<p class="duo-quiet">To send models to the Hugging Face hub from here, log in with
<code>hf auth login</code> as the user who runs the studio, or set <code>HF_TOKEN</code> before it starts.</p>"""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ExportPanel:
    """The components, and what follows the rows."""

    studio: Studio
    box: gr.Accordion
    model: gr.Dropdown
    form: gr.Radio
    dtype: gr.Radio
    facts: gr.HTML
    hub: gr.Column
    no_hub: gr.HTML
    listing: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.model, *self.described, self.hub, self.no_hub, self.listing]

    @property
    def described(self) -> list[Any]:
        """What a choice changes."""
        return [self.form, self.dtype, self.facts]

    @property
    def choices(self) -> list[Any]:
        return [self.model, self.form, self.dtype]

    def shows(self, view: View) -> Any:
        exports = exports_of(view)
        return view.project, view.checkpoints, exports, waiting(self.studio.store, view)

    def refresh(self, view: View, model: str | None, form: str | None, dtype: str | None) -> list[Any]:
        """The lists; a choice stays while its model is there, else the newest model is taken, merged."""
        options = trained_options(view)[::-1]
        keys = [key for _, key in options]
        kept = model in keys
        chosen = model if kept else next(iter(keys), None)
        signed_in = get_token() is not None
        return [
            gr.update(visible=bool(options)),
            gr.update(choices=options, value=chosen),
            *self.describe(view, chosen, form if kept else None, dtype),
            gr.update(visible=signed_in),
            gr.update(visible=not signed_in),
            listing(self.studio.settings, exports_of(view), view.checkpoints, waiting(self.studio.store, view)),
        ]

    def describe(self, view: View, model: str | None, form: str | None, dtype: str | None) -> list[Any]:
        """New values of `described`: the formats that this model can have, and what the chosen one means."""
        checkpoint = next((one for one in view.checkpoints if one.id == model), None)
        if checkpoint is None:
            return [gr.skip(), gr.skip(), ""]
        settings = self.studio.settings
        stored = stored_weights(view.project.checkpoint, settings.toybox)
        found = delta_weights(Path(checkpoint.path))
        forms = formats_of(checkpoint, stored)
        form = form if form in forms else forms[0]
        precision = str(dtype if dtype in DTYPES else DTYPES[0])
        count = (stored.count if stored else None) if form in MERGED else (found[0] if found else None)
        metadata = found[1] if found else {}
        facts = about(
            form,
            None if count is None else count * BYTES[precision],
            shutil.disk_usage(settings.data).free,
            kind=checkpoint.kind,
            transport="facilitated_transport" in metadata,
            sensitive=view.project.blur or view.project.detector == "nudenet",
            part=metadata.get("part", "unet"),
        )
        return [gr.update(choices=[(FORMAT_WORDS[key], key) for key in forms], value=form), precision, facts]


def exports_of(view: View) -> tuple[Job, ...]:
    return tuple(job for job in view.jobs if job.kind == "export")


def formats_of(checkpoint: Checkpoint, stored: Stored | None) -> list[str]:
    """What this model can be exported as; edited weights are no LoRA, and not every family has a single file."""
    loras = checkpoint.kind == "lora"
    single = stored is None or stored.pipeline in ORIGINAL_LAYOUTS
    return [key for key in FORMAT_WORDS if (key in MERGED or loras) and (key != "single-file" or single)]


def export_panel(studio: Studio, project: gr.Dropdown) -> ExportPanel:
    """Build the panel and wire its events."""
    with gr.Accordion("Export", open=False, visible=False, elem_id="duo-export") as box:
        gr.HTML(_ABOUT)
        model = gr.Dropdown(label="Model", choices=[], filterable=False, elem_id="duo-export-model")
        form = gr.Radio(
            [(words, key) for key, words in FORMAT_WORDS.items()], value="merged", label="Format",
            elem_classes="duo-list", elem_id="duo-export-format",
        )  # fmt: skip
        dtype = gr.Radio(
            [(_DTYPE_WORDS[key], key) for key in DTYPES], value=DTYPES[0], label="Precision", elem_classes="duo-list"
        )
        facts = gr.HTML(elem_id="duo-export-facts")
        with gr.Row(elem_classes="duo-actions"):
            go = gr.Button("Export", variant="primary", size="md", elem_id="duo-export-go")
        with gr.Column(visible=False, elem_id="duo-export-hub") as hub:
            repository = gr.Textbox(
                label="Repository on the Hugging Face hub", placeholder="owner/name", max_lines=1, max_length=200,
                info="It is made where it is not there yet.", elem_id="duo-export-repository",
            )  # fmt: skip
            private = gr.Checkbox(True, label="Private", info="A repository that is public already is then refused.")
            send = gr.Button("Export and send", size="md", elem_id="duo-export-send")
        no_hub = gr.HTML(NO_TOKEN)
        said = gr.HTML()
        rows = gr.HTML(elem_id="duo-exports")
    panel = ExportPanel(studio, box, model, form, dtype, facts, hub, no_hub, rows)

    def describe(project_id: str, *choices: Any) -> list[Any]:
        return panel.describe(studio.view(project_id), *choices)

    def start(project_id: str, model: str, form: str, dtype: str) -> list[Any]:
        return begin(project_id, model, form, dtype, "", True)

    def begin(project_id: str, model: str, form: str, dtype: str, repository: str, private: bool) -> list[Any]:
        try:
            start_export(studio, project_id, model, form, dtype, repository, private)
        except FormError as error:
            return [note(str(error), "error"), *[gr.skip()] * len(panel.outputs)]
        return ["", *panel.refresh(studio.view(project_id), model, form, dtype)]

    def begin_sending(*values: Any) -> list[Any]:
        if not str(values[4] or "").strip():
            wrong = note("Name the repository on the hub first, owner/name.", "error")
            return [wrong, *[gr.skip()] * len(panel.outputs)]
        return begin(*values)

    chosen = [project, *panel.choices]
    for component in panel.choices:
        component.input(describe, chosen, panel.described, queue=False, **QUIET)
    go.click(start, chosen, [said, *panel.outputs], queue=False, **QUIET)
    send.click(begin_sending, [*chosen, repository, private], [said, *panel.outputs], queue=False, **QUIET)
    return panel


def start_export(
    studio: Studio, project_id: str, model: str, form: str, dtype: str, repository: str, private: bool
) -> Job:
    """Queue an export. Raises FormError with words for the page."""
    view = studio.view(project_id)
    checkpoint = next((one for one in view.checkpoints if one.id == model), None)
    if checkpoint is None:
        raise FormError("Choose a trained model of this project.")
    forms = formats_of(checkpoint, stored_weights(view.project.checkpoint, studio.settings.toybox))
    if form not in forms:
        raise FormError(f"{checkpoint.name} cannot be exported as {form}; choose one of {', '.join(forms)}.")
    repository = (repository or "").strip()
    if repository and not _REPOSITORY.fullmatch(repository):
        raise FormError(f"The repository is {repository!r}; it must be owner/name.")
    config = {"checkpoint_id": model, "format": form, "dtype": dtype, "push": repository, "private": bool(private)}
    try:
        job = jobs.submit(studio.store, studio.settings, "export", project_id, config)
    except JobError as error:
        raise FormError(str(error)) from error
    studio.runner.tick()
    return job
