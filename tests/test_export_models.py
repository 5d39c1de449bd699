"""Models as they leave: what other programs read of the files is what the studio drew, and nothing is pickled."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, safe_open
from torch import nn

from models import export_pipeline
from models.adapters import WeightDelta, applied, load_delta, merge
from models.bundle import ModelBundle
from models.export_files import ExportError
from models.export_lora import DIFFUSERS_NAME, lora_bytes, save_diffusers_lora, save_kohya_lora
from models.export_pipeline import (
    cast,
    networks_of,
    pipeline_bytes,
    pipeline_of,
    save_merged,
    save_single_file,
)
from models.families.unets import UNetFamily
from models.foreign import load_foreign
from models.loading import load_bundle
from models.original_layout import original_tensors, unet_tensors
from models.specs import FamilyName
from models.stored import stored_weights
from tests.test_foreign import random_lora
from tests.tiny_families import look_alike, make_family_bundle
from tests.tiny_pipelines import sd1_pipeline, sd2_pipeline, xl_pipeline

PIPELINES = {"sd1": sd1_pipeline, "sd2": sd2_pipeline, "xl": xl_pipeline}
SHAPES: dict[str, dict[str, Any]] = {
    "one layer": {"layers_per_block": 1},
    "three layers": {"layers_per_block": 3},
    "two blocks": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
}


def assert_same_weights(one: DiffusionPipeline, other: DiffusionPipeline) -> None:
    for name, part in networks_of(one).items():
        theirs = getattr(other, name).state_dict()
        assert theirs.keys() == part.state_dict().keys()
        assert all(torch.equal(value, theirs[key]) for key, value in part.state_dict().items()), name


# One file


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_single_file_comes_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    made = PIPELINES[kind]()
    save_single_file(made, tmp_path / "mine.safetensors", {"base": "tiny"})
    with safe_open(tmp_path / "mine.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "base": "tiny"}
    read = type(made).from_single_file(
        tmp_path / "mine.safetensors", config=str(tmp_path / "mine"), local_files_only=True, torch_dtype=torch.float32
    )
    assert_same_weights(made, read)
    assert type(read.scheduler) is type(made.scheduler)
    assert read.scheduler.config.prediction_type == made.scheduler.config.prediction_type


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["sd1", "xl"])
def test_any_block_structure_has_its_place(kind: str, shape: str) -> None:
    """`original_tensors` raises where diffusers' own way back does not give each weight."""
    changes = dict(SHAPES[shape])
    if kind == "xl" and shape == "two blocks":
        changes["transformer_layers_per_block"] = (1, 2)
    made = PIPELINES[kind](**changes)
    count = sum(len(part.state_dict()) for part in networks_of(made).values())
    layers = 2 if kind == "xl" else 0  # of the encoder in OpenCLIP's layout: three tensors become one, twice a layer
    assert len(original_tensors(made)) == count - 4 * layers


def test_names_and_shapes_are_the_published_ones() -> None:
    """Those by which other programs tell the kinds apart, with the shapes they insist on."""
    first, second, third = (original_tensors(make()) for make in PIPELINES.values())
    assert "model.diffusion_model.output_blocks.11.0.skip_connection.weight" in first
    assert "model.diffusion_model.input_blocks.3.0.op.weight" in first
    assert "model.diffusion_model.output_blocks.2.1.conv.weight" in first, "no attention before it in the deepest block"
    assert "model.diffusion_model.output_blocks.5.2.conv.weight" in first
    assert "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight" in first
    assert "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight" in first
    assert first["first_stage_model.decoder.mid.attn_1.proj_out.weight"].shape == (16, 16, 1, 1)
    assert "first_stage_model.encoder.down.2.block.0.nin_shortcut.weight" in first
    assert "first_stage_model.decoder.up.3.upsample.conv.weight" in first
    assert "first_stage_model.decoder.up.0.block.2.conv2.weight" in first
    assert second["cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight"].shape == (96, 32)
    assert "cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.bias" in second
    assert second["cond_stage_model.model.positional_embedding"].shape == (16, 32)
    assert "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight" in third
    assert third["conditioner.embedders.1.model.text_projection"].shape == (40, 16), "transposed"
    assert "conditioner.embedders.1.model.ln_final.weight" in third
    assert "model.diffusion_model.label_emb.0.2.weight" in third
    assert "model.diffusion_model.input_blocks.8.1.transformer_blocks.2.attn2.to_v.weight" in third


