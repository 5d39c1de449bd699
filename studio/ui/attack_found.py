"""What an attack found: kept on a shelf, taken along as files, and drawn again by any model of the project.

/studio/attacks/<job>.csv                      found prompts, as other tools read them
/studio/attacks/<job>/<sha256>.safetensors     what was drawn in their place, as textual inversion where it is that
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio import jobs
from studio.inference.client import Found, InferenceError, Progress, RenderRequest
from studio.jobs import JobError
from studio.records import AttackRun, Job
from studio.reports.attack_files import found_csv
from studio.settings import Settings
from studio.store import NotFoundError, Store, StoreError
from studio.ui.activity import failure, waiting
from studio.ui.attack_view import downloads
from studio.ui.compare_area import ending, words_of
from studio.ui.compare_form import MAX_PICTURES, InputError
from studio.ui.context import QUIET, Studio, View, model_options, models_of
from studio.ui.forms import FormError
from studio.ui.results import Comparison, grid
from studio.ui.shelves import save_shelf
from studio.ui.trial_view import links, matrix
from studio.ui.words import note

OFF = "This is a public demo: what attacks found is not handed out."
LISTED = 100
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FoundPanel:
    """The components under an attack's results."""

    studio: Studio
    box: gr.Column
    links: gr.HTML
    hits: gr.CheckboxGroup
    name: gr.Textbox
    save: gr.Button
    models: gr.CheckboxGroup
    replay: gr.Button
    transfer: gr.Button
    said: gr.HTML
    pictures: gr.HTML
    matrix: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.links, self.hits, self.matrix, self.models]

    def refresh(self, job: Job, runs: Sequence[AttackRun], ticked: list[str] | None) -> list[Any]:
        """New values of the first three of `outputs`: what works comes first; nothing of it in a public demo."""
        if self.studio.settings.public_demo:
            return self.nothing()
        options = hit_options(runs)
        kept = [key for _, key in options if key in (ticked or ())]
        return [gr.update(visible=bool(options)), downloads(job, runs), gr.update(choices=options, value=kept)]

    def nothing(self) -> list[Any]:
        return [gr.update(visible=False), "", gr.update(choices=[], value=[])]

    def carried(self, view: View, job: Job | None) -> str:
        """The newest transfer of this attack: how it stands, and its matrix."""
        own = [one for one in view.jobs if one.kind == "transfer" and job and one.config.get("attack_job") == job.id]
        if not own or self.studio.settings.public_demo:
            return ""
        last = own[-1]
        waits = waiting(self.studio.store, view).get(last.id, "")
        trials = self.studio.store.list_trials(view.project.id, last.id)
        words = failure(last) if last.state == "failed" else ""
        if not last.is_final:
            words = note(waits or last.message or "Starting …", "busy")
        return words + matrix(trials) + links(last, len(trials))

    def offer(self, view: View, ticked: list[str] | None) -> list[Any]:
        """The models that may draw what was found; the original and the trained ones at first."""
        options = model_options(view.project, view.checkpoints)
        keys = [key for _, key in options]
        first = [key for key in keys if key != "oracle"]
        value = first if ticked is None else [key for key in ticked if key in keys]
        return [gr.update(choices=options, value=value)]


def found_panel(studio: Studio) -> FoundPanel:
    """Build the components, hidden, in the current container; `wire_found` makes them work."""
    with gr.Column(visible=False, elem_id="duo-attack-found") as box:
        files = gr.HTML()
        hits = gr.CheckboxGroup(
            [], label="What was found", elem_classes="duo-list", elem_id="duo-attack-hits",
            info="Tick what is to be kept or drawn again; what works on most fresh seeds comes first.",
        )  # fmt: skip
        with gr.Row(elem_classes="duo-small-buttons"):
            name = gr.Textbox(
                label="Name of the new shelf", max_length=80, min_width=180, elem_id="duo-attack-shelf-name"
            )
            save = gr.Button("Save ticked to a shelf", size="md", elem_id="duo-attack-save")
        models = gr.CheckboxGroup([], label="Draw ticked by", elem_classes="duo-list", elem_id="duo-attack-models")
        with gr.Row(elem_classes="duo-small-buttons"):
            replay = gr.Button("Replay", size="md", elem_id="duo-attack-replay")
            carry = gr.Button("Transfer all that work", size="md", elem_id="duo-attack-transfer")
        said = gr.HTML()
        pictures = gr.HTML(elem_id="duo-attack-replayed")
        carried = gr.HTML(elem_id="duo-attack-matrix")
    return FoundPanel(studio, box, files, hits, name, save, models, replay, carry, said, pictures, carried)


