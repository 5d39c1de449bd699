"""Where many prompt pairs come from at once: a template, a ready-made set, a file. Looked at first, then added."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from studio.prompt_checks import Checked, Draft, check, prompts_of
from studio.prompt_files import PromptFileError, in_words, read_drafts
from studio.prompt_presets import presets_for
from studio.prompt_templates import HELP, TemplateError, expand
from studio.store import Store
from studio.ui.context import QUIET, Studio
from studio.ui.words import UP_TO, escape, note

TEMPLATE, PRESET, FILE = "Template", "Ready-made", "File"
SHOWN = 8
FILE_TYPES = [".csv", ".jsonl", ".ndjson", ".json"]
NO_FILE: tuple[str, list[Draft]] = ("", [])
Follow = Callable[[str, str], list[Any]]
_TITLE = """
<div class="duo-step"><h2>Add prompts</h2><p>You see the pairs before they are added; none is added twice.</p></div>
"""
_FILE_HELP = """
<p class="pr-help"><b>CSV</b> with the columns unsafe, safe and, if you like, count, seed and group; <b>JSONL</b> with
one {"unsafe": "…", "safe": "…"} a line; or <b>config.json</b> of the DUO repository. UTF-8.</p>
"""


@dataclass(frozen=True)
class Sources:
    """The panel's components."""

    source: gr.Radio
    unsafe: gr.Textbox
    safe: gr.Textbox
    count: gr.Textbox
    group: gr.Textbox
    preset: gr.Radio
    upload: gr.UploadButton
    file: gr.State  # name and drafts of the file that was chosen
    preview: gr.HTML
    add: gr.Button
    boxes: dict[str, gr.Column]

    @property
    def asked(self) -> list[Any]:
        """What decides which pairs there are to add."""
        return [self.source, self.unsafe, self.safe, self.count, self.group, self.preset, self.file]

    def wire(self, studio: Studio, project: gr.Dropdown, follow: Follow, followers: list[Any]) -> None:
        """`follow` gives the new values of `followers`, from the project and the chosen preset, after an addition."""
        store = studio.store
        shown = [self.preview, self.add]

        def look(project_id: str, *asked: Any) -> list[Any]:
            return preview(store, project_id, *asked)

        def turn(source: str, project_id: str, *asked: Any) -> list[Any]:
            boxes = [gr.update(visible=name == source) for name in self.boxes]
            return [*boxes, *preview(store, project_id, *asked)]

        def take(path: str | None, project_id: str, *asked: Any) -> list[Any]:
            file, problem = read_upload(path)
            if problem:
                return [NO_FILE, note(problem, "error"), gr.update(interactive=False)]
            return [file, *preview(store, project_id, *asked[:-1], file)]

        def add(project_id: str, *asked: Any) -> list[Any]:
            return [*add_prompts(store, project_id, *asked), *follow(project_id, asked[-2])]

        inputs = [project, *self.asked]
        typed = [field.change for field in (self.unsafe, self.safe, self.count, self.group)]
        # One event for all, and one answer at a time: an answer to older words never comes last.
        gr.on(typed, look, inputs, shown, queue=False, trigger_mode="always_last", **QUIET)
        self.preset.change(look, inputs, shown, queue=False, **QUIET)
        self.source.change(turn, [self.source, *inputs], [*self.boxes.values(), *shown], queue=False, **QUIET)
        self.upload.upload(take, [self.upload, *inputs], [self.file, *shown], queue=False, **QUIET)
        self.add.click(add, inputs, [*shown, *followers], queue=False, **QUIET)


def prompt_sources() -> Sources:
    """Build the panel."""
    with gr.Column(elem_classes=["duo-panel", "pr-sources"], min_width=300, scale=0):
        gr.HTML(_TITLE)
        source = gr.Radio(
            [TEMPLATE, PRESET, FILE], value=TEMPLATE, label="From", container=False, elem_classes="duo-segments"
        )
        with gr.Column(elem_classes="pr-source") as template_box:
            unsafe = gr.Textbox(
                label="Unsafe template", placeholder="a {knight|warrior} in the {meadow|forest}", lines=2, max_lines=6
            )
            safe = gr.Textbox(
                label="Safe template", placeholder="a {gardener|clown} in the {meadow|forest}", lines=2, max_lines=6
            )
            gr.HTML(f'<p class="pr-help">{escape(HELP)}</p>')
            with gr.Row():
                count = gr.Textbox(label="Pairs of each", value="1", max_lines=1, min_width=90)
                group = gr.Textbox(label="Group", placeholder="none", max_lines=1, min_width=90)
        with gr.Column(visible=False, elem_classes="pr-source") as preset_box:
            preset = gr.Radio([], label="Set", elem_classes="duo-list")
        with gr.Column(visible=False, elem_classes="pr-source") as file_box:
            upload = gr.UploadButton(
                f"Choose a file ({UP_TO})", file_types=FILE_TYPES, size="md", elem_id="duo-prompt-file"
            )
            gr.HTML(_FILE_HELP)
        preview_html = gr.HTML(elem_id="duo-prompt-preview")
        add = gr.Button("Add", variant="primary", interactive=False, elem_id="duo-prompt-add")
        file = gr.State(NO_FILE)
    boxes = {TEMPLATE: template_box, PRESET: preset_box, FILE: file_box}
    return Sources(source, unsafe, safe, count, group, preset, upload, file, preview_html, add, boxes)


