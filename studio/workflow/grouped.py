"""A training job: one adapter, or one for each group of prompts and their sum, as the paper makes of violence."""

from __future__ import annotations

from typing import Any

from studio.groups import OPTION, too_few_groups
from studio.methods.parallel import current_group
from studio.workflow.compose import save_sum
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.stages import part_of
from studio.workflow.train import fit_beside, follow_training, train


def train_job(context: JobContext) -> dict[str, Any]:
    """Train as the job asks. A stage that an earlier try finished is not trained again; all share the whole's bar.

    With one adapter a group each is a model of its own too, and the job's result is their sum, at weight 1 each.

    Raises:
        WorkflowError: adapters of groups are wanted, but the accepted pairs belong to fewer than two.
    """
    whole = context.config
    if not whole["config"].get(OPTION):
        return train(context)
    groups = _groups(context)
    row = context.store.get_job(context.job.id)
    begun, results = row.config.get("stages", {}), dict(row.result)  # of an earlier try
    for number, (stage, group) in enumerate(groups.items()):
        if stage in results:
            continue
        name = f"{whole['name']}: {group or 'without a group'}"
        new = {"method": whole["method"], "name": name, "config": {**whole["config"], OPTION: False}, "group": group}
        share = 1 / len(groups)
        report = part_of(context.report, stage, f"{number + 1}/{len(groups)} {name}", number * share, share)
        part = context.for_stage(stage, begun.get(stage, new), report)
        part.save_effective(part.config)
        results[stage] = train(part)
        context.store.update_job(context.job.id, result=results)
    adapters = [(context.store.get_checkpoint(results[stage]["checkpoint_id"]), 1.0) for stage in groups]
    summing = context.for_stage("", whole, part_of(context.report, "sum", "The sum", 1.0, 0.0))
    return {**results, **save_sum(summing, whole["name"], adapters, whole["config"])}


def follow_training_job(context: JobContext) -> None:
    """Train beside the process that has the job, in each of the stages that are left."""
    if not context.config["config"].get(OPTION):
        return follow_training(context)
    bundle = context.load_bundle()
    while True:
        current_group().wait(bundle.device)  # the other one has written what the stage is trained on
        row = context.store.get_job(context.job.id)
        stage, *more = [stage for stage in row.config["groups"] if stage not in row.result]
        fit_beside(context.for_stage(stage, row.config["stages"][stage], context.report), bundle)
        if not more:
            return None


def _groups(context: JobContext) -> dict[str, str]:
    """Stage to group, of the groups that have accepted pairs; a job that was begun keeps those it had."""
    if begun := context.config.get("groups"):
        return dict(begun)
    found = context.store.accepted_groups(context.project.id)
    if why := too_few_groups(found):
        raise WorkflowError(why)
    groups = {f"group-{number}": group for number, group in enumerate(found, 1)}  # names of folders too
    context.save_effective({**context.config, "groups": groups})
    return groups
