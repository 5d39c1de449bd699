"""Put changes on a bundle's network and take them off: trainable LoRAs and weights, and saved deltas.

A saved delta of either kind is applied the same way, by adding to the weights, and removed by putting back the kept
originals, so that a bundle is bit for bit what it was. What a delta is and how it is saved: `models.deltas`, whose
names can be imported from here too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import nn

from models.bundle import ModelBundle
from models.deltas import (
    Replaced,
    WeightDelta,
    checked_sha256,
    file_sha256,
    load_delta,
    part_metadata,
    save_delta,
    weight_changes,
)
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.specs import LoadError
from models.transport import METADATA as TRANSPORT
from models.transport import TransportedLora

__all__ = [
    "LoadError", "TunedWeights", "WeightDelta", "adapter_disabled", "applied", "apply", "attach_lora",
    "check_base", "checked_sha256", "detach", "file_sha256", "load_delta", "lora_delta", "merge", "remove",
    "save_delta", "tuned_weights",
]  # fmt: skip

_NAME = "default"  # of the attached LoRA


# Training


def attach_lora(bundle: ModelBundle, *, rank: int, alpha: float, targets: list[str], seed: int) -> list[nn.Parameter]:
    """Put a new LoRA on the network and return its trainable float32 parameters in a fixed order.

    A is drawn on the CPU from `seed` (Kaiming uniform, as in Hu 2021, arXiv:2106.09685), B is zero: until it is trained
    the network is unchanged.

    Raises:
        ValueError: no layer bears one of the target names.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none")
    with torch.random.fork_rng(devices=[]):
        bundle.denoiser.add_adapter(config, _NAME)
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
    return sorted(
        (name, p) for name, p in bundle.denoiser.named_parameters() if ".lora_A." in name or ".lora_B." in name
    )


def lora_delta(bundle: ModelBundle, metadata: dict[str, str] | None = None) -> WeightDelta:
    """The attached LoRA as a delta; rank, alpha and targets are added to the metadata."""
    config = bundle.denoiser.peft_config[_NAME]
    state = get_peft_model_state_dict(bundle.denoiser, adapter_name=_NAME)
    tensors = {key: value.detach().float().cpu().clone() for key, value in sorted(state.items())}
    facts = {
        "rank": str(config.r),
        "alpha": str(float(config.lora_alpha)),
        "targets": json.dumps(sorted(config.target_modules)),
    }
    return WeightDelta("lora", tensors, {**(metadata or {}), **facts, **part_metadata(bundle.family.denoiser)})


@contextmanager
def adapter_disabled(bundle: ModelBundle) -> Iterator[None]:
    """The original network, while a LoRA is attached: the reference pass."""
    bundle.denoiser.disable_adapters()
    try:
        yield
    finally:
        bundle.denoiser.enable_adapters()


def detach(bundle: ModelBundle) -> None:
    """Take the attached LoRA off; the original modules are put back in their places."""
    bundle.denoiser.unload_lora()


@dataclass(frozen=True)
class TunedWeights:
    """Parameters in training and the values they had."""

    parameters: dict[str, nn.Parameter]
    originals: dict[str, torch.Tensor]
    part: str = "unet"  # the pipeline's name of the network

    def delta(self, metadata: dict[str, str] | None = None) -> WeightDelta:
        """What training has changed so far."""
        tensors = {
            name: (parameter.detach() - self.originals[name].float()).cpu()
            for name, parameter in self.parameters.items()
        }
        return WeightDelta("weights", tensors, {**(metadata or {}), **part_metadata(self.part)})


