"""Bring, take and delete as the page asks for them: routes by HTTP, handlers without a browser."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.configs import BringConfig
from studio.exchange.sources import SourceError, open_source
from studio.images import image_path
from studio.purging import plan
from studio.records import Job, Project, PurgeScope, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui.bring import BringPanel, bring_panel, drop_zone, name_of, progress, submit_upload
from studio.ui.bring_routes import bring_routes
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.purge import booked, delete_pictures, in_words, keep_for
from studio.ui.take import links, push_state, start_push, take_routes
from tests.bring_data import folder_of_pairs
from tests.curation_data import add_pairs

ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture
def web(settings: Settings, store: Store) -> Iterator[TestClient]:
    routes = [*bring_routes(settings, store), *take_routes(settings, store)]
    with TestClient(Starlette(routes=routes)) as client:
        yield client


def begin(web: TestClient, project: Project) -> str:
    return str(web.post(f"/studio/bring/{project.id}/begin", json={}).json()["upload"])


def upload(web: TestClient, project: Project, folder: Path) -> str:
    made = begin(web, project)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = f"mine/{file.relative_to(folder).as_posix()}"
            answer = web.put(
                f"/studio/bring/{project.id}/{made}/file", params={"name": name}, content=file.read_bytes()
            )
            assert answer.json() == {"received": file.stat().st_size}
    return made


@pytest.fixture
def panel(studio: Studio) -> BringPanel:
    with gr.Blocks():
        return bring_panel(studio, gr.Dropdown())


def values(panel: BringPanel, **typed: Any) -> list[Any]:
    return [typed.get(name, component.value) for name, component in panel.form.fields.items()]


# -- bring -------------------------------------------------------------------------------------------------------------


def test_files_go_up_and_are_looked_at_before_a_job_has_them(
    web: TestClient, settings: Settings, project: Project, tmp_path: Path
) -> None:
    folder = folder_of_pairs(tmp_path / "set", 3)
    (folder / "unsafe" / "9.png").write_bytes(b"alone")
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    made = upload(web, project, folder)
    found = web.post(f"/studio/bring/{project.id}/{made}/look", json={}).json()
    assert (found["pairs"], found["alone"], found["rows"], found["wrong"]) == (3, 1, 0, 1)
    assert found["problems"][0]["name"] == "mine/notes.txt"
    assert name_of(settings.incoming / made) == "mine"
    with open_source(settings.incoming / made) as source:
        assert source.members[1].name == "mine/notes.txt"
    assert {path.suffix for path in (settings.incoming / made).iterdir()} == {".file", ".json"}
    web.post(f"/studio/bring/{project.id}/{made}/drop", json={})
    assert not (settings.incoming / made).exists()
    assert web.post(f"/studio/bring/{project.id}/{made}/look", json={}).status_code == 409


def test_no_name_becomes_a_path(web: TestClient, settings: Settings, project: Project) -> None:
    made = begin(web, project)
    for name in ("../../evil.png", "/etc/evil.png", "C:\\evil.png", "unsafe/ü.png"):
        web.put(f"/studio/bring/{project.id}/{made}/file", params={"name": name}, content=b"x")
    assert list(settings.data.parent.rglob("*evil*")) == []
    assert len(list((settings.incoming / made).iterdir())) == 8


@pytest.mark.parametrize(
    ("headers", "name", "status"),
    [
        (ELSEWHERE, "a.png", 403),
        ({"Origin": "https://evil.example"}, "a.png", 403),
        ({}, "", 409),
        ({}, "x" * 2000, 409),
    ],
)
def test_uploads_are_refused(
    web: TestClient, settings: Settings, project: Project, headers: dict[str, str], name: str, status: int
) -> None:
    made = begin(web, project)
    url = f"/studio/bring/{project.id}/{made}/file"
    answer = web.put(url, params={"name": name}, content=b"x", headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert list((settings.incoming / made).iterdir()) == []


def test_what_is_not_there_or_too_large_is_refused(
    web: TestClient, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert web.post("/studio/bring/unknown/begin", json={}).status_code == 404
    for wrong in ("0" * 24, "..", "x"):
        answer = web.put(f"/studio/bring/{project.id}/{wrong}/file", params={"name": "a"}, content=b"x")
        assert answer.status_code in (404, 409)
    made = begin(web, project)
    monkeypatch.setattr("studio.exchange.uploads.MAX_UNPACKED", 10)
    answer = web.put(f"/studio/bring/{project.id}/{made}/file", params={"name": "a"}, content=b"x" * 11)
    assert answer.status_code == 413
    assert list((settings.incoming / made).iterdir()) == []


def test_a_body_that_is_not_as_long_as_it_said_is_not_kept(
    web: TestClient, settings: Settings, project: Project
) -> None:
    made = begin(web, project)

    def pieces() -> Iterator[bytes]:  # sent without a length
        yield b"x"

    answer = web.put(f"/studio/bring/{project.id}/{made}/file", params={"name": "a.png"}, content=pieces())
    assert answer.status_code == 413
    assert list((settings.incoming / made).iterdir()) == []


def test_a_job_gets_the_upload_once(
    web: TestClient, studio: Studio, store: Store, project: Project, panel: BringPanel, tmp_path: Path
) -> None:
    made = upload(web, project, folder_of_pairs(tmp_path / "set", 1))
    job = submit_upload(studio, panel.form, project.id, made, values(panel, fit="pad", limit="5"))
    assert (job.kind, job.config["path"], job.config["name"]) == ("bring", f"incoming/{made}", "mine")
    assert BringConfig.model_validate(job.config).fit == "pad"
    with pytest.raises(FormError, match="being brought in already"):
        submit_upload(studio, panel.form, project.id, made, values(panel))
    with pytest.raises(FormError, match="There are no files yet"):
        submit_upload(studio, panel.form, project.id, "", values(panel))
    empty = begin(web, project)
    with pytest.raises(SourceError, match="There are no files yet"):
        submit_upload(studio, panel.form, project.id, empty, values(panel))
    with pytest.raises(SourceError, match="not there any more"):
        submit_upload(studio, panel.form, project.id, "../../etc", values(panel))
    with pytest.raises(FormError, match="Limit"):
        submit_upload(studio, panel.form, project.id, begin_with_file(web, project), values(panel, limit="-1"))
    assert len(store.list_jobs(project.id)) == 1


def begin_with_file(web: TestClient, project: Project) -> str:
    made = begin(web, project)
    web.put(f"/studio/bring/{project.id}/{made}/file", params={"name": "a.png"}, content=b"x")
    return made


def test_the_panel_tells_what_became_of_the_files(
    web: TestClient, store: Store, project: Project, panel: BringPanel
) -> None:
    job = store.create_job(Job("", project.id, "bring", {"name": "my <b>set"}))
    for position in range(60):
        store.settle_brought(job.id, position, "refused", refusals=[(f"=<{position}>.png", "It is <empty>.")])
    store.update_job(job.id, state="done", result={"taken": 5, "tie": 2, "refused": 60})
    parts = dict(
        zip(panel._parts, panel.refresh(panel.studio.view(project.id), None)[-len(panel._parts) :], strict=True)
    )
    assert "my &lt;b&gt;set: <b>5</b> taken, <b>2</b> ties, left out, <b>60</b> not taken." in parts["progress"]
    assert parts["refused"].count("<tr>") == 51
    assert "=&lt;0&gt;.png" in parts["refused"]
    assert "and 10 more" in parts["refused"]
    answer = web.get(f"/studio/bring/{project.id}/{job.id}.csv")
    rows = list(csv.reader(StringIO(answer.text)))
    assert len(rows) == 61
    assert rows[1] == ["'=<0>.png", "It is <empty>."]  # quoted: no spreadsheet runs it
    assert web.get(f"/studio/bring/{project.id}/unknown.csv").status_code == 404


def test_the_panel_follows_its_job_and_keeps_what_was_dropped(
    store: Store, project: Project, panel: BringPanel
) -> None:
    first = panel.refresh(panel.studio.view(project.id), None)
    seen = first[0]
    assert seen["zone"] == drop_zone(project.id)
    job = store.create_job(Job("", project.id, "bring", {"name": "mine"}))
    store.update_job(job.id, state="running", step=1, total=4, message="1 of 4 read")
    again = panel.refresh(panel.studio.view(project.id), seen)
    zone = list(panel._parts).index("zone")
    assert again[1 + len(panel.form.components) + zone] == gr.skip()  # files in the drop zone stay
    assert "1 of 4 read" in again[0]["progress"]
    for state, words in (("stopped", "Resume takes the rest"), ("failed", "failed")):
        store.update_job(job.id, state=state, error="It broke.")
        assert words in progress(store.get_job(job.id), "")


# -- take --------------------------------------------------------------------------------------------------------------


def test_the_set_comes_as_a_zip_and_nothing_is_left(
    web: TestClient, store: Store, settings: Settings, project: Project
) -> None:
    pairs = add_pairs(store, settings, project, 3)
    store.add_verdict(Verdict("", pairs[0].id, "Ann", "accept"))
    for form, inside in (("imagefolder", "metadata.jsonl"), ("parquet", "data/train-00000-of-00001.parquet")):
        answer = web.get(f"/studio/take/{project.id}/{form}.zip?which=accepted&names=0")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="sword-{form}.zip"'
        with zipfile.ZipFile(BytesIO(answer.content)) as archive:
            assert inside in archive.namelist()
            assert b"Ann" not in archive.read("verdicts.jsonl")
    assert list(settings.outgoing.iterdir()) == []
    assert web.get(f"/studio/take/{project.id}/csv.zip").status_code == 404
    assert web.get("/studio/take/unknown/parquet.zip").status_code == 404
    assert web.get(f"/studio/take/{project.id}/parquet.zip?which=best").status_code == 409
    assert web.get(f"/studio/take/{project.id}/parquet.zip", headers=ELSEWHERE).status_code == 403
    image_path(settings, pairs[0].safe_image).unlink()
    assert web.get(f"/studio/take/{project.id}/parquet.zip").status_code == 409
    assert list(settings.outgoing.iterdir()) == []


def test_links_say_how_many_pairs_there_are(store: Store, settings: Settings, project: Project) -> None:
    assert "no such pairs" in links(project.id, store.pair_counts(project.id), "all", True)
    pair = add_pairs(store, settings, project, 1)[0]
    store.add_verdict(Verdict("", pair.id, "Ann", "reject"))
    counts = store.pair_counts(project.id)
    assert "no such pairs" in links(project.id, counts, "accepted", True)
    assert "<b>1</b> pair." in links(project.id, counts, "decided", False)
    assert "which=decided&amp;names=0" in links(project.id, counts, "decided", False)


def test_only_the_owner_pushes_and_only_what_there_is(
    studio: Studio, store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    asked: tuple[Any, ...] = (studio, project.id, "all", False)
    assert "only whoever opens this page on the machine" in start_push(*asked, "me/pairs", owner=False)
    assert "has no pairs" in start_push(*asked, "me/pairs", owner=True)
    add_pairs(store, settings, project, 1)
    assert "owner/name" in start_push(*asked, "pairs", owner=True)
    assert start_push(*asked, "me/pairs", owner=True) == ""
    (job,) = store.list_jobs(project.id)
    assert (job.kind, job.config["public"], job.config["names"]) == ("push", False, False)
    store.update_job(job.id, state="done", result={"url": "https://hub/datasets/me/pairs", "pairs": 1})
    assert 'href="https://hub/datasets/me/pairs"' in push_state(store.get_job(job.id), "")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(settings.data / "none"))
    assert "no Hugging Face token" in start_push(*asked, "me/pairs", owner=True)


# -- delete ------------------------------------------------------------------------------------------------------------


def test_pictures_are_deleted_by_the_owner_who_says_the_projects_name(
    studio: Studio, store: Store, settings: Settings, project: Project
) -> None:
    scope: PurgeScope = "pairs"
    assert "nothing to delete" in in_words(plan(store, settings, project.id, scope))
    add_pairs(store, settings, project, 2)
    told = in_words(plan(store, settings, project.id, scope))
    assert "2 pairs, 4 files, 0.0 MB</b> of all pairs." in told
    asked = (studio, project.id, scope)
    assert "Only the owner" in delete_pictures(*asked, "Ann", "", "Sword", owner=False)
    assert "Type the project" in delete_pictures(*asked, "Ann", "", "sword", owner=True)
    assert "Say who" in delete_pictures(*asked, "", "", "Sword", owner=True)
    assert store.pair_counts(project.id).ready == 2
    assert "Deleted: 2 pairs, 4 files" in delete_pictures(*asked, "<Ann>", "asked to", "Sword", owner=True)
    assert store.pair_counts(project.id).ready == 0
    table = booked(store.list_purges(project.id))
    assert "&lt;Ann&gt;" in table
    assert "asked to" in table
    assert booked([]) == ""


def test_days_are_whole_numbers(studio: Studio, store: Store, project: Project) -> None:
    for wrong in ("-1", "1.5", "many", "99999"):
        assert "whole number" in keep_for(studio, project.id, wrong, owner=True)
    assert "Only the owner" in keep_for(studio, project.id, "30", owner=False)
    assert store.get_project(project.id).retention_days == 0
    assert "after 30 days" in keep_for(studio, project.id, " 30 ", owner=True)
    assert store.get_project(project.id).retention_days == 30
    assert "kept" in keep_for(studio, project.id, "", owner=True)
    assert store.get_project(project.id).retention_days == 0