def wire_found(studio: Studio, project: gr.Dropdown, job: gr.Dropdown, panel: FoundPanel) -> None:
    def save(project_id: str, ticked: list[str], name: str) -> str:
        try:
            return note(keep(studio, project_id, ticked, name))
        except (InputError, StoreError) as problem:
            return note(str(problem), "error")

    def replay(project_id: str, ticked: list[str], keys: list[str]) -> Iterator[list[Any]]:
        try:
            comparison = replayed(studio, project_id, ticked, keys)
        except InputError as problem:
            yield [note(str(problem), "error"), gr.skip()]
            return
        yield [note("Asking the model …", "busy"), grid(comparison)]
        words = ""
        try:
            for event in studio.client.render(comparison.request):
                comparison = comparison.with_event(event)
                if isinstance(event, Progress):
                    yield [note(words_of(event), "busy"), grid(comparison) if event.cells else gr.skip()]
                else:
                    words = ending(event, sum(cell.seconds for cell in event.cells))
        except InferenceError as error:
            words = note(str(error), "error")
        yield [words, grid(comparison, waiting=False)]

    def carry(project_id: str, job_id: str | None, keys: list[str]) -> list[Any]:
        try:
            start_transfer(studio, project_id, job_id, keys)
        except FormError as problem:
            return [note(str(problem), "error"), gr.skip()]
        view = studio.view(project_id)
        return ["", panel.carried(view, next((one for one in view.jobs if one.id == job_id), None))]

    chosen = [project, panel.hits]
    panel.transfer.click(carry, [project, job, panel.models], [panel.said, panel.matrix], queue=False, **QUIET)
    panel.save.click(save, [*chosen, panel.name], panel.said, queue=False, **QUIET)
    outputs = [panel.said, panel.pictures]
    panel.replay.click(replay, [*chosen, panel.models], outputs, concurrency_limit=4, trigger_mode="once", **QUIET)
    job.input(lambda: ["", ""], None, outputs, queue=False, **QUIET)
    project.change(lambda: ["", ""], None, outputs, queue=False, **QUIET)


def hit_options(runs: Sequence[AttackRun]) -> list[tuple[str, str]]:
    """(text, id) of what was drawn, what works on most fresh seeds first; one row a found prompt, model and seed."""
    found = [run for run in runs if run.role == "attack" and not run.refused]
    found.sort(key=lambda run: (-run.fresh_successes, not run.success))
    return [
        (
            f"{label_of(run)} · seed {run.seed} · {run.victim_name}: {run.fresh_successes} of {run.fresh_count} fresh",
            run.id,
        )
        for run in found[:LISTED]
    ]


def label_of(run: AttackRun) -> str:
    """The found prompt in words, with its embedding's hash where it is drawn with one."""
    return f"{run.found_prompt or '(empty prompt)'} ⟨{run.embedding[:8]}⟩" if run.embedding else run.found_prompt


def keep(studio: Studio, project_id: str, ticked: Sequence[str], name: str) -> str:
    """Put the ticked prompts on a new shelf; says what was kept. Raises InputError or StoreError for the page."""
    runs = _ticked(studio, project_id, ticked)
    words = [run for run in runs if not run.embedding]
    if runs and not words:
        raise InputError("What is ticked is no text but an embedding: download its file, or replay it.")
    prompts = list(dict.fromkeys(run.found_prompt for run in words))
    shelf = save_shelf(studio.store, project_id, name, prompts, words[0].seed if words else 0, 1)
    others = f" Left out, since no text: {len(runs) - len(words)}." if len(words) < len(runs) else ""
    return f"Saved as {shelf.name!r}, to be found under “Saved prompts”.{others}"


