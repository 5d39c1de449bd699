"""SPM's loss and anchors, and Facilitated Transport: a strength of its own for every picture of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.adapters import (
    WeightDelta,
    applied,
    apply,
    attach_lora,
    detach,
    load_delta,
    lora_delta,
    merge,
    remove,
    save_delta,
)
from models.bundle import ModelBundle
from models.transport import TransportedLora, transport_metadata, transport_strength, word_overlap
from studio.method_configs import SpmConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.spm import SpmStep, draw_anchors, targets_of
from studio.methods.training import TrainingError
from studio.methods.trajectories import Trajectories

CONCEPT, FAR = "sword", "a quilt"
NONE = TrainingPairs(torch.empty(0, 8, 8, 8), torch.empty(0, 8, 8, 8))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved_adapter(bundle: ModelBundle, concepts: list[str] | None = None) -> WeightDelta:
    """An adapter with random values, as if trained, with Facilitated Transport."""
    for index, parameter in enumerate(attach_lora(bundle, rank=1, alpha=1, targets=targets_of(bundle), seed=0)):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=seeded(index))
    delta = lora_delta(bundle, transport_metadata(concepts or [CONCEPT]))
    detach(bundle)
    return delta


def plain(delta: WeightDelta) -> WeightDelta:
    return replace(delta, metadata={k: v for k, v in delta.metadata.items() if k != "facilitated_transport"})


def drawn(bundle: ModelBundle, prompts: list[str], embeds: torch.Tensor | None = None) -> torch.Tensor:
    return bundle.generate(prompts, range(len(prompts)), prompt_embeds=embeds, steps=3).latents


@pytest.fixture
def delta(tiny_bundle: ModelBundle) -> WeightDelta:
    return moved_adapter(tiny_bundle)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_spm_loss_equals_the_formulas_written_out(
    make_bundle: Callable[..., ModelBundle], prediction_type: str
) -> None:
    bundle, original = make_bundle(prediction_type), make_bundle(prediction_type)
    for index, parameter in enumerate(attach_lora(bundle, rank=1, alpha=1, targets=targets_of(bundle), seed=0)):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(index))
    latents, targets = torch.randn(2, 5, 8, 8, 8, generator=seeded())
    embeds = bundle.encode_prompt([CONCEPT])
    found = Trajectories(latents, targets, torch.arange(5) * 200, torch.zeros(5, dtype=torch.long), embeds)
    config = SpmConfig(concepts=[CONCEPT], batch_size=2, anchors=3, anchor_weight=7)
    loss, values = SpmStep(bundle, found, config)(seeded())

    generator = seeded()
    rows = torch.randint(5, (2,), generator=generator)
    z = draw_anchors(embeds.expand(2, -1, -1), 3, generator)
    x, t = latents[rows], rows * 200
    with torch.no_grad():
        erase = (bundle.predict(x, t, embeds.expand(2, -1, -1)) - targets[rows]).square().mean()
        gaps = [bundle.predict(x, t, anchors) - original.predict(x, t, anchors) for anchors in (z[:2], z[2:4], z[4:])]
    anchoring = torch.stack(gaps).square().mean()
    assert values == pytest.approx({"erase": float(erase), "anchoring": float(anchoring)}, rel=1e-3)
    assert float(loss.detach()) == pytest.approx(float(erase + 7 * anchoring), rel=1e-3)


def test_anchors_lie_away_from_the_concept_and_are_as_long() -> None:
    """In two dimensions, where chance would often come close. Of density min(1, 1 - cos) the mean cosine is known."""
    concept = torch.tensor([[[3.0, 4.0]]])
    anchors = draw_anchors(concept, 20_000, seeded())[:, 0]
    cosines = torch.nn.functional.cosine_similarity(anchors, concept[0])
    assert float(cosines.mean()) == pytest.approx(-math.pi / (4 * math.pi - 4), abs=0.02)
    assert 4.0 <= float(anchors.norm(dim=1).min()) < float(anchors.norm(dim=1).max()) <= 6.0
    assert torch.equal(draw_anchors(concept, 4, seeded(1)), draw_anchors(concept, 4, seeded(1)))


@pytest.mark.slow
def test_spm_learns_its_target_and_holds_the_anchors(tiny_bundle: ModelBundle) -> None:
    told: list[dict[str, float]] = []
    config = SpmConfig(concepts=[CONCEPT], steps=40, learning_rate=1e-2, trajectories=2, sampling_steps=3, batch_size=4)
    config = config.model_copy(update={"anchor_weight": 1.0})
    get_method("spm").fit(tiny_bundle, NONE, config, lambda *_, **values: told.append(values) if values else None)
    first, last = (sum(step["erase"] for step in part) for part in (told[:5], told[-5:]))
    assert last < 0.7 * first


def test_spm_needs_a_concept(tiny_bundle: ModelBundle) -> None:
    with pytest.raises(TrainingError, match="0 names of the concept"):
        get_method("spm").fit(tiny_bundle, NONE, SpmConfig(), silent)


def test_transport_can_be_left_out(tiny_bundle: ModelBundle) -> None:
    small = SpmConfig(concepts=[CONCEPT], steps=1, trajectories=1, sampling_steps=2, transport=False)
    assert "facilitated_transport" not in get_method("spm").fit(tiny_bundle, NONE, small, silent).metadata


# Facilitated Transport


def test_strength_is_the_square_of_the_greatest_likeness() -> None:
    concepts = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    embeds = torch.tensor([[[5.0, 0.0]], [[3.0, 4.0]], [[-1.0, -1.0]]])
    assert transport_strength(embeds, concepts).tolist() == pytest.approx([1.0, 0.64, 0.0])
    overlap = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]])
    assert transport_strength(embeds, concepts, overlap).tolist() == pytest.approx([1.0, 1.0, 0.25])


def test_word_overlap_counts_the_concepts_own_tokens(tiny_bundle: ModelBundle) -> None:
    """One token a letter here, other ones at the end of a word."""
    assert word_overlap(tiny_bundle, ["a cab", "bb", ""], ["ab", "ba"]).tolist() == [[1.0, 0.5], [0.5, 0.5], [0, 0]]


def test_the_concepts_own_prompt_gets_the_whole_adapter(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    with applied(tiny_bundle, plain(delta)):
        whole = drawn(tiny_bundle, [CONCEPT])
    with applied(tiny_bundle, delta):
        found = drawn(tiny_bundle, [CONCEPT])
    assert torch.allclose(found, whole, atol=1e-3)
    assert not torch.allclose(whole, drawn(tiny_bundle, [CONCEPT]), atol=1e-1)


def test_each_picture_of_a_batch_has_its_own_strength(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    """The concept, something half like it, and its opposite: as with the adapter added at 1, at 1/2, and not at all."""
    concept = tiny_bundle.encode_prompt([CONCEPT])
    other = torch.randn(concept.shape, generator=seeded())
    other -= (other * concept).sum() / concept.square().sum() * concept
    half = concept / concept.norm() + other / other.norm()  # cosine sqrt(1/2), so strength 1/2
    embeds = torch.cat([concept, half * concept.norm(), -concept])
    prompts = [""] * 3  # shares no word with the concept
    original = drawn(tiny_bundle, prompts, embeds)
    with applied(tiny_bundle, delta):
        found = drawn(tiny_bundle, prompts, embeds)
    assert torch.equal(found[2], original[2])
    for row, strength in ((0, 1.0), (1, 0.5)):
        with applied(tiny_bundle, plain(delta), strength):
            assert torch.allclose(found[row], drawn(tiny_bundle, prompts, embeds)[row], atol=1e-3)
        assert not torch.allclose(found[row], original[row], atol=1e-1)


def test_scale_zero_is_the_original(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    original = drawn(tiny_bundle, [CONCEPT, FAR])
    with applied(tiny_bundle, delta, scale=0.0):
        assert torch.equal(drawn(tiny_bundle, [CONCEPT, FAR]), original)


def test_it_comes_off_without_a_trace(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    original = drawn(tiny_bundle, [CONCEPT])
    before = {name: value.clone() for name, value in tiny_bundle.denoiser.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), applied(tiny_bundle, delta):
        raise KeyboardInterrupt
    assert tiny_bundle.on_sampling == tiny_bundle.originals == []
    assert all(torch.equal(value, before[name]) for name, value in tiny_bundle.denoiser.state_dict().items())
    assert torch.equal(drawn(tiny_bundle, [CONCEPT]), original)


def test_outside_of_sampling_its_strength_is_whole(tiny_bundle: ModelBundle, delta: WeightDelta) -> None:
    """As where gradients are taken through the network. A stopped sampling leaves no strength behind."""
    apply(tiny_bundle, delta)
    lora = tiny_bundle.originals[-1]
    assert isinstance(lora, TransportedLora)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_bundle.generate([FAR], [0], steps=2, on_batch=stop)
    assert lora.strengths is None
    inputs = tiny_bundle.noise([1]), torch.tensor([500]), tiny_bundle.encode_prompt([FAR])
    found = tiny_bundle.predict(*inputs)
    remove(tiny_bundle)
    with applied(tiny_bundle, plain(delta)):
        assert torch.allclose(found, tiny_bundle.predict(*inputs), atol=1e-4)


def test_it_survives_its_file_and_is_lost_in_a_merge(
    tiny_bundle: ModelBundle, delta: WeightDelta, tmp_path: Path
) -> None:
    save_delta(delta, tmp_path / "adapter.safetensors")
    with applied(tiny_bundle, delta):
        found = drawn(tiny_bundle, [FAR])
    with applied(tiny_bundle, load_delta(tmp_path / "adapter.safetensors")):
        assert torch.equal(drawn(tiny_bundle, [FAR]), found)
    merge(tiny_bundle, delta)
    assert not torch.allclose(drawn(tiny_bundle, [FAR]), found, atol=1e-2)


@pytest.fixture(autouse=True)
def nothing_left_on(tiny_bundle: ModelBundle) -> Iterator[None]:
    yield
    assert not any(module._forward_hooks for module in tiny_bundle.denoiser.modules())
