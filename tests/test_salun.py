"""SalUn: its mask against brute force, its loss against the formula, and that weights outside of the mask stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.adapters import applied, tuned_weights
from models.bundle import ModelBundle
from studio.method_configs import SalunConfig
from studio.methods.base import Stopped, silent
from studio.methods.salun import Pictures, Salun, SalunStep, guided, saliency, top_share
from studio.methods.training import STATE_FILE, TrainingError
from tests.training_data import make_pairs


def config_of(**changes: Any) -> SalunConfig:
    return SalunConfig(**({"batch_size": 2, "saliency_samples": 4, "steps": 3, "learning_rate": 1e-3} | changes))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_the_mask_is_the_brute_force_top_of_all_weights_together(ratio: float) -> None:
    generator = seeded()
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    batches = [(torch.randn(3, 4, generator=generator), torch.randn(3, 2, generator=generator)) for _ in range(3)]
    weights = dict(net.named_parameters())
    scores = saliency((F.mse_loss(net(x), y) for x, y in batches), weights)
    for x, y in batches:  # gradients gather in .grad, and their sum's size counts, not the sum of sizes
        F.mse_loss(net(x), y).backward()
    expected = {name: parameter.grad.abs() for name, parameter in weights.items() if parameter.grad is not None}
    assert all(torch.allclose(scores[name], expected[name], atol=1e-6) for name in weights)
    ranked = sorted(
        ((float(v), name, i) for name, e in expected.items() for i, v in enumerate(e.flatten())), reverse=True
    )
    top = {(name, index) for _, name, index in ranked[: int(len(ranked) * ratio)]}
    mask = top_share(scores, ratio)
    assert {(name, i) for name, kept in mask.items() for i, k in enumerate(kept.flatten()) if k} == top
    assert all(mask[name].shape == parameter.shape for name, parameter in weights.items())


def test_ties_are_cut_off_at_the_share() -> None:
    mask = top_share({"a": torch.zeros(3), "b": torch.tensor([[1.0, 0.0]])}, 0.6)
    assert sum(int(kept.sum()) for kept in mask.values()) == 3
    assert mask["b"][0, 0]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("layers", ["all", "cross-attention"])
def test_weights_outside_of_the_mask_stay_bit_for_bit(
    tiny_bundle: ModelBundle, layers: Any, weight_decay: float
) -> None:
    before = {name: value.clone() for name, value in tiny_bundle.denoiser.named_parameters()}
    config = config_of(mask_ratio=0.3, layers=layers, weight_decay=weight_decay)
    delta = Salun().fit(tiny_bundle, make_pairs(), config, silent)
    assert all((".attn2." in name) or layers == "all" for name in delta.tensors)
    with applied(tiny_bundle, delta):
        moved = {
            name: value != before[name]
            for name, value in tiny_bundle.denoiser.named_parameters()
            if name in delta.tensors
        }
    total = sum(value.numel() for value in moved.values())
    share = sum(int(value.sum()) for value in moved.values()) / total
    assert 0.2 < share <= 0.3
    assert share > 0.28 or weight_decay == 0  # a weight whose gradient is nothing stays, within the mask too


def test_the_mask_is_of_the_guided_prediction_on_unsafe_pictures(
    tiny_bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, u = torch.tensor([3.0]), torch.tensor([1.0])
    assert guided(c, u, 7.5) == 8.5 * 3 - 7.5
    config, pairs = config_of(saliency_samples=3), make_pairs()
    found: list[dict[str, torch.Tensor]] = []

    def keep(scores: dict[str, torch.Tensor], ratio: float) -> dict[str, torch.Tensor]:
        found.append(scores)
        return top_share(scores, ratio)

    monkeypatch.setattr("studio.methods.salun.top_share", keep)
    Salun().fit(tiny_bundle, pairs, config, silent)
    generator, pictures = seeded(config.seed), Pictures(tiny_bundle, pairs, config)
    names = list(found[0])
    with tuned_weights(tiny_bundle, names) as tuned:
        for count in (2, 1):
            rows, noisy, timesteps, noise = pictures.noisy(pairs.unsafe_latents, count, generator)
            own = tiny_bundle.encode_prompt([pairs.unsafe_prompts[row] for row in rows])
            said = 8.5 * tiny_bundle.predict(noisy, timesteps, own)
            said = said - 7.5 * tiny_bundle.predict(noisy, timesteps, tiny_bundle.encode_prompt([""] * count))
            (-(noise - said).square().mean()).backward()
        for name, parameter in tuned.parameters.items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.abs()
            assert torch.allclose(found[0][name], expected, rtol=1e-3, atol=1e-5 * float(expected.max() + 1))


def test_the_loss_is_the_formula_and_no_gradient_goes_through_the_anchor(tiny_bundle: ModelBundle) -> None:
    config, pairs = config_of(remain_weight=0.7), make_pairs()
    pictures = Pictures(tiny_bundle, pairs, config)
    with tuned_weights(tiny_bundle, ["conv_in.weight", "conv_out.bias"]) as tuned:
        everything = {name: torch.ones(value.shape, dtype=torch.bool) for name, value in tuned.parameters.items()}
        parameters = list(tuned.parameters.values())
        loss, values = SalunStep(pictures, tuned, everything, config)(seeded())
        generator = seeded()
        rows, x, at, _ = pictures.noisy(pairs.unsafe_latents, 2, generator)
        others, y, then, target = pictures.noisy(pairs.safe_latents, 2, generator)
        unsafe, anchors = (
            tiny_bundle.encode_prompt([texts[row] for row in rows])
            for texts in (pairs.unsafe_prompts, pairs.safe_prompts)
        )
        safe = tiny_bundle.encode_prompt([pairs.safe_prompts[row] for row in others])
        forget = (tiny_bundle.predict(x, at, unsafe) - tiny_bundle.predict(x, at, anchors).detach()).square().mean()
        remain = (tiny_bundle.predict(y, then, safe) - target).square().mean()
        assert values == {"forget": pytest.approx(forget.item()), "remain": pytest.approx(remain.item())}
        expected = torch.autograd.grad(forget + 0.7 * remain, parameters)
        found = torch.autograd.grad(loss, parameters)
        assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


def test_anchors_are_the_pairs_safe_prompts_or_those_that_are_named(tiny_bundle: ModelBundle) -> None:
    pairs = make_pairs(3)
    assert torch.equal(Pictures(tiny_bundle, pairs, config_of()).anchors, tiny_bundle.encode_prompt(pairs.safe_prompts))
    named = Pictures(tiny_bundle, pairs, config_of(anchor_prompts=["a person", "a dog"])).anchors
    assert torch.equal(named, tiny_bundle.encode_prompt(["a person", "a dog", "a person"]))


def test_a_resumed_run_keeps_its_mask(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    config, told = config_of(), []

    def stop(step: int, total: int, message: str = "", **values: float) -> None:
        if step == 1:
            raise Stopped

    with pytest.raises(Stopped):
        Salun().fit(tiny_bundle, make_pairs(), config, stop, tmp_path)
    Salun().fit(tiny_bundle, make_pairs(), config, lambda *said, **_: told.append(said[2]), tmp_path)
    assert told
    assert not any("Finding" in message for message in told)
    (tmp_path / STATE_FILE).unlink()
    others = replace(make_pairs(), unsafe_latents=make_pairs().safe_latents)  # under the same prompts
    Salun().fit(tiny_bundle, others, config, lambda *said, **_: told.append(said[2]), tmp_path)
    assert any("Finding" in message for message in told)


def test_pairs_without_a_safe_prompt_are_refused(tiny_bundle: ModelBundle) -> None:
    pairs = make_pairs(2)
    for prompts in ([], ["a cook", " "]):
        with pytest.raises(TrainingError, match="not every pair has a safe prompt"):
            Salun().fit(tiny_bundle, replace(pairs, safe_prompts=prompts), config_of(), silent)
