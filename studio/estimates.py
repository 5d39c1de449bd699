"""How much memory and time a training of DUO will take, before it starts. Torch-free.

Memory is what the parts hold, added up: weights, the adapter with its optimizer, and what a minibatch keeps for its
gradients, which was counted on the published shapes without weights. What kernels and the allocator add was fitted on
real steps on a CPU (`benchmarks/calibrate_memory.py`); on a GPU nothing was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from studio.shapes import Shape, calibration, table_shape
from studio.training_configs import DuoConfig

ADAPTER_BYTES = 16  # a parameter: itself, its gradient and AdamW's two moments, in float32
ROWS = 3  # that go through the network for each pair: safe, unsafe, pure noise
SAMPLED = 2  # pictures drawn at once in the middle of a training; each is two rows with guidance
SAMPLE_PICTURES, SAMPLE_STEPS = 4, 20  # of one row of sample pictures
CUDA = 0.8e9  # bytes of a process on a GPU before it holds a tensor: assumed, not measured
BANK = 5  # latents that a draw of the noise bank keeps: noise, pure noise and three predictions
Phase = Literal["training", "drawing sample pictures", "loading the checkpoint"]
Source = Literal["earlier", "flops", ""]


@dataclass(frozen=True)
class Situation:
    """What a training meets besides its configuration."""

    shape: Shape
    device: str  # "cpu" | "cuda" | "mps"
    dtype: str = "auto"  # as in the settings
    pairs: int = 64
    processes: int = 1
    groups: int = 1  # adapters that are trained one after the other

    @property
    def half(self) -> bool:
        """Whether the checkpoint is loaded in half precision."""
        return self.dtype in ("float16", "bfloat16") or (
            self.dtype == "auto" and self.device == "cuda" and self.shape.large
        )


@dataclass(frozen=True)
class Memory:
    """Estimated bytes on one device at the fullest moment, what fills them, and how sure that is."""

    peak: float
    phase: Phase
    parts: Mapping[str, float]  # of training: weights, others, adapter, activations, bank, process
    error: float | None  # relative; None where nothing like it was measured
    basis: str  # what the estimate rests on, in words


def memory(config: DuoConfig, situation: Situation, fit: Mapping[str, float] | None = None) -> Memory:
    """The peak on one device. On a CPU all processes share its memory, and each holds all of it while it loads."""
    shape, fit = situation.shape, fit or calibration()["fit"]
    on_cpu = situation.device == "cpu"
    size = 2 if situation.half else 4
    weights, others = shape.weights["denoiser"] * size, shape.others * size
    held = shared(situation) * size if config.shard_base else weights
    mode = "checkpointed" if config.gradient_checkpointing else "kept"
    parts = {
        "process": fit["process"] if on_cpu else CUDA,
        "weights": float(held),
        "others": 0.0 if config.park_in_a_file or not on_cpu else float(others),
        "adapter": float(shape.adapter[config.layers] * config.rank * ADAPTER_BYTES),
        "activations": fit["step"] + fit[mode] * activations(config, situation),
        "bank": bank(config, situation) if on_cpu else 0.0,
    }
    moments: dict[Phase, float] = {"training": sum(parts.values())}
    # A network that is to be dealt out waits in the machine's memory.
    start = parts["process"] + others + (0 if config.shard_base and not on_cpu else weights)
    if not on_cpu or config.shard_base:
        moments["loading the checkpoint"] = start
    if config.sample_every or config.early_stop_pictures:
        drawn = max(
            2 * SAMPLED * shape.at(shape.sampling, shape.resolution),
            SAMPLED * shape.at(shape.decoding, shape.resolution),
        )
        moments["drawing sample pictures"] = start + parts["adapter"] + parts["bank"] + fit["kept"] * drawn * size / 4
    phase = max(moments, key=lambda moment: moments[moment])
    total = moments[phase] * (situation.processes if on_cpu else 1)
    known = on_cpu and shape.exact and shape.name in measured_shapes() and not config.shard_base
    error = fit["error"] if known else None
    return Memory(total, phase, parts, error, _basis(config, situation, fit["error"]))


def shared(situation: Situation) -> float:
    """Parameters of the denoiser on one of the processes that share it: its part, and what is gathered at once."""
    whole = situation.shape.weights["denoiser"]
    return min(whole, whole / situation.processes + situation.shape.gathered)


def activations(config: DuoConfig, situation: Situation) -> float:
    """Bytes that the rows going through the network at once keep, as counted."""
    shape = situation.shape
    mode = "checkpointed" if config.gradient_checkpointing else "kept"
    share = math.ceil(config.batch_size / situation.processes)
    pairs = min(config.micro_batch_size or share, share)
    half = shape.half[mode] if situation.half else 1.0
    return ROWS * pairs * shape.at(shape.activations[mode], shape.resolution) * half * shape.layers[config.layers]


def bank(config: DuoConfig, situation: Situation) -> float:
    """Bytes of the noise bank in the machine's memory."""
    latents = situation.shape.latents * (situation.shape.resolution / 8) ** 2
    return float(situation.pairs * config.noise_bank * BANK * latents * 4)