def test_published_unets_have_as_many_tensors_in_the_published_shapes() -> None:
    """At full size, without memory for it."""
    with torch.device("meta"):
        first, second = UNet2DConditionModel(cross_attention_dim=768), UNet2DConditionModel(cross_attention_dim=1024)
        third = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        one, two, xl = (unet_tensors(unet) for unet in (first, second, third))
    assert (len(one), len(two), len(xl)) == (686, 686, 1680)
    assert one["output_blocks.11.0.skip_connection.weight"].shape == (320, 640, 1, 1)
    assert two["input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"].shape == (320, 1024)
    assert xl["input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight"].shape == (1280, 2048)
    assert xl["label_emb.0.0.weight"].shape == (1280, 2816)
    assert xl["output_blocks.5.2.conv.weight"].shape == (640, 640, 3, 3)


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    uneven = sd1_pipeline(layers_per_block=(1, 1, 2, 1))
    with pytest.raises(ExportError, match=r"no place for .*layers_per_block.*Export it merged"):
        original_tensors(uneven)
    other = sd1_pipeline(class_embed_type="timestep")
    with pytest.raises(ExportError, match=r"no place for .*class_embedding.*Export it merged"):
        original_tensors(other)
    deep = sd2_pipeline()
    deep.text_encoder.config.hidden_act = (
        "quick_gelu"  # as if it were OpenAI's, but with linear layers: still SD 2's UNet
    )
    assert "cond_stage_model.transformer.text_model.final_layer_norm.bias" in original_tensors(deep)
    strange = type("PixArtPipeline", (), {})()
    with pytest.raises(ExportError, match="A PixArtPipeline has no single-file layout"):
        save_single_file(strange, tmp_path / "x.safetensors", {})


# Merged


@pytest.mark.parametrize("kind", ["lora", "weights", "text encoder"])
def test_a_merged_folder_draws_what_the_delta_drew(tiny_bundle: ModelBundle, tmp_path: Path, kind: str) -> None:
    delta = random_lora(tiny_bundle, 4, 2.0)
    if kind == "weights":
        delta = WeightDelta("weights", {"conv_in.bias": torch.full((32,), 0.1)})
    elif kind == "text encoder":
        (name,) = (name for name, _ in tiny_bundle.text_encoder.named_parameters() if "final_layer_norm.b" in name)
        delta = WeightDelta("weights", {name: torch.full((96,), 0.5)}, {"part": "text_encoder"})
    with applied(tiny_bundle, delta):
        expected = tiny_bundle.generate(["a knight"], [1], steps=3)
    plain = tiny_bundle.generate(["a knight"], [1], steps=3)
    merge(tiny_bundle, delta)
    pipeline = pipeline_of(tiny_bundle)
    save_merged(pipeline, tmp_path / "merged")
    save_single_file(pipeline, tmp_path / "one.safetensors", {})
    for reference in (tmp_path / "merged", tmp_path / "one.safetensors"):
        found = load_bundle(str(reference), device="cpu").generate(["a knight"], [1], steps=3)
        assert torch.allclose(found.latents, expected.latents, atol=1e-5)
        assert look_alike(found.images, expected.images)
    assert not torch.allclose(plain.latents, expected.latents, atol=1e-3)


def test_nothing_is_pickled_and_no_path_is_told(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    save_merged(pipeline_of(tiny_bundle), tmp_path / "first")
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "first", local_files_only=True)
    save_merged(loaded, tmp_path / "second")
    save_single_file(loaded, tmp_path / "third.safetensors", {})
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt"}
    told = [file for file in files if file.suffix == ".json" and "first" in file.read_text(encoding="utf-8")]
    assert told == [], "a config names the folder that the model was loaded from"
    assert "_name_or_path" not in json.loads((tmp_path / "second" / "unet" / "config.json").read_text())


def test_large_networks_lie_in_several_files(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_pipeline, "SHARD", "200KB")
    save_merged(pipeline_of(tiny_bundle), tmp_path / "model")
    assert len(list((tmp_path / "model" / "unet").glob("*.safetensors"))) > 2
    loaded = load_bundle(str(tmp_path / "model"), device="cpu")
    state = loaded.denoiser.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in tiny_bundle.denoiser.state_dict().items())
    apart = stored_weights(str(tmp_path / "model"), tmp_path)
    assert apart is not None
    assert 4 * apart.count == pipeline_bytes(pipeline_of(loaded), "float32")


