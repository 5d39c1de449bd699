"""Every family: its pictures are diffusers' own pipeline's, and DUO trains it, saves it and reads it back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from models.adapters import applied, attach_lora, detach, load_delta, lora_delta, save_delta
from models.bundle import ModelBundle
from models.families import FAMILIES, get_family
from models.families.base import packed, pipeline_of, unpacked
from models.families.flux import Flux, patch_ids, patches, unpatched
from models.loading import load_bundle
from models.specs import FamilyName, LoadError
from studio.methods.base import TrainingPairs, silent
from studio.methods.duo import Duo, DuoStep
from studio.methods.training import TrainingError
from studio.training_configs import DuoConfig
from tests.tiny_families import look_alike, make_family_bundle
from tests.training_data import one_step

NAMES: list[FamilyName] = [family.name for family in FAMILIES]
every_family = pytest.mark.parametrize("name", NAMES)
PROMPTS = ["a knight with a sword", "a cook"]


def scheduler_of(bundle: ModelBundle) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    made = FlowMatchEulerDiscreteScheduler if bundle.family.denoiser == "transformer" else DDIMScheduler
    return made.from_config(bundle.scheduler_config)


def pairs_for(bundle: ModelBundle, count: int = 3) -> TrainingPairs:
    generator = torch.Generator().manual_seed(0)
    unsafe, safe = (torch.randn(count, *bundle.latent_shape, generator=generator) for _ in range(2))
    return TrainingPairs(unsafe, safe, ["a sword"] * count, ["a flower"] * count)


@pytest.mark.parametrize(
    ("name", "options", "sampling"),
    [
        ("sd1", {}, {"guidance_scale": 5.0}),
        ("sd2", {}, {"guidance_scale": 5.0}),
        ("sdxl", {}, {"guidance_scale": 5.0}),
        ("sdxl", {"zeros": False}, {"guidance_scale": 5.0}),
        ("sd3", {}, {"guidance_scale": 5.0}),
        ("sd3", {"t5": False}, {"guidance_scale": 5.0}),
        ("flux", {}, {"guidance_scale": 3.0}),
        ("flux", {"guidance": False}, {"guidance_scale": 3.0}),
    ],
)
def test_pictures_are_those_of_diffusers_own_pipeline(
    name: FamilyName, options: dict[str, Any], sampling: dict[str, Any]
) -> None:
    bundle = make_family_bundle(name, **options)
    pipeline = pipeline_of(bundle, scheduler_of(bundle))
    pipeline.set_progress_bar_config(disable=True)
    noise = bundle.noise([1, 2])
    start = patches(noise) if name == "flux" else noise
    extra = {} if name in ("sd1", "sd2") else {"height": 64, "width": 64}
    if bundle.family.denoiser == "transformer":
        extra["max_sequence_length"] = bundle.family.reader(bundle)[1] if bundle.tokenizers[-1] else 256
    theirs = pipeline(PROMPTS, latents=start, num_inference_steps=3, output_type="np", **sampling, **extra).images
    ours = bundle.generate(PROMPTS, [1, 2], steps=3, **sampling).images
    assert np.abs(ours / 255 - theirs).max() < 0.004  # half a step of 8 bits, and a little more
    assert theirs.std() > 0.01


@every_family
def test_the_loss_is_log_2_before_the_first_step_and_its_gradient_prefers_the_safe_twin(name: FamilyName) -> None:
    bundle = make_family_bundle(name)
    config = DuoConfig(batch_size=3, prior_weight=1000.0, beta=500.0, rank=4, alpha=4.0)
    parameters = attach_lora(bundle, rank=4, alpha=4.0, targets=bundle.family.lora_targets[config.layers], seed=0)
    step = DuoStep(bundle, pairs_for(bundle), config)
    loss, values = one_step(step, torch.Generator().manual_seed(0))
    assert values["dpo"] == pytest.approx(math.log(2), abs=1e-4)
    assert values["prior"] == pytest.approx(0, abs=1e-9)
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter -= 1e-3 * parameter.grad / max(float(parameter.grad.norm()), 1e-12)
    _, after = one_step(step, torch.Generator().manual_seed(0))
    assert after["d_safe"] < after["d_unsafe"]
    assert after["dpo"] < values["dpo"]
    detach(bundle)


@every_family
def test_the_prior_term_looks_at_pure_noise(name: FamilyName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stable Diffusion 3's descending schedule made the official code ask it at the cleanest step."""
    bundle = make_family_bundle(name)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    predict = ModelBundle.predict

    def watched(self: ModelBundle, latents: torch.Tensor, timesteps: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append((latents, timesteps))
        return predict(self, latents, timesteps, *rest)

    monkeypatch.setattr(ModelBundle, "predict", watched)
    attach_lora(bundle, rank=2, alpha=2.0, targets=bundle.family.lora_targets["self-attention"], seed=0)
    step = DuoStep(bundle, pairs_for(bundle), DuoConfig(batch_size=2, t_max=500))
    one_step(step, torch.Generator().manual_seed(0))
    latents, timesteps = seen[0]
    assert timesteps[:4].max() < 500
    assert timesteps[4:].tolist() == [1000 if bundle.family.denoiser == "transformer" else 999] * 2
    zero, last = torch.zeros(1, *bundle.latent_shape), torch.tensor([bundle.forward.last])
    leak = bundle.forward.noised(zero + 1, zero, last).abs().max()  # what is left of a picture there
    assert leak == (0 if bundle.family.denoiser == "transformer" else pytest.approx(0.0682, abs=1e-3))
    assert 0.5 < latents[4:].std() < 1.5


@every_family
def test_trained_saved_and_read_again_it_draws_the_same(name: FamilyName, tmp_path: Path) -> None:
    bundle = make_family_bundle(name)
    config = DuoConfig(steps=2, batch_size=2, rank=4, alpha=8.0, learning_rate=0.05, beta=1.0, prior_weight=1.0)
    delta = Duo().fit(bundle, pairs_for(bundle), config, silent)
    assert delta.part == bundle.family.denoiser
    plain = bundle.generate(PROMPTS, [1, 2], steps=2).images
    with applied(bundle, delta):
        tuned = bundle.generate(PROMPTS, [1, 2], steps=2).images
    assert np.abs(plain.astype(int) - tuned).max() > 0
    save_delta(delta, tmp_path / "adapter.safetensors")
    with applied(bundle, load_delta(tmp_path / "adapter.safetensors")):
        assert np.array_equal(bundle.generate(PROMPTS, [1, 2], steps=2).images, tuned)
    assert np.array_equal(bundle.generate(PROMPTS, [1, 2], steps=2).images, plain)


@every_family
def test_a_saved_lora_is_one_of_diffusers(name: FamilyName, tmp_path: Path) -> None:
    """`load_lora_weights` puts it on the plain pipeline, with its alpha."""
    bundle = make_family_bundle(name)
    targets = bundle.family.lora_targets["attention"]
    generator = torch.Generator().manual_seed(1)
    for parameter in attach_lora(bundle, rank=4, alpha=12.0, targets=targets, seed=0):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    delta = lora_delta(bundle)
    detach(bundle)
    save_delta(delta, tmp_path / "pytorch_lora_weights.safetensors")
    with applied(bundle, delta):
        ours = bundle.generate(PROMPTS, [1, 2], steps=2, guidance_scale=3.0).latents
    plain = bundle.generate(PROMPTS, [1, 2], steps=2, guidance_scale=3.0).latents
    pipeline = pipeline_of(bundle, scheduler_of(bundle))
    pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    theirs = bundle.generate(PROMPTS, [1, 2], steps=2, guidance_scale=3.0).latents
    assert (ours - plain).abs().max() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-4)


