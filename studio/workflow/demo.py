"""The demo as one job: its stages one after the other in this process, the same functions that single jobs run."""

from __future__ import annotations

from typing import Any

from studio.configs import DemoConfig
from studio.demo import Stage, add_demo_prompts, demo_stages
from studio.workflow.context import JobContext
from studio.workflow.evaluate import evaluate
from studio.workflow.pairs import generate_pairs
from studio.workflow.stages import part_of
from studio.workflow.train import train

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
            title = f"{number}/{len(stages)} {stage.title}"
            report = part_of(context.report, stage.name, title, before, share)
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
