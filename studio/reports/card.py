"""The model card of an export: README.md as the Hugging Face hub reads it, of facts alone. Torch-free.

Whatever a person typed, a concept's name say, is written so that it is text in Markdown and in HTML and nothing else:
the template prints every value through `as_text` unless it is marked as Markup here.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from studio.reports.attacks import AttackSummary
from studio.reports.schema import ModelReport, Rate, StudyReport
from studio.reports.words import cell_help, count, interval, percent, retention_title, shown_cell

FORMATS = {
    "merged": "Merged into the weights, a diffusers folder",
    "single-file": "Merged into the weights, one file in the original layout",
    "lora": "LoRA for diffusers",
    "kohya": "LoRA for ComfyUI and A1111",
}
MERGED = ("merged", "single-file")
SENSITIVE_TAG = "not-for-all-audiences"
_MEANT = re.compile(r"[^\w ,.–-]|_|(?<!\d)\.(?=\S)|\.(?=[^\s\d])")  # a dot may make a link, if not in a number


@dataclass(frozen=True)
class Base:
    """The checkpoint that was changed."""

    name: str  # as shown to people
    repository: str = ""  # "owner/name" on the hub, "" where it is not from there
    revision: str = ""
    sha256: str = ""  # of its weights


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    base: Base
    concept: str
    method: str  # its name, "duo"
    method_title: str
    paper: str
    kind: str  # "lora" | "weights"
    part: str  # the pipeline's name of the network that was changed
    format: str  # a key of FORMATS
    dtype: str
    main_file: str  # that other programs load, "" for a folder
    pipeline: str  # diffusers' class
    files: Mapping[str, tuple[int, str]]  # of weights: size in bytes and SHA-256 by name
    config: Mapping[str, Any]  # effective
    adapter_sha256: str
    software: str
    pairs: int = 0
    pairs_sha256: str = ""
    train_seconds: float = 0.0
    rank: str = ""
    alpha: str = ""
    imported: str = ""  # the file that it came in as, "" where it was trained here
    composed: Sequence[tuple[str, float, str]] = ()  # of a sum: name, weight and SHA-256 of each adapter in it
    transport: bool = False  # Facilitated Transport, which these files do not have
    sensitive: bool = False
    report: StudyReport | None = None  # the newest one that this model is in
    attacks: Sequence[AttackSummary] = field(default_factory=list)


def render_card(facts: CardFacts) -> str:
    """README.md with its front matter."""
    environment = Environment(
        loader=PackageLoader("studio.reports", "templates"),
        autoescape=False,  # it knows HTML alone; see finalize
        finalize=lambda value: value if isinstance(value, Markup) else as_text(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("model_card.md").render(
        facts=facts,
        front_matter=Markup(front_matter(facts)),
        format_title=FORMATS[facts.format],
        merged=facts.format in MERGED,
        # Our own words, and names that are checked where they are made: owner/name, slugs, classes.
        repository=Markup(facts.base.repository),
        pipeline=Markup(facts.pipeline),
        paper=Markup(facts.paper),
        main_file=Markup(facts.main_file),
        config_folder=Markup(facts.main_file.removesuffix(".safetensors")),
        measured=_measured(facts),
        rate=_rate,
        value=_value,
        code=lambda name: Markup(f"`{name}`"),
        size=lambda count: f"{count:,} bytes",
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def front_matter(facts: CardFacts) -> str:
    """The YAML that the hub reads. The licence is the base's, so none is claimed here."""
    tags = ["duo-studio", "machine-unlearning", "concept-erasure", "text-to-image", facts.method]
    tags += ["lora"] if facts.format not in MERGED else []
    tags += [SENSITIVE_TAG] if facts.sensitive else []
    data: dict[str, Any] = {}
    if facts.base.repository:
        relation = "finetune" if facts.format in MERGED else "adapter"
        data |= {"base_model": facts.base.repository, "base_model_relation": relation}
    data |= {"library_name": "diffusers", "pipeline_tag": "text-to-image", "tags": tags}
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in data.items())  # JSON is YAML


def as_text(value: Any) -> str:
    """Text that neither Markdown nor HTML takes for anything else, on one line: signs with a meaning are entities."""
    line = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") else sign for sign in str(value))
    return _MEANT.sub(lambda found: f"&#{ord(found[0])};", line)


@dataclass(frozen=True)
class Measured:
    """An evaluation's figures of this model beside the original's."""

    report: StudyReport
    model: ModelReport
    rows: list[tuple[Markup, Rate | None, Rate]]  # measure, the original's rate, this model's


def _measured(facts: CardFacts) -> Measured | None:
    """None where no evaluation has this model."""
    if facts.report is None:
        return None
    model = model_in(facts.report, facts.adapter_sha256)
    if model is None:
        return None
    original = facts.report.models["original"]
    rows: list[tuple[Markup, Rate | None, Rate]] = []
    for cell, rate in model.concept_rate.items():
        title = Markup(f"Shows the concept: {as_text(shown_cell(cell))}. {cell_help(cell)}")
        rows.append((title, original.concept_rate.get(cell), rate))
    for cell, rate in model.broken_rate.items():
        if rate.rate:
            title = Markup(f"The detector recognises nothing: {as_text(shown_cell(cell))}.")
            rows.append((title, original.broken_rate.get(cell), rate))
    for kind, rate in model.retention.items():
        rows.append((Markup(as_text(retention_title(kind))), original.retention.get(kind), rate))
    return Measured(facts.report, model, rows)


def model_in(report: StudyReport, adapter_sha256: str) -> ModelReport | None:
    """The figures of the model with this adapter."""
    return next((one for one in report.models.values() if one.sha256 == adapter_sha256), None)


def _rate(rate: Rate | None) -> Markup:
    """ "1.5 % (0.5–4.3), n = 200"."""
    return Markup("–" if rate is None else f"{percent(rate.rate)} ({interval(rate)}), {count(rate.n, rate.prompts)}")


def _value(value: Any) -> str:
    """A configuration's value in words."""
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
