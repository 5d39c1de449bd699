"""The panel that exports trained models, without a browser: what it offers, says, starts and gives out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from models.deltas import WeightDelta, save_delta
from models.stored import Stored
from models.transport import transport_metadata
from studio.records import Checkpoint, Job, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.export_view import about, export_routes, export_url, listing
from studio.ui.exports import ExportPanel, export_panel, formats_of, start_export
from studio.ui.forms import FormError

LORA = WeightDelta(
    "lora",
    {"x.lora_A.weight": torch.ones(2, 1000), "x.lora_B.weight": torch.ones(1000, 2)},
    {"rank": "2", "alpha": "2", "targets": "[]"},
)


@pytest.fixture
def panel(studio: Studio) -> ExportPanel:
    with gr.Blocks():
        return export_panel(studio, gr.Dropdown())


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-login"))


def trained(
    store: Store, settings: Settings, project: Project, delta: WeightDelta = LORA, name: str = "DUO"
) -> Checkpoint:
    job = store.create_job(Job("", project.id, "train", {}))
    path = settings.checkpoints / job.id / "adapter.safetensors"
    sha256 = save_delta(delta, path)
    return store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", name, str(path), sha256, delta.kind))


def exported(store: Store, project: Project, checkpoint: Checkpoint, **changes: Any) -> Job:
    config = {"checkpoint_id": checkpoint.id, "format": "lora", "dtype": "float16", "out": "", "push": ""}
    job = store.create_job(Job("", project.id, "export", config))
    return store.update_job(job.id, **changes) if changes else job


def test_the_newest_model_is_offered_merged(
    panel: ExportPanel, studio: Studio, store: Store, project: Project, settings: Settings
) -> None:
    assert not panel.refresh(studio.view(project.id), None, None, None)[0]["visible"]
    first = trained(store, settings, project)
    second = trained(store, settings, project, WeightDelta("weights", {"y": torch.ones(3)}), "Edited")
    box, model, form, dtype, facts, hub, no_hub, rows = panel.refresh(studio.view(project.id), None, None, None)
    assert box["visible"]
    assert [key for _, key in model["choices"]] == [second.id, first.id]
    assert (model["value"], form["value"], dtype) == (second.id, "merged", "float32")
    assert [key for _, key in form["choices"]] == ["merged", "single-file"], "edited weights are no LoRA"
    assert "edited weights, so there is no LoRA" in facts
    assert "14 MB" in facts, "of the embedded checkpoint in float32"
    assert (hub["visible"], no_hub["visible"], rows) == (False, True, "")
    form, _, facts = panel.describe(studio.view(project.id), first.id, "kohya", "float16")
    assert (form["value"], len(form["choices"])) == ("kohya", 4)
    assert "<b>8 kB</b>" in facts, "4000 numbers of two bytes"
    assert "taken off, scaled or negated" in facts
    assert "duo-note-warn" in facts
    _, kept, kept_form, *_ = panel.refresh(studio.view(project.id), first.id, "lora", "float16")
    assert (kept["value"], kept_form["value"]) == (first.id, "lora"), "what the visitor chose stays"


def test_a_token_opens_the_hub(
    panel: ExportPanel, studio: Studio, store: Store, project: Project, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trained(store, settings, project)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    values = panel.refresh(studio.view(project.id), None, None, None)
    assert (values[5]["visible"], values[6]["visible"]) == (True, False)
    assert "hf_secret" not in repr(values)


def test_only_families_with_an_original_layout_have_one_file(
    store: Store, project: Project, settings: Settings
) -> None:
    one = trained(store, settings, project)
    for pipeline, there in (("StableDiffusionXLPipeline", True), ("FluxPipeline", False), ("", True)):
        stored = Stored(1, frozenset({"float32"}), pipeline)
        assert ("single-file" in formats_of(one, stored)) is there
    assert "single-file" in formats_of(one, None)


def test_what_is_lost_or_tagged_is_said(
    panel: ExportPanel, studio: Studio, store: Store, project: Project, settings: Settings
) -> None:
    moving = WeightDelta("lora", LORA.tensors, {**LORA.metadata, **transport_metadata(["sword"])})
    one = trained(store, settings, project, moving)
    facts = panel.describe(studio.view(project.id), one.id, "merged", "float32")[2]
    assert "Facilitated Transport" in facts
    assert "not-for-all-audiences" not in facts
    store.update_project(project.id, blur=True)
    assert "not-for-all-audiences" in panel.describe(studio.view(project.id), one.id, "merged", "float32")[2]
    text = trained(store, settings, project, WeightDelta("weights", {"y": torch.ones(3)}, {"part": "text_encoder"}))
    assert "lies in the text encoder alone" in panel.describe(studio.view(project.id), text.id, None, "float32")[2]
    assert "text encoder" not in facts
    plain = about("merged", None, 10**9, kind="lora", transport=False, sensitive=False)
    assert "as large as the base model" in plain
    assert "1.0 GB are free" in plain


def test_what_is_chosen_is_exported(studio: Studio, store: Store, project: Project, settings: Settings) -> None:
    one = trained(store, settings, project)
    job = start_export(studio, project.id, one.id, "kohya", "float16", " me/model ", False)
    assert store.get_job(job.id).config == {
        "checkpoint_id": one.id, "format": "kohya", "dtype": "float16", "out": "", "push": "me/model",
        "private": False,
    }  # fmt: skip
    edited = trained(store, settings, project, WeightDelta("weights", {"y": torch.ones(3)}), "Edited")
    other = store.create_project(replace(project, id="", name="Other"))
    for where, model, form, dtype, repository, words in (
        (project, "gone", "merged", "float32", "", "Choose a trained model"),
        (other, one.id, "merged", "float32", "", "Choose a trained model"),
        (project, edited.id, "lora", "float32", "", "Edited cannot be exported as lora; choose one of merged"),
        (project, one.id, "zip", "float32", "", "cannot be exported as zip"),
        (project, one.id, "merged", "int8", "", "dtype = 'int8'"),
        (project, one.id, "merged", "float32", "model", "it must be owner/name"),
        (project, one.id, "merged", "float32", "a/b/c", "it must be owner/name"),
    ):
        with pytest.raises(FormError, match=words):
            start_export(studio, where.id, model, form, dtype, repository, True)
    assert len([job for job in store.list_jobs() if job.kind == "export"]) == 1


def test_the_list_tells_how_each_stands(store: Store, project: Project, settings: Settings) -> None:
    one = trained(store, settings, project, name="D<b>UO")
    folder = settings.exports / "x" / "duo-lora"
    jobs = [
        exported(store, project, one, state="failed", error="Too <large>.\nTraceback"),
        exported(store, project, one, state="stopped"),
        exported(store, project, one, state="running", step=1, total=5, message="Writing <x>"),
        exported(store, project, one),
        exported(store, project, one, state="done", result={"folder": "exports/gone", "main_file": "", "bytes": 5}),
    ]
    shown = listing(settings, jobs, [one], {jobs[3].id: "Number 1 in the queue"})
    for words in ("Too &lt;large&gt;.", "Stopped. Resume", "Writing &lt;x&gt;", "Number 1 in the queue",
                  "no longer there", "D&lt;b&gt;UO", "LoRA for diffusers, float16"):  # fmt: skip
        assert words in shown, words
    assert "Traceback" not in shown
    assert "<a " not in shown
    folder.mkdir(parents=True)
    named = exported(
        store, project, one, state="done",
        result={"folder": str(settings.data / "other"), "main_file": "m.safetensors", "bytes": 5, "url": "https://hub/me/x"},
    )  # fmt: skip
    (settings.data / "other").mkdir()
    shown = listing(settings, [named], [], {})
    assert "A model that is gone" in shown
    assert 'href="https://hub/me/x"' in shown
    assert "studio/exports" not in shown, "a folder that somebody named is not given out"
    assert "older" in listing(settings, [named] * 8, [], {})
    assert listing(settings, [], [], {}) == ""


def test_rows_of_an_imported_project_may_say_anything(store: Store, project: Project, settings: Settings) -> None:
    settings.exports.mkdir()
    results: list[dict[str, Any]] = [
        {},
        {"folder": 5},
        {"folder": "exports", "url": "javascript:alert(1)", "bytes": "x"},
    ]
    for result in results:
        job = store.create_job(Job("", project.id, "export", {}))
        shown = listing(settings, [store.update_job(job.id, state="done", result=result)], [], {})
        assert "A model that is gone" in shown
        assert "javascript" not in shown


def test_only_an_exports_own_files_are_given_out(store: Store, project: Project, settings: Settings) -> None:
    one = trained(store, settings, project)
    job = exported(store, project, one)
    folder = settings.exports / job.id / "duo-lora"
    (folder / "unet").mkdir(parents=True)
    (folder / "README.md").write_text("# <b>card</b>", encoding="utf-8")
    (folder / "unet" / "w.safetensors").write_bytes(b"weights")
    (settings.exports / "secret.txt").write_text("secret")
    web = TestClient(Starlette(routes=export_routes(settings, store)))
    readme = "/" + export_url(job.id, "README.md")
    assert web.get(readme).status_code == 404, "not done yet"
    result = {"folder": f"exports/{job.id}/duo-lora", "main_file": "", "bytes": 7, "url": ""}
    store.update_job(job.id, state="done", result=result)
    card = web.get(readme)
    assert (card.status_code, card.text) == (200, "# <b>card</b>")
    assert card.headers["content-type"].startswith("text/plain")
    assert card.headers["x-content-type-options"] == "nosniff"
    weights = web.get("/" + export_url(job.id, "unet/w.safetensors"))
    assert (weights.content, weights.headers["content-type"]) == (b"weights", "application/octet-stream")
    for name in ("../../secret.txt", "..%2f..%2fsecret.txt", "unet", "missing", ""):
        assert web.get(f"/studio/exports/{job.id}/{name}").status_code == 404, name
    assert web.get("/" + export_url("unknown", "README.md")).status_code == 404
    (folder / "link.txt").symlink_to(settings.database)
    assert web.get("/" + export_url(job.id, "link.txt")).status_code == 404
    for place in (".", "exports", str(settings.data), f"exports/{job.id}/../../checkpoints"):
        store.update_job(job.id, result={**result, "folder": place})
        assert web.get(readme).status_code == 404, "a row that was imported may say anything"
