"""Coverage of prompts and near-duplicates: hashes by hand, groups against every comparison, pictures read lazily."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.duplicates import difference_hash, groups, looks
from studio.images import put_image
from studio.records import Coverage, ImagePair, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui.quality_routes import quality_routes
from tests.curation_data import add_pairs


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    return add_pairs(store, settings, project, 6)


@pytest.fixture
def client(settings: Settings, store: Store) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=quality_routes(settings, store))) as client:
        yield client


# -- hashes and groups -------------------------------------------------------------------------------------------------


def test_a_difference_hash_by_hand() -> None:
    """9 x 8 grey pixels: the first row falls, the second rises, the others are even."""
    grey = np.full((8, 9), 100, dtype=np.uint8)
    grey[0] = range(250, 160, -10)
    grey[1] = range(160, 250, 10)
    picture = np.repeat(grey[..., None], 3, axis=2)
    assert difference_hash(picture) == 0xFF << 56
    assert difference_hash(255 - picture) == 0xFF << 48


def test_a_hash_hardly_changes_with_size_brightness_and_compression(tmp_path: object) -> None:
    from io import BytesIO

    colours = np.random.default_rng(1).integers(0, 200, (6, 6, 3)).astype(np.uint8)
    picture = Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC)
    other = Image.fromarray(colours[::-1]).resize((96, 96), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=60)
    same = [picture.resize((40, 40)), Image.fromarray(np.asarray(picture) // 2 + 40), Image.open(buffer)]
    distances = [(difference_hash(picture) ^ difference_hash(one)).bit_count() for one in same]
    assert max(distances) <= 4
    assert (difference_hash(picture) ^ difference_hash(other)).bit_count() > 16


@pytest.mark.parametrize("within", [0, 1, 3, 8])
def test_groups_are_those_of_comparing_all_with_all(within: int) -> None:
    chance = random.Random(within)
    centres = [chance.getrandbits(128) for _ in range(12)]
    hashes = []
    for _ in range(150):
        value = chance.choice(centres)
        for bit in chance.sample(range(128), chance.randint(0, 6)):
            value ^= 1 << bit
        hashes.append(value)
    hashes += [chance.getrandbits(128) for _ in range(50)]
    linked = {n: {n} for n in range(len(hashes))}
    for a, b in combinations(range(len(hashes)), 2):
        if (hashes[a] ^ hashes[b]).bit_count() <= within and linked[a] is not linked[b]:
            linked[a] |= linked[b]
            for n in linked[b]:
                linked[n] = linked[a]
    expected = sorted(
        {tuple(sorted(group)) for group in linked.values() if len(group) > 1}, key=lambda g: (-len(g), g[0])
    )
    assert groups([f"{one:032x}" for one in hashes], within) == [list(group) for group in expected]
    assert within == 0 or len(expected) > 2


def test_no_pictures_no_groups() -> None:
    assert groups([], 5) == []


# -- in the store and over HTTP ----------------------------------------------------------------------------------------


def test_duplicates_are_found_once_pictures_were_looked_at(
    client: TestClient, store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    copy = ImagePair(
        "", project.id, pairs[0].prompt_pair_id, 77, 1, "ready", pairs[0].unsafe_image, pairs[0].safe_image
    )
    copy = store.add_image_pair(copy)
    lost = store.add_image_pair(
        ImagePair("", project.id, pairs[0].prompt_pair_id, 78, 1, "ready", "ab" * 32, "cd" * 32)
    )
    assert store.count_without_looks(project.id) == 8
    answer = client.get(f"/studio/quality/{project.id}/duplicates", params={"within": 2}).json()
    assert (answer["left"], answer["number"], answer["pairs"]) == (0, 1, 2)
    (group,) = answer["groups"]
    assert list(group["versions"]) == [pairs[0].id, copy.id]
    assert [pair["id"] for pair in group["pairs"]] == [pairs[0].id, copy.id]
    assert store.get_image_pair(pairs[1].id).looks == looks(*(_picture(settings, n) for n in _names(pairs[1])))
    assert "-" in store.get_image_pair(lost.id).looks
    store.add_verdict(Verdict("", copy.id, "Ann", "reject"))
    assert client.get(f"/studio/quality/{project.id}/duplicates").json()["number"] == 0


def test_new_pictures_are_looked_at_anew(
    store: Store, settings: Settings, project: Project, pairs: list[ImagePair]
) -> None:
    store.keep_looks([(pair, "0" * 32) for pair in pairs])
    assert store.count_without_looks(project.id) == 0
    name = put_image(settings, np.zeros((8, 8, 3), np.uint8))
    changed = store.update_image_pair(pairs[0].id, safe_image=name)
    assert changed.looks == ""
    store.keep_looks([(pairs[0], "f" * 32)])  # of the pictures from before
    assert store.get_image_pair(pairs[0].id).looks == ""
    told = store.update_image_pair(pairs[1].id, safe_image=name, looks="a" * 32)
    assert told.looks == "a" * 32


def test_coverage_counts_each_prompts_pairs(
    client: TestClient, store: Store, project: Project, pairs: list[ImagePair]
) -> None:
    (none,) = store.add_prompt_pairs([PromptPair("", project.id, "a king", "a cook", 0)])
    for pair in pairs[::2]:
        store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
    store.add_verdict(Verdict("", pairs[1].id, "Ann", "reject"))
    store.add_image_pair(ImagePair("", project.id, pairs[1].prompt_pair_id, 9, 1, "failed", reason="x"))
    knight, pirate, king = store.coverage(project.id)
    assert knight == Coverage(knight.prompts, ready=3, accepted=3)
    assert pirate == Coverage(pirate.prompts, ready=3, failed=1, rejected=1)
    assert king == Coverage(none)
    answer = client.get(f"/studio/quality/{project.id}/coverage").json()
    assert [row["unsafe"] for row in answer["rows"]] == ["a pirate at night", "a knight on the beach", "a king"]
    assert answer["numbers"] == {"prompts": 3, "full": 2, "none": 1, "accepted": 3, "wanted": 6}
    first = client.get(f"/studio/quality/{project.id}/coverage", params={"order": "table", "limit": 1}).json()
    assert (first["rows"][0]["unsafe"], first["more"]) == ("a knight on the beach", True)
    assert first["rows"][0] | {"id": ""} == {
        "id": "", "unsafe": "a knight on the beach", "safe": "a gardener on the beach", "wanted": 3, "accepted": 3,
        "rejected": 0, "undecided": 0, "failed": 0,
    }  # fmt: skip


def _names(pair: ImagePair) -> tuple[str, str]:
    return pair.unsafe_image, pair.safe_image


def _picture(settings: Settings, name: str) -> np.ndarray:
    from studio.images import read_image

    return read_image(settings, name)
