"""The rows of one attack's job: what is kept of each prompt, and which prompts are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from studio import __version__
from studio.attacks.base import AttackInput, Meter
from studio.attacks.embeddings import save_embedding
from studio.configs import SamplingConfig
from studio.images import put_image
from studio.metrics.base import Detector
from studio.records import REFERENCE, AttackRun
from studio.workflow.attack_judging import Judgement
from studio.workflow.attack_material import Question
from studio.workflow.context import JobContext
from studio.workflow.lineup import Victim

Role = Literal["plain", "attack", "control"]


@dataclass(frozen=True)
class Finding:
    """What became of one prompt."""

    question: Question
    input: AttackInput
    judged: Judgement
    meter: Meter
    seconds: float = 0.0


class Ledger:
    """Writes each prompt's row and picture when it is judged, and knows what an earlier try of the job wrote."""

    def __init__(self, context: JobContext, detector: Detector, sampling: SamplingConfig) -> None:
        self.context, self.detector = context, detector
        self.sampling = {"steps": sampling.steps, "guidance_scale": sampling.guidance_scale}
        runs = context.store.list_attack_runs(context.project.id)
        own = [run for run in runs if run.job_id == context.job.id]
        self.runs = {(run.victim, run.role, run.prompt, run.seed): run for run in own}
        self.plain = {(run.victim_sha256, run.prompt, run.seed): run for run in runs if self._alike(run)}

    def _alike(self, run: AttackRun) -> bool:
        """Whether a row tells how a plain prompt fared under this job's sampling and detector."""
        judge = (self.detector.name, self.detector.version, self.detector.settings, self.sampling)
        return run.role == "plain" and judge == (
            run.detector, run.detector_version, run.detector_settings, run.sampling
        )  # fmt: skip

    def borrow(self, victim: Victim, questions: Sequence[Question], attack: str = "none") -> None:
        """Take over what earlier jobs saw of plain prompts by the same model on the same seeds: a copy of each row.

        A prompt's fresh seeds follow from its own and their number; for a reference they do not matter.
        """
        copies = []
        for question in questions:
            run = self.plain.get((victim.sha256, question.prompt, question.seed))
            if run is None or self.find(victim, "plain", question):
                continue
            if run.success or run.fresh_count == len(question.fresh) or attack == REFERENCE:
                own = replace(run, id="", job_id=self.context.job.id, attack=attack, created=0.0)
                copies.append(replace(own, victim=victim.model.key, victim_name=victim.model.label))
        self._add(copies)

    def find(self, victim: Victim, role: Role, question: Question) -> AttackRun | None:
        """The row of a prompt, None where it has none yet."""
        return self.runs.get((victim.model.key, role, question.prompt, question.seed))

    def keep(
        self, victim: Victim, role: Role, attack: str, config: dict[str, Any], findings: Sequence[Finding]
    ) -> None:
        """Write pictures, embeddings, then the rows that name them."""
        self._add([self._run(victim, role, attack, config, finding) for finding in findings])

    def _add(self, runs: list[AttackRun]) -> None:
        for run in self.context.store.add_attack_runs(runs):
            self.runs[run.victim, run.role, run.prompt, run.seed] = run

    def _run(self, victim: Victim, role: Role, attack: str, config: dict[str, Any], finding: Finding) -> AttackRun:
        question, one, judged = finding.question, finding.input, finding.judged
        return AttackRun(
            id="",
            project_id=self.context.project.id,
            job_id=self.context.job.id,
            attack=attack,
            role=role,
            config=config,
            victim=victim.model.key,
            victim_name=victim.model.label,
            victim_sha256=victim.sha256,
            detector=self.detector.name,
            detector_version=self.detector.version,
            detector_settings=self.detector.settings,
            sampling=self.sampling,
            prompt=question.prompt,
            seed=question.seed,
            found_prompt=one.prompt,
            embedding=save_embedding(self.context.settings.embeddings, one, attack),
            **asdict(finding.meter),
            seconds=finding.seconds,
            pre_success=role == "plain" and judged.detection.found,
            success=judged.detection.found,
            score=judged.detection.score,
            fresh_successes=sum(judged.fresh),
            fresh_count=len(judged.fresh),
            fresh_first=bool(judged.fresh and judged.fresh[0]),
            image=self._picture(victim, attack, finding),
            refused=judged.refused,
        )

    def _picture(self, victim: Victim, attack: str, finding: Finding) -> str:
        question, one, judged = finding.question, finding.input, finding.judged
        if judged.image is None:
            return ""
        facts: dict[str, Any] = {"prompt": one.prompt, "seed": question.seed if one.seed is None else one.seed}
        facts |= {"attack": attack, **self.sampling, "model": victim.model.label}
        facts |= {"checkpoint": victim.model.reference, "software": f"DUO Studio {__version__}"}
        if victim.model.checkpoint:
            facts["adapter_sha256"] = victim.sha256
        return put_image(self.context.settings, judged.image, facts)
