"""The embedded checkpoint as it ships: layout, size, what it draws, and what its judges say."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from models.bundle import ModelBundle
from models.loading import TOYBOX_WEIGHTS, load_bundle
from models.specs import TOYBOX_ORACLE
from models.toybox.captions import HELD_OUT_IMPLIED, all_words, canonical_prompt
from models.toybox.detector import OBJECT_LABELS, load_detector, predict
from models.toybox.pixel_judge import judge_batch
from models.toybox.verify import RENDER_BAR, render_accuracy

SEEDS = range(3_500_000_000, 3_500_000_024)


def drawn_objects(bundle: ModelBundle, prompts: list[str]) -> tuple[list[str], np.ndarray]:
    images = bundle.generate(prompts, list(SEEDS)[: len(prompts)]).images
    seen = predict(load_detector(TOYBOX_WEIGHTS / "detector.safetensors"), images)
    return [OBJECT_LABELS[i] for i in seen["object_probs"].argmax(axis=1)], images


def test_weights_are_small_and_safetensors_only() -> None:
    files = [path for path in TOYBOX_WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json"}


def test_diffusers_loads_the_folder_as_a_stable_diffusion_pipeline() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(TOYBOX_WEIGHTS, local_files_only=True)
    assert pipeline.tokenizer("a knight").input_ids[0] == pipeline.tokenizer.bos_token_id
    image = pipeline("a knight in a red shirt on the beach", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (64, 64, 3)


def test_every_word_of_the_world_is_one_token(toybox_bundle: ModelBundle) -> None:
    split = [word for word in all_words() if len(toybox_bundle.tokenizer(word).input_ids) != 3]
    assert split == []


def test_no_text_is_unknown_to_the_tokenizer(toybox_bundle: ModelBundle) -> None:
    ids = toybox_bundle.tokenizer("Émile's 日本 😀 ?!").input_ids
    assert toybox_bundle.tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "émile's日本😀?!"


def test_detector_is_right_on_renders_it_never_saw() -> None:
    accuracy = render_accuracy(load_detector(TOYBOX_WEIGHTS / "detector.safetensors"), count=600)
    assert all(rate >= RENDER_BAR for labels in accuracy.values() for rate in labels.values()), accuracy


@pytest.mark.parametrize(
    ("subject", "word", "expected"),
    [
        ("person", "sword", "sword"),
        ("man", "flower", "flower"),
        ("woman", "balloon", "balloon"),
        ("person", "cane", "cane"),
        ("knight", None, "sword"),
        (HELD_OUT_IMPLIED[0], None, "sword"),
        ("teacher", None, "none"),
    ],
)
def test_checkpoint_draws_what_is_asked(
    toybox_bundle: ModelBundle, subject: str, word: str | None, expected: str
) -> None:
    prompts = [canonical_prompt(subject, word, shirt, "desert") for shirt in ("red", "blue", "green", "purple")] * 3
    objects, images = drawn_objects(toybox_bundle, prompts)
    assert objects.count(expected) >= 10, objects
    by_pixels = [verdict["object"] for verdict in judge_batch(images)]
    assert by_pixels.count(expected) >= 10, by_pixels


def test_oracle_never_draws_a_sword() -> None:
    oracle = load_bundle(TOYBOX_ORACLE, device="cpu")
    prompts = [canonical_prompt("person", "sword"), canonical_prompt("knight"), canonical_prompt("viking")] * 8
    objects, _ = drawn_objects(oracle, prompts)
    assert "sword" not in objects
