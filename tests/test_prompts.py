"""Prompts of the embedded checkpoint: held-out words stay out, twins keep what they must, seeds never meet."""

from __future__ import annotations

from collections import Counter

import pytest

from models.toybox.captions import HELD_OUT_IMPLIED, SYNONYMS, TRAIN_IMPLIED, all_words
from models.toybox.scenes import BACKGROUNDS, SHIRTS
from studio import prompts
from studio.prompts import concept_prompts, evaluation_items, first_seed, pair_prompts


def words(text: str) -> set[str]:
    return set(text.split())


def shirt_and_place(text: str) -> str:
    return text[text.index(" shirt ") - 8 :].split(" ", 1)[1]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_held_out_words_are_in_no_pair_and_no_concept_prompt(seed: int) -> None:
    shown = [text for pair in pair_prompts(300, seed) for text in (pair.unsafe, pair.safe)] + concept_prompts()
    assert not set(HELD_OUT_IMPLIED) & set().union(*map(words, shown))


def test_every_word_is_known_to_the_checkpoint() -> None:
    texts = [pair.unsafe + " " + pair.safe for pair in pair_prompts(300, 0)]
    texts += [item.prompt for item in evaluation_items(200, 0)] + concept_prompts()
    assert set().union(*map(words, texts)) <= set(all_words()) | {"shirt"}


def test_pairs_use_every_word_and_vary_the_twin() -> None:
    pairs = pair_prompts(96, 0)
    concept = set(SYNONYMS["sword"]) | set(TRAIN_IMPLIED)
    assert all(words(pair.unsafe) & concept and not words(pair.safe) & concept for pair in pairs)
    assert set().union(*(words(pair.unsafe) & concept for pair in pairs)) == concept
    unsafe_words = Counter(next(iter(words(pair.unsafe) & concept)) for pair in pairs)
    assert max(unsafe_words.values()) - min(unsafe_words.values()) <= 2
    holding_nothing = sum("holding" not in pair.safe for pair in pairs)
    assert len(pairs) / 3 < holding_nothing < len(pairs)  # a third has empty hands; some roles imply their object


def test_a_twin_keeps_shirt_background_and_a_named_person() -> None:
    for pair in pair_prompts(200, 3):
        assert shirt_and_place(pair.unsafe) == shirt_and_place(pair.safe)
        if "holding" in pair.unsafe:
            assert pair.unsafe.split()[:2] == pair.safe.split()[:2]


def test_the_seed_decides_the_pairs() -> None:
    assert pair_prompts(50, 1) == pair_prompts(50, 1) != pair_prompts(50, 2)


def test_each_cell_has_n_items_with_what_is_expected() -> None:
    items = evaluation_items(200, 0)
    assert Counter(item.cell for item in items) == dict.fromkeys(
        (*prompts.CONCEPT_CELLS, *prompts.RETENTION_CELLS), 200
    )
    by_cell = {cell: [item for item in items if item.cell == cell] for cell in prompts.CONCEPT_CELLS}
    assert all(words(item.prompt) & set(SYNONYMS["sword"]) for item in by_cell["named"])
    assert {next(iter(words(item.prompt) & set(TRAIN_IMPLIED))) for item in by_cell["implied"]} == set(TRAIN_IMPLIED)
    assert all(words(item.prompt) & set(HELD_OUT_IMPLIED) for item in by_cell["held_out"])
    for item in items:
        assert f"in a {item.expected['shirt']} shirt" in item.prompt.replace(" an ", " a ")
        assert item.expected["shirt"] in SHIRTS
        assert item.expected["background"] in BACKGROUNDS


def test_retention_cells_never_ask_for_the_concept() -> None:
    items = [item for item in evaluation_items(200, 0) if item.cell in prompts.RETENTION_CELLS]
    concept = {*SYNONYMS["sword"], *TRAIN_IMPLIED, *HELD_OUT_IMPLIED}
    assert not concept & set().union(*(words(item.prompt) for item in items))
    objects = Counter(item.expected["object"] for item in items)
    assert objects["cane"] == 200
    assert set(objects) == {"cane", "flower", "balloon", "none"}
    assert min(objects.values()) >= 60


def test_a_cell_covers_all_shirts_and_backgrounds_evenly() -> None:
    named = [item for item in evaluation_items(72, 0) if item.cell == "named"]
    assert set(Counter((item.expected["shirt"], item.expected["background"]) for item in named).values()) == {2}


def test_picture_seeds_are_distinct_and_ranges_never_meet() -> None:
    report, sweep = evaluation_items(200, 999), evaluation_items(200, 999, purpose="sweep")
    attack = evaluation_items(200, 999, purpose="attack")
    assert len({item.seed for item in report}) == len(report)
    assert max(item.seed for item in sweep) < prompts.SEED_BASES["report"]
    assert first_seed("pairs", 999) + prompts.SEEDS_A_RUN <= prompts.SEED_BASES["sweep"]
    assert max(item.seed for item in report) < prompts.SEED_BASES["attack"]
    assert max(item.seed for item in attack) < 2**32


def test_runs_share_no_picture_seed() -> None:
    assert not {item.seed for item in evaluation_items(200, 1)} & {item.seed for item in evaluation_items(200, 2)}


def test_too_many_pictures_a_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="n is 300000"):
        evaluation_items(300_000, 0)
