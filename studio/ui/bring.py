"""The panel "Bring your own pairs" of the Curate tab: a place to drop files, some settings, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from studio import jobs
from studio.configs import BringConfig
from studio.exchange.sources import SourceError, open_source
from studio.exchange.uploads import upload_folder
from studio.jobs import JobError
from studio.presets import TOYBOX_SAMPLING
from studio.records import Job
from studio.store import StoreError
from studio.ui.activity import RESUMABLE, STOPPABLE, failure, resume_job, running_job, stop_job, waiting
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import Form, FormError, config_form
from studio.ui.words import escape, note

FIRST_FIELDS = ("fit", "make_twins", "unsafe_prompt", "safe_prompt", "accept_as")
OTHER_FIELDS = (
    "limit", "strength", "guidance_scale", "steps", "max_tries", "seeds_per_strength", "strength_step", "batch_size",
    "filter_by_detector",
)  # fmt: skip
SHOWN = 50  # files that were not taken
OUTCOMES = {
    "taken": "taken",
    "known": "there already",
    "tie": "ties, left out",
    "unlabelled": "without a label, left out",
    "refused": "not taken",
}
_ABOUT = """<p class="duo-quiet">Two pictures of the same name in folders <b>unsafe</b> and <b>safe</b>, or
<b>a_unsafe.png</b> and <b>a_safe.png</b>; a <b>metadata.jsonl</b> or <b>metadata.csv</b> may name pairs and their
prompts; a <b>zip</b> of them; or <b>parquet</b> as Pick-a-Pic has it, where the preferred picture counts as the safe
one and ties are left out. Bring only pictures that you may use.</p>"""
_ON_LOAD = "window.duoStudio.bring(element); watch('value', () => window.duoStudio.bring(element));"
_UPLOAD = "(project, seen, upload, ...values) => [project, seen, window.duoStudio.broughtUpload(), ...values]"
_Seen = dict[str, Any]  # what this visitor's page shows already


@dataclass(frozen=True)
class BringPanel:
    """The components that change when rows change."""

    studio: Studio
    form: Form
    seen: gr.State
    zone: gr.HTML
    go: gr.Button
    stop: gr.Button
    resume: gr.Button
    said: gr.HTML
    progress: gr.HTML
    refused: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.seen, *self.form.components, *self._parts.values()]

    @property
    def choices(self) -> list[Any]:
        return [self.seen]

    @property
    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("zone", "stop", "resume", "said", "progress", "refused")}

    def shows(self, view: View) -> Any:
        job = view.last_job("bring")
        return view.project.id, job, self._waits(view, job)

    def refresh(self, view: View, seen: _Seen | None, said: str = "") -> list[Any]:
        """Only what differs from what this page shows already: files that wait in the drop zone stay there."""
        before = seen if seen is not None and seen.get("project") == view.project.id else {}
        now = {"project": view.project.id, **self._shown(view), "said": said}
        fields = [gr.skip()] * len(self.form.components) if before else self.form.show(first_values(view))
        parts = [gr.skip() if name in before and before[name] == now[name] else now[name] for name in self._parts]
        return [now, *fields, *parts]

    def _shown(self, view: View) -> dict[str, Any]:
        job = view.last_job("bring")
        return {
            "zone": drop_zone(view.project.id),
            "stop": gr.update(visible=job is not None and job.state in STOPPABLE),
            "resume": gr.update(visible=job is not None and job.state in RESUMABLE),
            "progress": progress(job, self._waits(view, job)),
            "refused": "" if job is None else self._refusals(view, job),
        }

    def _refusals(self, view: View, job: Job) -> str:
        count = self.studio.store.count_refusals(job.id)
        return refusals(view.project.id, job, self.studio.store.brought_refusals(job.id, SHOWN), count)

    def _waits(self, view: View, job: Job | None) -> str:
        return waiting(self.studio.store, view).get(job.id, "") if job and job.state == "queued" else ""


def bring_panel(studio: Studio, project: gr.Dropdown) -> BringPanel:
    """Build the panel and wire its events."""
    with gr.Accordion("Bring your own pairs", open=False, elem_id="duo-bring", elem_classes="ex-box"):
        with gr.Row(equal_height=False, elem_classes="ex-columns"):
            with gr.Column(min_width=320):
                gr.HTML(_ABOUT)
                zone = gr.HTML(elem_id="duo-bring-zone", js_on_load=_ON_LOAD)
            with gr.Column(scale=0, min_width=320, elem_classes="ex-form"):
                first = config_form(BringConfig, FIRST_FIELDS)
                first.fields["make_twins"].label = "Make twins for unsafe pictures that come alone"
                first.fields["accept_as"].label = "Accept them as"
                first.fields["accept_as"].placeholder = "Your name"
                with gr.Accordion("All settings", open=False, elem_classes="duo-all-settings"):
                    rest = config_form(BringConfig, OTHER_FIELDS)
                upload = gr.Textbox(visible=False)
                go = gr.Button("Bring them in", variant="primary", size="lg", elem_id="duo-bring-go")
                said = gr.HTML(elem_id="duo-bring-said")
        bar = gr.HTML(elem_id="duo-bring-progress")
        with gr.Row(elem_classes="duo-small-buttons"):
            resume = gr.Button("Resume", size="md", visible=False, scale=0, elem_id="duo-bring-resume")
            stop = gr.Button("Stop", variant="stop", size="md", visible=False, scale=0, elem_id="duo-bring-stop")
        refused = gr.HTML(elem_id="duo-bring-refused")
    form = Form(BringConfig, {**first.fields, **rest.fields})
    panel = BringPanel(studio, form, gr.State({}), zone, go, stop, resume, said, bar, refused)
    _wire(panel, project, upload)
    return panel


def _wire(panel: BringPanel, project: gr.Dropdown, upload: gr.Textbox) -> None:
    studio = panel.studio

    def answer(project_id: str, seen: _Seen, said: str) -> list[Any]:
        return panel.refresh(studio.view(project_id), seen, said)

    def begin(project_id: str, seen: _Seen, upload_id: str, *values: Any) -> list[Any]:
        try:
            submit_upload(studio, panel.form, project_id, upload_id, values)
        except (FormError, SourceError, JobError, StoreError) as error:
            return answer(project_id, seen, note(str(error), "error"))
        studio.runner.tick()
        return answer(project_id, seen, "")

    def act(doing: Callable[[Studio, str], str], project_id: str, seen: _Seen) -> list[Any]:
        job = studio.view(project_id).last_job("bring")
        return answer(project_id, seen, "" if job is None else doing(studio, job.id))

    inputs = [project, panel.seen]
    everything = [*inputs, upload, *panel.form.components]
    panel.go.click(begin, everything, panel.outputs, js=_UPLOAD, queue=False, **QUIET).then(
        None, js="() => window.duoStudio.broughtIn()", queue=False, api_visibility="private"
    )
    panel.stop.click(partial(act, stop_job), inputs, panel.outputs, queue=False, **QUIET)
    panel.resume.click(partial(act, resume_job), inputs, panel.outputs, queue=False, **QUIET)


def submit_upload(studio: Studio, form: Form, project_id: str, upload_id: str, values: Sequence[Any]) -> Job:
    """Queue a job that takes what was uploaded. Raises what says, in words, why it cannot be."""
    if not upload_id:
        raise FormError("There are no files yet. Drop them into the box, or choose them.")
    folder = upload_folder(studio.settings, upload_id)
    path = folder.relative_to(studio.settings.data).as_posix()
    if any(job.config.get("path") == path for job in studio.store.list_jobs(project_id)):
        raise FormError("These files are being brought in already. Choose others for another job.")
    config = form.read(values, path=path, name=name_of(folder))
    return jobs.submit(studio.store, studio.settings, "bring", project_id, config.model_dump())


def name_of(folder: Path) -> str:
    """What to call an upload: its one file, its one folder, or how many files it has. Raises SourceError for none."""
    with open_source(folder) as source:
        names = [member.name for member in source.members]
        shown = source.name
    if not names:
        raise SourceError("There are no files yet. Drop them into the box, or choose them.")
    if shown != folder.name:  # a zip
        return shown
    tops = {PurePosixPath(name).parts[0] for name in names}
    return tops.pop() if len(tops) == 1 else f"{len(names)} files"


def first_values(view: View) -> dict[str, Any]:
    """What the form begins with: the settings of the last time, or what is known to work."""
    last = view.last_job("bring")
    if last is not None:
        return last.config
    return dict(TOYBOX_SAMPLING) if view.project.checkpoint == "toybox" else {}


def drop_zone(project_id: str) -> str:
    """The frame that assets/bring.js fills: what was dropped stays in the browser until it is brought in."""
    return (
        f'<div class="br-zone" data-project="{escape(project_id)}">'
        '<p class="br-words"><b>Drop pictures, folders, a zip or parquet here</b></p>'
        '<div class="br-choose"><button type="button" data-do="files">Choose files</button>'
        '<button type="button" data-do="folder">Choose a folder</button>'
        '<button type="button" data-do="drop" hidden>Start over</button></div>'
        '<input type="file" data-is="files" multiple hidden tabindex="-1" aria-label="Files">'
        '<input type="file" data-is="folder" webkitdirectory hidden tabindex="-1" aria-label="Folder">'
        '<div class="duo-progress" role="progressbar" aria-label="Upload" aria-valuemin="0" aria-valuemax="100" '
        'data-is="bar" hidden><i></i></div><div data-is="said" role="status"></div></div>'
    )


def progress(job: Job | None, waits: str) -> str:
    """The job under way with its bar, or how it ended."""
    if job is None:
        return ""
    if not job.is_final:
        said = f'<p class="duo-quiet">{escape(waits)}</p>' if waits else ""
        ending = note("It stops after the pair it is at; finished pairs stay.", "busy")
        return running_job(job) + said + (ending if job.state == "stopping" else "")
    if job.state == "failed":
        return failure(job)
    if job.state == "stopped":
        return note("Stopped. What was taken is kept; Resume takes the rest.")
    counts = ", ".join(
        f"<b>{escape(job.result[key])}</b> {words}" for key, words in OUTCOMES.items() if job.result.get(key)
    )
    name = escape(job.config.get("name", ""))
    return (
        f'<div class="duo-note duo-note-info" role="status"><span>{name}: {counts or "there was nothing in it"}.</span>'
        "</div>"
    )


def refusals(project_id: str, job: Job, rows: Sequence[tuple[str, str]], count: int) -> str:
    """Each file that was not taken, with the reason, and all of them as a file."""
    if not count:
        return ""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(why)}</td></tr>' for name, why in rows)
    more = f'<p class="duo-quiet">… and {count - len(rows):,} more in the file.</p>' if count > len(rows) else ""
    return (
        f"<details open><summary>Not taken: {count:,} file{'' if count == 1 else 's'}</summary>"
        '<div class="duo-scroll ex-refused" tabindex="0" role="region" aria-label="Files that were not taken">'
        '<table class="duo-table"><thead><tr><th scope="col">File</th><th scope="col">Why</th></tr></thead>'
        f'<tbody>{body}</tbody></table></div>{more}<div class="duo-links">'
        f'<a href="studio/bring/{escape(project_id)}/{escape(job.id)}.csv" download="not-taken.csv">Download as CSV</a>'
        "</div></details>"
    )
