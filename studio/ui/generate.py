"""The section "Make the pictures" of the Prompts tab: settings, one button, and the pairs as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import jobs
from studio.configs import PairsConfig
from studio.jobs import JobError
from studio.presets import TOYBOX_PAIRS, TOYBOX_SAMPLING
from studio.records import Job
from studio.store import Store, StoreError
from studio.ui.activity import RESUMABLE, STOPPABLE, resume_job, stop_job, waiting
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import Form, FormError, config_form
from studio.ui.making_view import SHOWN_FAILURES, SHOWN_PAIRS, arriving, counted, failures, plan, progress
from studio.ui.words import note

FIRST_FIELDS = ("strength", "guidance_scale", "auto_accept")
OTHER_FIELDS = ("steps", "max_tries", "seeds_per_strength", "strength_step", "batch_size", "filter_by_detector")
ENOUGH_FOR_A_PACE = 4  # pairs
_ABOUT = """<div class="duo-step"><h2>Make the pictures</h2>
<p>Each unsafe prompt is drawn, and the picture is then repainted under its safe twin's prompt (SDEdit), so that both
show the same scene. A pair is kept when the detector sees the concept in the first picture and not in the second.</p>
</div>"""
_Seen = dict[str, Any]  # what this visitor's page shows already


@dataclass(frozen=True)
class GenerateSection:
    """The components that change when rows change."""

    studio: Studio
    form: Form
    seen: gr.State
    plan: gr.HTML
    go: gr.Button
    retry: gr.Button
    stop: gr.Button
    resume: gr.Button
    said: gr.HTML
    progress: gr.HTML
    arriving: gr.HTML
    failed_box: gr.Accordion
    failed: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.seen, *self.form.components, *self._parts.values()]

    @property
    def choices(self) -> list[Any]:
        return [self.seen]

    @property
    def _parts(self) -> dict[str, Any]:
        names = ("plan", "go", "retry", "stop", "resume", "said", "progress", "arriving", "failed_box", "failed")
        return {name: getattr(self, name) for name in names}

    def shows(self, view: View) -> Any:
        job = making(view)
        return view.project, view.prompts, view.pairs, job, self._waits(view, job)

    def refresh(self, view: View, seen: _Seen | None, said: str = "") -> list[Any]:
        """Only what differs from what this page shows already, so that pictures and lists stand still.

        The form is filled when a project is opened, and is the visitor's own from then on.
        """
        before = seen if seen is not None and seen.get("project") == view.project.id else {}
        now = {"project": view.project.id, **self._shown(view), "said": said}
        fields = [gr.skip()] * len(self.form.components) if before else self.form.show(first_values(view))
        parts = [gr.skip() if name in before and before[name] == now[name] else now[name] for name in self._parts]
        return [now, *fields, *parts]

    def _shown(self, view: View) -> dict[str, Any]:
        store, project, counts, job = self.studio.store, view.project, view.pairs, making(view)
        missing = store.missing_pairs(project.id)
        live = job is not None and not job.is_final
        prompts = {pair.id: pair for pair in view.prompts}
        lost = store.newest_pairs(project.id, "failed", SHOWN_FAILURES)
        return {
            "plan": plan(counts, missing, None if live else seconds_a_pair(store, view)),
            "go": gr.update(visible=not live, interactive=missing > 0),
            "retry": gr.update(visible=not live and counts.failed > 0),
            "stop": gr.update(visible=job is not None and job.state in STOPPABLE),
            "resume": gr.update(visible=job is not None and can_go_on(job, missing)),
            "progress": progress(job, self._waits(view, job), counts),
            "arriving": arriving(project, store.newest_pairs(project.id, "ready", SHOWN_PAIRS), prompts),
            "failed_box": gr.update(visible=counts.failed > 0, label=f"{counted(counts.failed)} failed"),
            "failed": failures(lost, prompts, counts.failed),
        }

    def _waits(self, view: View, job: Job | None) -> str:
        if job is None or job.state != "queued":
            return ""
        return waiting(self.studio.store, view).get(job.id, "")


def generate_section(studio: Studio, project: gr.Dropdown) -> GenerateSection:
    """Build the section and wire its events."""
    with gr.Row(equal_height=False, elem_id="duo-making"):
        with gr.Column(scale=0, min_width=340, elem_classes="duo-panel"):
            gr.HTML(_ABOUT)
            summary = gr.HTML(elem_id="duo-plan")
            form = _form()
            said = gr.HTML()
            go = gr.Button("Make the pictures", variant="primary", size="lg", elem_id="duo-make")
            retry = gr.Button("Try the failed ones again", size="md", elem_id="duo-retry")
            resume = gr.Button("Resume", size="md", elem_id="duo-resume-making")
            stop = gr.Button("Stop", variant="stop", size="lg", elem_id="duo-stop-making")
        with gr.Column(scale=1, min_width=320, elem_id="duo-made"):
            bar = gr.HTML(elem_id="duo-making-progress")
            pictures = gr.HTML(elem_id="duo-arriving")
            with gr.Accordion("Failed pairs", open=False, visible=False, elem_id="duo-failed") as box:
                failed = gr.HTML()
    section = GenerateSection(
        studio, form, gr.State({}), summary, go, retry, stop, resume, said, bar, pictures, box, failed
    )
    _wire(section, project)
    return section


def making(view: View) -> Job | None:
    """The job that the section tells of: one under way, or else the newest that was about pictures.

    The demo makes pairs too, so while it runs nothing else should.
    """
    own = [job for job in view.jobs if job.kind in ("pairs", "demo")]
    order = {"running": 0, "stopping": 0, "queued": 1}
    live = sorted((job for job in own if job.state in order), key=lambda job: order[job.state])
    return live[0] if live else own[-1] if own else None


def can_go_on(job: Job, missing: int) -> bool:
    """Whether resuming the job would make something: a stopped or failed one that has pairs left."""
    return job.kind == "pairs" and job.state in RESUMABLE and bool(job.config.get("redo") or missing)


def seconds_a_pair(store: Store, view: View) -> float | None:
    """The pace of the project's last run that settled some pairs; None before there was one."""
    for job in reversed(view.jobs):
        if job.kind == "pairs" and job.started and job.finished:
            settled = store.pairs_settled(view.project.id, job.started, job.finished)
            if settled >= ENOUGH_FOR_A_PACE:
                return (job.finished - job.started) / settled
    return None


