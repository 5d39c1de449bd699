"""Pairs: an unsafe picture and its SDEdit twin, in latents, judged by the detector and tried again within a cap.

Unsafe pictures and edits of several pairs are sampled together. Each finished pair is written at once (pictures, then
latents, then its row), so a killed worker loses none, and a second run makes only what is missing. A pair that is made
again keeps its row as it was until the new pictures and latents lie on the disk; then the row changes as a whole.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from models.bundle import Generation
from models.fingerprint import fingerprint_of
from studio import __version__
from studio.configs import EditConfig, PairsConfig
from studio.duplicates import looks
from studio.images import put_image, read_image
from studio.methods.parallel import current_group
from studio.metrics import best_distance
from studio.metrics.base import Detection
from studio.records import ImagePair, Verdict
from studio.store import DETECTOR, PairStoppedError
from studio.workflow.candidates import Candidate, missing_pairs, pairs_to_remake
from studio.workflow.context import JobContext
from studio.workflow.latents import read_latents, set_aside, write_latents


class PairMaker:
    """Makes pairs: `draw` unsafe pictures, then `edit` them until each pair is settled."""

    def __init__(
        self, context: JobContext, config: EditConfig, candidates: list[Candidate], settled: int, elsewhere: int = 0
    ) -> None:
        """`settled` pairs of the same work lie behind; other processes make `elsewhere` of it at the same time."""
        self.context, self.config = context, config
        self.settled, self.total = settled, settled + len(candidates) + elsewhere
        self.elsewhere = elsewhere
        self.failed = 0
        self.fresh = deque(candidate for candidate in candidates if not candidate.unsafe_image)
        self.editing: dict[float, list[Candidate]] = {}  # by strength
        self.bundle = context.load_bundle(done=settled, total=self.total)
        self.fingerprint = fingerprint_of(self.bundle)
        self.detector = context.load_detector()
        for candidate in candidates:
            if candidate.unsafe_image:
                self._recall(candidate)
        distance, _ = best_distance()
        self.distance = distance if distance.name.startswith("lpips") else None

    def run(self) -> None:
        """Full batches first; a strength's last few pairs go together when nothing else is left to fill a batch."""
        size = self.config.batch_size
        while self.fresh or self.editing:
            self.tell()
            if not self.edit_a_batch(at_least=size if self.fresh else 1):
                self.draw([self.fresh.popleft() for _ in range(min(size, len(self.fresh)))])
        self.tell()

    def edit_a_batch(self, at_least: int) -> bool:
        """Edit the strength that most pairs wait for; False where fewer than `at_least` wait for it."""
        size = self.config.batch_size
        strength = max(self.editing, key=lambda s: len(self.editing[s]), default=None)
        if strength is None or len(self.editing[strength]) < at_least:
            return False
        waiting = self.editing.pop(strength)
        if waiting[size:]:
            self.editing[strength] = waiting[size:]
        self.edit(waiting[:size], strength)
        return True

    def tell(self) -> None:
        """Report; also before each denoising step, so that a stop is answered within one of them."""
        settled, lost = self.settled, self.failed
        if self.elsewhere:
            counts = self.context.store.pair_counts(self.context.project.id)
            settled, lost = counts.ready + counts.failed, counts.failed
        failed = f", {lost} failed" if lost else ""
        self.context.report(settled, self.total, f"{settled} of {self.total} pairs{failed}")

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
                candidate.raise_strength(self.config)
                self.editing.setdefault(candidate.strength, []).append(candidate)

    def _generate(self, texts: list[str], seeds: list[int], **edit: Any) -> Generation:
        config = self.config
        sampling: dict[str, Any] = {
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "batch_size": config.batch_size,
        }
        return self.bundle.generate(texts, seeds, **sampling, **edit, before_step=self.tell)

    def _keep(
        self, candidate: Candidate, latents: torch.Tensor, image: np.ndarray, safe_score: float, edit_seed: int
    ) -> None:
        assert candidate.image is not None
        assert candidate.latents is not None
        assert candidate.detection is not None
        context, config = self.context, self.config
        facts = {
            "checkpoint": context.project.checkpoint,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "seed": candidate.seed,
            "software": f"DUO Studio {__version__}",
        }
        edited = {"negative_prompt": candidate.prompts.unsafe, "strength": candidate.strength, "edit_seed": edit_seed}
        unsafe_image = candidate.unsafe_image or put_image(
            context.settings, candidate.image, {"prompt": candidate.prompts.unsafe, **facts}
        )
        safe_image = put_image(context.settings, image, {"prompt": candidate.prompts.safe, **facts, **edited})
        pair_id = candidate.again.id if candidate.again else secrets.token_hex(6)
        if candidate.again:
            set_aside(context.settings, candidate.again)
        write_latents(context.settings, pair_id, safe_image, candidate.latents, latents, self.fingerprint)
        self._write(
            candidate,
            pair_id,
            state="ready",
            unsafe_image=unsafe_image,
            safe_image=safe_image,
            unsafe_score=candidate.detection.score,
            safe_score=safe_score,
            distance=self._distance(candidate.image, image),
            looks=looks(candidate.image, image),
            reason="",
        )
        if isinstance(config, PairsConfig) and config.auto_accept:
            with suppress(PairStoppedError):
                accept_in_the_detectors_name(context, context.store.get_image_pair(pair_id))

    def _recall(self, candidate: Candidate) -> None:
        """Take the unsafe picture of a pair that came from outside as it is: only its twin is made again."""
        pair = candidate.again
        assert pair is not None
        candidate.latents, _ = read_latents(self.context.settings, pair, self.fingerprint)
        candidate.image = read_image(self.context.settings, pair.unsafe_image)
        candidate.detection = Detection(found=True, score=pair.unsafe_score)
        self.editing.setdefault(candidate.strength, []).append(candidate)

    def _fail(self, candidate: Candidate, why: str, safe_score: float = 0.0) -> None:
        """List a pair that no try got right, with the reason."""
        self.failed += 1
        unsafe_score = candidate.detection.score if candidate.detection else 0.0
        more = f" more tries ({candidate.all_tries} in all)" if candidate.spent else " tries"
        reason = f"In {candidate.tries}{more} {why}."
        self._write(candidate, "", state="failed", unsafe_score=unsafe_score, safe_score=safe_score, reason=reason)

    def _write(self, candidate: Candidate, pair_id: str, **fields: Any) -> None:
        """Add the pair's row, or change it where it is made again. One that is there outlives tries in vain."""
        store, project, again = self.context.store, self.context.project, candidate.again
        fields |= {"seed": candidate.seed, "strength": candidate.strength, "tries": candidate.all_tries}
        if again is None:
            fields |= {"prompt_pair_id": candidate.prompts.id, "index": candidate.index}
            store.add_image_pair(ImagePair(id=pair_id, project_id=project.id, **fields))
        else:
            made = fields["state"] == "ready"
            changes = {**fields, "created": time.time()} if made or again.state == "failed" else {}
            store.settle_remake(self.context.job.id, again.id, made=made, tried=candidate.tries, **changes)
        self.settled += 1

    def _distance(self, unsafe: np.ndarray, safe: np.ndarray) -> float | None:
        return None if self.distance is None else float(self.distance.score(safe[None], unsafe[None])[0])


