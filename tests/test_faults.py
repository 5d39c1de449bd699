"""What happens to servers: kills, a full disk, a read-only folder, a locked database, two servers on one folder."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio import database
from studio.records import ImagePair, Project, PromptPair
from studio.settings import REPOSITORY, Settings
from studio.store import Store, integrity_of
from studio.ui.curation import curation_routes
from tests.faults import JOBS, VICTIMS, Round, run, schedule, writes
from tests.hosted import hosted


@pytest.fixture
def pair(store: Store, project: Project) -> ImagePair:
    return add_pair(store, project)


def add_pair(store: Store, project: Project) -> ImagePair:
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=1)])
    return store.add_image_pair(ImagePair("", project.id, prompt.id, 0, 1, "ready", "ab" * 32, "cd" * 32))


def told(pair: ImagePair, number: int) -> dict[str, str]:
    return {"id": f"{number:012x}", "pair": pair.id, "version": pair.version, "verdict": "accept", "reviewer": "Ann"}


# -- kills -----------------------------------------------------------------------------------------------------------


def test_a_schedule_is_the_same_for_the_same_seed_and_kills_everybody() -> None:
    assert schedule(7, 20) == schedule(7, 20) != schedule(8, 20)
    turns = schedule(0, len(VICTIMS) * len(JOBS))
    assert {(turn.kind, turn.victim) for turn in turns} == {(kind, victim) for kind in JOBS for victim in VICTIMS}
    assert {turn.inside for turn in turns} == {True, False}


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux says who holds a lock")
def test_who_is_in_the_middle_of_a_transaction_is_known(settings: Settings, store: Store, project: Project) -> None:
    code = """import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("in", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
print("out", flush=True)
sys.stdin.readline()"""
    with subprocess.Popen(
        [sys.executable, "-c", code, settings.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        seen = {}
        for _ in range(2):
            said = other.stdout.readline().strip()
            seen[said] = writes(other.pid, settings.database)
            other.stdin.write("\n")
            other.stdin.flush()
    assert seen == {"in": True, "out": False}
    assert not writes(os.getpid(), settings.database)


@pytest.mark.slow
def test_kills_of_worker_page_and_both_lose_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    """A short one of `make faults`: see tests/faults.py for what is checked after each."""
    turns = [Round("pairs", victim, 0.5, inside=True) for victim in VICTIMS]
    assert run(Settings(tmp_path / "data", device="cpu", threads=1, toybox=tiny_folder), turns) > 20


# -- the database ----------------------------------------------------------------------------------------------------


def test_a_locked_database_is_told_and_the_next_decision_is_taken(
    settings: Settings, store: Store, project: Project, pair: ImagePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    client = TestClient(Starlette(routes=curation_routes(settings, Store(settings.database))))
    with sqlite3.connect(settings.database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = client.post(f"/studio/curation/{project.id}/decide", json=told(pair, 1))
        assert answer.status_code == 503
        assert "is locked). Nothing was kept; try again" in answer.json()["error"]
        other.execute("ROLLBACK")
    other.close()
    assert client.post(f"/studio/curation/{project.id}/decide", json=told(pair, 1)).status_code == 200
    assert len(store.list_verdicts(project.id)) == 1


@pytest.mark.slow
def test_two_servers_on_one_folder_keep_all_decisions(settings: Settings, store: Store, project: Project) -> None:
    pair, second = add_pair(store, project), Store(settings.database)
    with hosted(settings, store) as one, hosted(settings, second) as other:
        visitors = [one.visitor(""), other.visitor("")]
        for number in range(10):
            path = f"/studio/curation/{project.id}/decide"
            assert visitors[number % 2].post(path, json=told(pair, number)).status_code == 200
        assert visitors[0].get(f"/studio/curation/{project.id}/counts").json()["counts"]["accepted"] == 1
    assert len(store.list_verdicts(project.id)) == 10
    second.close()


# -- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_is_told_loses_nothing_and_work_goes_on_once_there_is_room(small_disk: Path) -> None:
    settings = Settings(small_disk / "data")
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    pair = add_pair(store, project)
    client = TestClient(Starlette(routes=curation_routes(settings, store)))
    path = f"/studio/curation/{project.id}/decide"
    assert client.post(path, json=told(pair, 0)).status_code == 200
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    kept, answers = [0], []
    for number in range(1, 400):
        answer = client.post(path, json=told(pair, number))
        answers.append(answer.status_code)
        if answer.status_code == 200:
            kept.append(number)
        else:
            assert answer.status_code == 503, answer.text
            assert "full" in answer.json()["error"]
            break
    assert answers[-1] == 503, "the disk was not full"
    filler.unlink()
    assert client.post(path, json=told(pair, 999)).status_code == 200
    assert {int(one.id, 16) for one in store.list_verdicts(project.id)} == {*kept, 999}
    store.close()
    assert integrity_of(settings.database) == []


@pytest.mark.slow
def test_a_read_only_folder_is_told_at_the_start(small_disk: Path, free_port: int) -> None:
    Store(small_disk / "data" / "studio.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    environment = {**os.environ, "DUO_STUDIO_DATA": str(small_disk / "data"), "GRADIO_SERVER_PORT": str(free_port)}
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Read-only file system" in done.stderr or "readonly" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
