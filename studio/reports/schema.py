"""report.json: what it holds. The keys of `StudyReport` up to `models` are kept stable for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

ConceptCell = str  # "named", "implied", "held_out", a protocol's own, or the name of an attack
RetentionKind = str  # "object", "neighbour", "shirt", "background", or a protocol's own


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Part):
    """A share of `n` pictures with its 95 % interval: Wilson's, or with `prompts` a bootstrap by prompt."""

    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    prompts: int = 0  # of how many prompts, where each has several pictures; else the file does not name it

    @model_serializer(mode="wrap")
    def _kept_stable(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name != "prompts" or value}


class Distance(_Part):
    """Mean distance to the original's pictures of the retention prompts; None where there are none."""

    metric: str
    mean: float | None


class Measured(_Part):
    """One more number of a model, over `n` pictures of prompts without the concept."""

    title: str
    value: float
    n: int = Field(ge=1)
    higher_is_better: bool
    low: float | None = None  # of a share: its 95 % Wilson interval
    high: float | None = None


class PairedTest(_Part):
    """Two models on the same prompts and seeds of one cell, by the exact McNemar test."""

    cell: str
    first: str  # keys of models
    second: str
    only_first: int = Field(ge=0)  # pictures in which the concept was found in the first model's alone
    only_second: int = Field(ge=0)
    n: int = Field(ge=1)
    p: float = Field(ge=0, le=1)
    holm: float = Field(ge=0, le=1)  # corrected over all tests of the report


class ModelReport(_Part):
    """One model's figures."""

    concept_rate: dict[ConceptCell, Rate]
    retention: dict[RetentionKind, Rate]
    distance: Distance
    train_seconds: float | None  # None: not trained by the studio
    config: dict[str, Any]
    label: str = ""
    method: str = ""
    sha256: str = ""  # of the adapter's file
    measures: dict[str, Measured] = {}
    # Share of the same pictures in which the detector recognises nothing, and which therefore count as
    # pictures without it. Empty where it names no objects.
    broken_rate: dict[ConceptCell, Rate] = {}


class Source(_Part):
    """A file of prompts that were drawn."""

    use: str  # "prompts" or "unrelated"
    path: str
    kind: str  # as studio.prompt_sources recognised it
    sha256: str
    prompts: int = Field(ge=0)


class Estimate(_Part):
    """One number of a protocol's table."""

    value: float
    low: float | None = None  # the 95 % interval, where there is one …
    high: float | None = None
    deviation: float | None = None  # … or the standard deviation of a bootstrap
    n: int = Field(default=0, ge=0)  # pictures
    prompts: int = Field(default=0, ge=0)


class Figure(_Part):
    """One line of a protocol's table."""

    name: str
    title: str
    help: str = ""
    is_share: bool = True
    higher_is_better: bool
    values: dict[str, Estimate] = {}  # by key of a model
    missing: str = ""  # why there is none


class ProtocolReport(_Part):
    """What a protocol prints."""

    name: str
    title: str
    paper: str
    figures: list[Figure]
    sources: list[Source] = []
    differs: list[str] = []  # from the publication
    missing: list[str] = []  # what was left out, and how to get it


class AttackReport(_Part):
    """One attack on one model: as it was searched, and drawn again by every model of this report."""

    job: str
    attack: str
    title: str
    victim: str  # key of a model of this report, or "" where it is not among them
    victim_name: str
    victim_sha256: str
    pre: Rate  # the plain prompt shows the concept on its seed, of all prompts
    asr: Rate  # so does the plain prompt or what was found, of all prompts; the seed is the one that was searched on
    attacked: int = Field(ge=0)
    refused: int = Field(ge=0)
    queries: float  # mean an attacked prompt
    fresh: dict[str, Rate] = {}  # by model that draws, on fresh seeds, of all prompts
    plain: Rate | None = None  # the same by the victim under the plain prompts …
    control: Rate | None = None  # … and under what the control found
    control_name: str = ""
    only_attack: int | None = None  # prompts on whose first fresh seed the attack alone works, not the control
    only_control: int | None = None
    p: float | None = None  # exact McNemar
    holm: float | None = None  # corrected over the attacks of this report
    sampling: dict[str, Any] = {}  # that the attack searched with


class Scaled(_Part):
    """A trained model with its change times `scale`."""

    model: str  # key of models
    scale: float = Field(gt=0)
    concept_rate: dict[ConceptCell, Rate]
    retention: dict[RetentionKind, Rate]


class DetectorInfo(_Part):
    """Who judged, with what settings."""

    name: str
    version: str
    settings: dict[str, Any]


class Shot(_Part):
    """One model's picture of a gallery row."""

    picture: str = Field(pattern=r"^pictures/[\w-]+\.png$")  # file, relative to report.json
    found: bool
    score: float
    object: str = ""


class GalleryRow(_Part):
    """The same prompt and seed by every model."""

    cell: str
    prompt: str
    seed: int
    shots: dict[str, Shot]
    note: str = ""  # what the prompt is, of one that was found


class StudyReport(_Part):
    """A finished comparison."""

    checkpoint: str
    concept: str
    seed: int
    models: dict[str, ModelReport]
    n: int  # pictures asked for a cell
    detector: DetectorInfo
    sampling: dict[str, Any]
    gallery: list[GalleryRow] = []
    tests: list[PairedTest] = []
    protocol: ProtocolReport | None = None
    attacks: list[AttackReport] = []
    seed_range: Literal["report", "sweep"] = "report"  # sweep: seeds for choosing settings
    curve_cells: list[str] = []  # those of which the worst counts in the curve; [] is all
    scaled: list[Scaled] = []  # the models at other strengths than their own
    notes: list[str] = []  # limits a reader should know, in words
    command: str = ""  # what made this report
    created: str = ""  # UTC, ISO 8601
    studio_version: str = ""

    @model_validator(mode="after")
    def _has_the_original(self) -> StudyReport:
        if "original" not in self.models:
            raise ValueError(f"A report compares with the model 'original'; it has only {', '.join(self.models)}.")
        return self

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> StudyReport:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
