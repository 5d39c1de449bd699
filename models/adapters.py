"""Changes of a UNet as small files: attach, train, detach, apply, save, load, hash and merge them.

A delta is either a LoRA or the differences of edited weights. Both are applied the same way, by adding to the weights,
and removed by putting back the kept originals, so that a bundle is bit for bit what it was. In files and in memory keys
are relative to the UNet; files carry the prefix ``unet.``, which makes a LoRA file one that diffusers'
``load_lora_weights`` reads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from models.bundle import ModelBundle
from models.specs import LoadError

_SELF = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"]
_CROSS = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
_FEED_FORWARD = ["ff.net.0.proj", "ff.net.2"]
_CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "proj_in", "proj_out"]

LORA_TARGETS: dict[str, list[str]] = {
    "self-attention": _SELF,
    "attention": _SELF + _CROSS,
    "attention+ff": _SELF + _CROSS + _FEED_FORWARD,
    "all": _SELF + _CROSS + _FEED_FORWARD + _CONVOLUTIONS,
}

_PREFIX = "unet."
_DIFFUSERS_KEY = "lora_adapter_metadata"  # where diffusers looks for alpha and rank
_NAME = "default"


@dataclass(frozen=True)
class WeightDelta:
    """A change of a UNet.

    "lora": pairs ``<module>.lora_A.weight`` [r, in, …] and ``<module>.lora_B.weight`` [out, r, …], with "rank", "alpha"
    and "targets" in the metadata. "weights": ``<parameter>`` to its difference, new minus original. All float32, CPU.
    """

    kind: Literal["lora", "weights"]
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


# Training


def attach_lora(bundle: ModelBundle, *, rank: int, alpha: float, targets: list[str], seed: int) -> list[nn.Parameter]:
    """Put a new LoRA on the UNet and return its trainable float32 parameters in a fixed order.

    A is drawn on the CPU from `seed` (Kaiming uniform, as in Hu 2021, arXiv:2106.09685), B is zero: until it is trained
    the network is unchanged.

    Raises:
        ValueError: no layer of the UNet bears one of the target names.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none")
    with torch.random.fork_rng(devices=[]):
        bundle.unet.add_adapter(config, _NAME)
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for name, parameter in _lora_parameters(bundle):
        start = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
        parameter.data = start.to(bundle.device)
        parameters.append(parameter)
    return parameters


def _lora_parameters(bundle: ModelBundle) -> list[tuple[str, nn.Parameter]]:
    return sorted((name, p) for name, p in bundle.unet.named_parameters() if ".lora_A." in name or ".lora_B." in name)


def lora_delta(bundle: ModelBundle, metadata: dict[str, str] | None = None) -> WeightDelta:
    """The attached LoRA as a delta; rank, alpha and targets are added to the metadata."""
    config = bundle.unet.peft_config[_NAME]
    state = get_peft_model_state_dict(bundle.unet, adapter_name=_NAME)
    tensors = {key: value.detach().float().cpu().clone() for key, value in sorted(state.items())}
    facts = {
        "rank": str(config.r),
        "alpha": str(float(config.lora_alpha)),
        "targets": json.dumps(sorted(config.target_modules)),
    }
    return WeightDelta("lora", tensors, {**(metadata or {}), **facts})


@contextmanager
def adapter_disabled(bundle: ModelBundle) -> Iterator[None]:
    """The original network, while a LoRA is attached: the reference pass."""
    bundle.unet.disable_adapters()
    try:
        yield
    finally:
        bundle.unet.enable_adapters()


def detach(bundle: ModelBundle) -> None:
    """Take the attached LoRA off; the original modules are put back in their places."""
    bundle.unet.unload_lora()


@contextmanager
def tuned_weights(bundle: ModelBundle, names: Iterable[str]) -> Iterator[dict[str, nn.Parameter]]:
    """Make the named UNet parameters trainable float32 copies for a while; the originals come back on leaving.

    In a half-precision bundle the forward passes inside run under autocast.
    """
    every = dict(bundle.unet.named_parameters())
    tuned = {name: every[name] for name in names}
    originals = {name: parameter.data for name, parameter in tuned.items()}
    try:
        for name, parameter in tuned.items():
            parameter.data = originals[name].float().clone()
            parameter.requires_grad_(True)
        half = bundle.dtype != torch.float32
        with torch.autocast(bundle.device.type, bundle.dtype if half else None, enabled=half, cache_enabled=False):
            yield tuned
    finally:
        for name, parameter in tuned.items():
            parameter.grad = None
            parameter.requires_grad_(False)
            parameter.data = originals[name]


# Applying


def apply(bundle: ModelBundle, delta: WeightDelta, scale: float = 1.0) -> None:
    """Add `scale` times a delta to the UNet's weights, keeping the originals for `remove`. Deltas may be stacked.

    Raises:
        LoadError: the delta does not fit this checkpoint.
    """
    updates = _updates(bundle, delta)
    parameters = dict(bundle.unet.named_parameters())
    bundle.originals.append({name: parameters[name].detach().clone() for name in updates})
    _add(parameters, updates, scale)


def remove(bundle: ModelBundle) -> None:
    """Take the last applied delta off again, exactly."""
    parameters = dict(bundle.unet.named_parameters())
    for name, original in bundle.originals.pop().items():
        parameters[name].data.copy_(original)


