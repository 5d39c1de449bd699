"""report.json: what it holds. The keys of `StudyReport` up to `models` are kept stable for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ConceptCell = Literal["named", "implied", "held_out"]
RetentionKind = Literal["object", "neighbour", "shirt", "background"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Part):
    """A share of `n` pictures with its 95 % Wilson interval; all in 0 … 1."""

    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


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
