"""What a training step keeps in memory and computes, counted on networks without weights (PyTorch's meta device).

Every tensor that an operator makes is counted from its making to its release, forward and backward, so the peak is that
of the real graph, gradient checkpointing included; what kernels and the allocator add is not seen and is measured by
`calibrate_memory`. Attention is counted as the fused kernels keep it: inputs, output and one number a row.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from models.adapters import attach_lora
from models.families import get_family
from models.sharding import units
from studio.settings import REPOSITORY
from studio.shapes import SAME

META = torch.device("meta")
CONFIGS = REPOSITORY / "models" / "configs"
COLLECT = 200  # operators between two collections of garbage, whose cycles may hold tensors
ROWS = 3  # a pair's: safe, unsafe, pure noise
LAYERS = ("self-attention", "attention", "attention+ff", "all")
# Name -> family, folder of configurations, tokens and width of a prompt's embeddings, sides in pixels that are counted.
SHAPES: dict[str, tuple[str, str, tuple[int, int], tuple[int, ...]]] = {
    "toybox": ("sd1", "models/toybox/weights", (32, 96), (64,)),
    "sd1": ("sd1", "models/configs/v1", (77, 768), (256, 512)),
    "sdxl": ("sdxl", "models/configs/xl_base", (78, 2048), (256, 1024)),
    "sd3": ("sd3", "models/configs/sd3", (334, 4096), (256, 1024)),
    "flux": ("flux", "", (513, 4096), (256, 1024)),
    "sd2": ("sd2", "models/configs/v2", (77, 1024), (256, 768)),
}
FLUX_VAE = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made inside that are still held, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.operators = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        if self.operators % COLLECT == 0:
            gc.collect()
        given = {_storage(t)._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _storage(tensor)._cdata not in given:
                self._made(_storage(tensor))
        return result

    def _made(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known and self.known[key]() is storage:
            return

        def gone(_: Any) -> None:
            self.live -= size
            self.known.pop(key, None)

        self.known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _storage(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()


class _Attention(torch.autograd.Function):
    """What a fused kernel keeps and makes; its FLOPs are added to `flops`."""

    flops = 0

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        _Attention.flops += 4 * query.numel() * key.shape[-2]
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        _Attention.flops += 10 * query.numel() * key.shape[-2]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Inside, everything is counted; "bytes" and "flops" are there afterwards."""
    found: dict[str, float] = {}
    fused, _Attention.flops = F.scaled_dot_product_attention, 0
    F.scaled_dot_product_attention = lambda query, key, value, *_, **__: _Attention.apply(query, key, value)
    live, flops = LiveBytes(), FlopCounterMode(display=False)
    gc.freeze()
    try:
        with flops, live:
            yield found
    finally:
        gc.unfreeze()
        F.scaled_dot_product_attention = fused
    found["bytes"] = live.peak
    found["flops"] = flops.get_total_flops() + _Attention.flops


def configuration(name: str, part: str) -> dict[str, Any]:
    """A part's configuration: this repository's, or of FLUX.1 its class's own defaults, which are FLUX.1-dev's."""
    folder = SHAPES[name][1]
    if folder:
        return dict(json.loads((REPOSITORY / folder / part / "config.json").read_text(encoding="utf-8")))
    vae = json.loads((CONFIGS / "sd3" / "vae" / "config.json").read_text(encoding="utf-8")) | FLUX_VAE
    return {"transformer": {"guidance_embeds": True}, "vae": vae}[part]


