"""The detector that ships with the toybox: a small CNN that names object, shirt and background of a picture.

A classifier that must choose scores broken pictures as whatever they resemble most, so the object head has a sixth
outcome, "unclear", trained on pictures whose object was blended, smeared, cut or replaced by noise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from models.toybox.data import SceneBank, to_tensor
from models.toybox.layers import strided_convolutions
from models.toybox.scenes import BACKGROUNDS, OBJECTS, SHIRTS

OBJECT_LABELS = (*OBJECTS, "unclear")
VERSION = "toybox-1"
UNCLEAR_SHARE = 0.15


class DetectorNet(nn.Module):
    """Four strided convolutions and three linear heads; input [B, 3, 64, 64] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 24, 48, 64, 96)
        self.features = strided_convolutions(channels)
        width = channels[-1] * 16
        self.object_head = nn.Linear(width, len(OBJECT_LABELS))
        self.shirt_head = nn.Linear(width, len(SHIRTS))
        self.background_head = nn.Linear(width, len(BACKGROUNDS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of object [B, 6], shirt [B, 6] and background [B, 6]."""
        features = self.features(pictures).flatten(1)
        return self.object_head(features), self.shirt_head(features), self.background_head(features)


def save_detector(net: DetectorNet, path: Path) -> None:
    tensors = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, path, metadata={"version": VERSION})


def load_detector(path: Path) -> DetectorNet:
    net = DetectorNet()
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def predict(net: DetectorNet, images: np.ndarray, *, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Probabilities for uint8 pictures [N, 64, 64, 3]: object_probs, shirt_probs, background_probs, each [N, 6]."""
    if images.ndim != 4 or images.shape[1:] != (64, 64, 3):
        raise ValueError(f"The toybox detector reads pictures of shape [N, 64, 64, 3], not {list(images.shape)}.")
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(images), batch_size):
        logits = net(to_tensor(images[start : start + batch_size]))
        parts.append(tuple(head.softmax(dim=1).numpy() for head in logits))
    heads = [np.concatenate(rows) for rows in zip(*parts, strict=True)] if parts else [np.zeros((0, 6))] * 3
    return dict(zip(("object_probs", "shirt_probs", "background_probs"), heads, strict=True))


def train_detector(
    bank: SceneBank, *, steps: int, batch_size: int, seed: int, report: Callable[[int, int, str], None]
) -> DetectorNet:
    """Cross-entropy on the three heads; augmented towards what a sampler draws (blur, noise, tint, shift)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels = torch.tensor(
        [[OBJECTS.index(s.object), SHIRTS.index(s.shirt), BACKGROUNDS.index(s.background)] for s in bank.scenes]
    )
    net = DetectorNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        indices = rng.integers(len(bank.scenes), size=batch_size)
        target = labels[torch.from_numpy(indices)].clone()
        pictures = bank.batch(indices)
        spoiled = _spoil(pictures, target[:, 0], bank, rng)
        target[spoiled, 0] = OBJECT_LABELS.index("unclear")
        logits = net(_augment(pictures))
        loss = sum((F.cross_entropy(head, target[:, i]) for i, head in enumerate(logits)), torch.zeros(()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            report(step + 1, steps, f"loss {loss.item():.4f}")
    return net.eval().requires_grad_(False)


def _spoil(pictures: torch.Tensor, objects: torch.Tensor, bank: SceneBank, rng: np.random.Generator) -> torch.Tensor:
    """Break the object of some pictures in place; returns the boolean mask of those that were broken."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < UNCLEAR_SHARE) & (objects != OBJECTS.index("none"))
    for row in torch.nonzero(chosen).flatten().tolist():
        other = bank.batch(rng.integers(len(bank.scenes), size=1))[0]
        region = pictures[row, :, :, 40:]
        kind = int(rng.integers(3))
        if kind == 0:  # half of it mixed into another picture's right side
            region.mul_(0.5).add_(0.5 * other[:, :, 40:])
        elif kind == 1:  # smeared beyond recognition
            small = F.adaptive_avg_pool2d(region[None], (4, 2))
            region.copy_(F.interpolate(small, size=region.shape[1:], mode="bilinear")[0])
        else:  # coarse noise
            blocks = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 8, 3)).astype(np.float32))
            region.copy_(0.3 * region + 0.7 * F.interpolate(blocks, size=region.shape[1:], mode="bilinear")[0])
    return chosen


def _augment(pictures: torch.Tensor) -> torch.Tensor:
    """Blur, noise and a tint per picture; a shift of up to two pixels for the whole batch."""
    count = len(pictures)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mix = torch.rand(count, 1, 1, 1) * 0.8
    pictures = pictures * (1 - mix) + blurred * mix
    pictures = pictures * (1 + 0.1 * torch.randn(count, 1, 1, 1)) + 0.06 * torch.randn(count, 3, 1, 1)
    pictures = pictures + torch.rand(count, 1, 1, 1) * 0.12 * torch.randn_like(pictures)
    shift = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(pictures, shift, dims=(2, 3)).clamp(-1, 1)