@contextmanager
def tuned_weights(bundle: ModelBundle, names: Sequence[str], part: str = "") -> Iterator[TunedWeights]:
    """Make the named parameters trainable float32 copies for a while; the originals come back on leaving.

    In a half-precision bundle the forward passes inside run under autocast. `part` is the pipeline's name of the
    network, the denoiser's if it is empty.
    """
    part = part or bundle.family.denoiser
    every = dict(bundle.network(part).named_parameters())
    tuned = TunedWeights({name: every[name] for name in names}, {name: every[name].data for name in names}, part)
    half = bundle.dtype != torch.float32
    autocast = torch.autocast(bundle.device.type, bundle.dtype if half else None, enabled=half, cache_enabled=False)
    try:
        for name, parameter in tuned.parameters.items():
            parameter.data = tuned.originals[name].float().clone()
            parameter.requires_grad_(True)
        with autocast, nullcontext() if part == bundle.family.denoiser else bundle.text_in_training():
            yield tuned
    finally:
        for name, parameter in tuned.parameters.items():
            parameter.grad = None
            parameter.requires_grad_(False)
            parameter.data = tuned.originals[name]


# Applying


def apply(bundle: ModelBundle, delta: WeightDelta, scale: float = 1.0) -> None:
    """Add `scale` times a delta to its network's weights, keeping the originals for `remove`. Deltas may be stacked.

    A delta with Facilitated Transport is put beside the weights instead: see `models.transport`.

    Raises:
        LoadError: the delta does not fit this checkpoint, or was made on another one.
    """
    updates = _updates(bundle, delta)
    if delta.kind == "lora" and TRANSPORT in delta.metadata:
        bundle.originals.append(TransportedLora(bundle, delta, scale))
        return
    parameters = _parameters(bundle, delta.part)
    bundle.originals.append(Replaced(delta.part, {name: parameters[name].detach().clone() for name in updates}))
    _add(parameters, updates, scale)
    bundle.text_changed()


def remove(bundle: ModelBundle) -> None:
    """Take the last applied delta off again, exactly."""
    applied = bundle.originals.pop()
    if isinstance(applied, TransportedLora):
        applied.remove()
        return
    parameters = _parameters(bundle, applied.part)
    for name, original in applied.weights.items():
        parameters[name].data.copy_(original)
    bundle.text_changed()


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
    """Make a delta part of its network for good. Unlike an adapter, merged weights cannot simply be left out again.

    Facilitated Transport is lost: the adapter is then at full strength for every prompt.
    """
    _add(_parameters(bundle, delta.part), _updates(bundle, delta), scale)
    bundle.fingerprint = ""  # it is another checkpoint now
    bundle.text_changed()


def check_base(bundle: ModelBundle, delta: WeightDelta) -> None:
    """Refuse a delta that says it was made on other weights: it may fit in shape and still mean nothing here.

    One that says nothing, made elsewhere or by an earlier version, passes.

    Raises:
        LoadError: it was made on another checkpoint.
    """
    made_on = delta.metadata.get(FINGERPRINT)
    if made_on and made_on != (found := fingerprint_of(bundle)):
        named = f" ({delta.metadata['checkpoint']})" if "checkpoint" in delta.metadata else ""
        raise LoadError(
            f"The adapter was trained on a checkpoint{named} with the SHA-256 {made_on[:12]}, but the weights of "
            f"{bundle.spec.name} have {found[:12]}: on them it means nothing. Load the checkpoint it was trained on, "
            "or train again on this one."
        )


def _parameters(bundle: ModelBundle, part: str) -> dict[str, nn.Parameter]:
    return dict(bundle.network(part).named_parameters())


@torch.no_grad()
def _add(parameters: dict[str, nn.Parameter], updates: dict[str, torch.Tensor], scale: float) -> None:
    for name, update in updates.items():
        parameter = parameters[name]
        parameter.copy_(parameter.float() + scale * update.to(parameter.device))


def _updates(bundle: ModelBundle, delta: WeightDelta) -> dict[str, torch.Tensor]:
    """Parameter name to what is added to it at scale 1, float32 on the CPU; checked against the checkpoint."""
    check_base(bundle, delta)
    updates = weight_changes(delta)
    shapes = {name: parameter.shape for name, parameter in _parameters(bundle, delta.part).items()}
    for name, update in updates.items():
        if shapes.get(name) != update.shape:
            there = tuple(shapes[name]) if name in shapes else "no such weight"
            raise LoadError(
                f"The adapter does not fit {bundle.spec.name}: it changes {name} of shape {tuple(update.shape)}, the "
                f"checkpoint has {there}. Load the checkpoint the adapter was trained on."
            )
    return updates
