"""One project out of a data folder and into another: rows and files whole, and nothing wrong let in."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.archive import ArchiveError, export_project, import_project, read_info
from studio.cli import main
from studio.images import image_path, put_image, read_image
from studio.records import Checkpoint, ImagePair, Job, Project, PromptPair, Verdict
from studio.sample import SAMPLE, SampleError, open_sample, toybox_fingerprint
from studio.settings import Settings
from studio.store import Store
from tests.ui_data import add_evaluation

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def project(store: Store, settings: Settings) -> Project:
    """A project with one pair, its verdicts, a trained model, a report and a job that still runs."""
    made = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    (prompts,) = store.add_prompt_pairs([PromptPair("", made.id, "a knight", "a gardener", 2, 5)])
    names = [put_image(settings, np.full((8, 8, 3), value, np.uint8), {"seed": value}) for value in (10, 200)]
    pair = store.add_image_pair(ImagePair("", made.id, prompts.id, 0, 5, "ready", *names, strength=0.7))
    store.add_image_pair(ImagePair("", made.id, prompts.id, 1, 6, "failed", reason="no edit"))
    (settings.latents / f"{pair.id}.safetensors").write_bytes(b"latents")
    store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
    store.add_verdict(Verdict("", pair.id, "Ann", "reject"))
    store.add_verdict(Verdict("", pair.id, "Ann", "undo"))
    job = store.create_job(Job("", made.id, "train", {"method": "duo", "name": "DUO", "config": {}}))
    store.add_job_metrics(job.id, 1, {"loss": 0.69})
    store.update_job(job.id, state="done")
    adapter = settings.checkpoints / job.id / "adapter.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"adapter")
    sha256 = hashlib.sha256(b"adapter").hexdigest()
    store.add_checkpoint(Checkpoint("", made.id, job.id, "duo", "DUO", str(adapter), sha256, "lora"))
    add_evaluation(store, settings, made)
    store.update_job(store.create_job(Job("", made.id, "pairs", {})).id, state="running", pid=1)
    other = store.create_project(Project("", "Other", "gun", "toybox", "toybox"))
    store.add_prompt_pairs([PromptPair("", other.id, "a", "b")])
    return made


@pytest.fixture
def archive(store: Store, settings: Settings, project: Project, tmp_path: Path) -> Path:
    path = tmp_path / "sword.zip"
    assert export_project(store, settings, project.id, path, {"why": "a test"}) == path.stat().st_size
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[Store, Settings]]:
    settings = Settings(tmp_path / "elsewhere")
    settings.create_folders()
    store = Store(settings.database)
    yield store, settings
    store.close()


def test_a_project_arrives_whole(
    store: Store, settings: Settings, project: Project, archive: Path, elsewhere: tuple[Store, Settings]
) -> None:
    there, folder = elsewhere
    assert import_project(there, folder, archive) == project
    assert there.list_projects() == [project]
    assert there.list_prompt_pairs(project.id) == store.list_prompt_pairs(project.id)
    assert there.list_image_pairs(project.id) == store.list_image_pairs(project.id)
    assert there.list_verdicts(project.id) == store.list_verdicts(project.id)
    assert there.current_verdicts(project.id) == store.current_verdicts(project.id)
    assert there.accepted_pairs(project.id) == store.accepted_pairs(project.id)
    assert there.pair_counts(project.id) == store.pair_counts(project.id)
    train, evaluate, running = there.list_jobs(project.id)
    assert (train.kind, evaluate.kind, running.state, running.pid) == ("train", "evaluate", "stopped", None)
    assert there.job_metrics(train.id) == [{"step": 1, "loss": 0.69}]
    pair = there.accepted_pairs(project.id)[0]
    assert read_image(folder, pair.safe_image)[0, 0, 0] == 200
    assert (folder.latents / f"{pair.id}.safetensors").read_bytes() == b"latents"
    (checkpoint,) = there.list_checkpoints(project.id)
    assert Path(checkpoint.path).read_bytes() == b"adapter"
    assert Path(checkpoint.path).is_relative_to(folder.checkpoints)
    (evaluation,) = there.list_evaluations(project.id)
    assert (Path(evaluation.folder) / "pictures" / "1.png").is_file()
    assert "<html" in (Path(evaluation.folder) / "report.html").read_text(encoding="utf-8")


def test_every_table_is_taken_along(store: Store, project: Project) -> None:
    tables = {name for name in store._db.table_names() if not name.startswith("_")}
    others = {"pair_tallies", "care_settings"}  # which the pairs' triggers fill again; a reviewer's, of no project
    assert store.export_rows(project.id).keys() == tables - others


def test_the_same_project_gives_the_same_archive(
    store: Store, settings: Settings, project: Project, archive: Path, tmp_path: Path
) -> None:
    export_project(store, settings, project.id, tmp_path / "again.zip", {"why": "a test"})
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_it_says_what_it_is(archive: Path, project: Project) -> None:
    info = read_info(archive)
    assert (info.project_id, info.project_name, info.notes) == (project.id, "Sword", {"why": "a test"})


def test_a_project_is_imported_once(store: Store, settings: Settings, archive: Path) -> None:
    with pytest.raises(ArchiveError, match="here already"):
        import_project(store, settings, archive)


def test_a_missing_file_is_named(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    image_path(settings, store.list_image_pairs(project.id)[0].safe_image).unlink()
    with pytest.raises(ArchiveError, match=r"\.png is missing"):
        export_project(store, settings, project.id, tmp_path / "x.zip")
    assert list(tmp_path.glob("*x.zip*")) == []


def changed(archive: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with every member put through `change`; None leaves it out."""
    path = archive.with_name("changed.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return path


def with_rows(change: Callable[[Rows], None]) -> Callable[[str, bytes], bytes]:
    def changed_rows(name: str, data: bytes) -> bytes:
        if name != "rows.json":
            return data
        rows = json.loads(data)
        change(rows)
        return json.dumps(rows).encode()

    return changed_rows


def wrong_path(rows: Rows) -> None:
    rows["checkpoints"][0]["path"] = "checkpoints/../../outside"


def wrong_folder(rows: Rows) -> None:
    rows["evaluations"][0]["folder"] = "/etc"


def wrong_picture(rows: Rows) -> None:
    rows["image_pairs"][0]["unsafe_image"] = "../../outside"


def unknown_column(rows: Rows) -> None:
    rows["projects"][0]['name") --'] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, data: data[:-1] + b"x" if name.startswith("images/") else data, "was changed"),
        (lambda name, data: b"other" if name.endswith("adapter.safetensors") else data, "was changed"),
        (lambda name, data: None if name.endswith("adapter.safetensors") else data, "lacks"),
        (lambda name, data: b"{}" if name.endswith("report.json") else data, "no report"),
        (lambda name, data: data.replace(b"pictures/1.png", b"../../etc/p") if name.endswith("report.json") else data,
         "no report"),
        (lambda name, data: b"{}" if name == "rows.json" else data, "exactly one project"),
        (lambda name, data: b"[" if name == "rows.json" else data, "can be read"),
        (lambda name, data: data.replace(b'"format": 1', b'"format": 99') if name == "archive.json" else data,
         "format 99"),
        (with_rows(wrong_path), "does not lie in the data folder"),
        (with_rows(wrong_picture), "name a picture that cannot be"),
        (with_rows(wrong_folder), "data folder|no report|fit"),
        (with_rows(unknown_column), "no column"),
        (with_rows(lambda rows: rows.update(secrets=[{"a": 1}])), "no table secrets"),
        (with_rows(lambda rows: rows["prompt_pairs"].clear()), "do not fit"),
    ],
)  # fmt: skip
def test_a_wrong_archive_is_refused_and_leaves_no_rows(
    archive: Path, elsewhere: tuple[Store, Settings], change: Callable[[str, bytes], bytes | None], words: str
) -> None:
    there, folder = elsewhere
    with pytest.raises(ArchiveError, match=words):
        import_project(there, folder, changed(archive, change))
    assert there.list_projects() == []
    assert not (folder.data.parent / "outside").exists()


