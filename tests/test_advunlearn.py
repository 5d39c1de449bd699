"""AdvUnlearn: what its attack finds, what its loss is made of, and that nothing but the text encoder changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from models.adapters import applied, tuned_weights
from models.bundle import ModelBundle
from models.prompting import layout
from models.toybox.captions import SYNONYMS, implied_words
from studio.everyday import THINGS, everyday_prompts
from studio.method_configs import AdvUnlearnConfig
from studio.methods import get_method
from studio.methods.advunlearn import PART, AdversarialStep, AdvUnlearn
from studio.methods.base import Stopped, TrainingPairs, silent
from studio.methods.training import TrainingError
from studio.prompts import CONCEPT, NEIGHBOUR, kept_prompts

NONE = TrainingPairs(torch.empty(0, 8, 8, 8), torch.empty(0, 8, 8, 8))


def config_of(**changes: Any) -> AdvUnlearnConfig:
    small = {"prompts": ["a sword", "a knight"], "retain_prompts": ["a rose"], "trajectories": 4, "sampling_steps": 2}
    small |= {"retain_trajectories": 2, "plain_steps": 0, "attack_steps": 5, "steps": 4, "learning_rate": 1e-3}
    return AdvUnlearnConfig(**(small | changes))


def step_of(bundle: ModelBundle, config: AdvUnlearnConfig) -> AdversarialStep:
    """The method's own step, on the trajectories that it samples."""
    caught: list[AdversarialStep] = []

    class Caught(AdversarialStep):
        def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
            caught.append(self)
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studio.methods.advunlearn.AdversarialStep", Caught)
        with pytest.raises(Stopped):
            AdvUnlearn().fit(bundle, NONE, config, silent)
    return AdversarialStep(bundle, caught[0].concept, caught[0].retained, config)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_targets_are_the_frozen_models_by_hand(tiny_bundle: ModelBundle) -> None:
    """Away from the concept e("") - g (e(c) - e("")), towards it e(c); of what is to stay e(r)."""
    step = step_of(tiny_bundle, config_of(guidance=1.5))
    concept, retained = step.concept, step.retained
    assert retained is not None
    empty = tiny_bundle.encode_prompt([""]).expand(len(concept.timesteps), -1, -1)
    with torch.no_grad():
        c = tiny_bundle.predict(concept.latents, concept.timesteps, concept.embeds[concept.prompts])
        u = tiny_bundle.predict(concept.latents, concept.timesteps, empty)
        r = tiny_bundle.predict(retained.latents, retained.timesteps, retained.embeds[retained.prompts])
    away, towards = concept.targets.chunk(2, dim=1)
    assert torch.allclose(away, u - 1.5 * (c - u), atol=1e-4)
    assert torch.allclose(towards, c, atol=1e-4)
    assert torch.allclose(retained.targets, r, atol=1e-4)


def test_the_loss_is_the_formula_written_out_and_retaining_starts_at_nothing(tiny_bundle: ModelBundle) -> None:
    config = config_of(batch_size=3, retain_batch=2, retain_weight=0.7)
    step = step_of(tiny_bundle, config)
    with torch.no_grad():
        step.found[1] = 0.3 * torch.randn(1, 96, generator=seeded(5))
        loss, values = step.loss(1, True, seeded())
        again = seeded()
        latents, (wanted, _), timesteps = step.drawn(1, again)
        embeds = layout(tiny_bundle, [None, "a knight"]).encode(step.found[1:2])
        erase = (tiny_bundle.predict(latents, timesteps, embeds.expand(3, -1, -1)) - wanted).square().mean()
    assert values["retain"] < 1e-9
    assert values["erase"] == pytest.approx(float(erase), rel=1e-4)
    assert float(loss) == pytest.approx(values["erase"] + 0.7 * values["retain"])
    with tuned_weights(tiny_bundle, AdvUnlearn().changes(tiny_bundle, config), PART) as tuned, torch.no_grad():
        for parameter in tuned.parameters.values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=seeded(1))
        loss, values = step.loss(1, False, seeded())
        assert values["retain"] > 1e-3
        assert float(loss) == pytest.approx(values["erase"] + 0.7 * values["retain"])


def test_an_attack_brings_the_concept_back_and_raises_the_loss(tiny_bundle: ModelBundle) -> None:
    """Against an encoder that has led the prompt away without attacks; the trained weights gather no gradient of it."""
    config = config_of(batch_size=4, attack_steps=40, attack_rate=0.03, retain_weight=0.0, prompts=["a sword"])
    trained = config.model_copy(update={"plain_steps": 25, "steps": 25})
    step = step_of(tiny_bundle, config)
    concept = step.concept
    with applied(tiny_bundle, AdvUnlearn().fit(tiny_bundle, NONE, trained, silent)):

        @torch.no_grad()
        def told(embeds: torch.Tensor) -> tuple[float, float]:
            """How far from what the frozen model says of the concept, and from the target away from it."""
            rows = embeds.expand(len(concept.timesteps), -1, -1)
            said = tiny_bundle.predict(concept.latents, concept.timesteps, rows)
            away, towards = concept.targets.chunk(2, dim=1)
            return float(F.mse_loss(said, towards)), float(F.mse_loss(said, away))

        prompt = layout(tiny_bundle, [None, "a sword"])
        before = told(prompt.encode(step.start(0, seeded(3))[None]))
        with tuned_weights(tiny_bundle, AdvUnlearn().changes(tiny_bundle, config), PART) as tuned:
            after = told(prompt.encode(step.attack(0, seeded(3))[None]))
            assert all(parameter.grad is None for parameter in tuned.parameters.values())
    assert after[0] < 0.8 * before[0]
    assert after[1] > before[1]


