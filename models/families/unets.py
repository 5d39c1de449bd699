"""What Stable Diffusion 1, 2 and XL share: a UNet, a diffusion, deterministic DDIM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import UNet2DConditionModel

from models.forward import Diffusion
from models.samplers import SAMPLERS, ddim

if TYPE_CHECKING:
    from models.bundle import ModelBundle

_SELF = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"]
_CROSS = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
_FEED_FORWARD = ["ff.net.0.proj", "ff.net.2"]
_CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "proj_in", "proj_out"]


class UNetFamily:
    """The half of `models.families.base.Family` that does not know the text encoders."""

    denoiser = "unet"
    denoiser_class = UNet2DConditionModel
    optional: tuple[str, ...] = ()
    text_layers: tuple[str, ...] = (".attn2.",)
    text_keys_values: tuple[str, ...] = (".attn2.to_k", ".attn2.to_v")
    attention_layers: tuple[str, ...] = (".attn1.", ".attn2.")
    lora_targets: dict[str, list[str]] = {  # noqa: RUF012 (never changed)
        "self-attention": _SELF,
        "attention": _SELF + _CROSS,
        "attention+ff": _SELF + _CROSS + _FEED_FORWARD,
        "all": _SELF + _CROSS + _FEED_FORWARD + _CONVOLUTIONS,
    }

    def forward(self, scheduler_config: dict[str, Any]) -> Diffusion:
        scheduler = ddim(scheduler_config)
        return Diffusion(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    def schedule(self, bundle: ModelBundle, steps: int) -> Any:
        scheduler = SAMPLERS[bundle.sampler](bundle.scheduler_config)
        scheduler.set_timesteps(steps)
        return scheduler

    def native_side(self, denoiser: UNet2DConditionModel) -> int:
        size = denoiser.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    def channels(self, denoiser: UNet2DConditionModel) -> int:
        return int(denoiser.config.in_channels)

    def reader(self, bundle: ModelBundle) -> tuple[Any, int]:
        return bundle.tokenizer, bundle.prompt_length

    def distilled(self, bundle: ModelBundle) -> bool:
        return False
