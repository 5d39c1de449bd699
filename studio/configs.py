"""Every job's configuration: defaults, bounds, units and one line of help.

Torch-free, so that the page can build forms and the shell its flags from the same fields. Those of methods are in
`studio.method_configs`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from studio.config_base import MAX_SEED, Config, _field
from studio.method_configs import METHOD_CONFIGS

ENOUGH_PAIRS = 32  # accepted pairs from which a training is worth its time
PAPER_PAIRS = 64  # how many the paper trains on
MOST_PICTURES = 1_000_000  # of a cell of an evaluation
Protocol = Literal["", "duo", "unlearn-diff-atk", "i2p", "coco-3k", "coco-30k", "unlearncanvas"]
PROTOCOL_NAMES = get_args(Protocol)[1:]  # see studio.protocols


class SamplingConfig(Config):
    """How pictures are sampled, the same for every model that is compared."""

    steps: int = _field(20, "Denoising steps of a picture.", unit="steps", ge=1, le=1000)
    guidance_scale: float = _field(4.0, "How strongly the prompt is followed (classifier-free guidance).", ge=1, le=30)
    batch_size: int = _field(32, "Pictures sampled at once.", unit="pictures", ge=1, le=512)


class EditConfig(SamplingConfig):
    """SDEdit twins of unsafe pictures."""

    batch_size: int = _field(8, "Pictures sampled at once; pairs arrive in such groups.", unit="pictures", ge=1, le=512)
    strength: float = _field(0.7, "How much of the unsafe picture SDEdit repaints; 1 is all of it.", gt=0, le=1)
    strength_step: float = _field(0.1, "Added to the strength when new seeds do not remove the concept.", ge=0, le=1)
    seeds_per_strength: int = _field(2, "Seeds tried at one strength before it is raised.", ge=1, le=20)
    max_tries: int = _field(6, "Edits tried for one pair before it is listed as failed.", ge=1, le=100)
    filter_by_detector: bool = _field(
        True, "Keep only pairs whose unsafe picture shows the concept and whose twin does not."
    )

    @field_validator("strength")
    @classmethod
    def _repaints(cls, strength: float, info: ValidationInfo) -> float:
        steps = info.data.get("steps", 1000)
        if int(steps * strength) < 1:
            raise ValueError(
                f"{strength:g} of {steps} steps repaints nothing: every edit would be its unsafe picture. "
                f"Use a strength of {1 / steps:g} or more, or more steps"
            )
        return strength


class PairsConfig(EditConfig):
    """Unsafe pictures and their SDEdit twins."""

    auto_accept: bool = _field(False, "Accept the kept pairs in the detector's name instead of leaving that to people.")
    processes: int = _field(1, "Processes that share the pairs, one a GPU.", ge=1, le=1024)
    retry_failed: bool = _field(False, "Make the failed pairs again, with seeds not tried yet, and no missing ones.")
    redo: list[str] = _field(
        [], "Ids of pairs to make again, with other seeds and a strength one step higher, and no missing ones."
    )


class BringConfig(EditConfig):
    """Pairs of pictures from outside. Sampling and editing are those of twins that are made here."""

    path: str = _field("", "A folder, a .zip or a .parquet file.", min_length=1)
    name: str = _field("", "What to call it; empty: the name of the file or folder.")
    fit: Literal["crop", "pad"] = _field(
        "crop",
        "How a picture becomes a square. Crop: the shorter side is kept whole and the ends of the longer one are cut "
        "off; pad: nothing is cut off, and white fills the rest.",
    )
    make_twins: bool = _field(
        False, "An unsafe picture without a safe twin gets one by SDEdit; one that nothing marks counts as unsafe. "
        "Needs both prompts.",
    )  # fmt: skip
    unsafe_prompt: str = _field("", "Of pictures that come without: what they show, with the concept.", max_length=2000)
    safe_prompt: str = _field("", "Of pictures that come without: the same without the concept.", max_length=2000)
    accept_as: str = _field(
        "", "Your name, to accept the pairs that come whole; a decision in the file counts instead. Empty: they wait "
        "for a decision.", max_length=60,
    )  # fmt: skip
    limit: int = _field(0, "Take at most this many pairs; 0 takes all.", unit="pairs", ge=0)


class PushConfig(Config):
    """The curated set as a private dataset on the Hugging Face Hub."""

    repository: str = _field("", "The dataset's name on the Hub, owner/name.", pattern=r"^\s*[\w.-]+/[\w.-]+\s*$")
    which: Literal["accepted", "decided", "all"] = _field(
        "accepted", "Accepted pairs; decided: rejected ones too; all: undecided ones too."
    )
    names: bool = _field(False, "Reviewers by their names; else reviewer 1, reviewer 2 …")
    public: bool = _field(False, "Everybody may see the dataset.")


class StrengthsConfig(SamplingConfig):
    """One pair's unsafe picture edited at several strengths with one seed, to pick from."""

    pair: str = _field(..., "Id of the pair.")
    strengths: list[Annotated[float, Field(gt=0, le=1)]] = _field(
        [0.3, 0.45, 0.6, 0.75, 0.9], "Edit strengths; 1 repaints all.", min_length=1, max_length=9
    )
    seed: int | None = _field(None, "Seed of all edits; empty: that of the pair's first edit.", ge=0, le=MAX_SEED)


