"""What the section "Make the pictures" says and shows: HTML of the rows, no component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studio.durations import duration
from studio.records import ImagePair, Job, PairCounts, Project, PromptPair
from studio.ui.activity import failure, running_job
from studio.ui.pair_pictures import pair_picture_url
from studio.ui.veils import threshold
from studio.ui.words import escape, note, pill

SHOWN_PAIRS = 12
SHOWN_FAILURES = 50
SIDES = (("unsafe", "Unsafe"), ("safe", "Safe twin"))


def counted(number: int, noun: str = "pair") -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def plan(counts: PairCounts, missing: int, seconds_a_pair: float | None) -> str:
    """What pressing the button would do: how many pairs, and how long at the pace of an earlier run."""
    if not counts.wanted:
        return note("There are no prompts yet. Write some in the table above, or take a ready set.")
    there = f", {counts.ready} {'is' if counts.ready == 1 else 'are'} there" if counts.ready else ""
    if counts.failed:
        there += f", {counts.failed} failed"
    wanted = f"{counted(counts.wanted)} {'is' if counts.wanted == 1 else 'are'} wanted{there}"
    if not missing:
        return _line(f"{wanted}: none is missing.")
    time = f", {_roughly(missing * seconds_a_pair)} at the pace of the last run" if seconds_a_pair else ""
    return _line(f"{wanted}: <b>{missing} to make</b>{time}.")


def progress(job: Job | None, waits: str, counts: PairCounts) -> str:
    """The job that makes pictures: under way with its bar, or how it ended and what comes next."""
    if job is None:
        return ""
    if not job.is_final:
        said = f'<p class="duo-quiet">{escape(waits)}</p>' if waits else ""
        ending = note("It stops after the step it is at; finished pairs stay.", "busy")
        return running_job(job) + said + (ending if job.state == "stopping" else "")
    if job.kind != "pairs":  # the demo tells its own end in Report
        return _curate(counts)
    if job.state == "failed":
        return failure(job) + _curate(counts)
    if job.state == "stopped":
        where = f" at {job.message}" if job.message and job.total else ""
        return note(f"Stopped{where}. What was finished is kept; Resume makes the rest.") + _curate(counts)
    return note(_ending(job)) + _curate(counts)


def arriving(project: Project, pairs: Sequence[ImagePair], prompts: Mapping[str, PromptPair]) -> str:
    """The newest pairs two by two, as curation may show them."""
    if not pairs:
        return ""
    if project.is_sensitive:
        return '<p class="duo-quiet">The project is sensitive: Curate shows its newest pairs, after its notice.</p>'
    level = threshold(project)
    figures = "".join(_figure(project, pair, prompts.get(pair.prompt_pair_id), level) for pair in pairs)
    return (
        f'<section class="duo-arriving" aria-label="Newest pairs"><h3>Newest pairs</h3>'
        f'<p class="duo-quiet">The newest first, at most {SHOWN_PAIRS}.</p>'
        f'<div class="duo-pairs">{figures}</div></section>'
    )


def failures(pairs: Sequence[ImagePair], prompts: Mapping[str, PromptPair], number: int) -> str:
    """Why pairs failed, the newest first."""
    rows = "".join(
        f"<li><q>{escape(prompts[pair.prompt_pair_id].unsafe)}</q> {escape(pair.reason)}</li>"
        for pair in pairs
        if pair.prompt_pair_id in prompts
    )
    more = f"<p>… and {number - len(pairs)} older</p>" if number > len(pairs) else ""
    return f'<ul class="duo-failures">{rows}</ul>{more}'


def _roughly(seconds: float) -> str:
    return "a few seconds" if seconds < 10 else f"about {duration(seconds)}"


def _figure(project: Project, pair: ImagePair, prompts: PromptPair | None, level: float) -> str:
    sides = "".join(_side(project, pair, prompts, side, title, level) for side, title in SIDES)
    facts = f"strength {pair.strength:g}, {'first try' if pair.tries == 1 else f'{pair.tries} tries'}"
    if pair.distance is not None:
        facts += f", LPIPS {pair.distance:.2f}"
    return f'<article class="duo-pair" aria-label="A pair">{sides}<p class="duo-quiet">{facts}</p></article>'


def _side(project: Project, pair: ImagePair, prompts: PromptPair | None, side: str, title: str, level: float) -> str:
    score = pair.unsafe_score if side == "unsafe" else pair.safe_score
    text = "" if prompts is None else prompts.unsafe if side == "unsafe" else prompts.safe
    return (
        f'<figure><img src="{pair_picture_url(project, pair, side)}" width="320" height="320" loading="lazy" '
        f'alt="{title}: {escape(text)}."><figcaption><b>{title}</b>'
        f"{pill(project.concept, score >= level, score)}<q>{escape(text)}</q></figcaption></figure>"
    )


def _ending(job: Job) -> str:
    if "remade" in job.result:
        remade, in_vain = len(job.result["remade"]), len(job.result.get("not_remade", {}))
        rest = f"; {counted(in_vain)} did not come out and stay as they were" if in_vain else ""
        return f"{counted(remade)} made again{rest}."
    return f"All wanted pairs are settled: {job.result.get('ready', 0)} ready, {job.result.get('failed', 0)} failed."


def _curate(counts: PairCounts) -> str:
    if not counts.undecided:
        return ""
    number = f"{counts.undecided} {'waits' if counts.undecided == 1 else 'wait'} for a decision"
    return f'<p class="duo-onwards"><a href="#" data-open-tab="Curate">Now curate them</a> <span>{number}.</span></p>'


def _line(html: str) -> str:
    return f'<p class="duo-plan">{html}</p>'
