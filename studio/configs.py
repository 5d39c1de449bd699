"""Every job's, method's and metric's configuration: defaults, bounds, units and one line of help.

Torch-free, so that the page can build forms and the shell its flags from the same fields.
`symbol` in a field's extras is the paper's letter, `unit` its unit.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

ENOUGH_PAIRS = 32  # accepted pairs from which a training is worth its time
PAPER_PAIRS = 64  # how many the paper trains on
MAX_SEED = 2**63 - 1  # PyTorch's generators take no larger one
Protocol = Literal["", "duo", "unlearn-diff-atk", "i2p", "coco-3k", "coco-30k", "unlearncanvas"]
PROTOCOL_NAMES = get_args(Protocol)[1:]  # see studio.protocols


def _field(default: Any, help: str, *, symbol: str = "", unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help, json_schema_extra={"symbol": symbol, "unit": unit}, **bounds)


class Config(BaseModel):
    """Base of all configurations: unknown names are an error, numbers are finite, values never change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


UNETS = ("sd1", "sd2", "sdxl")  # names of families, as models.families has them
GUIDED = (*UNETS, "sd3")  # where a second pass under the empty prompt belongs to drawing
ALL_FAMILIES = (*GUIDED, "flux")
_NO_CROSS_ATTENTION = "cross-attention, which a transformer over picture and text together does not have"
_DISTILLED = "a pass under the empty prompt, without which a network that is distilled on its guidance draws"


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
    max_grad_norm: float = _field(1.0, "Gradients are clipped to this norm.", gt=0)
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


class EsdConfig(ConceptPrompts, TrainingConfig):
    """ESD: train the prompt's prediction away from the concept, towards negative guidance."""

    uses_pairs: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = GUIDED
    because: ClassVar[str] = f"its target is made of {_DISTILLED}"

    variant: Literal["esd-x", "esd-x-strict", "esd-u", "esd-all"] = _field(
        "esd-x",
        "esd-x: cross-attention weights; esd-x-strict: only its keys and values; esd-u: all but cross-attention; "
        "esd-all: both.",
    )
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


class UceConfig(ConceptNames, MethodConfig):
    """UCE: cross-attention's keys and values of each name's last word replaced by another's, in closed form."""

    uses_pairs: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = UNETS
    because: ClassVar[str] = f"it solves for the keys and values of {_NO_CROSS_ATTENTION}"

    guides: list[str] = _field(
        [], "What the concept shall mean instead: one for all, or one a name. Empty: the empty prompt (erase); a "
        "neutral word moderates.",
    )  # fmt: skip
    attributes: list[str] = _field(
        [], "Debias: what each name shall mean beside itself (or its guide), with a weight if not 1: “woman=0.4”."
    )  # fmt: skip
    preserve: list[str] = _field([], "Prompts whose last word shall mean what it did.")
    erase_scale: float = _field(
        1.0, "Weight of the concept's names. Too high a value breaks pictures.", symbol="e", ge=0
    )
    preserve_scale: float = _field(1.0, "Weight of the preserved prompts.", symbol="p", ge=0)
    ridge: float = _field(0.5, "Weight of the old matrices: how much all other words are held.", symbol="λ", gt=0)


class ReceConfig(UceConfig):
    """RECE: UCE again and again, on the embedding that would bring the concept back after the last edit."""

    preserve_scale: float = _field(0.1, "Weight of the preserved prompts.", symbol="p", ge=0)
    ridge: float = _field(0.1, "Weight of the matrices before each edit.", symbol="λ", gt=0)
    rounds: int = _field(5, "Derived embeddings that are found and erased, one after the other.", ge=0, le=1000)
    derive_ridge: float = _field(
        0.1, "Keeps a derived embedding short, and with it what each round changes.", symbol="μ", gt=0
    )
    keep_erased: bool = _field(
        True, "Each round erases again what earlier ones did. Off is the official code, whose later rounds can bring "
        "the concept's own names back.",
    )  # fmt: skip


