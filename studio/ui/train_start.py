"""Start a training from the Train tab's form: everything that stands in its way is said before a job is queued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio import jobs
from studio.groups import OPTION, too_few_groups
from studio.method_configs import METHOD_CONFIGS
from studio.records import ELSEWHERE
from studio.training_configs import DuoConfig, MethodConfig
from studio.ui.context import Studio, View
from studio.ui.forms import FormError
from studio.ui.train_form import TrainForm, free_name, no_pairs, not_defined, without_prompts
from studio.ui.train_room import count_of
from studio.ui.trainings import trainings_of
from studio.ui.words import note


def start_training(
    studio: Studio,
    view: View,
    form: TrainForm,
    method: str,
    name: str,
    values: tuple[Any, ...],
    *,
    processes: Any = None,
    anyway: bool = False,
    where: Mapping[str, Any] | None = None,
) -> tuple[str, str | None]:
    """Check and queue a training: (what to say beside the form, None) or ("", its key).

    One that does not fit into the device's memory starts only `anyway`.
    """
    part = form.parts[method]
    try:
        config = part.form.read(form.values_of(method, values))
    except FormError as error:
        return note(str(error), "error"), None
    if why := not_defined(method, view.project.checkpoint, studio.settings.toybox):
        return note(why, "error"), None
    if METHOD_CONFIGS[method].uses_pairs and view.pairs.accepted == 0:
        return no_pairs(view.pairs), None
    assert isinstance(config, MethodConfig)
    if config.needs_pairs_prompts and (count := studio.store.accepted_without_prompts(view.project.id)):
        return note(without_prompts(method, count), "error"), None
    if config.model_dump().get(OPTION) and (why := too_few_groups(studio.store.accepted_groups(view.project.id))):
        return note(why, "error"), None
    asked: dict[str, Any] = {
        "method": method,
        "name": name.strip() or suggested(view, method),
        "config": config.model_dump(),
        "where": dict(where or {}),
    }
    elsewhere = asked["where"].get("launcher") in ELSEWHERE
    if isinstance(config, DuoConfig):
        count = count_of(processes or studio.settings.processes)
        if not (anyway or elsewhere) and (why := form.room.refused(view.project.id, config, count)):
            return note(why, "error"), None
        asked["processes"] = count
    try:
        job = jobs.submit(studio.store, studio.settings, "train", view.project.id, asked)
    except jobs.JobError as error:
        return note(str(error), "error"), None
    return "", job.id


def suggested(view: View, method: str, name: str = "") -> str:
    """A name that no training of the project has."""
    return free_name(method, view.checkpoints, [training.name for training in trainings_of(view.jobs)], name)
