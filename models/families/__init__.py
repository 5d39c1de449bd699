"""The families of models there are: one small file each, listed here by hand."""

from __future__ import annotations

from models.families.base import Family
from models.families.flux import Flux
from models.families.stable_diffusion import StableDiffusion
from models.families.stable_diffusion_3 import StableDiffusion3
from models.families.stable_diffusion_xl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (
    StableDiffusion("sd1", "Stable Diffusion 1"),
    StableDiffusion("sd2", "Stable Diffusion 2"),
    StableDiffusionXL(),
    StableDiffusion3(),
    Flux(),
)


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise ValueError(f"There is no family {name!r}; use {', '.join(family.name for family in FAMILIES)}.")