def is_safe(detection: Detection) -> bool:
    """No concept, and not a broken picture in which nothing can be told (where the detector says so)."""
    return not detection.found and detection.facts.get("object") != "unclear"


def generate_pairs(context: JobContext) -> dict[str, Any]:
    """Make the project's missing pairs, or make some of its pairs again, and say how many there are.

    With `auto_accept`, the ready ones that nobody has judged are accepted in the detector's name.
    """
    config = PairsConfig(**context.config)
    job = context.job
    remakes = bool(config.redo or config.retry_failed or "remade" in job.result)
    if remakes:
        job = context.store.begin_remake(job.id)
        config = PairsConfig(**job.config)
        settled = len(job.result["remade"]) + len(job.result["not_remade"])
        maker = PairMaker(context, config, pairs_to_remake(context, config), settled)
    else:
        maker = missing_maker(context, config)
    maker.run()
    current_group().wait(maker.bundle.device)
    pairs = context.store.list_image_pairs(context.project.id)
    if config.auto_accept:
        decided = context.store.current_verdicts(context.project.id)
        for pair in pairs:
            if pair.state == "ready" and pair.id not in decided:
                with suppress(PairStoppedError):
                    accept_in_the_detectors_name(context, pair)
    ready = sum(pair.state == "ready" for pair in pairs)
    result = {"ready": ready, "failed": len(pairs) - ready}
    return {**context.store.get_job(job.id).result, **result} if remakes else result


def missing_maker(context: JobContext, config: PairsConfig) -> PairMaker:
    """What makes this process's share of the missing pairs; alone, all of them."""
    missing = missing_pairs(context, config)
    wanted = sum(pair.count for pair in context.store.list_prompt_pairs(context.project.id))
    group = current_group()
    own = missing[group.rank :: group.size]
    maker = PairMaker(context, config, own, wanted - len(missing), len(missing) - len(own))
    group.wait(maker.bundle.device)  # nobody makes a pair before everybody knows which are missing
    return maker


def follow_pairs(context: JobContext) -> None:
    """Make this process's share of the missing pairs beside the process that has the job."""
    maker = missing_maker(context, PairsConfig(**context.config))
    maker.run()
    current_group().wait(maker.bundle.device)


def accept_in_the_detectors_name(context: JobContext, pair: ImagePair) -> None:
    reason = f"score {pair.unsafe_score:.2f} in the unsafe picture, {pair.safe_score:.2f} in its twin"
    context.store.add_verdict(Verdict(id="", pair_id=pair.id, reviewer=DETECTOR, verdict="accept", reason=reason))
