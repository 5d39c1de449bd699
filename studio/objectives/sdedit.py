"""SDEdit: where an edit of a given strength begins (Meng 2021, arXiv:2108.01073)."""

from __future__ import annotations


def start_index(steps: int, strength: float) -> int:
    """The first denoising step that is taken, 0 … steps: steps - int(steps * strength), as in diffusers' img2img.

    `strength` in 0 … 1; at 0 no step is taken and the picture is returned as it is.
    """
    return steps - int(steps * strength)
