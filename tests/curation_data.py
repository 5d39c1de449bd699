"""Pairs to judge: made-up pictures with a score each, of two prompt pairs in turn."""

from __future__ import annotations

import numpy as np

from studio.care import notice_version
from studio.images import put_image
from studio.records import ImagePair, Project, PromptPair
from studio.settings import Settings
from studio.store import Store

SIDE = 48


def add_pairs(store: Store, settings: Settings, project: Project, count: int) -> list[ImagePair]:
    """`count` ready pairs with pictures of noise, so that each differs from all others in every detail."""
    half = (count + 1) // 2
    prompts = store.add_prompt_pairs(
        [
            PromptPair("", project.id, "a knight on the beach", "a gardener on the beach", half),
            PromptPair("", project.id, "a pirate at night", "a sailor at night", half, seed=100),
        ]
    )
    random = np.random.default_rng(0)
    pairs = []
    for number in range(count):
        unsafe, safe = random.integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
        pair = ImagePair(
            id="",
            project_id=project.id,
            prompt_pair_id=prompts[number % 2].id,
            index=number // 2,
            seed=number,
            state="ready",
            unsafe_image=put_image(settings, unsafe),
            safe_image=put_image(settings, safe),
            strength=0.7,
            tries=1,
            unsafe_score=0.6 + 0.05 * (number * 7 % 5),
            safe_score=0.01 * number,
        )
        pairs.append(store.add_image_pair(pair))
    return pairs


def agree(store: Store, project: Project, *names: str) -> None:
    """These reviewers have read the project's notice and agreed."""
    for name in names:
        store.agree(project.id, name, notice_version(project.concept, project.notice))
