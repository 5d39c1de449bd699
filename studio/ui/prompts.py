"""The Prompts tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.ui.context import Studio, View
from studio.ui.words import empty_state


@dataclass(frozen=True)
class PromptsTab:
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
        return [empty_state("No prompts yet", "Write pairs of prompts here.")]


def prompts_tab(studio: Studio, project: gr.Dropdown) -> PromptsTab:
    """Build the tab and wire its events."""
    return PromptsTab(gr.HTML())