def test_half_precision_halves_the_files_and_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    made = sd1_pipeline()
    expected = made.unet.conv_in.weight.detach().half()
    whole, half = pipeline_bytes(made, "float32"), pipeline_bytes(made, "float16")
    assert whole == 2 * half == sum(p.numel() * 4 for n in networks_of(made).values() for p in n.parameters())
    cast(made, "float16")
    save_merged(made, tmp_path / "half")
    read = load_file(tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in read.values()} == {torch.float16}
    assert torch.equal(read["conv_in.weight"], expected)
    loaded = load_bundle(str(tmp_path / "half"), device="cpu")
    assert torch.equal(loaded.denoiser.conv_in.weight, expected.float())
    large = sd1_pipeline()
    large.unet.conv_in.bias.data[0] = 1e5
    with pytest.raises(ExportError, match=r"unet's conv_in\.bias is not finite in float16.*Choose float32"):
        cast(large, "float16")


# LoRAs

RANK, ALPHA = 4, 10.0  # differ, and not by a power of two


def pipeline_lora(pipeline: DiffusionPipeline, targets: str) -> WeightDelta:
    """A random LoRA on the layers that a training with these targets would change."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, module in sorted(pipeline.unet.named_modules()):
        if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(tuple(UNetFamily.lora_targets[targets])):
            out, inner, *window = module.weight.shape
            ones = [1] * len(window)
            tensors[f"{name}.lora_A.weight"] = 0.1 * torch.randn(RANK, inner, *window, generator=generator)
            tensors[f"{name}.lora_B.weight"] = 0.1 * torch.randn(out, RANK, *ones, generator=generator)
    facts = {"rank": str(RANK), "alpha": str(ALPHA), "targets": json.dumps(UNetFamily.lora_targets[targets])}
    return WeightDelta("lora", tensors, facts)


def add_by_hand(pipeline: DiffusionPipeline, delta: WeightDelta) -> None:
    """W + alpha / r B A, layer by layer."""
    weights = dict(pipeline.unet.named_parameters())
    for key, down in delta.tensors.items():
        if ".lora_A." in key:
            up = delta.tensors[key.replace("lora_A", "lora_B")]
            change = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)) * (ALPHA / RANK)
            weights[key.replace("lora_A.", "")].data += change.reshape(weights[key.replace("lora_A.", "")].shape)


def predicted(pipeline: DiffusionPipeline) -> torch.Tensor:
    """The network's output for one fixed input."""
    unet = pipeline.unet
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    embeds = torch.randn(1, 5, unet.config.cross_attention_dim, generator=generator)
    added = {"text_embeds": torch.randn(1, 16, generator=generator), "time_ids": torch.ones(1, 6)}
    with torch.no_grad():
        return unet(latents, 500, embeds, added_cond_kwargs=added).sample


def save_kohya(delta: WeightDelta, pipeline: DiffusionPipeline, folder: Path) -> None:
    save_kohya_lora(delta, folder / "kohya.safetensors", "float32", pipeline.unet.config, {})


def save_diffusers(delta: WeightDelta, pipeline: DiffusionPipeline, folder: Path) -> None:
    save_diffusers_lora(delta, folder / DIFFUSERS_NAME, "float32", {})


