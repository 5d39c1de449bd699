"""HTML and SVG of trials: table and figure of a stress job, matrix of a transfer. Pure functions of rows."""

from __future__ import annotations

from collections.abc import Sequence

from studio.records import Job, Trial
from studio.reports.schema import Rate
from studio.reports.trials import Line, lines_of, models_of, relearned_of
from studio.ui.attack_view import rate_cell
from studio.ui.charts import Chart, Series, chart
from studio.ui.words import escape

WIDTH, NAMES, RIGHT, TOP, BOTTOM = 720, 250, 26, 10, 26
MARK = 11  # pixels between two models' marks
STYLES = 5  # of models' marks and lines; see attack.css
TABLE_HELP = (
    "Share of pictures that show the concept, with 95 % Wilson intervals: one picture a prompt, the same prompts and "
    "seeds in every cell."
)
MATRIX_HELP = (
    "Prompts that worked on the seed they were searched on, each drawn once more from a seed that was not searched on: "
    "share that shows the concept, 95 % Wilson interval, n. The diagonal is the model they were found on."
)


def stress_results(trials: Sequence[Trial]) -> str:
    """Steps until the concept was back, the figure, and the table."""
    if not trials:
        return ""
    return _relearned(trials) + _curves(trials) + dots(trials) + table(trials)


def table(trials: Sequence[Trial]) -> str:
    """A row a condition, a column a model."""
    names = models_of(trials)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(line.title)}</th>'
        f"{''.join(f'<td>{rate_cell(line.rate(key))}</td>' for key in names)}</tr>"
        for line in lines_of(trials)
    )
    return (
        '<details class="at-table" open><summary>All rates</summary><div class="duo-scroll" tabindex="0" role="region" '
        'aria-label="Rates by condition and model"><table class="duo-table"><thead><tr><th scope="col">Condition</th>'
        f'{heads}</tr></thead><tbody>{rows}</tbody></table></div><p class="duo-done">{TABLE_HELP}</p></details>'
    )


def dots(trials: Sequence[Trial]) -> str:
    """Every condition's rate with its interval, a mark a model; relearning has curves of its own."""
    names = models_of(trials)
    lines = [line for line in lines_of(trials) if line.group != "relearning"]
    if not lines:
        return ""
    tall = max(24, MARK * len(names) + 10)
    height = TOP + tall * len(lines) + BOTTOM
    body = "".join(_axis(share, height) for share in (0, 0.25, 0.5, 0.75, 1))
    for number, line in enumerate(lines):
        middle = TOP + tall * (number + 0.5)
        body += f'<text x="{NAMES - 12}" y="{middle + 4:.1f}" text-anchor="end">{escape(line.title)}</text>'
        for place, key in enumerate(names):
            if rate := line.rate(key):
                body += _mark(rate, middle + MARK * (place - (len(names) - 1) / 2), place)
    legend = "".join(
        f'<li><svg viewBox="0 0 16 12" aria-hidden="true">{_shape(8, 6, place)}</svg>{escape(name)}</li>'
        for place, name in enumerate(names.values())
    )
    spoken = escape(_spoken(lines, names))
    return (
        f'<figure class="at-dots"><figcaption><h4>Rate by condition</h4><ul>{legend}</ul></figcaption>'
        f'<div class="duo-scroll" tabindex="0" role="region" aria-label="Rate by condition"><svg '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{spoken}">{body}</svg></div></figure>'
    )


def matrix(trials: Sequence[Trial]) -> str:
    """A row a model that prompts were found on, a column a model that draws them."""
    if not trials:
        return ""
    names = models_of(trials)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names.values())
    rows = ""
    for line in lines_of(trials):
        cells = "".join(_square(line.rate(key), own=key == line.key) for key in names)
        rows += f'<tr><th scope="row">{escape(line.title)}</th>{cells}</tr>'
    return (
        '<figure class="at-matrix"><figcaption><h4>How far found prompts carry over</h4></figcaption>'
        '<div class="duo-scroll" tabindex="0" role="region" aria-label="Transfer matrix"><table><thead><tr>'
        f'<th scope="col">Found on ↓, drawn by →</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="duo-done">{MATRIX_HELP}</p></figure>'
    )


