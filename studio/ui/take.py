"""The panel "Take them with you" of the Curate tab: the curated set as a file, or as a dataset on the Hub.

/studio/take/<project>/<imagefolder|parquet>.zip     ?which= &names=     packed when it is asked for
"""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio import jobs
from studio.exchange.hub import has_token
from studio.exchange.taking import TakeError, select, take, zip_sink
from studio.images import ImageError
from studio.jobs import JobError
from studio.records import Job, PairCounts
from studio.settings import Settings
from studio.store import NotFoundError, Store, StoreError
from studio.ui.activity import failure, running_job, waiting
from studio.ui.care_gate import Gate
from studio.ui.context import QUIET, Studio, View
from studio.ui.json_routes import ForbiddenError, from_elsewhere
from studio.ui.veils import REVEAL
from studio.ui.viewer import viewer_of
from studio.ui.words import escape, note

WHICH = [("Accepted", "accepted"), ("Accepted and rejected", "decided"), ("All", "all")]
FORMS = {"imagefolder": "Download as imagefolder", "parquet": "Download as parquet"}
_ABOUT = """<p class="duo-quiet">One zip with the pictures, their prompts, every decision and the audit log, as Hugging
Face's <code>datasets</code> reads them and as they can be brought in again. The pictures are in it in clear.</p>"""
_HUB = """<p class="duo-quiet">A private dataset on the Hugging Face Hub, with a card. This was tried against a stand-in
that speaks the Hub's HTTP, not against the Hub itself.</p>"""
_NOT_OWNER = (
    "The Hub's token is the studio owner's: only whoever opens this page on the machine that it runs on can push with "
    "it, or in a shell: python -m studio take --push owner/name."
)


@dataclass(frozen=True)
class TakePanel:
    """The components that change when rows change."""

    studio: Studio
    which: gr.Radio
    names: gr.Checkbox
    links: gr.HTML
    state: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.links, self.state]

    @property
    def choices(self) -> list[Any]:
        return [self.which, self.names]

    def shows(self, view: View) -> Any:
        job = view.last_job("push")
        return view.project.id, view.pairs, job, job and waiting(self.studio.store, view).get(job.id)

    def refresh(self, view: View, which: str | None, names: bool | None) -> list[Any]:
        job = view.last_job("push")
        waits = waiting(self.studio.store, view).get(job.id, "") if job else ""
        named = True if names is None else bool(names)
        return [links(view.project.id, view.pairs, which or "accepted", named), push_state(job, waits)]


def take_panel(studio: Studio, project: gr.Dropdown) -> TakePanel:
    """Build the panel and wire its events."""
    with (
        gr.Accordion("Take them with you", open=False, elem_id="duo-take", elem_classes="ex-box"),
        gr.Row(equal_height=False, elem_classes="ex-columns"),
    ):
        with gr.Column(min_width=320):
            gr.HTML(_ABOUT)
            which = gr.Radio(WHICH, value="accepted", label="Which pairs", elem_classes="duo-list")
            names = gr.Checkbox(value=True, label="With the names of reviewers and of files that were brought")
            shown = gr.HTML(elem_id="duo-take-links")
        with gr.Column(scale=0, min_width=320, elem_classes="ex-form"):
            gr.HTML(_HUB)
            repository = gr.Textbox(label="Dataset on the Hub", placeholder="owner/name", max_lines=1)
            push = gr.Button("Push as a private dataset", size="md", elem_id="duo-push")
            said = gr.HTML(elem_id="duo-push-said")
            state = gr.HTML(elem_id="duo-push-state")
    panel = TakePanel(studio, which, names, shown, state)

    def choose(project_id: str, which: str, names: bool) -> str:
        return links(project_id, studio.store.pair_counts(project_id), which, names)

    def send(project_id: str, which: str, names: bool, name: str, request: gr.Request) -> list[Any]:
        words = start_push(studio, project_id, which, names, name, owner=viewer_of(request.request).is_owner)
        return [words, *panel.refresh(studio.view(project_id), which, names)]

    for choice in (which, names):
        choice.input(choose, [project, which, names], shown, queue=False, **QUIET)
    push.click(send, [project, which, names, repository], [said, *panel.outputs], queue=False, **QUIET)
    return panel


