"""What Stable Diffusion 3 and FLUX share: a flow, Euler steps, T5 beside CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import FlowMatchEulerDiscreteScheduler

from models.forward import Flow

if TYPE_CHECKING:
    from models.bundle import ModelBundle


class FlowFamily:
    """The part of `models.families.base.Family` that comes from flow matching."""

    denoiser = "transformer"
    text_layers: tuple[str, ...] = (".add_q_proj", ".add_k_proj", ".add_v_proj", ".to_add_out")
    text_keys_values: tuple[str, ...] = (".add_k_proj", ".add_v_proj")
    attention_layers: tuple[str, ...] = (".attn.", ".attn2.")
    without: dict[str, Any] = {}  # noqa: RUF012 (never changed)

    def forward(self, scheduler_config: dict[str, Any]) -> Flow:
        return Flow()

    def schedule(self, bundle: ModelBundle, steps: int) -> FlowMatchEulerDiscreteScheduler:
        """Where the checkpoint shifts its schedule by the picture's size, mu is diffusers' for this size."""
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(bundle.scheduler_config)
        _, height, width = bundle.latent_shape
        patches = (height // 2) * (width // 2)
        mu = _shift(patches, scheduler.config) if scheduler.config.use_dynamic_shifting else None
        scheduler.set_timesteps(steps, sigmas=self.sigmas(steps), mu=mu)
        return scheduler

    def sigmas(self, steps: int) -> list[float] | None:
        """Noise levels before the shift, noisiest first; None for the scheduler's own."""
        return None


def _shift(patches: int, config: Any) -> float:
    """mu, a line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift)."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (patches - config.base_image_seq_len))
