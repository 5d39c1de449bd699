"""The Prompts tab: the table of a project's prompt pairs, and where many come from at once.

The table is drawn by assets/prompts.js, which saves rows by itself (`studio.ui.prompt_table`): what somebody is typing
is in the browser's hands, and a tick brings only what has changed elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.prompt_presets import presets_for
from studio.ui.context import Studio, View
from studio.ui.cut_offs import CutOffs
from studio.ui.prompt_sources import Sources, prompt_sources
from studio.ui.prompt_table import table_rows
from studio.ui.words import empty_state

_ON_LOAD = """
const table = window.duoStudio.prompts(element);
const take = () => table.take(props.value);
watch('value', take);
take();
"""
_EMPTY = empty_state(
    "No prompts yet",
    "A prompt pair is a prompt that shows the concept and its safe twin. Begin with a template, a ready-made set or a "
    "file, all under “Add prompts”, or write the first row by hand.",
)
_COLUMNS = (
    ("Unsafe prompt", "What shows the concept to forget"),
    ("Safe prompt", "What to draw in its place"),
    ("Count", "How many pairs of pictures to make of this row"),
    ("Seed", "Of the first picture; the next ones count up. Empty: the next free one"),
    ("Group", "Its sub-concept: training can make an adapter of each group and sum them. Empty: none"),
    ("Made", "How many pairs of pictures were made of this row"),
)
_HEAD = "".join(f'<span role="columnheader" title="{title}">{name}</span>' for name, title in _COLUMNS)
_FRAME = f"""
<div class="duo-prompts">
  <div data-is="empty" hidden>{_EMPTY}</div>
  <div class="pr-table" role="table" aria-label="Prompt pairs" data-is="table" hidden>
    <div class="pr-head" role="row">{_HEAD}<span role="columnheader"><span class="duo-sr">Remove</span></span></div>
    <div role="rowgroup" data-is="rows"></div>
  </div>
  <p class="pr-summary" data-is="summary" hidden></p>
  <div class="pr-foot">
    <button type="button" data-do="add">Add a row</button>
    <button type="button" data-do="undo" hidden>Bring the removed row back</button>
    <span class="pr-links" data-is="links" hidden>Download <a data-is="csv" download>CSV</a>
      <a data-is="jsonl" download>JSONL</a></span>
    <span class="pr-status" data-is="status" role="status"></span>
  </div>
  <p class="pr-warning" data-is="warning" hidden></p>
</div>
"""


@dataclass(frozen=True)
class PromptsTab:
    """What follows the rows: the table, and the ready-made sets that suit the project."""

    studio: Studio
    cut_offs: CutOffs
    table: gr.HTML
    sources: Sources

    @property
    def outputs(self) -> list[Any]:
        return [self.table, self.sources.preset]

    @property
    def choices(self) -> list[Any]:
        return [self.sources.preset]

    def shows(self, view: View) -> Any:
        project, made = view.project, (view.pairs.ready, view.pairs.failed)
        return project.id, project.checkpoint, view.prompts, made, self.cut_offs.version

    def refresh(self, view: View, preset: str | None) -> list[Any]:
        checkpoint = view.project.checkpoint
        prompts = [prompt for pair in view.prompts for prompt in (pair.unsafe, pair.safe)]
        self.cut_offs.ask(checkpoint, prompts, again=preset is None)
        names = list(presets_for(checkpoint))
        chosen = preset if preset in names else names[0]
        return [self.value(view.project.id, checkpoint, prompts), gr.update(choices=names, value=chosen)]

    def value(self, project_id: str, checkpoint: str, prompts: list[str]) -> str:
        """What the script is told."""
        facts = table_rows(self.studio.store, project_id)
        facts["cuts"] = self.cut_offs.known(checkpoint, prompts)
        facts["warning"] = _unchecked(self.cut_offs.problem(checkpoint))
        return json.dumps(facts)


def prompts_tab(studio: Studio, project: gr.Dropdown) -> PromptsTab:
    """Build the tab and wire its events. More may follow under it."""
    with gr.Row(elem_classes="duo-compare", elem_id="duo-prompts"):
        sources = prompt_sources()
        with gr.Column(scale=1, min_width=320):
            table = gr.HTML("", html_template=_FRAME, js_on_load=_ON_LOAD, elem_id="duo-prompt-table")
    tab = PromptsTab(studio, CutOffs(studio.client), table, sources)

    def follow(project_id: str, preset: str) -> list[Any]:
        return tab.refresh(studio.view(project_id), preset)

    sources.wire(studio, project, follow, tab.outputs)
    return tab


def _unchecked(problem: str) -> str:
    if not problem:
        return ""
    return f"Whether the prompts fit the text encoder could not be checked: {problem}"
