"""A loaded latent-diffusion model, and the one path by which every picture of the project is generated.

Both sides of a comparison, the pairs, and the attacks all sample through `ModelBundle.generate`: that is what makes
them comparable. Latents are always the network's: shifted and scaled as the VAE's configuration says. What differs
between families of models is in `models.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from models.families import get_family
from models.families.base import Family
from models.forward import Diffusion, Forward
from models.parking import InAFile, OffTheDevice, Parking
from models.specs import LoadError, ModelSpec

TEXT_BATCH = 64  # prompts encoded at once
PICTURE_BATCH = 32  # pictures through the VAE at once

# Called with the prompts [B], where they are known, and embeddings [B, L, D] of the pictures that are now sampled, and
# with two Nones when they are done.
OnSampling = Callable[[Sequence[str] | None, torch.Tensor | None], None]


@dataclass(frozen=True)
class Generation:
    """Pictures and the latents they were decoded from."""

    latents: torch.Tensor  # [N, C, h, w] float32 on the CPU
    images: np.ndarray  # [N, H, W, 3] uint8


@dataclass(frozen=True)
class Kept:
    """The part of pictures that inpainting leaves as it is."""

    latents: torch.Tensor  # [B, C, h, w]
    noise: torch.Tensor  # [B, C, h, w]
    where: torch.Tensor  # [h, w] bool

    def put_back(
        self, latents: torch.Tensor, forward: Forward | None = None, timestep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The latents with the kept part noised up to the timestep; without one, as it is."""
        known = self.latents
        if forward is not None and timestep is not None:
            known = forward.noised(known, self.noise, timestep.cpu().expand(len(known)))
        return torch.where(self.where.to(latents.device), known.to(latents), latents)


@dataclass(frozen=True)
class SampleStep:
    """One denoising step as it is about to be taken: what the network saw and said."""

    index: int  # 0 is the noisiest
    timestep: int  # training timestep of `latents`
    latents: torch.Tensor  # [B, C, h, w]
    conditional: torch.Tensor  # [B, C, h, w] raw model output under the prompt
    unconditional: torch.Tensor  # [B, C, h, w] raw model output under the negative (or empty) prompt


