"""HTML of one training: state, charts, sample pictures, log. Pure functions of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from studio.durations import duration
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.records import Checkpoint, Sample
from studio.ui.activity import progress_bar
from studio.ui.adapters import adapter_url
from studio.ui.charts import Chart, Point, Series, chart
from studio.ui.pictures import picture_url
from studio.ui.results import picture
from studio.ui.train_where import where_words
from studio.ui.trainings import Training
from studio.ui.words import STATE_WORDS, escape, left, pill, short_hash

STATE_LOOK = {"running": "gone", "done": "gone", "stopping": "unclear", "failed": "seen"}
LOSS_HELP = "What the training lowers, measured on each step's own small batch: it falls, and jumps on the way."
NORM_HELP = "How hard a step pulls at the weights, before clipping. Rising without end: the learning rate is too high."
_HELP = {
    "dpo": ("Preference term", "The part of the loss that prefers the safe twin; 0.69 (log 2) is no preference yet."),
    "prior": ("Prior term", "How far the output at pure noise has moved from the original's: small keeps the rest."),
    "ablation": ("Ablation term", "How far what the concept's prompts predict still is from what the anchor's do."),
    "keep_anchor": ("Anchor term", "How well the anchor's own pictures are still denoised: small keeps the anchor."),
    "anchoring": ("Anchoring term", "How far prompts beside the concept have moved: small keeps the rest."),
    "attention": ("Attention term", "How much of the pictures' attention still goes to the concept's tokens."),
    "erase": ("Erasing term", "How far the concept's prompts still are from where they are led."),
    "retain": ("Retaining term", "How far the prompts that are to stay have moved: small keeps the rest."),
    "forget": ("Forgetting term", "How far unsafe pictures still are from what the network says under their anchor."),
    "remain": ("Remaining term", "How well safe pictures are still denoised: small keeps the rest."),
}
_WHOLE = {"demo": "the whole demo", "train": "all groups", "sweep": "the whole sweep"}  # of a stage's job
_SAFE, _UNSAFE = "safe picture, d(x+)", "unsafe picture, d(x-)"
_D_HELP = (
    "How much better (below 0) or worse (above 0) than the original each picture is reconstructed. Forgetting lifts "
    "the unsafe one above the safe one."
)
_ACCURACY_HELP = "Share of the batch's pairs in which the model already prefers the safe twin. Half is no preference."


def head(training: Training, waiting: str, checkpoint: Checkpoint | None) -> str:
    """What is trained, how it stands, and what came of it."""
    state = training.state
    method = method_title(training.method) if training.method in METHOD_CONFIGS else training.method
    on_pairs = training.method in METHOD_CONFIGS and METHOD_CONFIGS[training.method].uses_pairs
    known = method if on_pairs else f"{method}, trained on prompts"  # how many pairs is known once they are read
    known = f"{method}, trained on {training.pairs} pairs" if training.pairs else known
    known = f"{method}, the sum of {training.parts} adapters, one a group" if training.parts else known
    where = where_words(training.job)
    title = (
        f'<h3>{escape(training.title)} <span class="duo-pill is-{STATE_LOOK.get(state, "plain")}">'
        f"{escape(STATE_WORDS.get(state, state))}</span></h3><p>{escape(known)}</p>"
        f"{f'<p>{escape(where)}</p>' if where else ''}"
    )
    body = {"failed": _failed, "stopped": _stopped}.get(state, _going)(training, waiting)
    if state == "done":
        body = _done(training, checkpoint)
    return f'<div class="duo-training" role="status">{title}{body}</div>'


def charts(series: Mapping[str, Sequence[Point]], training: Training) -> str:
    """A figure for each number that the method reports."""
    if not series:
        if training.parts:
            return '<p class="duo-quiet">Each adapter has its own charts: choose it in the list above.</p>'
        if training.state in ("done", "failed", "stopped"):
            return '<p class="duo-quiet">This training has reported no numbers.</p>'
        return '<p class="duo-quiet">The charts begin with the first step.</p>'
    return f'<div class="duo-plots">{"".join(chart(figure) for figure in _figures(series))}</div>'


def sample_rows(samples: Sequence[Sample], concept: str, blur: bool, total: int) -> str:
    """A table: one row a prompt, one column a sampled step, the newest at the right and in sight."""
    if not samples:
        return ""
    steps = sorted({sample.step for sample in samples})
    by_place = {(sample.position, sample.step): sample for sample in samples}
    heads = "".join(f'<th scope="col">{_step_name(step, total)}</th>' for step in steps)
    rows = []
    for position in sorted({sample.position for sample in samples}):
        row = {step: by_place[position, step] for step in steps if (position, step) in by_place}
        newest = row[max(row)]
        aim = f"should lose its {concept}" if newest.unwanted else "should stay as it is"
        cells = "".join(f"<td>{_picture(row[step], concept, blur) if step in row else ''}</td>" for step in steps)
        rows.append(
            f'<tr class="duo-asks"><th scope="colgroup" colspan="{len(steps) + 1}"><span>'
            f"<q>{escape(newest.prompt)}</q> {escape(aim)}</span></th></tr><tr>{cells}<td></td></tr>"
        )
    return (
        '<section class="duo-samples"><h4>What it draws</h4>'
        "<p>The same prompts from the same seeds, drawn with the model as it was at each step. "
        "No report is made of these pictures.</p>"
        '<div class="duo-film" dir="rtl" tabindex="0" role="region" aria-label="Sample pictures, step by step">'
        f'<table dir="ltr"><thead><tr>{heads}<td></td></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></section>"
    )


def log_text(text: str) -> str:
    return f'<pre class="duo-log" tabindex="0">{escape(text or "The log is empty.")}</pre>'


def _going(training: Training, waiting: str) -> str:
    job = training.job
    if job.state == "queued":
        return f"<p><b>{escape(waiting or 'Starting …')}</b></p>"
    facts = " · ".join(part for part in (_at(training), left(job.eta_seconds)) if part)
    whole = f" The bar is that of {_WHOLE[job.kind]}." if training.stage else ""
    last = "It stops after this step." if job.state == "stopping" else f"You can close this page and come back.{whole}"
    return (
        f"{progress_bar(job)}<p><b>{escape(facts or 'Starting …')}</b></p><p>{escape(job.message)}</p>"
        f'<p class="duo-quiet">{escape(last)}</p>'
    )


def _stopped(training: Training, waiting: str) -> str:
    at = _at(training)
    return f"<p>Stopped{f' at {at}' if at else ''}. Resume goes on from there and ends with the same model.</p>"


def _at(training: Training) -> str:
    """The step it is at; nothing while it loads, and nothing for a stage, whose job's steps are those of the whole."""
    job = training.job
    return "" if training.stage or job.total <= 1 else f"step {job.step} of {job.total}"


