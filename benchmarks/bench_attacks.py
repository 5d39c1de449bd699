"""How much of an attack's time is spent outside the networks: `make bench-attacks`.

Ring-A-Bell on a random text encoder of CLIP ViT-L/14's shape, 20 generations of population 200, against a loop that
encodes survivors again and works one prompt at a time, and against the bare encoder on the new candidates alone.
UnlearnDiffAtk's step on that encoder and a random UNet of Stable Diffusion 1's shape, against the UNet's bare forward
and backward pass. On a CPU processor time is taken, which does not depend on what else the machine does.

All of it takes hours on a few cores, so the generations end after `--seconds`; what they would be in all is the first
one, which encodes everybody, and so many times the mean of the later ones. Smaller sizes for a look:
`python -m benchmarks.bench_attacks --population 20 --prompts 2 --latents 32 --seconds 60`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.result import print_result
from models.bundle import ModelBundle
from models.loading import resolve_device
from models.prompting import encode_ids, padded
from models.specs import ModelSpec
from studio.attack_configs import RingABellConfig, UnlearnDiffAtkConfig
from studio.attacks.base import Arena, AttackTask, Meter
from studio.attacks.ring_a_bell import Search
from studio.attacks.unlearn_diff_atk import PrefixSearch
from studio.configs import SamplingConfig
from studio.objectives.genetic import breed, select

VOCABULARY = 49_408
WIDTH, LENGTH = 768, 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--population", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--latents", type=int, default=64, help="side of the UNet's latents")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of UnlearnDiffAtk")
    parser.add_argument("--seconds", type=float, default=300, help="most time for Ring-A-Bell's generations")
    options = parser.parse_args()
    clock = Clock(resolve_device())
    bell = ring_a_bell(options, clock)
    unlearn = unlearn_diff_atk(options, clock)
    ratios = {
        "ring_a_bell_speedup": bell["loop"] / bell["ours"],
        "ring_a_bell_over_encoder_limit": bell["ours"] / bell["encoder"],
        "unlearndiffatk_over_unet_limit": unlearn["step"] / unlearn["unet"],
    }
    sizes = vars(options) | {"measured_generations": bell["generations"], "device": str(clock.device)}
    seconds = {name: round(value, 3) for name, value in (bell | unlearn).items() if name != "generations"}
    print_result("attacks", ratios, seconds=seconds, sizes=sizes)


class Clock:
    """Seconds of work: of the processor on a CPU, of the wall where a GPU works."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time(self, work: Callable[[], object]) -> float:
        before = self.now()
        work()
        return self.now() - before

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()


def ring_a_bell(options: argparse.Namespace, clock: Clock) -> dict[str, float]:
    """Seconds of the whole search by ours, by the loop, and of the encoder on what is new; generation by generation."""
    bundle = random_bundle(clock.device, small_unet())
    config = RingABellConfig(population=options.population, generations=options.generations, together=options.prompts)
    vocabulary = torch.arange(1000, VOCABULARY - 1000)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(options.prompts, LENGTH, WIDTH, generator=generator).to(clock.device)
    generators = [torch.Generator().manual_seed(seed) for seed in range(options.prompts)]
    search = Search(Arena(bundle, None, lambda images: [], SamplingConfig()), targets, vocabulary, config, generators)
    loop = Loop(bundle, targets, search.population.clone(), vocabulary, config)
    encode_ids(bundle, padded(bundle, vocabulary[: config.tokens].unsqueeze(0)))  # the first call is slower
    meter = Meter()
    spent: dict[str, list[float]] = {"ours": [], "loop": [], "encoder": []}
    begun = time.perf_counter()
    for generation in range(options.generations + 1):
        before = meter.text_passes
        ours = partial(search.step, meter) if generation else partial(first, search, meter)
        spent["ours"].append(clock.time(ours))
        spent["loop"].append(clock.time(loop.step if generation else loop.encode_all))
        new = torch.randint(1000, VOCABULARY - 1000, (meter.text_passes - before, config.tokens), generator=generator)
        spent["encoder"].append(clock.time(partial(encode_bare, bundle, new, config.encode_batch)))
        sums = {name: round(sum(values), 2) for name, values in spent.items()}
        print(f"generation {generation}: {len(new)} new candidates, seconds so far {sums}", flush=True)
        if generation and time.perf_counter() - begun > options.seconds:
            break
    measured = len(spent["ours"]) - 1
    whole = {
        name: values[0] + options.generations * sum(values[1:]) / max(measured, 1) for name, values in spent.items()
    }
    return {**whole, "generations": measured}


