"""A folder laid out as the embedded checkpoint's, with random weights: for tests of what is done with one."""

from __future__ import annotations

from pathlib import Path

import torch

from models.bundle import ModelBundle
from models.export_pipeline import pipeline_of
from models.toybox.data import to_tensor
from models.toybox.detector import OBJECT_LABELS, DetectorNet, save_detector


def save_tiny_toybox(bundle: ModelBundle, folder: Path) -> None:
    """Pipeline, oracle and a detector that sees a sword in about half of the pipeline's pictures, else empty hands."""
    pipeline_of(bundle).save_pretrained(folder, safe_serialization=True)
    before = bundle.denoiser.conv_out.bias.data.clone()
    bundle.denoiser.conv_out.bias.data += 0.1
    bundle.denoiser.save_pretrained(folder / "oracle")
    bundle.denoiser.conv_out.bias.data = before
    save_detector(undecided_detector(bundle), folder / "detector.safetensors")


def undecided_detector(bundle: ModelBundle) -> DetectorNet:
    """A random network whose sword logit is shifted and stretched so that this bundle's pictures fall on both sides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DetectorNet().eval()
    pictures = to_tensor(bundle.generate(["a knight"] * 24, range(24), steps=4).images)
    sword = OBJECT_LABELS.index("sword")
    with torch.no_grad():
        features = net.features(pictures).flatten(1)
        direction = (features[0] - features[1]) / (features[0] - features[1]).norm()
        spread = features @ direction
        stretch = 4 / spread.std()
        net.object_head.weight.zero_()
        net.object_head.bias.fill_(-9)
        net.object_head.bias[OBJECT_LABELS.index("none")] = 0
        net.object_head.weight[sword] = stretch * direction
        net.object_head.bias[sword] = -stretch * spread.median()
    return net
