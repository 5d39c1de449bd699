"""One pair at several strengths: what a job makes, the pick of one, and what becomes of it when the pair changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of
from models.loading import load_bundle
from studio.duplicates import looks
from studio.images import image_path, read_image, read_metadata
from studio.jobs import Runner
from studio.progress import Stopped
from studio.purging import plan, purge
from studio.records import ImagePair, Job, PairStop, Project, Verdict
from studio.settings import Settings
from studio.stopping import purge_pair, stop_pair
from studio.store import PairChangedError, Store, StoreError
from studio.ui.strengths import strength_routes
from studio.ui.veils import REVEAL
from studio.workflow import WorkflowError
from studio.workflow.latents import read_latents
from studio.workflow.pairs import generate_pairs
from studio.workflow.strengths import try_strengths
from tests.curation_data import agree
from tests.workflow_data import PAIRS, context_of, make_project, stop_at

STRENGTHS = [0.5, 0.75, 1.0]
SMALL = {"steps": 4, "strengths": STRENGTHS}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def bundle(settings: Settings) -> ModelBundle:
    return load_bundle("toybox", device="cpu", toybox=settings.toybox)


@pytest.fixture
def project(store: Store) -> Project:
    return make_project(store, count=1)


@pytest.fixture
def pair(store: Store, settings: Settings, project: Project) -> ImagePair:
    generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "filter_by_detector": False}))
    (pair,) = store.list_image_pairs(project.id, "ready")
    return pair


def tried(store: Store, settings: Settings, project: Project, pair: ImagePair, **more: Any) -> Job:
    context = context_of(store, settings, project, "strengths", {**SMALL, "pair": pair.id, **more})
    try_strengths(context)
    return store.get_job(context.job.id)


def test_a_strip_is_the_twin_and_an_edit_a_strength_from_one_seed(
    store: Store, settings: Settings, project: Project, pair: ImagePair, bundle: ModelBundle
) -> None:
    job = tried(store, settings, project, pair)
    before, *edits = store.list_edits(job.id)
    assert (before.image, before.strength, before.position) == (pair.safe_image, pair.strength, 0)
    assert [edit.strength for edit in edits] == STRENGTHS
    assert {edit.seed for edit in edits} == {job.config["seed"]}
    assert len({edit.image for edit in edits}) == 3
    unsafe, _ = read_latents(settings, pair, fingerprint_of(bundle))
    for edit in edits:
        kept = replace(pair, safe_image=edit.image)
        same, latents = read_latents(settings, kept, fingerprint_of(bundle))
        assert torch.equal(same, unsafe)
        decoded = bundle.decode(latents[None])[0]
        assert np.abs(decoded.astype(int) - read_image(settings, edit.image).astype(int)).max() <= 1
        text = read_metadata(settings, edit.image)
        assert (text["strength"], text["edit_seed"]) == (str(edit.strength), str(edit.seed))
    assert store.get_image_pair(pair.id) == pair


def test_more_strength_goes_further_from_the_unsafe_picture(
    store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    job = tried(store, settings, project, pair, strengths=[0.25, 1.0])
    unsafe = read_image(settings, pair.unsafe_image).astype(float)
    _, weak, strong = store.list_edits(job.id)
    far = [np.abs(read_image(settings, edit.image).astype(float) - unsafe).mean() for edit in (weak, strong)]
    assert far[0] < far[1]


def test_a_stopped_job_makes_what_is_missing(
    store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    whole = store.list_edits(tried(store, settings, project, pair).id)
    context = context_of(store, settings, project, "strengths", {**SMALL, "pair": pair.id}, stop_at(1))
    with pytest.raises(Stopped):
        try_strengths(context)
    assert len(store.list_edits(context.job.id)) == 2
    resumed = replace(context, report=lambda *_, **__: None, config=store.get_job(context.job.id).config)
    try_strengths(resumed)
    assert [edit.image for edit in store.list_edits(context.job.id)] == [edit.image for edit in whole]


def test_a_pick_is_the_pairs_twin_and_can_be_taken_back(
    store: Store, settings: Settings, project: Project, pair: ImagePair, bundle: ModelBundle
) -> None:
    assert pair.looks == looks(read_image(settings, pair.unsafe_image), read_image(settings, pair.safe_image))
    store.add_verdict(Verdict("", pair.id, "Ann", "reject"))
    before, edit, *_ = store.list_edits(tried(store, settings, project, pair).id)
    picked = store.pick_edit(edit.id)
    assert (picked.safe_image, picked.strength, picked.safe_score) == (edit.image, edit.strength, edit.score)
    assert (picked.unsafe_image, picked.looks) == (pair.unsafe_image, "")
    assert picked.version != pair.version
    assert store.current_verdicts(project.id) == {}
    assert store.list_verdicts(project.id)[-1].reason == "another strength was picked"
    _, latents = read_latents(settings, picked, fingerprint_of(bundle))
    decoded = bundle.decode(latents[None])[0].astype(int)
    assert np.abs(decoded - read_image(settings, picked.safe_image).astype(int)).max() <= 1
    store.add_verdict(Verdict("", pair.id, "Ann", "accept"), seen=picked.version)
    assert store.pick_edit(edit.id) == picked  # it is the twin already: nothing is taken back
    assert store.pair_counts(project.id).accepted == 1
    assert store.pick_edit(before.id).safe_image == pair.safe_image


def test_what_cannot_be_edited_or_picked_is_refused(
    store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    with pytest.raises(WorkflowError, match="repaints nothing"):
        tried(store, settings, project, pair, strengths=[0.1, 0.5])
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    with pytest.raises(WorkflowError, match="no pictures in project 'Other'"):
        tried(store, settings, other, pair)
    edit = store.list_edits(tried(store, settings, project, pair).id)[1]
    redo = store.create_job(Job("", project.id, "pairs", {"redo": [pair.id]}))
    with pytest.raises(StoreError, match="being made again"):
        store.pick_edit(edit.id)
    store.update_job(redo.id, state="done")
    store.update_image_pair(pair.id, unsafe_image="ab" * 32)
    with pytest.raises(PairChangedError):
        store.pick_edit(edit.id)


def test_a_purge_takes_the_edits_along(store: Store, settings: Settings, project: Project, pair: ImagePair) -> None:
    job = tried(store, settings, project, pair)
    files = [image_path(settings, edit.image) for edit in store.list_edits(job.id)]
    store.update_job(job.id, state="done")
    for made in store.list_jobs(project.id):
        store.update_job(made.id, state="done")
    assert all(file.is_file() for file in files)
    purge(store, settings, project.id, plan(store, settings, project.id, "pairs"), "Olga")
    assert not any(file.is_file() for file in files)
    assert store.list_edits(job.id) == []
    with pytest.raises(StoreError):
        store.pick_edit("gone")


def test_edits_of_a_stopped_pair_are_hidden_and_purged_with_it(
    store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    edits = store.list_edits(tried(store, settings, project, pair).id)
    stop_pair(store, settings, PairStop("", pair.id, "stop", "Ann"))
    with TestClient(Starlette(routes=strength_routes(settings, store))) as client:
        assert client.get(f"/studio/edits/{edits[1].id}.webp").status_code == 404
        assert client.get(f"/studio/strengths/{project.id}/{pair.id}").status_code == 404
    assert all(store.is_stopped_picture(edit.image) for edit in edits)
    purge_pair(store, settings, PairStop("", pair.id, "purge", "Olga", "not ours"))
    assert not any(image_path(settings, edit.image).is_file() for edit in edits)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(store: Store, settings: Settings) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=strength_routes(settings, store))) as client:
        yield client


@pytest.mark.slow
def test_from_the_page_to_the_pick(
    client: TestClient, store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    """The real worker, started by the runner."""
    for job in store.list_jobs(project.id):
        store.update_job(job.id, state="done")
    base = f"/studio/strengths/{project.id}/{pair.id}"
    empty = client.get(base).json()
    assert (empty["job"], empty["edits"]) == (None, [])
    body = {"version": pair.version, "strengths": [0.5, 1.0]}
    assert client.post(f"{base}/start", json={**body, "version": "0" * 12}).status_code == 409
    started = client.post(f"{base}/start", json=body).json()
    assert started["job"]["state"] == "queued"
    assert client.post(f"{base}/start", json=body).status_code == 409
    (job,) = store.list_jobs(project.id, states=("queued",))
    assert job.config["steps"] == PAIRS["steps"]  # as the pairs were made
    assert Runner(store, settings, interval=0.1).run_until_done(job.id).state == "done"
    edits = client.get(base).json()["edits"]
    assert [(edit["strength"], edit["now"]) for edit in edits] == [(pair.strength, True), (0.5, False), (1.0, False)]
    picked = client.post(f"{base}/pick", json={"edit": edits[2]["id"]}).json()
    assert [edit["now"] for edit in picked["edits"]] == [False, False, True]
    assert picked["pair"]["strength"] == 1.0
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    assert client.get(f"/studio/strengths/{other.id}/{pair.id}").status_code == 404


def test_an_edit_that_shows_the_concept_is_blurred(
    client: TestClient, store: Store, settings: Settings, project: Project, pair: ImagePair
) -> None:
    agree(store, store.update_project(project.id, blur=True), "Ann")
    edits = store.list_edits(tried(store, settings, project, pair).id)
    store._change("UPDATE edits SET score = position", ())  # the strip's first is clear, the others are flagged
    shown = client.get(f"/studio/strengths/{project.id}/{pair.id}?reviewer=Ann").json()["edits"]
    assert ["&blur" in edit["src"] for edit in shown] == [False, True, True, True]

    def detail(edit: Any, **headers: str) -> float:
        answer = client.get(f"/studio/edits/{edit.id}.webp?reviewer=Ann", headers=headers)
        assert answer.status_code == 200
        with Image.open(BytesIO(answer.content)) as picture:
            return float(np.abs(np.diff(np.asarray(picture.convert("L"), dtype=float), axis=1)).mean())

    assert detail(edits[1]) < detail(edits[1], **{REVEAL: "1"}) / 3
