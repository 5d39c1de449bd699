"""UCE: give the concept's words the keys and values of other words, in closed form.

All matrices of the network that read the prompt are edited alike: W = W0 T, where T depends on the embeddings alone. So
T is solved for once, in float64, and multiplied into each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from models.adapters import WeightDelta
from models.bundle import ModelBundle
from studio.method_configs import UceConfig
from studio.methods.base import Report, TrainingPairs
from studio.methods.tokens import last_content_embeddings
from studio.methods.training import UntrainableError

CONDITION_LIMIT = 1e6  # of the matrix that is inverted; beyond, rounding decides what the edit is
CHANGE_LIMIT = 0.5  # change of a matrix relative to its norm, from which pictures were seen to break


class Uce:
    """Unified Concept Editing of cross-attention's keys and values. Nothing is drawn at random."""

    name = "uce"
    title = "UCE"
    paper = "Gandikota 2024, Unified Concept Editing in Diffusion Models, https://arxiv.org/abs/2308.14761"
    Config = UceConfig
    uses_pairs = UceConfig.uses_pairs
    families = UceConfig.families
    because = UceConfig.because

    def changes(self, bundle: ModelBundle, config: UceConfig) -> list[str]:
        """Names of the key and value weights of every cross-attention."""
        return text_readers(bundle)

    def fit(
        self,
        bundle: ModelBundle,
        pairs: TrainingPairs,
        config: UceConfig,
        report: Report,
        state_folder: Path | None = None,
    ) -> WeightDelta:
        """Edit by the names of the concept alone; see `UnlearningMethod.fit`. Nothing is saved: it takes seconds.

        Raises:
            UntrainableError: no names, or guides that are neither none, nor one, nor one a name.
        """
        words = Words.of(bundle, config, self.title)
        report(0, 1, f"Solving for {len(words.concepts)} words")
        edit = solve_edit(words, config)
        delta, message, values = edited(bundle, edit, self.name, config)
        report(1, 1, message, **values)
        return delta


@dataclass(frozen=True)
class Words:
    """Embeddings of last content tokens in float64: what is erased, what that shall mean, and what is preserved."""

    concepts: torch.Tensor  # c [n, D]
    guides: torch.Tensor  # g [n, D]
    preserved: torch.Tensor  # r [m, D]

    @classmethod
    def of(cls, bundle: ModelBundle, config: UceConfig, title: str) -> Words:
        """Encode a configuration's words. Raises UntrainableError.

        With attributes a, each with its weight, g is (guide or name) + sum weight * a (Gandikota 2024, section 4.2).
        """
        names, attributes = config.concepts, weighted(config.attributes)
        guides = config.guides or (names if attributes else [""])
        if not names:
            raise UntrainableError(f"{title} was given 0 names of the concept. Name it as prompts name it.")
        if len(guides) not in (1, len(names)):
            raise UntrainableError(
                f"{title} was given {len(guides)} guides for {len(names)} names. Give one for all, or one a name."
            )
        guides = guides * len(names) if len(guides) == 1 else guides
        c, g, r, a = (
            last_content_embeddings(bundle, texts) for texts in (names, guides, config.preserve, list(attributes))
        )
        return cls(c, g + torch.tensor(list(attributes.values()), dtype=a.dtype) @ a, r)


def weighted(attributes: Sequence[str]) -> dict[str, float]:
    """“woman=0.4” as woman: 0.4, “woman” as woman: 1. Raises TrainingError."""
    found = {}
    for text in attributes:
        word, sign, weight = text.rpartition("=")
        try:
            found[word.strip() if sign else text] = value = float(weight) if sign else 1.0
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (sign and not word.strip()):
            raise UntrainableError(
                f"The attribute {text!r} is no word with a weight. Write it as woman=0.4, or woman alone."
            )
    return found


@dataclass(frozen=True)
class Edit:
    """W = W0 T, and the condition number of what was inverted to find T."""

    matrix: torch.Tensor  # T [D, D] float64
    condition: float


def solve_edit(words: Words, config: UceConfig, before: torch.Tensor | None = None) -> Edit:
    """T of the W = W0 T that minimises, with c, g, r of `words` (Gandikota 2024, equation 7):

        e sum |W c - W0 g|^2 + p sum |W r - W0 r|^2 + lam |W - W0 B|^2

    Args:
        words: what is erased, guided to, preserved.
        config: e, p and lam (ridge).
        before: B [D, D], the edits that were made before; None for none.
    """
    c, g, r = words.concepts, words.guides, words.preserved
    identity = torch.eye(c.shape[1], dtype=c.dtype)
    before = identity if before is None else before
    e, p, lam = config.erase_scale, config.preserve_scale, config.ridge
    inverted = lam * identity + e * c.T @ c + p * r.T @ r
    wanted = lam * before + e * g.T @ c + p * r.T @ r
    matrix = torch.linalg.solve(inverted, wanted, left=False)
    return Edit(matrix, float(torch.linalg.cond(inverted)))


def text_readers(bundle: ModelBundle) -> list[str]:
    """Names of the weights that make keys and values of the prompt."""
    endings = (".attn2.to_k.weight", ".attn2.to_v.weight")
    return [name for name, _ in bundle.denoiser.named_parameters() if name.endswith(endings)]


def edited(
    bundle: ModelBundle, edit: Edit, method: str, config: UceConfig
) -> tuple[WeightDelta, str, dict[str, float]]:
    """The edit as a delta, what to say of it, and its numbers."""
    parameters = dict(bundle.denoiser.named_parameters())
    update = edit.matrix - torch.eye(len(edit.matrix), dtype=edit.matrix.dtype)
    tensors, changes = {}, []
    for name in text_readers(bundle):
        weight = parameters[name].detach().cpu().double()
        change = weight @ update
        tensors[name] = change.float()
        changes.append(float(change.norm() / weight.norm()))
    values = {"condition": edit.condition, "change": max(changes)}
    warnings = warnings_of(edit.condition, max(changes))
    spec = bundle.spec
    metadata = {"method": method, "checkpoint": spec.checkpoint, "config": config.model_dump_json()}
    metadata |= {"revision": spec.revision} if spec.revision is not None else {}
    metadata |= {name: f"{value:.6g}" for name, value in values.items()}
    metadata |= {"warnings": " ".join(warnings)} if warnings else {}
    message = f"Edited {len(tensors)} matrices, by {max(changes):.1%} of their norm at most."
    return WeightDelta("weights", tensors, metadata), " ".join([message, *warnings]), values


def warnings_of(condition: float, change: float) -> list[str]:
    """What a person should know before they trust an edit: [] where it is sound."""
    found = []
    if not condition < CONDITION_LIMIT:
        found.append(
            f"Warning: the condition number is {condition:.1e}, so rounding decides what the edit is: raise the ridge "
            "or lower the scales."
        )
    if not (math.isfinite(change) and change < CHANGE_LIMIT):
        found.append(
            f"Warning: a matrix changed by {change:.0%} of its norm, which tends to break every picture: lower the "
            "erase scale, raise the ridge, or preserve more prompts."
        )
    return found
