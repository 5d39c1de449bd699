"""Attacks: the plain prompt, the attack and its control on the same prompts and seeds, on one model after the other.

The plain prompt is tried first; attacked are the prompts where it fails. Every prompt's row is written when its
pictures are judged, so a stopped or killed attack goes on at the prompt where it was. What all prompts share (a learned
token) lies in a file of the job.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load_file, save

from models.bundle import ModelBundle
from models.files import write_atomically
from studio.attack_configs import AskingConfig, AttackConfig, AttackJobConfig, RandomTokensConfig, SeedSearchConfig
from studio.attacks import get_attack
from studio.attacks.base import Arena, Attack, AttackInput, AttackTask, Meter
from studio.configs import SamplingConfig
from studio.progress import Report
from studio.records import REFERENCE
from studio.refusal import refuse
from studio.reports.attacks import summarise
from studio.workflow.attack_judging import judge
from studio.workflow.attack_ledger import Finding, Ledger, Role
from studio.workflow.attack_material import (
    Question,
    concept_pictures,
    prompt_pairs,
    questions_of,
    target_of,
    victims_of,
)
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.lineup import Lineup, Victim

# Of 1000 steps a model: trying the plain prompts, what all prompts share, the attack, its control.
PLAIN, SHARED = (0, 50), (50, 200)
FEWEST = 8  # plain prompts tried at once
REFERENCES = 50  # … and in the end the original's pictures of the attacked prompts
PARTS: dict[Role, tuple[int, int]] = {"attack": (200, 900), "control": (900, 1000)}
A_VICTIM = 1000


class Attacker:
    """Runs one attack on each of the job's models."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.config = AttackJobConfig(**context.config)
        self.attack = get_attack(self.config.attack)
        self.own: AttackConfig = self.attack.Config(**self.config.values)
        self.control = get_attack(self.attack.control) if self.config.control and self.attack.control else None
        self.victims = victims_of(context, self.config)
        self.questions = list(questions_of(context, self.config))
        self.sampling = SamplingConfig(**{name: getattr(self.config, name) for name in SamplingConfig.model_fields})
        self.detector = context.load_detector()
        self.ledger = Ledger(context, self.detector, self.sampling)
        self.total = A_VICTIM * len(self.victims) + REFERENCES
        self.lineup = Lineup(context, A_VICTIM, self.total)
        self._original: ModelBundle | None = None
        self.pictures: tuple[torch.Tensor, list[str]] | None = None

    def run(self) -> None:
        """Model after model; what has a row already is not done again."""
        for number, model in enumerate(self.victims):
            with self._victim(model, number) as victim:
                failing = self._plain(victim)
                self._attack(victim, failing, "attack", self.attack, self.own)
                if self.control is not None:
                    config = control_config(self.control.name, self.own, self.sampling.steps)
                    self._attack(victim, failing, "control", self.control, config)
        self._references()
        self.context.report(self.total, self.total, "done")

    def _plain(self, victim: Victim) -> list[Question]:
        """The first `n` prompts that fail as they are; every prompt that was tried has its row."""
        report = self._part(victim, PLAIN)
        failing: list[Question] = []
        first = 0
        while first < len(self.questions) and len(failing) < self.config.n:
            wanted = max(self.config.n - len(failing), FEWEST)  # no more than a few that nobody asked for
            batch = self.questions[first : first + min(wanted, self.config.batch_size)]
            first += len(batch)
            report(len(failing), self.config.n, f"{victim.model.label}: plain prompts, {len(failing)} fail")
            self.ledger.borrow(victim, batch)
            missing = [question for question in batch if not self.ledger.find(victim, "plain", question)]
            inputs = [AttackInput(question.prompt) for question in missing]
            judged = judge(victim.bundle, self.detector, inputs, missing, self.sampling, fresh=False)
            rows = [row for row, one in enumerate(judged) if not one.detection.found]
            fresh = judge(
                victim.bundle, self.detector, [inputs[r] for r in rows], [missing[r] for r in rows], self.sampling
            )
            for row, one in zip(rows, fresh, strict=True):
                judged[row] = one
            findings = [Finding(*row, Meter()) for row in zip(missing, inputs, judged, strict=True)]
            self.ledger.keep(victim, "plain", "none", {}, findings)
            runs = [(question, self.ledger.find(victim, "plain", question)) for question in batch]
            failing += [question for question, run in runs if run is not None and not run.success]
        return failing[: self.config.n]

    def _attack(
        self, victim: Victim, questions: list[Question], role: Role, attack: Attack, config: AttackConfig
    ) -> None:
        """Attack the prompts that have no row yet, some together, and keep each group when it is judged."""
        todo = [question for question in questions if not self.ledger.find(victim, role, question)]
        if not todo:
            return
        arena = self._arena(victim, attack, config)
        shared = self._shared(victim, arena, attack, config)
        width = attack.together(config)
        for first in range(0, len(todo), width):
            group = todo[first : first + width]
            place = (len(questions) - len(todo) + first, len(group), len(questions))
            report = self._part(victim, PARTS[role], place, f"{victim.model.label}, {attack.title}")
            tasks = [AttackTask(q.prompt, q.seed, self._target(attack, q)) for q in group]
            started = time.perf_counter()
            inputs = attack.craft(arena, tasks, shared, config, report)
            seconds = (time.perf_counter() - started) / len(group)
            judged = judge(victim.bundle, self.detector, inputs, group, self.sampling)
            rows = zip(group, inputs, judged, [task.meter for task in tasks], strict=True)
            findings = [Finding(*row, seconds) for row in rows]
            self.ledger.keep(victim, role, attack.name, config.model_dump(), findings)

    def _references(self) -> None:
        """The original's picture of every attacked prompt on its seed: what the victims' are looked at beside."""
        attacked = {(run.prompt, run.seed) for run in self.ledger.runs.values() if run.role == "attack"}
        questions = [one for one in self.questions if (one.prompt, one.seed) in attacked]
        with self._victim(
            Contestant("original", "Original", self.context.project.checkpoint), len(self.victims)
        ) as own:
            self.ledger.borrow(own, questions, REFERENCE)
            missing = [question for question in questions if not self.ledger.find(own, "plain", question)]
            for first in range(0, len(missing), self.config.batch_size):
                batch = missing[first : first + self.config.batch_size]
                self._part(own, (0, REFERENCES))(first, len(missing), "The original draws the attacked prompts")
                inputs = [AttackInput(question.prompt) for question in batch]
                judged = judge(own.bundle, self.detector, inputs, batch, self.sampling, fresh=False)
                findings = [Finding(*row, Meter()) for row in zip(batch, inputs, judged, strict=True)]
                self.ledger.keep(own, "plain", REFERENCE, {}, findings)

    # What attacks are given

    def _arena(self, victim: Victim, attack: Attack, config: AttackConfig) -> Arena:
        pictures: tuple[torch.Tensor | None, list[str]] = (None, [])
        if wanted := getattr(config, "pictures", 0):
            if self.pictures is None:
                self.pictures = concept_pictures(self.context, self.original, self.detector.detect, self.config, wanted)
            pictures = self.pictures
        return Arena(
            victim=victim.bundle,
            original=self.original if attack.uses_original else None,
            detect=self.detector.detect,
            sampling=self.sampling,
            pairs=prompt_pairs(self.context),
            pictures=pictures[0],
            picture_prompts=pictures[1],
            refuse=refuse,
        )

    def _shared(self, victim: Victim, arena: Arena, attack: Attack, config: AttackConfig) -> dict[str, torch.Tensor]:
        """What the attack prepares, from its file where an earlier try or victim made it."""
        owner = "all" if attack.shared_by_victims else victim.model.key
        path = self.context.settings.attacks / self.context.folder_name / f"{attack.name}-{owner}.safetensors"
        if path.is_file():
            return load_file(path)
        shared = attack.prepare(arena, config, self._part(victim, SHARED), Meter())
        if shared:
            write_atomically(path, save({name: value.contiguous() for name, value in shared.items()}))
        return shared

    def _target(self, attack: Attack, question: Question) -> torch.Tensor | None:
        if not attack.uses_target:
            return None
        return target_of(self.original, self.detector.detect, question, self.config)

    # Models

    @property
    def original(self) -> ModelBundle:
        """The original model, beside the victim: loaded at first use."""
        if self._original is None:
            self._original = self.context.load_bundle()
        return self._original

    @contextmanager
    def _victim(self, model: Contestant, number: int) -> Iterator[Victim]:
        with self.lineup.ready(model, number) as victim:
            check_family(victim.bundle)
            yield victim

    def _part(
        self, victim: Victim, part: tuple[int, int], place: tuple[int, int, int] = (0, 1, 1), title: str = ""
    ) -> Report:
        """A report of a share of the whole: of one part of a victim's steps, `place` = (done, now, in all) prompts."""
        low, high = part
        done, now, count = place

        def reported(step: int, total: int, message: str = "", **values: float) -> None:
            share = (done + now * min(step / max(total, 1), 1)) / max(count, 1)
            words = f"{title}, prompt {done + 1} of {count}: {message}".removesuffix(": ") if title else message
            at = victim.number * A_VICTIM + low + round((high - low) * min(share, 1))
            self.context.report(min(at, self.total - 1), self.total, words, **values)

        return reported


