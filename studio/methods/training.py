"""The training loop that all gradient-based methods share: AdamW, one generator, clipping, saving and resuming.

All randomness comes from one generator on the CPU, so that a seed means the same run on every device; on the CPU a
stopped and resumed run gives bit for bit the weights of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from models.deltas import to_safetensors
from models.files import write_atomically
from studio.methods.base import Report, Stopped

STATE_FILE = "state.safetensors"
# No weight depends on these fields, so a saved state need not match in them: one that was saved before there was such
# a field can still be resumed, and the pictures may be turned off in the middle of a run.
WITHOUT_EFFECT = {"sample_every"}

StepFunction = Callable[[torch.Generator], tuple[torch.Tensor, dict[str, float]]]


class TrainingError(RuntimeError):
    """Training that cannot start or go on. Says the cause, the value and the remedy."""


class LoopConfig(Protocol):
    """What the loop reads of a method's configuration."""

    steps: int
    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    save_every: int
    seed: int

    def model_dump_json(self, *, exclude: set[str] | None = None) -> str: ...


def train(
    method: str,
    parameters: Sequence[nn.Parameter],
    step_function: StepFunction,
    config: LoopConfig,
    report: Report,
    state_folder: Path | None = None,
) -> None:
    """Optimise `parameters` in place for `config.steps` steps.

    Args:
        method: its name; part of what a saved state must match.
        parameters: float32, in an order that is the same in every run.
        step_function: draws one minibatch with the generator and returns (loss, values to report).
        config: the method's configuration.
        report: called after every step with loss, the step's values and grad_norm (before clipping).
        state_folder: where `state.safetensors` is written and looked for; the caller deletes it when it wishes.

    Raises:
        Stopped: from `report`; the state is saved first.
        TrainingError: the loss or the gradient is not finite, or the state found belongs to another run.
    """
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    run = hashlib.sha256(f"{method} {config.model_dump_json(exclude=WITHOUT_EFFECT)}".encode()).hexdigest()
    state = None if state_folder is None else TrainingState(state_folder / STATE_FILE, run)
    done = state.load(parameters, optimizer, generator) if state else 0
    for step in range(done + 1, config.steps + 1):
        loss, values = step_function(generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = float(nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
        _check_finite(step, float(loss.detach()), grad_norm, config)
        optimizer.step()
        save = state is not None and step % config.save_every == 0
        if state is not None and save:
            state.save(step, parameters, optimizer, generator)
        values = {"loss": float(loss.detach()), **values, "grad_norm": grad_norm}
        try:
            report(step, config.steps, f"Training, loss {values['loss']:.4g}", **values)
        except Stopped:
            if state is not None and not save:
                state.save(step, parameters, optimizer, generator)
            raise


def draw_rows(count: int, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """Indices [batch_size] of a minibatch: none twice, unless there are fewer than `batch_size`, then evenly often."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(math.ceil(batch_size / count))]
    return torch.cat(rounds)[:batch_size]


def _check_finite(step: int, loss: float, grad_norm: float, config: LoopConfig) -> None:
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {grad_norm}"
    raise TrainingError(
        f"Training broke down at step {step}: {what}. Most often the learning rate ({config.learning_rate:g}) is too "
        "high, or the model runs in half precision. Lower the learning rate (try a third), or load it in float32."
    )


class TrainingState:
    """Weights, optimizer, generator and step of a run in one safetensors file."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run  # identifies method and configuration

    def save(
        self,
        step: int,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        tensors = {"generator": generator.get_state()}
        for index, parameter in enumerate(parameters):
            tensors[f"weight.{index}"] = parameter.detach().cpu()
            for name, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu()
        write_atomically(self.path, to_safetensors(tensors, {"step": str(step), "run": self.run}))

    @torch.no_grad()
    def load(
        self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> int:
        """Put the saved run back in place, if there is one; returns the steps already done."""
        if not self.path.is_file():
            return 0
        remedy = f"Delete {self.path} to train from the start, or give this run a folder of its own."
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                metadata = file.metadata() or {}
                if metadata.get("run") != self.run:
                    raise TrainingError(f"{self.path} is the state of another method or configuration. {remedy}")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise TrainingError(f"{self.path} is damaged ({error}). {remedy}") from error
        optimizer_state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                optimizer_state.setdefault(int(index), {})[name] = value
        for index, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"weight.{index}"])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": optimizer_state})
        generator.set_state(tensors["generator"])
        return int(metadata["step"])


def delta_metadata(method: str, checkpoint: str, revision: str | None, config: LoopConfig) -> dict[str, str]:
    """What a delta's file says of its making: method, base checkpoint and effective configuration."""
    facts = {"method": method, "checkpoint": checkpoint, "config": config.model_dump_json()}
    return facts if revision is None else {**facts, "revision": revision}