@contextmanager
def applied(bundle: ModelBundle, delta: WeightDelta | None, scale: float = 1.0) -> Iterator[None]:
    """The bundle with a delta on it, inside the `with`. None is the original model."""
    if delta is None:
        yield
        return
    apply(bundle, delta, scale)
    try:
        yield
    finally:
        remove(bundle)


def merge(bundle: ModelBundle, delta: WeightDelta, scale: float = 1.0) -> None:
    """Make a delta part of the UNet for good. Unlike an adapter, merged weights cannot simply be left out again."""
    _add(dict(bundle.unet.named_parameters()), _updates(bundle, delta), scale)


@torch.no_grad()
def _add(parameters: dict[str, nn.Parameter], updates: dict[str, torch.Tensor], scale: float) -> None:
    for name, update in updates.items():
        parameter = parameters[name]
        parameter.copy_(parameter.float() + scale * update.to(parameter.device))


def _updates(bundle: ModelBundle, delta: WeightDelta) -> dict[str, torch.Tensor]:
    """Parameter name to what is added to it at scale 1, float32 on the CPU; checked against the UNet."""
    updates = _lora_updates(delta) if delta.kind == "lora" else delta.tensors
    shapes = {name: parameter.shape for name, parameter in bundle.unet.named_parameters()}
    for name, update in updates.items():
        if shapes.get(name) != update.shape:
            there = tuple(shapes[name]) if name in shapes else "no such weight"
            raise LoadError(
                f"The adapter does not fit {bundle.spec.name}: it changes {name} of shape {tuple(update.shape)}, the "
                f"checkpoint has {there}. Load the checkpoint the adapter was trained on."
            )
    return updates


def _lora_updates(delta: WeightDelta) -> dict[str, torch.Tensor]:
    """alpha / r * B A of each module, in the shape of its weight (Linear or Conv2d)."""
    factor = float(delta.metadata["alpha"]) / int(delta.metadata["rank"])
    updates = {}
    for key, down in delta.tensors.items():
        if key.endswith(".lora_A.weight"):
            module = key.removesuffix(".lora_A.weight")
            up = delta.tensors[f"{module}.lora_B.weight"]
            updates[f"{module}.weight"] = factor * (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])
    return updates


# Files


def save_delta(delta: WeightDelta, path: Path) -> str:
    """Write a delta as safetensors, atomically; returns the file's SHA-256. Equal deltas give equal files."""
    metadata = {"format": "pt", **delta.metadata, "kind": delta.kind}
    if delta.kind == "lora":
        metadata[_DIFFUSERS_KEY] = json.dumps(
            {
                "unet.r": int(delta.metadata["rank"]),
                "unet.lora_alpha": float(delta.metadata["alpha"]),
                "unet.target_modules": json.loads(delta.metadata["targets"]),
            },
            sort_keys=True,
        )
    data = to_safetensors({_PREFIX + key: value for key, value in delta.tensors.items()}, metadata)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def to_safetensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file. The library writes the header's metadata in random order; here it is sorted."""
    data = save({key: value.contiguous() for key, value in tensors.items()}, metadata)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the old file or the whole new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_delta(path: Path) -> WeightDelta:
    """Read a delta: one of ours, or a UNet LoRA in diffusers' format from elsewhere (alpha = rank if it names none).

    Raises:
        LoadError: the file is missing, pickled, damaged, not a delta, or holds values that are not finite.
    """
    if not path.is_file():
        raise LoadError(f"The adapter {path} does not exist. Check the path, or train again.")
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: the header's length in 8 bytes, then JSON
    if start[8:] != b"{":
        pickled = start[:1] == b"\x80" or start[:2] == b"PK"
        cause = "a pickled file, which can run code when it is opened, so it is never read" if pickled else "damaged"
        raise LoadError(f"{path} is no safetensors file but {cause}. Get the adapter as .safetensors.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise LoadError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error
    return _checked(path, tensors, metadata)


def _checked(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> WeightDelta:
    if not tensors or not all(key.startswith(_PREFIX) for key in tensors):
        odd = next((key for key in tensors if not key.startswith(_PREFIX)), "nothing")
        raise LoadError(f"{path} is no change of a UNet: it holds {odd}. Choose an adapter whose keys begin with unet.")
    tensors = {key.removeprefix(_PREFIX): value for key, value in sorted(tensors.items())}
    if broken := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise LoadError(
            f"{path} holds values that are not finite in {broken[0]}. Train again at a lower learning rate."
        )
    downs = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    ups = {key.removesuffix(".lora_B.weight") for key in tensors if key.endswith(".lora_B.weight")}
    kind = metadata.pop("kind", "lora" if downs else "")
    foreign = json.loads(metadata.pop(_DIFFUSERS_KEY, "{}"))
    metadata.pop("format", None)
    if kind == "weights":
        return WeightDelta("weights", tensors, metadata)
    if kind != "lora" or downs != ups or 2 * len(downs) != len(tensors):
        raise LoadError(
            f"{path} is neither a LoRA with A and B for every layer nor edited weights. Choose another file."
        )
    rank = foreign.get("unet.r", next(len(value) for key, value in tensors.items() if key.endswith(".lora_A.weight")))
    metadata.setdefault("rank", str(rank))
    metadata.setdefault("alpha", str(float(foreign.get("unet.lora_alpha", rank))))
    metadata.setdefault("targets", json.dumps(sorted(downs)))
    return WeightDelta("lora", tensors, metadata)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
