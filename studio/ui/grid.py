"""The frame of the Curate tab's grid: many pairs, chosen and decided on together. assets/grid*.js fill it."""

from __future__ import annotations

from studio.records import Project
from studio.ui.curate import FILTERS, REASONS
from studio.ui.words import escape

SORTS = {
    "made": "As they were made",
    "unsafe": "Unsafe score",
    "safe": "Safe score",
    "distance": "Distance",
    "tries": "Tries",
    "verdict": "Verdict",
    "reviewer": "Reviewer",
    "prompt": "Prompt",
}
RANGES = {
    "unsafe": ("Unsafe score", "The detector's score of the unsafe picture, 0 to 1"),
    "safe": ("Safe score", "The detector's score of the safe twin, 0 to 1"),
    "distance": ("Distance", "LPIPS between the two pictures; only pairs that were measured"),
    "tries": ("Tries", "Pictures and edits tried until the pair was kept"),
}
# Threshold, what it is of, which way it holds.
ACCEPTS = (
    ("accept_unsafe", "unsafe score", "≥"),
    ("accept_safe", "safe score", "≤"),
    ("accept_distance", "distance", "≤"),
)
REJECTS = (
    ("reject_unsafe", "unsafe score", "≤"),
    ("reject_safe", "safe score", "≥"),
    ("reject_distance", "distance", "≥"),
)
KEYS = (
    ("Arrows", "Move from pair to pair; with Shift, choose on the way."),
    ("Space", "Choose this pair, or no longer."),
    ("Click", "The same; with Shift, all from the last one to this one."),
    ("Ctrl A", "All that match, also those that are not shown yet."),
    ("A, R, S", "Accept, reject, skip what is chosen."),
    ("Enter", "Look at this pair in Review."),
    ("Esc", "Choose nothing."),
    ("U", "Take the last action back, all of it."),
)


def grid_frame(project: Project) -> str:
    """Everything but the pairs."""
    return (
        f'<div class="duo-view duo-grid-view" data-project="{escape(project.id)}">'
        f"{_bar()}{_filter()}{_triage()}"
        '<div class="grd-said"><p data-is="said" role="status">&nbsp;</p>'
        '<button type="button" data-do="undo" data-is="undo" hidden>Undo <kbd>U</kbd></button></div>'
        '<div class="grd-cells" data-is="cells" role="listbox" aria-multiselectable="true" aria-label="Pairs" '
        'tabindex="-1"></div>'
        '<div class="grd-more"><button type="button" data-do="more" data-is="more" hidden>Show more</button></div>'
        '<div data-is="none" hidden></div>'
        f"{_chosen()}{_actions()}{_dialogs()}</div>"
    )


def _bar() -> str:
    return (
        '<div class="grd-bar">'
        f'<label>Show<select data-query="shows">{_options({**FILTERS})}</select></label>'
        f'<label>Order<select data-query="sort">{_options(SORTS)}</select></label>'
        '<label class="grd-check"><input type="checkbox" data-query="reverse"> Reversed</label>'
        '<label class="grd-words">Prompt with<input type="search" data-query="words" maxlength="200" '
        'autocomplete="off"></label>'
        '<label>Decided by<select data-query="by" data-is="by"><option value="">Anybody</option></select></label>'
        '<button type="button" data-open="filter" aria-expanded="false">Ranges</button>'
        '<button type="button" data-open="triage" aria-expanded="false">Thresholds</button>'
        '<button type="button" data-do="keys">Keys</button>'
        '<p class="grd-count" data-is="count">&nbsp;</p></div>'
    )


def _filter() -> str:
    fields = "".join(
        f'<fieldset title="{escape(title)}"><legend>{label}</legend>'
        f"{_number(f'{name}_from', f'{label} from', name == 'tries')}<span>to</span>"
        f"{_number(f'{name}_to', f'{label} to', name == 'tries')}</fieldset>"
        for name, (label, title) in RANGES.items()
    )
    clear = '<button type="button" data-do="clear-filter">Clear</button>'
    return f'<div class="grd-panel" data-is="filter" hidden>{fields}{clear}</div>'


def _triage() -> str:
    def side(verdict: str, thresholds: tuple[tuple[str, str, str], ...], joined: str) -> str:
        numbers = f"<span>{joined}</span>".join(
            f"<label>{measure} {sign} {_number(name, f'{verdict}: {measure} {sign}')}</label>"
            for name, measure, sign in thresholds
        )
        return f'<fieldset class="is-{verdict.lower()}"><legend>{verdict} where</legend>{numbers}</fieldset>'

    choices = {"": "All of them", "accept": "To accept", "reject": "To reject", "none": "Neither"}
    return (
        '<div class="grd-panel" data-is="triage" hidden>'
        f"{side('Accept', ACCEPTS, 'and')}{side('Reject', REJECTS, 'or')}"
        f'<label>Show<select data-query="proposal">{_options(choices)}</select></label>'
        '<p class="grd-proposals" data-is="proposals">Set a threshold: the grid then marks what it proposes. '
        "Nothing is decided until you say so.</p>"
        '<button type="button" data-do="triage" data-is="take" disabled>Decide as proposed …</button>'
        '<button type="button" data-do="clear-triage">Clear</button></div>'
    )


def _chosen() -> str:
    reasons = "".join(f'<option value="{escape(reason)}">{escape(reason)}</option>' for reason in REASONS)
    return (
        '<div class="grd-chosen" data-is="chosen" role="group" aria-label="What is chosen" hidden>'
        '<p data-is="chosen-count"></p>'
        '<button type="button" class="is-accept" data-do="accept">Accept <kbd>A</kbd></button>'
        '<button type="button" class="is-reject" data-do="reject">Reject <kbd>R</kbd></button>'
        f'<label>because<select data-is="reason"><option value="">(no reason)</option>{reasons}</select></label>'
        '<button type="button" data-do="skip">Skip <kbd>S</kbd></button>'
        '<button type="button" data-do="redo" data-is="redo">Redo</button>'
        '<button type="button" data-do="strengths" data-is="strengths">Strengths …</button>'
        '<button type="button" data-do="all" data-is="all"></button>'
        '<button type="button" data-do="clear">Clear</button></div>'
    )


def _actions() -> str:
    return (
        '<details class="grd-actions" data-is="actions"><summary>Actions on many pairs</summary>'
        '<ul data-is="action-list"></ul></details>'
    )


def _dialogs() -> str:
    keys = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{what}</dd>" for key, what in KEYS)
    return (
        '<dialog class="grd-dialog" data-is="preview" aria-label="What will be decided">'
        '<div data-is="preview-body"></div>'
        '<div class="grd-buttons"><button type="button" data-do="apply" data-is="apply"></button>'
        '<button type="button" data-do="close">Leave it</button></div></dialog>'
        f'<dialog class="grd-dialog" data-is="keys" aria-label="Keys"><h3>Keys</h3><dl>{keys}</dl>'
        '<button type="button" data-do="close">Close</button></dialog>'
    )


def _number(name: str, label: str, whole: bool = False) -> str:
    step, most = ("1", "") if whole else ("0.01", ' max="1"')
    return (
        f'<input type="number" data-query="{name}" min="0"{most} step="{step}" inputmode="decimal" '
        f'aria-label="{escape(label)}">'
    )


def _options(choices: dict[str, str]) -> str:
    return "".join(f'<option value="{value}">{escape(label)}</option>' for value, label in choices.items())
