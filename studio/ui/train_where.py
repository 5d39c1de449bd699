"""Where a training runs: on this machine, or at Hugging Face with what that costs at most. Part of Train's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.launch_options import LEAST_MINUTES, MOST_MINUTES
from studio.launchers import HF_JOBS, LOCAL, LaunchError
from studio.launchers.hf_jobs import cost_words, flavors, machines, not_here
from studio.records import ELSEWHERE, Job
from studio.ui.context import QUIET, Studio
from studio.ui.words import escape

CHOICES = [(LOCAL.title, LOCAL.name), (HF_JOBS.title, HF_JOBS.name)]


@dataclass(frozen=True)
class WherePanel:
    """The components."""

    studio: Studio
    choice: gr.Radio
    details: gr.Column
    flavor: gr.Dropdown
    minutes: gr.Number
    cost: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        return [self.choice, self.flavor, self.minutes]

    def asked(self, choice: str | None, flavor: Any, minutes: Any) -> dict[str, Any]:
        """What a job is submitted with."""
        if choice != HF_JOBS.name:
            return {"launcher": LOCAL.name}
        return {"launcher": choice, "flavor": str(flavor), "timeout_minutes": minutes}

    def show(self, choice: str | None, flavor: Any, minutes: Any) -> list[Any]:
        """Updates of the details and what the training costs; whoever asks is told the prices as they are now."""
        if choice != HF_JOBS.name:
            return [gr.update(visible=False), ""]
        try:
            options = HF_JOBS.options(self.studio.settings, self.asked(choice, flavor, minutes))
        except LaunchError as error:
            return [gr.update(visible=True), f'<p class="duo-brief is-not">{escape(error)}</p>']
        words = cost_words(options, machines())
        return [gr.update(visible=True), f'<p class="duo-quiet">{escape(words)} Prompts and latents go there.</p>']


def where_panel(studio: Studio) -> WherePanel:
    """Build the components; Hugging Face can be chosen where a token is there."""
    options, why = studio.settings.hf_jobs, not_here()
    first = studio.settings.launcher if not why else LOCAL.name
    choice = gr.Radio(
        CHOICES,
        value=first,
        label="Where it runs",
        info=why or "At Hugging Face it costs money, and leaves this machine free.",
        interactive=not why,
        elem_id="duo-where",
    )
    names = flavors()
    with gr.Column(
        visible=first == HF_JOBS.name, elem_id="duo-where-details", elem_classes="duo-method-settings"
    ) as details:
        flavor = gr.Dropdown(
            names if options.flavor in names else [options.flavor, *names],
            value=options.flavor,
            label="Machine",
            elem_id="duo-flavor",
        )
        minutes = gr.Number(
            options.timeout_minutes,
            label="Time-out",
            info="Minutes after which Hugging Face ends it. A training that was ended can be resumed.",
            minimum=LEAST_MINUTES,
            maximum=MOST_MINUTES,
            elem_id="duo-timeout",
        )
        cost = gr.HTML(elem_id="duo-cost")
    return WherePanel(studio, choice, details, flavor, minutes, cost)


def wire_where(panel: WherePanel) -> None:
    """Tell the cost as soon as something changes that it depends on."""

    def show(choice: str | None, flavor: Any, minutes: Any) -> list[Any]:
        return panel.show(choice, flavor, minutes)

    triggers = [panel.choice.change, panel.flavor.change, panel.minutes.change]
    outputs = [panel.details, panel.cost]
    gr.on(triggers, show, panel.inputs, outputs, queue=False, trigger_mode="always_last", **QUIET)


def where_words(job: Job) -> str:
    """Where a job runs or ran, "" where that is this machine."""
    if job.launcher not in ELSEWHERE:
        return ""
    minutes = job.place.get("timeout_minutes", 0)
    return f"{HF_JOBS.title}, machine {job.place.get('flavor', '')}, {minutes:g} minutes at most"
