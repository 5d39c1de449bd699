"""LoRAs and edited weights: put on, taken off exactly, saved, checked and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from models.adapters import (
    LoadError,
    WeightDelta,
    adapter_disabled,
    applied,
    apply,
    attach_lora,
    detach,
    file_sha256,
    load_delta,
    lora_delta,
    merge,
    remove,
    save_delta,
    tuned_weights,
)
from models.bundle import ModelBundle
from models.families.unets import UNetFamily
from models.fingerprint import FINGERPRINT, fingerprint_of


def latents(bundle: ModelBundle) -> torch.Tensor:
    return bundle.generate(["a knight", "a clown"], [1, 2], steps=3).latents


def weights(bundle: ModelBundle) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in bundle.denoiser.state_dict().items()}


def assert_same_weights(bundle: ModelBundle, before: dict[str, torch.Tensor]) -> None:
    after = bundle.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in bundle.denoiser.parameters())


def trained_lora(bundle: ModelBundle, layers: str = "all", seed: int = 0) -> WeightDelta:
    """A LoRA with every value set at random, as if trained, with alpha unlike its rank."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in attach_lora(bundle, rank=4, alpha=6.0, targets=UNetFamily.lora_targets[layers], seed=seed):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    delta = lora_delta(bundle, {"method": "test"})
    detach(bundle)
    return delta


def edited_weights(bundle: ModelBundle) -> WeightDelta:
    names = [name for name, _ in bundle.denoiser.named_parameters() if "attn2" in name]
    with tuned_weights(bundle, names) as tuned:
        for index, parameter in enumerate(tuned.parameters.values()):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        return tuned.delta({"method": "test"})


@pytest.fixture(params=["lora", "weights"])
def delta(request: pytest.FixtureRequest, tiny_bundle: ModelBundle) -> WeightDelta:
    return trained_lora(tiny_bundle) if request.param == "lora" else edited_weights(tiny_bundle)


@pytest.mark.parametrize("layers", UNetFamily.lora_targets)
def test_attach_lora_starts_as_the_unchanged_network(tiny_bundle: ModelBundle, layers: str) -> None:
    before, picture = weights(tiny_bundle), latents(tiny_bundle)
    parameters = attach_lora(tiny_bundle, rank=4, alpha=4, targets=UNetFamily.lora_targets[layers], seed=0)
    trainable = [parameter for parameter in tiny_bundle.denoiser.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in trainable}
    assert torch.equal(latents(tiny_bundle), picture)
    detach(tiny_bundle)
    assert_same_weights(tiny_bundle, before)


def test_lora_targets_name_layers_that_exist(tiny_bundle: ModelBundle) -> None:
    modules = [name for name, _ in tiny_bundle.denoiser.named_modules()]
    for target in UNetFamily.lora_targets["all"]:
        assert any(name.endswith(f".{target}") for name in modules), target
    assert all("attn1" in target for target in UNetFamily.lora_targets["self-attention"])


