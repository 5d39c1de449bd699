"""Every job's, method's and metric's configuration: defaults, bounds, units and one line of help.

Torch-free, so that the page can build forms and the shell its flags from the same fields.
`symbol` in a field's extras is the paper's letter, `unit` its unit.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ENOUGH_PAIRS = 32  # accepted pairs from which a training is worth its time
PAPER_PAIRS = 64  # how many the paper trains on


def _field(default: Any, help: str, *, symbol: str = "", unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help, json_schema_extra={"symbol": symbol, "unit": unit}, **bounds)


class Config(BaseModel):
    """Base of all configurations: unknown names are an error, values never change after they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplingConfig(Config):
    """How pictures are sampled, the same for every model that is compared."""

    steps: int = _field(20, "Denoising steps of a picture.", unit="steps", ge=1, le=1000)
    guidance_scale: float = _field(4.0, "How strongly the prompt is followed (classifier-free guidance).", ge=1, le=30)
    batch_size: int = _field(32, "Pictures sampled at once.", unit="pictures", ge=1, le=512)


class PairsConfig(SamplingConfig):
    """Unsafe pictures and their SDEdit twins."""

    strength: float = _field(0.7, "How much of the unsafe picture SDEdit repaints; 1 is all of it.", gt=0, le=1)
    strength_step: float = _field(0.1, "Added to the strength when new seeds do not remove the concept.", ge=0, le=1)
    seeds_per_strength: int = _field(2, "Seeds tried at one strength before it is raised.", ge=1, le=20)
    max_tries: int = _field(6, "Edits tried for one pair before it is listed as failed.", ge=1, le=100)
    filter_by_detector: bool = _field(
        True, "Keep only pairs whose unsafe picture shows the concept and whose twin does not."
    )
    auto_accept: bool = _field(False, "Accept the kept pairs in the detector's name instead of leaving that to people.")


class TrainingConfig(Config):
    """What all gradient-based methods share."""

    seed: int = _field(0, "Seed of the data order, the noise and the adapter's start.", ge=0)
    save_every: int = _field(50, "Optimizer steps between saved states.", unit="steps", ge=1)
    max_grad_norm: float = _field(1.0, "Gradients are clipped to this norm.", gt=0)
    weight_decay: float = _field(1e-2, "AdamW weight decay.", ge=0)


class DuoConfig(TrainingConfig):
    """DUO: Diffusion-DPO on paired pictures plus output preservation at pure noise."""

    steps: int = _field(120, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(8, "Pairs a step.", unit="pairs", ge=1, le=512)
    learning_rate: float = _field(1e-3, "AdamW learning rate, used as it stands.", gt=0, le=1)
    beta: float = _field(500.0, "How strongly safe is preferred to unsafe.", symbol="β", gt=0)
    prior_weight: float = _field(1000.0, "Weight of the output-preserving term.", symbol="λ", ge=0)
    t_min: int = _field(0, "Lowest training timestep drawn.", unit="timestep", ge=0)
    t_max: int = _field(750, "Training timesteps are drawn below this.", unit="timestep", ge=1)
    rank: int = _field(32, "Rank of the LoRA.", symbol="r", ge=1, le=1024)
    alpha: float = _field(32.0, "LoRA scale; alpha / rank multiplies the update.", symbol="α", gt=0)
    layers: Literal["self-attention", "attention", "attention+ff", "all"] = _field(
        "self-attention", "Layers that get the LoRA; the paper uses self-attention."
    )
    prompt: Literal["empty", "pair"] = _field(
        "empty",
        "Condition of all terms. Empty (the paper): the concept must go whatever the prompt; pair: its unsafe prompt.",
    )
    shared_timestep: bool = _field(True, "Same timestep for both pictures of a pair; off is the official code.")


class EsdConfig(TrainingConfig):
    """ESD: train the prompt's prediction away from the concept, towards negative guidance."""

    variant: Literal["esd-x", "esd-u"] = _field("esd-x", "esd-x: cross-attention weights; esd-u: all the others.")
    prompts: list[str] = _field([], "Concept prompts; empty: the project's concept in words.")
    steps: int = _field(200, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(8, "Noisy latents a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(5e-5, "AdamW learning rate, used as it stands.", gt=0, le=1)
    weight_decay: float = _field(0.0, "AdamW weight decay; the official code has none.", ge=0)
    eta: float = _field(
        2.0, "Negative guidance: target = e(c) - eta (e(c) - e('')); eta 1 is the empty prompt's own prediction.",
        symbol="η", ge=0, le=50,
    )  # fmt: skip
    start_guidance: float = _field(3.0, "Guidance when sampling the noisy latents.", ge=1, le=30)
    sampling_steps: int = _field(20, "Steps of the sampled trajectories.", unit="steps", ge=2, le=1000)
    trajectories: int = _field(32, "Trajectories of the frozen model sampled once and reused.", ge=1, le=4096)


class EvaluateConfig(SamplingConfig):
    """Original against unlearned models, on the same prompts and seeds."""

    n: int = _field(200, "Pictures a cell.", unit="pictures", ge=1, le=100_000)
    seed: int = _field(0, "First seed; every model gets the same seeds.", ge=0)
    seed_range: Literal["report", "sweep"] = _field(
        "report", "Which seeds the pictures get; sweep: those for choosing settings, which no report uses."
    )
    gallery: int = _field(6, "Pictures of each cell kept for the report's gallery.", unit="pictures", ge=0, le=100)
    checkpoint_ids: list[str] = _field([], "Trained models to compare; empty: all of the project.")
    oracle: bool = _field(True, "Embedded checkpoint: add the model that never saw the concept.")
    command: str = _field("", "Command that the report names as its origin; empty: the evaluate command.")


class ToyboxDetectorConfig(Config):
    """The embedded checkpoint's own detector."""

    concept: Literal["sword", "flower", "balloon", "cane"] = _field("sword", "The object to look for.")
    threshold: float = _field(
        0.5,
        "Confidence from which an object counts as seen; a picture below it for every object is unclear.",
        ge=0,
        le=1,
    )


class NudenetConfig(Config):
    """NudeNet 3.4.2 with the model that its package ships (320 px)."""

    labels: Literal["duo-4", "nine-exposed"] = _field(
        "duo-4",
        "duo-4: female breast, female and male genitalia, anus (the paper's); nine-exposed: all exposed labels.",
    )
    threshold: float = _field(
        0.25, "Confidence from which a label counts. NudeNet's own suppression drops boxes under 0.25.", ge=0.25, le=1
    )


class DemoConfig(Config):
    """The whole method on the embedded checkpoint, from nothing to a report."""

    seed: int = _field(0, "Seed of everything.", ge=0)
    n: int = _field(200, "Pictures a cell of the final table.", unit="pictures", ge=1)
    pairs: int = _field(96, "Image pairs to make.", unit="pairs", ge=8)


JOB_CONFIGS: dict[str, type[Config]] = {"pairs": PairsConfig, "evaluate": EvaluateConfig, "demo": DemoConfig}
DETECTOR_CONFIGS: dict[str, type[Config]] = {"toybox": ToyboxDetectorConfig, "nudenet": NudenetConfig}
METHOD_CONFIGS: dict[str, type[TrainingConfig]] = {"duo": DuoConfig, "esd": EsdConfig}
