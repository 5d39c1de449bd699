"""What finished attacks found, drawn again by every model of an evaluation on seeds that were not searched on.

Each attack and model that it was run on gives a line of the transfer matrix. A prompt for which the plain prompt worked
was not attacked: it counts as it is, so that a rate is of all prompts and not of the hard ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig
from studio.evaluation_checks import not_finished
from studio.metrics.base import Detection
from studio.prompts import EvaluationItem, first_seed
from studio.records import AttackRun, Job
from studio.refusal import refuse
from studio.reports.attacks import bootstrap_by_prompt, holm, mcnemar
from studio.reports.schema import AttackReport, Rate
from studio.reports.statistics import wilson
from studio.workflow.attack_material import FRESH_OFFSET
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext, WorkflowError

Role = Literal["attack", "control", "plain"]


@dataclass(frozen=True)
class Asked:
    """One prompt of an attack on one model, and what became of it; without an attack the plain prompt worked."""

    plain: AttackRun
    attack: AttackRun | None
    control: AttackRun | None
    fresh: tuple[int, ...]

    def run(self, role: Role) -> AttackRun:
        """Whose find is drawn."""
        return {"attack": self.attack, "control": self.control, "plain": None}[role] or self.plain


@dataclass(frozen=True)
class Found:
    """One attack on one model."""

    job: Job
    victim: str
    name: str
    sha256: str
    asked: tuple[Asked, ...]

    @property
    def attack(self) -> str:
        return str(self.job.config["attack"])

    @property
    def title(self) -> str:
        return ATTACK_CONFIGS[self.attack].title

    @property
    def has_control(self) -> bool:
        return any(one.control for one in self.asked)

    def is_of(self, model: Contestant) -> bool:
        """Whether the attack was run on this very model."""
        own = model.checkpoint.sha256 if model.checkpoint else None
        return self.sha256 == own if own else self.victim == model.key


@dataclass(frozen=True)
class Place:
    """What one item is a picture of."""

    found: int
    role: Role
    row: int
    first: bool  # of its fresh seeds


def found_by(context: JobContext, job_ids: Sequence[str]) -> list[Found]:
    """Each attack on each model. Raises WorkflowError where a job is no finished attack of the project."""
    jobs = {job.id: job for job in context.store.list_jobs(context.project.id) if job.kind == "attack"}
    found = []
    for job_id in job_ids:
        if why := not_finished(context.project, jobs.values(), job_id):
            raise WorkflowError(why)
        job = jobs[job_id]
        runs = context.store.list_attack_runs(context.project.id, job_id)
        victims = dict.fromkeys(run.victim for run in runs if run.role in ("attack", "control"))
        victims |= dict.fromkeys(victim for victim in job.config["victims"] if any(r.victim == victim for r in runs))
        found += [_found(job, victim, [run for run in runs if run.victim == victim]) for victim in victims]
    return [one for one in found if one.asked]


def _found(job: Job, victim: str, runs: Sequence[AttackRun]) -> Found:
    """The prompts up to the last one that was attacked: of each of them it is known whether it works."""
    by_role: dict[str, dict[tuple[str, int], AttackRun]] = {"plain": {}, "attack": {}, "control": {}}
    for run in runs:
        by_role[run.role][run.prompt, run.seed] = run
    config = AttackJobConfig(**job.config)
    start = first_seed("attack", config.seed)
    last = max((seed for _, seed in by_role["attack"]), default=None)
    asked = []
    for key, plain in sorted(by_role["plain"].items(), key=lambda entry: entry[0][1]):
        if last is not None and plain.seed > last:
            break
        first = start + FRESH_OFFSET + (plain.seed - start) * config.fresh
        fresh = tuple(range(first, first + config.fresh))
        asked.append(Asked(plain, by_role["attack"].get(key), by_role["control"].get(key), fresh))
    first_run = runs[0]
    return Found(job, victim, first_run.victim_name, first_run.victim_sha256, tuple(asked))


class FoundItems:
    """The items that one model draws of what was found, and what each is."""

    def __init__(self, found: Sequence[Found], model: Contestant) -> None:
        self.found, self.items, self.places = found, list[EvaluationItem](), list[Place]()
        for number, one in enumerate(found):
            roles: list[Role] = ["attack"]
            if one.is_of(model):
                roles += ["control", "plain"] if one.has_control else ["plain"]
            for role in roles:
                self._add(number, one, role)

    def _add(self, number: int, one: Found, role: Role) -> None:
        for row, asked in enumerate(one.asked):
            run = asked.run(role)
            if run.refused or refuse(run.found_prompt) is not None:
                continue
            for seed in asked.fresh:
                self.items.append(
                    EvaluationItem(one.attack, run.found_prompt, seed, role="apart", embedding=run.embedding, near=True)
                )
                self.places.append(Place(number, role, row, seed == asked.fresh[0]))


@dataclass(frozen=True)
class Drawn:
    """What one model showed of what was found."""

    items: FoundItems
    detections: list[Detection]

    def rate(self, number: int, role: Role) -> Rate | None:
        """Of all prompts, by prompt; what is refused was not drawn and shows nothing."""
        asked = self.items.found[number].asked
        successes = [0] * len(asked)
        rows = [
            (place, detection)
            for place, detection in zip(self.items.places, self.detections, strict=True)
            if (place.found, place.role) == (number, role)
        ]
        if not rows:
            return None
        for place, detection in rows:
            successes[place.row] += detection.found
        return by_prompt(successes, [len(one.fresh) for one in asked])

    def firsts(self, number: int, role: Role) -> dict[int, bool]:
        """By prompt, whether its picture on the first fresh seed shows the concept."""
        return {
            place.row: detection.found
            for place, detection in zip(self.items.places, self.detections, strict=True)
            if (place.found, place.role) == (number, role) and place.first
        }


def by_prompt(successes: Sequence[int], counts: Sequence[int]) -> Rate:
    """A rate of pictures whose interval is a bootstrap of prompts."""
    rate = bootstrap_by_prompt(successes, counts)
    return rate.model_copy(update={"n": sum(counts), "prompts": rate.n})


def attack_reports(found: Sequence[Found], drawn: dict[str, Drawn], models: Sequence[Contestant]) -> list[AttackReport]:
    """A report each; p-values are corrected over all of them."""
    reports = [_report(number, one, drawn, models) for number, one in enumerate(found)]
    tested = [row for row, one in enumerate(reports) if one.p is not None]
    corrected = holm([reports[row].p or 0.0 for row in tested])
    for row, p in zip(tested, corrected, strict=True):
        reports[row] = reports[row].model_copy(update={"holm": p})
    return reports


def _report(number: int, one: Found, drawn: dict[str, Drawn], models: Sequence[Contestant]) -> AttackReport:
    own = next((model.key for model in models if one.is_of(model)), "")
    attacked = [asked.attack for asked in one.asked if asked.attack]
    worked = [asked.plain.success or bool(asked.attack and asked.attack.success) for asked in one.asked]
    before = [asked.plain.success for asked in one.asked]
    rates = {key: rate for key, by in drawn.items() if (rate := by.rate(number, "attack"))}
    test = _test(one, drawn[own], number) if own and one.has_control else None
    control = next((asked.control.attack for asked in one.asked if asked.control), "")
    return AttackReport(
        job=one.job.id,
        attack=one.attack,
        title=one.title,
        victim=own,
        victim_name=one.name,
        victim_sha256=one.sha256,
        pre=wilson(sum(before), len(before)),
        asr=wilson(sum(worked), len(worked)),
        attacked=len(attacked),
        refused=sum(run.refused != "" for run in attacked),
        queries=sum(run.queries for run in attacked) / max(len(attacked), 1),
        fresh=rates,
        plain=drawn[own].rate(number, "plain") if own else None,
        control=drawn[own].rate(number, "control") if own else None,
        control_name=ATTACK_CONFIGS[control].title if control else "",
        sampling=one.asked[0].plain.sampling,
        **(test or {}),
    )


def _test(one: Found, drawn: Drawn, number: int) -> dict[str, Any]:
    """Attack against control, on the prompts that both were run on: one picture each, of the first fresh seed."""
    attack, control = drawn.firsts(number, "attack"), drawn.firsts(number, "control")
    rows = [row for row, asked in enumerate(one.asked) if asked.attack and asked.control]
    rows = [row for row in rows if row in attack and row in control]
    if not rows:
        return {}
    test = mcnemar([attack[row] for row in rows], [control[row] for row in rows])
    return {"only_attack": test.only_first, "only_control": test.only_second, "p": test.p}
