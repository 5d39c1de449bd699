"""Prompt shelves in Compare: put the prompts aside under a name, take them out again, bring them in from a file.

/studio/shelves/<id>.csv     a shelf as a file: the column "prompt"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.csv_files import csv_text
from studio.records import PromptShelf
from studio.store import NotFoundError, Store, StoreError
from studio.ui.compare_form import Form, InputError, lines_of
from studio.ui.context import QUIET, Studio
from studio.ui.prompt_uploads import uploaded_prompts
from studio.ui.words import UP_TO, escape, note

MAX_NAME = 80
MAX_PROMPTS = 1000


@dataclass(frozen=True)
class ShelfPanel:
    """The components of the shelves."""

    shelf: gr.Dropdown
    name: gr.Textbox
    save: gr.Button
    rename: gr.Button
    remove: gr.Button
    upload: gr.UploadButton
    export: gr.HTML
    said: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.shelf, self.rename, self.remove, self.export]

    def refresh(self, shelves: Sequence[PromptShelf], chosen: str | None) -> list[Any]:
        """New values of `outputs`: the list, and what can be done with the chosen one."""
        found = next((shelf for shelf in shelves if shelf.id == chosen), None)
        listed = [(f"{shelf.name} ({len(lines_of(shelf.prompts))})", shelf.id) for shelf in shelves]
        return [
            gr.update(choices=listed, value=found.id if found else None, interactive=bool(shelves)),
            gr.update(interactive=found is not None),
            gr.update(interactive=found is not None),
            _export_link(found) if found else "",
        ]


def shelf_panel() -> ShelfPanel:
    """Build the components in the current container; `wire_shelves` makes them work."""
    with gr.Accordion("Saved prompts", open=False, elem_id="duo-shelves"):
        shelf = gr.Dropdown(
            [],
            label="Shelf",
            info="Choosing one fills in its prompts and seed.",
            elem_id="duo-shelf",
            interactive=False,
        )
        name = gr.Textbox(label="Name", max_length=MAX_NAME, placeholder="Hard ones", elem_id="duo-shelf-name")
        with gr.Row(elem_classes="duo-small-buttons"):
            save = gr.Button("Save prompts", size="sm", elem_id="duo-shelf-save")
            rename = gr.Button("Rename", size="sm", interactive=False, elem_id="duo-shelf-rename")
            remove = gr.Button("Remove", size="sm", interactive=False, elem_id="duo-shelf-remove")
        with gr.Row(elem_classes="duo-small-buttons"):
            upload = gr.UploadButton(
                f"Import text or CSV ({UP_TO})", size="sm", file_types=[".txt", ".csv", ".tsv"],
                elem_id="duo-shelf-import",
            )  # fmt: skip
            export = gr.HTML(elem_classes="duo-links")
        said = gr.HTML()
    return ShelfPanel(shelf, name, save, rename, remove, upload, export, said)


def wire_shelves(studio: Studio, project: gr.Dropdown, form: Form, panel: ShelfPanel) -> None:
    store = studio.store

    def answer(project_id: str, chosen: str | None, words: str) -> list[Any]:
        return [*panel.refresh(store.list_shelves(project_id), chosen), words]

    def save(project_id: str, name: str, text: str, seed: float | None, count: int, chosen: str | None) -> list[Any]:
        try:
            shelf = save_shelf(store, project_id, name, lines_of(text), seed, count)
        except (InputError, StoreError) as problem:
            return answer(project_id, chosen, note(str(problem), "error"))
        return answer(project_id, shelf.id, note(f"Saved as {shelf.name!r}."))

    def rename(project_id: str, chosen: str, name: str) -> list[Any]:
        try:
            shelf = store.rename_shelf(chosen, _checked_name(name))
        except (InputError, StoreError) as problem:
            return answer(project_id, chosen, note(str(problem), "error"))
        return answer(project_id, chosen, note(f"It is now called {shelf.name!r}."))

    def remove(project_id: str, chosen: str) -> list[Any]:
        store.remove_shelf(chosen)
        return answer(project_id, None, note("Removed. The prompts above are as they were."))

    def load(project_id: str, chosen: str | None) -> list[Any]:
        try:
            shelf = store.get_shelf(chosen or "")
        except NotFoundError:
            return [gr.skip()] * 4 + answer(project_id, None, note("That shelf was removed meanwhile.", "error"))
        loaded = answer(project_id, chosen, note(f"{len(lines_of(shelf.prompts))} prompts from {shelf.name!r}."))
        return [shelf.prompts, shelf.seed, shelf.count, shelf.name, *loaded]

    def bring_in(path: str | None, text: str) -> list[Any]:
        if not path:
            return [gr.skip(), gr.skip()]
        try:
            prompts = prompts_of_file(Path(path))
        except InputError as problem:
            return [gr.skip(), note(str(problem), "error")]
        return ["\n".join(prompts), note(f"{len(prompts)} prompts from the file. Save them to keep them.")]

    outputs = [*panel.outputs, panel.said]
    now = [project, panel.name, form.text, form.seed, form.count, panel.shelf]
    panel.save.click(save, now, outputs, queue=False, **QUIET)
    panel.rename.click(rename, [project, panel.shelf, panel.name], outputs, queue=False, **QUIET)
    panel.remove.click(remove, [project, panel.shelf], outputs, queue=False, **QUIET)
    loaded = [form.text, form.seed, form.count, panel.name, *outputs]
    panel.shelf.input(load, [project, panel.shelf], loaded, queue=False, **QUIET)
    panel.upload.upload(bring_in, [panel.upload, form.text], [form.text, panel.said], queue=False, **QUIET)


def save_shelf(
    store: Store, project_id: str, name: str, prompts: Sequence[str], seed: float | None, count: int
) -> PromptShelf:
    """Raises InputError or StoreError, worded for the page."""
    if not prompts:
        raise InputError("There are no prompts to save. Type some first.")
    shelf = PromptShelf("", project_id, _checked_name(name), "\n".join(prompts), int(seed or 0), int(count))
    return store.add_shelf(shelf)


def prompts_of_file(path: Path) -> list[str]:
    """The prompts of a file, each in one line, as a shelf has them. Raises InputError."""
    prompts = uploaded_prompts(path, MAX_PROMPTS)
    return list(dict.fromkeys(" ".join(prompt.split()) for prompt in prompts))


def prompts_csv(prompts: Sequence[str]) -> str:
    return csv_text(["prompt"], ([prompt] for prompt in prompts))


def shelf_routes(store: Store) -> list[Route]:
    def shelf(request: Request) -> Response:
        try:
            found = store.get_shelf(request.path_params["name"].removesuffix(".csv"))
        except NotFoundError:
            return PlainTextResponse("There is no such shelf.", status_code=404)
        return Response(prompts_csv(lines_of(found.prompts)), media_type="text/csv; charset=utf-8")

    return [Route("/studio/shelves/{name}", shelf, methods=["GET"])]


def _export_link(shelf: PromptShelf) -> str:
    return f'<a href="studio/shelves/{shelf.id}.csv" download="{escape(shelf.name)}.csv">Export as CSV</a>'


def _checked_name(name: str) -> str:
    name = " ".join((name or "").split())
    if not name:
        raise InputError("The shelf has no name yet. Type one, say “Hard ones”.")
    if len(name) > MAX_NAME:
        raise InputError(f"The name has {len(name)} letters; at most {MAX_NAME} fit.")
    return name