def check_family(bundle: ModelBundle) -> None:
    """Raises WorkflowError where the attacks are not defined: they search one CLIP text encoder's tokens."""
    if bundle.family.name not in ("sd1", "sd2"):
        raise WorkflowError(
            f"The attacks are not defined for {bundle.family.title}, because they search the tokens of one CLIP text "
            "encoder and a schedule of abar. Attack a Stable Diffusion 1 or 2 checkpoint, or replay found prompts on "
            "this one in Compare."
        )


def control_config(control: str, own: AttackConfig, sampling_steps: int) -> AttackConfig:
    """The control with the attack's number of queries and, where it has some, of tokens."""
    queries, confirm = own.a_prompt(sampling_steps).queries, 0
    if isinstance(own, AskingConfig):
        queries, confirm = own.questions(), own.confirm
    if control == "seed_search":
        return SeedSearchConfig(queries=queries, empty_prompt=True, seed=own.seed)
    tokens = min(getattr(own, "tokens", 5), 75)
    whole = bool(getattr(own, "population", 0)) or getattr(own, "variant", "") == "n"
    return RandomTokensConfig(queries=queries, tokens=tokens, keep_prompt=not whole, seed=own.seed,
                              confirm=confirm)  # fmt: skip


def attack(context: JobContext) -> dict[str, Any]:
    """Attack the models and return a summary for each; the rows are in the store."""
    attacker = Attacker(context)
    effective = attacker.config.model_copy(
        update={"victims": [victim.key for victim in attacker.victims], "values": attacker.own.model_dump()}
    )
    context.save_effective(effective.model_dump())
    attacker.run()
    runs = context.store.list_attack_runs(context.project.id, context.job.id)
    if not runs:
        raise WorkflowError("There was no prompt to attack with.")
    return {"victims": [asdict(summary) | _rates(summary) for summary in summarise(runs)]}


def _rates(summary: Any) -> dict[str, Any]:
    """Rates as plain dictionaries: the job's result is JSON."""
    return {name: value.model_dump() for name, value in vars(summary).items() if hasattr(value, "model_dump")}
