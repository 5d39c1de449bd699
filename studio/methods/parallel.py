"""Several processes that train as one: each takes its rows of the same minibatch, and gradients are averaged.

Every process draws the same random numbers, so nothing but gradients, values and stops has to travel. An adapter's
gradients are small: they go in one message a step, without a wrapper around the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from studio.methods.state import TrainingError

_GONE = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting")  # gloo's words


@dataclass(frozen=True)
class Group:
    """This process among those that train together. One alone does nothing here."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one reports and saves."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's rows of `count`.

        Raises:
            ValueError: they cannot be dealt out evenly.
        """
        if count % self.size:
            raise ValueError(f"A batch of {count} cannot be dealt out to {self.size} processes; use a multiple.")
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the mean of all processes' gradients, in place."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._sum(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def average(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """The mean of all processes' values, which have the same names everywhere."""
        if self.size == 1:
            return dict(values)
        message = torch.tensor(list(values.values()), dtype=torch.float64).to(device)
        self._sum(message)
        return dict(zip(values, (message / self.size).tolist(), strict=True))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        message = torch.tensor([float(flag)], device=device)
        self._sum(message)
        return bool(message.item())

    def wait(self, device: torch.device) -> None:
        """Until all processes are here."""
        if self.size > 1:
            self._sum(torch.zeros(1, device=device))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, all processes compute what none can alone.

        Raises:
            TrainingError: another one ended.
        """
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, dist.DistError) or any(words in str(error) for words in _GONE)):
                raise
            raise self._gone(error) from error

    def _sum(self, message: torch.Tensor) -> None:
        try:
            dist.all_reduce(message)
        except RuntimeError as error:
            raise self._gone(error) from error

    def _gone(self, error: RuntimeError) -> TrainingError:
        return TrainingError(
            f"Another of the {self.size} processes of this training ended ({str(error).splitlines()[0]}). The "
            "job's log says which and why; resume the job to go on from the last saved state."
        )


def current_group() -> Group:
    """The processes that torch.distributed has joined, or this one alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return Group()
    return Group(dist.get_rank(), dist.get_world_size())
