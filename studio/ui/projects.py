"""Projects in the page's header: which one is open, a new one, and what can still be changed of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.specs import LoadError
from studio.detector_configs import DETECTOR_CONFIGS
from studio.projects import ProjectError, blurs, free_name, new_project
from studio.records import Project
from studio.store import Store
from studio.ui.context import QUIET, Studio, View, project_options
from studio.ui.forms import Form, FormError, config_form
from studio.ui.words import escape, note

NEW, EDIT = "new", "edit"  # what the panel is open for; "" is closed
DETECTOR_NAMES = {
    "toybox": "Objects of the embedded checkpoint",
    "nudenet": "NudeNet: nudity in photos",
    "imagenet": "ImageNet's classes, by ResNet-50",
    "clip": "Any concept in words, by CLIP",
    "external": "A detector of another package",
}
_CHECKPOINT_HELP = (
    "“toybox” is the embedded one. Or a folder that diffusers saved, one .safetensors file, or a name on the Hugging "
    "Face hub, such as CompVis/stable-diffusion-v1-4, with @revision for a certain one. Stable Diffusion 1, 2, XL, 3 "
    "and FLUX.1."
)
_BLUR_HELP = "Pictures in which the detector finds the concept stay blurred until somebody reveals them."


@dataclass(frozen=True)
class ProjectButtons:
    """What stands beside the list of projects in the header."""

    new: gr.Button
    edit: gr.Button


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


@dataclass(frozen=True)
class ProjectPanel:
    """The form under the header; one for a new project and for the open one."""

    mode: gr.State
    box: gr.Column
    title: gr.HTML
    name: gr.Textbox
    concept: gr.Textbox
    checkpoint: gr.Textbox
    detector: gr.Radio
    blur: gr.Checkbox
    message: gr.HTML
    save: gr.Button
    close: gr.Button
    forms: dict[str, Form]
    groups: dict[str, gr.Column]

    @property
    def settings(self) -> list[Any]:
        """The components of all detectors' forms, one form after the other."""
        return [component for form in self.forms.values() for component in form.components]

    @property
    def fields(self) -> list[Any]:
        return [self.name, self.concept, self.checkpoint, self.detector, self.blur, *self.settings]

    @property
    def shown(self) -> list[Any]:
        """Everything that opening the panel fills."""
        return [self.mode, self.box, self.title, self.message, self.save, *self.fields, *self.groups.values()]

    def form_values(self, detector: str, values: tuple[Any, ...]) -> list[Any]:
        """Of all forms' values those of one detector."""
        start = 0
        for name, form in self.forms.items():
            if name == detector:
                return list(values[start : start + len(form.components)])
            start += len(form.components)
        raise ProjectError(f"There is no detector {detector!r}; use {', '.join(self.forms)}.")

    def visible(self, detector: str) -> list[Any]:
        return [gr.update(visible=name == detector) for name in self.groups]

    def open_new(self) -> list[Any]:
        blank = Project("", "", "", "toybox", "toybox")
        return self._filled(NEW, "New project", "", "Create the project", blank, fixed=False)

    def open_edit(self, project: Project) -> list[Any]:
        words = "Checkpoint and detector stay: the project's pictures were made with them."
        return self._filled(EDIT, "Project settings", words, "Save", project, fixed=True)

    def _filled(self, mode: str, title: str, words: str, action: str, project: Project, *, fixed: bool) -> list[Any]:
        settings = [
            update
            for name, form in self.forms.items()
            for update in form.show(project.detector_settings if name == project.detector else {})
        ]
        return [
            mode,
            gr.update(visible=True),
            _heading(title, words),
            "",
            gr.update(value=action),
            gr.update(value=project.name),
            gr.update(value=project.concept, interactive=not fixed),
            gr.update(value=project.checkpoint, interactive=not fixed),
            gr.update(value=project.detector, interactive=not fixed),
            gr.update(value=project.blur),
            *settings,
            *self.visible(project.detector),
        ]


def project_buttons() -> ProjectButtons:
    """Build them, in the header. A button that opens another kind of project goes between the two."""
    with gr.Row(elem_classes="duo-project-buttons"):
        new = gr.Button("New project", size="md", scale=0, min_width=0, elem_id="duo-new-project")
        edit = gr.Button("Settings", size="md", scale=0, min_width=0, elem_id="duo-project-settings")
    return ProjectButtons(new, edit)


def project_bar(studio: Studio, project: gr.Dropdown, buttons: ProjectButtons) -> ProjectBar:
    """Build the panel, closed, under the header, and wire the header's buttons."""
    _wire(studio, project, buttons, _panel())
    return ProjectBar(project)


def create(store: Store, form: Form, values: list[Any], **asked: Any) -> Project:
    """Store a new project. Raises ProjectError, LoadError or FormError with what is wrong."""
    settings = form.read(values).model_dump()
    with store.transaction():
        return store.create_project(new_project(settings=settings, others=store.list_projects(), **asked))


def change(store: Store, project: Project, form: Form, values: list[Any], name: str, blur: bool) -> Project:
    """Change what may still be changed. Raises ProjectError or FormError with what is wrong."""
    settings = form.read(values).model_dump()
    with store.transaction():
        others = [other for other in store.list_projects() if other.id != project.id]
        return store.update_project(
            project.id, name=free_name(name, others), detector_settings=settings, blur=bool(blur)
        )


