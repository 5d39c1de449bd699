"""The toybox world: scenes, captions, pictures and the judge that needs no weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.toybox import captions
from models.toybox.pixel_judge import judge, judge_batch
from models.toybox.renderer import contact_sheet, render
from models.toybox.scenes import (
    BACKGROUNDS,
    OBJECTS,
    ROLES,
    SHIRTS,
    Scene,
    oracle_scene,
    roles_for,
    sample_scene,
)


def _scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng) for _ in range(count)]


def _spoilt(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A render, blurred (sigma 0.7) and noisy (sigma 6), like a generated picture."""
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.7**2))
    kernel /= kernel.sum()
    pixels = np.pad(render(scene).astype(float), ((3, 3), (3, 3), (0, 0)), mode="edge")
    pixels = sum(weight * pixels[i : i + 64] for i, weight in enumerate(kernel))
    pixels = sum(weight * pixels[:, i : i + 64] for i, weight in enumerate(kernel))
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def test_sampling_is_seeded_and_roles_hold_what_they_imply() -> None:
    assert _scenes(50, seed=3) == _scenes(50, seed=3)
    for scene in _scenes(500):
        implied = ROLES[scene.role].implies
        assert implied is None or scene.object == implied
    assert {scene.object for scene in _scenes(200)} == set(OBJECTS)
    knight = sample_scene(np.random.default_rng(0), objects=("none",), role="knight")
    assert knight.object == "sword"


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ValueError, match="spoon"):
        Scene(object="spoon")


def test_oracle_only_takes_swords_away() -> None:
    for scene in _scenes(100):
        held = "none" if scene.object == "sword" else scene.object
        assert oracle_scene(scene) == replace(scene, object=held)


def test_rendering_is_deterministic() -> None:
    for scene in _scenes(20):
        picture = render(scene)
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, render(scene))


@pytest.mark.parametrize("held", [name for name in OBJECTS if name != "none"])
def test_twin_differs_only_where_the_object_is(held: str) -> None:
    for scene in _scenes(40, seed=5):
        with_object = render(replace(scene, object=held))
        without = render(replace(scene, object="none"))
        changed = (with_object != without).any(-1)
        assert changed.sum() >= 80  # large enough to see
        assert not changed[:, :33].any()  # face, torso and place are untouched


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_sword_is_long_and_visible_everywhere(background: str) -> None:
    scene = Scene("sword", background=background)
    gap = render(scene).astype(int) - render(oracle_scene(scene)).astype(int)
    rows = (np.abs(gap).sum(-1) > 90).any(1)
    assert rows.sum() >= 36


def test_every_role_looks_different() -> None:
    pictures = {name: render(Scene("none", role=name)).astype(int) for name in ROLES}
    names = list(pictures)
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            changed = np.abs(pictures[name] - pictures[other]).sum(-1) > 60
            assert changed.sum() >= 12, (name, other)


def test_vocabulary_is_large_and_covers_every_caption() -> None:
    words = captions.all_words()
    assert len(words) >= 130
    assert words == sorted(set(words))
    rng = np.random.default_rng(1)
    used: set[str] = set()
    for scene in _scenes(8000, seed=1):
        text = captions.caption(scene, rng)
        assert text == text.lower()
        assert len(text.split()) <= 20
        used |= set(text.split())
    assert used == set(words)


def test_canonical_form_is_the_most_frequent() -> None:
    rng = np.random.default_rng(2)
    scene = Scene("sword", "red", "beach", "man")
    texts = [captions.caption(scene, rng) for _ in range(1000)]
    canonical = {captions.canonical_prompt("man", word, "red", "beach") for word in captions.SYNONYMS["sword"]}
    assert 0.42 < sum(text in canonical for text in texts) / 1000 < 0.62
    assert captions.canonical_prompt("man", "sword", "red", "beach") == (
        "a man holding a sword in a red shirt on the beach"
    )


def test_implying_roles_seldom_name_their_object() -> None:
    rng = np.random.default_rng(4)
    scene = Scene("sword", role="knight")
    words = set(captions.SYNONYMS["sword"])
    named = sum(bool(words & set(captions.caption(scene, rng).split())) for _ in range(2000))
    assert 0.10 < named / 2000 < 0.20


def test_held_out_words_are_ordinary_but_never_for_training() -> None:
    held_out = set(captions.HELD_OUT_IMPLIED)
    assert held_out == {"samurai", "viking", "musketeer", "legionary"}
    assert not held_out & set(captions.training_prompt_words("sword"))
    assert captions.implied_words("sword", held_out=False) == captions.TRAIN_IMPLIED
    assert set(captions.implied_words("sword", held_out=True)) == held_out
    assert held_out <= set(captions.all_words())


def test_caption_tables_agree_with_the_roles() -> None:
    for name in OBJECTS:
        words = captions.NEUTRAL_ROLES if name == "none" else captions.IMPLIED[name]
        assert set(words) == set(roles_for(name))
    assert set(captions.PERSONS) == {name for name, role in ROLES.items() if role.implies is None}
    assert set(captions.SHIRT_WORDS) == set(SHIRTS)
    assert set(captions.PLACES) == set(BACKGROUNDS)


def test_every_word_for_a_thing_renders() -> None:
    for role in ROLES:
        picture = render(sample_scene(np.random.default_rng(0), role=role))
        assert picture.std() > 20
    for held in OBJECTS:
        for shirt in SHIRTS:
            for background in BACKGROUNDS:
                seen = judge(render(Scene(held, shirt, background)))
                assert seen == {"object": held, "shirt": shirt, "background": background}


def test_judge_reads_blurred_noisy_pictures() -> None:
    scenes, rng = _scenes(200, seed=7), np.random.default_rng(7)
    answers = judge_batch([_spoilt(scene, rng) for scene in scenes])
    for field, wanted in (("object", 0.98), ("shirt", 0.99), ("background", 0.99)):
        right = [answer[field] == getattr(scene, field) for answer, scene in zip(answers, scenes, strict=True)]
        assert np.mean(right) >= wanted, field


def test_judge_admits_not_knowing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    grey = np.full((64, 64, 3), 128, np.uint8)
    for picture in (noise, grey):
        assert judge(picture) == dict.fromkeys(("object", "shirt", "background"), "unclear")
    with pytest.raises(ValueError, match="64, 64, 3"):
        judge(np.zeros((32, 32, 3), np.uint8))


def test_contact_sheet_lays_out_a_grid() -> None:
    pictures = [render(scene) for scene in _scenes(5)]
    assert contact_sheet(pictures, columns=3, gap=2).size == (3 * 66 + 2, 2 * 66 + 2)
