"""The pictures of an evaluation: each is a file named by what made it (weights, prompt, seed, sampling).

So a stopped evaluation goes on where it was, and the next one of the project draws only what is new to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.adapters import WeightDelta, applied, check_base, checked_sha256, load_delta
from models.bundle import ModelBundle
from models.files import write_atomically
from models.fingerprint import fingerprint_of
from models.specs import without_place
from studio import __version__
from studio.attacks.base import AttackInput, draw
from studio.attacks.embeddings import load_embedding
from studio.configs import EvaluateConfig
from studio.images import png_bytes
from studio.methods.parallel import Group
from studio.prompts import EvaluationItem
from studio.records import Checkpoint
from studio.workflow.attack_judging import nearby
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext


@dataclass(frozen=True)
class Ready:
    """A model ready to draw."""

    contestant: Contestant
    bundle: ModelBundle
    weights: str  # what identifies them


@dataclass(frozen=True)
class Batch:
    """Some of a model's pictures: which of its items, and what they look like."""

    rows: range
    images: np.ndarray  # [len(rows), H, W, 3]


class Drawer:
    """Draws what has no file yet; `done` of `total` pictures lie behind a model."""

    def __init__(self, context: JobContext, config: EvaluateConfig, total: int) -> None:
        self.context, self.config, self.total = context, config, total
        self.folder = context.settings.drawn / context.project.id
        self.bundles: dict[str, ModelBundle] = {}

    @contextmanager
    def ready(self, contestant: Contestant, done: int) -> Iterator[Ready]:
        """The model with its adapter on it."""
        bundle = self.bundle(contestant.reference, done)
        fingerprint = fingerprint_of(bundle)
        if contestant.checkpoint is None:
            yield Ready(contestant, bundle, fingerprint)
            return
        delta, sha256 = _adapter(contestant.checkpoint)
        scaled = f" x {contestant.scale!r}" if contestant.scale != 1 else ""
        with applied(bundle, delta, contestant.scale):
            yield Ready(contestant, bundle, f"{fingerprint} {sha256}{scaled}")

    def bundle(self, reference: str, done: int = 0) -> ModelBundle:
        if reference not in self.bundles:
            self.bundles[reference] = self.context.load_bundle(reference, done, self.total)
        return self.bundles[reference]

    def check_adapters(self, contestants: Sequence[Contestant]) -> None:
        """Refuse an adapter that will not be drawn with before the first picture, not after an hour."""
        for contestant in contestants:
            if contestant.checkpoint is not None:
                check_base(self.bundle(contestant.reference), _adapter(contestant.checkpoint)[0])

    def batches(self, ready: Ready, items: Sequence[EvaluationItem], done: int, group: Group) -> Iterator[Batch]:
        """The pictures of the items, some at a time; in a group of processes this one's share."""
        size, label = self.config.batch_size, ready.contestant.label
        paths = [self.path(ready.weights, item) for item in items]
        for start in range(0, len(items), size)[group.rank :: group.size]:
            self.context.report(done + start, self.total, f"{label}: picture {start} of {len(items)}")
            rows = range(start, min(start + size, len(items)))
            yield Batch(rows, self._pictures(ready, items, rows, paths))

    def path(self, weights: str, item: EvaluationItem) -> Path:
        made_of = [weights, item.prompt, item.seed, self.config.steps, self.config.guidance_scale]
        made_of += [item.embedding, item.near] if item.embedding else []
        return self.folder / f"{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]}.png"

    def _pictures(
        self, ready: Ready, items: Sequence[EvaluationItem], rows: range, paths: Sequence[Path]
    ) -> np.ndarray:
        """The pictures [len(rows), H, W, 3], from their files where they are there."""
        found = {row: image for row in rows if (image := read_if_whole(paths[row], items[row])) is not None}
        missing = [row for row in rows if row not in found]
        if missing:
            made = self._made(ready.bundle, [items[row] for row in missing])
            for row, image in zip(missing, made, strict=True):
                write_atomically(paths[row], png_bytes(image, self._facts(ready, items[row])), sync=False)
                found[row] = image  # the file is one of thousands; a damaged one is drawn again
        return np.stack([found[row] for row in rows])

    def _made(self, bundle: ModelBundle, items: Sequence[EvaluationItem]) -> np.ndarray:
        prompts, seeds, config = [item.prompt for item in items], [item.seed for item in items], self.config
        if any(item.embedding for item in items):
            return draw(bundle, [self._input(bundle, item) for item in items], seeds, config)
        return bundle.generate(
            prompts, seeds, steps=config.steps, guidance_scale=config.guidance_scale, batch_size=config.batch_size
        ).images

    def _input(self, bundle: ModelBundle, item: EvaluationItem) -> AttackInput:
        """What is drawn in the prompt's place, as this model takes it."""
        if not item.embedding:
            return AttackInput(item.prompt)
        found = load_embedding(self.context.settings.embeddings, item.embedding, item.prompt, bundle)
        return nearby(bundle, found, item.seed) if item.near else found

    def _facts(self, ready: Ready, item: EvaluationItem) -> dict[str, object]:
        """What made a picture, for its PNG text."""
        model, config = ready.contestant, self.config
        facts: dict[str, object] = {
            "prompt": item.prompt,
            "seed": item.seed,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "model": model.label,
            "checkpoint": without_place(model.reference),
            "software": f"DUO Studio {__version__}",
        }
        if item.embedding:
            facts["embedding_sha256"] = item.embedding
        if model.checkpoint:
            facts["adapter_sha256"] = model.checkpoint.sha256
            facts |= {"adapter_scale": model.scale} if model.scale != 1 else {}
        return facts


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_if_whole(path: Path, item: EvaluationItem) -> np.ndarray | None:
    """The picture, or None where it is missing, damaged or another one, and must be drawn (again)."""
    try:
        with Image.open(path) as image:
            image.verify()  # every checksum: without it some damage shows only as other colours
        with Image.open(path) as image:
            told = getattr(image, "text", {})
            is_its = (told.get("prompt"), told.get("seed")) == (item.prompt, str(item.seed))
            return np.asarray(image.convert("RGB")) if is_its else None
    except (OSError, SyntaxError, ValueError):  # Pillow's words for damage
        return None


def _adapter(checkpoint: Checkpoint) -> tuple[WeightDelta, str]:
    """The adapter and the SHA-256 of its file as it is now. Raises LoadError where it is not the one that was saved."""
    path = Path(checkpoint.path)
    sha256 = checked_sha256(path, checkpoint.sha256)
    return load_delta(path), sha256