def network(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """What `Family.predict` and `attach_lora` need of a bundle, without weights."""
    family = get_family(SHAPES[name][0])
    with META:
        denoiser = family.denoiser_class.from_config(configuration(name, family.denoiser)).to(dtype)
    denoiser.requires_grad_(False)
    pooling = SimpleNamespace(config=SimpleNamespace(projection_dim=1280))  # XL's second text encoder
    parts = {"denoiser": denoiser, "text_encoders": (None, pooling), "family": family, "spec": SimpleNamespace()}
    return SimpleNamespace(dtype=dtype, device=META, pixels_a_latent=pixels_a_latent(name), **parts)


def step(name: str, pixels: int, *, layers: str, checkpointed: bool, dtype: torch.dtype) -> dict[str, float]:
    """Bytes and FLOPs a row of one tuned forward and backward pass; the network and the adapter are not among them."""
    bundle = network(name, dtype)
    attach_lora(bundle, rank=32, alpha=32.0, targets=bundle.family.lora_targets[layers], seed=0)
    if checkpointed:
        bundle.denoiser.enable_gradient_checkpointing()
    bundle.spec.resolution = pixels
    bundle.denoiser.train(False)
    with counted() as found:
        _forward(name, bundle, pixels).float().square().mean().backward()
    return {key: value / ROWS for key, value in found.items()}


def forward(name: str, pixels: int) -> dict[str, float]:
    """Bytes and FLOPs a row of a forward pass without gradients."""
    bundle = network(name)
    bundle.spec.resolution = pixels
    with torch.no_grad(), counted() as found:
        _forward(name, bundle, pixels)
    return {key: value / ROWS for key, value in found.items()}


def _forward(name: str, bundle: Any, pixels: int) -> torch.Tensor:
    tokens, width = SHAPES[name][2]
    side = pixels // pixels_a_latent(name)
    latents = torch.empty(ROWS, bundle.family.channels(bundle.denoiser), side, side, device=META, dtype=bundle.dtype)
    embeds = torch.empty(ROWS, tokens, width, device=META, dtype=bundle.dtype)
    return bundle.family.predict(bundle, latents, torch.empty(ROWS, device=META), embeds, None)


def pixels_a_latent(name: str) -> int:
    return int(2 ** (len(configuration(name, "vae")["block_out_channels"]) - 1))


def decoding(name: str, pixels: int) -> float:
    """Bytes a picture of decoding latents."""
    config = configuration(name, "vae")
    with META:
        vae = AutoencoderKL.from_config(config)
    side = pixels // pixels_a_latent(name)
    with torch.no_grad(), counted() as found:
        vae.decode(torch.empty(1, config["latent_channels"], side, side, device=META), return_dict=False)
    return found["bytes"]


def weights(name: str) -> dict[str, int]:
    """Numbers of parameters: the network, the VAE, CLIP's text encoders and T5."""
    family = get_family(SHAPES[name][0])
    with META:
        vae = AutoencoderKL.from_config(configuration(name, "vae"))
        clips = [CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072))] if name == "flux" else []
        folder = REPOSITORY / (SHAPES[name][1] or "models/configs/sd3")
        kinds = {} if name == "flux" else dict(family.text_encoders)
        for part, kind in kinds.items():
            if kind in (CLIPTextModel, CLIPTextModelWithProjection):
                clips.append(kind(CLIPTextConfig.from_pretrained(folder / part)))
        t5 = [T5EncoderModel(T5Config.from_pretrained(folder / "text_encoder_3"))] if family.denoiser != "unet" else []
    return {"denoiser": _count(network(name).denoiser), "vae": _count(vae), "clip": sum(map(_count, clips)),
            "t5": sum(map(_count, t5))}  # fmt: skip


def gathered(network: torch.nn.Module) -> int:
    """Parameters of a network dealt out to several processes that are whole on each at once: the rest and two units."""
    each = sorted(_count(unit) for unit in units(network))
    return _count(network) - sum(each) + sum(each[-2:])


def adapter(name: str, layers: str) -> int:
    """An adapter's parameters at rank 1; they are proportional to the rank."""
    bundle = network(name)
    parts = attach_lora(bundle, rank=1, alpha=1.0, targets=bundle.family.lora_targets[layers], seed=0)
    return sum(part.numel() for part in parts)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shape(name: str) -> dict[str, Any]:
    """All that is kept of one shape; lists belong to the sides in `pixels`."""
    sides = SHAPES[name][3]
    modes = {"kept": False, "checkpointed": True}
    family, one = get_family(SHAPES[name][0]), network(name).denoiser
    plain: dict[str, Any] = {"layers": "self-attention", "dtype": torch.float32}
    steps = {mode: [step(name, side, checkpointed=on, **plain) for side in sides] for mode, on in modes.items()}
    first = {mode: found[0]["bytes"] for mode, found in steps.items()}

    def ratio(mode: str, **changes: Any) -> float:
        found = step(name, sides[0], checkpointed=modes[mode], **{**plain, **changes})
        return round(found["bytes"] / first[mode], 4)

    return {
        "family": family.name,
        "config": {key: one.config[key] for key in SAME if key in one.config}
        | ({} if family.denoiser == "unet" else {"attention_head_dim": one.config["attention_head_dim"]}),
        "resolution": family.native_side(one) * pixels_a_latent(name),
        "embeds": SHAPES[name][2][0] * SHAPES[name][2][1],
        "latents": family.channels(one),
        "weights": weights(name),
        "gathered": gathered(one),
        "adapter": {layers: adapter(name, layers) for layers in LAYERS},
        "pixels": list(sides),
        "activations": {mode: [round(one["bytes"]) for one in found] for mode, found in steps.items()},
        "half": {mode: ratio(mode, dtype=torch.bfloat16) for mode in modes},
        "layers": {LAYERS[0]: 1.0} | {layers: ratio("kept", layers=layers) for layers in LAYERS[1:]},
        "flops": {"forward": [round(forward(name, side)["flops"]) for side in sides]}
        | {mode: [round(one["flops"]) for one in found] for mode, found in steps.items()},
        "sampling": [round(forward(name, side)["bytes"]) for side in sides],
        "decoding": [round(decoding(name, side)) for side in sides],
    }
