"""The guided path above the tabs: what is done, what is next. A pure function of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.configs import ENOUGH_PAIRS, PAPER_PAIRS
from studio.ui.context import View
from studio.ui.words import escape


@dataclass(frozen=True)
class Step:
    """One tab of the path."""

    tab: str  # as the tab is called
    state: str  # what there is, in a few words
    done: bool


@dataclass(frozen=True)
class GuidedPath:
    """The path on the page."""

    html: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.html]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> list[Step]:
        return list(steps(view))

    def refresh(self, view: View) -> list[Any]:
        return [path_html(list(steps(view)))]


def guided_path() -> GuidedPath:
    return GuidedPath(gr.HTML(elem_id="duo-path"))


def steps(view: View) -> Iterator[Step]:
    """The five tabs with their state, in the order of the work."""
    pairs, trained, reports = view.pairs, len(view.checkpoints), len(view.evaluations)
    yield Step("Prompts", _count(len(view.prompts), "prompt pair") or "none yet", bool(view.prompts))
    yield Step("Curate", _curated(view), pairs.accepted >= ENOUGH_PAIRS)
    yield Step("Train", f"{_count(trained, 'model')} trained" if trained else "no model yet", trained > 0)
    yield Step("Compare", "side by side", trained > 0)
    yield Step("Report", _count(reports, "report") or "none yet", reports > 0)


def path_html(path: list[Step]) -> str:
    """A list of links; the first step that is not done is marked as the next one."""
    coming = next((step.tab for step in path if not step.done), "")
    items = "".join(
        f'<li class="{"is-done" if step.done else "is-next" if step.tab == coming else ""}">'
        f'<a href="#" data-open-tab="{step.tab}"><b>{step.tab}</b><span>{escape(step.state)}</span></a></li>'
        for step in path
    )
    return f'<nav aria-label="The way from prompts to report"><ol class="duo-path">{items}</ol></nav>'


def _curated(view: View) -> str:
    pairs = view.pairs
    if not pairs.ready:
        return "no pairs yet"
    if pairs.accepted < ENOUGH_PAIRS:
        return f"{pairs.accepted} of {ENOUGH_PAIRS} accepted"
    return f"{pairs.accepted} accepted" + (f", {PAPER_PAIRS} is better" if pairs.accepted < PAPER_PAIRS else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""
