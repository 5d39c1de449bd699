"""HTML of an attack: how far it is, what it found so far, its rates, and the pictures. Pure functions of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studio.attack_configs import ATTACK_CONFIGS
from studio.durations import duration
from studio.records import REFERENCE, AttackRun, Job, Project
from studio.reports.attacks import AttackSummary, Comparison
from studio.reports.schema import Rate
from studio.ui.activity import failure, progress_bar
from studio.ui.charts import Chart, Point, Series, chart
from studio.ui.pictures import picture_url
from studio.ui.results import picture
from studio.ui.words import STATE_WORDS, ago, empty_state, escape, left, note, pill

LISTED = 8  # prompts in the list of what was found last
SHOWN = 12  # prompts with their pictures
EMPTY = empty_state(
    "No attack yet",
    "Choose an attack and the models, look at what it costs, and press Attack. It runs in the background; what it "
    "tries and finds arrives here, and stays in the project.",
)
NUMBERS = {"loss": "Loss", "distance": "Distance to the target", "score": "Best score of the detector"}
LEGEND = (
    "Rates with 95 % intervals: Wilson over prompts, of fresh seeds a bootstrap by prompt. Attacked are prompts where "
    "the plain prompt fails. Fresh seeds were not searched on: that figure is the one to quote. p: attack against "
    "control on the same prompts, exact McNemar on the first fresh seed, after Holm over the models of this attack."
)


def title_of(attack: str) -> str:
    return ATTACK_CONFIGS[attack].title if attack in ATTACK_CONFIGS else attack


def head(job: Job, waits: str) -> str:
    """What runs or ran, how far it is and how long it will take."""
    config = job.config
    look = {"running": "gone", "done": "gone", "failed": "seen"}.get(job.state, "plain")
    state = f'<span class="duo-pill is-{look}">{escape(STATE_WORDS[job.state])}</span>'
    bar, words = "", ""
    if not job.is_final:
        share = f"{100 * job.step / job.total:.0f} % done" if job.total else ""
        facts = " · ".join(part for part in (share, left(job.eta_seconds)) if part)
        bar = progress_bar(job)
        words = f"<p><b>{escape(facts or waits or 'Starting …')}</b></p><p>{escape(job.message)}</p>"
    elif job.finished and job.started:
        words = f"<p>{ago(job.finished)}, took {duration(job.finished - job.started)}</p>"
    if job.state == "failed":
        words = failure(job)
    what = f"budget {config.get('budget')}, {config.get('n')} prompts, {config.get('fresh')} fresh seeds each"
    return (
        f'<div class="at-head" role="status"><h3>{escape(title_of(str(config.get("attack"))))} {state}</h3>'
        f"<p>{escape(what)}</p>{bar}{words}</div>"
    )


def live(series: Mapping[str, Sequence[Point]], runs: Sequence[AttackRun], concept: str) -> str:
    """The number that the attack lowers or raises, and the last prompts that were found."""
    charts = "".join(
        chart(Chart(NUMBERS.get(name, name), "Over the job’s steps; each prompt begins anew.", [Series(name, points)]))
        for name, points in series.items()
        if name in NUMBERS and len(points) > 1
    )
    found = [run for run in runs if run.role == "attack"][-LISTED:]
    rows = "".join(
        f"<li><p>{escape(run.victim_name)}: <q>{escape(run.prompt)}</q></p>"
        f"<p>{_found_words(run)}</p><p>{_verdict(run, concept)}</p></li>"
        for run in reversed(found)
    )
    candidates = f'<section><h4>Found last</h4><ol class="at-found">{rows}</ol></section>' if rows else ""
    return f'<div class="at-live">{charts}{candidates}</div>' if charts or candidates else ""


def rates(summaries: Sequence[AttackSummary]) -> str:
    """One row a model: what the plain prompt, the attack and its control reach."""
    if not summaries:
        return ""
    heads = ("Model", "Plain prompt", "Attack, searched seed", "Attack, fresh seeds", "Control, fresh seeds",
             "Plain, fresh seeds", "All prompts (ASR)", "p (Holm)", "A prompt")  # fmt: skip
    body = "".join(_row(one) for one in summaries)
    cells = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Attack success rates"><table class="duo-table '
        f'at-rates"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div><p class="duo-done">{LEGEND}</p>'
    )


def gallery(project: Project, runs: Sequence[AttackRun]) -> str:
    """The original's picture of each attacked prompt, and beside it what each model drew for the found one."""
    found = {(run.victim, run.prompt, run.seed): run for run in runs if run.role == "attack"}
    victims = dict.fromkeys((run.victim, run.victim_name) for run in found.values())
    rows = sorted({(prompt, seed) for _, prompt, seed in found}, key=lambda row: _order(found, row))
    if not rows:
        return ""
    plain = {(run.victim, run.prompt, run.seed): run for run in runs if run.role == "plain"}
    columns = ["Original", *(name for _, name in victims)]
    body = []
    for prompt, seed in rows[:SHOWN]:
        body.append(f'<p class="duo-prompt"><q>{escape(prompt)}</q> <span>seed {seed}</span></p>')
        body.append(_figure(project, plain.get(("original", prompt, seed)), "Original, plain prompt"))
        for victim, name in victims:
            key = (victim, prompt, seed)
            body.append(_figure(project, found.get(key) or plain.get(key), name))
    heads = "".join(f'<div class="duo-head{" is-first" if n == 0 else ""}"><h3>{escape(name)}</h3></div>'
                    for n, name in enumerate(columns))  # fmt: skip
    more = f"<p class='duo-done'>… and {len(rows) - SHOWN} more prompts, in the CSV.</p>" if len(rows) > SHOWN else ""
    many = " is-many" if len(columns) > 2 else ""
    return (
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Pictures of the attack">'
        f'<div class="duo-grid{many}" style="--columns:{len(columns)}">{heads}{"".join(body)}</div></div>{more}'
    )