@every_family
def test_sdedit_repaints_from_where_it_should(name: FamilyName) -> None:
    bundle = make_family_bundle(name)
    first = bundle.generate(PROMPTS, [1, 2], steps=6)
    edit = {"negative_prompts": PROMPTS, "init_latents": first.latents, "steps": 6}
    untouched = bundle.generate(["a cook", "a king"], [3, 4], strength=0.0, **edit)
    assert torch.equal(untouched.latents, first.latents)
    changes = [
        (bundle.generate(["a cook", "a king"], [3, 4], strength=strength, **edit).latents - first.latents).abs().mean()
        for strength in (0.2, 0.5, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]


def test_an_sdedit_of_a_flow_starts_at_its_sigma() -> None:
    bundle = make_family_bundle("sd3")
    latents = torch.randn(1, *bundle.latent_shape, generator=torch.Generator().manual_seed(0))
    sigmas = bundle.family.schedule(bundle, 4).sigmas
    noised = bundle._noised(latents, bundle.noise([1]), 4, 2)
    assert torch.allclose(noised, (1 - sigmas[2]) * latents + sigmas[2] * bundle.noise([1]), atol=1e-6)


@every_family
def test_pictures_come_back_from_their_latents(name: FamilyName) -> None:
    """Encoding and decoding agree on scale and shift: encode(decode(z)) as the VAE alone does it."""
    bundle = make_family_bundle(name)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = bundle.encode_image(pictures)
    config = bundle.vae.config
    raw = bundle.vae.encode(pictures).latent_dist.mean
    assert torch.allclose(latents, (raw - (config.shift_factor or 0)) * config.scaling_factor, atol=1e-5)
    decoded = bundle.vae.decode(raw).sample.detach()
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(bundle.decode(latents).astype(float) - expected).max() <= 1


@every_family
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_loads_from_a_folder(name: FamilyName, variant: str | None, tmp_path: Path) -> None:
    bundle = make_family_bundle(name)
    pipeline_of(bundle, scheduler_of(bundle)).save_pretrained(tmp_path / "mine", variant=variant)
    loaded = load_bundle(str(tmp_path / "mine"), device="cpu", resolution=64)
    assert (loaded.family.name, loaded.latent_shape) == (bundle.family.name, bundle.latent_shape)
    ours, theirs = (one.generate(PROMPTS, [1, 2], steps=2).images for one in (bundle, loaded))
    weights = bundle.denoiser.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in loaded.denoiser.state_dict().items())
    assert look_alike(ours, theirs)


