"""Every attack's configuration: published defaults, bounds, units, help, and what a prompt costs. Torch-free.

A query is one picture of the victim that the detector judges. Passes count latents (or prompts) through a network.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Literal

from studio.config_base import Config, _field
from studio.configs import SamplingConfig

Budget = Literal["quick", "published", "thorough"]
Access = Literal["none", "text-encoder", "black-box", "white-box", "original"]


@dataclass(frozen=True)
class Cost:
    """At most this much work; early success makes it less. Pictures of queries are not among the passes."""

    queries: int = 0  # pictures of the victim, judged
    text_passes: int = 0  # prompts through the text encoder
    forward: int = 0  # latents through a UNet
    backward: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, count: int) -> Cost:
        return Cost(*(count * value for value in astuple(self)))


class AttackConfig(Config):
    """What all attacks share. `quick` and `thorough` are changes of the published values."""

    title: ClassVar[str]
    access: ClassVar[Access]  # what the attacker holds of the victim: its text encoder alone, its pictures, its weights
    quick: ClassVar[dict[str, Any]] = {}
    thorough: ClassVar[dict[str, Any]] = {}

    seed: int = _field(0, "Seed of all that the attack draws.", ge=0)

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        """The most that one prompt costs, where a picture takes so many sampling steps."""
        return Cost()

    def shared(self) -> Cost:
        """What is done once for all prompts."""
        return Cost()


class NoneConfig(AttackConfig):
    """No attack: the prompt as it is."""

    title: ClassVar[str] = "No attack"
    access: ClassVar[Access] = "none"


class QueryConfig(AttackConfig):
    """Attacks that ask the victim for pictures."""

    query_batch: int = _field(8, "Pictures asked for at once; the search ends after the batch that succeeds.", ge=1)


class AskingConfig(AttackConfig):
    """Attacks that try prompts on the victim and end at one that works."""

    confirm: int = _field(
        0, "Further seeds on which a prompt must show the concept too before the search ends at it; 0: the first hit "
        "on the prompt's own seed ends it, as published.", unit="pictures", ge=0, le=64,
    )  # fmt: skip

    def questions(self) -> int:
        """How many prompts it may try."""
        raise NotImplementedError

    def asking_cost(self) -> Cost:
        return Cost(queries=self.questions() * (1 + self.confirm))


class RandomTokensConfig(QueryConfig, AskingConfig):
    """Control: random tokens before the prompt, as many tries as an attack has queries."""

    title: ClassVar[str] = "Random tokens"
    access: ClassVar[Access] = "black-box"

    quick: ClassVar[dict[str, Any]] = {"queries": 10}
    thorough: ClassVar[dict[str, Any]] = {"queries": 200}

    queries: int = _field(50, "Tries; 0 takes the first one without asking.", unit="pictures", ge=0)
    tokens: int = _field(5, "Random tokens.", unit="tokens", ge=1, le=75)
    keep_prompt: bool = _field(True, "Put them before the prompt; off: they are the whole prompt.")

    def questions(self) -> int:
        return self.queries

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return self.asking_cost()


class SeedSearchConfig(QueryConfig):
    """Control: the same prompt from other seeds, as many as an attack has queries."""

    title: ClassVar[str] = "Seed search"
    access: ClassVar[Access] = "black-box"

    quick: ClassVar[dict[str, Any]] = {"queries": 10}
    thorough: ClassVar[dict[str, Any]] = {"queries": 200}

    queries: int = _field(50, "Seeds tried; 0 keeps the prompt's own.", unit="pictures", ge=0)
    empty_prompt: bool = _field(False, "Ask with the empty prompt: the control of attacks without text.")

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return Cost(queries=self.queries)


class ConceptVectorConfig(AttackConfig):
    """Attacks that add the concept's direction to a prompt's embedding."""

    eta: float = _field(
        3.0,
        "How much of the concept's direction is added. The paper tunes it: 3, for violence "
        "5 to 5.5; the embedded checkpoint's short prompts need about 20.",
        symbol="η",
        ge=0,
        le=100,
    )
    pairs: int = _field(64, "Prompt pairs that the direction is the mean of.", unit="pairs", ge=1, le=10_000)
    vector: str = _field(
        "", "A .npy file with the concept's direction, as the paper's authors ship; empty: from pairs."
    )

    def shared(self) -> Cost:
        return Cost(text_passes=2 * self.pairs)


class RingABellConfig(ConceptVectorConfig):
    """Ring-A-Bell: tokens whose embedding is the prompt's with the concept added, by a genetic search."""

    title: ClassVar[str] = "Ring-A-Bell"
    access: ClassVar[Access] = "text-encoder"

    quick: ClassVar[dict[str, Any]] = {"generations": 150, "population": 100}
    thorough: ClassVar[dict[str, Any]] = {"generations": 6000, "population": 400}

    tokens: int = _field(16, "Tokens of the prompt that is searched; the paper has 16, 38 and 77 (75 here).",
                         symbol="K", unit="tokens", ge=1, le=75)  # fmt: skip
    population: int = _field(200, "Candidates of a generation.", unit="prompts", ge=2, le=10_000)
    generations: int = _field(3000, "Generations.", ge=0, le=100_000)
    mutation: float = _field(0.25, "Share of children with one token changed.", ge=0, le=1)
    crossover: float = _field(0.5, "Share of children with two parents.", ge=0, le=1)
    patience: int = _field(0, "End after so many generations without a better one; 0: never.", ge=0)
    encode_batch: int = _field(256, "Candidates encoded at once.", unit="prompts", ge=1, le=100_000)
    together: int = _field(4, "Prompts searched side by side.", unit="prompts", ge=1, le=256)

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        children = self.population - self.population // 2
        return Cost(text_passes=1 + self.population + self.generations * children)


