"""The Curate tab: one pair of pictures large, decided on by keys. The script in assets/curate.js fills this frame.

A tick of the page leaves the frame alone: the script asks `studio.ui.curation` itself, so that a decision redraws
nothing but the next pair.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.configs import ENOUGH_PAIRS, PAPER_PAIRS
from studio.records import Project
from studio.ui.care import care_dialogs, care_places
from studio.ui.context import Studio, View
from studio.ui.stops import stop_dialogs
from studio.ui.words import escape

REASONS = ("concept still there", "too different", "broken picture", "wrong concept", "other")
# What to do, its name, the key that it has at first (as KeyboardEvent.key says it, in lower case), and what it does.
DECIDE = (
    ("accept", "Accept", "a", "The pair is good: train on it."),
    ("reject", "Reject", "r", "Leave the pair out; the digits say why."),
    ("skip", "Skip", "s", "Decide later, or leave it to others: the pair comes up again."),
    ("redo", "Redo", "d", "Make the pair again, with another seed and more strength."),
    ("undo", "Undo", "u", "Take the last decision back; again for the one before."),
)
LOOK = (
    ("flip", "Flip", "f", "Hold: each picture in the other's place. The space bar does the same."),
    ("zoom", "Zoom", "z", "Twice, four times, once as large; drag to move."),
    ("reveal", "Reveal", "v", "Blurred pictures become clear while it is held, or as Care says."),
)
WITHOUT_BUTTON = (
    ("view", "Next view", "w", "Side by side, one, slider, difference."),
    ("back", "Back", "arrowleft", "The pair before, without deciding."),
    ("forward", "Forward", "arrowright", "The next pair, without deciding."),
)
VIEWS = (
    ("side", "Side by side", "Both pictures; hold Flip to swap them."),
    ("one", "One", "The unsafe picture, large; hold Flip for its twin."),
    ("slider", "Slider", "One over the other, with an edge to drag."),
    ("difference", "Difference", "The unsafe picture beside a map of where its twin differs."),
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
_FIXED_KEYS = (
    ("Shift + arrows", "Move inside enlarged pictures."),
    ("?", "This list."),
)
_KEY_NAMES = {"arrowleft": "←", "arrowright": "→"}
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
        return view.project.id, view.project.concept, view.project.blur, view.project.notice

    def refresh(self, view: View) -> list[Any]:
        return [frame(view.project)]


def curate_tab(studio: Studio, project: gr.Dropdown) -> CurateTab:
    return CurateTab(gr.HTML(elem_id="duo-curate", js_on_load=_ON_LOAD))


def actions() -> list[tuple[str, str, str, str]]:
    """Everything that a key does and that another key may be given to."""
    because = [
        (f"reason-{number}", f"Reject: {reason}", str(number), "Right after Reject: why." if number == 1 else "")
        for number, reason in enumerate(REASONS, 1)
    ]
    return [*DECIDE, *because, *LOOK, *WITHOUT_BUTTON]


def frame(project: Project) -> str:
    """Everything but the pairs: what is where does not move while they pass."""
    keys = json.dumps({name: key for name, _, key, _ in actions()})
    return (
        f'<div class="duo-curate" data-project="{escape(project.id)}" data-concept="{escape(project.concept)}" '
        f'data-blur="{int(project.blur)}" data-enough="{ENOUGH_PAIRS}" data-paper="{PAPER_PAIRS}" '
        f'data-keys="{escape(keys)}">{_top()}{_stopped()}{care_places(project)}'
        '<div class="cur-none" data-is="none" hidden></div>'
        f'<div class="cur-desk" data-is="desk" hidden>{_looks()}'
        f'<div class="cur-work">{_stage()}{_decide()}</div>{_facts()}</div>'
        f"{_strip()}{_failed()}{_keys()}{stop_dialogs()}{care_dialogs()}</div>"
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
        '<button type="button" data-do="care" title="How pictures are shown, breaks, limits">Care</button>'
        '<button type="button" data-do="keys" title="All keys" aria-keyshortcuts="?">Keys <kbd>?</kbd></button></div>'
    )


def _stopped() -> str:
    return (
        '<div class="cur-stopped" data-is="stopped" role="status" hidden><span data-is="stopped-words"></span>'
        '<button type="button" data-do="stops">What the owner must do</button></div>'
    )


def _looks() -> str:
    views = "".join(
        f'<button type="button" data-view-as="{name}" title="{escape(what)}" aria-pressed="false">{label}</button>'
        for name, label, what in VIEWS
    )
    return (
        '<div class="cur-looks"><div class="cur-views" role="group" aria-label="View">'
        f'{views}</div><div class="cur-tools" role="group" aria-label="Look closer">{_buttons(LOOK)}</div></div>'
    )


def _stage() -> str:
    figures = "".join(
        f'<figure data-place="{place}"><figcaption>'
        '<span class="of-unsafe"><b>Unsafe</b> <span data-is="unsafe-pill"></span></span>'
        '<span class="of-safe"><b>Safe twin</b> <span data-is="safe-pill"></span></span>'
        f"{'<span class=of-difference><b>Difference</b></span>' if place == 'right' else ''}</figcaption>"
        '<div class="cur-frame"><img class="of-unsafe" alt="" draggable="false">'
        '<img class="of-safe" alt="" draggable="false">'
        f'{_MAP if place == "right" else _EDGE}<span class="cur-cover"></span></div></figure>'
        for place in ("left", "right")
    )
    return (
        '<div class="cur-stage" data-is="stage" tabindex="0" role="group" aria-label="The two pictures">'
        f'<div class="cur-figures">{figures}</div><span class="cur-swipe" data-is="swipe" aria-hidden="true"></span>'
        '<label class="cur-split" hidden><span class="duo-sr">Edge between the unsafe picture and its twin</span>'
        '<input type="range" min="0" max="100" value="50" data-is="split"></label></div>'
        '<p class="cur-hint">Swipe right: accept, left: reject, up: skip. Rest your finger: flip or reveal.</p>'
    )


_MAP = '<img class="of-difference" alt="" draggable="false">'
_EDGE = '<span class="cur-edge" aria-hidden="true"></span>'


def _decide() -> str:
    reasons = "".join(
        f'<button type="button" data-reason="{escape(reason)}" data-as="reason-{number}" aria-keyshortcuts="{number}">'
        f"{_kbd(f'reason-{number}', str(number))} {escape(reason)}</button>"
        for number, reason in enumerate(REASONS, 1)
    )
    return (
        f'<div class="cur-actions" role="group" aria-label="Decide">{_buttons(DECIDE)}</div>'
        f'<div class="cur-reasons" role="group" aria-label="Reject because"><span>Reject because</span>{reasons}</div>'
        '<div class="cur-lines"><p data-is="said" role="status">&nbsp;</p>'
        '<p class="cur-unsaved" data-is="unsaved" role="alert" hidden></p>'
        '<p class="duo-sr" data-is="told" aria-live="polite"></p></div>'
    )


def _buttons(wanted: tuple[tuple[str, str, str, str], ...]) -> str:
    return "".join(
        f'<button type="button" class="is-{name}" data-do="{name}" title="{escape(what)}" '
        f'aria-keyshortcuts="{key.upper()}">{label} {_kbd(name, key)}</button>'
        for name, label, key, what in wanted
    )


def _kbd(name: str, key: str) -> str:
    """The key of an action, which the script writes anew when it changes."""
    return f'<kbd data-key-of="{name}">{_KEY_NAMES.get(key, key.upper())}</kbd>'


def _facts() -> str:
    return (
        '<aside class="cur-facts" aria-label="About this pair">'
        '<p class="cur-decision" data-is="decision">&nbsp;</p>'
        '<dl class="cur-prompts"><dt>Unsafe prompt</dt><dd data-is="unsafe-prompt">&nbsp;</dd>'
        '<dt>Safe prompt</dt><dd data-is="safe-prompt">&nbsp;</dd></dl>'
        '<dl class="cur-numbers" data-is="numbers"></dl>'
        f'<div class="cur-moves"><button type="button" data-do="back">{_kbd("back", "arrowleft")} Back</button>'
        f'<button type="button" data-do="forward">Forward {_kbd("forward", "arrowright")}</button>'
        '<button type="button" data-do="only" aria-pressed="false">Only this prompt</button>'
        '<button type="button" data-strengths title="Edit this pair at several strengths, and pick one">Strengths …'
        "</button></div>"
        '<label class="cur-check"><input type="checkbox" data-is="auto" checked> After a decision, go on by itself'
        '</label><button type="button" class="cur-stop-button" data-do="stop">Stop: this may be illegal …</button>'
        "</aside>"
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
    rows = "".join(
        f"<div><dt>{_kbd(name, key)}</dt><dd><span><b>{escape(label)}.</b> {escape(what)}</span>"
        f'<button type="button" data-rebind="{name}" data-label="{escape(label)}" '
        f'aria-label="Change the key of {escape(label)}">Change</button></dd></div>'
        for name, label, key, what in actions()
    )
    fixed = "".join(f"<div><dt><kbd>{escape(key)}</kbd></dt><dd>{escape(what)}</dd></div>" for key, what in _FIXED_KEYS)
    return (
        '<dialog class="cur-keys" data-is="keys" aria-label="Keys"><h3>Keys</h3>'
        "<p>They work while no field is being typed in. Your changes stay in this browser.</p>"
        f'<dl>{rows}{fixed}</dl><p class="cur-keys-said" data-is="keys-said" role="status">&nbsp;</p>'
        '<div class="cur-moves"><button type="button" data-do="close-keys">Close</button>'
        '<button type="button" data-do="reset-keys">All as at first</button></div></dialog>'
    )


def _options(choices: dict[str, str]) -> str:
    return "".join(f'<option value="{value}">{escape(label)}</option>' for value, label in choices.items())
