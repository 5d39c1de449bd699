"""What is known of a checkpoint's shape before it is loaded: from a counted table, its configurations and headers."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.specs import LoadError, Reference, parse_reference
from models.stored import part_weights, pipeline_folder, tensor_names

CALIBRATION = Path(__file__).with_name("calibration.json")  # written by benchmarks/calibrate_memory.py
HUB = {  # published checkpoints that need not be here
    "compvis/stable-diffusion-v1-4": "sd1",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd1",
    "stabilityai/stable-diffusion-2": "sd2",
    "stabilityai/stable-diffusion-2-1": "sd2",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/stable-diffusion-3-medium-diffusers": "sd3",
    "black-forest-labs/flux.1-dev": "flux",
    "black-forest-labs/flux.1-schnell": "flux",
}
PIPELINES = {
    "StableDiffusionPipeline": ("unet", ("toybox", "sd1", "sd2")),
    "StableDiffusionXLPipeline": ("unet", ("sdxl",)),
    "StableDiffusion3Pipeline": ("transformer", ("sd3",)),
    "FluxPipeline": ("transformer", ("flux",)),
}
SAME = (  # what two networks of one shape have in common
    "block_out_channels", "layers_per_block", "cross_attention_dim", "transformer_layers_per_block", "in_channels",
    "num_layers", "num_single_layers", "num_attention_heads", "joint_attention_dim", "dual_attention_layers",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a training's memory and time depend on. Numbers are of one row of a minibatch, in float32 where they are
    bytes; lists belong to the `pixels` along a picture's side that were counted."""

    name: str  # of the row in the table
    exact: bool  # False: another network of the family, whose numbers are scaled from the table's row
    resolution: int  # pixels along one side that a training has
    large: bool  # loaded in bfloat16 on a GPU unless the settings say otherwise
    weights: dict[str, int]  # parameters: denoiser, vae, clip, t5
    gathered: int  # the denoiser's that are together at once where several processes share it
    adapter: dict[str, int]  # parameters at rank 1, by `layers`
    pixels: list[int]
    activations: dict[str, list[float]]  # bytes: kept, checkpointed
    half: dict[str, float]  # factor of these in half precision
    layers: dict[str, float]  # and by `layers`
    flops: dict[str, list[float]]  # forward without gradients; forward and backward: kept, checkpointed
    sampling: list[float]  # bytes of a forward pass without gradients
    decoding: list[float]  # bytes of one picture through the VAE's decoder
    embeds: int  # numbers that a prompt is for the network
    latents: int  # numbers that a picture of 8 x 8 pixels is

    @property
    def others(self) -> int:
        """Parameters beside the network that is trained."""
        return sum(count for part, count in self.weights.items() if part != "denoiser")

    def at(self, values: list[float], resolution: int) -> float:
        """The value at a resolution: on lines between the counted ones by the picture's area, beyond in proportion."""
        areas, area = [side * side for side in self.pixels], resolution * resolution
        place = bisect_right(areas, area)
        if place == 0:
            return values[0] * area / areas[0]
        if place == len(areas):
            return values[-1] * area / areas[-1]
        share = (area - areas[place - 1]) / (areas[place] - areas[place - 1])
        return values[place - 1] + share * (values[place] - values[place - 1])


@lru_cache(maxsize=1)
def calibration() -> dict[str, Any]:
    """The table and the measurements."""
    return dict(json.loads(CALIBRATION.read_text(encoding="utf-8")))


def table_shape(name: str, table: dict[str, Any] | None = None) -> Shape:
    """A row of the table."""
    row = (table or calibration()["shapes"])[name]
    own = {key: row[key] for key in row if key not in ("family", "config")}
    return Shape(name=name, exact=True, large=row["family"] in ("sdxl", "sd3", "flux"), **own)


def shape_of(checkpoint: str, toybox: Path) -> Shape | None:
    """The shape of a checkpoint; None where it is not on this machine and not well known, or cannot be read.

    Reads configurations and headers only.
    """
    try:
        reference = parse_reference(checkpoint)
        if reference.kind == "file":
            return _of_file(Path(reference.location))
        folder = pipeline_folder(reference, toybox)
        if folder is not None and (folder / "model_index.json").is_file():
            return _of_folder(folder, reference)
        known = HUB.get(reference.location.lower())
        return table_shape(known) if known else None
    except (LoadError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _of_folder(folder: Path, reference: Reference) -> Shape | None:
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    part, rows = PIPELINES[index["_class_name"]]
    config = json.loads((folder / (reference.unet or part) / "config.json").read_text(encoding="utf-8"))
    vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    pixels_a_latent = 2 ** (len(vae.get("block_out_channels", [0])) - 1)
    table = calibration()["shapes"]
    same = next((name for name in rows if _matches(config, table[name]["config"])), None)
    row = same or min(rows, key=lambda name: abs(_size(config) - _size(table[name]["config"])))
    shape = table_shape(row)
    side = config.get("sample_size") or 128
    shape = replace(shape, resolution=int(side if isinstance(side, int) else side[0]) * pixels_a_latent)
    counts = part_weights(reference, folder)
    if counts:
        texts = sum(count for name, count in counts.items() if name.startswith("text_encoder"))
        found = {"denoiser": counts.get(part, 0), "vae": counts.get("vae", 0), "clip": texts, "t5": 0}
        shape = replace(shape, weights=found)
    return shape if same else _scaled(shape, config, table[row])


def _matches(config: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether two configurations are of one shape; what one leaves out is the class's default there."""
    return all(config.get(name, known.get(name)) == known.get(name) for name in SAME)


def _size(config: dict[str, Any]) -> float:
    """About in proportion to what a network keeps of a picture: channels at each level, or width times depth."""
    if channels := config.get("block_out_channels"):
        return float(sum(width / 4**level for level, width in enumerate(channels)) * config.get("layers_per_block", 2))
    width = config.get("num_attention_heads", 24) * config.get("attention_head_dim", 64)
    return float(width * (config.get("num_layers", 1) + config.get("num_single_layers", 0) / 2))


def _scaled(shape: Shape, config: dict[str, Any], row: dict[str, Any]) -> Shape:
    """Another network of the family: activations by its size, FLOPs by its weights."""
    size = _size(config) / _size(row["config"])
    work = shape.weights["denoiser"] / row["weights"]["denoiser"] if shape.weights["denoiser"] else size
    return replace(
        shape,
        exact=False,
        gathered=round(shape.gathered * work),
        adapter={layers: round(count * size) for layers, count in shape.adapter.items()},
        activations={mode: [value * size for value in values] for mode, values in shape.activations.items()},
        sampling=[value * size for value in shape.sampling],
        flops={mode: [value * work for value in values] for mode, values in shape.flops.items()},
    )


def _of_file(path: Path) -> Shape | None:
    """One file in the original layout, told by the names of its tensors."""
    names = tensor_names(path)
    if any("conditioner.embedders.1" in name for name in names):
        return table_shape("sdxl")
    if any(".joint_blocks." in name for name in names):
        blocks = {match[1] for name in names if (match := re.search(r"joint_blocks\.(\d+)\.", name))}
        return table_shape("sd3") if len(blocks) == 24 else None
    if any(name.startswith("cond_stage_model.model.") for name in names):
        return table_shape("sd2")
    return table_shape("sd1") if any(name.startswith("cond_stage_model.transformer") for name in names) else None
