"""The attacks' formulas against hand computations and brute force, and what their searches promise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import ModelBundle
from models.forward import Diffusion
from models.prompting import (
    PromptTooLongError,
    encode_ids,
    encode_tokens,
    layout,
    padded,
    prompt_ids,
    token_table,
    word_tokens,
)
from studio.attack_configs import P4dConfig, RingABellConfig, UnlearnDiffAtkConfig
from studio.attacks.base import Arena, AttackError, AttackInput, AttackTask, Best, Meter, further_seeds
from studio.attacks.concepts import direction
from studio.attacks.p4d import parts_of
from studio.attacks.ring_a_bell import Search
from studio.attacks.sneaky_prompt import Policy, sensitive_words
from studio.attacks.text_free_inversion import TextFreeInversion
from studio.attacks.unlearn_diff_atk import PrefixSearch
from studio.configs import SamplingConfig
from studio.metrics.base import Detection
from studio.objectives.genetic import breed, crossover, known_losses, mutate, select
from studio.objectives.inversion import epsilon_of, invert
from studio.objectives.tokens import (
    concept_vector,
    nearest_tokens,
    project_to_simplex,
    reinforce_loss,
    sample_one_hot,
)

# The simplex and its samples


def brute_force_projection(row: torch.Tensor) -> torch.Tensor:
    """The best of the projections onto the simplex's faces: one closed form for each set of positive entries."""
    best, best_distance = row, float("inf")
    for size in range(1, len(row) + 1):
        for face in itertools.combinations(range(len(row)), size):
            point = torch.zeros_like(row)
            chosen = list(face)
            point[chosen] = row[chosen] - (row[chosen].sum() - 1) / size
            distance = float((point - row).square().sum())
            if (point >= 0).all() and distance < best_distance:
                best, best_distance = point, distance
    return best


def test_simplex_projection_is_the_nearest_point() -> None:
    rows = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    projected = project_to_simplex(rows)
    assert torch.allclose(projected.sum(dim=-1), torch.ones(20, dtype=torch.float64))
    assert (projected >= 0).all()
    for row, found in zip(rows, projected, strict=True):
        assert torch.allclose(found, brute_force_projection(row), atol=1e-12)


def test_simplex_projection_by_hand() -> None:
    assert project_to_simplex(torch.tensor([0.5, 0.0, 0.9])).tolist() == pytest.approx([0.3, 0.0, 0.7])
    inside = torch.tensor([0.2, 0.3, 0.5])
    assert torch.allclose(project_to_simplex(inside), inside)


def test_one_hot_samples_follow_the_weights_and_pass_the_gradient_on() -> None:
    weights = torch.tensor([[0.25, 0.75, 0.0]]).repeat(4000, 1).requires_grad_()
    drawn = sample_one_hot(weights, torch.Generator().manual_seed(0))
    assert set(drawn.detach().unique().tolist()) == {0.0, 1.0}
    assert drawn.sum(dim=-1).detach().eq(1).all()
    assert drawn.mean(dim=0).tolist() == pytest.approx([0.25, 0.75, 0.0], abs=0.03)
    values = torch.tensor([1.0, -2.0, 3.0])
    (drawn @ values).sum().backward()
    assert torch.equal(weights.grad, values.expand(4000, 3))  # d/dw of the one-hot row itself


@pytest.mark.parametrize("slope", [0.0, 1e6])
def test_a_prefix_starts_anywhere_and_is_held_from_settling(
    tiny_bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, slope: float
) -> None:
    monkeypatch.setattr(
        "studio.attacks.unlearn_diff_atk.prediction_error", lambda *given: slope * given[3].square().sum()
    )
    arena = Arena(tiny_bundle, None, lambda images: [], SamplingConfig())
    task = AttackTask("a", 0, torch.zeros(tiny_bundle.latent_shape))
    search = PrefixSearch(arena, task, word_tokens(tiny_bundle), UnlearnDiffAtkConfig())
    assert search.weights.std() < 1e-6
    with torch.no_grad():
        search.weights.copy_(torch.eye(search.weights.shape[1])[: len(search.weights)])
    search.step(10)
    gradient = search.weights.grad
    assert gradient is not None
    assert gradient.abs().max() <= 1
    if not slope:
        assert (search.weights.max(dim=1).values < 1).all()  # by the weight decay alone


