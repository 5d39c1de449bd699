"""Whether a training of DUO fits on the device, how long one takes, and what would make it fit: the same words for page
and shell. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from studio.devices import Device, Devices, matmul_rate
from studio.durations import roughly
from studio.estimates import (
    SWITCHES,
    Memory,
    Pace,
    Situation,
    Time,
    changes,
    duration_of,
    fitting,
    gigabytes,
    memory,
    training_cost,
    ways,
)
from studio.groups import OPTION
from studio.method_configs import METHOD_CONFIGS, method_title
from studio.method_times import is_counted, method_cost, method_time
from studio.records import Checkpoint, Job, Project
from studio.settings import Settings
from studio.shapes import Shape, shape_of
from studio.store import Store
from studio.training_configs import DuoConfig, MethodConfig

RECENT = 20  # models among which an earlier training is looked for
SWITCH_WORDS = {
    "gradient_checkpointing": "gradient checkpointing",
    "park_in_a_file": "VAE and text encoders parked in a file",
    "noise_bank": "no noise bank",
    "sample_every": "no sample pictures",
    "early_stop_pictures": "no early stop",
}


@dataclass(frozen=True)
class Plan:
    """What is known of a training before it starts."""

    config: DuoConfig
    situation: Situation
    device: Device
    memory: Memory
    time: Time
    way: DuoConfig | None = None  # the configuration that fits, where this one does not

    @property
    def fits(self) -> bool:
        """Also where nobody knows how much memory is free."""
        return self.device.free is None or self.memory.peak <= self.device.free

    @property
    def is_tight(self) -> bool:
        """Whether it fits, but no longer with the error of the estimate on top."""
        free, error = self.device.free, self.memory.error
        return self.fits and free is not None and self.memory.peak * (1 + (error or 0.25)) > free

    @property
    def switches(self) -> dict[str, Any]:
        """What of the configuration to change, so that it fits."""
        return {} if self.way is None else changes(self.config, self.way)


def plan_of(
    store: Store, settings: Settings, devices: Devices, project: Project, config: DuoConfig, processes: int = 1
) -> Plan | None:
    """The plan of a training of DUO; None where the checkpoint's shape is not known."""
    shape = cached_shape(project.checkpoint, settings)
    if shape is None:
        return None
    running = [job.pid for job in store.list_jobs(states=("running", "stopping")) if job.pid is not None]
    device = devices.now(running)
    accepted = store.accepted_groups(project.id)
    situation = Situation(
        shape,
        device.kind,
        settings.dtype,
        pairs=store.pair_counts(project.id).accepted,
        processes=processes,
        groups=max(len(accepted), 1) if getattr(config, OPTION) else 1,
    )
    rate = processor_rate() if device.kind == "cpu" else None
    time = duration_of(config, situation, paces_of(store, project, situation, device), rate)
    plan = Plan(config, situation, device, memory(config, situation), time)
    if plan.fits or device.free is None:
        return plan
    return Plan(config, situation, device, plan.memory, time, fitting(config, situation, device.free))


def time_of(
    store: Store, settings: Settings, devices: Devices, project: Project, config: MethodConfig, method: str
) -> Time | None:
    """How long a training by another method than DUO takes; None where that is not counted of its settings."""
    if not is_counted(config):
        return None
    shape = cached_shape(project.checkpoint, settings)
    if shape is None:
        return Time(None, "")
    device = devices.now()
    situation = Situation(shape, device.kind, settings.dtype, pairs=0)
    earlier = (
        Pace(method_cost(was, situation), checkpoint.train_seconds)
        for checkpoint, _ in _earlier(store, project, device, method)
        if is_counted(was := METHOD_CONFIGS[method].model_validate(checkpoint.config)) and not was.early_stop_pictures
    )
    return method_time(config, situation, earlier, processor_rate() if device.kind == "cpu" else None)


def plans_of_sweep(
    store: Store, settings: Settings, project: Project, config: Mapping[str, Any], parameter: str, values: Sequence[Any]
) -> list[Plan]:
    """The plan of each value of a sweep of DUO, one after the other; [] where the checkpoint's shape is not known.

    Raises pydantic's ValidationError for a value that DUO does not take.
    """
    devices = Devices(settings)
    configs = [DuoConfig.model_validate({**config, parameter: value}) for value in values]
    plans = [plan_of(store, settings, devices, project, one) for one in configs]
    return [plan for plan in plans if plan is not None]


def largest(plans: Sequence[Plan]) -> Plan:
    """The training that needs most memory."""
    return max(plans, key=lambda plan: plan.memory.peak)


def sweep_words(plans: Sequence[Plan]) -> str:
    """What the trainings of a sweep will need; drawing its pictures is not estimated."""
    plan = largest(plans)
    free = "free memory is not known" if plan.device.free is None else f"{gigabytes(plan.device.free)} free"
    seconds = [one.time.seconds for one in plans if one.time.seconds is not None]
    needs = f"Needs about {gigabytes(plan.memory.peak)}{_while(plan.memory)}; {plan.device.name}: {free}."
    if len(seconds) < len(plans):
        return f"{needs} {time_words(plan.time)}"
    count = f"{len(plans)} trainings take" if len(plans) > 1 else "The training takes"
    return f"{needs} {count} about {roughly(sum(seconds))}, and each model's pictures come on top."


_shapes: dict[tuple[str, str], Shape] = {}


def cached_shape(checkpoint: str, settings: Settings) -> Shape | None:
    """A checkpoint's shape, read once; asked again while it is not known, since it may be downloaded meanwhile."""
    key = (checkpoint, str(settings.toybox))
    if key not in _shapes:
        found = shape_of(checkpoint, settings.toybox)
        if found is None:
            return None
        _shapes[key] = found
    return _shapes[key]