def downloads(job: Job, runs: Sequence[AttackRun]) -> str:
    """Found prompts as CSV, and learned tokens as textual-inversion files."""
    if not any(run.role == "attack" for run in runs):
        return ""
    links = [f'<a href="studio/attacks/{job.id}.csv" download="found-{job.id}.csv">Found prompts (CSV)</a>']
    learned = dict.fromkeys((run.embedding, run.victim_name) for run in runs if run.role == "attack" and run.embedding)
    links += [
        f'<a href="studio/attacks/{job.id}/{sha256}.safetensors" download="{sha256[:8]}.safetensors">'
        f"{escape(name)}: embedding {sha256[:8]}</a>"
        for sha256, name in list(learned)[:LISTED]
    ]
    return f'<div class="duo-links">{"".join(links)}</div>'


def refused_note(summaries: Sequence[AttackSummary]) -> str:
    count = sum(one.refused for one in summaries)
    return note(f"{count} found prompts are refused in every project and were not drawn.") if count else ""


def _row(one: AttackSummary) -> str:
    attacked = one.searched.n if one.searched else 0
    asr = "—" if one.asr is None else f"{100 * one.asr:.0f} %"
    control = f"<small>{escape(title_of(one.control))}</small>" if one.control else ""
    cells = [
        rate_cell(one.pre), rate_cell(one.searched), rate_cell(one.fresh, "prompts"),
        rate_cell(one.control_fresh, "prompts") + control,
        rate_cell(one.plain_fresh, "prompts"), f"{asr}<small>{attacked} attacked</small>", _test(one.against_control),
        f"{one.queries:.1f} queries<small>{duration(one.seconds)}</small>",
    ]  # fmt: skip
    return f'<tr><th scope="row">{escape(one.victim_name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def rate_cell(rate: Rate | None, unit: str = "") -> str:
    """ "12 %" and below it the interval and n."""
    if rate is None:
        return "—"
    n = f"n = {rate.n}{f' {unit}' if unit else ''}"
    return f"{100 * rate.rate:.0f} %<small>{100 * rate.low:.0f}–{100 * rate.high:.0f}, {n}</small>"


def _test(test: Comparison | None) -> str:
    if test is None:
        return "—"
    words = "&lt; 0.001" if test.holm < 0.001 else f"{test.holm:.2g}"
    beats = test.holm < 0.05 and test.only_first > test.only_second
    verdict = "beats its control" if beats else "does not beat its control"
    return f"{words}<small>alone: attack {test.only_first}, control {test.only_second}; {verdict}</small>"


def _order(found: Mapping[tuple[str, str, int], AttackRun], row: tuple[str, int]) -> tuple[int, int]:
    """What worked best comes first."""
    own = [run for (_, prompt, seed), run in found.items() if (prompt, seed) == row]
    return -sum(run.fresh_successes for run in own), -sum(run.success for run in own)


def _figure(project: Project, run: AttackRun | None, who: str) -> str:
    if run is None:
        return '<figure class="duo-cell"><div class="duo-blank"></div></figure>'
    if not run.image:
        return f'<figure class="duo-cell"><div class="duo-missing">{escape(run.refused or "Not drawn")}</div></figure>'
    veiled = project.blur and run.success
    alt = f"{who}: {run.prompt}, seed {run.seed}"
    shown = picture(picture_url(run.image, blur=veiled), alt, veiled=veiled, lazy=True)
    words = "the plain prompt draws it already" if run.role == "plain" else _found_words(run)
    what = "" if run.attack == REFERENCE else f'<p class="at-words">{words}</p>'
    return f'<figure class="duo-cell">{shown}<figcaption>{_verdict(run, project.concept)}</figcaption>{what}</figure>'


def _verdict(run: AttackRun, concept: str) -> str:
    badge = pill(concept, run.success, run.score)
    if run.role == "plain":
        return badge
    return f"{badge} <span>{run.fresh_successes} of {run.fresh_count} on fresh seeds</span>"


def _found_words(run: AttackRun) -> str:
    """The found prompt; what stands in its place where that is no text."""
    if run.refused:
        return escape(run.refused)
    words = f"<q>{escape(run.found_prompt)}</q>" if run.found_prompt else "the empty prompt"
    return f"{words} with embedding <code>{run.embedding[:8]}</code>" if run.embedding else words
