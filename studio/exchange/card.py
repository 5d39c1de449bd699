"""README.md of a set that is taken out: what it is, how it was made and judged, and what nobody has checked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from studio import __version__

if TYPE_CHECKING:
    from studio.exchange.taking import Form, Selection

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FILES = {
    "imagefolder": "configs:\n- config_name: pairs\n  default: true\n  drop_labels: true\n  data_files:\n"
    "  - split: train\n    path:\n    - metadata.jsonl\n    - unsafe/*\n    - safe/*\n",
    "parquet": "configs:\n- config_name: pairs\n  default: true\n  data_files: data/*.parquet\n",
}
_COLUMNS = """
| column | what it is |
|---|---|
| `unsafe`, `safe` | the two pictures: with the concept, and without it |
| `unsafe_prompt`, `safe_prompt` | what they were made from, or came with; may be empty |
| `decision`, `decided_by`, `decided_at`, `reason` | the decision that counts, of a person or of the detector |
| `origin` | `made`: both by the model; `brought`: both from outside; `twin`: the safe one by the model |
| `unsafe_score`, `safe_score` | the detector's confidence that the concept is there, 0 to 1 |
| `distance` | LPIPS between the two, where it was measured |
| `strength`, `tries`, `seed` | of the edit that made the safe picture |
| `unsafe_sha256`, `safe_sha256` | SHA-256 of the PNG files, which `verdicts.jsonl` names too |
"""


def write_card(selection: Selection, form: Form) -> str:
    """The card in Markdown, with the front matter that the Hub reads."""
    project, count = selection.project, len(selection.pairs)
    size = next((name for most, name in SIZES if count < most), "n>1M")
    sensitive = project.blur or project.detector == "nudenet"
    tags = ["machine-unlearning", "preference-pairs", "duo-studio", *["not-for-all-audiences"] * sensitive]
    front = (
        f"---\npretty_name: {_quoted(f'Safe and unsafe pairs: {project.concept}')}\nlicense: unknown\n"
        f"task_categories:\n- text-to-image\nsize_categories:\n- {size}\ntags:\n"
        + "".join(f"- {tag}\n" for tag in tags)
        + f"{_FILES[form]}---\n"
    )
    return (
        f"{front}\n# {_plain(f'Safe and unsafe pairs: {project.concept}')}\n\n{_what(selection)}\n{_made(selection)}\n"
    )


def _what(selection: Selection) -> str:
    project, count = selection.project, len(selection.pairs)
    which = {"accepted": "accepted", "decided": "accepted and rejected", "all": "ready"}[selection.which]
    blurred = (
        "\n**Content:** the unsafe pictures were chosen because they show what their model shall forget.\n"
        if project.blur or project.detector == "nudenet"
        else ""
    )
    return (
        f"{count:,} {which} pair{'' if count == 1 else 's'} of pictures: one shows the concept "
        f"“{_plain(project.concept)}”, its twin shows the same scene without it. They are made for DUO (Direct "
        "Unlearning Optimization, https://arxiv.org/abs/2407.21035) and other preference training that makes a "
        f"text-to-image model forget the concept.\n{blurred}{_COLUMNS}\n`verdicts.jsonl` is the audit log: every "
        "decision that was ever taken in this project, undone ones and undos included, also on pairs that are not in "
        "the set.\n"
    )


def _made(selection: Selection) -> str:
    project = selection.project
    origins = Counter[str](one.pair.origin for one in selection.pairs)
    decisions = Counter(one.verdict.verdict if one.verdict else "no decision" for one in selection.pairs)
    people = Counter(selection.people[one.verdict.reviewer] for one in selection.pairs if one.verdict)
    return (
        "## How it was made\n\n"
        f"- Model: {_code(project.checkpoint)}; origin of the pairs: {_counts(origins)}.\n"
        f"- Detector: {_code(project.detector)}, settings {_code(str(project.detector_settings))}.\n"
        f"- Decisions: {_counts(decisions)}; by {_counts(people) or 'nobody'}.\n"
        f"- Written by DUO Studio {__version__}.\n\n"
        "## What nobody has checked\n\n"
        "The licence is yours to set: pictures of a model are under its licence's terms, pictures from outside under "
        "their owners'. Whether people who can be recognised agreed to this use is not known here.\n"
    )


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{_plain(name)} {number:,}" for name, number in found.most_common())


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!" else c for c in " ".join(text.split()))


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def _quoted(text: str) -> str:
    """A text as YAML's double-quoted string."""
    return '"' + " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"') + '"'