# PEZ, concept vector, REINFORCE


def test_nearest_token_has_the_greatest_cosine_whatever_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, 6, generator=generator) * torch.rand(50, 1, generator=generator) * 9
    soft = torch.randn(8, 6, generator=generator)
    expected = [max(range(50), key=lambda row: float(torch.cosine_similarity(one, table[row], dim=0))) for one in soft]
    assert nearest_tokens(soft, table).tolist() == expected
    assert nearest_tokens(table * 0.01, table).tolist() == list(range(50))


def test_concept_vector_by_hand() -> None:
    with_it = torch.tensor([[[3.0, 1.0]], [[5.0, 1.0]]])
    without = torch.tensor([[[1.0, 1.0]], [[1.0, 3.0]]])
    assert concept_vector(with_it, without).tolist() == [[3.0, -1.0]]


def test_reinforce_gradient_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.0, 0.0]], requires_grad=True)
    tokens, rewards, baseline = torch.tensor([[1, 0], [2, 2]]), torch.tensor([1.0, -0.5]), 0.25
    reinforce_loss(logits, tokens, rewards, baseline).backward()
    p = logits.detach().softmax(dim=-1)
    expected = torch.zeros_like(p)
    for row, reward in zip(tokens.tolist(), rewards.tolist(), strict=True):
        for place, token in enumerate(row):
            one_hot = torch.eye(3)[token]
            expected[place] -= (reward - baseline) * (one_hot - p[place]) / 2  # -A d log p, mean of two rows
    assert torch.allclose(logits.grad, expected, atol=1e-7)


def test_the_policy_learns_what_is_rewarded() -> None:
    policy = Policy(2, 5, 0.1, torch.Generator().manual_seed(0))
    for _ in range(200):
        rows = policy.draw(4)
        policy.learn(rows, (rows[:, 0] == 3).float())
    probabilities = policy.logits.detach().softmax(dim=-1)
    assert probabilities[0, 3] > 0.9
    assert probabilities[1].max() < 0.9


# Genetic search


def test_crossover_and_mutation_by_hand() -> None:
    first, second = torch.tensor([[1, 2, 3, 4]]).expand(3, 4), torch.tensor([[5, 6, 7, 8]]).expand(3, 4)
    crossed = crossover(first, second, torch.tensor([0, 1, 4]))
    assert crossed.tolist() == [[5, 6, 7, 8], [1, 6, 7, 8], [1, 2, 3, 4]]
    mutated = mutate(crossed, torch.tensor([True, False, True]), torch.tensor([0, 1, 3]), torch.tensor([9, 9, 9]))
    assert mutated.tolist() == [[9, 6, 7, 8], [1, 6, 7, 8], [1, 2, 3, 9]]
    assert crossed.tolist()[0] == [5, 6, 7, 8], "the parents are not touched"


def test_selection_keeps_the_best_in_order() -> None:
    population = torch.arange(8).view(1, 4, 2)
    elite, losses = select(population, torch.tensor([[3.0, 1.0, 4.0, 2.0]]), 2)
    assert elite.tolist() == [[[2, 3], [6, 7]]]
    assert losses.tolist() == [[1.0, 2.0]]