def measured_shapes() -> set[str]:
    """Names of the networks whose trainings were measured; the others were counted alone."""
    return {case["shape"] for case in calibration()["measured"]}


def _basis(config: DuoConfig, situation: Situation, error: float) -> str:
    measured = f"± {error:.0%} on the shapes that were measured, on a CPU"
    if config.shard_base:
        return f"a shared base was counted and not measured: the error is unknown there ({measured})"
    if not situation.shape.exact:
        return f"scaled from another network of its family, error unknown ({measured})"
    if situation.shape.name not in measured_shapes():
        return f"its network was counted and not measured: the error is unknown there ({measured})"
    if situation.device != "cpu":
        return f"estimated from a CPU and not measured on a GPU: the error is unknown there ({measured})"
    return measured


# Time


def work(config: DuoConfig, situation: Situation) -> float:
    """FLOPs of the whole training on one process, sample pictures left out."""
    shape, pixels = situation.shape, situation.shape.resolution
    mode = "checkpointed" if config.gradient_checkpointing else "kept"
    forward = shape.at(shape.flops["forward"], pixels)
    rows = ROWS * config.batch_size / situation.processes
    step = rows * (shape.at(shape.flops[mode], pixels) + (0 if config.noise_bank else forward))
    return situation.groups * config.steps * step + ROWS * situation.pairs * config.noise_bank * forward


class Sampled(Protocol):
    """What is read of a configuration whose training draws sample pictures."""

    @property
    def steps(self) -> int: ...
    @property
    def sample_every(self) -> int: ...


def drawing(config: Sampled, situation: Situation) -> float:
    """FLOPs of its rows of sample pictures."""
    if not config.sample_every:
        return 0.0
    shape = situation.shape
    rows = config.steps // config.sample_every + 2
    return (
        situation.groups
        * rows
        * SAMPLE_PICTURES
        * SAMPLE_STEPS
        * 2
        * shape.at(shape.flops["forward"], shape.resolution)
    )


def passes(config: DuoConfig, situation: Situation) -> float:
    """How often one process asks the network for rows and their gradients."""
    share = math.ceil(config.batch_size / situation.processes)
    return situation.groups * config.steps * math.ceil(share / min(config.micro_batch_size or share, share))


def cost(flops: float, calls: float, situation: Situation, fit: Mapping[str, Any] | None = None) -> float:
    """FLOPs of a plain matrix product that take as long: the network's own at its measured efficiency, and what each
    pass costs whatever its rows, by the network's weights."""
    fit = fit or calibration()["fit"]
    every = fit["pass"] + fit["pass_by_weight"] * situation.shape.weights["denoiser"]
    return flops / efficiency(situation, fit) + calls * float(every)


