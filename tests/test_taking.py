"""The curated set out of the studio: read by other libraries, brought in again, pushed to a stand-in of the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from studio.exchange.hub import has_token
from studio.exchange.layouts import Wanted, entries, survey
from studio.exchange.pictures import read_picture
from studio.exchange.sources import open_source
from studio.exchange.taking import PARQUET, TakeError, folder_sink, select, take, zip_sink
from studio.images import ImageError, image_path, read_file, read_image
from studio.jobs import JobError
from studio.records import ImagePair, PairStop, Project, Verdict
from studio.settings import Settings
from studio.stopping import stop_pair
from studio.store import DETECTOR, Store
from studio.workflow import WorkflowError
from studio.workflow.datasets import push
from tests.curation_data import add_pairs
from tests.hub_server import TOKEN, Hub, Repository, hub_server
from tests.workflow_data import context_of


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    """Six pairs: two accepted by Ann (one after an undo), one by the detector, one rejected by =Bob, two undecided."""
    made = add_pairs(store, settings, project, 6)
    store.add_verdict(Verdict("", made[0].id, "Ann", "reject", "broken picture"))
    store.add_verdict(Verdict("", made[0].id, "Ann", "undo"))
    store.add_verdict(Verdict("", made[0].id, "Ann", "accept"))
    store.add_verdict(Verdict("", made[1].id, "Ann", "accept", revealed=True, milliseconds=900))
    store.add_verdict(Verdict("", made[2].id, DETECTOR, "accept", "score 0.9"))
    store.add_verdict(Verdict("", made[3].id, "=Bob", "reject", "too different"))
    return made


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def taken(
    store: Store, settings: Settings, project: Project, folder: Path, form: Any = "imagefolder", **how: Any
) -> Path:
    selection = select(store, project.id, how.pop("which", "accepted"), **how)
    with folder_sink(folder) as sink:
        take(selection, settings, sink, form, **how)
    return folder


def test_an_imagefolder_has_the_pictures_the_decisions_and_the_audit_log(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    folder = taken(store, settings, project, tmp_path / "out")
    rows = jsonl(folder / "metadata.jsonl")
    assert [row["pair"] for row in rows] == [pair.id for pair in pairs[:3]]
    for row, pair in zip(rows, pairs, strict=False):
        assert (folder / row["unsafe_file_name"]).read_bytes() == read_file(settings, pair.unsafe_image)
        assert (folder / row["safe_file_name"]).read_bytes() == read_file(settings, pair.safe_image)
        assert (row["unsafe_sha256"], row["safe_sha256"]) == (pair.unsafe_image, pair.safe_image)
    assert (rows[0]["unsafe_prompt"], rows[0]["safe_prompt"]) == ("a knight on the beach", "a gardener on the beach")
    assert [(row["decision"], row["decided_by"]) for row in rows] == [
        ("accept", "Ann"), ("accept", "Ann"), ("accept", "detector"),
    ]  # fmt: skip
    history = jsonl(folder / "verdicts.jsonl")
    assert [(v["reviewer"], v["verdict"]) for v in history] == [
        ("Ann", "reject"), ("Ann", "undo"), ("Ann", "accept"), ("Ann", "accept"), ("detector", "accept"),
        ("=Bob", "reject"),
    ]  # fmt: skip
    assert history[1]["supersedes"] == history[0]["id"]
    assert (history[3]["revealed"], history[3]["milliseconds"]) == (True, 900)
    assert history[5]["safe_sha256"] == pairs[3].safe_image


def test_other_selections_and_nobodys_names(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    folder = taken(store, settings, project, tmp_path / "decided", which="decided", names=False)
    assert [row["decided_by"] for row in jsonl(folder / "metadata.jsonl")] == [
        "reviewer 1", "reviewer 1", "detector", "reviewer 2",
    ]  # fmt: skip
    assert "Ann" not in "".join(file.read_text() for file in folder.glob("*.*"))
    everything = taken(store, settings, project, tmp_path / "all", which="all")
    assert len(jsonl(everything / "metadata.jsonl")) == 6
    with pytest.raises(TakeError, match="no selection 'some'"):
        select(store, project.id, "some")  # type: ignore[arg-type]


def test_parquet_holds_the_same_and_says_which_columns_are_pictures(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    folder = taken(store, settings, project, tmp_path / "out", "parquet", which="decided")
    table = pq.read_table(folder / PARQUET)
    rows = table.to_pylist()
    assert [row["decision"] for row in rows] == ["accept", "accept", "accept", "reject"]
    assert rows[1]["unsafe"]["bytes"] == read_file(settings, pairs[1].unsafe_image)
    assert (read_picture(rows[1]["safe"]["bytes"]) == read_image(settings, pairs[1].safe_image)).all()
    assert rows[3]["decided_by"] == "=Bob"
    assert rows[0]["distance"] is None
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert [name for name, feature in features.items() if feature["_type"] == "Image"] == ["unsafe", "safe"]
    assert list(features) == table.schema.names


def test_a_large_set_is_written_in_groups_that_a_reader_can_hold(
    store: Store,
    settings: Settings,
    project: Project,
    pairs: list[ImagePair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("studio.exchange.taking.GROUP_BYTES", 20_000)  # a pair of noise has 14 kB
    folder = taken(store, settings, project, tmp_path / "out", "parquet", which="all")
    assert pq.ParquetFile(folder / PARQUET).num_row_groups == 3


@pytest.mark.parametrize("form", ["imagefolder", "parquet"])
def test_what_was_taken_can_be_brought_in_again(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path, form: Any
) -> None:
    selection = select(store, project.id, "decided")
    with zip_sink(tmp_path / "out.zip") as sink:
        take(selection, settings, sink, form)
    with open_source(tmp_path / "out.zip") as source:
        assert survey(source, Wanted()).total == 4
        found = list(entries(source, Wanted()))
    assert [(entry.problem, entry.decision) for entry in found] == [("", "accept")] * 3 + [("", "reject")]
    assert found[0].unsafe_prompt == "a knight on the beach"


def test_the_card_says_what_it_is_and_its_front_matter_is_yaml(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    store.update_project(project.id, concept='sw"or*d', blur=True)
    for form in ("imagefolder", "parquet"):
        card = (taken(store, settings, project, tmp_path / form, form) / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(card.split("---")[1])
        assert front["pretty_name"] == 'Safe and unsafe pairs: sw"or*d'
        assert "not-for-all-audiences" in front["tags"]
        assert [config["config_name"] for config in front["configs"]] == ["pairs"]
        assert "3 accepted pairs of pictures" in card
        assert "accept 3; by Ann 2, detector 1" in card
        assert r"sw\"or\*d" in card.replace('"', r"\"")


def test_stopped_pairs_and_all_about_them_stay_behind(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    stop_pair(store, settings, PairStop("", pairs[0].id, "stop", "Ann"))
    folder = taken(store, settings, project, tmp_path / "out", which="all")
    assert len(jsonl(folder / "metadata.jsonl")) == 5
    assert pairs[0].id not in (folder / "verdicts.jsonl").read_text()
    assert not list(folder.rglob(f"{pairs[0].id}*"))


def test_nothing_to_take_a_folder_that_is_full_and_a_lost_picture_are_said(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    with pytest.raises(TakeError, match="No pair is accepted yet"):
        select(store, project.id)
    (made,) = add_pairs(store, settings, project, 1)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(TakeError, match="not empty"):
        taken(store, settings, project, tmp_path, which="all")
    assert (tmp_path / "mine.txt").read_text() == "x"
    image_path(settings, made.safe_image).unlink()
    with pytest.raises(ImageError, match="is missing"):
        taken(store, settings, project, tmp_path / "out", which="all")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ImageError, match="is missing"), zip_sink(tmp_path / "out.zip") as sink:
        take(select(store, project.id, "all"), settings, sink, "parquet")
    assert [file.name for file in tmp_path.glob("*out*")] == []


# -- the Hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in, and somebody who is logged in to it."""
    with hub_server() as made:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-login"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield made