def test_an_archive_names_nothing_at_somebodys_account(archive: Path, elsewhere: tuple[Store, Settings]) -> None:
    """`clean` would delete the repository, with the token of whoever runs it."""
    there, folder = elsewhere

    def place(rows: Rows) -> None:
        rows["jobs"][0]["place"] = json.dumps({"repository": "me/valuable", "remote_id": "x"})

    import_project(there, folder, changed(archive, with_rows(place)))
    assert [job.place for job in there.list_jobs()] == [{}, {}, {}]


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(ArchiveError, match="no project archive"):
        read_info(tmp_path / "x.zip")


# -- in a shell --------------------------------------------------------------------------------------------------


def test_a_project_moves_by_shell(
    settings: Settings,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(tmp_path / "out" / "sword.zip")
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    assert main(["projects", "export", "Sword", file]) == 0
    assert main(["projects", "export", "Sword", file]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["projects", "export", "Sword", file, "--force"]) == 0
    assert main(["projects", "import", file]) == 2
    assert "here already" in capsys.readouterr().err
    monkeypatch.setenv("DUO_STUDIO_DATA", str(tmp_path / "elsewhere"))
    assert main(["projects", "import", file]) == 0
    assert main(["projects", "list"]) == 0
    assert project.id in capsys.readouterr().out
    assert main(["projects", "import", str(tmp_path / "none.zip")]) == 2
    assert "no project archive" in capsys.readouterr().err


# -- the sample --------------------------------------------------------------------------------------------------


def test_the_shipped_sample_belongs_to_the_embedded_checkpoint() -> None:
    """If this fails, the embedded checkpoint was trained anew: run `make sample`."""
    info = read_info(SAMPLE)
    assert info.notes["toybox"] == toybox_fingerprint(Settings.toybox)
    assert len(info.notes["commit"]) == 40
    assert SAMPLE.stat().st_size < 8 * 2**20


def test_the_sample_opens_finished_and_once(store: Store, settings: Settings) -> None:
    sample = open_sample(store, settings)
    assert open_sample(store, settings) == sample
    assert len(store.list_projects()) == 1
    assert {checkpoint.method for checkpoint in store.list_checkpoints(sample.id)} == {"duo", "esd"}
    assert store.pair_counts(sample.id).accepted >= 64
    (evaluation,) = store.list_evaluations(sample.id)
    assert evaluation.report["n"] == 200


def test_a_sample_of_another_checkpoint_is_not_opened(store: Store, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(SampleError, match=r"another embedded checkpoint.*Run the demo"):
        open_sample(store, Settings(settings.data, toybox=tmp_path))
