"""Released weights of other programs: every layout is read as the change that it is, and what does not fit is named."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from models.adapters import WeightDelta, applied, attach_lora, detach, lora_delta, save_delta
from models.bundle import ModelBundle
from models.export_pipeline import save_merged
from models.foreign import load_foreign
from models.loading import load_bundle
from models.original_layout import original_tensors, unet_key
from models.specs import LoadError
from models.transport import METADATA as TRANSPORT
from studio.methods.spm import targets_of
from studio.settings import REPOSITORY
from tests.tiny_families import make_family_bundle
from tests.tiny_pipelines import save_original_layout, sd1_pipeline, sd2_pipeline

Tensors = dict[str, torch.Tensor]


def weights(bundle: ModelBundle) -> Tensors:
    return {name: value.detach().clone() for name, value in bundle.denoiser.named_parameters()}


def edited(bundle: ModelBundle, part: str) -> Tensors:
    """New values, as ESD and UCE publish them, of the weights whose names hold `part`."""
    chosen = {name: value for name, value in weights(bundle).items() if part in name}
    return {name: value + 0.1 * torch.randn(value.shape) for name, value in chosen.items()}


def random_lora(
    bundle: ModelBundle, rank: int = 1, alpha: float = 1.0, targets: list[str] | None = None
) -> WeightDelta:
    for index, parameter in enumerate(
        attach_lora(bundle, rank=rank, alpha=alpha, targets=targets or targets_of(bundle), seed=0)
    ):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    delta = lora_delta(bundle)
    detach(bundle)
    return delta


def written(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


def assert_equal_models(bundle: ModelBundle, one: WeightDelta, other: WeightDelta) -> None:
    with applied(bundle, one):
        first = weights(bundle)
    with applied(bundle, other):
        assert all(torch.allclose(value, first[name], atol=1e-6) for name, value in weights(bundle).items())


@pytest.mark.parametrize("prefix", ["", "unet.", "module."])
def test_edited_weights_become_their_difference(tiny_bundle: ModelBundle, tmp_path: Path, prefix: str) -> None:
    new = edited(tiny_bundle, ".attn2.to_k.")
    file = written({prefix + name: value for name, value in new.items()}, tmp_path / "uce.safetensors")
    delta = load_foreign(file, tiny_bundle)
    assert delta.kind == "weights"
    assert delta.tensors.keys() == new.keys()
    with applied(tiny_bundle, delta):
        found = weights(tiny_bundle)
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in new.items())


@pytest.mark.parametrize("pipeline", [False, True])
def test_folders_of_a_unet_and_of_a_pipeline(tiny_bundle: ModelBundle, tmp_path: Path, pipeline: bool) -> None:
    """A whole UNet: only what differs is kept."""
    before = tiny_bundle.denoiser.conv_in.bias.data.clone()
    tiny_bundle.denoiser.conv_in.bias.data += 1
    tiny_bundle.denoiser.save_pretrained(tmp_path / "unet" if pipeline else tmp_path)
    tiny_bundle.denoiser.conv_in.bias.data = before
    delta = load_foreign(tmp_path, tiny_bundle)
    assert list(delta.tensors) == ["conv_in.bias"]
    assert torch.allclose(delta.tensors["conv_in.bias"], torch.ones(32))


def changed_text(bundle: ModelBundle) -> tuple[Tensors, Tensors]:
    """The text encoder's weights as they are, and with one of them changed."""
    own = {name: value.detach().clone() for name, value in bundle.text_encoder.named_parameters()}
    name = next(name for name in own if name.endswith("layers.0.mlp.fc1.weight"))
    return own, own | {name: own[name] + 0.5}


