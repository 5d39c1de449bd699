"""A checkpoint in one file, without the hub: shipped configurations, what a header tells, the loading."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub.constants
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.torch import load_file, save_file

from models import single_file
from models.export_pipeline import save_configs
from models.file_kind import KINDS, T5, Header, check_whole, kind_of, prediction_of
from models.loading import LoadError, load_bundle
from models.original_layout import UNET, original_tensors, unet_tensors
from models.single_file import CONFIGS, read_single_file, shipped_tokenizer
from studio.projects import checked_checkpoint
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from tests.tiny_pipelines import sd1_pipeline, text_config, xl_pipeline
from tests.workflow_data import context_of

SHIPPED = ("v1", "v2", "v2_base", "xl_base", "sd3", "sd35_medium", "sd35_large")
CLIP_L, CLIP_L_PROJECTED, CLIP_G, T5_XXL = 123_060_480, 123_650_304, 694_659_840, 4_762_310_656
VAE, VAE_3 = 83_653_863, 83_819_683
THREE = {"vae": VAE_3, "text_encoder": CLIP_L_PROJECTED, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL}
# As published: of Stable Diffusion 3's transformers without their fixed table of positions.
WEIGHTS: dict[str, dict[str, int]] = {
    "v1": {"unet": 859_520_964, "vae": VAE, "text_encoder": CLIP_L},
    "v2": {"unet": 865_910_724, "vae": VAE, "text_encoder": 340_387_840},
    "v2_base": {"unet": 865_910_724, "vae": VAE, "text_encoder": 340_387_840},
    "xl_base": {"unet": 2_567_463_684, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
    "sd3": {"transformer": 2_028_328_000, **THREE},
    "sd35_medium": {"transformer": 2_243_171_520, **THREE},
    "sd35_large": {"transformer": 8_056_627_520, **THREE},
}
ASTRONAUT = "a photo of an astronaut riding a horse on mars"
ASTRONAUT_IDS = [49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496, 49407]


def read(*parts: str) -> dict[str, Any]:
    return json.loads(CONFIGS.joinpath(*parts).read_text(encoding="utf-8"))


def network(kind: str, name: str) -> torch.nn.Module:
    """A part of a shipped pipeline, without memory for its weights."""
    library, cls = read(kind, "model_index.json")[name]
    made = getattr({"diffusers": diffusers, "transformers": transformers}[library], cls)
    with torch.device("meta"):
        if library == "diffusers":
            return made.from_config(read(kind, name, "config.json"))
        return made(made.config_class.from_pretrained(CONFIGS / kind / name))


def header(shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> Header:
    return Header(Path("/models/mine.safetensors"), shapes, metadata or {})


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


# What is shipped


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_kinds_networks_have_as_many_weights_as_the_published(kind: str) -> None:
    counts = {name: sum(one.numel() for one in network(kind, name).parameters()) for name in WEIGHTS[kind]}
    assert counts == WEIGHTS[kind]


def test_every_kind_that_is_loaded_is_shipped() -> None:
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {*SHIPPED, single_file.VOCABULARY}
    assert {kind for kind in KINDS if KINDS[kind] != "flux"} == set(SHIPPED) - {"v2_base"}


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_kinds_parts_fit_each_other(kind: str) -> None:
    index = read(kind, "model_index.json")
    encoders = [read(kind, name, "config.json") for name in sorted(index) if name.startswith("text_encoder")]
    widths = [config.get("hidden_size", config.get("d_model")) for config in encoders]
    vae = read(kind, "vae", "config.json")
    if "unet" in index:
        unet = read(kind, "unet", "config.json")
        assert unet["cross_attention_dim"] == sum(widths)
        assert unet["in_channels"] == unet["out_channels"] == vae["latent_channels"] == 4
        assert unet["sample_size"] * 8 == vae["sample_size"]
        assert unet.get("projection_class_embeddings_input_dim", 0) in (0, widths[-1] + 6 * 256)
    else:
        transformer = read(kind, "transformer", "config.json")
        assert transformer["joint_attention_dim"] == widths[2]
        assert transformer["pooled_projection_dim"] == sum(config["projection_dim"] for config in encoders[:2])
        assert transformer["caption_projection_dim"] == transformer["num_attention_heads"] * 64
        assert transformer["in_channels"] == transformer["out_channels"] == vae["latent_channels"] == 16
    scheduler = read(kind, "scheduler", "scheduler_config.json")
    assert scheduler["_class_name"] == index["scheduler"][1]
    predictions = {"v1": "epsilon", "v2": "v_prediction", "v2_base": "epsilon", "xl_base": "epsilon"}
    assert scheduler.get("prediction_type") == predictions.get(kind)


@pytest.mark.parametrize(
    ("kind", "name", "padding"),
    [("v1", "tokenizer", 49407), ("v2", "tokenizer", 0), ("v2_base", "tokenizer", 0), ("xl_base", "tokenizer", 49407),
     ("xl_base", "tokenizer_2", 0), ("sd3", "tokenizer", 49407), ("sd3", "tokenizer_2", 0)],
)  # fmt: skip
def test_prompts_become_the_known_tokens(kind: str, name: str, padding: int) -> None:
    tokenizer = shipped_tokenizer(CONFIGS / kind / name)
    padded = tokenizer(ASTRONAUT, padding="max_length").input_ids
    assert padded == ASTRONAUT_IDS + [padding] * (77 - len(ASTRONAUT_IDS))
    assert len(tokenizer) == 49408
    assert tokenizer("  Ein  KATER, 42").input_ids == tokenizer("ein kater , 4 2").input_ids


# What a header tells

SD3_BIAS, POSITIONS = CHECKPOINT_KEY_NAMES["sd3"][1], "model.diffusion_model.pos_embed"


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("v1", {CHECKPOINT_KEY_NAMES["v1"]: (320, 640, 1, 1)}),
        ("v2", {CHECKPOINT_KEY_NAMES["v2"]: (320, 1024)}),
        ("xl_base", {CHECKPOINT_KEY_NAMES["xl_base"]: (1280,)}),
        ("sd3", {SD3_BIAS: (9216,), POSITIONS: (1, 36864, 1536)}),
        ("sd35_medium", {SD3_BIAS: (9216,), POSITIONS: (1, 147456, 1536)}),
        ("sd35_large", {CHECKPOINT_KEY_NAMES["sd35_large"][1]: (9728, 2432)}),
        ("flux-schnell", {CHECKPOINT_KEY_NAMES["flux"][0]: (128,)}),
    ],
)
def test_kind_of_a_header(kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert kind_of(header(shapes)) == kind
    assert kind in KINDS


@pytest.mark.parametrize("kind", ["v1", "v2", "xl_base"])
def test_a_whole_network_of_the_shipped_configs_is_of_its_kind(kind: str) -> None:
    """Its names are those that exports write, which diffusers reads back."""
    shapes = {UNET + key: tuple(value.shape) for key, value in unet_tensors(network(kind, "unet")).items()}
    if kind == "xl_base":  # told by its second text encoder
        shapes[CHECKPOINT_KEY_NAMES["xl_base"]] = (1280,)
    assert kind_of(header(shapes)) == kind


def test_a_header_with_half_the_marks_is_named() -> None:
    with pytest.raises(LoadError, match=r"mine.safetensors has some of a known checkpoint's tensors and lacks others"):
        kind_of(header({SD3_BIAS: (9216,)}))


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("v1", ["lora_unet_x.lora_up.weight"], r"holds 1 tensors, but no checkpoint .* comes in by “import”"),
        ("v1", [CHECKPOINT_KEY_NAMES["v1"]], "lacks the VAE and the text encoder of its kind, v1"),
        ("xl_base", ["first_stage_model.x", "conditioner.embedders.1.x"], "lacks the first text encoder of its kind"),
        ("sd3", ["first_stage_model.x"], r"lacks the first text encoder \(CLIP L\) and the second text encoder"),
        ("flux-dev", ["double_blocks.0.x"], "holds the transformer alone. Use a diffusers folder of it"),
        ("playground-v2-5", ["edm_mean"], "the kind 'playground-v2-5', which is not supported as one file"),
    ],
)
def test_what_a_file_lacks_is_named(kind: str, keys: list[str], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        check_whole(header(dict.fromkeys(keys, (1,))), kind)


def test_a_file_that_holds_a_lora_says_so(tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "mine.safetensors")
    with pytest.raises(LoadError, match="Choose the checkpoint itself: a LoRA"):
        load_bundle(str(tmp_path / "mine.safetensors"))


@pytest.mark.parametrize(
    ("kind", "shapes", "metadata", "expected"),
    [
        ("v1", {}, {}, ("epsilon", "as its kind does")),
        ("xl_base", {"v_pred": (0,)}, {}, ("v_prediction", "as its tensor “v_pred” says")),
        ("xl_base", {}, {"modelspec.prediction_type": "v"}, ("v_prediction", "as its header says")),
        ("v2", {}, {"modelspec.prediction_type": "epsilon"}, ("epsilon", "as its header says")),
    ],
)
def test_what_the_network_predicts(kind: str, shapes: Any, metadata: Any, expected: tuple[str, str]) -> None:
    assert prediction_of(header(shapes, metadata), kind) == expected


def second(path: Path, spread: float) -> str:
    """A file with the marks of Stable Diffusion 2, whose telling bias has this standard deviation."""
    telling = torch.tensor([spread, -spread]).repeat(160)
    save_file(
        {
            CHECKPOINT_KEY_NAMES["v2"]: torch.zeros(320, 1024),
            "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias": telling.half(),
            "first_stage_model.x": torch.zeros(1),
            "cond_stage_model.model.x": torch.zeros(1),
        },
        path,
    )
    return str(path)


@pytest.mark.parametrize(
    ("spread", "asked", "folder", "note"),
    [
        (0.2, "", "v2", r"predicts v, 768 pixels, judged by its weights\. For the other, end its name with #epsilon"),
        (0.05, "", "v2_base", r"predicts noise \(epsilon\), 512 pixels, judged by its weights.*#v_prediction"),
        (0.2, "epsilon", "v2_base", "512 pixels, as asked"),
        (0.05, "v_prediction", "v2", "768 pixels, as asked"),
    ],
)
def test_the_two_forms_of_stable_diffusion_2(tmp_path: Path, spread: float, asked: str, folder: str, note: str) -> None:
    second(tmp_path / "mine.safetensors", spread)
    file = read_single_file(tmp_path / "mine.safetensors", asked)
    assert (file.family.name, file.configs, file.shipped) == ("sd2", CONFIGS / folder, True)
    assert re.search(note, file.note)


def test_stable_diffusion_3_with_and_without_t5(tmp_path: Path) -> None:
    keys: dict[str, Sequence[int]] = {
        CHECKPOINT_KEY_NAMES["sd35_large"][1]: (1,),
        **dict.fromkeys(["first_stage_model.x", "text_encoders.clip_l.x", "text_encoders.clip_g.x"], (1,)),
    }
    without = read_file(tmp_path, keys)
    assert without.note == "The file has no T5: prompts are read by both CLIP text encoders alone."
    left_out = read_file(tmp_path, {**keys, T5: (1,)})
    assert "The file's T5 is left out, since its tokenizer is not shipped" in left_out.note
    (tmp_path / "mine" / "tokenizer_3").mkdir(parents=True)
    assert read_file(tmp_path, {**keys, T5: (1,)}).note == ""
    with pytest.raises(LoadError, match=r"Stable Diffusion 3, a flow: .* Leave out #epsilon"):
        read_single_file(tmp_path / "mine.safetensors", "epsilon")


def read_file(folder: Path, keys: Mapping[str, Sequence[int]]) -> single_file.SingleFile:
    save_file({key: torch.zeros(*shape) for key, shape in keys.items()}, folder / "mine.safetensors")
    return read_single_file(folder / "mine.safetensors")


# The loading, of narrow networks in the place of the shipped ones: real sizes are gigabytes


def ship(pipeline: diffusers.DiffusionPipeline, kind: str, folder: Path) -> None:
    """A pipeline's configurations as the studio ships a kind's: tokenizers have options alone, and one vocabulary."""
    shutil.copytree(CONFIGS / single_file.VOCABULARY, folder / single_file.VOCABULARY)
    save_configs(pipeline, folder / kind)
    for name in [name for name in pipeline.components if name.startswith("tokenizer")]:
        shutil.rmtree(folder / kind / name)
        shutil.copytree(CONFIGS / kind / name, folder / kind / name)


def whole_vocabulary(width: int, **changes: Any) -> transformers.CLIPTextConfig:
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return text_config(width, vocab_size=49408, max_position_embeddings=77, **ends, **changes)


def narrow_1() -> diffusers.StableDiffusionPipeline:
    made = sd1_pipeline()
    made.register_modules(text_encoder=transformers.CLIPTextModel(whole_vocabulary(24)))
    return made


def narrow_xl() -> diffusers.StableDiffusionXLPipeline:
    """Its second text encoder has as many layers as the mark of its kind needs."""
    made, options = xl_pipeline(), {"hidden_act": "gelu", "projection_dim": 16, "num_hidden_layers": 10}
    made.register_modules(
        text_encoder=transformers.CLIPTextModel(whole_vocabulary(24)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(whole_vocabulary(40, **options)),
    )
    return made


@pytest.mark.parametrize(("kind", "make"), [("v1", narrow_1), ("xl_base", narrow_xl)])
def test_a_file_alone_is_loaded_without_the_hub(
    kind: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = make(), tmp_path / "mine.safetensors"
    ship(made, kind, tmp_path / "configs")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    save_file({key: value.contiguous() for key, value in original_tensors(made).items()}, path)
    bundle = load_bundle(f"{path}", device="cpu")
    assert (bundle.spec.family, bundle.spec.name, bundle.spec.note) == (KINDS[kind], "mine", "")
    parts = zip(bundle.text_encoders, [made.text_encoder, getattr(made, "text_encoder_2", None)], strict=False)
    for ours, theirs in [(bundle.denoiser, made.unet), (bundle.vae, made.vae), *parts]:
        read = ours.state_dict()
        assert all(torch.equal(read[key], value) for key, value in theirs.state_dict().items())
    assert all(tokenizer(ASTRONAUT).input_ids == ASTRONAUT_IDS for tokenizer in bundle.tokenizers)
    assert bundle.generate([ASTRONAUT], [0], steps=1).latents.isfinite().all()


@pytest.fixture
def narrow_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file alone, of Stable Diffusion 1's kind."""
    made = narrow_1()
    ship(made, "v1", tmp_path / "configs")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    tensors = {key: value.contiguous() for key, value in original_tensors(made).items()}
    save_file(tensors, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_what_a_person_says_of_a_file_counts(narrow_file: Path) -> None:
    path = narrow_file
    bundle = load_bundle(f"{path}#v_prediction", device="cpu")
    assert bundle.diffusion.prediction_type == "v_prediction"
    assert bundle.spec.checkpoint == f"{path}#v_prediction"
    assert bundle.spec.note.startswith("Taken as a checkpoint that predicts v, as asked.")
    with pytest.raises(LoadError, match="ends with #velocity; use #epsilon or #v_prediction"):
        load_bundle(f"{path}#velocity")
    save_file({**load_file(path), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, path)
    zero = load_bundle(str(path), device="cpu")
    assert zero.diffusion.alphas_cumprod[-1] < 1e-6 < bundle.diffusion.alphas_cumprod[-1]
    assert zero.diffusion.prediction_type == "v_prediction"


def test_a_job_says_what_was_decided(
    narrow_file: Path, capsys: pytest.CaptureFixture[str], store: Store, settings: Settings
) -> None:
    reference = checked_checkpoint(f"{narrow_file}#v_prediction")
    assert reference == f"{narrow_file}#v_prediction"
    project = store.create_project(Project("", "Mine", "sword", reference, "nudenet"))
    messages: list[str] = []
    report = lambda step, total, message="", **values: messages.append(message)  # noqa: E731
    context_of(store, settings, project, "pairs", {}, report).load_bundle()
    assert messages[-1].startswith("Taken as a checkpoint that predicts v, as asked.")
    assert f"{reference}: {messages[-1]}" in capsys.readouterr().out


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({key: value.contiguous() for key, value in original_tensors(sd1_pipeline()).items()}, path)
    with pytest.raises(LoadError, match=r"cannot be loaded as Stable Diffusion 1: .*configs/v1 belong to"):
        load_bundle(str(path), device="cpu")


def test_pickles_beside_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    save_configs(sd1_pipeline(), tmp_path / "mine")
    (tmp_path / "mine" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(LoadError, match=r"diffusion_pytorch_model\.bin is pickled, which can run code"):
        load_bundle(str(path))
