"""DUO's and ESD's numbers, and the loop they are trained by."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from models.adapters import adapter_disabled, applied, attach_lora, detach
from models.bundle import ModelBundle
from studio.method_configs import EsdConfig
from studio.methods import METHODS, get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.duo import DuoStep
from studio.methods.esd import esd_target
from studio.methods.training import TrainingError, draw_rows
from studio.methods.trajectories import Trajectories, sample_trajectories
from studio.training_configs import DuoConfig
from tests.training_data import make_pairs, one_step


def attached(bundle: ModelBundle, config: DuoConfig, *, moved: float = 0.0) -> list[torch.nn.Parameter]:
    parameters = attach_lora(
        bundle,
        rank=config.rank,
        alpha=config.alpha,
        targets=bundle.family.lora_targets[config.layers],
        seed=config.seed,
    )
    for index, parameter in enumerate(parameters):
        parameter.data += moved * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return parameters


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# DUO


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("prompt", ["empty", "pair"])
def test_zero_adapter_has_dpo_log_2_and_prior_0(
    make_bundle: Callable[..., ModelBundle], prediction_type: str, prompt: Any
) -> None:
    bundle, config = make_bundle(prediction_type), DuoConfig(prompt=prompt)
    attached(bundle, config)
    loss, values = one_step(DuoStep(bundle, make_pairs(), config), seeded())
    assert values["dpo"] == pytest.approx(math.log(2))
    assert values["prior"] == values["d_safe"] == values["d_unsafe"] == values["implicit_accuracy"] == 0
    assert float(loss.detach()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_duo_loss_equals_the_formulas_written_out(
    make_bundle: Callable[..., ModelBundle], prediction_type: str
) -> None:
    """Each term from separate passes of the tuned and of a second, untouched model; noise and t drawn alike."""
    bundle, original = make_bundle(prediction_type), make_bundle(prediction_type)
    config, pairs = DuoConfig(batch_size=3, beta=50, prior_weight=7, rank=4), make_pairs()
    attached(bundle, config, moved=0.1)
    loss, values = one_step(DuoStep(bundle, pairs, config), seeded())

    generator = seeded()
    rows = draw_rows(6, 3, generator)
    noise = torch.randn(3, 8, 8, 8, generator=generator)
    at = torch.randint(0, 750, (3,), generator=generator)
    pure = torch.randn(3, 8, 8, 8, generator=generator)
    empty = bundle.encode_prompt([""] * 3)
    signal, sigma = (a.sqrt().view(3, 1, 1, 1) for a in (bundle.alphas_cumprod[at], 1 - bundle.alphas_cumprod[at]))

    def d(latents: torch.Tensor) -> torch.Tensor:
        noisy = signal * latents + sigma * noise
        wanted = noise if prediction_type == "epsilon" else signal * noise - sigma * latents
        errors = [(model.predict(noisy, at, empty) - wanted).pow(2).mean((1, 2, 3)) for model in (bundle, original)]
        return errors[0] - errors[1]

    with torch.no_grad():
        d_safe, d_unsafe = d(pairs.safe_latents[rows]), d(pairs.unsafe_latents[rows])
        last = torch.full((3,), 999)
        prior = (bundle.predict(pure, last, empty) - original.predict(pure, last, empty)).pow(2).mean()
    dpo = torch.log1p(torch.exp(50 * (d_safe - d_unsafe))).mean()
    expected = {"dpo": dpo, "prior": prior, "d_safe": d_safe.mean(), "d_unsafe": d_unsafe.mean()}
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), rel=1e-3, abs=1e-6), name
    assert float(loss.detach()) == pytest.approx(float(dpo + 7 * prior), rel=1e-3)


def test_a_gradient_step_lowers_safe_minus_unsafe(tiny_bundle: ModelBundle) -> None:
    config = DuoConfig(prior_weight=0)
    parameters = attached(tiny_bundle, config)
    step = DuoStep(tiny_bundle, make_pairs(), config)
    loss, before = one_step(step, seeded())
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            assert parameter.grad is not None
            parameter -= 1e-3 * parameter.grad
    _, after = one_step(step, seeded())
    assert after["d_safe"] - after["d_unsafe"] < before["d_safe"] - before["d_unsafe"]
    assert after["dpo"] < before["dpo"]


def test_the_reference_has_no_gradient_and_the_adapter_has(tiny_bundle: ModelBundle) -> None:
    parameters = attached(tiny_bundle, DuoConfig())
    with adapter_disabled(tiny_bundle):
        pass
    loss, _ = one_step(DuoStep(tiny_bundle, make_pairs(), DuoConfig()), seeded())
    loss.backward()
    assert all(parameter.dtype == torch.float32 and parameter.grad is not None for parameter in parameters)
    ours = {id(parameter) for parameter in parameters}
    assert all(p.grad is None for p in tiny_bundle.denoiser.parameters() if id(p) not in ours)


def test_both_pictures_of_a_pair_share_noise_and_timestep(tiny_bundle: ModelBundle) -> None:
    """With one picture as both, d(x+) equals d(x-) only if noise and t are shared."""
    latents = make_pairs().unsafe_latents
    pairs = TrainingPairs(latents, latents)
    shared, independent = DuoConfig(), DuoConfig(shared_timestep=False)
    attached(tiny_bundle, shared, moved=0.1)
    _, values = one_step(DuoStep(tiny_bundle, pairs, shared), seeded())
    assert values["d_safe"] == pytest.approx(values["d_unsafe"], abs=1e-6)
    _, values = one_step(DuoStep(tiny_bundle, pairs, independent), seeded())
    assert values["d_safe"] != pytest.approx(values["d_unsafe"], abs=1e-6)


def test_timesteps_lie_from_t_min_to_below_t_max(tiny_bundle: ModelBundle) -> None:
    step = DuoStep(tiny_bundle, make_pairs(), DuoConfig(t_min=5, t_max=8))
    drawn = torch.cat([step.draw(generator)[2] for generator in [seeded()] * 40])
    assert drawn.shape == (320, 2)
    assert set(drawn.flatten().tolist()) == {5, 6, 7}


@pytest.mark.slow
def test_duo_moves_the_model_from_unsafe_to_safe(tiny_bundle: ModelBundle) -> None:
    """On pictures that differ plainly: all safe latents are bright, all unsafe ones dark."""
    noise = 0.3 * torch.randn(6, 8, 8, 8, generator=seeded())
    config = DuoConfig(steps=12, batch_size=6, layers="all", prior_weight=1)
    steps: list[dict[str, float]] = []
    get_method("duo").fit(
        tiny_bundle, TrainingPairs(noise - 1, noise + 1), config, lambda *_, **values: steps.append(values)
    )
    last = {name: sum(step[name] for step in steps[-3:]) / 3 for name in steps[0]}
    assert last["implicit_accuracy"] > 0.9
    assert last["d_safe"] < last["d_unsafe"]
    assert last["dpo"] < 0.5 * steps[0]["dpo"]


def test_duo_trains_in_half_precision_with_a_full_precision_adapter(make_bundle: Callable[..., ModelBundle]) -> None:
    config = DuoConfig(steps=2, batch_size=2, rank=2)
    delta = get_method("duo").fit(make_bundle(dtype=torch.bfloat16), make_pairs(), config, silent)
    assert {tensor.dtype for tensor in delta.tensors.values()} == {torch.float32}
    assert any(tensor.abs().max() > 0 for name, tensor in delta.tensors.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("pairs", "config", "message"),
    [
        (make_pairs(0), DuoConfig(), "0 accepted pairs.*accept some"),
        (make_pairs(2, (4, 8, 8)), DuoConfig(), r"safe latents are \(2, 4, 8, 8\).*Tiny needs \(2, 8, 8, 8\)"),
        (make_pairs(), DuoConfig().model_copy(update={"t_max": 1001}), "0 to 1001 cannot be drawn.*t_max <= 1000"),
        (TrainingPairs(make_pairs().unsafe_latents, make_pairs().safe_latents), DuoConfig(prompt="pair"), "0 unsafe"),
    ],
)
def test_duo_says_what_it_cannot_train_on(
    tiny_bundle: ModelBundle, pairs: TrainingPairs, config: DuoConfig, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        get_method("duo").fit(tiny_bundle, pairs, config, silent)


# ESD


def test_esd_target_by_hand() -> None:
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert esd_target(conditional, unconditional, 1.0).item() == 1.0  # the empty prompt's own prediction
    assert esd_target(conditional, unconditional, 2.0).item() == 1.0 - (3.0 - 1.0)  # the paper's eta' = 1
    assert esd_target(conditional, unconditional, 0.0).item() == 3.0


def trajectories_of(bundle: ModelBundle, config: EsdConfig, folder: Path | None = None) -> Trajectories:
    return sample_trajectories(bundle, config.prompts, config, partial(esd_target, eta=config.eta), silent, folder)


def test_esd_trajectories_are_the_frozen_models_own(tiny_bundle: ModelBundle) -> None:
    config = EsdConfig(prompts=["a sword", "a knight"], trajectories=3, sampling_steps=4, eta=2.0)
    found = trajectories_of(tiny_bundle, config)
    assert found.latents.shape == found.targets.shape == (12, 8, 8, 8)
    assert found.prompts.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert found.timesteps[:4].tolist() == found.timesteps[4:8].tolist() == [751, 501, 251, 1]
    rows = torch.tensor([0, 6, 11])
    latents, targets, timesteps, embeds = found.batch(rows, tiny_bundle.device)
    assert torch.equal(embeds, tiny_bundle.encode_prompt(["a sword", "a knight", "a sword"]))
    with torch.no_grad():
        conditional = tiny_bundle.predict(latents, timesteps, embeds)
        unconditional = tiny_bundle.predict(latents, timesteps, tiny_bundle.encode_prompt([""] * 3))
    assert torch.allclose(targets, unconditional - (conditional - unconditional), atol=1e-4)
    assert torch.equal(found.latents[::4], torch.randn(3, 8, 8, 8, generator=seeded(config.seed)))


def test_trajectories_of_an_earlier_try_are_used_again(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Only those of the same settings: others are sampled anew, and so is a damaged file."""
    config = EsdConfig(prompts=["a sword"], trajectories=2, sampling_steps=2)
    first = trajectories_of(tiny_bundle, config, tmp_path)
    tiny_bundle.denoiser.conv_out.bias.data += 1  # would be sampled otherwise
    again = trajectories_of(tiny_bundle, config.model_copy(update={"save_every": 7}), tmp_path)
    assert torch.equal(again.targets, first.targets)
    assert torch.equal(again.latents, first.latents)
    other = trajectories_of(tiny_bundle, config.model_copy(update={"eta": 1.0}), tmp_path)
    assert not torch.equal(other.targets, first.targets)
    trajectories_of(tiny_bundle, config, tmp_path)
    tiny_bundle.fingerprint = ""  # other weights are noticed where the bundle is loaded anew
    assert not torch.equal(trajectories_of(tiny_bundle, config, tmp_path).targets, first.targets)
    (tmp_path / "trajectories.safetensors").write_bytes(b"nonsense")
    assert not torch.equal(trajectories_of(tiny_bundle, config, tmp_path).targets, first.targets)


