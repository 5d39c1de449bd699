"""Encoding, decoding and the one generation path, on a random model and on the embedded checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from models.bundle import ModelBundle, SampleStep
from models.fingerprint import fingerprint_of
from studio.objectives.sdedit import start_index

PROMPTS = ["a knight", "a clown", "a knight", "a person"]
SEEDS = [3, 1, 4, 15]


def pipeline(bundle: ModelBundle) -> StableDiffusionPipeline:
    made = StableDiffusionPipeline(
        vae=bundle.vae,
        text_encoder=bundle.text_encoder,
        tokenizer=bundle.tokenizer,
        unet=bundle.denoiser,
        scheduler=DDIMScheduler.from_config(bundle.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def first_unet_input(bundle: ModelBundle, **options: object) -> torch.Tensor:
    """What the network sees first when one picture is generated: [1, C, h, w]."""
    seen: list[torch.Tensor] = []
    hook = bundle.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    bundle.generate(["a knight"], [7], guidance_scale=1.0, **options)  # type: ignore[arg-type]
    hook.remove()
    return seen[0]


def test_encode_prompt_gives_equal_prompts_equal_rows(tiny_bundle: ModelBundle) -> None:
    embeds = tiny_bundle.encode_prompt([*PROMPTS, ""])
    assert embeds.shape == (5, 16, 96)
    assert torch.equal(embeds[0], embeds[2])
    assert not torch.equal(embeds[0], embeds[1])
    assert torch.equal(embeds[4:], tiny_bundle.encode_prompt([""]))
    assert torch.equal(tiny_bundle.encode_prompt(["", ""]), embeds[[4, 4]])


def test_cut_off_is_what_the_text_encoder_does_not_see(tiny_bundle: ModelBundle) -> None:
    """The tiny tokenizer knows letters alone: 16 tokens less start and end are 14 letters."""
    fits, longer, broken = "abcdefg hijklmn", "abcdefg hijklmn op  qr", "abcdefg hijklmnop q"
    assert tiny_bundle.cut_off(["", fits, longer, broken, "É" + fits]) == [
        "",
        "",
        "op  qr",
        "hijklmnop q",  # the word that is seen in part, too
        "hijklmn",
    ]
    assert tiny_bundle.cut_off([]) == []
    seen = tiny_bundle.encode_prompt([fits, longer, fits + " z"])
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(tiny_bundle.encode_prompt(["abcdefg hijklm"])[0], seen[0])


def test_encode_image_and_decode_keep_shapes_and_scale(tiny_bundle: ModelBundle) -> None:
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    latents = tiny_bundle.encode_image(pictures)
    assert latents.shape == (3, *tiny_bundle.latent_shape)
    mean = tiny_bundle.vae.encode(pictures).latent_dist.mean
    assert torch.allclose(latents, mean * tiny_bundle.vae.config.scaling_factor, atol=1e-6)
    images = tiny_bundle.decode(latents)
    assert images.shape == (3, 64, 64, 3)
    assert images.dtype == np.uint8


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_generate_equals_diffusers_pipeline(make_bundle: Callable[..., ModelBundle], prediction_type: str) -> None:
    bundle = make_bundle(prediction_type)
    ours = bundle.generate(PROMPTS, SEEDS, steps=6, guidance_scale=4.0, negative_prompts=["rain"] * 4)
    theirs = pipeline(bundle)(
        PROMPTS,
        negative_prompt=["rain"] * 4,
        latents=bundle.noise(SEEDS),
        num_inference_steps=6,
        guidance_scale=4.0,
        output_type="np",
    ).images
    assert np.abs(ours.images.astype(int) - (theirs * 255).round().astype(int)).max() <= 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_generate_does_not_depend_on_batch_size(tiny_bundle: ModelBundle, batch_size: int) -> None:
    whole = tiny_bundle.generate(PROMPTS, SEEDS, steps=5)
    parts = tiny_bundle.generate(PROMPTS, SEEDS, steps=5, batch_size=batch_size)
    assert torch.allclose(whole.latents, parts.latents, rtol=1e-3, atol=1e-3)
    assert np.abs(whole.images.astype(int) - parts.images.astype(int)).max() <= 1


def test_generate_is_the_same_again_and_follows_the_seed(tiny_bundle: ModelBundle) -> None:
    torch.manual_seed(1)
    first = tiny_bundle.generate(["a knight"] * 2, [5, 6], steps=4)
    torch.manual_seed(2)
    second = tiny_bundle.generate(["a knight"] * 2, [6, 5], steps=4)
    assert torch.allclose(first.latents, second.latents.flip(0), atol=1e-4)
    assert not torch.allclose(first.latents[0], first.latents[1], atol=1e-2)


def test_noise_is_one_generator_a_seed(tiny_bundle: ModelBundle) -> None:
    noise = tiny_bundle.noise([11, 12])
    assert torch.equal(noise[1], torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(12)))


def test_guidance_1_is_the_prompt_alone(tiny_bundle: ModelBundle) -> None:
    options = {"steps": 4, "guidance_scale": 1.0}
    plain = tiny_bundle.generate(["a knight"], [1], **options)
    steered = tiny_bundle.generate(["a knight"], [1], negative_prompts=["a clown"], **options)
    assert torch.equal(plain.latents, steered.latents)


def test_negative_prompts_steer(tiny_bundle: ModelBundle) -> None:
    plain = tiny_bundle.generate(["a knight"], [1], steps=4)
    steered = tiny_bundle.generate(["a knight"], [1], steps=4, negative_prompts=["a clown"])
    assert not torch.allclose(plain.latents, steered.latents, atol=1e-3)


def test_prompt_embeds_replace_prompts(tiny_bundle: ModelBundle) -> None:
    by_words = tiny_bundle.generate(PROMPTS, SEEDS, steps=3)
    by_embeds = tiny_bundle.generate([], SEEDS, steps=3, prompt_embeds=tiny_bundle.encode_prompt(PROMPTS))
    assert torch.equal(by_words.latents, by_embeds.latents)


@pytest.mark.parametrize("strength", [0.0, 0.04])
def test_sdedit_at_strength_0_returns_its_input(tiny_bundle: ModelBundle, strength: float) -> None:
    latents = torch.randn(2, 8, 8, 8)
    edited = tiny_bundle.generate(["a", "b"], [1, 2], init_latents=latents, strength=strength, steps=20)
    assert torch.equal(edited.latents, latents)
    assert np.array_equal(edited.images, tiny_bundle.decode(latents))


def test_sdedit_at_strength_1_depends_on_its_input_by_the_schedules_leak(tiny_bundle: ModelBundle) -> None:
    one, two = torch.zeros(1, 8, 8, 8), torch.ones(1, 8, 8, 8)
    starts = [first_unet_input(tiny_bundle, init_latents=latents, strength=1.0) for latents in (one, two)]
    scheduler = DDIMScheduler.from_config(tiny_bundle.scheduler_config)
    scheduler.set_timesteps(20)
    leak = tiny_bundle.alphas_cumprod[scheduler.timesteps[0]].sqrt()
    assert leak < 0.1
    assert torch.allclose(starts[1] - starts[0], leak.expand_as(one), atol=1e-6)


@pytest.mark.parametrize("strength", [0.3, 0.75])
def test_sdedit_starts_where_the_objective_says(tiny_bundle: ModelBundle, strength: float) -> None:
    latents = torch.randn(1, 8, 8, 8)
    scheduler = DDIMScheduler.from_config(tiny_bundle.scheduler_config)
    scheduler.set_timesteps(20)
    start = start_index(20, strength)
    expected = tiny_bundle.forward.noised(latents, tiny_bundle.noise([7]), scheduler.timesteps[start : start + 1])
    assert torch.allclose(
        first_unet_input(tiny_bundle, init_latents=latents, strength=strength, steps=20), expected, atol=1e-6
    )


def test_sample_shows_every_step_before_it_is_taken(tiny_bundle: ModelBundle) -> None:
    steps: list[SampleStep] = []
    embeds = tiny_bundle.encode_prompt(["a knight"])
    noise = tiny_bundle.noise([1])
    empty = tiny_bundle.encode_prompt([""])
    tiny_bundle.sample(noise, embeds, empty, steps=4, guidance_scale=1.0, on_step=steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [step.timestep for step in steps] == sorted((step.timestep for step in steps), reverse=True)
    assert torch.equal(steps[0].latents, noise)
    with torch.no_grad():
        unconditional = tiny_bundle.predict(noise, torch.tensor(steps[0].timestep), empty)
    assert torch.allclose(steps[0].unconditional, unconditional, atol=1e-5)


def test_on_batch_tells_progress_and_may_stop(tiny_bundle: ModelBundle) -> None:
    told: list[tuple[int, int]] = []
    tiny_bundle.generate(PROMPTS, SEEDS, steps=2, batch_size=3, on_batch=lambda *done: told.append(done))
    assert told == [(3, 4), (4, 4)]

    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="3 of 4"):
        tiny_bundle.generate(PROMPTS, SEEDS, steps=2, batch_size=3, on_batch=stop)


def test_generated_latents_can_be_trained_on(tiny_bundle: ModelBundle) -> None:
    latents = tiny_bundle.generate(["a knight"], [1], steps=2).latents
    scale = torch.ones(1, requires_grad=True)
    (scale * latents).square().sum().backward()
    assert scale.grad is not None


def test_nothing_to_generate(tiny_bundle: ModelBundle) -> None:
    nothing = tiny_bundle.generate([], [])
    assert nothing.images.shape == (0, 64, 64, 3)
    assert nothing.latents.shape == (0, 8, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": ["a"]}, "1 prompts for 2 seeds"),
        ({"negative_prompts": ["a"]}, "1 negative_prompts for 2 seeds"),
        ({"init_latents": torch.zeros(3, 8, 8, 8)}, "3 init_latents for 2 seeds"),
        ({"init_latents": torch.zeros(2, 4, 8, 8)}, "encode the pictures with this checkpoint"),
        ({"init_latents": torch.zeros(2, 8, 8, 8), "strength": 1.5}, "strength is 1.5"),
    ],
)
def test_generate_refuses_what_does_not_fit(tiny_bundle: ModelBundle, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_bundle.generate(**{"prompts": ["a", "b"], "seeds": [1, 2], **options})


def test_half_precision_stays_near_full(make_bundle: Callable[..., ModelBundle]) -> None:
    full = make_bundle().generate(["a knight"], [1], steps=3, guidance_scale=1.0)
    half = make_bundle(dtype=torch.bfloat16).generate(["a knight"], [1], steps=3, guidance_scale=1.0)
    assert half.latents.dtype == torch.float32
    assert (full.latents - half.latents).abs().mean() < 0.1 * full.latents.abs().mean()


def test_an_unknown_prediction_type_is_refused(make_bundle: Callable[..., ModelBundle]) -> None:
    with pytest.raises(ValueError, match=r"'sample'.*epsilon or v_prediction"):
        make_bundle("sample")


def test_toybox_pictures_decode_to_what_was_encoded(toybox_bundle: ModelBundle) -> None:
    images = toybox_bundle.generate(["a cartoon of a person on the beach"] * 4, [1, 2, 3, 4]).images
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    again = toybox_bundle.decode(toybox_bundle.encode_image(pictures))
    assert np.abs(again.astype(float) - images).mean() < 16  # of 255
    assert images.std() > 20  # a picture, not a flat field


def test_a_picture_of_no_numbers_is_refused_and_not_black(tiny_bundle: ModelBundle) -> None:
    unet = tiny_bundle.denoiser.config
    with pytest.raises(ArithmeticError, match=r"no numbers: the network overflowed in torch.float32"):
        tiny_bundle.decode(torch.full((1, unet.in_channels, unet.sample_size, unet.sample_size), torch.nan))


def test_parked_networks_come_back_to_be_asked_and_are_the_same(tiny_bundle: ModelBundle) -> None:
    before = {name: value.clone() for name, value in tiny_bundle.vae.state_dict().items()}
    images = tiny_bundle.generate(["a knight"], [1], steps=2).images
    fingerprint = fingerprint_of(tiny_bundle)
    with tiny_bundle.parked(in_a_file=True):
        assert sum(parameter.numel() for parameter in tiny_bundle.vae.parameters()) == 0
        assert sum(parameter.numel() for parameter in tiny_bundle.text_encoder.parameters()) == 0
        assert np.array_equal(tiny_bundle.generate(["a knight"], [1], steps=2).images, images)
        assert sum(parameter.numel() for parameter in tiny_bundle.vae.parameters()) == 0
        tiny_bundle.fingerprint = ""
        assert fingerprint_of(tiny_bundle) == fingerprint
    assert all(torch.equal(value, before[name]) for name, value in tiny_bundle.vae.state_dict().items())
    with pytest.raises(RuntimeError, match="breaks"), tiny_bundle.parked(in_a_file=True):
        raise RuntimeError("breaks")
    assert np.array_equal(tiny_bundle.generate(["a knight"], [1], steps=2).images, images)
