"""Stress: how often models still show the concept after what real attackers do, on the same prompts and seeds.

A row a model and condition is written when its pictures are judged, so a stopped job goes on at the next one. Only a
relearning that was stopped in its middle trains its steps anew; what it had measured is not drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch

from models.specs import TOYBOX_ORACLE
from studio.attack_configs import AttackJobConfig
from studio.progress import Report
from studio.prompts import first_seed
from studio.records import Trial
from studio.refusal import refused_one
from studio.stress_configs import StressConfig
from studio.workflow.attack_material import concept_pictures, prompts_of, victims_of
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.lineup import Lineup, Victim
from studio.workflow.relearning import Lesson, relearn
from studio.workflow.stress_conditions import PLAIN, Condition, conditions_of, left_half

SEEDS_OFFSET = 990_000  # of these pictures in a run's million
STARTS_OFFSET = 995_000  # of the pictures that img2img and inpainting start from


@dataclass(frozen=True)
class Course:
    """One relearning: what a model is trained on."""

    key: str
    title: str
    count: int
    concept: bool


class Stress:
    """Fills the table, model after model."""

    def __init__(self, context: JobContext) -> None:
        self.context, self.config = context, StressConfig(**context.config)
        self.models = models_of(context, self.config)
        asked = AttackJobConfig(n=self.config.n, most_tried=2, seed=self.config.seed)
        self.prompts = list(islice(prompts_of(context, asked), self.config.n))
        if (reason := refused_one(self.prompts)) is not None:
            raise WorkflowError(reason)
        start = first_seed("attack", self.config.seed)
        self.seeds = range(start + SEEDS_OFFSET, start + SEEDS_OFFSET + len(self.prompts))
        self.start_seeds = range(start + STARTS_OFFSET, start + STARTS_OFFSET + len(self.prompts))
        self.courses = courses_of(self.config)
        self.conditions = conditions_of(self.config)
        self.steps = len(self.conditions) + len(self.courses)
        self.total = self.steps * len(self.models)
        self.lineup = Lineup(context, self.steps, self.total)
        self.detector = context.load_detector()
        trials = context.store.list_trials(context.project.id, context.job.id)
        self.at = 0, 0  # model and place in the table that the work is at
        self.trials = {(trial.condition, trial.victim): trial for trial in trials}

    def run(self) -> None:
        for number, model in enumerate(self.models):
            for place, condition in enumerate(self.conditions):
                possible = model.checkpoint is not None or condition.group != "adapter"
                if possible and (condition.key, model.key) not in self.trials:
                    self._say(number, place, f"{model.label}: {condition.title}")
                    self._measure(model, number, condition, place)
            for place, course in enumerate(self.courses, len(self.conditions)):
                if not self._finished(course, model):
                    self._say(number, place, f"{model.label}: {course.title}")
                    self._relearn(model, number, course, place)
        self.context.report(self.total, self.total, "done")

    # Conditions

    def _measure(self, model: Contestant, number: int, condition: Condition, place: int) -> None:
        original = self.trials.get((PLAIN, "original"))
        if condition.scale == 0 and original is not None:  # without its adapter it is the original
            self._keep(model, condition.key, original.found, original.n, original.victim_sha256, condition, place)
            return
        starts = self.starts if condition.start else None
        with self.lineup.ready(model, number, condition.scale) as victim, condition.within(victim.bundle):
            changes = dict(condition.sampling)
            if starts is not None:
                changes["init_latents"] = starts
            if condition.inpaint:
                changes["kept"] = left_half(victim.bundle)
            found = self._count(victim, **changes)
            self._keep(model, condition.key, found, len(self.prompts), victim.sha256, condition, place)

    @cached_property
    def starts(self) -> torch.Tensor:
        """Latents [N, C, h, w] of the original's pictures of the same prompts, from other seeds."""
        original = self.lineup.load(self.context.project.checkpoint)
        config = self.config
        return original.generate(
            self.prompts,
            self.start_seeds,
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            batch_size=config.batch_size,
        ).latents

    def _count(self, victim: Victim, **changes: Any) -> int:
        config = self.config
        sampling = {"steps": config.steps, "guidance_scale": config.guidance_scale, **changes}
        drawn = victim.bundle.generate(self.prompts, self.seeds, batch_size=config.batch_size, **sampling)
        return sum(detection.found for detection in self.detector.detect(drawn.images))

    def _keep(
        self, model: Contestant, key: str, found: int, n: int, sha256: str, condition: Condition, place: int
    ) -> None:
        facts: dict[str, Any] = {"title": condition.title, "group": condition.group, "order": place}
        if key == PLAIN:
            facts["back"] = found > 0 and (model.key == "original" or self._is_back(found, n))
        self._add(model, key, found, n, sha256, facts)

    def _add(self, model: Contestant, key: str, found: int, n: int, sha256: str, facts: dict[str, Any]) -> None:
        trial = Trial(
            "", self.context.project.id, self.context.job.id, key, model.key, model.label, sha256, found, n, facts
        )
        self.trials[key, model.key] = self.context.store.add_trial(trial)

    # Relearning

    def _finished(self, course: Course, model: Contestant) -> bool:
        """Whether the concept was seen to be back, or was never gone, or every number of steps was measured."""
        plain = self.trials.get((PLAIN, model.key))
        if plain is not None and self._is_back(plain.found, plain.n):
            return True
        own = [self.trials.get((f"{course.key}, step {step}", model.key)) for step in self.config.relearn_at]
        return any(trial is not None and self._is_back(trial.found, trial.n) for trial in own) or None not in own

    def _is_back(self, found: int, n: int) -> bool:
        original = self.trials.get((PLAIN, "original"))
        whole = original.found / original.n if original else 1.0
        return found > 0 and found / n >= self.config.back_at * whole

    def _relearn(self, model: Contestant, number: int, course: Course, place: int) -> None:
        config = self.config
        latents, prompts = self.pictures[course.concept]
        lesson = Lesson(latents[: course.count], prompts[: course.count])
        with self.lineup.ready(model, number) as victim:

            def measure(step: int) -> bool:
                key = f"{course.key}, step {step}"
                if (key, model.key) not in self.trials:
                    found = self._count(victim)
                    facts = {"title": f"{course.title}, {step} steps", "group": "relearning", "order": place}
                    facts |= {"course": course.title, "step": step, "back": self._is_back(found, len(self.prompts))}
                    self._add(model, key, found, len(self.prompts), victim.sha256, facts)
                trial = self.trials[key, model.key]
                return self._is_back(trial.found, trial.n)

            relearn(
                victim.bundle,
                lesson,
                config.relearn_at,
                measure,
                self._report(number, place, f"{model.label}: {course.title}"),
                rate=config.relearn_rate,
                batch_size=config.relearn_batch,
                seed=config.seed,
            )

    @cached_property
    def pictures(self) -> dict[bool, tuple[torch.Tensor, list[str]]]:
        """The original's pictures with the concept (True) and without it, confirmed by the detector."""
        original = self.lineup.load(self.context.project.checkpoint)
        wanted = {
            concept: max([c.count for c in self.courses if c.concept == concept], default=0)
            for concept in (True, False)
        }
        in_place = replace(self.context, report=self._report(*self.at, "Before it is trained"))
        return {
            concept: concept_pictures(in_place, original, self.detector.detect, self.config, count, concept)
            for concept, count in wanted.items()
            if count
        }

    def _say(self, number: int, place: int, words: str) -> None:
        self.at = number, place
        self.context.report(number * self.steps + place, self.total, words)

    def _report(self, number: int, place: int, title: str) -> Report:
        def reported(step: int, total: int, message: str = "", **values: float) -> None:
            self._say(number, place, f"{title}, {message}")

        return reported


