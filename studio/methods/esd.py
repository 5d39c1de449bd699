"""ESD: train the concept prompt's prediction towards what negative guidance away from the concept would give.

The form is target = e(c) - eta (e(c) - e("")). The paper and its older code write e("") - eta' (e(c) - e("")), which is
the same with eta = 1 + eta'; eta = 1 here is plainly the empty prompt's prediction.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from models.adapters import WeightDelta, tuned_weights
from models.bundle import ModelBundle
from studio.method_configs import EsdConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.layers import has_part
from studio.methods.training import UntrainableError, delta_metadata, train
from studio.methods.trajectories import sample_trajectories


class Esd:
    """Erased Stable Diffusion in its four variants, on trajectories of the frozen model that are sampled once."""

    name = "esd"
    title = "ESD"
    paper = "Gandikota 2023, Erasing Concepts from Diffusion Models, https://arxiv.org/abs/2303.07345"
    Config = EsdConfig
    uses_pairs = EsdConfig.uses_pairs
    families = EsdConfig.families
    because = EsdConfig.because

    def changes(self, bundle: ModelBundle, config: EsdConfig) -> list[str]:
        """Names of the network's parameters that are trained: of linear and convolution layers, by the variant.

        Cross-attention is, in a transformer over picture and text together, what its attention makes of the text.
        """
        family = bundle.family
        chosen = {
            "esd-x": lambda name: has_part(name, family.text_layers),
            "esd-x-strict": lambda name: has_part(name, family.text_keys_values),
            "esd-u": lambda name: not has_part(name, family.text_layers),
            "esd-all": lambda name: True,
        }[config.variant]
        return [
            f"{module_name}.{name}"
            for module_name, module in bundle.denoiser.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and chosen(module_name)
            for name, _ in module.named_parameters()
        ]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: EsdConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on the concept prompts alone (pairs are not used); see `UnlearningMethod.fit`.

        Raises:
            UntrainableError: no concept prompts.
        """
        if not config.prompts:
            raise UntrainableError(
                "ESD was given 0 concept prompts. Name the concept in the form of the prompts it is in."
            )
        trajectories = sample_trajectories(
            bundle, config.prompts, config, partial(esd_target, eta=config.eta), report, state_folder
        )
        with tuned_weights(bundle, self.changes(bundle, config)) as tuned:

            def step(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
                rows = torch.randint(len(trajectories.timesteps), (config.batch_size,), generator=generator)
                latents, wanted, timesteps, embeds = trajectories.batch(rows, bundle.device)
                return nn.functional.mse_loss(bundle.predict(latents, timesteps, embeds), wanted), {}

            train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


def esd_target(conditional: torch.Tensor, unconditional: torch.Tensor, eta: float) -> torch.Tensor:
    """e(c) - eta (e(c) - e("")) of the frozen network's outputs, all [B, C, h, w] (Gandikota 2023)."""
    return conditional - eta * (conditional - unconditional)