@pytest.mark.parametrize("save", [save_kohya, save_diffusers])
@pytest.mark.parametrize("kind", PIPELINES)
def test_diffusers_reads_our_loras_at_their_strength(
    kind: str, save: Callable[[WeightDelta, DiffusionPipeline, Path], None], tmp_path: Path
) -> None:
    """On every kind of layer. Alpha differs from the rank: a file that says otherwise draws another picture."""
    theirs, ours = PIPELINES[kind](), PIPELINES[kind]()
    plain = predicted(theirs)
    delta = pipeline_lora(theirs, "all")
    save(delta, theirs, tmp_path)
    theirs.load_lora_weights(tmp_path, weight_name=next(tmp_path.iterdir()).name)
    add_by_hand(ours, delta)
    expected = predicted(ours)
    assert torch.allclose(predicted(theirs), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_transformers_lora_needs_no_header(name: FamilyName, tmp_path: Path) -> None:
    """As ComfyUI reads it, which takes alpha for the rank: alpha / rank is in the second factor."""
    bundle = make_family_bundle(name)
    delta = random_lora(bundle, RANK, ALPHA, bundle.family.lora_targets["attention+ff"])
    save_kohya_lora(delta, tmp_path / "comfy.safetensors", "float32", dict(bundle.denoiser.config), {})
    tensors = load_file(tmp_path / "comfy.safetensors")
    assert all(key.startswith("transformer.") and ".lora_" in key for key in tensors)
    weights = {key: value.clone() for key, value in bundle.denoiser.state_dict().items()}
    with applied(bundle, delta):
        for key, value in bundle.denoiser.state_dict().items():
            down = f"transformer.{key.removesuffix('.weight')}.lora_A.weight"
            if down in tensors:
                weights[key] += tensors[down.replace("lora_A", "lora_B")] @ tensors[down]
            assert torch.allclose(value, weights[key], atol=1e-6)
    pipeline = pipeline_of(bundle)
    for save, file in ((save_kohya_lora, "comfy"), (None, "lora")):
        if save is None:
            save_diffusers_lora(delta, tmp_path / "lora.safetensors", "float32", {})
        pipeline.load_lora_weights(tmp_path, weight_name=f"{file}.safetensors", adapter_name=file)
        pipeline.fuse_lora()
        fused = bundle.denoiser.state_dict()
        found = {key.replace(".base_layer", ""): value for key, value in fused.items() if ".lora_" not in key}
        assert all(torch.allclose(found[key], weights[key], atol=1e-5) for key in weights)
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()


def test_the_studio_reads_its_own_files_again(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    delta = random_lora(tiny_bundle, 4, 10.0)
    save_kohya(delta, pipeline_of(tiny_bundle), tmp_path)
    save_diffusers(delta, pipeline_of(tiny_bundle), tmp_path)
    found = load_foreign(tmp_path / "kohya.safetensors", tiny_bundle)
    with applied(tiny_bundle, delta):
        expected = {name: value.clone() for name, value in tiny_bundle.denoiser.named_parameters()}
    with applied(tiny_bundle, found):
        assert all(
            torch.allclose(value, expected[n], atol=1e-6) for n, value in tiny_bundle.denoiser.named_parameters()
        )
    read = load_delta(tmp_path / DIFFUSERS_NAME)
    assert read.metadata == delta.metadata
    assert all(torch.equal(value, read.tensors[key]) for key, value in delta.tensors.items())


def test_kohyas_header_says_what_others_sort_by(tmp_path: Path) -> None:
    for kind, base, second in (("sd1", "sd_v1", "False"), ("xl", "sdxl_base_v1-0", "False")):
        made = PIPELINES[kind]()
        path = tmp_path / f"{kind}.safetensors"
        save_kohya_lora(pipeline_lora(made, "attention"), path, "float16", made.unet.config, {"method": "duo"})
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            keys = set(file.keys())
            name = next(key for key in sorted(keys) if key.endswith(".alpha"))
            assert file.get_tensor(name).item() == ALPHA
            assert file.get_tensor(name.replace("alpha", "lora_up.weight")).dtype == torch.float16
        assert (facts["ss_base_model_version"], facts["ss_v2"]) == (base, second)
        assert (facts["ss_network_dim"], facts["ss_network_alpha"], facts["method"]) == ("4", "10.0", "duo")
        first = {"sd1": "lora_unet_down_blocks_0_attentions_0", "xl": "lora_unet_input_blocks_4_1"}[kind]
        assert f"{first}_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in keys
        assert "kind" not in facts, "the studio would take it for its own layout"


def test_edited_weights_are_no_lora(tmp_path: Path) -> None:
    delta = WeightDelta("weights", {"conv_in.bias": torch.ones(8)})
    made = sd1_pipeline()
    for save in (save_kohya, save_diffusers):
        with pytest.raises(ExportError, match=r"edited weights, not a LoRA\. Export it merged"):
            save(delta, made, tmp_path)
    assert list(tmp_path.iterdir()) == []
    large = WeightDelta(
        "lora", {"x.lora_A.weight": torch.full((1, 1), 1e9)}, {"rank": "1", "alpha": "1", "targets": "[]"}
    )
    with pytest.raises(ExportError, match=r"x\.lora_A\.weight is too large for float16"):
        save_diffusers_lora(large, tmp_path / "x.safetensors", "float16", {})
    assert lora_bytes(pipeline_lora(made, "attention"), "float16") % 2 == 0
    assert math.isclose(lora_bytes(large, "float32"), 4)
