"""The panel "Sweep" of the Train tab: a method at several values of one setting, and where each stands in the curve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, get_origin

import gradio as gr
from pydantic import ValidationError

from studio import jobs
from studio.configs import EvaluateConfig
from studio.evaluation_checks import EvaluationError, refuse_evaluation
from studio.jobs import JobError
from studio.method_configs import METHOD_CONFIGS, method_title, sweepable
from studio.presets import presets_for
from studio.protocols import PROTOCOLS
from studio.records import Job
from studio.reports.words import cell_title, percent
from studio.room import largest, plans_of_sweep, refusal, sweep_words
from studio.ui.activity import RESUMABLE, STOPPABLE, failure, resume_job, running_job, stop_job
from studio.ui.context import QUIET, Studio, View
from studio.ui.forms import Form, FormError, config_form
from studio.ui.protocol_form import OWN
from studio.ui.train_form import DEFAULTS, first_preset, preset_of
from studio.ui.words import escape, note

FIRST = "duo"
FIELDS = ("n", "seed", "steps", "guidance_scale")
_ABOUT = """<p class="duo-quiet">One value after the other is trained and evaluated, each on the same prompts and seeds;
the report of all shows a point a value. The seeds are those for choosing settings: report the chosen value on others.
</p>"""


class SweepEvaluationConfig(EvaluateConfig):
    """How each value is judged."""


@dataclass(frozen=True)
class SweepPanel:
    """The components, and what follows the rows."""

    studio: Studio
    method: gr.Dropdown
    preset: gr.Dropdown
    parameter: gr.Dropdown
    values: gr.Textbox
    others: gr.Textbox
    protocol: gr.Dropdown
    details: Form
    estimate: gr.HTML
    state: gr.HTML
    actions: gr.Row
    stop: gr.Button
    resume: gr.Button

    @property
    def asked(self) -> list[Any]:
        own = [self.method, self.preset, self.parameter, self.values, self.others, self.protocol]
        return [*own, *self.details.components]

    @property
    def outputs(self) -> list[Any]:
        return [self.state, self.actions, self.stop, self.resume]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id, view.last_job("sweep")

    def refresh(self, view: View) -> list[Any]:
        """The newest sweep: how far it is, and the values that are judged already."""
        job = view.last_job("sweep")
        if job is None:
            return ["", gr.update(visible=False), gr.update(visible=False), gr.update(visible=False)]
        running = "" if job.is_final else running_job(job)
        text = (failure(job) if job.state == "failed" else running) + table(job, view.project.concept)
        stoppable, resumable = job.state in STOPPABLE, job.state in RESUMABLE
        return [
            text,
            gr.update(visible=stoppable or resumable),
            gr.update(visible=stoppable),
            gr.update(visible=resumable),
        ]


def sweep_panel(studio: Studio, project: gr.Dropdown) -> SweepPanel:
    """Build the panel and wire its events."""
    with gr.Accordion("Sweep one setting", open=False, elem_id="duo-sweep"):
        gr.HTML(_ABOUT)
        with gr.Row():
            method = gr.Dropdown([(method_title(one), one) for one in METHOD_CONFIGS], value=FIRST, label="Method",
                                 filterable=False, elem_id="duo-sweep-method")  # fmt: skip
            preset = gr.Dropdown(_presets(FIRST), value=preset_of("toybox", FIRST), label="Start from",
                                 filterable=False, elem_id="duo-sweep-preset")  # fmt: skip
        with gr.Row():
            parameter = gr.Dropdown(sweepable(FIRST), value="beta", label="What changes", elem_id="duo-sweep-parameter")
            values = gr.Textbox(label="Its values", placeholder="100, 250, 500", max_lines=1,
                                elem_id="duo-sweep-values")  # fmt: skip
        others = gr.Textbox(label="Other settings", lines=2, placeholder="learning_rate = 3e-4",
                            info="One a line, name = value; the rest is as it starts from.")  # fmt: skip
        protocol = gr.Dropdown([(OWN, ""), *((one.title, name) for name, one in PROTOCOLS.items() if not one.attacks)],
                               value="", label="Protocol", filterable=False, elem_id="duo-sweep-protocol",
                               info="On the embedded checkpoint; with files, sweep from a shell.")  # fmt: skip
        with gr.Row():
            details = config_form(SweepEvaluationConfig, FIELDS, {"n": 50})
        estimate = gr.HTML(elem_id="duo-sweep-estimate")
        go = gr.Button("Sweep", variant="primary", size="md", elem_id="duo-sweep-go")
        said = gr.HTML()
        state = gr.HTML(elem_id="duo-sweep-state")
        with gr.Row(visible=False, elem_classes="duo-actions") as actions:
            stop = gr.Button("Stop the sweep", size="md", visible=False, elem_id="duo-sweep-stop")
            resume = gr.Button("Resume the sweep", size="md", variant="primary", visible=False,
                               elem_id="duo-sweep-resume")  # fmt: skip
    panel = SweepPanel(studio, method, preset, parameter, values, others, protocol, details, estimate, state, actions,
                       stop, resume)  # fmt: skip
    _wire(panel, project, go, said)
    return panel


def _wire(panel: SweepPanel, project: gr.Dropdown, go: gr.Button, said: gr.HTML) -> None:
    studio = panel.studio

    def choose(project_id: str | None, method: str) -> list[Any]:
        if project_id is None:
            return [gr.skip(), gr.skip()]
        known = sweepable(method)
        first = next((one for one in ("beta", "eta", "erase_scale", "learning_rate") if one in known), known[0])
        preset = first_preset(studio.store.get_project(project_id), method)
        return [gr.update(choices=_presets(method), value=preset), gr.update(choices=known, value=first)]

    def start(project_id: str, *asked: Any) -> list[Any]:
        try:
            start_sweep(studio, panel.details, project_id, *asked)
        except (FormError, JobError) as error:
            return [note(str(error), "error"), *[gr.skip()] * len(panel.outputs)]
        return ["", *panel.refresh(studio.view(project_id))]

    def act(work: Any, project_id: str) -> list[Any]:
        job = studio.view(project_id).last_job("sweep")
        words = work(studio, job.id if job else None)
        studio.runner.tick()
        return [note(words, "error") if words else "", *panel.refresh(studio.view(project_id))]

    def estimate(project_id: str | None, *asked: Any) -> Any:
        return gr.skip() if project_id is None else estimate_html(studio, project_id, *asked)

    outputs = [said, *panel.outputs]
    typed: list[Any] = [panel.method, panel.preset, panel.parameter, panel.values, panel.others]
    gr.on([project.change, *(one.change for one in typed)], estimate, [project, *typed], panel.estimate, queue=False,
          trigger_mode="always_last", **QUIET)  # fmt: skip
    panel.method.input(choose, [project, panel.method], [panel.preset, panel.parameter], queue=False, **QUIET)
    project.change(choose, [project, panel.method], [panel.preset, panel.parameter], queue=False, **QUIET)
    go.click(start, [project, *panel.asked], outputs, queue=False, **QUIET)
    panel.stop.click(partial(act, stop_job), project, outputs, queue=False, **QUIET)
    panel.resume.click(partial(act, resume_job), project, outputs, queue=False, **QUIET)


def start_sweep(
    studio: Studio, details: Form, project_id: str, method: str, preset: str, parameter: str, values: str | None,
    others: str | None, protocol: str, *evaluation: Any,
) -> Job:  # fmt: skip
    """Queue a sweep. Raises FormError and JobError with words for the page."""
    view = studio.view(project_id)
    if METHOD_CONFIGS[method].uses_pairs and view.pairs.accepted == 0:
        raise FormError("There are 0 accepted pairs to train on. Accept some in Curate first.")
    chosen = values_of(values)
    if not chosen:
        raise FormError("Its values are empty. Give at least one, with commas between: 100, 250, 500.")
    judged = details.read(evaluation).model_dump(include=set(details.fields))
    config = {
        "method": method,
        "parameter": parameter,
        "values": chosen,
        "config": others_of(method, preset, others),
        "evaluation": {**judged, "protocol": protocol or ""},
    }
    if why := estimate_of(studio, project_id, method, preset, parameter, values, others)[1]:
        raise FormError(f"{why} Write that under Other settings, or sweep from a shell with --anyway.")
    try:
        refuse_evaluation(studio.store, view.project, {**judged, "protocol": protocol or ""}, to_train=True)
    except EvaluationError as error:
        raise FormError(str(error)) from None
    job = jobs.submit(studio.store, studio.settings, "sweep", project_id, config)
    studio.runner.tick()
    return job


def estimate_html(studio: Studio, project_id: str, *typed: Any) -> str:
    """What the sweep as typed will need, and whether that fits; "" where nothing is known."""
    try:
        said, why = estimate_of(studio, project_id, *typed)
    except FormError:
        return ""  # said where it is started
    return note(why, "error") if why else f'<p class="duo-quiet">{escape(said)}</p>' if said else ""


def estimate_of(
    studio: Studio, project_id: str, method: str, preset: str, parameter: str, values: str | None, others: str | None
) -> tuple[str, str]:
    """What the trainings will need, and why one does not fit, "" where it does. Raises FormError."""
    chosen = values_of(values)
    if method != "duo" or not chosen:
        return "", ""
    project = studio.store.get_project(project_id)
    try:
        plans = plans_of_sweep(studio.store, studio.settings, project, others_of(method, preset, others), parameter,
                               chosen)  # fmt: skip
    except ValidationError:
        return "", ""  # a value that is refused with its reason where the sweep starts
    return (sweep_words(plans), refusal(largest(plans))) if plans else ("", "")


def values_of(text: str | None) -> list[str]:
    """What was typed; Gradio gives None for a field that was never touched."""
    return [one.strip() for one in (text or "").replace(";", ",").split(",") if one.strip()]


def others_of(method: str, preset: str, text: str | None) -> dict[str, Any]:
    """The values to start from, with those of `text` over them. Raises FormError."""
    start = presets_for(method)[preset].values if preset in presets_for(method) else {}
    return {**start, **settings_of(method, text)}


def settings_of(method: str, text: str | None) -> dict[str, Any]:
    """Values a line, name = value; a list's entries have bars between. Raises FormError."""
    fields = METHOD_CONFIGS[method].model_fields
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, (text or "").splitlines())):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or name not in fields:
            raise FormError(f"{line!r} is no setting of {method_title(method)}. Write name = value, such as "
                            f"{sweepable(method)[0]} = 1.")  # fmt: skip
        is_list = get_origin(fields[name].annotation) is list
        found[name] = [one.strip() for one in value.split("|") if one.strip()] if is_list else value
    return found


