"""What the baselines' own work costs: `make bench-methods`.

ESD's noisy latents and targets from cached, batched trajectories, against sampling anew up to a random step for every
optimizer step as the official code does; both give the same targets, which is checked. UCE's edit of all 32 matrices of
Stable Diffusion 1's shapes, with a random text encoder of CLIP ViT-L/14's. On a CPU processor time is taken.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial

import torch
from torch import nn

from benchmarks.bench_attacks import Clock, random_bundle, small_unet
from benchmarks.result import print_result
from models.bundle import ModelBundle, SampleStep
from models.loading import load_bundle, resolve_device
from studio.method_configs import EsdConfig, UceConfig
from studio.methods.base import TrainingPairs, silent
from studio.methods.esd import esd_target
from studio.methods.trajectories import Trajectories, sample_trajectories
from studio.methods.uce import Uce

CHANNELS = [320] * 2 + [640] * 2 + [1280] * 3 + [1280] * 3 + [640] * 3 + [320] * 3  # of the UNet's 16 cross-attentions
WIDTH = 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--loops", type=int, default=12, help="optimizer steps whose latents are sampled anew")
    options = parser.parse_args()
    clock = Clock(resolve_device())
    esd = esd_seconds(options.trajectories, options.loops, clock)
    uce = uce_seconds(clock)
    ratios = {"esd_speedup": esd["anew"] / esd["cached"], "uce_seconds_sd15_shapes": uce}
    milliseconds = {f"{name}_ms_a_target": round(1000 * value, 3) for name, value in esd.items()}
    print_result("methods", ratios, esd=milliseconds, sizes=vars(options) | {"device": str(clock.device)})


def esd_seconds(trajectories: int, loops: int, clock: Clock) -> dict[str, float]:
    """Seconds a noisy latent with its target, either way, on the embedded checkpoint."""
    bundle = load_bundle("toybox", device=str(clock.device))
    config = EsdConfig(prompts=["a person holding a sword"], trajectories=trajectories)
    made: list[Trajectories] = []
    target = partial(esd_target, eta=config.eta)
    cached = clock.time(lambda: made.append(sample_trajectories(bundle, config.prompts, config, target, silent)))
    generator = torch.Generator().manual_seed(1)
    steps = torch.randint(config.sampling_steps, (loops,), generator=generator).tolist()
    rows = slice(0, min(config.batch_size, trajectories))
    noise = made[0].latents.unflatten(0, (trajectories, -1))[rows, 0]  # the cached ones' own, so that targets are equal
    anew = 0.0
    for step in steps:
        found: list[torch.Tensor] = []
        anew += clock.time(lambda step=step, found=found: found.append(sampled_anew(bundle, config, noise, step)))
        expected = made[0].targets.unflatten(0, (trajectories, -1))[rows, step].to(found[0].device)
        assert torch.allclose(found[0], expected, atol=1e-3), "the two ways give different targets"
    return {"cached": cached / len(made[0].timesteps), "anew": anew / (loops * len(noise))}


class Reached(Exception):  # noqa: N818 (no error)
    """The step that was wanted."""


@torch.no_grad()
def sampled_anew(bundle: ModelBundle, config: EsdConfig, noise: torch.Tensor, step: int) -> torch.Tensor:
    """Targets [B, C, h, w] at one step: sampling up to it, and there the two predictions."""
    reached: list[tuple[torch.Tensor, int]] = []

    def keep(now: SampleStep) -> None:
        if now.index == step:
            reached.append((now.latents.clone(), now.timestep))
            raise Reached

    concept, empty = (bundle.encode_prompt([text] * len(noise)) for text in (config.prompts[0], ""))
    with suppress(Reached):
        bundle.sample(
            noise, concept, empty, steps=config.sampling_steps, guidance_scale=config.start_guidance, on_step=keep
        )
    ((latents, timestep),) = reached
    at = torch.tensor(timestep, device=latents.device)
    return esd_target(bundle.predict(latents, at, concept), bundle.predict(latents, at, empty), config.eta)


class TextReaders(nn.Module):
    """The key and value matrices of Stable Diffusion 1's cross-attentions, with random numbers, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.config = small_unet().config
        for number, channels in enumerate(CHANNELS):
            attention = nn.Module()
            attention.attn2 = nn.Module()
            attention.attn2.to_k = nn.Linear(WIDTH, channels, bias=False)
            attention.attn2.to_v = nn.Linear(WIDTH, channels, bias=False)
            self.add_module(f"block{number}", attention)


def uce_seconds(clock: Clock) -> float:
    """Seconds of a whole edit: encoding the words, solving, and the differences of 32 matrices."""
    bundle = random_bundle(clock.device, small_unet())
    bundle.denoiser = TextReaders().to(clock.device)  # type: ignore[assignment]
    none = TrainingPairs(torch.empty(0), torch.empty(0))
    config = UceConfig(concepts=["sword", "blade"], preserve=["cane", "flower"])
    return clock.time(lambda: Uce().fit(bundle, none, config, silent))


if __name__ == "__main__":
    main()
