"""The panel "Import released weights" of the Train tab: what other programs made, as one more trained model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from studio import jobs
from studio.configs import ImportConfig
from studio.exchange.sources import SourceError, open_source
from studio.exchange.uploads import upload_folder
from studio.jobs import JobError
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.records import Job
from studio.settings import Settings
from studio.ui.activity import failure, waiting
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import FormError
from studio.ui.words import escape, note, short_hash

PICKLED = (".pt", ".pth", ".bin", ".ckpt")  # as models.foreign has them
READ = (".safetensors", *PICKLED)
_ABOUT = f"""<p class="duo-quiet">UNets that ESD or UCE edited (whole or in part, one file or a diffusers folder), text
encoders of AdvUnlearn, SPM's adapters, and any LoRA of diffusers, peft or kohya. Keys that do not fit the project's
checkpoint are named. A pickled state dict ({", ".join(PICKLED)}) is first turned into safetensors by a process of its
own, which lets tensors through and nothing else. Import only weights that you may use.</p>"""
_FILE = f"""<div class="im-zone"><label class="im-file">File <input type="file" accept="{",".join(READ)}"
aria-label="File of weights"></label><div class="duo-progress" role="progressbar" aria-label="Upload" aria-valuemin="0"
aria-valuemax="100" hidden><i></i></div></div>"""
_SEND = "async (project, upload, ...values) => [project, await window.duoStudio.sendWeights(project), ...values]"


@dataclass(frozen=True)
class ImportPanel:
    """The components that follow the rows."""

    studio: Studio
    state: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.state]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        job = view.last_job("import")
        return view.project.id, view.checkpoints, job, job and waiting(self.studio.store, view).get(job.id)

    def refresh(self, view: View, *_: Any) -> list[Any]:
        job = view.last_job("import")
        return [state_of(view, job, waiting(self.studio.store, view).get(job.id, "") if job else "")]


def import_panel(studio: Studio, project: gr.Dropdown) -> ImportPanel:
    """Build the panel and wire its events."""
    methods = [(method_title(method), method) for method in METHOD_CONFIGS]
    with gr.Accordion("Import released weights", open=False, elem_id="duo-import"):
        gr.HTML(_ABOUT)
        gr.HTML(_FILE, elem_id="duo-import-file")
        path = gr.Textbox(
            label="Or a path on the studio's machine", placeholder="/models/esd-sword.safetensors, or a folder",
            max_lines=1, elem_id="duo-import-path",
        )  # fmt: skip
        with gr.Row():
            method = gr.Dropdown(methods, value="esd", label="Method", filterable=False, elem_id="duo-import-method")
            name = gr.Textbox(label="Name", placeholder="its method and file", max_lines=1, elem_id="duo-import-name")
        transport = gr.Checkbox(
            True, label="Let the strength follow the prompt (SPM)", visible=False, elem_id="duo-import-transport"
        )
        upload = gr.Textbox(visible=False)
        go = gr.Button("Import", variant="primary", size="md", elem_id="duo-import-go")
        said = gr.HTML(elem_id="duo-import-said")
        state = gr.HTML(elem_id="duo-import-state")
    panel = ImportPanel(studio, state)

    def start(project_id: str, upload_id: str, *values: Any) -> list[Any]:
        try:
            start_import(studio, project_id, upload_id, *values)
        except (FormError, JobError, SourceError) as error:
            return [note(str(error), "error"), gr.skip()]
        return ["", *panel.refresh(studio.view(project_id))]

    method.change(lambda chosen: gr.update(visible=chosen == "spm"), method, transport, queue=False, **QUIET)
    inputs = [project, upload, path, method, name, transport]
    go.click(start, inputs, [said, *panel.outputs], js=_SEND, queue=False, **QUIET).then(
        None, js="() => window.duoStudio.sentWeights()", queue=False, api_visibility="private"
    )
    return panel


def start_import(
    studio: Studio, project_id: str, upload_id: str, path: str, method: str, name: str, transport: bool
) -> Job:
    """Queue the import of what was uploaded or, where nothing was, of the path.

    Raises FormError or SourceError with words for the page.
    """
    if upload_id.startswith("!"):  # what the browser says of an upload that failed
        raise FormError(upload_id[1:])
    typed = path.strip()
    if upload_id and typed:
        raise FormError("A file and a path are given. Clear one of the two.")
    source = uploaded(studio.settings, upload_id) if upload_id else typed_path(typed)
    config = ImportConfig(path=str(source), method=method, name=name.strip(), transport=bool(transport))
    job = jobs.submit(studio.store, studio.settings, "import", project_id, config.model_dump())
    studio.runner.tick()
    return job


def typed_path(text: str) -> Path:
    """Raises FormError where it is none that can be read."""
    if not text:
        raise FormError("There is no file yet. Choose one, or type a path on the studio's machine.")
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise FormError(f"{text} is no full path. Begin with / (or ~ for the home folder of the studio's user).")
    if not path.exists():
        raise FormError(f"{text} does not exist on the studio's machine. Check the path, or choose a file to send.")
    if path.is_file():
        _check_kind(path.name)
    return path


def uploaded(settings: Settings, upload_id: str) -> Path:
    """The one file of an upload, under its own name: by its ending it is told how it is read. Raises SourceError."""
    folder = upload_folder(settings, upload_id)
    with open_source(folder) as source:
        if len(source.members) != 1:
            raise FormError(f"{len(source.members)} files were sent; one is read at a time.")
        member = source.members[0]
        name = PurePosixPath(member.name).name
        _check_kind(name)
        target = folder / name
        shutil.move(folder / (member.place or member.name), target)
    return target


def _check_kind(name: str) -> None:
    if not name.endswith(READ):
        raise FormError(f"{name} is none of {', '.join(READ)}. Choose a file of weights, or a diffusers folder.")


def state_of(view: View, job: Job | None, waits: str) -> str:
    """How the last import stands."""
    if job is None or job.state == "stopped":
        return ""
    if job.state == "failed":
        return failure(job)
    if job.state != "done":
        return note(waits or f"Importing {Path(str(job.config.get('path', ''))).name} …", "busy")
    made = next((one for one in view.checkpoints if one.id == job.result.get("checkpoint_id")), None)
    if made is None:
        return ""
    what = f"<b>{escape(made.name)}</b> · <code>{short_hash(made.sha256)}</code> was imported."
    return (
        f'<div class="duo-note duo-note-info" role="status"><span>{what} '
        '<a href="#" data-open-tab="Compare">See it in Compare</a></span></div>'
    )