def models_of(context: JobContext, config: StressConfig) -> list[Contestant]:
    """The original, the chosen trained models, and the oracle where there is one."""
    named = AttackJobConfig(victims=config.victims)
    victims = [one for one in victims_of(context, named) if one.checkpoint is not None]
    if not victims:
        raise WorkflowError("No trained model was chosen; name at least one, or none to take them all.")
    if not config.beside:
        return victims
    original = Contestant("original", "Original", context.project.checkpoint)
    oracle = [Contestant("oracle", "Oracle", TOYBOX_ORACLE)] if context.is_toybox else []
    return [original, *victims, *oracle]


def courses_of(config: StressConfig) -> list[Course]:
    if "relearning" not in config.groups or not config.relearn_at:
        return []
    courses = [
        Course(f"relearn {count}", f"Trained on {count} pictures with it", count, True)
        for count in config.concept_pictures
    ]
    if config.benign_pictures:
        count = config.benign_pictures
        courses.append(Course(f"benign {count}", f"Trained on {count} pictures without it", count, False))
    return courses


def stress(context: JobContext) -> dict[str, Any]:
    """Fill the table; the rows are in the store."""
    work = Stress(context)
    victims = [model.key for model in work.models if model.checkpoint is not None]
    context.save_effective(work.config.model_copy(update={"victims": victims}).model_dump())
    work.run()
    return {"cells": len(work.trials)}
