"""The offer of a finished project, while it is not among the projects: the first thing that a newcomer can open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.sample import SampleError, open_sample, sample_id
from studio.ui.context import QUIET, Studio, View, project_options
from studio.ui.words import note

_WORDS = """<div><b>New here?</b> The sample project is already finished: pairs, decisions, a DUO and an ESD model that
forgot the sword, and their report.</div>"""


@dataclass(frozen=True)
class SampleOffer:
    """One line under the header with one button."""

    row: gr.Row
    message: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.row]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> bool:
        """False too where no sample is shipped."""
        return sample_id() not in {"", *(project.id for project in view.projects)}

    def refresh(self, view: View) -> list[Any]:
        return [gr.update(visible=self.shows(view))]


def sample_offer(studio: Studio, project: gr.Dropdown) -> SampleOffer:
    """Build the line; opening chooses the sample in the list of projects, which fills the page."""
    with gr.Row(visible=False, elem_classes="duo-offer") as row:
        gr.HTML(_WORDS)
        button = gr.Button("Open the sample project", variant="primary", size="md", scale=0, elem_id="duo-open-sample")
    offer = SampleOffer(row, gr.HTML(elem_id="duo-offer-message"))

    def open_it() -> list[Any]:
        try:
            opened = open_sample(studio.store, studio.settings)
        except SampleError as error:
            return [gr.skip(), gr.skip(), note(str(error), "error")]
        options = project_options(studio.store.list_projects())
        return [gr.update(choices=options, value=opened.id), gr.update(visible=False), ""]

    button.click(open_it, None, [project, offer.row, offer.message], trigger_mode="once", **QUIET)
    return offer
