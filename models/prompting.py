"""Prompts as tokens and token embeddings: the text side of a bundle, with gradients where they are asked for.

Ids [B, L] always have the text encoder's full length: begin, prompt, end, padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from models.bundle import TEXT_BATCH, ModelBundle


class PromptTooLongError(ValueError):
    """More free tokens than the text encoder has places."""


def token_table(bundle: ModelBundle) -> torch.Tensor:
    """The text encoder's input embeddings [V, D]."""
    return bundle.text_encoder.get_input_embeddings().weight.detach()


def prompt_ids(bundle: ModelBundle, text: str) -> list[int]:
    """The tokens of a text, without begin, end and padding."""
    special = {bundle.tokenizer.bos_token_id, bundle.tokenizer.eos_token_id}
    return [token for token in bundle.tokenizer(text).input_ids if token not in special]


def padded(bundle: ModelBundle, tokens: torch.Tensor) -> torch.Tensor:
    """Ids [B, L] of prompts that are these tokens [B, K] and nothing else.

    Raises PromptTooLongError where K tokens do not fit between begin and end.
    """
    count, length = tokens.shape[0], bundle.prompt_length
    check_free_tokens(bundle, tokens.shape[1])
    ids = torch.full((count, length), _padding(bundle), dtype=torch.long, device=tokens.device)
    ids[:, 0] = bundle.tokenizer.bos_token_id
    ids[:, 1 : tokens.shape[1] + 1] = tokens
    ids[:, tokens.shape[1] + 1] = bundle.tokenizer.eos_token_id
    return ids


def check_free_tokens(bundle: ModelBundle, count: int) -> None:
    """Raises PromptTooLongError where `count` tokens do not fit between begin and end."""
    if count > bundle.prompt_length - 2:
        raise PromptTooLongError(
            f"{count} tokens do not fit: {bundle.spec.name} reads {bundle.prompt_length} tokens, begin and end among "
            f"them. Use at most {bundle.prompt_length - 2}."
        )


@torch.no_grad()
def encode_ids(bundle: ModelBundle, ids: torch.Tensor, batch_size: int = TEXT_BATCH) -> torch.Tensor:
    """Embeddings [B, L, D] of ids [B, L]."""
    return torch.cat([bundle.text_encoder(part.to(bundle.device))[0] for part in ids.split(batch_size)])


def encode_tokens(bundle: ModelBundle, ids: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """Embeddings [B, L, D] of token embeddings [B, L, D]; keeps gradients. `ids` [B, L] say where the prompt ends."""
    layer = bundle.text_encoder.get_input_embeddings()
    handle = layer.register_forward_hook(lambda *_: embeds.to(bundle.device, bundle.dtype))
    try:
        return bundle.text_encoder(ids.to(bundle.device))[0]
    finally:
        handle.remove()


def word_tokens(bundle: ModelBundle) -> torch.Tensor:
    """Ids [U] of the tokens that are a whole word of letters and are read back as the same single token.

    A prompt made of these, with spaces between them, is the same tokens again when somebody types it.
    """
    size = len(bundle.tokenizer)
    words = [bundle.tokenizer.decode([token]).strip() for token in range(size)]
    plain = [token for token in range(size) if words[token].isascii() and words[token].isalpha()]
    again = bundle.tokenizer([words[token] for token in plain]).input_ids
    kept = [token for token, ids in zip(plain, again, strict=True) if len(ids) == 3 and ids[1] == token]
    return torch.tensor(kept, dtype=torch.long)


Part = str | int | None  # a word as it stands, a token by its id, a free place


@dataclass(frozen=True)
class Layout:
    """A prompt with free places: words and tokens stay, places are filled with tokens or with embeddings."""

    bundle: ModelBundle
    parts: tuple[Part, ...]
    ids: torch.Tensor  # [L], free places hold the end token
    places: torch.Tensor  # [K] positions of the free places in `ids`

    def fill(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids [B, L] with tokens [B, K] in the free places."""
        ids = self.ids.expand(len(tokens), -1).clone()
        ids[:, self.places] = tokens
        return ids

    def embed(self, free: torch.Tensor) -> torch.Tensor:
        """Token embeddings [B, L, D] with embeddings [B, K, D] in the free places; keeps their gradients."""
        fixed = token_table(self.bundle)[self.ids.to(self.bundle.device)].expand(len(free), -1, -1)
        return fixed.index_copy(1, self.places.to(fixed.device), free.to(fixed))

    def encode(self, free: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, L, D], as the UNet takes them, of embeddings [B, K, D] in the free places."""
        return encode_tokens(self.bundle, self.ids.expand(len(free), -1), self.embed(free))

    def text(self, tokens: Sequence[int]) -> str:
        """The prompt as somebody would type it, with tokens [K] in the free places. Pieces of a word have no space
        behind them."""
        free, decode = iter(tokens), self.bundle.tokenizer.decode
        filled = [next(free) if part is None else part for part in self.parts]
        texts: list[str] = []
        for is_word, run in groupby(filled, lambda part: isinstance(part, str)):
            pieces = list(run)
            texts += map(str, pieces) if is_word else [decode(pieces).strip()]
        return " ".join(text for text in texts if text)


def layout(bundle: ModelBundle, parts: Sequence[Part]) -> Layout:
    """A prompt of words, tokens and free places. What does not fit is left out from the end; places never are.

    Raises PromptTooLongError where the free places alone do not fit.
    """
    check_free_tokens(bundle, sum(part is None for part in parts))
    room = bundle.prompt_length - 2 - sum(part is None for part in parts)
    kept: list[Part] = []
    ids = [bundle.tokenizer.bos_token_id]
    places: list[int] = []
    for part in parts:
        if part is None:
            places.append(len(ids))
            ids.append(bundle.tokenizer.eos_token_id)
        elif len(tokens := prompt_ids(bundle, part) if isinstance(part, str) else [part]) <= room:
            room -= len(tokens)
            ids += tokens
        else:
            room = 0
            continue
        kept.append(part)
    ids.append(bundle.tokenizer.eos_token_id)
    ids += [_padding(bundle)] * (bundle.prompt_length - len(ids))
    return Layout(bundle, tuple(kept), torch.tensor(ids), torch.tensor(places, dtype=torch.long))


def _padding(bundle: ModelBundle) -> int:
    pad = bundle.tokenizer.pad_token_id
    return int(bundle.tokenizer.eos_token_id if pad is None else pad)
