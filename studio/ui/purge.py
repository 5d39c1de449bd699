"""The panel "Delete pictures" of the Curate tab: what goes is told first, and only the owner can let it go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.purging import SCOPES, Plan, plan, purge
from studio.records import Purge
from studio.store import StoreError
from studio.ui.context import QUIET, Studio, View
from studio.ui.viewer import viewer_of
from studio.ui.words import escape, note

WHICH = [
    ("Undecided and rejected pairs", "undecided"),
    ("All pairs", "pairs"),
    ("Everything: pairs, samples of trainings, attempts, attacks, and the pictures in reports", "everything"),
]
MOST_DAYS = 36_500
_ABOUT = """<p class="duo-quiet">Pictures are deleted for good, with the latents that are made of them. Prompts,
decisions, scores and the pictures' hashes stay for the audit. Pictures that Compare drew belong to no project:
<code>python -m studio clean</code> deletes those.</p>"""
_NOT_OWNER = (
    "Only the owner deletes pictures: whoever opens this page on the machine that the studio runs on, or in a shell: "
    "python -m studio purge."
)


@dataclass(frozen=True)
class PurgePanel:
    """The components that follow the rows."""

    studio: Studio
    told: gr.HTML
    confirm: gr.Textbox
    days: gr.Textbox
    book: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.told, self.confirm, self.days, self.book]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id, view.project.name, view.project.retention_days, view.pairs.ready

    def refresh(self, view: View) -> list[Any]:
        """What was told of a deletion is forgotten: it may be true no more."""
        days = str(view.project.retention_days)
        label = f"Type the project's name, {view.project.name}"
        book = booked(self.studio.store.list_purges(view.project.id))
        return ["", gr.update(value="", label=label), days, book]


def purge_panel(studio: Studio, project: gr.Dropdown) -> PurgePanel:
    """Build the panel and wire its events."""
    with (
        gr.Accordion("Delete pictures", open=False, elem_id="duo-purge", elem_classes="ex-box"),
        gr.Row(equal_height=False, elem_classes="ex-columns"),
    ):
        with gr.Column(min_width=320):
            gr.HTML(_ABOUT)
            which = gr.Radio(WHICH, value="undecided", label="What to delete", elem_classes="duo-list")
            look = gr.Button("What would go?", size="md", elem_id="duo-purge-look")
            told = gr.HTML(elem_id="duo-purge-told")
            by = gr.Textbox(label="Your name", max_lines=1, max_length=60)
            reason = gr.Textbox(label="Why", max_lines=1, max_length=200)
            confirm = gr.Textbox(label="Type the project's name", max_lines=1, elem_id="duo-purge-confirm")
            go = gr.Button("Delete these pictures", variant="stop", size="md", elem_id="duo-purge-go")
            said = gr.HTML(elem_id="duo-purge-said")
        with gr.Column(scale=0, min_width=320, elem_classes="ex-form"):
            days = gr.Textbox(
                label="Keep undecided and rejected pictures for, in days",
                info="After so many days without a change they are deleted by themselves. 0 keeps them.",
                max_lines=1,
                elem_classes="duo-number",
                elem_id="duo-retention",
            )
            save = gr.Button("Save", size="md", elem_id="duo-retention-save")
            saved = gr.HTML(elem_id="duo-retention-said")
            book = gr.HTML(elem_id="duo-purges")
    panel = PurgePanel(studio, told, confirm, days, book)

    def show(project_id: str, scope: str) -> str:
        return in_words(plan(studio.store, studio.settings, project_id, scope))  # type: ignore[arg-type]

    def delete(project_id: str, scope: str, by: str, reason: str, name: str, request: gr.Request) -> list[Any]:
        viewer = viewer_of(request.request)
        by = viewer.name if viewer.signed_in else by
        words = delete_pictures(studio, project_id, scope, by, reason, name, owner=viewer.is_owner)
        if "duo-note-error" in words:
            return [words, *[gr.skip()] * len(panel.outputs)]
        return [words, *panel.refresh(studio.view(project_id))]

    def keep(project_id: str, text: str, request: gr.Request) -> str:
        return keep_for(studio, project_id, text, owner=viewer_of(request.request).is_owner)

    look.click(show, [project, which], told, queue=False, **QUIET)
    which.input(lambda: "", None, told, queue=False, **QUIET)
    inputs = [project, which, by, reason, confirm]
    go.click(delete, inputs, [said, *panel.outputs], queue=False, trigger_mode="once", **QUIET)
    for event in (save.click, days.submit):
        event(keep, [project, days], saved, queue=False, **QUIET)
    return panel


def delete_pictures(
    studio: Studio, project_id: str, scope: str, by: str, reason: str, name: str, *, owner: bool
) -> str:
    """Delete what the scope means, if the owner says the project's name; what to say of it."""
    store = studio.store
    project = store.get_project(project_id)
    if not owner:
        return note(_NOT_OWNER, "error")
    if name.strip() != project.name:
        return note(f"Type the project's name, {project.name}, to delete its pictures. Nothing was deleted.", "error")
    try:
        wanted = plan(store, studio.settings, project_id, scope)  # type: ignore[arg-type]
        done = purge(store, studio.settings, project_id, wanted, by or "", reason or "")
    except StoreError as error:
        return note(str(error), "error")
    return note(f"Deleted: {_amount(done.pairs, done.files, done.bytes)}.")


def keep_for(studio: Studio, project_id: str, text: str, *, owner: bool) -> str:
    """Save a project's retention; what to say of it."""
    if not owner:
        return note(_NOT_OWNER, "error")
    days = (text or "").strip() or "0"
    if not days.isdecimal() or int(days) > MOST_DAYS:
        return note(f"Days are {days}; write a whole number from 0 to {MOST_DAYS:,}.", "error")
    studio.store.update_project(project_id, retention_days=int(days))
    if not int(days):
        return note("Pictures are kept until somebody deletes them.")
    return note(f"Undecided and rejected pictures are deleted after {int(days):,} days. The studio looks every hour.")


def in_words(wanted: Plan) -> str:
    """What a purge would delete, with count and size."""
    if not wanted.files:
        return '<p class="ex-facts">There is nothing to delete.</p>'
    shared = (
        f" {wanted.shared:,} pictures stay, since another pair, project or comparison shows them too."
        if wanted.shared
        else ""
    )
    amount = _amount(len(wanted.pairs), len(wanted.files), wanted.bytes)
    return f'<p class="ex-facts"><b>{escape(amount)}</b> of {escape(SCOPES[wanted.scope])}.{shared}</p>'


def booked(purges: Sequence[Purge]) -> str:
    """What was deleted, when, by whom and why, the newest first."""
    rows = "".join(
        f'<tr><th scope="row">{time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created))}</th>'
        f"<td>{escape(one.by)}<small>{escape(one.reason)}</small></td>"
        f"<td>{escape(_amount(one.pairs, one.files, one.bytes))}</td></tr>"
        for one in reversed(purges)
    )
    if not rows:
        return ""
    return (
        '<details><summary>What was deleted</summary><div class="duo-scroll" tabindex="0" role="region" '
        'aria-label="What was deleted"><table class="duo-table"><thead><tr><th scope="col">When</th>'
        f'<th scope="col">By</th><th scope="col">What</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _amount(pairs: int, files: int, size: int) -> str:
    return f"{pairs:,} pair{'' if pairs == 1 else 's'}, {files:,} file{'' if files == 1 else 's'}, {size / 1e6:,.1f} MB"
