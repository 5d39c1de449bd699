"""Read other programs' LoRAs, in the layouts of peft, of diffusers, old and new, and of kohya's scripts, as ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from models.bundle import ModelBundle
from models.deltas import PARTS, WeightDelta
from models.foreign_keys import PREFIXES, Places, Tensors, UnchangedError, refuse_strange
from models.original_layout import unet_key
from models.specs import LoadError

# How programs name the two factors of a LoRA, after the layer's name; the first is our own.
_FACTOR = re.compile(
    r"(?P<layer>.+?)[._](?:(?P<plain>lora_(?P<side>A|B|down|up))(?:\.\w+)?|lora\.(?P<old>down|up)"
    r"|lora_linear_layer\.(?P<older>down|up))\.weight"
)
_DOWN = ("A", "down")


def is_lora(keys: Iterable[str]) -> bool:
    """Whether a file of these keys holds factors."""
    return any(_FACTOR.fullmatch(key) for key in keys)


def lora_of(tensors: Tensors, metadata: dict[str, str], path: Path, bundle: ModelBundle) -> WeightDelta:
    """Any layout's LoRA in ours: one rank for all, each layer's alpha / rank in its second factor where they differ."""
    downs, ups, alphas = factors_of(tensors, path, bundle)
    if not any(up.any() and downs[layer].any() for layer, up in ups.items()):
        raise UnchangedError(f"{path} changes nothing: of each of its {len(ups)} layers one factor is 0.")
    own = {layer: float(value.flatten()[0]) for layer, value in alphas.items()}
    return _one_rank(downs, ups, own, _common_alpha(metadata))


def factors_of(tensors: Tensors, path: Path, bundle: ModelBundle) -> tuple[Tensors, Tensors, Tensors]:
    """Both factors of each layer, and the alphas of those that have their own. Raises LoadError."""
    layers = _layer_names(bundle)
    downs, ups, alphas = Places(path), Places(path), Places(path)
    strange = []
    for key, value in tensors.items():
        match = _FACTOR.fullmatch(key)
        name = match["layer"] if match else key.removesuffix(".alpha")
        layer = layers.get(_plain(name))
        if layer is None or (match is None and (value.numel() != 1 or not key.endswith(".alpha"))):
            strange.append(key)
        elif match is None:
            alphas.put(layer, key, value)
        else:
            side = downs if (match["side"] or match["old"] or match["older"]) in _DOWN else ups
            side.put(layer, key, value)
    refuse_strange(strange, len(tensors), path, bundle)
    if downs.tensors.keys() != ups.tensors.keys():
        odd = sorted(downs.tensors.keys() ^ ups.tensors.keys())[0]
        raise LoadError(f"{path} has only one of the two factors of {odd}. Get a whole copy.")
    for layer, down in downs.tensors.items():
        up = ups.tensors[layer]
        if down.dim() < 2 or up.dim() < 2 or not len(down) == up.shape[1] > 0:
            raise LoadError(
                f"{path} has factors of {layer} of shapes {tuple(down.shape)} and {tuple(up.shape)}, which are no "
                "factors of one matrix. Get a whole copy."
            )
    return downs.tensors, ups.tensors, alphas.tensors


def _layer_names(bundle: ModelBundle) -> dict[str, str]:
    """Plain name to the name of each layer that has a weight; kohya's LoRAs of XL have the original's names."""
    layers = [name for name, module in bundle.denoiser.named_modules() if hasattr(module, "weight")]
    names = {_plain(name): name for name in layers}
    if bundle.spec.family == "sdxl":
        config = dict(bundle.denoiser.config)
        names |= {_plain(unet_key(f"{name}.weight", config).removesuffix(".weight")): name for name in layers}
    return names


def _plain(name: str) -> str:
    """A layer's name as every program writes it in the end: no prefix, no processors, dots and underscores alike."""
    for prefix in (*PREFIXES, "lora_unet_"):
        name = name.removeprefix(prefix)
    name = re.sub(r"\.processor\.to_(q|k|v|out)$", r".to_\1", name)
    name = re.sub(r"\.to_out$", ".to_out.0", name)
    return name.replace(".", "_")


def _common_alpha(metadata: dict[str, str]) -> float | None:
    """The alpha that diffusers or we say in the header, for layers that have none of their own."""
    try:
        said = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        own = next(
            (said[key] for key in (*(f"{part}.lora_alpha" for part in PARTS), "lora_alpha") if key in said), None
        )
        found = metadata.get("alpha") or own
        return None if found is None else float(found)
    except (ValueError, AttributeError, TypeError):
        return None


def _one_rank(downs: Tensors, ups: Tensors, alphas: dict[str, float], common: float | None) -> WeightDelta:
    """Layers of a lower rank are filled up with zeros; an alpha of 0 stands for the rank, as in kohya's scripts."""
    ranks = {layer: len(down) for layer, down in downs.items()}
    rank = max(ranks.values())
    scales = {layer: (alphas.get(layer) or common or ranks[layer]) / ranks[layer] for layer in downs}
    shared = next(iter(scales.values())) if len(set(scales.values())) == 1 else 1.0
    tensors = {}
    for layer in sorted(downs):
        down, up = downs[layer], ups[layer] * (scales[layer] / shared)
        missing = rank - ranks[layer]
        tensors[f"{layer}.lora_A.weight"] = torch.cat([down, down.new_zeros(missing, *down.shape[1:])])
        tensors[f"{layer}.lora_B.weight"] = torch.cat([up, up.new_zeros(len(up), missing, *up.shape[2:])], dim=1)
    facts = {"rank": str(rank), "alpha": str(shared * rank), "targets": json.dumps(sorted(downs))}
    return WeightDelta("lora", tensors, facts)