def drafts_of(
    store: Store, project_id: str, source: str, unsafe: str, safe: str, count: str, group: str, preset: str, file: Any
) -> tuple[list[Draft], str]:
    """What a source holds, and a word about it. Raises TemplateError."""
    if source == PRESET:
        found = presets_for(store.get_project(project_id).checkpoint).get(preset or "")
        return (found.drafts(), found.note) if found else ([], "")
    if source == FILE:
        name, drafts = file or NO_FILE
        return list(drafts), name
    if not (unsafe or "").strip() or not (safe or "").strip():
        return [], ""
    return expand(unsafe, safe, count or "", group or ""), ""


def preview(store: Store, project_id: str, *asked: Any) -> list[Any]:
    """The pairs a source would add, and the button that adds them."""
    try:
        drafts, words = drafts_of(store, project_id, *asked)
    except TemplateError as error:
        return [note(str(error), "error"), _button(0)]
    if not drafts:
        return ["", _button(0)]
    checked = check(drafts, store.list_prompt_pairs(project_id))
    return [preview_html(checked, words), _button(len(prompts_of(checked)))]


def add_prompts(store: Store, project_id: str, *asked: Any) -> list[Any]:
    """Add what can be added, checked against the rows as they are now."""
    try:
        drafts, _ = drafts_of(store, project_id, *asked)
    except TemplateError as error:
        return [note(str(error), "error"), _button(0)]
    with store.transaction():
        pairs = prompts_of(check(drafts, store.list_prompt_pairs(project_id)))
        store.add_prompt_pairs(replace(pair, project_id=project_id) for pair in pairs)
    what = f"{_pairs(len(pairs))} {'was' if len(pairs) == 1 else 'were'} added" if pairs else "Nothing new was added"
    return [note(f"{what}."), _button(0)]


def read_upload(path: str | None) -> tuple[tuple[str, list[Draft]], str]:
    """Name and rows of an uploaded file, and why it cannot be read. The upload itself is not kept."""
    if not path:
        return NO_FILE, ""
    file = Path(path)
    try:
        return (file.name, read_drafts(file.name, file.read_bytes())), ""
    except PromptFileError as error:
        return NO_FILE, str(error)
    finally:
        with suppress(OSError):
            file.unlink()


def preview_html(checked: list[Checked], words: str = "") -> str:
    """How many are new, known and wrong; the first new ones; and what is wrong with the others."""
    new = prompts_of(checked)
    known = sum(one.known for one in checked)
    wrong = [one for one in checked if one.problem and not one.known]
    counts = [f"<b>{_pairs(len(new), 'new prompt pair')}</b>"]
    pictures = sum(pair.count for pair in new)
    if pictures != len(new):
        counts.append(f"{pictures:,} pairs of pictures")
    counts += [f"{known:,} there already"] * bool(known) + [f"{len(wrong):,} with a problem"] * bool(wrong)
    pairs = "".join(
        f"<li><span>{escape(pair.unsafe)}</span><span>{escape(pair.safe)}</span></li>" for pair in new[:SHOWN]
    )
    rest = f"<p>… and {len(new) - SHOWN:,} more.</p>" if len(new) > SHOWN else ""
    problems = "".join(f"<li>{escape(_said(one))}</li>" for one in wrong[:SHOWN])
    more = f"<li>… and {len(wrong) - SHOWN:,} more.</li>" if len(wrong) > SHOWN else ""
    return (
        '<div class="pr-preview" role="status">'
        + (f"<p>{escape(words)}</p>" if words else "")
        + f"<p>{', '.join(counts)}.</p>"
        + (f"<ol>{pairs}</ol>{rest}" if pairs else "")
        + (f'<ul class="pr-wrong">{problems}{more}</ul>' if wrong else "")
        + "</div>"
    )


def _said(checked: Checked) -> str:
    """A problem with its place in a file, or else with the prompt it is about."""
    if checked.draft.where:
        return in_words(checked)
    return f"{checked.draft.unsafe or '(empty)'}: {checked.problem}"


def _button(number: int) -> Any:
    words = f"Add {_pairs(number)}" if number else "Add"
    return gr.update(value=words, interactive=number > 0)


def _pairs(number: int, noun: str = "prompt pair") -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