def test_esd_at_guidance_1_still_knows_the_empty_prompt(tiny_bundle: ModelBundle) -> None:
    config = EsdConfig(prompts=["a sword"], trajectories=1, sampling_steps=2, eta=1.0, start_guidance=1.0)
    found = trajectories_of(tiny_bundle, config)
    with torch.no_grad():
        empty = tiny_bundle.predict(found.latents, found.timesteps, tiny_bundle.encode_prompt(["", ""]))
    assert torch.allclose(found.targets, empty, atol=1e-4)


def test_esd_learns_its_target(tiny_bundle: ModelBundle) -> None:
    losses: list[float] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        losses.extend(values[name] for name in values if name == "loss")

    config = EsdConfig(
        prompts=["a sword"], steps=25, learning_rate=1e-3, trajectories=4, sampling_steps=5, variant="esd-u"
    )
    delta = get_method("esd").fit(tiny_bundle, make_pairs(), config, report)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    original = tiny_bundle.encode_prompt([""]).expand(1, -1, -1)
    noise, at, concept = tiny_bundle.noise([9]), torch.tensor([500]), tiny_bundle.encode_prompt(["a sword"])
    with torch.no_grad():
        c, u = (tiny_bundle.predict(noise, at, embeds) for embeds in (concept, original))
        with applied(tiny_bundle, delta):
            erased = tiny_bundle.predict(noise, at, concept)
    wanted = esd_target(c, u, 2.0)
    assert (erased - wanted).square().mean() < (c - wanted).square().mean()


