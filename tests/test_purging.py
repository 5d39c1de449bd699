"""Purges: what goes is told before and is gone after, what must stay stays, and time does it by itself where asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.archive import export_project, import_project
from studio.cleaning import delete_temporary, find_unused
from studio.cli import main
from studio.exchange.uploads import begin_file, begin_upload, end_file, upload_folder
from studio.images import image_path, put_image
from studio.purging import DAY, RetentionWatch, finish, plan, purge, purge_expired
from studio.records import Attempt, ImagePair, Job, PairQuery, PairStop, Project, Sample, Verdict
from studio.settings import Settings
from studio.stopping import stop_pair
from studio.store import Store, StoreError
from tests.curation_data import add_pairs
from tests.ui_data import add_evaluation


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    """Accepted, rejected, skipped, undecided; each with latents of two tries."""
    made = add_pairs(store, settings, project, 4)
    for pair, value in zip(made, ("accept", "reject", "skip"), strict=False):
        store.add_verdict(Verdict("", pair.id, "Ann", value))  # type: ignore[arg-type]
    for pair in made:
        for name in (f"{pair.id}.safetensors", f"{pair.id}-{pair.safe_image[:12]}.safetensors"):
            (settings.latents / name).write_bytes(b"latents")
    return made


def there(settings: Settings, pair: ImagePair) -> list[bool]:
    """Unsafe picture, safe picture, latents."""
    pictures = [image_path(settings, name).is_file() for name in (pair.unsafe_image, pair.safe_image)]
    return [*pictures, bool(list(settings.latents.glob(f"{pair.id}*")))]


def purged(store: Store, settings: Settings, project: Project, scope: Any = "undecided") -> Any:
    return purge(store, settings, project.id, plan(store, settings, project.id, scope), "Ann", "asked to")


def test_undecided_and_rejected_pictures_go_and_all_else_stays(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    wanted = plan(store, settings, project.id, "undecided")
    size = sum(file.stat().st_size for file in wanted.files)
    assert (len(wanted.pairs), len(wanted.files), wanted.bytes, wanted.shared) == (3, 12, size, 0)
    history = store.list_verdicts(project.id)
    mark = store.pairs_mark(project.id)

    booked = purged(store, settings, project)
    assert (booked.pairs, booked.files, booked.bytes, booked.by) == (3, 12, size, "Ann")
    assert store.list_purges(project.id) == [booked]
    assert there(settings, pairs[0]) == [True, True, True]
    assert [there(settings, pair) for pair in pairs[1:]] == [[False, False, False]] * 3
    kept = {pair.id: pair for pair in store.list_image_pairs(project.id, "purged")}
    assert kept.keys() == {pair.id for pair in pairs[1:]}
    assert kept[pairs[1].id].unsafe_image == pairs[1].unsafe_image  # the hash, for the audit
    assert store.list_verdicts(project.id) == history
    assert store.purged_names(booked.id) == {n for p in pairs[1:] for n in (p.unsafe_image, p.safe_image)}
    assert store.pairs_mark(project.id) != mark
    counts = store.pair_counts(project.id)
    assert (counts.ready, counts.accepted, counts.failed) == (1, 1, 0)
    assert [one.pair.id for one in store.page_of_pairs(project.id, PairQuery("all"))] == [pairs[0].id]
    assert plan(store, settings, project.id, "undecided").files == []


def test_all_pairs_go_with_uploads_that_were_never_read(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    upload = begin_upload(settings)
    file = begin_file(upload_folder(settings, upload), "a.png")
    file.write_bytes(b"a picture")
    end_file(file, "a.png")
    job = store.create_job(Job("", project.id, "bring", {"path": f"incoming/{upload}"}))
    store.update_job(job.id, state="failed")
    assert purged(store, settings, project, "pairs").pairs == 4
    assert [there(settings, pair) for pair in pairs] == [[False, False, False]] * 4
    assert not (settings.incoming / upload).exists()


def test_a_picture_that_something_else_shows_stays(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    other = store.create_project(Project("", "Other", "sword", "toybox", "toybox"))
    job = store.create_job(Job("", other.id, "bring", {}))
    shared = ImagePair("", other.id, "", 0, 0, "ready", pairs[1].unsafe_image, pairs[1].safe_image, origin="brought")
    store.settle_brought(job.id, 0, "taken", pair=shared)
    store.add_attempts([_attempt(project, pairs[3].unsafe_image)])
    assert plan(store, settings, project.id, "undecided").shared == 3
    purged(store, settings, project)
    assert there(settings, pairs[1]) == [True, True, False]
    assert there(settings, pairs[3]) == [True, False, False]
    finish(store, settings)
    assert there(settings, pairs[1]) == [True, True, False]


def test_stopped_pairs_are_no_part_of_a_purge(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    stop_pair(store, settings, PairStop("", pairs[3].id, "stop", "Ann"))
    assert purged(store, settings, project, "pairs").pairs == 3
    finish(store, settings)
    assert there(settings, pairs[3]) == [True, True, True]


def test_everything_leaves_placeholders_and_numbers(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    shown = put_image(settings, np.full((8, 8, 3), 9, np.uint8))
    another = store.create_project(Project("", "Another", "sword", "toybox", "toybox"))
    store.add_attempts([_attempt(another, shown)])
    job = store.create_job(Job("", project.id, "train", {}))
    store.update_job(job.id, state="done")
    store.put_sample_row([Sample("", job.id, "", 0, 0, "a knight", 1, True, shown, True, 0.9)])
    store.add_attempts([_attempt(project, pairs[0].unsafe_image)])
    evaluation = add_evaluation(store, settings, project)
    report = Path(evaluation.folder) / "pictures" / "1.png"
    before = report.read_bytes()
    kept = settings.drawn / project.id / "1.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(before)
    wanted = plan(store, settings, project.id, "everything")
    assert wanted.others == {shown, pairs[0].unsafe_image}
    assert (report in wanted.files, wanted.shared) == (True, 1)  # another project shows the sample's picture too

    purge(store, settings, project.id, wanted, "Ann")
    assert not image_path(settings, pairs[0].unsafe_image).exists()
    (sample,), (attempt,) = store.list_samples(job.id), store.list_attempts(project.id)
    assert sample.image == attempt.image not in (shown, "")
    assert image_path(settings, sample.image).is_file()
    assert (sample.found, attempt.score) == (True, 0.9)
    assert report.read_bytes() != before
    assert not kept.exists()
    with Image.open(report) as image:
        assert image.size == (64, 64)
    assert store.list_evaluations(project.id) == [evaluation]
    again = plan(store, settings, project.id, "everything")
    assert (again.pairs, again.others, again.files) == ([], set(), [])


def test_a_purge_that_was_interrupted_is_finished(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("studio.purging._delete", killed)
    with pytest.raises(KeyboardInterrupt):
        purged(store, settings, project)
    assert there(settings, pairs[1]) == [True, True, True]
    monkeypatch.undo()
    finish(store, settings)
    assert there(settings, pairs[1]) == [False, False, False]
    assert there(settings, pairs[0]) == [True, True, True]


def test_what_was_decided_after_the_plan_stays(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    wanted = plan(store, settings, project.id, "undecided")
    store.add_verdict(Verdict("", pairs[3].id, "Ann", "accept"))
    assert purge(store, settings, project.id, wanted, "Ann").pairs == 2
    assert there(settings, pairs[3]) == [True, True, True]


@pytest.mark.parametrize("state", ["queued", "running", "stopping"])
def test_a_project_at_work_is_not_purged(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], state: str
) -> None:
    job = store.create_job(Job("", project.id, "train", {}))
    store.update_job(job.id, state=state)
    with pytest.raises(StoreError, match="runs or waits"):
        purged(store, settings, project)
    store.update_project(project.id, retention_days=1)
    assert purge_expired(store, settings, time.time() + 2 * DAY) == []
    with pytest.raises(StoreError, match="Say who"):
        purge(store, settings, project.id, plan(store, settings, project.id, "pairs"), "  ")
    assert there(settings, pairs[1]) == [True, True, True]


def test_purged_pairs_move_with_their_project(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair], tmp_path: Path
) -> None:
    purged(store, settings, project)
    export_project(store, settings, project.id, tmp_path / "sword.zip")
    elsewhere = Settings(tmp_path / "elsewhere")
    elsewhere.create_folders()
    other = Store(elsewhere.database)
    import_project(other, elsewhere, tmp_path / "sword.zip")
    assert len(other.list_image_pairs(project.id, "purged")) == 3
    assert other.list_purges(project.id) == store.list_purges(project.id)
    other.close()


# -- retention ---------------------------------------------------------------------------------------------------------


def test_time_purges_where_it_was_asked_and_what_nobody_touched(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    now = time.time()
    assert purge_expired(store, settings, now + 1000 * DAY) == []  # off by default
    store.update_project(project.id, retention_days=30)
    for pair in pairs:
        store.update_image_pair(pair.id, created=now - 20 * DAY)
    assert purge_expired(store, settings, now + 5 * DAY) == []
    (done,) = purge_expired(store, settings, now + 15 * DAY)
    assert (done.pairs, done.by, done.reason) == (1, "retention", "older than 30 days")
    assert there(settings, pairs[3]) == [False, False, False]
    assert there(settings, pairs[1]) == [True, True, True]  # rejected today: 30 days from today
    (done,) = purge_expired(store, settings, now + 31 * DAY)
    assert done.pairs == 2
    assert there(settings, pairs[0]) == [True, True, True]
    assert purge_expired(store, settings, now + 1000 * DAY) == []


def test_the_page_looks_by_itself(store: Store, settings: Settings, project: Project, pairs: list[ImagePair]) -> None:
    store.update_project(project.id, retention_days=1)
    store.update_image_pair(pairs[3].id, created=time.time() - 2 * DAY)
    watch = RetentionWatch(store, settings)
    watch.start()
    end = time.monotonic() + 30
    while there(settings, pairs[3])[2] and time.monotonic() < end:
        time.sleep(0.02)
    watch.close()
    assert there(settings, pairs[3]) == [False, False, False]
    assert there(settings, pairs[1]) == [True, True, True]


# -- what is left behind, and the shell --------------------------------------------------------------------------------


def test_forgotten_uploads_and_latents_of_no_pair_are_cleaned(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    import os

    old = time.time() - 2 * DAY
    uploads = [begin_upload(settings) for _ in range(3)]  # forgotten, to be read by a stopped job, being made
    for upload in uploads:
        file = begin_file(upload_folder(settings, upload), "a.png")
        file.write_bytes(b"x")
        os.utime(file, (old, old) if upload != uploads[2] else None)
    job = store.create_job(Job("", project.id, "bring", {"path": f"incoming/{uploads[1]}"}))
    store.update_job(job.id, state="stopped")
    orphan = settings.latents / "0123456789ab-abcdefabcdef.safetensors"
    for file in (orphan, settings.latents / f"{pairs[0].id}.safetensors"):
        file.write_bytes(b"x")
        os.utime(file, (old, old))
    found = {unused.what: list(unused.files) for unused in find_unused(store, settings, 30)}
    assert found["latents of no pair or try"] == [orphan]
    assert len(found["uploads and packed sets that were left behind"]) == 1
    assert delete_temporary(store, settings) == 1
    assert [(settings.incoming / upload).exists() for upload in uploads] == [False, True, True]


def test_a_shell_tells_first_and_deletes_when_it_is_confirmed(
    store: Store,
    settings: Settings,
    project: Project,
    pairs: list[ImagePair],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    assert main(["purge", "Sword"]) == 0
    assert "Would delete 3 pairs, 12 files" in capsys.readouterr().out
    assert main(["purge", "Sword", "--by", "Ann", "--confirm", "Shield"]) == 2
    assert main(["purge", "Sword", "--confirm", "Sword"]) == 2
    assert "Say who" in capsys.readouterr().err
    assert main(["purge", "Sword", "--which", "all", "--confirm", "Sword"]) == 2
    assert there(settings, pairs[1]) == [True, True, True]
    assert main(["purge", "Sword", "--by", "Ann", "--confirm", "Sword"]) == 0
    assert "Deleted 3 pairs" in capsys.readouterr().out
    assert there(settings, pairs[1]) == [False, False, False]
    assert main(["purge", "Sword", "--keep-days", "7"]) == 0
    assert store.get_project(project.id).retention_days == 7
    assert main(["purge", "--expired"]) == 0
    assert main(["purge"]) == 2


def _attempt(project: Project, image: str) -> Attempt:
    return Attempt("", project.id, "a king", 7, "DUO", "toybox", "ab" * 32, True, 0.9, image, 20, 4.0)
