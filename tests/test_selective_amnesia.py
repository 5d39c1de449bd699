"""Selective Amnesia: its Fisher information against brute force, its loss against the formulas, and what it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from models.adapters import applied, tuned_weights
from models.bundle import ModelBundle
from studio.method_configs import SelectiveAmnesiaConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.selective_amnesia import AmnesiaStep, Replay, denoising_loss, diagonal_fisher, elastic_term
from studio.methods.training import STATE_FILE, TrainingError, draw_rows


def make_pairs(count: int = 4) -> TrainingPairs:
    unsafe, safe = torch.randn(2, count, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return TrainingPairs(unsafe, safe, [f"knight {n}" for n in range(count)], [f"person {n}" for n in range(count)])


SMALL = SelectiveAmnesiaConfig(
    batch_size=2, pictures=3, sampling_steps=2, fisher_samples=3, fisher_batch=2, fisher_weight=5, replay_weight=2
)


def test_fisher_equals_the_brute_force_diagonal_on_a_small_net() -> None:
    """float64, seven samples in batches of three, three and one."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    inputs, wanted = (torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (4, 2))
    weights = {name: value.detach() for name, value in net.named_parameters() if name != "0.bias"}

    def loss(some: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (functional_call(net, some, (x,)) - y).square().mean()

    found = diagonal_fisher(loss, weights, zip(inputs.split(3), wanted.split(3), strict=True))
    expected = {name: torch.zeros_like(value) for name, value in weights.items()}
    for x, y in zip(inputs, wanted, strict=True):
        net.zero_grad()
        (net(x) - y).square().mean().backward()
        for name, parameter in net.named_parameters():
            if name in expected and parameter.grad is not None:
                expected[name] += parameter.grad.square() / 7
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name].double(), expected[name], rtol=1e-5) for name in expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_fisher_of_the_unet_is_that_of_each_pictures_own_loss(
    make_bundle: Callable[..., ModelBundle], prediction_type: str
) -> None:
    bundle = make_bundle(prediction_type)
    replay = Replay(bundle, make_pairs().safe_latents, bundle.encode_prompt(["a cane", "a rose"]))
    batch = replay.batch(3, torch.Generator().manual_seed(1))
    names = [name for name, _ in bundle.denoiser.named_parameters() if ".attn2." in name]
    weights = {name: value for name, value in bundle.denoiser.named_parameters() if name in names}
    found = diagonal_fisher(denoising_loss(bundle), weights, [batch])
    with tuned_weights(bundle, names) as tuned:
        parameters = list(tuned.parameters.values())
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for row in range(3):
            noisy, at, embed, wanted = (values[row : row + 1] for values in batch)
            gradients = torch.autograd.grad((bundle.predict(noisy, at, embed) - wanted).square().mean(), parameters)
            total = [before + gradient.square() / 3 for before, gradient in zip(total, gradients, strict=True)]
    for name, expected in zip(names, total, strict=True):
        assert torch.allclose(found[name], expected, rtol=1e-3, atol=float(1e-5 * expected.max())), name


