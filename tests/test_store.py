"""The store on a real SQLite file: records go in and out unchanged, verdicts are append-only, claims are atomic."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database

from studio.migrations import migrations
from studio.records import Checkpoint, Evaluation, ImagePair, Job, Project, PromptPair, Verdict
from studio.settings import REPOSITORY, Settings
from studio.store import NotFoundError, Store, StoreError


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"threshold": 0.5}))


@pytest.fixture
def pairs(store: Store, project: Project) -> list[ImagePair]:
    [prompts] = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=3)])
    return [store.add_image_pair(ImagePair("", project.id, prompts.id, i, seed=i, state="ready")) for i in range(3)]


def make_job(store: Store, project: Project, kind: str = "pairs") -> Job:
    return store.create_job(Job("", project.id, kind, {"steps": 20}))


def judge(store: Store, pair: ImagePair, verdict: str, reviewer: str = "ann", **more) -> Verdict:
    return store.add_verdict(Verdict("", pair.id, reviewer, verdict, **more))


# -- records -----------------------------------------------------------------------------------------------------------


def test_every_record_comes_back_as_it_went_in(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    job = make_job(store, project)
    checkpoint = Checkpoint("", project.id, job.id, "duo", "DUO", "a.safetensors", "ab", "lora", {"beta": 500.0}, 1.5)
    checkpoint = store.add_checkpoint(checkpoint)
    evaluation = store.add_evaluation(Evaluation("", project.id, job.id, "folder", {"n": 3, "rates": [0.1]}))
    verdict = judge(store, pairs[0], "accept", revealed=True, milliseconds=900)
    assert store.get_project(project.id) == project
    assert store.list_projects() == [project]
    assert store.get_image_pair(pairs[1].id) == pairs[1]
    assert store.get_job(job.id) == job
    assert store.get_checkpoint(checkpoint.id) == checkpoint == store.list_checkpoints(project.id)[0]
    assert store.get_evaluation(evaluation.id) == evaluation == store.list_evaluations()[0]
    assert store.last_evaluated_project_id() == project.id
    assert store.list_verdicts(project.id) == [verdict]
    assert verdict.revealed is True
    assert project.created > 0
    assert project.id != ""


def test_get_names_what_is_missing(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no Job with the id 'nope'"):
        store.get_job("nope")


def test_add_prompt_pairs_is_all_or_nothing(store: Store, project: Project) -> None:
    good = PromptPair("same", project.id, "a", "b")
    with pytest.raises(StoreError, match="UNIQUE"):
        store.add_prompt_pairs([good, good])
    assert store.list_prompt_pairs(project.id) == []
    assert store.add_prompt_pairs([good]) == store.list_prompt_pairs(project.id) == [good]


def test_image_pair_of_an_unknown_project_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.add_image_pair(ImagePair("", "nope", "nope", 0, 0, "ready"))


def test_image_pair_twice_for_one_index_is_refused(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    with pytest.raises(StoreError, match="prompt_pair_id"):
        store.add_image_pair(ImagePair("", project.id, pairs[0].prompt_pair_id, 0, 0, "ready"))


def test_update_image_pair(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    changed = store.update_image_pair(pairs[1].id, state="failed", reason="sword kept", distance=0.25)
    assert (changed.state, changed.reason, changed.distance) == ("failed", "sword kept", 0.25)
    assert [p.index for p in store.list_image_pairs(project.id, "failed")] == [1]
    assert [p.index for p in store.list_image_pairs(project.id, "ready")] == [0, 2]
    assert [p.index for p in store.list_image_pairs(project.id)] == [0, 1, 2]
    with pytest.raises(StoreError, match="colour: no field"):
        store.update_image_pair(pairs[1].id, colour="red")
    with pytest.raises(NotFoundError):
        store.update_image_pair("nope", reason="")


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_latest_verdict_counts_and_undo_brings_back_the_one_before(store: Store, pairs: list[ImagePair]) -> None:
    pair, project_id = pairs[0], pairs[0].project_id
    accept = judge(store, pair, "accept")
    reject = judge(store, pair, "reject")
    assert reject.supersedes == accept.id
    assert store.current_verdicts(project_id) == {pair.id: reject}
    undo = judge(store, pair, "undo")
    assert undo.supersedes == reject.id
    assert store.current_verdicts(project_id) == {pair.id: accept}
    judge(store, pair, "undo")
    assert store.current_verdicts(project_id) == {}
    assert [v.verdict for v in store.list_verdicts(project_id)] == ["accept", "reject", "undo", "undo"]
    with pytest.raises(StoreError, match="ann has no standing verdict"):
        judge(store, pair, "undo")


def test_undo_of_a_named_verdict(store: Store, pairs: list[ImagePair]) -> None:
    first = judge(store, pairs[0], "reject")
    second = judge(store, pairs[0], "accept")
    judge(store, pairs[0], "undo", supersedes=first.id)
    assert store.current_verdicts(pairs[0].project_id) == {pairs[0].id: second}
    with pytest.raises(StoreError, match="bob has no standing verdict"):
        judge(store, pairs[0], "undo", reviewer="bob", supersedes=second.id)


def test_a_person_outranks_the_detector_and_a_decision_a_skip(store: Store, pairs: list[ImagePair]) -> None:
    a, b, c = pairs
    person = judge(store, a, "reject")
    judge(store, a, "accept", "detector")
    by_detector = judge(store, b, "accept", "detector")
    judge(store, b, "skip")
    judge(store, c, "accept")
    latest = judge(store, c, "reject", "bob")
    assert store.current_verdicts(a.project_id) == {a.id: person, b.id: by_detector, c.id: latest}


def test_latest_of_two_people_counts_after_a_change_of_mind(store: Store, pairs: list[ImagePair]) -> None:
    judge(store, pairs[0], "accept", "ann")
    judge(store, pairs[0], "reject", "bob")
    changed = judge(store, pairs[0], "accept", "ann")
    assert store.current_verdicts(pairs[0].project_id) == {pairs[0].id: changed}


def test_accepted_pairs_leaves_out_failed_and_undecided_ones(store: Store, pairs: list[ImagePair]) -> None:
    for pair in pairs[:2]:
        judge(store, pair, "accept", "detector")
    store.update_image_pair(pairs[1].id, state="failed")
    assert store.accepted_pairs(pairs[0].project_id) == [pairs[0]]


def test_verdicts_cannot_be_rewritten(store: Store, settings: Settings, pairs: list[ImagePair]) -> None:
    judge(store, pairs[0], "accept")
    with sqlite3.connect(settings.database) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("UPDATE verdicts SET verdict = 'reject'")
    raw.close()


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_claim_is_given_once(store: Store, project: Project) -> None:
    job = make_job(store, project)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda pid: store.claim_job(job.id, pid, 1.0), range(100, 108)))
    assert won.count(True) == 1
    claimed = store.get_job(job.id)
    assert (claimed.state, claimed.pid) == ("running", 100 + won.index(True))
    assert claimed.started is not None


def test_claim_waits_while_another_job_runs(store: Store, project: Project) -> None:
    first, second = make_job(store, project), make_job(store, project)
    assert store.claim_job(first.id, 1, 1.0)
    assert not store.claim_job(second.id, 2, 1.0)
    assert store.claim_job(second.id, 2, 1.0, exclusive=False)


def test_two_jobs_claimed_at_once_by_two_threads_do_not_both_run(store: Store, project: Project) -> None:
    jobs = [make_job(store, project) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda job: store.claim_job(job.id, 1, 1.0), jobs))
    assert won.count(True) == 1


def test_request_stop(store: Store, project: Project) -> None:
    queued, running, done = (make_job(store, project) for _ in range(3))
    store.claim_job(running.id, 1, 1.0)
    store.update_job(done.id, state="done")
    assert store.request_stop(queued.id).state == "stopped"
    stopping = store.request_stop(running.id)
    assert (stopping.state, stopping.finished) == ("stopping", None)
    assert store.request_stop(done.id).state == "done"
    assert store.stop_requested(running.id)
    assert not store.stop_requested(done.id)
    again = store.request_stop(running.id)
    assert again.stop_asked == stopping.stop_asked


def test_update_job_to_a_final_state_sets_the_end(store: Store, project: Project) -> None:
    job = make_job(store, project)
    store.update_job(job.id, eta_seconds=5.0, result={"pairs": 3})
    done = store.update_job(job.id, state="done")
    assert (done.eta_seconds, done.result) == (None, {"pairs": 3})
    assert done.finished is not None


def test_bury_job_spares_a_job_that_finished_meanwhile(store: Store, project: Project) -> None:
    job = make_job(store, project)
    store.claim_job(job.id, 7, 1.0)
    assert not store.bury_job(job.id, 8, "gone")
    store.update_job(job.id, state="done")
    assert not store.bury_job(job.id, 7, "gone")
    assert store.get_job(job.id).state == "done"


def test_requeue_keeps_the_id_and_clears_the_failure(store: Store, project: Project) -> None:
    job = make_job(store, project)
    with pytest.raises(StoreError, match="is queued; only a failed or stopped"):
        store.requeue_job(job.id)
    store.claim_job(job.id, 7, 1.0)
    store.bury_job(job.id, 7, "killed")
    assert store.get_job(job.id).error == "killed"
    again = store.requeue_job(job.id)
    assert (again.id, again.state, again.error, again.pid, again.finished) == (job.id, "queued", "", None, None)


def test_list_jobs_filters(store: Store, project: Project) -> None:
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    first, second, third = make_job(store, project), make_job(store, project), make_job(store, other)
    store.update_job(second.id, state="failed")
    assert [job.id for job in store.list_jobs()] == [first.id, second.id, third.id]
    assert [job.id for job in store.list_jobs(project.id)] == [first.id, second.id]
    assert [job.id for job in store.list_jobs(states=("queued",))] == [first.id, third.id]
    assert store.list_jobs(states=()) == []


def test_what_is_done_to_a_records_dictionary_stays_in_that_record(store: Store, project: Project) -> None:
    job = make_job(store, project)
    store.get_job(job.id).config["steps"] = 99
    assert store.get_job(job.id).config == store.list_jobs()[0].config == {"steps": 20}
    store.update_job(job.id, config={"steps": 21})
    assert store.get_job(job.id).config == {"steps": 21}


def test_job_metrics_of_a_repeated_step_are_replaced_and_nan_survives(store: Store, project: Project) -> None:
    job = make_job(store, project)
    store.add_job_metrics(job.id, 2, {"loss": math.nan})
    store.add_job_metrics(job.id, 1, {"loss": 0.7, "prior": 0.1})
    store.add_job_metrics(job.id, 1, {"loss": 0.6})
    one, two = store.job_metrics(job.id)
    assert one == {"step": 1, "loss": 0.6, "prior": 0.1}
    assert math.isnan(two["loss"])


# -- the file ----------------------------------------------------------------------------------------------------------


def test_data_outlives_the_store_and_migrations_run_once(store: Store, project: Project, settings: Settings) -> None:
    store.close()
    again = Store(settings.database)
    assert again.list_projects() == [project]
    assert store.get_project(project.id) == project  # a closed store opens again by itself
    again.close()


def test_wal_with_a_busy_timeout(store: Store, settings: Settings) -> None:
    assert store._db.journal_mode == "wal"
    assert store._db.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000


def test_a_thread_may_use_a_store_made_in_another(store: Store, project: Project) -> None:
    found: list[Project] = []
    thread = threading.Thread(target=lambda: found.extend(store.list_projects()))
    thread.start()
    thread.join()
    assert found == [project]


def test_a_failed_transaction_leaves_no_lock(store: Store, project: Project, settings: Settings) -> None:
    with pytest.raises(StoreError):
        store.add_prompt_pairs([PromptPair("", "nope", "a", "b")])
    other = Store(settings.database)
    other.create_project(Project("", "Second", "cane", "toybox", "toybox"))
    other.close()
    assert len(store.list_projects()) == 2


def test_files_are_found_again_after_the_data_folder_was_moved(
    store: Store, settings: Settings, project: Project
) -> None:
    job = make_job(store, project)
    adapter = settings.checkpoints / job.id / "adapter.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"adapter")
    inside = store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(adapter), "ab", "lora"))
    outside = store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", "/elsewhere/a", "ab", "lora"))
    folder = settings.evaluations / job.id
    evaluation = store.add_evaluation(Evaluation("", project.id, job.id, str(folder)))
    assert (inside.path, evaluation.folder) == (str(adapter), str(folder))
    assert (store.get_checkpoint(inside.id), store.get_evaluation(evaluation.id)) == (inside, evaluation)
    store.close()
    moved = settings.data.rename(settings.data.parent / "moved")
    again = Store(moved / settings.database.name)
    assert Path(again.get_checkpoint(inside.id).path).read_bytes() == b"adapter"
    assert again.get_checkpoint(outside.id) == outside
    assert again.get_evaluation(evaluation.id).folder == str(moved / "evaluations" / job.id)
    again.close()


@pytest.mark.parametrize("moved_before", [False, True])
def test_absolute_paths_of_older_files_become_relative(tmp_path: Path, moved_before: bool) -> None:
    """Also those that an earlier move has broken, where the file can be found by the end of its path."""
    data = tmp_path / "data"
    (data / "checkpoints" / "1").mkdir(parents=True)
    (data / "checkpoints" / "1" / "adapter.safetensors").write_bytes(b"adapter")
    (data / "evaluations" / "2").mkdir(parents=True)
    old = Database(data / "studio.db")
    migrations.apply(old, stop_before="paths_in_the_data_folder")
    was = tmp_path / "before" if moved_before else data
    old.execute(
        "INSERT INTO projects (id, name, concept, checkpoint, detector, detector_settings, created) "
        "VALUES ('p', '', '', '', '', '{}', 0)"
    )
    old.execute(
        "INSERT INTO jobs (id, project_id, kind, config, state, step, total, message, error, result, created) "
        "VALUES ('j', 'p', '', '{}', 'done', 0, 0, '', '', '{}', 0)"
    )
    paths = (str(was / "checkpoints/1/adapter.safetensors"), str(tmp_path / "checkpoints/9/adapter.safetensors"))
    for index, path in enumerate(paths):
        old.execute("INSERT INTO checkpoints VALUES (?, 'p', 'j', 'duo', '', ?, '', 'lora', '{}', 0, 0)", (index, path))
    old.execute("INSERT INTO evaluations VALUES ('e', 'p', 'j', ?, '{}', 0)", (str(was / "evaluations/2"),))
    old.conn.commit()
    old.close()
    store = Store(data / "studio.db")
    found, elsewhere = store.list_checkpoints()
    assert Path(found.path) == data / "checkpoints/1/adapter.safetensors"
    assert elsewhere.path == paths[1]
    assert store.get_evaluation("e").folder == str(data / "evaluations/2")
    kept = [row["path"] for row in store._db.query("SELECT path FROM checkpoints")]
    assert kept == ["checkpoints/1/adapter.safetensors", paths[1]]
    store.close()


WRITER = """
import sys
from pathlib import Path
from studio.records import Project
from studio.store import Store
store = Store(Path(sys.argv[1]))
for i in range(25):
    store.create_project(Project("", f"{sys.argv[2]}-{i}", "sword", "toybox", "toybox"))
"""


def test_several_processes_may_create_and_fill_one_file(tmp_path: Path) -> None:
    database = tmp_path / "new" / "studio.db"
    command = [sys.executable, "-c", WRITER, str(database)]
    writers = [subprocess.Popen([*command, str(n)], cwd=REPOSITORY, stderr=subprocess.PIPE) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors.decode()
    store = Store(database)
    assert len(store.list_projects()) == 100
    store.close()


def test_without_evaluations_no_project_is_the_last_evaluated_one(store: Store, project: Project) -> None:
    assert store.last_evaluated_project_id() == ""
