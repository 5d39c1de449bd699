"""What the configurations of unlearning methods share, and DUO's. Torch-free."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from studio.config_base import MAX_SEED, Config, _field

UNETS = ("sd1", "sd2", "sdxl")  # names of families, as models.families has them
GUIDED = (*UNETS, "sd3")  # where a second pass under the empty prompt belongs to drawing
ALL_FAMILIES = (*GUIDED, "flux")
NO_CROSS_ATTENTION = "cross-attention, which a transformer over picture and text together does not have"
DISTILLED = "a pass under the empty prompt, without which a network that is distilled on its guidance draws"


class MethodConfig(Config):
    """What all unlearning methods share."""

    uses_pairs: ClassVar[bool] = True  # False: trained on prompts alone
    families: ClassVar[tuple[str, ...]] = ALL_FAMILIES  # that it is defined for
    because: ClassVar[str] = ""  # why for no others: "it changes cross-attention, which they do not have"

    @property
    def needs_pairs_prompts(self) -> bool:
        """Whether each pair must have an unsafe prompt, which pairs from outside may lack."""
        return False


class TrainingConfig(MethodConfig):
    """What all gradient-based methods share."""

    seed: int = _field(0, "Seed of the data order, the noise and the adapter's start.", ge=0, le=MAX_SEED)
    save_every: int = _field(50, "Optimizer steps between saved states.", unit="steps", ge=1)
    max_grad_norm: float = _field(1.0, "Gradients are clipped to this norm; 0 clips nothing.", ge=0)
    weight_decay: float = _field(1e-2, "AdamW weight decay.", ge=0)
    schedule: Literal["constant", "linear", "cosine"] = _field(
        "constant", "The learning rate after the warm-up: as it is, or down to nothing by the last step."
    )
    warmup_steps: int = _field(0, "Steps over which the learning rate rises from nothing.", unit="steps", ge=0)
    explosion: float = _field(
        1000.0, "A loss this many times that of the first steps ends the training; 0 never does.", ge=0
    )
    sample_every: int = _field(
        50, "Optimizer steps between rows of sample pictures; 0 draws none. The weights do not depend on it.",
        unit="steps", ge=0,
    )  # fmt: skip
    early_stop_pictures: int = _field(
        0, "Pictures with the concept, and as many without, that are judged at each row of samples to end early; 0 "
        "never ends early.", unit="pictures", ge=0, le=1000,
    )  # fmt: skip
    early_stop_rate: float = _field(
        0.0, "End early when the concept is in no more than this share of them.", ge=0, le=1
    )
    early_stop_distance: float = _field(
        0.2, "And while the others differ by at most this from the original's (LPIPS, or RMSE without it).",
        ge=0,
    )  # fmt: skip


class ConceptPrompts(Config):
    """Of methods that are told the concept in whole prompts."""

    prompts: list[str] = _field([], "Concept prompts; empty: the project's concept in words.")


class ConceptNames(Config):
    """Of methods that are told the concept by its names alone."""

    concepts: list[str] = _field([], "Names of the concept; empty: the project's concept in words.")


class RetainedPrompts(Config):
    """Of methods that are told what is to stay as it is."""

    retain_prompts: list[str] = _field(
        [], "Prompts that are to give what they gave; empty: photos of the 80 things that COCO names."
    )


class DuoConfig(TrainingConfig):
    """DUO: Diffusion-DPO on paired pictures plus output preservation at pure noise."""

    steps: int = _field(120, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(8, "Pairs a step.", unit="pairs", ge=1, le=512)
    learning_rate: float = _field(1e-3, "AdamW learning rate, used as it stands.", gt=0, le=1)
    beta: float = _field(500.0, "How strongly safe is preferred to unsafe.", symbol="β", gt=0)
    prior_weight: float = _field(1000.0, "Weight of the output-preserving term.", symbol="λ", ge=0)
    t_min: int = _field(0, "Lowest training timestep drawn.", unit="timestep", ge=0)
    t_max: int = _field(750, "Training timesteps are drawn below this.", unit="timestep", ge=1, le=1000)
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
    micro_batch_size: int = _field(
        0,
        "Pairs whose gradients are computed at once; 0 is the whole batch. Fewer need less memory.",
        unit="pairs",
        ge=0,
    )
    gradient_checkpointing: bool = _field(
        False, "Compute activations again on the way back instead of keeping them: less memory, more time."
    )
    park_in_a_file: bool = _field(
        False, "On a CPU: VAE and text encoders wait in a temporary file. Beside a GPU they always wait in memory."
    )
    noise_bank: int = _field(
        0, "Noises drawn once for each pair, whose predictions by the original are computed once; 0 draws fresh noise "
        "at every step.", unit="draws", ge=0, le=4096,
    )  # fmt: skip
    shard_base: bool = _field(
        False, "Several processes: share the frozen base among them (FSDP), where it does not fit on each GPU. Needs "
        "sample_every 0.",
    )  # fmt: skip
    one_adapter_a_group: bool = _field(
        False, "Train an adapter for each group of prompts and sum them, as the paper does for violence; off: one "
        "adapter on all pairs.",
    )  # fmt: skip

    @field_validator("t_max")
    @classmethod
    def _above_t_min(cls, t_max: int, info: ValidationInfo) -> int:
        if t_max <= (low := info.data.get("t_min", 0)):
            raise ValueError(f"timesteps from {low} to below {t_max} cannot be drawn. It must lie above t_min")
        return t_max

    @property
    def needs_pairs_prompts(self) -> bool:
        return self.prompt == "pair"
