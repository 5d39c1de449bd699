"""SneakyPrompt, adapted: words replaced by sub-words from a policy that learns from the victim's pictures.

The published attack passes safety filters: "blocked" is a filter's answer, and the reward of what passes is CLIP's
similarity of picture and prompt. Here nothing blocks. A picture without the concept counts as blocked, and the reward
of one with it is the detector's score. Which words are sensitive is not asked of a filter but read from the concept's
direction in the text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.prompting import layout, word_tokens
from studio.attack_configs import SneakyPromptConfig
from studio.attacks.base import Access, Arena, AttackInput, AttackTask, Best, Meter, PlainAttack, Report
from studio.attacks.concepts import direction, prompt_rows
from studio.objectives.tokens import reinforce_loss


class SneakyPrompt(PlainAttack):
    """REINFORCE with a baseline over sub-words in the place of the sensitive words."""

    name = "sneaky_prompt"
    title = SneakyPromptConfig.title
    paper = (
        "after Yang 2024, SneakyPrompt: Jailbreaking Text-to-image Generative Models, "
        "https://arxiv.org/abs/2305.12082; blocked means here that the detector does not find the concept"
    )
    access: Access = SneakyPromptConfig.access
    Config = SneakyPromptConfig
    shared_by_victims = False  # a direction is its own text encoder's

    def prepare(
        self, arena: Arena, config: SneakyPromptConfig, report: Report, meter: Meter
    ) -> dict[str, torch.Tensor]:
        """The concept's direction and the sub-words."""
        return {"direction": direction(arena, config.pairs, meter), "vocabulary": word_tokens(arena.victim)}

    def craft(
        self,
        arena: Arena,
        tasks: Sequence[AttackTask],
        shared: dict[str, torch.Tensor],
        config: SneakyPromptConfig,
        report: Report,
    ) -> list[AttackInput]:
        """See `Attack.craft`."""
        return [self._one(arena, task, shared, config, report) for task in tasks]

    def _one(
        self,
        arena: Arena,
        task: AttackTask,
        shared: dict[str, torch.Tensor],
        config: SneakyPromptConfig,
        report: Report,
    ) -> AttackInput:
        words = task.prompt.split()
        replaced = sensitive_words(arena, words, shared["direction"], config.words, task.meter)
        parts: list[str | None] = []
        for number, word in enumerate(words):
            parts += [None] * config.sub_words if number in replaced else [word]
        free = layout(arena.victim, parts or [None] * config.sub_words)
        vocabulary = shared["vocabulary"]
        policy = Policy(len(free.places), len(vocabulary), config.learning_rate, task.generator(config.seed))
        best, asked = Best(config.confirm), 0
        while asked < config.queries and not best.done:
            rows = policy.draw(min(config.query_batch, config.queries - asked))
            inputs = [AttackInput(free.text(vocabulary[row].tolist())) for row in rows]
            detections = best.ask(arena, task, inputs)
            numbers = range(asked + 1, asked + 1 + len(inputs))
            asked += len(inputs)
            rewards = [
                one.score if one.found else -number / (10 * config.queries)
                for one, number in zip(detections, numbers, strict=True)
            ]
            policy.learn(rows, torch.tensor(rewards))
            line = f"Question {asked}, best score {best.score:.2f}{best.words}"
            report(asked, config.queries, line, score=best.score)
        return best.chosen()


class Policy:
    """Independent choices of K sub-words, with a running mean of the rewards as baseline."""

    KEEP = 0.9  # of the baseline, at each step

    def __init__(self, places: int, vocabulary: int, learning_rate: float, generator: torch.Generator) -> None:
        self.logits = torch.zeros(places, vocabulary, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], lr=learning_rate)
        self.generator = generator
        self.baseline: float | None = None

    def draw(self, count: int) -> torch.Tensor:
        """Choices [count, K]."""
        probabilities = self.logits.detach().softmax(dim=-1)
        return torch.multinomial(probabilities, count, replacement=True, generator=self.generator).T

    def learn(self, rows: torch.Tensor, rewards: torch.Tensor) -> None:
        """One step towards what was rewarded above the baseline."""
        mean = float(rewards.mean())
        baseline = mean if self.baseline is None else self.baseline
        loss = reinforce_loss(self.logits, rows, rewards, baseline)
        (self.logits.grad,) = torch.autograd.grad(loss, [self.logits])
        self.optimizer.step()
        self.baseline = self.KEEP * baseline + (1 - self.KEEP) * mean


def sensitive_words(arena: Arena, words: list[str], concept: torch.Tensor, count: int, meter: Meter) -> set[int]:
    """Positions of the words without which the prompt's mean embedding loses most of the concept."""
    texts = [" ".join(words), *(" ".join(words[:n] + words[n + 1 :]) for n in range(min(len(words), 77)))]
    embeds = arena.encode(meter, prompt_rows(arena, texts)).mean(dim=1)
    along = embeds @ concept.to(embeds).mean(dim=0)
    lost = along[0] - along[1:]
    return set(lost.argsort(descending=True)[:count].tolist())