class SpmConfig(ConceptNames, TrainingConfig):
    """SPM: a rank-1 adapter that moves the concept to the empty prompt and is held still everywhere else."""

    uses_pairs: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = GUIDED
    because: ClassVar[str] = f"its target is made of {_DISTILLED}"

    steps: int = _field(3000, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(1, "Noisy latents a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(1e-4, "AdamW learning rate, used as it stands.", gt=0, le=1)
    rank: int = _field(1, "Rank of the adapter; the paper's is 1.", symbol="r", ge=1, le=64)
    guidance: float = _field(
        1.0, "Target = e('') - g (e(c) - e('')): how far beyond the empty prompt the concept is moved.", symbol="g",
        ge=0, le=50,
    )  # fmt: skip
    anchor_weight: float = _field(1000.0, "Weight of holding the anchors still.", symbol="λ", ge=0)
    anchors: int = _field(
        4, "Random embeddings a latent that are held still, drawn away from the concept.", ge=1, le=64
    )
    transport: bool = _field(
        True, "Facilitated Transport: in the studio's pictures the adapter's strength follows the prompt's likeness to "
        "the concept. A plain LoRA loader knows nothing of it.",
    )  # fmt: skip
    start_guidance: float = _field(3.0, "Guidance when sampling the noisy latents.", ge=1, le=30)
    sampling_steps: int = _field(20, "Steps of the sampled trajectories.", unit="steps", ge=2, le=1000)
    trajectories: int = _field(32, "Trajectories of the frozen model sampled once and reused.", ge=1, le=4096)


class ConceptAblationConfig(ConceptPrompts, TrainingConfig):
    """Concept Ablation: the concept's prompts are to give what the anchor's prompts give."""

    uses_pairs: ClassVar[bool] = False

    anchor_prompts: list[str] = _field(
        [], "What to draw instead, a wider kind such as 'a person'; taken in turn with the prompts. Empty: no prompt."
    )
    layers: Literal["attn2-kv", "attention", "all"] = _field(
        "attn2-kv", "attn2-kv: cross-attention's keys and values (the paper); attention: all of it; all: every weight."
    )
    steps: int = _field(100, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(8, "Anchor pictures a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(
        1.6e-5, "AdamW learning rate, used as it stands: the paper's 2e-6 x batch.", gt=0, le=1
    )
    prior_weight: float = _field(0.0, "Weight of drawing the anchor's pictures as before.", symbol="λ", ge=0)
    pictures: int = _field(200, "Anchor pictures of the frozen model.", unit="pictures", ge=1, le=10_000)
    picture_guidance: float = _field(6.0, "Guidance when sampling the anchor pictures.", ge=1, le=30)
    sampling_steps: int = _field(20, "Steps of the anchor pictures.", unit="steps", ge=2, le=1000)


class ForgetMeNotConfig(ConceptNames, TrainingConfig):
    """Forget-Me-Not: no attention at the concept's words while the network looks at pictures of it."""

    families: ClassVar[tuple[str, ...]] = UNETS
    because: ClassVar[str] = f"it steers the probabilities of {_NO_CROSS_ATTENTION}"

    template: str = _field(
        "a photo of {}", "Prompt around a name of the concept; {} is its place.", pattern=r".*\{\}.*"
    )
    end_tokens: bool = _field(False, "Count the end token and the padding as the concept's too (official: pooler).")
    layers: Literal["attn2", "all"] = _field("attn2", "attn2: cross-attention's weights; all: every weight.")
    steps: int = _field(35, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(1, "Unsafe pictures a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(2e-6, "AdamW learning rate, used as it stands.", gt=0, le=1)


class SelectiveAmnesiaConfig(TrainingConfig):
    """Selective Amnesia: the safe pictures under the unsafe prompts, what matters to the rest held by its Fisher."""

    layers: Literal["attn2", "not-attn2", "all"] = _field(
        "all", "attn2: cross-attention (names, persons); not-attn2: all but that (nudity in the paper); all."
    )
    steps: int = _field(1000, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(4, "Pictures a step, and as many replayed ones.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(1e-5, "AdamW learning rate, used as it stands.", gt=0, le=1)
    weight_decay: float = _field(0.0, "AdamW weight decay; the Fisher term holds the weights already.", ge=0)
    fisher_weight: float = _field(50.0, "Weight of the elastic term: sum of F (w - w0) squared.", symbol="λ", ge=0)
    replay_weight: float = _field(1.0, "Weight of the frozen model's own pictures.", symbol="γ", ge=0)
    replay_prompts: list[str] = _field([], "Prompts of the replayed pictures; empty: the pairs' safe prompts.")
    pictures: int = _field(200, "Replayed pictures of the frozen model.", unit="pictures", ge=1, le=100_000)
    fisher_samples: int = _field(200, "Pictures and timesteps that the Fisher is estimated from.", ge=1, le=1_000_000)
    fisher_batch: int = _field(4, "Samples whose gradients are held at once.", ge=1, le=256)
    picture_guidance: float = _field(4.0, "Guidance when sampling the replayed pictures.", ge=1, le=30)
    sampling_steps: int = _field(20, "Steps of the replayed pictures.", unit="steps", ge=2, le=1000)

    @property
    def needs_pairs_prompts(self) -> bool:
        return True


class AdvUnlearnConfig(ConceptPrompts, RetainedPrompts, TrainingConfig):
    """AdvUnlearn: the text encoder leads the concept away also where a learned token tries to bring it back."""

    uses_pairs: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = ("sd1", "sd2")
    because: ClassVar[str] = (
        "it trains the one text encoder by whose last hidden state alone Stable Diffusion 1 and 2 are told of the "
        "prompt; here there are others, and pooled vectors"
    )

    encoder_layers: int = _field(
        0, "Layers of the text encoder that are trained, from the first; 0: all, and the norm behind them.",
        unit="layers", ge=0, le=100,
    )  # fmt: skip
    steps: int = _field(1000, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(1, "Noisy latents of the concept a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(1e-5, "AdamW learning rate, used as it stands.", gt=0, le=1)
    weight_decay: float = _field(0.0, "AdamW weight decay; the official code has none.", ge=0)
    guidance: float = _field(
        1.0, "Target = e('') - g (e(c) - e('')): how far beyond the empty prompt the concept is moved.", symbol="g",
        ge=0, le=50,
    )  # fmt: skip
    plain_steps: int = _field(200, "First steps without an attack.", unit="steps", ge=0, le=100_000)
    attack_every: int = _field(1, "Steps that are trained on one attack's find.", unit="steps", ge=1, le=1000)
    attack_steps: int = _field(30, "Steps of the attack.", unit="steps", ge=1, le=1000)
    attack_rate: float = _field(1e-3, "Adam learning rate of the attack.", gt=0, le=10)
    attack_start: Literal["random", "latest"] = _field(
        "random", "What an attack starts from: random words, or what the last one on that prompt found."
    )
    prefix_tokens: int = _field(1, "Learned tokens before the prompt.", unit="tokens", ge=1, le=64)
    retain_weight: float = _field(0.3, "Weight of what is to stay.", symbol="γ", ge=0)
    retain_batch: int = _field(5, "Noisy latents a step of what is to stay.", unit="pictures", ge=1, le=512)
    start_guidance: float = _field(3.0, "Guidance when sampling the noisy latents.", ge=1, le=30)
    sampling_steps: int = _field(20, "Steps of the sampled trajectories.", unit="steps", ge=2, le=1000)
    trajectories: int = _field(32, "Trajectories of the concept sampled once and reused.", ge=1, le=4096)
    retain_trajectories: int = _field(32, "Trajectories of what is to stay.", ge=1, le=4096)


class SalunConfig(TrainingConfig):
    """SalUn: unsafe pictures as an anchor's, by those weights alone that the concept's own loss moves most."""

    families: ClassVar[tuple[str, ...]] = GUIDED
    because: ClassVar[str] = f"it finds its weights with {_DISTILLED}"

    anchor_prompts: list[str] = _field(
        [], "What unsafe pictures are to count as, taken in turn; empty: each pair's safe prompt."
    )
    layers: Literal["all", "cross-attention"] = _field("all", "Among which weights the mask chooses.")
    mask_ratio: float = _field(0.5, "Share of them that is trained: those that matter most to the concept.", gt=0, le=1)
    saliency_samples: int = _field(
        256, "Unsafe pictures and timesteps by whose loss that is found.", unit="pictures", ge=1, le=1_000_000
    )
    saliency_guidance: float = _field(
        7.5, "In that loss the network says (1 + g) e(c) - g e('').", symbol="g", ge=0, le=30
    )
    steps: int = _field(100, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(8, "Unsafe pictures a step, and as many safe ones.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(1e-5, "AdamW learning rate, used as it stands.", gt=0, le=1)
    weight_decay: float = _field(0.0, "AdamW weight decay of the chosen weights; the official code has none.", ge=0)
    remain_weight: float = _field(0.1, "Weight of denoising the safe pictures.", symbol="α", ge=0)

    @property
    def needs_pairs_prompts(self) -> bool:
        return True


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
METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    "duo": DuoConfig,
    "esd": EsdConfig,
    "uce": UceConfig,
    "rece": ReceConfig,
    "spm": SpmConfig,
    "concept-ablation": ConceptAblationConfig,
    "forget-me-not": ForgetMeNotConfig,
    "selective-amnesia": SelectiveAmnesiaConfig,
    "advunlearn": AdvUnlearnConfig,
    "salun": SalunConfig,
}


def sweepable(method: str) -> list[str]:
    """The fields of a method's configuration that a sweep can change: numbers, switches and choices."""
    fields = METHOD_CONFIGS[method].model_fields
    return [name for name, field in fields.items() if get_origin(field.annotation) is not list and name != "template"]


def method_title(method: str) -> str:
    """The method as it is called: what its configuration's help begins with."""
    return (METHOD_CONFIGS[method].__doc__ or method).partition(":")[0].strip()
