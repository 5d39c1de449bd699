"""The Curate tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.ui.context import Studio, View
from studio.ui.words import empty_state


@dataclass(frozen=True)
class CurateTab:
    """The components that change when rows change."""

    html: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.html]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id

    def refresh(self, view: View) -> list[Any]:
        return [empty_state("No pairs yet", "Pairs of pictures are judged here.")]


def curate_tab(studio: Studio, project: gr.Dropdown) -> CurateTab:
    """Build the tab and wire its events."""
    return CurateTab(gr.HTML())