@dataclass(eq=False)
class ModelBundle:
    """The parts of a latent-diffusion pipeline, frozen, on one device."""

    vae: AutoencoderKL
    text_encoders: tuple[Any, ...]  # as the family names them; None where the checkpoint does without one
    tokenizers: tuple[Any, ...]
    denoiser: Any  # the UNet or transformer
    scheduler_config: dict[str, Any]
    spec: ModelSpec
    device: torch.device
    dtype: torch.dtype = torch.float32
    pipeline_options: dict[str, Any] = field(default_factory=dict)  # of model_index.json, e.g. zeros for empty prompts
    originals: list[Any] = field(default_factory=list)  # what takes applied deltas off again; see models.adapters
    on_sampling: list[OnSampling] = field(default_factory=list)  # told of the pictures' prompts; see models.transport
    fingerprint: str = ""  # once it was asked for; see models.fingerprint
    sampler: str = "ddim"  # see models.samplers
    waits: bool = False  # the denoiser stays in the machine's memory; see models.sharding

    def __post_init__(self) -> None:
        self.family: Family = get_family(self.spec.family)
        # Where it must be, the VAE stays in single precision beside a network in half.
        upcast = self.dtype == torch.float16 and self.vae.config.get("force_upcast", False)
        self.vae_dtype = torch.float32 if upcast else self.dtype
        for part in (self.vae, *self.text_encoders, self.denoiser):
            if part is not None:
                dtype = self.vae_dtype if part is self.vae else self.dtype
                home = torch.device("cpu") if self.waits and part is self.denoiser else self.device
                part.requires_grad_(False).eval().to(home)
                if part.dtype != dtype:
                    part.to(dtype)
        self.forward: Forward = self.family.forward(self.scheduler_config)
        self._empty: torch.Tensor | None = None
        self._keeps_empty = True
        self._parking: Parking | None = None

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer, CLIP's."""
        return self.tokenizers[0]

    @property
    def text_encoder(self) -> Any:
        """The first text encoder, CLIP's."""
        return self.text_encoders[0]

    def network(self, part: str) -> Any:
        """The denoiser or text encoder of this name in the pipeline: what a delta changes.

        Raises:
            LoadError: the checkpoint has none.
        """
        encoders = dict(zip(self.family.text_encoders, self.text_encoders, strict=True))
        found = {self.family.denoiser: self.denoiser, **encoders}.get(part)
        if found is None:
            raise LoadError(
                f"{self.spec.name} has no {part} to change. Load the checkpoint that the adapter was trained on."
            )
        return found

    @property
    def pixels_a_latent(self) -> int:
        """Pixels along one side of a latent's square."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one picture's latents."""
        side = self.spec.resolution // self.pixels_a_latent
        return self.family.channels(self.denoiser), side, side

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt that the first text encoder reads, its begin and end among them."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    @property
    def diffusion(self) -> Diffusion:
        """The forward process, of families that have a schedule of abar.

        Raises:
            ValueError: the family is a flow.
        """
        if not isinstance(self.forward, Diffusion):
            raise ValueError(f"{self.spec.name} is a flow ({self.family.title}) and has no schedule of abar.")
        return self.forward

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """abar [T] float32 on the CPU, of a diffusion."""
        return self.diffusion.alphas_cumprod

    @property
    def prediction_type(self) -> str:
        """What the network of a diffusion predicts: "epsilon" | "v_prediction"."""
        return self.diffusion.prediction_type

    @property
    def num_train_timesteps(self) -> int:
        """T: timesteps from 0 to T - 1 can be drawn for training, the highest the noisiest."""
        return int(self.scheduler_config.get("num_train_timesteps", 1000))

    # Memory

    @contextmanager
    def parked(self, in_a_file: bool = False) -> Iterator[None]:
        """Inside, text encoders and VAE leave the device, and come back for as long as they are asked something.

        Beside a GPU they wait in the machine's memory. On a CPU they stay, or with `in_a_file` wait in a temporary one.
        """
        others = [part for part in (self.vae, *self.text_encoders) if part is not None]
        if self.device.type == "cpu" and not in_a_file:
            yield
            return
        self._parking = InAFile(others) if self.device.type == "cpu" else OffTheDevice(others, self.device)
        try:
            self._parking.park()
            yield
        finally:
            self._parking.fetch()
            self._parking = None

    @contextmanager
    def fetched(self) -> Iterator[None]:
        """Inside, what is parked is there."""
        if self._parking is None:
            yield
            return
        self._parking.fetch()
        try:
            yield
        finally:
            self._parking.park()

    # Text and pictures

    def encode_prompt(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings [B, L, D] of prompts: all the network is told of them. Equal prompts are encoded once.

        Of families with a pooled vector it is the last row. The empty prompt's embedding is kept until the text
        encoders change.
        """
        unique = list(dict.fromkeys(prompts))
        if unique == [""] and self._empty is not None:
            return self._empty.expand(len(prompts), -1, -1)
        with torch.no_grad(), self.fetched():
            parts = [self.family.encode(self, unique[i : i + TEXT_BATCH]) for i in range(0, len(unique), TEXT_BATCH)]
        embeds = torch.cat(parts)
        if unique == [""] and self._keeps_empty:
            self._empty = embeds
        positions = {prompt: index for index, prompt in enumerate(unique)}
        return embeds[[positions[prompt] for prompt in prompts]]

    def text_changed(self) -> None:
        """To be called whenever a text encoder's weights were changed."""
        self._empty = None

    @contextmanager
    def text_in_training(self) -> Iterator[None]:
        """Inside, a text encoder's weights change all the time, and no embedding is kept."""
        self._empty, self._keeps_empty = None, False
        try:
            yield
        finally:
            self._empty, self._keeps_empty = None, True

    def cut_off(self, prompts: Sequence[str]) -> list[str]:
        """The end of each prompt that no text encoder sees, from its first word not seen whole; "" if none."""
        tokenizer, length = self.family.reader(self)
        room = length - tokenizer.num_special_tokens_to_add()
        if not prompts:
            return []
        tokens = tokenizer(list(prompts), add_special_tokens=False, return_offsets_mapping=True)
        return [
            prompt[_word_start(prompt, offsets[room][0]) :] if len(offsets) > room else ""
            for prompt, offsets in zip(prompts, tokens["offset_mapping"], strict=True)
        ]

    @torch.no_grad()
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] of pictures [B, 3, H, W] in [-1, 1]: the posterior's mean, shifted and scaled."""
        with self.fetched():
            parts = [
                self.vae.encode(part.to(self.device, self.vae_dtype)).latent_dist.mean
                for part in images.split(PICTURE_BATCH)
            ]
        return (torch.cat(parts).float() - self._vae_shift) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Pictures [B, H, W, 3] uint8 of latents [B, C, h, w]."""
        parts = []
        with self.fetched():
            for part in (latents / self.vae.config.scaling_factor + self._vae_shift).split(PICTURE_BATCH):
                pixels = self.vae.decode(part.to(self.device, self.vae_dtype), return_dict=False)[0].float()
                if not torch.isfinite(pixels).all():  # else a black picture, which looks like one that forgot
                    raise ArithmeticError(
                        f"A picture came out as no numbers: the network overflowed in {self.vae_dtype} and "
                        f"{self.dtype}. Draw with DUO_STUDIO_DTYPE=float32, with less guidance, or with a weaker "
                        "adapter."
                    )
                pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
                parts.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(parts)

    @property
    def _vae_shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor | float,
        prompt_embeds: torch.Tensor,
        guidance: float | None = None,
    ) -> torch.Tensor:
        """The network's raw output [B, C, h, w] in float32, for timesteps [B] or a scalar; keeps gradients.

        Of a network in double precision it stays so.

        What it predicts (eps, v, or eps - x) and what a timestep is: see `models.forward`. `guidance` is told to a
        network that was distilled on it, and None is what it is told in training.
        """
        timesteps = torch.as_tensor(timesteps, device=latents.device)
        output = self.family.predict(self, latents.to(self.dtype), timesteps, prompt_embeds.to(self.dtype), guidance)
        return output if output.dtype == torch.float64 else output.float()

    # Generation

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Standard normal [N, C, h, w] on the CPU, one generator a seed: the same on every device and batch size."""
        return torch.stack([torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompts: Sequence[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        steps: int = 20,
        guidance_scale: float = 4.0,
        init_latents: torch.Tensor | None = None,
        strength: float = 1.0,
        start_latents: torch.Tensor | None = None,
        kept: torch.Tensor | None = None,
        batch_size: int = PICTURE_BATCH,
        on_batch: Callable[[int, int], None] | None = None,
        before_step: Callable[[], None] | None = None,
    ) -> Generation:
        """Sample one picture a prompt and seed with deterministic DDIM and classifier-free guidance.

        Args:
            prompts: N prompts.
            seeds: N seeds of the starting noise.
            negative_prompts: N prompts to steer away from; None is the empty prompt.
            prompt_embeds: [N, L, D], used instead of the prompts' own embeddings (by attacks).
            steps: denoising steps of a whole picture.
            guidance_scale: 1 is no guidance. A distilled network (FLUX) is told it, unless there are negative prompts.
            init_latents: [N, C, h, w] to edit (SDEdit, Meng 2021, arXiv:2108.01073); None starts from noise.
            strength: 0 … 1, how much of `init_latents` is repainted: the first `steps - int(steps * strength)` steps
                are skipped, as in diffusers' img2img. 0 returns them exactly.
            start_latents: [N, C, h, w] to start from in place of the seeds' noise (by attacks); the seeds then decide
                nothing.
            kept: [h, w] bool, where `init_latents` stay as they are (inpainting): before each step that part is put
                back, noised as far as the rest is (Lugmayr 2022, arXiv:2201.09865, without its resampling).
            batch_size: pictures at once; changes the result by rounding only.
            on_batch: called with (pictures done, pictures in all) after each batch; may raise to stop.
            before_step: called before each denoising step of each batch; may raise to stop.

        Raises:
            ValueError: lists of different lengths, or a strength outside 0 … 1.
        """
        count = len(seeds)
        self._check_generation(count, prompts, negative_prompts, prompt_embeds, init_latents, start_latents, strength)
        start = 0 if init_latents is None else max(steps - int(steps * strength), 0)
        latents = torch.empty(count, *self.latent_shape)
        images = []
        for first in range(0, count, batch_size):
            rows = slice(first, min(first + batch_size, count))
            positive = self.encode_prompt(prompts[rows]) if prompt_embeds is None else prompt_embeds[rows]
            negative = self._negative(None if negative_prompts is None else negative_prompts[rows], len(positive))
            initial = self.noise(seeds[rows]) if start_latents is None else start_latents[rows]
            keep = None
            if init_latents is not None:
                known, noise = init_latents[rows].float().cpu(), initial
                keep = None if kept is None else Kept(known, noise, kept)
                initial = self._noised(known, noise, steps, start)
            with self._told(prompts[rows] if len(prompts) == count else None, positive):
                latents[rows] = self.sample(
                    initial,
                    positive,
                    negative,
                    steps=steps,
                    guidance_scale=guidance_scale,
                    start=start,
                    before_step=before_step,
                    keep=keep,
                ).cpu()
            images.append(self.decode(latents[rows]))
            if on_batch is not None:
                on_batch(rows.stop, count)
        size = self.spec.resolution
        return Generation(latents, np.concatenate(images) if images else np.zeros((0, size, size, 3), np.uint8))

    def _negative(self, prompts: Sequence[str] | None, count: int) -> torch.Tensor | None:
        """Embeddings [B, L, D] to steer away from; None where the network needs none."""
        if not prompts:
            return None if self.family.distilled(self) else self.encode_prompt([""] * count)
        return self.encode_prompt(prompts)

    @contextmanager
    def _told(self, prompts: Sequence[str] | None, embeds: torch.Tensor) -> Iterator[None]:
        """Adapters whose strength depends on the prompts know them, inside the `with`."""
        try:
            for tell in self.on_sampling:
                tell(prompts, embeds)
            yield
        finally:
            for tell in self.on_sampling:
                tell(None, None)

    @torch.inference_mode()
    def sample(
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        negative_embeds: torch.Tensor | None,
        *,
        steps: int,
        guidance_scale: float,
        start: int = 0,
        on_step: Callable[[SampleStep], None] | None = None,
        before_step: Callable[[], None] | None = None,
        keep: Kept | None = None,
    ) -> torch.Tensor:
        """Denoise latents [B, C, h, w] from step `start` to the end; both guidance branches in one forward pass.

        `on_step` sees every step before it is taken (its tensors are inference tensors: clone what is kept), and
        `before_step` is called before the network is asked. Without `negative_embeds` there is one branch, and the
        network itself is told the guidance scale.
        """
        scheduler = self.family.schedule(self, steps)
        latents = latents.to(self.device, torch.float32)
        if not start:
            latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
        guided = negative_embeds is not None and (guidance_scale != 1 or on_step is not None)
        embeds = (
            torch.cat([negative_embeds, prompt_embeds]) if guided and negative_embeds is not None else prompt_embeds
        )
        embeds = embeds.to(self.device, self.dtype)
        # A network that is told its guidance and is guided by a negative prompt too would be guided twice.
        told = 1.0 if guided else guidance_scale
        if start and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        for index, timestep in enumerate(scheduler.timesteps[start:], start):
            if before_step is not None:
                before_step()
            at = timestep.item()
            if keep is not None:
                latents = keep.put_back(latents, self.forward, timestep)
            scaled = scheduler.scale_model_input(latents, timestep) if self.sampler != "ddim" else latents
            output = self.predict(torch.cat([scaled, scaled]) if guided else scaled, at, embeds, told)
            if guided:
                unconditional, conditional = output.chunk(2)
                if on_step is not None:
                    on_step(SampleStep(index, at, latents, conditional, unconditional))
                output = unconditional + guidance_scale * (conditional - unconditional)
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
        return latents if keep is None else keep.put_back(latents)

    def schedule(self, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Timesteps [steps] of a picture, noisiest first, and abar [steps + 1]: before the first step, after each.

        Raises:
            ValueError: the family is a flow.
        """
        alphas = self.alphas_cumprod
        scheduler = self.family.schedule(self, steps)
        before = scheduler.timesteps - self.num_train_timesteps // steps
        after = torch.where(before < 0, scheduler.final_alpha_cumprod, alphas[before.clamp(min=0)])
        return scheduler.timesteps, torch.cat([alphas[scheduler.timesteps[:1]], after])

    def _noised(self, latents: torch.Tensor, noise: torch.Tensor, steps: int, start: int) -> torch.Tensor:
        if start >= steps:
            return latents
        timesteps = self.family.schedule(self, steps).timesteps
        return self.forward.noised(latents, noise, timesteps[start].expand(len(latents)))

    def _check_generation(
        self,
        count: int,
        prompts: Sequence[str],
        negative_prompts: Sequence[str] | None,
        prompt_embeds: torch.Tensor | None,
        init_latents: torch.Tensor | None,
        start_latents: torch.Tensor | None,
        strength: float,
    ) -> None:
        given = {
            "prompts": None if prompt_embeds is not None else prompts,
            "negative_prompts": negative_prompts or None,
            "prompt_embeds": prompt_embeds,
            "init_latents": init_latents,
            "start_latents": start_latents,
        }
        for name, values in given.items():
            if values is not None and len(values) != count:
                raise ValueError(f"{len(values)} {name} for {count} seeds; give one of each for every picture.")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}; it must lie between 0 and 1.")
        for name, latents in (("init_latents", init_latents), ("start_latents", start_latents)):
            if latents is not None and tuple(latents.shape[1:]) != self.latent_shape:
                raise ValueError(
                    f"{name} are {tuple(latents.shape[1:])} each, but {self.spec.name} has latents of "
                    f"{self.latent_shape}; encode the pictures with this checkpoint."
                )


@contextmanager
def checkpointed(bundle: ModelBundle, wanted: bool) -> Iterator[None]:
    """Inside, the network keeps few activations for the way back and computes the rest again, if that is wanted."""
    if wanted:
        bundle.denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if wanted:
            bundle.denoiser.disable_gradient_checkpointing()


def _word_start(text: str, position: int) -> int:
    """Where the word at this position starts."""
    while position > 0 and not text[position - 1].isspace():
        position -= 1
    return position