def pushed(store: Store, settings: Settings, project: Project, **config: Any) -> dict[str, Any]:
    return push(context_of(store, settings, project, "push", {"repository": "me/pairs", **config}))


def test_the_set_becomes_a_private_dataset_with_a_card_and_without_names(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], hub: Hub
) -> None:
    hub.repositories["me/pairs"] = Repository(True, {"data/old.parquet": b"earlier", "notes.md": b"somebody's own"})
    result = pushed(store, settings, project, which="decided")
    assert result == {"url": f"{hub.url}/datasets/me/pairs", "pairs": 4}
    files = hub.repositories["me/pairs"].files
    assert files.keys() == {PARQUET, "README.md", "verdicts.jsonl", "notes.md"}
    assert pq.read_table(BytesIO(files[PARQUET])).num_rows == 4
    assert b"reviewer 1" in files["verdicts.jsonl"]
    assert b"Ann" not in b"".join(files.values())
    assert list(settings.outgoing.iterdir()) == []


def test_a_new_dataset_is_private_unless_it_was_said(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], hub: Hub
) -> None:
    pushed(store, settings, project)
    pushed(store, settings, project, repository="me/open", public=True, names=True)
    assert [hub.repositories[name].private for name in ("me/pairs", "me/open")] == [True, False]
    assert b"Ann" in hub.repositories["me/open"].files["verdicts.jsonl"]
    with pytest.raises(WorkflowError, match="is there already and is public"):
        pushed(store, settings, project, repository="me/open")


def test_without_a_token_nothing_is_packed(
    store: Store,
    settings: Settings,
    project: Project,
    pairs: list[ImagePair],
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert has_token()
    monkeypatch.delenv("HF_TOKEN")
    assert not has_token()
    with pytest.raises(WorkflowError, match="no token"):
        pushed(store, settings, project)
    assert not settings.outgoing.exists()


@pytest.mark.parametrize("name", ["", "pairs", "a/b/c", "a b/c", "https://hf.co/a/b"])
def test_a_name_that_is_no_datasets_is_refused(store: Store, settings: Settings, project: Project, name: str) -> None:
    with pytest.raises(JobError, match="repository"):
        pushed(store, settings, project, repository=name)