def test_the_attack_follows_its_own_gradient_alone(tiny_bundle: ModelBundle) -> None:
    """The official code adds up the gradients of all steps."""
    step = step_of(tiny_bundle, config_of(attack_steps=3, attack_rate=0.01))
    generator = seeded()
    free = step.start(1, generator).requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr=0.01)
    for _ in range(3):
        latents, (_, conditional), timesteps = step.drawn(1, generator)
        embeds = layout(tiny_bundle, [None, "a knight"]).encode(free[None])
        optimizer.zero_grad()
        F.mse_loss(tiny_bundle.predict(latents, timesteps, embeds), conditional).backward()
        optimizer.step()
    assert torch.allclose(step.attack(1, seeded()), free.detach(), atol=1e-6)


def test_only_the_text_encoder_changes_and_the_prompt_is_led_away(tiny_bundle: ModelBundle) -> None:
    config = config_of(steps=30, plain_steps=10, attack_steps=2, batch_size=4, retain_weight=0.0, prompts=["a sword"])
    told: list[float] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        told.extend(values[name] for name in values if name == "erase")

    delta = AdvUnlearn().fit(tiny_bundle, NONE, config, report)
    assert delta.part == "text_encoder"
    assert not any("embeddings." in name for name in delta.tensors)
    assert sum(told[5:10]) < 0.7 * sum(told[:5])
    unet = {name: value.clone() for name, value in tiny_bundle.denoiser.state_dict().items()}
    prompts = ["a sword"]
    plain = tiny_bundle.encode_prompt(prompts)
    with applied(tiny_bundle, delta):
        assert not torch.allclose(tiny_bundle.encode_prompt(prompts), plain, atol=1e-3)
        assert all(torch.equal(value, unet[name]) for name, value in tiny_bundle.denoiser.state_dict().items())


def test_layers_are_counted_from_the_first(tiny_bundle: ModelBundle) -> None:
    whole, first = (set(AdvUnlearn().changes(tiny_bundle, config_of(encoder_layers=n))) for n in (0, 1))
    assert first < whole
    assert all("encoder.layers.0." in name for name in first)
    rest = {name for name, _ in tiny_bundle.text_encoder.named_parameters()} - whole
    assert all("embeddings." in name for name in rest)
    assert any("final_layer_norm." in name for name in whole - first)


def test_a_resumed_run_goes_on_with_the_attack_it_was_at(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """Stopped between two attacks, of which the next starts from the last one's find."""
    config = config_of(steps=6, attack_every=3, attack_start="latest", prompts=["a sword"], attack_rate=0.1)
    whole = AdvUnlearn().fit(tiny_bundle, NONE, config, silent)

    def stop(step: int, total: int, message: str = "", **values: float) -> None:
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        AdvUnlearn().fit(tiny_bundle, NONE, config, stop, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "state.safetensors", "trajectories.safetensors", "retained-trajectories.safetensors"
    }  # fmt: skip
    resumed = AdvUnlearn().fit(tiny_bundle, NONE, config, silent, tmp_path)
    assert all(torch.equal(resumed.tensors[name], value) for name, value in whole.tensors.items())


def test_what_it_must_be_told(tiny_bundle: ModelBundle) -> None:
    for changes, message in (
        ({"prompts": []}, "0 concept prompts"),
        ({"retain_prompts": []}, "0 prompts that are to stay"),
        ({"encoder_layers": 9}, "encoder_layers is 9, but the text encoder of .* has [0-9] layers"),
    ):
        with pytest.raises(TrainingError, match=message):
            get_method("advunlearn").fit(tiny_bundle, NONE, config_of(**changes), silent)


def test_prompts_that_stay_hold_no_concept() -> None:
    assert len(everyday_prompts("a sword")) == len(THINGS) == 80
    assert "a photo of hot dog" not in everyday_prompts("Dogs and a dog")
    told = " ".join(kept_prompts()).split()
    for name in (CONCEPT, NEIGHBOUR):  # the neighbour is to stay by itself
        words = [*SYNONYMS[name], *implied_words(name), *implied_words(name, held_out=True)]
        assert words
        assert not set(words) & set(told)
    assert {"rose", "balloon", "teacher"} <= set(told)