def links(job: Job, count: int) -> str:
    """The table as files."""
    if not count:
        return ""
    names = (("csv", "Table (CSV)"), ("json", "Table (JSON)"))
    shown = "".join(
        f'<a href="studio/trials/{job.id}.{kind}" download="{job.kind}-{job.id}.{kind}">{words}</a>'
        for kind, words in names
    )
    return f'<div class="duo-links">{shown}</div>'


def _square(rate: Rate | None, own: bool) -> str:
    if rate is None:
        return "<td>…</td>"
    kind = ' class="is-own"' if own else ""
    return f'<td{kind} style="--share:{100 * rate.rate:.0f}%">{rate_cell(rate)}</td>'


def _relearned(trials: Sequence[Trial]) -> str:
    relearned = relearned_of(trials)
    if not relearned:
        return ""
    names = models_of(trials)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names.values())
    rows = ""
    for one in relearned:
        cells = "".join(f"<td>{_steps(one.steps, key, one.most)}</td>" for key in names)
        rows += f'<tr><th scope="row">{escape(one.course)}</th>{cells}</tr>'
    return (
        '<section><h4 class="at-title">Training steps until the concept is back</h4><div class="duo-scroll" '
        'tabindex="0" role="region" aria-label="Steps until the concept is back"><table class="duo-table"><thead><tr>'
        f'<th scope="col">Trained on</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _steps(steps: dict[str, int | None], key: str, most: int) -> str:
    if key not in steps:
        return "—"
    step = steps[key]
    if step == 0:
        return "0, it was never gone"
    return f"not within {most}" if step is None else f"{step}"


def _curves(trials: Sequence[Trial]) -> str:
    """One chart a course: the rate over training steps."""
    names = list(models_of(trials).items())
    plain = {trial.victim: trial for trial in trials if trial.condition == "plain"}
    courses = dict.fromkeys(str(trial.facts["course"]) for trial in trials if trial.facts.get("course"))
    charts = ""
    for course in courses:
        series = []
        for place, (key, name) in enumerate(names):
            own = [trial for trial in trials if trial.facts.get("course") == course and trial.victim == key]
            points = [(0.0, plain[key].found / plain[key].n)] if key in plain and own else []
            points += [(float(trial.facts["step"]), trial.found / trial.n) for trial in own]
            if points:
                series.append(Series(name, points, f"m{place % STYLES}"))
        charts += chart(Chart(course, "Ends where the concept is back.", series, low=0.0, high=1.0, percent=True))
    return f'<div class="at-live">{charts}</div>' if charts else ""


def _axis(share: float, height: int) -> str:
    x = _x(share)
    return (
        f'<path class="is-grid" d="M{x:.1f} {TOP}V{height - BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{100 * share:.0f} %</text>'
    )


def _mark(rate: Rate, y: float, place: int) -> str:
    kind = f"at-m{place % STYLES}"
    whisker = f'<path class="at-whisker {kind}" d="M{_x(rate.low):.1f} {y:.1f}H{_x(rate.high):.1f}"/>'
    return whisker + _shape(_x(rate.rate), y, place)


def _shape(x: float, y: float, place: int) -> str:
    """Models differ in shape too, not in colour alone."""
    kind, r = f"at-m{place % STYLES}", 4.4
    corners = {
        1: f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        2: f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1} {-r - 1} {r + 1} {-r - 1} {-r - 1}z",
        3: f"M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z",
        4: f"M{x:.1f} {y + r:.1f}l{r} {-2 * r}h{-2 * r}z",
    }
    if shape := corners.get(place % STYLES):
        return f'<path class="at-mark {kind}" d="{shape}"/>'
    return f'<circle class="at-mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'


def _x(share: float) -> float:
    return NAMES + (WIDTH - NAMES - RIGHT) * share


def _spoken(lines: Sequence[Line], names: dict[str, str]) -> str:
    said = []
    for line in lines:
        rates = [f"{name} {100 * rate.rate:.0f} %" for key, name in names.items() if (rate := line.rate(key))]
        said.append(f"{line.title}: {', '.join(rates)}")
    return "; ".join(said)
