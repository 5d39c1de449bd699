"""RECE: after each closed-form edit, find the embedding that would still bring the concept back, and erase it too.

The official code erases in each round the newest embeddings alone. On the embedded checkpoint that brings the concept's
own names back, so rounds add up here unless `keep_erased` is off.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.adapters import WeightDelta
from models.bundle import ModelBundle
from studio.method_configs import ReceConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.uce import Words, edited, solve_edit, text_readers

LEFT_LIMIT = 0.5  # of the distance between names and guides


class Rece:
    """UCE, iterated on derived embeddings. Guides and preserved prompts are held to what the original makes of them."""

    name = "rece"
    title = "RECE"
    paper = (
        "Gong 2024, Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models, "
        "https://arxiv.org/abs/2407.12383"
    )
    Config = ReceConfig
    uses_pairs = ReceConfig.uses_pairs
    families = ReceConfig.families
    because = ReceConfig.because

    def changes(self, bundle: ModelBundle, config: ReceConfig) -> list[str]:
        """Names of the key and value weights of every cross-attention."""
        return text_readers(bundle)

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: ReceConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Edit by the names of the concept alone; see `UnlearningMethod.fit`. Nothing is saved: it takes seconds.

        Raises:
            TrainingError: no names, or guides that are neither none, nor one, nor one a name.
        """
        words = Words.of(bundle, config, self.title)
        total = config.rounds + 1
        report(0, total, f"Solving for {len(words.concepts)} words")
        gram = gram_of(bundle)
        edit, erased = solve_edit(words, config), words
        for done in range(1, total):
            derived = derived_embeddings(words.concepts, edit.matrix, gram, config.derive_ridge)
            length = float(derived.norm(dim=1).mean())
            report(done, total, f"Round {done} of {config.rounds}: derived embeddings of norm {length:.3g}")
            newest = replace(words, concepts=derived)
            erased = added(erased, newest) if config.keep_erased else newest
            step = solve_edit(erased, config, before=edit.matrix)
            edit = replace(step, condition=max(step.condition, edit.condition))
        delta, message, values = edited(bundle, edit, self.name, config)
        left = left_of_the_concept(words, edit.matrix, gram)
        metadata = {**delta.metadata, "left": f"{left:.6g}"}
        if left > LEFT_LIMIT:
            warning = _warning(left)
            message += f" {warning}"
            metadata["warnings"] = " ".join(filter(None, [delta.metadata.get("warnings"), warning]))
        report(total, total, message, **values, left=left)
        return replace(delta, metadata=metadata)


def _warning(left: float) -> str:
    return (
        f"Warning: {left:.0%} of what sets the names apart from their guides is left: keep what was erased, or use "
        "fewer rounds."
    )


def added(words: Words, more: Words) -> Words:
    """Both to be erased, each to its guides; the same is preserved."""
    concepts, guides = [words.concepts, more.concepts], [words.guides, more.guides]
    return Words(torch.cat(concepts), torch.cat(guides), words.preserved)


def left_of_the_concept(words: Words, edit: torch.Tensor, gram: torch.Tensor) -> float:
    """|W c - W0 g| / |W0 c - W0 g| over all edited matrices and names: 0 is erased, 1 is as it was (W = W0 T)."""
    left = words.concepts @ edit.T - words.guides
    before = words.concepts - words.guides
    return float(((left @ gram * left).sum() / (before @ gram * before).sum()).sqrt())


def gram_of(bundle: ModelBundle) -> torch.Tensor:
    """G = sum over the edited matrices of W0^T W0, [D, D] float64."""
    parameters = dict(bundle.denoiser.named_parameters())
    weights = [parameters[name].detach().cpu().double() for name in text_readers(bundle)]
    return torch.stack([weight.T @ weight for weight in weights]).sum(dim=0)


def derived_embeddings(concepts: torch.Tensor, edit: torch.Tensor, gram: torch.Tensor, ridge: float) -> torch.Tensor:
    """c' [n, D] that in the edited network comes closest to what c [n, D] is in the original, and stays short:

        argmin over c' of  sum |W c' - W0 c|^2 + ridge |c'|^2  with W = W0 T   (Gong 2024, section 3.3)

    Args:
        concepts: c, float64.
        edit: T [D, D].
        gram: G [D, D], the sum of W0^T W0.
        ridge: the regularisation's weight.
    """
    reached = edit.T @ gram
    inverted = ridge * torch.eye(len(gram), dtype=gram.dtype) + reached @ edit
    return torch.linalg.solve(inverted, reached @ concepts.T).T