def first_values(view: View) -> dict[str, Any]:
    """What the form begins with: the settings of the last run, or what is known to work."""
    last = view.last_job("pairs")
    if last is not None:
        return last.config
    return {**TOYBOX_SAMPLING, **TOYBOX_PAIRS} if view.project.checkpoint == "toybox" else {}


def make_pairs(studio: Studio, project_id: str, config: PairsConfig) -> str:
    """Queue a job, unless one is there already; what to say of it, "" where all is well."""
    job = making(studio.view(project_id))
    if job is not None and not job.is_final:
        return note("Pictures of this project are being made already. Stop that first, or wait for it.", "error")
    try:
        jobs.submit(studio.store, studio.settings, "pairs", project_id, config.model_dump())
    except (JobError, StoreError) as error:
        return note(str(error), "error")
    return ""


def _form() -> Form:
    first = config_form(PairsConfig, FIRST_FIELDS)
    accept = first.fields["auto_accept"]
    accept.label = "Accept what the detector is sure of"
    accept.info = "The detector decides on every pair it keeps; you can overrule it in Curate."
    with gr.Accordion("All settings", open=False, elem_classes="duo-all-settings"):
        rest = config_form(PairsConfig, OTHER_FIELDS)
    return Form(PairsConfig, {**first.fields, **rest.fields})


def _wire(section: GenerateSection, project: gr.Dropdown) -> None:
    studio = section.studio

    def answer(project_id: str, seen: _Seen, said: str) -> list[Any]:
        return section.refresh(studio.view(project_id), seen, said)

    def begin(retry: bool, project_id: str, seen: _Seen, *values: Any) -> list[Any]:
        try:
            config = section.form.read(values, retry_failed=retry)
        except FormError as error:
            return answer(project_id, seen, note(str(error), "error"))
        assert isinstance(config, PairsConfig)
        return answer(project_id, seen, make_pairs(studio, project_id, config))

    def act(doing: Callable[[Studio, str], str], project_id: str, seen: _Seen) -> list[Any]:
        job = making(studio.view(project_id))
        return answer(project_id, seen, "" if job is None else doing(studio, job.id))

    inputs = [project, section.seen]
    everything = [*inputs, *section.form.components]
    section.go.click(partial(begin, False), everything, section.outputs, queue=False, **QUIET)
    section.retry.click(partial(begin, True), everything, section.outputs, queue=False, **QUIET)
    section.stop.click(partial(act, stop_job), inputs, section.outputs, queue=False, **QUIET)
    section.resume.click(partial(act, resume_job), inputs, section.outputs, queue=False, **QUIET)