def first(search: Search, meter: Meter) -> None:
    search.losses = search.evaluate(search.population, search.losses, meter)


def encode_bare(bundle: ModelBundle, tokens: torch.Tensor, batch_size: int) -> None:
    for part in tokens.split(batch_size):
        encode_ids(bundle, padded(bundle, part), len(part))


class Loop:
    """The plain way: one prompt after the other, the whole population encoded in every generation."""

    def __init__(
        self,
        bundle: ModelBundle,
        targets: torch.Tensor,
        population: torch.Tensor,
        vocabulary: torch.Tensor,
        config: RingABellConfig,
    ) -> None:
        self.bundle, self.targets, self.population = bundle, targets, population
        self.vocabulary, self.config = vocabulary, config
        self.generator = torch.Generator().manual_seed(1)

    def encode_all(self) -> list[torch.Tensor]:
        losses = []
        for target, population in zip(self.targets, self.population, strict=True):
            embeds = encode_ids(self.bundle, padded(self.bundle, population), len(population))
            losses.append((embeds - target).square().flatten(1).sum(dim=1).cpu())
        return losses

    def step(self) -> None:
        size = self.config.population
        for number, losses in enumerate(self.encode_all()):
            elite, _ = select(self.population[number : number + 1], losses.unsqueeze(0), size // 2)
            children = breed(
                elite, size - size // 2, self.vocabulary,
                crossover_rate=self.config.crossover, mutation_rate=self.config.mutation, generator=self.generator,
            )  # fmt: skip
            self.population[number] = torch.cat([elite, children], dim=1)[0]


def unlearn_diff_atk(options: argparse.Namespace, clock: Clock) -> dict[str, float]:
    """Seconds of a step, and of the UNet's forward and backward pass alone, the better of a few each."""
    bundle = random_bundle(clock.device, sd_unet(options.latents))
    arena = Arena(bundle, None, lambda images: [], SamplingConfig())
    target = torch.randn(bundle.latent_shape, generator=torch.Generator().manual_seed(0))
    config = UnlearnDiffAtkConfig()
    search = PrefixSearch(arena, AttackTask("a b c", 0, target), torch.arange(1000, VOCABULARY - 1000), config)
    latents = target.unsqueeze(0).to(clock.device)
    embeds = torch.randn(1, LENGTH, WIDTH, device=clock.device, requires_grad=True)
    timesteps = torch.tensor([500], device=clock.device)

    def bare() -> None:
        loss = torch.nn.functional.mse_loss(bundle.predict(latents, timesteps, embeds), latents)
        torch.autograd.grad(loss, [embeds])

    bare()
    steps, unets = [], []
    for number in range(options.steps):
        unets.append(clock.time(bare))
        steps.append(clock.time(lambda: search.step(500)))
        print(f"step {number}: {steps[-1]:.2f} s, UNet alone {unets[-1]:.2f} s", flush=True)
    return {"step": min(steps), "unet": min(unets)}


def letter_tokenizer() -> CLIPTokenizer:
    """Knows single letters."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: row for row, word in enumerate(words)}, merges=[], model_max_length=LENGTH)


def random_bundle(device: torch.device, unet: UNet2DConditionModel) -> ModelBundle:
    tokenizer = letter_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    scheduler = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    spec = ModelSpec("Random", "random", None, "sd1", unet.config.sample_size)  # its VAE makes a pixel of a latent
    return ModelBundle(vae, (text_encoder,), (tokenizer,), unet, scheduler, spec, device)


def small_unet() -> UNet2DConditionModel:
    """Never called: Ring-A-Bell has no use for one."""
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=WIDTH,
    )  # fmt: skip


def sd_unet(latents: int) -> UNet2DConditionModel:
    """Stable Diffusion 1's UNet: 860 million parameters, 3.4 GB. Random numbers, made without the slow initialisers."""
    return filled(lambda: UNet2DConditionModel(sample_size=latents, cross_attention_dim=WIDTH))


def filled(make: Callable[[], nn.Module]) -> Any:
    """A network with small random numbers in place of what its own initialisers would take minutes for."""
    with torch.device("meta"):
        made = make()
    made = made.to_empty(device="cpu")
    for parameter in made.parameters():
        parameter.data.fill_(0.01) if parameter.dim() < 2 else parameter.data.uniform_(-0.02, 0.02)
    for name, buffer in made.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return made


if __name__ == "__main__":
    main()