@cache
def processor_rate() -> float:
    """FLOP/s of a core of this processor, measured once a process."""
    return matmul_rate()


def paces_of(store: Store, project: Project, situation: Situation, device: Device) -> Iterator[Pace]:
    """Earlier trainings of DUO on this checkpoint and device by as many processes, the newest first."""
    for checkpoint, job in _earlier(store, project, device, "duo"):
        config = DuoConfig.model_validate(checkpoint.config)
        alike = job.config.get("processes", 1) == situation.processes
        if alike and not config.early_stop_pictures and not config.shard_base and not getattr(config, OPTION):
            was = Situation(situation.shape, device.kind, situation.dtype, len(job.config.get("pairs", ())),
                            situation.processes)  # fmt: skip
            yield Pace(training_cost(config, was), checkpoint.train_seconds)


def _earlier(store: Store, project: Project, device: Device, method: str) -> Iterator[tuple[Checkpoint, Job]]:
    """What a method made of this checkpoint on this device, the newest first."""
    same = {other.id for other in store.list_projects() if other.checkpoint == project.checkpoint}
    found = [one for project_id in same for one in store.list_checkpoints(project_id) if one.method == method]
    for checkpoint in sorted(found, key=lambda one: -one.created)[:RECENT]:
        job = store.get_job(checkpoint.job_id)
        if job.config.get("device") == device.name:
            yield checkpoint, job


PLAIN = {"micro_batch_size": 0, "gradient_checkpointing": False, "park_in_a_file": False}  # no switch on


def fit_into(plan: Plan, room: float) -> dict[str, Any] | None:
    """The memory switches, on or off, by which a plan's training fits into `room` bytes with the least loss of time;
    None where none do."""
    way = fitting(plan.config.model_copy(update=PLAIN), plan.situation, room)
    return None if way is None else {name: value for name, value in way.model_dump().items() if name in SWITCHES}


def plan_words(plan: Plan) -> str:
    """What a training will need, in two sentences."""
    free = "free memory is not known" if plan.device.free is None else f"{gigabytes(plan.device.free)} free"
    needs = f"Needs about {gigabytes(plan.memory.peak)}{_while(plan.memory)}"
    return f"{needs}; {plan.device.name}: {free} ({plan.memory.basis}). {time_words(plan.time)}"


def time_words(time: Time) -> str:
    """How long a training takes, and how that is known."""
    if time.seconds is None:
        return "How long it takes is not known before the first training of this checkpoint on this device."
    about = f"Takes about {roughly(time.seconds)}"
    if time.source == "earlier":
        return f"{about}, by the newest earlier training of this checkpoint here."
    return f"{about} on one core, by counted operations and its speed (± {time.error or 0:.0%} where measured)."


def method_words(method: str, time: Time | None) -> str:
    """What is known before a training by another method than DUO."""
    title = method_title(method)
    if time is None:
        return f"No estimate of time or memory is known for this training by {title}."
    if time.seconds is None:
        return f"How long it takes is not known before the first training by {title} of this checkpoint on this device."
    counted = f"counted operations, ± {time.error or 0:.0%} where measured"
    by = "the newest earlier one here" if time.source == "earlier" else counted
    return f"About {roughly(time.seconds)} (by {by}). No estimate of memory is known for {title}."


def refusal(plan: Plan) -> str:
    """Why a training cannot start and what would make it fit; "" where it can."""
    if plan.fits or plan.device.free is None:
        return ""
    said = f"This training needs about {gigabytes(plan.memory.peak)}, {plan.device.name} has "
    said += f"{gigabytes(plan.device.free)} free ({plan.memory.basis})."
    if plan.way is None:
        least = memory(_least(plan), plan.situation)
        return (
            f"{said} With every memory switch on it would still need about {gigabytes(least.peak)}"
            f"{_while(least)}. Use a smaller checkpoint, {_half(plan)}or another device."
        )
    needs = memory(plan.way, plan.situation)
    words = switch_words(plan.switches)
    return f"{said} {words[:1].upper()}{words[1:]} needs about {gigabytes(needs.peak)}."


def switch_words(switches: dict[str, Any]) -> str:
    """Switches as one names them: "gradient checkpointing with micro-batch 1"."""
    named = [SWITCH_WORDS[name] for name in SWITCH_WORDS if name in switches]
    size = switches.get("micro_batch_size")
    small = [] if size is None else [f"micro-batch {size}" if size else "the whole batch at once"]
    if named and small:
        return " with ".join([named[0], ", ".join([*small, *named[1:]])])
    return ", ".join(named + small)


def on_words(config: DuoConfig, before: DuoConfig) -> str:
    """The memory switches that are on in a configuration; the noise bank where it was on before."""
    on = {name: getattr(config, name) for name, off in PLAIN.items() if getattr(config, name) != off}
    gone = {name: 0 for name in ("noise_bank", "sample_every") if getattr(before, name) and not getattr(config, name)}
    return switch_words(on | gone) or "no memory switch on"


def never_fits(plan: Plan, into: str) -> str:
    """Why no switches help, and what else may."""
    half = "" if plan.situation.half else "try half precision (DUO_STUDIO_DTYPE=bfloat16), or "
    least = gigabytes(memory(_least(plan), plan.situation).peak)
    return f"No switches make this training fit into {into}: it needs at least {least}; {half}use a smaller checkpoint."


def _least(plan: Plan) -> DuoConfig:
    return list(ways(plan.config, plan.situation))[-1]


def _half(plan: Plan) -> str:
    return "" if plan.situation.half else "half precision (DUO_STUDIO_DTYPE=bfloat16), "


def _while(memory: Memory) -> str:
    return "" if memory.phase == "training" else f" while {memory.phase}"
