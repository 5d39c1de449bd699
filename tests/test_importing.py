"""Released weights become a checkpoint of a project: through the job, and through the shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.adapters import applied, file_sha256, load_delta
from models.bundle import ModelBundle
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.loading import load_bundle
from models.specs import LoadError
from studio import cli
from studio.configs import EvaluateConfig
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.workflow.contestants import contestants_of
from studio.workflow.importing import import_weights
from tests.conftest import make_tiny_bundle
from tests.tiny_toybox import save_tiny_toybox
from tests.workflow_data import context_of, make_project


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    save_tiny_toybox(make_tiny_bundle(), tmp_path / "toybox")
    return replace(settings, toybox=tmp_path / "toybox")


@pytest.fixture
def project(store: Store) -> Project:
    return make_project(store)


@pytest.fixture
def released(tiny_bundle: ModelBundle, tmp_path: Path) -> Path:
    """Weights as ESD publishes them."""
    name = next(name for name, _ in tiny_bundle.denoiser.named_parameters() if ".attn2.to_v." in name)
    weight = dict(tiny_bundle.denoiser.named_parameters())[name].detach()
    save_file({name: weight + 1}, tmp_path / "esd-sword.safetensors")
    return tmp_path / "esd-sword.safetensors"


def test_an_import_is_a_checkpoint_with_its_origin(
    store: Store, settings: Settings, project: Project, released: Path
) -> None:
    bundle = load_bundle("toybox", device="cpu", toybox=settings.toybox)
    context = context_of(store, settings, project, "import", {"path": str(released), "method": "esd"})
    result = import_weights(context)
    saved = store.get_checkpoint(result["checkpoint_id"])
    assert (saved.method, saved.name, saved.kind) == ("esd", "ESD (esd-sword)", "weights")
    assert saved.config == {"imported": released.name, "imported_sha256": file_sha256(released)}
    assert file_sha256(Path(saved.path)) == saved.sha256 == result["sha256"]
    delta = load_delta(Path(saved.path))
    assert delta.metadata["method"] == "esd"
    assert delta.metadata[FINGERPRINT] == fingerprint_of(bundle)
    assert all(torch.allclose(tensor, torch.ones(1), atol=1e-6) for tensor in delta.tensors.values())
    with applied(bundle, delta):
        pass
    assert import_weights(context)["checkpoint_id"] == saved.id, "a job that is run again must not import twice"
    assert len(store.list_checkpoints(project.id)) == 1
    models = contestants_of(context, EvaluateConfig())
    assert [model.label for model in models][:2] == ["Original", "ESD (esd-sword)"]


def test_what_does_not_fit_leaves_no_checkpoint(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    save_file({"down_blocks.9.attn2.to_v.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    for method, error in (("esd", LoadError), ("no-such", ValueError)):
        config = {"path": str(tmp_path / "other.safetensors"), "method": method}
        with pytest.raises(error, match=r"down_blocks\.9|no method 'no-such'"):
            import_weights(context_of(store, settings, project, "import", config))
    assert store.list_checkpoints(project.id) == []


@pytest.mark.slow
def test_import_verb(
    store: Store,
    settings: Settings,
    project: Project,
    released: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"DATA": settings.data, "TOYBOX": settings.toybox, "DEVICE": "cpu", "THREADS": 1}.items():
        monkeypatch.setenv(f"DUO_STUDIO_{name}", str(value))
    known = ["import", "--project", project.id, "--method", "esd"]
    assert cli.main([*known, str(released), "--name", "Theirs"]) == 0
    (saved,) = store.list_checkpoints(project.id)
    assert saved.name == "Theirs"
    out = capsys.readouterr().out
    assert saved.sha256 in out
    assert saved.id in out
    assert cli.main([*known, "missing.safetensors"]) == 2
    assert "missing.safetensors does not exist" in capsys.readouterr().err
    assert cli.main(["import", "--project", project.id, "--method", "magic", str(released)]) == 2
    assert "no method 'magic'; use one of duo, esd, uce" in capsys.readouterr().err
