"""The Curate tab's views beside "Review": the bar that switches them, and frames that scripts fill.

Only one view is seen at a time (assets/curate-views.js and .css); the others neither ask the server nor hear keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.records import Project
from studio.ui.context import Studio, View
from studio.ui.grid import grid_frame
from studio.ui.quality import quality_frame
from studio.ui.reviewers import reviewers_frame
from studio.ui.words import escape

# Name, what the button says, what it is for; the first is studio.ui.curate's.
VIEWS = (
    ("review", "Review", "One pair at a time, large"),
    ("grid", "Grid", "Many pairs: sort, filter, choose several, decide by thresholds"),
    ("quality", "Quality", "What each prompt has, and near-duplicates"),
    ("reviewers", "Reviewers", "Second reviews, agreement, and who has done what"),
)
FRAMES: dict[str, Callable[[Project], str]] = {
    "grid": grid_frame,
    "quality": quality_frame,
    "reviewers": reviewers_frame,
}


@dataclass(frozen=True)
class Frames:
    """Frames of one project; a tick leaves them alone as long as the project looks the same."""

    htmls: dict[str, gr.HTML]

    @property
    def outputs(self) -> list[Any]:
        return list(self.htmls.values())

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id, view.project.concept, view.project.blur

    def refresh(self, view: View) -> list[Any]:
        return [FRAMES[name](view.project) for name in self.htmls]


def views_bar(studio: Studio, project: gr.Dropdown) -> Frames:
    """The buttons above all views."""
    buttons = "".join(
        f'<button type="button" data-view="{name}" title="{escape(title)}" '
        f'aria-pressed="{str(name == "review").lower()}">{label}</button>'
        for name, label, title in VIEWS
    )
    bar = f'<div class="cur-views" role="group" aria-label="View of the pairs">{buttons}</div>'
    gr.HTML(bar, elem_id="duo-views", js_on_load="window.duoStudio.views(element)")
    return Frames({})


def more_views(studio: Studio, project: gr.Dropdown) -> Frames:
    """Every view but "Review"."""
    return Frames({name: gr.HTML(elem_id=f"duo-{name}", js_on_load=_on_load(name)) for name in FRAMES})


def _on_load(name: str) -> str:
    call = f"window.duoStudio.openView('{name}', element)"
    return f"{call}; watch('value', () => {call});"
