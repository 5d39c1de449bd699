"""The Curate tab: one pair of pictures large, decided on by keys. The script in assets/curate.js fills this frame.

A tick of the page leaves the frame alone: the script asks `studio.ui.curation` itself, so that a decision redraws
nothing but the next pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.configs import ENOUGH_PAIRS, PAPER_PAIRS
from studio.records import Project
from studio.ui.context import Studio, View
from studio.ui.words import escape

REASONS = ("concept still there", "too different", "broken picture", "wrong concept", "other")
# What to do, its name, its key as shown, and what it does; in the order of the buttons.
ACTIONS = (
    ("accept", "Accept", "A", "The pair is good: train on it."),
    ("reject", "Reject", "R", "Leave the pair out; 1 to 5 say why."),
    ("skip", "Skip", "S", "Decide later: the pair comes up again."),
    ("redo", "Redo", "D", "Make the pair again, with another seed and more strength."),
    ("undo", "Undo", "U", "Take the last decision back; again for the one before."),
    ("flip", "Flip", "F", "Hold: each picture in the other's place. The space bar does the same."),
    ("zoom", "Zoom", "Z", "Both pictures twice, four times, once as large; drag to move."),
    ("reveal", "Reveal", "V", "Hold: blurred pictures become clear."),
)
FILTERS = {
    "undecided": "Undecided",
    "detector": "Decided by the detector only",
    "accepted": "Accepted",
    "rejected": "Rejected",
    "skipped": "Skipped",
    "second": "Waiting for a second review",
    "conflict": "Two people disagree",
    "all": "All",
}
SORTS = {
    "made": "As they were made",
    "unsafe": "Unsafe score, lowest first",
    "safe": "Safe score, highest first",
    "distance": "Distance, largest first",
}
_MORE_KEYS = (
    ("1 … 5", "Reject and say why. Right after R: the reason of that rejection."),
    ("← →", "Back and forward, without deciding."),
    ("Shift + arrows", "Move inside enlarged pictures."),
    ("?", "These keys."),
)
_ON_LOAD = "window.duoStudio.curate(element); watch('value', () => window.duoStudio.curate(element));"


@dataclass(frozen=True)
class CurateTab:
    """The frame of one project's pairs."""

    html: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.html]

    @property
    def choices(self) -> list[Any]:
        return []

    def shows(self, view: View) -> Any:
        return view.project.id, view.project.concept, view.project.blur

    def refresh(self, view: View) -> list[Any]:
        return [frame(view.project)]


def curate_tab(studio: Studio, project: gr.Dropdown) -> CurateTab:
    return CurateTab(gr.HTML(elem_id="duo-curate", js_on_load=_ON_LOAD))


def frame(project: Project) -> str:
    """Everything but the pairs: what is where does not move while they pass."""
    return (
        f'<div class="duo-curate" data-project="{escape(project.id)}" data-concept="{escape(project.concept)}" '
        f'data-blur="{int(project.blur)}" data-enough="{ENOUGH_PAIRS}" data-paper="{PAPER_PAIRS}">'
        f'{_top()}<div class="cur-none" data-is="none" hidden></div>'
        f'<div class="cur-desk" data-is="desk" hidden><div class="cur-work">{_stage()}{_actions()}</div>'
        f"{_facts()}</div>"
        f"{_strip()}{_failed()}{_keys()}</div>"
    )


def _top() -> str:
    return (
        '<div class="cur-top"><div class="cur-progress">'
        '<div class="duo-progress" role="progressbar" aria-label="Pairs decided" aria-valuemin="0" aria-valuemax="100" '
        'data-is="bar"><i class="is-accepted"></i><i class="is-rejected"></i><u data-is="marks"></u></div>'
        '<p data-is="progress">&nbsp;</p></div>'
        f'<label>Show<select data-is="shows">{_options(FILTERS)}</select></label>'
        f'<label>Order<select data-is="sort">{_options(SORTS)}</select></label>'
        '<label class="cur-name">Your name<input data-is="reviewer" maxlength="60" autocomplete="off" '
        'spellcheck="false"></label>'
        '<button type="button" data-do="keys" title="All keys" aria-keyshortcuts="?">Keys <kbd>?</kbd></button></div>'
    )


