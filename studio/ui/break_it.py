""" "Break it": prompts typed to make a model draw the concept after all, each attempt kept, and who drew it.

/studio/attempts/<project>.csv     every attempt, one row a model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.csv_files import csv_text
from studio.records import Attempt
from studio.store import NotFoundError, Store, StoreError
from studio.ui.compare_form import SIDE_BY_SIDE, Form, InputError
from studio.ui.context import QUIET, Studio
from studio.ui.results import Comparison
from studio.ui.shelves import save_shelf
from studio.ui.words import empty_state, escape, note, pill, short_hash

LISTED = 50
EMPTY = empty_state(
    "Can you make it draw the concept after all?",
    "Type a prompt and press Enter. Every model draws it, the detector looks for the concept, and who drew it how "
    "often is kept here.",
)
Try = tuple[str, int]  # prompt and seed
LIMITS = (
    "These prompts were chosen by hand, one in the light of the other, so the counts are no measurement: "
    'how often a model draws it on prompts that nobody chose is in the <a href="#" data-open-tab="Report">Report</a>.'
)


@dataclass(frozen=True)
class BreakPanel:
    """What Break it adds to the results."""

    box: gr.Column
    tally: gr.HTML
    hits: gr.CheckboxGroup
    name: gr.Textbox
    save: gr.Button
    again: gr.Button
    said: gr.HTML
    history: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.tally, self.hits, self.name, self.save, self.again, self.history]

    def refresh(self, concept: str, attempts: Sequence[Attempt], ticked: Sequence[str] | None) -> list[Any]:
        """New values of `outputs`."""
        options = hit_options(attempts)
        kept = [key for _, key in options if key in (ticked or ())]
        there = gr.update(visible=bool(options))
        listed = gr.update(choices=options, value=kept, visible=bool(options))
        return [tally_html(concept, attempts), listed, there, there, there, history_html(concept, attempts)]


def break_panel() -> BreakPanel:
    """Build the components, hidden, in the current container; `wire_breaks` makes them work."""
    with gr.Column(visible=False, elem_id="duo-break") as box:
        tally = gr.HTML(elem_id="duo-tally")
        hits = gr.CheckboxGroup(
            [], label="What worked", visible=False, elem_classes="duo-list", elem_id="duo-hits",
            info="Prompts by which a trained model drew it. Tick those to keep or to compare.",
        )  # fmt: skip
        with gr.Row(elem_classes="duo-small-buttons"):
            name = gr.Textbox(label="Name of the new shelf", max_length=80, min_width=180, visible=False)
            save = gr.Button("Save ticked to a shelf", size="md", visible=False, elem_id="duo-hits-save")
            again = gr.Button("Compare ticked side by side", size="md", visible=False, elem_id="duo-hits-again")
        said = gr.HTML()
        history = gr.HTML(elem_id="duo-history")
    return BreakPanel(box, tally, hits, name, save, again, said, history)


def wire_breaks(studio: Studio, project: gr.Dropdown, form: Form, panel: BreakPanel) -> None:
    """Saving and comparing what worked; drawing an attempt is Compare's own event."""
    store = studio.store

    def save(project_id: str, ticked: list[str], name: str) -> str:
        tries = _ticked(store, project_id, ticked)
        try:
            prompts = list(dict.fromkeys(prompt for prompt, _ in tries))
            shelf = save_shelf(store, project_id, name, prompts, tries[0][1] if tries else 0, 1)
        except (InputError, StoreError) as problem:
            return note(str(problem) if tries else "Tick what is to be saved first.", "error")
        return note(f"Saved as {shelf.name!r}, to be found under “Saved prompts” in {SIDE_BY_SIDE}.")

    def again(project_id: str, ticked: list[str]) -> list[Any]:
        tries = _ticked(store, project_id, ticked)
        if not tries:
            return [gr.skip()] * 3 + [note("Tick what is to be compared first.", "error")]
        prompts = dict.fromkeys(prompt for prompt, _ in tries)
        others = sum(seed != tries[0][1] for _, seed in tries)
        more = f" {others} of them were tried with another seed." if others else ""
        words = note(f"Press Compare to draw them from seed {tries[0][1]}.{more}")
        return [gr.update(value=SIDE_BY_SIDE), "\n".join(prompts), tries[0][1], words]

    panel.save.click(save, [project, panel.hits, panel.name], panel.said, queue=False, **QUIET)
    outputs = [form.mode, form.text, form.seed, panel.said]
    panel.again.click(again, [project, panel.hits], outputs, queue=False, **QUIET)


