"""Pairs: an unsafe picture and its SDEdit twin, in latents, judged by the detector and tried again within a cap.

Unsafe pictures and edits of many pairs are sampled together. Each finished pair is written at once (pictures, then
latents, then its row), so a killed worker loses none, and a second run makes only what is missing.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from models.bundle import Generation
from models.files import write_atomically
from studio import __version__, prompts
from studio.configs import PairsConfig
from studio.images import put_image
from studio.metrics import best_distance
from studio.metrics.base import Detection
from studio.objectives.sdedit import start_index
from studio.records import ImagePair, PromptPair, Verdict
from studio.store import DETECTOR
from studio.workflow.context import JobContext, WorkflowError

RETRY_STRIDE = 1_000_003  # between the seeds of one pair's tries
EDIT_OFFSET = 500_009  # between an unsafe picture's seed and its edit's


@dataclass
class Candidate:
    """A pair on its way."""

    prompts: PromptPair
    index: int
    strength: float
    tries: int = 0  # unsafe pictures without the concept, and edits
    edits: int = 0
    latents: torch.Tensor | None = None  # [C, h, w] of the unsafe picture
    image: np.ndarray | None = None
    detection: Detection | None = None

    @property
    def seed(self) -> int:
        """Of the unsafe picture: another one after each that does not show the concept."""
        return self._seed(self.tries - self.edits)

    @property
    def edit_seed(self) -> int:
        return self._seed(self.tries, EDIT_OFFSET)

    def _seed(self, tries: int, offset: int = 0) -> int:
        return (self.prompts.seed + self.index + RETRY_STRIDE * tries + offset) % prompts.SEEDS_A_RANGE


class PairMaker:
    """Makes a project's missing pairs: `draw` unsafe pictures, then `edit` them until each pair is settled."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.config = PairsConfig(**context.config)
        steps, strength = self.config.steps, self.config.strength
        if start_index(steps, strength) == steps:
            raise WorkflowError(
                f"strength {strength:g} of {steps} steps repaints nothing: every edit would be its unsafe picture. "
                f"Use a strength of {1 / steps:g} or more."
            )
        wanted = context.store.list_prompt_pairs(context.project.id)
        if not wanted:
            raise WorkflowError(f"Project {context.project.name!r} has no prompt pairs; add some first.")
        made = {(p.prompt_pair_id, p.index) for p in context.store.list_image_pairs(context.project.id)}
        missing = [(p, i) for p in wanted for i in range(p.count) if (p.id, i) not in made]
        self.total = sum(pair.count for pair in wanted)
        self.settled = self.total - len(missing)
        self.failed = 0
        self.fresh = deque(Candidate(pair, index, self.config.strength) for pair, index in missing)
        self.editing: dict[float, list[Candidate]] = {}  # by strength
        self.bundle = context.load_bundle()
        self.detector = context.load_detector()
        distance, _ = best_distance()
        self.distance = distance if distance.name.startswith("lpips") else None

    def run(self) -> None:
        """Full batches first; a strength's last few pairs go together when nothing else is left to fill a batch."""
        size = self.config.batch_size
        while self.fresh or self.editing:
            self.tell()
            strength = max(self.editing, key=lambda s: len(self.editing[s]), default=None)
            if strength is not None and (not self.fresh or len(self.editing[strength]) >= size):
                waiting = self.editing.pop(strength)
                if waiting[size:]:
                    self.editing[strength] = waiting[size:]
                self.edit(waiting[:size], strength)
            else:
                self.draw([self.fresh.popleft() for _ in range(min(size, len(self.fresh)))])
        self.tell()

    def tell(self) -> None:
        failed = f", {self.failed} failed" if self.failed else ""
        self.context.report(self.settled, self.total, f"{self.settled} of {self.total} pairs{failed}")

    def draw(self, batch: list[Candidate]) -> None:
        """Sample unsafe pictures; those that show the concept go on to be edited."""
        unsafe = [candidate.prompts.unsafe for candidate in batch]
        made = self._generate(unsafe, [candidate.seed for candidate in batch])
        for row, (candidate, detection) in enumerate(zip(batch, self.detector.detect(made.images), strict=True)):
            candidate.detection = detection
            if detection.found or not self.config.filter_by_detector:
                candidate.latents, candidate.image = made.latents[row], made.images[row]
                self.editing.setdefault(candidate.strength, []).append(candidate)
                continue
            candidate.tries += 1
            if candidate.tries < self.config.max_tries:
                self.fresh.append(candidate)
            else:
                self._fail(candidate, f"the unsafe prompt showed no {self.context.project.concept}")

    def edit(self, batch: list[Candidate], strength: float) -> None:
        """Repaint unsafe pictures under their safe prompts; those that still show the concept are tried again."""
        seeds = [candidate.edit_seed for candidate in batch]
        made = self._generate(
            [candidate.prompts.safe for candidate in batch],
            seeds,
            negative_prompts=[candidate.prompts.unsafe for candidate in batch],
            init_latents=torch.stack([c.latents for c in batch if c.latents is not None]),
            strength=strength,
        )
        for row, (candidate, detection) in enumerate(zip(batch, self.detector.detect(made.images), strict=True)):
            candidate.tries += 1
            candidate.edits += 1
            if is_safe(detection) or not self.config.filter_by_detector:
                self._keep(candidate, made.latents[row], made.images[row], detection.score, seeds[row])
            elif candidate.tries >= self.config.max_tries:
                why = f"no edit was without the {self.context.project.concept} and clear"
                self._fail(candidate, why, detection.score)
            else:
                raised = candidate.edits // self.config.seeds_per_strength * self.config.strength_step
                candidate.strength = round(min(1.0, self.config.strength + raised), 6)
                self.editing.setdefault(candidate.strength, []).append(candidate)

    def _generate(self, texts: list[str], seeds: list[int], **edit: Any) -> Generation:
        config = self.config
        sampling: dict[str, Any] = {
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "batch_size": config.batch_size,
        }
        return self.bundle.generate(texts, seeds, **sampling, **edit)

    def _keep(
        self, candidate: Candidate, latents: torch.Tensor, image: np.ndarray, safe_score: float, edit_seed: int
    ) -> None:
        assert candidate.image is not None
        assert candidate.latents is not None
        assert candidate.detection is not None
        context, config = self.context, self.config
        pair_id = secrets.token_hex(6)
        facts = {
            "checkpoint": context.project.checkpoint,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "seed": candidate.seed,
            "software": f"DUO Studio {__version__}",
        }
        edited = {"negative_prompt": candidate.prompts.unsafe, "strength": candidate.strength, "edit_seed": edit_seed}
        unsafe_image = put_image(context.settings, candidate.image, {"prompt": candidate.prompts.unsafe, **facts})
        safe_image = put_image(context.settings, image, {"prompt": candidate.prompts.safe, **facts, **edited})
        both = {"unsafe": candidate.latents.contiguous(), "safe": latents.contiguous()}
        write_atomically(context.settings.latents / f"{pair_id}.safetensors", save(both))
        self._write(
            candidate,
            id=pair_id,
            state="ready",
            unsafe_image=unsafe_image,
            safe_image=safe_image,
            unsafe_score=candidate.detection.score,
            safe_score=safe_score,
            distance=self._distance(candidate.image, image),
        )

    def _fail(self, candidate: Candidate, why: str, safe_score: float = 0.0) -> None:
        """List a pair that no try got right, with the reason."""
        self.failed += 1
        unsafe_score = candidate.detection.score if candidate.detection else 0.0
        reason = f"In {candidate.tries} tries {why}."
        self._write(candidate, id="", state="failed", unsafe_score=unsafe_score, safe_score=safe_score, reason=reason)

    def _write(self, candidate: Candidate, **fields: Any) -> None:
        self.context.store.add_image_pair(
            ImagePair(
                project_id=self.context.project.id,
                prompt_pair_id=candidate.prompts.id,
                index=candidate.index,
                seed=candidate.seed,
                strength=candidate.strength,
                tries=candidate.tries,
                **fields,
            )
        )
        self.settled += 1

    def _distance(self, unsafe: np.ndarray, safe: np.ndarray) -> float | None:
        return None if self.distance is None else float(self.distance.score(safe[None], unsafe[None])[0])


def is_safe(detection: Detection) -> bool:
    """No concept, and not a broken picture in which nothing can be told (where the detector says so)."""
    return not detection.found and detection.facts.get("object") != "unclear"


def generate_pairs(context: JobContext) -> dict[str, Any]:
    """Make the project's missing pairs; with `auto_accept`, accept the ready ones in the detector's name."""
    maker = PairMaker(context)
    maker.run()
    if maker.config.auto_accept:
        accept_in_the_detectors_name(context)
    pairs = context.store.list_image_pairs(context.project.id)
    ready = sum(pair.state == "ready" for pair in pairs)
    return {"ready": ready, "failed": len(pairs) - ready}


def accept_in_the_detectors_name(context: JobContext) -> None:
    """A verdict for each ready pair on which nobody has decided."""
    decided = context.store.current_verdicts(context.project.id)
    for pair in context.store.list_image_pairs(context.project.id, "ready"):
        if pair.id not in decided:
            reason = f"score {pair.unsafe_score:.2f} in the unsafe picture, {pair.safe_score:.2f} in its twin"
            context.store.add_verdict(
                Verdict(id="", pair_id=pair.id, reviewer=DETECTOR, verdict="accept", reason=reason)
            )
