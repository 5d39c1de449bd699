"""What attacks found as a CSV that other tools, and this one, read again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from models.files import write_atomically
from studio.records import AttackRun

COLUMNS = (
    "case_number", "prompt", "evaluation_seed", "evaluation_guidance", "original_prompt", "attack", "model",
    "model_sha256", "success", "fresh_successes", "fresh_count", "queries", "seconds", "embedding",
)  # fmt: skip


def found_csv(runs: Iterable[AttackRun]) -> str:
    """A header and a row a prompt that an attack found, in the order of the runs; plain prompts and controls are
    left out.

    Case, prompt, seed and guidance have UnlearnDiffAtk's names. `embedding` is the file in the data folder's
    `embeddings` that was drawn in the prompt's place, if there was one.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number, run in enumerate(run for run in runs if run.role == "attack"):
        rows.writerow(
            (
                number, run.found_prompt, run.seed, run.sampling.get("guidance_scale", ""), run.prompt, run.attack,
                run.victim_name, run.victim_sha256, int(run.success), run.fresh_successes, run.fresh_count, run.queries,
                round(run.seconds, 3), f"{run.embedding}.safetensors" if run.embedding else "",
            )
        )  # fmt: skip
    return text.getvalue()


def write_found(runs: Iterable[AttackRun], path: Path) -> None:
    """Write `found_csv` in UTF-8."""
    write_atomically(path, found_csv(runs).encode())
