"""The networks of detectors with random weights, in the files and folders where the real ones would lie."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.models import resnet50
from transformers import CLIPConfig, CLIPModel

from studio.backbones import BACKBONES
from tests.conftest import make_tokenizer

SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}


def save_tiny_clip(folder: Path) -> Path:
    """A tiny CLIP as transformers saves it: 32 px, 16 tokens, 8 numbers an embedding."""
    tokenizer = make_tokenizer()
    text = {**SMALL, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**text, "max_position_embeddings": 16},
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_random_resnet(home: Path) -> Path:
    """A ResNet-50 where torchvision's lies under TORCH_HOME."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = resnet50(weights=None)
    folder = home / "hub/checkpoints"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / BACKBONES["resnet50"].url.rpartition("/")[2])
    return home
