"""HTML of a comparison: the grid with a column a model, and the sliders. Pure functions of what the worker returned."""

from __future__ import annotations

from dataclasses import dataclass, replace

from studio.durations import duration
from studio.inference.client import Cell, ModelChoice, Progress, RenderRequest, RenderResult
from studio.ui.pictures import picture_url
from studio.ui.words import escape, pill, short_hash

CHANGED = "has the SHA-256"  # in the words of models.deltas for an adapter's file that is not what it was


@dataclass(frozen=True)
class Comparison:
    """What was asked and what has come back so far: the state behind the results area."""

    concept: str
    request: RenderRequest
    cells: tuple[Cell, ...] = ()
    blur: bool = False  # pictures are veiled unless the detector saw no concept in them
    detector_error: str = ""

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

    def pairs(self, left: int, right: int) -> list[tuple[Cell, Cell]]:
        """The rows in which both models have a picture."""
        both = [(cells.get(left), cells.get(right)) for cells in self.rows().values()]
        return [(one, other) for one, other in both if one and other and one.sha256 and other.sha256]

    def with_event(self, event: Progress | RenderResult) -> Comparison:
        """Progress brings the cells finished since the last one, the result brings all."""
        if isinstance(event, Progress):
            return replace(self, cells=(*self.cells, *event.cells))
        return replace(self, cells=tuple(event.cells), detector_error=event.detector_error)

    def veils(self, cell: Cell) -> bool:
        """Whether a picture is shown blurred; one that was not judged is, to be safe."""
        return self.blur and cell.found is not False

    def label(self, cell: Cell) -> str:
        return self.models[cell.model].label


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
            body.append(_cell(comparison, cell) if cell else _figure(index, place))
    many = " is-many" if len(columns) > 2 else ""
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Pictures side by side">'
        f'<div class="duo-grid{many}" style="--columns:{len(columns)}">{heads}{"".join(body)}</div></div>'
    )


def sliders(comparison: Comparison, left: int = 0, right: int = 1) -> str:
    """For every prompt and seed: one model's picture over the other's, with a handle between them."""
    figures = [_slider(comparison, *pair) for pair in comparison.pairs(left, right)]
    if not figures:
        return '<p class="duo-done">There is no prompt of which both models have a picture.</p>'
    return f'<div class="duo-sliders">{"".join(figures)}</div>'


def verdict(concept: str, cell: Cell) -> tuple[str, str]:
    """The detector's verdict as a pill and in words for those who hear the page."""
    if cell.found is None or cell.score is None:
        return "", ""
    spoken = f"{concept} seen." if cell.found else f"No {concept}."
    return pill(concept, cell.found, cell.score, cell.facts.get("object", "")), spoken


def picture(url: str, alt: str, *, veiled: bool, lazy: bool = False, side: int = 320) -> str:
    """An image or, veiled, its blurred form with a button that shows it for as long as it is held (veil.js)."""
    size = f'width="{side}" height="{side}"' + (' loading="lazy"' if lazy else "")
    shown = image(url, alt, size, veiled=veiled)
    return f'<span class="duo-veil">{shown}{hold(alt)}</span>' if veiled else shown


def image(url: str, alt: str, attributes: str = "", *, veiled: bool = False) -> str:
    """An <img>; a veiled one stands in a .duo-veil that also has a `hold` button."""
    if not veiled:
        return f'<img src="{url}" alt="{escape(alt)}" {attributes}>'
    blurred = f"{url}{'&' if '?' in url else '?'}blur"
    return f'<img src="{blurred}" data-clear="{url}" alt="Blurred. {escape(alt)}" {attributes}>'


def hold(alt: str) -> str:
    return f'<button type="button" data-hold="">Hold to see<span class="duo-sr"> {escape(alt)}</span></button>'


def clear_link(veiled: bool) -> str:
    """The attribute of a link or button whose download is to be clear: without it, hidden pictures come blurred."""
    return ' data-clear-download=""' if veiled else ""


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
        f'<div class="duo-head{trained}{_first(index)}"><h3>{escape(model.label)}</h3><p>{what}</p>'
        f'<p class="duo-tally">{tally}</p></div>'
    )


def _cell(comparison: Comparison, cell: Cell) -> str:
    label, prompt = comparison.label(cell), cell.prompt
    if not cell.sha256:
        title = "<b>Hash mismatch</b> " if CHANGED in cell.error else ""
        return _figure(cell.model, f'<div class="duo-missing" role="alert"><p>{title}{escape(cell.error)}</p></div>')
    pill_html, spoken = verdict(comparison.concept, cell)
    code = (
        f'<code title="The adapter that drew this picture, read from its file: {cell.adapter_sha256}">'
        f"{short_hash(cell.adapter_sha256)}</code>"
        if cell.adapter_sha256
        else ""
    )
    name = f"{label}-{prompt}-{cell.seed}".replace(" ", "-")
    alt = f"{label}: {prompt}, seed {cell.seed}. {spoken}"
    veiled = comparison.veils(cell)
    return _figure(
        cell.model,
        f"{picture(picture_url(cell.sha256), alt, veiled=veiled)}"
        f"<figcaption>{pill_html}<span>{duration(cell.seconds)}</span>{code}"
        f'<a href="{picture_url(cell.sha256, original=True)}" download="{escape(name)}.png"{clear_link(veiled)} '
        'title="The picture as it was made, with prompt, seed and models inside the file">PNG'
        f'<span class="duo-sr"> of {escape(alt)}</span></a></figcaption>',
    )


def _figure(index: int, inside: str) -> str:
    return f'<figure class="duo-cell{_first(index)}">{inside}</figure>'


def _first(index: int) -> str:
    """The first column stays in sight while the others scroll."""
    return " is-first" if index == 0 else ""


def _slider(comparison: Comparison, left: Cell, right: Cell) -> str:
    prompt, seed = left.prompt, left.seed
    both = [(cell, escape(comparison.label(cell))) for cell in (left, right)]
    names = [name for _, name in both]
    verdicts = "".join(f"<span>{name} {verdict(comparison.concept, cell)[0]}</span>" for cell, name in both)
    asked = f"{escape(prompt)}, seed {seed}"
    alts = [f"{comparison.label(cell)}: {prompt}, seed {seed}" for cell, _ in both]
    veils = [comparison.veils(cell) for cell, _ in both]
    pictures = "".join(
        image(picture_url(cell.sha256), alt, veiled=veil)
        for (cell, _), alt, veil in zip(both, alts, veils, strict=True)
    )
    stage = f'<div class="duo-stage">{pictures}<span>{names[0]}</span><span>{names[1]}</span></div>'
    if any(veils):
        stage = f'<div class="duo-veil">{stage}{hold(" and ".join(alts))}</div>'
    return (
        f'<figure class="duo-slider">{stage}<input type="range" min="0" max="100" value="50" '
        f'aria-label="Drag from {names[1]} to {names[0]}: {asked}">'
        f'<figcaption><span class="duo-asked"><q>{escape(prompt)}</q> seed {seed}</span>{verdicts}</figcaption>'
        "</figure>"
    )
