"""Making pairs on a random tiny checkpoint: what is kept, tried again or made again, what survives a stop or a kill."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from models.bundle import ModelBundle
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.loading import load_bundle
from studio.images import read_image, read_metadata
from studio.job_reports import JobReport
from studio.jobs import JobError, Runner, recover, resume, submit
from studio.methods.training import STATE_FILE
from studio.progress import Stopped, silent
from studio.records import ImagePair, Project, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext, WorkflowError
from studio.workflow.latents import latents_path, read_latents
from studio.workflow.pairs import generate_pairs
from studio.workflow.train import _chosen_pairs, train
from tests.conftest import make_tiny_bundle
from tests.workflow_data import PAIRS, context_of, make_project, stop_at, wait_for


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def project(store: Store) -> Project:
    return make_project(store)


def facts(pair: ImagePair) -> tuple[Any, ...]:
    return (pair.prompt_pair_id, pair.state, pair.seed, pair.strength, pair.tries, pair.unsafe_image, pair.safe_image)


def test_pairs_keep_what_the_detector_tells_apart(store: Store, settings: Settings, project: Project) -> None:
    result = generate_pairs(context_of(store, settings, project, "pairs", PAIRS))
    pairs = store.list_image_pairs(project.id)
    ready = [pair for pair in pairs if pair.state == "ready"]
    assert len(pairs) == 6 == result["ready"] + result["failed"]
    assert result["ready"] == len(ready) > 0
    for pair in ready:
        assert pair.unsafe_score >= 0.5 > pair.safe_score
        assert 1 <= pair.tries <= 6
    for pair in set(pairs) - set(ready):
        assert pair.tries == 6
        assert "In 6 tries" in pair.reason
    assert store.current_verdicts(project.id) == {}


def test_a_pair_is_two_pictures_and_their_latents(
    store: Store, settings: Settings, project: Project, tiny_bundle: ModelBundle
) -> None:
    generate_pairs(context_of(store, settings, project, "pairs", PAIRS))
    texts = {pair.id: pair for pair in store.list_prompt_pairs(project.id)}
    for pair in store.list_image_pairs(project.id, "ready"):
        assert_whole(settings, tiny_bundle, pair)
        latents = load_file(latents_path(settings, pair))
        text = read_metadata(settings, pair.safe_image)
        assert text["prompt"] == texts[pair.prompt_pair_id].safe
        assert text["negative_prompt"] == texts[pair.prompt_pair_id].unsafe
        assert text["strength"] == str(pair.strength)
        again = tiny_bundle.generate([texts[pair.prompt_pair_id].unsafe], [pair.seed], steps=4)
        assert torch.allclose(again.latents[0], latents["unsafe"], atol=1e-4)


def test_unsafe_pictures_without_the_concept_are_listed_with_the_reason(store: Store, settings: Settings) -> None:
    project = make_project(store, threshold=1.0)
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "max_tries": 2}))
    pairs = store.list_image_pairs(project.id)
    assert {pair.reason for pair in pairs} == {"In 2 tries the unsafe prompt showed no sword."}
    assert {pair.state for pair in pairs} == {"failed"}


def test_edits_that_never_help_raise_the_strength_up_to_the_cap(store: Store, settings: Settings) -> None:
    project = make_project(store, threshold=0.0)
    config = {**PAIRS, "strength": 0.7, "strength_step": 0.2, "seeds_per_strength": 2, "max_tries": 5}
    generate_pairs(context_of(store, settings, project, "pairs", config))
    pairs = store.list_image_pairs(project.id)
    assert {(pair.tries, pair.strength) for pair in pairs} == {(5, 1.0)}  # .7 .7 .9 .9 1.
    assert {pair.reason for pair in pairs} == {"In 5 tries no edit was without the sword and clear."}


def test_without_the_filter_every_first_try_is_kept(store: Store, settings: Settings, project: Project) -> None:
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "filter_by_detector": False}))
    assert {(p.state, p.tries, p.strength) for p in store.list_image_pairs(project.id)} == {("ready", 1, 0.7)}


def test_the_detector_accepts_what_nobody_has_judged(store: Store, settings: Settings, project: Project) -> None:
    generate_pairs(context_of(store, settings, project, "pairs", PAIRS))
    first, *others = store.list_image_pairs(project.id, "ready")
    store.add_verdict(Verdict("", first.id, "Ada", "reject"))
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "auto_accept": True}))
    assert [pair.id for pair in store.accepted_pairs(project.id)] == [pair.id for pair in others]
    assert {v.reviewer for v in store.current_verdicts(project.id).values()} == {"Ada", "detector"}


def test_stopped_pairs_go_on_and_end_as_if_never_stopped(store: Store, settings: Settings) -> None:
    stopped, whole = make_project(store), make_project(store)
    with pytest.raises(Stopped):
        generate_pairs(context_of(store, settings, stopped, "pairs", PAIRS, stop_at(1)))
    before = store.list_image_pairs(stopped.id)
    assert 0 < len(before) < 6
    for project in (stopped, whole):
        generate_pairs(context_of(store, settings, project, "pairs", PAIRS))
    after = store.list_image_pairs(stopped.id)
    assert after[: len(before)] == before
    outcomes = [
        {(texts[p.prompt_pair_id].seed, *facts(p)[1:]) for p in store.list_image_pairs(project.id)}
        for project in (stopped, whole)
        if (texts := {text.id: text for text in store.list_prompt_pairs(project.id)})
    ]
    assert outcomes[0] == outcomes[1]


def test_a_strength_that_repaints_nothing_is_refused_before_a_job(store: Store, settings: Settings) -> None:
    project = make_project(store, count=0)
    with pytest.raises(JobError, match=r"strength = 0\.2.*0\.2 of 4 steps repaints nothing.* 0\.25 or more"):
        submit(store, settings, "pairs", project.id, {**PAIRS, "strength": 0.2})


def test_pairs_without_prompts_say_what_to_do(store: Store, settings: Settings) -> None:
    project = make_project(store, count=0)
    with pytest.raises(WorkflowError, match="no prompt pairs; add some"):
        generate_pairs(context_of(store, settings, project, "pairs", PAIRS))


@pytest.mark.slow
def test_a_killed_worker_loses_no_finished_pair(store: Store, settings: Settings) -> None:
    project = make_project(store, count=12)
    job = submit(store, settings, "pairs", project.id, {**PAIRS, "steps": 8})
    runner = Runner(store, settings)
    runner.tick()
    wait_for(lambda: len(store.list_image_pairs(project.id)) >= 3)
    worker = store.get_job(job.id).pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: recover(store, settings))
    survived = store.list_image_pairs(project.id)
    assert store.get_job(job.id).state == "failed"
    assert 3 <= len(survived) < 12
    for pair in survived:
        if pair.state == "ready":
            assert set(load_file(latents_path(settings, pair))) == {"unsafe", "safe"}
            read_image(settings, pair.unsafe_image)
            read_image(settings, pair.safe_image)
    resume(store, settings, job.id)
    assert Runner(store, settings, interval=0.1).run_until_done(job.id).state == "done"
    assert len(store.list_image_pairs(project.id)) == 12
    assert store.list_image_pairs(project.id)[: len(survived)] == survived


# Stopping


def test_a_stop_is_answered_within_one_step(
    store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(store, settings, "pairs", project.id, {**PAIRS, "steps": 50, "batch_size": 6})
    calls = []
    predict = ModelBundle.predict

    def counted(self: ModelBundle, *values: Any) -> torch.Tensor:
        calls.append(0)
        if len(calls) == 7:
            store.request_stop(job.id)
        return predict(self, *values)

    monkeypatch.setattr(ModelBundle, "predict", counted)
    store.update_job(job.id, state="running")
    report = JobReport(store, job.id, interval=0)
    with pytest.raises(Stopped):
        generate_pairs(JobContext(store, settings, store.get_job(job.id), job.config, report))
    assert len(calls) == 7


def test_accepted_at_once_is_accepted_after_a_stop(store: Store, settings: Settings, project: Project) -> None:
    config = {**PAIRS, "auto_accept": True, "filter_by_detector": False}
    with pytest.raises(Stopped):
        generate_pairs(context_of(store, settings, project, "pairs", config, stop_at(1)))
    assert len(store.accepted_pairs(project.id)) == len(store.list_image_pairs(project.id)) == 3


# Making again

UNFILTERED = {**PAIRS, "filter_by_detector": False}


def latents_of(settings: Settings, pair: ImagePair) -> dict[str, torch.Tensor]:
    return load_file(latents_path(settings, pair))


def assert_whole(settings: Settings, bundle: ModelBundle, pair: ImagePair) -> None:
    """The latents that the row names are those of the pictures that it names."""
    latents = latents_of(settings, pair)
    for side, sha256 in (("unsafe", pair.unsafe_image), ("safe", pair.safe_image)):
        decoded = bundle.decode(latents[side][None])[0]
        assert np.abs(read_image(settings, sha256).astype(int) - decoded.astype(int)).max() <= 1


def with_the_first_name(settings: Settings, pair: ImagePair) -> None:
    """Lay the latents where they were before a pair could be made again."""
    latents_path(settings, pair).rename(settings.latents / f"{pair.id}.safetensors")


@pytest.fixture
def made(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    context = context_of(store, settings, project, "pairs", UNFILTERED)
    generate_pairs(context)
    store.update_job(context.job.id, state="done")  # else a runner would start it
    return store.list_image_pairs(project.id)


def test_a_pair_made_again_is_another_one_and_undecided(
    store: Store, settings: Settings, project: Project, made: list[ImagePair], tiny_bundle: ModelBundle
) -> None:
    before = made[2]
    with_the_first_name(settings, before)
    for reviewer, verdict in (("detector", "accept"), ("Ada", "skip"), ("Ada", "accept"), ("Ben", "reject")):
        store.add_verdict(Verdict("", before.id, reviewer, verdict))  # type: ignore[arg-type]
    old = latents_of(settings, before)
    context = context_of(store, settings, project, "pairs", {**UNFILTERED, "redo": [before.id]})
    result = generate_pairs(context)
    after = store.get_image_pair(before.id)
    assert {after.unsafe_image, after.safe_image}.isdisjoint({before.unsafe_image, before.safe_image})
    assert (after.tries, after.strength, after.index) == (2, 0.8, before.index)
    assert after.seed != before.seed
    assert after.version != before.version
    assert_whole(settings, tiny_bundle, after)
    read_image(settings, before.safe_image)
    assert all(torch.equal(value, old[side]) for side, value in latents_of(settings, before).items())
    assert store.current_verdicts(project.id) == {}
    undone = [v for v in store.list_verdicts(project.id) if v.verdict == "undo"]
    assert sorted(v.reviewer for v in undone) == ["Ada", "Ada", "Ben", "detector"]
    assert (result["remade"], result["not_remade"], result["ready"]) == ([before.id], {}, 6)
    assert store.get_job(context.job.id).config["redo"] == []
    others = [pair for pair in made if pair.id != before.id]
    assert [pair for pair in store.list_image_pairs(project.id) if pair.id != before.id] == others


def test_a_redo_makes_no_missing_pair(store: Store, settings: Settings, project: Project) -> None:
    with pytest.raises(Stopped):
        generate_pairs(context_of(store, settings, project, "pairs", UNFILTERED, stop_at(1)))
    first, *_ = store.list_image_pairs(project.id)
    generate_pairs(context_of(store, settings, project, "pairs", {**UNFILTERED, "redo": [first.id]}))
    assert len(store.list_image_pairs(project.id)) == 3


def test_a_redo_in_vain_leaves_the_pair_and_is_counted(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(store, count=1, threshold=0.0)
    generate_pairs(context_of(store, settings, project, "pairs", UNFILTERED))
    (before,) = store.list_image_pairs(project.id)
    accepted = store.add_verdict(Verdict("", before.id, "Ada", "accept"))
    seeds: list[int] = []
    generate = ModelBundle.generate

    def noted(self: ModelBundle, prompts: Any, asked: list[int], **options: Any) -> Any:
        seeds.extend(asked)
        return generate(self, prompts, asked, **options)

    monkeypatch.setattr(ModelBundle, "generate", noted)
    for _ in range(2):
        config = {**PAIRS, "max_tries": 2, "redo": [before.id]}
        result = generate_pairs(context_of(store, settings, project, "pairs", config))
        assert (result["remade"], result["not_remade"]) == ([], {before.id: 2})
    assert len(seeds) == len(set(seeds)) == 6  # an unsafe picture and two edits each: never the same again
    assert before.seed not in seeds
    assert store.get_image_pair(before.id) == before
    assert store.current_verdicts(project.id) == {before.id: accepted}


def test_failed_pairs_are_tried_again_with_fresh_seeds(store: Store, settings: Settings) -> None:
    project = make_project(store, count=3, threshold=1.0)
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "max_tries": 2}))
    first = store.list_image_pairs(project.id)
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "max_tries": 3, "retry_failed": True}))
    second = store.list_image_pairs(project.id)
    assert [pair.id for pair in second] == [pair.id for pair in first]
    assert {(pair.state, pair.tries) for pair in second} == {("failed", 5)}
    assert {pair.reason for pair in second} == {"In 3 more tries (5 in all) the unsafe prompt showed no sword."}
    result = generate_pairs(context_of(store, settings, project, "pairs", {**UNFILTERED, "retry_failed": True}))
    third = store.list_image_pairs(project.id)
    assert {(pair.state, pair.tries, pair.strength, pair.reason) for pair in third} == {("ready", 6, 0.7, "")}
    assert (result["ready"], result["failed"], len(result["remade"])) == (3, 0, 3)


def test_a_resumed_redo_does_nothing_twice(
    store: Store, settings: Settings, project: Project, made: list[ImagePair]
) -> None:
    job = submit(store, settings, "pairs", project.id, {**UNFILTERED, "redo": [pair.id for pair in made]})
    with pytest.raises(Stopped):
        generate_pairs(JobContext(store, settings, job, job.config, stop_at(1)))
    halfway = {pair.id: pair for pair in store.list_image_pairs(project.id)}
    job = store.get_job(job.id)
    done = set(job.result["remade"])
    assert len(done) == 3
    assert set(job.config["redo"]) == halfway.keys() - done
    result = generate_pairs(JobContext(store, settings, job, job.config, silent))
    after = {pair.id: pair for pair in store.list_image_pairs(project.id)}
    assert {key for key in after if after[key] == halfway[key]} == done
    assert len(result["remade"]) == 6
    again = generate_pairs(JobContext(store, settings, store.get_job(job.id), store.get_job(job.id).config, silent))
    assert again["remade"] == result["remade"]
    assert {pair.id: pair for pair in store.list_image_pairs(project.id)} == after


@pytest.mark.parametrize("first_name", [True, False])
def test_a_death_before_the_row_leaves_the_old_pair_whole(
    store: Store,
    settings: Settings,
    project: Project,
    made: list[ImagePair],
    tiny_bundle: ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
    first_name: bool,
) -> None:
    if first_name:
        with_the_first_name(settings, made[0])

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "settle_remake", die)
    with pytest.raises(KeyboardInterrupt):
        generate_pairs(context_of(store, settings, project, "pairs", {**UNFILTERED, "redo": [made[0].id]}))
    assert store.get_image_pair(made[0].id) == made[0]
    assert_whole(settings, tiny_bundle, made[0])
    assert len(list(settings.latents.glob(f"{made[0].id}*"))) == 2


@pytest.mark.slow
def test_a_killed_redo_leaves_each_pair_whole(
    store: Store, settings: Settings, project: Project, made: list[ImagePair], tiny_bundle: ModelBundle
) -> None:
    asked = [pair.id for pair in made]
    job = submit(store, settings, "pairs", project.id, {**UNFILTERED, "steps": 16, "batch_size": 1, "redo": asked})
    runner = Runner(store, settings)
    runner.tick()
    wait_for(lambda: store.get_job(job.id).result.get("remade"))
    worker = store.get_job(job.id).pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: recover(store, settings))
    killed = store.get_job(job.id)
    old = {pair.id: pair for pair in made}
    changed = {pair.id for pair in store.list_image_pairs(project.id) if pair != old[pair.id]}
    assert changed == set(killed.result["remade"]) == set(asked) - set(killed.config["redo"])
    assert 0 < len(changed) < 6
    for pair in store.list_image_pairs(project.id):
        assert_whole(settings, tiny_bundle, pair)
    resume(store, settings, job.id)
    ended = Runner(store, settings, interval=0.1).run_until_done(job.id)
    assert ended.state == "done"
    assert sorted(ended.result["remade"]) == sorted(asked)
    assert {pair.tries for pair in store.list_image_pairs(project.id)} == {2}


def test_a_pair_of_another_project_is_not_made_again(store: Store, settings: Settings, made: list[ImagePair]) -> None:
    other = make_project(store)
    with pytest.raises(WorkflowError, match=f"pair {made[0].id} is not one of project 'Sword'"):
        generate_pairs(context_of(store, settings, other, "pairs", {**PAIRS, "redo": [made[0].id]}))


# Latents


def test_latents_of_another_checkpoint_are_refused(settings: Settings, made: list[ImagePair]) -> None:
    before = latents_of(settings, made[0])
    own = fingerprint_of(load_bundle("toybox", device="cpu", toybox=settings.toybox))
    unsafe, safe = read_latents(settings, made[0], own)
    assert torch.equal(unsafe, before["unsafe"])
    assert torch.equal(safe, before["safe"])
    with pytest.raises(WorkflowError, match=r"made with another checkpoint .* make the pairs again"):
        read_latents(settings, made[0], fingerprint_of(make_tiny_bundle(seed=1)))
    with safe_open(latents_path(settings, made[0]), "pt") as file:
        assert file.metadata() == {FINGERPRINT: own}
    latents_path(settings, made[0]).write_bytes(save(before))  # as they were written before
    read_latents(settings, made[0], "any")


def test_a_resumed_training_keeps_the_pictures_it_began_with(
    store: Store, settings: Settings, project: Project, made: list[ImagePair]
) -> None:
    for pair in made:
        store.add_verdict(Verdict("", pair.id, "Ada", "accept"))
    duo = {"steps": 4, "batch_size": 2, "rank": 2, "alpha": 2.0, "save_every": 1, "sample_every": 0}
    begun = context_of(store, settings, project, "train", {"method": "duo", "config": duo}, stop_at(3))
    with pytest.raises(Stopped):
        train(begun)
    assert (begun.training_folder / STATE_FILE).is_file()
    generate_pairs(context_of(store, settings, project, "pairs", {**UNFILTERED, "redo": [made[0].id]}))
    job = store.get_job(begun.job.id)
    chosen = _chosen_pairs(replace(begun, job=job, config=job.config, report=silent))
    assert [pair.safe_image for pair in chosen] == [pair.safe_image for pair in made]
    assert store.get_image_pair(made[0].id).safe_image != made[0].safe_image
    assert len(store.accepted_pairs(project.id)) == 5
