"""The training loop that all gradient-based methods share: AdamW, one generator, clipping, saving and resuming.

All randomness comes from one generator on the CPU, so that a seed means the same run on every device; on the CPU a
stopped and resumed run gives bit for bit the weights of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from studio.methods.base import Enough, Report, Stopped
from studio.methods.parallel import Group, current_group
from studio.methods.state import STATE_FILE, TrainingError, TrainingState, UntrainableError

__all__ = [
    "STATE_FILE",
    "SplitStep",
    "TrainingError",
    "TrainingState",
    "UntrainableError",
    "delta_metadata",
    "draw_rows",
    "train",
]

# Weights depend on these by rounding or not at all, so a saved state need not match in them: a run may be resumed with
# smaller parts after it ran out of memory, or with its pictures turned off.
WITHOUT_EFFECT = {
    "sample_every",
    "micro_batch_size",
    "gradient_checkpointing",
    "park_in_a_file",
    "explosion",
    "shard_base",
} | {f"early_stop_{what}" for what in ("pictures", "rate", "distance")}
# Fields that came later: at these values they are as if they did not exist, for states that were saved before.
LATER = {"schedule": "constant", "warmup_steps": 0, "noise_bank": 0, "one_adapter_a_group": False}
EARLY = 20  # steps whose median loss tells what an exploding one is

StepFunction = Callable[[torch.Generator], tuple[torch.Tensor, dict[str, float]]]


@runtime_checkable
class SplitStep(Protocol):
    """A step whose loss is a mean over a minibatch's rows: it can be computed in parts, also on several devices.

    A method whose loss is no such mean gives the loop a plain function, which computes all of it at once.
    """

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Everything random of one minibatch: tensors with its rows first, the same on every process."""
        ...

    def loss(self, drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss of some rows of what was drawn, and what to report of them (scalars, means over rows)."""
        ...


class LoopConfig(Protocol):
    """What the loop reads of a method's configuration."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    warmup_steps: int
    explosion: float
    save_every: int
    seed: int

    @property
    def schedule(self) -> str: ...
    def model_dump_json(self, *, exclude: set[str] | None = None) -> str: ...


def train(
    method: str,
    parameters: Sequence[nn.Parameter],
    step: SplitStep | StepFunction,
    config: LoopConfig,
    report: Report,
    state_folder: Path | None = None,
) -> None:
    """Optimise `parameters` in place for `config.steps` steps.

    In a group of processes each computes its share of every minibatch; the first one reports and saves.

    Args:
        method: its name; part of what a saved state must match.
        parameters: float32, in an order that is the same in every run.
        step: draws minibatches and computes their losses.
        config: the method's configuration.
        report: called after every step with loss, the step's values, grad_norm (before clipping) and learning_rate;
            `Enough` from it ends the training as if this were the last step.
        state_folder: where `state.safetensors` is written and looked for; the caller deletes it when it wishes.

    Raises:
        Stopped: from `report`; the state is saved first.
        TrainingError: the loss or the gradient is not finite or explodes, memory ran out twice, the minibatch cannot be
            dealt out to the processes, or the state found belongs to another run.
    """
    loop = Loop(parameters, step, config, current_group())
    state = None if state_folder is None else TrainingState(state_folder / STATE_FILE, run_name(method, config))
    done = state.load(parameters, loop.optimizer, loop.generator) if state else 0
    loop.group.wait(loop.device)
    for number in range(done + 1, config.steps + 1):
        values = loop.step(number)
        if number % config.save_every == 0 or number == config.steps:
            loop.check_weights(number)
        save = state is not None and loop.group.is_main and number % config.save_every == 0
        if state is not None and save:
            state.save(number, parameters, loop.optimizer, loop.generator)
        stopped: Stopped | None = None
        enough = False
        try:
            report(number, config.steps, f"Training, loss {values['loss']:.4g}", **values)
        except Stopped as asked:
            stopped = asked
        except Enough:
            enough = True
        if loop.group.any(stopped is not None, loop.device):
            if state is not None and loop.group.is_main and not save:
                state.save(number, parameters, loop.optimizer, loop.generator)
            raise stopped or Stopped(f"Another process was asked to stop at step {number}.")
        if loop.group.any(enough, loop.device):
            return


class Loop:
    """What is kept from step to step."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], step: SplitStep | StepFunction, config: LoopConfig, group: Group
    ) -> None:
        self.parameters, self.compute, self.config, self.group = parameters, step, config, group
        self.device = parameters[0].device
        self.optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.rows_at_once = int(getattr(config, "micro_batch_size", 0)) or config.batch_size
        self.losses: list[float] = []  # of the first steps of this try
        try:
            group.share(config.batch_size)
        except ValueError as error:
            raise TrainingError(str(error)) from error

    def step(self, number: int) -> dict[str, float]:
        """One step of the optimizer; returns what to report of it."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate(self.config, number)
        with self.group.together():
            values = self.gradients()
        values = self.group.average(values, self.device)
        self.group.average_gradients(self.parameters)
        grad_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm or math.inf))
        self.check(number, values["loss"], grad_norm)
        self.optimizer.step()
        return {**values, "grad_norm": grad_norm, "learning_rate": learning_rate(self.config, number)}

    def gradients(self) -> dict[str, float]:
        """Draw a minibatch and leave its gradients; where memory runs out, once more in parts half as large."""
        self.optimizer.zero_grad(set_to_none=True)
        if not isinstance(self.compute, SplitStep):
            loss, values = self.compute(self.generator)
            loss.backward()
            return {"loss": float(loss.detach()), **values}
        drawn = self.compute.draw(self.generator)
        share = self.group.share(self.config.batch_size)
        own = tuple(part[share] for part in drawn)
        try:
            return self.accumulate(own)
        except torch.OutOfMemoryError as error:
            if getattr(self.config, "shard_base", False):  # the others would wait for this one's second try
                raise TrainingError(_OUT_OF_MEMORY_SHARDED.format(rows=min(self.rows_at_once, len(own[0])))) from error
            at_once = min(self.rows_at_once, len(own[0]))
            if at_once == 1:
                raise TrainingError(_OUT_OF_MEMORY.format(rows=1)) from error
            self.rows_at_once = math.ceil(at_once / 2)
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return self.accumulate(own)
        except torch.OutOfMemoryError as error:
            raise TrainingError(_OUT_OF_MEMORY.format(rows=self.rows_at_once)) from error

    def accumulate(self, drawn: tuple[torch.Tensor, ...]) -> dict[str, float]:
        """Gradients of the mean loss over the rows, a few rows at a time."""
        assert isinstance(self.compute, SplitStep)
        total: dict[str, float] = {}
        count = len(drawn[0])
        for part in parts(drawn, self.rows_at_once):
            weight = len(part[0]) / count
            loss, values = self.compute.loss(part)
            (loss * weight).backward()
            for name, value in {"loss": loss, **values}.items():
                total[name] = total.get(name, 0.0) + weight * float(value.detach())
        return total

    def check(self, number: int, loss: float, grad_norm: float) -> None:
        """Raises TrainingError where the run has broken down."""
        config = self.config
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {grad_norm}"
            raise TrainingError(
                f"Training broke down at step {number}: {what}. {_kept(number, config)} Most often the learning rate "
                f"({config.learning_rate:g}) is too high, or the model runs in half precision. Lower the learning rate "
                "(try a third), or load it in float32."
            )
        if len(self.losses) < EARLY:
            self.losses.append(loss)
        usual = statistics.median(self.losses)
        if config.explosion and loss > config.explosion * max(usual, math.log(2)):
            raise TrainingError(
                f"Training exploded at step {number}: its loss is {loss:.4g}, that of the first steps was {usual:.4g}. "
                f"{_kept(number, config)} Most often the learning rate ({config.learning_rate:g}) is too high: try a "
                f"third, or some warm-up steps. If such a loss is meant, raise explosion ({config.explosion:g}; 0 is "
                "never)."
            )

    def check_weights(self, number: int) -> None:
        """Raises TrainingError where the step itself broke the weights: its loss was taken before that."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters):
            raise TrainingError(
                f"Training broke down at step {number}: it left weights that are not finite. "
                f"{_kept(number, self.config)} Most often the learning rate ({self.config.learning_rate:g}) or the "
                f"weight decay ({self.config.weight_decay:g}) is too high. Lower them."
            )


_OUT_OF_MEMORY = (
    "The device ran out of memory with {rows} pairs at once, a second time. Use a smaller micro_batch_size, "
    "gradient_checkpointing, half precision (DUO_STUDIO_DTYPE=bfloat16), or a checkpoint of a lower resolution; then "
    "resume."
)

_OUT_OF_MEMORY_SHARDED = (
    "The device ran out of memory with {rows} pairs at once. With a shared base (shard_base) there is no second try in "
    "smaller parts: use a smaller micro_batch_size, gradient_checkpointing, or more processes; then resume."
)


def _kept(number: int, config: LoopConfig) -> str:
    saved = (number - 1) // config.save_every * config.save_every
    return f"The state of step {saved} is kept." if saved else "No state was saved before it."


def run_name(method: str, config: LoopConfig) -> str:
    """What tells one run's saved state from another's."""
    same = {name for name, value in LATER.items() if getattr(config, name, value) == value}
    return hashlib.sha256(f"{method} {config.model_dump_json(exclude=WITHOUT_EFFECT | same)}".encode()).hexdigest()


def learning_rate(config: LoopConfig, step: int) -> float:
    """The rate of step 1 … steps: a linear warm-up, then constant, or down to nothing in a line or a cosine."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    left = (config.steps - step) / max(config.steps - config.warmup_steps, 1)
    decay = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return config.learning_rate * decay[config.schedule]


def parts(drawn: tuple[torch.Tensor, ...], size: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """What was drawn, `size` rows at a time."""
    for first in range(0, len(drawn[0]), size):
        yield tuple(part[first : first + size] for part in drawn)


def draw_rows(count: int, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """Indices [batch_size] of a minibatch: none twice, unless there are fewer than `batch_size`, then evenly often."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(math.ceil(batch_size / count))]
    return torch.cat(rounds)[:batch_size]


def delta_metadata(method: str, checkpoint: str, revision: str | None, config: Any) -> dict[str, str]:
    """What a delta's file says of its making: method, base checkpoint and effective configuration."""
    facts = {"method": method, "checkpoint": checkpoint, "config": config.model_dump_json()}
    return facts if revision is None else {**facts, "revision": revision}
