"""What training pairs must be before a method can use them."""

from __future__ import annotations

from models.bundle import ModelBundle
from models.families import get_family
from studio.methods.base import TrainingPairs, UnlearningMethod
from studio.methods.training import TrainingError, UntrainableError


def check_pairs(bundle: ModelBundle, pairs: TrainingPairs) -> None:
    """Raises TrainingError where there are none, or where they are latents of another checkpoint."""
    if len(pairs) == 0:
        raise TrainingError("There are 0 accepted pairs to train on. Make pairs and accept some first.")
    for name, latents in (("safe", pairs.safe_latents), ("unsafe", pairs.unsafe_latents)):
        if tuple(latents.shape) != (len(pairs), *bundle.latent_shape):
            raise TrainingError(
                f"The {name} latents are {tuple(latents.shape)}, but {bundle.spec.name} needs "
                f"{(len(pairs), *bundle.latent_shape)}. Make the pairs with the checkpoint that is trained."
            )


def check_family(method: UnlearningMethod, bundle: ModelBundle) -> None:
    """Raises UntrainableError where the method is not defined for the checkpoint's family."""
    if bundle.family.name not in method.families:
        raise UntrainableError(
            f"{method.title} is not defined for {bundle.family.title}, because {method.because}. Use DUO, or a "
            f"checkpoint of {', '.join(get_family(name).title for name in method.families)}."
        )


def check_unsafe_prompts(pairs: TrainingPairs, what: str, remedy: str = "") -> None:
    """Raises TrainingError where not every pair has its unsafe prompt; `what` says who needs them.

    Pairs that were brought from outside may have none, which is an empty text.
    """
    there = sum(bool(prompt.strip()) for prompt in pairs.unsafe_prompts)
    if there != len(pairs):
        raise TrainingError(
            f"{what}, but there are {there} unsafe prompts for {len(pairs)} pairs. Bring the pairs with their prompts, "
            f"or reject those without{remedy}."
        )
