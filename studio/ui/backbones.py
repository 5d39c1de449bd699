"""Networks that no package ships, in the page: which are missing, and a button that fetches one as a job."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from studio import jobs
from studio.backbones import BACKBONES, MEASURED_WITH, Backbone, find
from studio.ui.context import QUIET, Studio
from studio.ui.words import escape, note


def fetch_panel(studio: Studio, project: gr.Dropdown) -> None:
    """In the current container: what is missing of the measures' networks, and a button for each."""
    wanted = [BACKBONES[key] for key in dict.fromkeys(MEASURED_WITH.values())]
    missing = [backbone for backbone in wanted if find(backbone) is None]
    if not missing:
        return
    gr.HTML(note(f"Not on this machine yet: {', '.join(map(_needed, missing))}."))
    said = gr.HTML()
    with gr.Row(elem_classes="duo-actions"):
        for backbone in missing:
            button = gr.Button(f"Fetch {backbone.title.split(',')[0]} ({backbone.megabytes} MB)", size="md")
            button.click(partial(start_fetch, studio, backbone.key), project, said, queue=False, **QUIET)


def start_fetch(studio: Studio, key: str, project_id: str) -> str:
    """Queue the download, unless it is there or on its way."""
    backbone = BACKBONES[key]
    if find(backbone):
        return note(f"{backbone.title} is on this machine now.")
    waiting = [job for job in studio.store.list_jobs() if job.kind == "fetch" and not job.is_final]
    if not any(job.config.get("backbone") == key for job in waiting):
        jobs.submit(studio.store, studio.settings, "fetch", project_id, {"backbone": key})
        studio.runner.tick()
    return note(f"{backbone.title} is being fetched; Jobs shows how far it is.")


def _needed(backbone: Backbone) -> Any:
    return f"{backbone.title} (for {escape(backbone.serves)})"
