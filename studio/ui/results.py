"""HTML of a comparison: the grid with a column a model, and the sliders. Pure functions of what the worker returned."""

from __future__ import annotations

from dataclasses import dataclass

from studio.inference.client import Cell, ModelChoice, RenderRequest
from studio.ui.pictures import picture_url
from studio.ui.words import duration, escape, pill, short_hash


@dataclass(frozen=True)
class Comparison:
    """What was asked and what has come back so far: the state behind the results area."""

    concept: str
    request: RenderRequest
    cells: tuple[Cell, ...] = ()

    @property
    def models(self) -> list[ModelChoice]:
        return self.request.models

    def rows(self) -> dict[tuple[str, int], dict[int, Cell]]:
        """The cells that are there, by (prompt, seed) and then by model; every row that was asked for."""
        rows: dict[tuple[str, int], dict[int, Cell]] = {
            (prompt, seed): {} for prompt in self.request.prompts for seed in self.request.seeds
        }
        for cell in self.cells:
            rows[cell.prompt, cell.seed][cell.model] = cell
        return rows


def grid(comparison: Comparison, *, waiting: bool = True) -> str:
    """A column a model, a row a prompt and seed; `waiting` marks the pictures still to come."""
    columns = range(len(comparison.models))
    heads = "".join(_head(comparison, index) for index in columns)
    body = []
    for (prompt, seed), cells in comparison.rows().items():
        body.append(f'<p class="duo-prompt"><q>{escape(prompt)}</q> <span>seed {seed}</span></p>')
        for index in columns:
            cell = cells.get(index)
            place = f'<div class="duo-blank{" duo-waiting" if waiting else ""}"></div>'
            body.append(_cell(comparison, cell) if cell else f'<figure class="duo-cell">{place}</figure>')
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Pictures side by side">'
        f'<div class="duo-grid" style="--columns:{len(comparison.models)}">{heads}{"".join(body)}</div></div>'
    )


def sliders(comparison: Comparison) -> str:
    """For every prompt and seed: the first model's picture over each other model's, with a handle between them."""
    figures = []
    for (prompt, seed), cells in comparison.rows().items():
        left = cells.get(0)
        for index in range(1, len(comparison.models)):
            right = cells.get(index)
            if left is not None and right is not None and left.sha256 and right.sha256:
                figures.append(_slider(comparison, left, right, prompt, seed))
    return f'<div class="duo-sliders">{"".join(figures)}</div>'


def _head(comparison: Comparison, index: int) -> str:
    model = comparison.models[index]
    verdicts = [cell.found for cell in comparison.cells if cell.model == index and cell.found is not None]
    tally = f"{escape(comparison.concept)} in {sum(verdicts)} of {len(verdicts)}" if verdicts else "&nbsp;"
    what = (
        f'adapter <code title="SHA-256 {model.adapter_sha256}">{short_hash(model.adapter_sha256)}</code>'
        if model.adapter_sha256
        else "trained apart, without it"
        if model.checkpoint_ref.endswith(":oracle")
        else "no adapter"
    )
    trained = " is-trained" if model.adapter_sha256 else ""
    return (
        f'<div class="duo-head{trained}"><h3>{escape(model.label)}</h3><p>{what}</p>'
        f'<p class="duo-tally">{tally}</p></div>'
    )


def _cell(comparison: Comparison, cell: Cell) -> str:
    label, prompt = comparison.models[cell.model].label, cell.prompt
    if not cell.sha256:
        return f'<figure class="duo-cell"><div class="duo-missing" role="alert">{escape(cell.error)}</div></figure>'
    verdict, spoken = _verdict(comparison.concept, cell)
    code = (
        f'<code title="The adapter that drew this picture, read from its file: {cell.adapter_sha256}">'
        f"{short_hash(cell.adapter_sha256)}</code>"
        if cell.adapter_sha256
        else ""
    )
    name = f"{label}-{prompt}-{cell.seed}".replace(" ", "-")
    return (
        f'<figure class="duo-cell"><img src="{picture_url(cell.sha256)}" '
        f'alt="{escape(label)}: {escape(prompt)}, seed {cell.seed}. {escape(spoken)}" width="320" height="320">'
        f"<figcaption>{verdict}<span>{duration(cell.seconds)}</span>{code}"
        f'<a href="{picture_url(cell.sha256, original=True)}" download="{escape(name)}.png" '
        'title="The picture as it was made, with prompt, seed and models inside the file">PNG</a></figcaption></figure>'
    )


def _slider(comparison: Comparison, left: Cell, right: Cell, prompt: str, seed: int) -> str:
    names = [escape(comparison.models[cell.model].label) for cell in (left, right)]
    both = list(zip((left, right), names, strict=True))
    verdicts = "".join(f"<span>{name} {_verdict(comparison.concept, cell)[0]}</span>" for cell, name in both)
    pictures = "".join(
        f'<img src="{picture_url(cell.sha256)}" alt="{name}: {escape(prompt)}, seed {seed}">' for cell, name in both
    )
    move = "this.previousElementSibling.style.setProperty('--x', this.value + '%')"
    return (
        f'<figure class="duo-slider"><div class="duo-stage">{pictures}<span>{names[0]}</span><span>{names[1]}</span>'
        "</div>"
        f'<input type="range" min="0" max="100" value="50" oninput="{move}" '
        f'aria-label="Drag from {names[1]} to {names[0]}: {escape(prompt)}, seed {seed}">'
        f'<figcaption><span class="duo-asked"><q>{escape(prompt)}</q> seed {seed}</span>{verdicts}</figcaption>'
        "</figure>"
    )


def _verdict(concept: str, cell: Cell) -> tuple[str, str]:
    """The detector's verdict as a pill and in words for those who hear the page."""
    if cell.found is None or cell.score is None:
        return "", ""
    spoken = f"{concept} seen." if cell.found else f"No {concept}."
    return pill(concept, cell.found, cell.score, cell.facts.get("object", "")), spoken
