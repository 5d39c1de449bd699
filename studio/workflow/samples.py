"""Rows of sample pictures in the middle of a training: what the model draws at that step, always from the same seeds.

They are drawn where the method reports a step, with whatever it has put on the model, through the one path that draws
every picture. All their randomness is their seeds', so a training that is watched ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.adapters import WeightDelta, applied
from models.bundle import ModelBundle
from studio import __version__, prompts
from studio.configs import SamplingConfig
from studio.images import put_image
from studio.metrics.base import Detection, Detector, MetricUnavailable
from studio.progress import Enough
from studio.records import Sample
from studio.training_configs import MethodConfig
from studio.workflow.clock import TrainingClock
from studio.workflow.context import JobContext
from studio.workflow.early_stop import EarlyStop

FIRST_SEED = prompts.first_seed("sweep", 999)  # as for choosing settings: no report is made of these pictures
PROMPTS_A_SIDE = 2  # that should lose the concept, and that should stay as they are
AT_ONCE = 2  # pictures; drawing needs less memory than the training around it


@dataclass(frozen=True)
class SamplePrompt:
    """What is drawn again and again."""

    text: str
    unwanted: bool  # whether it asks for the concept


def sample_prompts(context: JobContext) -> list[SamplePrompt]:
    """Prompts with the concept and without.

    Embedded checkpoint: an implied and a named one, another object, the concept's neighbour; none that is held out,
    since a person may choose settings by what they see. Elsewhere the first prompts of the project, or of the group
    that is trained.
    """
    if context.is_toybox:
        ready = prompts.ready_prompts()
        wanted = [("implied", True), ("named", True), ("object", False), ("neighbour", False)]
        return [SamplePrompt(ready[cell][0], unwanted) for cell, unwanted in wanted]
    pairs = context.store.list_prompt_pairs(context.project.id)
    if (group := context.config.get("group")) is not None:
        pairs = [pair for pair in pairs if pair.group == group]
    unsafe = dict.fromkeys([pair.unsafe for pair in pairs] or [context.project.concept])
    safe = dict.fromkeys(pair.safe for pair in pairs)
    return [SamplePrompt(text, True) for text in list(unsafe)[:PROMPTS_A_SIDE]] + [
        SamplePrompt(text, False) for text in list(safe)[:PROMPTS_A_SIDE]
    ]


class WatchedTraining:
    """A report on its way to `clock` that draws a row at every `sample_every`-th step, and at the last one.

    `begin` draws the original's row before the method starts; a row that is there is not drawn twice. The time all
    this takes is not training time.
    """

    def __init__(self, context: JobContext, bundle: ModelBundle, config: MethodConfig, clock: TrainingClock) -> None:
        self.context, self.bundle, self.clock = context, bundle, clock
        self.every = int(getattr(config, "sample_every", 0))  # a method without steps has none
        self.last = int(getattr(config, "steps", 0))
        self.prompts = sample_prompts(context) if self.every else []
        self.detector = _detector(context) if self.every else None
        self.early_stop = EarlyStop(context, bundle, config, self.detector)

    def begin(self) -> None:
        """The row of step 0."""
        if self.every and 0 not in self._drawn():
            self.clock(0, self.last, "Drawing sample pictures of the original")
            self._draw(0)
        with self.clock.paused():
            self.early_stop.begin()

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        """Pictures first: a stop is raised by the report, and the step it comes at should have its row."""
        if values and self.every and (step % self.every == 0 or step == total):
            self._draw(step)
        self.clock(step, total, message, **values)
        if values and self.every and step % self.every == 0 and step < total:
            self._end_early(step, total)

    def _end_early(self, step: int, total: int) -> None:
        try:
            with self.clock.paused():
                self.early_stop.check(step)
        except Enough as enough:
            self.last = step
            self.clock(step, total, str(enough))
            raise

    def end(self, delta: WeightDelta) -> None:
        """The last row, where the worker died between that step's saved state and its pictures."""
        if self.every and self.last not in self._drawn():
            with applied(self.bundle, delta):
                self._draw(self.last)

    def _drawn(self) -> Sequence[int]:
        return self.context.store.sampled_steps(self.context.job.id, self.context.stage)

    def _draw(self, step: int) -> None:
        with self.clock.paused():
            self.context.store.put_sample_row(list(self._row(step)))

    def _row(self, step: int) -> Iterator[Sample]:
        """Draw, judge and write the pictures of one step."""
        texts = [prompt.text for prompt in self.prompts]
        seeds = [FIRST_SEED + position for position in range(len(texts))]
        sampling = SamplingConfig()
        images = self.bundle.generate(
            texts, seeds, steps=sampling.steps, guidance_scale=sampling.guidance_scale, batch_size=AT_ONCE
        ).images
        verdicts: Sequence[Detection | None] = self.detector.detect(images) if self.detector else [None] * len(texts)
        for position, (prompt, seed, image, verdict) in enumerate(
            zip(self.prompts, seeds, images, verdicts, strict=True)
        ):
            facts = {
                "prompt": prompt.text,
                "seed": seed,
                "steps": sampling.steps,
                "guidance_scale": sampling.guidance_scale,
                "checkpoint": self.context.project.checkpoint,
                "training": self.context.folder_name,
                "training_step": step,
                "software": f"DUO Studio {__version__}",
            }
            yield Sample(
                id="",
                job_id=self.context.job.id,
                stage=self.context.stage,
                step=step,
                position=position,
                prompt=prompt.text,
                seed=seed,
                unwanted=prompt.unwanted,
                image=put_image(self.context.settings, image, facts),
                found=verdict.found if verdict else None,
                score=verdict.score if verdict else None,
                seen=verdict.facts.get("object", "") if verdict else "",
            )


def _detector(context: JobContext) -> Detector | None:
    """The project's detector; None where it is not installed: the pictures then come without a verdict."""
    try:
        return context.load_detector()
    except MetricUnavailable:
        return None