def _stage() -> str:
    figures = "".join(
        f'<figure data-place="{place}"><figcaption>'
        f'<span class="of-unsafe"><b>Unsafe</b> <span data-is="unsafe-pill"></span></span>'
        f'<span class="of-safe"><b>Safe twin</b> <span data-is="safe-pill"></span></span></figcaption>'
        f'<div class="cur-frame"><img class="of-unsafe" alt="" draggable="false">'
        f'<img class="of-safe" alt="" draggable="false"><span class="cur-cover"></span></div></figure>'
        for place in ("left", "right")
    )
    return f'<div class="cur-stage" data-is="stage" tabindex="0" aria-label="The two pictures">{figures}</div>'


def _actions() -> str:
    buttons = "".join(
        f'<button type="button" class="is-{name}" data-do="{name}" title="{escape(what)}" aria-keyshortcuts="{key}">'
        f"{label} <kbd>{key}</kbd></button>"
        for name, label, key, what in ACTIONS
    )
    reasons = "".join(
        f'<button type="button" data-reason="{escape(reason)}" aria-keyshortcuts="{number}">'
        f"<kbd>{number}</kbd> {escape(reason)}</button>"
        for number, reason in enumerate(REASONS, 1)
    )
    return (
        f'<div class="cur-actions" role="group" aria-label="Decide">{buttons}</div>'
        f'<div class="cur-reasons" role="group" aria-label="Reject because"><span>Reject because</span>{reasons}</div>'
        '<div class="cur-lines"><p data-is="said" role="status">&nbsp;</p>'
        '<p class="cur-unsaved" data-is="unsaved" role="alert" hidden></p></div>'
    )


def _facts() -> str:
    return (
        '<aside class="cur-facts" aria-label="About this pair">'
        '<p class="cur-decision" data-is="decision">&nbsp;</p>'
        '<dl class="cur-prompts"><dt>Unsafe prompt</dt><dd data-is="unsafe-prompt">&nbsp;</dd>'
        '<dt>Safe prompt</dt><dd data-is="safe-prompt">&nbsp;</dd></dl>'
        '<dl class="cur-numbers" data-is="numbers"></dl>'
        '<div class="cur-moves"><button type="button" data-do="back" aria-keyshortcuts="ArrowLeft">← Back</button>'
        '<button type="button" data-do="forward" aria-keyshortcuts="ArrowRight">Forward →</button>'
        '<button type="button" data-do="only" aria-pressed="false">Only this prompt</button></div></aside>'
    )


def _strip() -> str:
    return (
        '<section class="cur-strip" data-is="strip" hidden aria-label="Pairs of this list"><div class="cur-strip-bar">'
        '<h3>Pairs</h3><button type="button" data-do="earlier" disabled>Earlier</button>'
        '<button type="button" data-do="later" disabled>Later</button></div>'
        '<div class="cur-thumbs" data-is="thumbs"></div></section>'
    )


def _failed() -> str:
    return (
        '<details class="cur-failed" data-is="failed" hidden><summary data-is="failed-title"></summary>'
        '<p>No try gave a usable pair. "Try again" goes on with another seed and more strength.</p>'
        '<button type="button" data-do="all-again">Try all again</button>'
        '<ul data-is="failed-list"></ul><button type="button" data-do="more-failed" hidden>Show more</button></details>'
    )


def _keys() -> str:
    rows = [(key, f"{label}. {what}") for _, label, key, what in ACTIONS]
    table = "".join(f"<dt><kbd>{escape(key)}</kbd></dt><dd>{escape(what)}</dd>" for key, what in [*rows, *_MORE_KEYS])
    return (
        '<dialog class="cur-keys" data-is="keys" aria-label="Keys"><h3>Keys</h3>'
        f'<dl>{table}</dl><button type="button" data-do="close-keys">Close</button></dialog>'
    )


def _options(choices: dict[str, str]) -> str:
    return "".join(f'<option value="{value}">{escape(label)}</option>' for value, label in choices.items())
