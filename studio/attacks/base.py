"""What an attack is, what it is given, and what it hands back.

An attack never draws the final picture: it hands back inputs, and the one generation path draws them, the same for all
models. Every picture that it asks of the victim goes through `Arena.query`, which counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from models.bundle import ModelBundle
from models.prompting import encode_ids
from studio.attack_configs import Access
from studio.configs import SamplingConfig
from studio.metrics.base import Detection
from studio.progress import Report, Stopped, silent

__all__ = [
    "Access",
    "Arena",
    "Attack",
    "AttackError",
    "AttackInput",
    "AttackTask",
    "Meter",
    "Report",
    "Stopped",
    "silent",
]


FURTHER = 2**40
FURTHER_EACH = 64  # of a task


class AttackError(RuntimeError):
    """An attack that cannot run as asked. Says the cause, the value and the remedy."""


@dataclass
class Meter:
    """What was spent. Pictures of queries are not among the passes."""

    queries: int = 0
    text_passes: int = 0  # prompts through the text encoder
    forward: int = 0  # latents through a UNet
    backward: int = 0


@dataclass(frozen=True)
class AttackTask:
    """One prompt to attack with, on one seed."""

    prompt: str
    seed: int
    target: torch.Tensor | None = None  # [C, h, w]: latents of the original's picture of this prompt, with the concept
    meter: Meter = field(default_factory=Meter)

    def generator(self, seed: int) -> torch.Generator:
        """Randomness that depends on the attack's seed and this task alone, not on its company or its turn."""
        name = hashlib.sha256(f"{seed} {self.seed} {self.prompt}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(name[:7], "big"))


@dataclass(frozen=True)
class AttackInput:
    """What to draw: a prompt, or embeddings in its place, perhaps from given start latents or another seed."""

    prompt: str
    embeds: torch.Tensor | None = None  # [L, D] as the UNet takes them
    token_embeds: torch.Tensor | None = None  # [K, D] learned tokens, before the text encoder
    start_latents: torch.Tensor | None = None  # [C, h, w]
    seed: int | None = None  # None: the task's


@dataclass(frozen=True)
class Arena:
    """The victim and what an attacker has beside it."""

    victim: ModelBundle
    original: ModelBundle | None  # None where the attack has no access to it
    detect: Callable[[np.ndarray], list[Detection]]
    sampling: SamplingConfig
    pairs: Sequence[tuple[str, str]] = ()  # prompts with the concept and without it
    pictures: torch.Tensor | None = None  # [M, C, h, w] latents of the concept by the original
    picture_prompts: Sequence[str] = ()  # [M] their prompts
    refuse: Callable[[str], str | None] = lambda prompt: None  # why a prompt is not drawn

    def query(self, task: AttackTask, inputs: Sequence[AttackInput], seeds: Sequence[int]) -> list[Detection]:
        """Ask the victim for a picture of each input and let the detector judge. A refused prompt shows nothing."""
        task.meter.queries += len(inputs)
        allowed = [row for row, one in enumerate(inputs) if self.refuse(one.prompt) is None]
        found = [Detection(False, 0.0)] * len(inputs)
        if allowed:
            images = draw(self.victim, [inputs[row] for row in allowed], [seeds[row] for row in allowed], self.sampling)
            for row, detection in zip(allowed, self.detect(images), strict=True):
                found[row] = detection
        return found

    def encode(self, meter: Meter, ids: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
        """Embeddings [B, L, D] of ids [B, L], without gradients; counted."""
        meter.text_passes += len(ids)
        return encode_ids(self.victim, ids, batch_size)

    def the_original(self) -> ModelBundle:
        """Raises AttackError where the attack was not given it."""
        if self.original is None:
            raise AttackError("This attack needs the original model beside the victim, and was given none.")
        return self.original

    def concept_pictures(self) -> torch.Tensor:
        """Raises AttackError where there are none."""
        if self.pictures is None or len(self.pictures) == 0:
            raise AttackError(
                "This attack needs pictures of the concept by the original model, and there are 0. "
                "Use prompts for which the original shows it."
            )
        return self.pictures


class Attack(Protocol):
    """One published attack, or a control. One file each; registered in `studio.attacks.ATTACKS`."""

    name: str  # "ring_a_bell"
    title: str  # "Ring-A-Bell"
    paper: str  # citation with year and link; of a control, what it is
    access: Access  # to the victim: its text encoder alone, its pictures, its weights; or to the original model only
    Config: type[Any]  # one of studio.attack_configs.ATTACK_CONFIGS
    control: str  # the name of its control; "" of a control
    uses_original: bool  # whether it needs the original model at hand
    uses_target: bool  # whether a task needs the original's picture
    shared_by_victims: bool  # whether what `prepare` makes is the same for every victim

    def prepare(self, arena: Arena, config: Any, report: Report, meter: Meter) -> dict[str, torch.Tensor]:
        """What all prompts share, made once: a concept vector, a learned token. Kept in a file by the workflow."""
        ...

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: Any,
        report: Report,
    ) -> list[AttackInput]:
        """One input a task. The models come back as they were; `report` may raise `Stopped`."""
        ...

    def together(self, config: Any) -> int:
        """How many prompts `craft` is best given at once."""
        ...


class PlainAttack:
    """The parts of an attack that most have alike."""

    control = "random_tokens"
    uses_original = False
    uses_target = False
    shared_by_victims = True

    def prepare(self, arena: Arena, config: Any, report: Report, meter: Meter) -> dict[str, torch.Tensor]:
        return {}

    def together(self, config: Any) -> int:
        return 1


class Best:
    """The best of what was asked so far: what shows the concept on most seeds, then the highest score."""

    def __init__(self, confirm: int = 0) -> None:
        """`confirm` further seeds are asked where an input shows the concept."""
        self.confirm = confirm
        self.input: AttackInput | None = None
        self.score = -1.0
        self.hits = 0  # seeds on which the best shows the concept

    @property
    def done(self) -> bool:
        """Whether the best shows the concept on every seed that it was asked on."""
        return self.hits > self.confirm

    def ask(self, arena: Arena, task: AttackTask, inputs: Sequence[AttackInput]) -> list[Detection]:
        """Ask the victim, each input on its own seed or the task's, and keep the best."""
        seeds = [task.seed if one.seed is None else one.seed for one in inputs]
        detections = arena.query(task, inputs, seeds)
        for one, detection in zip(inputs, detections, strict=True):
            hits = int(detection.found)
            if hits and self.confirm and not self.done:
                again = arena.query(task, [one] * self.confirm, further_seeds(task, self.confirm))
                hits += sum(other.found for other in again)
            if (hits, detection.score) > (self.hits, self.score):
                self.input, self.hits, self.score = one, hits, detection.score
        return detections

    @property
    def words(self) -> str:
        """The best prompt so far, as it ends a line of progress; "" before the victim was asked."""
        return "" if self.input is None else f": {self.input.prompt}"

    def chosen(self) -> AttackInput:
        assert self.input is not None
        return self.input


def further_seeds(task: AttackTask, count: int) -> list[int]:
    """Seeds of a task that are nobody else's: those of runs and of searches end below."""
    return [FURTHER + FURTHER_EACH * task.seed + number for number in range(count)]


def draw(
    bundle: ModelBundle, inputs: Sequence[AttackInput], seeds: Sequence[int], sampling: SamplingConfig
) -> np.ndarray:
    """Pictures [N, H, W, 3] uint8 of inputs by a model, through `ModelBundle.generate`."""
    embeds = bundle.encode_prompt([one.prompt for one in inputs])
    rows = [embeds[row] if one.embeds is None else one.embeds.to(embeds) for row, one in enumerate(inputs)]
    start = None
    if any(one.start_latents is not None for one in inputs):
        start = bundle.noise(seeds)
        for row, one in enumerate(inputs):
            if one.start_latents is not None:
                start[row] = one.start_latents
    return bundle.generate(
        [one.prompt for one in inputs],
        seeds,
        prompt_embeds=torch.stack(rows),
        start_latents=start,
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        batch_size=sampling.batch_size,
    ).images
