"""Which positions of an encoded prompt its words take."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.bundle import ModelBundle


def token_ids(bundle: ModelBundle, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [N, L] of prompts as the text encoder gets them, and how many [N] are no padding."""
    tokens = bundle.tokenizer(
        list(prompts), padding="max_length", max_length=bundle.prompt_length, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids, tokens.attention_mask.sum(dim=1)


def last_content_embeddings(bundle: ModelBundle, prompts: Sequence[str]) -> torch.Tensor:
    """The embedding [N, D] of each prompt's last token before the end token, float64 on the CPU.

    Of the empty prompt it is the begin token's, as in UCE's official code.
    """
    if not prompts:
        return torch.empty(0, bundle.denoiser.config.cross_attention_dim, dtype=torch.float64)
    _, lengths = token_ids(bundle, prompts)
    embeds = bundle.encode_prompt(prompts).cpu().double()
    return embeds[torch.arange(len(prompts)), lengths - 2]


def word_positions(bundle: ModelBundle, prompt: str, words: str, *, end_tokens: bool = False) -> torch.Tensor:
    """Mask [L] of where the tokens of `words` stand in `prompt`; with `end_tokens`, of the end and padding tokens too.

    Raises:
        ValueError: they are not in the part of the prompt that the text encoder sees.
    """
    (ids,), (length,) = token_ids(bundle, [prompt])
    wanted = torch.tensor(bundle.tokenizer(words, add_special_tokens=False).input_ids)
    mask = torch.zeros(len(ids), dtype=torch.bool)
    for start in range(1, int(length) - len(wanted)):
        if len(wanted) and torch.equal(ids[start : start + len(wanted)], wanted):
            mask[start : start + len(wanted)] = True
    if not mask.any():
        raise ValueError(f"The tokens of {words!r} are not among the first {len(ids)} of {prompt!r}.")
    if end_tokens:
        mask[int(length) - 1 :] = True
    return mask
