"""Several changes of one checkpoint as one: the weighted sum of their updates.

LoRAs add exactly: their A and B are set side by side, so that B A is the sum of the parts' products and the rank that
of their ranks. Each part's weight and alpha / r are multiplied into its B, and the sum's alpha is its rank. A layer
that a part leaves alone gets zeros in its place, since a file has one rank. Where one part is edited weights, the sum
is edited weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from models.deltas import WeightDelta, weight_changes
from models.fingerprint import FINGERPRINT
from models.transport import METADATA as TRANSPORT

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


class ComposeError(ValueError):
    """Changes that cannot be summed. Says which, why, and the remedy."""


@dataclass(frozen=True)
class Part:
    """One of the changes that are summed."""

    name: str  # as shown to people
    delta: WeightDelta
    weight: float = 1.0  # below 0 it is taken away
    sha256: str = ""  # of its file


def compose(parts: Sequence[Part]) -> WeightDelta:
    """The sum of weight times update over the parts, in their order.

    What all parts' metadata agree on is kept; "composed" lists the parts (JSON).

    Raises:
        ComposeError: no parts, a weight that is 0 or not finite, other base checkpoints, layers of other shapes, or an
            adapter whose strength follows the prompt.
    """
    _check(parts)
    made = _loras if all(part.delta.kind == "lora" for part in parts) else _weights
    kind, tensors, facts = made(parts)
    listed = [{"name": part.name, "weight": part.weight, "sha256": part.sha256} for part in parts]
    metadata = {**_shared(parts), "composed": json.dumps(listed), **facts}
    return WeightDelta(kind, {name: tensors[name] for name in sorted(tensors)}, metadata)


def _loras(parts: Sequence[Part]) -> tuple[Literal["lora"], dict[str, torch.Tensor], dict[str, str]]:
    ranks = [int(part.delta.metadata["rank"]) for part in parts]
    layers = dict.fromkeys(key.removesuffix(_DOWN) for part in parts for key in part.delta.tensors if _DOWN in key)
    tensors = {}
    for layer in layers:
        down, up = layer + _DOWN, layer + _UP
        first = next(part for part in parts if down in part.delta.tensors)
        downs, ups = [], []
        for part, rank in zip(parts, ranks, strict=True):
            if down in part.delta.tensors:
                _check_shape(layer, first, part, down, up)
                factor = part.weight * float(part.delta.metadata["alpha"]) / rank
                downs.append(part.delta.tensors[down])
                ups.append(factor * part.delta.tensors[up])
            else:
                like_down, like_up = first.delta.tensors[down], first.delta.tensors[up]
                downs.append(like_down.new_zeros(rank, *like_down.shape[1:]))
                ups.append(like_up.new_zeros(len(like_up), rank, *like_up.shape[2:]))
        tensors[down], tensors[up] = torch.cat(downs, dim=0), torch.cat(ups, dim=1)
    targets = sorted({target for part in parts for target in json.loads(part.delta.metadata["targets"])})
    rank = sum(ranks)
    return "lora", tensors, {"rank": str(rank), "alpha": str(float(rank)), "targets": json.dumps(targets)}


def _weights(parts: Sequence[Part]) -> tuple[Literal["weights"], dict[str, torch.Tensor], dict[str, str]]:
    tensors: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, change in weight_changes(part.delta).items():
            if name not in tensors:
                tensors[name] = part.weight * change
            elif tensors[name].shape == change.shape:
                tensors[name] += part.weight * change
            else:
                raise _misfit(part.name, name, change.shape, tensors[name].shape)
    return "weights", tensors, {}


def _check(parts: Sequence[Part]) -> None:
    if not parts:
        raise ComposeError("There are 0 adapters to sum. Name at least one.")
    for part in parts:
        if part.weight == 0 or not math.isfinite(part.weight):
            raise ComposeError(f"The weight of {part.name} is {part.weight:g}. Use another number, or leave it out.")
        if TRANSPORT in part.delta.metadata:
            raise ComposeError(
                f"The strength of {part.name} follows the prompt (Facilitated Transport), which a sum of weights "
                "cannot keep. Train or import it without transport."
            )
    first = parts[0]
    for part in parts[1:]:
        if part.delta.part != first.delta.part:
            raise ComposeError(
                f"{first.name} changes the {first.delta.part} and {part.name} the {part.delta.part}. Sum adapters that "
                "change the same network of one checkpoint."
            )
    said = [(part, part.delta.metadata[FINGERPRINT]) for part in parts if part.delta.metadata.get(FINGERPRINT)]
    for part, base in said[1:]:
        if base != said[0][1]:
            raise ComposeError(
                f"{said[0][0].name} was trained on weights with the SHA-256 {said[0][1][:12]} and {part.name} on "
                f"{base[:12]}. Sum adapters of one checkpoint."
            )


def _check_shape(layer: str, first: Part, part: Part, down: str, up: str) -> None:
    """Equal but for the rank."""
    one, other = first.delta.tensors, part.delta.tensors
    shapes = [(tensors[up].shape[0], *tensors[down].shape[1:]) for tensors in (one, other)]
    if shapes[0] != shapes[1]:
        raise _misfit(part.name, layer, shapes[1], shapes[0])


def _misfit(name: str, layer: str, found: Sequence[int], wanted: Sequence[int]) -> ComposeError:
    return ComposeError(
        f"{name} changes {layer} of shape {tuple(found)}, the adapters before it one of shape {tuple(wanted)}. Sum "
        "adapters of one checkpoint."
    )


def _shared(parts: Sequence[Part]) -> dict[str, str]:
    """What all parts say alike; and the base, which some may not know."""
    first, *others = (part.delta.metadata for part in parts)
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    base = next((metadata[FINGERPRINT] for metadata in (first, *others) if metadata.get(FINGERPRINT)), None)
    return shared if base is None else {**shared, FINGERPRINT: base}
