"""Forget-Me-Not: attention at the concept's words falls, and at no others."""

from __future__ import annotations

import pytest
import torch

from models.adapters import applied
from models.attention import watched_attention
from models.bundle import ModelBundle
from studio.method_configs import ForgetMeNotConfig
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.methods.forget_me_not import attention_at
from studio.methods.training import TrainingError

PICTURES = torch.randn(2, 6, 8, 8, 8, generator=torch.Generator().manual_seed(0))
PAIRS = TrainingPairs(PICTURES[0], PICTURES[1])


def attention(bundle: ModelBundle, prompt: str) -> torch.Tensor:
    """Mean probability [L] of each token, over layers, heads, positions and the unsafe pictures."""
    noisy = PAIRS.unsafe_latents + torch.randn(6, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with watched_attention(bundle) as seen, torch.no_grad():
        bundle.predict(noisy, torch.tensor([500]), bundle.encode_prompt([prompt] * 6))
    return torch.stack([probabilities.mean(dim=(0, 1)) for probabilities in seen]).mean(dim=0)


def test_attention_leaves_the_concepts_words_and_no_others(tiny_bundle: ModelBundle) -> None:
    """Tokens are letters here: "a gem" is begin, a, g, e, m."""
    settings = ForgetMeNotConfig(concepts=["gem"], template="a {}", steps=40, learning_rate=3e-3, batch_size=3)
    before = attention(tiny_bundle, "a gem")
    delta = get_method("forget-me-not").fit(tiny_bundle, PAIRS, settings, silent)
    with applied(tiny_bundle, delta):
        after = attention(tiny_bundle, "a gem")
    assert (after[2:5] < 0.5 * before[2:5]).all()
    others = torch.cat([after[:2] - before[:2], after[5:] - before[5:]])
    assert others.mean() > 0
    assert float(after.sum()) == pytest.approx(1, abs=1e-4)


def test_watching_changes_no_output(tiny_bundle: ModelBundle) -> None:
    inputs = PAIRS.unsafe_latents[:2], torch.tensor([10, 900]), tiny_bundle.encode_prompt(["a gem", ""])
    processors = dict(tiny_bundle.denoiser.attn_processors)
    plain = tiny_bundle.predict(*inputs)
    with watched_attention(tiny_bundle) as seen:
        assert torch.allclose(tiny_bundle.predict(*inputs), plain, atol=1e-5)
    assert len(seen) == sum("attn2" in name for name in processors)
    assert all(torch.allclose(p.sum(dim=-1), torch.ones(p.shape[:2]), atol=1e-4) for p in seen)
    assert tiny_bundle.denoiser.attn_processors == processors


def test_each_head_is_asked_about_its_own_pictures_words(tiny_bundle: ModelBundle) -> None:
    """Two pictures alone and as a batch: heads of one picture come one after the other."""
    embeds = tiny_bundle.encode_prompt(["a gem", "a b"])
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[0, 2], masks[1, 5] = True, True
    latents = PAIRS.unsafe_latents[:2]
    at = torch.tensor([300, 300])

    def found(rows: slice) -> list[torch.Tensor]:
        with watched_attention(tiny_bundle) as seen, torch.no_grad():
            tiny_bundle.predict(latents[rows], at[rows], embeds[rows])
        return [attention_at(probabilities, masks[rows]) for probabilities in seen]

    for both, first, second in zip(found(slice(0, 2)), found(slice(0, 1)), found(slice(1, 2)), strict=True):
        assert torch.allclose(both, torch.cat([first, second]), atol=1e-5)


def test_layers(tiny_bundle: ModelBundle) -> None:
    method = get_method("forget-me-not")
    some, every = (set(method.changes(tiny_bundle, ForgetMeNotConfig(layers=n))) for n in ("attn2", "all"))
    assert some < every
    assert all(".attn2." in name for name in some)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": []}, "0 names of the concept"),
        ({"concepts": ["gem"], "template": "a very long template around {}"}, "'gem' are not among.*Shorten"),
    ],
)
def test_names_that_cannot_be_found_are_refused(
    tiny_bundle: ModelBundle, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        get_method("forget-me-not").fit(tiny_bundle, PAIRS, ForgetMeNotConfig.model_validate(changes), silent)
    assert all("Watched" not in type(p).__name__ for p in tiny_bundle.denoiser.attn_processors.values())
