"""A sweep: one value after the other is trained and evaluated, and in the end all of them stand in one report.

Each value has two stages, whose results are kept: a stopped sweep goes on at the value where it was, a training at the
step that it saved. Pictures are kept too, so the last report draws only the oracle's.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from studio.configs import EvaluateConfig, SweepConfig
from studio.method_configs import METHOD_CONFIGS
from studio.reports.tradeoff import points
from studio.workflow.commands import options_of
from studio.workflow.context import JobContext
from studio.workflow.evaluate import Evaluator, evaluate
from studio.workflow.stages import part_of
from studio.workflow.train import train

TRAINING, JUDGING = 0.6, 0.3  # of a value's share of the bar; the rest is the report's
REPORT = "evaluate"  # the last stage, named as a demo's


@dataclass(frozen=True)
class Value:
    """One value and its stages."""

    number: int
    value: Any
    name: str  # of the model

    @property
    def training(self) -> str:
        return f"train-{self.number}"

    @property
    def judging(self) -> str:
        return f"judge-{self.number}"


def sweep(context: JobContext) -> dict[str, Any]:
    """Train and judge each value, then write the report of all; what an earlier try finished is not done again."""
    config = SweepConfig(**{name: value for name, value in context.config.items() if name != "stages"})
    row = context.store.get_job(context.job.id)
    results: dict[str, Any] = dict(row.result)
    begun: dict[str, Any] = row.config.get("stages", {})
    for stage, asked, share in _stages(context, config, results):
        if stage in results:
            continue
        report = part_of(context.report, stage, *share)
        part = context.for_stage(stage, begun.get(stage) or asked, report)
        part.save_effective(part.config)
        results[stage] = _done(part, stage, results)
        context.store.update_job(context.job.id, result=results)
    return results


def values_of(config: SweepConfig) -> list[Value]:
    return [
        Value(number, value, f"{config.name} {config.parameter} {shown(value)}")
        for number, value in enumerate(config.values, 1)
    ]


def _stages(
    context: JobContext, config: SweepConfig, results: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], tuple[str, float, float]]]:
    """(name, configuration, place in the bar) of each; a later one may need the results of those before it."""
    values = values_of(config)
    whole = 1 / len(values)
    for value in values:
        before = (value.number - 1) * whole
        title = f"{value.number}/{len(values)} {value.name}"
        own = {**config.config, config.parameter: value.value}
        asked = {"method": config.method, "name": value.name, "config": own}
        yield value.training, asked, (title, before, TRAINING * whole)
        trained = results[value.training]["checkpoint_id"]
        judged = {**config.evaluation, "checkpoint_ids": [trained], "oracle": False, "gallery": 0}
        yield value.judging, judged, (f"{title}, judged", before + TRAINING * whole, JUDGING * whole)
    models = [results[value.training]["checkpoint_id"] for value in values]
    last = {**config.evaluation, "checkpoint_ids": models, "command": _command(context, config)}
    yield REPORT, last, ("The report", TRAINING + JUDGING, 1 - TRAINING - JUDGING)


def _done(part: JobContext, stage: str, results: dict[str, Any]) -> dict[str, Any]:
    if stage == REPORT:
        return evaluate(part)
    if "method" in part.config:
        return train(part)
    return _point(part)


def _point(part: JobContext) -> dict[str, Any]:
    """Where the value stands in the curve; no figures where it has no place there."""
    report = Evaluator(part).run()
    point = next((one for one in points(report) if one.key != "original"), None)
    if point is None:
        return {}
    return {
        "defence": point.defence, "low": point.low, "high": point.high, "n": point.n, "cell": point.cell,
        "preservation": point.preservation, "metric": report.models[point.key].distance.metric,
    }  # fmt: skip


def _command(context: JobContext, config: SweepConfig) -> str:
    """What to type to have the same sweep again."""
    words = ["python", "-m", "studio", "sweep", "--project", context.project.id, "--method", config.method]
    words += ["--name", config.name, "--over", f"{config.parameter}={','.join(map(str, config.values))}"]
    usual = METHOD_CONFIGS[config.method]().model_dump()
    for name, value in config.config.items():
        if name != config.parameter and value != usual[name]:
            words += ["--set", f"{name}={_typed(value)}"]
    return shlex.join(words + options_of(EvaluateConfig(**config.evaluation), context.project.checkpoint))


def shown(value: Any) -> str:
    """A value in a name: 900.0 is 900."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _typed(value: Any) -> str:
    """A value as it is typed; the lines of a list with bars between."""
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)
