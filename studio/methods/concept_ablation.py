"""Concept Ablation: under the concept's prompts the network is to say what it says under the anchor's.

The model-based variant: the target is the network's own prediction under the anchor prompt, with the gradient stopped.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from models.adapters import WeightDelta, tuned_weights
from models.bundle import ModelBundle
from studio.method_configs import ConceptAblationConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.layers import has_part
from studio.methods.training import UntrainableError, delta_metadata, draw_rows, train
from studio.methods.trajectories import sample_pictures


class ConceptAblation:
    """Concept Ablation on pictures of the anchor that the frozen model draws."""

    name = "concept-ablation"
    title = "Concept Ablation"
    paper = "Kumari 2023, Ablating Concepts in Text-to-Image Diffusion Models, https://arxiv.org/abs/2303.13516"
    Config = ConceptAblationConfig
    uses_pairs = ConceptAblationConfig.uses_pairs
    families = ConceptAblationConfig.families
    because = ConceptAblationConfig.because

    def changes(self, bundle: ModelBundle, config: ConceptAblationConfig) -> list[str]:
        """Names of the network's parameters that are trained.

        "attn2-kv" is, in a transformer over picture and text together, the keys and values of the text.
        """
        family = bundle.family
        parts = {"attn2-kv": family.text_keys_values, "attention": family.attention_layers, "all": ("",)}
        return [name for name, _ in bundle.denoiser.named_parameters() if has_part(name, parts[config.layers])]

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: ConceptAblationConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Train on prompts alone; see `UnlearningMethod.fit`.

        Raises:
            UntrainableError: no concept prompts.
        """
        if not config.prompts:
            raise UntrainableError(
                "Concept Ablation was given 0 concept prompts. Name the concept in the form of the prompts it is in."
            )
        pictures = sample_pictures(
            bundle,
            config.anchor_prompts or [""],
            config.pictures,
            steps=config.sampling_steps,
            guidance_scale=config.picture_guidance,
            seed=config.seed,
            progress=lambda message: report(0, config.steps, message),
            state_folder=state_folder,
        )
        step = AblationStep(bundle, pictures, config)
        with tuned_weights(bundle, self.changes(bundle, config)) as tuned:
            train(self.name, list(tuned.parameters.values()), step, config, report, state_folder)
            spec = bundle.spec
            return tuned.delta(delta_metadata(self.name, spec.checkpoint, spec.revision, config))


class AblationStep:
    """One step's loss: MSE(e(x_t, c*), sg e(x_t, c)) + lambda MSE(e(x_t, c), target), x a picture of the anchor c."""

    def __init__(self, bundle: ModelBundle, pictures: torch.Tensor, config: ConceptAblationConfig) -> None:
        self.bundle, self.pictures, self.config = bundle, pictures, config
        # Picture n was drawn under anchor prompt n, counted round; concept prompt n, counted round, goes with it.
        self.concepts = bundle.encode_prompt(config.prompts)
        self.anchors = bundle.encode_prompt(config.anchor_prompts or [""])

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a fresh minibatch, and what to report of it."""
        bundle, config = self.bundle, self.config
        rows = draw_rows(len(self.pictures), config.batch_size, generator)
        latents = self.pictures[rows]
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, bundle.num_train_timesteps, (len(rows),), generator=generator)
        noisy = bundle.forward.noised(latents, noise, timesteps).to(bundle.device)
        at = timesteps.to(bundle.device)
        concepts = self.concepts[(rows % len(self.concepts)).to(self.concepts.device)]
        anchors = self.anchors[(rows % len(self.anchors)).to(self.anchors.device)]
        with torch.set_grad_enabled(config.prior_weight > 0):
            anchored = bundle.predict(noisy, at, anchors)
        ablation = F.mse_loss(bundle.predict(noisy, at, concepts), anchored.detach())
        if config.prior_weight == 0:
            return ablation, {}  # the loss is the ablation
        wanted = bundle.forward.target(latents, noise, timesteps).to(bundle.device)
        prior = F.mse_loss(anchored, wanted)
        values = {"ablation": float(ablation.detach()), "keep_anchor": float(prior.detach())}
        return ablation + config.prior_weight * prior, values
