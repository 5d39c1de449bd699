"""Which pairs a job makes: those that are missing, or those that are to be made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from studio import prompts
from studio.configs import EditConfig, PairsConfig
from studio.metrics.base import Detection
from studio.records import ImagePair, Job, PromptPair
from studio.workflow.context import JobContext, WorkflowError

RETRY_STRIDE = 1_000_003  # between the seeds of one pair's tries
EDIT_OFFSET = 500_009  # between an unsafe picture's seed and its edit's


@dataclass
class Candidate:
    """A pair on its way."""

    prompts: PromptPair
    index: int
    strength: float
    spent: int = 0  # tries of earlier jobs, whose seeds are not used again
    again: ImagePair | None = None  # the row to be replaced
    tries: int = 0  # unsafe pictures without the concept, and edits
    edits: int = 0
    latents: torch.Tensor | None = None  # [C, h, w] of the unsafe picture
    image: np.ndarray | None = None
    unsafe_image: str = ""  # the name of an unsafe picture that came from outside, and is not drawn anew
    detection: Detection | None = None

    def __post_init__(self) -> None:
        self.first_strength = self.strength

    @property
    def seed(self) -> int:
        """Of the unsafe picture: another one after each that does not show the concept."""
        return self._seed(self.tries - self.edits)

    @property
    def edit_seed(self) -> int:
        return self._seed(self.tries, EDIT_OFFSET)

    @property
    def all_tries(self) -> int:
        return self.spent + self.tries

    def raise_strength(self, config: EditConfig) -> None:
        """One step more after each `seeds_per_strength` edits that did not help."""
        steps = self.edits // config.seeds_per_strength
        self.strength = raised(self.first_strength, steps * config.strength_step)

    def _seed(self, tries: int, offset: int = 0) -> int:
        first = self.prompts.seed + self.index
        return (first + RETRY_STRIDE * (self.spent + tries) + offset) % prompts.SEEDS_A_RANGE


def raised(strength: float, by: float) -> float:
    """At most 1, and free of the dust of floating point: pairs of equal strength are sampled together."""
    return round(min(1.0, strength + by), 6)


def missing_pairs(context: JobContext, config: PairsConfig) -> list[Candidate]:
    """Of every pair that the prompts ask for and that no row has. Raises WorkflowError where there are no prompts."""
    wanted = context.store.list_prompt_pairs(context.project.id)
    if not wanted:
        raise WorkflowError(f"Project {context.project.name!r} has no prompt pairs; add some first.")
    made = context.store.made_places(context.project.id)
    return [
        Candidate(pair, index, config.strength)
        for pair in wanted
        for index in range(pair.count)
        if (pair.id, index) not in made
    ]


def pairs_to_remake(context: JobContext, config: PairsConfig) -> list[Candidate]:
    """Of every pair in `config.redo`, with seeds that were never tried for it.

    A pair that is there is edited more strongly than before, by one step; a failed one begins at the job's strength.
    Of one whose unsafe picture came from outside only the twin is made again. Raises WorkflowError for a pair of
    another project, and for one that was not made here.
    """
    texts = {pair.id: pair for pair in context.store.list_prompt_pairs(context.project.id, wordless=True)}
    jobs = context.store.list_jobs(context.project.id)
    candidates = []
    for pair_id in config.redo:
        pair = context.store.get_image_pair(pair_id)
        if pair.prompt_pair_id not in texts:
            raise WorkflowError(f"The pair {pair_id} is not one of project {context.project.name!r}; leave it out.")
        if pair.origin == "brought" or (pair.origin == "twin" and pair.state != "ready"):
            raise WorkflowError(f"The pair {pair_id} was brought from outside: there is nothing to make again.")
        spent = pair.tries + _in_vain(pair, jobs)
        first = raised(pair.strength, config.strength_step) if pair.state == "ready" else config.strength
        kept = pair.unsafe_image if pair.origin == "twin" else ""
        candidates.append(Candidate(texts[pair.prompt_pair_id], pair.index, first, spent, pair, unsafe_image=kept))
    return candidates


def _in_vain(pair: ImagePair, jobs: Iterable[Job]) -> int:
    """Tries to make the pair again, since it was made, of which its row says nothing because they did not help."""
    later = [job for job in jobs if (job.started or job.created) >= pair.created]
    return sum(job.result.get("not_remade", {}).get(pair.id, 0) for job in later)