@pytest.mark.parametrize("layout", ["folder", "released", "original", "prefixed"])
def test_a_text_encoder_as_it_is_published(tiny_bundle: ModelBundle, tmp_path: Path, layout: str) -> None:
    """As AdvUnlearn's authors do, with positions; in a pipeline's folder beside a UNet that is the same."""
    own, new = changed_text(tiny_bundle)
    plain = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in new.items()}
    positions = {"text_model.embeddings.position_ids": torch.arange(16.0)[None]}
    if layout == "folder":
        tiny_bundle.denoiser.save_pretrained(tmp_path / "unet")
        tiny_bundle.text_encoder.load_state_dict(new)
        tiny_bundle.text_encoder.save_pretrained(tmp_path / "text_encoder")
        tiny_bundle.text_encoder.load_state_dict(own)
    elif layout == "released":
        written(plain | positions, tmp_path / "model.safetensors")
    elif layout == "original":
        tiny_bundle.text_encoder.load_state_dict(new)
        save_original_layout(tiny_bundle, tmp_path / "model.safetensors")
        tiny_bundle.text_encoder.load_state_dict(own)
    else:
        written({f"text_encoder.{key}": value for key, value in new.items()}, tmp_path / "model.safetensors")
    delta = load_foreign(tmp_path, tiny_bundle)
    assert delta.part == "text_encoder"
    assert [name.removeprefix("text_model.") for name in delta.tensors] == ["encoder.layers.0.mlp.fc1.weight"]
    before = tiny_bundle.encode_prompt(["", "a sword"])
    with applied(tiny_bundle, delta):
        assert all(torch.allclose(value, new[name]) for name, value in tiny_bundle.text_encoder.named_parameters())
        assert (tiny_bundle.encode_prompt([""]) != before[:1]).any()
    assert torch.equal(tiny_bundle.encode_prompt(["", "a sword"]), before)


@pytest.mark.parametrize("make", [sd1_pipeline, sd2_pipeline])
def test_a_whole_file_in_half_precision(make: Callable[[], StableDiffusionPipeline], tmp_path: Path) -> None:
    """What rounding alone moved is no change; of two networks that did change neither is left out unsaid."""
    pipeline = make()
    save_merged(pipeline, tmp_path / "base")
    bundle = load_bundle(str(tmp_path / "base"), device="cpu")
    name = next(name for name, _ in pipeline.text_encoder.named_parameters() if "layers.1.self_attn.v_proj.w" in name)
    dict(pipeline.text_encoder.named_parameters())[name].data += 0.5
    tensors = {key: value.half() for key, value in original_tensors(pipeline).items()}
    delta = load_foreign(written(tensors, tmp_path / "half.safetensors"), bundle)
    assert (delta.part, list(delta.tensors)) == ("text_encoder", [name])
    assert torch.allclose(delta.tensors[name], torch.tensor(0.5), atol=1e-3)
    tensors["model.diffusion_model.input_blocks.0.0.bias"] += 1
    with pytest.raises(LoadError, match="changes the text_encoder and the unet"):
        load_foreign(written(tensors, tmp_path / "both.safetensors"), bundle)


