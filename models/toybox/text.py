"""The toybox's words: a byte-level BPE tokenizer and a CLIP text encoder trained apart from the UNet.

Stable Diffusion's text encoder was trained against pictures (CLIP), on its own, and then frozen. So is this one:
contrastively, against renders, with an image tower that is thrown away. "knight" and "sword" come out related
(knights carry swords) but not the same (knights wear helmets). This was chosen because it is how the real
encoder came about, before any unlearning method was run on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.toybox.data import SceneBank
from models.toybox.layers import strided_convolutions

VOCABULARY = 1024
MAX_LENGTH = 32
WIDTH = 96
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Learn merges on captions. All byte symbols, alone and word-final, are in: no text is unknown."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = symbols + [symbol + "</w>" for symbol in symbols]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=symbols, end_of_word_suffix="</w>", min_frequency=2, show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*dict.fromkeys(alphabet + ["".join(pair) for pair in merges]), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], *, trim: bool = False) -> torch.Tensor:
    """Token ids [B, MAX_LENGTH], padded with the end token; `trim` cuts the padding common to all rows."""
    ids = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    ).input_ids
    if trim:
        longest = int((ids != tokenizer.eos_token_id).sum(dim=1).max()) + 1
        ids = ids[:, :longest]
    return ids


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder in small: three layers of width 96."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


class ImageTower(nn.Module):
    """A small convolutional net from pictures to the shared space; only needed while the text encoder learns."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        channels = (3, 32, 64, 96, 128)
        self.features = strided_convolutions(channels)
        self.head = nn.Linear(channels[-1] * 16, width)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pictures).flatten(1))


def train_text_encoder(
    bank: SceneBank,
    tokenizer: CLIPTokenizer,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[int, int, str], None],
) -> CLIPTextModel:
    """Symmetric InfoNCE between captions and renders (Radford et al. 2021), learned temperature."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, tower = make_text_encoder(tokenizer), ImageTower()
    projection = nn.Linear(WIDTH, WIDTH, bias=False)
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    parameters = [*encoder.parameters(), *tower.parameters(), *projection.parameters(), log_scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.5e-3, total_steps=steps, pct_start=0.05)
    for step in range(steps):
        indices = rng.integers(len(bank.scenes), size=batch_size)
        ids = tokenize(tokenizer, bank.captions(indices, rng), trim=True)
        text = F.normalize(projection(encoder(input_ids=ids).pooler_output), dim=-1)
        picture = F.normalize(tower(bank.batch(indices)), dim=-1)
        logits = log_scale.clamp(max=math.log(50)).exp() * text @ picture.T
        labels = torch.arange(batch_size)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            report(step + 1, steps, f"contrastive loss {loss.item():.3f}")
    return encoder.eval()