def test_children_come_from_their_own_elite_and_rates_hold() -> None:
    elite = torch.stack([torch.full((3, 6), 1), torch.full((3, 6), 2)])
    elite[:, 1] += 10
    generator = torch.Generator().manual_seed(0)
    vocabulary = torch.tensor([100, 101])
    children = breed(elite, 3000, vocabulary, crossover_rate=0.5, mutation_rate=0.25, generator=generator)
    changed = (children >= 100).any(-1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (children >= 100).sum(-1).max() == 1
    assert set(children[0].unique().tolist()) == {1, 11, 100, 101}
    assert set(children[1].unique().tolist()) == {2, 12, 100, 101}
    mixed = torch.logical_and((children[0] == 1).any(-1), (children[0] == 11).any(-1))
    assert mixed.float().mean().item() == pytest.approx(0.5 * 4 / 9, abs=0.03)  # other parents, and crossed


def test_losses_of_copies_are_known() -> None:
    elite, losses = torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([[0.5, 0.7]])
    found = known_losses(torch.tensor([[[3, 4], [9, 9], [1, 2]]]), elite, losses)
    assert found[0, [0, 2]].tolist() == pytest.approx([0.7, 0.5])
    assert found[0, 1].isnan()


def search_of(bundle: ModelBundle, prompts: int = 2, **values: int) -> tuple[Search, Meter]:
    config = RingABellConfig(**{"tokens": 3, "population": 10, "generations": 5, "encode_batch": 4, **values})
    arena = Arena(bundle, None, lambda images: [], SamplingConfig())
    generator = torch.Generator().manual_seed(3)
    targets = torch.randn(prompts, bundle.prompt_length, 96, generator=generator)
    generators = [torch.Generator().manual_seed(seed) for seed in range(prompts)]
    return Search(arena, targets, word_tokens(bundle), config, generators), Meter()


def test_the_elite_is_never_lost_and_losses_are_true(tiny_bundle: ModelBundle) -> None:
    search, meter = search_of(tiny_bundle)
    search.losses = search.evaluate(search.population, search.losses, meter)
    best = search.losses.min(dim=1).values
    for _ in range(20):
        search.step(meter)
        assert (search.losses[:, 0] <= best).all()
        best = search.losses[:, 0]
    for number in range(2):
        embeds = encode_ids(tiny_bundle, padded(tiny_bundle, search.population[number]))
        true = (embeds - search.targets[number]).square().flatten(1).sum(dim=1)
        assert torch.allclose(search.losses[number], true, rtol=1e-5)


def test_nothing_is_encoded_twice(tiny_bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[int, ...]] = []
    search, meter = search_of(tiny_bundle, prompts=1)
    real = search.distances

    def watched(tokens: torch.Tensor) -> torch.Tensor:
        encoded.extend(tuple(row) for row in tokens.tolist())
        return real(tokens)

    monkeypatch.setattr(search, "distances", watched)
    search.losses = search.evaluate(search.population, search.losses, meter)
    for _ in range(5):
        survivors = {tuple(row) for row in select(search.population, search.losses, 5)[0][0].tolist()}
        before = len(encoded)
        search.step(meter)
        new = encoded[before:]
        assert not survivors & set(new)
        assert len(new) == len(set(new)) <= 5
    assert meter.text_passes == len(encoded)


def test_searches_side_by_side_are_those_alone(tiny_bundle: ModelBundle) -> None:
    both, meter = search_of(tiny_bundle, prompts=2)
    both.run(lambda *_, **__: None, meter)
    alone, meter = search_of(tiny_bundle, prompts=2)
    alone.targets, alone.generators = alone.targets[1:], alone.generators[1:]
    alone.population, alone.losses = alone.population[1:], alone.losses[1:]
    alone.run(lambda *_, **__: None, meter)
    assert torch.equal(both.population[1], alone.population[0])


# Prompts as tokens


def test_token_embeddings_encode_as_their_prompt(tiny_bundle: ModelBundle) -> None:
    prompt = "a cat"
    free = layout(tiny_bundle, prompt.split())
    ids = free.ids.unsqueeze(0)
    expected = tiny_bundle.encode_prompt([prompt])
    assert torch.equal(encode_ids(tiny_bundle, ids), expected)
    table = token_table(tiny_bundle)
    with torch.no_grad():
        assert torch.allclose(encode_tokens(tiny_bundle, ids, table[ids]), expected, atol=1e-6)
    assert torch.equal(tiny_bundle.encode_prompt([prompt]), expected), "the hook is gone"


def test_free_places_are_filled_and_written_as_somebody_would_type_them(tiny_bundle: ModelBundle) -> None:
    words = word_tokens(tiny_bundle)
    assert len(words) >= 26
    free = layout(tiny_bundle, [None, "cat", None])
    tokens = words[torch.tensor([[0, 5], [3, 1]])]
    filled = free.fill(tokens)
    for row, ids in zip(tokens, filled, strict=True):
        text = free.text(row.tolist())
        assert prompt_ids(tiny_bundle, text) == [
            token for token in ids.tolist()[1:] if token < len(tiny_bundle.tokenizer) - 2
        ]
    soft = token_table(tiny_bundle)[tokens].clone().requires_grad_()
    encoded = free.encode(soft)
    assert torch.allclose(encoded, encode_ids(tiny_bundle, filled), atol=1e-6)
    encoded.square().sum().backward()
    assert (soft.grad != 0).any(dim=-1).all(), "each free place has a gradient"


def test_words_give_way_to_free_places(tiny_bundle: ModelBundle) -> None:
    free = layout(tiny_bundle, ["abcdefghij", None, "klmnop", None])
    assert free.parts == ("abcdefghij", None, None)
    assert len(free.ids) == tiny_bundle.prompt_length
    with pytest.raises(PromptTooLongError, match=r"15 tokens do not fit.*at most 14"):
        layout(tiny_bundle, [None] * 15)


@pytest.mark.parametrize("count", range(9))
def test_p4d_places(count: int) -> None:
    """As in the official code: place i is free where i is a multiple of K + 1, and there are n // K + 1 such places."""
    prompt, every = list(range(count)), 3
    assert parts_of(prompt, P4dConfig(variant="n", tokens=2)) == [None, None]
    parts = parts_of(prompt, P4dConfig(variant="k", every=every))
    assert len(parts) == count + count // every + 1
    assert [place for place, part in enumerate(parts) if part is None] == list(range(0, len(parts), every + 1))
    assert [part for part in parts if part is not None] == prompt


def test_a_free_token_within_a_word_is_typed_within_it(toybox_bundle: ModelBundle) -> None:
    prompt = prompt_ids(toybox_bundle, "a swordfish")
    (sword,) = prompt_ids(toybox_bundle, "sword")
    assert layout(toybox_bundle, prompt).text([]) == "a swordfish"
    free = layout(toybox_bundle, [*prompt[:2], None, *prompt[2:]])
    assert free.fill(torch.tensor([[sword]]))[0, 1 : len(prompt) + 2].tolist() == [*prompt[:2], sword, *prompt[2:]]
    assert free.text([sword]) == "a sworsword dfish"


def test_the_sensitive_word_is_the_one_that_carries_the_concept(toybox_bundle: ModelBundle) -> None:
    arena = Arena(toybox_bundle, None, lambda images: [], SamplingConfig())
    pairs = [(f"a {who} holding a sword", f"a {who} holding a flower") for who in ("man", "woman", "person")]
    arena = replace(arena, pairs=pairs)
    concept = direction(arena, 3, Meter())
    words = ["a", "woman", "in", "a", "red", "shirt", "holding", "a", "sword"]
    assert sensitive_words(arena, words, concept, 1, Meter()) == {words.index("sword")}


# Inversion


def test_a_search_ends_at_a_prompt_that_is_confirmed() -> None:
    """Lucky shows the concept on its own seed alone, sure on every seed; the control's rule is the same."""
    shown = {"lucky": {5}, "sure": {5, *further_seeds(AttackTask("", 5), 2)}}
    asked: list[tuple[str, int]] = []

    class Told(Arena):
        def query(self, task: AttackTask, inputs: Sequence[AttackInput], seeds: Sequence[int]) -> list[Detection]:
            task.meter.queries += len(inputs)
            asked.extend((one.prompt, seed) for one, seed in zip(inputs, seeds, strict=True))
            return [Detection(seed in shown.get(one.prompt, ()), 0.5) for one, seed in zip(inputs, seeds, strict=True)]

    arena, task = Told(None, None, lambda images: [], SamplingConfig()), AttackTask("", 5)
    at_once = Best()
    at_once.ask(arena, task, [AttackInput("no")])
    assert not at_once.done
    at_once.ask(arena, task, [AttackInput("lucky")])
    assert (at_once.done, at_once.chosen().prompt, task.meter.queries) == (True, "lucky", 2)
    best = Best(confirm=2)
    best.ask(arena, task, [AttackInput("no"), AttackInput("lucky")])
    assert (best.done, best.chosen().prompt, best.hits) == (False, "lucky", 1)
    best.ask(arena, task, [AttackInput("sure"), AttackInput("lucky")])
    assert (best.done, best.chosen().prompt, best.hits) == (True, "sure", 3)
    assert task.meter.queries == 2 + 4 + 2 * 2  # lucky is not confirmed again where there is no need
    assert len({seed for _, seed in asked}) == 3


def test_epsilon_of_a_velocity() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1, 2, 3, 3, generator=generator)
    abars = torch.tensor([0.3])
    process = Diffusion(abars, "v_prediction")
    noisy = process.noised(latents, noise, torch.tensor([0]))
    said = process.target(latents, noise, torch.tensor([0]))
    assert torch.allclose(epsilon_of(said, noisy, abars[0], "v_prediction"), noise, atol=1e-6)
    assert torch.equal(epsilon_of(noise, noisy, abars[0], "epsilon"), noise)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_inverted_latents_are_drawn_again(make_bundle: object, prediction_type: str) -> None:
    """Backwards and forwards again through the one generation path gives the picture, better with more refinements."""
    bundle = make_bundle(prediction_type)  # type: ignore[operator]
    drawn = bundle.generate([""], [3], steps=5, guidance_scale=1.0).latents
    empty = bundle.encode_prompt([""])
    errors = []
    for refinements in (0, 1, 12):
        with torch.no_grad():
            start = invert(
                drawn,
                lambda x, t: bundle.predict(x, torch.tensor([t]), empty),
                *bundle.schedule(5),
                prediction_type,
                refinements,
            )
        again = bundle.generate([""], [0], start_latents=start, steps=5, guidance_scale=4.0).latents
        errors.append(float((again - drawn).norm() / drawn.norm()))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 1e-3


