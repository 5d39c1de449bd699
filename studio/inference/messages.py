"""What the page and the inference worker say to each other, one JSON object a line. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelChoice:
    """One column: a checkpoint, with or without an adapter on it."""

    label: str  # as shown, e.g. "DUO"
    checkpoint_ref: str  # "toybox", "toybox:oracle", a folder, "owner/name@revision" …
    adapter_path: str | None = None  # a safetensors file
    adapter_sha256: str | None = None  # what the file must be; None: whatever it is
    scale: float = 1.0  # 1 is the adapter as trained


@dataclass(frozen=True)
class Found:
    """What an attack found in the place of a prompt."""

    prompt: str  # that is drawn with it
    embedding: str  # SHA-256 of its file among the data folder's embeddings


@dataclass(frozen=True)
class RenderRequest:
    """Every prompt with every seed, by every model. Raises ValueError where there is nothing to draw."""

    models: list[ModelChoice]
    prompts: list[str]
    seeds: list[int]
    steps: int = 20
    guidance_scale: float = 4.0
    detector: str = ""  # a name from studio.metrics.DETECTORS; "" asks for no verdict
    detector_settings: dict[str, Any] = field(default_factory=dict)
    project: str = ""  # the id of the project that asks; its pictures say so, and are blurred where it blurs
    found: dict[str, Found] = field(default_factory=dict)  # of prompts that are names for what an attack found

    def __post_init__(self) -> None:
        for name in ("models", "prompts", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"There are no {name} to draw; give at least one.")
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise ValueError(f"Seed {seed} is out of range; use a whole number from 0 to 2^63 - 1.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; use 1 or more.")
        if not 1 <= self.guidance_scale < math.inf:  # what is no number ends the worker, and everybody's pictures
            raise ValueError(f"guidance_scale is {self.guidance_scale}; use 1 (no guidance) or more.")

    @property
    def pictures(self) -> int:
        """How many pictures are asked for in all."""
        return len(self.models) * len(self.prompts) * len(self.seeds)


@dataclass(frozen=True)
class Cell:
    """One picture, or the reason why there is none."""

    model: int  # index into RenderRequest.models
    prompt: str
    seed: int
    image: str = ""  # path of the PNG file, which carries its metadata; "" where there is an error
    sha256: str = ""  # of the PNG file
    found: bool | None = None  # the detector's verdict; None: it was not asked, or could not answer
    score: float | None = None  # 0 … 1
    labels: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    adapter_sha256: str | None = None  # as read from disk for this very picture; None without an adapter
    seconds: float = 0.0  # sampling time, its batch's share
    error: str = ""


@dataclass(frozen=True)
class CutOffRequest:
    """Prompts whose ends the checkpoint's text encoder may not see."""

    checkpoint: str
    prompts: list[str]


@dataclass(frozen=True)
class CutOff:
    """What the text encoder does not see of each prompt; "" where it sees all."""

    words: list[str]


@dataclass(frozen=True)
class Progress:
    """How far a request is; `cells` are those finished since the last one."""

    message: str  # "loading the checkpoint toybox", "DUO: sampling 3 of 8"
    done: int = 0  # pictures
    total: int = 0
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True)
class RenderResult:
    """All cells of a request: by prompt, then seed, then model, so that a row of a grid is one prompt and seed."""

    cells: list[Cell]
    detector: str = ""  # name, version and settings
    detector_error: str = ""  # why there are pictures but no verdicts

    def cell(self, model: int, prompt: str, seed: int) -> Cell:
        return next(c for c in self.cells if (c.model, c.prompt, c.seed) == (model, prompt, seed))


def encode(kind: str, request_id: str, body: Any = None) -> bytes:
    """One line. `kind` is render, cut_off, prewarm or cancel one way; progress, result, words or error the other."""
    message = {"type": kind, "id": request_id, "body": body if body is None or isinstance(body, str) else asdict(body)}
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> tuple[str, str, Any]:
    """Kind, request id, and the dataclass (or text) of one line."""
    message = json.loads(line)
    kind, body = message["type"], message["body"]
    if kind == "render":
        models = [ModelChoice(**model) for model in body.pop("models")]
        found = {name: Found(**one) for name, one in body.pop("found").items()}
        body = RenderRequest(models=models, found=found, **body)
    elif kind == "cut_off":
        body = CutOffRequest(**body)
    elif kind == "words":
        body = CutOff(**body)
    elif kind in ("progress", "result"):
        cells = [Cell(**cell) for cell in body.pop("cells")]
        body = (Progress if kind == "progress" else RenderResult)(cells=cells, **body)
    return kind, message["id"], body
