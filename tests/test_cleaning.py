"""What `clean` deletes, on real files and rows; above all, what it does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from studio.cleaning import DAY, delete_temporary, find_unused
from studio.cli import main
from studio.images import image_path, put_image
from studio.jobs import log_path
from studio.records import ImagePair, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store

OLD = 40 * DAY


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)


def aged(path: Path, seconds: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x" * 1000)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def picture(settings: Settings, shade: int, age: float = OLD) -> tuple[str, Path]:
    name = put_image(settings, np.full((8, 8, 3), shade, np.uint8))
    return name, aged(image_path(settings, name), age)


def ended(store: Store, settings: Settings, project: Project, age: float, state: str = "done") -> Path:
    job = store.create_job(Job("", project.id, "pairs", {}))
    store.update_job(job.id, state=state, finished=time.time() - age if state != "running" else None)
    return aged(log_path(settings, job.id), age)


def test_clean_deletes_what_is_old_and_unused_and_nothing_else(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (unsafe, _), (safe, _), (mentioned, _) = (picture(settings, shade) for shade in range(3))
    [prompts] = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener")])
    store.add_image_pair(ImagePair("", project.id, prompts.id, 0, 0, "ready", unsafe, safe))
    store.create_job(Job("", project.id, "train", {"pictures": {"1": mentioned}}))  # a resumed training needs it
    gone = [
        picture(settings, 10)[1],
        picture(settings, 11)[1],
        ended(store, settings, project, OLD),
        ended(store, settings, project, OLD, "failed"),
        aged(settings.checkpoints / "1" / ".state.safetensors.abcd1234.part", 2 * DAY),
        aged(settings.images / "ab" / ".abc.png.abcd_234", 2 * DAY),
    ]
    picture(settings, 12, DAY)  # drawn yesterday
    ended(store, settings, project, DAY)
    ended(store, settings, project, OLD, "running")
    aged(settings.logs / "inference.log")
    aged(settings.images / "ab" / "mine.png")
    aged(settings.checkpoints / "1" / "state.safetensors")
    aged(settings.checkpoints / "1" / ".state.safetensors.abcd1234.part2")
    aged(settings.checkpoints / "1" / ".new.safetensors.abcd1234.part", 0.5 * DAY)
    link = settings.images / "ab" / f"{'ab' * 32}.png"
    link.symlink_to(settings.database)
    before = {path for path in settings.data.rglob("*") if path.is_file()}
    assert main(["clean", "--dry-run"]) == 0
    assert {path for path in settings.data.rglob("*") if path.is_file()} >= before
    printed = capsys.readouterr().out
    assert "     2 pictures that nothing refers to, 0.0 MB" in printed
    assert "     2 logs of jobs that have ended" in printed
    assert "     2 files that were never written to their end" in printed
    assert "Would free" in printed
    assert main(["clean"]) == 0
    assert "Freed" in capsys.readouterr().out
    left = {path for path in settings.data.rglob("*") if path.is_file()}
    assert before - left == set(gone)


def test_a_picture_that_is_drawn_again_counts_as_new(store: Store, settings: Settings) -> None:
    name, path = picture(settings, 1)
    assert find_unused(store, settings, 30)[0].files == [path]
    assert put_image(settings, np.full((8, 8, 3), 1, np.uint8)) == name
    assert not any(unused.files for unused in find_unused(store, settings, 30))


def test_days_are_counted(store: Store, settings: Settings) -> None:
    picture(settings, 1, 3 * DAY)
    assert [len(find_unused(store, settings, days)[0].files) for days in (2, 4)] == [1, 0]


def test_the_page_deletes_temporary_files_alone(store: Store, settings: Settings) -> None:
    left = aged(settings.latents / ".1.safetensors.abcd1234.part", 2 * DAY)
    _, kept = picture(settings, 1)
    assert delete_temporary(store, settings) == 1
    assert not left.exists()
    assert kept.exists()


def test_latents_of_a_try_that_nothing_names_any_more_go(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """The present try's stay, an edit's, and those that a training began with; so do latents of before."""
    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a cook")])
    prompts = store.list_prompt_pairs(project.id)[0]
    pair = store.add_image_pair(ImagePair("", project.id, prompts.id, 0, 0, "ready", "a" * 64, "b" * 64))
    store.create_job(Job("", project.id, "train", {"pictures": {pair.id: "c" * 64}}))
    kept = [aged(settings.latents / f"{pair.id}{made}.safetensors") for made in ("", f"-{'b' * 12}", f"-{'c' * 12}")]
    fresh = aged(settings.latents / f"{pair.id}-{'d' * 12}.safetensors", 10)
    gone = [aged(settings.latents / f"{name}.safetensors") for name in (f"{pair.id}-{'e' * 12}", f"ffff-{'b' * 12}")]
    assert main(["clean"]) == 0
    assert "2 latents" in capsys.readouterr().out
    assert all(file.exists() for file in [*kept, fresh])
    assert not any(file.exists() for file in gone)


def test_days_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--days", "0"]) == 2


def test_half_an_export_goes_whole_and_a_whole_one_stays(store: Store, settings: Settings) -> None:
    half, fresh, whole = (
        settings.exports / "job" / name for name in (".duo.abcd1234.part", ".new.abcd1234.part", "duo")
    )
    for folder in (half, fresh, whole):
        aged(folder / "unet" / "model.safetensors")
        aged(folder, 0.5 * DAY if folder == fresh else 2 * DAY)
    (found,) = [unused for unused in find_unused(store, settings, 30) if unused.files]
    assert (found.files, found.bytes) == ([half], 1000)
    assert delete_temporary(store, settings) == 1
    assert sorted(path.name for path in (settings.exports / "job").iterdir()) == [".new.abcd1234.part", "duo"]
