"""Pictures and pairs as people bring them, drawn by the embedded world's own renderer."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.toybox.renderer import render
from models.toybox.scenes import sample_scene


def scenes(count: int, size: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` pairs: a person with a sword, and the same person with empty hands."""
    random = np.random.default_rng(0)
    held = [sample_scene(random, role="person", objects=("sword",)) for _ in range(count)]
    return [(render(scene, size), render(replace(scene, object="none"), size)) for scene in held]


def encoded(picture: np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, kind, **how)
    return buffer.getvalue()


def folder_of_pairs(path: Path, count: int, size: int = 64) -> Path:
    """unsafe/0.png … and safe/0.png …"""
    for side in ("unsafe", "safe"):
        (path / side).mkdir(parents=True, exist_ok=True)
    for number, (unsafe, safe) in enumerate(scenes(count, size)):
        (path / "unsafe" / f"{number}.png").write_bytes(encoded(unsafe))
        (path / "safe" / f"{number}.png").write_bytes(encoded(safe))
    return path