def start_push(studio: Studio, project_id: str, which: str, names: bool, repository: str, *, owner: bool) -> str:
    """Queue a push; what to say of it, "" where all is well."""
    if not owner:
        return note(_NOT_OWNER, "error")
    if not has_token():
        return note("There is no Hugging Face token on this machine. Run `hf auth login`, or set HF_TOKEN.", "error")
    try:
        select(studio.store, project_id, which)  # type: ignore[arg-type]
        config = {"repository": repository, "which": which, "names": names}
        jobs.submit(studio.store, studio.settings, "push", project_id, config)
    except ValidationError:
        return note("Write the dataset's name as owner/name.", "error")
    except (JobError, StoreError, TakeError) as error:
        text = "Write the dataset's name as owner/name." if isinstance(error, JobError) else str(error)
        return note(text, "error")
    studio.runner.tick()
    return ""


def links(project_id: str, counts: PairCounts, which: str, names: bool) -> str:
    """How many pairs there are to take, and where."""
    number = {"accepted": counts.accepted, "decided": counts.accepted + counts.rejected, "all": counts.ready}[which]
    if not number:
        return '<p class="ex-facts">There are no such pairs yet.</p>'
    query = f"which={which}&names={int(names)}"
    buttons = "".join(
        f'<a href="studio/take/{escape(project_id)}/{form}.zip?{escape(query)}" download>{words}</a>'
        for form, words in FORMS.items()
    )
    return (
        f'<p class="ex-facts"><b>{number:,}</b> pair{"" if number == 1 else "s"}.</p>'
        f'<div class="duo-links">{buttons}</div>'
    )


def push_state(job: Job | None, waits: str) -> str:
    """How the last push stands."""
    if job is None or job.state == "stopped":
        return ""
    if job.state == "failed":
        return failure(job)
    if job.state != "done":
        return running_job(job) + (f'<p class="duo-quiet">{escape(waits)}</p>' if waits else "")
    url, pairs = str(job.result.get("url", "")), escape(job.result.get("pairs", 0))
    link = f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(url)}</a>'
    where = link if url.startswith(("https://", "http://")) else escape(url)  # the row may be an archive's
    return f'<div class="duo-note duo-note-info" role="status"><span>{pairs} pairs are at {where}.</span></div>'


def take_routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""
    gate = Gate(store, settings.care)

    def packed(request: Request) -> Response:
        if why := from_elsewhere(request):
            return PlainTextResponse(why, status_code=403)
        form = request.path_params["form"].removesuffix(".zip")
        named = request.query_params.get("names") != "0"
        try:
            project = store.get_project(request.path_params["project"])
            gate.pass_notice(project, viewer_of(request).name)
            if project.blur and REVEAL not in request.headers:
                return PlainTextResponse(
                    "This project's pictures are hidden, and a download would hold them in clear. In a shell: "
                    f"python -m studio take --project {project.id} FOLDER",
                    status_code=403,
                )
            if form not in FORMS:
                return PlainTextResponse("There is no such file.", status_code=404)
            selection = select(store, project.id, request.query_params.get("which", "accepted"), names=named)  # type: ignore[arg-type]
            folder = settings.outgoing / secrets.token_hex(8)
            path = folder / "pairs.zip"
            try:
                with zip_sink(path) as sink:
                    take(selection, settings, sink, form, names=named)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except NotFoundError as error:
            return PlainTextResponse(str(error), status_code=404)
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403)
        except (TakeError, ImageError) as error:
            return PlainTextResponse(str(error), status_code=409)
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', project.name).strip('-').lower() or 'pairs'}-{form}.zip"
        gone = BackgroundTask(_remove, folder)
        headers = {"Cache-Control": "no-store"}
        return FileResponse(path, media_type="application/zip", filename=name, headers=headers, background=gone)

    return [Route("/studio/take/{project}/{form}", packed, methods=["GET"])]


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
