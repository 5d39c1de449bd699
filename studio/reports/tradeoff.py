"""Robustness against preservation, a point a model: the paper's Figure 4 for whatever a report compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.reports.schema import StudyReport
from studio.reports.words import count, counted, label_of, percent

DISTANCE_TITLES = {"lpips-alex": "1 − LPIPS (AlexNet)", "rmse": "1 − RMSE of pixels"}


@dataclass(frozen=True)
class Point:
    """One model. Both shares grow with what is wanted."""

    key: str
    preservation: float  # 1 - distance to the original's pictures, under prompts without the concept
    defence: float  # share of pictures without the concept, in the cell where the model does worst
    low: float  # the 95 % interval of `defence`
    high: float
    cell: str
    n: int


def points(report: StudyReport) -> list[Point]:
    """The models of a report that have both figures, in its order."""
    found = []
    for key, model in report.models.items():
        cells = counted(report, model)
        if model.distance.mean is None or not cells:
            continue
        cell, worst = max(cells, key=lambda entry: entry[1].rate)
        kept, defence = 1 - model.distance.mean, 1 - worst.rate
        found.append(Point(key, kept, defence, 1 - worst.high, 1 - worst.low, cell, worst.n))
    return found


def contenders(candidates: Sequence[Point]) -> list[Point]:
    """All but the oracle, which never learned the concept: it is what could be had, and no way to get there."""
    return [point for point in candidates if point.key != "oracle"]


def pareto(candidates: Sequence[Point]) -> list[Point]:
    """Those that no other beats in one figure without losing in the other, by rising preservation."""
    front = [one for one in candidates if not any(_dominates(other, one) for other in candidates)]
    return sorted(front, key=lambda point: (point.preservation, point.defence))


def matched(candidates: Sequence[Point], preservation: float) -> Point | None:
    """Who defends best among those that keep at least this much; None where nobody does."""
    kept = [point for point in candidates if point.preservation >= preservation - 1e-12]
    return max(kept, key=lambda point: (point.defence, point.preservation), default=None)


def matched_sentences(report: StudyReport) -> list[str]:
    """For each trained model: who defends best among those that keep at least as much, and whether that is better than
    the original does. Where the answer is the one before, the model is named at its end."""
    found = {one.key: one for one in contenders(points(report))}
    original = found.get("original")
    trained = [one for key, one in found.items() if report.models[key].train_seconds is not None]
    metric = next(iter(report.models.values())).distance.metric
    sentences: dict[str, str] = {}
    for point in sorted(trained, key=lambda one: -one.preservation):
        best = matched(trained, point.preservation)
        assert best is not None, "the model itself keeps as much"
        alike = [one for one in trained if one.preservation >= point.preservation and one.defence == best.defence]
        names = " and ".join(label_of(one.key, report.models[one.key]) for one in alike)
        share = (
            f"{percent(best.defence)} without the {report.concept} "
            f"({100 * best.low:.1f}–{100 * best.high:.1f}, {count(best.n)})"
        )
        told = f"{names} {'defend' if len(alike) > 1 else 'defends'} best: {share}"
        if original and best.defence <= original.defence:
            told = f"none defends better than the original: {share}"
        at, label = f"{1 - point.preservation:.3f}", label_of(point.key, report.models[point.key])
        if told in sentences:
            sentences[told] += f"{', ' if '; also' in sentences[told] else '; also '}at {at} ({label})"
        else:
            sentences[told] = (
                f"Among the trained models at a distance of {at} ({metric}) or less, as {label} is, {told}"
            )
    return [f"{sentence}." for sentence in sentences.values()]


def _dominates(one: Point, other: Point) -> bool:
    no_worse = one.preservation >= other.preservation and one.defence >= other.defence
    return no_worse and (one.preservation, one.defence) != (other.preservation, other.defence)
