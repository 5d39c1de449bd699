"""The panel that imports released weights, without a browser: what it takes, refuses, starts and says."""

from __future__ import annotations

import os
from pathlib import Path

import gradio as gr
import pytest

from models.foreign import PICKLED as READ_BY_A_CHILD
from studio.cleaning import delete_temporary
from studio.exchange.sources import SourceError
from studio.exchange.uploads import begin_file, begin_upload, end_file
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.importing import PICKLED, ImportPanel, import_panel, start_import
from tests.ui_data import add_checkpoint


@pytest.fixture
def panel(studio: Studio) -> ImportPanel:
    with gr.Blocks():
        return import_panel(studio, gr.Dropdown())


def sent(settings: Settings, *names: str) -> str:
    """What the browser sends, as the routes keep it."""
    upload = begin_upload(settings)
    for name in names:
        path = begin_file(settings.incoming / upload, name)
        path.write_bytes(b"weights")
        end_file(path, name)
    return upload


def test_a_file_that_was_sent_is_imported_under_its_own_name(
    panel: ImportPanel, studio: Studio, store: Store, project: Project, settings: Settings
) -> None:
    upload = sent(settings, "esd-sword.safetensors")
    job = start_import(studio, project.id, upload, "", "esd", " Theirs ", True)
    path = settings.incoming / upload / "esd-sword.safetensors"
    assert store.get_job(job.id).config == {"path": str(path), "method": "esd", "name": "Theirs", "transport": True}
    assert path.read_bytes() == b"weights"
    os.utime(path, (0, 0))
    store.update_job(job.id, state="failed", error="2 of the 3 keys of esd-sword.safetensors have no place: x, y.")
    delete_temporary(store, settings)
    assert path.is_file(), "a job that can be resumed still needs it"
    assert "have no place: x, y." in panel.refresh(studio.view(project.id))[0]
    made = add_checkpoint(store, project, "esd", "Th<e>irs")
    store.update_job(job.id, state="done", result={"checkpoint_id": made.id})
    said = panel.refresh(studio.view(project.id))[0]
    assert "Th&lt;e&gt;irs" in said
    assert 'data-open-tab="Compare"' in said
    delete_temporary(store, settings)
    assert not path.exists()


def test_a_path_is_imported(panel: ImportPanel, studio: Studio, store: Store, project: Project, tmp_path: Path) -> None:
    assert panel.refresh(studio.view(project.id)) == [""]
    (tmp_path / "released" / "unet").mkdir(parents=True)
    job = start_import(studio, project.id, "", f" {tmp_path / 'released'} ", "spm", "", False)
    assert store.get_job(job.id).config["path"] == str(tmp_path / "released")
    assert not store.get_job(job.id).config["transport"]


def test_what_cannot_be_imported_is_said_before_anything_starts(
    studio: Studio, store: Store, project: Project, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").touch()
    jobs = len(store.list_jobs())
    for upload, path, words in (
        ("", " ", "no file yet"),
        ("", "esd.safetensors", "no full path"),
        ("", str(tmp_path / "gone.pt"), "does not exist"),
        ("", str(tmp_path / "a.zip"), r"a.zip is none of .safetensors, .pt"),
        ("!The server refused it (413).", "", r"refused it \(413\)"),
        (sent(settings, "a.safetensors"), str(tmp_path), "Clear one of the two"),
        (sent(settings, "a.txt"), "", "a.txt is none of"),
        (sent(settings, "a.pt", "b.pt"), "", "2 files were sent"),
        ("0" * 24, "", "not there any more"),
    ):
        with pytest.raises((FormError, SourceError), match=words):
            start_import(studio, project.id, upload, path, "esd", "", True)
    assert len(store.list_jobs()) == jobs


def test_the_page_names_the_endings_that_the_child_reads() -> None:
    assert PICKLED == READ_BY_A_CHILD
