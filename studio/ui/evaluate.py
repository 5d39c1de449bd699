"""The Report tab's form that asks for an evaluation: which trained models, on how many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio import jobs
from studio.configs import EvaluateConfig
from studio.evaluation_checks import EvaluationError, refuse_evaluation
from studio.protocols import PROTOCOLS
from studio.records import Job
from studio.ui.backbones import fetch_panel
from studio.ui.context import Studio, View, trained_options
from studio.ui.forms import Form, FormError, config_form
from studio.ui.protocol_form import Files, ProtocolForm, missing_of, protocol_form

SHOWN = ("n", "seed")
MORE = ("measures", "oracle", "gallery", "steps", "guidance_scale", "repeats", "file_seeds", "incomplete")
Options = list[tuple[str, str]]


@dataclass(frozen=True)
class EvaluateForm:
    """The components of the form."""

    box: gr.Accordion
    models: gr.CheckboxGroup
    known: gr.State  # the models that were offered before
    protocol: ProtocolForm
    first: Form
    more: Form
    go: gr.Button
    said: gr.HTML
    public: bool = False  # what attacks found is not handed out

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.models, self.known, self.more.fields["oracle"], self.protocol.attacks]

    @property
    def choices(self) -> list[Any]:
        return [self.models, self.known, self.protocol.attacks]

    @property
    def inputs(self) -> list[Any]:
        """What `start_evaluation` takes after the project."""
        return [self.models, *self.protocol.inputs, *self.first.components, *self.more.components]

    def refresh(
        self, view: View, ticked: list[str] | None, known: Options | None, attacks: list[str] | None = None
    ) -> list[Any]:
        """The trained models to choose from, all ticked at first and a new one at once; and the finished attacks.

        Those of a sweep begin unticked where there are others: they serve to choose a value.
        """
        found = self.protocol.refresh(view, attacks, self.public)
        options = trained_options(view)
        keys = [key for _, key in options]
        sweeps = {job.id for job in view.jobs if job.kind == "sweep"}
        begin = [one.id for one in view.checkpoints if one.job_id not in sweeps] or keys
        embedded = view.project.checkpoint == "toybox"
        shown = gr.update(visible=bool(keys) or embedded)
        if ticked is None or known is None:
            models = gr.update(choices=options, value=begin, visible=bool(keys))
            return [shown, models, options, gr.update(visible=embedded, value=embedded), *found]
        before = {key for _, key in known}
        wanted = [key for key in keys if key in ticked or (key not in before and key in begin)]
        same = [tuple(option) for option in known] == options
        models = gr.skip() if same else gr.update(choices=options, value=wanted, visible=bool(keys))
        return [shown, models, options, gr.skip(), *found]


def evaluate_form(studio: Studio, project: gr.Dropdown) -> EvaluateForm:
    """Build the components in the current container."""
    with gr.Accordion("Evaluate models", open=False, visible=False, elem_id="duo-evaluate") as box:
        models = gr.CheckboxGroup(
            [], label="Trained models", info="They are compared with the original on the same prompts and seeds.",
            elem_classes="duo-list", elem_id="duo-evaluate-models",
        )  # fmt: skip
        protocol = protocol_form()
        with gr.Row():
            first = config_form(EvaluateConfig, SHOWN)
        with gr.Accordion("More settings", open=False):
            more = config_form(EvaluateConfig, MORE)
            fetch_panel(studio, project)
        go = gr.Button("Evaluate", variant="primary", size="md", elem_id="duo-evaluate-go")
        said = gr.HTML()
    both = Form(EvaluateConfig, {**first.fields, **more.fields})
    protocol.wire(studio, project, models, both)
    public = studio.settings.public_demo
    return EvaluateForm(box, models, gr.State([]), protocol, first, more, go, said, public)


def start_evaluation(
    studio: Studio,
    form: EvaluateForm,
    project_id: str,
    ticked: Sequence[str],
    protocol: str,
    files: Files,
    attacks: Sequence[str],
    *values: Any,
) -> Job:
    """Queue the evaluation. Raises FormError with words for the page."""
    view = studio.view(project_id)
    chosen = [one.id for one in view.checkpoints if one.id in ticked]
    if view.checkpoints and not chosen:
        raise FormError("No trained model is ticked. Tick at least one.")
    both = Form(EvaluateConfig, {**form.first.fields, **form.more.fields})
    attacks = [] if form.public else list(attacks or ())
    asked = {"checkpoint_ids": chosen, "attacks": attacks, **(files or {}), "protocol": protocol or ""}
    config = both.read(values, **asked)
    assert isinstance(config, EvaluateConfig)
    if protocol and not config.incomplete:
        missing = missing_of(studio, project_id, PROTOCOLS[protocol], files, chosen, attacks)
        if missing:
            raise FormError(f"{' '.join(missing)} Get it, or tick Incomplete under More settings.")
    try:
        refuse_evaluation(studio.store, view.project, config.model_dump())
    except EvaluationError as error:
        raise FormError(str(error)) from None
    job = jobs.submit(studio.store, studio.settings, "evaluate", project_id, config.model_dump())
    studio.runner.tick()
    return job