def test_elastic_term_on_hand_values() -> None:
    held = [(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([1.0, 4.0]))]
    held.append((torch.tensor([[10.0]]), torch.tensor([[0.5]]), torch.tensor([[0.0]])))
    assert float(elastic_term(held)) == pytest.approx(1 * 4 + 2 * 1 + 10 * 0.25)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_equals_the_formulas_written_out(
    make_bundle: Callable[..., ModelBundle], prediction_type: str
) -> None:
    bundle, pairs = make_bundle(prediction_type), make_pairs()
    pictures = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    replay = Replay(bundle, pictures, bundle.encode_prompt(["a cane", "a rose"]))
    names = get_method("selective-amnesia").changes(bundle, SMALL)
    with tuned_weights(bundle, names) as tuned:
        fisher = {name: torch.full_like(value, 0.5) for name, value in tuned.originals.items()}
        step = AmnesiaStep(bundle, pairs, replay, fisher, tuned, SMALL)
        for parameter in tuned.parameters.values():
            parameter.data += 0.001
        loss, values = step(torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(0)
        errors = []
        for latents, prompts in (
            (pairs.safe_latents, pairs.unsafe_prompts),
            (pictures, ["a cane", "a rose", "a cane"]),
        ):
            rows = draw_rows(len(latents), 2, generator)
            noise = torch.randn(2, 8, 8, 8, generator=generator)
            t = torch.randint(0, 1000, (2,), generator=generator)
            abar = bundle.alphas_cumprod[t].view(2, 1, 1, 1)
            noisy = abar.sqrt() * latents[rows] + (1 - abar).sqrt() * noise
            wanted = noise if prediction_type == "epsilon" else abar.sqrt() * noise - (1 - abar).sqrt() * latents[rows]
            output = bundle.predict(noisy, t, bundle.encode_prompt([prompts[row] for row in rows]))
            errors.append(float((output - wanted).detach().square().mean()))
    elastic = 0.5 * 1e-6 * sum(value.numel() for value in fisher.values())
    expected = {"surrogate": errors[0], "replay": errors[1], "elastic": elastic}
    assert values == pytest.approx(expected, rel=1e-2)
    assert float(loss.detach()) == pytest.approx(errors[0] + 2 * errors[1] + 5 * elastic, rel=1e-2)


@pytest.mark.slow
def test_it_learns_the_safe_pictures_and_the_elastic_term_holds_back(tiny_bundle: ModelBundle) -> None:
    pairs = make_pairs()
    settings = SMALL.model_copy(update={"steps": 40, "learning_rate": 1e-3, "batch_size": 4, "replay_weight": 0.0})

    def error() -> float:
        batch = Replay(tiny_bundle, pairs.safe_latents, tiny_bundle.encode_prompt(pairs.unsafe_prompts)).batch
        noisy, t, embeds, wanted = batch(4, torch.Generator().manual_seed(9))
        with torch.no_grad():
            return float((tiny_bundle.predict(noisy, t, embeds) - wanted).square().mean())

    before, after, moved = error(), [], []
    for weight in (0.0, 1e6):
        config = settings.model_copy(update={"fisher_weight": weight})
        delta = get_method("selective-amnesia").fit(tiny_bundle, pairs, config, silent)
        moved.append(sum(float(tensor.square().sum()) for tensor in delta.tensors.values()))
        with applied(tiny_bundle, delta):
            after.append(error())
    assert after[0] < 0.9 * before
    assert after[0] < after[1]
    assert moved[1] < 0.5 * moved[0]


def test_fisher_and_pictures_of_an_earlier_try_are_used_again(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    said: list[str] = []
    config = SMALL.model_copy(update={"steps": 1})

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        said.append(message.split(",")[0])

    get_method("selective-amnesia").fit(tiny_bundle, make_pairs(), config, report, tmp_path)
    assert {"fisher.safetensors", "pictures.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    assert {"Drawing pictures with the frozen model", "Estimating what the weights matter"} <= set(said)
    said.clear()
    get_method("selective-amnesia").fit(tiny_bundle, make_pairs(), config, report, tmp_path)
    assert said == ["Training"]


def test_a_fisher_of_other_settings_is_not_used(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Each change is to the try before it."""
    said: list[str] = []

    def estimated(pairs: TrainingPairs, **changes: Any) -> bool:
        said.clear()
        (tmp_path / STATE_FILE).unlink(missing_ok=True)
        config = SMALL.model_copy(update={"steps": 1, **changes})
        get_method("selective-amnesia").fit(
            tiny_bundle, pairs, config, lambda *told, **_: said.append(told[2]), tmp_path
        )
        return any(message.startswith("Estimating") for message in said)

    pairs = make_pairs()
    assert estimated(pairs)
    for changes in ({"layers": "attn2"}, {"fisher_samples": 2}, {"fisher_batch": 1}, {"seed": 3}, {"pictures": 2},
                    {"picture_guidance": 2.0}, {"sampling_steps": 3}, {"replay_prompts": ["a rose"]}):  # fmt: skip
        assert estimated(pairs, **changes), changes
    assert estimated(pairs)
    assert estimated(replace(pairs, safe_prompts=["a rose"] * len(pairs)))
    assert not estimated(replace(pairs, safe_prompts=["a rose"] * len(pairs)), sample_every=7)


def test_layers(tiny_bundle: ModelBundle) -> None:
    method = get_method("selective-amnesia")
    inside, outside, every = (
        set(method.changes(tiny_bundle, SelectiveAmnesiaConfig(layers=n))) for n in ("attn2", "not-attn2", "all")
    )
    assert not inside & outside
    assert {name.split(".")[0] for name in every - inside - outside} == {"time_embedding", "conv_norm_out", "conv_out"}
    assert all(".attn2." in name for name in inside)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (TrainingPairs(torch.zeros(2, 8, 8, 8), torch.zeros(2, 8, 8, 8)), "0 unsafe prompts for 2 pairs"),
        (TrainingPairs(torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 8, 8), ["a"]), "0 prompts to replay"),
        (TrainingPairs(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), ["a"], ["b"]), "needs"),
    ],
)
def test_pairs_that_do_not_serve_are_refused(tiny_bundle: ModelBundle, pairs: TrainingPairs, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        get_method("selective-amnesia").fit(tiny_bundle, pairs, SMALL, silent)
