"""Projects in the page's header: which one is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.ui.context import Studio, View, project_options


@dataclass(frozen=True)
class ProjectBar:
    """The list of projects."""

    project: gr.Dropdown

    @property
    def outputs(self) -> list[Any]:
        return [self.project]

    @property
    def choices(self) -> list[Any]:
        return [self.project]

    def shows(self, view: View) -> Any:
        return view.project.id, view.projects

    def refresh(self, view: View, chosen: str | None) -> list[Any]:
        """A tick leaves the choice alone: the visitor may be choosing another project at this moment."""
        options = project_options(view.projects)
        return [gr.update(choices=options, value=view.project.id) if chosen is None else gr.update(choices=options)]


def project_bar(studio: Studio, project: gr.Dropdown) -> ProjectBar:
    return ProjectBar(project)
