"""Selective Amnesia: draw the safe pictures under the unsafe prompts, and hold what everything else depends on.

What that is, is told by replayed pictures of the frozen model and by the diagonal Fisher information of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.adapters import TunedWeights, WeightDelta, tuned_weights
from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of
from studio.method_configs import SelectiveAmnesiaConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.checks import check_pairs, check_unsafe_prompts
from studio.methods.layers import has_part
from studio.methods.training import TrainingError, delta_metadata, draw_rows, train
from studio.methods.trajectories import Tensors, remembered, sample_pictures

ENDS = ("time_embedding.", "conv_norm_out.", "conv_out.", "time_text_embed.", "norm_out.", "proj_out.")


class SelectiveAmnesia:
    """Continual learning turned round: elastic weights (EWC) and generative replay keep all but the concept."""

    name = "selective-amnesia"
    title = "Selective Amnesia"
    paper = (
        "Heng 2023, Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models, "
        "https://arxiv.org/abs/2305.10120"
    )
    Config = SelectiveAmnesiaConfig
    uses_pairs = SelectiveAmnesiaConfig.uses_pairs
    families = SelectiveAmnesiaConfig.families
    because = SelectiveAmnesiaConfig.because

    def changes(self, bundle: ModelBundle, config: SelectiveAmnesiaConfig) -> list[str]:
        """Names of the network's parameters that are trained.

        "attn2" is, in a transformer over picture and text together, what its attention makes of the text. "not-attn2"
        leaves out what the official code leaves out, or stands in a transformer where that does in a UNet.
        """
        names = [name for name, _ in bundle.denoiser.named_parameters()]
        if config.layers == "all":
            return names
        if config.layers == "attn2":
            return [name for name in names if has_part(name, bundle.family.text_layers)]
        return [name for name in names if not (has_part(name, bundle.family.text_layers) or name.startswith(ENDS))]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: SelectiveAmnesiaConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the pairs' safe latents under their unsafe prompts; see `UnlearningMethod.fit`.

        Raises:
            TrainingError: no pairs, latents of another checkpoint, pairs without prompts, or nothing to replay.
        """
        check_pairs(bundle, pairs)
        check_unsafe_prompts(pairs, "Selective Amnesia trains on the pairs' unsafe prompts")
        names = self.changes(bundle, config)
        replay = Replay.of(bundle, pairs, config, report, state_folder)
        fisher = _fisher(bundle, names, pairs, replay, config, report, state_folder)
        with tuned_weights(bundle, names) as tuned:
            step = AmnesiaStep(bundle, pairs, replay, fisher, tuned, config)
            train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


class Replay:
    """Pictures and the prompts they were drawn under; gives noisy minibatches with what the network should say."""

    def __init__(self, bundle: ModelBundle, pictures: torch.Tensor, embeds: torch.Tensor) -> None:
        self.bundle = bundle
        self.pictures = pictures.float()  # [N, C, h, w] on the CPU
        self.embeds = embeds  # [P, L, D]; picture n has prompt n, counted round

    @classmethod
    def of(
        cls,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: SelectiveAmnesiaConfig,
        report: Report,
        state_folder: Path | None,
    ) -> Replay:
        """The frozen model's own pictures. Raises TrainingError."""
        prompts = _replay_prompts(pairs, config)
        if not prompts:
            raise TrainingError("There are 0 prompts to replay: give replay prompts, or pairs with safe prompts.")
        pictures = sample_pictures(
            bundle,
            prompts,
            config.pictures,
            steps=config.sampling_steps,
            guidance_scale=config.picture_guidance,
            seed=config.seed,
            progress=lambda message: report(0, config.steps, message),
            state_folder=state_folder,
        )
        return cls(bundle, pictures, bundle.encode_prompt(prompts))

    def batch(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """x_t [B, C, h, w], t [B], embeddings [B, L, D] and the wanted output [B, C, h, w], on the device."""
        bundle = self.bundle
        rows = draw_rows(len(self.pictures), count, generator)
        latents = self.pictures[rows]
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, bundle.num_train_timesteps, (count,), generator=generator)
        noisy = bundle.forward.noised(latents, noise, timesteps)
        wanted = bundle.forward.target(latents, noise, timesteps)
        embeds = self.embeds[(rows % len(self.embeds)).to(self.embeds.device)]
        device = bundle.device
        return noisy.to(device), timesteps.to(device), embeds, wanted.to(device)


