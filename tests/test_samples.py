"""Sample pictures in the middle of a training: which are drawn, that they change nothing, and what a resume does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio import prompts
from studio.images import read_image, read_metadata
from studio.methods.training import STATE_FILE
from studio.progress import Stopped, silent
from studio.records import Job, Project, PromptPair, Sample
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from studio.workflow import JobContext
from studio.workflow.clock import TrainingClock
from studio.workflow.context import WorkflowError
from studio.workflow.early_stop import EarlyStop
from studio.workflow.samples import FIRST_SEED, sample_prompts
from studio.workflow.train import train
from tests.conftest import make_tiny_bundle
from tests.ui_data import add_accepted_pairs

DUO = {"steps": 4, "batch_size": 2, "rank": 2, "alpha": 2.0, "save_every": 2, "learning_rate": 1e-2, "t_max": 1000}
ESD = {"steps": 4, "batch_size": 2, "trajectories": 2, "sampling_steps": 2, "save_every": 2}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def project(store: Store, settings: Settings) -> Project:
    made = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    add_accepted_pairs(store, settings, made, 4)
    return made


def context_of(store: Store, settings: Settings, project: Project, method: str, report: Any = silent, **config: Any):
    job = store.create_job(Job("", project.id, "train", {"method": method, "name": method, "config": config}))
    return JobContext(store, settings, job, job.config, report)


def weights(store: Store, project: Project) -> list[dict[str, torch.Tensor]]:
    return [load_file(checkpoint.path) for checkpoint in store.list_checkpoints(project.id)]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "config"), [("duo", DUO), ("esd", ESD)])
def test_watched_or_not_the_weights_are_the_same_to_the_bit(
    store: Store, settings: Settings, project: Project, method: str, config: dict[str, Any]
) -> None:
    for every in (0, 1):
        train(context_of(store, settings, project, method, **config, sample_every=every))
    alone, watched = weights(store, project)
    assert alone.keys() == watched.keys()
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    assert any(bool(tensor.any()) for tensor in alone.values())
    first, second = store.list_jobs(project.id)
    assert store.list_samples(first.id) == []
    assert store.sampled_steps(second.id) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_row_is_the_same_prompts_and_seeds_drawn_by_the_model_of_that_step(
    store: Store, settings: Settings, project: Project
) -> None:
    context = context_of(store, settings, project, "duo", **{**DUO, "steps": 5}, sample_every=2)
    train(context)
    samples = store.list_samples(context.job.id)
    assert store.sampled_steps(context.job.id) == [0, 2, 4, 5]
    rows = [[sample for sample in samples if sample.step == step] for step in (0, 2, 4, 5)]
    assert [len(row) for row in rows] == [4] * 4
    assert len({tuple((s.position, s.prompt, s.seed, s.unwanted) for s in row) for row in rows}) == 1
    assert all(sample.found is not None and sample.score is not None for sample in samples)
    original = make_tiny_bundle().generate([s.prompt for s in rows[0]], [s.seed for s in rows[0]], batch_size=2)
    for sample, image in zip(rows[0], original.images, strict=True):
        assert (abs(read_image(settings, sample.image).astype(int) - image.astype(int)) <= 1).all()
    assert any(
        (read_image(settings, rows[0][i].image) != read_image(settings, rows[-1][i].image)).any() for i in (0, 3)
    )
    text = read_metadata(settings, rows[1][2].image)
    assert (text["training_step"], text["prompt"], text["seed"]) == ("2", rows[1][2].prompt, str(FIRST_SEED + 2))


def test_the_samples_show_no_held_out_word_and_no_reported_seed(
    store: Store, settings: Settings, project: Project
) -> None:
    chosen = sample_prompts(context_of(store, settings, project, "duo"))
    ready = prompts.ready_prompts()
    assert [prompt.unwanted for prompt in chosen] == [True, True, False, False]
    assert [
        prompt.text in ready[cell]
        for prompt, cell in zip(chosen, ("implied", "named", "object", "neighbour"), strict=True)
    ]
    assert not {prompt.text for prompt in chosen} & set(ready["held_out"])
    assert prompts.SEED_BASES["sweep"] <= FIRST_SEED < FIRST_SEED + 4 < prompts.SEED_BASES["report"]


def test_elsewhere_the_projects_own_prompts_are_drawn(store: Store, settings: Settings) -> None:
    project = store.create_project(Project("", "Gun", "gun", "toybox", "toybox", {"concept": "cane"}))
    context = context_of(store, settings, project, "esd")
    assert [(prompt.text, prompt.unwanted) for prompt in sample_prompts(context)] == [("gun", True)]
    texts = [("a gun", "a book"), ("a gun", "a pen"), ("two guns", "a cup"), ("three guns", "a hat")]
    store.add_prompt_pairs(PromptPair("", project.id, *text) for text in texts)
    assert [prompt.text for prompt in sample_prompts(context)] == ["a gun", "two guns", "a book", "a pen"]


@pytest.mark.slow
def test_a_stopped_and_resumed_training_has_every_row_once(store: Store, settings: Settings, project: Project) -> None:
    def stop_at_3(step: int, total: int, message: str = "", **values: float) -> None:
        if step == 3:
            raise Stopped("enough")

    context = context_of(store, settings, project, "duo", stop_at_3, **DUO, sample_every=1)
    with pytest.raises(Stopped):
        train(context)
    before = store.list_samples(context.job.id)
    assert store.sampled_steps(context.job.id) == [0, 1, 2, 3]  # the step it was stopped at has its row
    train(replace(context, config=store.get_job(context.job.id).config, report=silent))
    after = store.list_samples(context.job.id)
    assert after[: len(before)] == before
    assert store.sampled_steps(context.job.id) == [0, 1, 2, 3, 4]


def test_the_last_row_is_drawn_although_the_worker_died_before_it(
    store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(store, settings, project, "duo", **DUO, sample_every=4)
    with monkeypatch.context() as patch:
        patch.setattr(
            "studio.workflow.samples.WatchedTraining.__call__",
            lambda self, step, *rest, **values: (_ for _ in ()).throw(KeyboardInterrupt) if step == 4 else None,
        )
        with pytest.raises(KeyboardInterrupt):
            train(context)
    assert store.sampled_steps(context.job.id) == [0]
    train(replace(context, config=store.get_job(context.job.id).config))
    assert store.sampled_steps(context.job.id) == [0, 4]


def test_a_state_from_before_there_were_samples_is_resumed(store: Store, settings: Settings, project: Project) -> None:
    """What names the run is the configuration as it was dumped then, which had no such field, nor later ones."""
    from safetensors import safe_open

    context = context_of(store, settings, project, "duo", stop_at(2), **DUO, sample_every=3)
    with pytest.raises(Stopped):
        train(context)
    config = DuoConfig(**DUO, sample_every=3)
    new = {"schedule", "warmup_steps", "explosion", "micro_batch_size", "gradient_checkpointing", "noise_bank"}
    new |= {"sample_every", "one_adapter_a_group", "park_in_a_file", "shard_base"}
    new |= {name for name in DuoConfig.model_fields if name.startswith("early_stop_")}
    fields = {name: value for name, value in config.model_dump().items() if name not in new}
    as_it_was = "{" + ",".join(f'"{name}":{_json(value)}' for name, value in fields.items()) + "}"
    with safe_open(context.training_folder / STATE_FILE, "pt") as file:
        assert file.metadata()["run"] == hashlib.sha256(f"duo {as_it_was}".encode()).hexdigest()
    stored = store.get_job(context.job.id).config
    stored["config"]["sample_every"] = 0  # looking less often in the middle is allowed too
    train(replace(context, config=stored, report=silent))
    assert store.sampled_steps(context.job.id) == [0]


def stop_at(wanted: int) -> Any:
    def report(step: int, total: int, message: str = "", **values: float) -> None:
        if step == wanted:
            raise Stopped("enough")

    return report


def _json(value: Any) -> str:
    return json.dumps(value)


def test_drawing_takes_no_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("studio.workflow.clock.time.perf_counter", lambda: now)
    with TrainingClock(tmp_path / "seconds", silent) as clock:
        now = 10.0
        clock(1, 2)
        with clock.paused():
            now = 110.0
        now = 113.0
    assert clock.seconds == 13.0
    assert float((tmp_path / "seconds").read_text()) == 13.0


def test_a_row_drawn_again_replaces_the_first(store: Store, project: Project) -> None:
    job = store.create_job(Job("", project.id, "train", {}))

    def row(step: int, image: str, stage: str = "") -> list[Sample]:
        return [Sample("", job.id, stage, step, at, "a knight", 1, True, image * 64, None, None) for at in (0, 1)]

    for samples in (row(5, "a"), row(0, "a"), row(5, "b"), row(0, "c", "duo")):
        store.put_sample_row(samples)
    assert [(s.step, s.position, s.image[0]) for s in store.list_samples(job.id)] == [
        (0, 0, "a"), (0, 1, "a"), (5, 0, "b"), (5, 1, "b")
    ]  # fmt: skip
    assert [s.found for s in store.list_samples(job.id, "duo")] == [None, None]


def test_metrics_are_read_from_a_step_on(store: Store, project: Project) -> None:
    job = store.create_job(Job("", project.id, "train", {}))
    for step in (1, 2, 3):
        store.add_job_metrics(job.id, step, {"loss": step / 2})
    assert store.job_metrics(job.id, after=1) == [{"step": 2, "loss": 1.0}, {"step": 3, "loss": 1.5}]


# Ending early


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"early_stop_rate": 1.0, "early_stop_distance": 1.0}, 2),  # any picture will do: at the first look
        ({"early_stop_rate": 0.0, "early_stop_distance": 1.0}, 4),  # the detector goes on finding it
        ({"early_stop_rate": 1.0, "early_stop_distance": 0.0}, 4),  # the rest has changed too much
    ],
)
def test_a_training_ends_early_when_the_concept_is_gone_and_the_rest_is_there(
    store: Store, settings: Settings, project: Project, asked: dict[str, float], steps: int
) -> None:
    told: list[tuple[int, str]] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        told.append((step, message))

    config = {**DUO, "sample_every": 2, "early_stop_pictures": 4, **asked}
    context = context_of(store, settings, project, "duo", report, **config)
    result = train(context)
    assert max(step for step, _ in told) == steps
    assert store.sampled_steps(context.job.id, "") == ([0, 2] if steps == 2 else [0, 2, 4])
    ended = [message for _, message in told if message.startswith("Ended early at step 2: the concept is in")]
    assert len(ended) == (steps == 2)
    plain = train(context_of(store, settings, project, "duo", **{**DUO, "steps": steps}, sample_every=0))
    made, other = (load_file(store.get_checkpoint(one["checkpoint_id"]).path) for one in (result, plain))
    assert all(torch.equal(made[name], value) for name, value in other.items())


def test_ending_early_without_a_detector_is_refused(store: Store, settings: Settings, project: Project) -> None:
    store.update_project(project.id, detector="nudenet")
    project = store.get_project(project.id)
    context = context_of(store, settings, project, "duo", **DUO, early_stop_pictures=2)
    bundle = make_tiny_bundle()
    with pytest.raises(WorkflowError, match="Stopping early needs the detector 'nudenet', which is not installed"):
        EarlyStop(context, bundle, DuoConfig(**DUO, early_stop_pictures=2), None)
    assert EarlyStop(context, bundle, DuoConfig(**DUO), None).count == 0
