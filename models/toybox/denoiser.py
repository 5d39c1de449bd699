"""The toybox's UNet and its training: noise prediction on latents, min-SNR weights, an exponential moving average."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from models.toybox.autoencoder import LATENT_CHANNELS
from models.toybox.data import SceneBank
from models.toybox.text import WIDTH, tokenize

EMPTY_PROMPT_SHARE = 0.1  # trained without a caption, for classifier-free guidance
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023
EMA_DECAY = 0.999


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 80),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's own schedule (scaled linear betas, 1000 steps, noise prediction)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class LatentTrainer:
    """Trains one UNet (the original's or the oracle's) and keeps its moving average."""

    def __init__(
        self,
        latents: torch.Tensor,
        bank: SceneBank,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        *,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
        self.latents, self.bank, self.tokenizer, self.text_encoder = latents, bank, tokenizer, text_encoder
        self.steps, self.batch_size = steps, batch_size
        self.rng = np.random.default_rng(seed)
        self.unet = make_unet().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=learning_rate, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.03, final_div_factor=20
        )
        self.alphas_cumprod = make_scheduler().alphas_cumprod

    def train(self, report: Callable[[int, int, str], None], snapshot: Path | None = None, every: int = 1000) -> None:
        running = 0.0
        for step in range(self.steps):
            loss = self._step()
            running = loss if step == 0 else 0.98 * running + 0.02 * loss
            self._update_average(step)
            if step % 50 == 0 or step == self.steps - 1:
                report(step + 1, self.steps, f"weighted loss {running:.4f}")
            if snapshot is not None and (step + 1) % every == 0:
                self.average.save_pretrained(snapshot)

    def _step(self) -> float:
        indices = self.rng.integers(len(self.latents), size=self.batch_size)
        captions = self.bank.captions(indices, self.rng)
        captions = ["" if self.rng.random() < EMPTY_PROMPT_SHARE else caption for caption in captions]
        with torch.no_grad():
            context = self.text_encoder(input_ids=tokenize(self.tokenizer, captions)).last_hidden_state
        clean = self.latents[torch.from_numpy(indices)]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, len(self.alphas_cumprod), (len(clean),))
        signal = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = (signal.sqrt() * clean + (1 - signal).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        error = (self.unet(noisy, timesteps, context).sample - noise).square().mean(dim=(1, 2, 3))
        snr = signal.flatten() / (1 - signal.flatten())
        loss = (error * snr.clamp(max=MIN_SNR_GAMMA) / snr).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return float(loss)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - decay)
