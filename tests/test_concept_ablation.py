"""Concept Ablation's loss, where its gradient stops, and that it is learned."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.adapters import applied, tuned_weights
from models.bundle import ModelBundle
from studio.method_configs import ConceptAblationConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.concept_ablation import AblationStep
from studio.methods.training import TrainingError, draw_rows
from studio.methods.trajectories import sample_pictures

NONE = TrainingPairs(torch.empty(0, 8, 8, 8), torch.empty(0, 8, 8, 8))
CONCEPTS, ANCHORS = ["a sword", "a knight"], ["a person"]


def config(**changes: object) -> ConceptAblationConfig:
    values = {"prompts": CONCEPTS, "anchor_prompts": ANCHORS, "batch_size": 2, "pictures": 3, "sampling_steps": 2}
    return ConceptAblationConfig.model_validate({**values, **changes})


def pictures() -> torch.Tensor:
    return torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_equals_the_formulas_written_out(
    make_bundle: Callable[..., ModelBundle], prediction_type: str
) -> None:
    bundle = make_bundle(prediction_type)
    loss, values = AblationStep(bundle, pictures(), config(prior_weight=3))(torch.Generator().manual_seed(0))

    generator = torch.Generator().manual_seed(0)
    rows = draw_rows(3, 2, generator)
    x, noise = pictures()[rows], torch.randn(2, 8, 8, 8, generator=generator)
    t = torch.randint(0, 1000, (2,), generator=generator)
    signal, sigma = (a.sqrt().view(2, 1, 1, 1) for a in (bundle.alphas_cumprod[t], 1 - bundle.alphas_cumprod[t]))
    noisy = signal * x + sigma * noise
    wanted = noise if prediction_type == "epsilon" else signal * noise - sigma * x
    concept = bundle.predict(noisy, t, bundle.encode_prompt([CONCEPTS[row % 2] for row in rows]))
    anchor = bundle.predict(noisy, t, bundle.encode_prompt(ANCHORS * 2))
    ablation, prior = (concept - anchor).square().mean(), (anchor - wanted).square().mean()
    assert values == pytest.approx({"ablation": float(ablation), "keep_anchor": float(prior)}, rel=1e-4)
    assert float(loss.detach()) == pytest.approx(float(ablation + 3 * prior), rel=1e-4)


def test_the_gradient_stops_at_the_anchor(tiny_bundle: ModelBundle) -> None:
    """It is that of the distance to a fixed target; a gradient through both sides would be another one."""
    names = get_method("concept-ablation").changes(tiny_bundle, config())
    step = AblationStep(tiny_bundle, pictures(), config())
    with tuned_weights(tiny_bundle, names) as tuned:
        parameters = list(tuned.parameters.values())
        loss, values = step(torch.Generator().manual_seed(0))
        found = torch.autograd.grad(loss, parameters)
        assert values == {}
        outputs: list[torch.Tensor] = []
        predict = tiny_bundle.predict

        def watched(*inputs: torch.Tensor) -> torch.Tensor:
            outputs.append(predict(*inputs))
            return outputs[-1]

        tiny_bundle.predict = watched  # type: ignore[method-assign]
        AblationStep(tiny_bundle, pictures(), config(prior_weight=1e-9))(torch.Generator().manual_seed(0))
        anchor, concept = outputs
        fixed = torch.autograd.grad((concept - anchor.detach()).square().mean(), parameters, retain_graph=True)
        both = torch.autograd.grad((concept - anchor).square().mean(), parameters)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(found, fixed, strict=True))
    assert not all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(found, both, strict=True))


def test_the_prior_term_alone_reaches_the_anchors_side(tiny_bundle: ModelBundle) -> None:
    """With one and the same prompt as concept and anchor the ablation is 0 and only the prior term has a gradient."""
    same = {"prompts": ["a person"], "anchor_prompts": ["a person"]}
    names = get_method("concept-ablation").changes(tiny_bundle, config())
    with tuned_weights(tiny_bundle, names) as tuned:
        for weight, moves in ((0.0, False), (1.0, True)):
            step = AblationStep(tiny_bundle, pictures(), config(prior_weight=weight, **same))
            loss, _ = step(torch.Generator().manual_seed(0))
            gradients = torch.autograd.grad(loss, list(tuned.parameters.values()))
            assert any(float(gradient.abs().max()) > 1e-7 for gradient in gradients) == moves


@pytest.mark.slow
def test_the_concept_comes_to_be_drawn_as_its_anchor(tiny_bundle: ModelBundle) -> None:
    settings = config(steps=60, learning_rate=3e-3, layers="all", batch_size=3)
    delta = get_method("concept-ablation").fit(tiny_bundle, NONE, settings, silent)
    noise, at = tiny_bundle.noise([7]), torch.tensor([300])
    concept, anchor = (tiny_bundle.encode_prompt([text]) for text in ("a sword", "a person"))
    with torch.no_grad():
        apart = (tiny_bundle.predict(noise, at, concept) - tiny_bundle.predict(noise, at, anchor)).square().mean()
        with applied(tiny_bundle, delta):
            now = (tiny_bundle.predict(noise, at, concept) - tiny_bundle.predict(noise, at, anchor)).square().mean()
    assert now < 0.5 * apart


def test_anchor_pictures_are_the_frozen_models_own(tiny_bundle: ModelBundle) -> None:
    made = sample_pictures(
        tiny_bundle, ["a cane", ""], 3, steps=2, guidance_scale=5.0, seed=4, progress=lambda message: None
    )
    noise = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    embeds = tiny_bundle.encode_prompt(["a cane", "", "a cane"])
    expected = tiny_bundle.sample(noise, embeds, tiny_bundle.encode_prompt([""] * 3), steps=2, guidance_scale=5.0)
    assert torch.equal(made, expected)


def test_layers(tiny_bundle: ModelBundle) -> None:
    method = get_method("concept-ablation")
    few, attention, every = (
        set(method.changes(tiny_bundle, config(layers=n))) for n in ("attn2-kv", "attention", "all")
    )
    assert few
    assert all(name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")) for name in few)
    assert few < attention < every
    assert all("attn" in name for name in attention)


def test_it_needs_a_concept(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(TrainingError, match="0 concept prompts"):
        get_method("concept-ablation").fit(tiny_bundle, NONE, ConceptAblationConfig(), silent)
