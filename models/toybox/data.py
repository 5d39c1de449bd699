"""Rendered scenes kept in memory, with captions drawn anew at every visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.toybox.captions import caption
from models.toybox.renderer import render
from models.toybox.scenes import Scene, oracle_scene, sample_scene


@dataclass(frozen=True)
class SceneBank:
    """Scenes and their pictures, uint8 [N, 64, 64, 3].

    In the oracle's bank the captions still speak of the original scenes: a caption may name a sword, the
    picture never shows one.
    """

    scenes: list[Scene]
    pictures: np.ndarray

    def captions(self, indices: np.ndarray, rng: np.random.Generator) -> list[str]:
        return [caption(self.scenes[i], rng) for i in indices]

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """Pictures as float [B, 3, 64, 64] in [-1, 1]."""
        return to_tensor(self.pictures[indices])


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def make_bank(count: int, seed: int, *, oracle: bool = False) -> SceneBank:
    """Draw and render `count` scenes; the same seed gives the original's and the oracle's bank the same scenes."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng) for _ in range(count)]
    pictures = np.stack([render(oracle_scene(scene) if oracle else scene) for scene in scenes])
    return SceneBank(scenes, pictures)