def test_a_change_of_two_networks_is_refused(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    _, new = changed_text(tiny_bundle)
    both = {f"text_encoder.{key}": value for key, value in new.items()} | edited(tiny_bundle, "conv_in")
    with pytest.raises(LoadError, match="changes the text_encoder and the unet, and an adapter changes one network"):
        load_foreign(written(both, tmp_path / "both.safetensors"), tiny_bundle)


def test_a_unet_in_the_original_layout(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """A whole checkpoint's file, as ESD's first code saved it: its text encoder and decoder are left alone."""
    before = tiny_bundle.denoiser.conv_in.bias.data.clone()
    tiny_bundle.denoiser.conv_in.bias.data += 1
    save_original_layout(tiny_bundle, tmp_path / "esd.safetensors")
    tiny_bundle.denoiser.conv_in.bias.data = before
    delta = load_foreign(tmp_path / "esd.safetensors", tiny_bundle)
    assert list(delta.tensors) == ["conv_in.bias"]


def test_some_layers_in_the_original_layout(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    new = edited(tiny_bundle, ".attn2.to_k.")
    tensors = {f"model.diffusion_model.{unet_key(n, tiny_bundle.denoiser.config)}": v for n, v in new.items()}
    delta = load_foreign(written(tensors, tmp_path / "delta.safetensors"), tiny_bundle)
    with applied(tiny_bundle, delta):
        assert all(torch.allclose(weights(tiny_bundle)[name], value, atol=1e-6) for name, value in new.items())
    tensors["model.diffusion_model.input_blocks.77.1.norm.weight"] = torch.ones(2)
    with pytest.raises(LoadError, match=r"1 of the \d+ keys .* no place in Tiny: .*input_blocks\.77"):
        load_foreign(written(tensors, tmp_path / "strange.safetensors"), tiny_bundle)


@pytest.mark.slow
def test_a_pickled_state_dict_is_read_in_a_child_process(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    new = edited(tiny_bundle, ".attn2.")
    for name, saved in (("esd.pt", new), ("esd.bin", {"state_dict": new})):
        torch.save(saved, tmp_path / name)
        delta = load_foreign(tmp_path / name, tiny_bundle)
        assert delta.tensors.keys() == new.keys()


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('pathlib').Path('ran').touch()",)


@pytest.mark.slow
def test_a_pickle_that_would_run_something_is_refused(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv_in.bias": Harmful()}, tmp_path / "harmful.pt")
    why = r"cannot be read safely: it asks for \S*eval, which is no tensor and could run anything\. Get it as"
    with pytest.raises(LoadError, match=why):
        load_foreign(tmp_path / "harmful.pt", tiny_bundle)
    root = Path(__file__).resolve().parent.parent
    assert not (tmp_path / "ran").exists()
    assert not (root / "ran").exists()


def as_kohya(delta: WeightDelta, alpha: float | None) -> Tensors:
    tensors = {}
    for key, value in delta.tensors.items():
        layer, side, _ = key.rsplit(".", 2)
        name = "lora_unet_" + layer.replace(".", "_")
        tensors[f"{name}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = value
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return tensors


def as_old_diffusers(delta: WeightDelta) -> Tensors:
    tensors = {}
    for key, value in delta.tensors.items():
        layer, side, _ = key.rsplit(".", 2)
        attention, projection = layer.removesuffix(".0").rsplit(".", 1)
        tensors[f"{attention}.processor.{projection}_lora.{'down' if side == 'lora_A' else 'up'}.weight"] = value
    return tensors


def test_spm_in_its_own_layout(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Names as its training writes them, convolutions among them; the header names the concept."""
    delta = random_lora(tiny_bundle)
    header = {"prompts": "sword, blade", "rank": "1", "alpha": "1.0"}
    file = written(as_kohya(delta, 1.0), tmp_path / "spm.safetensors", header)
    plain, moving = load_foreign(file, tiny_bundle), load_foreign(file, tiny_bundle, transport=True)
    assert_equal_models(tiny_bundle, plain, delta)
    assert TRANSPORT not in plain.metadata
    assert json.loads(moving.metadata[TRANSPORT]) == {"concepts": ["sword", "blade"]}
    with applied(tiny_bundle, moving):
        assert tiny_bundle.on_sampling


@pytest.mark.parametrize("layout", ["kohya", "kohya without alpha", "old diffusers", "diffusers", "peft"])
def test_loras_of_every_layout(tiny_bundle: ModelBundle, tmp_path: Path, layout: str) -> None:
    targets = ["attn1.to_q", "attn1.to_out.0", "attn2.to_k"]
    alpha = 6.0 if layout in ("kohya", "diffusers") else 4.0
    delta = random_lora(tiny_bundle, 4, alpha, targets)
    path = tmp_path / "lora.safetensors"
    if layout.startswith("kohya"):
        written(as_kohya(delta, alpha if layout == "kohya" else None), path)
    elif layout == "old diffusers":
        written(as_old_diffusers(delta), path)
    elif layout == "diffusers":
        header = {"r": 4, "lora_alpha": alpha}
        StableDiffusionPipeline.save_lora_weights(
            tmp_path, delta.tensors, weight_name=path.name, unet_lora_adapter_metadata=header
        )
    else:
        renamed = {
            f"base_model.model.{key.replace('.weight', '.default.weight')}": v for key, v in delta.tensors.items()
        }
        written(renamed, path)
    found = load_foreign(path, tiny_bundle)
    assert found.kind == "lora"
    assert_equal_models(tiny_bundle, found, delta)


def test_a_lora_and_weights_of_a_transformer(tmp_path: Path) -> None:
    """As diffusers saves them for Stable Diffusion 3."""
    bundle = make_family_bundle("sd3")
    layer = "transformer_blocks.0.attn.add_k_proj"
    weight = weights(bundle)[f"{layer}.weight"]
    down, up = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    lora = {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}
    header = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 1.0, "transformer.r": 2})}
    save_file(lora, tmp_path / "lora.safetensors", header)
    (tmp_path / "released" / "transformer").mkdir(parents=True)
    save_file(
        {f"{layer}.weight": weight + 0.5 * up @ down}, tmp_path / "released" / "transformer" / "model.safetensors"
    )
    for path in (tmp_path / "lora.safetensors", tmp_path / "released"):
        delta = load_foreign(path, bundle)
        assert delta.part == "transformer"
        with applied(bundle, delta):
            assert torch.allclose(weights(bundle)[f"{layer}.weight"], weight + 0.5 * up @ down, atol=1e-5)


def test_alpha_0_is_the_rank_and_a_concept_without_a_name_is_none(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    lora = random_lora(tiny_bundle, 2, 2.0)
    file = written(as_kohya(lora, 0.0), tmp_path / "lora.safetensors", {"prompts": " , "})
    delta = load_foreign(file, tiny_bundle, transport=True)
    assert TRANSPORT not in delta.metadata
    assert_equal_models(tiny_bundle, lora, delta)


def test_layers_of_different_rank_and_alpha(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    one, other = random_lora(tiny_bundle, 2, 1.0, ["attn1.to_q"]), random_lora(tiny_bundle, 3, 6.0, ["attn2.to_k"])
    file = written(as_kohya(one, 1.0) | as_kohya(other, 6.0), tmp_path / "lora.safetensors")
    found = load_foreign(file, tiny_bundle)
    save_delta(found, tmp_path / "ours.safetensors")
    with applied(tiny_bundle, one), applied(tiny_bundle, other):
        expected = weights(tiny_bundle)
    with applied(tiny_bundle, load_foreign(tmp_path / "ours.safetensors", tiny_bundle)):
        assert all(torch.allclose(value, expected[name], atol=1e-6) for name, value in weights(tiny_bundle).items())


def test_keys_without_a_place_are_named(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    new = edited(tiny_bundle, "conv_in") | {f"down_blocks.9.attn{n}.weight": torch.ones(2) for n in range(7)}
    with pytest.raises(LoadError, match=r"7 of the 9 keys .* no place in Tiny: down_blocks\.9\.attn0.*and 2 more"):
        load_foreign(written(new, tmp_path / "other.safetensors"), tiny_bundle)
    lora = as_kohya(random_lora(tiny_bundle), 1.0) | {"lora_te_text_model_0.lora_down.weight": torch.ones(1, 2)}
    with pytest.raises(LoadError, match=r"1 of the .*lora_te_text_model_0.*Of a text encoder .* no LoRA"):
        load_foreign(written(lora, tmp_path / "te.safetensors"), tiny_bundle)


def test_two_keys_of_one_place_must_hold_the_same(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    new = tiny_bundle.denoiser.conv_in.bias.data + 1
    unet = {"conv_in.bias": new, "unet.conv_in.bias": new.clone()}
    text = next(name for name, _ in tiny_bundle.text_encoder.named_parameters())
    words = tiny_bundle.text_encoder.get_parameter(text).data + 1
    lora = as_kohya(random_lora(tiny_bundle), 1.0)
    up = next(key for key in lora if key.endswith("lora_up.weight"))
    for name, tensors, other in (
        ("unet", unet, "unet.conv_in.bias"),
        ("text", {text: words, f"text_encoder.{text}": words.clone()}, f"text_encoder.{text}"),
        ("lora", lora | {f"unet.{up}": lora[up].clone()}, f"unet.{up}"),
    ):
        load_foreign(written(tensors, tmp_path / f"{name}.safetensors"), tiny_bundle)
        file = written(tensors | {other: tensors[other] + 1}, tmp_path / f"{name}-two.safetensors")
        with pytest.raises(LoadError, match=f"twice, as .*{re.escape(other)}.* and they differ"):
            load_foreign(file, tiny_bundle)


def test_names_and_shapes_are_judged_before_anything_is_read(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Of files that hold nothing but broken values: the first that reads them says so."""
    lora = as_kohya(random_lora(tiny_bundle), 1.0)
    for name, tensors, message in (
        ("strange", {"somewhere.weight": torch.ones(2)}, "no place"),
        ("shape", {"conv_in.bias": torch.ones(3)}, "of shape"),
        ("factors", dict(list(lora.items())[:1]), "only one of the two"),
    ):
        broken = {key: value * torch.nan for key, value in tensors.items()}
        with pytest.raises(LoadError, match=message):
            load_foreign(written(broken, tmp_path / f"{name}.safetensors"), tiny_bundle)


def test_what_cannot_be_used_is_refused(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    same = {"conv_in.bias": tiny_bundle.denoiser.conv_in.bias.data}
    lora = as_kohya(random_lora(tiny_bundle), 1.0)
    half = {key: value for key, value in lora.items() if not key.endswith("attn1_to_q.lora_up.weight")}
    down = next(key for key in lora if key.endswith("lora_down.weight"))
    up, alpha = (down.replace("lora_down.weight", end) for end in ("lora_up.weight", "alpha"))
    none = {key: value * (not key.endswith("lora_up.weight")) for key, value in lora.items()}
    for name, tensors, message in (
        ("ranks", lora | {up: torch.ones(32, 3)}, r"factors of .* of shapes \(1, .*\) and \(32, 3\)"),
        ("rank-0", lora | {up: torch.ones(32, 0), down: torch.ones(0, 32)}, r"of shapes \(0, 32\) and \(32, 0\)"),
        ("flat", lora | {up: torch.ones(5), down: torch.ones(5)}, r"of shapes \(5,\) and \(5,\)"),
        ("alphas", lora | {alpha: torch.ones(2)}, r"1 of the .* no place"),
        ("none", none, "changes nothing: of each of its 48 layers"),
        ("nothing", {}, "holds 0 tensors"),
        ("same", same, "changes nothing: all 1 weights"),
        ("shape", {"conv_in.bias": torch.ones(3)}, r"conv_in\.bias of shape \(3,\), Tiny has \(32,\)"),
        ("nan", {"conv_in.bias": torch.full((32,), torch.nan)}, r"not finite, in conv_in\.bias"),
        ("half", half, "only one of the two factors of .*attn1.to_q"),
    ):
        with pytest.raises(LoadError, match=message):
            load_foreign(written(tensors, tmp_path / f"{name}.safetensors"), tiny_bundle)
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "text.safetensors", "not a whole safetensors file"),
        (tmp_path / "empty", "holds no .safetensors file of a UNet"),
        (tmp_path / "missing", "does not exist"),
    ):
        with pytest.raises(LoadError, match=message):
            load_foreign(path, tiny_bundle)


def test_the_process_that_unpickles_has_no_network_where_the_system_allows_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = (
            "import socket; from models.unpickle import leave_network; left = leave_network()\n"
            f"try: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5); print(left, 'reached')\n"
            "except OSError: print(left, 'cut off')"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() in ("True cut off", "False reached")