def test_esd_variants_split_the_layers(tiny_bundle: ModelBundle) -> None:
    esd = get_method("esd")
    inside = set(esd.changes(tiny_bundle, EsdConfig(variant="esd-x")))
    outside = set(esd.changes(tiny_bundle, EsdConfig(variant="esd-u")))
    assert inside
    assert all(".attn2." in name for name in inside)
    assert not any(".attn2." in name for name in outside)
    rest = {name for name, _ in tiny_bundle.denoiser.named_parameters()} - inside - outside
    assert all("norm" in name for name in rest)
    strict = set(esd.changes(tiny_bundle, EsdConfig(variant="esd-x-strict")))
    assert strict == {name for name in inside if ".to_k." in name or ".to_v." in name}
    assert set(esd.changes(tiny_bundle, EsdConfig(variant="esd-all"))) == inside | outside


def test_esd_trains_in_half_precision(make_bundle: Callable[..., ModelBundle]) -> None:
    bundle = make_bundle(dtype=torch.bfloat16)
    config = EsdConfig(prompts=["a sword"], steps=2, batch_size=2, trajectories=1, sampling_steps=2)
    delta = get_method("esd").fit(bundle, make_pairs(), config, silent)
    assert {tensor.dtype for tensor in delta.tensors.values()} == {torch.float32}
    assert {parameter.dtype for parameter in bundle.denoiser.parameters()} == {torch.bfloat16}


def test_esd_needs_a_concept(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(TrainingError, match="0 concept prompts"):
        get_method("esd").fit(tiny_bundle, make_pairs(), EsdConfig(), silent)


def test_get_method() -> None:
    assert get_method("duo") is METHODS[0]
    with pytest.raises(ValueError, match="no method 'no-such'; use duo, esd"):
        get_method("no-such")


def test_detached_after_a_failed_fit(tiny_bundle: ModelBundle) -> None:
    names = list(tiny_bundle.denoiser.state_dict())
    pairs = make_pairs()
    pairs.safe_latents[:] = torch.inf
    with pytest.raises(TrainingError, match="at step 1"):
        get_method("duo").fit(tiny_bundle, pairs, DuoConfig(steps=1), silent)
    assert list(tiny_bundle.denoiser.state_dict()) == names
    attached(tiny_bundle, DuoConfig())
    detach(tiny_bundle)
