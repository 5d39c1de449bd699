"""Fréchet Inception Distance (Heusel et al. 2017), by torchmetrics on torch-fidelity's Inception v3."""

from __future__ import annotations

import io

import numpy as np
import torch

from studio.backbones import BackboneError, located
from studio.metrics.base import MetricUnavailable, check_images

FEWEST = 2000  # pictures a side; below it the distance says more of their number than of the model


def load_inception() -> torch.nn.Module:
    """Inception v3 as the original FID uses it, uint8 [N, 3, H, W] -> [N, 2048]. Raises MetricUnavailable.

    The file is read without unpickling; the package then reads back what was written here.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        state = torch.load(located("inception"), map_location="cpu", weights_only=True)
    except BackboneError as error:
        raise MetricUnavailable(str(error)) from None
    copy = io.BytesIO()
    torch.save(state, copy)
    copy.seek(0)
    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=copy)
    return _First(net)


class _First(torch.nn.Module):
    """The one feature that was asked for, instead of a tuple of it."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)[0]


class Fid:
    """Distance of two sets of pictures: the model's, and the original model's on the same prompts and seeds.

    Lower is better. It is no FID to photographs, and is not to be compared with one.
    """

    name = "fid"
    title = "FID to the original's pictures (Inception v3)"
    higher_is_better = False
    fewest = FEWEST
    is_share = False
    asks = ""

    def __init__(self, net: torch.nn.Module | None = None) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance  # a second to import

        self._fid = FrechetInceptionDistance(feature=net or load_inception(), normalize=False)
        self._count = 0

    def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
        """Pictures [N, H, W, 3] of the model and of the original; the prompts are not looked at."""
        for pictures, real in ((check_images(images), False), (check_images(reference), True)):
            tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
            with torch.inference_mode():
                self._fid.update(tensor, real=real)
        self._count += len(images)

    def take(self) -> tuple[float, int]:
        """The distance of what was added, and the pictures a side; then it is empty again."""
        count, self._count = self._count, 0
        value = float(self._fid.compute())
        self._fid.reset()
        return value, count
