"""What one training step of DUO costs at real shapes: `make bench-train`.

Random weights of Stable Diffusion 1.5's UNet, VAE and text encoder, 256 px, 2 pairs, float32; on CUDA 512 px,
bfloat16, 4 pairs (`--model sdxl`: XL at 1024 px). On a CPU processor time is taken, which depends little on what else
the machine does. Every way is a process of its own, for its peak memory, and takes the same rows:

- ours: `studio.methods.training.Loop` on `DuoStep`, as a job runs it, on latents and embeddings made once;
- bank: the same with the reference's predictions from a bank of noise;
- memory: one pair at a time, gradient checkpointing, VAE and text encoder waiting in a file;
- official: as the official code's step: pictures through the VAE and prompts through the text encoder at every step,
  one tuned and one reference call over all rows;
- diffusers: as diffusers' Diffusion-DPO script's step (VAE and text encoder too; safe and unsafe rows), with the prior
  rows in calls of their own;
- limit: the bare UNet on the same rows: forward and backward to the activations, and a forward without gradients.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.bench_attacks import Clock, filled, letter_tokenizer
from benchmarks.result import print_result
from models.adapters import adapter_disabled, attach_lora
from models.bundle import ModelBundle
from models.loading import DTYPES, resolve_device
from models.specs import ModelSpec
from studio.methods.base import TrainingPairs, silent
from studio.methods.duo import Drawn, DuoStep
from studio.methods.parallel import Group
from studio.methods.training import Loop
from studio.objectives.diffusion_dpo import dpo_loss, error_change
from studio.objectives.prior import prior_loss
from studio.settings import REPOSITORY
from studio.training_configs import DuoConfig

LITTLE_MEMORY = {"micro_batch_size": 1, "gradient_checkpointing": True, "park_in_a_file": True}
WAYS = ("official", "ours", "limit", "bank", "memory", "diffusers")
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=UNETS, default="sd15")
    parser.add_argument("--pixels", type=int, default=0, help="0: 256 on a CPU, 512 or 1024 on CUDA")
    parser.add_argument("--pairs", type=int, default=0, help="0: 2 on a CPU, 4 on CUDA")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each way, after one that warms up")
    parser.add_argument("--rounds", type=int, default=1, help="how often all ways are gone through")
    parser.add_argument("--way", choices=WAYS, help="measure one way in this process")
    options = parser.parse_args()
    cuda = resolve_device().type == "cuda"
    options.pixels = options.pixels or {"sd15": 512, "sdxl": 1024}[options.model] if cuda else options.pixels or 256
    options.pairs = options.pairs or (4 if cuda else 2)
    if options.way:
        print(json.dumps(measured(options)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            found[way].append(in_a_process(way, options))
            print(way, found[way][-1], flush=True)
    seconds = {way: statistics.median(one["seconds"] for one in rounds) for way, rounds in found.items()}
    memory = {way: max(one["gigabytes"] for one in rounds) for way, rounds in found.items()}
    ratios = {
        "speedup_vs_official": seconds["official"] / seconds["ours"],
        "speedup_vs_official_cached_reference": seconds["official"] / seconds["bank"],
        "over_unet_limit": seconds["ours"] / seconds["limit"],
        "low_memory_peak_vs_official": memory["memory"] / memory["official"],
        "speedup_vs_diffusers": seconds["diffusers"] / seconds["ours"],
    }
    device = torch.cuda.get_device_name() if cuda else "CPU"
    sizes = {"model": options.model, "pixels": options.pixels, "pairs": options.pairs, "device": device}
    print_result(
        "train",
        ratios,
        seconds_a_step={way: round(value, 3) for way, value in seconds.items()},
        peak_gigabytes={way: round(value, 2) for way, value in memory.items()},
        sizes=sizes,
    )


def in_a_process(way: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_train", "--way", way, "--model", options.model]
    command += ["--pixels", str(options.pixels), "--pairs", str(options.pairs), "--steps", str(options.steps)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds a step and the process's peak memory in 10^9 bytes."""
    device = resolve_device()
    bundle = random_bundle(options.model, options.pixels, device)
    step = MAKERS[options.way](bundle, options.pairs)
    clock = Clock(device)
    times = [clock.time(step) for _ in range(options.steps + 1)]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(times[1:]), "gigabytes": peak / 1e9}


# The ways


def config_for(pairs: int, **changes: Any) -> DuoConfig:
    """The paper's settings."""
    return DuoConfig(batch_size=pairs, learning_rate=6e-5, beta=500.0, prior_weight=5e6, **changes)


def ours(bundle: ModelBundle, pairs: int, **changes: Any) -> Callable[[], Any]:
    config = config_for(pairs, **changes)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, pairs, *bundle.latent_shape, generator=generator)
    parameters = lora(bundle, config)
    step = DuoStep(bundle, TrainingPairs(latents[0], latents[1]), config)
    step.fill_bank(silent, None)
    loop = Loop(parameters, step, config, Group())
    if config.park_in_a_file:
        stack = ExitStack()
        stack.enter_context(bundle.parked(in_a_file=True))
        loop.stack = stack  # type: ignore[attr-defined]
    if config.gradient_checkpointing:
        bundle.denoiser.enable_gradient_checkpointing()
    numbers = iter(range(1, 1000))
    return lambda: loop.step(next(numbers))


