"""Export as a job: what it writes, what it tells, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors import safe_open

from models.adapters import applied, load_delta, save_delta
from models.bundle import ModelBundle
from models.deltas import WeightDelta, file_sha256
from models.export_files import ExportError
from models.export_lora import DIFFUSERS_NAME
from models.export_pipeline import pipeline_of, save_merged
from models.families import FAMILIES
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.foreign import load_foreign
from models.loading import load_bundle
from models.original_layout import has_original_layout
from models.specs import FamilyName, LoadError
from models.transport import transport_metadata
from studio import cli
from studio.jobs import JobError, submit
from studio.progress import Stopped
from studio.records import Checkpoint, Job, Project
from studio.settings import Settings
from studio.store import Store
from studio.training_configs import DuoConfig
from studio.workflow import JobContext, WorkflowError, run_job
from studio.workflow.exporting import export
from tests.hub_server import TOKEN, hub_server
from tests.test_foreign import random_lora
from tests.tiny_families import make_family_bundle
from tests.workflow_data import context_of, make_project, stop_at


@pytest.fixture
def settings(tmp_path: Path, tiny_folder: Path) -> Settings:
    made = Settings(data=tmp_path / "data", device="cpu", threads=1, toybox=tiny_folder)
    made.create_folders()
    return made


@pytest.fixture
def project(store: Store) -> Project:
    return make_project(store)


def saved(
    store: Store, settings: Settings, project: Project, delta: WeightDelta, method: str = "duo", name: str = "DUO"
) -> Checkpoint:
    """A delta as a trained model of the project."""
    job = store.create_job(Job("", project.id, "train", {}))
    path = settings.checkpoints / job.id / "adapter.safetensors"
    sha256 = save_delta(delta, path)
    config = DuoConfig(steps=7).model_dump()
    return store.add_checkpoint(Checkpoint("", project.id, job.id, method, name, str(path), sha256, delta.kind, config))


@pytest.fixture
def lora(settings: Settings) -> WeightDelta:
    """Of the tiny checkpoint, with what a training says of it."""
    bundle = load_bundle("toybox", device="cpu", toybox=settings.toybox)
    delta = random_lora(bundle, 4, 10.0)
    facts = {FINGERPRINT: fingerprint_of(bundle), "pairs": "6", "pairs_sha256": "ab" * 32, "checkpoint": "/home/ann/x"}
    return WeightDelta("lora", delta.tensors, {**delta.metadata, **facts})


@pytest.fixture
def trained(store: Store, settings: Settings, project: Project, lora: WeightDelta) -> Checkpoint:
    return saved(store, settings, project, lora)


def drawn(bundle: ModelBundle) -> torch.Tensor:
    return bundle.generate(["a knight"], [1], steps=1).latents


@pytest.mark.parametrize("form", ["merged", "single-file", "lora", "kohya"])
def test_what_is_written_draws_what_the_studio_drew(
    store: Store, settings: Settings, project: Project, trained: Checkpoint, lora: WeightDelta, form: str
) -> None:
    context = context_of(store, settings, project, "export", {"checkpoint_id": trained.id, "format": form})
    result = export(context)
    folder = settings.data / result["folder"]
    assert folder == settings.exports / context.job.id / f"duo-{form}"
    base = load_bundle("toybox", device="cpu", toybox=settings.toybox)
    with applied(base, lora):
        expected = drawn(base)
    if form in ("merged", "single-file"):
        found = drawn(load_bundle(str(folder / result["main_file"]), device="cpu"))
        assert torch.equal(found, expected)
    else:
        delta = load_foreign(folder / result["main_file"], base)
        with applied(base, delta):
            assert torch.allclose(drawn(base), expected, atol=1e-4)
    main = {"merged": "", "lora": DIFFUSERS_NAME}.get(form, "duo.safetensors")
    assert (result["main_file"], result["url"]) == (main, "")
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert result["bytes"] == sum(file.stat().st_size for file in files)
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt", ".md"}
    assert not any(b"/home/ann" in file.read_bytes() for file in files), "a path of this machine is told"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_card_and_the_manifest_tell_the_same(
    store: Store, settings: Settings, project: Project, trained: Checkpoint
) -> None:
    context = context_of(store, settings, project, "export", {"checkpoint_id": trained.id})
    folder = settings.data / export(context)["folder"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert (told["method"], told["concept"], told["pairs"], told["pairs_sha256"]) == ("duo", "sword", 6, "ab" * 32)
    assert told["config"]["steps"] == 7
    for name, facts in told["files"].items():
        assert facts["sha256"] == file_sha256(folder / name)
        assert facts["sha256"] in card
        assert f"{facts['bytes']:,}" in card
    assert set(told["files"]) == {f"{part}.safetensors" for part in (
        "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")}  # fmt: skip
    for fact in (trained.sha256, "ab" * 32, told["base"]["sha256"], "6 accepted pairs"):
        assert fact in card


def test_half_precision(store: Store, settings: Settings, project: Project, trained: Checkpoint) -> None:
    sizes = {}
    for dtype in ("float32", "float16", "bfloat16"):
        config = {"checkpoint_id": trained.id, "dtype": dtype}
        result = export(context_of(store, settings, project, "export", config))
        bundle = load_bundle(str(settings.data / result["folder"]), device="cpu", dtype=dtype)
        assert bundle.denoiser.dtype == getattr(torch, dtype)
        sizes[dtype] = sum(f.stat().st_size for f in (settings.data / result["folder"]).rglob("*.safetensors"))
    assert sizes["float16"] == pytest.approx(sizes["float32"] / 2, rel=0.1)


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_every_family_leaves_as_it_drew(store: Store, settings: Settings, tmp_path: Path, name: FamilyName) -> None:
    """A LoRA trained in half precision, on a checkpoint that is a folder; the base is recognised all the same."""
    made = make_family_bundle(name)
    save_merged(pipeline_of(made), tmp_path / "base")
    trained_in = load_bundle(str(tmp_path / "base"), device="cpu", dtype="float16" if name == "sd3" else "bfloat16")
    base = load_bundle(str(tmp_path / "base"), device="cpu")
    lora = random_lora(base, 3, 7.0, base.family.lora_targets["attention"])
    facts = {**lora.metadata, FINGERPRINT: fingerprint_of(trained_in)}
    project = store.create_project(Project("", "Mine", "sword", str(tmp_path / "base"), "toybox", {}))
    model = saved(store, settings, project, WeightDelta("lora", lora.tensors, facts))

    def exported(form: str) -> Path:
        result = export(context_of(store, settings, project, "export", {"checkpoint_id": model.id, "format": form}))
        return settings.data / result["folder"] / result["main_file"]

    plain = drawn(base)
    with applied(base, lora):
        expected = drawn(base)
    assert not torch.allclose(plain, expected, atol=1e-3)
    assert torch.allclose(drawn(load_bundle(str(exported("merged")), device="cpu")), expected, atol=1e-5)
    base.fingerprint = fingerprint_of(trained_in)  # the same weights; the studio's own loader asks for its precision
    for form in ("lora", "kohya"):
        with applied(base, load_foreign(exported(form), base)):
            assert torch.allclose(drawn(base), expected, atol=1e-4)
    if has_original_layout(pipeline_of(base)):
        assert torch.allclose(drawn(load_bundle(str(exported("single-file")), device="cpu")), expected, atol=1e-5)
    else:
        with pytest.raises(ExportError, match="no single-file layout that the studio can write"):
            exported("single-file")


def test_a_job_that_is_run_again_writes_nothing_anew(
    store: Store, settings: Settings, project: Project, trained: Checkpoint
) -> None:
    """Its worker died after the folder was whole; before that, what it left is cleared away."""
    context = context_of(store, settings, project, "export", {"checkpoint_id": trained.id, "format": "lora"})
    stopping = JobContext(store, settings, context.job, context.config, stop_at(3))
    with pytest.raises(Stopped):
        export(stopping)
    home = settings.exports / context.job.id
    assert list(home.iterdir()) == []
    (home / ".duo-lora.abcdefgh.part").mkdir()
    first = export(context)
    assert [path.name for path in home.iterdir()] == ["duo-lora"]
    before = (home / "duo-lora" / "README.md").stat().st_mtime_ns
    assert export(context) == first
    assert (home / "duo-lora" / "README.md").stat().st_mtime_ns == before


def test_what_must_not_be_written_is_not(
    store: Store, settings: Settings, project: Project, trained: Checkpoint, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def ask(**config: Any) -> None:
        export(context_of(store, settings, project, "export", {"checkpoint_id": trained.id, **config}))

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"there is there already"):
        ask(out=str(tmp_path / "there"))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]
    edited = saved(store, settings, project, WeightDelta("weights", {"conv_in.bias": torch.ones(32)}), "esd", "ESD")
    for form in ("lora", "kohya"):
        with pytest.raises(ExportError, match="edited weights, not a LoRA"):
            ask(checkpoint_id=edited.id, format=form)
    other = make_project(store)
    with pytest.raises(WorkflowError, match="belongs to another project"):
        export(context_of(store, settings, other, "export", {"checkpoint_id": trained.id}))
    with pytest.raises(JobError, match="push = 'no name'"):
        submit(store, settings, "export", project.id, {"checkpoint_id": trained.id, "push": "no name"})
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    for form in ("merged", "single-file", "lora", "kohya"):
        with pytest.raises(ExportError, match=r"only 1\.0 MB are free.*choose float16"):
            ask(format=form)
    monkeypatch.setattr(shutil, "disk_usage", real)
    Path(trained.path).write_bytes(b"other")
    with pytest.raises(LoadError, match="the file was changed or replaced"):
        ask()
    assert [path for path in settings.exports.rglob("*") if path.is_file()] == []


def test_a_delta_of_other_weights_is_not_merged(
    store: Store, settings: Settings, project: Project, lora: WeightDelta
) -> None:
    strange = WeightDelta("lora", lora.tensors, {**lora.metadata, FINGERPRINT: "12" * 32})
    made = saved(store, settings, project, strange)
    with pytest.raises(LoadError, match="trained on a checkpoint"):
        export(context_of(store, settings, project, "export", {"checkpoint_id": made.id}))


def test_a_local_base_is_told_by_its_name_alone(
    store: Store, settings: Settings, tmp_path: Path, lora: WeightDelta
) -> None:
    base = tmp_path / "Ann Secret" / "my-model"
    shutil.copytree(settings.toybox, base)
    project = store.create_project(Project("", "Mine", "sword", str(base), "nudenet", {}))
    made = saved(store, settings, project, lora)
    for form in ("merged", "kohya"):
        config = {"checkpoint_id": made.id, "format": form}
        folder = settings.data / export(context_of(store, settings, project, "export", config))["folder"]
        assert not any(b"Ann Secret" in file.read_bytes() for file in folder.rglob("*") if file.is_file())
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "# my-model, made to forget: sword" in card
        assert "not-for-all-audiences" in card


def test_transport_is_kept_by_us_and_said_to_be_lost(
    store: Store, settings: Settings, project: Project, lora: WeightDelta
) -> None:
    moving = WeightDelta("lora", lora.tensors, {**lora.metadata, **transport_metadata(["sword"])})
    made = saved(store, settings, project, moving, "spm", "SPM")
    for form in ("single-file", "kohya", "lora"):
        config = {"checkpoint_id": made.id, "format": form}
        result = export(context_of(store, settings, project, "export", config))
        folder = settings.data / result["folder"]
        assert "Facilitated Transport" in (folder / "README.md").read_text(encoding="utf-8")
        with safe_open(folder / result["main_file"], "pt") as file:
            assert ("facilitated_transport" in file.metadata()) is (form == "lora")
    assert load_delta(folder / DIFFUSERS_NAME).metadata["facilitated_transport"] == '{"concepts": ["sword"]}'


def test_a_push_that_fails_is_resumed_without_writing_again(
    store: Store, settings: Settings, project: Project, trained: Checkpoint, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = {"checkpoint_id": trained.id, "format": "lora", "push": "me/forgets-swords"}
    with hub_server() as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(hub_constants, "HF_TOKEN_PATH", str(settings.data / "no-login"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        job = submit(store, settings, "export", project.id, config)
        failed = run_job(job.id, settings)
        assert failed.state == "failed"
        assert "no token for the Hugging Face hub" in failed.error
        assert not settings.exports.exists(), "nothing is written for a push that cannot be"
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.refuse_writing = True
        store.requeue_job(job.id)
        failed = run_job(job.id, settings)
        assert failed.state == "failed"
        written = settings.exports / job.id / "duo-lora" / "README.md"
        before = written.stat().st_mtime_ns
        hub.refuse_writing = False
        store.requeue_job(job.id)
        done = run_job(job.id, settings)
        assert done.state == "done", done.error
        assert written.stat().st_mtime_ns == before
        assert done.result["url"] == f"{hub.url}/me/forgets-swords"
        arrived = hub.repositories["me/forgets-swords"]
        assert arrived.private
        assert arrived.files.keys() == {"README.md", "export.json", DIFFUSERS_NAME}
        assert arrived.files["README.md"] == written.read_bytes()
    out = capfd.readouterr()
    rows = repr([store.get_job(job.id), failed, done])
    assert TOKEN not in rows + out.out + out.err
    assert TOKEN.encode() not in settings.database.read_bytes()
    assert not any(TOKEN.encode() in file.read_bytes() for file in settings.data.rglob("*") if file.is_file())


@pytest.mark.slow
def test_export_verb(
    store: Store, settings: Settings, project: Project, trained: Checkpoint, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in {"DATA": settings.data, "TOYBOX": settings.toybox, "DEVICE": "cpu", "THREADS": 1}.items():
        monkeypatch.setenv(f"DUO_STUDIO_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "DUO", "--format", "lora", "--dtype", "float16", "--out", "mine"]) == 0
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"README.md", "export.json", DIFFUSERS_NAME}
    assert f"in {tmp_path / 'mine'}" in capsys.readouterr().out
    assert cli.main(["export", trained.id, "--out", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["export", "no-such"]) == 2
    assert f"There is no trained model 'no-such'. Models: 'DUO' ({trained.id})." in capsys.readouterr().err
    assert cli.main(["export", "DUO", "--push", "no name"]) == 2
    assert "push = 'no name'" in capsys.readouterr().err
