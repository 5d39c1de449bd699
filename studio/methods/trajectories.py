"""What the frozen model draws for a method to train on: trajectories with their targets, and finished pictures.

Both are sampled once, in batches, and kept in the state's folder, so that a resumed run trains on the same numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from models.bundle import PICTURE_BATCH, ModelBundle, SampleStep
from models.deltas import to_safetensors
from models.files import write_atomically
from models.fingerprint import fingerprint_of
from studio.methods.base import Report

# Of the frozen network's raw outputs under the prompt and under the empty prompt, both [B, C, h, w]; [B, n * C, h, w].
Target = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Tensors = dict[str, torch.Tensor]


class TrajectoryConfig(Protocol):
    """What is read of a method's configuration."""

    @property
    def trajectories(self) -> int: ...
    @property
    def sampling_steps(self) -> int: ...
    @property
    def start_guidance(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def seed(self) -> int: ...
    def model_dump_json(self, *, exclude: set[str] | None = None) -> str: ...


@dataclass(frozen=True)
class Trajectories:
    """What the frozen model saw while sampling the concept, and what it should say. M = trajectories x steps."""

    latents: torch.Tensor  # [M, C, h, w] on the CPU
    targets: torch.Tensor  # [M, n * C, h, w]; n is 1 for most methods
    timesteps: torch.Tensor  # [M]
    prompts: torch.Tensor  # [M], rows of `embeds`
    embeds: torch.Tensor  # [P, L, D]

    def batch(self, rows: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Latents, targets, timesteps and embeddings of some rows, on the device."""
        embeds = self.embeds[self.prompts[rows].to(self.embeds.device)]
        return (*(values[rows].to(device) for values in (self.latents, self.targets, self.timesteps)), embeds)


def sample_trajectories(
    bundle: ModelBundle,
    texts: Sequence[str],
    config: TrajectoryConfig,
    target: Target,
    report: Report,
    state_folder: Path | None = None,
    *,
    count: int = 0,
    kind: str = "trajectories",
) -> Trajectories:
    """Sample under the prompts, spread evenly, keeping every step's latents and target.

    Guidance needs e(c) and e("") at every step anyhow, so the targets cost nothing. `count` takes the place of the
    configuration's number; a method that samples twice gives the second a `kind` of its own, which names its file.
    """
    count, steps = count or config.trajectories, config.sampling_steps
    embeds = bundle.encode_prompt(texts)
    prompts = torch.arange(count) % len(texts)
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(count, *bundle.latent_shape, generator=generator)

    def make() -> Tensors:
        latents = torch.empty(count, steps, *bundle.latent_shape)
        targets = torch.empty(0)
        timesteps = torch.empty(count, steps)  # whole numbers in a diffusion, others in a flow
        for first in range(0, count, PICTURE_BATCH):
            rows = slice(first, min(first + PICTURE_BATCH, count))

            def keep(step: SampleStep, rows: slice = rows) -> None:
                nonlocal targets
                wanted = target(step.conditional, step.unconditional).cpu()
                if not len(targets):
                    targets = torch.empty(count, steps, *wanted.shape[1:])
                latents[rows, step.index] = step.latents.cpu()
                targets[rows, step.index] = wanted
                timesteps[rows, step.index] = step.timestep

            report(0, config.steps, f"Sampling {kind.replace('-', ' ')} of the frozen model, {first} of {count}")
            bundle.sample(
                noise[rows],
                embeds[prompts[rows].to(embeds.device)],
                bundle.encode_prompt([""] * (rows.stop - rows.start)),
                steps=steps,
                guidance_scale=config.start_guidance,
                on_step=keep,
            )
        return {"latents": latents, "targets": targets, "timesteps": timesteps}

    made = remembered(state_folder, kind, _made_of(bundle, config), make)
    latents, targets = made["latents"].flatten(0, 1), made["targets"].flatten(0, 1)
    return Trajectories(latents, targets, made["timesteps"].flatten(), prompts.repeat_interleave(steps), embeds)


def sample_pictures(
    bundle: ModelBundle,
    prompts: Sequence[str],
    count: int,
    *,
    steps: int,
    guidance_scale: float,
    seed: int,
    progress: Callable[[str], None],
    state_folder: Path | None = None,
) -> torch.Tensor:
    """Latents [count, C, h, w] of the frozen model's pictures of the prompts, taken in turn; on the CPU."""
    noise = torch.randn(count, *bundle.latent_shape, generator=torch.Generator().manual_seed(seed))
    texts = [prompts[index % len(prompts)] for index in range(count)]

    def make() -> Tensors:
        parts = []
        for first in range(0, count, PICTURE_BATCH):
            progress(f"Drawing pictures with the frozen model, {first} of {count}")
            rows = slice(first, min(first + PICTURE_BATCH, count))
            distilled = bundle.family.distilled(bundle)
            negative = None if distilled else bundle.encode_prompt([""] * (rows.stop - rows.start))
            positive = bundle.encode_prompt(texts[rows])
            parts.append(
                bundle.sample(noise[rows], positive, negative, steps=steps, guidance_scale=guidance_scale).cpu().clone()
            )
        return {"latents": torch.cat(parts)}

    facts = [fingerprint_of(bundle), texts, steps, guidance_scale, seed]
    return remembered(state_folder, "pictures", facts, make)["latents"]


def remembered(folder: Path | None, name: str, facts: Any, make: Callable[[], Tensors]) -> Tensors:
    """What `make` gives, from `<folder>/<name>.safetensors` where an earlier try of the same `facts` (JSON) left it."""
    if folder is None:
        return make()
    path = folder / f"{name}.safetensors"
    made_of = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
    if path.is_file():
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                if (file.metadata() or {}).get("made_of") == made_of:
                    return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError:
            pass  # a damaged file is made anew: it holds nothing that cannot be
    made = make()
    write_atomically(path, to_safetensors(made, {"made_of": made_of}))
    return made


def _made_of(bundle: ModelBundle, config: TrajectoryConfig) -> list[Any]:
    """What trajectories and their targets depend on; the target's own settings are among the configuration's."""
    settings = config.model_dump_json(exclude={"sample_every", "save_every"})
    return [fingerprint_of(bundle), type(config).__name__, settings]