class ImportConfig(Config):
    """Another program's weights, to be compared with what is trained here."""

    path: str = _field("", "A .safetensors file, a diffusers folder, or a pickled state dict.", min_length=1)
    method: str = _field("", "Which method made them.", min_length=1)
    name: str = _field("", "What to call them; empty: their method and file.")
    transport: bool = _field(True, "SPM: let the adapter's strength follow the prompt, as its authors do.")


class AdapterWeight(Config):
    """One of the adapters that are summed."""

    checkpoint_id: str = _field("", "Which trained model.", min_length=1)
    weight: float = _field(1.0, "What its change is multiplied by; below 0 takes it away.", allow_inf_nan=False)


class ComposeConfig(Config):
    """Adapters of one checkpoint as one: the weighted sum of their changes."""

    parts: list[AdapterWeight] = _field([], "The adapters, each with its weight.", min_length=1, max_length=64)
    name: str = _field("", "What to call the sum; empty: the names of its parts.")


class ExportConfig(Config):
    """A trained model as files for other programs."""

    checkpoint_id: str = _field("", "The trained model.", min_length=1)
    format: Literal["merged", "single-file", "lora", "kohya"] = _field(
        "merged",
        "merged: whole model, a diffusers folder; single-file: whole model for ComfyUI and A1111; lora: for diffusers; "
        "kohya: a LoRA for ComfyUI and A1111. A LoRA can be taken off, scaled or negated by whoever holds it.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = _field(
        "float32", "Precision of the weights: float32 changes nothing, the others halve the files."
    )
    out: str = _field("", "Folder to write; empty: one in the studio's data folder.")
    push: str = _field(
        "", "Also send it to this repository on the Hugging Face hub, owner/name; empty: nowhere.",
        pattern=r"^([\w.-]+/[\w.-]+)?$",
    )  # fmt: skip
    private: bool = _field(True, "A repository that is made is private.")