def table(job: Job, concept: str) -> str:
    """The values of a sweep, and where those stand that are judged."""
    rows = []
    for number, value in enumerate(job.config.get("values", []), 1):
        judged = job.result.get(f"judge-{number}")
        trained = f"train-{number}" in job.result
        state = "judged" if judged is not None else "trained, being judged" if trained else "waits"
        kept = "—" if not judged else f"{judged['preservation']:.3f} <small>1 − {escape(judged['metric'])}</small>"
        gone = "—" if not judged else (
            f"{percent(judged['defence'])}<small>{100 * judged['low']:.1f}–{100 * judged['high']:.1f}, "
            f"n = {escape(judged['n'])}, {escape(cell_title(judged['cell']).lower())}</small>"
        )  # fmt: skip
        shown = f"{value:g}" if isinstance(value, float) else value
        rows.append(f'<tr><th scope="row">{escape(str(shown))}</th><td>{state}</td><td>{gone}</td><td>{kept}</td></tr>')
    heads = (str(job.config.get("parameter", "")), "", f"Without the {concept}, worst cell", "Kept")
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    done = (
        "<p>The curve with all values is in Report: a point leads to its pictures.</p>" if job.state == "done" else ""
    )
    return (
        f'<div class="duo-scroll" tabindex="0" role="region" aria-label="Values of the sweep"><table class="duo-table '
        f'duo-sweep-table"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{done}'
    )


def _presets(method: str) -> list[tuple[str, str]]:
    return [*((name, name) for name in presets_for(method)), ("the method's defaults", DEFAULTS)]