def replayed(studio: Studio, project_id: str, ticked: Sequence[str], keys: Sequence[str]) -> Comparison:
    """What to ask of the worker: what is ticked, by these models, all from the first one's seed. Raises InputError."""
    runs = _ticked(studio, project_id, ticked)
    project = studio.store.get_project(project_id)
    known = models_of(project, studio.store.list_checkpoints(project_id))
    models = [known[key] for key in keys if key in known]
    if not models:
        raise InputError("No model is chosen. Tick at least one that is to draw it.")
    prompts = list(dict.fromkeys(label_of(run) for run in runs))
    seeds = list(dict.fromkeys(run.seed for run in runs))
    found = {label_of(run): Found(run.found_prompt, run.embedding) for run in runs if run.embedding}
    seeds = seeds if len(prompts) == 1 else seeds[:1]
    sampling = runs[0].sampling
    request = RenderRequest(
        models=models, prompts=prompts, seeds=seeds, steps=int(sampling["steps"]),
        guidance_scale=float(sampling["guidance_scale"]), detector=project.detector,
        detector_settings=project.detector_settings, project=project.id, found=found,
    )  # fmt: skip
    if request.pictures > MAX_PICTURES:
        raise InputError(f"That is {request.pictures} pictures; at most {MAX_PICTURES} at once. Tick fewer.")
    return Comparison(project.concept, request, blur=project.blur)


def start_transfer(studio: Studio, project_id: str, job_id: str | None, keys: Sequence[str]) -> Job:
    """Queue the transfer of an attack's prompts to these models. Raises FormError; on a public demo always."""
    if studio.settings.public_demo:
        raise FormError(OFF)
    if not keys:
        raise FormError("No model is chosen. Tick those that are to draw what was found.")
    config = {"attack_job": job_id or "", "models": list(keys)}
    try:
        job = jobs.submit(studio.store, studio.settings, "transfer", project_id, config)
    except JobError as error:
        raise FormError(str(error)) from error
    studio.runner.tick()
    return job


def attack_routes(settings: Settings, store: Store) -> list[Route]:
    """Downloads; on a public demo there are none."""

    def runs_of(job_id: str) -> list[AttackRun]:
        job = store.get_job(job_id)
        return store.list_attack_runs(job.project_id, job.id) if job.kind == "attack" else []

    def table(request: Request) -> Response:
        try:
            runs = [] if settings.public_demo else runs_of(request.path_params["name"].removesuffix(".csv"))
        except NotFoundError:
            runs = []
        if not runs:
            return PlainTextResponse(OFF if settings.public_demo else "There is no such attack.", status_code=404)
        return Response(found_csv(runs), media_type="text/csv; charset=utf-8")

    def embedding(request: Request) -> Response:
        name = request.path_params["sha256"]
        try:
            known = [] if settings.public_demo else runs_of(request.path_params["job"])
        except NotFoundError:
            known = []
        path = settings.embeddings / f"{name}.safetensors"
        if not _HASH.fullmatch(name) or name not in {run.embedding for run in known} or not path.is_file():
            return PlainTextResponse(OFF if settings.public_demo else "There is no such embedding.", status_code=404)
        return FileResponse(path, media_type="application/octet-stream", headers={"X-Content-Type-Options": "nosniff"})

    return [
        Route("/studio/attacks/{name}", table, methods=["GET"]),
        Route("/studio/attacks/{job}/{sha256}.safetensors", embedding, methods=["GET"]),
    ]


def _ticked(studio: Studio, project_id: str, ids: Sequence[str]) -> list[AttackRun]:
    """The ticked rows of this project. Raises InputError where none is, or on a public demo."""
    if studio.settings.public_demo:
        raise InputError(OFF)
    known = {run.id: run for run in studio.store.list_attack_runs(project_id)}
    runs = [known[key] for key in ids if key in known]
    if not runs:
        raise InputError("Tick at least one of what was found.")
    return runs
