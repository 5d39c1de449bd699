"""The demo as one job: its stages one after the other in this process, the same functions that single jobs run."""

from __future__ import annotations

from typing import Any

from studio.configs import DemoConfig
from studio.demo import Stage, add_demo_prompts, demo_stages
from studio.progress import Report
from studio.workflow.context import JobContext
from studio.workflow.evaluate import evaluate
from studio.workflow.pairs import generate_pairs
from studio.workflow.train import train

TOTAL = 10_000  # steps of the whole, shared out by the stages' weights
WORK = {"pairs": generate_pairs, "train": train, "evaluate": evaluate}


def demo(context: JobContext) -> dict[str, Any]:
    """Pairs, DUO, ESD and comparison in the job's project; what an earlier try finished is not done again."""
    config = DemoConfig(**{name: value for name, value in context.config.items() if name != "stages"})
    if not context.store.list_prompt_pairs(context.project.id):
        add_demo_prompts(context.store, context.project, config)
    row = context.store.get_job(context.job.id)
    results: dict[str, Any] = dict(row.result)
    begun: dict[str, Any] = row.config.get("stages", {})  # effective configurations, by an earlier try
    stages = demo_stages(config)
    weights = sum(stage.weight for stage in stages)
    before = 0.0
    for number, stage in enumerate(stages, 1):
        share = stage.weight / weights
        if stage.name not in results:
            report = _part(context.report, stage, f"{number}/{len(stages)} {stage.title}", before, share)
            stage_context = context.for_stage(stage.name, begun.get(stage.name) or _config(stage, results), report)
            stage_context.save_effective(stage_context.config)
            results[stage.name] = WORK[stage.kind](stage_context)
            context.store.update_job(context.job.id, result=results)
        before += share
    return results


def _config(stage: Stage, results: dict[str, Any]) -> dict[str, Any]:
    """The comparison is of the models that this demo trained, whatever else the project has."""
    if stage.kind != "evaluate":
        return stage.config
    trained = [result["checkpoint_id"] for result in results.values() if "checkpoint_id" in result]
    return {**stage.config, "checkpoint_ids": trained}


def _part(report: Report, stage: Stage, title: str, before: float, share: float) -> Report:
    """A stage's report as a part of the whole's; its values get the stage's name."""

    def reported(step: int, total: int, message: str = "", **values: float) -> None:
        done = round(TOTAL * (before + share * step / max(total, 1)))
        named = {f"{stage.name}.{name}": value for name, value in values.items()}
        if named:
            named[f"{stage.name}.step"] = step  # that of the whole is too coarse to tell it
        report(done, TOTAL, f"{title}: {message}" if message else title, **named)

    return reported