def _failed(training: Training, waiting: str) -> str:
    first, _, rest = training.job.error.partition("\n")
    lines = f"<pre>{escape(rest)}</pre>" if rest else ""
    return (
        f'<div class="duo-note duo-note-error" role="alert"><div><b>It failed.</b> {escape(first)}{lines}</div></div>'
    )


def _done(training: Training, checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "<p>It ended without a trained model.</p>"
    steps = f"{training.total} steps in " if training.total else "Trained in "
    steps = f"{training.parts} times {steps}" if training.parts else steps
    return (
        f"<p>{steps}{duration(checkpoint.train_seconds)}. Adapter "
        f'<code title="SHA-256 {checkpoint.sha256}">{short_hash(checkpoint.sha256)}</code> in '
        f"<code>{escape(checkpoint.path)}</code></p>"
        '<div class="duo-links"><a href="#" data-open-tab="Compare">See it in Compare</a>'
        f'<a href="{adapter_url(checkpoint.id)}" download="{escape(_file_name(checkpoint))}">Download the adapter</a>'
        '<a href="#" data-open-panel="duo-export">Export it for other programs</a>'
        "</div>"
    )


def _file_name(checkpoint: Checkpoint) -> str:
    plain = "".join(sign if sign.isalnum() else "-" for sign in checkpoint.name.lower()).strip("-")
    return f"{plain or checkpoint.method}-{short_hash(checkpoint.sha256)}.safetensors"


def _figures(series: Mapping[str, Sequence[Point]]) -> list[Chart]:
    """The known numbers in the order in which they are read, then whatever else a method reports."""
    left_over = dict(series)
    figures = []
    if loss := left_over.pop("loss", None):
        figures.append(Chart("Loss", LOSS_HELP, [Series("loss", loss)], may_be_log=True))
    unsafe, safe = left_over.pop("d_unsafe", None), left_over.pop("d_safe", None)
    if safe and unsafe:
        lines = [Series(_SAFE, safe), Series(_UNSAFE, unsafe, "other")]
        figures.append(Chart("Reconstruction, against the original", _D_HELP, lines, guide=0.0))
    if accuracy := left_over.pop("implicit_accuracy", None):
        line = [Series("implicit accuracy", accuracy)]
        figures.append(Chart("Implicit accuracy", _ACCURACY_HELP, line, low=0, high=1, percent=True, guide=0.5))
    norm = left_over.pop("grad_norm", None)
    for name, points in left_over.items():
        title, text = _HELP.get(name, (name.replace("_", " ").capitalize(), ""))
        guide = math.log(2) if name == "dpo" else None
        figures.append(Chart(title, text, [Series(title, points)], may_be_log=guide is None, guide=guide))
    if norm:
        figures.append(Chart("Gradient norm", NORM_HELP, [Series("gradient norm", norm)], may_be_log=True))
    return figures


def _step_name(step: int, total: int) -> str:
    return "original" if step == 0 else f"step {step}{', the end' if step == total else ''}"


def _picture(sample: Sample, concept: str, blur: bool) -> str:
    """One picture with its verdict; in a project that blurs, what shows the concept or was not judged is blurred."""
    hidden = blur and sample.found is not False
    judged = sample.found is not None and sample.score is not None
    verdict = pill(concept, bool(sample.found), sample.score or 0.0, sample.seen) if judged else ""
    spoken = "" if not judged else f" {concept} seen." if sample.found else f" No {concept}."
    alt = f"Step {sample.step}: {sample.prompt}.{spoken}"
    return f"{picture(picture_url(sample.image), alt, veiled=hidden, lazy=True, side=132)}{verdict}"