class AmnesiaStep:
    """One step's loss: MSE on surrogates + gamma MSE on replayed pictures + lambda sum F (theta - theta*)^2."""

    def __init__(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        replay: Replay,
        fisher: Tensors,
        tuned: TunedWeights,
        config: SelectiveAmnesiaConfig,
    ) -> None:
        self.bundle, self.config, self.replay = bundle, config, replay
        self.surrogates = Replay(bundle, pairs.safe_latents, bundle.encode_prompt(pairs.unsafe_prompts))
        self.held = [
            (fisher[name].to(bundle.device), parameter, tuned.originals[name].float())
            for name, parameter in tuned.parameters.items()
        ]

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of fresh minibatches of both kinds, and what to report of it."""
        size = self.config.batch_size
        both = (source.batch(size, generator) for source in (self.surrogates, self.replay))
        noisy, timesteps, embeds, wanted = (torch.cat(parts) for parts in zip(*both, strict=True))
        errors = (self.bundle.predict(noisy, timesteps, embeds) - wanted).square()
        surrogate, replayed = errors[:size].mean(), errors[size:].mean()
        elastic = elastic_term(self.held)
        values = {"surrogate": surrogate, "replay": replayed, "elastic": elastic}
        loss = surrogate + self.config.replay_weight * replayed + self.config.fisher_weight * elastic
        return loss, {name: float(value.detach()) for name, value in values.items()}


def elastic_term(held: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """sum F (theta - theta*)^2 over triples of F, theta and theta* (Kirkpatrick 2017, arXiv:1612.00796)."""
    return torch.stack([(fisher * (now - before).square()).sum() for fisher, now, before in held]).sum()


def _replay_prompts(pairs: TrainingPairs, config: SelectiveAmnesiaConfig) -> list[str]:
    return config.replay_prompts or list(dict.fromkeys(filter(None, pairs.safe_prompts)))


def _fisher(
    bundle: ModelBundle,
    names: list[str],
    pairs: TrainingPairs,
    replay: Replay,
    config: SelectiveAmnesiaConfig,
    report: Report,
    state_folder: Path | None,
) -> Tensors:
    """The Fisher information of the named weights, from an earlier try of this training where it is there."""
    generator = torch.Generator().manual_seed(config.seed)
    sizes = [config.fisher_batch] * (config.fisher_samples // config.fisher_batch)
    sizes += [config.fisher_samples % config.fisher_batch] if config.fisher_samples % config.fisher_batch else []

    def batches() -> Iterable[tuple[torch.Tensor, ...]]:
        for index, size in enumerate(sizes):
            done = index * config.fisher_batch
            report(0, config.steps, f"Estimating what the weights matter, {done} of {config.fisher_samples}")
            yield replay.batch(size, generator)

    def make() -> Tensors:
        parameters = {name: value.detach() for name, value in bundle.denoiser.named_parameters() if name in set(names)}
        return diagonal_fisher(denoising_loss(bundle), parameters, batches())

    settings = config.model_dump_json(exclude={"save_every", "sample_every"})
    facts = [fingerprint_of(bundle), _replay_prompts(pairs, config), settings]
    return remembered(state_folder, "fisher", facts, make)


class Predictor(nn.Module):
    """A bundle's prediction as a module, so that it can be called with other weights; the network is `denoiser`."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__()
        self.bundle = bundle
        self.denoiser = bundle.denoiser

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, embed: torch.Tensor) -> torch.Tensor:
        return self.bundle.predict(noisy, timestep, embed)


def denoising_loss(bundle: ModelBundle) -> Callable[..., torch.Tensor]:
    """The loss of one sample as a function of some weights of the network: loss(weights, x_t, t, embedding, wanted)."""
    predictor = Predictor(bundle)

    def loss(
        weights: Tensors, noisy: torch.Tensor, timestep: torch.Tensor, embed: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        swapped = {f"denoiser.{name}": weight for name, weight in weights.items()}
        with sdpa_kernel(SDPBackend.MATH):  # the only one whose gradients of single samples can be taken at once
            output = functional_call(predictor, swapped, (noisy[None], timestep[None], embed[None]))
        return F.mse_loss(output[0], wanted)

    return loss


def diagonal_fisher(
    loss: Callable[..., torch.Tensor], weights: Tensors, batches: Iterable[tuple[torch.Tensor, ...]]
) -> Tensors:
    """F = mean over samples of the squared gradient of each sample's own loss; float32 on the CPU, shaped as `weights`.

    Args:
        loss: of one sample, loss(weights, *sample).
        weights: at which the gradient is taken.
        batches: samples along the first dimension; a batch's gradients are held at once.
    """
    total = {name: torch.zeros(weight.shape, device=weight.device) for name, weight in weights.items()}
    count = 0
    for batch in batches:
        count += len(batch[0])
        gradients = vmap(grad(loss), in_dims=(None, *[0] * len(batch)))(weights, *batch)
        for name, gradient in gradients.items():
            total[name] += gradient.float().square().sum(dim=0)
    return {name: (value / count).cpu() for name, value in total.items()}
