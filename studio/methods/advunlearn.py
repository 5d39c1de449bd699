"""AdvUnlearn: ESD's target for the text encoder, trained on prompts that an attack has just made say the concept again.

Every so many steps a token is learned and put before the prompt, so that the encoder as it is now gives the concept
back; the encoder is then trained to lead that prompt away too, and to leave others as they are. The network that draws
never changes, so its trajectories are sampled once and are what they would always be.

Slips of the official code that are not repeated: its attack never clears its gradient, so each of its steps follows the
sum of all before; it cuts a prompt by its number of words instead of tokens, so a name of several tokens loses some.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from models.adapters import WeightDelta, tuned_weights
from models.bundle import ModelBundle
from models.prompting import Layout, layout, token_table
from studio.method_configs import AdvUnlearnConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.esd import esd_target
from studio.methods.tokens import token_ids
from studio.methods.training import UntrainableError, delta_metadata, train
from studio.methods.trajectories import Trajectories, sample_trajectories

PART = "text_encoder"  # what is trained, by its name in the pipeline


class AdvUnlearn:
    """Adversarial training of the text encoder, with what is to stay held beside it."""

    name = "advunlearn"
    title = "AdvUnlearn"
    paper = (
        "Zhang 2024, Defensive Unlearning with Adversarial Training for Robust Concept Erasure in Diffusion Models, "
        "https://arxiv.org/abs/2405.15234"
    )
    Config = AdvUnlearnConfig
    uses_pairs = AdvUnlearnConfig.uses_pairs
    families = AdvUnlearnConfig.families
    because = AdvUnlearnConfig.because

    def changes(self, bundle: ModelBundle, config: AdvUnlearnConfig) -> list[str]:
        """Names of the text encoder's parameters that are trained: of its layers, never of its embeddings."""
        names = [name for name, _ in bundle.network(PART).named_parameters()]
        if not config.encoder_layers:
            return [name for name in names if "encoder.layers." in name or "final_layer_norm." in name]
        first = [f"encoder.layers.{index}." for index in range(config.encoder_layers)]
        return [name for name in names if any(part in name for part in first)]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: AdvUnlearnConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the concept's prompts and those that are to stay (pairs are not used); see `UnlearningMethod.fit`.

        Raises:
            UntrainableError: no concept prompts, none that are to stay though they have a weight, or more layers than
                there are.
        """
        if config.encoder_layers > (there := bundle.text_encoder.config.num_hidden_layers):
            raise UntrainableError(
                f"encoder_layers is {config.encoder_layers}, but the text encoder of {bundle.spec.name} has {there} "
                f"layers. Use at most {there}, or 0 for all and the norm behind them."
            )
        if not config.prompts:
            raise UntrainableError(
                "AdvUnlearn was given 0 concept prompts. Name the concept in the form of the prompts it is in."
            )
        if config.retain_weight and not config.retain_prompts:
            raise UntrainableError(
                "AdvUnlearn was given 0 prompts that are to stay. Name some, or set retain_weight to 0."
            )

        def target(conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
            return torch.cat([esd_target(conditional, unconditional, 1 + config.guidance), conditional], dim=1)

        concept = sample_trajectories(bundle, config.prompts, config, target, report, state_folder)
        retained = None
        if config.retain_weight:
            retained = sample_trajectories(
                bundle, config.retain_prompts, config, lambda conditional, _: conditional, report, state_folder,
                count=config.retain_trajectories, kind="retained-trajectories",
            )  # fmt: skip
        with tuned_weights(bundle, self.changes(bundle, config), PART) as tuned:
            step = AdversarialStep(bundle, concept, retained, config)
            trained = [*tuned.parameters.values(), *step.memory]  # which gets no gradient and is only saved
            train(self.name, trained, step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


class AdversarialStep:
    """One step's loss: MSE(e(a + c), e("") - g (e(c) - e(""))) + gamma MSE(e(r), frozen e(r)).

    a is the last attack's find, c a concept prompt, r prompts that are to stay; e(c) and e("") are the frozen model's.
    """

    def __init__(
        self, bundle: ModelBundle, concept: Trajectories, retained: Trajectories | None, config: AdvUnlearnConfig
    ) -> None:
        self.bundle, self.concept, self.retained, self.config = bundle, concept, retained, config
        free = [None] * config.prefix_tokens
        self.attacked = [layout(bundle, [*free, prompt]) for prompt in config.prompts]
        self.plain, _ = token_ids(bundle, config.prompts)
        self.kept, _ = token_ids(bundle, config.retain_prompts) if retained else (torch.empty(0), None)
        self.rows = {int(row): (concept.prompts == row).nonzero()[:, 0] for row in concept.prompts.unique()}
        table = token_table(bundle)
        found = torch.zeros(len(config.prompts), config.prefix_tokens, table.shape[1], device=bundle.device)
        self.found = nn.Parameter(found, requires_grad=False)  # the last attack on each prompt
        self.turn = nn.Parameter(torch.tensor([0.0, -1.0]), requires_grad=False)  # steps done, and the prompt

    @property
    def memory(self) -> list[nn.Parameter]:
        """What a resumed run needs besides weights."""
        return [self.found, self.turn]

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a fresh minibatch, after an attack where one is due."""
        config, done, prompt = self.config, int(self.turn[0]), int(self.turn[1])
        is_due = done % config.attack_every == 0
        if is_due:
            prompts = sorted(self.rows)
            prompt = prompts[int(torch.randint(len(prompts), (1,), generator=generator))]
        if done >= config.plain_steps and (is_due or done == config.plain_steps):
            self.found[prompt] = self.attack(prompt, generator)
        self.turn.copy_(torch.tensor([done + 1.0, prompt]))
        return self.loss(prompt, done >= config.plain_steps, generator)

    def attack(self, prompt: int, generator: torch.Generator) -> torch.Tensor:
        """Token embeddings [K, D] before the prompt with which the tuned model says what the frozen one says of it."""
        config = self.config
        free = self.start(prompt, generator).requires_grad_(True)
        optimizer = torch.optim.Adam([free], lr=config.attack_rate)
        for _ in range(config.attack_steps):
            latents, (_, conditional), timesteps = self.drawn(prompt, generator)
            embeds = encoded(self.attacked[prompt], free, len(latents))
            loss = F.mse_loss(self.bundle.predict(latents, timesteps, embeds), conditional)
            (free.grad,) = torch.autograd.grad(loss, free)
            optimizer.step()
        return free.detach()

    def start(self, prompt: int, generator: torch.Generator) -> torch.Tensor:
        """What an attack starts from, [K, D] float32."""
        if self.config.attack_start == "latest" and self.found[prompt].any():
            return self.found[prompt].clone()
        table = token_table(self.bundle)
        words = torch.randint(len(table), (self.config.prefix_tokens,), generator=generator)
        return table[words.to(table.device)].float()

    def drawn(
        self, prompt: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Noisy latents of a prompt [B, C, h, w], both their targets (away from it, towards it), and timesteps."""
        rows = self.rows[prompt]
        chosen = rows[torch.randint(len(rows), (self.config.batch_size,), generator=generator)]
        latents, both, timesteps, _ = self.concept.batch(chosen, self.bundle.device)
        away, towards = both.chunk(2, dim=1)
        return latents, (away, towards), timesteps

    def loss(self, prompt: int, is_attacked: bool, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Of fresh latents; erasing and retaining go through the network together."""
        bundle, config = self.bundle, self.config
        latents, (wanted, _), timesteps = self.drawn(prompt, generator)
        count = len(latents)
        if is_attacked:
            embeds = encoded(self.attacked[prompt], self.found[prompt], count)
        else:
            embeds = bundle.text_encoder(self.plain[prompt : prompt + 1].to(bundle.device))[0].expand(count, -1, -1)
        if self.retained is None:
            loss = F.mse_loss(bundle.predict(latents, timesteps, embeds), wanted)
            return loss, {"erase": float(loss.detach()), "retain": 0.0}
        rows = torch.randint(len(self.retained.timesteps), (config.retain_batch,), generator=generator)
        others, still, at, _ = self.retained.batch(rows, bundle.device)
        theirs = bundle.text_encoder(self.kept[self.retained.prompts[rows]].to(bundle.device))[0]
        said = bundle.predict(torch.cat([latents, others]), torch.cat([timesteps, at]), torch.cat([embeds, theirs]))
        erase, retain = F.mse_loss(said[:count], wanted), F.mse_loss(said[count:], still)
        values = {"erase": float(erase.detach()), "retain": float(retain.detach())}
        return erase + config.retain_weight * retain, values


def encoded(prompt: Layout, free: torch.Tensor, count: int) -> torch.Tensor:
    """Embeddings [count, L, D] of a prompt with token embeddings [K, D] in its free places."""
    return prompt.encode(free[None]).expand(count, -1, -1)