def test_a_checkpoint_without_t5_loads_without_it(tmp_path: Path) -> None:
    bundle = make_family_bundle("sd3", t5=False)
    pipeline_of(bundle, scheduler_of(bundle)).save_pretrained(tmp_path / "mine")
    loaded = load_bundle(str(tmp_path / "mine"), device="cpu")
    assert loaded.text_encoders[2] is None
    assert look_alike(*(one.generate(PROMPTS, [1, 2], steps=2).images for one in (bundle, loaded)))


def test_a_resolution_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    bundle = make_family_bundle("sd3", t5=False)
    pipeline_of(bundle, scheduler_of(bundle)).save_pretrained(tmp_path / "mine")
    with pytest.raises(LoadError, match="100 pixels cannot be drawn by Stable Diffusion 3; use a multiple of 16"):
        load_bundle(str(tmp_path / "mine"), device="cpu", resolution=100)


@every_family
def test_cut_off_prompts_are_told(name: FamilyName) -> None:
    bundle = make_family_bundle(name)
    reads = {"sd3": 256, "flux": 512}.get(name, 16)
    short, long = "a " * 5, "abc " * 300
    ends = bundle.cut_off([short, long])
    assert ends[0] == ""
    assert long.endswith(ends[1])
    assert len(long) - len(ends[1]) >= (reads - 8)


@every_family
def test_half_precision_draws_nearly_the_same(name: FamilyName) -> None:
    full = make_family_bundle(name).generate(PROMPTS, [1, 2], steps=2, guidance_scale=2.0).latents
    half = make_family_bundle(name, dtype=torch.bfloat16).generate(PROMPTS, [1, 2], steps=2, guidance_scale=2.0).latents
    assert (full - half).abs().mean() < 0.1 * full.abs().mean()


def test_a_network_that_is_told_its_guidance_is_asked_once() -> None:
    bundle = make_family_bundle("flux")
    calls: list[int] = []
    handle = bundle.denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    bundle.generate(["a"], [0], steps=2, guidance_scale=4.0)
    assert calls == [1, 1]
    bundle.generate(["a"], [0], steps=2, guidance_scale=4.0, negative_prompts=["b"])
    assert calls == [1, 1, 2, 2]
    handle.remove()


def test_flux_packs_as_diffusers_does() -> None:
    latents = torch.randn(2, 3, 4, 6)
    assert torch.equal(patches(latents), Flux.pipeline._pack_latents(latents, 2, 3, 4, 6))
    assert torch.equal(unpatched(patches(latents), 4, 6), latents)
    assert torch.equal(patch_ids(latents), Flux.pipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32))


def test_pooled_vectors_travel_as_the_last_row() -> None:
    tokens, pooled = torch.randn(2, 5, 8), torch.randn(2, 6)
    both = packed(tokens, pooled)
    assert both.shape == (2, 6, 8)
    back = unpacked(both, 6)
    assert torch.equal(back[0], tokens)
    assert torch.equal(back[1], pooled)
    with pytest.raises(ValueError, match="A pooled vector of 9 does not fit beside tokens of width 8"):
        packed(tokens, torch.randn(2, 9))


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="no family 'sd9'; use sd1, sd2, sdxl, sd3, flux"):
        get_family("sd9")


def test_timesteps_beyond_pure_noise_are_refused() -> None:
    bundle = make_family_bundle("sd3")
    with pytest.raises(TrainingError, match="0 <= t_min < t_max <= 1000"):
        Duo().fit(bundle, pairs_for(bundle), DuoConfig().model_copy(update={"t_max": 1001}), silent)
