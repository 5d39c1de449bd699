"""Trackers get a training's numbers and nothing else, and no training ends because of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from studio.jobs import submit
from studio.method_configs import METHOD_CONFIGS, ConceptAblationConfig, ForgetMeNotConfig
from studio.progress import silent
from studio.records import Job, Project
from studio.settings import Settings
from studio.store import Store
from studio.workflow import run_job
from studio.workflow.tracking import Tracking, without_texts

ESD = {"steps": 3, "batch_size": 2, "trajectories": 2, "sampling_steps": 2, "sample_every": 0, "prompts": ["a knight"]}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Iterator[Settings]:
    yield replace(settings, toybox=tiny_folder, trackers=("tensorboard",))
    AcceleratorState._reset_state(reset_partial_state=True)  # of this process, which other tests share


def trained(store: Store, settings: Settings, project: Project) -> Job:
    job = submit(store, settings, "train", project.id, {"method": "esd", "name": "A knight", "config": ESD})
    done = run_job(job.id, settings)
    assert done.state == "done", done.error
    return done


def test_tensorboard_has_the_numbers_of_the_job_and_no_text(store: Store, settings: Settings, project: Project) -> None:
    job = trained(store, settings, project)
    folder = settings.tracked / "tensorboard" / f"esd-{job.id}"
    events = EventAccumulator(str(folder)).Reload()
    told = {(event.step, tag): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
    rows = {(row["step"], name): row[name] for row in store.job_metrics(job.id) for name in row if name != "step"}
    assert told == pytest.approx(rows)
    assert {"loss"} <= {name for _, name in told}
    assert {step for step, _ in told} == {1, 2, 3}
    parameters = next(folder.rglob("hparams.yml")).read_text()
    assert "learning_rate: 5.0e-05" in parameters
    assert "variant: esd-x" in parameters
    assert "family: sd1" in parameters

    written = b"".join(file.read_bytes() for file in settings.tracked.rglob("*") if file.is_file()).lower()
    assert written
    for text in ("knight", project.name, project.concept, str(settings.data), str(settings.toybox)):
        assert text.lower().encode() not in written


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_configurations_go_without_their_texts(name: str) -> None:
    sent = without_texts(METHOD_CONFIGS[name]())
    assert not any(isinstance(value, list) for value in sent.values())
    assert sent
    assert "template" not in without_texts(ForgetMeNotConfig())
    assert without_texts(ConceptAblationConfig(prompts=["x"], anchor_prompts=["y"]))["layers"] == "attn2-kv"


def test_nothing_is_tracked_unasked(settings: Settings) -> None:
    with Tracking(replace(settings, trackers=()), "run", METHOD_CONFIGS["duo"](), {}, silent) as tracking:
        tracking(1, 5, loss=1.0)
    assert not settings.tracked.exists()


def test_a_tracker_that_is_missing_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    told: list[tuple[int, int, str]] = []
    report = lambda step, total, message="", **values: told.append((step, total, message))  # noqa: E731
    with Tracking(replace(settings, trackers=("wandb",)), "run", METHOD_CONFIGS["duo"](), {}, report) as tracking:
        tracking(1, 120, loss=1.0)
    words = "The tracker wandb is not installed, so it gets no numbers: pip install wandb."
    assert told == [(0, 120, words), (1, 120, "")]
    assert words in capsys.readouterr().out


def test_a_tracker_that_cannot_start_ends_nothing(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.tracked.write_text("a file where the folder should be")
    trained(store, settings, project)
    assert "The tracker tensorboard failed and gets no more numbers: FileExistsError" in capsys.readouterr().out


def test_a_tracker_that_fails_on_the_way_is_left_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, str]] = []
    calls: list[int] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        told.append((step, total, message))

    def fail(self: Any, values: dict[str, float], step: int, **options: Any) -> None:
        calls.append(step)
        raise ConnectionError("no route to the tracker")

    with Tracking(settings, "run", METHOD_CONFIGS["duo"](), {}, report) as tracking:
        monkeypatch.setattr(accelerate.tracking.TensorBoardTracker, "log", fail)
        tracking(1, 5, loss=1.0)
        tracking(2, 5, "two", loss=1.0)
    words = "The tracker tensorboard failed and gets no more numbers: ConnectionError: no route to the tracker"
    assert told == [(1, 5, words), (1, 5, ""), (2, 5, "two")]
    assert calls == [1]
