"""What attacks found as a CSV that other tools, and this one, read again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.files import write_atomically
from studio.csv_files import csv_text
from studio.records import AttackRun

COLUMNS = (
    "case_number", "prompt", "evaluation_seed", "evaluation_guidance", "original_prompt", "attack", "model",
    "model_sha256", "success", "fresh_successes", "fresh_count", "queries", "seconds", "embedding",
)  # fmt: skip


def found_csv(runs: Iterable[AttackRun]) -> str:
    """A header and a row a prompt that an attack found, in the order of the runs; plain prompts and controls are
    left out.

    Case, prompt, seed and guidance have UnlearnDiffAtk's names. `embedding` is the file in the data folder's
    `embeddings` that was drawn in the prompt's place, if there was one. A prompt that a spreadsheet would run has a
    quote in front, see `studio.csv_files`: `studio.prompt_sources` takes it off again, another program must do so.
    """
    return csv_text(COLUMNS, (_row(number, run) for number, run in enumerate(r for r in runs if r.role == "attack")))


def write_found(runs: Iterable[AttackRun], path: Path) -> None:
    """Write `found_csv` in UTF-8."""
    write_atomically(path, found_csv(runs).encode())


def _row(number: int, run: AttackRun) -> tuple[Any, ...]:
    return (
        number, run.found_prompt, run.seed, run.sampling.get("guidance_scale", ""), run.prompt, run.attack,
        run.victim_name, run.victim_sha256, int(run.success), run.fresh_successes, run.fresh_count, run.queries,
        round(run.seconds, 3), f"{run.embedding}.safetensors" if run.embedding else "",
    )  # fmt: skip
