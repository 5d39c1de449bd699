"""What an attack's job costs at most, in work and in time. Torch-free: page and shell say it before the start.

Time follows from passes: a picture is two latents through the UNet a sampling step, and a backward pass takes about as
long as two forward ones. How long a pass takes is told by the project's earlier attacks; without any, by what was
measured on the embedded checkpoint, and for others nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from studio.attack_configs import AttackJobConfig, Cost, attack_config
from studio.records import AttackRun

BACKWARD = 2.0  # forward passes that a backward pass takes as long as
TEXT_SHARE = 0.1  # a prompt through the text encoder against a latent through the UNet, where it was not measured
CHARGED = 200  # passes from which a row's seconds say something


@dataclass(frozen=True)
class Speed:
    """Seconds of one pass."""

    forward: float  # a latent through the UNet
    text: float  # a prompt through the text encoder
    where: str  # what it was measured on, in words

    def seconds(self, cost: Cost, steps: int) -> float:
        """Of this work, where a picture takes so many sampling steps."""
        return self.forward * _latents(cost.queries, cost.forward, cost.backward, steps) + self.text * cost.text_passes


EMBEDDED = Speed(0.005, 0.0008, "as measured for the embedded checkpoint on one core")


@dataclass(frozen=True)
class Estimate:
    """The most that a job costs."""

    cost: Cost  # of the attack itself
    control: int  # queries of its control
    pictures: int  # plain prompts, and what is found, drawn to be judged
    seconds: float | None  # None where nothing was measured
    where: str = ""

    @property
    def words(self) -> str:
        """All of it, without the time."""
        cost = self.cost
        parts = [
            f"{cost.queries:,} queries" + (f" and {self.control:,} of the control" if self.control else ""),
            f"{cost.text_passes:,} prompts through the text encoder",
            f"{cost.forward:,} forward and {cost.backward:,} backward passes of a UNet",
        ]
        return f"At most {', '.join(parts)}, and {self.pictures:,} pictures to judge what is found."


def estimate(config: AttackJobConfig, victims: int, speed: Speed | None) -> Estimate:
    """Of the whole job on so many models; attacks that succeed early take less. Raises pydantic's ValidationError."""
    own = attack_config(config.attack, config.budget, config.values)
    attacked = config.n * victims
    cost = own.a_prompt(config.steps).times(attacked) + own.shared().times(victims)
    control = cost.queries * config.control
    judged = attacked * (1 + config.fresh) * (2 if config.control else 1)
    plain = attacked * (1 + config.fresh) + config.n  # and the original's pictures
    seconds = None
    if speed is not None:
        whole = cost + Cost(queries=control + judged + plain)
        seconds = speed.seconds(whole, config.steps)
    return Estimate(cost, control, judged, seconds, speed.where if speed else "")


def speed_of(runs: Iterable[AttackRun], embedded: bool) -> Speed | None:
    """From rows of earlier attacks; else the embedded checkpoint's, or None for any other."""
    rows = [run for run in runs if run.role != "plain" and run.seconds > 0]
    text_only = [run for run in rows if not run.forward and not run.queries and run.text_passes >= CHARGED]
    latents = [(run, _latents(run.queries, run.forward, run.backward, run.sampling.get("steps", 20))) for run in rows]
    latents = [(run, count) for run, count in latents if count >= CHARGED]
    text = _mean((run.seconds, run.text_passes) for run in text_only)
    share = text if text is not None else EMBEDDED.text if embedded else 0.0
    forward = _mean((max(run.seconds - share * run.text_passes, 0.0), count) for run, count in latents)
    if forward is None and text is None:
        return EMBEDDED if embedded else None
    if forward is None:
        forward = EMBEDDED.forward if embedded else (text or 0.0) / TEXT_SHARE
    text = text if text is not None else share or forward * TEXT_SHARE
    return Speed(forward, text, "at the pace of this project’s earlier attacks")


def _latents(queries: int, forward: int, backward: int, steps: int) -> float:
    """Work as latents through the UNet."""
    return forward + BACKWARD * backward + 2 * steps * queries


def _mean(pairs: Iterable[tuple[float, float]]) -> float | None:
    listed = list(pairs)
    total = sum(count for _, count in listed)
    return sum(seconds for seconds, _ in listed) / total if total else None