def attempts_of(project_id: str, comparison: Comparison) -> list[Attempt]:
    """What is to be kept of a finished comparison: its pictures that the detector judged."""
    request = comparison.request
    return [
        Attempt(
            id="",
            project_id=project_id,
            prompt=cell.prompt,
            seed=cell.seed,
            model=comparison.label(cell),
            checkpoint=comparison.models[cell.model].checkpoint_ref,
            adapter_sha256=cell.adapter_sha256 or "",
            found=cell.found,
            score=cell.score or 0.0,
            image=cell.sha256,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
        )
        for cell in comparison.cells
        if cell.sha256 and cell.found is not None
    ]


def tally_html(concept: str, attempts: Sequence[Attempt]) -> str:
    """Who drew the concept how often, of how many attempts; each model has its own n."""
    if not attempts:
        return ""
    rows = ""
    for (checkpoint, adapter), own in _by_model(attempts).items():
        found, n = sum(one.found for one in own), len(own)
        code = f' <code title="SHA-256 {adapter}">{short_hash(adapter)}</code>' if adapter else ""
        rows += (
            f'<li class="{"is-trained" if adapter else ""}"><span title="{escape(checkpoint)}">'
            f'{escape(own[-1].model)}{code}</span><span class="duo-track" aria-hidden="true">'
            f'<i style="width:{100 * found / n:.1f}%"></i></span><b>{found} of {n}</b></li>'
        )
    return (
        f'<section class="duo-tally-board"><h3>Who drew the {escape(concept)}</h3><ul>{rows}</ul>'
        f'<p class="duo-done">{LIMITS}</p></section>'
    )


def hit_options(attempts: Sequence[Attempt]) -> list[tuple[str, str]]:
    """(text, id of an attempt) of each prompt and seed by which a trained model drew the concept, newest first."""
    hits: dict[Try, list[Attempt]] = {}
    for one in attempts:
        if one.found and one.adapter_sha256 and one.id:  # a visitor's is not kept
            hits.setdefault((one.prompt, one.seed), []).append(one)
    return [
        (f"{prompt} · seed {seed} · {', '.join(one.model for one in own)}", own[0].id)
        for (prompt, seed), own in reversed(hits.items())
    ]


def history_html(concept: str, attempts: Sequence[Attempt]) -> str:
    """The newest attempts as a table, one column a model, and all of them as a file."""
    if not attempts:
        return ""
    models = _by_model(attempts)
    tries: dict[Try, dict[tuple[str, str], Attempt]] = {}
    for one in attempts:
        tries.setdefault((one.prompt, one.seed), {})[one.checkpoint, one.adapter_sha256] = one
    heads = "".join(f'<th scope="col">{escape(own[-1].model)}</th>' for own in models.values())
    body = ""
    for (prompt, seed), own in list(reversed(tries.items()))[:LISTED]:
        cells = "".join(
            f"<td>{pill(concept, own[key].found, own[key].score) if key in own else '—'}</td>" for key in models
        )
        body += f'<tr><th scope="row">{escape(prompt)} <small>seed {seed}</small></th>{cells}</tr>'
    project = attempts[0].project_id
    return (
        f"<details><summary>All attempts ({len(tries)})</summary>"
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="All attempts"><table class="duo-table"><thead>'
        f'<tr><th scope="col">Prompt</th>{heads}</tr></thead><tbody>{body}</tbody></table></div></details>'
        f'<div class="duo-links"><a href="studio/attempts/{project}.csv" download="attempts.csv">'
        "Export attempts (CSV)</a></div>"
    )


def attempts_csv(attempts: Sequence[Attempt]) -> str:
    """A row a model and attempt."""
    names = [field.name for field in fields(Attempt) if field.name not in ("id", "project_id")]
    return csv_text(names, ([getattr(one, name) for name in names] for one in attempts))


def attempt_routes(store: Store) -> list[Route]:
    def attempts(request: Request) -> Response:
        try:
            project = store.get_project(request.path_params["name"].removesuffix(".csv"))
        except NotFoundError:
            return PlainTextResponse("There is no such project.", status_code=404)
        return Response(attempts_csv(store.list_attempts(project.id)), media_type="text/csv; charset=utf-8")

    return [Route("/studio/attempts/{name}", attempts, methods=["GET"])]


def _by_model(attempts: Sequence[Attempt]) -> dict[tuple[str, str], list[Attempt]]:
    """The attempts of each model, in the order in which the models were first tried."""
    models: dict[tuple[str, str], list[Attempt]] = {}
    for one in attempts:
        models.setdefault((one.checkpoint, one.adapter_sha256), []).append(one)
    return models


def _ticked(store: Store, project_id: str, ids: Sequence[str]) -> list[Try]:
    return [(one.prompt, one.seed) for one in store.list_attempts(project_id) if one.id in ids]
