"""A training that is killed again and again ends with the very file of one that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from studio.jobs import submit
from studio.records import Project, PromptPair
from studio.settings import REPOSITORY, Settings
from studio.store import Store
from studio.workflow import generate_pairs, run_job
from tests.workflow_data import context_of

CONFIG = {"steps": 30, "batch_size": 3, "rank": 2, "alpha": 2.0, "sample_every": 0, "save_every": 2}


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{}, {"noise_bank": 2, "micro_batch_size": 2}], ids=["plain", "bank"])
def test_a_training_killed_at_every_moment_ends_with_the_same_file(
    store: Store, settings: Settings, tiny_folder: Path, project: Project, extra: dict[str, int]
) -> None:
    settings = replace(settings, toybox=tiny_folder, device="cpu", threads=1)
    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a cook", count=4)])
    making = {"steps": 2, "filter_by_detector": False, "auto_accept": True}
    generate_pairs(context_of(store, settings, project, "pairs", making))
    killed, alone = (
        submit(store, settings, "train", project.id, {"method": "duo", "config": {**CONFIG, **extra}}) for _ in range(2)
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_trainings", killed.id, "0", "12"],
        env=os.environ | settings.environment() | {"OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    moments = done.stdout.strip().splitlines()
    assert sum("killed" in moment for moment in moments) >= 8, done.stdout
    result = store.get_job(killed.id)
    assert result.state == "done", done.stdout + result.error
    whole = run_job(alone.id, settings)
    assert result.result["sha256"] == whole.result["sha256"], done.stdout
    assert len(store.list_checkpoints(project.id)) == 2
    folder = Path(store.get_checkpoint(result.result["checkpoint_id"]).path).parent
    assert [path.name for path in folder.iterdir()] == ["adapter.safetensors"]