class EvaluateConfig(SamplingConfig):
    """Original against unlearned models, on the same prompts and seeds."""

    protocol: Protocol = _field(
        "", f"A published way to measure: {', '.join(PROTOCOL_NAMES)}. Empty: the studio's own."
    )
    n: int = _field(200, "Pictures a cell; of a file at most so many prompts.", unit="pictures", ge=1, le=100_000)
    seed: int = _field(0, "First seed; every model gets the same seeds.", ge=0, le=MAX_SEED)
    seed_range: Literal["report", "sweep"] = _field(
        "report", "Which seeds the pictures get; sweep: those for choosing settings, which no report uses."
    )
    prompts: list[str] = _field([], "Files of the protocol's prompts that ask for the concept.")
    unrelated: list[str] = _field([], "Files of the protocol's prompts without the concept.")
    repeats: int = _field(1, "Pictures of each prompt of a protocol, from seeds that follow.", unit="pictures", ge=1,
                          le=1000)  # fmt: skip
    file_seeds: bool = _field(True, "Where a row of a file names a seed, draw from that one.")
    attacks: list[str] = _field([], "Jobs of finished attacks whose finds every model draws too.")
    incomplete: bool = _field(False, "Leave out what is missing for the protocol, and say so in the report.")
    gallery: int = _field(6, "Pictures of each cell kept for the report's gallery.", unit="pictures", ge=0, le=100)
    checkpoint_ids: list[str] = _field([], "Trained models to compare, by id or name; empty: all of the project.")
    measures: list[Literal["clip-score", "lpips-64", "fid", "imagenette"]] = _field(
        [],
        "What else to measure under prompts without the concept: CLIP score, LPIPS at 64 px, FID to the original's "
        "pictures (from 2,000 on), or ImageNette's ten classes as ResNet-50 sees them.",
    )
    scales: list[Annotated[float, Field(gt=0, le=10)]] = _field(
        [], "Draw each trained model also with its change times these, for the curve of forgetting against keeping.",
        max_length=12,
    )  # fmt: skip
    scale_pictures: int = _field(50, "Pictures a cell at each of them.", unit="pictures", ge=1, le=100_000)
    oracle: bool = _field(True, "Embedded checkpoint: add the model that never saw the concept.")
    processes: int = _field(1, "Processes that share the pictures, one a GPU.", ge=1, le=1024)
    command: str = _field("", "Command that the report names as its origin; empty: the evaluate command.")

    @field_validator("repeats")
    @classmethod
    def _possible(cls, repeats: int, info: ValidationInfo) -> int:
        n = info.data.get("n", 1)
        if n * repeats > MOST_PICTURES:
            raise ValueError(
                f"n x repeats is {n:,} x {repeats:,} = {n * repeats:,} pictures a cell, and {MOST_PICTURES:,} are the "
                "most. Lower one of them"
            )
        return repeats


class SweepConfig(Config):
    """One value of a method's configuration after the other: each trained, each evaluated, a point a value."""

    method: str = _field("duo", "Which method.")
    name: str = _field("", "What the models are called, before the value; empty: the method.")
    parameter: str = _field("beta", "The field of the method's configuration that changes.")
    values: list[Any] = _field([], "Its values, in the order in which they are trained.", min_length=1, max_length=50)
    config: dict[str, Any] = _field({}, "The other fields of the method's configuration.")
    evaluation: dict[str, Any] = _field({}, "Fields of the evaluation's configuration.")


class FetchConfig(Config):
    """A published network to download."""

    backbone: str = _field("", "Which one.", min_length=1)


class DemoConfig(Config):
    """The whole method on the embedded checkpoint, from nothing to a report."""

    seed: int = _field(0, "Seed of everything.", ge=0, le=MAX_SEED)
    n: int = _field(200, "Pictures a cell of the final table.", unit="pictures", ge=1, le=100_000)
    pairs: int = _field(96, "Image pairs to make.", unit="pairs", ge=8)
    methods: list[str] = _field(["duo", "esd"], "Methods to train, in this order.", min_length=1)

    @field_validator("methods")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in METHOD_CONFIGS:
                raise ValueError(f"There is no method {name!r}; use all, or some of {', '.join(METHOD_CONFIGS)}.")
            if names.count(name) > 1:
                raise ValueError(f"{name} is named twice; name each method once.")
        return names


JOB_CONFIGS: dict[str, type[Config]] = {
    "pairs": PairsConfig,
    "evaluate": EvaluateConfig,
    "demo": DemoConfig,
    "import": ImportConfig,
    "bring": BringConfig,
    "push": PushConfig,
    "compose": ComposeConfig,
    "export": ExportConfig,
    "strengths": StrengthsConfig,
    "fetch": FetchConfig,
    "sweep": SweepConfig,
}