def _panel() -> ProjectPanel:
    mode = gr.State("")
    with gr.Column(visible=False, elem_id="duo-project-panel", elem_classes="duo-project-panel") as box:
        with gr.Row(elem_classes="duo-project-title"):
            title = gr.HTML(_heading("New project", ""))
            close = gr.Button("Close", size="md", scale=0, min_width=80, elem_id="duo-project-close")
        with gr.Row(elem_classes="duo-project-fields"):
            with gr.Column(min_width=280):
                name = gr.Textbox(label="Name", max_lines=1, max_length=120, elem_id="duo-project-name")
                concept = gr.Textbox(
                    label="Concept to forget, in words", placeholder="sword", max_lines=1, max_length=120
                )
                checkpoint = gr.Textbox(label="Checkpoint", info=_CHECKPOINT_HELP, max_lines=1, value="toybox")
            with gr.Column(min_width=280):
                detector = gr.Radio(
                    [(DETECTOR_NAMES.get(key, key), key) for key in DETECTOR_CONFIGS],
                    value="toybox",
                    label="Detector",
                    info="Says whether the concept is in a picture.",
                    elem_classes="duo-list",
                )
                forms, groups = {}, {}
                for key, config in DETECTOR_CONFIGS.items():
                    with gr.Column(visible=key == "toybox", elem_classes="duo-project-detector") as groups[key]:
                        forms[key] = config_form(config)
                blur = gr.Checkbox(label="Blur what the detector flags", info=_BLUR_HELP)
        message = gr.HTML(elem_id="duo-project-message")
        save = gr.Button("Create the project", variant="primary", size="md", elem_id="duo-project-save")
    return ProjectPanel(
        mode, box, title, name, concept, checkpoint, detector, blur, message, save, close, forms, groups
    )


def _wire(studio: Studio, project: gr.Dropdown, buttons: ProjectButtons, panel: ProjectPanel) -> None:
    store = studio.store
    closed = ["", gr.update(visible=False)]

    def press(wanted: str, mode: str, project_id: str) -> list[Any]:
        """The button that opened the panel closes it again."""
        if mode == wanted:
            return [*closed, *[gr.skip()] * (len(panel.shown) - 2)]
        return panel.open_new() if wanted == NEW else panel.open_edit(store.get_project(project_id))

    def follow(mode: str, project_id: str) -> list[Any]:
        """Another project was opened while the settings of one are shown."""
        return panel.open_edit(store.get_project(project_id)) if mode == EDIT else [gr.skip()] * len(panel.shown)

    def detect(detector: str) -> list[Any]:
        return [gr.update(value=blurs(detector)), *panel.visible(detector)]

    def look_for(concept: str) -> Any:
        """A concept that the embedded checkpoint's detector knows is what it looks for."""
        word = concept.strip().lower()
        known = DETECTOR_CONFIGS["toybox"].model_json_schema()["properties"]["concept"]["enum"]
        return gr.update(value=word) if word in known else gr.skip()

    def save(
        mode: str, project_id: str, name: str, concept: str, checkpoint: str, detector: str, blur: bool, *values: Any
    ) -> list[Any]:
        try:
            form, own = panel.forms[detector], panel.form_values(detector, values)
            if mode == NEW:
                asked = {"name": name, "concept": concept, "checkpoint": checkpoint, "detector": detector, "blur": blur}
                project_id = create(store, form, own, **asked).id
            else:
                change(store, store.get_project(project_id), form, own, name, blur)
        except (ProjectError, LoadError, FormError) as error:
            return [gr.skip(), gr.skip(), note(str(error), "error"), gr.skip()]
        return [*closed, "", gr.update(choices=project_options(store.list_projects()), value=project_id)]

    for button, wanted in ((buttons.new, NEW), (buttons.edit, EDIT)):

        def pressed(mode: str, project_id: str, wanted: str = wanted) -> list[Any]:
            return press(wanted, mode, project_id)

        opened = button.click(pressed, [panel.mode, project], panel.shown, queue=False, **QUIET)
        opened.then(
            None, js="() => document.querySelector('#duo-project-name input, #duo-project-name textarea')?.focus()"
        )
    project.change(follow, [panel.mode, project], panel.shown, queue=False, **QUIET)
    panel.detector.input(detect, panel.detector, [panel.blur, *panel.groups.values()], queue=False, **QUIET)
    panel.concept.blur(look_for, panel.concept, panel.forms["toybox"].fields["concept"], queue=False, **QUIET)
    outputs = [panel.mode, panel.box, panel.message, project]
    for event in (panel.save.click, panel.name.submit):
        event(save, [panel.mode, project, *panel.fields], outputs, queue=False, **QUIET)
    panel.close.click(lambda: closed, None, [panel.mode, panel.box], queue=False, **QUIET)


def _heading(title: str, words: str) -> str:
    more = f"<p>{escape(words)}</p>" if words else ""
    return f'<div class="duo-step"><h2>{escape(title)}</h2>{more}</div>'
