"""UCE and RECE against direct solutions of the problems they state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.adapters import applied
from models.bundle import ModelBundle
from studio.method_configs import ReceConfig, UceConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.rece import derived_embeddings, gram_of
from studio.methods.tokens import last_content_embeddings, token_ids, word_positions
from studio.methods.training import TrainingError
from studio.methods.uce import Words, solve_edit, warnings_of

NONE = TrainingPairs(torch.empty(0, 8, 8, 8), torch.empty(0, 8, 8, 8))


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def least_squares(
    w0: torch.Tensor, words: Words, config: UceConfig, before: torch.Tensor | None = None
) -> torch.Tensor:
    """The minimiser over W [out, D], from stacked rows: no normal equations."""
    c, g, r = words.concepts, words.guides, words.preserved
    e, p, lam = (x**0.5 for x in (config.erase_scale, config.preserve_scale, config.ridge))
    rows = torch.cat([e * c, p * r, lam * torch.eye(c.shape[1], dtype=c.dtype)])
    wanted = torch.cat([e * g @ w0.T, p * r @ w0.T, lam * (w0 if before is None else w0 @ before).T])
    return torch.linalg.lstsq(rows, wanted).solution.T


@pytest.mark.parametrize("preserved", [0, 3])
def test_uce_solves_its_least_squares_problem(preserved: int) -> None:
    config = UceConfig(erase_scale=2.0, preserve_scale=0.7, ridge=0.3)
    words = Words(random(2, 12, seed=0), random(2, 12, seed=1), random(preserved, 12, seed=2))
    w0, before = random(5, 12, seed=3), random(12, 12, seed=4)
    assert torch.allclose(w0 @ solve_edit(words, config).matrix, least_squares(w0, words, config), atol=1e-10)
    assert torch.allclose(
        w0 @ solve_edit(words, config, before).matrix, least_squares(w0, words, config, before), atol=1e-10
    )


def test_uce_edits_every_matrix_by_that_solution(tiny_bundle: ModelBundle) -> None:
    uce, config = get_method("uce"), UceConfig(concepts=["a sword"], guides=["a flower"], preserve=["a cane"])
    delta = uce.fit(tiny_bundle, NONE, config, silent)
    words = Words(*(last_content_embeddings(tiny_bundle, [text]) for text in ("a sword", "a flower", "a cane")))
    weights = dict(tiny_bundle.denoiser.named_parameters())
    assert list(delta.tensors) == uce.changes(tiny_bundle, config)
    for name, change in delta.tensors.items():
        expected = least_squares(weights[name].double(), words, config)
        assert torch.allclose(weights[name].double() + change, expected, atol=1e-5)


@pytest.mark.parametrize("guide", ["", "a person"])
def test_uce_makes_the_word_mean_its_guide_and_holds_what_is_preserved(tiny_bundle: ModelBundle, guide: str) -> None:
    """With weights far above the ridge: W c is W0 g, W r is W0 r."""
    config = UceConfig(concepts=["sword"], guides=[guide] if guide else [], preserve=["cane"], erase_scale=1e4)
    config = config.model_copy(update={"preserve_scale": 1e4})
    name = get_method("uce").changes(tiny_bundle, config)[0]
    c, g, r = last_content_embeddings(tiny_bundle, ["sword", guide, "cane"]).float()
    weight = dict(tiny_bundle.denoiser.named_parameters())[name]
    meant, kept = weight @ g, weight @ r
    before = weight.detach() @ c
    with applied(tiny_bundle, get_method("uce").fit(tiny_bundle, NONE, config, silent)):
        assert torch.allclose(weight @ c, meant, atol=1e-2)
        assert torch.allclose(weight @ r, kept, atol=1e-2)
    assert not torch.allclose(before, meant, atol=1e-1)


def test_uce_debiases_by_attributes_beside_the_word_itself(tiny_bundle: ModelBundle) -> None:
    config = UceConfig(concepts=["cook", "poet"], attributes=["woman=0.4", "man"], preserve=["cane"])
    words = Words.of(tiny_bundle, config, "UCE")
    cook, poet, woman, man = last_content_embeddings(tiny_bundle, ["cook", "poet", "woman", "man"])
    assert torch.allclose(words.guides, torch.stack([cook, poet]) + 0.4 * woman + man)
    guided = Words.of(tiny_bundle, config.model_copy(update={"guides": ["poet"]}), "UCE")
    assert torch.allclose(guided.guides, (poet + 0.4 * woman + man).expand(2, -1))
    w0 = random(5, len(cook), seed=3)
    assert torch.allclose(w0 @ solve_edit(words, config).matrix, least_squares(w0, words, config), atol=1e-8)
    for wrong in ("=0.4", "woman=much", "woman=inf"):
        with pytest.raises(TrainingError, match="no word with a weight"):
            Words.of(tiny_bundle, config.model_copy(update={"attributes": [wrong]}), "UCE")


def test_uce_warns_of_an_edit_that_is_not_sound(tiny_bundle: ModelBundle) -> None:
    said: list[str] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        said.append(message)

    mild = get_method("uce").fit(tiny_bundle, NONE, UceConfig(concepts=["sword"], ridge=1000), report)
    assert "Edited 8 matrices" in said[-1]
    assert "Warning" not in said[-1]
    assert "warnings" not in mild.metadata
    harsh = get_method("uce").fit(tiny_bundle, NONE, UceConfig(concepts=["sword"], erase_scale=1e6), report)
    assert "condition number" in said[-1]
    assert "condition number" in harsh.metadata["warnings"]
    assert float(harsh.metadata["condition"]) > 1e6
    assert 0 < float(mild.metadata["change"]) < float(harsh.metadata["change"])
    assert "break every picture" in warnings_of(10, 0.9)[0]
    assert len(warnings_of(float("nan"), float("inf"))) == 2


@pytest.mark.parametrize("method", ["uce", "rece"])
def test_words_that_do_not_fit_are_refused(tiny_bundle: ModelBundle, method: str) -> None:
    config = get_method(method).Config
    with pytest.raises(TrainingError, match="0 names of the concept"):
        get_method(method).fit(tiny_bundle, NONE, config(), silent)
    with pytest.raises(TrainingError, match="2 guides for 3 names"):
        get_method(method).fit(tiny_bundle, NONE, config(concepts=list("abc"), guides=list("de")), silent)


def test_uce_works_on_a_half_precision_model(make_bundle: Callable[..., ModelBundle]) -> None:
    bundle = make_bundle(dtype=torch.bfloat16)
    delta = get_method("uce").fit(bundle, NONE, UceConfig(concepts=["sword"]), silent)
    assert {tensor.dtype for tensor in delta.tensors.values()} == {torch.float32}


# RECE


def test_derived_embeddings_solve_their_least_squares_problem() -> None:
    weights, edit, concepts = random(3, 6, 10, seed=0), random(10, 10, seed=1), random(2, 10, seed=2)
    gram = sum(weight.T @ weight for weight in weights)
    rows = torch.cat([*(weight @ edit for weight in weights), 0.2**0.5 * torch.eye(10, dtype=torch.float64)])
    wanted = torch.cat([*(weight @ concepts.T for weight in weights), torch.zeros(10, 2, dtype=torch.float64)])
    expected = torch.linalg.lstsq(rows, wanted).solution.T
    assert torch.allclose(derived_embeddings(concepts, edit, gram, 0.2), expected, atol=1e-9)


def test_rece_without_rounds_is_uce(tiny_bundle: ModelBundle) -> None:
    config = ReceConfig(concepts=["a sword"], rounds=0)
    uce = UceConfig(concepts=["a sword"], preserve_scale=config.preserve_scale, ridge=config.ridge)
    ours, theirs = (get_method(n).fit(tiny_bundle, NONE, c, silent) for n, c in (("rece", config), ("uce", uce)))
    assert all(torch.equal(ours.tensors[name], tensor) for name, tensor in theirs.tensors.items())


def test_rece_takes_away_what_could_bring_the_concept_back(tiny_bundle: ModelBundle) -> None:
    """The best embedding an adversary could find comes less close to the concept than it did after UCE."""
    words = Words(
        *(last_content_embeddings(tiny_bundle, [text]) for text in ("sword", "")), torch.empty(0, 96).double()
    )
    gram, config = gram_of(tiny_bundle), ReceConfig()
    left, edit = [], solve_edit(words, config)
    for _ in range(4):
        derived = derived_embeddings(words.concepts, edit.matrix, gram, config.derive_ridge)
        missed = derived @ edit.matrix.T - words.concepts
        left.append(float((missed @ gram * missed).sum() + config.derive_ridge * derived.square().sum()))
        edit = solve_edit(Words(derived, words.guides, words.preserved), config, before=edit.matrix)
    assert all(later > 1.2 * left[0] for later in left[1:])


def test_rece_holds_what_it_erased_or_says_that_it_came_back(tiny_bundle: ModelBundle) -> None:
    """By the distance of the name's keys and values to its guide's, measured in the network itself."""
    c, g = last_content_embeddings(tiny_bundle, ["sword", ""]).float()
    names = get_method("rece").changes(tiny_bundle, ReceConfig())

    def distance(value: torch.Tensor) -> float:
        weights = dict(tiny_bundle.denoiser.named_parameters())
        found = torch.cat([weights[name] @ value - meant for name, meant in zip(names, guides, strict=True)])
        return float(found.detach().norm())

    guides = [dict(tiny_bundle.denoiser.named_parameters())[name].detach() @ g for name in names]
    before = distance(c)
    for keep in (True, False):
        config = ReceConfig(concepts=["sword"], rounds=4, keep_erased=keep)
        delta = get_method("rece").fit(tiny_bundle, NONE, config, silent)
        with applied(tiny_bundle, delta):
            assert distance(c) / before == pytest.approx(float(delta.metadata["left"]), rel=1e-3, abs=1e-4)
        assert (float(delta.metadata["left"]) < 0.1) == keep
        assert ("is left" in delta.metadata.get("warnings", "")) == (float(delta.metadata["left"]) > 0.5)


# Tokens


def test_last_content_token_and_positions_of_words(tiny_bundle: ModelBundle) -> None:
    ids, lengths = token_ids(tiny_bundle, ["", "cane"])
    assert ids.shape == (2, 16)
    assert lengths.tolist() == [2, 6]  # one token a letter
    embeds = tiny_bundle.encode_prompt(["", "cane"]).double()
    assert torch.equal(last_content_embeddings(tiny_bundle, ["", "cane"]), torch.stack([embeds[0, 0], embeds[1, 4]]))
    mask = word_positions(tiny_bundle, "a cane, a cane", "cane")
    assert mask.nonzero().flatten().tolist() == [2, 3, 4, 5, 8, 9, 10, 11]
    assert word_positions(tiny_bundle, "cane", "cane", end_tokens=True).nonzero().flatten().tolist() == list(
        range(1, 16)
    )
    with pytest.raises(ValueError, match="'sword' are not among the first 16"):
        word_positions(tiny_bundle, "a very long prompt with a sword", "sword")