def efficiency(situation: Situation, fit: Mapping[str, Any]) -> float:
    """Share of a plain matrix product's FLOP/s that the network reaches; the middle one where it was not measured."""
    known: dict[str, float] = fit["efficiency"]
    precision = "half" if situation.half else "single"
    alike = sorted(value for name, value in known.items() if name.endswith(precision)) or sorted(known.values())
    return known.get(f"{situation.shape.name} {precision}", alike[len(alike) // 2])


@dataclass(frozen=True)
class Time:
    """Estimated seconds; None where nothing is known of the device."""

    seconds: float | None
    source: Source
    error: float | None = None  # relative


@dataclass(frozen=True)
class Pace:
    """An earlier training on this device: what it cost, by `training_cost`, and its seconds."""

    cost: float
    seconds: float


def training_cost(config: DuoConfig, situation: Situation) -> float:
    """`cost` of a whole training, sample pictures left out."""
    return cost(work(config, situation), passes(config, situation), situation)


def duration_of(config: DuoConfig, situation: Situation, paces: Iterable[Pace], matmul: float | None = None) -> Time:
    """Seconds of a training: by the newest earlier one of its checkpoint on this device, else by counted operations.

    `matmul` is the FLOP/s of a matrix product on a core of this processor.
    """
    whole = training_cost(config, situation) + cost(drawing(config, situation), 0, situation)
    return time_at(whole, situation, paces, matmul)


def time_at(whole: float, situation: Situation, paces: Iterable[Pace], matmul: float | None) -> Time:
    """Seconds of what costs `whole`, of any method: see `duration_of`."""
    for pace in paces:
        if pace.cost > 0 and pace.seconds > 0:
            return Time(whole / pace.cost * pace.seconds, "earlier")
    if situation.device != "cpu" or not matmul:
        return Time(None, "")
    return Time(whole / matmul, "flops", calibration()["fit"]["time_error"])


# What fits

SWITCHES = ("micro_batch_size", "gradient_checkpointing", "park_in_a_file", "noise_bank", "sample_every")


def ways(config: DuoConfig, situation: Situation) -> Iterable[DuoConfig]:
    """The same training with its memory switches turned on one after the other, the dearest in time last.

    None of them changes the result but by rounding, except `noise_bank`, which is taken away.
    """
    share = math.ceil(config.batch_size / situation.processes)
    sizes = [size for size in _halves(config.micro_batch_size or share) if size <= share]
    parked = {"park_in_a_file": True} if situation.device == "cpu" else {}
    for others in ({}, parked, {**parked, "noise_bank": 0}):
        for checkpointing in dict.fromkeys((config.gradient_checkpointing, True)):
            for size in sizes:
                small = {"micro_batch_size": 0 if size == share else size, "gradient_checkpointing": checkpointing}
                yield config.model_copy(update={**others, **small})
    last = {**parked, "noise_bank": 0, "micro_batch_size": 1, "gradient_checkpointing": True, "sample_every": 0}
    yield config.model_copy(update={**last, "early_stop_pictures": 0})


def fitting(config: DuoConfig, situation: Situation, room: float) -> DuoConfig | None:
    """The first of `ways` whose estimate is within `room` bytes; None where there is none."""
    return next((way for way in ways(config, situation) if memory(way, situation).peak <= room), None)


def _halves(count: int) -> list[int]:
    """8, 4, 2, 1."""
    found = [count]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def changes(before: DuoConfig, after: DuoConfig) -> dict[str, Any]:
    """What differs between two configurations."""
    old = before.model_dump()
    return {name: value for name, value in after.model_dump().items() if value != old[name]}


# Calibration


def parts_of_case(case: Mapping[str, Any], table: dict[str, Any]) -> dict[str, float]:
    """The counted parts of a measured case, for `benchmarks/calibrate_memory.py`."""
    config, situation = case_of(case, table)
    size = 2 if situation.half else 4
    return {
        "weights": float(situation.shape.weights["denoiser"] * size),
        "others": float((situation.shape.others - situation.shape.weights["t5"]) * size),
        "adapter": float(situation.shape.adapter[config.layers] * config.rank * ADAPTER_BYTES),
        "activations": activations(config, situation),
        "flops": work(config, situation),
        "passes": passes(config, situation),
    }


def case_of(case: Mapping[str, Any], table: dict[str, Any]) -> tuple[DuoConfig, Situation]:
    """A measured case as a training of one step, without sample pictures and the noise bank's filling; T5 was not
    loaded."""
    shape = table_shape(case["shape"], table)
    shape = replace(shape, resolution=case["pixels"], weights={**shape.weights, "t5": 0})
    own = {name: value for name, value in case.items() if name in DuoConfig.model_fields}
    config = DuoConfig(**own, steps=1, sample_every=0)
    return config, Situation(shape, "cpu", case["dtype"], pairs=0)


def gigabytes(count: float) -> str:
    """Bytes in 10^9: "7.9 GB", "21 GB"."""
    value = count / 1e9
    return f"{value:.1f} GB" if value < 20 else f"{value:.0f} GB"
