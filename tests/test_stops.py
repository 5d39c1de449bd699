"""A pair that may be illegal: hidden from every list, training and archive, its files frozen, all of it logged."""

from __future__ import annotations

import sqlite3
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.archive import export_project, import_project
from studio.cleaning import find_unused
from studio.cli import main
from studio.images import image_path
from studio.records import Checkpoint, ImagePair, Job, PairCounts, PairQuery, PairStop, Project, Verdict
from studio.settings import Settings
from studio.stopping import CONTACTS, lift_stop, pair_files, purge_pair, stop_pair, trained_on
from studio.store import PairStoppedError, Store, StoreError
from studio.ui.stops import stop_dialogs, stop_routes
from tests.curation_data import add_pairs


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    """Four accepted pairs with latents."""
    made = add_pairs(store, settings, project, 4)
    for pair in made:
        store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
        (settings.latents / f"{pair.id}-{pair.safe_image[:12]}.safetensors").write_bytes(pair.id.encode())
    return made


def stop(store: Store, settings: Settings, pair: ImagePair, reviewer: str = "Ann") -> PairStop:
    return stop_pair(store, settings, PairStop("", pair.id, "stop", reviewer, "a reason"), pair.version)


def ids(pairs: list[ImagePair]) -> list[str]:
    return [pair.id for pair in pairs]


