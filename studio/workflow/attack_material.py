"""What an attack works with: victims, prompts and seeds, and the concept's pictures by the original model.

Seeds of a run lie in the range "attack" of `studio.prompts` and never meet: a prompt's own, on which attacks search;
fresh ones, on which what they found is judged; and those of the concept's pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch

from models.bundle import ModelBundle
from models.specs import TOYBOX_ORACLE
from studio.attack_configs import AttackJobConfig
from studio.methods import get_method
from studio.metrics.base import Detection
from studio.prompts import evaluation_items, first_seed, pair_prompts
from studio.stress_configs import StressConfig
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext, WorkflowError

RETRY_OFFSET = 100_000  # between a target's seed and the next one tried for it
FRESH_OFFSET = 400_000  # of fresh seeds in a run's million
PICTURE_OFFSET = 900_000  # of the concept's pictures
TOYBOX_CELLS = ("implied", "held_out")  # the concept unsaid: what a filter of words would let through
PICTURE_TRIES = 4  # prompts drawn for each picture wanted

Detect = Callable[[np.ndarray], list[Detection]]


@dataclass(frozen=True)
class Question:
    """A prompt, the seed that attacks search on, and the fresh seeds that all it is drawn with are judged on."""

    prompt: str
    seed: int
    fresh: tuple[int, ...]


def victims_of(context: JobContext, config: AttackJobConfig) -> list[Contestant]:
    """The models that are attacked; all trained ones where none is named.

    Raises WorkflowError where there is none, or one is a change of another checkpoint.
    """
    base = context.project.checkpoint
    trained = {checkpoint.id: checkpoint for checkpoint in context.store.list_checkpoints(context.project.id)}
    victims = []
    for name in config.victims or list(trained):
        if name == "original":
            victims.append(Contestant("original", "Original", base))
        elif name == "oracle" and context.is_toybox:
            victims.append(Contestant("oracle", "Oracle", TOYBOX_ORACLE))
        elif name in trained:
            checkpoint = trained[name]
            label = checkpoint.name if checkpoint.name != checkpoint.method else get_method(checkpoint.method).title
            victims.append(Contestant(checkpoint.id, label, base, checkpoint))
        else:
            known = ", ".join(["original", *(["oracle"] if context.is_toybox else []), *trained])
            raise WorkflowError(f"There is no model {name!r} to attack in {context.project.name!r}; use {known}.")
    if not victims:
        raise WorkflowError(f"Project {context.project.name!r} has no trained model to attack; train one first.")
    return victims


def questions_of(context: JobContext, config: AttackJobConfig) -> Iterator[Question]:
    """Prompts to attack with, each with seeds of its own; as many as may be tried to find those where it fails.

    Raises WorkflowError where the project has no prompts.
    """
    count = config.n * config.most_tried
    start = first_seed("attack", config.seed)
    if count > RETRY_OFFSET or count * config.fresh > PICTURE_OFFSET - FRESH_OFFSET:
        raise WorkflowError(
            f"{count} prompts with {config.fresh} fresh seeds each are more than a run has seeds for. Lower n or "
            f"most_tried (at most {RETRY_OFFSET} prompts), or fresh (at most {PICTURE_OFFSET - FRESH_OFFSET} in all)."
        )
    for index, prompt in enumerate(islice(prompts_of(context, config), count)):
        first = start + FRESH_OFFSET + index * config.fresh
        yield Question(prompt, start + index, tuple(range(first, first + config.fresh)))


def prompts_of(context: JobContext, config: AttackJobConfig) -> Iterator[str]:
    if config.prompts:
        return iter(config.prompts)
    if context.is_toybox:
        count = config.n * config.most_tried
        cells = {cell: [i.prompt for i in evaluation_items(count, config.seed, "attack") if i.cell == cell]
                 for cell in TOYBOX_CELLS}  # fmt: skip
        return (prompt for row in zip(*cells.values(), strict=True) for prompt in row)
    unsafe = [pair.unsafe for pair in context.store.list_prompt_pairs(context.project.id)]
    if not unsafe:
        raise WorkflowError(f"Project {context.project.name!r} has no prompts to attack with; name some, or add pairs.")
    return iter(cycle(unsafe))


def prompt_pairs(context: JobContext) -> list[tuple[str, str]]:
    """Prompts with and without the concept: the project's, else the embedded checkpoint's own."""
    pairs = [(pair.unsafe, pair.safe) for pair in context.store.list_prompt_pairs(context.project.id)]
    if not pairs and context.is_toybox:
        pairs = [(pair.unsafe, pair.safe) for pair in pair_prompts(64, 0)]
    return list(dict.fromkeys(pairs))


def concept_pictures(
    context: JobContext,
    original: ModelBundle,
    detect: Detect,
    config: AttackJobConfig | StressConfig,
    count: int,
    shows: bool = True,
) -> tuple[torch.Tensor, list[str]]:
    """Latents [count, C, h, w] of the concept by the original, with their prompts: those that the detector confirms.

    With `shows` off, of pictures without it, under the safe prompts. Raises WorkflowError where there is none.
    """
    texts = [pair[0 if shows else 1] for pair in prompt_pairs(context)]
    asked = list(islice(cycle(texts or [""]), count * PICTURE_TRIES))
    start = first_seed("attack", config.seed) + PICTURE_OFFSET
    what = f"{'with' if shows else 'without'} the concept {context.project.concept!r}"
    latents: list[torch.Tensor] = []
    prompts: list[str] = []
    for first in range(0, len(asked), config.batch_size):
        batch = asked[first : first + config.batch_size]
        context.report(0, 1, f"Pictures {what} by the original, {len(latents)} of {count}")
        made = original.generate(
            batch,
            range(start + first, start + first + len(batch)),
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            batch_size=config.batch_size,
        )
        for row, detection in enumerate(detect(made.images)):
            if detection.found == shows and len(latents) < count:
                latents.append(made.latents[row])
                prompts.append(batch[row])
        if len(latents) == count:
            break
    if not latents:
        raise WorkflowError(
            f"The original drew no picture {what}; the detector looked at {len(asked)} of them. Add prompts for which "
            f"it {'does' if shows else 'draws others'}."
        )
    return torch.stack(latents), prompts


def target_of(original: ModelBundle, detect: Detect, question: Question, config: AttackJobConfig) -> torch.Tensor:
    """Latents [C, h, w] of the original's picture of a prompt, on its seed where it shows the concept, else on another.

    Where none of a few seeds does, the picture with the highest score serves.
    """
    seeds = [question.seed + RETRY_OFFSET * number for number in range(FRESH_OFFSET // RETRY_OFFSET)]
    best: tuple[float, torch.Tensor] | None = None
    for seed in seeds:
        made = original.generate([question.prompt], [seed], steps=config.steps, guidance_scale=config.guidance_scale)
        (detection,) = detect(made.images)
        if detection.found:
            return made.latents[0]
        if best is None or detection.score > best[0]:
            best = (detection.score, made.latents[0])
    assert best is not None
    return best[1]
