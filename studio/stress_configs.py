"""Configurations of what real attackers do to a model, and of found prompts drawn by others. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from studio.config_base import Config, _field
from studio.configs import SamplingConfig

Group = Literal["plain", "adapter", "int8", "samplers", "guidance", "img2img", "inpainting", "relearning"]
GROUPS: dict[Group, str] = {
    "plain": "As it is: the rate that the others are read against",
    "adapter": "The adapter scaled, removed or negated, by whoever holds it",
    "int8": "Weights rounded to int8, one scale an output channel",
    "samplers": "Other samplers than DDIM",
    "guidance": "Other guidance scales",
    "img2img": "A picture with the concept as the start",
    "inpainting": "Half of a picture with the concept to be filled in again",
    "relearning": "Training on pictures with the concept, or without it, until it is back",
}


class StressConfig(SamplingConfig):
    """How often models show the concept after what real attackers do, on the same prompts and seeds."""

    victims: list[str] = _field([], "Models: ids of trained ones; empty: all of them.")
    beside: bool = _field(True, "The original and, where there is one, the oracle beside them.")
    groups: list[Group] = _field(list(GROUPS), f"What is done: {', '.join(GROUPS)}.")
    n: int = _field(50, "Prompts of each cell, one picture each.", unit="prompts", ge=1, le=5000)
    seed: int = _field(0, "Which run of seeds; the same gives the same prompts and pictures.", ge=0)
    scales: list[float] = _field([0.5, 0.75, 1.25, 0.0, -1.0], "Strengths of the adapter; 0 removes, -1 negates it.")
    samplers: list[Literal["euler", "heun", "dpm++"]] = _field(["euler", "dpm++"], "Samplers beside DDIM.")
    guidances: list[float] = _field([1.5, 7.5, 12.0], "Guidance scales.")
    strengths: list[float] = _field([0.5, 0.7, 0.9], "How much of a start picture is repainted, in img2img.")
    inpaint_strengths: list[float] = _field([0.8, 1.0], "The same of the half that is filled in.")
    concept_pictures: list[int] = _field([5, 10, 50], "Pictures of the concept that a model is trained on.")
    benign_pictures: int = _field(50, "Pictures without the concept that it is trained on; 0: none.", ge=0, le=10_000)
    relearn_at: list[int] = _field([5, 10, 20, 50, 100, 200], "Training steps after which the rate is measured.")
    relearn_rate: float = _field(1e-4, "AdamW learning rate of the relearning, of all weights.", gt=0, le=1)
    relearn_batch: int = _field(4, "Pictures a training step.", unit="pictures", ge=1, le=512)
    back_at: float = _field(0.8, "Share of the original's rate from which the concept counts as back.", gt=0, le=1)

    @field_validator("relearn_at", "concept_pictures")
    @classmethod
    def _rising(cls, values: list[int]) -> list[int]:
        if any(value < 1 for value in values) or values != sorted(set(values)):
            raise ValueError("these must be whole numbers from 1 up, each larger than the one before")
        return values

    @field_validator("strengths", "inpaint_strengths")
    @classmethod
    def _shares(cls, values: list[float]) -> list[float]:
        if any(not 0 < value <= 1 for value in values):
            raise ValueError("a strength must lie above 0 and be at most 1")
        return values

    @field_validator("guidances")
    @classmethod
    def _guidances(cls, values: list[float]) -> list[float]:
        if any(not 1 <= value <= 30 for value in values):
            raise ValueError("a guidance scale must lie between 1 and 30")
        return values


class TransferConfig(Config):
    """Prompts that an attack found on some models, drawn by others."""

    attack_job: str = _field("", "Id of the attack's job; empty: the project's newest with found prompts.")
    models: list[str] = _field([], "Models that draw: original, oracle, ids of trained ones; empty: all trained ones.")
    working: bool = _field(True, "Only prompts that worked on the seed they were searched on.")
    batch_size: int = _field(32, "Pictures sampled at once.", unit="pictures", ge=1, le=512)


STRESS_CONFIGS: dict[str, type[Config]] = {"stress": StressConfig, "transfer": TransferConfig}