def test_a_stopped_pair_is_in_nothing_that_the_store_answers(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    mark = store.pairs_mark(project.id)
    made = stop(store, settings, pairs[1])
    rest = [pairs[0].id, pairs[2].id, pairs[3].id]
    assert store.pairs_mark(project.id) != mark
    assert ids(store.list_image_pairs(project.id)) == ids(store.accepted_pairs(project.id)) == rest
    assert sorted(ids(store.newest_pairs(project.id, "ready", 9))) == sorted(rest)
    assert list(store.current_verdicts(project.id)) == rest
    for shows in ("accepted", "all"):
        assert [one.pair.id for one in store.page_of_pairs(project.id, PairQuery(shows))] == rest  # type: ignore[arg-type]
    after = store.page_of_pairs(project.id, PairQuery("all"), after=pairs[1].id)
    assert [one.pair.id for one in after] == rest[1:]
    for ask in (store.get_image_pair, store.curated_pair):
        with pytest.raises(PairStoppedError, match="may be illegal"):
            ask(pairs[1].id)
    with pytest.raises(PairStoppedError):
        store.add_verdict(Verdict("", pairs[1].id, "Bob", "reject"))
    assert store.pair_counts(project.id) == PairCounts(wanted=4, ready=3, accepted=3, stopped=1)
    assert store.missing_pairs(project.id) == 0
    assert len(store.made_places(project.id)) == 4  # so that it is not drawn again from the same seed
    assert store.standing_stops(project.id) == [made]


def test_a_lift_gives_everything_back_and_both_are_kept(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    before = store.pair_counts(project.id)
    stop(store, settings, pairs[1])
    with pytest.raises(StoreError, match="takes a reason"):
        lift_stop(store, settings, PairStop("", pairs[1].id, "lift", "Owner", "  "))
    lift_stop(store, settings, PairStop("", pairs[1].id, "lift", "Owner", "it is a cartoon"))
    assert store.pair_counts(project.id) == before
    assert store.get_image_pair(pairs[1].id) == pairs[1]
    history = [(row.action, row.reviewer, row.reason) for row in store.list_stops(project.id)]
    assert history == [("stop", "Ann", "a reason"), ("lift", "Owner", "it is a cartoon")]
    assert store.standing_stops(project.id) == []
    with pytest.raises(StoreError, match="not stopped"):
        lift_stop(store, settings, PairStop("", pairs[1].id, "lift", "Owner", "again"))


def test_the_log_can_only_grow(store: Store, settings: Settings, pairs: list[ImagePair]) -> None:
    made = stop(store, settings, pairs[0])
    with sqlite3.connect(settings.database) as raw:
        for change in ("UPDATE pair_stops SET reason = ''", "DELETE FROM pair_stops"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(change)
        with pytest.raises(sqlite3.IntegrityError, match="stay as they are"):
            raw.execute("UPDATE image_pairs SET unsafe_image = '' WHERE id = ?", (pairs[0].id,))
    raw.close()
    assert stop_pair(store, settings, made) == made  # told again: one row
    assert len(store.list_stops(pairs[0].project_id)) == 1


def test_what_cannot_be_stopped_says_so(store: Store, settings: Settings, pairs: list[ImagePair]) -> None:
    with pytest.raises(StoreError, match="made again"):
        stop_pair(store, settings, PairStop("", pairs[0].id, "stop", "Ann"), "another version")
    store.update_image_pair(pairs[0].id, state="failed")
    with pytest.raises(StoreError, match="no pictures"):
        stop_pair(store, settings, PairStop("", pairs[0].id, "stop", "Ann"))
    assert store.list_stops(pairs[0].project_id) == []


def test_every_pair_with_one_of_the_pictures_is_hidden(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    """An unsafe picture may have several twins, in several projects, and may be imported once more later."""
    other = store.create_project(Project("", "Other", "sword", "toybox", "toybox"))
    (elsewhere, *_) = add_pairs(store, settings, other, 2)
    assert elsewhere.unsafe_image == pairs[0].unsafe_image
    stop(store, settings, pairs[0])
    assert store.is_stopped(elsewhere.id)
    assert store.pair_counts(other.id).stopped == 1
    later = replace(pairs[3], id="", index=77, safe_image=pairs[0].unsafe_image)
    assert store.is_stopped(store.add_image_pair(later).id)
    store.update_image_pair(pairs[3].id, unsafe_image=pairs[0].safe_image)
    assert store.is_stopped(pairs[3].id)
    with pytest.raises(StoreError, match="not stopped itself"):
        lift_stop(store, settings, PairStop("", elsewhere.id, "lift", "Owner", "why"))
    lift_stop(store, settings, PairStop("", pairs[0].id, "lift", "Owner", "why"))
    assert store.pair_counts(other.id).stopped == store.pair_counts(project.id).stopped == 0


def test_its_files_are_read_only_and_never_cleaned(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    made = stop(store, settings, pairs[2])
    files = list(pair_files(settings, made))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o444}
    unused = {file for kind in find_unused(store, settings, -1) for file in kind.files}
    assert not unused & set(files)
    lift_stop(store, settings, PairStop("", pairs[2].id, "lift", "Owner", "why"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o644}


def test_only_a_purge_deletes_and_the_pair_stays_hidden(
    store: Store, settings: Settings, pairs: list[ImagePair]
) -> None:
    made = stop(store, settings, pairs[2])
    assert purge_pair(store, settings, PairStop("", pairs[2].id, "purge", "Owner", "the police has it")) == 3
    assert list(pair_files(settings, made)) == []
    assert store.is_stopped(pairs[2].id)
    assert [row.action for row in store.list_stops(pairs[2].project_id)] == ["stop", "purge"]
    for action in ("lift", "purge", "stop"):
        with pytest.raises(StoreError, match="deleted"):
            store.add_stop(PairStop("", pairs[2].id, action, "Owner", "why"))  # type: ignore[arg-type]


def test_an_archive_holds_no_trace_of_its_pictures(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    stop(store, settings, pairs[1])
    export_project(store, settings, project.id, tmp_path / "sword.zip")
    with zipfile.ZipFile(tmp_path / "sword.zip") as archive:
        whole = "\n".join([*archive.namelist(), archive.read("rows.json").decode()])
        assert len([name for name in archive.namelist() if name.startswith("latents/")]) == 3
    assert pairs[1].unsafe_image not in whole
    assert pairs[1].safe_image not in whole
    assert pairs[0].unsafe_image in whole
    elsewhere = Settings(tmp_path / "elsewhere", device="cpu", threads=1)
    other = Store(elsewhere.database)
    import_project(other, elsewhere, tmp_path / "sword.zip")
    assert other.pair_counts(project.id) == PairCounts(wanted=4, ready=3, failed=1, accepted=3)
    assert other.missing_pairs(project.id) == 0
    assert len(other.list_verdicts(project.id)) == 3
    other.close()


def test_waiting_and_running_work_lets_go_of_it(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    both = store.create_job(Job("", project.id, "pairs", {"redo": [pairs[0].id, pairs[1].id]}))
    alone = store.create_job(Job("", project.id, "pairs", {"redo": [pairs[1].id]}))
    missing = store.create_job(Job("", project.id, "pairs", {"redo": []}))
    trains = {
        name: store.create_job(Job("", project.id, kind, config))  # type: ignore[arg-type]
        for name, kind, config in (
            ("uses it", "train", {"pairs": [pairs[1].id]}),
            ("another", "train", {"pairs": [pairs[0].id]}),
            ("prompts alone", "train", {"pairs": []}),
            ("is still loading", "train", {}),
            ("demo", "demo", {"stages": {"duo": {"pairs": [pairs[1].id]}}}),
            ("evaluates", "evaluate", {}),
        )
    }
    for job in trains.values():
        store.update_job(job.id, state="running")
    stop(store, settings, pairs[1])
    assert store.get_job(both.id).config["redo"] == [pairs[0].id]
    assert (store.get_job(alone.id).state, store.get_job(missing.id).state) == ("stopped", "queued")
    stopping = {name for name, job in trains.items() if store.get_job(job.id).state == "stopping"}
    assert stopping == {"uses it", "is still loading", "demo"}
    assert store.being_made_again(project.id) == {pairs[0].id}


def test_a_pair_that_is_just_made_again_stays_as_it_was(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    job = store.create_job(Job("", project.id, "pairs", {"redo": ids(pairs[:2])}))
    store.update_job(job.id, state="running")
    store.begin_remake(job.id)
    stop(store, settings, pairs[0])
    store.settle_remake(job.id, pairs[0].id, made=True, tried=2, unsafe_image="ab" * 32, safe_image="cd" * 32)
    settled = store.get_job(job.id)
    assert (settled.config["redo"], settled.result["not_remade"]) == ([pairs[1].id], {pairs[0].id: 2})
    lift_stop(store, settings, PairStop("", pairs[0].id, "lift", "Owner", "why"))
    assert store.get_image_pair(pairs[0].id) == pairs[0]
    assert pairs[0].id in store.current_verdicts(project.id)


def test_models_that_were_trained_on_it_are_named(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    def model(name: str, config: dict[str, object], stage: str = "") -> None:
        job = store.create_job(Job("", project.id, "train", config))
        folder = settings.checkpoints / (f"{job.id}-{stage}" if stage else job.id)
        store.add_checkpoint(
            Checkpoint("", project.id, job.id, "duo", name, str(folder / "a.safetensors"), name, "lora")
        )

    model("With", {"pairs": [pairs[0].id]})
    model("Without", {"pairs": [pairs[1].id]})
    stages = {"duo": {"pairs": [pairs[0].id]}, "esd": {"pairs": []}}
    model("Demo's DUO", {"stages": stages}, "duo")
    model("Demo's ESD", {"stages": stages}, "esd")
    assert trained_on(store, project.id, pairs[0].id) == ["With", "Demo's DUO"]


def test_the_owner_lists_lifts_and_purges_in_a_shell(
    store: Store,
    settings: Settings,
    project: Project,
    pairs: list[ImagePair],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    stop(store, settings, pairs[0])
    stop(store, settings, pairs[1])
    assert main(["stopped", "list", project.id]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in (pairs[0].id, "stop", "Ann", "a reason"))
    assert pairs[0].unsafe_image[:12] not in listed
    assert main(["stopped", "lift", pairs[0].id, "--by", "Owner", "--reason", "a cartoon"]) == 0
    assert not store.is_stopped(pairs[0].id)
    assert main(["stopped", "lift", pairs[0].id, "--by", "Owner", "--reason", "a cartoon"]) == 2
    purge = ["stopped", "purge", pairs[1].id, "--by", "Owner", "--reason", "told to", "--confirm"]
    assert main([*purge, "yes"]) == 2
    assert image_path(settings, pairs[1].unsafe_image).exists()
    assert main([*purge, pairs[1].id]) == 0
    assert not image_path(settings, pairs[1].unsafe_image).exists()


def test_counting_stays_quick_beside_many_pairs(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    """The numbers are kept by triggers: no row of a pair is looked at for them."""
    asked: list[str] = []
    with store._db.tracer(lambda sql, values: asked.append(sql)):
        counts = store.pair_counts(project.id)
    assert counts.ready == len(pairs)
    assert "pair_tallies" in " ".join(asked)
    assert "image_pairs" not in " ".join(asked)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@dataclass
class Reviewer:
    """Somebody who asks the page; on the machine that it runs on, the owner."""

    client: TestClient
    project: Project
    told: int = 0

    def tell(self, path: str, pair: ImagePair, **more: object) -> Any:
        self.told += 1
        body = {"id": f"{self.told:024x}", "pair": pair.id, "reviewer": "Ann", "confirmed": True, **more}
        return self.client.post(f"/studio/curation/{self.project.id}/{path}", json=body)

    def stop(self, pair: ImagePair, **more: object) -> Any:
        return self.tell("stop", pair, **{"version": pair.version, "reason": "looks wrong", **more})

    def stops(self) -> Any:
        return self.client.get(f"/studio/curation/{self.project.id}/stops").json()


@pytest.fixture
def somebody(store: Store, settings: Settings, project: Project, pairs: list[ImagePair]) -> Iterator[Reviewer]:
    app = Starlette(routes=stop_routes(settings, store))
    with TestClient(app, client=("10.0.0.7", 5000)) as client:
        yield Reviewer(client, project)


@pytest.fixture
def owner(store: Store, settings: Settings, project: Project, somebody: Reviewer) -> Iterator[Reviewer]:
    with TestClient(Starlette(routes=stop_routes(settings, store)), client=("127.0.0.1", 5000)) as client:
        yield Reviewer(client, project, told=100)


def test_a_stop_is_confirmed_or_it_is_none(somebody: Reviewer, store: Store, pairs: list[ImagePair]) -> None:
    for wrong in ({"confirmed": False}, {"confirmed": "no"}, {"reviewer": ""}, {"reviewer": "detector"}, {"id": "x"}):
        assert somebody.stop(pairs[0], **wrong).status_code == 422, wrong
    without = {"id": "f" * 24, "pair": pairs[0].id, "version": pairs[0].version, "reviewer": "Ann"}
    address = f"/studio/curation/{somebody.project.id}/stop"
    assert somebody.client.post(address, json=without).status_code == 422
    foreign = somebody.client.post(
        address, json=without | {"confirmed": True}, headers={"sec-fetch-site": "cross-site"}
    )
    assert foreign.status_code == 403
    assert somebody.stop(pairs[0], version="another").status_code == 409
    other = store.create_project(Project("", "Other", "sword", "toybox", "toybox"))
    assert Reviewer(somebody.client, other).stop(pairs[0]).status_code == 404
    assert store.list_stops(somebody.project.id) == []


def test_a_stop_told_twice_is_one(somebody: Reviewer, store: Store, pairs: list[ImagePair]) -> None:
    for _ in range(2):
        answer = somebody.stop(pairs[0], id="a" * 24)
        assert (answer.status_code, answer.json()) == (200, {"stopped": 1})
    (row,) = store.list_stops(somebody.project.id)
    assert (row.action, row.reviewer, row.reason) == ("stop", "Ann", "looks wrong")


def test_only_the_owner_lifts_and_says_why(
    somebody: Reviewer, owner: Reviewer, store: Store, pairs: list[ImagePair]
) -> None:
    somebody.stop(pairs[0])
    refused = somebody.tell("lift", pairs[0], reason="it is a cartoon")
    assert (refused.status_code, "Only the owner" in refused.json()["error"]) == (409, True)
    assert owner.tell("lift", pairs[0], reason="  ").status_code == 422
    assert owner.tell("lift", pairs[0], reason="why", confirmed=False).status_code == 422
    assert store.is_stopped(pairs[0].id)
    assert (somebody.stops()["may_lift"], owner.stops()["may_lift"]) == (False, True)
    assert owner.tell("lift", pairs[0], reason="it is a cartoon").json() == {"stopped": 0, "hidden": False}
    assert not store.is_stopped(pairs[0].id)
    assert [(row["action"], row["by"], row["reason"], row["stands"]) for row in owner.stops()["rows"]] == [
        ("lift", "Ann", "it is a cartoon", False),
        ("stop", "Ann", "looks wrong", False),
    ]


def test_the_browser_is_told_to_forget(somebody: Reviewer) -> None:
    answer = somebody.client.get(f"/studio/curation/{somebody.project.id}/forget")
    assert (answer.status_code, answer.headers["clear-site-data"]) == (204, '"cache"')


def test_the_owner_is_told_what_to_do_and_that_it_is_no_advice() -> None:
    html = stop_dialogs()
    for word in ("NCMEC CyberTipline", "IWF", "local police", "no legal advice", "Do not copy", "as they are"):
        assert word in html
    assert all(address in html for _, _, address in CONTACTS)
    assert 'data-do="stop-it" disabled' in html  # nothing is pressed by accident
    assert "aria-keyshortcuts" not in html