class RingABellSoftConfig(ConceptVectorConfig):
    """The concept's direction added to the prompt's embedding, with no search: a soft attack of its own."""

    title: ClassVar[str] = "Ring-A-Bell, soft"
    access: ClassVar[Access] = "text-encoder"

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return Cost(text_passes=1)


class GradientConfig(AttackConfig):
    """Attacks by gradients through a UNet."""

    batch_size: int = _field(1, "Noisy latents a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(0.1, "AdamW learning rate, used as it stands.", gt=0, le=10)

    def steps_cost(self, steps: int, predictions: int = 1, texts: int | None = None) -> Cost:
        """Of `steps` steps with so many predictions a latent, one of which has a gradient; `texts` prompts a step."""
        rows = steps * self.batch_size
        return Cost(text_passes=steps if texts is None else steps * texts, forward=predictions * rows, backward=rows)


class ConceptInversionConfig(GradientConfig):
    """Concept Inversion: token embeddings that denoise pictures of the concept, through the unlearned model."""

    title: ClassVar[str] = "Concept Inversion"
    access: ClassVar[Access] = "white-box"

    quick: ClassVar[dict[str, Any]] = {"steps": 300, "learning_rate": 0.02}
    thorough: ClassVar[dict[str, Any]] = {"steps": 15_000}

    steps: int = _field(5000, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    batch_size: int = _field(16, "Noisy latents a step.", unit="pictures", ge=1, le=512)
    learning_rate: float = _field(0.08, "AdamW learning rate; the official 5e-3 scaled by the batch.", gt=0, le=10)
    weight_decay: float = _field(1e-2, "AdamW weight decay.", ge=0)
    tokens: int = _field(1, "New tokens.", unit="tokens", ge=1, le=16)
    pictures: int = _field(25, "Pictures of the concept by the original.", unit="pictures", ge=1, le=10_000)

    def shared(self) -> Cost:
        return self.steps_cost(self.steps, texts=self.batch_size)

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return Cost(text_passes=1)


class UnlearnDiffAtkConfig(GradientConfig, AskingConfig):
    """UnlearnDiffAtk: tokens before the prompt, relaxed to the vocabulary's simplex, that denoise a target picture."""

    title: ClassVar[str] = "UnlearnDiffAtk"
    access: ClassVar[Access] = "white-box"

    quick: ClassVar[dict[str, Any]] = {
        "steps": 15, "t_step": 100, "t_first": 50, "batch_size": 4, "learning_rate": 0.05,
    }  # fmt: skip
    thorough: ClassVar[dict[str, Any]] = {"steps": 120, "batch_size": 4}

    tokens: int = _field(5, "Tokens before the prompt: 5 for harm, 3 for objects and styles.",
                         symbol="k", unit="tokens", ge=1, le=75)  # fmt: skip
    t_first: int = _field(10, "First training timestep.", unit="timestep", ge=0)
    t_last: int = _field(990, "Last training timestep.", unit="timestep", ge=0)
    t_step: int = _field(20, "Between two timesteps; after each the victim is asked once.", unit="timestep", ge=1)
    steps: int = _field(40, "Optimizer steps a timestep, each with a fresh noise.", unit="steps", ge=1, le=10_000)
    learning_rate: float = _field(0.01, "Adam learning rate.", gt=0, le=10)
    weight_decay: float = _field(
        0.1, "Adam weight decay, part of the gradient: it keeps a token from being settled too early.", ge=0
    )

    @property
    def timesteps(self) -> range:
        return range(self.t_first, self.t_last + 1, self.t_step)

    def questions(self) -> int:
        return len(self.timesteps)

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return self.asking_cost() + self.steps_cost(len(self.timesteps) * self.steps)


class P4dConfig(GradientConfig, AskingConfig):
    """P4D: a discrete prompt under which the victim predicts what the original does under the wanted prompt."""

    title: ClassVar[str] = "P4D"
    access: ClassVar[Access] = "white-box"

    quick: ClassVar[dict[str, Any]] = {"steps": 150, "ask_every": 15, "batch_size": 4}
    thorough: ClassVar[dict[str, Any]] = {"steps": 9000, "batch_size": 4}

    variant: Literal["n", "k"] = _field(
        "n", "n: free tokens are the whole prompt; k: the prompt stays, with a free token after every few of its own."
    )
    tokens: int = _field(16, "Free tokens of variant n.", symbol="N", unit="tokens", ge=1, le=75)
    every: int = _field(
        3, "The prompt's tokens between two free ones of variant k.", symbol="K", unit="tokens", ge=1, le=75
    )
    steps: int = _field(3000, "Optimizer steps.", unit="steps", ge=1, le=100_000)
    ask_every: int = _field(50, "Steps between two questions to the victim.", unit="steps", ge=1)
    weight_decay: float = _field(0.1, "AdamW weight decay.", ge=0)

    def questions(self) -> int:
        return math.ceil(self.steps / self.ask_every)

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return self.asking_cost() + Cost(text_passes=1) + self.steps_cost(self.steps, 2)


class SneakyPromptConfig(QueryConfig, AskingConfig):
    """SneakyPrompt, adapted: words replaced by sub-words from a policy, until the detector finds the concept."""

    title: ClassVar[str] = "SneakyPrompt, adapted"
    access: ClassVar[Access] = "black-box"

    quick: ClassVar[dict[str, Any]] = {"queries": 20, "query_batch": 2}
    thorough: ClassVar[dict[str, Any]] = {"queries": 240}

    queries: int = _field(60, "Most pictures asked for.", symbol="q", unit="pictures", ge=1)
    words: int = _field(1, "Words replaced: those that carry most of the concept.", unit="words", ge=1, le=16)
    sub_words: int = _field(3, "Sub-words in the place of a word.", symbol="m", unit="tokens", ge=1, le=16)
    learning_rate: float = _field(0.1, "Adam learning rate of the policy.", gt=0, le=10)
    pairs: int = _field(64, "Prompt pairs that tell which words carry the concept.", unit="pairs", ge=1, le=10_000)
    query_batch: int = _field(1, "Pictures asked for at once, and rewards of one step.", ge=1)

    def shared(self) -> Cost:
        return Cost(text_passes=2 * self.pairs)

    def questions(self) -> int:
        return self.queries

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return self.asking_cost() + Cost(text_passes=78)  # the prompt, and once without each of its words


class PundConfig(GradientConfig):
    """PUND: a suffix embedding found on the original while a copy keeps erasing it, then transferred."""

    title: ClassVar[str] = "PUND"
    access: ClassVar[Access] = "original"

    quick: ClassVar[dict[str, Any]] = {"steps": 300, "erase_every": 100, "erase_steps": 20, "batch_size": 8}
    thorough: ClassVar[dict[str, Any]] = {"steps": 9000, "batch_size": 8}

    steps: int = _field(3000, "Steps of the embedding.", unit="steps", ge=1, le=100_000)
    tokens: int = _field(1, "Suffix tokens.", unit="tokens", ge=1, le=16)
    strata: int = _field(8, "Timesteps are drawn from so many equal strata in turn.", ge=1, le=1000)
    weight_decay: float = _field(1e-2, "AdamW weight decay of the embedding.", ge=0)
    erase_every: int = _field(500, "Steps between two erasing rounds.", unit="steps", ge=1)
    erase_steps: int = _field(50, "Steps of an erasing round on the copy's cross-attention.", unit="steps", ge=0)
    erase_rate: float = _field(1e-4, "Adam learning rate of the erasing rounds.", gt=0, le=1)
    pictures: int = _field(25, "Pictures of the concept by the original.", unit="pictures", ge=1, le=10_000)

    @property
    def rounds(self) -> int:
        """Erasing rounds: none after the last steps, so that the embedding has an answer to each."""
        return (self.steps - 1) // self.erase_every

    def shared(self) -> Cost:
        erasing = self.steps_cost(self.rounds * self.erase_steps, 2, texts=self.batch_size)
        return self.steps_cost(self.steps, texts=self.batch_size) + erasing

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return Cost(text_passes=1)


class TextFreeInversionConfig(AttackConfig):
    """Text-free inversion: the empty prompt, and the start latents from which the victim would draw the concept."""

    title: ClassVar[str] = "Text-free inversion"
    access: ClassVar[Access] = "white-box"

    quick: ClassVar[dict[str, Any]] = {"refinements": 2}
    thorough: ClassVar[dict[str, Any]] = {"refinements": 20}

    refinements: int = _field(8, "Fixed-point iterations a step of the inversion.", ge=0, le=1000)
    noise_norm: bool = _field(
        True, "Scale the start to the norm that noise has: else it may carry the picture by itself."
    )

    def a_prompt(self, sampling_steps: int = 20) -> Cost:
        return Cost(forward=sampling_steps * (1 + self.refinements))


ATTACK_CONFIGS: dict[str, type[AttackConfig]] = {
    "none": NoneConfig,
    "random_tokens": RandomTokensConfig,
    "seed_search": SeedSearchConfig,
    "ring_a_bell": RingABellConfig,
    "ring_a_bell_soft": RingABellSoftConfig,
    "concept_inversion": ConceptInversionConfig,
    "sneaky_prompt": SneakyPromptConfig,
    "p4d": P4dConfig,
    "unlearn_diff_atk": UnlearnDiffAtkConfig,
    "pund": PundConfig,
    "text_free_inversion": TextFreeInversionConfig,
}


def attack_config(attack: str, budget: Budget = "published", values: dict[str, Any] | None = None) -> AttackConfig:
    """An attack's configuration: the budget's values with these on top. Raises pydantic's ValidationError."""
    cls = ATTACK_CONFIGS[attack]
    start = {"quick": cls.quick, "published": {}, "thorough": cls.thorough}[budget]
    return cls(**{**start, **(values or {})})


class AttackJobConfig(SamplingConfig):
    """One attack, its control and the plain prompt on some models, on the same prompts and seeds."""

    attack: str = _field("ring_a_bell", f"One of {', '.join(ATTACK_CONFIGS)}.")
    budget: Budget = _field("quick", "How much the attack may spend: quick, as published, or thorough.")
    values: dict[str, Any] = _field({}, "Values of the attack's own configuration, over those of the budget.")
    victims: list[str] = _field([], "Models: original, oracle, ids of trained ones; empty: all trained ones.")
    prompts: list[str] = _field([], "Prompts; empty: the project's own that ask for the concept.")
    n: int = _field(20, "Prompts attacked, of those where the plain prompt fails.", unit="prompts", ge=1, le=100_000)
    most_tried: int = _field(20, "Prompts tried for each one wanted, to find those that fail.", ge=1, le=1000)
    fresh: int = _field(4, "Fresh seeds that each found prompt is judged on.", unit="pictures", ge=1, le=1000)
    control: bool = _field(True, "Run the attack's control on the same prompts, with the same number of queries.")
    seed: int = _field(0, "Which run of seeds; the same gives the same prompts and seeds.", ge=0)
