"""Tables of trials: rates of a stress job by condition and model, and the matrix of a transfer. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from studio.csv_files import csv_text
from studio.records import Trial
from studio.reports.schema import Rate
from studio.reports.statistics import wilson
from studio.stress_configs import GROUPS

COLUMNS = ("group", "condition", "title", "model", "model_sha256", "found", "n", "rate", "low", "high")


@dataclass(frozen=True)
class Line:
    """One condition, or one model that prompts were found on: a cell a model, None where it was not measured."""

    key: str
    title: str
    group: str
    cells: dict[str, Rate]  # by model

    def rate(self, model: str) -> Rate | None:
        return self.cells.get(model)


@dataclass(frozen=True)
class Relearned:
    """How many training steps until the concept was back; None: not within the longest training."""

    course: str
    steps: dict[str, int | None]  # by model
    most: int


def models_of(trials: Iterable[Trial]) -> dict[str, str]:
    """Names by key, in order of appearance."""
    return {trial.victim: trial.victim_name for trial in trials}


def lines_of(trials: Sequence[Trial]) -> list[Line]:
    """The table's lines in their order; conditions of one group stand together."""
    groups = {str(group): place for place, group in enumerate(GROUPS)}
    lines: dict[str, Line] = {}
    order: dict[str, tuple[int, int, int]] = {}
    for trial in trials:
        group = str(trial.facts.get("group", ""))
        title = str(trial.facts.get("title", trial.condition))
        lines.setdefault(trial.condition, Line(trial.condition, title, group, {})).cells[trial.victim] = rate_of(trial)
        place = (groups.get(group, len(groups)), int(trial.facts.get("order", 0)), int(trial.facts.get("step", 0)))
        order[trial.condition] = max(place, order.get(trial.condition, place))
    return sorted(lines.values(), key=lambda line: order[line.key])


def rate_of(trial: Trial) -> Rate:
    """With its Wilson interval: one picture a prompt."""
    return wilson(trial.found, trial.n)


def relearned_of(trials: Sequence[Trial]) -> list[Relearned]:
    """The first step of each course at which the concept was back, by model; 0 where it was never gone."""
    courses: dict[str, list[Trial]] = {}
    for trial in trials:
        if course := trial.facts.get("course"):
            courses.setdefault(str(course), []).append(trial)
    never_gone = {trial.victim: 0 for trial in trials if trial.condition == "plain" and trial.facts.get("back")}
    found = []
    for course, own in courses.items():
        most = max(int(trial.facts["step"]) for trial in own)
        steps: dict[str, int | None] = {**never_gone}
        for model in models_of(own):
            rows = [trial for trial in own if trial.victim == model]
            back = [int(trial.facts["step"]) for trial in rows if trial.facts.get("back")]
            steps[model] = min(back) if back else None
        found.append(Relearned(course, steps, most))
    return found


def trials_csv(trials: Sequence[Trial]) -> str:
    """A row a cell."""
    return csv_text(COLUMNS, (_row(trial) for trial in trials))


def trials_json(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The same as records, with all that is known of each."""
    return [_row(trial) | {"facts": trial.facts} for trial in trials]


def _row(trial: Trial) -> dict[str, Any]:
    rate = rate_of(trial)
    return {
        "group": str(trial.facts.get("group", "")),
        "condition": trial.condition,
        "title": str(trial.facts.get("title", trial.condition)),
        "model": trial.victim_name,
        "model_sha256": trial.victim_sha256,
        "found": trial.found,
        "n": trial.n,
        "rate": round(rate.rate, 4),
        "low": round(rate.low, 4),
        "high": round(rate.high, 4),
    }
