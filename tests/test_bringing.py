"""Bring jobs on a random tiny checkpoint: what becomes pairs, what is refused, what survives a stop, what trains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sqlite_utils import Database

from models.fingerprint import FINGERPRINT, fingerprint_of
from models.loading import load_bundle
from studio.exchange.uploads import begin_file, begin_upload, end_file, upload_folder
from studio.images import read_image
from studio.jobs import resume, submit
from studio.methods.training import TrainingError
from studio.migrations import migrations
from studio.progress import Stopped
from studio.records import PairStop, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.stopping import stop_pair
from studio.store import Store
from studio.workflow import JobContext, WorkflowError, run_job
from studio.workflow.bringing import bring
from studio.workflow.latents import latents_path
from studio.workflow.pairs import generate_pairs
from studio.workflow.train import train
from tests.bring_data import encoded, folder_of_pairs, scenes
from tests.workflow_data import PAIRS, context_of, stop_at

DUO = {"steps": 2, "batch_size": 2, "rank": 2, "alpha": 2.0, "save_every": 2, "sample_every": 0}
TWINS = {"make_twins": True, "unsafe_prompt": "a knight", "safe_prompt": "a gardener", "steps": 4, "batch_size": 3}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))


def brought(store: Store, settings: Settings, project: Project, path: Path, **config: Any) -> dict[str, Any]:
    return bring(context_of(store, settings, project, "bring", {"path": str(path), "batch_size": 3, **config}))


def last_refusals(store: Store, project: Project) -> dict[str, str]:
    return dict(store.brought_refusals(store.list_jobs(project.id)[-1].id))


# -- whole pairs -------------------------------------------------------------------------------------------------------


def test_pairs_become_pairs_with_latents_of_the_checkpoint(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    bundle = load_bundle("toybox", device="cpu", toybox=settings.toybox)
    folder = folder_of_pairs(tmp_path / "mine", 4)
    result = brought(store, settings, project, folder, unsafe_prompt="a knight", safe_prompt="a gardener")
    assert result == {"taken": 4, "files_refused": 0}
    pairs = store.list_image_pairs(project.id, "ready")
    assert [pair.index for pair in pairs] == [0, 1, 2, 3]
    (prompts,) = store.list_prompt_pairs(project.id)
    assert (prompts.unsafe, prompts.safe, prompts.count) == ("a knight", "a gardener", 0)
    pair, (unsafe, safe) = pairs[0], scenes(4)[0]
    assert (read_image(settings, pair.unsafe_image) == unsafe).all()  # 64 px is the checkpoint's: nothing is scaled
    assert (read_image(settings, pair.safe_image) == safe).all()
    latents = load_file(latents_path(settings, pair))
    scaled = torch.from_numpy(np.stack([unsafe, safe])).permute(0, 3, 1, 2).float() / 127.5 - 1
    expected = bundle.encode_image(scaled)
    assert torch.allclose(latents["unsafe"], expected[0], atol=1e-5)
    assert torch.allclose(latents["safe"], expected[1], atol=1e-5)
    with safe_open(latents_path(settings, pair), "pt") as file:
        assert file.metadata()[FINGERPRINT] == fingerprint_of(bundle)
    data = (folder / "unsafe" / "0.png").read_bytes()
    assert pair.source["unsafe_sha256"] == hashlib.sha256(data).hexdigest()
    assert (pair.source["unsafe"], pair.source["safe"], pair.source["from"]) == ("unsafe/0.png", "safe/0.png", "mine")
    assert (pair.origin, pair.strength, pair.tries) == ("brought", 0.0, 0)
    assert 0 <= pair.safe_score <= 1


def test_brought_pairs_ask_for_no_pictures_and_wait_for_a_decision(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    brought(store, settings, project, folder_of_pairs(tmp_path / "mine", 2))
    counts = store.pair_counts(project.id)
    assert (counts.wanted, counts.ready, counts.undecided) == (0, 2, 2)
    assert store.missing_pairs(project.id) == 0
    assert store.list_prompt_pairs(project.id) == []  # so that nothing is drawn or attacked with no words
    (row,) = store.list_prompt_pairs(project.id, wordless=True)
    assert (row.unsafe, row.safe, row.count) == ("", "", 0)
    brought(store, settings, project, folder_of_pairs(tmp_path / "mine", 1), unsafe_prompt="a knight")
    before = {pair.id for pair in store.list_image_pairs(project.id)}
    generate_pairs(context_of(store, settings, project, "pairs", PAIRS))
    assert {pair.id for pair in store.list_image_pairs(project.id)} == before  # nothing is drawn for what was brought


def test_sizes_are_fitted_as_asked(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    wide = np.zeros((60, 120, 3), np.uint8)
    wide[:, :30], wide[:, 90:] = (255, 0, 0), (0, 0, 255)
    for fit, corner in (("crop", [0, 0, 0]), ("pad", [255, 255, 255])):
        folder = folder_of_pairs(tmp_path / fit, 1)
        (folder / "unsafe" / "0.png").write_bytes(encoded(wide))
        brought(store, settings, project, folder, fit=fit)
        pair = store.list_image_pairs(project.id)[-1]
        assert read_image(settings, pair.unsafe_image).shape == (64, 64, 3)
        assert np.abs(read_image(settings, pair.unsafe_image)[0, 0].astype(int) - corner).max() <= 8


def test_a_name_accepts_what_comes_whole_and_a_decision_in_the_file_counts(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 2)
    rows = [
        {"unsafe_file_name": f"unsafe/{n}.png", "safe_file_name": f"safe/{n}.png", "decision": decision}
        for n, decision in enumerate(["", "reject"])
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    brought(store, settings, project, folder, accept_as="Ann")
    verdicts = store.list_verdicts(project.id)
    assert [(v.reviewer, v.verdict, v.reason) for v in verdicts] == [
        ("Ann", "accept", "brought from mine"),
        ("Ann", "reject", "brought from mine"),
    ]
    assert store.pair_counts(project.id).accepted == 1


def test_one_wrong_file_stops_no_other(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 6)
    (folder / "safe" / "1.png").write_bytes((folder / "safe" / "1.png").read_bytes()[:200])
    (folder / "safe" / "2.png").write_bytes((folder / "unsafe" / "2.png").read_bytes())
    (folder / "unsafe" / "3.png").write_text("<svg/>")
    (folder / "unsafe" / "4.png").write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    (folder / "unsafe" / "9.png").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    (folder / ".DS_Store").write_text("junk")
    result = brought(store, settings, project, folder)
    assert result == {"taken": 2, "refused": 6, "files_refused": 10}
    wrong = last_refusals(store, project)
    assert "damaged or cut off" in wrong["safe/1.png"]
    assert wrong["unsafe/1.png"] == "Its twin was not taken."
    assert "Both pictures of the pair are the same" in wrong["safe/2.png"]
    assert "SVG, HTML" in wrong["unsafe/3.png"]
    assert "8 x 8 pixels" in wrong["unsafe/4.png"]
    assert "no safe twin" in wrong["unsafe/9.png"]
    assert "Nothing says which side" in wrong["notes.txt"]
    assert ".DS_Store" not in wrong


def test_what_is_there_already_is_not_brought_twice(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 2)
    brought(store, settings, project, folder)
    folder_of_pairs(tmp_path / "mine", 3)
    assert brought(store, settings, project, folder) == {"known": 2, "taken": 1, "files_refused": 0}
    assert brought(store, settings, project, folder, unsafe_prompt="a knight")["taken"] == 3  # by its prompt


def test_prompts_that_are_refused_are_not_taken(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 2)
    row = {"unsafe_file_name": "unsafe/0.png", "safe_file_name": "safe/0.png", "prompt": "a nude teenager"}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    assert brought(store, settings, project, folder)["taken"] == 1
    assert "This prompt is not drawn" in last_refusals(store, project)["unsafe/0.png + safe/0.png"]


def test_a_stopped_picture_does_not_come_back(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 2)
    brought(store, settings, project, folder)
    pair = store.list_image_pairs(project.id)[0]
    stop_pair(store, settings, PairStop("", pair.id, "stop", "Ann"))
    other = store.create_project(replace(project, id="", name="Other"))
    assert brought(store, settings, other, folder) == {"taken": 1, "refused": 1, "files_refused": 2}
    assert "was stopped before" in last_refusals(store, other)["unsafe/0.png"]
    for side, picture in zip(("unsafe", "safe"), scenes(1)[0], strict=True):  # the same pictures in other bytes
        (folder / side / "0.png").write_bytes(encoded(picture, "BMP"))
    assert brought(store, settings, other, folder) == {"known": 1, "refused": 1, "files_refused": 2}
    assert "was stopped before" in last_refusals(store, other)["safe/0.png"]
    assert len(store.list_image_pairs(other.id)) == 1


def test_at_most_so_many_pairs(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 5)
    (folder / "safe" / "1.png").write_bytes(b"broken")
    assert brought(store, settings, project, folder, limit=3)["taken"] == 3
    assert len(store.list_image_pairs(project.id)) == 3


def test_pick_a_pic_rows_become_pairs_and_ties_are_counted(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    unsafe, safe = ([encoded(pair[side], "JPEG", quality=95) for pair in scenes(4)] for side in (0, 1))
    table = {
        "jpg_0": unsafe, "jpg_1": safe, "label_0": [0.0, 1.0, 0.5, 0.0], "label_1": [1.0, 0.0, 0.5, 1.0],
        "has_label": [True, True, True, False], "caption": ["a knight"] * 4,
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "picks.parquet")
    result = brought(store, settings, project, tmp_path / "picks.parquet")
    assert result == {"taken": 2, "tie": 1, "unlabelled": 1, "files_refused": 0}
    first, second = store.list_image_pairs(project.id)
    picture = np.abs(read_image(settings, first.unsafe_image).astype(int) - scenes(1)[0][0])
    assert picture.mean() < 6  # JPEG
    assert first.source["unsafe"] == "picks.parquet, row 1, unsafe"
    assert second.source["safe_sha256"] == hashlib.sha256(unsafe[1]).hexdigest()


def test_a_path_that_cannot_be_opened_fails_the_job_in_words(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    with pytest.raises(WorkflowError, match="does not exist"):
        brought(store, settings, project, tmp_path / "nowhere")


def test_an_upload_goes_when_its_job_is_done(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    upload = begin_upload(settings)
    folder = upload_folder(settings, upload)
    source = folder_of_pairs(tmp_path / "mine", 1)
    for name in ("unsafe/0.png", "safe/0.png"):
        path = begin_file(folder, f"mine/{name}")
        path.write_bytes((source / name).read_bytes())
        end_file(path, f"mine/{name}")
    begin_file(folder, "half.png").write_bytes(b"never ended")
    assert brought(store, settings, project, Path(f"incoming/{upload}"), name="mine") == {
        "taken": 1, "files_refused": 0,
    }  # fmt: skip
    assert not folder.exists()
    assert source.exists()
    assert store.list_image_pairs(project.id)[0].source["unsafe"] == "mine/unsafe/0.png"


# -- stop, resume, redo ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, TWINS])
def test_a_stopped_job_goes_on_and_ends_as_if_never_stopped(
    store: Store, settings: Settings, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = folder_of_pairs(tmp_path / "mine", 7)
    (folder / "unsafe" / "0.png").write_bytes(b"broken")
    if config:
        config = config | {"filter_by_detector": False}
        for file in (folder / "safe").iterdir():
            file.unlink()
    made = [store.create_project(Project("", name, "sword", "toybox", "toybox")) for name in ("stopped", "whole")]
    given = {"path": str(folder), "batch_size": 2, **config}
    context = context_of(store, settings, made[0], "bring", given, stop_at(3))
    with pytest.raises(Stopped):
        bring(context)
    assert 0 < len(store.list_image_pairs(made[0].id)) < 6
    store.update_job(context.job.id, state="stopped")
    resume(store, settings, context.job.id)
    assert run_job(context.job.id, settings).state == "done"
    whole = bring(context_of(store, settings, made[1], "bring", given))
    assert (
        store.get_job(context.job.id).result == whole == {"taken": 6, "refused": 1, "files_refused": 2 - bool(config)}
    )
    pictures = [
        {(pair.unsafe_image, pair.safe_image) for pair in store.list_image_pairs(project.id)} for project in made
    ]
    assert pictures[0] == pictures[1]


def test_a_brought_pair_is_not_made_again(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    brought(store, settings, project, folder_of_pairs(tmp_path / "mine", 1))
    (pair,) = store.list_image_pairs(project.id)
    with pytest.raises(WorkflowError, match="nothing to make again"):
        generate_pairs(context_of(store, settings, project, "pairs", {**PAIRS, "redo": [pair.id]}))
    assert store.list_image_pairs(project.id) == [pair]


# -- unsafe pictures alone ---------------------------------------------------------------------------------------------


def only_unsafe(path: Path, count: int) -> Path:
    path.mkdir()
    for number, (unsafe, _) in enumerate(scenes(count, 90)):
        (path / f"{number}.jpg").write_bytes(encoded(unsafe, "JPEG", quality=95))
    return path


def test_unsafe_pictures_get_twins_that_the_detector_passes(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    result = brought(store, settings, project, only_unsafe(tmp_path / "real", 5), **TWINS, accept_as="Ann")
    pairs = store.list_image_pairs(project.id)
    assert result.get("taken", 0) == len(pairs) > 0
    assert len(pairs) + result.get("refused", 0) == 5
    for pair in pairs:
        assert (pair.origin, pair.state) == ("twin", "ready")
        assert pair.safe_score < 0.5
        assert pair.tries >= 1
        latents = load_file(latents_path(settings, pair))
        assert latents["unsafe"].shape == latents["safe"].shape == (8, 8, 8)
        assert "safe" not in pair.source
    assert store.list_verdicts(project.id) == []  # nobody has seen the twins


def test_a_twin_that_no_try_got_right_is_listed(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    store.update_project(project.id, detector_settings={"concept": "sword", "threshold": 0.0})
    result = brought(store, settings, project, only_unsafe(tmp_path / "real", 2), **TWINS, max_tries=2)
    assert result == {"refused": 2, "files_refused": 2}
    assert last_refusals(store, project)["0.jpg"] == "In 2 tries no edit was without the sword and clear."
    assert store.list_image_pairs(project.id) == []


def test_only_the_twin_is_made_again(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    config = TWINS | {"filter_by_detector": False}
    brought(store, settings, project, only_unsafe(tmp_path / "real", 1), **config)
    (before,) = store.list_image_pairs(project.id)
    store.add_verdict(Verdict("", before.id, "Ann", "reject"))
    redo = {**PAIRS, "redo": [before.id], "filter_by_detector": False}
    generate_pairs(context_of(store, settings, project, "pairs", redo))
    (after,) = store.list_image_pairs(project.id)
    assert after.unsafe_image == before.unsafe_image
    assert after.safe_image != before.safe_image
    assert (after.origin, after.source, after.unsafe_score) == ("twin", before.source, before.unsafe_score)
    assert after.strength > before.strength
    assert store.current_verdicts(project.id) == {}
    assert torch.equal(
        load_file(latents_path(settings, after))["unsafe"], load_file(latents_path(settings, before))["unsafe"]
    )


# -- training ----------------------------------------------------------------------------------------------------------


def training(method: str, **config: Any) -> dict[str, Any]:
    return {"method": method, "name": method, "config": config}


def test_pairs_without_prompts_train_under_the_empty_prompt_alone(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    brought(store, settings, project, folder_of_pairs(tmp_path / "mine", 3), accept_as="Ann")
    result = train(context_of(store, settings, project, "train", training("duo", **DUO, prompt="empty")))
    assert store.get_checkpoint(result["checkpoint_id"]).method == "duo"
    for method, config in (("duo", {**DUO, "prompt": "pair"}), ("selective-amnesia", {"steps": 1, "sample_every": 0})):
        with pytest.raises(TrainingError, match=r"0 unsafe prompts for 3 pairs. Bring the pairs with their prompts"):
            train(context_of(store, settings, project, "train", training(method, **config)))


def test_brought_pairs_belong_to_the_checkpoint_that_encoded_them(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    from tests.conftest import make_tiny_bundle
    from tests.tiny_toybox import save_tiny_toybox

    brought(store, settings, project, folder_of_pairs(tmp_path / "mine", 2), accept_as="Ann")
    save_tiny_toybox(make_tiny_bundle(seed=1), tmp_path / "other")
    other = replace(settings, toybox=tmp_path / "other")
    with pytest.raises(WorkflowError, match="made with another checkpoint"):
        train(context_of(store, other, project, "train", training("duo", **DUO)))


# -- the store ---------------------------------------------------------------------------------------------------------


def test_the_migration_keeps_every_pair_and_what_hangs_on_it(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    old = Database(path)
    migrations.apply(old, stop_before="brought_and_purged_pairs")
    old.execute("INSERT INTO projects VALUES ('p', 'Sword', 'sword', 'toybox', 'toybox', '{}', 1.0, 0)")
    old.execute("INSERT INTO prompt_pairs VALUES ('t', 'p', 'a', 'b', 3, 0)")
    for number in (5, 2, 9):  # rows with gaps, as after deletions
        old.execute(
            'INSERT INTO image_pairs (rowid, id, project_id, prompt_pair_id, "index", seed, state, unsafe_image, '
            "safe_image, strength, tries, unsafe_score, safe_score, distance, reason, created) "
            "VALUES (?, ?, 'p', 't', ?, 0, 'ready', ?, 'x', 0.7, 1, 0.9, 0.1, NULL, '', 5.0)",
            [number, f"i{number}", number, f"u{number}"],
        )
    old.execute("INSERT INTO verdicts VALUES ('v', 'i2', 'Ann', 'accept', '', 0, 0, 1.0, NULL)")
    old.execute("INSERT INTO pair_stops VALUES ('s', 'i9', 'stop', 'Ann', '', 'u9', '', 1.0)")
    schema = "SELECT type, name, tbl_name FROM sqlite_master WHERE tbl_name = 'image_pairs' ORDER BY 1, 2"
    before = list(old.query(schema)), list(old.query("SELECT rowid AS row, * FROM image_pairs"))
    old.close()

    store = Store(path)
    new = Database(path)
    after = list(new.query(schema))
    assert [one for one in before[0] if one not in after] == []
    rows = list(new.query("SELECT rowid AS row, * FROM image_pairs"))
    assert [{key: row[key] for key in before[1][0]} for row in rows] == before[1]
    assert {(row["origin"], row["source"]) for row in rows} == {("made", "{}")}
    assert list(new.query("PRAGMA foreign_key_check")) == []
    assert [(pair.id, pair.state) for pair in store.list_image_pairs("p")] == [("i2", "ready"), ("i5", "ready")]
    assert store.pair_counts("p").accepted == 1
    store.add_verdict(Verdict("", "i5", "Ann", "reject"))  # the triggers work
    assert store.pair_counts("p").rejected == 1
    assert store.update_image_pair("i5", state="purged").state == "purged"
    store.close()


def test_a_brought_prompt_can_be_asked_for_more(store: Store, settings: Settings, project: Project) -> None:
    """A prompt row of brought pairs whose count is raised makes those that are missing, beside the brought ones."""
    job = submit(store, settings, "bring", project.id, {"path": "x"})
    (prompts,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=0)])
    from studio.records import ImagePair

    for position in range(2):
        pair = ImagePair("", project.id, "", 0, 0, "ready", origin="brought", source={"key": str(position)})
        store.settle_brought(job.id, position, "taken", pair=pair, prompts=("a knight", "a gardener"))
    assert store.list_prompt_pairs(project.id) == [prompts]
    store.update_prompt_pair(prompts.id, count=3)
    assert store.missing_pairs(project.id) == 1
    context = JobContext(store, settings, job, {}, lambda *_, **__: None)
    assert context.store.made_places(project.id) == {(prompts.id, 0), (prompts.id, 1)}