def test_attach_lora_follows_its_seed_alone(tiny_bundle: ModelBundle) -> None:
    def start(seed: int) -> dict[str, torch.Tensor]:
        attach_lora(tiny_bundle, rank=4, alpha=4, targets=UNetFamily.lora_targets["attention"], seed=seed)
        made = lora_delta(tiny_bundle).tensors
        detach(tiny_bundle)
        return made

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = start(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = start(5), start(6)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_attach_lora_to_layers_that_are_not_there(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(ValueError, match="no_such_layer"):
        attach_lora(tiny_bundle, rank=4, alpha=4, targets=["no_such_layer"], seed=0)


def test_adapter_disabled_is_the_original(tiny_bundle: ModelBundle) -> None:
    picture = latents(tiny_bundle)
    for parameter in attach_lora(tiny_bundle, rank=4, alpha=4, targets=UNetFamily.lora_targets["attention"], seed=0):
        parameter.data += 0.1
    tuned = latents(tiny_bundle)
    with adapter_disabled(tiny_bundle):
        assert torch.equal(latents(tiny_bundle), picture)
    assert torch.equal(latents(tiny_bundle), tuned)
    assert not torch.allclose(tuned, picture, atol=1e-3)


def test_applied_lora_is_the_attached_lora(tiny_bundle: ModelBundle) -> None:
    attach_lora(tiny_bundle, rank=4, alpha=6, targets=UNetFamily.lora_targets["all"], seed=0)
    for name, parameter in tiny_bundle.denoiser.named_parameters():
        if ".lora_B." in name:
            parameter.data += 0.02
    attached, delta = latents(tiny_bundle), lora_delta(tiny_bundle)
    detach(tiny_bundle)
    with applied(tiny_bundle, delta):
        assert torch.allclose(latents(tiny_bundle), attached, atol=1e-3)


def test_applied_restores_every_bit(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    before, picture = weights(tiny_bundle), latents(tiny_bundle)
    with applied(tiny_bundle, delta, scale=0.7):
        assert not torch.allclose(latents(tiny_bundle), picture, atol=1e-3)
    assert_same_weights(tiny_bundle, before)
    with pytest.raises(KeyboardInterrupt), applied(tiny_bundle, delta):
        raise KeyboardInterrupt
    assert_same_weights(tiny_bundle, before)


def test_applied_restores_every_bit_in_half_precision(make_bundle: Callable[..., ModelBundle]) -> None:
    bundle = make_bundle(dtype=torch.bfloat16)
    for delta in (trained_lora(bundle), edited_weights(bundle)):
        before = weights(bundle)
        with applied(bundle, delta):
            assert torch.isfinite(latents(bundle)).all()
        assert_same_weights(bundle, before)


def test_no_delta_is_the_original(tiny_bundle: ModelBundle) -> None:
    picture = latents(tiny_bundle)
    with applied(tiny_bundle, None):
        assert torch.equal(latents(tiny_bundle), picture)


def test_scale_is_linear_and_zero_is_nothing(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    before = weights(tiny_bundle)
    with applied(tiny_bundle, delta, scale=0.0):
        assert_same_weights(tiny_bundle, before)
    with applied(tiny_bundle, delta, scale=1.0):
        whole = weights(tiny_bundle)
    with applied(tiny_bundle, delta, scale=-0.5):
        for name, value in weights(tiny_bundle).items():
            assert torch.allclose(value - before[name], -0.5 * (whole[name] - before[name]), atol=1e-6)


def test_deltas_stack_and_come_off_in_turn(tiny_bundle: ModelBundle) -> None:
    first, second = trained_lora(tiny_bundle, seed=1), edited_weights(tiny_bundle)
    before = weights(tiny_bundle)
    apply(tiny_bundle, first)
    between = weights(tiny_bundle)
    apply(tiny_bundle, second, scale=0.3)
    remove(tiny_bundle)
    assert_same_weights(tiny_bundle, between)
    remove(tiny_bundle)
    assert_same_weights(tiny_bundle, before)


def test_merge_is_apply_for_good(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    with applied(tiny_bundle, delta, scale=0.5):
        expected = weights(tiny_bundle)
    merge(tiny_bundle, delta, scale=0.5)
    assert_same_weights(tiny_bundle, expected)
    assert tiny_bundle.originals == []


def test_a_delta_of_another_checkpoint_is_refused(tiny_bundle: ModelBundle) -> None:
    before = weights(tiny_bundle)
    for name in ("no.such.weight", "conv_in.weight"):
        strange = WeightDelta("weights", {"conv_in.bias": torch.ones(32), name: torch.zeros(3)})
        with pytest.raises(LoadError, match=rf"does not fit Tiny: it changes {name}.*trained on"):
            apply(tiny_bundle, strange)
        assert_same_weights(tiny_bundle, before)
    assert tiny_bundle.originals == []


def test_a_delta_of_other_weights_in_the_same_shape_is_refused(
    tiny_bundle: ModelBundle, make_bundle: Callable[..., ModelBundle], delta: WeightDelta, tmp_path: Path
) -> None:
    own = fingerprint_of(tiny_bundle)
    save_delta(replace(delta, metadata={**delta.metadata, FINGERPRINT: own, "checkpoint": "mine"}), tmp_path / "own")
    saved, other = load_delta(tmp_path / "own"), make_bundle(seed=1)
    before = weights(other)
    words = rf"trained on a checkpoint \(mine\) with the SHA-256 {own[:12]}, but .* have {fingerprint_of(other)[:12]}"
    for use in (apply, merge):
        with pytest.raises(LoadError, match=words):
            use(other, saved)
    assert_same_weights(other, before)
    with applied(tiny_bundle, saved), applied(tiny_bundle, saved):
        pass
    with applied(other, delta):  # from elsewhere: it says nothing of its base
        pass
    merge(tiny_bundle, saved)
    with pytest.raises(LoadError, match="it means nothing"):
        merge(tiny_bundle, saved)


def test_the_fingerprint_is_the_checkpoints_whatever_is_on_it(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    own = fingerprint_of(tiny_bundle)

    def anew() -> str:
        tiny_bundle.fingerprint = ""
        return fingerprint_of(tiny_bundle)

    with applied(tiny_bundle, delta), applied(tiny_bundle, delta):
        assert anew() == own
    attach_lora(tiny_bundle, rank=2, alpha=2.0, targets=UNetFamily.lora_targets["all"], seed=0)
    assert anew() == own
    detach(tiny_bundle)
    assert anew() == own
    tiny_bundle.vae.decoder.conv_out.bias.data += 1
    assert anew() != own


def text_delta(bundle: ModelBundle) -> WeightDelta:
    """A change of the text encoder's last norm, which all embeddings go through."""
    (name,) = (name for name, _ in bundle.text_encoder.named_parameters() if name.endswith("final_layer_norm.bias"))
    return WeightDelta("weights", {name: torch.full((96,), 0.5)}, {"part": "text_encoder"})


def test_a_change_of_the_text_encoder_goes_on_and_off(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Scaled, stacked with a network's, saved and loaded; the empty prompt's embedding is never an old one."""
    delta, prompts = text_delta(tiny_bundle), ["", "a sword"]
    own, plain, before = fingerprint_of(tiny_bundle), tiny_bundle.encode_prompt(prompts), latents(tiny_bundle)
    save_delta(delta, tmp_path / "text.safetensors")
    with applied(tiny_bundle, load_delta(tmp_path / "text.safetensors"), 0.5):
        for prompt, row in zip(prompts, plain, strict=True):
            assert torch.allclose(tiny_bundle.encode_prompt([prompt])[0], row + 0.25, atol=1e-5)
        with applied(tiny_bundle, trained_lora(tiny_bundle)):
            tiny_bundle.fingerprint = ""
            assert fingerprint_of(tiny_bundle) == own
        assert not torch.allclose(latents(tiny_bundle), before, atol=1e-3)
    assert torch.equal(tiny_bundle.encode_prompt([""])[0], plain[0])
    assert torch.equal(latents(tiny_bundle), before)
    merge(tiny_bundle, delta)
    assert fingerprint_of(tiny_bundle) != own
    assert torch.allclose(tiny_bundle.encode_prompt([""])[0], plain[0] + 0.5, atol=1e-5)


def test_a_text_encoder_in_training_is_asked_anew(tiny_bundle: ModelBundle) -> None:
    (name,) = text_delta(tiny_bundle).tensors
    plain = tiny_bundle.encode_prompt([""])
    with tuned_weights(tiny_bundle, [name], "text_encoder") as tuned:
        for step in (1, 2):
            tuned.parameters[name].data += 1
            assert torch.allclose(tiny_bundle.encode_prompt([""]), plain + step, atol=1e-5)
        assert tuned.delta().part == "text_encoder"
    assert torch.equal(tiny_bundle.encode_prompt([""]), plain)


def test_a_network_that_is_not_there_is_named(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(LoadError, match="Tiny has no transformer to change"):
        apply(tiny_bundle, WeightDelta("weights", {"a": torch.ones(1)}, {"part": "transformer"}))


def test_tuned_weights_come_back_after_an_error(tiny_bundle: ModelBundle) -> None:
    before = weights(tiny_bundle)

    def breaks() -> None:
        with tuned_weights(tiny_bundle, ["conv_in.weight"]) as tuned:
            tuned.parameters["conv_in.weight"].data += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaks()
    assert_same_weights(tiny_bundle, before)


def test_save_and_load(tiny_bundle: ModelBundle, delta: WeightDelta, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "adapter.safetensors"
    sha256 = save_delta(delta, path)
    assert sha256 == file_sha256(path)
    loaded = load_delta(path)
    assert (loaded.kind, loaded.metadata) == (delta.kind, delta.metadata)
    assert loaded.tensors.keys() == delta.tensors.keys()
    assert all(torch.equal(loaded.tensors[key], value) for key, value in delta.tensors.items())
    assert [file.name for file in path.parent.iterdir()] == ["adapter.safetensors"]


def test_equal_deltas_have_equal_hashes_and_others_not(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    one, other = trained_lora(tiny_bundle, seed=0), trained_lora(tiny_bundle, seed=1)
    path = tmp_path / "adapter.safetensors"
    assert len({save_delta(one, path) for _ in range(5)}) == 1
    assert save_delta(one, path) != save_delta(other, path)
    renamed = WeightDelta(one.kind, one.tensors, {**one.metadata, "method": "another"})
    assert save_delta(one, path) != save_delta(renamed, path)


@pytest.mark.parametrize("layers", UNetFamily.lora_targets)
def test_diffusers_reads_our_lora_with_equal_outputs(tiny_bundle: ModelBundle, layers: str, tmp_path: Path) -> None:
    delta = trained_lora(tiny_bundle, layers)
    save_delta(delta, tmp_path / "pytorch_lora_weights.safetensors")
    with applied(tiny_bundle, delta):
        ours = latents(tiny_bundle)
    pipeline = StableDiffusionPipeline(
        vae=tiny_bundle.vae,
        text_encoder=tiny_bundle.text_encoder,
        tokenizer=tiny_bundle.tokenizer,
        unet=tiny_bundle.denoiser,
        scheduler=DDIMScheduler.from_config(tiny_bundle.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.load_lora_weights(tmp_path)
    assert torch.allclose(latents(tiny_bundle), ours, atol=1e-3)


def test_loras_from_elsewhere_are_read(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Without a header of ours alpha equals rank, as diffusers takes it; with diffusers' header, its values count."""
    delta = trained_lora(tiny_bundle)
    save_delta(delta, tmp_path / "ours.safetensors")
    tensors = load_file(tmp_path / "ours.safetensors")
    save_file(tensors, tmp_path / "bare.safetensors")
    save_file(
        tensors,
        tmp_path / "diffusers.safetensors",
        {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 12, "unet.target_modules": ["attn1.to_q"]}'},
    )
    bare, diffusers = load_delta(tmp_path / "bare.safetensors"), load_delta(tmp_path / "diffusers.safetensors")
    assert (bare.kind, bare.metadata["rank"], bare.metadata["alpha"]) == ("lora", "4", "4.0")
    assert (diffusers.metadata["rank"], diffusers.metadata["alpha"]) == ("4", "12.0")


def test_load_refuses_pickles(tmp_path: Path) -> None:
    for name, legacy in (("zip", False), ("legacy", True)):
        path = tmp_path / f"{name}.safetensors"
        torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(LoadError, match=r"pickled file, which can run code .* never read.*\.safetensors"):
            load_delta(path)


def test_load_refuses_what_is_missing_or_damaged(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(LoadError, match="does not exist"):
        load_delta(path)
    save_delta(trained_lora(tiny_bundle), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LoadError, match=r"not a whole safetensors file.*Copy it again"):
        load_delta(path)
    path.write_bytes(b"hello")
    with pytest.raises(LoadError, match="damaged"):
        load_delta(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"vae.conv.weight": torch.ones(1)}, r"no change of one network alone: it holds vae\.conv\.weight"),
        ({}, "no change of one network"),
        ({"unet.conv.weight": torch.ones(1)}, "neither a LoRA"),
        ({"unet.conv.lora_A.weight": torch.ones(2, 3)}, "neither a LoRA with A and B"),
        ({"unet.conv.lora_A.weight": torch.tensor([[torch.nan]])}, r"not finite in conv\.lora_A"),
    ],
)
def test_load_refuses_other_files(tensors: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(LoadError, match=message):
        load_delta(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"lora_adapter_metadata": "not JSON"}, r"no rank and alpha .*Expecting value.* Use a LoRA of one rank"),
        ({"lora_adapter_metadata": "[]"}, "no rank and alpha"),
        ({"rank": "0"}, r"rank 0 and alpha 0\.0 with layers of rank 2, 3"),
        ({"rank": "2", "alpha": "inf"}, "alpha inf"),
        ({"rank": "2"}, "with layers of rank 2, 3"),
    ],
)
def test_load_refuses_loras_of_unknown_strength(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    tensors = {
        f"unet.{layer}.lora_{side}.weight": torch.ones(rank, rank)
        for layer, rank in (("conv1", 2), ("conv2", 3))
        for side in "AB"
    }
    save_file(tensors, tmp_path / "other.safetensors", metadata)
    with pytest.raises(LoadError, match=message):
        load_delta(tmp_path / "other.safetensors")
