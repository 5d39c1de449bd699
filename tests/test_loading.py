"""Checkpoints from folders and files; what cannot be loaded says why."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from models.bundle import ModelBundle
from models.export_pipeline import pipeline_of
from models.loading import LoadError, load_bundle, resolve_device
from models.specs import KNOWN_MODELS, parse_reference
from tests.tiny_pipelines import save_original_layout


@pytest.fixture
def folder(tiny_bundle: ModelBundle, tmp_path: Path) -> Path:
    """A pipeline folder as the embedded checkpoint is one, with a second UNet as its oracle."""
    pipeline_of(tiny_bundle).save_pretrained(tmp_path / "pipeline")
    before = tiny_bundle.denoiser.conv_out.bias.data.clone()
    tiny_bundle.denoiser.conv_out.bias.data += 1
    tiny_bundle.denoiser.save_pretrained(tmp_path / "pipeline" / "oracle")
    tiny_bundle.denoiser.conv_out.bias.data = before
    return tmp_path / "pipeline"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("text", "kind", "location", "revision", "unet"),
    [
        ("toybox", "toybox", "toybox", None, ""),
        ("toybox:oracle", "toybox", "toybox", None, "oracle"),
        ("/models/mine", "folder", "/models/mine", None, ""),
        ("./mine", "folder", "mine", None, ""),
        ("/models/mine.safetensors", "file", "/models/mine.safetensors", None, ""),
        ("/models/mine.safetensors#v_prediction", "file", "/models/mine.safetensors", None, ""),
        ("owner/name@v1.0", "hub", "owner/name", "v1.0", ""),
        ("owner/name", "hub", "owner/name", "main", ""),
    ],
)
def test_parse_reference(text: str, kind: str, location: str, revision: str | None, unet: str) -> None:
    reference = parse_reference(text)
    assert (reference.kind, reference.location, reference.revision, reference.unet) == (kind, location, revision, unet)


def test_known_models_are_pinned_to_a_commit() -> None:
    for checkpoint, spec in KNOWN_MODELS.items():
        assert parse_reference(checkpoint).revision == spec.revision
        assert spec.revision is not None
        assert len(spec.revision) == 40


@pytest.mark.parametrize("text", ["", "nonsense", "a/b/c", "model.ckpt"])
def test_parse_reference_refuses(text: str) -> None:
    with pytest.raises(LoadError, match=r"owner/name@revision|\.safetensors"):
        parse_reference(text)


def test_load_folder_generates_the_same_pictures(folder: Path, tiny_bundle: ModelBundle) -> None:
    loaded = load_bundle(str(folder), device="cpu")
    assert (loaded.spec.name, loaded.spec.resolution, loaded.spec.dtype) == ("pipeline", 64, "float32")
    ours, theirs = (bundle.generate(["a knight"], [1], steps=3) for bundle in (tiny_bundle, loaded))
    assert torch.allclose(ours.latents, theirs.latents, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.denoiser.parameters())


def test_load_toybox_and_its_oracle(folder: Path) -> None:
    toybox = load_bundle("toybox", device="cpu", toybox=folder)
    oracle = load_bundle("toybox:oracle", device="cpu", toybox=folder)
    assert torch.allclose(oracle.denoiser.conv_out.bias, toybox.denoiser.conv_out.bias + 1)
    assert torch.equal(oracle.denoiser.conv_in.weight, toybox.denoiser.conv_in.weight)
    assert oracle.spec.checkpoint == "toybox:oracle"


def test_load_in_another_dtype(folder: Path) -> None:
    loaded = load_bundle(str(folder), device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.denoiser.parameters()} == {torch.bfloat16}
    with pytest.raises(LoadError, match="'int8'; use auto, float32"):
        load_bundle(str(folder), dtype="int8")


def test_a_scheduler_without_clip_sample_is_not_clipped(folder: Path) -> None:
    """PNDM configs, as Stable Diffusion 1 ships them, may not name it; DDIM's own default would clip latents."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["clip_sample"]
    path.write_text(json.dumps(config))
    latents = load_bundle(str(folder), device="cpu").generate(["a"], [0], steps=3).latents
    assert latents.abs().max() > 1.5


def test_missing_folder() -> None:
    with pytest.raises(LoadError, match=r"/no/such is not a folder\. Check the path"):
        load_bundle("/no/such")


def test_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no model_index\.json"):
        load_bundle(str(tmp_path))


def test_folder_of_another_family(folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(LoadError, match="KandinskyPipeline, which is not supported"):
        load_bundle(str(folder))


def test_folder_with_another_kind_of_noise(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "EDMDPMSolverMultistepScheduler"}))
    with pytest.raises(LoadError, match="EDMDPMSolverMultistepScheduler, whose noise is not supported"):
        load_bundle(str(folder), device="cpu")


def test_folder_with_pickled_weights_only(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(LoadError, match=r"only pickled weights \(diffusion_pytorch_model\.bin\).*safe_serialization"):
        load_bundle(str(folder))


def test_folder_with_damaged_weights(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LoadError, match="cannot be read"):
        load_bundle(str(folder))


def test_single_file_takes_its_configs_from_the_folder_beside_it(folder: Path, tiny_bundle: ModelBundle) -> None:
    save_original_layout(tiny_bundle, Path(f"{folder}.safetensors"))
    loaded = load_bundle(f"{folder}.safetensors", device="cpu")
    ours, theirs = (bundle.generate(["a knight"], [1], steps=3) for bundle in (tiny_bundle, loaded))
    assert torch.allclose(ours.latents, theirs.latents, atol=1e-5)


def test_single_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="does not exist"):
        load_bundle(str(tmp_path / "mine.safetensors"))


@pytest.mark.usefixtures("offline")
def test_hub_out_of_reach() -> None:
    with pytest.raises(LoadError, match=r"nobody/nothing@v1 cannot be loaded .* give a folder instead"):
        load_bundle("nobody/nothing@v1")


def test_resolve_device() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(LoadError, match=r"'tpu' is not available here; use auto or .*cpu"):
        resolve_device("tpu")
