"""The samplers that a UNet's diffusion can be sampled with. All pictures of the studio are DDIM's, but where another
one is asked for in a `with sampled_by(bundle, name)`: to see whether what was forgotten stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

if TYPE_CHECKING:
    from models.bundle import ModelBundle


def ddim(config: dict[str, Any]) -> DDIMScheduler:
    """Song 2020, arXiv:2010.02502. A config without clip_sample means latents: its default would cut them at 1."""
    return DDIMScheduler.from_config({"clip_sample": False, **config})


def euler(config: dict[str, Any]) -> EulerDiscreteScheduler:
    """Euler's method on the noise level (Karras 2022, arXiv:2206.00364, algorithm 2 without churn)."""
    return EulerDiscreteScheduler.from_config(config)


def heun(config: dict[str, Any]) -> HeunDiscreteScheduler:
    """Heun's method on the same (Karras 2022, algorithm 1): the network is asked nearly twice as often."""
    return HeunDiscreteScheduler.from_config(config)


def dpm(config: dict[str, Any]) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of the second order (Lu 2022, arXiv:2211.01095)."""
    return DPMSolverMultistepScheduler.from_config(config)


SAMPLERS: dict[str, Callable[[dict[str, Any]], Any]] = {"ddim": ddim, "euler": euler, "heun": heun, "dpm++": dpm}


@contextmanager
def sampled_by(bundle: ModelBundle, sampler: str) -> Iterator[None]:
    """Inside, the bundle samples with another method, on the same noise.

    Raises:
        ValueError: there is no such sampler, or the family has only its own.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"There is no sampler {sampler!r}; use {', '.join(SAMPLERS)}.")
    if sampler != "ddim" and bundle.family.name not in ("sd1", "sd2", "sdxl"):
        raise ValueError(f"{bundle.family.title} is a flow and has its own sampler only; leave {sampler!r} out.")
    before, bundle.sampler = bundle.sampler, sampler
    try:
        yield
    finally:
        bundle.sampler = before
