"""One pair's unsafe picture edited at several strengths with one seed: a strip of twins to pick one from.

Each edit is written as it is made, picture and latents beside those of the pair, then its row; a resumed job makes what
is missing.
"""

from __future__ import annotations

from typing import Any

from models.fingerprint import fingerprint_of
from studio import __version__
from studio.configs import StrengthsConfig
from studio.images import put_image, read_image
from studio.metrics import best_distance
from studio.objectives.sdedit import start_index
from studio.prompts import SEEDS_A_RANGE
from studio.records import Edit, ImagePair
from studio.workflow.candidates import EDIT_OFFSET
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.latents import read_latents, set_aside, write_latents


def try_strengths(context: JobContext) -> dict[str, Any]:
    """Edit the pair at every strength. Raises WorkflowError where it has no pictures or a strength does nothing."""
    config = StrengthsConfig(**context.config)
    pair = context.store.get_image_pair(config.pair)
    if pair.project_id != context.project.id or pair.state != "ready":
        raise WorkflowError(f"The pair {pair.id} has no pictures in project {context.project.name!r}; take another.")
    strengths = sorted(set(config.strengths))
    if start_index(config.steps, strengths[0]) == config.steps:
        raise WorkflowError(
            f"strength {strengths[0]:g} of {config.steps} steps repaints nothing. Use {1 / config.steps:g} or more."
        )
    seed = config.seed if config.seed is not None else (pair.seed + EDIT_OFFSET) % SEEDS_A_RANGE
    context.save_effective({**config.model_dump(), "strengths": strengths, "seed": seed})
    done = {edit.position for edit in context.store.list_edits(context.job.id)}
    if 0 not in done:
        _add(context, pair, 0, pair.safe_image, pair.strength, None, pair.safe_score, pair.distance)
    maker = _Maker(context, config, pair, seed, len(strengths))
    for position, strength in enumerate(strengths, 1):
        if position not in done:
            maker.edit(position, strength)
    context.report(len(strengths), len(strengths), f"{len(strengths)} strengths")
    return {"edits": len(strengths)}


class _Maker:
    """Edits the one picture."""

    def __init__(self, context: JobContext, config: StrengthsConfig, pair: ImagePair, seed: int, total: int) -> None:
        self.context, self.config, self.pair, self.seed, self.total = context, config, pair, seed, total
        prompts = {one.id: one for one in context.store.list_prompt_pairs(context.project.id)}
        self.prompts = prompts[pair.prompt_pair_id]
        self.bundle = context.load_bundle(total=total)
        self.fingerprint = fingerprint_of(self.bundle)
        self.unsafe, _ = read_latents(context.settings, pair, self.fingerprint)
        self.shown = read_image(context.settings, pair.unsafe_image)
        self.detector = context.load_detector()
        distance, _ = best_distance()
        self.distance = distance if distance.name.startswith("lpips") else None
        set_aside(context.settings, pair)

    def edit(self, position: int, strength: float) -> None:
        config, context, prompts = self.config, self.context, self.prompts

        def tell() -> None:
            context.report(position - 1, self.total, f"strength {strength:g}")

        tell()
        made = self.bundle.generate(
            [prompts.safe],
            [self.seed],
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            batch_size=1,
            negative_prompts=[prompts.unsafe],
            init_latents=self.unsafe[None],
            strength=strength,
            before_step=tell,
        )
        facts = {
            "prompt": prompts.safe,
            "negative_prompt": prompts.unsafe,
            "checkpoint": context.project.checkpoint,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "seed": self.pair.seed,
            "strength": strength,
            "edit_seed": self.seed,
            "software": f"DUO Studio {__version__}",
        }
        image = put_image(context.settings, made.images[0], facts)
        write_latents(context.settings, self.pair.id, image, self.unsafe, made.latents[0], self.fingerprint)
        (seen,) = self.detector.detect(made.images)
        distance = None if self.distance is None else float(self.distance.score(made.images, self.shown[None])[0])
        _add(context, self.pair, position, image, strength, self.seed, seen.score, distance)


def _add(
    context: JobContext,
    pair: ImagePair,
    position: int,
    image: str,
    strength: float,
    seed: int | None,
    score: float,
    distance: float | None,
) -> None:
    edit = Edit("", context.job.id, pair.id, position, pair.unsafe_image, image, strength, seed, score, distance)
    context.store.add_edit(edit)
