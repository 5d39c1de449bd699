"""What is told of checkpoints from their files' headers, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from models.deltas import WeightDelta, save_delta
from models.export_pipeline import cast, networks_of, pipeline_bytes, save_merged, save_single_file
from models.stored import Stored, delta_weights, stored_weights
from tests.tiny_pipelines import sd1_pipeline, xl_pipeline


def test_a_folder_and_a_file_tell_their_weights(tmp_path: Path) -> None:
    made = xl_pipeline()
    count = sum(value.numel() for part in networks_of(made).values() for value in part.state_dict().values())
    save_merged(made, tmp_path / "xl")
    save_single_file(made, tmp_path / "one.safetensors", {})
    folder = stored_weights(str(tmp_path / "xl"), tmp_path)
    assert folder == Stored(count, frozenset({"float32"}), "StableDiffusionXLPipeline")
    assert 4 * count == pipeline_bytes(made, "float32")
    assert stored_weights(str(tmp_path / "one.safetensors"), tmp_path) == Stored(count, frozenset({"float32"}))
    assert stored_weights("toybox", tmp_path / "xl") == folder


def test_of_several_precisions_one_counts(tmp_path: Path) -> None:
    made = sd1_pipeline()
    cast(made, "float16")
    save_merged(made, tmp_path)
    half = stored_weights(str(tmp_path), tmp_path)
    assert half is not None
    assert half.dtypes == {"float16"}
    for part in ("unet", "vae"):
        file = tmp_path / part / "diffusion_pytorch_model.safetensors"
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert stored_weights(str(tmp_path), tmp_path) == half, "there is no plain one"
    save_file({"x": torch.ones(7, dtype=torch.bfloat16)}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    mixed = stored_weights(str(tmp_path), tmp_path)
    assert mixed is not None
    assert mixed.dtypes == {"bfloat16", "float16"}
    assert mixed.count == half.count - sum(p.numel() for p in made.unet.parameters()) + 7
    (tmp_path / "oracle").mkdir()
    save_file({"x": torch.ones(9)}, tmp_path / "oracle" / "diffusion_pytorch_model.safetensors")
    oracle = stored_weights("toybox:oracle", tmp_path)
    assert oracle is not None
    assert oracle.count == mixed.count + 2


def test_what_is_not_here_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "text.safetensors").write_bytes((5).to_bytes(8, "little") + b"hello")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "model_index.json").write_text("[]")
    names = ("broken.safetensors", "text.safetensors", "missing.safetensors", "list", "missing")
    for reference in (*(str(tmp_path / name) for name in names), "nobody/nothing", "nonsense"):
        assert stored_weights(reference, tmp_path) is None
    assert delta_weights(tmp_path / "text.safetensors") is None
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model_index.json").write_text(json.dumps({"_class_name": "X", "unet": ["diffusers", "Y"]}))
    assert stored_weights(str(tmp_path / "empty"), tmp_path) is None


def test_a_downloaded_checkpoint_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--owner--name"
    save_merged(sd1_pipeline(), place / "snapshots" / ("ab" * 20))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("ab" * 20)
    found = stored_weights("owner/name", tmp_path)
    assert found == stored_weights(str(place / "snapshots" / ("ab" * 20)), tmp_path) is not None


def test_an_adapter_tells_its_weights_and_metadata(tmp_path: Path) -> None:
    delta = WeightDelta("weights", {"conv_in.bias": torch.ones(3)}, {"method": "esd"})
    save_delta(delta, tmp_path / "a.safetensors")
    found = delta_weights(tmp_path / "a.safetensors")
    assert found is not None
    assert found[0] == 3
    assert found[1]["method"] == "esd"
