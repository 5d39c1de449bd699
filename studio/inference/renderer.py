"""Draws what Compare asks for, keeping the last few checkpoints, adapters and prompt embeddings in memory.

Every adapter's file is hashed anew for every request, and a file that is not the expected one makes no picture.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from models.adapters import WeightDelta, applied, checked_sha256, load_delta
from models.bundle import ModelBundle
from models.loading import load_bundle
from models.specs import LoadError, parse_reference
from studio import __version__
from studio.attacks.base import AttackError, AttackInput
from studio.attacks.embeddings import load_embedding
from studio.images import image_path, put_image
from studio.inference.messages import Cell, Found, ModelChoice, Progress, RenderRequest, RenderResult
from studio.metrics import get_detector
from studio.metrics.base import Detection, Detector, MetricUnavailable
from studio.refusal import RefusedError, refused_one
from studio.settings import Settings

KEEP_CHECKPOINTS = 3
KEEP_DELTAS = 8
KEEP_DETECTORS = 4
KEEP_PROMPTS = 1024
CPU_BATCH = 4  # pictures sampled between two words of progress
GPU_BATCH = 16  # a GPU needs more to be busy

V = TypeVar("V")


class Recent(Generic[V]):
    """The last few things that were made, by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[Any, V] = OrderedDict()

    def get(self, key: Any, make: Callable[[], V]) -> V:
        if key not in self._items:
            while len(self._items) >= self._limit:
                self._items.popitem(last=False)  # before the new one is made: memory may hold no more
            self._items[key] = make()
        self._items.move_to_end(key)
        return self._items[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._items


@dataclass(frozen=True)
class Loaded:
    """A checkpoint and its prompts' embeddings [1, L, D]; they come and go together."""

    bundle: ModelBundle
    embeddings: Recent[torch.Tensor] = field(default_factory=lambda: Recent(KEEP_PROMPTS))

    def embed(self, prompt: str, encoder: str = "") -> torch.Tensor:
        """Each prompt is encoded by itself, so that its company never changes its picture.

        `encoder` tells the text encoder as an adapter has changed it from the checkpoint's own, "".
        """
        return self.embeddings.get((encoder, prompt), lambda: self.bundle.encode_prompt([prompt]))


class Say(Protocol):
    """Tells how far one column is: pictures done, and cells that are ready to be shown. May raise to stop."""

    def __call__(self, message: str, done: int = 0, ready: Sequence[Cell] = ()) -> None: ...


class Renderer:
    """Draws requests, keeping what the next one will need again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._checkpoints: Recent[Loaded] = Recent(KEEP_CHECKPOINTS)
        self._deltas: Recent[WeightDelta] = Recent(KEEP_DELTAS)
        self._detectors: Recent[Detector] = Recent(KEEP_DETECTORS)

    def load(self, checkpoint: str, say: Say | None = None) -> Loaded:
        """The checkpoint, loaded now or before. Raises LoadError."""
        settings, toybox = self._settings, self._settings.toybox
        key = (checkpoint, _newest_file(checkpoint, toybox))
        if key not in self._checkpoints and say is not None:
            say(f"loading the checkpoint {checkpoint}")
        return self._checkpoints.get(
            key, lambda: Loaded(load_bundle(checkpoint, device=settings.device, toybox=toybox, dtype=settings.dtype))
        )

    def cut_off(self, checkpoint: str, prompts: Sequence[str]) -> list[str]:
        """The end of each prompt that the checkpoint's text encoder does not see. Raises LoadError."""
        return self.load(checkpoint).bundle.cut_off(prompts)

    def render(self, request: RenderRequest, tell: Callable[[Progress], None]) -> RenderResult:
        """All cells. `tell` may raise to stop.

        Raises ValueError for a detector that there is not, RefusedError for a prompt that is not drawn.
        """
        texts = [request.found[one].prompt if one in request.found else one for one in request.prompts]
        if (reason := refused_one(texts)) is not None:
            raise RefusedError(reason)
        detector, problem = self._detector(request)
        cells: list[Cell] = []
        for index, model in enumerate(request.models):
            say = _sayer(tell, model.label, len(cells), request.pictures)
            try:
                column, drawn = self._draw(index, model, request, say)
            except (LoadError, AttackError) as error:
                column = [replace(cell, error=str(error)) for cell in _blank_cells(index, request)]
                say("cannot be drawn", len(column), column)
            else:
                if detector is not None:
                    say("asking the detector", len(column))
                verdicts, failure = _verdicts(detector, drawn)
                problem = problem or failure
                column = [
                    self._keep(cell, model, request, image, detector, verdict)
                    for cell, image, verdict in zip(column, drawn, verdicts, strict=True)
                ]
                say("done", len(column), column)
            cells += column
        return RenderResult(_by_row(cells, request), _describe(detector) if detector else "", problem)

    def _draw(self, index: int, model: ModelChoice, request: RenderRequest, say: Say) -> tuple[list[Cell], np.ndarray]:
        """One model's pictures [N, H, W, 3] and their cells, still without verdict and file. Raises LoadError."""
        delta, sha256 = self._delta(model, say)
        loaded = self.load(model.checkpoint_ref, say)
        bundle = loaded.bundle
        cells = _blank_cells(index, request)
        prompts = [cell.prompt for cell in cells]
        say(f"sampling 0 of {len(cells)}")
        texts = [request.found[prompt].prompt if prompt in request.found else prompt for prompt in prompts]
        encoder = "" if delta is None or delta.part == bundle.family.denoiser else f"{sha256} x {model.scale!r}"
        started = time.perf_counter()
        with applied(bundle, delta, model.scale):
            found = {name: self._found(one, bundle) for name, one in request.found.items()}  # by its own text encoder
            embeds = torch.cat(
                [_embeds(loaded, found.get(prompt), text, encoder) for prompt, text in zip(prompts, texts, strict=True)]
            )
            drawn = bundle.generate(
                texts,
                [cell.seed for cell in cells],
                prompt_embeds=embeds,
                start_latents=_starts(bundle, cells, found),
                steps=request.steps,
                guidance_scale=request.guidance_scale,
                batch_size=CPU_BATCH if bundle.device.type == "cpu" else GPU_BATCH,
                on_batch=lambda done, total: say(f"sampling {done} of {total}", done),
            )
        seconds = (time.perf_counter() - started) / len(cells)
        return [replace(cell, adapter_sha256=sha256, seconds=seconds) for cell in cells], drawn.images

    def _found(self, one: Found, bundle: ModelBundle) -> AttackInput:
        """Raises AttackError where the file is missing, or of another text encoder or size of pictures."""
        found = load_embedding(self._settings.embeddings, one.embedding, one.prompt, bundle)
        start = found.start_latents
        if start is not None and tuple(start.shape) != bundle.latent_shape:
            raise AttackError(
                f"The start latents {one.embedding[:8]} are {tuple(start.shape)}, but {bundle.spec.name} has "
                f"{bundle.latent_shape}. Draw them by a model of the checkpoint they were found on."
            )
        return found

    def _delta(self, model: ModelChoice, say: Say) -> tuple[WeightDelta | None, str | None]:
        """The adapter and the SHA-256 of its file as it is now. Raises LoadError where it is not the expected one."""
        if model.adapter_path is None:
            return None, None
        path = Path(model.adapter_path)
        found = checked_sha256(path, model.adapter_sha256)
        if found not in self._deltas:
            say("loading the adapter")
        return self._deltas.get(found, lambda: load_delta(path)), found

    def _detector(self, request: RenderRequest) -> tuple[Detector | None, str]:
        if not request.detector:
            return None, ""
        wanted = request.detector, request.detector_settings
        key = json.dumps(wanted, sort_keys=True)
        toybox = self._settings.toybox
        try:
            return self._detectors.get(key, lambda: get_detector(*wanted, toybox)), ""
        except MetricUnavailable as error:
            return None, str(error)

    def _keep(
        self,
        cell: Cell,
        model: ModelChoice,
        request: RenderRequest,
        image: np.ndarray,
        detector: Detector | None,
        verdict: Detection | None,
    ) -> Cell:
        """The cell with its verdict and its PNG file, which says by itself what it shows."""
        metadata: dict[str, Any] = {
            "prompt": cell.prompt,
            "embedding": request.found[cell.prompt].embedding if cell.prompt in request.found else None,
            "seed": cell.seed,
            "steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "checkpoint": model.checkpoint_ref,
            "model": model.label,
            "adapter": model.adapter_path and Path(model.adapter_path).name,
            "adapter_sha256": cell.adapter_sha256,
            "adapter_scale": model.scale if model.adapter_path else None,
            "project": request.project or None,
            "Software": f"DUO Studio {__version__}",
        }
        if detector is not None and verdict is not None:
            word = "found" if verdict.found else "not found"
            metadata["detector"] = _describe(detector)
            metadata["detector_verdict"] = f"{word} ({verdict.score:.3f})"
            cell = replace(cell, found=verdict.found, score=verdict.score, labels=verdict.labels, facts=verdict.facts)
        sha256 = put_image(self._settings, image, metadata)
        return replace(cell, sha256=sha256, image=str(image_path(self._settings, sha256)))


def _embeds(loaded: Loaded, found: AttackInput | None, text: str, encoder: str) -> torch.Tensor:
    """Embeddings [1, L, D] of a prompt, or what an attack found in its place."""
    if found is None or found.embeds is None:
        return loaded.embed(text, encoder)
    return found.embeds.to(loaded.bundle.device).unsqueeze(0)


def _starts(bundle: ModelBundle, cells: Sequence[Cell], found: dict[str, AttackInput]) -> torch.Tensor | None:
    """Start latents [N, C, h, w] of cells, the seeds' noise where none were found; None where that is all of them."""
    starts = {name: one.start_latents for name, one in found.items() if one.start_latents is not None}
    if not starts:
        return None
    noise = bundle.noise([cell.seed for cell in cells])
    return torch.stack([starts.get(cell.prompt, noise[row]) for row, cell in enumerate(cells)])


def _newest_file(checkpoint: str, toybox: Path) -> int:
    """When a local checkpoint's weights last changed, in ns, so that one saved anew is loaded anew; 0 for the hub."""
    reference = parse_reference(checkpoint)
    if reference.kind == "hub":
        return 0
    place = toybox if reference.kind == "toybox" else Path(reference.location)
    files = place.rglob("*.safetensors") if place.is_dir() else [place]
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)


def _sayer(tell: Callable[[Progress], None], label: str, before: int, total: int) -> Say:
    def say(message: str, done: int = 0, ready: Sequence[Cell] = ()) -> None:
        tell(Progress(f"{label}: {message}", before + done, total, list(ready)))

    return say


def _describe(detector: Detector) -> str:
    return f"{detector.name} {detector.version} {json.dumps(detector.settings, sort_keys=True)}"


def _blank_cells(index: int, request: RenderRequest) -> list[Cell]:
    return [Cell(index, prompt, seed) for prompt in request.prompts for seed in request.seeds]


def _by_row(cells: list[Cell], request: RenderRequest) -> list[Cell]:
    """Columns, one after the other, turned into rows."""
    height = len(request.prompts) * len(request.seeds)
    return [cells[column * height + row] for row in range(height) for column in range(len(request.models))]


def _verdicts(detector: Detector | None, images: np.ndarray) -> tuple[list[Detection] | list[None], str]:
    """One verdict a picture, and why there are none."""
    if detector is None:
        return [None] * len(images), ""
    try:
        return detector.detect(images), ""
    except MetricUnavailable as error:
        return [None] * len(images), str(error)
