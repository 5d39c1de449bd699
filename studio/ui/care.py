"""The frames of care in the Curate tab: the notice, the calm screen at the day's end, the settings, the break.

assets/curate-care.js shows and fills them from `studio.ui.care_routes`; nothing of a pair is in them.
"""

from __future__ import annotations

from studio.care import MOST_MINUTES, MOST_PAIRS, notice, notice_version
from studio.records import Project
from studio.ui.words import escape

BLUR_WORDS = {"light": "Light", "strong": "Strong", "strongest": "Strongest: hardly more than one colour"}
REVEAL_WORDS = {
    "hold": "While a key or finger is held",
    "press": "At a press, until the next press or pair",
    "always": "At once: every pair is shown clear",
}
BREAK_WORDS = "The pictures are covered and the time is not counted. Look at something far away, or stand up."


def care_places(project: Project) -> str:
    """What stands in the pairs' place: the notice before a sensitive project, and the end of the day."""
    end = (
        '<section class="cur-calm" data-is="ended" aria-labelledby="cur-ended-title" hidden>'
        '<h3 id="cur-ended-title" tabindex="-1">That is enough for today</h3><p data-is="ended-words"></p>'
        "<p>Everything that you decided is saved.</p></section>"
    )
    return f"{_notice(project) if project.is_sensitive else ''}{end}"


def care_dialogs() -> str:
    return f"{_settings()}{_break()}"


def _notice(project: Project) -> str:
    parts = "".join(
        f"<h4>{escape(title)}</h4><p>{escape(words)}</p>" for title, words in notice(project.concept, project.notice)
    )
    version = notice_version(project.concept, project.notice)
    return (
        f'<section class="cur-notice" data-is="notice" data-version="{version}" aria-labelledby="cur-notice-title" '
        f'hidden><h3 id="cur-notice-title" tabindex="-1">Before you look at “{escape(project.name)}”</h3>{parts}'
        '<form data-is="notice-form"><label class="cur-field">Your name, under which your decisions are kept'
        '<input data-is="notice-name" maxlength="60" autocomplete="off" spellcheck="false" required></label>'
        '<p class="cur-wrong" data-is="notice-wrong" role="alert"></p><div class="cur-moves">'
        '<button type="submit" class="is-agree">I have read this and agree</button>'
        '<button type="button" data-do="decline">No, take me back</button></div></form></section>'
    )


def _settings() -> str:
    return (
        '<dialog class="cur-dialog cur-care" data-is="care" aria-labelledby="cur-care-title">'
        '<h3 id="cur-care-title" tabindex="-1" autofocus>Care</h3>'
        '<p>How you look, kept here under your name: <b data-is="care-name"></b>. Studies disagree on whether blur '
        "helps; it is offered, nothing is claimed.</p>"
        '<form data-is="care-form">'
        f"{_choice('blur', 'Blur', BLUR_WORDS)}{_choice('reveal', 'Reveal', REVEAL_WORDS)}"
        f"{_check('grey', 'Shades of grey, also when revealed')}{_check('small', 'Small pictures')}"
        f"{_number('break_minutes', 'Remind me of a break after so many minutes of looking (0: never)', MOST_MINUTES)}"
        f"{_number('day_minutes', 'My limit a day, in minutes of looking (0: the project’s)', MOST_MINUTES)}"
        f"{_number('day_pairs', 'My limit a day, in pairs (0: the project’s)', MOST_PAIRS)}"
        '<p class="cur-quiet" data-is="care-today"></p>'
        '<div class="cur-moves"><button type="submit" class="is-agree">Save</button>'
        '<button type="button" data-do="close-care">Close</button></div></form>'
        f'{_rules()}<p class="cur-wrong" data-is="care-said" role="status"></p></dialog>'
    )


def _rules() -> str:
    """What the owner of the project sees besides."""
    return (
        '<form class="cur-rules" data-is="rules-form" hidden><h4>For everybody in this project</h4>'
        '<label class="cur-field">What you add to the notice before a sensitive project; changed, it is shown to '
        'everybody again<textarea name="notice" rows="3" maxlength="4000"></textarea></label>'
        f"{_number('day_minutes', 'Limit a day, in minutes of looking (0: none)', MOST_MINUTES)}"
        f"{_number('day_pairs', 'Limit a day, in pairs (0: none)', MOST_PAIRS)}"
        '<p class="cur-quiet">Each reviewer can set less, not more.</p>'
        '<div class="cur-moves"><button type="submit">Save for everybody</button></div>'
        '<h4>Today</h4><ul class="cur-log" data-is="care-days"></ul></form>'
    )


def _break() -> str:
    return (
        '<dialog class="cur-dialog cur-break" data-is="break" aria-labelledby="cur-break-title">'
        '<h3 id="cur-break-title">Time for a break</h3><p data-is="break-words"></p>'
        f'<p>{BREAK_WORDS}</p><div class="cur-moves">'
        '<button type="button" class="is-agree" data-do="break-over" autofocus>I am back</button>'
        '<button type="button" data-do="break-later"></button></div></dialog>'
    )


def _choice(name: str, label: str, choices: dict[str, str]) -> str:
    options = "".join(f'<option value="{value}">{escape(words)}</option>' for value, words in choices.items())
    return f'<label class="cur-field">{label}<select name="{name}">{options}</select></label>'


def _check(name: str, label: str) -> str:
    return f'<label class="cur-check"><input type="checkbox" name="{name}"> {label}</label>'


def _number(name: str, label: str, most: float) -> str:
    step = "1" if name == "day_pairs" else "any"
    return (
        f'<label class="cur-field">{label}<input type="number" name="{name}" min="0" max="{most:g}" step="{step}" '
        'inputmode="decimal" required></label>'
    )
