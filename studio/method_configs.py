"""Every unlearning method's configuration, with the defaults of its paper or code. Torch-free."""

from __future__ import annotations

from typing import ClassVar, Literal, get_origin

from studio.config_base import _field
from studio.training_configs import (
    DISTILLED,
    GUIDED,
    NO_CROSS_ATTENTION,
    UNETS,
    ConceptNames,
    ConceptPrompts,
    DuoConfig,
    MethodConfig,
    RetainedPrompts,
    TrainingConfig,
)


class EsdConfig(ConceptPrompts, TrainingConfig):
    """ESD: train the prompt's prediction away from the concept, towards negative guidance."""

    uses_pairs: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = GUIDED
    because: ClassVar[str] = f"its target is made of {DISTILLED}"

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
    because: ClassVar[str] = f"it solves for the keys and values of {NO_CROSS_ATTENTION}"

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
    rounds: int = _field(3, "Derived embeddings that are found and erased, one after the other.", ge=0, le=1000)
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
    because: ClassVar[str] = f"its target is made of {DISTILLED}"

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
    because: ClassVar[str] = f"it steers the probabilities of {NO_CROSS_ATTENTION}"

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
        "all",
        "attn2: cross-attention; not-attn2: all but that, the timestep's embedding and the last layers (nudity in "
        "the official code); all: every weight (persons there).",
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
    because: ClassVar[str] = f"it finds its weights with {DISTILLED}"

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