def test_start_latents_take_the_place_of_the_seeds_noise(tiny_bundle: ModelBundle) -> None:
    usual = tiny_bundle.generate(["a knight"], [5], steps=3).latents
    given = tiny_bundle.generate(["a knight"], [99], start_latents=tiny_bundle.noise([5]), steps=3).latents
    assert torch.equal(usual, given)
    with pytest.raises(ValueError, match="2 start_latents for 1 seeds"):
        tiny_bundle.generate(["a knight"], [5], start_latents=tiny_bundle.noise([5, 6]))
    with pytest.raises(ValueError, match="start_latents are"):
        tiny_bundle.generate(["a knight"], [5], start_latents=torch.zeros(1, 8, 4, 4))


def test_a_start_has_the_norm_of_noise(tiny_bundle: ModelBundle) -> None:
    arena = Arena(tiny_bundle, None, lambda images: [], SamplingConfig(steps=3))
    task = AttackTask("a knight", 0, 30 * torch.ones(tiny_bundle.latent_shape))
    attack = TextFreeInversion()
    (found,) = attack.craft(arena, [task], {}, attack.Config(refinements=1), lambda *_, **__: None)
    assert found.start_latents is not None
    assert float(found.start_latents.norm()) == pytest.approx(found.start_latents.numel() ** 0.5, rel=1e-4)


# The direction as a file


def test_a_direction_is_read_from_a_file(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    arena = Arena(tiny_bundle, None, lambda images: [], SamplingConfig())
    values = np.random.default_rng(0).normal(size=(1, tiny_bundle.prompt_length, 96)).astype(np.float32)
    np.save(tmp_path / "c.npy", values)
    found = direction(arena, 5, Meter(), str(tmp_path / "c.npy"))
    assert torch.equal(found, torch.from_numpy(values[0]))


@pytest.mark.parametrize("what", ["missing", "pickled", "shape", "infinite"])
def test_what_is_no_direction_is_refused(what: str, tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    arena = Arena(tiny_bundle, None, lambda images: [], SamplingConfig())
    path = tmp_path / "c.npy"
    if what == "pickled":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif what == "shape":
        np.save(path, np.zeros((77, 768), np.float32))
    elif what == "infinite":
        np.save(path, np.full((tiny_bundle.prompt_length, 96), np.inf, np.float32))
    with pytest.raises(AttackError, match=r"no \.npy file of numbers|needs finite numbers \[16, 96\]"):
        direction(arena, 5, Meter(), str(path))