def official(bundle: ModelBundle, pairs: int) -> Callable[[], Any]:
    """Pictures and prompts are encoded at every step, as in a loop over a data set of pictures."""
    config = config_for(pairs)
    step, optimizer, generator = by_hand(bundle, config)

    def take() -> None:
        inputs, at, embeds, wanted = encoded(bundle, step, pairs, generator)
        with torch.no_grad(), adapter_disabled(bundle):
            reference = bundle.predict(inputs, at, embeds)
        tuned = bundle.predict(inputs, at, embeds)
        d_safe, d_unsafe = error_change(tuned[: 2 * pairs], reference[: 2 * pairs], wanted).chunk(2)
        loss = dpo_loss(d_safe, d_unsafe, config.beta)
        finish(loss + config.prior_weight * prior_loss(tuned[2 * pairs :], reference[2 * pairs :]), optimizer, config)

    return take


def diffusers_step(bundle: ModelBundle, pairs: int) -> Callable[[], Any]:
    """`train_diffusion_dpo.py`'s order: tuned, then reference on the pictures' rows; the prior rows after that."""
    config = config_for(pairs)
    step, optimizer, generator = by_hand(bundle, config)

    def take() -> None:
        inputs, at, embeds, wanted = encoded(bundle, step, pairs, generator)
        pictures, pure = slice(0, 2 * pairs), slice(2 * pairs, None)
        tuned = bundle.predict(inputs[pictures], at[pictures], embeds[pictures])
        with torch.no_grad(), adapter_disabled(bundle):
            reference = bundle.predict(inputs[pictures], at[pictures], embeds[pictures])
        d_safe, d_unsafe = error_change(tuned, reference, wanted).chunk(2)
        prior = bundle.predict(inputs[pure], at[pure], embeds[pure])
        with torch.no_grad(), adapter_disabled(bundle):
            still = bundle.predict(inputs[pure], at[pure], embeds[pure])
        loss = dpo_loss(d_safe, d_unsafe, config.beta) + config.prior_weight * prior_loss(prior, still)
        finish(loss, optimizer, config)

    return take


def limit(bundle: ModelBundle, pairs: int) -> Callable[[], Any]:
    """No adapter, no loss of ours: rows in, gradients down to the noisy latents."""
    config = config_for(pairs)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, pairs, *bundle.latent_shape, generator=generator)
    step = DuoStep(bundle, TrainingPairs(latents[0], latents[1]), config)

    def take() -> None:
        inputs, at, embeds = step._inputs(Drawn(*step.draw(generator)))
        with torch.no_grad():
            reference = bundle.predict(inputs, at, embeds)
        output = bundle.predict(inputs.requires_grad_(), at, embeds)
        F.mse_loss(output, reference + 1).backward()

    return take


MAKERS: dict[str, Callable[[ModelBundle, int], Callable[[], Any]]] = {
    "official": official,
    "ours": ours,
    "limit": limit,
    "bank": lambda bundle, pairs: ours(bundle, pairs, noise_bank=2),
    "memory": lambda bundle, pairs: ours(
        bundle, pairs, micro_batch_size=1, gradient_checkpointing=True, park_in_a_file=True
    ),
    "diffusers": diffusers_step,
}


# What they share


def lora(bundle: ModelBundle, config: DuoConfig) -> list[torch.nn.Parameter]:
    targets = bundle.family.lora_targets[config.layers]
    return attach_lora(bundle, rank=config.rank, alpha=config.alpha, targets=targets, seed=0)


def by_hand(bundle: ModelBundle, config: DuoConfig) -> tuple[DuoStep, torch.optim.Optimizer, torch.Generator]:
    latents = torch.zeros(2, config.batch_size, *bundle.latent_shape)
    optimizer = torch.optim.AdamW(lora(bundle, config), lr=config.learning_rate, weight_decay=config.weight_decay)
    return DuoStep(bundle, TrainingPairs(latents[0], latents[1]), config), optimizer, torch.Generator().manual_seed(0)


def encoded(bundle: ModelBundle, step: DuoStep, pairs: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """A minibatch from pictures and prompts: both encoded now."""
    pixels = torch.rand(2 * pairs, 3, bundle.spec.resolution, bundle.spec.resolution, generator=generator) * 2 - 1
    step.safe, step.unsafe = bundle.encode_image(pixels).cpu().chunk(2)
    with torch.no_grad():
        step.embeds = bundle.family.encode(bundle, [""] * pairs)
    drawn = Drawn(*step.draw(generator))
    return (*step._inputs(drawn), step._wanted(drawn).to(bundle.device))


def finish(loss: torch.Tensor, optimizer: torch.optim.Optimizer, config: DuoConfig) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    optimizer.step()


def random_bundle(model: str, pixels: int, device: torch.device) -> ModelBundle:
    """Random weights in the published shapes."""
    torch.manual_seed(0)
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    unet_config: dict[str, Any] = {"sample_size": pixels // 8, "attention_head_dim": 8, **UNETS[model]}
    vae_config: dict[str, Any] = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    tokenizer = letter_tokenizer()
    texts = (filled(lambda: CLIPTextModel(text_config(768, 12, 12))),)
    if model == "sdxl":
        texts += (filled(lambda: CLIPTextModelWithProjection(text_config(1280, 32, 20))),)
    unet, vae = filled(lambda: UNet2DConditionModel(**unet_config)), filled(lambda: AutoencoderKL(**vae_config))
    spec = ModelSpec(model, model, None, "sdxl" if model == "sdxl" else "sd1", pixels, dtype)
    return ModelBundle(vae, texts, (tokenizer,) * len(texts), unet, SCHEDULER, spec, device, DTYPES[dtype], {})


def text_config(width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        projection_dim=width,
    )


if __name__ == "__main__":
    main()
